//! Random requests in random batches, against a model that is too simple to be wrong in the same way.

mod answers;
mod drafts;
mod outgoing;
mod run;

use std::collections::HashMap;

use proptest::prelude::*;
use treadle::journal::{Cursor, Ends, Entry, Filter, JournalError, Loaded, OpIds, OwnerId, Reply, Request, StreamRead};

use super::desk::*;
use answers::Model;
use drafts::{Draft, batches};
use run::Run;

type Outcome = Result<Reply, JournalError>;

const OWNERS: [OwnerId; 3] = [A, B, OwnerId([0xcc; 16])];
const LIMIT: u64 = 3;

fn same(given: &Outcome, expected: &Outcome) -> bool {
    match (given, expected) {
        (Err(JournalError::Invalid { run: given, .. }), Err(JournalError::Invalid { run: expected, .. })) => {
            given == expected
        }
        // What is refused for two reasons may be refused for either.
        (Err(JournalError::Conflict(_) | JournalError::Invalid { .. }), Err(JournalError::LeaseLost(_))) => true,
        _ => given == expected,
    }
}

fn behaves_like_the_model(store: &dyn Store, batches: &[Vec<Draft>]) {
    let desk = store.open();
    let mut model = Model::default();
    let (mut ops, mut before, mut cursors) = (OpIds::new([9; 8]), Vec::new(), Cursors::new());
    for batch in batches {
        model.time += 3;
        store.clock().set(model.time);
        // What a request of a batch asks for is known from the model before the batch.
        let sent: Vec<_> = batch.iter().map(|draft| draft.sent(&model, &mut ops, &before)).collect();
        let requests = sent.clone();
        before.extend(sent);
        let answers = in_groups(&requests).flat_map(|group| desk.ask_all(group.to_vec())).collect::<Vec<_>>();
        for (request, given) in requests.iter().zip(&answers) {
            let expected = model.answer(request, given);
            assert!(same(given, &expected), "{request:?}\n gave {given:?}\n instead of {expected:?}");
        }
        model.learn_numbers(&desk);
        holds_what_the_model_holds(&desk, &model, &mut cursors);
    }
    desk.journal.close();
    holds_what_the_model_holds(&store.open(), &model, &mut cursors);
}

// Requests that are answered in their order: those about one run.
fn in_groups(requests: &[Request]) -> impl Iterator<Item = &[Request]> {
    requests.chunk_by(|one, next| one.run().is_some() && one.run() == next.run())
}

// Where each process goes on, and which entry was the last one then.
type Cursors = HashMap<OwnerId, (Cursor, u64)>;

fn holds_what_the_model_holds(desk: &Desk, model: &Model, cursors: &mut Cursors) {
    let newest_first: Vec<_> = model.runs.keys().rev().copied().collect();
    assert_eq!(desk.list(Filter { limit: 100, ..Filter::default() }), newest_first);
    for (&id, run) in &model.runs {
        assert_eq!(desk.ask(Request::DeadLetters { run: id }), Ok(Reply::DeadLetters(run.dead.clone())));
        holds_run(desk.load(id), run);
        for at in 0..=run.seq() + 1 {
            let segment = desk.segment(id, at);
            let end = segment.end();
            assert_eq!((segment.checkpoint, segment.records.clone(), segment.first), run.segment(at));
            assert!(at > run.seq() || end >= at, "record {at} is in the part that ends with {end}");
        }
        assert_eq!(desk.get(id).1, run.outcome);
        let kept = run.published.iter().filter(|&&(number, _)| number + LIMIT > run.last_published());
        let entries: Vec<_> = kept.cloned().collect();
        let missed = entries.first().map_or(0, |&(number, _)| number - 1);
        let (published, ended) = (run.last_published(), !run.status.phase.goes_on());
        assert_eq!(desk.stream(id, 0, 100), StreamRead { entries, missed, published, ended });
    }
    let ends = |after| match desk.ask(Request::Ends { after: Some(after), limit: 10_000 }) {
        Ok(Reply::Ends(ends)) => ends,
        other => panic!("{other:?}"),
    };
    let all = ends(Cursor::default());
    assert_eq!(all, Ends { runs: model.ends.clone(), cursor: all.cursor.clone(), more: false, missed: false });
    assert_eq!(ends(all.cursor.clone()), Ends { runs: vec![], ..all });
    for owner in OWNERS {
        let in_order = |mut entries: Vec<Entry>| {
            entries.sort_by_key(|entry| (entry.run, entry.number));
            entries
        };
        let all = desk.poll(owner, &Cursor::default());
        assert_eq!(in_order(all.entries.clone()), in_order(model.polled(owner, 0)));
        if let Some((cursor, last)) = cursors.insert(owner, (all.cursor, model.entries)) {
            let newer = desk.poll(owner, &cursor).entries;
            let sent_since = model.polled(owner, last);
            assert!(sent_since.iter().all(|entry| newer.contains(entry)), "{newer:?} lacks some of {sent_since:?}");
            assert!(newer.iter().all(|entry| all.entries.contains(entry)), "{newer:?}");
        }
    }
}

fn holds_run(loaded: Loaded, run: &Run) {
    let row = loaded.run;
    assert_eq!((row.owner, row.epoch, row.seq, row.key), (run.owner, run.epoch, run.seq(), run.new.key.clone()));
    assert_eq!((row.status, row.finished, row.published), (run.status, run.finished, run.last_published()));
    assert_eq!(row.inbox, run.inbox().len() as u64);
    assert_eq!(row.dead_letters, run.dead.len() as u64);
    assert_eq!((row.parent, row.root, row.depth), (run.new.parent, run.new.root, run.new.depth));
    assert_eq!(loaded.inbox, run.inbox());
    assert_eq!(loaded.checkpoint, run.checkpoint);
    assert_eq!(loaded.records, run.log[run.folded() as usize..]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn memory_behaves_like_the_model(batches in batches()) {
        behaves_like_the_model(&Memory::default(), &batches);
    }
}

#[cfg(feature = "sqlite")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn sqlite_behaves_like_the_model(batches in batches()) {
        behaves_like_the_model(&File::new(), &batches);
    }
}

#[cfg(feature = "postgres")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn postgres_behaves_like_the_model(batches in batches()) {
        behaves_like_the_model(&super::postgres::Schema::new(), &batches);
    }
}
