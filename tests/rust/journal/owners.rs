//! Leases, claims and take-overs.

use std::time::Duration;

use super::desk::*;
use super::every_backend;
use treadle::journal::{Claim, Commit, Cursor, JournalError, News, Next, OwnerId, Phase, Reply, Request, Status};

every_backend!(
    a_claim_takes_what_has_something_to_do,
    a_claim_takes_only_workflows_that_it_knows,
    a_claim_takes_no_more_than_it_may,
    a_run_has_one_owner,
    a_lease_that_ended_is_taken_over,
    a_process_that_lost_its_lease_can_append_nothing,
    a_lease_that_nobody_took_can_be_renewed,
    an_owner_can_come_back_under_its_name,
    a_released_process_hands_back_all_of_its_runs,
    a_released_run_is_claimed_by_another,
    the_next_due_time_is_known,
    the_time_of_a_caller_decides_over_no_lease,
    a_lease_that_is_too_long_to_count_does_not_end,
    a_process_is_told_that_others_changed_the_journal,
    news_says_what_is_worth_asking_for,
);

mod of_one_machine {
    use super::super::every_embedded_backend;
    use super::no_lease_outlives_the_boot_that_it_was_given_in;

    every_embedded_backend!(no_lease_outlives_the_boot_that_it_was_given_in);
}

fn a_claim_takes_what_has_something_to_do(store: &dyn Store) {
    let desk = store.open_as(A);
    let paused = Commit { status: Status { phase: Phase::Paused, due: None }, ..commit(&["holds"]) };
    desk.create(run(1), None, commit(&["ready"]));
    desk.create(run(2), None, waiting(None));
    desk.create(run(3), None, waiting(Some(30)));
    desk.create(run(4), None, waiting(Some(31)));
    desk.create(run(5), None, waiting(None));
    desk.create(run(6), None, paused.clone());
    desk.create(run(7), None, paused);
    desk.create(run(8), None, ending(Phase::Completed, "x"));
    desk.send(id(5), 1, "wake");
    desk.send(id(7), 1, "wake");
    let claimed = desk.claim(A, 30);
    let mut ids: Vec<_> = claimed.iter().map(|row| row.id).collect();
    ids.sort();
    assert_eq!(ids, [1, 3, 5, 7].map(id));
    assert!(claimed.iter().all(|row| row.owner == Some(A) && row.epoch == 1));
    assert_eq!(desk.claim(A, 30), vec![]);
    assert_eq!(desk.claim(A, 31).len(), 1);
}

fn a_claim_takes_only_workflows_that_it_knows(store: &dyn Store) {
    let desk = store.open_as(A);
    for (number, workflow) in [(1, "v"), (2, "w"), (3, "x"), (4, "")] {
        let new = treadle::journal::NewRun { workflow: workflow.into(), ..run(number) };
        desk.create(new, None, commit(&["a"]));
    }
    let workflows = vec!["x".into(), "y".into(), "v".into()];
    let Ok(Reply::Claimed(claimed)) = desk.ask(Request::Claim(Claim { workflows, ..claim_of(A, 0, 9) })) else {
        panic!("no claim");
    };
    let ids: Vec<_> = claimed.runs.iter().map(|row| row.id).collect();
    assert_eq!(ids, [3, 1].map(id));
    let twice = vec!["w".into(), "w".into()];
    let Ok(Reply::Claimed(claimed)) = desk.ask(Request::Claim(Claim { workflows: twice, ..claim_of(A, 0, 9) })) else {
        panic!("no claim");
    };
    assert_eq!((claimed.runs.len(), claimed.runs[0].epoch), (1, 1));
    let none = desk.ask(Request::Claim(Claim { workflows: vec![], ..claim_of(A, 0, 9) }));
    assert_eq!(none, Ok(Reply::Claimed(Default::default())));
}

fn a_claim_takes_no_more_than_it_may(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create_each(1..=5, None);
    let first = desk.claim_up_to(A, 0, 3);
    assert_eq!((first.runs.len(), first.more), (3, true));
    let second = desk.claim_up_to(A, 0, 3);
    assert_eq!((second.runs.len(), second.more), (2, false));
}

fn a_run_has_one_owner(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), commit(&["a"]));
    assert_eq!(other.claim(B, 999), vec![]);
    assert_eq!(desk.claim(A, 999), vec![]);
    let stranger = OwnerId([3; 16]);
    let claim = Request::Claim(claim_of(stranger, 999, 1));
    assert_eq!(other.ask(claim), Err(JournalError::LeaseLost(stranger)));
}

fn a_lease_that_ended_is_taken_over(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.create(run(2), Some(A), waiting(None));
    other.done(renew(B, 5000));
    store.clock().set(LEASE);
    assert_eq!(other.claim(B, 10), vec![], "a lease lasts until its end");
    store.clock().set(LEASE + 1);
    let taken = other.claim(B, 10);
    assert_eq!(taken.len(), 1, "what merely waits is left where it is");
    assert_eq!((taken[0].id, taken[0].owner, taken[0].epoch), (id(1), Some(B), 2));
    assert_eq!(other.get(id(2)).0.owner, None);
    other.send(id(2), 1, "wake");
    let taken = other.claim(B, 10);
    assert_eq!((taken[0].id, taken[0].epoch), (id(2), 2));
}

fn a_process_that_lost_its_lease_can_append_nothing(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    for number in 1..=3 {
        desk.create(run(number), Some(A), if number == 3 { waiting(None) } else { commit(&["a"]) });
    }
    other.done(renew(B, 5000));
    store.clock().set(LEASE + 1);
    assert_eq!(other.claim_up_to(B, 10, 1).runs.len(), 1);
    for number in 1..=3 {
        let late = desk.try_append(id(number), 1, 1, commit(&["zombie"]));
        assert_eq!(late, Err(JournalError::Conflict(id(number))), "taken or not, its runs are its no more");
    }
    assert_eq!(desk.ask(renew(A, LEASE)), Err(JournalError::LeaseLost(A)));
    let create = Request::Create { run: run(9), owner: Some(A), commit: commit(&["a"]) };
    assert_eq!(desk.ask(create), Err(JournalError::LeaseLost(A)));
    assert_eq!(desk.poll(A, &Cursor::default()).entries, vec![]);
}

fn a_lease_that_nobody_took_can_be_renewed(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), commit(&["a"]));
    store.clock().set(LEASE + 1);
    desk.done(renew(A, LEASE));
    other.done(renew(B, LEASE));
    assert_eq!(other.claim(B, 10), vec![]);
    assert_eq!(desk.append(id(1), 1, 1, commit(&["b"])), 2);
    store.clock().set(9000);
    assert_eq!(desk.claim(A, 10), vec![], "its own lease a process does not end");
    assert_eq!(desk.append(id(1), 1, 2, commit(&["c"])), 3);
}

fn an_owner_can_come_back_under_its_name(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), waiting(None));
    other.done(renew(B, 5000));
    store.clock().set(LEASE + 1);
    other.claim(B, 10);
    desk.done(enlist(A, LEASE));
    assert_eq!(desk.try_append(id(1), 1, 1, commit(&["zombie"])), Err(JournalError::Conflict(id(1))));
    desk.create(run(2), Some(A), commit(&["a"]));
    assert_eq!(desk.append(id(2), 1, 1, commit(&["b"])), 2);
}

fn a_released_process_hands_back_all_of_its_runs(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create_each(1..=20, Some(A));
    desk.done(Request::Release { owner: A });
    assert_eq!(desk.ask(renew(A, LEASE)), Err(JournalError::LeaseLost(A)));
    assert_eq!(desk.try_append(id(1), 1, 1, commit(&["b"])), Err(JournalError::Conflict(id(1))));
    let taken = other.claim(B, 10);
    assert_eq!(taken.len(), 20);
    assert!(taken.iter().all(|row| row.epoch == 2));
    desk.done(Request::Release { owner: A });
}

fn a_released_run_is_claimed_by_another(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.append(id(1), 1, 1, released(waiting(Some(50))));
    assert_eq!(desk.try_append(id(1), 1, 2, commit(&["b"])), Err(JournalError::Conflict(id(1))));
    assert_eq!(other.claim(B, 49), vec![]);
    assert_eq!(other.claim(B, 50)[0].epoch, 2);
    assert_eq!(other.append(id(1), 2, 2, commit(&["b"])), 3);
}

fn the_next_due_time_is_known(store: &dyn Store) {
    let desk = store.open();
    let next = || match desk.ask(next_due(A, &["w", "v"])) {
        Ok(Reply::Next(next)) => next,
        other => panic!("{other:?}"),
    };
    assert_eq!(next(), Next { due: None, lapse: None });
    desk.done(enlist(A, 100));
    desk.done(enlist(B, 900));
    store.clock().set(50);
    let lapse = Some(Duration::from_micros(850));
    desk.create(run(1), None, waiting(None));
    desk.create(run(2), Some(A), waiting(Some(20)));
    desk.create(run(3), None, ending(Phase::Failed, "x"));
    assert_eq!(next(), Next { due: None, lapse });
    desk.create(run(4), None, waiting(Some(70)));
    desk.create(treadle::journal::NewRun { workflow: "v".into(), ..run(5) }, None, waiting(Some(60)));
    desk.create(treadle::journal::NewRun { workflow: "u".into(), ..run(6) }, None, waiting(Some(50)));
    assert_eq!(next().due, Some(60));
    desk.done(Request::Release { owner: A });
    assert_eq!(next(), Next { due: Some(20), lapse });
    desk.send(id(1), 1, "wake");
    assert_eq!(next().due, Some(0));
    store.clock().set(901);
    assert_eq!(next().lapse, Some(Duration::ZERO), "it can be taken over at once");
    assert_eq!(desk.ask(next_due(A, &[])), Ok(Reply::Next(Next::default())), "it could claim nothing");
}

fn the_time_of_a_caller_decides_over_no_lease(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), commit(&["a"]));
    for now in [0, LEASE + 1, u64::MAX] {
        assert_eq!(other.claim(B, now), vec![], "a wall clock that says {now}");
    }
    assert_eq!(desk.append(id(1), 1, 1, commit(&["b"])), 2);
    other.done(renew(B, 5000));
    store.clock().set(LEASE + 1);
    assert_eq!(other.claim(B, 0).len(), 1, "one that was set back keeps nobody from taking over");
}

fn a_lease_that_is_too_long_to_count_does_not_end(store: &dyn Store) {
    let (desk, other) = (store.open(), store.open_as(B));
    store.clock().set(7);
    let leases = [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(100_000_000_000_000)];
    for (number, lease) in (1..).zip(leases) {
        desk.done(Request::Enlist { owner: A, lease });
        desk.done(Request::Renew { owner: A, lease });
        other.done(Request::Renew { owner: B, lease });
        desk.create(run(number), Some(A), commit(&["a"]));
        store.clock().set(1 << 50);
        assert_eq!(other.claim(B, 10), vec![]);
        assert!(matches!(desk.ask(next_due(A, &["w"])), Ok(Reply::Next(Next { lapse: Some(_), .. }))));
        store.clock().set(7);
    }
}

fn no_lease_outlives_the_boot_that_it_was_given_in(store: &dyn Store) {
    for (boot, micros) in [([2; 16], 8), ([2; 16], 7), ([1; 16], 6)] {
        let (desk, other) = (store.open(), store.open());
        store.clock().boot([1; 16], 7);
        desk.done(enlist(A, u64::MAX));
        let number = micros + u64::from(boot[0]) * 100;
        desk.create(run(number), Some(A), commit(&["a"]));
        store.clock().boot(boot, micros);
        other.done(enlist(B, LEASE));
        assert_eq!(other.claim(B, 10).len(), 1, "booted as {} at {micros}", boot[0]);
        assert_eq!(desk.try_append(id(number), 1, 1, commit(&["b"])), Err(JournalError::Conflict(id(number))));
        other.done(Request::Release { owner: B });
        let over = Request::Delete { run: id(number) };
        other.done(over);
    }
}

fn news_says_what_is_worth_asking_for(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), commit(&["a"]));
    while desk.is_told_of_a_change(Duration::from_millis(200)) {}
    let told = |is_told: fn(News) -> bool| {
        let mut all = News::default();
        while !is_told(all) {
            all |= desk.next(PATIENCE).expect("news").news;
        }
        all
    };
    other.create(run(2), None, commit(&["a"]));
    assert!(told(|news| news.work).is_any());
    other.send(id(1), 1, "m");
    assert!(told(|news| news.inbox).is_any());
    other.create(run(3), Some(B), ending(Phase::Completed, "x"));
    assert!(told(|news| news.ends).is_any());
}

fn a_process_is_told_that_others_changed_the_journal(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    while desk.is_told_of_a_change(Duration::from_millis(200)) {}
    desk.create(run(1), Some(A), commit(&["a"]));
    assert!(!desk.is_told_of_a_change(Duration::from_millis(200)), "its own changes are no news");
    other.send(id(1), 1, "hello");
    assert!(desk.is_told_of_a_change(PATIENCE));
    other.get(id(1));
    assert_eq!(other.claim(B, 10), vec![]);
    other.poll(B, &Cursor::default());
    assert!(
        !desk.is_told_of_a_change(Duration::from_millis(200)),
        "looking for work changes nothing, so two that are idle do not wake one another"
    );
}
