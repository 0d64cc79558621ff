use crate::fixture::{Answer, Studio};

pub fn the_page_and_its_files() {
    let studio = Studio::start();
    let index = studio.get("/");
    assert_eq!(index.status, 200);
    assert_eq!(index.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(index.header("cache-control"), Some("no-store"));
    assert!(index.text().starts_with("<!doctype html>"));
    assert_eq!(page(&studio.get("/tasks/finetune_1_1?tab=log")), page(&index), "a deep link");
    assert_eq!(page(&studio.get("/index.html")), page(&index));

    let icon = studio.get("/favicon.svg");
    if let Some(etag) = icon.header("etag") {
        for known in [etag.to_owned(), format!("\"other\", W/{etag}")] {
            let answer = studio.request("GET", "/favicon.svg", &[("if-none-match", &known)], b"");
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{known}");
        }
        let head = studio.request("HEAD", "/favicon.svg", &[], b"");
        assert_eq!((head.status, head.header("etag")), (200, Some(etag)));
    }

    for path in index.text().split('"').filter(|part| part.starts_with("/assets/")) {
        let asset = studio.get(path);
        assert_eq!(asset.status, 200, "{path}");
        assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
    }
    assert_eq!(studio.get("/assets/of-an-older-build.js").error().0, 404);
    assert_eq!(studio.request("POST", "/", &[], b"").error().0, 405);
    for path in ["/../Cargo.toml", "/assets/../../etc/passwd", "/%2e%2e/etc/passwd"] {
        let answer = studio.get(path);
        assert!(answer.status == 404 || page(&answer) == page(&index), "{path}: {}", answer.text());
    }
}

/// The page without what is drawn for each answer.
fn page(answer: &Answer) -> String {
    answer.text().replace(&nonce(answer), "")
}

fn nonce(answer: &Answer) -> String {
    let policy = answer.header("content-security-policy").expect("a policy");
    let (_, rest) = policy.split_once("'nonce-").expect("a nonce");
    rest.split('\'').next().unwrap().to_owned()
}

/// The page runs nothing but its own files; everything else that is served runs and shows nothing at all.
pub fn the_page_has_a_strict_policy() {
    let studio = Studio::start();
    let (one, two) = (studio.get("/"), studio.get("/"));
    assert!(nonce(&one).len() == 32 && nonce(&one) != nonce(&two), "{}", nonce(&one));
    assert!(one.text().contains(&nonce(&one)), "the page says it to its scripts");
    for part in
        ["default-src 'none'", "script-src 'self';", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(one.header("content-security-policy").unwrap().contains(part), "{part}");
    }
    assert!(!one.header("content-security-policy").unwrap().contains("unsafe"));
    assert!(!one.text().contains("<script>") && !one.text().contains("style=\""), "nothing inline");
    for path in ["/health", "/api/v1/tasks", "/favicon.svg", "/assets/none.js", "/api/none"] {
        let answer = studio.get(path);
        let policy = answer.header("content-security-policy");
        assert_eq!(policy, Some("default-src 'none'; frame-ancestors 'none'"), "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
    }
}

pub fn the_api_never_answers_with_the_page() {
    let studio = Studio::start();
    for path in ["/api", "/api/", "/api/none", "/api/v1/none", "/api/finetune/tasks/"] {
        assert_eq!(studio.get(path).error(), (404, "Not Found".into()), "{path}");
    }
    assert_eq!(studio.delete("/api/v1/tasks").error(), (405, "Method Not Allowed".into()));
}
