//! Accounts, tokens, TLS and the audit log with the real binary; and that no secret is told.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use client::{
    Client, Endpoint,
    testing::{Options, Studio, wait_for},
};
use serde_json::Value;

use crate::support::{PATIENCE, fine_tune, script, tiny, wait_reason, wait_status};

const PASSWORD: &str = "correct horse battery";

fn run(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sage can be run");
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What it printed.
fn said(command: &mut Command, input: &str) -> String {
    let output = run(command, input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The error it ended with.
fn refusal(command: &mut Command) -> String {
    let output = run(command, "");
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// A command on this home while no studio runs there.
fn alone<'a>(options: &Options, home: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(&options.sage);
    command.args(arguments).env("SAGE_HOME", home).env("SAGE_LANG", "en").env("USER", "machine");
    command.env_remove("SAGE_URL").env_remove("SAGE_TOKEN");
    command
}

fn with_accounts(more: &str) -> Options {
    let config = format!("[server]\nauthentication = true\n{more}\n[tasks]\ngrace = \"2s\"\n");
    Options { config, ..Options::default() }.env("USER", "machine")
}

#[test]
fn people_are_looked_after_with_and_without_a_studio() {
    let folder = tempfile::tempdir().unwrap();
    let options = with_accounts("");
    let sage = |arguments: &[&str]| alone(&options, folder.path(), arguments.iter().copied());
    let added = said(&mut sage(&["user", "add", "olga", "--password-stdin"]), PASSWORD);
    assert!(added.contains("olga (owner)"), "the first owns it: {added}");
    let added = said(&mut sage(&["user", "add", "ana", "--no-password"]), "");
    assert!(added.contains("ana (member)"), "{added}");
    assert!(refusal(&mut sage(&["user", "add", "ana", "--no-password"])).contains("[name-taken]"));
    assert!(refusal(&mut sage(&["user", "add", "ben"])).contains("--password-stdin"), "there is no terminal");
    let token = said(&mut sage(&["token", "create", "ci", "--user", "ana", "--scope", "submit"]), "");
    let token = token.trim_end().to_owned();

    let mut studio = Studio::start_in(folder, options.clone());
    let mode = fs::metadata(studio.home().database()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");
    // The same commands, now answered by the studio.
    let quota = ["user", "quota", "ana", "--gpus", "2", "--gpu-hours-per-day", "48", "--disk", "1GiB", "--weight", "2"];
    said(&mut studio.command(quota), "");
    let listed: Value = serde_json::from_str(&said(&mut studio.command(["user", "list", "--json"]), "")).unwrap();
    let ana = &listed[0];
    assert_eq!((&ana["name"], &ana["quota"]["gpus"], &ana["tokens"]), (&"ana".into(), &2.into(), &1.into()));
    said(&mut studio.command(["user", "quota", "ana", "--gpus", "none"]), "");
    assert_eq!(studio.client().accounts().unwrap()[0].quota.gpus, None);
    assert_eq!(studio.client().accounts().unwrap()[0].quota.disk_bytes, Some(1 << 30), "the rest stays");
    assert!(refusal(&mut studio.command(["user", "role", "ana", "root"])).contains("owner, member or viewer"));

    // From elsewhere, with a token and nothing of this home.
    let elsewhere = tempfile::tempdir().unwrap();
    let address = studio.address();
    let remote = |arguments: &[&str]| {
        let mut command = alone(&options, elsewhere.path(), arguments.iter().copied());
        command.env("SAGE_URL", &address).env("SAGE_TOKEN", &token);
        command
    };
    assert!(said(&mut remote(&["task", "list", "--json"]), "").contains("\"tasks\": []"));
    assert!(refusal(&mut remote(&["user", "list"])).contains("[not-allowed]"));
    let mut other = remote(&["task", "list"]);
    assert!(refusal(other.env("SAGE_URL", "http://gpu.example:8080")).contains("[address-not-trusted]"));
    said(&mut studio.command(["token", "revoke", "1"]), "");
    assert!(refusal(&mut remote(&["task", "list"])).contains("[sign-in]"));

    // All of that is on record.
    let listed = said(&mut studio.command(["audit", "list"]), "");
    for word in ["account.add", "account.change", "token.create", "token.revoke", "studio.start", "machine", "local"] {
        assert!(listed.contains(word), "{word}: {listed}");
    }
    studio.stop();
    let verified = said(&mut studio.command(["audit", "verify"]), "");
    let head = verified.trim_end().rsplit(' ').next().unwrap().to_owned();
    said(&mut studio.command(["user", "remove", "ana"]), "");
    said(&mut studio.command(["audit", "verify", "--head", &head]), "");
    let database = rusqlite::Connection::open(studio.home().audit()).unwrap();
    database
        .execute_batch(
            "DROP TRIGGER audit_is_append_only_update;
             UPDATE audit SET who = 'somebody else' WHERE action = 'token.revoke';",
        )
        .unwrap();
    assert!(refusal(&mut studio.command(["audit", "verify"])).contains("[audit-tampered]"));
    assert!(refusal(&mut studio.command(["audit", "verify", "--head", &"0".repeat(64)])).contains("[audit-tampered]"));
}

#[test]
fn with_a_certificate_others_speak_tls_and_this_machine_needs_none() {
    let tls = |file: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls").join(file);
    let folder = tempfile::tempdir().unwrap();
    for file in ["certificate.pem", "key.pem"] {
        fs::copy(tls(file), folder.path().join(file)).unwrap();
    }
    let files = "tls_cert = \"certificate.pem\"\ntls_key = \"key.pem\"\n";
    let options = with_accounts(files);
    let token = said(&mut alone(&options, folder.path(), ["token", "create", "t", "--scope", "admin"]), "");
    let mut studio = Studio::start_in(folder, options.clone());
    let endpoint = Endpoint::find(studio.home()).unwrap();
    let page = endpoint.page.unwrap();
    assert!(page.starts_with("https://127.0.0.1:") && endpoint.address.starts_with("http://127.0.0.1:"));
    assert!(said(&mut studio.command(["task", "list", "--json"]), "").contains("\"tasks\": []"));

    let elsewhere = tempfile::tempdir().unwrap();
    let remote = |address: &str| {
        let mut command = alone(&options, elsewhere.path(), ["studio", "status", "--json"]);
        command.env("SAGE_URL", address).env("SAGE_TOKEN", token.trim_end()).env("SAGE_CA_FILE", tls("authority.pem"));
        command
    };
    let port = page.rsplit(':').next().unwrap();
    for host in ["localhost", "127.0.0.1"] {
        let status = said(&mut remote(&format!("https://{host}:{port}")), "");
        assert!(status.contains("\"running\": true"), "{status}");
    }
    // Plain HTTP gets no answer there, and nobody is trusted without the authority.
    assert!(refusal(&mut remote(&format!("http://localhost:{port}"))).contains("[studio-unreachable]"));
    assert!(refusal(remote(&page).env_remove("SAGE_CA_FILE")).contains("[studio-unreachable]"));

    // A restart serves as before; what cannot be used is said.
    studio.stop();
    fs::write(studio.home().root().join("key.pem"), "not a key").unwrap();
    let start = ["studio", "start", "--foreground", "--port", "0"];
    assert!(refusal(&mut studio.command(start)).contains("[tls-unusable]"));
    fs::write(studio.home().root().join("key.pem"), fs::read(tls("certificate.pem")).unwrap()).unwrap();
    assert!(refusal(&mut studio.command(start)).contains("[tls-unusable]"));
}

/// Secrets that the studio is given are in no file of its home and in no command line.
#[test]
fn no_secret_is_told() {
    let hub = "hf_thisIsASecretOfTheHub0123456789";
    let options = with_accounts("").env("HF_TOKEN", hub).env("HF_ENDPOINT", "http://127.0.0.1:9");
    let studio = Studio::start_with(options);
    let client = studio.client();
    let machine = Endpoint::find(studio.home()).unwrap().token.unwrap();
    let account = run(&mut studio.command(["user", "add", "ana", "--password-stdin"]), PASSWORD);
    assert!(account.status.success());
    let token = said(&mut studio.command(["token", "create", "ci"]), "").trim_end().to_owned();

    // One that trains, and one that fails at the hub.
    let files = tiny(&studio);
    let trains = client.submit(&fine_tune(&files, 50)).unwrap().task_id;
    let mut from_hub = fine_tune(&files, 1);
    from_hub.fine_tune.as_mut().unwrap().model_name = "someone/gated-model".into();
    let refused = client.submit(&from_hub).map(|task| task.task_id);
    // A variable is for its command alone. It is named where others can see it, its value is not.
    let own = "theSecretOfOneCommand0123456789";
    let script = "test \"$(printenv OWN_SECRET | wc -c)\" = 32";
    let mut submit = studio.command(["task", "submit", "--env", "OWN_SECRET", "--json", "--", "sh", "-c", script]);
    let submitted = said(submit.env("OWN_SECRET", own), "");
    let with_secret: api_types::TaskView = serde_json::from_str(&submitted).unwrap();
    assert_eq!(with_secret.config["env"], serde_json::json!({"OWN_SECRET": "***"}), "{submitted}");
    let secrets = [hub, &machine, &token, PASSWORD, own];
    let told = |text: &[u8]| {
        secrets.iter().find(|secret| text.windows(secret.len()).any(|part| part == secret.as_bytes())).copied()
    };
    let mut looked = 0;
    wait_for("all tasks to end", PATIENCE, || {
        for (pid, line) in command_lines() {
            assert_eq!(told(&line), None, "in the command line of {pid}: {}", String::from_utf8_lossy(&line));
            looked += 1;
        }
        let ended = |id: &str| ["completed", "failed"].contains(&client.task(id).unwrap().status.as_str());
        let all = [&trains, &with_secret.task_id].into_iter().chain(&refused);
        all.into_iter().all(|id| ended(id)).then_some(())
    });
    assert_eq!(client.task(&with_secret.task_id).unwrap().status, "completed", "it got its variable");
    assert!(looked > 0);
    if let Ok(id) = &refused {
        let failed = client.task(id).unwrap();
        assert_eq!(told(format!("{failed:?}").as_bytes()), None);
    }
    for path in files_of(studio.home().root()) {
        // Made for it, and nobody else can read it.
        if path == studio.home().endpoint() {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            continue;
        }
        let Some(secret) = fs::read(&path).ok().and_then(|content| told(&content)) else { continue };
        // Kept for another attempt of the command, where nobody else can read it.
        let database = path.to_string_lossy().starts_with(&*studio.home().database().to_string_lossy());
        if secret == own && database {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        } else {
            panic!("{secret} is in {}", path.display());
        }
    }
    drop(Client::connect(studio.home()));
}

/// Of all processes that we can see.
fn command_lines() -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let processes = entries.filter_map(|entry| {
        let pid = entry.file_name().into_string().ok().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))?;
        Some((pid, fs::read(entry.path().join("cmdline")).ok()?))
    });
    processes.collect()
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_of(&path) } else { vec![path] }).collect()
}

#[test]
fn who_has_used_up_the_gpu_time_of_a_day_waits_and_is_told() {
    let studio = Studio::start_with(with_accounts(""));
    let client = studio.client();
    let first = client.submit(&script(&studio, "sleep 0.1")).unwrap().task_id;
    wait_status(&client, &first, "completed");
    let mine = client.task(&first).unwrap().owner;
    // 36 ms.
    said(&mut studio.command(["user", "quota", &mine, "--gpu-hours-per-day", "0.00001"]), "");
    let second = client.submit(&script(&studio, "true")).unwrap().task_id;
    let wait = wait_reason(&client, &second, "to wait for its quota", |wait| wait.code == "quota");
    assert_eq!(wait.quota.as_deref(), Some("gpu_time"), "{wait:?}");
    assert!(wait.en.contains("GPU time used in the last 24 hours") && wait.zh.contains("GPU 时"), "{wait:?}");
    said(&mut studio.command(["user", "quota", &mine, "--gpu-hours-per-day", "none"]), "");
    wait_status(&client, &second, "completed");
}
