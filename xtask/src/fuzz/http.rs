//! Requests to a real studio: whatever they are, it answers none with an error of its own, stays small, and goes on.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use client::testing::Studio;

use super::{Outcome, Target, corpus, mutate::Mutator, targets};

/// For an answer to what may not even be a whole request.
const PATIENCE: Duration = Duration::from_millis(150);
/// Bytes of memory that the studio may come to.
const MEMORY: u64 = 400 << 20;

pub fn hunt(seed: u64, time: Duration) -> Outcome {
    let studio = Studio::start();
    let address: SocketAddr = studio.address().trim_start_matches("http://").parse().expect("an address");
    let mut mutator = Mutator::new(seed, corpus(Target::Http), targets::words(Target::Http));
    let mut outcome = Outcome::default();
    let mut unchanged = mutator.bases();
    let end = Instant::now() + time;
    while Instant::now() < end && outcome.found.len() < 10 {
        let input = unchanged.pop().unwrap_or_else(|| mutator.next());
        // The Host that is served has its port, which each run has another.
        let sent = replaced(&input, b"localhost\r\n", format!("localhost:{}\r\n", address.port()).as_bytes());
        let result = exchange(address, &sent);
        outcome.inputs += 1;
        let fault = match &result {
            // Full, busy and shutting down are answers; that something broke is none.
            Ok(answer) if answer.starts_with("500") => Some(format!("answered {answer}")),
            Ok(_) => None,
            Err(error) => Some(format!("no connection: {error}")),
        };
        if let Some(what) = fault {
            outcome.found.push((what, input.clone()));
        }
        if let Ok(answer) = &result {
            mutator.learn(answer, input.clone());
        }
        if outcome.inputs.is_multiple_of(500) {
            if studio.client().health().is_err() {
                outcome.found.push(("the studio does not answer any more".into(), input));
                break;
            }
            let memory = memory_of(studio.pid());
            if memory > MEMORY {
                outcome.found.push((format!("the studio has come to {} MiB", memory >> 20), input));
                break;
            }
        }
    }
    outcome.results = mutator.results();
    outcome
}

/// Status and code of the answer, as far as there is one.
fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    // It may be refused before all of it is sent.
    let _ = stream.write_all(request);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.take(4096).read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).unwrap_or("none");
    let code = answer.split_once("\"code\":\"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or("-");
    Ok(format!("{status} {code}"))
}

fn replaced(text: &[u8], word: &[u8], by: &[u8]) -> Vec<u8> {
    match text.windows(word.len()).position(|part| part == word) {
        Some(at) => [&text[..at], by, &text[at + word.len()..]].concat(),
        None => text.to_vec(),
    }
}

/// Resident bytes.
fn memory_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}
