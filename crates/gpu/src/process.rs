//! Who a process is, from /proc.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use domain::{DeviceMemory, ProcessUse, TaskId};

use crate::Options;
use crate::command_line::{self, known_service};

/// How far up a task is looked for: programs start programs, but not for ever.
const MOST_ANCESTORS: usize = 32;

/// Describes processes, each once as long as it lives.
#[derive(Default)]
pub(crate) struct Processes {
    /// By user id; user names are read once, because they rarely change.
    users: Option<HashMap<u32, String>>,
    known: HashMap<u32, Known>,
}

struct Known {
    /// In clock ticks after boot: tells a process from a later one of the same number.
    started: u64,
    name: Option<String>,
    user: Option<String>,
    command: Option<String>,
    arguments: Vec<String>,
    task: Option<TaskId>,
}

impl Processes {
    /// What /proc tells of the pids, which may be nothing: in a container the driver gives the host's.
    pub fn describe(&mut self, uses: &[(u32, Option<u64>)], options: &Options) -> Vec<ProcessUse> {
        self.known.retain(|pid, _| uses.iter().any(|(used, _)| used == pid));
        uses.iter().map(|(pid, bytes)| self.describe_one(*pid, *bytes, options)).collect()
    }

    fn describe_one(&mut self, pid: u32, bytes: Option<u64>, options: &Options) -> ProcessUse {
        let folder = options.path("proc").join(pid.to_string());
        let unknown = ProcessUse::new(pid, bytes);
        let Some(stat) = Stat::read(&folder) else { return unknown };
        if self.known.get(&pid).is_none_or(|known| known.started != stat.started) {
            // The pid is another process's here than there.
            if is_without_gpu(&folder) {
                return unknown;
            }
            let known = self.look_at(pid, &folder, &stat, options);
            self.known.insert(pid, known);
        }
        let known = &self.known[&pid];
        ProcessUse {
            name: known.name.clone(),
            user: known.user.clone(),
            command: known.command.clone(),
            task: known.task,
            service: match known.task {
                Some(_) => None,
                None => service(&known.arguments, options),
            },
            ..unknown
        }
    }

    fn look_at(&mut self, pid: u32, folder: &Path, stat: &Stat, options: &Options) -> Known {
        let arguments = arguments(&fs::read(folder.join("cmdline")).unwrap_or_default());
        Known {
            started: stat.started,
            name: fs::read_to_string(folder.join("comm")).ok().map(|name| name.trim_end().to_owned()),
            user: fs::metadata(folder).ok().map(|metadata| self.user(metadata.uid(), options)),
            command: command_line::readable(&arguments),
            arguments,
            task: task(pid, options),
        }
    }

    /// The user's name, or the number of one without a name here.
    fn user(&mut self, uid: u32, options: &Options) -> String {
        let read = || users(&fs::read_to_string(options.path("etc/passwd")).unwrap_or_default());
        self.users.get_or_insert_with(read).get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }
}

/// Bytes in use that no process accounts for; `None` where a process hides its use.
pub(crate) fn unattributed(memory: &DeviceMemory, processes: &[ProcessUse]) -> Option<u64> {
    let known: Option<u64> = processes.iter().map(|process| process.bytes).sum();
    Some(memory.used.saturating_sub(known?))
}

struct Stat {
    parent: u32,
    started: u64,
}

impl Stat {
    fn read(folder: &Path) -> Option<Stat> {
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        // The name, in parentheses, may contain anything.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split_ascii_whitespace().skip(1);
        Some(Stat { parent: fields.next()?.parse().ok()?, started: fields.nth(17)?.parse().ok()? })
    }
}

/// Whether the process certainly has no NVIDIA or DRM device open, although there are some. Processes of other users do
/// not show what they have open.
fn is_without_gpu(folder: &Path) -> bool {
    let is_device = |path: PathBuf| path.starts_with("/dev/dri") || path.to_string_lossy().starts_with("/dev/nvidia");
    if !Path::new("/dev/nvidiactl").exists() {
        return false;
    }
    let Ok(files) = fs::read_dir(folder.join("fd")) else { return false };
    !files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).any(is_device)
}

/// The studio's task that the process or one of its ancestors was started for.
fn task(pid: u32, options: &Options) -> Option<TaskId> {
    let home = options.home.as_deref()?;
    let mut pid = pid;
    for _ in 0..MOST_ANCESTORS {
        let folder = options.path("proc").join(pid.to_string());
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        if let Some(task) = task_in(&environment, home) {
            return Some(task);
        }
        pid = Stat::read(&folder)?.parent;
        if pid <= 1 {
            return None;
        }
    }
    None
}

fn task_in(environment: &[u8], home: &Path) -> Option<TaskId> {
    let value = |name: &str| {
        let variables = environment.split(|byte| *byte == 0);
        let mut values = variables.filter_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        values.next().map(String::from_utf8_lossy)
    };
    (Path::new(value("SAGE_HOME")?.as_ref()) == home).then(|| value("SAGE_TASK_ID")?.parse().ok())?
}

fn service(arguments: &[String], options: &Options) -> Option<String> {
    let command = arguments.join(" ");
    let registered = options
        .services
        .iter()
        .find(|service| !service.command_contains.is_empty() && command.contains(&service.command_contains));
    match registered {
        Some(service) => Some(service.name.clone()),
        None => known_service(arguments).map(str::to_owned),
    }
}

fn arguments(cmdline: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(cmdline);
    text.split('\0').filter(|argument| !argument.is_empty()).map(str::to_owned).collect()
}

fn users(passwd: &str) -> HashMap<u32, String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    passwd.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_described_and_a_foreign_pid_is_only_a_number() {
        let mut processes = Processes::default();
        let uses = [(std::process::id(), Some(7)), (u32::MAX, None)];
        let described = processes.describe(&uses, &Options::default());
        let [own, gone] = &described[..] else { panic!("{described:?}") };
        assert!(own.name.as_ref().is_some_and(|name| !name.is_empty()));
        assert!(own.user.as_ref().is_some_and(|user| !user.is_empty()));
        assert!(own.command.as_ref().is_some_and(|command| command.contains("gpu")));
        assert_eq!((own.bytes, own.task), (Some(7), None));
        assert_eq!(*gone, ProcessUse::new(u32::MAX, None));
    }

    #[test]
    fn a_task_is_recognised_by_its_environment_and_only_of_this_home() {
        let environment = b"PATH=/bin\0SAGE_HOME=/home/ana/.sage\0SAGE_TASK_ID=finetune_1700000000_3\0";
        assert_eq!(task_in(environment, Path::new("/home/ana/.sage")), Some(TaskId::new(1_700_000_000, 3)));
        assert_eq!(task_in(environment, Path::new("/home/bob/.sage")), None, "another studio's");
        assert_eq!(task_in(b"SAGE_HOME=/h\0SAGE_TASK_ID=x\0", Path::new("/h")), None);
    }

    #[test]
    fn what_no_process_accounts_for_is_the_rest() {
        let memory = DeviceMemory { total: 100, reserved: Some(5), used: 60, free: 35 };
        let processes = [ProcessUse::new(1, Some(20)), ProcessUse::new(2, Some(30))];
        assert_eq!(unattributed(&memory, &processes), Some(10));
        assert_eq!(unattributed(&memory, &[]), Some(60), "hidden processes");
        assert_eq!(unattributed(&memory, &[ProcessUse::new(1, None)]), None);
    }

    #[test]
    fn users_are_read_from_passwd() {
        let users = users("root:x:0:0:root:/root:/bin/sh\nbroken\nana:x:1000:1000::/home/ana:/bin/sh\n");
        assert_eq!(users.get(&0).map(String::as_str), Some("root"));
        assert_eq!(users.get(&1000).map(String::as_str), Some("ana"));
        assert_eq!(users.len(), 2);
    }
}
