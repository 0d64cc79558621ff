//! Who may do what: roles, tokens, what is one's own, quotas, and what is written down about it.

use api_types::Quota;
use jiff::Timestamp;
use serde_json::{Value, json};
use store::Access;

use crate::{
    fixture::{Events, ROWS, Studio, read_head, until},
    people::{PASSWORD, Person, code, sign_in, studio},
};

/// Walks every route that is described, as each role.
pub fn every_route_asks_for_a_role() {
    let studio = studio(Default::default());
    let (owner, member, viewer) = (studio.person("olga"), studio.person("ana"), studio.person("vera"));
    let document = serde_json::to_value(server::openapi()).unwrap();
    let mut walked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let path = path.as_str();
            // Guests are refused here whoever they are, and whoever signs out walks no further.
            if ["/api/auth/guest", "/api/auth/logout", "/health"].contains(&path) {
                continue;
            }
            let owners = ["/api/v1/accounts", "/api/v1/audit", "/api/auth/register"];
            let owners_only = owners.iter().any(|start| path.starts_with(start))
                || ["/api/finetune/switch-model", "/api/finetune/use-as-backend"].contains(&path);
            let everybodys = ["/api/v1/estimate", "/api/v1/me", "/api/v1/tokens", "/api/auth/"];
            let looks_on = (method == "GET" && !path.ends_with("/download") && path != "/api/v1/gpus/doctor")
                || everybodys.iter().any(|start| path.starts_with(start));
            let refused = |person: &Person<'_>| status(person, &method, path) == 403;
            let what = format!("{method} {path}");
            assert!(!refused(&owner), "{what}");
            // The queue's switches and the like, where there are any, are for owners too.
            if owners_only {
                assert!(refused(&member), "{what} as a member");
            }
            assert_eq!(refused(&viewer), owners_only || !looks_on, "{what} as a viewer");
            walked += 1;
        }
    }
    assert!(walked >= 45, "{walked}");
}

/// Of a request about what is not there, without a body; some answers never end, so only the head is read.
fn status(person: &Person<'_>, method: &str, path: &str) -> u16 {
    let path = path.replace("{id}", "finetune_1_1").replace("{filename}", "none.json").replace("{name}", "nobody");
    let (host, bearer) = (person.studio.host(), person.bearer());
    let headers =
        [("host", host.as_str()), ("authorization", &bearer), ("connection", "close"), ("content-length", "0")];
    let (status, _) = read_head(&mut person.studio.send(method, &path, &headers, b""));
    assert_ne!(status, 401, "{method} {path}");
    status
}

pub fn members_deal_with_their_own() {
    let studio = studio(Default::default());
    let model = studio.model(true);
    let model = model.to_str().unwrap();
    let (olga, ana, ben, vera) =
        (studio.person("olga"), studio.person("ana"), studio.person("ben"), studio.person("vera"));
    let data = ana.dataset();

    // Data sets are nobody else's business.
    let count = |person: &Person<'_>| person.get("/api/v1/datasets").json().as_array().unwrap().len();
    assert_eq!([&ana, &ben, &vera, &olga].map(count), [1, 0, 0, 1]);
    assert_eq!(ben.delete("/api/v1/datasets/data.jsonl").status, 404);
    for dataset in [data.as_str(), "data.jsonl"] {
        assert_eq!(code(&ben.submit("held", dataset, false)), (404, "not-found".into()), "{dataset}");
        let estimate = json!({"model_name": "held", "dataset_file": dataset});
        assert_eq!(ben.post("/api/v1/estimate", estimate).status, 404);
        assert_eq!(ben.get(&format!("/api/v1/recommendations?dataset={dataset}")).status, 404);
    }

    // Everybody sees the tasks; only ana and owners touch hers.
    let task = ana.submit(model, &data, false);
    assert_eq!(task.status, 201, "{}", task.text());
    let id = task.json()["task_id"].as_str().unwrap().to_owned();
    for (first, now) in [("/api/finetune/tasks", "/api/v1/tasks"), ("/api/v1/tasks", "/api/finetune/tasks")] {
        assert_eq!(vera.get(&format!("{first}/{id}")).status, 200);
        // Also where the id is written in another way.
        for id in [id.as_str(), &id.replacen('_', "%5f", 1)] {
            let touch = [("POST", "/cancel"), ("DELETE", ""), ("GET", "/download")];
            for (method, what) in touch {
                let answer = ben.request(method, &format!("{now}/{id}{what}"), None);
                assert_eq!(code(&answer), (403, "not-yours".into()), "{method} {now}/{id}{what}");
            }
        }
    }
    assert_eq!(ben.post(&format!("/api/v1/tasks/{id}/release"), json!({})).status, 403);
    // Everybody can ask for one person's.
    let of = |name: &str| ben.get(&format!("/api/v1/tasks?owner={name}")).json();
    assert_eq!((of("ana")["tasks"].as_array().unwrap().len(), &of("ana")["counts"]["pending"]), (1, &json!(0)));
    assert_eq!((&of("ben")["tasks"], &of("ben")["counts"]["training"]), (&json!([]), &json!(0)));
    // So is what it prints.
    until("it has said something", || {
        let task = ana.get(&format!("/api/finetune/tasks/{id}")).json();
        (task["status"] == "training" && !task["logs"].as_array().unwrap().is_empty()).then_some(())
    });
    let reader = Person::with_token(&studio, "ana", Access::Read);
    for (person, may) in [(&ana, true), (&reader, true), (&olga, true), (&ben, false), (&vera, false)] {
        for what in ["log", "log/stream?offset=0"] {
            let answer = person.request("HEAD", &format!("/api/v1/tasks/{id}/{what}"), None);
            assert_eq!(answer.status, if may { 200 } else { 403 }, "{what}");
        }
        let one = person.get(&format!("/api/finetune/tasks/{id}")).json();
        let all = person.get("/api/finetune/tasks").json();
        assert_eq!(all, json!([one]));
        assert_eq!(one["logs"].as_array().unwrap().is_empty(), !may, "{one}");
    }
    // None but owners interrupt others.
    let urgent = json!({"fine_tune": {"model_name": "held", "dataset_file": data}, "priority": "urgent"});
    assert_eq!(code(&ana.post("/api/v1/tasks", urgent)), (403, "urgent-for-owners".into()));
    let waits = ana.submit(model, &data, true).json()["task_id"].as_str().unwrap().to_owned();
    let make = |person: &Person<'_>, priority| {
        person.request("PATCH", &format!("/api/v1/tasks/{waits}"), Some(&json!({ "priority": priority })))
    };
    assert_eq!(code(&make(&ana, "urgent")), (403, "urgent-for-owners".into()));
    assert_eq!(make(&ana, "high").status, 200);
    assert_eq!(make(&olga, "urgent").status, 200);
    assert_eq!(ana.post(&format!("/api/v1/tasks/{waits}/cancel"), json!({})).status, 200);
    assert_eq!(ana.get(&format!("/api/v1/tasks/{id}/download")).status, 409, "hers, but not completed");
    assert_eq!(ana.post(&format!("/api/v1/tasks/{id}/cancel"), json!({})).status, 200);
    assert_eq!(olga.delete(&format!("/api/v1/tasks/{id}")).status, 204, "an owner");

    // A path is as good as the rights of the studio's own user.
    for file in ["/etc/passwd", &format!("{}/studio.json", studio.home.root().display())] {
        assert_eq!(code(&ana.submit("held", file, false)), (403, "dataset-not-yours".into()), "{file}");
    }
    let outside = tempfile::tempdir().unwrap();
    let link = studio.home.models().join("../uploads/../..");
    for model in [outside.path(), std::path::Path::new("."), &link] {
        let answer = ana.submit(model.to_str().unwrap(), &data, false);
        assert_eq!(code(&answer), (403, "model-not-yours".into()), "{}", model.display());
    }
    let command = json!({"command": {"argv": ["true"], "cwd": "/"}, "hold": true});
    assert_eq!(code(&ana.post("/api/v1/tasks", command.clone())), (403, "commands-for-owners".into()));
    assert_eq!(olga.post("/api/v1/tasks", command).status, 201);
}

pub fn trusted_members_may_name_files_and_run_commands() {
    let studio = studio(server::Options { trust_members: true, ..Default::default() });
    studio.model(false);
    let data = studio.home.root().join("elsewhere.jsonl");
    std::fs::write(&data, ROWS).unwrap();
    let ana = studio.person("ana");
    assert_eq!(ana.submit("tiny", data.to_str().unwrap(), true).status, 201);
    let env = json!({"HUB_TOKEN": "thisIsASecret"});
    let command = json!({"command": {"argv": ["true"], "cwd": "/", "env": env}, "hold": true});
    let accepted = ana.post("/api/v1/tasks", command);
    assert_eq!(accepted.status, 201);
    // Values of variables are told to nobody.
    let id = accepted.json()["task_id"].as_str().unwrap().to_owned();
    let first_generation = ana.get(&format!("/api/finetune/tasks/{id}"));
    assert_eq!(first_generation.json()["config"]["env"], json!({"HUB_TOKEN": "***"}));
    let paths = ["/api/finetune/tasks", "/api/v1/tasks", "/api/v1/queue"].map(String::from);
    let of_it = ["", "/explain", "/journal", "/metrics"].map(|what| format!("/api/v1/tasks/{id}{what}"));
    for answer in paths.iter().chain(&of_it).map(|path| ana.get(path)).chain([accepted, first_generation]) {
        assert!(answer.status < 300 && !answer.text().contains("thisIsASecret"), "{}", answer.text());
    }
    let hers = ana.dataset();
    assert_eq!(studio.person("ben").submit("tiny", &hers, true).status, 404, "trust is in files, not in people's data");
}

pub fn tokens_do_what_they_are_for() {
    let studio = studio(Default::default());
    let ana = studio.person("ana");
    let made = ana.post("/api/v1/tokens", json!({"name": "ci", "scope": "submit", "expires_in_days": 7}));
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")));
    let made = made.json();
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("sage_") && secret.len() == 69, "{secret}");
    let listed = ana.get("/api/v1/tokens");
    assert!(!listed.text().contains(&secret));
    assert_eq!((&listed.json()[0]["name"], &listed.json()[0]["last_used_at"]), (&json!("ci"), &json!(null)));
    assert_eq!(studio.person("ben").get("/api/v1/tokens").json(), json!([]));
    assert_eq!(ana.get("/api/v1/tokens?all=true").status, 403);
    assert_eq!(studio.person("olga").get("/api/v1/tokens?all=true").json().as_array().unwrap().len(), 1);

    // It is ana, and can do what its scope says.
    let ci = Person { studio: &studio, secret: secret.clone() };
    let me = ci.get("/api/v1/me").json();
    assert_eq!((&me["name"], &me["role"], &me["access"]), (&json!("ana"), &json!("member"), &json!("submit")));
    assert!(ana.get("/api/v1/tokens").json()[0]["last_used_at"].is_string());
    ci.dataset();
    let read = Person::with_token(&studio, "ana", Access::Read);
    assert_eq!(read.get("/api/v1/tasks").status, 200);
    let paste = json!({"filename": "a.jsonl", "content": ROWS});
    assert_eq!(code(&read.post("/api/v1/datasets/paste", paste)), (403, "not-allowed".into()));

    // None can do more than whoever makes it, and what leaks does not multiply.
    let admin = json!({"name": "x", "scope": "admin"});
    assert_eq!(code(&ana.post("/api/v1/tokens", admin.clone())), (403, "scope-too-wide".into()));
    assert_eq!(code(&ci.post("/api/v1/tokens", json!({"name": "x", "scope": "read"}))), (403, "needs-session".into()));
    let bens = json!({"name": "x", "scope": "read", "account": "ben"});
    assert_eq!(ana.post("/api/v1/tokens", bens.clone()).status, 403);
    let olga = studio.person("olga");
    assert_eq!(olga.post("/api/v1/tokens", bens).status, 201);
    assert_eq!(olga.post("/api/v1/tokens", admin).status, 201);
    // A token for everything in a member's hands is still a member's.
    let wide = Person::with_token(&studio, "ana", Access::Admin);
    assert_eq!(wide.get("/api/v1/accounts").status, 403);
    for bad in [
        json!({"name": "", "scope": "read"}),
        json!({"name": "x", "scope": "root"}),
        json!({"name": "x", "scope": "read", "expires_in_days": 0}),
    ] {
        let status = ana.post("/api/v1/tokens", bad.clone()).status;
        assert!(matches!(status, 400 | 422), "{bad}: {status}");
    }
    let change = json!({"current": PASSWORD, "new": "another horse"});
    assert_eq!(code(&ci.request("PUT", "/api/v1/me/password", Some(&change))), (403, "needs-session".into()));

    // Revoked, it is worth nothing; others cannot revoke it.
    let path = format!("/api/v1/tokens/{}", made["id"]);
    assert_eq!(studio.person("ben").delete(&path).status, 404);
    assert_eq!(ana.delete(&path).status, 204);
    assert_eq!(ci.get("/api/v1/tasks").status, 401);

    // Nothing in the home gives a secret away.
    let secrets = [secret, ana.secret.clone(), PASSWORD.into()];
    for entry in walk(studio.home.root()) {
        let content = std::fs::read(&entry).unwrap();
        for secret in &secrets {
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "a secret is in {}", entry.display());
        }
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

pub fn owners_look_after_accounts() {
    let studio = studio(Default::default());
    let olga = studio.person("olga");
    let patch = |name: &str, body: Value| olga.request("PATCH", &format!("/api/v1/accounts/{name}"), Some(&body));
    let cleo = json!({"name": "cleo", "password": "a long password", "quota": {"gpus": 2}});
    let added = olga.post("/api/v1/accounts", cleo.clone());
    assert_eq!(added.status, 201, "{}", added.text());
    assert_eq!((&added.json()["role"], &added.json()["quota"]["weight"]), (&json!("member"), &json!(1.0)));
    assert_eq!(code(&olga.post("/api/v1/accounts", cleo)), (400, "name-taken".into()));
    assert_eq!(code(&olga.post("/api/v1/accounts", json!({"name": "dan", "password": "short"}))).1, "short-password");
    assert_eq!(olga.post("/api/v1/accounts", json!({"name": "dan", "role": "root"})).status, 422);
    assert_eq!(sign_in(&studio, "cleo", "a long password").status, 200);

    assert_eq!(patch("cleo", json!({"quota": {"weight": 0.0}})).status, 422);
    let quota =
        json!({"weight": 2.0, "running": 1, "queued": 5, "gpus": 4, "gpu_hours_per_day": 48.0, "disk_bytes": 1000});
    assert_eq!(patch("cleo", json!({"quota": quota})).json()["quota"], quota);
    assert_eq!(patch("nobody", json!({})).status, 404);

    // A new role counts at once; a new password ends the sessions.
    let ana = studio.person("ana");
    assert_eq!(patch("ana", json!({"role": "owner"})).status, 200);
    assert_eq!(ana.get("/api/v1/accounts").status, 200);
    assert_eq!(patch("ana", json!({"role": "viewer", "password": "a new password"})).status, 200);
    assert_eq!(ana.get("/api/v1/tasks").status, 401);
    assert_eq!(sign_in(&studio, "ana", PASSWORD).status, 401);
    assert_eq!(sign_in(&studio, "ana", "a new password").status, 200);

    // One's own password, with the current one.
    let ben = studio.person("ben");
    let change = |current: &str| {
        ben.request("PUT", "/api/v1/me/password", Some(&json!({"current": current, "new": "ben's new one"}))).status
    };
    assert_eq!((change("wrong"), change(PASSWORD), change(PASSWORD)), (401, 204, 401));
    assert_eq!(sign_in(&studio, "ben", "ben's new one").status, 200);

    // An owner always stays.
    assert_eq!(code(&patch("olga", json!({"role": "member"}))), (409, "own-account".into()));
    assert_eq!(code(&olga.delete("/api/v1/accounts/olga")), (409, "own-account".into()));
    let token = Person::with_token(&studio, "cleo", Access::Read);
    assert_eq!(olga.delete("/api/v1/accounts/cleo").status, 204);
    assert_eq!(token.get("/api/v1/tasks").status, 401);
    assert_eq!(sign_in(&studio, "cleo", "a long password").status, 401);
}

pub fn guessing_passwords_has_an_end() {
    let studio = studio(Default::default());
    let wrong = |name: &str| sign_in(&studio, name, "a guess");
    for _ in 0..10 {
        assert_eq!(wrong("ana").status, 401);
    }
    let held_up = wrong("ana");
    assert_eq!(code(&held_up), (429, "too-many-attempts".into()));
    let wait: u64 = held_up.header("retry-after").unwrap().parse().unwrap();
    assert!((800..=900).contains(&wait), "{wait}");
    assert_eq!(sign_in(&studio, "ana", PASSWORD).status, 429, "also with the right one");
    assert_eq!(sign_in(&studio, "olga", PASSWORD).status, 200, "another account");
    for guess in 0..20 {
        assert_eq!(wrong(&format!("guess{guess}")).status, 401);
    }
    assert_eq!(sign_in(&studio, "olga", PASSWORD).status, 429, "from an address that guesses");
}

pub fn what_people_do_is_written_down() {
    let studio = studio(Default::default());
    assert_eq!(sign_in(&studio, "ana", "wrong").status, 401);
    assert_eq!(studio.get("/api/v1/tasks").status, 401, "leaves no trace: anybody could fill the disk");
    assert_eq!(studio.delete("/api/v1/tasks/finetune_1_1").status, 401);
    let (olga, ana) = (studio.person("olga"), studio.person("ana"));
    studio.model(true);
    let data = ana.dataset();
    let id = ana.submit("held", &data, true).json()["task_id"].as_str().unwrap().to_owned();
    assert_eq!(ana.get("/api/v1/audit").status, 403);
    assert_eq!(studio.person("ben").delete(&format!("/api/v1/tasks/{id}")).status, 403);
    olga.post(&format!("/api/finetune/tasks/{id}/cancel"), json!({}));
    olga.post("/api/v1/accounts", json!({"name": "cleo", "password": "a long password", "role": "viewer"}));
    olga.request("PATCH", "/api/v1/accounts/cleo", Some(&json!({"password": "another password"})));
    let token = olga.post("/api/v1/tokens", json!({"name": "ci", "scope": "admin"})).json();
    let ci = Person { studio: &studio, secret: token["secret"].as_str().unwrap().to_owned() };
    ci.delete(&format!("/api/v1/tasks/{id}"));
    olga.post("/api/auth/logout", json!({}));

    let page = ci.get("/api/v1/audit?limit=1000");
    assert!(!page.text().contains("password") || !page.text().contains("a long password"));
    let entries = page.json()["entries"].as_array().unwrap().clone();
    let seen: Vec<String> = entries
        .iter()
        .rev()
        .map(|entry| {
            let word = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
            assert!(matches!(&*word("address"), "127.0.0.1" | "local"), "{entry}");
            let target = word("target").replace(&id, "[task]");
            format!("{} {} {target} {} {}", word("who"), word("action"), word("outcome"), word("detail"))
        })
        .collect();
    let expected = [
        "- studio.start - ok authentication on",
        "ana sign-in - sign-in -",
        "olga sign-in - ok -",
        "ana sign-in - ok -",
        "ana dataset.upload data.jsonl ok -",
        "ana task.submit [task] ok -",
        "ben sign-in - ok -",
        "ben task.delete [task] not-yours -",
        "olga task.cancel [task] ok -",
        "olga account.add cleo ok viewer",
        "olga account.change cleo ok password",
        "olga token.create 1 ok ci for olga, scope admin",
        "olga task.delete [task] ok token 1",
        "olga sign-out - ok -",
    ];
    assert_eq!(seen, expected);
    let failures = ci.get("/api/v1/audit?who=ben&action=task").json();
    assert_eq!(failures["entries"].as_array().unwrap().len(), 1, "{failures}");
    let first = ci.get("/api/v1/audit?limit=2").json();
    let second = ci.get(&format!("/api/v1/audit?limit=100&before={}", first["next_before"])).json();
    assert_eq!(second["entries"].as_array().unwrap().len(), expected.len() - 2);
    assert_eq!(second["next_before"], Value::Null);

    let folder = studio.stop();
    let audit = store::Audit::open(&folder.path().join("home/audit.db")).unwrap();
    let Ok(store::Chain::Whole { rows, .. }) = audit.verify() else { panic!("{:?}", audit.verify()) };
    assert_eq!(rows, expected.len() as u64 + 1, "and that it has stopped");
}

pub fn quotas_are_kept_at_the_door() {
    let studio = studio(Default::default());
    studio.model(true);
    let ana = studio.person("ana");
    let data = ana.dataset();
    studio.set_quota("ana", Quota { queued: Some(3), ..Quota::default() });
    // Held ones count.
    let first = ana.submit("held", &data, true).json()["task_id"].clone();
    let waits = |person: &Person<'_>, data: &str| {
        let fine_tune = json!({"model_name": "held", "dataset_file": data});
        person.post("/api/v1/tasks", json!({"fine_tune": fine_tune, "after": [first]}))
    };
    for _ in 0..2 {
        assert_eq!(waits(&ana, &data).status, 201);
    }
    let refused = waits(&ana, &data);
    assert_eq!(code(&refused), (429, "queue-quota".into()));
    assert!(refused.json()["next_step"].is_string() && refused.json()["zh"].is_string());
    let ben = studio.person("ben");
    let bens = ben.dataset();
    assert_eq!(waits(&ben, &bens).status, 201, "others have their own");

    // What could never start is not taken.
    studio.set_quota("ben", Quota { gpus: Some(1), ..Quota::default() });
    let wide = json!({"fine_tune": {"model_name": "held", "dataset_file": bens, "gpus": 2}});
    let refused = ben.post("/api/v1/tasks", wide);
    assert_eq!(code(&refused), (403, "gpu-quota".into()));
    assert!(refused.json()["next_step"].is_string() && refused.json()["zh"].is_string());

    let size = ROWS.len() as u64;
    studio.set_quota("ana", Quota { disk_bytes: Some(size + 10), ..Quota::default() });
    let paste = json!({"filename": "more.jsonl", "content": ROWS});
    assert_eq!(code(&ana.post("/api/v1/datasets/paste", paste)), (403, "quota-disk".into()));
    let boundary = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"d.jsonl\"\r\n\r\n";
    let form = format!("{boundary}{ROWS}\r\n--b--\r\n");
    let bearer = ana.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "multipart/form-data; boundary=b")];
    for path in ["/api/v1/datasets", "/api/finetune/upload-dataset"] {
        assert_eq!(
            code(&studio.request("POST", path, &headers, form.as_bytes())),
            (403, "quota-disk".into()),
            "{path}"
        );
    }
    assert_eq!(ana.submit("held", &data, true).status, 201, "there is still room");
    studio.set_quota("ana", Quota { disk_bytes: Some(size), ..Quota::default() });
    assert_eq!(code(&ana.submit("held", &data, true)), (403, "quota-disk".into()));
    assert_eq!(std::fs::read_dir(studio.home.uploads()).unwrap().count(), 2, "nothing is left of what was refused");
}

/// Where nobody signs in, whoever reaches the studio is its owner, by whatever name.
pub fn one_person_needs_no_account() {
    let studio = Studio::start();
    let me = studio.get("/api/v1/me").json();
    assert_eq!(me["name"], "guest");
    assert_eq!((&me["role"], &me["access"], &me["authentication"]), (&json!("owner"), &json!("admin"), &json!(false)));
    assert_eq!(studio.get("/api/v1/accounts").json(), json!([]), "a guest is nobody to be managed");
    // The first who registers will be the owner, once people have to sign in.
    let register = |name: &str| {
        assert_eq!(studio.post("/api/auth/register", &json!({"username": name, "password": "secret"})).status, 200);
    };
    register("olga");
    register("ana");
    let roles: Vec<Value> =
        studio.get("/api/v1/accounts").json().as_array().unwrap().iter().map(|one| one["role"].clone()).collect();
    assert_eq!(roles, ["member", "owner"], "by name");

    // A guest's session is worth nothing then.
    let guest = studio.post("/api/auth/guest", &Value::Null).json();
    let secret = guest["access_token"].as_str().unwrap().to_owned();
    let options = server::Options { authentication: true, ..Default::default() };
    let studio = Studio::open(options, Default::default(), studio.stop());
    assert_eq!(Person { studio: &studio, secret }.get("/api/v1/tasks").status, 401);
}

/// Who loses the right to look sees nothing more, also on what was open before.
pub fn live_streams_end_with_the_right_to_them() {
    let studio = studio(Default::default());
    let (olga, ana, ben) = (studio.person("olga"), studio.person("ana"), studio.person("ben"));
    let open = |person: &Person<'_>| {
        let bearer = person.bearer();
        let mut events = Events::open(&studio, "/api/v1/events", &[("authorization", &bearer)]);
        events.expect("devices");
        events
    };
    let (mut anas, mut bens) = (open(&ana), open(&ben));
    let patch = json!({"password": "a new password"});
    assert_eq!(olga.request("PATCH", "/api/v1/accounts/ana", Some(&patch)).status, 200);
    while anas.next().is_some() {}
    olga.post("/api/v1/tasks", json!({"command": {"argv": ["true"], "cwd": "/"}, "hold": true}));
    bens.expect("task");
}

/// Sessions and tokens that have ended open nothing.
pub fn what_has_expired_is_refused() {
    let studio = studio(Default::default());
    let accounts = studio.accounts();
    let ana = accounts.by_name("ana").unwrap().unwrap();
    let long_ago = Timestamp::now() - store::SESSION - jiff::SignedDuration::from_secs(1);
    accounts.open_session(ana.id, &server::secret_hash("old"), long_ago).unwrap();
    let expired = Timestamp::now() - jiff::SignedDuration::from_secs(1);
    accounts.create_token(&ana, "t", &server::secret_hash("token"), Access::Read, Some(expired), long_ago).unwrap();
    for secret in ["old", "token"] {
        assert_eq!(Person { studio: &studio, secret: secret.into() }.get("/api/v1/tasks").status, 401, "{secret}");
    }
}
