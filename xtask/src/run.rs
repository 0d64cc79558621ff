//! Programs that the jobs run.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

pub fn in_root(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(crate::root());
    command
}

/// Runs a program, shows what it says while it says it, and answers that too.
pub fn watched(mut command: Command) -> (bool, String) {
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            let message = format!("{}: {error}", command.get_program().to_string_lossy());
            eprintln!("{message}");
            return (false, message);
        }
    };
    let said = Arc::new(Mutex::new(String::new()));
    let stdout = tee(child.stdout.take().expect("it is piped"), said.clone(), std::io::stdout());
    let stderr = tee(child.stderr.take().expect("it is piped"), said.clone(), std::io::stderr());
    stdout.join().expect("copying does not panic");
    stderr.join().expect("copying does not panic");
    let succeeded = child.wait().is_ok_and(|status| status.success());
    let said = said.lock().expect("copying does not panic").clone();
    (succeeded, said)
}

fn tee(
    from: impl Read + Send + 'static,
    into: Arc<Mutex<String>>,
    mut to: impl Write + Send + 'static,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            let _ = to.write_all(&line);
            into.lock().expect("copying does not panic").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}
