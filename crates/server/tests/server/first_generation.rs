//! Every route of the first generation, to the letter; the snapshots are the contract.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fixture::{Answer, Studio, until};

/// What an answer is, without what differs from run to run.
pub fn shape(studio: &Studio, answer: &Answer) -> Value {
    let mut body = answer.json();
    tidy(&mut body, studio.home.root());
    json!({"status": answer.status, "body": body})
}

fn tidy(value: &mut Value, home: &Path) {
    match value {
        Value::Object(object) => {
            if object.get("process_id").is_some_and(Value::is_number) {
                object["process_id"] = json!("[pid]");
            }
            // The plan may come a moment after the submission, and then a line says so.
            if let Some(Value::Array(lines)) = object.get_mut("logs") {
                lines.retain(|line| !line.as_str().is_some_and(|line| line.ends_with("马上安排")));
            }
            object.values_mut().for_each(|value| tidy(value, home));
        }
        Value::Array(array) => array.iter_mut().for_each(|value| tidy(value, home)),
        Value::String(text) => *text = tidy_text(text, home),
        _ => {}
    }
}

fn tidy_text(text: &str, home: &Path) -> String {
    if text.parse::<Timestamp>().is_ok() {
        return "[time]".into();
    }
    let mut text = text.replace(home.to_str().unwrap(), "[home]");
    let bytes = text.as_bytes();
    if bytes.len() > 10 && bytes[0] == b'[' && bytes[3] == b':' && bytes[9] == b']' {
        text.replace_range(1..9, "HH:MM:SS");
    }
    let mut parts = text.split("finetune_");
    let mut tidied = parts.next().unwrap().to_owned();
    for part in parts {
        tidied += "finetune_";
        let seconds = part.split_once('_').map_or("", |(seconds, _)| seconds);
        let is_id = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
        if is_id {
            tidied += "[seconds]";
        }
        tidied += if is_id { &part[seconds.len()..] } else { part };
    }
    tidied
}

fn get(studio: &Studio, path: &str) -> Value {
    shape(studio, &studio.get(path))
}

fn id(task: &Value) -> &str {
    task["task_id"].as_str().unwrap()
}

/// The task object once its status is this.
fn when(studio: &Studio, id: &str, status: &str) -> Value {
    until(&format!("{id} is {status}"), || {
        let task = studio.get(&format!("/api/finetune/tasks/{id}")).json();
        (task["status"] == status).then_some(task)
    })
}

/// Until everything is read that a held training writes.
fn until_it_stands_still(studio: &Studio, id: &str) {
    until("the training waits", || {
        let task = studio.get(&format!("/api/finetune/tasks/{id}")).json();
        let lines = task["logs"].to_string().contains("训练开始");
        (lines && task["status"] == "training" && task["loss"] == 2.5).then_some(())
    });
}

pub fn gpu_info_and_models() {
    let studio = Studio::start();
    studio.model(false);
    insta::assert_json_snapshot!("gpu_info", get(&studio, "/api/system/gpu-info"));
    insta::assert_json_snapshot!("models", get(&studio, "/api/finetune/models"));
    insta::assert_json_snapshot!("base_models", get(&studio, "/api/finetune/models/base"));
    insta::assert_json_snapshot!("current_model", get(&studio, "/api/finetune/current-model"));
    insta::assert_json_snapshot!("health", get(&studio, "/health"));
    let switch = studio.post("/api/finetune/switch-model?model_path=%2Fmodels%2Fmine", &json!({}));
    insta::assert_json_snapshot!("switch_model", shape(&studio, &switch));
    assert_eq!(studio.post("/api/finetune/switch-model", &json!({})).error().0, 422);
    let docs = studio.post("/api/finetune/prepare-sage-docs", &json!({}));
    assert_eq!(docs.error().0, 502, "nothing listens there");
}

pub fn a_task_from_create_to_download() {
    let studio = Studio::start();
    let model = studio.model(true);
    let upload = studio.upload("/api/finetune/upload-dataset", "data.jsonl", crate::fixture::ROWS.as_bytes());
    insta::assert_json_snapshot!("upload_dataset", shape(&studio, &upload));
    let dataset = upload.json()["file_path"].as_str().unwrap().to_owned();

    let body = json!({"model_name": model, "dataset_file": dataset});
    let created = studio.post("/api/finetune/create", &body);
    let task = created.json();
    let path = format!("/api/finetune/tasks/{}", id(&task));
    let use_it = || studio.post("/api/finetune/use-as-backend", &json!({"task_id": id(&task)}));
    assert_eq!(task["output_dir"], json!(studio.home.tasks().join(id(&task))));
    for field in ["loss", "progress", "current_epoch", "total_epochs"] {
        assert!(task[field].is_number(), "{field}");
    }

    until_it_stands_still(&studio, id(&task));
    let running = get(&studio, &path);
    assert_eq!(running["body"]["process_id"], "[pid]");
    insta::assert_json_snapshot!("task_running", running);
    insta::assert_json_snapshot!("delete_running", shape(&studio, &studio.delete(&path)));
    insta::assert_json_snapshot!("download_running", get(&studio, &format!("{path}/download")));
    assert_eq!(use_it().error().0, 400);

    std::fs::remove_file(model.join("hold")).unwrap();
    when(&studio, id(&task), "completed");
    insta::assert_json_snapshot!("tasks", get(&studio, "/api/finetune/tasks"));
    let cancel = studio.post(&format!("{path}/cancel"), &json!({}));
    insta::assert_json_snapshot!("cancel_ended", shape(&studio, &cancel));
    insta::assert_json_snapshot!("use_as_backend", shape(&studio, &use_it()));
    let models = studio.get("/api/finetune/models").json();
    let tuned = models.as_array().unwrap().iter().find(|model| model["type"] == "finetuned").unwrap();
    assert_eq!((&tuned["task_id"], &tuned["name"]), (&task["task_id"], &task["output_dir"]));

    let archive = studio.get(&format!("{path}/download"));
    assert_eq!((archive.status, archive.header("content-type")), (200, Some("application/gzip")));
    let name = format!("attachment; filename=\"{}_finetuned_model.tar.gz\"", id(&task));
    assert_eq!(archive.header("content-disposition"), Some(name.as_str()));
    assert_eq!(archive.body[..2], [0x1f, 0x8b]);

    insta::assert_json_snapshot!("delete", shape(&studio, &studio.delete(&path)));
    insta::assert_json_snapshot!("not_found", get(&studio, &path));
    assert_eq!(studio.get("/api/finetune/tasks").json(), json!([]));
}

pub fn waiting_tasks_and_the_queue_warning() {
    let studio = Studio::start();
    let (model, dataset) = (studio.model(true), studio.dataset());
    let first = studio.create(&model, &dataset);
    until_it_stands_still(&studio, id(&first));
    let tasks: Vec<Value> = (0..6).map(|_| studio.create(&model, &dataset)).collect();
    let shortest = &tasks[0];
    assert_eq!(shortest["status"], "queued");
    let line = format!("任务已加入队列，等待 GPU 资源释放（当前运行: {}）", id(&first));
    assert!(shortest["logs"][0].as_str().unwrap().ends_with(&line), "{}", shortest["logs"]);
    let warned = |task: &Value| task["warnings"].to_string().contains("队列");
    let answers: Vec<bool> = tasks.iter().map(warned).collect();
    assert_eq!(answers, [false, false, false, false, false, true], "more than five wait");

    let listed = studio.get("/api/finetune/tasks").json();
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(id).collect();
    let newest_first: Vec<&str> = tasks.iter().rev().chain([&first]).map(id).collect();
    assert_eq!(ids, newest_first);

    let cancel = studio.post(&format!("/api/finetune/tasks/{}/cancel", id(shortest)), &json!({}));
    insta::assert_json_snapshot!("cancel_queued", shape(&studio, &cancel));
    insta::assert_json_snapshot!("task_cancelled", get(&studio, &format!("/api/finetune/tasks/{}", id(shortest))));
    let each = || {
        let listed = studio.get("/api/finetune/tasks").json();
        for task in listed.as_array().unwrap() {
            assert_eq!(*task, studio.get(&format!("/api/finetune/tasks/{}", id(task))).json());
        }
        listed
    };
    // The list is kept up to date through every move after.
    each();
    std::fs::remove_file(model.join("hold")).unwrap();
    for task in &tasks[1..] {
        when(&studio, id(task), "completed");
        studio.get("/api/finetune/tasks");
    }
    assert_eq!(each().as_array().unwrap().len(), 7);
    assert_eq!(studio.delete(&format!("/api/finetune/tasks/{}", id(&first))).status, 200);
    assert_eq!(each().as_array().unwrap().len(), 6);
    assert_eq!(when(&studio, id(shortest), "cancelled")["status"], "cancelled", "and stays so");
}

pub fn refusals() {
    let studio = Studio::start();
    let (model, dataset) = (studio.model(false), studio.dataset());
    let create = |changes: Value| {
        let mut body = json!({"model_name": model, "dataset_file": dataset});
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        shape(&studio, &studio.post("/api/finetune/create", &body))
    };
    let refused = json!({
        "no such data set": create(json!({"dataset_file": "/nowhere/data.json"})),
        "a relative path": create(json!({"dataset_file": "some/data.json"})),
        "no such model folder": create(json!({"model_name": "/nowhere/model"})),
        "a folder that is no model": create(json!({"model_name": "/"})),
        "an impossible figure": create(json!({"num_epochs": 0})),
        "a wrong type": create(json!({"num_epochs": "three"})),
    });
    insta::assert_json_snapshot!("refusals", refused);
    // A model to be fetched later, and fields nobody knows.
    let hub = create(json!({"model_name": "Qwen/Qwen2.5-0.5B-Instruct", "unknown": 1, "num_epochs": "2"}));
    assert_eq!((&hub["status"], &hub["body"]["config"]["num_epochs"]), (&json!(200), &json!(2)));

    let json = [("content-type", "application/json")];
    assert_eq!(studio.request("POST", "/api/finetune/create", &json, b"{\"model").error().0, 422);
    assert_eq!(studio.request("POST", "/api/finetune/create", &json, b"[]").error().0, 422);
    assert_eq!(studio.request("POST", "/api/finetune/create", &[], b"{}").error().0, 415);
    for path in ["finetune_1_1", "finetune_1_01", "nonsense", "%2e%2e", "finetune_1_1%2f.."] {
        for answer in [
            studio.get(&format!("/api/finetune/tasks/{path}")),
            studio.delete(&format!("/api/finetune/tasks/{path}")),
            studio.get(&format!("/api/finetune/tasks/{path}/download")),
            studio.post(&format!("/api/finetune/tasks/{path}/cancel"), &json!({})),
            studio.post("/api/finetune/use-as-backend", &json!({"task_id": path})),
        ] {
            assert_eq!(answer.error(), (404, "Task not found".into()), "{path}");
        }
    }
}

pub fn accounts() {
    let studio = Studio::start();
    assert_eq!(studio.get("/api/auth/me").error().0, 401);
    let guest = studio.post("/api/auth/guest", &Value::Null);
    let token = guest.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(guest.json(), json!({"access_token": token, "token_type": "bearer"}));
    let cookie = guest.header("set-cookie").unwrap();
    assert_eq!(cookie, format!("sage_session={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"));
    let bearer = format!("Bearer {token}");
    let me = |header: (&str, &str)| shape(&studio, &studio.request("GET", "/api/auth/me", &[header], b""));
    insta::assert_json_snapshot!("me_guest", me(("authorization", &bearer)));
    assert_eq!(me(("cookie", &cookie[..cookie.find(';').unwrap()])), me(("authorization", &bearer)));

    let register = |name: &str, password: &str| {
        let body = json!({"username": name, "password": password});
        shape(&studio, &studio.post("/api/auth/register", &body))
    };
    insta::assert_json_snapshot!("register", register("ana", "secret"));
    assert_eq!(register("ana", "secret2")["status"], 400, "taken");
    assert_eq!(register("guest", "secret2")["status"], 400);
    assert_eq!(register("ben", "short")["body"]["detail"], "密码至少需要 6 个字符");
    let login = |form: &str| {
        let form_type = [("content-type", "application/x-www-form-urlencoded")];
        studio.request("POST", "/api/auth/login", &form_type, form.as_bytes())
    };
    for wrong in ["username=ana&password=wrong!", "username=nobody&password=secret", "username=guest&password="] {
        let answer = login(wrong);
        assert_eq!(answer.error(), (401, "用户名或密码错误".into()), "{wrong}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let signed_in = login("username=ana&password=secret&grant_type=password").json();
    let bearer = format!("Bearer {}", signed_in["access_token"].as_str().unwrap());
    let ana = me(("authorization", &bearer));
    assert_eq!((&ana["body"]["username"], &ana["body"]["is_guest"]), (&json!("ana"), &json!(false)));
    let body = br#"{"command": {"argv": ["true"], "cwd": "/"}, "hold": true}"#;
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    assert_eq!(studio.request("POST", "/api/v1/tasks", &headers, body).json()["owner"], "ana");
    let out = studio.request("POST", "/api/auth/logout", &[("authorization", &bearer)], b"");
    assert!(out.header("set-cookie").unwrap().starts_with("sage_session=; "));
    assert_eq!(me(("authorization", &bearer))["status"], 401);
}
