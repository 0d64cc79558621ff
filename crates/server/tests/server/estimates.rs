use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::fixture::Studio;

/// Its shape ships with the studio; nothing is fetched for these tests. Too large for 12 GiB in 16 bits.
const SEVEN_BILLION: &str = "Qwen/Qwen2.5-7B-Instruct";

fn too_large(studio: &Studio) -> Value {
    json!({
        "model_name": SEVEN_BILLION, "dataset_file": studio.dataset(), "trainer": "peft", "method": "lora",
        "load_in_8bit": false, "gradient_checkpointing": false, "batch_size": 4, "gradient_accumulation_steps": 2,
        "loss": "hf",
    })
}

fn estimate(studio: &Studio, request: &Value) -> Value {
    let answer = studio.post("/api/v1/estimate", request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn patched(request: &Value, patch: &Value) -> Value {
    let mut request = request.clone();
    for (field, value) in patch.as_object().unwrap() {
        request[field] = value.clone();
    }
    request
}

fn codes(messages: &Value) -> Vec<&str> {
    messages.as_array().unwrap().iter().map(|message| message["code"].as_str().unwrap()).collect()
}

pub fn what_does_not_fit_is_answered_with_what_would() {
    let studio = Studio::start();
    let request = too_large(&studio);
    let answer = estimate(&studio, &request);
    assert_eq!((&answer["verdict"]["code"], &answer["trainer"]["name"]), (&json!("does_not_fit"), &json!("peft")));
    let figures = &answer["estimate"];
    let parts: u64 = figures["breakdown"].as_object().unwrap().values().map(|part| part.as_u64().unwrap()).sum();
    assert_eq!(figures["footprint_bytes"], parts, "the parts add up");
    assert!(figures["grant_bytes"].as_u64() > figures["footprint_bytes"].as_u64());
    assert_eq!(figures["basis"], "formula");
    assert_eq!(answer["largest_batch_size"], json!(null), "16 bits of 7 thousand million do not fit at all");

    let alternatives = answer["alternatives"].as_array().unwrap();
    assert!(!alternatives.is_empty());
    for alternative in alternatives {
        let taken = estimate(&studio, &patched(&request, &alternative["patch"]));
        assert_eq!(taken["estimate"], alternative["estimate"], "{alternative}");
        assert_eq!((&taken["verdict"], &taken["alternatives"]), (&alternative["verdict"], &json!([])));
        assert_eq!(taken["verdict"]["code"], "fits_now");
        assert!(taken["largest_batch_size"].as_u64() >= alternative["patch"]["batch_size"].as_u64().or(Some(4)));
    }
}

pub fn a_task_that_does_not_fit_is_taken_as_it_is_or_as_it_fits() {
    let studio = Studio::start();
    let request = too_large(&studio);
    let expected = estimate(&studio, &request);
    let submit = |fit: bool| {
        let answer = studio.post("/api/v1/tasks", &json!({"fine_tune": request, "hold": true, "fit": fit}));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    };
    let as_asked = submit(false);
    assert_eq!((&as_asked["estimate"], &as_asked["alternatives"]), (&expected["estimate"], &expected["alternatives"]));
    assert_eq!(as_asked["config"]["batch_size"], 4);
    assert!(codes(&as_asked["warnings"]).contains(&"oom-risk-high"), "{as_asked}");

    let fitted = submit(true);
    let nearest = &expected["alternatives"][0];
    assert_eq!((&fitted["estimate"], &fitted["alternatives"]), (&nearest["estimate"], &json!([])));
    for (field, value) in nearest["patch"].as_object().unwrap() {
        assert_eq!(&fitted["config"][field], value, "{field}");
    }
    let said = &fitted["warnings"][0];
    assert_eq!(said["code"], "recipe-fitted");
    assert!(said["en"].as_str().unwrap().contains(nearest["changes_en"].as_str().unwrap()));

    let hopeless = patched(&request, &json!({"model_name": "Qwen/Qwen2.5-72B-Instruct"}));
    let refusal = studio.post("/api/v1/tasks", &json!({"fine_tune": hopeless, "fit": true}));
    assert_eq!((refusal.status, refusal.json()["code"].as_str()), (422, Some("nothing-fits")));

    // The first generation's clients get their warnings and nothing they do not know.
    let old =
        studio.post("/api/finetune/create", &json!({"model_name": SEVEN_BILLION, "dataset_file": studio.dataset()}));
    assert_eq!(old.status, 200);
    assert!(old.json().get("alternatives").is_none() && old.json().get("estimate").is_none());
}

pub fn estimates_need_no_data_but_a_model() {
    let studio = Studio::start();
    let request = |field: &str, value: Value| patched(&too_large(&studio), &json!({field: value}));
    let without_data = estimate(&studio, &request("dataset_file", json!("")));
    assert!(without_data["estimate"]["grant_bytes"].is_u64());
    assert_eq!(without_data["estimate"]["total_seconds"], json!(null));
    let unknown = estimate(&studio, &request("model_name", json!("somebody/unheard-of")));
    assert_eq!((&unknown["estimate"], &unknown["verdict"]["code"]), (&json!(null), &json!("unknown")));

    for (field, value, status, says) in [
        ("model_name", json!("/nowhere"), 400, "/nowhere"),
        ("dataset_file", json!("/nowhere.json"), 400, "/nowhere.json"),
        ("objective", json!("dpo"), 400, "chosen"),
        ("num_epochs", json!(0), 422, "num_epochs"),
        ("loss", json!("magic"), 422, "chunked"),
        ("gpus", json!(0), 422, "gpus"),
    ] {
        let error = studio.post("/api/v1/estimate", &request(field, value)).error();
        assert!(error.0 == status && error.1.contains(says), "{field}: {error:?}");
    }
}

pub fn recommendations_keep_their_promise() {
    let studio = Studio::start();
    let dataset = studio.dataset();
    let answer = studio.get(&format!("/api/v1/recommendations?dataset={dataset}")).json();
    assert_eq!(answer["detecting"], false);
    let rows = answer["recommendations"].as_array().unwrap();
    let verdicts: BTreeSet<&str> = rows.iter().map(|row| row["verdict"]["code"].as_str().unwrap()).collect();
    assert!(verdicts.contains("fits_now") && verdicts.contains("does_not_fit"), "{verdicts:?}");
    let device = studio.get("/api/v1/devices").json()["devices"][0]["id"].clone();
    for row in rows {
        assert_eq!((&row["device"], row["gpus"].as_u64()), (&device, Some(1)));
        assert_eq!(row["request"].is_null(), row["verdict"]["code"] == "does_not_fit", "{row}");
        assert!(row["parameters"].as_u64().unwrap() > 0);
    }
    let fitting: Vec<&Value> = rows.iter().map(|row| &row["request"]).filter(|request| !request.is_null()).collect();
    for request in fitting.iter().take(3) {
        assert_eq!(request["dataset_file"], dataset.as_str());
        assert_eq!(estimate(&studio, request)["verdict"]["code"], "fits_now", "{request}");
    }
    assert_eq!(studio.get("/api/v1/recommendations?dataset=/nowhere.json").error().0, 400);
}

pub fn the_doctor_says_what_it_looked_at() {
    let studio = Studio::start();
    let checks = studio.get("/api/v1/gpus/doctor").json();
    let checks = checks.as_array().unwrap();
    assert!(!checks.is_empty());
    for check in checks {
        let status = check["status"].as_str().unwrap();
        assert!(["ok", "problem", "note"].contains(&status), "{check}");
        let said = |field: &str| !check[field].as_str().unwrap().is_empty();
        assert!(said("subject") && said("zh") && said("en"), "{check}");
        assert!(status != "problem" || said("next_zh") && said("next_en"), "{check}");
    }
}
