//! One pass over the queue: each task in its turn gets devices, or a reason to wait.

use domain::{Inventory, WaitCause};
use jiff::Timestamp;

use crate::{
    Plan, Policy, Preempt, Queue, Running, Start, Waiting,
    batch::Batch,
    explain::Waits,
    ledger::{Account, Least, Ledger},
    packing, place, preempt,
    quota::Quotas,
    reclaim,
    reserve::{self, Reservation},
};

pub struct Pass<'a> {
    running: &'a [Running],
    batch: Option<&'a Batch>,
    pub ledger: Ledger<'a>,
    quotas: Quotas<'a>,
    waits: Waits,
    pub reservation: Option<Reservation>,
    has_head: bool,
    least: Least,
    starts: Vec<Start>,
    pub preempts: Vec<Preempt>,
}

impl<'a> Pass<'a> {
    pub fn new(
        policy: &'a Policy,
        inventory: &'a Inventory,
        queue: Queue<'a>,
        batch: Option<&'a Batch>,
        now: Timestamp,
    ) -> Pass<'a> {
        let mut pass = Pass {
            running: queue.running,
            batch,
            ledger: Ledger::new(policy, inventory, queue.running, batch, now),
            quotas: Quotas::new(queue),
            waits: Waits::default(),
            reservation: None,
            has_head: false,
            least: Least::of(queue.waiting),
            starts: Vec::new(),
            preempts: Vec::new(),
        };
        let victims = reclaim::for_services(&pass.ledger, pass.running);
        pass.stop(victims);
        pass
    }

    /// The task has its turn.
    pub fn serve(&mut self, waiting: &Waiting) {
        if let Some(cause) = waiting.blocked.clone().or_else(|| self.quotas.in_the_way_of(waiting)) {
            self.waits.blocked(waiting, cause);
            return;
        }
        if self.waits.hold_up(&self.ledger, waiting) {
            return;
        }
        if let Some(grant) = place::on_devices(&self.ledger, self.reservation.as_ref(), waiting) {
            if let Some(task) = self.ledger.measured(waiting, &grant) {
                self.ledger.keep(waiting, &grant);
                self.waits.blocked(waiting, WaitCause::Measuring { task }.into());
                return;
            }
            self.ledger.promise(waiting, &grant);
            self.quotas.take(waiting);
            self.starts.push(Start { task: waiting.task, grant });
            return;
        }
        if self.batch.is_some_and(|batch| batch.first.contains(&waiting.task)) {
            self.ledger.wait_for_empty(waiting);
        }
        if self.waits.explain(&self.ledger, self.reservation.as_ref(), waiting) && !self.has_head {
            self.lead(waiting);
        }
    }

    /// The first for whom something is stopped or kept is the head, whom nobody behind may delay. One for whom neither helps,
    /// because other programs have what it waits for, leaves that to the next.
    fn lead(&mut self, waiting: &Waiting) {
        if !self.ledger.policy.backfill {
            return;
        }
        let victims = preempt::in_favour_of(&self.ledger, self.running, waiting);
        self.has_head = !victims.is_empty();
        self.stop(victims);
        self.reservation = reserve::for_first(&self.ledger, waiting);
        self.has_head |= self.reservation.is_some();
    }

    /// So many have been told why they wait.
    pub fn told(&self) -> usize {
        self.waits.len()
    }

    /// Whoever comes now waits: nothing more starts, and nothing more is stopped or kept.
    pub fn is_over(&self) -> bool {
        if self.waits.all_wait() {
            return true;
        }
        let is_open = |(_, account): &(usize, &Account<'_>)| !account.is_closed(self.ledger.policy, &self.least);
        let open: Vec<_> = self.ledger.accounts.iter().enumerate().filter(is_open).collect();
        let is_kept = |(index, _): &(usize, &Account<'_>)| {
            self.reservation.as_ref().is_some_and(|kept| kept.closes(*index, &self.ledger, &self.least, open.len()))
        };
        self.has_head && open.iter().all(is_kept)
    }

    /// What is to be stopped for nobody's turn.
    pub fn tidy_up(&mut self) {
        let victims = packing::not_paying(&self.ledger, self.running);
        self.stop(victims);
        if self.waits.nobody_wants_a_device() {
            let movers = preempt::to_spread(&self.ledger, &self.quotas, self.running);
            self.stop(movers);
        }
    }

    fn stop(&mut self, victims: Vec<Preempt>) {
        victims.iter().for_each(|victim| self.ledger.let_go(victim.task));
        self.preempts.extend(victims);
    }

    pub fn plan(self) -> Plan {
        Plan { starts: self.starts, preempts: self.preempts, waits: self.waits.numbered() }
    }
}
