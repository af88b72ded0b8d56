//! How SQLite means to carry out the statements: by an index, whatever the number of runs.

use rusqlite::Connection;

use super::{inbox, owners, read, schema};
use crate::journal::{Filter, KeyFilter, Phase};

fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    statement.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>().unwrap()
}

fn database() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    assert!(schema::migrate(&mut connection).unwrap());
    connection
}

#[test]
fn claims_walk_the_index_of_work() {
    for sql in [owners::CLAIMABLE, owners::NEXT] {
        let plan = plan(&database(), sql);
        assert_eq!(plan.len(), 1, "{plan:?}");
        assert!(plan[0].starts_with("SEARCH runs USING "), "{plan:?}");
        assert!(plan[0].contains("INDEX runs_work (owner=? AND workflow=? AND wake"), "{plan:?}");
    }
}

#[test]
fn polls_walk_the_new_entries_alone() {
    let plan = plan(&database(), inbox::NEWER);
    assert_eq!(plan[0], "SEARCH i USING INTEGER PRIMARY KEY (rowid>?)");
    assert_eq!(plan[1], "SEARCH r USING INTEGER PRIMARY KEY (rowid=?)");
    assert_eq!(plan.len(), 2);
}

#[test]
fn lists_walk_an_index_in_their_order() {
    let connection = database();
    for phase in Phase::ALL.into_iter().map(Some).chain([None]) {
        for workflow in [None, Some("w".to_owned())] {
            let filter = Filter { workflow, phase, ..Filter::default() };
            let plan = plan(&connection, read::list_sql(&filter));
            assert!(plan[0].starts_with("SEARCH r USING INDEX"), "{filter:?}: {plan:?}");
            assert!(plan[1].starts_with("SEARCH o USING INTEGER PRIMARY KEY"), "{filter:?}: {plan:?}");
            assert_eq!(plan.len(), 2, "nothing is sorted: {filter:?}: {plan:?}");
        }
    }
}

#[test]
fn a_run_is_looked_up_by_its_key() {
    let key = Some(KeyFilter::Is("k".to_owned()));
    let filter = Filter { workflow: Some("w".to_owned()), key, ..Filter::default() };
    let plan = plan(&database(), read::narrow_list_sql(&filter));
    assert!(plan[0].starts_with("SEARCH r USING INDEX runs_key (workflow=? AND key=?"), "{plan:?}");
}
