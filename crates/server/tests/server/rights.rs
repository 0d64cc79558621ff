//! What others may not see, and no longer may.

use jiff::Timestamp;
use serde_json::json;
use store::Access;

use crate::{
    fixture::{Events, until},
    people::{PASSWORD, Person, code, studio},
};

/// A token ends its streams when it ends, and who is made less sees less on what was open before.
pub fn live_streams_end_with_the_token_and_with_the_role() {
    let studio = studio(Default::default());
    let accounts = studio.accounts();
    let ana = accounts.by_name("ana").unwrap().unwrap();
    let soon = Timestamp::now() + jiff::SignedDuration::from_secs(2);
    accounts
        .create_token(&ana, "t", &server::secret_hash("short"), Access::Read, Some(soon), Timestamp::now())
        .unwrap();
    let mut short = Events::open(&studio, "/api/v1/events", &[("authorization", "Bearer short")]);
    short.expect("devices");

    let olga = studio.person("olga");
    let set = |role: &str| {
        let answer = olga.request("PATCH", "/api/v1/accounts/ben", Some(&json!({ "role": role })));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    set("owner");
    let bearer = studio.person("ben").bearer();
    let mut events = Events::open(&studio, "/api/v1/events", &[("authorization", &bearer)]);
    events.expect("devices");
    let id = olga.post("/api/v1/tasks", json!({"command": {"argv": ["true"], "cwd": "/"}, "hold": true})).json();
    let log = format!("/api/v1/tasks/{}/log/stream", id["task_id"].as_str().unwrap());
    let mut log = Events::open(&studio, &log, &[("authorization", &bearer)]);
    set("member");
    while events.next().is_some() {}
    while log.next().is_some() {}
    while short.next().is_some() {}
}

/// Tasks and data sets are owned by name: a new account of an old name gets none of them unawares.
pub fn a_name_that_owns_something_is_given_away_only_on_purpose() {
    let studio = studio(Default::default());
    let olga = studio.person("olga");
    let left = studio.person("ana").dataset();
    assert_eq!(olga.delete("/api/v1/accounts/ana").status, 204);
    let again = |inherit: bool| {
        let account = json!({"name": " ana", "password": PASSWORD, "inherit": inherit});
        olga.post("/api/v1/accounts", account)
    };
    let refused = again(false);
    assert_eq!(code(&refused), (409, "name-has-things".into()));
    assert!(refused.json()["zh"].as_str().unwrap().contains("1 个数据集"), "{}", refused.text());
    let registered = olga.post("/api/auth/register", json!({"username": "ana", "password": PASSWORD}));
    assert_eq!(code(&registered), (409, "name-has-things".into()));
    assert_eq!(again(true).status, 201);
    assert_eq!(studio.person("ana").get("/api/v1/datasets").json()[0]["path"], left.as_str());
    let audit = olga.get("/api/v1/audit").text();
    assert!(audit.contains("member; gets what an account of this name has left"), "{audit}");
    // Of a name that owns nothing nobody asks.
    assert_eq!(olga.delete("/api/v1/accounts/ben").status, 204);
    assert_eq!(olga.post("/api/v1/accounts", json!({"name": "ben", "password": PASSWORD})).status, 201);
}

/// What a task prints, and what its program is told, is nobody else's to read, wherever it may turn up.
pub fn what_a_task_says_is_its_owners() {
    let studio = studio(server::Options { trust_members: true, ..Default::default() });
    let (olga, ana, ben, vera) =
        (studio.person("olga"), studio.person("ana"), studio.person("ben"), studio.person("vera"));
    let follow = |person: &Person<'_>| {
        let bearer = person.bearer();
        let mut events = Events::open(&studio, "/api/v1/events", &[("authorization", &bearer)]);
        events.expect("devices");
        events
    };
    let people = [(&olga, true), (&ana, true), (&ben, false), (&vera, false)];
    let mut streams: Vec<Events> = people.iter().map(|(person, _)| follow(person)).collect();
    let script = "echo the pass-word is swordfish; exit 3";
    let command = json!({"argv": ["sh", "-c", script], "cwd": "/", "env": {"SECRET_NAME": "x"}});
    let submitted = ana.post("/api/v1/tasks", json!({ "command": command }));
    assert_eq!(submitted.status, 201, "{}", submitted.text());
    let id = submitted.json()["task_id"].as_str().unwrap().to_owned();
    until("it has failed", || (ana.get(&format!("/api/v1/tasks/{id}")).json()["status"] == "failed").then_some(()));

    let told = |text: &str| ["swordfish", "SECRET_NAME"].iter().any(|word| text.contains(word));
    for ((person, may), stream) in people.iter().zip(&mut streams) {
        for path in [
            "/api/v1/tasks".to_owned(),
            format!("/api/v1/tasks/{id}"),
            format!("/api/v1/tasks/{id}/explain"),
            format!("/api/finetune/tasks/{id}"),
            "/api/finetune/tasks".into(),
        ] {
            let answer = person.get(&path).text();
            assert_eq!(told(&answer), *may, "{path}: {answer}");
            assert!(answer.contains("3") && answer.contains("failed"), "{path}: how it ended is everybody's: {answer}");
        }
        for path in [format!("/api/v1/tasks/{id}/journal"), "/api/v1/queue".into()] {
            assert!(!told(&person.get(&path).text()), "{path}");
        }
        let mut heard = String::new();
        while !heard.contains("\"status\":\"failed\"") {
            heard += &stream.next().expect("the stream goes on").data;
        }
        assert_eq!(told(&heard), *may, "live: {heard}");
        let bearer = person.bearer();
        let path = "/api/v1/events?last_event_id=0";
        let replayed = Events::open(&studio, path, &[("authorization", &bearer)]).expect("task").data;
        assert_eq!(told(&replayed), *may, "replayed: {replayed}");
    }
}
