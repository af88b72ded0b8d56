//! What a delivery remembers for a body that runs again.

use proptest::prelude::*;
use treadle::replay::MOST_FAILURES;
use treadle::{Collection, Failure, Replay, Wanted};

type TestReplay = Replay<u64, u8>;

fn failure(attempt: u32) -> Failure {
    Failure { attempt, text: format!("attempt {attempt}").into() }
}

/// A body sends something. Says whether it is to be delivered.
fn is_new(replay: &mut TestReplay, digest: u64) -> bool {
    let is_new = !replay.sends_again(|sent| sent == digest);
    if is_new {
        replay.send(digest);
    }
    is_new
}

fn sends(replay: &mut TestReplay, digests: &[u64]) -> Vec<bool> {
    replay.rewind();
    digests.iter().map(|&digest| is_new(replay, digest)).collect()
}

proptest! {
    #[test]
    fn what_a_body_sends_is_delivered_once_however_often_it_runs_and_however_far_it_comes(
        program in prop::collection::vec(0..4_u64, 0..20),
        lengths in prop::collection::vec(0..20_usize, 1..8),
    ) {
        let mut replay = TestReplay::default();
        let mut delivered = Vec::new();
        for length in lengths {
            let program = &program[..length.min(program.len())];
            let new = sends(&mut replay, program);
            delivered.extend(program.iter().zip(new).filter(|(_, is_new)| *is_new).map(|(digest, _)| *digest));
        }
        prop_assert!(program.starts_with(&delivered), "the n-th send is known, though others were the same");
        prop_assert_eq!(&replay.sent, &delivered);
    }

    #[test]
    fn no_body_loses_a_send_that_no_earlier_one_has_made(
        bodies in prop::collection::vec(prop::collection::vec(0..6_u64, 0..10), 1..6),
    ) {
        let mut replay = TestReplay::default();
        for body in bodies {
            let before = replay.sent.clone();
            let new = sends(&mut replay, &body);
            for digest in 0..6 {
                let count = |digests: &[u64]| digests.iter().filter(|&&other| other == digest).count();
                let delivered = body.iter().zip(&new).filter(|(other, is_new)| **other == digest && **is_new).count();
                prop_assert!(delivered + count(&before) >= count(&body));
            }
        }
    }

    #[test]
    fn an_event_that_was_received_is_claimed_once_by_each_body(
        received in prop::collection::vec(any::<u64>(), 0..10),
        ops in prop::collection::vec((0..12_usize, prop::bool::weighted(0.2), 0..12_usize), 0..30),
    ) {
        let mut replay = TestReplay::default();
        for &event in &received {
            replay.receive(event);
        }
        prop_assert_eq!(replay.unclaimed(0).count(), 0, "the body that receives an event has it");
        let mut events: Vec<_> = received.into_iter().map(|event| (event, true)).collect();
        for _ in 0..2 {
            replay.rewind();
            events.iter_mut().for_each(|(_, is_claimed)| *is_claimed = false);
            for &(place, is_taken_back, from) in &ops {
                if is_taken_back {
                    let taken = (place < events.len()).then(|| events.remove(place).0);
                    prop_assert_eq!(replay.take_back(place), taken);
                } else {
                    let claimed = events.get_mut(place).map(|(_, is_claimed)| !std::mem::replace(is_claimed, true));
                    prop_assert_eq!(replay.claim(place), claimed.unwrap_or(false));
                }
                let open = events.iter().enumerate().skip(from).filter(|(_, (_, is_claimed))| !is_claimed);
                prop_assert!(replay.unclaimed(from).eq(open.map(|(place, (event, _))| (place, event))));
            }
            replay.receive(7);
            events.push((7, true));
        }
    }
}

#[test]
fn the_second_send_of_the_same_event_is_a_send_of_its_own() {
    let mut replay = TestReplay::default();
    assert_eq!(sends(&mut replay, &[7, 7]), [true, true]);
    assert_eq!(sends(&mut replay, &[7, 7, 7]), [false, false, true]);
}

#[test]
fn a_body_that_sends_something_else_sends_only_what_is_new_from_there_on() {
    let mut replay = TestReplay::default();
    assert_eq!(sends(&mut replay, &[1, 2, 3]), [true; 3]);
    assert_eq!(sends(&mut replay, &[1, 9, 2, 3]), [false, true, true, true], "it has strayed");
    assert_eq!(replay.sent, [1, 2, 3, 9, 2, 3]);
    assert_eq!(sends(&mut replay, &[1, 9, 2, 3]), [false; 4], "and is known on its new way");
}

#[test]
fn a_body_that_leaves_out_a_send_is_known_behind_it() {
    let mut replay = TestReplay::default();
    assert_eq!(sends(&mut replay, &[1, 2, 3]), [true; 3]);
    assert_eq!(sends(&mut replay, &[3, 4]), [false, true]);
}

fn collection(key: Option<&str>, expected: &[u8], events: Option<Vec<u64>>) -> Collection<u64, u8> {
    Collection { key: key.map(Into::into), expected: expected.into(), events }
}

#[test]
fn a_call_of_collect_gets_the_answer_that_it_got_before_each_in_its_turn() {
    let mut replay = TestReplay::default();
    replay.collect(collection(None, &[1, 1], None));
    replay.collect(collection(Some("a"), &[1, 1], Some(vec![3, 4])));
    replay.collect(collection(None, &[1, 1], Some(vec![1, 2])));
    let mut ask =
        |key, expected: &[u8]| replay.collected_before(key, |other| other == expected).map(|call| call.events.clone());
    assert_eq!(ask(None, &[1, 1]), None, "the running body has made these calls itself");
    replay.rewind();
    let mut ask =
        |key, expected: &[u8]| replay.collected_before(key, |other| other == expected).map(|call| call.events.clone());
    assert_eq!(ask(None, &[1]), None);
    assert_eq!(ask(None, &[1, 1]), Some(None));
    assert_eq!(ask(None, &[1, 1]), Some(Some(vec![1, 2])));
    assert_eq!(ask(None, &[1, 1]), None);
    assert_eq!(ask(Some("a"), &[1, 1]), Some(Some(vec![3, 4])));
}

fn ask(replay: &mut TestReplay, wanted: Wanted, now: u64) -> u64 {
    let (Wanted::Sleep(micros) | Wanted::Wait(micros)) = wanted;
    replay.deadline_before(wanted).unwrap_or_else(|| {
        replay.set_deadline(wanted, now + micros);
        now + micros
    })
}

#[test]
fn a_body_that_runs_again_is_told_the_same_deadlines_until_it_asks_for_others() {
    let mut replay = TestReplay::default();
    assert_eq!(ask(&mut replay, Wanted::Sleep(10), 100), 110);
    assert_eq!(ask(&mut replay, Wanted::Wait(10), 120), 130);
    assert_eq!(ask(&mut replay, Wanted::Sleep(5), 130), 135);
    replay.rewind();
    assert_eq!(ask(&mut replay, Wanted::Sleep(10), 500), 110);
    assert_eq!(ask(&mut replay, Wanted::Wait(11), 500), 511, "another way: what came behind is void");
    assert_eq!(ask(&mut replay, Wanted::Sleep(5), 500), 505);
    replay.rewind();
    assert_eq!(ask(&mut replay, Wanted::Sleep(10), 900), 110);
    assert_eq!(ask(&mut replay, Wanted::Wait(11), 900), 511);
    assert_eq!(ask(&mut replay, Wanted::Sleep(5), 900), 505);
    assert_eq!(ask(&mut replay, Wanted::Sleep(5), 900), 905, "further than any body before");
}

#[test]
fn the_next_attempt_has_deadlines_of_its_own_and_keeps_what_it_received_and_sent() {
    let mut replay = TestReplay::default();
    ask(&mut replay, Wanted::Sleep(10), 100);
    replay.receive(7);
    replay.send(8);
    replay.fail(failure(1));
    replay.rewind();
    assert_eq!(ask(&mut replay, Wanted::Sleep(10), 200), 210);
    assert_eq!(replay.unclaimed(0).map(|(_, &event)| event).collect::<Vec<_>>(), [7]);
    assert!(replay.sends_again(|sent| sent == 8));
}

#[test]
fn of_many_failures_the_last_ones_are_remembered() {
    let mut replay = TestReplay::default();
    (1..=1_000).for_each(|attempt| replay.fail(failure(attempt)));
    assert_eq!(replay.failures.len(), MOST_FAILURES);
    assert_eq!((replay.failures[0].attempt, replay.failures[MOST_FAILURES - 1].attempt), (901, 1_000));
}

#[test]
fn an_event_that_is_taken_back_was_never_received() {
    let mut replay = TestReplay::default();
    (1..=3).for_each(|event| replay.receive(event));
    assert_eq!((replay.take_back(1), replay.take_back(2)), (Some(2), None));
    replay.rewind();
    assert!(replay.claim(1) && !replay.claim(2));
    assert_eq!(replay.take_back(1), Some(3));
    assert_eq!(replay.unclaimed(0).map(|(_, &event)| event).collect::<Vec<_>>(), [1]);
}

#[test]
fn there_is_nothing_to_remember_until_something_happens() {
    let mut replay = TestReplay::default();
    replay.rewind();
    assert!(replay.is_empty() && replay == TestReplay::default());
    replay.set_deadline(Wanted::Sleep(1), 1);
    assert!(!replay.is_empty() && replay != TestReplay::default());
}

proptest! {
    #[test]
    fn a_running_body_gets_each_event_again_once_in_whatever_order_it_asks(
        count in 1..12_u64,
        asked in prop::collection::vec(0..14_usize, 0..40),
    ) {
        let mut replay = TestReplay::default();
        (0..count).for_each(|event| replay.receive(event));
        replay.rewind();
        let mut got = std::collections::BTreeSet::new();
        for at in asked {
            let is_new = (at as u64) < count && got.insert(at);
            prop_assert_eq!(replay.claim(at), is_new);
            let left: Vec<_> = replay.unclaimed(0).map(|(at, _)| at).collect();
            prop_assert_eq!(left, (0..count as usize).filter(|at| !got.contains(at)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_failure_tells_the_class_and_the_text_of_what_was_raised() {
    let failure = |attempt, text: &str| Failure { attempt, text: text.into() };
    let text = Failure::text_of(12, "shop.Declined", "card 4: no: never");
    assert_eq!(failure(12, &text).parts(), Some(("shop.Declined", "card 4: no: never")));
    assert_eq!(failure(11, &text).parts(), None, "it is that of another attempt");
    assert_eq!(failure(12, "no").parts(), None);
}
