//! Lists of runs, newest first, in pages.

use super::desk::*;
use super::every_backend;
use treadle::RunId;
use treadle::journal::{Filter, NewRun, Phase};

every_backend!(runs_are_listed_by_workflow_phase_and_time, pages_follow_one_another_though_runs_are_added,);

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
                let filter = Filter { workflow: workflow.map(Into::into), phase, since, after: None, limit: 100 };
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
