//! What a commit holds.

use treadle::Origin;
use treadle::journal::Phase;
use treadle::writer::{Answered, EndTaken, Next, Occurrence};

use super::host::{KIND, Options, image_of};
use super::{begun, mark, value};

#[test]
fn a_message_is_consumed_by_the_commit_that_has_what_became_of_it() {
    let mut host = begun(Options::default());
    let entry = host.send();
    assert!(host.writer.takes_entry(entry, &host.run) && !host.writer.takes_entry(entry, &host.run));
    host.run.route_directly(Origin::Inbox(entry), KIND, 5, || 0).expect("it is for a step");
    mark(&mut host, Occurrence::Received);
    host.flush();
    let commit = host.commits.last().expect("there are some");
    assert_eq!((commit.consumed.as_slice(), commit.records.len(), commit.progress), (&[entry][..], 1, true));
    assert!(host.loaded().inbox.is_empty());
}

#[test]
fn a_message_that_cannot_be_delivered_becomes_a_dead_letter() {
    let mut host = begun(Options::default());
    let entry = host.send();
    host.writer.refuse_entry(entry, "it cannot be read".to_owned());
    mark(&mut host, Occurrence::Received);
    assert!(host.flush());
    assert_eq!(host.loaded().run.dead_letters, 1);
}

#[test]
fn a_run_that_is_ending_takes_no_message() {
    let mut host = begun(Options::default());
    let entry = host.send();
    drop(host.run.begin_end());
    assert!(!host.writer.takes_entry(entry, &host.run));
}

#[test]
fn what_a_body_merely_does_is_no_progress() {
    let mut host = begun(Options::default());
    host.run.set("key", value(1)).expect("it runs");
    mark(&mut host, Occurrence::Waiting);
    host.flush();
    assert_eq!(host.commits.last().map(|commit| commit.progress), Some(false));
}

#[test]
fn a_checkpoint_takes_the_place_of_records_that_are_as_large() {
    let mut host = begun(Options { checkpoints_after: Some(100), ..Options::default() });
    let (mut since, mut least, mut checkpoints) = (0, 100, 0);
    for number in 0..200_u32 {
        host.run.set(&number.to_string(), value(7)).expect("it runs");
        mark(&mut host, Occurrence::Waiting);
        host.flush();
        let commit = host.commits.last().expect("there are some");
        match &commit.checkpoint {
            Some(checkpoint) => {
                assert!(since > least, "{since} bytes of records came since one of {least} bytes");
                (since, least, checkpoints) = (0, checkpoint.len().max(100), checkpoints + 1);
                assert!(host.loaded().records.is_empty());
            }
            None => since += commit.records.iter().map(Vec::len).sum::<usize>(),
        }
        assert!(since < least + 100, "a checkpoint is due");
        assert!(host.stored() == image_of(&host.run));
    }
    assert!(checkpoints > 3, "{checkpoints}");
}

#[test]
fn what_happens_while_a_commit_is_made_is_for_the_next_one() {
    let mut host = begun(Options::default());
    host.run.set("one", value(1)).expect("it runs");
    mark(&mut host, Occurrence::Waiting);
    let half = host.take().expect("there is something");
    let before = image_of(&host.run);
    host.run.set("two", value(2)).expect("it runs");
    mark(&mut host, Occurrence::Waiting);
    assert!(host.take().is_none(), "one commit at a time");
    assert_eq!(host.hand_over(half), Next::Flush);
    assert!(host.stored() == before);
    assert!(host.flush() && host.stored() == image_of(&host.run));
}

#[test]
fn an_end_that_comes_while_a_commit_is_made_is_written_after_it() {
    let mut host = begun(Options::default());
    host.run.set("one", value(1)).expect("it runs");
    mark(&mut host, Occurrence::Waiting);
    let half = host.take().expect("there is something");
    host.end();
    assert!(matches!(host.write_end(Phase::Completed), EndTaken::Later));
    assert_eq!(host.hand_over(half), Next::End);
    host.write_end(Phase::Completed);
    host.hear();
    assert!(matches!(host.hear(), Answered::Over));
    assert!(host.stored() == image_of(&host.run));
    assert_eq!(host.loaded().run.phase(), Phase::Completed);
}
