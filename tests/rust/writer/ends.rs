//! The end of a run, a gap, and losing the journal.

use treadle::history::continuation;
use treadle::journal::{Commit, IfOver, Message, Outgoing, Phase, Reply, Request, Status, kind};
use treadle::writer::{Answered, Durability, EndTaken, Occurrence, Writer, Written};
use treadle::{Origin, RunId};

use super::host::{Host, KIND, Options, UNSTORABLE, conflict, image_of, locked};
use super::{begun, mark, value};

#[test]
fn a_run_that_ends_before_its_first_commit_is_made_and_ends_in_one_go() {
    let mut host = Host::new(Options::default());
    host.end();
    host.write_end(Phase::Failed);
    assert_eq!(host.commits.len(), 2);
    assert_eq!(host.loaded().run.phase(), Phase::Failed);
    assert!(matches!(host.hear(), Answered::Nothing) && matches!(host.hear(), Answered::Over));
}

#[test]
fn the_end_has_all_that_was_not_written() {
    let mut host = begun(Options::default());
    let (entry, dead) = (host.send(), host.send());
    host.run.publish(9).expect("it runs");
    host.run.consume(entry);
    host.writer.refuse_entry(dead, "it cannot be read".to_owned());
    host.end();
    host.write_end(Phase::Completed);
    let commit = host.commits.last().expect("there are some");
    assert_eq!(commit.status, Status { phase: Phase::Completed, due: None });
    assert!(commit.outcome.is_some() && commit.consumed == [entry] && commit.undeliverable.len() == 1);
    assert_eq!(host.stream(), [1]);
    assert!(host.stored() == image_of(&host.run));
}

#[test]
fn an_end_whose_records_cannot_be_stored_is_written_without_them() {
    let mut host = begun(Options::default());
    let before = image_of(&host.run);
    let entry = host.send();
    host.run.route_directly(Origin::Inbox(entry), KIND, UNSTORABLE, || 0).expect("it is for a step");
    host.end();
    host.write_end(Phase::Failed);
    assert_eq!(host.loaded().run.phase(), Phase::Failed);
    assert!(host.stored() == before);
    assert_eq!(host.loaded().inbox.len(), 1, "what became of the message is not written, so that it stays");
}

#[test]
fn a_run_that_cancels_more_children_than_one_commit_may_cancels_the_others_before_its_end() {
    let mut host = begun(Options::default());
    let count = 2 * Commit::MOST_OUTGOING + 5;
    let message = Message { id: [1; 16], kind: kind::CANCEL, body: vec![0; 8] };
    let cancel = |n| Outgoing::Send { to: RunId::new(n, [3; 10]), message: message.clone(), if_over: IfOver::Drop };
    host.last_words = (0..count as u64).map(cancel).collect();
    let before = host.commits.len();
    host.run.publish(9).expect("it runs");
    host.end();
    host.write_end(Phase::Completed);
    let commits = &host.commits[before..];
    let sizes: Vec<_> = commits.iter().map(|commit| (commit.outgoing.len(), commit.status.phase)).collect();
    let most = Commit::MOST_OUTGOING;
    assert_eq!(sizes, [(most, Phase::Ready), (5, Phase::Ready), (most, Phase::Completed)]);
    assert!(matches!(host.hear(), Answered::Nothing) && matches!(host.hear(), Answered::Nothing));
    assert!(matches!(host.hear(), Answered::Over));
    assert_eq!(host.loaded().run.phase(), Phase::Completed);
}

#[test]
fn an_end_that_cannot_be_written_is_told() {
    let mut host = begun(Options::default());
    host.end();
    host.write_end(Phase::Completed);
    assert!(matches!(host.hear_that(Written::End, conflict()), Answered::EndLost(_)));
    assert!(host.writer.is_lost() && !host.writer.may_go_on());
}

#[test]
fn behind_what_cannot_be_stored_only_the_end_is_written() {
    let mut host = begun(Options::default());
    let before = image_of(&host.run);
    host.run.deliver(KIND, UNSTORABLE).expect("it runs");
    host.run.publish(9).expect("it runs");
    let (entry, dead) = (host.send(), host.send());
    host.run.consume(entry);
    host.writer.refuse_entry(dead, "it cannot be read".to_owned());
    mark(&mut host, Occurrence::Sent);
    let count = host.commits.len();
    assert!(host.flush());
    assert_eq!(host.commits.len(), count);
    host.run.publish(10).expect("it runs");
    host.end();
    host.write_end(Phase::Failed);
    assert!(host.stored() == before, "the run ends as it was when it could be written last");
    let loaded = host.loaded();
    assert_eq!((loaded.run.phase(), loaded.inbox.len(), loaded.run.dead_letters), (Phase::Failed, 1, 1));
    assert!(host.stream().is_empty());
}

#[test]
fn a_run_whose_first_commit_cannot_be_stored_is_made_all_the_same() {
    let mut host = Host::new(Options::default());
    host.run.deliver(KIND, UNSTORABLE).expect("it runs");
    mark(&mut host, Occurrence::Sent);
    host.flush();
    assert_eq!(host.commits.len(), 1);
    host.end();
    host.write_end(Phase::Failed);
    assert_eq!(host.loaded().run.phase(), Phase::Failed);
}

#[test]
fn a_run_that_another_process_has_writes_nothing_more() {
    let mut host = begun(Options::default());
    host.run.set("one", value(1)).expect("it runs");
    mark(&mut host, Occurrence::Waiting);
    let half = host.take().expect("there is something");
    assert!(matches!(host.hear_that(Written::Commit { recorded: 1 }, conflict()), Answered::Lost(_)));
    assert!(host.writer.detach() && !host.writer.detach());
    assert!(
        matches!(host.hear_that(Written::Commit { recorded: 1 }, conflict()), Answered::Nothing),
        "it is told once"
    );
    let count = host.commits.len();
    host.hand_over(half);
    mark(&mut host, Occurrence::Waiting);
    assert!(!host.flush());
    host.end();
    assert!(matches!(host.write_end(Phase::Failed), EndTaken::Detached(_)));
    assert_eq!(host.commits.len(), count);
    assert!(host.writer.is_lost() && !host.writer.may_go_on());
}

#[test]
fn a_run_that_a_busy_journal_took_nothing_of_may_go_on_from_what_is_written() {
    let mut host = begun(Options::default());
    assert!(matches!(host.hear_that(Written::Commit { recorded: 1 }, locked()), Answered::Lost(_)));
    host.writer.detach();
    assert!(host.writer.may_go_on());
}

#[test]
fn a_run_that_goes_on_elsewhere_does_not_go_on_here_because_the_journal_is_busy() {
    let mut host = begun(Options::default());
    host.writer.detach();
    host.hear_that(Written::Commit { recorded: 1 }, locked());
    assert!(!host.writer.may_go_on());
}

#[test]
fn a_run_that_goes_on_writes_behind_what_is_there() {
    let mut host = begun(Options::default());
    host.run.publish(9).expect("it runs");
    mark(&mut host, Occurrence::Waiting);
    host.flush();
    let loaded = host.loaded();
    let continuation = continuation(&loaded, &host.signer).expect("it is what was written");
    host.writer = Writer::of_continuation(&continuation, Durability::Step);
    assert_eq!((host.writer.epoch(), host.writer.seq()), (loaded.run.epoch, loaded.run.seq));
    host.run.publish(10).expect("it runs");
    mark(&mut host, Occurrence::Waiting);
    host.flush();
    assert_eq!(host.stream(), [1, 2]);
    assert!(host.stored() == image_of(&host.run));
    let row = host.store.carry_out(Request::Get { run: host.run.id() });
    assert!(matches!(row, Ok(Reply::Run { .. })));
}
