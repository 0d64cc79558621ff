//! Whether the disk has room for what runs and for what would start.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

/// A limit is never more than this part of a disk, so that a small one can be used at all.
const MOST_OF_DISK: u64 = 10;
/// Trainings are stopped at a checkpoint when, as fast as the disk fills, it would be full after so much more than the
/// time that a checkpoint may take.
const AHEAD: Duration = Duration::from_secs(30);
/// What was closed opens again only when so much of the limit is free on top of it: else it would flutter.
const SLACK: u64 = 10;
/// How quickly the disk fills is told from looks at least so far apart.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Bytes of a file system, or of a machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// On a file system, for those who are not root.
    pub free: u64,
    pub total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Enough,
    /// Nothing new starts; what runs goes on.
    NothingNew {
        free: u64,
        limit: u64,
    },
    /// What runs is stopped at a checkpoint, before there is no room left to write one.
    PauseRunning {
        free: u64,
        limit: u64,
    },
}

/// `min_free`: bytes to be left alone. `filling`: bytes by which the disk fills in a second. `grace`: what a training may
/// take for its last checkpoint. `closed`: nothing new starts already.
pub fn judge(room: Room, min_free: u64, filling: f64, grace: Duration, closed: bool) -> Verdict {
    let Room { free, total } = room;
    let limit = min_free.min(total / MOST_OF_DISK);
    let opens_at = if closed { limit.saturating_add(limit / SLACK) } else { limit };
    if free >= opens_at {
        return Verdict::Enough;
    }
    let full_soon = filling > 0.0 && (free as f64) < filling * (grace + AHEAD).as_secs_f64();
    if free < limit / 4 || (free < limit && full_soon) {
        return Verdict::PauseRunning { free, limit };
    }
    Verdict::NothingNew { free, limit }
}

pub fn read(path: &Path) -> io::Result<Room> {
    let disk = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Ok(Room { free: bytes(disk.f_bavail), total: bytes(disk.f_blocks) })
}

/// Remembers what [`judge`] needs from one look to the next.
#[derive(Debug, Default)]
pub struct Guard {
    last: Option<(Instant, u64)>,
    /// Bytes per second.
    filling: f64,
    closed: bool,
}

impl Guard {
    pub fn look(&mut self, room: Room, min_free: u64, grace: Duration, now: Instant) -> Verdict {
        match self.last {
            Some((then, free)) if now.duration_since(then) >= BETWEEN_LOOKS => {
                let lost = free as f64 - room.free as f64;
                self.filling = lost / now.duration_since(then).as_secs_f64();
                self.last = Some((now, room.free));
            }
            Some(_) => {}
            None => self.last = Some((now, room.free)),
        }
        let verdict = judge(room, min_free, self.filling, grace, self.closed);
        self.closed = verdict != Verdict::Enough;
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const GRACE: Duration = Duration::from_secs(30);

    fn room(free: u64) -> Room {
        Room { free, total: 1000 * GIB }
    }

    #[test]
    fn first_nothing_new_starts_then_trainings_pause_while_there_is_room_for_a_checkpoint() {
        let (free, limit) = (4 * GIB, 5 * GIB);
        assert_eq!(judge(room(6 * GIB), limit, 0.0, GRACE, false), Verdict::Enough);
        assert_eq!(judge(room(free), limit, 0.0, GRACE, false), Verdict::NothingNew { free, limit });
        // 4 GiB are full in 41 s.
        let quickly = 100.0 * f64::from(1 << 20);
        assert_eq!(judge(room(free), limit, quickly, GRACE, false), Verdict::PauseRunning { free, limit });
        assert_eq!(judge(room(6 * GIB), limit, quickly, GRACE, false), Verdict::Enough, "a burst on a disk with room");
        assert_eq!(judge(room(GIB), limit, 0.0, GRACE, false), Verdict::PauseRunning { free: GIB, limit });
        assert_eq!(judge(room(GIB), limit, -quickly, GRACE, false), Verdict::PauseRunning { free: GIB, limit });
        assert_eq!(judge(room(0), 0, 0.0, GRACE, false), Verdict::Enough, "nobody wants anything left free");
    }

    #[test]
    fn it_does_not_flutter_and_a_small_disk_can_be_used() {
        let (free, limit) = (5 * GIB + GIB / 4, 5 * GIB);
        assert_eq!(judge(room(free), limit, 0.0, GRACE, false), Verdict::Enough);
        assert_eq!(judge(room(free), limit, 0.0, GRACE, true), Verdict::NothingNew { free, limit });
        assert_eq!(judge(room(6 * GIB), limit, 0.0, GRACE, true), Verdict::Enough);
        let small = Room { free: 8 * GIB / 10, total: 4 * GIB };
        assert_eq!(judge(small, limit, 0.0, GRACE, false), Verdict::Enough);
    }

    #[test]
    fn the_guard_measures_how_quickly_the_disk_fills() {
        let (mut guard, start) = (Guard::default(), Instant::now());
        let mut look =
            |seconds: f64, free: u64| guard.look(room(free), 5 * GIB, GRACE, start + Duration::from_secs_f64(seconds));
        assert_eq!(look(0.0, 8 * GIB), Verdict::Enough);
        assert_eq!(look(10.0, 6 * GIB), Verdict::Enough);
        let limit = 5 * GIB;
        assert_eq!(look(20.0, 4 * GIB), Verdict::PauseRunning { free: 4 * GIB, limit }, "20 s to go");
        // Paused trainings write no more, and somebody frees a little.
        assert_eq!(look(30.0, 4 * GIB + 1), Verdict::NothingNew { free: 4 * GIB + 1, limit });
        assert_eq!(look(30.1, 6 * GIB), Verdict::Enough);
    }

    #[test]
    fn the_disk_that_holds_this_is_read() {
        let room = read(Path::new("/")).unwrap();
        assert!(room.total >= room.free && room.total > 0, "{room:?}");
    }
}
