use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Answer, Request, Server};
use recipes::hub::{FetchProgress, HubError, HubKind, HubOptions, fetch};
use sha2::Digest;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_verysecret";
static GO_ON: AtomicBool = AtomicBool::new(false);

fn weights() -> Vec<u8> {
    (0..500_000u32).flat_map(u32::to_le_bytes).collect()
}

fn sha256(content: &[u8]) -> String {
    sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn git_blob(content: &[u8]) -> String {
    let hash = sha1::Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(content).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

type Files = BTreeMap<&'static str, Vec<u8>>;

fn model() -> Files {
    let small = |text: &str| text.as_bytes().to_vec();
    BTreeMap::from([
        ("config.json", small(r#"{"architectures":["Qwen2ForCausalLM"]}"#)),
        ("tokenizer.json", small("{}")),
        ("model.safetensors", weights()),
        ("pytorch_model.bin", small("not wanted")),
        ("README.md", small("not wanted")),
    ])
}

/// What Hugging Face answers for the lists; `None` for the files themselves.
fn lists(files: &Files, request: &Request) -> Option<Answer> {
    if request.path == "/api/models/org/model/revision/main" {
        return Some(Answer::ok(format!(r#"{{"sha":"{COMMIT}"}}"#)));
    }
    if request.path != format!("/api/models/org/model/tree/{COMMIT}") {
        return None;
    }
    let entry = |(name, content): (&&str, &Vec<u8>)| {
        let (size, blob) = (content.len(), git_blob(content));
        let lfs = match name.ends_with(".safetensors") {
            true => format!(r#","lfs":{{"oid":"{}","size":{size}}}"#, sha256(content)),
            false => String::new(),
        };
        format!(r#"{{"type":"file","path":"{name}","size":{size},"oid":"{blob}"{lfs}}}"#)
    };
    let entries: Vec<String> = files.iter().map(entry).collect();
    Some(Answer::ok(format!(r#"[{{"type":"directory","path":"onnx"}},{}]"#, entries.join(","))))
}

/// A file by its address, whole or in part.
fn file(files: &Files, request: &Request) -> Answer {
    let name = request.path.strip_prefix(&format!("/org/model/resolve/{COMMIT}/"));
    match name.and_then(|name| files.get(name)) {
        Some(content) => Answer::content(request, content),
        None => Answer::status(404),
    }
}

struct Fixture {
    temp: tempfile::TempDir,
    options: HubOptions,
}

impl Fixture {
    fn new(server: &Server) -> Fixture {
        let temp = tempfile::tempdir().unwrap();
        let options = HubOptions {
            kind: HubKind::HuggingFace,
            endpoint: server.address.clone(),
            token: None,
            offline: false,
            id: "org/model".into(),
            revision: "main".into(),
            dest: temp.path().join("models/org--model"),
            retry_pause: Duration::from_millis(1),
        };
        Fixture { temp, options }
    }

    fn fetch(&self) -> Result<PathBuf, HubError> {
        fetch(&self.options, &mut |_| (), &GO_ON)
    }

    #[track_caller]
    fn assert_complete(&self, folder: &std::path::Path) {
        assert_eq!(folder, self.options.dest);
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = files.collect();
        files.sort();
        assert_eq!(files, ["config.json", "model.safetensors", "tokenizer.json"]);
        assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
        assert!(!self.temp.path().join("models/.fetch/org--model").exists());
    }
}

#[test]
fn a_model_is_fetched_once_with_progress_and_only_what_is_needed() {
    let files = model();
    let server = Server::start(move |request| lists(&files, request).unwrap_or_else(|| file(&files, request)));
    let fixture = Fixture::new(&server);
    let mut reports: Vec<FetchProgress> = Vec::new();
    let folder = fetch(&fixture.options, &mut |report| reports.push(report), &GO_ON).unwrap();
    fixture.assert_complete(&folder);

    let total = 38 + 2 + 2_000_000;
    assert!(reports.iter().all(|report| report.total_bytes == Some(total)), "{reports:?}");
    assert!(reports.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes), "{reports:?}");
    let last = reports.last().unwrap();
    assert_eq!((last.bytes, last.file.as_str()), (total, "model.safetensors"));

    assert_eq!(server.requests().len(), 5, "two lists and three files");
    fixture.fetch().unwrap();
    assert_eq!(server.requests().len(), 0, "what is complete is not asked for again");
}

#[test]
fn a_broken_connection_is_gone_on_from() {
    let files = model();
    let server = Server::start(move |request| {
        let answer = lists(&files, request).unwrap_or_else(|| file(&files, request));
        let break_after = request.path.ends_with("model.safetensors").then_some(700_000);
        Answer { break_after, ..answer }
    });
    let fixture = Fixture::new(&server);
    fixture.assert_complete(&fixture.fetch().unwrap());
    let ranges: Vec<_> =
        server.requests().iter().filter_map(|request| request.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, ["bytes=700000-", "bytes=1400000-"], "nothing is fetched twice");
}

#[test]
fn a_later_fetch_goes_on_where_an_earlier_one_ended() {
    let files = model();
    let healthy = Arc::new(AtomicBool::new(false));
    let is_healthy = healthy.clone();
    let server = Server::start(move |request| {
        if let Some(answer) = lists(&files, request) {
            return answer;
        }
        let answer = file(&files, request);
        match request.path.ends_with("model.safetensors") && !is_healthy.load(Ordering::SeqCst) {
            // Once some of it, then nothing any more.
            true if request.header("range").is_none() => Answer { break_after: Some(1_000_000), ..answer },
            true => Answer { break_after: Some(0), ..answer },
            false => answer,
        }
    });
    let fixture = Fixture::new(&server);
    let error = fixture.fetch().unwrap_err();
    assert_eq!(error.code(), "hub-broken-off", "{error}");
    assert!(!fixture.options.dest.exists(), "no half a model");

    healthy.store(true, Ordering::SeqCst);
    server.requests();
    let mut first = None;
    let folder = fetch(&fixture.options, &mut |report| first = first.or(Some(report.bytes)), &GO_ON).unwrap();
    fixture.assert_complete(&folder);
    assert_eq!(first, Some(1_000_000 + 38 + 2), "what is here already counts from the start");
    let requests = server.requests();
    let files: Vec<_> = requests.iter().filter(|request| request.path.contains("/resolve/")).collect();
    assert_eq!(files.len(), 1, "small files are not fetched again");
    assert_eq!(files[0].header("range"), Some("bytes=1000000-"));
}

#[test]
fn a_server_that_ignores_ranges_starts_the_file_over() {
    let files = model();
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        if let Some(answer) = lists(&files, request) {
            return answer;
        }
        let whole = Answer::ok(files[request.path.rsplit('/').next().unwrap()].clone());
        let breaks = request.path.ends_with("model.safetensors") && tries.fetch_add(1, Ordering::SeqCst) == 0;
        Answer { break_after: breaks.then_some(999), ..whole }
    });
    let fixture = Fixture::new(&server);
    fixture.assert_complete(&fixture.fetch().unwrap());
}

#[test]
fn content_that_does_not_match_its_hash_is_never_used() {
    for name in ["model.safetensors", "tokenizer.json"] {
        let files = model();
        let server = Server::start(move |request| {
            let mut wrong = files.clone();
            wrong.get_mut(name).unwrap()[0] ^= 1;
            lists(&files, request).unwrap_or_else(|| file(&wrong, request))
        });
        let fixture = Fixture::new(&server);
        let error = fixture.fetch().unwrap_err();
        assert!(matches!(&error, HubError::Corrupt { file } if file == name), "{error}");
        assert!(!fixture.options.dest.exists());
        let fetched = server.requests().iter().filter(|request| request.path.ends_with(name)).count();
        assert_eq!(fetched, 2, "one new try, in case it was the way");
    }
}

#[test]
fn a_file_corrupted_on_the_way_is_fetched_again() {
    let files = model();
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let first = request.path.ends_with(".safetensors") && tries.fetch_add(1, Ordering::SeqCst) == 0;
        let mut answer = lists(&files, request).unwrap_or_else(|| file(&files, request));
        if first {
            answer.body[5] ^= 1;
        }
        answer
    });
    let fixture = Fixture::new(&server);
    fixture.assert_complete(&fixture.fetch().unwrap());
}

#[test]
fn refusals_say_what_to_do() {
    type Refusal = (u16, Option<&'static str>, bool, &'static str, &'static str);
    let refusals: [Refusal; 6] = [
        (404, None, false, "hub-model-not-found", "Check the spelling"),
        (401, Some("RepoNotFound"), false, "hub-model-not-found", "Check the spelling"),
        (404, Some("RevisionNotFound"), false, "hub-revision-not-found", "Use a branch"),
        (401, Some("GatedRepo"), false, "hub-token-missing", "set HF_TOKEN"),
        (403, Some("GatedRepo"), true, "hub-token-refused", "Accept the model's terms"),
        (418, None, false, "hub-unexpected-answer", "Try again later"),
    ];
    for (status, code, with_token, expected, advice) in refusals {
        let server = Server::start(move |_| {
            let headers = code.map(|code| ("x-error-code", code.to_owned())).into_iter().collect();
            Answer { headers, ..Answer::status(status) }
        });
        let mut fixture = Fixture::new(&server);
        fixture.options.token = with_token.then(|| TOKEN.into());
        let error = fixture.fetch().unwrap_err();
        assert_eq!(error.code(), expected);
        assert!(error.to_string().contains(advice), "{error}");
        assert!(!format!("{error} {error:?}").contains(TOKEN));
        assert_eq!(server.requests().len(), 1, "a refusal is final");
    }
}

#[test]
fn gated_files_are_refused_although_their_list_is_public() {
    let files = model();
    let server = Server::start(move |request| lists(&files, request).unwrap_or_else(|| Answer::status(401)));
    let fixture = Fixture::new(&server);
    assert_eq!(fixture.fetch().unwrap_err().code(), "hub-token-missing");
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let files = Arc::new(model());
    let served = files.clone();
    let storage = Server::start(move |request| Answer::content(request, &served["model.safetensors"]));
    let elsewhere = storage.address.clone();
    let server = Server::start(move |request| {
        if let Some(answer) = lists(&files, request) {
            return answer;
        }
        if request.path.ends_with(".safetensors") {
            return Answer::redirect(format!("{elsewhere}/blob?signature=signed"));
        }
        match request.path.strip_prefix("/moved") {
            Some(_) => Answer::content(request, &files[request.path.rsplit('/').next().unwrap()]),
            None => Answer::redirect(format!("/moved{}", request.path)),
        }
    });
    let mut fixture = Fixture::new(&server);
    fixture.options.token = Some(TOKEN.into());
    fixture.assert_complete(&fixture.fetch().unwrap());
    let bearer = format!("Bearer {TOKEN}");
    for request in server.requests() {
        assert_eq!(request.header("authorization"), Some(bearer.as_str()), "{}", request.path);
    }
    let requests = storage.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("authorization"), None);
}

#[test]
fn trouble_on_the_way_is_tried_again_and_then_told_without_secrets() {
    let files = model();
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |request| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::status(503),
        1 => Answer { headers: vec![("retry-after", "0".into())], ..Answer::status(429) },
        _ => lists(&files, request).unwrap_or_else(|| file(&files, request)),
    });
    let fixture = Fixture::new(&server);
    fixture.assert_complete(&fixture.fetch().unwrap());

    let files = model();
    // A port on which nobody listens.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::start(move |request| {
        let redirect = || Answer::redirect(format!("http://{dead}/blob?signature=signed"));
        lists(&files, request).unwrap_or_else(redirect)
    });
    let mut fixture = Fixture::new(&server);
    let error = fixture.fetch().unwrap_err();
    assert_eq!(error.code(), "hub-broken-off");
    assert!(!format!("{error:?} {error}").contains("signed"), "a signed address is a secret: {error}");

    fixture.options.endpoint = format!("http://{dead}");
    let error = fixture.fetch().unwrap_err();
    assert_eq!(error.code(), "hub-unreachable");
    assert!(error.to_string().contains("HF_ENDPOINT=https://hf-mirror.com"), "{error}");
}

#[test]
fn offline_nothing_is_asked() {
    let server = Server::start(|_| Answer::status(500));
    let mut fixture = Fixture::new(&server);
    fixture.options.offline = true;
    let error = fixture.fetch().unwrap_err();
    assert_eq!(error.code(), "hub-offline");
    assert!(error.to_string().contains("HF_HUB_OFFLINE"));
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn what_is_no_model_is_refused_before_anything_is_fetched() {
    for (missing, expected) in [("config.json", "hub-not-a-model"), ("model.safetensors", "hub-no-weights")] {
        let mut files = model();
        files.remove(missing);
        let server = Server::start(move |request| lists(&files, request).unwrap_or_else(|| Answer::status(500)));
        assert_eq!(Fixture::new(&server).fetch().unwrap_err().code(), expected);
    }
    let server = Server::start(|_| Answer::ok("<html>a sign-in page</html>"));
    assert_eq!(Fixture::new(&server).fetch().unwrap_err().code(), "hub-unexpected-answer");
    let mut fixture = Fixture::new(&server);
    fixture.options.id = "../../etc".into();
    assert_eq!(fixture.fetch().unwrap_err().code(), "hub-bad-id");
}

#[test]
fn a_model_larger_than_the_disk_is_refused_at_once() {
    let huge = r#"{"type":"file","path":"model.safetensors","size":5,"oid":"x","lfs":{"size":4611686018427387904}}"#;
    let config = r#"{"type":"file","path":"config.json","size":2,"oid":"x"}"#;
    let server = Server::start(move |request| match request.path.contains("/tree/") {
        true => Answer::ok(format!("[{huge},{config}]")),
        false => Answer::ok(format!(r#"{{"sha":"{COMMIT}"}}"#)),
    });
    let error = Fixture::new(&server).fetch().unwrap_err();
    assert_eq!(error.code(), "disk-full");
    assert!(error.to_string().contains("4294967296.0 GiB needed"), "{error}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_fetch_can_be_stopped_while_it_waits() {
    let server = Server::start(|_| Answer::status(503));
    let mut fixture = Fixture::new(&server);
    fixture.options.retry_pause = Duration::from_secs(3600);
    let stop = Arc::new(AtomicBool::new(false));
    let (options, flag) = (fixture.options.clone(), stop.clone());
    let fetching = std::thread::spawn(move || fetch(&options, &mut |_| (), &flag));
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.requests().is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    stop.store(true, Ordering::SeqCst);
    assert!(matches!(fetching.join().unwrap(), Err(HubError::Stopped)));
}

#[test]
fn two_fetches_of_one_model_are_one() {
    let files = model();
    let server = Server::start(move |request| lists(&files, request).unwrap_or_else(|| file(&files, request)));
    let fixture = Fixture::new(&server);
    std::thread::scope(|scope| {
        let fetches = [scope.spawn(|| fixture.fetch()), scope.spawn(|| fixture.fetch())];
        for fetched in fetches {
            assert_eq!(fetched.join().unwrap().unwrap(), fixture.options.dest);
        }
    });
    fixture.assert_complete(&fixture.options.dest);
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn sharded_models_and_model_scope_work_too() {
    let small = |text: &str| text.as_bytes().to_vec();
    let index = r#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let files: Files = BTreeMap::from([
        ("config.json", small("{}")),
        ("model.safetensors.index.json", small(index)),
        ("model-00001-of-00002.safetensors", vec![1; 1000]),
        ("model-00002-of-00002.safetensors", vec![2; 3000]),
        ("consolidated.safetensors", vec![3; 9000]),
    ]);
    let server = Server::start(move |request| {
        let base = "/api/v1/models/org/model/repo";
        if request.path == format!("{base}/files?Revision=master&Recursive=false") {
            let entry = |(name, content): (&&str, &Vec<u8>)| {
                let (size, hash) = (content.len(), sha256(content));
                format!(r#"{{"Name":"{name}","Path":"{name}","Size":{size},"Sha256":"{hash}","Type":"blob"}}"#)
            };
            let entries: Vec<String> = files.iter().map(entry).collect();
            return Answer::ok(format!(r#"{{"Code":200,"Data":{{"Files":[{}]}}}}"#, entries.join(",")));
        }
        match request.path.strip_prefix(&format!("{base}?Revision=master&FilePath=")).and_then(|name| files.get(name)) {
            Some(content) => Answer { break_after: Some(2000), ..Answer::content(request, content) },
            None => Answer::status(404),
        }
    });
    let mut fixture = Fixture::new(&server);
    fixture.options.kind = HubKind::ModelScope;
    fixture.options.revision = "master".into();
    fixture.options.token = Some(TOKEN.into());
    let folder = fixture.fetch().unwrap();
    assert_eq!(fs::read(folder.join("model-00002-of-00002.safetensors")).unwrap(), [2; 3000]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 4, "the second copy of the weights is left out");
    let cookie = format!("m_session_id={TOKEN}");
    assert!(server.requests().iter().all(|request| request.header("cookie") == Some(cookie.as_str())));
}
