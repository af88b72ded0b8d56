//! Streams: numbered, bounded, readable from anywhere.

use super::desk::*;
use super::every_backend;
use treadle::journal::{Commit, Phase, StreamRead};

every_backend!(
    a_stream_is_read_from_any_number,
    only_the_last_entries_are_kept_and_a_reader_learns_what_it_missed,
    a_stream_may_start_anywhere,
    a_reader_learns_that_the_run_is_over,
);

fn publishing(numbers: std::ops::RangeInclusive<u64>) -> Commit {
    let published = numbers.map(|number| (number, number.to_string().into_bytes())).collect();
    Commit { published, ..commit(&["p"]) }
}

fn numbers(read: &StreamRead) -> Vec<u64> {
    assert!(read.entries.iter().all(|(number, body)| *body == number.to_string().into_bytes()));
    read.entries.iter().map(|&(number, _)| number).collect()
}

fn a_stream_is_read_from_any_number(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), publishing(1..=2));
    desk.append(id(1), 1, 1, publishing(3..=4));
    for after in 0..6 {
        for limit in 0..6 {
            let read = desk.stream(id(1), after, limit);
            assert_eq!(numbers(&read), (after + 1..=4).take(limit).collect::<Vec<_>>());
            assert_eq!((read.missed, read.published, read.ended), (0, 4, false));
        }
    }
}

fn only_the_last_entries_are_kept_and_a_reader_learns_what_it_missed(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), publishing(1..=3));
    desk.append(id(1), 1, 1, publishing(4..=6));
    let read = desk.stream(id(1), 0, 99);
    assert_eq!((numbers(&read), read.missed), (vec![3, 4, 5, 6], 2));
    assert_eq!(desk.stream(id(1), 1, 99).missed, 1);
    assert_eq!(desk.stream(id(1), 2, 99).missed, 0);
    desk.append(id(1), 1, 2, publishing(7..=100));
    let read = desk.stream(id(1), 5, 2);
    assert_eq!((numbers(&read), read.missed), (vec![97, 98], 91));
}

fn a_stream_may_start_anywhere(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), publishing(51..=52));
    let read = desk.stream(id(1), 0, 9);
    assert_eq!((numbers(&read), read.missed), (vec![51, 52], 50));
    desk.create(treadle::journal::NewRun { stream_limit: 0, ..run(2) }, Some(A), publishing(1..=3));
    assert_eq!(numbers(&desk.stream(id(2), 0, 9)), [3], "at least one is kept");
}

fn a_reader_learns_that_the_run_is_over(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&[]));
    assert_eq!(desk.stream(id(1), 0, 9), StreamRead::default());
    desk.append(id(1), 1, 0, Commit { published: vec![(1, b"1".to_vec())], ..ending(Phase::Cancelled, "") });
    let read = desk.stream(id(1), 0, 9);
    assert_eq!((numbers(&read), read.published, read.ended), (vec![1], 1, true));
    assert_eq!(desk.stream(id(1), 1, 9), StreamRead { published: 1, ended: true, ..StreamRead::default() });
}
