//! Runs with a key.

use treadle::RunId;
use treadle::engine::{Effect, Replacement, RunEnd, Submitted};
use treadle::journal::{Digest, Phase};

use super::followers::{ends, seen};
use super::{Host, LEASE, id};

const INPUT: Digest = [1; 32];
const OTHER: Digest = [2; 32];
const SAME: (Digest, bool) = (INPUT, true);

fn started() -> Host {
    let mut host = Host::idle(None);
    host.engine.keyed_run_started(id(1), "orders", "k", INPUT);
    host
}

/// What has become of runs for whose key the journal has another run.
fn replaced(host: &mut Host) -> Vec<(RunId, Replacement)> {
    let effects = std::mem::take(&mut host.effects).into_iter();
    effects
        .filter_map(|effect| if let Effect::Replaced { run, by } = effect { Some((run, by)) } else { None })
        .collect()
}

fn stands_for(cancel: bool) -> Replacement {
    Replacement::StandsFor { run: id(9), cancel }
}

fn end_of(host: &mut Host, number: u8) -> (RunId, Vec<RunId>) {
    host.answer(ends(&[]));
    host.answer(seen(number, Phase::Completed));
    let effects = std::mem::take(&mut host.effects).into_iter();
    let mut ended = effects.filter_map(|effect| match effect {
        Effect::Ended { run, standing, end: Ok(_) } => Some((run, standing)),
        _ => None,
    });
    ended.next().expect("it is told")
}

#[test]
fn a_key_and_an_input_name_one_run_until_that_is_over() {
    let mut host = started();
    let known = |host: &Host, key, input| host.engine.run_of_key("orders", key, &input);
    assert_eq!(known(&host, "k", INPUT), Some(id(1)));
    assert_eq!((known(&host, "k", OTHER), known(&host, "j", INPUT)), (None, None));
    assert_eq!(host.engine.run_of_key("reports", "k", &INPUT), None);
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Over, now));
    assert_eq!(known(&host, "k", INPUT), None);
}

#[test]
fn the_first_run_of_a_key_keeps_it_while_a_second_one_with_another_input_is_refused() {
    let mut host = started();
    host.engine.keyed_run_started(id(2), "orders", "k", OTHER);
    assert_eq!(host.engine.run_of_key("orders", "k", &INPUT), Some(id(1)));
    host.call(|engine, now| engine.exists(id(2), id(1), (INPUT, false), true, now));
    assert_eq!(replaced(&mut host), [(id(2), Replacement::OtherInput("k".into()))]);
    host.call(|engine, now| engine.run_ended(id(2), RunEnd::Over, now));
    assert_eq!(host.engine.run_of_key("orders", "k", &INPUT), Some(id(1)));
}

#[test]
fn a_run_stands_for_the_one_that_has_its_key_and_ends_as_that_does() {
    let mut host = started();
    host.engine.keyed_run_started(id(2), "orders", "j", INPUT);
    host.call(|engine, now| engine.exists(id(1), id(9), SAME, false, now));
    host.call(|engine, now| engine.exists(id(2), id(9), SAME, false, now));
    assert_eq!(replaced(&mut host), [(id(1), stands_for(false)), (id(2), stands_for(false))]);
    assert_eq!(host.engine.run_of_key("orders", "k", &INPUT), Some(id(1)), "the same key gives it again");
    assert_eq!(end_of(&mut host, 9), (id(9), vec![id(1), id(2)]));
}

#[test]
fn a_run_that_was_cancelled_takes_the_run_of_its_key_with_it_if_the_inputs_are_equal() {
    for (input, cancel) in [(INPUT, true), (OTHER, false)] {
        let mut host = started();
        host.call(|engine, now| engine.exists(id(1), id(9), (input, true), true, now));
        assert_eq!(replaced(&mut host), [(id(1), stands_for(cancel))]);
    }
}

#[test]
fn a_run_that_was_over_before_the_answer_came_needs_no_other() {
    let mut host = started();
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Over, now));
    host.call(|engine, now| engine.exists(id(1), id(9), SAME, false, now));
    assert_eq!(replaced(&mut host), []);
}

#[test]
fn a_run_that_stands_for_another_and_is_over_is_told_nothing() {
    let mut host = started();
    host.engine.keyed_run_started(id(2), "orders", "j", INPUT);
    host.call(|engine, now| engine.exists(id(1), id(9), SAME, false, now));
    host.call(|engine, now| engine.exists(id(2), id(9), SAME, false, now));
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Over, now));
    assert_eq!(end_of(&mut host, 9), (id(9), vec![id(2)]));
}

#[test]
fn a_closing_engine_tells_those_that_stand_for_runs_of_others_and_takes_no_more() {
    let mut host = started();
    host.engine.keyed_run_started(id(2), "orders", "j", INPUT);
    host.call(|engine, now| engine.exists(id(1), id(9), SAME, false, now));
    host.effects.clear();
    host.call(|engine, now| engine.close(LEASE, now));
    assert_eq!(replaced(&mut host), [(id(1), Replacement::Closed(id(9)))]);
    host.call(|engine, now| engine.exists(id(2), id(8), SAME, false, now));
    assert_eq!(replaced(&mut host), [(id(2), Replacement::Closed(id(8)))]);
}

#[test]
fn a_run_that_is_submitted_is_new_or_the_run_of_its_key_or_refused() {
    let of = |existing, is_same| Submitted::of(id(1), existing, |_| Ok::<_, ()>(is_same));
    assert_eq!(of(None, false), Ok(Submitted::New(id(1))));
    assert_eq!(of(Some((id(9), INPUT)), true), Ok(Submitted::Known(id(9))));
    assert_eq!(of(Some((id(9), OTHER)), false), Ok(Submitted::OtherInput(id(9))));
}
