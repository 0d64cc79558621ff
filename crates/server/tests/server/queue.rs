//! What is told of the plan: who runs, who waits in which order, and why.

use serde_json::{Value, json};

use crate::{
    first_generation::shape,
    fixture::{Studio, until},
};

fn submit(studio: &Studio, task: Value) -> String {
    let answer = studio.post("/api/v1/tasks", &task);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["task_id"].as_str().unwrap().to_owned()
}

fn command(name: &str, argv: &[&str], more: Value) -> Value {
    let mut task = json!({"name": name, "command": {"argv": argv, "cwd": "/"}});
    task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    task
}

fn explain(studio: &Studio, id: &str) -> Value {
    shape(studio, &studio.get(&format!("/api/v1/tasks/{id}/explain")))
}

/// One runs, one waits for the device, an urgent one goes before that, and one waits for the first to end.
pub fn the_plan_and_why_it_is_so() {
    let studio = Studio::start();
    let running = submit(&studio, command("running", &["/bin/sleep", "600"], json!({})));
    studio.wait_for(&running, "training");
    let after = json!({"priority": "low", "after": [format!("{running},any")]});
    let dependent = submit(&studio, command("dependent", &["/bin/true"], after));
    let waiting = submit(&studio, command("waiting", &["/bin/true"], json!({})));
    let urgent = submit(&studio, command("urgent", &["/bin/true"], json!({"priority": "urgent"})));

    let view = studio.get(&format!("/api/v1/tasks/{dependent}")).json();
    assert_eq!((&view["priority"], &view["after"]), (&json!("low"), &json!([format!("{running},any")])));
    let plan = until("all three wait", || {
        let plan = studio.get("/api/v1/queue");
        (plan.json()["total"] == 3).then_some(plan)
    });
    let order: Vec<Value> =
        plan.json()["waiting"].as_array().unwrap().iter().map(|task| task["task_id"].clone()).collect();
    assert_eq!(order, [json!(urgent), json!(waiting), json!(dependent)]);
    let wait = plan.json()["waiting"][1]["wait"].clone();
    assert!(wait["starts_at"].as_str().unwrap() < wait["ends_at"].as_str().unwrap(), "{wait}");
    assert_eq!(studio.get(&format!("/api/v1/tasks/{waiting}")).json()["wait"], wait, "told alike everywhere");
    insta::assert_json_snapshot!("queue", shape(&studio, &plan));

    insta::assert_json_snapshot!("explain_waiting", explain(&studio, &waiting));
    let blocked = explain(&studio, &dependent)["body"].clone();
    assert_eq!((&blocked["wait"]["code"], &blocked["wait"]["starts_at"]), (&json!("dependency"), &json!(null)));
    let mut holds = explain(&studio, &running);
    assert!(holds["body"]["attempt"]["pid"].take().is_u64());
    insta::assert_json_snapshot!("explain_running", holds);

    studio.request("POST", &format!("/api/v1/tasks/{running}/cancel"), &[], b"");
    studio.wait_for(&dependent, "completed");
    let ended = explain(&studio, &running)["body"].clone();
    assert_eq!((&ended["en"], &ended["ends_at"]), (&json!("cancelled by guest"), &json!("[time]")));
    assert_eq!((&ended["devices"], &ended["wait"], &ended["attempt"]), (&json!([]), &json!(null), &json!(null)));
    let (status, detail) =
        studio.post("/api/v1/tasks", &command("", &["/bin/true"], json!({"after": [running]}))).error();
    assert!(status == 422 && detail.contains(&running), "what waits for it would never start: {detail}");
    let empty = studio.get("/api/v1/queue").json();
    assert_eq!((&empty["running"], &empty["waiting"], &empty["long"]), (&json!([]), &json!([]), &json!(false)));
    assert_eq!(studio.get("/api/v1/tasks/finetune_1_99/explain").error().0, 404);
}
