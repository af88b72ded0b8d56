//! When a run commits, and when successors may start.

use treadle::journal::{Phase, Status};
use treadle::writer::{AT_ONCE, Answered, Flush, Occurrence, READY};

use super::host::{Host, KIND, Options, image_of};
use super::{begun, mark, pipelined, value};

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
    let wait = host.run.wait(slot, "it sleeps", None, Some(50)).expect("it runs");
    host.run.body_awaits(wait);
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
fn a_run_of_which_a_task_may_move_is_due_at_once() {
    let at_once = Status { phase: Phase::Waiting, due: Some(AT_ONCE) };
    let status = |host: &mut Host| {
        mark(host, Occurrence::Waiting);
        host.flush();
        host.commits.last().expect("there are some").status
    };
    let mut host = Host::new(Options::default());
    let slot = host.run.start_next(|| 0).expect("it is new").slot;
    let first = host.run.wait(slot, "a task waits", Some(1), None).expect("it runs");
    assert_eq!(status(&mut host), at_once, "the body may do something else");
    let second = host.run.wait(slot, "the body waits", Some(1), None).expect("it runs");
    host.run.body_awaits(second);
    assert_eq!(status(&mut host), at_once, "so may what has started the task");
    host.run.end_wait(first).expect("it waits");
    assert_eq!(status(&mut host), at_once, "the task goes on");

    let mut host = Host::new(Options::default());
    let slot = host.run.start_next(|| 0).expect("it is new").slot;
    host.run.new_strand(slot, None).expect("it is in flight");
    let wait = host.run.wait(slot, "the body waits", Some(1), None).expect("it runs");
    host.run.body_awaits(wait);
    assert_eq!(status(&mut host), at_once, "a task makes calls");
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
