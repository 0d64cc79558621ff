//! Walks every route there is, so that no method is forgotten.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use serde_json::Value;

use crate::{
    fixture::{Answer, Studio, until},
    people,
};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Every path of the description and what is not in it.
fn paths() -> Vec<String> {
    let document = serde_json::to_value(server::openapi()).unwrap();
    let described = document["paths"].as_object().unwrap().keys();
    let concrete = |path: &String| path.replace("{id}", "finetune_1_1").replace("{filename}", "data.json");
    let mut paths: Vec<String> = described.map(concrete).collect();
    assert!(paths.len() >= 30, "{paths:?}");
    let others = [
        "/",
        "/index.html",
        "/tasks/finetune_1_1",
        "/assets/none.js",
        "/api",
        "/api/",
        "/api/openapi.json",
        "/api/none",
    ];
    paths.extend(others.map(String::from));
    paths
}

fn walk(check: impl Fn(&str, &str)) {
    for path in paths() {
        for method in METHODS {
            check(method, &path);
        }
    }
}

fn refused(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}");
    let cors = answer.headers.iter().find(|(name, _)| name.starts_with("access-control"));
    assert_eq!(cors, None, "{what}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{what}");
}

pub fn only_our_hosts_are_served() {
    let studio = Studio::with(server::Options { hosts: vec!["gpu.lan:9000".into()], ..Default::default() });
    let ours = studio.host();
    let port = studio.address.port();
    let rebound = format!("evil.example:{port}");
    let other_port = format!("127.0.0.1:{}", port ^ 1);
    walk(|method, path| {
        let wrong: [&[(&str, &str)]; 7] = [
            &[],
            &[("host", &rebound)],
            &[("host", &other_port)],
            &[("host", "localhost")],
            &[("host", &ours), ("host", &ours)],
            &[("host", &ours), ("host", "evil.example")],
            &[("host", "gpu.lan")],
        ];
        for headers in wrong {
            let headers = [&[("connection", "close")], headers].concat();
            let answer = studio.raw(method, path, &headers, b"");
            refused(&answer, 421, &format!("{method} {path} {headers:?}"));
        }
    });
    for host in [&ours, &format!("LOCALHOST:{port}"), &format!("[::1]:{port}"), "gpu.lan:9000"] {
        let answer = studio.raw("GET", "/health", &[("host", host), ("connection", "close")], b"");
        assert_eq!(answer.status, 200, "{host}");
    }
    // The target counts as well when it names a host.
    let target = format!("http://evil.example:{port}/health");
    let answer = studio.raw("GET", &target, &[("host", &ours), ("connection", "close")], b"");
    refused(&answer, 421, "an absolute target");
}

pub fn only_our_own_page_may_call() {
    let allowed = "http://localhost:5173";
    let options = server::Options { allowed_origins: vec![allowed.into()], ..Default::default() };
    let studio = Studio::with(options);
    let port = studio.address.port();
    let (ours, other_port) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", port ^ 1));
    let other_name = format!("http://localhost:{port}");
    walk(|method, path| {
        let foreign: [&[(&str, &str)]; 7] = [
            &[("origin", "null")],
            &[("origin", "https://evil.example")],
            &[("origin", &other_port)],
            // A Host of ours, but not this one.
            &[("origin", &other_name)],
            &[("origin", &ours), ("origin", &ours)],
            &[("origin", "file://")],
            &[("origin", &ours[7..])],
        ];
        for headers in foreign {
            let answer = studio.request(method, path, headers, b"");
            refused(&answer, 403, &format!("{method} {path} {headers:?}"));
        }
        if path == "/api" || path.starts_with("/api/") {
            let foreign: [&[(&str, &str)]; 4] = [
                &[("sec-fetch-site", "cross-site")],
                &[("sec-fetch-site", "cross-site"), ("origin", allowed)],
                &[("sec-fetch-site", "same-site")],
                &[("sec-fetch-site", "nonsense")],
            ];
            for headers in foreign {
                let answer = studio.request(method, path, headers, b"");
                refused(&answer, 403, &format!("{method} {path} {headers:?}"));
            }
        }
    });
    let welcome: [&[(&str, &str)]; 5] = [
        &[],
        &[("origin", &ours)],
        &[("origin", allowed)],
        &[("sec-fetch-site", "same-origin"), ("origin", &ours)],
        &[("sec-fetch-site", "none")],
    ];
    for headers in welcome {
        let answer = studio.request("GET", "/api/finetune/tasks", headers, b"");
        refused(&answer, 200, &format!("{headers:?}"));
    }
    // A link on another site may open the page.
    assert_eq!(studio.request("GET", "/", &[("sec-fetch-site", "cross-site")], b"").status, 200);
}

pub fn nothing_works_without_a_session_where_authentication_is_on() {
    let open = Studio::start();
    let register = serde_json::json!({"username": "ana", "password": "correct horse"});
    assert_eq!(open.post("/api/auth/register", &register).status, 200);
    let options = server::Options { authentication: true, ..Default::default() };
    let studio = Studio::open(options, engine::Settings::default(), open.stop());

    let public = ["/api/auth/login", "/api/auth/guest", "/api/auth/logout"];
    walk(|method, path| {
        let api = path == "/api" || path.starts_with("/api/");
        if !api || public.contains(&path) {
            return;
        }
        let without: [&[(&str, &str)]; 4] = [
            &[],
            &[("authorization", "Bearer nonsense")],
            &[("authorization", "Basic YW5hOmNvcnJlY3QgaG9yc2U=")],
            &[("cookie", "sage_session=; other=1")],
        ];
        for headers in without {
            let answer = studio.request(method, path, headers, b"");
            refused(&answer, 401, &format!("{method} {path} {headers:?}"));
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    });
    assert_eq!(studio.get("/").status, 200);
    assert_eq!(studio.get("/health").status, 200);
    assert_eq!(studio.post("/api/auth/guest", &Value::Null).status, 403);

    let sign_in = |password: &str| {
        let form = format!("username=ana&password={password}");
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        studio.request("POST", "/api/auth/login", &headers, form.as_bytes())
    };
    refused(&sign_in("wrong+horse"), 401, "a wrong password");
    let signed_in = sign_in("correct+horse");
    let token = signed_in.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 64);
    let bearer = format!("Bearer {token}");
    let cookie = format!("theme=dark; sage_session={token}");
    assert!(signed_in.header("set-cookie").unwrap().starts_with(&format!("sage_session={token}; ")));
    let with: [(&str, &str); 2] = [("authorization", &bearer), ("cookie", &cookie)];
    for header in with {
        assert_eq!(studio.request("GET", "/api/v1/studio", &[header], b"").json()["authentication"], true);
    }

    // Whoever is signed in is who acts, and may bring in others.
    let body = br#"{"command": {"argv": ["true"], "cwd": "/"}, "hold": true}"#;
    let json = ("content-type", "application/json");
    let task = studio.request("POST", "/api/v1/tasks", &[json, with[0]], body).json();
    assert_eq!(task["owner"], "ana");
    let ben = br#"{"username": "ben", "password": "battery"}"#;
    let register = |headers: &[(&str, &str)]| {
        let all = [&[json, with[1]], headers].concat();
        studio.request("POST", "/api/auth/register", &all, ben)
    };
    // A cookie comes with whatever any page sends.
    let refusal = register(&[]);
    refused(&refusal, 403, "a cookie and nothing else");
    assert_eq!(refusal.json()["code"], "x-sage");
    assert_eq!(register(&[("x-sage", "1")]).json()["username"], "ben");
    for ours in [("sec-fetch-site", "same-origin"), ("origin", &*format!("http://{}", studio.host()))] {
        assert_eq!(register(&[ours]).json()["code"], "name-taken", "{ours:?}");
    }

    assert_eq!(studio.request("POST", "/api/auth/logout", &[with[0]], b"").status, 200);
    refused(&studio.request("GET", "/api/v1/studio", &[with[0]], b""), 401, "after signing out");
}

pub fn bodies_have_limits() {
    let studio = Studio::with(server::Options { upload_limit: 64 << 10, ..Default::default() });
    let host = studio.host();
    walk(|method, path| {
        // Only announced: a server that waited for it would wait in vain.
        let headers = [("host", host.as_str()), ("connection", "close"), ("content-length", "99999999")];
        refused(&studio.raw(method, path, &headers, b""), 413, &format!("{method} {path}"));
    });
    // Not announced.
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let body = chunk.repeat(20) + "0\r\n\r\n";
    let headers = [
        ("host", host.as_str()),
        ("connection", "close"),
        ("content-type", "application/json"),
        ("transfer-encoding", "chunked"),
    ];
    for path in ["/api/v1/tasks", "/api/finetune/create", "/api/auth/register"] {
        refused(&studio.raw("POST", path, &headers, body.as_bytes()), 413, path);
    }
}

/// Who sends slowly and is known to nobody takes places of those who are known to nobody, and no others.
pub fn slow_strangers_keep_nobody_else_waiting() {
    let studio = people::studio(Default::default());
    let ana = studio.person("ana");
    let host = studio.host();
    let headers =
        [("host", host.as_str()), ("content-type", "application/x-www-form-urlencoded"), ("content-length", "100")];
    let slow: Vec<_> = (0..64).map(|_| studio.send("POST", "/api/auth/login", &headers, b"username=")).collect();
    until("their places are taken", || {
        let answer = people::sign_in(&studio, "ben", people::PASSWORD);
        (answer.status == 503 && answer.json()["code"] == "busy").then_some(())
    });
    let estimate = serde_json::json!({"model_name": "Qwen/Qwen2.5-0.5B-Instruct", "dataset_file": ""});
    assert_eq!(ana.post("/api/v1/estimate", estimate).status, 200);
    assert_eq!(studio.get("/health").status, 200);
    drop(slow);
    until("they have gone", || (people::sign_in(&studio, "ben", people::PASSWORD).status == 200).then_some(()));
}

/// Every kept input of `cargo xtask fuzz --target http`.
pub fn no_kept_request_breaks_anything() {
    let studio = Studio::start();
    let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/http");
    let mut replayed = 0;
    for entry in std::fs::read_dir(kept).unwrap() {
        let path = entry.unwrap().path();
        let request = std::fs::read(&path).unwrap();
        let at = request.windows(11).position(|part| part == b"localhost\r\n");
        let request = at.map_or(request.clone(), |at| {
            let host = format!("localhost:{}\r\n", studio.address.port());
            [&request[..at], host.as_bytes(), &request[at + 11..]].concat()
        });
        let mut stream = TcpStream::connect(studio.address).unwrap();
        stream.set_read_timeout(Some(crate::fixture::DEADLINE)).unwrap();
        let _ = stream.write_all(&request);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = [0; 12];
        if stream.read_exact(&mut answer).is_ok() {
            assert_ne!(&answer[9..], b"500", "{}", path.display());
        }
        replayed += 1;
    }
    assert!(replayed >= 12, "{replayed}");
    assert_eq!(studio.get("/health").status, 200);
}
