//! What went wrong elsewhere, and does not here.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    fixture::{ROWS, Studio},
    people::{self, code},
};

/// Ray: jobs without any sign-in. Where ours is open to others, nothing is submitted without one.
pub fn cve_2023_48022_jobs_without_a_sign_in() {
    let studio = people::studio(Default::default());
    let command = json!({"command": {"argv": ["touch", studio.home.root().join("owned")], "cwd": "/"}});
    for path in ["/api/v1/tasks", "/api/finetune/create"] {
        assert_eq!(code(&studio.post(path, &command)), (401, "sign-in".into()));
    }
    assert_eq!(studio.person("olga").get("/api/v1/tasks").json()["tasks"], json!([]));
}

/// Ray: a rebound name, let in because the user agent did not look like a browser's.
pub fn cve_2025_62593_a_rebound_name_with_another_user_agent() {
    let studio = Studio::start();
    let host = format!("evil.example:{}", studio.address.port());
    for agent in ["Mozilla/5.0", "curl/8.0", "python-requests/2", ""] {
        let headers =
            [("host", host.as_str()), ("user-agent", agent), ("connection", "close"), ("content-length", "0")];
        assert_eq!(studio.raw("POST", "/api/v1/tasks", &headers, b"").status, 421, "{agent:?}");
    }
}

/// Ray: the check was there for POST and PUT, and forgotten for DELETE.
pub fn cve_2026_27482_delete_is_checked_as_well() {
    let studio = Studio::start();
    studio.dataset();
    let foreign: [&[(&str, &str)]; 3] =
        [&[("origin", "https://evil.example")], &[("origin", "null")], &[("sec-fetch-site", "cross-site")]];
    for headers in foreign {
        let answer = studio.request("DELETE", "/api/v1/datasets/data.jsonl", headers, b"");
        assert_eq!(answer.status, 403, "{headers:?}");
    }
    assert!(studio.home.uploads().join("data.jsonl").exists());
}

/// MLflow: no look at Host at all. Ollama (CVE-2024-28224): the same.
pub fn cve_2025_14279_and_2024_28224_rebinding() {
    let studio = Studio::start();
    let rebound = format!("rebound.evil.example:{}", studio.address.port());
    for path in ["/", "/health", "/api/v1/tasks", "/api/finetune/models"] {
        let answer = studio.raw("GET", path, &[("host", &rebound), ("connection", "close")], b"");
        assert_eq!(code(&answer), (421, "host".into()), "{path}");
    }
}

/// MLflow and Gradio: paths that lead out of a folder.
pub fn cve_2023_1177_2025_11201_2026_28414_paths_stay_in_their_folder() {
    let studio = Studio::start();
    let secret = studio.home.root().join("secret.jsonl");
    fs::write(&secret, ROWS).unwrap();
    let traversals = [
        "..%2fsecret.jsonl",
        "%2e%2e%2fsecret.jsonl",
        "..%5csecret.jsonl",
        "%2fetc%2fpasswd",
        "C:%5cwindows%5cwin.ini",
        "..%252fsecret.jsonl",
        "secret.jsonl%00.jsonl",
        "....%2f%2fsecret.jsonl",
    ];
    for name in traversals {
        let answer = studio.delete(&format!("/api/v1/datasets/{name}"));
        assert!(matches!(answer.status, 404 | 400), "{name}: {}", answer.status);
        for rest in ["", "/log", "/download", "/metrics", "/journal"] {
            let answer = studio.get(&format!("/api/v1/tasks/{name}{rest}"));
            assert_eq!(answer.status, 404, "{name}{rest}");
        }
        // Not a file, whatever it is called: the page, or nothing.
        for path in [format!("/{name}"), format!("/assets/{name}")] {
            let answer = studio.get(&path);
            assert!(!answer.text().contains("instruction") && !answer.text().contains("root:"), "{path}");
        }
    }
    assert!(secret.exists());
    let uploaded = studio.upload("/api/v1/datasets", "../secret.jsonl", ROWS.as_bytes()).json();
    assert_eq!(uploaded["path"], json!(studio.home.uploads().join("secret.jsonl")));
}

/// MLflow: a link in an artifact folder leads out of it.
pub fn archives_hold_only_the_tasks_own_files() {
    let studio = Studio::start();
    let (model, dataset) = (studio.model(false), studio.dataset());
    let task = studio.create(&model, &dataset);
    let id = task["task_id"].as_str().unwrap();
    studio.wait_for(id, "completed");
    let folder = studio.home.tasks().join(id);
    let outside = studio.home.root().join("outside.txt");
    fs::write(&outside, "a secret outside").unwrap();
    for name in ["README.md", "tokenizer.json"] {
        std::os::unix::fs::symlink(&outside, folder.join(name)).unwrap();
    }
    fs::create_dir(folder.join("vocab.json")).unwrap();
    fs::write(folder.join("unrelated.key"), "a secret inside").unwrap();
    let archive = studio.get(&format!("/api/v1/tasks/{id}/download"));
    assert_eq!(archive.status, 200);
    let mut names = Vec::new();
    let mut content = tar::Archive::new(flate2::read::GzDecoder::new(archive.body.as_slice()));
    for entry in content.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert!(entry.header().entry_type().is_file());
        names.push(entry.path().unwrap().display().to_string());
        let mut text = Vec::new();
        entry.read_to_end(&mut text).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains("a secret"), "{names:?}");
    }
    let within = format!("{id}_finetuned_model/");
    assert!(names.iter().all(|name| name.starts_with(&within) && !name.contains("..")), "{names:?}");
    assert!(names.contains(&format!("{within}adapter_config.json")), "{names:?}");
}

/// Ollama: a model's header that says more than the file holds. The studio itself reads config.json only, and believes
/// neither; what reads the weights has a test of its own in `trainer`.
pub fn cve_2026_7482_a_models_header_is_not_believed() {
    let studio = Studio::start();
    let headers: [&[u8]; 5] = [
        &u64::MAX.to_le_bytes(),
        &[8, 0, 0, 0, 0, 0, 0, 0, b'{'],
        b"\x80\x04\x95pickle, whatever it is called",
        b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
        br#"@       {"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,18446744073709551615]}}"#,
    ];
    for (number, header) in headers.iter().enumerate() {
        let folder = studio.home.models().join(format!("bad{number}"));
        fs::create_dir_all(&folder).unwrap();
        let config =
            r#"{"architectures": ["Qwen2ForCausalLM"], "hidden_size": 18446744073709551615, "num_hidden_layers": -1}"#;
        fs::write(folder.join("config.json"), config).unwrap();
        fs::write(folder.join("model.safetensors"), header).unwrap();
        let answer = studio.post("/api/v1/estimate", &json!({"model_name": folder, "dataset_file": ""}));
        assert!(answer.status < 500, "{number}: {}", answer.text());
        assert_eq!(answer.json()["estimate"], Value::Null, "{number}: nothing is made of it: {}", answer.text());
    }
    assert_eq!(studio.get("/api/v1/models").status, 200);
    assert_eq!(studio.get("/health").status, 200);
}

/// Unsloth Studio (6294): confined so tightly that models outside of one folder could not be used. An owner names a model
/// wherever it lies; nobody else does.
pub fn unsloth_6294_owners_use_models_where_they_lie() {
    let studio = people::studio(Default::default());
    let elsewhere = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(studio.model(false).join(file), elsewhere.path().join(file)).unwrap();
    }
    let (olga, ana) = (studio.person("olga"), studio.person("ana"));
    let submit =
        |person: &people::Person<'_>| person.submit(elsewhere.path().to_str().unwrap(), &person.dataset(), true);
    assert_eq!(submit(&olga).status, 201);
    assert_eq!(code(&submit(&ana)), (403, "model-not-yours".into()));
}

/// Ollama (pull) and Gradio (CVE-2026-28416): the server fetches what somebody names.
pub fn cve_2026_5530_and_2026_28416_nothing_is_fetched_from_where_a_request_says() {
    let studio = Studio::start();
    let bait = TcpListener::bind("127.0.0.1:0").unwrap();
    bait.set_nonblocking(true).unwrap();
    let url = format!("http://{}/latest/meta-data", bait.local_addr().unwrap());
    let dataset = studio.dataset();
    for model in [url.clone(), url.replace("http://", ""), format!("//{}", &url[7..]), format!("file://{dataset}")] {
        let answer =
            studio.post("/api/v1/tasks", &json!({"fine_tune": {"model_name": model, "dataset_file": dataset}}));
        assert!(matches!(answer.status, 400 | 422), "{model}: {}", answer.text());
        let answer = studio.post("/api/v1/tasks", &json!({"fine_tune": {"model_name": "m/m", "dataset_file": model}}));
        assert!(matches!(answer.status, 400 | 422), "{model}: {}", answer.text());
    }
    let encoded = url.replace(':', "%3A").replace('/', "%2F");
    studio.post(&format!("/api/finetune/switch-model?model_path={encoded}"), &json!({}));
    studio.get(&format!("/proxy={url}"));
    studio.get(&format!("/api/v1/recommendations?dataset={encoded}"));
    let target = format!("{url}/");
    studio.raw("GET", &target, &[("host", &studio.host()), ("connection", "close")], b"");
    assert_eq!(bait.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody came");
}

/// LLaMA-Factory: `vhead_file` named a pickle, and loading it ran what was in it.
pub fn cve_2025_53002_no_request_names_a_pickle() {
    let studio = Studio::start();
    let dataset = studio.dataset();
    let fine_tune = json!({"model_name": studio.model(false), "dataset_file": dataset, "vhead_file": "/tmp/evil.bin"});
    assert_eq!(code(&studio.post("/api/v1/tasks", &json!({"fine_tune": fine_tune}))), (422, "invalid-request".into()));
    let folder = studio.home.models().join("pickled");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.json"), r#"{"architectures": ["Qwen2ForCausalLM"]}"#).unwrap();
    for name in ["pytorch_model.bin", "model.pt", "model.ckpt"] {
        fs::write(folder.join(name), b"\x80\x04\x95").unwrap();
    }
    let fine_tune = json!({"fine_tune": {"model_name": folder, "dataset_file": dataset}});
    assert_eq!(code(&studio.post("/api/v1/tasks", &fine_tune)), (400, "model-without-weights".into()));
}

/// Hugging Face's Trainer: `rng_state.pth` of a checkpoint was unpickled; torch before 2.6 (CVE-2025-32434) did so even
/// when told not to. Our Python trainer unpickles nothing, runs no code of models, and has a later torch.
pub fn cve_2026_1839_and_2025_32434_checkpoints_run_no_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../trainers/peft");
    let mut sources = 0;
    for path in python(&root.join("sage_peft")) {
        let text = fs::read_to_string(&path).unwrap();
        for word in ["torch.load", "pickle", "rng_state", "trust_remote_code=True", "eval(", "exec(", "shell=True"] {
            let called = text.match_indices(word).any(|(at, _)| {
                // Of another word, such as `model.eval(`.
                !text[..at].ends_with(|letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '.'))
            });
            assert!(!called, "{word} in {}", path.display());
        }
        sources += 1;
    }
    assert!(sources > 5, "{sources}");
    let model = fs::read_to_string(root.join("sage_peft/model.py")).unwrap();
    assert!(model.contains("use_safetensors=True") && model.contains("trust_remote_code=False"));
    let locked = fs::read_to_string(root.join("requirements.lock")).unwrap();
    let torch = locked.lines().find_map(|line| line.strip_prefix("torch==")).expect("torch is locked");
    let mut version = torch.split(['.', '+', ' ']).map(|part| part.parse::<u32>().unwrap_or(0));
    assert!((version.next(), version.next()) >= (Some(2), Some(6)), "torch {torch}");
}

fn python(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|ending| ending == "py")).collect()
}

/// Unsloth Studio: the command line sent its key to whatever answered on the port.
pub fn keys_go_only_to_the_studio_that_made_them() {
    let folder = tempfile::tempdir().unwrap();
    let home = domain::Home::new(folder.path());
    let bait = TcpListener::bind("127.0.0.1:0").unwrap();
    bait.set_nonblocking(true).unwrap();
    let mut process = client::ProcessId::current().unwrap();
    // A studio that has ended: its pid is somebody else's now.
    process.start_time += 1;
    let address = format!("http://{}", bait.local_addr().unwrap());
    client::Endpoint { process, address, page: None, token: Some("key".into()) }.write(&home).unwrap();
    assert!(matches!(client::Client::connect(&home), Err(client::ClientError::NotRunning { .. })));
    assert_eq!(bait.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// Nesting, lines and numbers without end are answered, and nothing falls over.
pub fn parsers_have_limits() {
    let studio = Studio::start();
    let deep = |open: &str, close: &str| open.repeat(100_000) + &close.repeat(100_000);
    for body in [deep("[", "]"), deep("{\"a\":", "}"), "9".repeat(900_000), format!("\"{}", "\\u".repeat(1000))] {
        for path in ["/api/v1/tasks", "/api/finetune/create", "/api/v1/estimate", "/api/auth/register"] {
            let headers = [("content-type", "application/json")];
            let answer = studio.request("POST", path, &headers, body.as_bytes());
            assert!(matches!(answer.status, 400..=422), "{path}: {}", answer.status);
        }
        let data = format!("{{\"instruction\": {body}, \"output\": \"x\"}}\n");
        let answer = studio.upload("/api/v1/datasets", "deep.jsonl", data.as_bytes());
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    let line = format!("{{\"instruction\": \"{}\", \"output\": \"x\"}}\n", "x".repeat(5 << 20));
    assert_eq!(studio.upload("/api/v1/datasets", "long.jsonl", line.as_bytes()).status, 400);
    // Not HTTP.
    for garbage in [&b"\0\xff\x16\x03\x01"[..], b"GET / HTTP/9.9\r\n\r\n", &[b'A'; 1 << 20]] {
        let mut stream = std::net::TcpStream::connect(studio.address).unwrap();
        stream.set_read_timeout(Some(crate::fixture::DEADLINE)).unwrap();
        let _ = stream.write_all(garbage);
        let _ = stream.write_all(b"\r\n\r\n");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(studio.get("/health").status, 200);
    assert_eq!(studio.get("/api/v1/datasets").json(), Value::Array(Vec::new()));
}
