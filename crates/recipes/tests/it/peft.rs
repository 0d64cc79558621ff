//! The environment of trainer peft, from an index on loopback that has a make-believe uv.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use recipes::peft::{self, Environment, InstallProgress, PeftError, PeftOptions, Phase, Torch};
use sha2::{Digest, Sha256};

use crate::support::{Answer, Request, Server};

/// Does what uv does as far as can be seen from outside, and writes down how it was called. A file `hold` beside it
/// makes it wait, and `say-<command>` makes that command say this and fail.
const UV: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/calls"
while [ -e "$here/hold" ]; do sleep 0.02; done
if [ -e "$here/say-$2" ]; then cat "$here/say-$2" >&2; exit 2; fi
case "$1 $2" in
"venv "*)
    for folder; do :; done
    mkdir -p "$folder/bin"
    printf '#!/bin/sh\nif [ -e "%s/say-python" ]; then cat "%s/say-python" >&2; exit 1; fi\n' "$here" "$here" > "$folder/bin/python"
    chmod +x "$folder/bin/python" ;;
"pip sync")
    echo "Downloading torch (2.0MiB)" >&2
    echo " Downloaded torch" >&2 ;;
esac
"#;

/// A zip archive with one file, not compressed.
fn wheel(path: &str, content: &[u8]) -> Vec<u8> {
    let number = |number: usize, bytes: usize| number.to_le_bytes()[..bytes].to_vec();
    let sizes = [number(0, 4), number(content.len(), 4), number(content.len(), 4), number(path.len(), 2), number(0, 2)];
    let sizes = sizes.concat();
    let local = [b"PK\x03\x04".to_vec(), vec![0; 10], sizes.clone(), path.into(), content.to_vec()].concat();
    let entry = [b"PK\x01\x02".to_vec(), vec![0; 12], sizes, vec![0; 14], path.into()].concat();
    let end = [vec![0; 4], number(1, 2), number(1, 2), number(entry.len(), 4), number(local.len(), 4), number(0, 2)];
    [local, entry, b"PK\x05\x06".to_vec(), end.concat()].concat()
}

fn wheel_name() -> String {
    let arch = std::env::consts::ARCH;
    format!("uv-0.13.9-py3-none-manylinux_2_17_{arch}.manylinux2014_{arch}.whl")
}

/// An index with the wheel of a uv, whose checksum is that of `content`.
fn index(as_html: bool, content: &'static str) -> Server {
    Server::start(move |request: &Request| {
        let (name, wheel) = (wheel_name(), wheel("uv-0.13.9.data/scripts/uv", UV.as_bytes()));
        let sum: String = Sha256::digest(if content.is_empty() { &wheel[..] } else { content.as_bytes() })
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        match request.path.as_str() {
            "/simple/uv/" if as_html => Answer::ok(format!("<a href=\"../../files/{name}#sha256={sum}\">{name}</a>")),
            "/simple/uv/" => {
                assert!(request.header("accept").unwrap().contains("application/vnd.pypi.simple.v1+json"));
                let file = serde_json::json!({ "filename": name, "url": format!("/files/{name}"), "hashes": { "sha256": sum } });
                Answer::ok(serde_json::json!({ "files": [file] }).to_string())
            }
            path if path == format!("/files/{name}") => Answer::ok(wheel),
            _ => Answer::status(404),
        }
    })
}

struct Fixture {
    home: tempfile::TempDir,
    options: PeftOptions,
}

impl Fixture {
    fn new(index: &str) -> Fixture {
        let home = tempfile::tempdir().unwrap();
        let options = PeftOptions {
            home: home.path().into(),
            index: format!("{index}/simple"),
            torch: Torch::Locked,
            uv: None,
            search_path: Default::default(),
            offline: false,
            needed_on_disk: 1,
        };
        Fixture { home, options }
    }

    fn ensure(&self) -> Result<Environment, PeftError> {
        peft::ensure(&self.options, &mut |_| (), &AtomicBool::new(false))
    }

    fn refused(&self, code: &str) -> PeftError {
        let error = self.ensure().unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(!error.message_zh().is_empty() && error.message_zh() != error.to_string());
        assert!(peft::installed(&self.options).is_empty(), "half an environment is none");
        error
    }

    /// What uv was called with.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.home.path().join("tools/calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    fn tool(&self, name: &str) -> std::path::PathBuf {
        let tools = self.home.path().join("tools");
        fs::create_dir_all(&tools).unwrap();
        tools.join(name)
    }
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn it_is_installed_once_and_used_without_a_network_from_then_on() {
    let server = index(false, "");
    let mut fixture = Fixture::new(&server.address);
    let mut seen = Vec::new();
    let environment =
        peft::ensure(&fixture.options, &mut |progress| seen.push(progress), &AtomicBool::new(false)).unwrap();

    let phases = seen.iter().filter_map(|progress| match progress {
        InstallProgress::Phase(phase) => Some(*phase),
        _ => None,
    });
    assert_eq!(phases.collect::<Vec<_>>(), [Phase::Uv, Phase::Python, Phase::Packages, Phase::Check]);
    assert!(seen.contains(&InstallProgress::Packages { bytes: 2 << 20, total_bytes: 2 << 20 }));
    let [venv, sync] = &fixture.calls()[..] else { panic!("{:?}", fixture.calls()) };
    assert!(venv.starts_with("venv ") && venv.contains(">=3.11"), "{venv}");
    let expected = format!("--index-url {}", fixture.options.index);
    assert!(sync.contains("--require-hashes") && sync.contains(&expected), "{sync}");

    assert!(environment.python().is_file());
    assert!(environment.sources().unwrap().join("sage_peft/train.py").is_file());
    let installed = peft::installed(&fixture.options);
    assert_eq!((installed.len(), installed[0].current, &installed[0].path), (1, true, &environment.folder));

    server.requests();
    fixture.options.offline = true;
    fixture.options.needed_on_disk = u64::MAX;
    assert_eq!(fixture.ensure().unwrap(), environment);
    assert_eq!((server.requests().len(), fixture.calls().len()), (0, 2), "nothing was asked or run");

    // Another PyTorch is another environment; uv is there already.
    fixture.options = PeftOptions {
        offline: false,
        needed_on_disk: 1,
        torch: Torch::Index("https://t/cpu".into()),
        ..fixture.options
    };
    let other = fixture.ensure().unwrap();
    assert_eq!(server.requests().len(), 0);
    let installed = peft::installed(&fixture.options);
    assert_eq!(installed.iter().map(|one| one.current).collect::<Vec<_>>(), [true, false]);
    let torch = fixture.calls().into_iter().find(|call| call.starts_with("pip install")).unwrap();
    assert!(torch.contains("--index-url https://t/cpu") && torch.contains("torch>="), "{torch}");
    let lock = fs::read_to_string(other.folder.join("requirements.lock")).unwrap();
    assert!(lock.contains("\ntransformers==") && !lock.contains("\ntorch=="));

    peft::remove(&fixture.options, &AtomicBool::new(false)).unwrap();
    assert_eq!(peft::installed(&fixture.options), []);
}

#[test]
fn mirrors_that_only_know_html_will_do() {
    let server = index(true, "");
    let fixture = Fixture::new(&server.address);
    fixture.ensure().unwrap();
    assert_eq!(fixture.calls().len(), 2);
}

#[test]
fn two_attempts_install_once() {
    let server = index(false, "");
    let fixture = Fixture::new(&server.address);
    let hold = fixture.tool("hold");
    fs::write(&hold, "").unwrap();
    let (waits, waiting) = mpsc::channel();
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| fixture.ensure());
        wait_for("the first installs", || fixture.calls().len() == 1);
        let second = scope.spawn(|| {
            let mut tell = |progress| waits.send(progress).unwrap();
            peft::ensure(&fixture.options, &mut tell, &AtomicBool::new(false))
        });
        assert_eq!(waiting.recv_timeout(Duration::from_secs(20)), Ok(InstallProgress::Waiting));
        fs::remove_file(&hold).unwrap();
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(fixture.calls().iter().filter(|call| call.starts_with("venv")).count(), 1);
    assert!(waiting.try_recv().is_err(), "the second had nothing to do");
}

#[test]
fn an_installation_can_be_stopped_and_leaves_nothing_half_done() {
    let server = index(false, "");
    let fixture = Fixture::new(&server.address);
    let hold = fixture.tool("hold");
    fs::write(&hold, "").unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopped = scope.spawn(|| peft::ensure(&fixture.options, &mut |_| (), &stop));
        wait_for("it installs", || fixture.calls().len() == 1);
        stop.store(true, Ordering::Relaxed);
        assert!(matches!(stopped.join().unwrap(), Err(PeftError::Stopped)));
    });
    assert_eq!(peft::installed(&fixture.options), []);
    fs::remove_file(&hold).unwrap();
    fixture.ensure().unwrap();
}

#[test]
fn what_stands_in_the_way_is_told_with_a_next_step() {
    let server = index(false, "");
    let mut fixture = Fixture::new(&server.address);
    fixture.options.needed_on_disk = u64::MAX;
    assert!(fixture.refused("disk-full").to_string().contains("SAGE_HOME"));
    fixture.options.needed_on_disk = 1;
    fixture.options.offline = true;
    fixture.refused("peft-offline");
    assert_eq!(server.requests().len(), 0, "neither was tried");
    fixture.options.offline = false;

    let said = [
        ("--no-project", "error: No interpreter found for Python >=3.11, <3.15\n", "peft-no-python"),
        ("sync", "error: Failed to fetch: `https://x`\n  Caused by: dns error\n", "peft-index-unreachable"),
        ("sync", "error: Hash mismatch for `torch==2.15.0`\n", "peft-corrupt-file"),
        ("sync", "error: failed to write\n  Caused by: No space left on device (os error 28)\n", "disk-full"),
        ("sync", "error: unexpected argument\n", "peft-install-failed"),
        ("python", "ImportError: libcudart.so: cannot open shared object file\n", "peft-install-failed"),
    ];
    for (command, words, code) in said {
        let says = fixture.tool(&format!("say-{command}"));
        fs::write(&says, words).unwrap();
        fixture.refused(code);
        fs::remove_file(says).unwrap();
    }
    fixture.ensure().unwrap();
}

#[test]
fn an_index_that_cannot_be_used_is_told() {
    let closed = Server::start(|_| Answer { break_after: Some(0), ..Answer::ok("") });
    Fixture::new(&closed.address).refused("peft-index-unexpected-answer");
    let page = Server::start(|_| Answer::ok("<h1>Please sign in</h1>"));
    Fixture::new(&page.address).refused("peft-index-unexpected-answer");
    Fixture::new(&Server::start(|_| Answer::status(404)).address).refused("peft-index-unexpected-answer");
    Fixture::new(&Server::start(|_| Answer::status(502)).address).refused("peft-index-unreachable");
    Fixture::new(&Server::start(|_| Answer::ok(r#"{"files": []}"#)).address).refused("peft-no-uv");
    let corrupt = index(false, "something else");
    let fixture = Fixture::new(&corrupt.address);
    fixture.refused("peft-corrupt-file");
    assert!(!Path::new(&fixture.home.path().join("tools/uv")).exists());

    let mut own = Fixture::new("http://127.0.0.1:9");
    own.options.uv = Some("/nonexistent/uv".into());
    own.refused("peft-no-uv");
}

#[test]
fn without_a_fitting_pytorch_the_locked_one_is_taken() {
    let server = index(false, "");
    let mut fixture = Fixture::new(&server.address);
    fixture.options.torch = Torch::Fitting;
    // `pip install` is only used for PyTorch.
    fs::write(fixture.tool("say-install"), "error: Failed to fetch\n").unwrap();
    let mut seen = Vec::new();
    let environment =
        peft::ensure(&fixture.options, &mut |progress| seen.push(progress), &AtomicBool::new(false)).unwrap();
    assert!(seen.contains(&InstallProgress::LockedTorch));
    assert!(fixture.calls().iter().any(|call| call.contains("--torch-backend auto")));
    let lock = fs::read_to_string(environment.folder.join("requirements.lock")).unwrap();
    assert!(lock.contains("\ntorch=="));
}

#[test]
fn the_machines_own_uv_is_used_if_it_is_new_enough() {
    let server = index(false, "");
    for (version, fetched) in [("uv 0.7.2 (abc)", false), ("uv 0.6.17", true), ("something else", true)] {
        let mut fixture = Fixture::new(&server.address);
        let own = fixture.home.path().join("own");
        fs::create_dir(&own).unwrap();
        let script =
            UV.replace("#!/bin/sh\n", &format!("#!/bin/sh\nif [ $1 = --version ]; then echo '{version}'; exit; fi\n"));
        fs::write(own.join("uv"), script).unwrap();
        fs::set_permissions(own.join("uv"), fs::Permissions::from_mode(0o755)).unwrap();
        // Until no child that another test is about to start has it open for writing.
        wait_for("it runs", || Command::new(own.join("uv")).arg("--version").output().is_ok());
        fixture.options.search_path = format!(":relative:{}", own.display()).into();
        fixture.ensure().unwrap();
        assert_eq!((own.join("calls").exists(), !server.requests().is_empty()), (!fetched, fetched), "{version}");
    }
}
