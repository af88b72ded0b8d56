//! Lists of runs, newest first, in pages.

use super::desk::*;
use super::every_backend;
use treadle::RunId;
use treadle::journal::{Filter, KeyFilter, NewRun, Phase, Reply, Request, RunRow};

every_backend!(
    runs_are_listed_by_workflow_phase_and_time,
    pages_follow_one_another_though_runs_are_added,
    runs_are_listed_by_their_key_and_their_end,
);

const PHASES: [Phase; 7] = Phase::ALL;

fn fill(desk: &Desk) {
    for number in 1..=60_u64 {
        let workflow = ["w", "v"][number as usize % 2].to_owned();
        let phase = PHASES[number as usize % 6];
        let mut commit = commit(&["a"]);
        commit.status.phase = phase;
        desk.create(NewRun { workflow, ..run(number) }, None, commit);
    }
}

fn runs_are_listed_by_workflow_phase_and_time(store: &dyn Store) {
    let desk = store.open();
    fill(&desk);
    for workflow in [None, Some("w"), Some("v"), Some("none")] {
        for phase in PHASES.into_iter().map(Some).chain([None]) {
            for since in [None, Some(0), Some(30_000), Some(30_001), Some(99_000_000)] {
                let fits = |&number: &u64| {
                    workflow.is_none_or(|name| name == ["w", "v"][number as usize % 2])
                        && phase.is_none_or(|phase| phase == PHASES[number as usize % 6])
                        && since.is_none_or(|since| number * 1000 >= since)
                };
                let expected: Vec<RunId> = (1..=60).rev().filter(fits).map(id).collect();
                let filter =
                    Filter { workflow: workflow.map(Into::into), phase, since, limit: 100, ..Filter::default() };
                assert_eq!(desk.list(filter), expected);
            }
        }
    }
}

fn pages_follow_one_another_though_runs_are_added(store: &dyn Store) {
    let desk = store.open();
    fill(&desk);
    let mut seen = Vec::new();
    let mut after = None;
    for round in 0.. {
        let filter = Filter { workflow: Some("w".into()), after, limit: 7, ..Filter::default() };
        let page = desk.list(filter);
        let Some(&last) = page.last() else { break };
        seen.extend(page);
        after = Some(last);
        desk.create(run(1000 + round), None, commit(&["new"]));
    }
    assert_eq!(seen, (1..=60).rev().filter(|number| number % 2 == 0).map(id).collect::<Vec<_>>());
    assert_eq!(desk.list(Filter { limit: 0, ..Filter::default() }), vec![]);
}

fn runs_are_listed_by_their_key_and_their_end(store: &dyn Store) {
    let desk = store.open();
    for number in 1..=40_u64 {
        let key = (number % 4 > 0).then(|| format!("{}-{number}", ["a", "a%", "A"][number as usize % 3]));
        let workflow = ["w", "v"][number as usize % 2].to_owned();
        let mut commit = commit(&["a"]);
        commit.at = number * 10;
        if number % 5 < 2 {
            commit.status.phase = Phase::Completed;
            commit.outcome = Some(b"end".to_vec());
        }
        desk.create(NewRun { workflow, key, ..run(number) }, None, commit);
    }
    for (number, key) in [(41, "a\0-41"), (42, "")] {
        desk.create(NewRun { key: Some(key.to_owned()), ..run(number) }, None, commit(&["a"]));
    }
    let all = match desk.ask(Request::List { filter: Filter { limit: 100, ..Filter::default() } }) {
        Ok(Reply::Listed(rows)) => rows,
        other => panic!("{other:?}"),
    };
    let is = |text: &str| Some(KeyFilter::Is(text.to_owned()));
    let begins = |text: &str| Some(KeyFilter::StartsWith(text.to_owned()));
    let keys = [
        None,
        is("a-9"),
        is("a%-1"),
        is("none"),
        begins("a"),
        begins("a%"),
        begins("A-"),
        begins(""),
        begins("x"),
        begins("a\0"),
        begins("a\0-4"),
    ];
    for workflow in [None, Some("w".to_owned()), Some("v".to_owned())] {
        for key in &keys {
            for (finished_since, finished_before) in
                [(None, None), (Some(100), None), (None, Some(250)), (Some(100), Some(250))]
            {
                let limit = 100;
                let filter = Filter {
                    workflow: workflow.clone(),
                    key: key.clone(),
                    finished_since,
                    finished_before,
                    limit,
                    ..Filter::default()
                };
                let fits = |row: &&RunRow| {
                    workflow.as_ref().is_none_or(|name| *name == row.workflow)
                        && key.as_ref().is_none_or(|key| key.takes(row.key.as_deref()))
                        && finished_since.is_none_or(|since| row.finished.is_some_and(|at| at >= since))
                        && finished_before.is_none_or(|before| row.finished.is_some_and(|at| at < before))
                };
                let expected: Vec<_> = all.iter().filter(fits).map(|row| row.id).collect();
                assert_eq!(desk.list(filter.clone()), expected, "{filter:?}");
            }
        }
    }
}
