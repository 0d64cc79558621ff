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
    ordered(&studio, &[&urgent, &waiting, &dependent]);
    until("planned", || (studio.wait_reason(&dependent)["code"] == "dependency").then_some(()));
    let plan = studio.get("/api/v1/queue");
    let wait = plan.json()["waiting"][1]["wait"].clone();
    assert_eq!(wait["starts_at"], json!(null), "nobody knows how long the first one runs");
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

fn post(studio: &Studio, path: &str) -> crate::fixture::Answer {
    studio.request("POST", path, &[], b"")
}

/// Waits until the queue has these in this order.
fn ordered(studio: &Studio, expected: &[&String]) {
    let mut last = Value::Null;
    let wanted: Vec<Value> = expected.iter().map(|id| json!(id)).collect();
    let order = || {
        let queue = studio.get("/api/v1/queue").json();
        last = queue["waiting"].as_array().unwrap().iter().map(|task| task["task_id"].clone()).collect();
        (last == json!(wanted)).then_some(())
    };
    until(&format!("the order is {wanted:?}"), order);
}

/// By hand the order is another, within a class; what is held is out of it.
pub fn the_order_is_changed_by_hand() {
    let studio = Studio::start();
    let running = submit(&studio, command("running", &["/bin/sleep", "600"], json!({})));
    studio.wait_for(&running, "training");
    let [a, b, c] = ["a", "b", "c"].map(|name| submit(&studio, command(name, &["/bin/true"], json!({}))));
    ordered(&studio, &[&a, &b, &c]);
    let task = |id: &str, what: &str| post(&studio, &format!("/api/v1/tasks/{id}/{what}"));
    let before = |id: &str, other: &str| studio.post(&format!("/api/v1/tasks/{id}/before"), &json!({"task": other}));

    assert_eq!(task(&c, "next").json()["status"], "queued");
    ordered(&studio, &[&c, &a, &b]);
    assert_eq!(before(&b, &a).status, 200);
    ordered(&studio, &[&c, &b, &a]);
    assert_eq!(task(&c, "hold").json()["status"], "pending");
    ordered(&studio, &[&b, &a]);
    let change = |id: &str, body: &str| {
        let headers = [("content-type", "application/json")];
        studio.request("PATCH", &format!("/api/v1/tasks/{id}"), &headers, body.as_bytes())
    };
    assert_eq!(change(&a, r#"{"priority": "high"}"#).json()["priority"], "high");
    ordered(&studio, &[&a, &b]);

    assert_eq!(change(&a, r#"{"priority": "higher"}"#).error().0, 422);
    let refusal = |answer: crate::fixture::Answer| (answer.status, answer.json()["code"].as_str().unwrap().to_owned());
    assert_eq!(refusal(before(&b, &a)), (409, "other-priority".into()));
    assert_eq!(refusal(task(&running, "next")), (409, "not-queued".into()));
    assert_eq!(refusal(task(&running, "hold")), (409, "not-queued".into()));
    assert_eq!(refusal(before(&b, "finetune_1_99")), (409, "not-queued".into()));
    assert_eq!(before(&b, "b").error().0, 422);

    task(&running, "cancel");
    studio.wait_for(&a, "completed");
    studio.wait_for(&b, "completed");
    assert_eq!(studio.get(&format!("/api/v1/tasks/{c}")).json()["status"], "pending");
}

/// Who switched what is told to everybody, and each switch does what it says.
pub fn the_queue_is_paused_drained_and_resumed() {
    let studio = Studio::start();
    let mut events = crate::fixture::Events::open(&studio, "/api/v1/events", &[]);
    assert_eq!(events.expect("queue").json()["mode"], "open");
    let control = post(&studio, "/api/v1/queue/pause").json();
    assert_eq!((&control["mode"], &control["by"]), (&json!("paused"), &json!("guest")));
    until("it is told", || (events.expect("queue").json()["mode"] == "paused").then_some(()));
    let task = submit(&studio, command("waits", &["/bin/true"], json!({})));
    let wait = studio.wait_reason(&task);
    assert_eq!((&wait["code"], &wait["by"]), (&json!("queue_paused"), &json!("guest")));
    let queue = studio.get("/api/v1/queue").json();
    assert_eq!((&queue["mode"], &queue["by"], &queue["total"]), (&json!("paused"), &json!("guest"), &json!(1)));
    assert!(queue["since"].is_string() && queue["start_hours_closed_until"].is_null(), "{queue}");
    assert_eq!(post(&studio, "/api/v1/queue/resume").json()["by"], json!(null));
    studio.wait_for(&task, "completed");

    assert_eq!(post(&studio, "/api/v1/queue/drain").json()["mode"], "draining");
    let refused = studio.post("/api/v1/tasks", &command("late", &["/bin/true"], json!({})));
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("queue-draining")));
    post(&studio, "/api/v1/queue/resume");
    let task = submit(&studio, command("again", &["/bin/true"], json!({})));
    studio.wait_for(&task, "completed");
    let accuracy = studio.get("/api/v1/queue").json()["forecast_accuracy"].clone();
    assert_eq!(accuracy, json!(null), "nobody knew how long these would take, so nothing was foretold");
}

pub fn nothing_starts_on_a_device_in_maintenance() {
    let studio = Studio::start();
    let maintain = |gpu: &str, on: bool| studio.post(&format!("/api/v1/gpus/{gpu}/maintenance"), &json!({"on": on}));
    let control = maintain("0", true).json();
    let device = &control["maintenance"][0];
    assert_eq!(
        (&device["device"], &device["label"], &device["by"]),
        (&json!("SIM-0"), &json!("GPU 0"), &json!("guest"))
    );
    let task = submit(&studio, command("waits", &["/bin/true"], json!({})));
    let wait = studio.wait_reason(&task);
    assert_eq!(wait["code"], "no_usable_device", "{wait}");
    assert!(wait["en"].as_str().unwrap().contains("maintenance"), "{wait}");
    assert_eq!(maintain("1", true).json()["code"], "device-unknown");
    assert_eq!(maintain("SIM-0", false).json()["maintenance"], json!([]));
    studio.wait_for(&task, "completed");
}

pub fn terms_are_kept_and_shown() {
    let studio = Studio::start();
    let terms = json!({"start_after": "2999-01-01T00:00:00Z", "deadline": "2999-01-02T08:00:00+08:00", "retries": 2});
    let task = submit(&studio, command("later", &["/bin/true"], terms));
    let wait = studio.wait_reason(&task);
    let task = studio.get(&format!("/api/v1/tasks/{task}")).json();
    assert_eq!((&wait["code"], &wait["at"]), (&json!("not_before"), &json!("2999-01-01T00:00:00Z")));
    assert_eq!(
        (&task["start_after"], &task["deadline"]),
        (&json!("2999-01-01T00:00:00Z"), &json!("2999-01-02T00:00:00Z"))
    );
    assert_eq!((&task["retries"], &task["retried"], &task["group"]), (&json!(2), &json!(0), &json!(null)));
    let late = studio.post("/api/v1/tasks", &command("", &["/bin/true"], json!({"deadline": "2001-01-01T00:00:00Z"})));
    let refusal = late.json();
    assert_eq!((late.status, &refusal["code"]), (422, &json!("deadline-passed")));
    assert!(refusal["next_step"].is_string() && refusal["zh"].is_string(), "{refusal}");
}
