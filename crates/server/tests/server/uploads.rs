use std::{
    fs,
    io::{BufReader, Write},
    net::TcpStream,
};

use serde_json::json;

use crate::{
    fixture::{ROWS, Studio, read_head, until},
    people::{self, Person},
};

const V1: &str = "/api/v1/datasets";
const FIRST: &str = "/api/finetune/upload-dataset";

fn files(studio: &Studio) -> Vec<String> {
    let entries = fs::read_dir(studio.home.uploads()).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn names_stay_in_their_folder() {
    let studio = Studio::start();
    for (given, kept) in [
        ("../../../etc/cron.d/job.jsonl", "job.jsonl"),
        ("..\\..\\windows\\data.jsonl", "data.jsonl"),
        ("/absolute.jsonl", "absolute.jsonl"),
        ("训练数据.jsonl", "训练数据.jsonl"),
        (".hidden.jsonl", "hidden.jsonl"),
        ("data.jsonl", "data-2.jsonl"),
        ("data.jsonl", "data-3.jsonl"),
    ] {
        let answer = studio.upload(V1, given, ROWS.as_bytes());
        assert_eq!(answer.status, 201, "{given}: {}", answer.text());
        let path = studio.home.uploads().join(kept);
        assert_eq!(answer.json()["path"], json!(path), "{given}");
        assert_eq!(fs::read(path).unwrap(), ROWS.as_bytes());
    }
    let all = ["absolute", "data-2", "data-3", "data", "hidden", "job", "训练数据"].map(|stem| format!("{stem}.jsonl"));
    assert_eq!(files(&studio), all);
    for bad in ["data.exe", "", "..", ".json", "data.json/.."] {
        let (status, detail) = studio.upload(FIRST, bad, ROWS.as_bytes()).error();
        assert_eq!((status, detail.as_str()), (400, "仅支持 .json 或 .jsonl 文件"), "{bad:?}");
    }
    assert_eq!(files(&studio), all);
}

pub fn bad_data_leaves_nothing_behind() {
    let studio = Studio::start();
    let broken = format!("{ROWS}{{\"instruction\": \"half\n");
    let (status, detail) = studio.upload(FIRST, "data.jsonl", broken.as_bytes()).error();
    assert_eq!(status, 400);
    assert!(detail.starts_with("第 3 行："), "{detail}");
    let (status, detail) = studio.upload(V1, "data.jsonl", broken.as_bytes()).error();
    assert_eq!(status, 400);
    assert!(detail.starts_with("line 3: "), "{detail}");

    assert_eq!(studio.upload(V1, "empty.json", b"").error().0, 400);
    assert_eq!(studio.upload(V1, "binary.json", &[0xff, 0xfe, 0x00]).error().0, 400);
    assert_eq!(studio.request("POST", V1, &[("content-type", "text/plain")], b"x").error().0, 422);
    let no_file = b"--b\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n--b--\r\n";
    let form = [("content-type", "multipart/form-data; boundary=b")];
    assert_eq!(studio.request("POST", V1, &form, no_file).error().0, 422);
    let cut_off = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"d.jsonl\"\r\n\r\n{\"instruc";
    assert_eq!(studio.request("POST", V1, &form, cut_off).error().0, 400);
    assert_eq!(files(&studio), [""; 0]);

    // A data set that somebody broke after its upload.
    let path = studio.dataset();
    fs::write(&path, &broken).unwrap();
    let listed = studio.get(V1).json();
    assert_eq!((&listed[0]["format"], &listed[0]["examples"]), (&json!(null), &json!(null)));
    let body = json!({"model_name": studio.model(false), "dataset_file": path});
    let (status, detail) = studio.post("/api/finetune/create", &body).error();
    assert_eq!(status, 400);
    assert!(detail.starts_with("第 3 行："), "{detail}");
    assert_eq!(studio.get("/api/finetune/tasks").json(), json!([]));

    // What a crash left half uploaded is gone after the next start.
    fs::write(studio.home.uploads().join(".upload-0123456789abcdef.json"), b"half").unwrap();
    let studio = Studio::open(Default::default(), Default::default(), studio.stop());
    assert_eq!(studio.get("/health").status, 200);
    assert_eq!(files(&studio), ["data.jsonl"]);
}

pub fn too_much_is_refused() {
    let limit = 256 << 10;
    let studio = Studio::with(server::Options { upload_limit: limit, ..Default::default() });
    let row = ROWS.lines().next().unwrap().to_owned() + "\n";
    let rows = |bytes: u64| row.repeat(bytes as usize / row.len());
    let fits = rows(limit);
    assert_eq!(studio.upload(V1, "fits.jsonl", fits.as_bytes()).json()["bytes"], fits.len());
    // Within what multipart may add, so that only counting finds it.
    let over = rows(limit + 2 * row.len() as u64);
    assert!(over.len() as u64 > limit);
    let (status, detail) = studio.upload(V1, "over.jsonl", over.as_bytes()).error();
    assert_eq!((status, detail.contains(&limit.to_string())), (413, true), "{detail}");
    assert_eq!(files(&studio), ["fits.jsonl"]);
}

pub fn data_sets_are_listed_pasted_and_deleted() {
    let studio = Studio::start();
    let uploaded = studio.dataset();
    let pasted = studio.post("/api/v1/datasets/paste", &json!({"filename": "a/粘贴.jsonl", "content": ROWS}));
    assert_eq!(pasted.status, 201);
    let pasted = pasted.json();
    assert_eq!(
        (&pasted["filename"], &pasted["format"], &pasted["examples"]),
        (&json!("粘贴.jsonl"), &json!("alpaca"), &json!(2))
    );
    assert_eq!(pasted["preview"][1], json!({"prompt": "你好", "answer": "您好！"}));
    let bad = studio.post("/api/v1/datasets/paste", &json!({"filename": "b.json", "content": "[{]"}));
    assert_eq!(bad.error().0, 400);

    let listed = studio.get(V1).json();
    let mut names: Vec<&str> = listed.as_array().unwrap().iter().map(|d| d["filename"].as_str().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["data.jsonl", "粘贴.jsonl"]);

    let held = studio.model(true);
    let task = studio.create(&held, &uploaded);
    let in_use = studio.delete("/api/v1/datasets/data.jsonl").error();
    assert_eq!(in_use.0, 409, "{in_use:?}");
    let cancel = format!("/api/finetune/tasks/{}/cancel", task["task_id"].as_str().unwrap());
    assert_eq!(studio.post(&cancel, &json!(null)).status, 200);
    assert_eq!(studio.delete("/api/v1/datasets/data.jsonl").status, 204);
    assert_eq!(studio.delete("/api/v1/datasets/data.jsonl").error().0, 404);

    let outside = studio.home.root().join("secret.json");
    fs::write(&outside, ROWS).unwrap();
    std::os::unix::fs::symlink(&outside, studio.home.uploads().join("link.json")).unwrap();
    for name in ["link.json", "..%2fsecret.json", "%2e%2e%2fsecret.json", "%00.json", ".."] {
        let status = studio.delete(&format!("{V1}/{name}")).status;
        assert!(status == 404 || status == 405, "{name}: {status}");
    }
    assert!(outside.exists());
    assert_eq!(studio.delete("/api/v1/datasets/%E7%B2%98%E8%B4%B4.jsonl").status, 204);
    assert_eq!(studio.get(V1).json(), json!([]));
}

fn part(name: &str, filename: &str, content: &str) -> String {
    let file = if filename.is_empty() { String::new() } else { format!("; filename=\"{filename}\"") };
    format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{content}\r\n")
}

/// A form's other fields are read over, as long as they are few and small.
pub fn what_comes_before_the_file_has_an_end() {
    let studio = Studio::start();
    let send = |before: String| {
        let body = before + &part("file", "data.jsonl", ROWS) + "--b--\r\n";
        studio.request("POST", V1, &[("content-type", "multipart/form-data; boundary=b")], body.as_bytes())
    };
    assert_eq!(send(part("note", "", "hello").repeat(3)).status, 201);
    assert_eq!(send(part("note", "", &"x".repeat(100 << 10))).error().0, 413);
    assert_eq!(send(part("note", "", "x").repeat(20)).error().0, 422);
    assert_eq!(files(&studio), ["data.jsonl"]);
}

/// Each fits by itself; what counts is what is there when it gets its name.
pub fn uploads_at_the_same_time_share_the_room() {
    let studio = people::studio(Default::default());
    let row = ROWS.lines().next().unwrap().to_owned() + "\n";
    let rows = row.repeat(100);
    let disk_bytes = Some(rows.len() as u64 * 3 / 2);
    studio.set_quota("ana", api_types::Quota { disk_bytes, ..Default::default() });
    let (ana, ben) = (studio.person("ana"), studio.person("ben"));
    let begin = |person: &Person<'_>| {
        let body = part("file", "data.jsonl", &rows) + "--b--\r\n";
        let (host, bearer, length) = (studio.host(), person.bearer(), body.len().to_string());
        let headers = [
            ("host", host.as_str()),
            ("authorization", &bearer),
            ("connection", "close"),
            ("content-type", "multipart/form-data; boundary=b"),
            ("content-length", &length),
        ];
        let (now, later) = body.split_at(rows.len());
        (studio.send("POST", V1, &headers, now.as_bytes()), later.to_owned())
    };
    let end = |(mut stream, rest): (BufReader<TcpStream>, String)| {
        // It may be refused before all of it is sent.
        let _ = stream.get_mut().write_all(rest.as_bytes());
        read_head(&mut stream).0
    };
    let partial = |count: usize| {
        until("they have begun", || {
            let begun = files(&studio).iter().filter(|name| name.starts_with(".upload-")).count();
            (begun == count).then_some(())
        });
    };
    // Nobody takes all places: four are under way, and a fifth is told to wait.
    let mut under_way: Vec<_> = (0..4).map(|_| begin(&ana)).collect();
    partial(4);
    assert_eq!(end(begin(&ana)), 503);
    assert_eq!(end(begin(&ben)), 201, "another has places too");
    let ended: Vec<u16> = under_way.drain(..).map(end).collect();
    assert_eq!(ended, [201, 403, 403, 403]);
    assert_eq!(files(&studio), ["data-2.jsonl", "data.jsonl"]);
}
