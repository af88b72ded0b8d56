//! Messages: kept until they are consumed, and delivered once.

use super::desk::*;
use super::every_backend;
use treadle::journal::{Commit, Cursor, JournalError, Message, Phase, Reply, Request};

every_backend!(
    a_message_is_there_until_it_is_consumed,
    a_message_is_delivered_once,
    a_message_is_polled_by_the_owner_of_its_run,
    polling_goes_on_where_it_was,
    messages_wait_for_whoever_claims_the_run,
    a_run_that_is_over_or_unknown_takes_no_message,
    an_entry_is_consumed_once_and_by_its_run,
    old_names_are_forgotten_in_the_end,
);

fn consuming(numbers: &[u64]) -> Commit {
    Commit { consumed: numbers.to_vec(), ..waiting(None) }
}

fn a_message_is_there_until_it_is_consumed(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), waiting(None));
    assert!(desk.send(id(1), 1, "one"));
    assert!(desk.send(id(1), 2, ""));
    let inbox = desk.load(id(1)).inbox;
    let seen: Vec<_> = inbox.iter().map(|entry| (entry.id, entry.kind, entry.at, entry.body.clone())).collect();
    assert_eq!(seen, [([1; 16], 1, 6, b"one".to_vec()), ([2; 16], 1, 6, vec![])]);
    assert_eq!(desk.load(id(1)).run.inbox, 2);
    desk.append(id(1), 1, 1, consuming(&[inbox[1].number]));
    assert_eq!(desk.load(id(1)).inbox, inbox[..1]);
    desk.append(id(1), 1, 2, consuming(&[inbox[0].number]));
    assert_eq!((desk.load(id(1)).inbox, desk.load(id(1)).run.inbox), (vec![], 0));
}

fn a_message_is_delivered_once(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open());
    desk.create(run(1), Some(A), waiting(None));
    desk.create(run(2), Some(A), waiting(None));
    assert!(desk.send(id(1), 1, "x"));
    assert!(!other.send(id(1), 1, "x"));
    assert!(other.send(id(2), 1, "the same name for another run"));
    let number = desk.load(id(1)).inbox[0].number;
    desk.append(id(1), 1, 1, consuming(&[number]));
    assert!(!other.send(id(1), 1, "x"), "it is known after it was consumed");
    assert_eq!(desk.load(id(1)).inbox, vec![]);
    desk.append(id(1), 1, 2, ending(Phase::Completed, ""));
    assert!(!other.send(id(1), 1, "x"), "it is known after the run is over");
}

fn a_message_is_polled_by_the_owner_of_its_run(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), waiting(None));
    desk.create(run(2), Some(B), waiting(None));
    desk.create(run(3), None, waiting(None));
    for number in 1..=3 {
        other.send(id(number), 1, "m");
    }
    let polled = desk.poll(A, &Cursor::default());
    assert_eq!(polled.entries.iter().map(|entry| entry.run).collect::<Vec<_>>(), [id(1)]);
    assert_eq!(desk.poll(A, &polled.cursor).entries, vec![]);
    assert_eq!(other.poll(B, &Cursor::default()).entries[0].run, id(2));
}

fn polling_goes_on_where_it_was(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), waiting(None));
    assert!((1..=5).all(|number| desk.send(id(1), number, "m")));
    let mut after = Cursor::default();
    let mut names = Vec::new();
    loop {
        let Ok(Reply::Polled(polled)) = desk.ask(Request::Poll { owner: A, after: after.clone(), limit: 2 }) else {
            panic!()
        };
        names.extend(polled.entries.iter().map(|entry| entry.id[0]));
        after = polled.cursor;
        if !polled.more {
            break;
        }
    }
    assert_eq!(names, [1, 2, 3, 4, 5]);
    assert_eq!(desk.poll(A, &after).entries, vec![]);
    desk.send(id(1), 6, "m");
    assert_eq!(desk.poll(A, &after).entries.len(), 1);
}

fn messages_wait_for_whoever_claims_the_run(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), released(waiting(None)));
    desk.send(id(1), 1, "m");
    assert_eq!(desk.claim(A, 0)[0].inbox, 1);
    let loaded = desk.load(id(1));
    assert_eq!(loaded.inbox.len(), 1);
    let epoch = loaded.run.epoch;
    desk.append(id(1), epoch, 1, released(consuming(&[loaded.inbox[0].number])));
    assert_eq!(desk.claim(A, 0), vec![], "an empty inbox is nothing to do");
}

fn a_run_that_is_over_or_unknown_takes_no_message(store: &dyn Store) {
    let desk = store.open_as(A);
    assert_eq!(desk.ask(send(id(1), 1, "m")), Err(JournalError::UnknownRun(id(1))));
    desk.create(run(1), Some(A), ending(Phase::Failed, ""));
    assert_eq!(desk.ask(send(id(1), 1, "m")), Err(JournalError::RunEnded(id(1))));
}

fn an_entry_is_consumed_once_and_by_its_run(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), waiting(None));
    desk.create(run(2), Some(A), waiting(None));
    desk.send(id(1), 1, "m");
    let number = desk.load(id(1)).inbox[0].number;
    for (run, numbers) in [(2, vec![number]), (1, vec![number, number]), (1, vec![number, number + 1])] {
        let refused = desk.try_append(id(run), 1, 1, consuming(&numbers));
        assert!(matches!(refused, Err(JournalError::Invalid { .. })), "{refused:?}");
    }
    desk.append(id(1), 1, 1, consuming(&[number]));
    assert!(matches!(desk.try_append(id(1), 1, 2, consuming(&[number])), Err(JournalError::Invalid { .. })));
}

fn old_names_are_forgotten_in_the_end(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), waiting(None));
    let name = |number: u64| (u128::from(number)).to_le_bytes();
    let send =
        |number| Request::Send { run: id(1), message: Message { id: name(number), kind: 0, body: vec![] }, now: 0 };
    let window = Request::DEDUPE_WINDOW;
    desk.ask_all((0..window + 10).map(send).collect());
    let numbers: Vec<_> = desk.load(id(1)).inbox.iter().map(|entry| entry.number).collect();
    let (first, rest) = numbers.split_at(100);
    desk.append(id(1), 1, 1, consuming(first));
    desk.append(id(1), 1, 2, consuming(rest));
    assert_eq!(desk.ask(send(10)), Ok(Reply::Sent { new: false }));
    assert_eq!(desk.ask(send(9)), Ok(Reply::Sent { new: true }));
}
