//! Programs that the jobs run.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

/// More than any step of a job takes on two cores, the first build of all dependencies included.
const LONGEST: Duration = Duration::from_secs(40 * 60);
/// What a program said last comes within this of its end, unless something it left behind still has its output open.
const LAST_WORDS: Duration = Duration::from_secs(5);

pub fn in_root(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(crate::root());
    command
}

/// Runs a program, shows what it says while it says it, and answers that too. One that takes longer than any should is
/// ended with all that it started in its group, and has failed.
pub fn watched(mut command: Command) -> (bool, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let message = format!("{}: {error}", command.get_program().to_string_lossy());
            eprintln!("{message}");
            return (false, message);
        }
    };
    let said = Arc::new(Mutex::new(String::new()));
    let (ended, quiet) = mpsc::channel::<()>();
    tee(child.stdout.take().expect("it is piped"), said.clone(), std::io::stdout(), ended.clone());
    tee(child.stderr.take().expect("it is piped"), said.clone(), std::io::stderr(), ended);
    let succeeded = end_of(&mut child, LONGEST).is_some_and(|status| status.success());
    // Nobody sends anything: it is over when both have dropped their ends.
    if quiet.recv_timeout(LAST_WORDS) == Err(mpsc::RecvTimeoutError::Timeout) {
        eprintln!("something that {} started still has its output open", command.get_program().to_string_lossy());
    }
    let said = said.lock().expect("copying does not panic").clone();
    (succeeded, said)
}

/// `None`: it took too long and was killed.
fn end_of(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let group = Pid::from_child(child);
    let (over, is_over) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        let late = is_over.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            eprintln!("ended after {} minutes; what ran:", limit.as_secs() / 60);
            let _ = Command::new("ps").args(["-eo", "pid,ppid,etimes,stat,args", "--forest"]).status();
            let _ = kill_process_group(group, Signal::KILL);
        }
        late
    });
    let status = child.wait();
    drop(over);
    let late = watch.join().expect("watching does not panic");
    status.ok().filter(|_| !late)
}

/// Copies line by line; `ended` is dropped at the end of the output.
fn tee(
    from: impl Read + Send + 'static,
    into: Arc<Mutex<String>>,
    mut to: impl Write + Send + 'static,
    ended: mpsc::Sender<()>,
) {
    thread::spawn(move || {
        let _ended = ended;
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            let _ = to.write_all(&line);
            into.lock().expect("copying does not panic").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_is_left_behind_holds_nobody_up() {
        let (succeeded, said) = watched(shell("sleep 1000 & echo $!; exit 3"));
        assert!(!succeeded);
        let left: i32 = said.trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(left).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn who_takes_too_long_is_ended() {
        let mut child = shell("sleep 1000 & wait").process_group(0).spawn().unwrap();
        assert!(end_of(&mut child, Duration::from_millis(50)).is_none());
        assert!(end_of(&mut shell("exit 3").spawn().unwrap(), LONGEST).is_some_and(|status| status.code() == Some(3)));
    }
}
