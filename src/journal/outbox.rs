//! Requests on their way to a journal: which of them go, in which order, and when they are sent again.
//!
//! The host puts requests in, hands over what [`take`](Outbox::take) returns, says what came back, and tells the askers
//! what [`answers`](Outbox::answers) returns.
//!
//! - **One commit of a run is under way**, or its creation and the one that was put in with it. So a commit whose answer was lost is the last
//!   operation on its run, and the journal knows it again by its name. Commits that wait meanwhile are written as one.
//! - **Of one run, nothing overtakes anything.** Requests of different runs may overtake each other.
//! - **A lease is handed back** when nothing else is under way: no commit comes too late.
//! - **What the journal gives back is sent again**, as it is, after a pause. As long as the journal is away one request is
//!   tried now and then, and all others are held. When that has lasted too long they are given up.

use std::collections::{HashSet, VecDeque};
use std::mem;

use hashbrown::HashMap;

use super::error::JournalError;
use super::op::{OpId, OpIds};
use super::reply::Reply;
use super::request::Request;
use super::{Outcome, Ticket};
use crate::run_id::RunId;
use crate::timers::Time;

/// How long a journal that is away is left alone before it is tried again; then twice as long each time.
const FIRST_PAUSE: Time = 50_000;
const LONGEST_PAUSE: Time = 1_000_000;
/// The most bytes of a commit that is made of several.
const MOST_MERGED: usize = 1 << 20;

/// The requests of one process that wait for its journal.
pub struct Outbox {
    ops: OpIds,
    keeps_history: bool,
    patience: Time,
    runs: HashMap<RunId, Queue>,
    // Commits, by the ticket that they went under.
    under_way: HashMap<Ticket, Parts>,
    // Requests that belong to the lease, in their order: behind one that hands it back.
    lease: VecDeque<Held>,
    // All others, while the journal is away.
    loose: VecDeque<Held>,
    away: Option<Away>,
    // Deletions that may have been carried out.
    deletions: HashSet<Ticket>,
    ready: Vec<(Ticket, Request)>,
    // Runs of which a creation is among those.
    creating: Vec<RunId>,
    answers: Vec<(Ticket, Outcome)>,
    held_bytes: usize,
}

// A run that has a commit under way, or requests that wait.
#[derive(Default)]
struct Queue {
    under_way: usize,
    // Its creation is about to go, and one commit may go with it: the journal takes both, or gives both back. One that
    // went later could overtake a creation that was given back and is still on its way here.
    is_creating: bool,
    waiting: VecDeque<Held>,
}

struct Held {
    ticket: Ticket,
    request: Request,
    // The tickets that one commit answers, if it is made of several, and the last record of each.
    parts: Vec<(Ticket, u64)>,
    // It may have been carried out: it stays as it is.
    was_sent: bool,
}

struct Parts {
    run: RunId,
    parts: Vec<(Ticket, u64)>,
}

// The journal is away.
struct Away {
    since: Time,
    pause: Time,
    // When one request is tried.
    next: Time,
    tried: Option<Ticket>,
}

impl Outbox {
    /// An outbox that gives up what a journal has not taken for so long, in microseconds, and gives commits their names.
    pub fn new(patience: Time, ops: OpIds) -> Self {
        Self {
            ops,
            keeps_history: false,
            patience,
            runs: HashMap::default(),
            under_way: HashMap::default(),
            lease: VecDeque::new(),
            loose: VecDeque::new(),
            away: None,
            deletions: HashSet::default(),
            ready: Vec::new(),
            creating: Vec::new(),
            answers: Vec::new(),
            held_bytes: 0,
        }
    }

    /// The same, where what checkpoints stand for stays in the journal.
    pub fn that_keeps_history(self, keeps_history: bool) -> Self {
        Self { keeps_history, ..self }
    }

    /// A request is to go to the journal. Tickets grow.
    pub fn put(&mut self, ticket: Ticket, mut request: Request) {
        // A commit without a name would not be known again.
        if let Some(op) = request.op_mut().filter(|op| **op == OpId::NONE) {
            *op = self.ops.draw();
        }
        if let Some(commit) = request.commit_mut() {
            commit.keeps_history |= self.keeps_history;
        }
        let held = Held { ticket, request, parts: Vec::new(), was_sent: false };
        match held.request.run() {
            Some(run) if held.request.commit().is_some() || self.away.is_some() || self.runs.contains_key(&run) => {
                self.hold(held);
                self.release_run(run);
            }
            None if held.request.is_of_lease() => {
                self.hold(held);
                self.release_lease();
            }
            None if self.away.is_some() => self.hold(held),
            _ => self.ready.push((held.ticket, held.request)),
        }
    }

    /// What goes to the journal now, in this order.
    pub fn take(&mut self) -> Vec<(Ticket, Request)> {
        for run in self.creating.drain(..) {
            if let Some(queue) = self.runs.get_mut(&run) {
                queue.is_creating = false;
            }
        }
        mem::take(&mut self.ready)
    }

    /// The answers that have come, each under the ticket of the request as it was put in.
    pub fn answers(&mut self) -> Vec<(Ticket, Outcome)> {
        mem::take(&mut self.answers)
    }

    /// About how many bytes are held.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// When [`tick`](Self::tick) is to be called.
    pub fn next_tick(&self) -> Option<Time> {
        let away = self.away.as_ref().filter(|away| away.tried.is_none() && self.holds_any())?;
        Some(away.next)
    }

    /// The journal has answered a request.
    pub fn answered(&mut self, ticket: Ticket, outcome: Outcome) {
        let is_back = !outcome.as_ref().is_err_and(JournalError::is_transient);
        let was_deleted = self.deletions.remove(&ticket);
        match self.under_way.remove(&ticket) {
            Some(Parts { run, parts }) => {
                self.landed(run);
                self.answer(ticket, parts, outcome);
                if !is_back || self.away.is_none() {
                    self.release_run(run);
                }
            }
            None if was_deleted && matches!(outcome, Err(JournalError::UnknownRun(_))) => {
                self.answers.push((ticket, Ok(Reply::Done)));
            }
            None => self.answers.push((ticket, outcome)),
        }
        if is_back && self.away.take().is_some() {
            self.release_all();
        } else if !self.lease.is_empty() {
            self.release_lease();
        }
    }

    /// The journal has given a request back, since it is away. Whether it was carried out is not known.
    pub fn returned(&mut self, ticket: Ticket, request: Request, error: JournalError, now: Time) {
        let away = self.away.get_or_insert(Away { since: now, pause: FIRST_PAUSE, next: now, tried: None });
        if away.tried == Some(ticket) {
            away.pause = (away.pause * 2).min(LONGEST_PAUSE);
            away.tried = None;
        }
        if away.tried.is_none() {
            away.next = now.saturating_add(away.pause);
        }
        let is_hopeless = now.saturating_sub(away.since) > self.patience;
        if matches!(request, Request::Delete { .. } | Request::Remove { .. }) {
            self.deletions.insert(ticket);
        }
        let parts = self.under_way.remove(&ticket).map_or_else(Vec::new, |under_way| {
            self.landed(under_way.run);
            under_way.parts
        });
        self.hold(Held { ticket, request, parts, was_sent: true });
        if is_hopeless {
            self.give_up(error, now);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        if self.next_tick().is_none_or(|at| at > now) {
            return;
        }
        let tried = self.first_held();
        if let (Some(away), Some(held)) = (&mut self.away, tried) {
            away.tried = Some(held.ticket);
            self.send(held);
        }
    }

    /// Nothing is sent any more: gives up what is held.
    pub fn close(&mut self, error: JournalError) {
        self.give_up(error, 0);
    }

    fn holds_any(&self) -> bool {
        self.held_bytes > 0
    }

    // In the order of their tickets: what is given back was put in before what waits.
    fn hold(&mut self, held: Held) {
        self.held_bytes += held.request.bytes();
        let queue = match held.request.run() {
            Some(run) => &mut self.runs.entry(run).or_default().waiting,
            None if held.request.is_of_lease() => &mut self.lease,
            None => &mut self.loose,
        };
        let at = queue.iter().rposition(|other| other.ticket < held.ticket).map_or(0, |at| at + 1);
        queue.insert(at, held);
    }

    fn send(&mut self, held: Held) {
        self.held_bytes -= held.request.bytes();
        if let Some(run) = held.request.run().filter(|_| held.request.commit().is_some()) {
            let queue = self.runs.entry(run).or_default();
            queue.under_way += 1;
            queue.is_creating = matches!(held.request, Request::Create { .. });
            self.creating.extend(queue.is_creating.then_some(run));
            self.under_way.insert(held.ticket, Parts { run, parts: held.parts });
        }
        self.ready.push((held.ticket, held.request));
    }

    // A commit is under way no more.
    fn landed(&mut self, run: RunId) {
        let Some(queue) = self.runs.get_mut(&run) else { return };
        queue.under_way -= 1;
        if queue.under_way == 0 && queue.waiting.is_empty() {
            self.runs.remove(&run);
        }
    }

    fn answer(&mut self, ticket: Ticket, parts: Vec<(Ticket, u64)>, outcome: Outcome) {
        if parts.is_empty() {
            self.answers.push((ticket, outcome));
            return;
        }
        // What was not delivered of all of them is said to the last.
        let last = parts.len() - 1;
        let of_part = |at, seq| match &outcome {
            Ok(Reply::Appended { undelivered, .. }) if at == last => {
                Ok(Reply::Appended { seq, undelivered: undelivered.clone() })
            }
            Ok(_) => Ok(Reply::appended(seq)),
            Err(error) => Err(error.clone()),
        };
        let parts = parts.into_iter().enumerate();
        self.answers.extend(parts.map(|(at, (ticket, seq))| (ticket, of_part(at, seq))));
    }

    fn release_all(&mut self) {
        self.release_lease();
        while let Some(held) = self.loose.pop_front() {
            self.send(held);
        }
        let mut runs: Vec<_> = self.runs.keys().copied().collect();
        runs.sort_unstable();
        runs.into_iter().for_each(|run| self.release_run(run));
    }

    fn release_lease(&mut self) {
        while let Some(first) = self.lease.front()
            && self.away.is_none()
            && self.may_go(first)
        {
            let held = self.lease.pop_front();
            held.into_iter().for_each(|held| self.send(held));
        }
    }

    // What hands the lease back comes behind every commit.
    fn may_go(&self, of_lease: &Held) -> bool {
        !matches!(of_lease.request, Request::Release { .. }) || self.runs.is_empty()
    }

    fn release_run(&mut self, run: RunId) {
        while self.away.is_none()
            && let Some(held) = self.next_of(run)
        {
            self.send(held);
        }
    }

    // The next request of a run, if it may go.
    fn next_of(&mut self, run: RunId) -> Option<Held> {
        let queue = self.runs.get_mut(&run)?;
        let first = queue.waiting.front()?;
        let is_append = matches!(first.request, Request::Append { .. });
        let is_behind_creation = is_append && queue.is_creating && queue.under_way == 1;
        if first.request.commit().is_some() && queue.under_way > 0 && !is_behind_creation {
            return None;
        }
        let mut first = queue.waiting.pop_front()?;
        while let Some(next) = queue.waiting.front()
            && first.takes(next)
        {
            let next = queue.waiting.pop_front()?;
            self.held_bytes -= first.request.bytes() + next.request.bytes();
            first.merge(next);
            self.held_bytes += first.request.bytes();
        }
        let is_idle = queue.under_way == 0 && queue.waiting.is_empty();
        if is_idle {
            self.runs.remove(&run);
        }
        Some(first)
    }

    // One request to try: what belongs to the lease first.
    fn first_held(&mut self) -> Option<Held> {
        if let Some(first) = self.lease.front()
            && self.may_go(first)
        {
            return self.lease.pop_front();
        }
        if let Some(first) = self.loose.pop_front() {
            return Some(first);
        }
        let mut runs: Vec<_> = self.runs.keys().copied().collect();
        runs.sort_unstable();
        runs.into_iter().find_map(|run| self.next_of(run))
    }

    fn give_up(&mut self, error: JournalError, now: Time) {
        let mut held: Vec<_> = self.lease.drain(..).chain(self.loose.drain(..)).collect();
        for queue in self.runs.values_mut() {
            held.extend(queue.waiting.drain(..));
        }
        self.runs.retain(|_, queue| queue.under_way > 0);
        held.sort_unstable_by_key(|held| held.ticket);
        for held in held {
            self.answer(held.ticket, held.parts, Err(error.clone()));
        }
        self.held_bytes = 0;
        if let Some(away) = &mut self.away {
            away.since = now;
        }
    }
}

impl Held {
    // Whether the next request of the run can be written with this one.
    fn takes(&self, next: &Self) -> bool {
        let (
            Request::Append { epoch, after, commit, .. },
            Request::Append { epoch: next_epoch, after: next_after, commit: next_commit, .. },
        ) = (&self.request, &next.request)
        else {
            return false;
        };
        !(self.was_sent || next.was_sent)
            && epoch == next_epoch
            && *next_after == after + commit.records.len() as u64
            && commit.takes(next_commit)
            && commit.bytes() + next_commit.bytes() <= MOST_MERGED
    }

    fn merge(&mut self, next: Self) {
        let (Request::Append { after, commit, .. }, Request::Append { after: next_after, commit: next_commit, .. }) =
            (&mut self.request, next.request)
        else {
            return;
        };
        if self.parts.is_empty() {
            self.parts.push((self.ticket, *after + commit.records.len() as u64));
        }
        self.parts.push((next.ticket, next_after + next_commit.records.len() as u64));
        commit.merge(next_commit);
    }
}
