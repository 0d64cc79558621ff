//! Tasks that are submitted, shown and ended as one.

use serde_json::{Value, json};

use crate::{
    fixture::{Studio, until},
    people,
};

fn group(studio: &Studio, id: &str) -> Value {
    studio.get(&format!("/api/v1/groups/{id}")).json()
}

fn act(studio: &Studio, id: &str, what: &str) -> crate::fixture::Answer {
    studio.request("POST", &format!("/api/v1/groups/{id}/{what}"), &[], b"")
}

/// The group once so many of its tasks are in this state.
fn wait_for(studio: &Studio, id: &str, state: &str, count: u64) -> Value {
    until(&format!("{count} of {id} are {state}"), || {
        let group = group(studio, id);
        (group["counts"][state] == count).then_some(group)
    })
}

fn labels(tasks: &Value) -> Vec<&str> {
    tasks.as_array().unwrap().iter().map(|task| task["group"]["label"].as_str().unwrap()).collect()
}

pub fn a_sweep_is_taken_whole_or_not_at_all() {
    let studio = Studio::start();
    let (model, dataset) = (studio.model(true), studio.dataset());
    let task = json!({"name": "sweep", "fine_tune": {"model_name": model, "dataset_file": dataset}});
    let sweep = |over: Value| studio.post("/api/v1/groups", &json!({"task": task, "over": over}));

    let (status, detail) = sweep(json!({"rank": [8, 16, 0]})).error();
    assert!(status == 422 && detail.starts_with("lora_rank=0: "), "which one, and why: {detail}");
    let (status, detail) = sweep(json!({"rang": [8]})).error();
    assert!(status == 422 && detail.contains("rang") && detail.contains("`lora_rank`"), "{detail}");
    let seeds: Vec<u32> = (0..1001).collect();
    let many = sweep(json!({"seed": seeds}));
    assert_eq!((many.status, &many.json()["code"]), (422, &json!("group-too-large")));
    assert_eq!(studio.get("/api/v1/tasks").json()["tasks"], json!([]), "none of them");

    let answer = sweep(json!({"lr": ["1e-4", 5e-5], "rank": [8, 16]}));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let created = answer.json();
    let id = created["group"].as_str().unwrap();
    assert_eq!(
        labels(&created["tasks"]),
        [
            "learning_rate=1e-4 lora_rank=8",
            "learning_rate=1e-4 lora_rank=16",
            "learning_rate=5e-5 lora_rank=8",
            "learning_rate=5e-5 lora_rank=16",
        ]
    );
    let last = &created["tasks"][3];
    assert_eq!((&last["config"]["learning_rate"], &last["config"]["lora_rank"]), (&json!(5e-5), &json!(16)));
    assert_eq!(
        (&last["group"]["id"], &last["group"]["index"], &last["group"]["size"]),
        (&json!(id), &json!(3), &json!(4))
    );
    assert_eq!(created["tasks"][0]["task_id"], id);

    // Another task beside them; the list of the group has pages of its own.
    studio.submit_command(&["/bin/true"]);
    let page = studio.get(&format!("/api/v1/tasks?group={id}&limit=3")).json();
    assert_eq!(labels(&page["tasks"]).len(), 3);
    let before = page["next_before"].as_str().unwrap();
    let rest = studio.get(&format!("/api/v1/tasks?group={id}&limit=3&before={before}")).json();
    assert_eq!((labels(&rest["tasks"]), &rest["next_before"]), (vec!["learning_rate=1e-4 lora_rank=8"], &json!(null)));

    wait_for(&studio, id, "training", 1);
    let cancelled = act(&studio, id, "cancel").json();
    assert_eq!((&cancelled["counts"]["cancelled"], &cancelled["percent"]), (&json!(4), &json!(100.0)));
    assert_eq!(
        (&cancelled["name"], &cancelled["size"], &cancelled["owner"]),
        (&json!("sweep"), &json!(4), &json!("guest"))
    );
    let started: Vec<&Value> = cancelled["tasks"].as_array().unwrap().iter().map(|task| &task["started_at"]).collect();
    assert!(
        started[0].is_string() && started[1..].iter().all(|at| at.is_null()),
        "only the first ever ran: {started:?}"
    );
    assert_eq!(act(&studio, id, "cancel").error().0, 409);
    assert_eq!(studio.delete(&format!("/api/v1/groups/{id}")).status, 204);
    assert_eq!(studio.get(&format!("/api/v1/groups/{id}")).error().0, 404);
}

pub fn an_array_counts_and_is_held_and_released() {
    let studio = Studio::start();
    let script = "test $SAGE_ARRAY_INDEX = {index} && test $SAGE_ARRAY_SIZE = 3 && test {index} -ne 4";
    let command = json!({"argv": ["/bin/sh", "-c", script], "cwd": "/"});
    let body = json!({"task": {"command": command, "hold": true}, "array": {"from": 2, "to": 4}});
    let created = studio.post("/api/v1/groups", &body);
    assert_eq!(created.status, 201, "{}", created.text());
    let created = created.json();
    assert_eq!(labels(&created["tasks"]), ["index=2", "index=3", "index=4"]);
    let id = created["group"].as_str().unwrap();
    let held = group(&studio, id);
    assert_eq!((&held["counts"]["pending"], &held["percent"], &held["best"]), (&json!(3), &json!(0.0), &json!(null)));
    let (status, detail) = act(&studio, id, "hold").error();
    assert!(status == 409, "none of them waits: {detail}");

    studio.request("POST", "/api/v1/queue/pause", &[], b"");
    assert_eq!(act(&studio, id, "release").json()["counts"]["queued"], 3);
    assert_eq!(studio.delete(&format!("/api/v1/groups/{id}")).error().0, 409);
    assert_eq!(act(&studio, id, "hold").json()["counts"]["pending"], 3);
    assert_eq!(act(&studio, id, "release").json()["counts"]["queued"], 3);
    studio.request("POST", "/api/v1/queue/resume", &[], b"");
    wait_for(&studio, id, "completed", 2);
    let ended = wait_for(&studio, id, "failed", 1);
    assert_eq!(ended["tasks"][2]["status"], "failed", "{ended}");

    // Its first task may go; the group keeps its name and number.
    assert_eq!(studio.delete(&format!("/api/v1/tasks/{id}")).status, 204);
    let left = group(&studio, id);
    assert_eq!(
        (&left["id"], &left["size"], labels(&left["tasks"])),
        (&json!(id), &json!(3), vec!["index=3", "index=4"])
    );
    assert_eq!(act(&studio, "finetune_1_1", "cancel").error().0, 404);
}

pub fn a_group_is_its_owners() {
    let studio = people::studio(Default::default());
    studio.model(true);
    let (ana, ben, olga) = (studio.person("ana"), studio.person("ben"), studio.person("olga"));
    let task = json!({"fine_tune": {"model_name": "held", "dataset_file": ana.dataset()}, "hold": true});
    let sweep = json!({"task": task, "over": {"seed": [1, 2]}});
    let created = ana.post("/api/v1/groups", sweep.clone());
    assert_eq!(created.status, 201, "{}", created.text());
    let id = created.json()["group"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/groups/{id}");
    for action in ["cancel", "hold", "release"] {
        assert_eq!(people::code(&ben.post(&format!("{path}/{action}"), json!(null))), (403, "not-yours".into()));
    }
    assert_eq!(people::code(&ben.delete(&path)), (403, "not-yours".into()));
    // Files of others are not there for a sweep either.
    assert!([400, 403, 404].contains(&ben.post("/api/v1/groups", sweep).status));
    let command = json!({"argv": ["/bin/true"], "cwd": "/"});
    let array = json!({"task": {"command": command}, "array": {"from": 0, "to": 1}});
    assert_eq!(people::code(&ana.post("/api/v1/groups", array)), (403, "commands-for-owners".into()));

    // Also when its first task is gone.
    assert_eq!(ana.delete(&format!("/api/v1/tasks/{id}")).status, 204);
    assert_eq!(ana.post(&format!("{path}/cancel"), json!(null)).json()["counts"]["cancelled"], 1);
    assert_eq!(olga.delete(&path).status, 204);
}
