//! What users do with the runs of a fleet: they answer, cancel, pause, resume, retry, fork and change them, and wait for
//! them.

use treadle::RunId;
use treadle::history::{self, Edits, Fork, History, Trusted, reopen};
use treadle::journal::{Loaded, Message, OwnerId, Phase, Reply, Request, kind};

use super::changes;
use super::children::signer;
use super::encode::to_bytes;
use super::execution::{CANCEL, EVENT, PAUSE, RESUME};
use super::posts::{POST, of_message};
use super::world::{EPOCH, World};

impl World {
    pub(super) fn send(&mut self) {
        let runs = self.ledger.unfinished();
        if !runs.is_empty() {
            let run = runs[self.random.below(runs.len())];
            self.send_answer(run);
        }
    }

    pub(super) fn follow(&mut self, at: usize) {
        let runs: Vec<_> = self.ledger.runs.keys().copied().collect();
        let process = &mut self.processes[at];
        if runs.is_empty() || !process.engine.is_open() || process.frozen_until > self.time {
            return;
        }
        let run = runs[self.random.below(runs.len())];
        match process.followed.contains(&run) && self.random.one_in(3) {
            true => {
                process.followed.remove(&run);
                process.engine.unfollow(run);
            }
            false => process.follow(run, self.time),
        }
        process.perform(&mut self.ledger, self.time);
    }

    /// An answer that the run waits for, or will, is sent by a process that has nothing else to do with the journal.
    pub(super) fn send_answer(&mut self, run: RunId) -> bool {
        let wanted = self.ledger.runs[&run].wanted();
        if wanted.is_empty() {
            return false;
        }
        let answer = wanted[self.random.below(wanted.len())];
        self.send_to(run, EVENT, to_bytes(answer));
        true
    }

    pub(super) fn send_to(&mut self, run: RunId, kind: u8, body: Vec<u8>) {
        let id = self.next_message();
        let request = Request::Send { run, message: Message { id, kind, body }, now: EPOCH + self.time };
        self.ask(request);
    }

    fn next_message(&mut self) -> [u8; 16] {
        self.sent += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.sent.to_be_bytes());
        id
    }

    fn change(&mut self, run: RunId) {
        let id = self.next_message();
        let message = Message { id, kind: kind::STATE, body: changes::message(run, id, self.sent) };
        self.ask(Request::Send { run, message, now: EPOCH + self.time });
    }

    fn ask(&mut self, request: Request) {
        if let Ok(reply) = self.store.carry_out(request.clone()) {
            self.ledger.note(OwnerId([0; 16]), &request, &reply, self.time);
        }
    }

    /// A user cancels, pauses, resumes, retries or forks a run.
    pub(super) fn meddle(&mut self) {
        let runs: Vec<_> = self.ledger.runs.keys().copied().collect();
        if runs.is_empty() {
            return;
        }
        let run = runs[self.random.below(runs.len())];
        match self.random.below(12) {
            0 => self.send_to(run, CANCEL, Vec::new()),
            8 | 9 => self.cancel_parent(),
            10 | 11 => self.change(run),
            1 | 2 => self.send_to(run, PAUSE, Vec::new()),
            3 | 4 => self.send_to(run, RESUME, Vec::new()),
            5 | 6 => self.retry(),
            _ => self.fork(run),
        }
    }

    fn cancel_parent(&mut self) {
        let parents: Vec<_> = self.ledger.parents().collect();
        if !parents.is_empty() {
            let run = parents[self.random.below(parents.len())];
            self.send_to(run, CANCEL, Vec::new());
        }
    }

    /// A run that was cancelled goes on.
    fn retry(&mut self) {
        let runs = self.ledger.ended(Phase::Cancelled);
        if runs.is_empty() {
            return;
        }
        let run = runs[self.random.below(runs.len())];
        let Some(loaded) = self.load(run) else { return };
        let request = reopen(&loaded, signer(), EPOCH + self.time).expect("it was cancelled");
        // What was in its inbox is there still.
        let facts = self.ledger.runs.get_mut(&loaded.run.id).expect("it was made");
        let events = loaded.inbox.iter().filter(|entry| entry.kind == EVENT);
        let events = events.map(|entry| of_message(entry.run, entry.id, &entry.body));
        facts.sent = events.filter(|event| event.class != POST).map(|event| event.name).collect();
        self.ask(request);
    }

    fn fork(&mut self, run: RunId) {
        let Some(loaded) = self.load(run) else { return };
        if self.made > 12 {
            return;
        }
        let id = self.new_id();
        let at = History::new(&loaded, Trusted::Signed(signer())).points().expect("it is what was written");
        let at = self.random.one_in(2).then(|| self.random.between(*at.start(), *at.end()));
        let fork = Fork { id, at, stream: &[], edits: Edits::default() };
        let request = history::fork(&loaded, fork, signer(), EPOCH + self.time);
        self.ledger.forks.insert(id);
        self.ask(request.expect("it is one of its records"));
    }

    fn load(&mut self, run: RunId) -> Option<Loaded> {
        let Ok(Reply::Loaded(mut loaded)) = self.store.carry_out(Request::Load { runs: vec![run] }) else {
            return None;
        };
        loaded.pop().and_then(|(_, loaded)| loaded.ok()).map(|loaded| *loaded)
    }

    pub(super) fn new_id(&mut self) -> RunId {
        self.made += 1;
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.random.next().to_be_bytes());
        RunId::new(self.made, bytes)
    }
}
