//! What users may have at once.

use std::{collections::BTreeMap, sync::Arc};

use domain::{QuotaKind, WaitCause};

use crate::{Queue, Quota, Waiting};

/// What each user with a quota has, the starts of this plan included.
pub struct Quotas<'a> {
    shares: BTreeMap<&'a str, Share>,
}

struct Share {
    quota: Quota,
    running: u32,
    gpus: u32,
    /// What was said to the last of the user's tasks in whose way it stood: the next ones hear the same.
    said: Option<Arc<WaitCause>>,
}

impl<'a> Quotas<'a> {
    pub fn new(queue: Queue<'a>) -> Quotas<'a> {
        let share = |quota: &Quota| Share { quota: *quota, running: 0, gpus: 0, said: None };
        let shares = queue.quotas.iter().map(|(owner, quota)| (owner.as_str(), share(quota))).collect();
        let mut quotas = Quotas { shares };
        for running in queue.running {
            quotas.add(&running.owner, running.grant.devices.len() as u32);
        }
        quotas
    }

    /// Why the task must not start whatever is free; `None`: its owner may have it as well.
    pub fn in_the_way_of(&mut self, waiting: &Waiting) -> Option<Arc<WaitCause>> {
        let share = self.shares.get_mut(waiting.owner.as_str())?;
        let (used, wanted) = (u64::from(share.gpus), u64::from(waiting.demand.devices.max(1)));
        let cause = match share.quota {
            Quota { running: Some(limit), .. } if share.running >= limit => {
                WaitCause::Quota { kind: QuotaKind::Running, used: share.running.into(), limit: limit.into() }
            }
            Quota { gpus: Some(limit), .. } if used + wanted > limit.into() => {
                WaitCause::Quota { kind: QuotaKind::Gpus, used, limit: limit.into() }
            }
            _ => return None,
        };
        if share.said.as_deref() != Some(&cause) {
            share.said = Some(Arc::new(cause));
        }
        share.said.clone()
    }

    /// Whoever of this owner's is stopped may come back: no more runs than may.
    pub fn let_back(&self, owner: &str) -> bool {
        let within = |used: u32, limit: Option<u32>| limit.is_none_or(|limit| used <= limit);
        let is_within =
            |share: &Share| within(share.running, share.quota.running) && within(share.gpus, share.quota.gpus);
        self.shares.get(owner).is_none_or(is_within)
    }

    /// The task starts.
    pub fn take(&mut self, waiting: &Waiting) {
        self.add(&waiting.owner, waiting.demand.devices.max(1));
    }

    fn add(&mut self, owner: &str, gpus: u32) {
        if let Some(share) = self.shares.get_mut(owner) {
            share.running += 1;
            share.gpus += gpus;
        }
    }
}
