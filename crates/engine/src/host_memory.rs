//! Whether the machine has memory for what runs and for what would start.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::disk::{Room, Verdict};

/// Unless somebody says otherwise, so much is left alone, or a twentieth of the memory where that is less.
const USUAL: u64 = 2 << 30;
const USUAL_PART: u64 = 20;
/// A limit is never more than this part of the memory, so that a small machine can be used at all.
const MOST_OF_MEMORY: u64 = 2;
/// Below this part of the limit the youngest training is paused.
const PAUSE_BELOW: u64 = 4;
/// What was closed opens again only when so much of the limit is available on top of it: else it would flutter.
const SLACK: u64 = 10;
/// One plan may follow another within a millisecond; memory is read at most so often.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// A paused training waits for as much memory as it gave back, but not for longer than this, and each time twice as long:
/// perhaps only its own next start can tell whether there is room for it.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(16 * 60);

/// Where this machine's memory is told of.
#[derive(Debug, Clone)]
pub struct Source {
    /// In the form of `/proc/meminfo`.
    meminfo: PathBuf,
    /// The own control groups and those around them, each of which may have a limit.
    groups: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Source {
    /// The kernel's account and the limits of the control groups that this process is in.
    pub fn machine() -> Source {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Source { meminfo: "/proc/meminfo".into(), groups: groups(&own, Path::new("/sys/fs/cgroup")) }
    }

    /// Only this file, in the form of `/proc/meminfo`.
    pub fn file(meminfo: PathBuf) -> Source {
        Source { meminfo, groups: Vec::new() }
    }

    /// What is available by the tightest account; `None` where it cannot be read.
    fn read(&self) -> Option<Room> {
        let whole = meminfo(&fs::read_to_string(&self.meminfo).ok()?)?;
        let limited = self.groups.iter().filter_map(|group| group.room(whole.total));
        limited.chain([whole]).min_by_key(|room| room.free)
    }
}

fn meminfo(text: &str) -> Option<Room> {
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Room { free: bytes("MemAvailable")?, total: bytes("MemTotal")? })
}

/// `own`: `/proc/self/cgroup`. In a container the path may be the host's, of which only the root can be seen.
fn groups(own: &str, root: &Path) -> Vec<Group> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (base, version) = match controllers {
            "" => (root.to_owned(), Version::V2),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), Version::V1),
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        found.extend(path.ancestors().map(|path| Group { folder: base.join(path), version }));
    }
    // A limit may be set later.
    found.retain(|group: &Group| group.folder.join(group.version.limit()).exists());
    found
}

impl Version {
    fn limit(self) -> &'static str {
        match self {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        }
    }
}

impl Group {
    /// `None` without a limit below that of the whole machine. Files that were read and are not in use count as available: they are
    /// dropped at need.
    fn room(&self, whole: u64) -> Option<Room> {
        let (used, inactive) = match self.version {
            Version::V1 => ("memory.usage_in_bytes", "total_inactive_file "),
            Version::V2 => ("memory.current", "inactive_file "),
        };
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).ok();
        // `max` is no number.
        let total: u64 = read(self.version.limit())?.trim().parse().ok().filter(|total| *total < whole)?;
        let used: u64 = read(used)?.trim().parse().ok()?;
        let stat = read("memory.stat").unwrap_or_default();
        let inactive = stat.lines().find_map(|line| line.strip_prefix(inactive)?.trim().parse().ok()).unwrap_or(0);
        Some(Room { free: total.saturating_sub(used.saturating_sub(inactive)), total })
    }
}

/// Remembers what was decided from one look to the next.
#[derive(Debug)]
pub struct Guard {
    source: Source,
    /// Bytes; `None`: the usual ones.
    min_free: Option<u64>,
    last_look: Option<Instant>,
    verdict: Verdict,
    pause: Option<Paused>,
    /// Pauses of late, each soon after the one before.
    in_a_row: u32,
}

/// The last training that was paused for memory.
#[derive(Debug)]
struct Paused {
    /// Bytes that were available then.
    before: u64,
    /// Bytes that it gave back and that are to be there again.
    freed: u64,
    /// Until then everything waits for that much.
    until: Instant,
}

impl Guard {
    pub fn new(source: Source, min_free: Option<u64>) -> Guard {
        Guard { source, min_free, last_look: None, verdict: Verdict::Enough, pause: None, in_a_row: 0 }
    }

    /// Where memory cannot be read, as before.
    pub fn look(&mut self, now: Instant) -> Verdict {
        if self.last_look.is_none_or(|then| now.duration_since(then) >= BETWEEN_LOOKS) {
            self.last_look = Some(now);
            if let Some(room) = self.source.read() {
                self.verdict = self.judge(room, now);
            }
        }
        self.verdict
    }

    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// A training is asked to save and end, because so much is available and no more.
    pub fn pausing(&mut self, free: u64, now: Instant) {
        let wait = (FIRST_WAIT * 2u32.pow(self.in_a_row.min(8))).min(LONGEST_WAIT);
        self.in_a_row += 1;
        self.pause = Some(Paused { before: free, freed: 0, until: now + wait });
    }

    /// It has ended.
    pub fn paused(&mut self, now: Instant) {
        if let (Some(pause), Some(room)) = (&mut self.pause, self.source.read()) {
            pause.freed = room.free.saturating_sub(pause.before);
        }
        // What was seen before it ended must not end another.
        self.last_look = None;
        self.look(now);
    }

    fn judge(&mut self, Room { free, total }: Room, now: Instant) -> Verdict {
        let wanted = self.min_free.unwrap_or(USUAL.min(total / USUAL_PART));
        let limit = wanted.min(total / MOST_OF_MEMORY);
        let closed = self.verdict != Verdict::Enough;
        let freed = self.pause.as_ref().filter(|pause| now < pause.until).map_or(0, |pause| pause.freed);
        let opens_at = limit.saturating_add(limit / SLACK).saturating_add(freed);
        if free >= if closed { opens_at } else { limit } {
            if let Some(pause) = &mut self.pause {
                pause.freed = 0;
                if now >= pause.until + LONGEST_WAIT {
                    (self.pause, self.in_a_row) = (None, 0);
                }
            }
            return Verdict::Enough;
        }
        if free < limit / PAUSE_BELOW {
            return Verdict::PauseRunning { free, limit: opens_at };
        }
        Verdict::NothingNew { free, limit: opens_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn write(path: &Path, free: u64) {
        let text = format!("MemTotal: {} kB\nMemFree: 1 kB\nMemAvailable: {} kB\n", 40 * GIB / 1024, free / 1024);
        fs::write(path, text).unwrap();
    }

    #[test]
    fn first_nothing_new_starts_then_trainings_pause_and_it_does_not_flutter() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut guard = Guard::new(Source::file(file.path().into()), None);
        let (start, limit) = (Instant::now(), 2 * GIB + 2 * GIB / 10);
        let mut look = |seconds: u64, free: u64| {
            write(file.path(), free);
            guard.look(start + Duration::from_secs(seconds))
        };
        assert_eq!(look(0, 2 * GIB), Verdict::Enough, "a twentieth of 40 GiB");
        assert_eq!(look(1, 2 * GIB - 1024), Verdict::NothingNew { free: 2 * GIB - 1024, limit });
        assert_eq!(look(2, 2 * GIB), Verdict::NothingNew { free: 2 * GIB, limit });
        assert_eq!(look(3, GIB / 4), Verdict::PauseRunning { free: GIB / 4, limit });
        assert_eq!(look(4, 3 * GIB), Verdict::Enough);
        fs::write(file.path(), "?").unwrap();
        assert_eq!(guard.look(start + Duration::from_secs(5)), Verdict::Enough, "as before");
    }

    #[test]
    fn what_was_paused_waits_for_what_it_gave_back_but_not_for_ever() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut guard = Guard::new(Source::file(file.path().into()), Some(2 * GIB));
        let mut now = Instant::now();
        write(file.path(), GIB / 4);
        for wait in [FIRST_WAIT, 2 * FIRST_WAIT] {
            write(file.path(), GIB / 4);
            now += BETWEEN_LOOKS;
            assert!(matches!(guard.look(now), Verdict::PauseRunning { .. }));
            guard.pausing(GIB / 4, now);
            let until = now + wait;
            // It held 10 GiB: as long as nobody else lets go, there is no room for it.
            write(file.path(), 10 * GIB + GIB / 4);
            guard.paused(now);
            assert!(matches!(guard.verdict(), Verdict::NothingNew { limit, .. } if limit > 12 * GIB));
            assert!(matches!(guard.look(until - BETWEEN_LOOKS), Verdict::NothingNew { .. }));
            now = until;
            assert_eq!(guard.look(now), Verdict::Enough, "it is tried");
        }
        write(file.path(), GIB / 4);
        now += BETWEEN_LOOKS;
        guard.look(now);
        guard.pausing(GIB / 4, now);
        write(file.path(), 10 * GIB);
        guard.paused(now);
        write(file.path(), 20 * GIB);
        assert_eq!(guard.look(now + BETWEEN_LOOKS), Verdict::Enough, "somebody else let go");
        write(file.path(), GIB);
        let limit = 2 * GIB + 2 * GIB / 10;
        assert_eq!(guard.look(now + 2 * BETWEEN_LOOKS), Verdict::NothingNew { free: GIB, limit }, "it has gone on");
    }

    #[test]
    fn a_limit_is_at_most_half_of_the_memory_and_none_closes_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let now = Instant::now();
        let look = |min_free, free| {
            write(file.path(), free);
            Guard::new(Source::file(file.path().into()), Some(min_free)).look(now)
        };
        assert_eq!(look(1000 * GIB, 20 * GIB), Verdict::Enough);
        assert_eq!(look(1000 * GIB, 19 * GIB), Verdict::NothingNew { free: 19 * GIB, limit: 22 * GIB });
        assert_eq!(look(0, 0), Verdict::Enough);
    }

    #[test]
    fn the_tightest_control_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let make = |folder: &str, files: &[(&str, String)]| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        };
        let v2 = |limit: String, used: u64, inactive: u64| {
            let stat = format!("anon 1\ninactive_file {inactive}\nactive_file 7\n");
            [("memory.max", limit), ("memory.current", format!("{used}\n")), ("memory.stat", stat)]
        };
        make("box", &v2(format!("{}\n", 8 * GIB), 7 * GIB, 2 * GIB));
        make("box/studio", &v2("max\n".into(), 5 * GIB, 0));
        let v1 = [
            ("memory.limit_in_bytes", (6 * GIB).to_string()),
            ("memory.usage_in_bytes", (4 * GIB).to_string()),
            ("memory.stat", format!("inactive_file 5\ntotal_inactive_file {GIB}\n")),
        ];
        make("memory", &v1);
        let meminfo = root.path().join("meminfo");
        write(&meminfo, 30 * GIB);
        let read = |own: &str| {
            let groups = groups(own, root.path());
            Source { meminfo: meminfo.clone(), groups }.read().unwrap()
        };
        assert_eq!(read("0::/box/studio\n"), Room { free: 3 * GIB, total: 8 * GIB });
        // Of the host's path only the container's own root can be seen.
        assert_eq!(read("9:cpu:/x\n4:memory:/docker/4f\n0::/\n"), Room { free: 3 * GIB, total: 6 * GIB });
        assert_eq!(read("0::/\n"), Room { free: 30 * GIB, total: 40 * GIB });
        write(&meminfo, GIB);
        assert_eq!(read("0::/box/studio\n").free, GIB, "the machine itself has less");
    }

    #[test]
    fn this_machine_is_read() {
        let room = Source::machine().read().unwrap();
        assert!(room.free <= room.total && room.total > 0, "{room:?}");
    }
}
