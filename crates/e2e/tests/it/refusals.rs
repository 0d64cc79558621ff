//! What cannot work is refused with a sentence that says what to do.

use std::{net::TcpListener, process::Output};

use client::testing::{Options, Studio, wait_for};

use crate::support::{PATIENCE, script};

fn refused(output: &Output, words: &[&str]) {
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    for word in words {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
}

#[test]
fn a_second_studio_a_taken_port_a_home_that_cannot_be_written() {
    let studio = Studio::start();
    let start = ["studio", "start", "--foreground", "--port", "0", "--second-port", "none"];
    refused(&studio.command(start).output().unwrap(), &[&studio.pid().to_string(), &studio.address()]);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let home = tempfile::tempdir().unwrap();
    let mut command = studio.command(["studio", "start", "--foreground", "--port", &port, "--second-port", "none"]);
    refused(&command.env("SAGE_HOME", home.path()).output().unwrap(), &[&port, "--port"]);

    // Not even root can make files here.
    let mut command = studio.command(start);
    refused(&command.env("SAGE_HOME", "/proc/sage").output().unwrap(), &["/proc/sage", "--home"]);
}

#[test]
fn listening_beyond_this_machine_needs_authentication() {
    let home = tempfile::tempdir().unwrap();
    let studio = Studio::start();
    let mut command = studio.command(["studio", "start", "--foreground", "--port", "0", "--listen", "0.0.0.0"]);
    refused(&command.env("SAGE_HOME", home.path()).output().unwrap(), &["authentication"]);
}

#[test]
fn without_a_studio_the_cli_says_how_to_start_one() {
    let mut studio = Studio::start();
    studio.stop();
    let output = studio.command(["task", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    refused(&output, &["sage studio start"]);
}

#[test]
fn follow_ends_with_the_tasks_own_exit_status() {
    let studio = Studio::start_with(Options::default().env("SAGE_GPU_MOCK_COUNT", "2"));
    let follow = |text: &str| {
        let mut command = studio.command(["task", "submit", "--follow", "--", "sh", "-c", text]);
        command.current_dir(studio.home().root()).output().unwrap()
    };
    let output = follow("echo hello from the task; exit 7");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("hello from the task"));
    assert_eq!(follow("true").status.code(), Some(0));

    let client = studio.client();
    let endless = client.submit(&script(&studio, "while :; do sleep 0.05; done")).unwrap().task_id;
    let mut follower = studio.command(["task", "logs", "--follow", &endless]).spawn().unwrap();
    client.cancel(&endless).unwrap();
    let status = wait_for("the follower to end", PATIENCE, || follower.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
}

#[test]
fn a_bad_data_set_is_refused_with_its_line() {
    let studio = Studio::start();
    let path = studio.home().root().join("bad.jsonl");
    std::fs::write(&path, "{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": \"c\"}\n").unwrap();
    let path = path.display().to_string();
    refused(&studio.command(["dataset", "check", &path]).output().unwrap(), &["line 2", "output"]);
    let submit = ["task", "submit", "--model", "tiny", "--data", &path];
    refused(&studio.command(submit).output().unwrap(), &["line 2"]);
    assert!(studio.client().tasks(&Default::default()).unwrap().tasks.is_empty(), "nothing was accepted");
}
