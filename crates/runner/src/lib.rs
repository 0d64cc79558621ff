//! Runs attempts: one supervisor process per attempt, which owns the training's process tree and outlives the studio.
//!
//! The attempt folder is the only thing the studio and a supervisor share. A supervisor claims it, runs the task,
//! records the end in it and is gone; the studio reads it ([`observe`]) and waits on the processes named in it
//! ([`wait_end`]), now or after a restart. Who launched it is told a little sooner ([`Launched`]). Linux only.

mod cgroup;
mod files;
mod follow;
mod launched;
mod launcher;
mod log_cap;
mod nursery;
mod observe;
mod process;
mod record;
mod spec;
mod stand_in;
mod stop;
mod supervisor;
mod sys;
mod unborn;
mod wait;
mod watch;

pub use files::prepare;
pub use follow::{Chunk, FileFollower};
pub use launched::Launched;
pub use launcher::{LaunchError, Launcher};
pub use observe::{Observed, living, observe};
pub use process::ProcessIdentity;
pub use record::{CappedLog, End, Exit, ExitRecord, RunningRecord};
pub use spec::{LaunchSpec, Limits};
pub use stop::{kill_now, stop};
pub use supervisor::supervise;
pub use sys::{give_heap_back, keep_heap_small};
pub use wait::{AttemptEnd, Started, wait_end, wait_started};

use launcher::Answer;
