//! What of a run is written, and when: with a real run and a journal in memory.

mod host;
mod property;

use treadle::history::continuation;
use treadle::journal::{Phase, Reply, Request, Status};
use treadle::writer::{Answered, Durability, EndTaken, Flush, Next, Occurrence, READY, Writer, Written};
use treadle::{Origin, Tag, Value};

use host::{Host, KIND, Options, UNSTORABLE, conflict, image_of, locked};

fn value(byte: u8) -> Value {
    Value::new(Tag::Binary, vec![byte])
}

/// A run whose first step is in flight, of which all is written.
fn begun(options: Options) -> Host {
    let mut host = Host::new(options);
    host.flush();
    host.hear_all();
    host.run.start_next(|| 0).expect("its event is queued, and that is written");
    mark(&mut host, Occurrence::Sent);
    host.flush();
    host.hear_all();
    host
}

fn mark(host: &mut Host, what: Occurrence) -> Flush {
    host.writer.mark(what, &host.run, true)
}

fn pipelined() -> Options {
    Options { durability: Durability::Pipelined, ..Options::default() }
}

// --- when

#[test]
fn a_run_is_made_with_its_first_commit() {
    let mut host = Host::new(Options::default());
    assert!(host.commits.is_empty() && host.writer.is_unbegun(&host.run));
    host.run.set("key", value(1)).expect("it runs");
    assert!(!host.writer.is_unbegun(&host.run));
    assert!(host.flush());
    assert_eq!(host.commits.len(), 2, "its creation, and what happened to it");
    assert!(host.stored() == image_of(&host.run));
}

#[test]
fn a_run_that_nothing_has_happened_to_is_made_without_a_commit() {
    let mut host = Host::new(Options::default());
    assert!(host.flush());
    assert_eq!(host.commits.len(), 1);
    assert!(!host.flush(), "all is written");
}

#[test]
fn the_first_event_of_a_run_without_a_key_starts_before_anything_is_written() {
    let mut host = Host::new(Options::default());
    assert!(host.run.start_next(|| 0).is_some() && host.commits.is_empty());
}

#[test]
fn a_run_with_a_key_starts_nothing_before_the_key_is_its_own() {
    for durability in [Durability::Step, Durability::Pipelined] {
        let mut host = Host::new(Options { key: Some("a key"), durability, ..Options::default() });
        assert_eq!((host.commits.len(), host.run.ready()), (1, 0));
        assert!(matches!(host.hear(), Answered::MayStart));
        assert_eq!(host.run.ready(), 1);
    }
}

#[test]
fn a_run_stands_for_the_one_that_has_its_key() {
    let options = Options { key: Some("a key"), ..Options::default() };
    let first = Host::new(options);
    let mut second = Host::on(first.store.clone(), 1, options);
    match second.hear() {
        Answered::Replaced { id, input, given } => {
            assert_eq!((id, input, given), (first.run.id(), [0; 32], [1; 32]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((second.writer.stands_for(), second.writer.is_lost()), (Some(first.run.id()), false));
    mark(&mut second, Occurrence::Kept);
    assert!(second.take().is_none() && second.run.ready() == 0, "it writes nothing and starts nothing");
    assert!(!second.writer.detach(), "it is not written already");
    second.end();
    assert!(matches!(second.write_end(Phase::Completed), EndTaken::Detached(_)));
    assert!(matches!(second.hear_that(Written::End, conflict()), Answered::Over));
}

#[test]
fn a_host_is_told_once_that_something_has_happened() {
    let mut host = begun(Options::default());
    assert_eq!(mark(&mut host, Occurrence::Sent), Flush::Soon);
    assert_eq!(mark(&mut host, Occurrence::Waiting), Flush::AsItGoes);
    host.run.set("key", value(1)).expect("it runs");
    host.flush();
    assert_eq!(mark(&mut host, Occurrence::Received), Flush::Soon, "the next commit is another one");
}

#[test]
fn a_host_whose_step_is_done_writes_as_it_goes() {
    for what in Occurrence::ALL.into_iter().filter(|what| what.ends_step()) {
        let mut host = begun(Options::default());
        host.run.set("key", value(1)).expect("it runs");
        assert_eq!(mark(&mut host, what), Flush::AsItGoes);
        assert!(host.flush());
    }
}

#[test]
fn what_a_body_does_meanwhile_goes_with_the_next_commit() {
    for what in Occurrence::ALL.into_iter().filter(|what| !what.is_committed()) {
        let mut host = begun(Options::default());
        host.run.set("key", value(1)).expect("it runs");
        assert_eq!(mark(&mut host, what), Flush::AsItGoes);
        assert!(!host.flush());
        mark(&mut host, Occurrence::Waiting);
        assert!(host.flush() && host.stored() == image_of(&host.run));
    }
}

#[test]
fn a_body_that_sets_a_million_keys_holds_no_million_records() {
    let mut host = begun(Options::default());
    let mut most = 0;
    for number in 0..5_000_u32 {
        host.run.set(&number.to_string(), value(1)).expect("it runs");
        most = most.max(host.run.unwritten());
        if mark(&mut host, Occurrence::Stored) == Flush::Now {
            assert!(host.flush());
        }
    }
    assert_eq!(most, 1024);
}

#[test]
fn a_thread_that_makes_no_commits_has_one_made_soon_when_there_is_too_much() {
    let mut host = begun(Options::default());
    for number in 0..1024_u32 {
        host.run.set(&number.to_string(), value(1)).expect("it runs");
    }
    let mark = |host: &mut Host| host.writer.mark(Occurrence::Stored, &host.run, false);
    assert_eq!((mark(&mut host), mark(&mut host)), (Flush::Soon, Flush::AsItGoes));
}

#[test]
fn how_far_a_run_is_is_a_commit_of_its_own_when_it_has_changed() {
    let mut host = begun(Options::default());
    let slot = host.run.start_next(|| 0).map(|started| started.slot);
    assert_eq!(slot, None);
    let last = |host: &Host| host.commits.last().expect("there are some").status;
    host.run.pause().expect("it runs");
    mark(&mut host, Occurrence::Paused);
    assert!(host.flush());
    assert_eq!(last(&host).phase, Phase::Paused);
    host.run.resume();
    mark(&mut host, Occurrence::Resumed);
    assert!(host.flush());
    assert_eq!(last(&host), READY);
    mark(&mut host, Occurrence::Resumed);
    assert!(!host.flush(), "nothing has changed");
}

#[test]
fn a_run_that_waits_says_until_when() {
    let mut host = Host::new(Options::default());
    let slot = host.run.start_next(|| 0).expect("it is new").slot;
    host.run.wait(slot, "it sleeps", None, Some(50)).expect("it runs");
    mark(&mut host, Occurrence::Waiting);
    host.flush();
    let status = |host: &Host| host.commits.last().map(|commit| commit.status);
    assert_eq!(status(&host), Some(Status { phase: Phase::Waiting, due: Some(50) }));
    host.run.deliver(KIND, 2).expect("it runs");
    mark(&mut host, Occurrence::Received);
    host.flush();
    assert_eq!(status(&host), Some(READY), "it has something to start");
}

#[test]
fn a_run_that_can_only_end_is_left_to_any_process() {
    for is_draining in [false, true] {
        let mut host = Host::new(Options::default());
        let slot = host.run.start_next(|| 0).expect("it is new").slot;
        host.run.finish_step(slot).expect("it is in flight");
        if is_draining {
            host.run.drain();
        }
        mark(&mut host, Occurrence::Finished);
        assert!(host.flush());
        assert_eq!(host.commits.last().map(|commit| commit.status), Some(READY));
    }
}

// --- when successors may start

#[test]
fn successors_start_once_the_commit_that_queued_them_is_written() {
    let mut host = begun(Options::default());
    host.run.deliver(KIND, 2).expect("it runs");
    mark(&mut host, Occurrence::Sent);
    assert_eq!(host.run.ready(), 0);
    host.flush();
    assert_eq!(host.run.ready(), 0);
    assert!(matches!(host.hear(), Answered::MayStart));
    assert_eq!(host.run.ready(), 1);
}

#[test]
fn an_acknowledgement_is_for_what_the_commit_has_and_no_more() {
    let mut host = begun(Options::default());
    host.run.deliver(KIND, 2).expect("it runs");
    mark(&mut host, Occurrence::Sent);
    host.flush();
    host.run.deliver(KIND, 3).expect("it runs");
    assert!(matches!(host.hear(), Answered::MayStart));
    assert!(host.run.start_next(|| 0).is_some() && host.run.start_next(|| 0).is_none());
}

#[test]
fn successors_start_at_once_in_a_pipelined_journal_that_has_room() {
    let mut host = begun(pipelined());
    host.run.deliver(KIND, 2).expect("it runs");
    assert_eq!(host.run.ready(), 1);
}

#[test]
fn a_pipelined_journal_without_room_holds_successors_back_until_it_has_room() {
    let mut host = begun(pipelined());
    host.has_room = false;
    host.run.deliver(KIND, 2).expect("it runs");
    mark(&mut host, Occurrence::Sent);
    host.flush();
    host.run.deliver(KIND, 3).expect("it runs");
    assert!(host.run.start_next(|| 0).is_some(), "it was queued while there was room");
    assert_eq!(host.run.ready(), 0);
    mark(&mut host, Occurrence::Sent);
    host.flush();
    host.has_room = true;
    host.hear_all();
    assert_eq!(host.run.ready(), 1);
}

#[test]
fn a_memo_waits_for_the_disk_also_where_steps_do_not() {
    for options in [Options::default(), pipelined()] {
        let mut host = begun(options);
        host.hear_all();
        let before = host.writer.written();
        host.run.deliver(KIND, 2).expect("it runs");
        mark(&mut host, Occurrence::Memo);
        assert!(host.flush());
        assert_eq!(host.writer.written(), before, "it is handed over, and not on disk");
        host.hear_all();
        assert_eq!(host.writer.written(), host.run.recorded());
    }
}

// --- what

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

// --- what comes while a commit is made

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

// --- the end

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
fn an_end_that_cannot_be_written_is_told() {
    let mut host = begun(Options::default());
    host.end();
    host.write_end(Phase::Completed);
    assert!(matches!(host.hear_that(Written::End, conflict()), Answered::EndLost(_)));
    assert!(host.writer.is_lost() && !host.writer.may_go_on());
}

// --- gaps

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

// --- losing the journal

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
