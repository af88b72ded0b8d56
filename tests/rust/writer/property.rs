//! Whatever happens to a run, and whenever its commits are made: what is written is what it is.

use std::collections::BTreeMap;

use proptest::prelude::*;
use treadle::journal::{Phase as JournalPhase, Sign};
use treadle::writer::{Answered, Durability, EndTaken, Next, Occurrence};
use treadle::{EncodedImage, Origin, Phase, Slot, Tag, Value, WaitId};

use super::host::{Half, Host, KIND, Options, conflict, image_of};

#[derive(Clone, Copy, Debug)]
enum Op {
    Deliver,
    Start,
    Finish,
    Retry,
    Expire,
    Set(u8),
    Delete(u8),
    Publish,
    Wait,
    Receive,
    EndWait,
    Send,
    Refuse,
    Pause,
    Resume,
    Take,
    HandOver,
    Hear,
    HearTwice,
    LoseAnswer,
    SendAgain(bool),
    Room(bool),
    End,
    Conflict,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Deliver),
        6 => Just(Op::Start),
        4 => Just(Op::Finish),
        1 => Just(Op::Retry),
        2 => Just(Op::Expire),
        3 => (0..4_u8).prop_map(Op::Set),
        1 => (0..4_u8).prop_map(Op::Delete),
        3 => Just(Op::Publish),
        2 => Just(Op::Wait),
        1 => Just(Op::Receive),
        1 => Just(Op::EndWait),
        3 => Just(Op::Send),
        1 => Just(Op::Refuse),
        1 => Just(Op::Pause),
        2 => Just(Op::Resume),
        8 => Just(Op::Take),
        8 => Just(Op::HandOver),
        8 => Just(Op::Hear),
        1 => Just(Op::HearTwice),
        1 => Just(Op::LoseAnswer),
        1 => any::<bool>().prop_map(Op::SendAgain),
        1 => any::<bool>().prop_map(Op::Room),
        1 => prop_oneof![3 => Just(Op::Take), 1 => Just(Op::End), 1 => Just(Op::Conflict)],
    ]
}

/// A run under a random host, and what must be true of it.
struct Played {
    host: Host,
    is_step: bool,
    slots: Vec<Slot>,
    waits: Vec<WaitId>,
    made: u64,
    published: u64,
    half: Option<(Half, EncodedImage)>,
    /// The run when the last commit was taken that was handed over.
    written: Option<EncodedImage>,
    /// With how many records each delivery was queued, and how many are acknowledged.
    queued: BTreeMap<u64, u64>,
    acknowledged: u64,
    delivered: u64,
    entries: Vec<u64>,
    now: u64,
    is_detached: bool,
    ended: bool,
}

impl Played {
    fn new(durability: Durability, sign: Sign) -> Self {
        let host = Host::new(Options { durability, sign, checkpoints_after: Some(300), ..Options::default() });
        Self {
            is_step: durability == Durability::Step,
            slots: Vec::new(),
            waits: Vec::new(),
            made: 1,
            published: 0,
            half: None,
            written: None,
            queued: BTreeMap::from([(1, 1)]),
            acknowledged: host.run.recorded(),
            delivered: 1,
            entries: Vec::new(),
            now: 0,
            is_detached: false,
            ended: false,
            host,
        }
    }

    fn is_running(&self) -> bool {
        self.host.run.phase() == Phase::Running
    }

    fn event(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn note_queued(&mut self) {
        self.delivered += 1;
        self.queued.insert(self.delivered, self.host.run.recorded());
    }

    fn play(&mut self, op: Op, pick: usize) {
        let commit = |played: &mut Self, what| {
            played.host.writer.mark(what, &played.host.run, true);
        };
        match op {
            _ if !self.is_running() && !matches!(op, Op::Take | Op::HandOver | Op::Hear | Op::HearTwice) => {}
            Op::Deliver => {
                let event = self.event();
                self.host.run.deliver(KIND, event).expect("it runs");
                self.note_queued();
                commit(self, Occurrence::Sent);
            }
            Op::Start => self.start(),
            Op::Finish | Op::Retry if self.slots.is_empty() => {}
            Op::Finish => {
                let slot = self.slots.swap_remove(pick % self.slots.len());
                self.host.run.finish_step(slot).expect("it is in flight");
                commit(self, Occurrence::Finished);
            }
            Op::Retry => {
                let slot = self.slots.swap_remove(pick % self.slots.len());
                self.host.run.retry(slot, "it failed".into(), self.now + 5).expect("it is in flight");
                commit(self, Occurrence::Retried);
            }
            Op::Expire => {
                self.now += 3;
                while let Some(deadline) = self.host.run.expire(self.now) {
                    if let treadle::Deadline::Wait(id) = deadline {
                        let _ = self.host.run.end_wait(id);
                    }
                }
            }
            Op::Set(key) => {
                let value = Value::new(Tag::Binary, vec![key; 20]);
                self.host.run.set(&key.to_string(), value).expect("it runs");
            }
            Op::Delete(key) => drop(self.host.run.delete(&key.to_string()).expect("it runs")),
            Op::Publish => {
                let event = self.event();
                self.host.run.publish(event).expect("it runs");
                self.published += 1;
            }
            Op::Wait if self.slots.is_empty() => {}
            Op::Wait => {
                let slot = self.slots[pick % self.slots.len()];
                let due = pick.is_multiple_of(2).then_some(self.now + 4);
                self.waits.push(self.host.run.wait(slot, "it waits", Some(1), due).expect("it runs"));
                commit(self, Occurrence::Waiting);
            }
            Op::Receive | Op::EndWait if self.waits.is_empty() => {}
            Op::Receive => {
                let (wait, event) = (self.waits.swap_remove(pick % self.waits.len()), self.event());
                let _ = self.host.run.receive(wait, &event);
                commit(self, Occurrence::Received);
            }
            Op::EndWait => {
                let wait = self.waits.swap_remove(pick % self.waits.len());
                let _ = self.host.run.end_wait(wait);
            }
            Op::Send if !self.host.commits.is_empty() => self.send(),
            Op::Refuse if !self.host.commits.is_empty() => {
                let entry = self.host.send();
                self.entries.push(entry);
                assert!(self.host.writer.takes_entry(entry, &self.host.run));
                self.host.writer.refuse_entry(entry, "it cannot be read".to_owned());
                commit(self, Occurrence::Received);
            }
            Op::Send | Op::Refuse => {}
            Op::Pause => {
                let _ = self.host.run.pause().expect("it runs");
                commit(self, Occurrence::Paused);
            }
            Op::Resume => {
                self.host.run.resume();
                commit(self, Occurrence::Resumed);
            }
            Op::Take => self.take(),
            Op::HandOver => self.hand_over(),
            Op::Hear => self.hear(false),
            Op::HearTwice => self.hear(true),
            Op::LoseAnswer => drop(self.host.answers.pop_front()),
            Op::SendAgain(sends_again) => self.host.sends_again = sends_again,
            Op::Room(has_room) => self.host.has_room = has_room,
            Op::End => self.end(),
            Op::Conflict => {
                let written = treadle::writer::Written::Commit { recorded: 0 };
                let answered = self.host.hear_that(written, conflict());
                assert_eq!(matches!(answered, Answered::Lost(_)), !self.is_detached);
                self.host.writer.detach();
                self.is_detached = true;
            }
        }
    }

    fn start(&mut self) {
        let Some(started) = self.host.run.start_next(|| 1) else { return };
        let queued = self.queued[&started.seq];
        assert!(!self.is_step || queued <= self.acknowledged, "it starts once it is written that it was queued");
        self.slots.push(started.slot);
    }

    fn send(&mut self) {
        let entry = self.host.send();
        self.entries.push(entry);
        assert!(self.host.writer.takes_entry(entry, &self.host.run));
        let event = self.event();
        match self.host.run.route_directly(Origin::Inbox(entry), KIND, event, || 0) {
            Ok(_) => self.note_queued(),
            // The run is paused, or somebody waits: the event is kept as it is.
            Err(event) => {
                self.host.run.hold(event, true).expect("it runs");
                self.host.run.consume(entry);
            }
        }
        self.host.writer.mark(Occurrence::Received, &self.host.run, true);
    }

    fn take(&mut self) {
        if self.half.is_some() {
            return assert!(self.host.take().is_none(), "one commit at a time");
        }
        let live = image_of(&self.host.run);
        self.half = self.host.take().map(|half| (half, live));
        assert!(self.half.is_none() || !self.is_detached, "nothing is written without a journal");
    }

    fn hand_over(&mut self) {
        let Some((half, live)) = self.half.take() else { return };
        let next = self.host.hand_over(half);
        if !self.is_detached {
            self.written = Some(live);
        }
        if next == Next::End {
            self.write_end();
        }
        self.check();
    }

    fn hear(&mut self, is_doubled: bool) {
        let Some((written, outcome)) = self.host.answers.pop_front() else { return };
        let recorded = match written {
            treadle::writer::Written::Creation { recorded } | treadle::writer::Written::Commit { recorded } => recorded,
            treadle::writer::Written::End => 0,
        };
        self.acknowledged = self.acknowledged.max(recorded);
        for _ in 0..=usize::from(is_doubled) {
            let answered = self.host.hear_that(written, outcome.clone());
            assert!(!matches!(answered, Answered::Lost(_) | Answered::EndLost(_)), "{answered:?}");
        }
    }

    fn end(&mut self) {
        self.host.end();
        self.slots.clear();
        self.write_end();
    }

    fn write_end(&mut self) {
        match self.host.write_end(JournalPhase::Completed) {
            EndTaken::Later => assert!(self.half.is_some()),
            _ if self.is_detached => {}
            _ => {
                self.written = Some(image_of(&self.host.run));
                self.ended = true;
                self.check();
            }
        }
    }

    /// What is written is what the run was.
    fn check(&self) {
        let Some(written) = &self.written else { return };
        assert!(self.host.stored() == *written);
        let stream = self.host.stream();
        assert!(stream.iter().copied().eq(1..=written.published), "{stream:?}");
        assert!(self.host.dealt_with().values().all(|&count| count == 1), "an entry is dealt with once");
    }

    /// All is written that can be.
    fn settle(&mut self) {
        self.hand_over();
        if self.is_running() {
            self.host.writer.mark(Occurrence::Sent, &self.host.run, true);
            self.take();
            self.hand_over();
        }
        while !self.host.answers.is_empty() {
            self.hear(false);
        }
        if self.is_detached {
            return assert!(self.host.writer.is_lost());
        }
        assert_eq!(self.host.run.recorded() - 1, self.host.writer.seq(), "each record is written once");
        assert!(self.host.stored() == image_of(&self.host.run));
        assert_eq!(self.host.stream().len() as u64, self.published);
        let dealt_with = self.host.dealt_with();
        assert!(self.entries.iter().all(|entry| dealt_with.contains_key(entry)), "no entry is left");
        let phase = self.host.loaded().run.phase();
        assert_eq!(phase == JournalPhase::Completed, self.ended);
        assert_eq!(phase == JournalPhase::Paused, !self.ended && self.host.run.is_paused());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn what_is_written_is_what_the_run_is(
        ops in prop::collection::vec((op(), any::<prop::sample::Index>()), 0..120),
        is_step in any::<bool>(),
        signs_all in any::<bool>(),
    ) {
        let durability = if is_step { Durability::Step } else { Durability::Pipelined };
        let mut played = Played::new(durability, if signs_all { Sign::All } else { Sign::Opaque });
        for (op, pick) in ops {
            played.play(op, pick.index(1 << 16));
        }
        played.settle();
    }
}
