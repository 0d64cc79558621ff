//! Who a process is, from /proc.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use domain::ProcessUse;

/// Names of processes and users. User names are read once; they rarely change.
#[derive(Default)]
pub(crate) struct Processes {
    users: Option<HashMap<u32, String>>,
}

impl Processes {
    /// What /proc tells of the pid, which may be nothing: in a container the driver gives the host's pids.
    pub fn describe(&mut self, pid: u32, bytes: Option<u64>) -> ProcessUse {
        let folder = format!("/proc/{pid}");
        let name = fs::read_to_string(format!("{folder}/comm")).ok().map(|name| name.trim_end().to_owned());
        let user = fs::metadata(&folder).ok().map(|metadata| self.user(metadata.uid()));
        ProcessUse { name, user, ..ProcessUse::new(pid, bytes) }
    }

    /// The user's name, or the number of one without a name here.
    fn user(&mut self, uid: u32) -> String {
        let users = self.users.get_or_insert_with(|| users(&fs::read_to_string("/etc/passwd").unwrap_or_default()));
        users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }
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
        let own = processes.describe(std::process::id(), Some(7));
        assert!(own.name.is_some_and(|name| !name.is_empty()));
        assert!(own.user.is_some_and(|user| !user.is_empty()));
        assert_eq!(own.bytes, Some(7));

        let gone = processes.describe(u32::MAX, None);
        assert_eq!((gone.name, gone.user, gone.bytes), (None, None, None));
    }

    #[test]
    fn users_are_read_from_passwd() {
        let users = users("root:x:0:0:root:/root:/bin/sh\nbroken\nana:x:1000:1000::/home/ana:/bin/sh\n");
        assert_eq!(users.get(&0).map(String::as_str), Some("root"));
        assert_eq!(users.get(&1000).map(String::as_str), Some("ana"));
        assert_eq!(users.len(), 2);
    }
}
