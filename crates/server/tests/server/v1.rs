use serde_json::{Value, json};

use crate::fixture::{Events, Studio, until};

fn path(id: &str) -> String {
    format!("/api/v1/tasks/{id}")
}

/// No shell has had a part in it.
pub fn arguments_arrive_as_they_were_sent() {
    let studio = Studio::start();
    let argument = "$(touch hacked) `touch hacked`; touch hacked | tee hacked > hacked & \"'\\ $HOME ~ *\n{index}";
    let command = json!({"argv": ["/usr/bin/printf", "%s", argument], "cwd": studio.home.root()});
    let answer = studio.post("/api/v1/tasks", &json!({ "command": command }));
    let id = answer.json()["task_id"].as_str().unwrap().to_owned();
    studio.wait_for(&id, "completed");
    assert_eq!(studio.get(&(path(&id) + "/log")).text(), argument);
    assert!(!studio.home.root().join("hacked").exists());
}

pub fn a_task_from_submission_to_removal() {
    let studio = Studio::start();
    let model = studio.model(true);
    let body = json!({
        "name": " My first ",
        "fine_tune": {"model_name": model, "dataset_file": studio.dataset(), "preset": "fast", "lora_rank": 4},
        "time_limit_seconds": 600,
    });
    let answer = studio.post("/api/v1/tasks", &body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let accepted = answer.json();
    let id = accepted["task_id"].as_str().unwrap();
    let task = studio.wait_for(id, "training");
    let device = studio.get("/api/v1/devices").json()["devices"][0].clone();
    let grant = &task["attempt"]["grants"][0];
    assert_eq!((&grant["device"], &task["attempt"]["devices"]), (&device["id"], &json!([device["id"]])));
    assert_eq!(device["grants"], json!([{"task_id": id, "bytes": grant["bytes"]}]), "whoever holds it is told");
    assert_eq!((&device["task_id"], &accepted["alternatives"]), (&json!(id), &json!([])));
    assert_eq!((&task["name"], &task["owner"]), (&json!("My first"), &json!("guest")));
    assert_eq!((&task["time_limit_seconds"], &task["trainer"]), (&json!(600), &json!("builtin")));
    let config = &task["config"];
    assert_eq!((&config["num_epochs"], &config["lora_rank"], &config["seed"]), (&json!(1), &json!(4), &json!(42)));
    for (method, action) in [("GET", "/download"), ("DELETE", ""), ("POST", "/release")] {
        let error = studio.request(method, &(path(id) + action), &[], b"").error();
        assert_eq!(error.0, 409, "{method} {action}: {error:?}");
    }

    std::fs::remove_file(model.join("hold")).unwrap();
    let task = studio.wait_for(id, "completed");
    assert_eq!((&task["downloadable"], &task["wait"], &task["attempt"]), (&json!(true), &json!(null), &json!(null)));
    let metrics = studio.get(&(path(id) + "/metrics")).json();
    let losses: Vec<&Value> = metrics["train"].as_array().unwrap().iter().map(|point| &point["loss"]).collect();
    assert_eq!(losses, [2.5, 2.0, 1.5, 1.0]);
    assert_eq!(metrics["eval"], json!([{"step": 3, "loss": 1.75}]));
    assert_eq!(studio.get(&(path(id) + "/download")).body[..2], [0x1f, 0x8b]);
    assert_eq!(studio.request("POST", &(path(id) + "/cancel"), &[], b"").error().0, 409);

    let journal = studio.get(&(path(id) + "/journal")).json();
    let moves: Vec<(&str, &str)> = journal
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["from"].as_str().unwrap_or(""), entry["to"].as_str().unwrap()))
        .collect();
    assert_eq!((moves.first().unwrap().0, moves.last().unwrap()), ("", &("training", "completed")), "{journal}");
    assert!(moves.windows(2).all(|pair| pair[0].1 == pair[1].0), "{moves:?}");

    assert_eq!(studio.delete(&path(id)).status, 204);
    for gone in ["", "/journal", "/metrics", "/log", "/log/stream", "/download"] {
        assert_eq!(studio.get(&(path(id) + gone)).error(), (404, "Task not found".into()), "{gone}");
    }
}

pub fn held_tasks_wait_for_their_release() {
    let studio = Studio::start();
    let body = json!({"command": {"argv": ["/bin/true"], "cwd": "/"}, "hold": true});
    let task = studio.post("/api/v1/tasks", &body).json();
    let id = task["task_id"].as_str().unwrap();
    assert_eq!((&task["status"], &task["model_name"]), (&json!("pending"), &json!("/bin/true")));
    assert_eq!(studio.request("POST", &(path(id) + "/release"), &[], b"").status, 200);
    let task = studio.wait_for(id, "completed");
    assert_eq!((&task["exit_code"], &task["failure"]), (&json!(null), &json!(null)));

    let task = studio.wait_for(&studio.submit_command(&["/bin/sh", "-c", "exit 7"]), "failed");
    assert_eq!((&task["exit_code"], &task["failure"]["code"]), (&json!(7), &json!("exit-code")));
}

pub fn lists_have_pages() {
    let studio = Studio::start();
    let body = json!({"command": {"argv": ["true"], "cwd": "/"}, "hold": true});
    let ids: Vec<String> =
        (0..5).map(|_| studio.post("/api/v1/tasks", &body).json()["task_id"].as_str().unwrap().to_owned()).collect();
    let mut seen = Vec::new();
    let mut next = "/api/v1/tasks?limit=2".to_owned();
    loop {
        let page = studio.get(&next).json();
        assert_eq!((&page["counts"]["pending"], &page["counts"]["failed"]), (&json!(5), &json!(0)));
        assert_eq!(page["last_event_id"], 5);
        seen.extend(page["tasks"].as_array().unwrap().iter().map(|task| task["task_id"].as_str().unwrap().to_owned()));
        match page["next_before"].as_str() {
            Some(before) => next = format!("/api/v1/tasks?limit=2&before={before}"),
            None => break,
        }
    }
    assert!(seen.iter().eq(ids.iter().rev()), "{seen:?}");
    assert_eq!(studio.get("/api/v1/tasks?status=failed").json()["tasks"], json!([]));
    assert_eq!(studio.get("/api/v1/tasks?status=pending").json()["tasks"].as_array().unwrap().len(), 5);
    for bad in ["status=lost", "limit=0", "limit=501", "limit=x", "before=x"] {
        assert_eq!(studio.get(&format!("/api/v1/tasks?{bad}")).error().0, 422, "{bad}");
    }
}

pub fn bad_submissions_say_what_is_wrong() {
    let studio = Studio::start();
    let dataset = studio.dataset();
    let model = studio.model(false);
    let fine_tune = |field: &str, value: Value| {
        let mut recipe = json!({"model_name": model, "dataset_file": dataset});
        recipe[field] = value;
        json!({"fine_tune": recipe})
    };
    let command = json!({"argv": ["true"], "cwd": "/"});
    for (body, status, says) in [
        (json!({}), 422, "exactly one"),
        (json!({"command": command, "fine_tune": fine_tune("seed", json!(1))["fine_tune"]}), 422, "exactly one"),
        (json!({"command": command, "colour": 9}), 422, "colour"),
        (json!({"command": command, "priority": "top"}), 422, "urgent"),
        (json!({"command": command, "after": ["finetune_1_99"]}), 422, "finetune_1_99"),
        (json!({"command": command, "after": ["finetune_1_99,soon"]}), 422, "soon"),
        (json!({"command": {"argv": [], "cwd": "/"}}), 422, "program"),
        (json!({"command": {"argv": ["true"], "cwd": "here"}}), 422, "absolute"),
        (json!({"command": command, "time_limit_seconds": 0}), 422, "time_limit_seconds"),
        (json!({"command": command, "name": "n".repeat(201)}), 422, "name"),
        (fine_tune("preset", json!("reckless")), 422, "safe"),
        (fine_tune("schedule", json!("wild")), 422, "cosine"),
        (fine_tune("num_epochs", json!(0)), 422, "num_epochs"),
        (fine_tune("dataset_file", json!("/nowhere.json")), 400, "/nowhere.json"),
        (fine_tune("model_name", json!("/nowhere")), 400, "/nowhere"),
    ] {
        let error = studio.post("/api/v1/tasks", &body).error();
        assert!(error.0 == status && error.1.contains(says), "{body}: {error:?}");
    }
    assert_eq!(studio.get("/api/v1/tasks").json()["tasks"], json!([]));
}

pub fn logs_have_ranges_and_streams() {
    let studio = Studio::start();
    let script = "echo one; echo zwei; while [ ! -e go ]; do sleep 0.01; done; echo 三; printf last";
    let folder = tempfile::tempdir().unwrap();
    let body = json!({"command": {"argv": ["/bin/sh", "-c", script], "cwd": folder.path()}});
    let task = studio.post("/api/v1/tasks", &body).json();
    let id = task["task_id"].as_str().unwrap();
    let log = path(id) + "/log";

    let mut stream = Events::open(&studio, &(log.clone() + "/stream"), &[]);
    let mut text = String::new();
    // In as many chunks as the program made of it.
    while text != "one\nzwei\n" {
        let event = stream.expect("log");
        assert_eq!(event.json()["offset"], text.len());
        text += event.json()["text"].as_str().unwrap();
        assert_eq!(event.id, Some(text.len().to_string()));
    }
    let range = |range: &str| studio.request("GET", &log, &[("range", range)], b"");
    until("the log is readable", || (studio.get(&log).body.len() == 9).then_some(()));
    let part = range("bytes=4-7");
    assert_eq!((part.status, part.text().as_str()), (206, "zwei"));
    assert_eq!(part.header("content-range"), Some("bytes 4-7/9"));
    assert_eq!(range("bytes=-5").text(), "zwei\n");
    assert_eq!(range("bytes=4-").text(), "zwei\n");
    let beyond = range("bytes=9-");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */9")));

    std::fs::write(folder.path().join("go"), "").unwrap();
    while let Some(event) = stream.next() {
        match event.name.as_str() {
            "log" => text += event.json()["text"].as_str().unwrap(),
            name => assert_eq!(name, "end"),
        }
    }
    assert_eq!(text, "one\nzwei\n三\nlast");
    assert_eq!(studio.get(&log).text(), text);

    // Read again after the end, from where somebody was.
    let mut rest = Events::open(&studio, &(log.clone() + "/stream?offset=0"), &[("last-event-id", "9")]);
    assert_eq!(rest.next().unwrap().json(), json!({"offset": 9, "text": "三\n"}));
    let last = rest.next().unwrap();
    assert_eq!((last.json(), last.id), (json!({"offset": 13, "text": "last"}), Some("17".into())));
    assert_eq!((rest.next().unwrap().name.as_str(), rest.next()), ("end", None));

    let held = json!({"command": {"argv": ["true"], "cwd": "/"}, "hold": true});
    let held = studio.post("/api/v1/tasks", &held).json()["task_id"].as_str().unwrap().to_owned();
    let empty = studio.get(&(path(&held) + "/log"));
    assert_eq!((empty.status, empty.body.len()), (200, 0));
    let mut stream = Events::open(&studio, &(path(&held) + "/log/stream"), &[]);
    assert_eq!(studio.request("POST", &(path(&held) + "/cancel"), &[], b"").status, 200);
    assert_eq!(stream.next().unwrap().name, "end");
}

pub fn studio_devices_presets_models() {
    let studio = Studio::start();
    let view = studio.get("/api/v1/studio").json();
    assert_eq!((&view["pid"], &view["home"]), (&json!(std::process::id()), &json!(studio.home.root())));
    assert_eq!((&view["upload_limit_bytes"], &view["queue_warning"]), (&json!(2u64 << 30), &json!(5)));

    let devices = studio.get("/api/v1/devices").json();
    assert_eq!((&devices["detecting"], &devices["simulated"]), (&json!(false), &json!(true)));
    let device = &devices["devices"][0];
    assert_eq!(
        (&device["memory"]["total"], &device["free_for_tasks_bytes"]),
        (&json!(12u64 << 30), &json!(12u64 << 30))
    );
    assert_eq!((&device["grants"], &device["task_id"], &device["mig"]), (&json!([]), &json!(null), &json!(null)));
    assert_eq!(devices["recommendation"], studio.get("/api/system/gpu-info").json()["recommendation"]);

    let presets = studio.get("/api/v1/presets").json();
    let names: Vec<&Value> = presets.as_array().unwrap().iter().map(|preset| &preset["name"]).collect();
    assert_eq!(names, ["safe", "balanced", "fast"]);

    let folder = studio.model(false);
    let models = studio.get("/api/v1/models").json();
    let ours = &models[0];
    assert_eq!((&ours["name"], &ours["type"], &ours["source"]), (&json!("tiny"), &json!("base"), &json!("local")));
    assert!(ours["bytes"].as_u64().unwrap() > 0, "{}", folder.display());
    assert!(models.as_array().unwrap().iter().any(|model| model["source"] == "hub"));
}
