use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep_until};

use crate::log_cap::LogCap;
use crate::{RunningRecord, stop};

/// What a lost supervisor would have gone on to do while its task lives: keep the log capped and the time limit.
pub(crate) struct StandIn {
    log: Option<LogCap>,
    limit_at: Option<Instant>,
    /// The task was stopped at its limit.
    pub(crate) timed_out: bool,
}

impl StandIn {
    pub(crate) fn new(record: Option<&RunningRecord>) -> StandIn {
        let log = record.and_then(|record| record.log.as_ref());
        let log = log.and_then(|log| LogCap::open(&log.path, log.cap).ok());
        let limit_at = record.and_then(|record| record.limit_at).map(|at| Instant::now() + at.saturating_sub(now()));
        StandIn { log, limit_at, timed_out: false }
    }

    /// Until something is due.
    pub(crate) async fn wait(&self) {
        let look = self.log.as_ref().map(|log| Instant::from_std(log.next_look()));
        match [look, self.limit_at].into_iter().flatten().min() {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn act(&mut self, attempt_dir: &Path) {
        let now = Instant::now();
        if let Some(log) = self.log.as_mut().filter(|log| Instant::from_std(log.next_look()) <= now) {
            log.look(now.into_std());
        }
        if self.limit_at.is_some_and(|at| at <= now) {
            // Tried again if the processes cannot be looked at now.
            self.limit_at = match stop(attempt_dir) {
                Ok(()) => None,
                Err(_) => Some(now + Duration::from_secs(1)),
            };
            self.timed_out = true;
        }
    }

    /// Bytes of the log that were given up.
    pub(crate) fn end(mut self) -> u64 {
        let Some(log) = &mut self.log else { return 0 };
        log.enforce();
        log.lost()
    }
}

/// On the monotonic clock, which is the same for all processes of a boot.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::Monotonic).try_into().unwrap_or_default()
}
