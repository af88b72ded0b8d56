//! An engine as a state machine: which requests go to the journal, which runs are executed here, and when it acts next.
//! It has no clock, no thread and no I/O.
//!
//! The host calls a method for everything that happens (the journal answered, a run started or ended, time passed), then
//! takes the effects and carries them out in their order. What a run does is no concern of this room.
//!
//! - `effect`: what the host carries out, and how it reports back.
//! - `lease`: enlisting, renewing, losing and regaining the lease.
//! - `claims`: the runs that this process takes from the journal: claim, load, go on.
//! - `children`: the runs that commits of this process's runs make.
//! - `inbox`: what is sent to runs that are executed here.
//! - `keyed`: runs with a key: one run for a key and an input, whichever process made it.
//! - `places`: workflows of which only so many runs execute at once.
//! - `followers`: waiting for the ends of runs that may be executed elsewhere.
//! - `retention`: runs that are forgotten some time after their end.
//! - `closing`: the orderly end: drain, stop, hand back.

mod children;
mod claims;
mod closing;
mod effect;
mod followers;
mod inbox;
mod keyed;
mod lease;
mod places;
mod retention;

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashMap;

use crate::journal::{JournalError, News, OpIds, Outcome, OwnerId, Reply, Request};
use crate::run_id::RunId;
use crate::timers::Time;

pub use effect::{Ask, Effect, Purpose, Replacement, Resumed, RunEnd, Trouble};
pub use keyed::Submitted;

/// How long an engine waits after an error of the journal before it asks again.
pub const AFTER_AN_ERROR: Time = 500_000;

/// The time as the host reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Of a clock that never steps, in microseconds. It decides when the engine acts.
    pub steady: Time,
    /// Microseconds since the Unix epoch. It decides which runs are due.
    pub wall: Time,
}

/// What an engine is given when it is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of this process in the journal.
    pub owner: OwnerId,
    /// How long the lease lasts.
    pub lease: Duration,
    /// The workflows whose runs this process executes.
    pub workflows: Vec<String>,
    /// How many runs this process takes from the journal at once, beside those that it starts itself.
    pub concurrency: Option<usize>,
    /// How many runs of a workflow execute here at once, by its name; no limit if it has none.
    pub max_runs: BTreeMap<String, usize>,
    /// How often a run is taken over without having got further before it is stranded; always if not given.
    pub max_recoveries: Option<u32>,
    /// How long runs are kept after their end, in microseconds; for good if not given.
    pub keep: Option<Time>,
}

/// A duration in microseconds.
fn micros(duration: Duration) -> Time {
    Time::try_from(duration.as_micros()).unwrap_or(Time::MAX)
}

/// How far an engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Closed,
    Opening,
    Open,
    Closing,
}

/// A run that is executed here.
#[derive(Clone, Copy, Debug, Default)]
struct Executed {
    /// It came from the journal: it counts for `Options::concurrency`.
    is_claimed: bool,
    /// It was claimed again, in this epoch, while its steps are still being stopped: it goes on from the journal after its end.
    claimed_again: Option<u64>,
    is_drained: bool,
    /// It only waits: it does not count for `Options::concurrency`. The runs that it waits for may have no other place.
    waits: bool,
}

impl Executed {
    fn counts(&self) -> bool {
        self.is_claimed && !self.waits
    }
}

/// One process's part in the execution of the runs of a journal.
pub struct Engine {
    options: Options,
    life: Life,
    now: Now,
    executed: HashMap<RunId, Executed>,
    // How many of them were taken from the journal.
    claimed: usize,
    lease: lease::Lease,
    claims: claims::Claims,
    expected: children::Expected,
    inbox: inbox::Inbox,
    retention: retention::Retention,
    followers: followers::Followers,
    keyed: keyed::Keyed,
    places: places::RunPlaces,
    closing: closing::Closing,
    effects: Vec<Effect>,
    requests: u64,
    ops: OpIds,
}

impl Engine {
    /// An engine that is not open.
    pub fn new(options: Options) -> Self {
        let [.., a, b, c, d, e, f, g, h] = options.owner.0;
        Self {
            ops: OpIds::new([a, b, c, d, e, f, g, h]),
            claims: claims::Claims::new(&options),
            places: places::RunPlaces::new(&options.max_runs),
            options,
            life: Life::Closed,
            now: Now::default(),
            executed: HashMap::default(),
            claimed: 0,
            lease: lease::Lease::default(),
            expected: children::Expected::default(),
            inbox: inbox::Inbox::default(),
            retention: retention::Retention::default(),
            followers: followers::Followers::default(),
            keyed: keyed::Keyed::default(),
            closing: closing::Closing::default(),
            effects: Vec::new(),
            requests: 0,
        }
    }

    /// What the host carries out now, in this order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Whether runs may be started here.
    pub fn is_open(&self) -> bool {
        self.life == Life::Open
    }

    /// How many runs that were taken from the journal are executed here and do not only wait.
    pub fn claimed(&self) -> usize {
        self.claimed
    }

    /// How many requests it has made of the journal.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// How it was made.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// When [`tick`](Self::tick) is to be called, on the steady clock.
    pub fn next_tick(&self) -> Option<Time> {
        // What is asked for and not answered yet has no time.
        let work = [self.claims.next(), self.retention.next()].into_iter().filter(|_| self.may_work());
        let inbox = self.inbox.next().filter(|_| self.lease.is_held());
        work.chain([inbox, self.lease.next(), self.closing.next(), self.followers.next()]).flatten().min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) {
        self.now = now;
        self.tick_lease();
        self.tick_inbox();
        self.tick_followers();
        self.tick_closing();
        self.prune();
        self.work();
    }

    /// The journal has answered a request.
    pub fn answer(&mut self, ask: Ask, outcome: Outcome, now: Now) {
        self.now = now;
        if ask.tenure != self.lease.tenure() && ask.purpose.is_of_a_lease() {
            // What was asked under a lease that was lost: those runs were handed back with it.
            return;
        }
        match (ask.purpose, outcome) {
            (Purpose::HandBack, outcome) => self.closed(outcome.map(drop)),
            (Purpose::Enlist, outcome) => self.enlisted(outcome),
            (Purpose::Renew, outcome) => self.renewed(outcome),
            (Purpose::Release, outcome) => self.released(outcome),
            (Purpose::Claim, Ok(Reply::Claimed(claimed))) => self.took(claimed),
            (Purpose::Load, Ok(Reply::Loaded(loaded))) => self.loaded(loaded),
            (Purpose::Refuse(..), Ok(Reply::Refused(row))) => self.refused(row),
            // Another process has it, or it was deleted.
            (Purpose::Refuse(..), Err(JournalError::Conflict(_) | JournalError::UnknownRun(_))) => {}
            (Purpose::NextDue, Ok(Reply::Next(next))) => self.next_known(next),
            (Purpose::Poll, Ok(Reply::Polled(polled))) => self.polled(polled),
            (Purpose::Prune, Ok(Reply::Pruned { runs })) => self.pruned(runs),
            (Purpose::Ends, Ok(Reply::Ends(ends))) => self.ends_told(ends),
            (Purpose::Ends, Err(error)) => self.ends_failed(error),
            (Purpose::Look(run, number), outcome) => self.looked(run, number, outcome),
            (purpose, Err(error)) => self.failed(purpose, error),
            (purpose, Ok(reply)) => {
                let error = JournalError::Panicked(format!("{purpose:?} was answered with {reply:?}"));
                self.failed(purpose, error);
            }
        }
        self.work();
    }

    /// The journal has news; also if this process has written runs that any process may execute, or messages.
    pub fn heard(&mut self, news: News, now: Now) {
        self.now = now;
        if news.inbox {
            self.poll();
        }
        if news.work {
            self.claims.want();
        }
        if news.ends {
            self.hear_of_ends();
        }
        self.work();
    }

    /// A run was started here, and not taken from the journal.
    pub fn run_started(&mut self, run: RunId) {
        if self.executed.insert(run, Executed::default()).is_none() {
            self.closing.count(1);
        }
    }

    /// A run that is executed here only waits from now on, or goes on after that. Hosts tell it if there is a limit of
    /// runs, `Options::concurrency`.
    pub fn run_waits(&mut self, run: RunId, waits: bool, now: Now) {
        self.now = now;
        let Some(executed) = self.executed.get_mut(&run) else { return };
        let counted = executed.counts();
        executed.waits = waits;
        self.claimed = self.claimed + usize::from(executed.counts()) - usize::from(counted);
        if waits && counted && self.options.concurrency.is_some() {
            self.claims.want();
        }
        self.work();
    }

    /// A run is over here.
    pub fn run_ended(&mut self, run: RunId, end: RunEnd, now: Now) {
        self.now = now;
        self.forget_key(run);
        self.stand_no_more(run);
        self.leave(run, end);
    }

    /// A run is executed here no more.
    fn leave(&mut self, run: RunId, end: RunEnd) {
        let Some(executed) = self.executed.remove(&run) else { return };
        self.claimed -= usize::from(executed.counts());
        self.closing.forget(executed.is_drained);
        if end == RunEnd::Lost {
            // Perhaps the lease was lost: that is asked at once.
            self.renew_soon();
        }
        let epoch = match end {
            RunEnd::Busy { epoch } => Some(epoch),
            RunEnd::Over | RunEnd::Lost => executed.claimed_again,
        };
        if let Some(epoch) = epoch.filter(|_| self.life == Life::Open) {
            self.claims.put(run, epoch);
        }
        if self.options.concurrency.is_some() && executed.is_claimed {
            self.claims.want();
        }
        self.look_at(run);
        self.step_closing();
        self.work();
    }

    fn may_work(&self) -> bool {
        self.life == Life::Open && self.lease.is_held()
    }

    fn ask(&mut self, purpose: Purpose, request: Request) {
        self.requests += 1;
        let ask = Ask { tenure: self.lease.tenure(), purpose };
        self.effects.push(Effect::Ask { ask, request: Box::new(request) });
    }

    fn report(&mut self, trouble: Trouble) {
        self.effects.push(Effect::Report(trouble));
    }

    // A request failed for a reason that has to do with no run.
    fn failed(&mut self, purpose: Purpose, error: JournalError) {
        if matches!(error, JournalError::LeaseLost(_)) {
            self.renew_soon();
        } else {
            self.report(Trouble::Unreadable(error));
        }
        match purpose {
            Purpose::Poll => self.poll_failed(),
            Purpose::Load => self.not_loaded(),
            Purpose::Refuse(run, epoch) => {
                self.claims.put(run, epoch);
                self.claims.failed(self.now.steady);
            }
            Purpose::Claim | Purpose::NextDue => self.claims.failed(self.now.steady),
            Purpose::Prune => self.retention.failed(),
            Purpose::Ends | Purpose::Look(..) => {}
            Purpose::Enlist | Purpose::Renew | Purpose::Release | Purpose::HandBack => {}
        }
    }
}
