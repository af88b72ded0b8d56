//! The runs that commits make are told once each, when the journal has answered the commit that makes them.

use treadle::journal::{Commit, NewRun, Outgoing, Phase};
use treadle::writer::{Made, Occurrence, Written};
use treadle::{Child, ChildBegun, ChildCall, OnParentEnd, RunId, Slot, Strand};

use super::host::{Host, OWNER, Options, conflict, locked};
use super::{begun, mark, value};

fn child(number: u8) -> RunId {
    RunId::new(3, [number; 10])
}

/// The next commit makes a run.
fn make(host: &mut Host, id: RunId) {
    let loaded = host.loaded();
    let run = NewRun {
        id,
        workflow: "errand".to_owned(),
        key: None,
        input: [0; 32],
        created: 0,
        stream_limit: 1,
        parent: Some(host.run.id()),
        root: Some(host.run.id()),
        depth: 1,
    };
    let checkpoint = loaded.checkpoint.map(|(_, bytes)| bytes);
    let commit = Box::new(Commit { checkpoint, ..Commit::default() });
    host.run.write_to_child(Outgoing::Create { run, owner: Some(OWNER), commit });
}

/// The body of the step in flight starts a child.
fn start(host: &mut Host, slot: Slot, id: RunId) {
    let call = ChildCall { name: "errand", is_named: false, input: &[0; 32], max_depth: 9 };
    let Ok(ChildBegun::New(begun, _)) = host.run.begin_child(slot, Strand::BODY, &call) else { panic!("it is new") };
    let known = Child { id, workflow: "errand".into(), on_parent_end: OnParentEnd::Detach, end: None, inside: None };
    host.run.start_child(slot, Strand::BODY, begun, known).expect("it runs");
    make(host, id);
}

fn in_flight(host: &mut Host) -> Slot {
    host.run.deliver_to(treadle::StepId(0), 5).expect("it runs");
    mark(host, Occurrence::Sent);
    host.flush();
    host.hear_all();
    host.run.start_next(|| 0).expect("that is written").slot
}

fn made(number: u8) -> Made {
    Made { run: child(number), exists: Some(true), is_for_any: false }
}

#[test]
fn a_child_is_told_once_when_its_commit_is_answered() {
    let mut host = begun(Options::default());
    let slot = in_flight(&mut host);
    start(&mut host, slot, child(1));
    mark(&mut host, Occurrence::Child);
    host.flush();
    assert_eq!(host.writer.take_made(), []);
    host.hear();
    assert_eq!(host.writer.take_made(), [made(1)]);
    assert_eq!(host.writer.take_made(), []);
}

#[test]
fn a_child_that_no_record_is_made_for_is_not_told_by_the_answer_to_an_earlier_commit() {
    let mut host = begun(Options::default());
    host.run.set("key", value(1)).expect("it runs");
    mark(&mut host, Occurrence::Sent);
    host.flush();
    // It is made again, as in a run that was retried: the run has no more records than before.
    make(&mut host, child(1));
    mark(&mut host, Occurrence::Child);
    host.hear();
    assert_eq!(host.writer.take_made(), []);
    host.flush();
    host.hear();
    assert_eq!(host.writer.take_made(), [made(1)]);
}

#[test]
fn a_child_that_the_last_commit_makes_is_told_as_any_other() {
    let mut host = begun(Options::default());
    let slot = in_flight(&mut host);
    start(&mut host, slot, child(1));
    host.end();
    host.write_end(Phase::Completed);
    host.hear();
    assert_eq!(host.writer.take_made(), [made(1)]);
}

#[test]
fn a_child_of_a_commit_that_was_given_up_may_be_there_and_one_of_a_commit_that_was_refused_is_not() {
    for (outcome, exists) in [(locked(), None), (conflict(), Some(false))] {
        let mut host = begun(Options::default());
        let slot = in_flight(&mut host);
        start(&mut host, slot, child(1));
        mark(&mut host, Occurrence::Child);
        host.flush();
        let (written, _) = host.answers.pop_front().expect("there is a commit");
        assert!(matches!(written, Written::Commit { .. }));
        host.hear_that(written, outcome);
        assert_eq!(host.writer.take_made(), [Made { exists, ..made(1) }]);
    }
}
