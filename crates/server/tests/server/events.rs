use std::collections::BTreeMap;

use serde_json::json;

use crate::fixture::{Events, ServerEvent, Studio};

const EVENTS: &str = "/api/v1/events";

fn held(studio: &Studio) -> String {
    let body = json!({"command": {"argv": ["true"], "cwd": "/"}, "hold": true});
    studio.post("/api/v1/tasks", &body).json()["task_id"].as_str().unwrap().to_owned()
}

fn act(studio: &Studio, id: &str, action: &str) {
    let answer = studio.request("POST", &format!("/api/v1/tasks/{id}/{action}"), &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The next `task` or `removed`.
fn move_of(events: &mut Events) -> ServerEvent {
    loop {
        let event = events.next().expect("the stream goes on");
        if ["task", "removed"].contains(&event.name.as_str()) {
            return event;
        }
    }
}

pub fn every_transition_is_told_once() {
    let studio = Studio::start();
    let mut events = Events::open(&studio, EVENTS, &[]);
    let queue = events.next().unwrap();
    let (waiting, control) =
        (json!({"waiting": [], "total": 0, "long": false}), json!({"mode": "open", "maintenance": []}));
    for (field, value) in waiting.as_object().unwrap().iter().chain(control.as_object().unwrap()) {
        assert_eq!(queue.json()[field], *value, "{field}");
    }
    assert_eq!(queue.name, "queue");
    let devices = events.next().unwrap();
    assert_eq!((devices.name.as_str(), &devices.json()["simulated"]), ("devices", &json!(true)));
    assert_eq!(events.last_id.as_deref(), Some("0"), "a client that breaks off now misses nothing either");

    let id = studio.submit_command(&["/bin/true"]);
    let mut told = Vec::new();
    while told.last().is_none_or(|(status, _)| status != "completed") {
        let event = move_of(&mut events);
        assert_eq!(event.json()["task_id"], id.as_str());
        let seq: u64 = event.id.unwrap().parse().unwrap();
        told.push((event.data.parse::<serde_json::Value>().unwrap()["status"].as_str().unwrap().to_owned(), seq));
    }
    let journal = studio.get(&format!("/api/v1/tasks/{id}/journal")).json();
    let kept: Vec<(String, u64)> = journal
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["to"].as_str().unwrap().to_owned(), entry["seq"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, kept);
    assert_eq!(studio.delete(&format!("/api/v1/tasks/{id}")).status, 204);
    let removed = move_of(&mut events);
    assert_eq!((removed.name.as_str(), removed.json()), ("removed", json!({"task_id": id})));
}

pub fn a_broken_stream_goes_on_where_it_was() {
    let studio = Studio::start();
    let mut events = Events::open(&studio, EVENTS, &[]);
    let (kept, removed) = (held(&studio), held(&studio));
    assert_eq!(move_of(&mut events).json()["task_id"], kept.as_str());
    let broken_at = events.last_id.take().unwrap();
    drop(events);

    // Missed: the second task's creation and removal, two moves of the first, a third task.
    assert_eq!(studio.delete(&format!("/api/v1/tasks/{removed}")).status, 204);
    act(&studio, &kept, "cancel");
    let late = held(&studio);
    let list = studio.get("/api/v1/tasks").json();

    let mut again = Events::open(&studio, EVENTS, &[("last-event-id", &broken_at)]);
    let mut missed = BTreeMap::new();
    let mut last = 0;
    loop {
        let event = again.next().unwrap();
        if event.name == "queue" {
            break;
        }
        let seq: u64 = event.id.clone().unwrap().parse().unwrap();
        assert!(seq > last, "in order");
        last = seq;
        let id = event.json()["task_id"].as_str().unwrap().to_owned();
        let status = event.json()["status"].as_str().unwrap_or("removed").to_owned();
        assert!(missed.insert(id, status).is_none(), "each task once");
    }
    let expected = [(&kept, "cancelled"), (&removed, "removed"), (&late, "pending")];
    assert_eq!(missed, expected.map(|(id, status)| (id.clone(), status.to_owned())).into());
    assert_eq!(list["last_event_id"], last);

    // And then live.
    let new = held(&studio);
    assert_eq!(move_of(&mut again).json()["task_id"], new.as_str());
    assert_eq!(studio.delete(&format!("/api/v1/tasks/{new}")).status, 204);

    let mut by_query = Events::open(&studio, &format!("{EVENTS}?last_event_id={}", list["last_event_id"]), &[]);
    assert_eq!(by_query.next().unwrap().name, "removed", "the task made and deleted after the list");
    assert_eq!(by_query.next().unwrap().name, "queue");
    assert_eq!(studio.get(&(EVENTS.to_owned() + "?last_event_id=x")).error().0, 422);
    assert_eq!(studio.request("GET", EVENTS, &[("last-event-id", "x")], b"").error().0, 422);
}

pub fn too_much_missed_is_a_resync() {
    let studio = Studio::start();
    // From another life of the database.
    let mut events = Events::open(&studio, &format!("{EVENTS}?last_event_id=12345"), &[]);
    let resync = events.next().unwrap();
    assert_eq!((resync.name.as_str(), resync.id.as_deref(), resync.data.as_str()), ("resync", Some("0"), "{}"));

    // A thousand rows are replayed, one more is not.
    let kept = held(&studio);
    let listed = || studio.get("/api/finetune/tasks").json();
    assert_eq!(listed().as_array().unwrap().len(), 1);
    while studio.engine.reader().last_seq().unwrap() < 1001 {
        let task = held(&studio);
        assert_eq!(studio.delete(&format!("/api/v1/tasks/{task}")).status, 204);
    }
    assert_eq!(listed(), json!([studio.get(&format!("/api/finetune/tasks/{kept}")).json()]));
    let mut events = Events::open(&studio, &format!("{EVENTS}?last_event_id=0"), &[]);
    let resync = events.next().unwrap();
    assert_eq!((resync.name.as_str(), resync.id.as_deref()), ("resync", Some("1001")));
    let mut events = Events::open(&studio, &format!("{EVENTS}?last_event_id=1"), &[]);
    let first = events.next().unwrap();
    assert_eq!(first.name, "removed");
}

/// However much is said about those that wait, it replaces what was said before.
pub fn a_long_queue_is_told_and_no_flood() {
    let studio = Studio::start();
    assert_eq!(studio.request("POST", "/api/v1/queue/pause", &[], b"").status, 200);
    let body = json!({"task": {"command": {"argv": ["true"], "cwd": "/"}}, "array": {"from": 1, "to": 500}});
    let created = studio.post("/api/v1/groups", &body);
    assert_eq!(created.status, 201, "{}", created.text());
    let tasks: Vec<String> = created.json()["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["task_id"].as_str().unwrap().to_owned())
        .collect();
    let mut events = Events::open(&studio, EVENTS, &[]);
    events.expect("devices");
    // That so many came at once may be a flood, which takes this with it.
    let told = tasks.iter().take(20).find_map(|id| {
        act(&studio, id, "hold");
        let event = std::iter::repeat_with(|| events.next().expect("the stream goes on"))
            .find(|event| ["queue", "resync"].contains(&event.name.as_str()))?;
        (event.name == "queue" && event.json()["total"] != 500).then_some(event)
    });
    let told = told.expect("the queue is told");
    assert!(told.data.len() > 130_000 && told.json()["waiting"].as_array().unwrap().len() > 450, "{}", told.data.len());
}

/// More is sent than the sockets between hold, and than is kept for one who is behind.
pub fn who_does_not_read_misses_events_and_holds_nobody_up() {
    let studio = Studio::start();
    let mut idle = Events::open(&studio, EVENTS, &[]).narrow();
    idle.expect("devices");
    let mut reader = Events::open(&studio, EVENTS, &[]);
    reader.expect("devices");
    let large = "x".repeat(60_000);
    let body = json!({"command": {"argv": ["/bin/echo", large], "cwd": "/"}, "hold": true});
    let told = |reader: &mut Events, id: &str, status: &str| {
        let event = move_of(reader);
        let task = event.json();
        assert_eq!((&task["task_id"], &task["status"]), (&json!(id), &json!(status)));
        event.data.len()
    };
    let mut sent = 0;
    for _ in 0..200 {
        let id = studio.post("/api/v1/tasks", &body).json()["task_id"].as_str().unwrap().to_owned();
        sent += told(&mut reader, &id, "pending");
        act(&studio, &id, "cancel");
        sent += told(&mut reader, &id, "cancelled");
    }
    assert!(sent > 20_000_000, "{sent}");

    let mut received = 0;
    let resync = loop {
        let event = idle.next().expect("the stream goes on");
        received += event.data.len();
        if event.name == "resync" {
            break event;
        }
    };
    assert!(received < sent / 2, "{received} of {sent} bytes were kept for it");
    assert_eq!(resync.id, Some(studio.engine.reader().last_seq().unwrap().to_string()));
    let new = held(&studio);
    let event = std::iter::repeat_with(|| move_of(&mut idle)).find(|event| event.json()["task_id"] == new.as_str());
    assert_eq!(event.unwrap().json()["status"], "pending", "and then live again");
}

pub fn streams_end_with_the_server() {
    let studio = Studio::start();
    let id = held(&studio);
    let mut events = Events::open(&studio, EVENTS, &[]);
    let mut log = Events::open(&studio, &format!("/api/v1/tasks/{id}/log/stream"), &[]);
    events.expect("devices");
    let started = std::time::Instant::now();
    let _home = studio.stop();
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "nobody waited for the streams");
    assert_eq!(log.next(), None);
    while events.next().is_some() {}
}
