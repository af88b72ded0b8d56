//! Many threads, many handles, one journal.

use std::collections::HashSet;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::desk::*;
use super::every_backend;
use treadle::journal::{NewRun, OwnerId, Reply, Request};

every_backend!(
    everything_that_waits_is_answered_in_one_batch,
    creators_of_one_key_agree,
    each_run_is_claimed_by_one,
    of_many_that_append_one_wins_each_number,
    a_panic_of_the_listener_harms_nobody,
);

fn everything_that_waits_is_answered_in_one_batch(store: &dyn Store) {
    let desk = store.open_as(A);
    let create = |number| Request::Create { run: run(number), owner: Some(A), commit: commit(&["a"]) };
    let answers = desk.ask_all((0..1000).map(create).collect());
    assert!(answers.iter().all(|answer| *answer == Ok(Reply::Created { epoch: 1 })));
    assert_eq!(desk.batches.lock().unwrap().iter().filter(|&&(count, _)| count > 0).count(), 2, "one for the lease");
}

fn creators_of_one_key_agree(store: &dyn Store) {
    let winners = Mutex::new(HashSet::new());
    thread::scope(|scope| {
        for thread in 0..6_u64 {
            let winners = &winners;
            scope.spawn(move || {
                let desk = store.open();
                for key in 0..20_u64 {
                    let new = NewRun { key: Some(key.to_string()), ..run(1000 * (thread + 1) + key) };
                    let id = new.id;
                    let create = Request::Create { run: new, owner: None, commit: commit(&["a"]) };
                    let won = match desk.ask(create) {
                        Ok(Reply::Created { .. }) => id,
                        Ok(Reply::Exists { id, .. }) => id,
                        other => panic!("{other:?}"),
                    };
                    winners.lock().unwrap().insert((key, won));
                }
            });
        }
    });
    assert_eq!(winners.lock().unwrap().len(), 20);
}

fn each_run_is_claimed_by_one(store: &dyn Store) {
    let desk = store.open();
    desk.create_each(1..=200, None);
    let taken = Mutex::new(Vec::new());
    let owners = [1, 2, 3, 4].map(|number| OwnerId([number; 16]));
    // They stay open: the runs of one that is closed are free.
    let desks = owners.map(|owner| store.open_as(owner));
    thread::scope(|scope| {
        for (owner, desk) in owners.into_iter().zip(&desks) {
            let taken = &taken;
            scope.spawn(move || {
                loop {
                    let claimed = desk.claim_up_to(owner, 10, 7);
                    taken.lock().unwrap().extend(claimed.runs.iter().map(|row| row.id));
                    if !claimed.more {
                        break;
                    }
                }
            });
        }
    });
    let taken = taken.into_inner().unwrap();
    assert_eq!((taken.len(), taken.iter().collect::<HashSet<_>>().len()), (200, 200));
}

fn of_many_that_append_one_wins_each_number(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&[]));
    let won = Mutex::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let desk = store.open();
                for after in 0..25 {
                    let answer = desk.try_append(id(1), 1, after, commit(&["x"]));
                    *won.lock().unwrap() += u64::from(answer.is_ok());
                }
            });
        }
    });
    let seq = desk.get(id(1)).0.seq;
    assert_eq!(*won.lock().unwrap(), seq);
    assert_eq!(desk.load(id(1)).records.len() as u64, seq);
}

fn a_panic_of_the_listener_harms_nobody(store: &dyn Store) {
    let (tell, told) = std::sync::mpsc::channel();
    let journal = store.open_with(Box::new(move |batch| {
        let (ticket, _) = batch.answers[0];
        let _ = tell.send(ticket);
        assert_ne!(ticket, 1, "a panic that the test wants");
    }));
    for ticket in 1..=2 {
        let create = Request::Create { run: run(ticket), owner: None, commit: commit(&["a"]) };
        journal.submit(vec![(ticket, create)]).unwrap();
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(ticket));
    }
    journal.close();
    assert_eq!(store.open().load(id(1)).records, texts(&["a"]));
}
