//! What a commit writes to other runs: with the commit or not at all, and once.

use super::desk::*;
use super::every_backend;
use treadle::journal::{
    Commit, Cursor, DeadLetter, Filter, IfOver, JournalError, Message, Missing, NewRun, News, Outgoing, Phase, Reply,
    Request, Undelivered,
};

every_backend!(
    a_commit_sends_to_other_runs,
    a_commit_sends_to_its_own_run,
    a_commit_makes_a_run_and_sends_to_it,
    a_run_that_is_there_is_the_same_one,
    a_commit_that_is_sent_again_sends_nothing_twice,
    a_commit_that_is_sent_again_says_again_what_was_not_delivered,
    a_message_that_is_known_is_not_delivered_again,
    a_refused_commit_sends_nothing,
    a_message_to_no_run_is_told,
    a_message_to_a_run_that_is_over_is_kept_or_dropped,
    a_buried_message_is_delivered_once_the_run_goes_on,
    a_run_is_made_for_a_living_process_alone,
    only_a_run_that_goes_on_writes_to_others,
    a_run_made_by_a_commit_has_no_key,
    too_large_a_message_fails_its_commit,
    a_run_that_was_sent_to_is_claimed,
    what_led_to_a_run_is_kept_and_listed,
    the_targets_process_is_told,
    what_commits_write_to_runs_of_the_same_process_is_news_to_it,
    two_processes_that_send_to_each_other_at_once_lose_nothing,
);

fn message(id: u8, body: &str) -> Message {
    Message { id: [id; 16], kind: 1, body: body.into() }
}

fn send(to: u64, name: u8) -> Outgoing {
    Outgoing::Send { to: id(to), message: message(name, "m"), if_over: IfOver::Bury }
}

fn drop_if_over(to: u64, name: u8) -> Outgoing {
    Outgoing::Send { to: id(to), message: message(name, "m"), if_over: IfOver::Drop }
}

fn make(number: u64, owner: Option<treadle::journal::OwnerId>) -> Outgoing {
    Outgoing::Create { run: child(number, 1), owner, commit: Box::new(commit(&["first"])) }
}

fn child(number: u64, parent: u64) -> NewRun {
    NewRun { parent: Some(id(parent)), root: Some(id(parent)), depth: 1, ..run(number) }
}

fn sending(outgoing: Vec<Outgoing>) -> Commit {
    Commit { outgoing, ..commit(&["sends"]) }
}

fn undelivered(to: u64, name: u8, why: Missing) -> Undelivered {
    Undelivered { to: id(to), message: [name; 16], why, if_over: IfOver::Bury }
}

fn dropped(to: u64, name: u8, why: Missing) -> Undelivered {
    Undelivered { if_over: IfOver::Drop, ..undelivered(to, name, why) }
}

fn names(desk: &Desk, run: u64) -> Vec<u8> {
    desk.load(id(run)).inbox.iter().map(|entry| entry.id[0]).collect()
}

fn dead(desk: &Desk, run: u64) -> Vec<DeadLetter> {
    match desk.ask(Request::DeadLetters { run: id(run) }) {
        Ok(Reply::DeadLetters(letters)) => letters,
        other => panic!("{other:?}"),
    }
}

fn a_commit_sends_to_other_runs(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(A), waiting(None));
    desk.create(run(3), Some(B), waiting(None));
    desk.append(id(1), 1, 1, sending(vec![send(2, 1), send(3, 2), send(3, 3)]));
    assert_eq!((names(&desk, 1), names(&desk, 2), names(&desk, 3)), (vec![], vec![1], vec![2, 3]));
    let entries = other.poll(B, &Cursor::default()).entries;
    assert_eq!(entries.iter().map(|entry| (entry.run, entry.at)).collect::<Vec<_>>(), [(id(3), 5), (id(3), 5)]);
    assert_eq!(desk.load(id(3)).run.inbox, 2);
}

fn a_commit_sends_to_its_own_run(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), waiting(None));
    desk.append(id(1), 1, 1, Commit { outgoing: vec![send(1, 1)], ..released(waiting(None)) });
    assert_eq!(names(&desk, 1), [1]);
    assert_eq!(desk.claim(A, 0).len(), 1, "it has something to do");
    let end = Commit { outgoing: vec![send(1, 2)], ..ending(Phase::Completed, "") };
    let answer = desk.try_append(id(1), 2, 2, end);
    assert_eq!(answer, Ok(Reply::Appended { seq: 3, undelivered: vec![undelivered(1, 2, Missing::Ended)] }));
}

fn a_commit_makes_a_run_and_sends_to_it(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.append(id(1), 1, 1, sending(vec![make(2, Some(A)), send(2, 1), make(3, None)]));
    let made = desk.load(id(2));
    assert_eq!((made.run.owner, made.run.epoch, made.run.seq), (Some(A), 1, 1));
    assert_eq!((made.records, made.inbox.len()), (texts(&["first"]), 1));
    assert_eq!(desk.append(id(2), 1, 1, commit(&["second"])), 2);
    let claimed = desk.claim(A, 0);
    assert_eq!(claimed.iter().map(|row| (row.id, row.epoch)).collect::<Vec<_>>(), [(id(3), 1)]);
}

fn a_run_that_is_there_is_the_same_one(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.append(id(1), 1, 1, sending(vec![make(2, Some(A)), make(2, None)]));
    desk.append(id(2), 1, 1, ending(Phase::Completed, "out"));
    desk.append(id(1), 1, 2, sending(vec![make(2, Some(A))]));
    let (row, outcome) = desk.get(id(2));
    assert_eq!((row.epoch, row.seq, row.phase()), (1, 2, Phase::Completed));
    assert_eq!(outcome, Some(b"out".to_vec()));
}

fn a_commit_that_is_sent_again_sends_nothing_twice(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open());
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(A), waiting(None));
    let again = Request::Append {
        run: id(1),
        epoch: 1,
        after: 1,
        commit: named(9, sending(vec![send(2, 1), make(3, Some(A))])),
    };
    for desk in [&desk, &desk, &other] {
        assert_eq!(desk.ask(again.clone()), Ok(Reply::appended(2)));
    }
    let number = desk.load(id(2)).inbox[0].number;
    desk.append(id(2), 1, 1, Commit { consumed: vec![number], ..waiting(None) });
    desk.append(id(3), 1, 1, commit(&["second"]));
    assert_eq!(other.ask(again.clone()), Ok(Reply::appended(2)), "also when it was consumed");
    assert_eq!(names(&desk, 2), Vec::<u8>::new());
    assert_eq!(desk.load(id(3)).records, texts(&["first", "second"]));
}

fn a_commit_that_is_sent_again_says_again_what_was_not_delivered(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open());
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(A), ending(Phase::Failed, ""));
    desk.create(run(3), Some(A), waiting(None));
    let outgoing = vec![send(2, 1), drop_if_over(2, 2), send(3, 3), send(4, 4)];
    let again = Request::Append { run: id(1), epoch: 1, after: 1, commit: named(9, sending(outgoing)) };
    let missed =
        vec![undelivered(2, 1, Missing::Ended), dropped(2, 2, Missing::Ended), undelivered(4, 4, Missing::Unknown)];
    for desk in [&desk, &desk, &other] {
        assert_eq!(desk.ask(again.clone()), Ok(Reply::Appended { seq: 2, undelivered: missed.clone() }));
        assert_eq!(dead(desk, 2).len(), 1);
    }
}

fn a_message_that_is_known_is_not_delivered_again(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(A), waiting(None));
    desk.append(id(1), 1, 1, sending(vec![send(2, 1), send(2, 1)]));
    desk.append(id(1), 1, 2, sending(vec![send(2, 1), send(2, 2)]));
    assert!(!desk.send(id(2), 1, "the same name from outside"));
    assert_eq!(names(&desk, 2), [1, 2]);
    desk.append(id(2), 1, 1, ending(Phase::Completed, ""));
    let late = desk.try_append(id(1), 1, 3, sending(vec![send(2, 1)]));
    assert_eq!(late, Ok(Reply::appended(4)), "it was delivered before the end");
}

fn a_refused_commit_sends_nothing(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(A), waiting(None));
    let all = vec![send(2, 1), make(3, Some(A))];
    let stale = desk.try_append(id(1), 1, 0, sending(all.clone()));
    assert_eq!(stale, Err(JournalError::Conflict(id(1))));
    let unpublished = Commit { published: vec![(2, vec![]), (1, vec![])], ..sending(all.clone()) };
    assert!(matches!(desk.try_append(id(1), 1, 1, unpublished), Err(JournalError::Invalid { .. })));
    desk.done(Request::Release { owner: A });
    other.claim(B, 0);
    assert_eq!(desk.try_append(id(1), 1, 1, sending(all)), Err(JournalError::Conflict(id(1))), "a zombie");
    assert_eq!(names(&other, 2), Vec::<u8>::new());
    assert_eq!(other.ask(Request::Get { run: id(3) }), Err(JournalError::UnknownRun(id(3))));
}

fn a_message_to_no_run_is_told(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(A), waiting(None));
    let answer = desk.try_append(id(1), 1, 1, sending(vec![send(7, 1), send(2, 2), drop_if_over(8, 3)]));
    let missed = vec![undelivered(7, 1, Missing::Unknown), dropped(8, 3, Missing::Unknown)];
    assert_eq!(answer, Ok(Reply::Appended { seq: 2, undelivered: missed }));
    assert_eq!(names(&desk, 2), [2], "the others are delivered");
}

fn a_message_to_a_run_that_is_over_is_kept_or_dropped(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(A), ending(Phase::Completed, "out"));
    let answer = desk.try_append(id(1), 1, 1, sending(vec![send(2, 1), drop_if_over(2, 2)]));
    let missed = vec![undelivered(2, 1, Missing::Ended), dropped(2, 2, Missing::Ended)];
    assert_eq!(answer, Ok(Reply::Appended { seq: 2, undelivered: missed }));
    let letters = dead(&desk, 2);
    assert_eq!(letters.iter().map(|letter| letter.entry.id).collect::<Vec<_>>(), [[1; 16]]);
    assert!(letters[0].why.contains("over"), "{}", letters[0].why);
    let (row, outcome) = desk.get(id(2));
    assert_eq!((row.dead_letters, row.inbox, row.phase(), outcome), (1, 0, Phase::Completed, Some(b"out".to_vec())));
}

fn a_buried_message_is_delivered_once_the_run_goes_on(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(A), ending(Phase::Failed, ""));
    desk.append_any(id(1), 1, 1, sending(vec![send(2, 1)]));
    assert_eq!(desk.ask(Request::Redeliver { run: id(2) }), Err(JournalError::RunEnded(id(2))));
    let reopen = Request::Reopen { run: id(2), after: 1, owner: Some(A), commit: waiting(None) };
    assert!(matches!(desk.ask(reopen), Ok(Reply::Reopened { .. })));
    assert_eq!(desk.ask(Request::Redeliver { run: id(2) }), Ok(Reply::Redelivered { messages: 1 }));
    assert_eq!(names(&desk, 2), [1]);
}

fn a_run_is_made_for_a_living_process_alone(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(A), waiting(None));
    let refused = desk.try_append(id(1), 1, 1, sending(vec![send(2, 1), make(3, Some(B))]));
    assert_eq!(refused, Err(JournalError::LeaseLost(B)));
    assert_eq!((names(&desk, 2), desk.load(id(1)).run.seq), (vec![], 1));
}

fn only_a_run_that_goes_on_writes_to_others(store: &dyn Store) {
    let desk = store.open_as(A);
    let is_invalid = |request| matches!(desk.ask(request), Err(JournalError::Invalid { .. }));
    let create = Request::Create { run: run(1), owner: Some(A), commit: sending(vec![send(2, 1)]) };
    assert!(is_invalid(create));
    desk.create(run(1), Some(A), ending(Phase::Failed, ""));
    assert!(is_invalid(Request::Reopen { run: id(1), after: 1, owner: None, commit: sending(vec![make(2, None)]) }));
    desk.create(run(3), Some(A), commit(&["a"]));
    let nested = Outgoing::Create { run: child(4, 3), owner: None, commit: Box::new(sending(vec![send(3, 1)])) };
    let append = Request::Append { run: id(3), epoch: 1, after: 1, commit: sending(vec![nested]) };
    assert!(is_invalid(append));
    assert_eq!(desk.load(id(3)).run.seq, 1);
}

fn a_run_made_by_a_commit_has_no_key(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    let keyed = NewRun { key: Some("k".into()), ..child(2, 1) };
    let made = Outgoing::Create { run: keyed, owner: None, commit: Box::default() };
    let refused = desk.try_append(id(1), 1, 1, sending(vec![made]));
    assert!(matches!(refused, Err(JournalError::Invalid { .. })), "{refused:?}");
}

fn too_large_a_message_fails_its_commit(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(A), waiting(None));
    let many = (0..=Commit::MOST_OUTGOING).map(|_| send(2, 1)).collect();
    let refused = desk.try_append(id(1), 1, 1, sending(many));
    assert!(matches!(refused, Err(JournalError::Invalid { .. })), "{refused:?}");
    assert_eq!((names(&desk, 2), desk.load(id(1)).run.seq), (vec![], 1));
}

fn a_run_that_was_sent_to_is_claimed(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(A), released(waiting(None)));
    assert_eq!(other.claim(B, 0), vec![]);
    desk.append(id(1), 1, 1, sending(vec![send(2, 1)]));
    assert_eq!(other.claim(B, 0).iter().map(|row| row.id).collect::<Vec<_>>(), [id(2)]);
}

fn what_led_to_a_run_is_kept_and_listed(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.append(id(1), 1, 1, sending(vec![make(2, Some(A)), make(3, None)]));
    let grandchild = NewRun { parent: Some(id(2)), root: Some(id(1)), depth: 2, workflow: "v".into(), ..run(4) };
    let made = Outgoing::Create { run: grandchild, owner: None, commit: Box::new(ending(Phase::Failed, "")) };
    desk.append(id(2), 1, 1, sending(vec![made]));
    let row = desk.get(id(4)).0;
    assert_eq!((row.parent, row.root, row.depth), (Some(id(2)), Some(id(1)), 2));
    let row = desk.load(id(3)).run;
    assert_eq!((row.parent, row.root, row.depth), (Some(id(1)), Some(id(1)), 1));
    assert_eq!((desk.get(id(1)).0.parent, desk.get(id(1)).0.depth), (None, 0));
    let all = || Filter { limit: 10, ..Filter::default() };
    let of_root = || Filter { root: Some(id(1)), ..all() };
    assert_eq!(desk.list(Filter { parent: Some(id(1)), ..all() }), [3, 2].map(id));
    assert_eq!(desk.list(of_root()), [4, 3, 2].map(id));
    assert_eq!(desk.list(Filter { after: Some(id(4)), limit: 1, ..of_root() }), [id(3)]);
    assert_eq!(desk.list(Filter { workflow: Some("v".into()), ..of_root() }), [id(4)]);
    assert_eq!(desk.list(Filter { phase: Some(Phase::Failed), ..of_root() }), [id(4)]);
    assert_eq!(desk.list(Filter { parent: Some(id(2)), root: Some(id(2)), ..all() }), []);
    assert_eq!(desk.list(Filter { parent: Some(id(2)), finished_since: Some(0), ..all() }), [id(4)]);
    assert_eq!(desk.list(Filter { parent: Some(id(4)), ..all() }), []);
}

fn the_targets_process_is_told(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(B), waiting(None));
    while other.is_told_of_a_change(std::time::Duration::from_millis(200)) {}
    desk.append(id(1), 1, 1, sending(vec![send(2, 1), make(3, None)]));
    let mut news = News::default();
    while !(news.inbox && news.work) {
        news |= other.next(PATIENCE).expect("news").news;
    }
}

fn what_commits_write_to_runs_of_the_same_process_is_news_to_it(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(A), waiting(None));
    desk.batches.lock().unwrap().clear();
    desk.append(id(1), 1, 1, sending(vec![send(2, 1), make(3, None)]));
    let (answers, news) = *desk.batches.lock().unwrap().last().expect("a batch");
    assert_eq!((answers, news.inbox, news.work), (1, true, true));
}

fn two_processes_that_send_to_each_other_at_once_lose_nothing(store: &dyn Store) {
    const EACH: u64 = 40;
    let desks = [store.open_as(A), store.open_as(B)];
    desks[0].create(run(1), Some(A), commit(&["a"]));
    desks[1].create(run(2), Some(B), commit(&["a"]));
    std::thread::scope(|scope| {
        for (desk, from, to) in [(&desks[0], 1, 2), (&desks[1], 2, 1)] {
            scope.spawn(move || {
                for number in 0..EACH {
                    let name = number as u8;
                    desk.append(id(from), 1, 1 + number, sending(vec![send(to, name), send(to, name)]));
                }
            });
        }
    });
    for run in [1, 2] {
        assert_eq!(names(&desks[0], run), (0..EACH as u8).collect::<Vec<_>>());
        assert_eq!(desks[0].load(id(run)).run.inbox, EACH);
    }
}
