//! Children that the bodies of a fleet start and await, and what runs tell each other of their ends.

use std::rc::Rc;
use std::sync::LazyLock;

use treadle::journal::{Digest, Entry, Outgoing, Phase, Signer, kind};
use treadle::writer::Occurrence;
use treadle::{
    Child, ChildBegun, ChildCall, ChildEnd, Family, MAX_FAMILY_DEPTH, OnParentEnd, RunId, Secrets, StepId, Strand, Tag,
    Time, Value, family,
};

use super::bugs::Bug;
use super::execution::{Code, Execution, Name, create};
use super::flows::ERRANDS;
use crate::simulation::random::{Random, mix};
use crate::simulation::workflow::{Action, Named, Program};

/// How deep the families of a fleet get.
const DEEPEST: u32 = 2;

/// What a body does: what its program says, and what it does with children.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Do(Action),
    Start(u8),
    Await(u8),
}

/// One child of a body: the ordinal of its call, the number of its memo, and the run.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    ordinal: u8,
    number: u64,
    id: RunId,
}

/// What signs the messages of a fleet.
pub fn signer() -> &'static Signer {
    static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
        let secrets = Secrets::new([b"the secret of a fleet"]).expect("it is long enough");
        Signer { secrets, ..Signer::default() }
    });
    &SIGNER
}

/// What the body of a step does for an event, in a run so deep in its family.
pub fn acts(program: &Program, step: StepId, event: Named, depth: u32) -> Vec<Act> {
    let mut acts: Vec<_> = program.actions.iter().copied().map(Act::Do).collect();
    for ordinal in 0..count(step, event, depth) {
        let mut random = random(step, event, ordinal);
        let at = random.below(acts.len() + 1);
        acts.insert(at, Act::Start(ordinal));
        if is_awaited(step, event, ordinal) {
            acts.insert(at + 1 + random.below(acts.len() - at), Act::Await(ordinal));
        }
    }
    acts
}

/// The calls of a body that it is done only with the ends of, by the digests of their inputs.
pub fn awaited(step: StepId, event: Named, depth: u32) -> impl Iterator<Item = Digest> {
    let ordinals = (0..count(step, event, depth)).filter(move |&ordinal| is_awaited(step, event, ordinal));
    ordinals.map(move |ordinal| input_of(step, event, ordinal))
}

fn count(step: StepId, event: Named, depth: u32) -> u8 {
    if depth >= DEEPEST {
        return 0;
    }
    match mix(&[event.name, step.0.into(), 23]) % 64 {
        0 => 2,
        1 | 2 => 1,
        _ => 0,
    }
}

fn random(step: StepId, event: Named, ordinal: u8) -> Random {
    Random::new(&[event.name, step.0.into(), 24, ordinal.into()])
}

fn is_awaited(step: StepId, event: Named, ordinal: u8) -> bool {
    !mix(&[event.name, step.0.into(), 25, ordinal.into()]).is_multiple_of(4)
}

fn on_parent_end(step: StepId, event: Named, ordinal: u8) -> OnParentEnd {
    match mix(&[event.name, step.0.into(), 26, ordinal.into()]) % 3 {
        0 => OnParentEnd::Detach,
        _ => OnParentEnd::Cancel,
    }
}

/// No two calls of a run have one input.
fn input_of(step: StepId, event: Named, ordinal: u8) -> Digest {
    let mut input = [0; 32];
    input[..8].copy_from_slice(&event.name.to_be_bytes());
    input[8..12].copy_from_slice(&step.0.to_be_bytes());
    input[12] = ordinal;
    input
}

/// What a run gives that ends like this.
pub fn gave(run: RunId, phase: Phase) -> ChildEnd<Value> {
    let value = Value::new(Tag::Binary, run.as_bytes().to_vec());
    if phase == Phase::Completed { ChildEnd::Result(value) } else { ChildEnd::Failure(value) }
}

impl Execution {
    pub(super) fn depth(&self) -> u32 {
        self.run.family().map_or(0, |family| family.depth)
    }

    /// A body comes to a call that starts a child.
    pub(super) fn start_child(&mut self, at: usize, ordinal: u8, now: Time) {
        let (slot, step, event) = (self.bodies[at].slot, self.bodies[at].step(), self.bodies[at].event());
        let input = input_of(step, event, ordinal);
        let is_named = ordinal == 1 || self.has(Bug::ChildStartedTwice);
        let salt = if self.has(Bug::ChildStartedTwice) { self.epoch } else { 0 };
        let name = format!("child {ordinal} {salt}");
        let call = ChildCall { name: &name, is_named, input: &input, max_depth: MAX_FAMILY_DEPTH };
        let (number, id) = match self.run.begin_child(slot, Strand::BODY, &call).expect("the run goes on") {
            ChildBegun::Before(number, child) => {
                let id = child.id;
                if self.run.is_to_be_made(slot, number) {
                    let family = self.run.family_of_child();
                    let made = self.made(id, family, input, now);
                    assert!(self.run.make_again(slot, number, made), "it is to be made");
                }
                (number, id)
            }
            ChildBegun::New(call, family) => {
                let id = RunId::new(now / 1000, std::array::from_fn(|_| self.random.next() as u8));
                let made = self.made(id, family, input, now);
                let on_parent_end = on_parent_end(step, event, ordinal);
                let child = Child { id, workflow: ERRANDS.into(), on_parent_end, end: None, inside: None };
                let begun = self.run.start_child(slot, Strand::BODY, call, child);
                let (number, unkept) = begun.expect("the run goes on");
                self.forget_memos(at, &unkept);
                self.run.write_to_child(made);
                (number, id)
            }
        };
        self.bodies[at].children.push(Started { ordinal, number, id });
        self.mark(Occurrence::Child, now);
    }

    /// What makes a child in the journal; it is kept, to begin when that is written.
    fn made(&mut self, id: RunId, family: Family, input: Digest, now: Time) -> Outgoing {
        let name = Name { workflow: ERRANDS.to_owned(), key: None, input, family: Some(family) };
        let (run, creation) = create(id, &name, &self.errands, now);
        if self.setting.makes_for_any {
            return family::make(creation, None);
        }
        let code =
            Code { name: ERRANDS.to_owned(), workflow: Rc::clone(&self.errands), errands: Rc::clone(&self.errands) };
        let random = Random::new(&[self.random.next()]);
        self.expected.insert(id, Self::of_child(run, &creation, code, self.setting, random));
        self.untold.push(id);
        family::make(creation, Some(self.setting.owner))
    }

    /// A body awaits a child that it has started.
    pub(super) fn await_child(&mut self, at: usize, ordinal: u8, now: Time) {
        let body = &mut self.bodies[at];
        let child = body.children.iter().find(|child| child.ordinal == ordinal).expect("it was started before");
        if self.run.child_end(body.slot, child.number).is_some() {
            return;
        }
        self.run.await_child(body.slot, child.id, true);
        body.awaited = Some(child.id);
        body.is_waiting = true;
        self.mark(Occurrence::Waiting, now);
    }

    /// An entry of the inbox says what a child gave.
    pub(super) fn take_child_end(&mut self, entry: &Entry, now: Time) {
        let end = family::end_told(entry, signer()).expect("it is what was written");
        self.run.consume(entry.number);
        // One that its parent does not wait for any more has told it all the same.
        if self.run.end_child(RunId::from_bytes(entry.id), end).is_ok() {
            self.wake_for_children();
        }
        self.mark(Occurrence::ChildEnded, now);
    }

    /// Bodies that await a child which has ended go on later, unless the run is paused. Until then nothing says so but
    /// the run itself.
    pub(super) fn wake_for_children(&mut self) {
        if self.run.is_paused() {
            return;
        }
        for body in &mut self.bodies {
            if body.awaited.take_if(|child| !self.run.has_open_child(*child)).is_some() {
                body.is_waiting = false;
            }
        }
    }

    /// What the run writes to its family with its end.
    pub(super) fn last_words(&self, phase: Phase) -> Vec<Outgoing> {
        let gave = gave(self.run.id(), phase);
        let mut last = family::last_words(&self.run, Some(&gave), signer()).expect("there is a secret");
        let left_out = match self.setting.bug {
            Some(Bug::OrphanLeft) => kind::CANCEL,
            Some(Bug::ChildEndLost) => kind::CHILD_ENDED,
            _ => return last,
        };
        last.retain(|one| !matches!(one, Outgoing::Send { message, .. } if message.kind == left_out));
        last
    }
}
