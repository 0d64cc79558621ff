use crate::fixture::Studio;

pub fn the_page_and_its_files() {
    let studio = Studio::start();
    let index = studio.get("/");
    assert_eq!(index.status, 200);
    assert_eq!(index.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(index.header("cache-control"), Some("no-cache"));
    assert!(index.text().starts_with("<!doctype html>"));
    assert_eq!(studio.get("/tasks/finetune_1_1?tab=log").body, index.body, "a deep link");

    let etag = index.header("etag").unwrap().to_owned();
    for known in [etag.clone(), format!("\"other\", W/{etag}")] {
        let answer = studio.request("GET", "/", &[("if-none-match", &known)], b"");
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{known}");
    }
    let head = studio.request("HEAD", "/", &[], b"");
    assert_eq!((head.status, head.header("etag")), (200, Some(etag.as_str())));

    for path in index.text().split('"').filter(|part| part.starts_with("/assets/")) {
        let asset = studio.get(path);
        assert_eq!(asset.status, 200, "{path}");
        assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
    }
    assert_eq!(studio.get("/assets/of-an-older-build.js").error().0, 404);
    assert_eq!(studio.request("POST", "/", &[], b"").error().0, 405);
    for path in ["/../Cargo.toml", "/assets/../../etc/passwd", "/%2e%2e/etc/passwd"] {
        let answer = studio.get(path);
        assert!(answer.status == 404 || answer.body == index.body, "{path}: {}", answer.text());
    }
}

pub fn the_api_never_answers_with_the_page() {
    let studio = Studio::start();
    for path in ["/api", "/api/", "/api/none", "/api/v1/none", "/api/finetune/tasks/"] {
        assert_eq!(studio.get(path).error(), (404, "Not Found".into()), "{path}");
    }
    assert_eq!(studio.delete("/api/v1/tasks").error(), (405, "Method Not Allowed".into()));
}
