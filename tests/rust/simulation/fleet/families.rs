//! What is true of the families of a fleet: each child is started once, its end reaches its parent once, and none goes
//! on whose parent has cancelled it.

use std::collections::{BTreeMap, BTreeSet};

use treadle::journal::{Commit, Digest, Entry, NewRun, Outgoing, Undelivered, kind};
use treadle::{ChildEnd, EncodedImage, EncodedRecord, Kept, OnParentEnd, Record, RunId, Value, family};

use super::children::{awaited, gave, signer};
use super::encode::named;
use super::ledger::Facts;

#[derive(Default)]
pub struct Families {
    /// The child of each call, by its parent and the input.
    calls: BTreeMap<(RunId, Digest), RunId>,
    /// Children that stand for no call any more: their memo is void, or their parent began again without them.
    replaced: BTreeSet<RunId>,
    /// What children have told their parents, and the ends that those have yet to note.
    told: BTreeMap<RunId, ChildEnd<Value>>,
    owed: BTreeSet<(RunId, RunId)>,
    /// Children that their parents have cancelled.
    pub cancelled: BTreeSet<RunId>,
    /// Runs that have begun again. A parent cancels each of its children once.
    retried: BTreeSet<RunId>,
}

impl Families {
    /// A run has recorded something about its children, and is as it was before that.
    pub fn recorded(&mut self, run: RunId, before: &Facts, record: &EncodedRecord, commit: &Commit) {
        match record {
            Record::Memo { memo, .. } => {
                let Kept::Child(child) = &memo.kept else { return };
                let is_made = creations(commit).any(|new| new.id == child.id);
                assert!(is_made, "run {run}: child {} is made by the commit that records it", child.id);
            }
            Record::Forgotten { seq, number } => {
                let forgotten = before.image.pending[seq].replay.memos.get(*number).map(|memo| &memo.kept);
                let Some(Kept::Child(child)) = forgotten else { return };
                self.replaced.insert(child.id);
                let is_bound = child.end.is_none() && child.on_parent_end == OnParentEnd::Cancel;
                assert!(!is_bound || is_cancelled(commit, child.id), "a child whose memo is void is cancelled");
            }
            Record::ChildEnded { child, end } => {
                assert!(self.owed.remove(&(run, *child)), "run {run} notes the end of child {child} once");
                assert_eq!(Some(end), self.told.get(child), "run {run} is told what child {child} gave");
            }
            Record::Finished { seq, .. } => {
                let pending = &before.image.pending[seq];
                for input in awaited(pending.step, named(&pending.event), before.depth) {
                    let of_call = pending.replay.memos.iter().find(|(_, memo)| memo.call.arguments == input);
                    let Some(Kept::Child(child)) = of_call.map(|(_, memo)| &memo.kept) else {
                        panic!("run {run} has a child for each call")
                    };
                    assert!(child.end.is_some(), "a step of run {run} is done once child {} has ended", child.id);
                    assert_eq!(child.end.as_ref(), self.told.get(&child.id));
                }
            }
            Record::Ended => {
                for (child, open) in &before.image.children {
                    let is_bound = open.on_parent_end == OnParentEnd::Cancel;
                    assert!(!is_bound || is_cancelled(commit, *child), "no child of run {run} is left an orphan");
                }
            }
            _ => {}
        }
    }

    /// A run makes a child that is new.
    pub fn made(&mut self, parent: RunId, facts: &Facts, new: &NewRun) {
        assert_eq!(new.parent, Some(parent));
        assert_eq!((new.root, new.depth), (Some(facts.root.unwrap_or(parent)), facts.depth + 1));
        if let Some(other) = self.calls.insert((parent, new.input), new.id) {
            assert!(self.replaced.contains(&other), "run {parent} starts child {other} once, and not {} too", new.id);
        }
    }

    /// A run has written to its family.
    pub fn written(&mut self, from: RunId, facts: &Facts, commit: &Commit, undelivered: &[Undelivered]) {
        for one in &commit.outgoing {
            let Outgoing::Send { to, message, .. } = one else { continue };
            let is_delivered = undelivered.iter().all(|other| (other.to, other.message) != (*to, message.id));
            if message.kind == kind::CANCEL && !self.retried.contains(to) {
                self.cancelled.insert(*to);
            }
            if message.kind != kind::CHILD_ENDED {
                continue;
            }
            let entry =
                Entry { number: 0, run: *to, id: message.id, kind: message.kind, at: 0, body: message.body.clone() };
            let end = family::end_told(&entry, signer()).expect("it is what was written");
            assert_eq!((RunId::from_bytes(message.id), *to), (from, facts.parent.expect("a child tells its parent")));
            assert_eq!(end, gave(from, commit.status.phase), "child {from} tells how it has ended");
            // A child that is retried has told its parent before.
            if is_delivered && !self.told.contains_key(&from) {
                self.told.insert(from, end);
                self.owed.insert((*to, from));
            }
        }
        let mut messages = commit.outgoing.iter().filter_map(|one| match one {
            Outgoing::Send { to, message, .. } => Some((*to, message.kind)),
            Outgoing::Create { .. } => None,
        });
        if let (Some(parent), true) = (facts.parent, commit.status.phase.is_over()) {
            assert!(messages.any(|one| one == (parent, kind::CHILD_ENDED)), "child {from} tells its end");
        }
    }

    /// A run begins again: it keeps what it was told, and has other children for those that had not ended.
    pub fn reopened(&mut self, run: RunId, children: &[(RunId, bool)], image: &EncodedImage) {
        self.cancelled.remove(&run);
        self.retried.insert(run);
        for (child, has_ended) in children {
            let is_known = *has_ended || image.children.contains_key(child);
            assert!(is_known || !self.owed.contains(&(run, *child)), "run {run} was told the end of child {child}");
            self.replaced.extend((!is_known).then_some(*child));
        }
    }
}

/// The children that the steps of a run have started which are not done, and whether each has ended.
pub fn children_of(image: &EncodedImage) -> Vec<(RunId, bool)> {
    let memos = image.pending.values().flat_map(|pending| pending.replay.memos.iter());
    let children = memos.filter_map(|(_, memo)| match &memo.kept {
        Kept::Child(child) => Some((child.id, child.end.is_some())),
        _ => None,
    });
    children.collect()
}

/// The runs that a commit makes.
pub fn creations(commit: &Commit) -> impl Iterator<Item = &NewRun> {
    commit.outgoing.iter().filter_map(|one| match one {
        Outgoing::Create { run, .. } => Some(run),
        Outgoing::Send { .. } => None,
    })
}

fn is_cancelled(commit: &Commit, child: RunId) -> bool {
    let is_it = |one: &Outgoing| matches!(one, Outgoing::Send { to, message, .. } if *to == child && message.kind == kind::CANCEL);
    commit.outgoing.iter().any(is_it)
}
