//! Runs that begin again: forks, and runs that are tried again.

use bytes::Bytes;
use treadle::history::{self, Edits, Fork, History, HistoryError, Trusted, begin_again};
use treadle::journal::{Entry, Loaded, Phase, Request, Sign, Slot, Status, entry, kind};
use treadle::{
    Body, Child, EncodedEvent, EncodedImage, Failure, Kept, Memo, MemoCall, OnParentEnd, OpenChild, Pending, Record,
    Replay, RunId, StepId, Turn, Value, Wanted,
};

use super::{RUN, carried_out, new_image, set, signer, written};

const FORK: RunId = RunId::from_bytes([8; 16]);

fn event(number: u64) -> EncodedEvent {
    EncodedEvent { class: "Page".into(), body: Body::Fields(vec![("number".into(), super::json(&number.to_string()))]) }
}

fn memo() -> Memo<Value> {
    let call = MemoCall { name: "ask".into(), arguments: [1; 32], turn: Turn::Ordered(1) };
    Memo { call, kept: Kept::Result(super::json("5")) }
}

/// An image of a run in its middle: a delivery waits for its third attempt.
fn image_in_the_middle() -> EncodedImage {
    let mut image = new_image();
    let mut replay = Replay::default();
    replay.failures.push(Failure { attempt: 2, text: "no".into() });
    replay.received.push(event(2));
    replay.sent.push(77);
    replay.memos.put(1, memo());
    replay.deadlines.push((Wanted::Sleep(5), 250));
    image.delivered = 1;
    image.begun = Some(120);
    let (attempt, due, since) = (3, Some(300), Some(120));
    image.pending.insert(1, Pending { step: StepId(0), attempt, due, since, event: event(1), replay });
    image
}

fn in_phase(loaded: Loaded, phase: Phase) -> Loaded {
    let mut loaded = loaded;
    loaded.run.status = Status { phase, due: None };
    loaded
}

#[test]
fn what_begins_again_has_its_time_and_its_attempts_anew_and_finds_what_its_bodies_have_done() {
    let mut image = image_in_the_middle();
    image.status = treadle::Status::Paused;
    begin_again(&mut image, 1_000);
    assert_eq!((image.created, image.deadline, image.begun), (1_000, Some(1_300), None));
    assert_eq!(image.status, treadle::Status::Running);
    let pending = &image.pending[&1];
    assert_eq!((pending.attempt, pending.due, pending.since), (1, None, None));
    assert_eq!((&pending.replay.failures[..], &pending.replay.deadlines[..]), (&[][..], &[][..]));
    assert_eq!(pending.replay.memos.get(1), Some(&memo()));
    assert_eq!((&pending.replay.received[..], &pending.replay.sent[..]), (&[event(2)][..], &[77][..]));
}

#[test]
fn a_run_that_failed_is_reopened_where_it_was_before_its_end() {
    let records = [set("a", "1"), Record::Ended, set("b", "2")];
    for sign in [Sign::Opaque, Sign::All] {
        let loaded = in_phase(written(&image_in_the_middle(), 5, &records, sign), Phase::Failed);
        let request = history::reopen(&loaded, &signer(sign), 1_000).unwrap();
        let Request::Reopen { run: RUN, after: 8, owner: None, commit } = &request else { panic!("{request:?}") };
        assert_eq!((commit.at, commit.status), (1_000, Status::default()));
        let reopened = carried_out(request, &loaded);
        let image = history::continuation(&reopened, &signer(sign)).unwrap().image;
        assert_eq!((image.state.len(), image.pending[&1].attempt, image.created), (2, 1, 1_000));
    }
}

#[test]
fn a_run_that_is_reopened_counts_its_stream_on() {
    let mut loaded = in_phase(written(&new_image(), 0, &[], Sign::Opaque), Phase::Stranded);
    loaded.run.published = 12;
    let reopened = carried_out(history::reopen(&loaded, &signer(Sign::Opaque), 5).unwrap(), &loaded);
    assert_eq!(history::continuation(&reopened, &signer(Sign::Opaque)).unwrap().image.published, 12);
}

#[test]
fn a_run_that_is_reopened_keeps_the_children_whose_end_is_in_its_inbox_and_has_others_for_the_rest() {
    let mut image = image_in_the_middle();
    let ids = [1, 2].map(|number| RunId::from_bytes([number; 16]));
    for (number, id) in (2..).zip(ids) {
        let call = MemoCall { name: "errand".into(), arguments: [1; 32], turn: Turn::Ordered(number) };
        let (workflow, on_parent_end) = ("errand".into(), OnParentEnd::Cancel);
        let kept = Kept::Child(Box::new(Child { id, workflow, on_parent_end, end: None, inside: None }));
        let pending = image.pending.get_mut(&1).unwrap();
        pending.replay.memos.put(number, Memo { call, kept });
        image.children.insert(id, OpenChild { seq: 1, number, on_parent_end });
    }
    let mut loaded = in_phase(written(&image, 5, &[Record::Ended], Sign::Opaque), Phase::Cancelled);
    let (number, kind) = (1, kind::CHILD_ENDED);
    loaded.inbox.push(Entry { number, run: RUN, id: *ids[0].as_bytes(), kind, at: 0, body: Vec::new() });
    let reopened = carried_out(history::reopen(&loaded, &signer(Sign::Opaque), 1_000).unwrap(), &loaded);
    let image = history::continuation(&reopened, &signer(Sign::Opaque)).unwrap().image;
    assert_eq!(image.children.len(), 2);
    assert!(image.children.contains_key(&ids[0]) && !image.children.contains_key(&ids[1]));
    let to_be_made = image.pending[&1].replay.memos.iter().filter(|(_, memo)| match &memo.kept {
        Kept::Child(child) => child.inside.is_some(),
        _ => false,
    });
    assert_eq!(to_be_made.map(|(number, _)| number).collect::<Vec<_>>(), [3]);
}

#[test]
fn only_what_is_over_without_a_result_is_reopened() {
    let loaded = written(&new_image(), 0, &[], Sign::Opaque);
    for phase in Phase::ALL {
        let reopened = history::reopen(&in_phase(loaded.clone(), phase), &signer(Sign::Opaque), 5);
        match phase {
            Phase::Failed | Phase::Cancelled | Phase::Stranded => assert!(reopened.is_ok(), "{phase:?}"),
            _ => assert_eq!(reopened, Err(HistoryError::NotOver(phase))),
        }
    }
}

fn forked(loaded: &Loaded, at: Option<u64>, stream: &[(u64, Bytes)], sign: Sign) -> (Request, EncodedImage) {
    let fork = Fork { id: FORK, at, stream, edits: Edits::default() };
    let request = history::fork(loaded, fork, &signer(sign), 1_000).unwrap();
    let image = history::continuation(&carried_out(request.clone(), loaded), &signer(sign)).unwrap().image;
    (request, image)
}

#[test]
fn a_fork_is_a_run_of_its_own_that_goes_on_from_a_point_of_another() {
    let loaded = written(&image_in_the_middle(), 5, &[set("a", "1"), set("b", "2"), Record::Ended], Sign::Opaque);
    for (at, keys) in [(Some(5), 0), (Some(6), 1), (Some(7), 2), (None, 2)] {
        let (request, image) = forked(&loaded, at, &[], Sign::Opaque);
        let Request::Create { run, owner: None, .. } = request else { panic!("{request:?}") };
        assert_eq!((run.id, run.key, run.created, run.input), (FORK, None, 1_000, loaded.run.input));
        assert_eq!((image.id, image.state.len(), image.created), (FORK, keys, 1_000));
    }
    let fork = Fork { id: FORK, at: Some(8), stream: &[], edits: Edits::default() };
    let refused = history::fork(&loaded, fork, &signer(Sign::Opaque), 1_000);
    assert_eq!(refused, Err(HistoryError::NoSuchPoint { first: 5, last: 7 }));
}

#[test]
fn a_fork_has_what_was_published_by_then_signed_for_its_own_stream() {
    let published = || Record::Published { event: EncodedEvent { class: "".into(), body: Body::Fields(vec![]) } };
    let records = [published(), published(), published()];
    for sign in [Sign::Opaque, Sign::All] {
        let loaded = written(&new_image(), 0, &records, sign);
        let signer = signer(sign);
        let entry = |number| {
            let slot = Slot::Stream { number };
            let bytes = entry::encode(RUN, &slot, &event(number), &signer.secrets, sign == Sign::All).unwrap();
            (number, bytes)
        };
        let stream: Vec<_> = (1..=3).map(entry).collect();
        let (request, _) = forked(&loaded, Some(2), &stream, sign);
        let Request::Create { commit, .. } = request else { panic!("{request:?}") };
        assert_eq!(commit.published.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
        for (number, bytes) in commit.published {
            let slot = Slot::Stream { number };
            let read = Trusted::Signed(&signer).event(FORK, &slot, bytes.into()).unwrap();
            assert_eq!(read, event(number));
        }
    }
}

#[test]
fn a_fork_of_a_run_that_is_signed_whole_is_signed_whole() {
    let loaded = written(&new_image(), 0, &[set("a", "1")], Sign::All);
    let (request, _) = forked(&loaded, None, &[], Sign::Opaque);
    let forked = carried_out(request, &loaded);
    let strict = signer(Sign::All);
    assert!(History::new(&forked, Trusted::Signed(&strict)).image().is_ok());
}
