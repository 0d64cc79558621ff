use client::testing::Studio;
use domain::Home;
use serde_json::json;

use super::{Figure, Sample, http::Connection, options, seed};

const REQUESTS: usize = 2000;
const CREATES: usize = 300;

/// The first generation's routes on one connection that is kept open.
pub fn measure() -> Vec<Figure> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    seed::completed(&Home::new(folder.path()), 1000, 50);
    let studio = Studio::start_in(folder, options());
    seed::blocker(&studio);
    let mut connection = Connection::open(&studio.address());
    let mut times = |count: usize, method: &str, path: &str, body: &str| {
        for _ in 0..count / 20 {
            connection.time(method, path, body);
        }
        Sample::new((0..count).map(|_| connection.time(method, path, body).0).collect())
    };

    let gpu = times(REQUESTS, "GET", "/api/system/gpu-info", "");
    let list = times(REQUESTS / 10, "GET", "/api/finetune/tasks", "");

    let model = studio.home().root().join("tiny");
    let made = studio.command(["model", "make-tiny", &model.display().to_string()]).output().expect("sage can be run");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let rows: String = (0..200).map(|n| format!("{{\"instruction\": \"Say {n}\", \"output\": \"{n}\"}}\n")).collect();
    let data = studio.client().paste_dataset(&api_types::PasteDataset { filename: "rows.jsonl".into(), content: rows });
    let data = data.expect("the data set is accepted").path;
    let body = json!({ "model_name": model, "dataset_file": data }).to_string();
    let create = times(CREATES, "POST", "/api/finetune/create", &body);

    vec![
        Figure::new("GET /api/system/gpu-info, p50", gpu.p50(), "ms").at_most(0.15).note(gpu.note()),
        Figure::new("GET /api/finetune/tasks, 1,000 tasks of 50 log lines, p50", list.p50(), "ms")
            .at_most(8.0)
            .note(list.note()),
        Figure::new("POST /api/finetune/create, the same store, p50", create.p50(), "ms")
            .at_most(3.0)
            .note(create.note()),
    ]
}
