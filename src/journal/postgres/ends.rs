//! The last ends of runs, in the order of the transactions that noted them.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::backend::State;
use super::link::{Around, Sql, Step, step};
use super::rows::{Uuid, number, sql, sql_limit};
use super::window::Window;
use crate::journal::{Cursor, Ends, rules};

/// After how many ends of this process the oldest of all are forgotten.
const FORGOTTEN_AT_ONCE: u64 = 4096;

static AFTER: Sql = Sql {
    text: "SELECT number, run FROM {s}.ends WHERE number > $1 ORDER BY number LIMIT $2",
    types: &[Type::INT8, Type::INT8],
};
// Below `settled` nothing comes any more: all transactions that could have drawn such a number have ended.
static BOUNDS: Sql = Sql {
    text: "SELECT forgotten, coalesce((SELECT max(number) FROM {s}.ends), forgotten), \
           base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 16) FROM {s}.meta",
    types: &[],
};
static FORGET: Sql = Sql {
    text: "WITH last AS MATERIALIZED (SELECT number FROM {s}.ends ORDER BY number DESC OFFSET $1 LIMIT 1), \
           d AS (DELETE FROM {s}.ends e USING last WHERE e.number <= last.number) \
           UPDATE {s}.meta SET forgotten = greatest(forgotten, last.number) FROM last",
    types: &[Type::INT8],
};

pub(super) fn after<'a>(after: Option<&Cursor>, limit: usize, window: &mut Window) -> [Step<'a>; 2] {
    let (low, limit) = match after {
        Some(after) => window.ask(after.number(), limit),
        None => (i64::MAX as u64, 0),
    };
    [step!(BOUNDS), step!(AFTER, sql(low), sql_limit(limit))]
}

pub(super) fn found(after: Option<&Cursor>, limit: usize, own: &[Vec<Row>], window: &mut Window) -> Ends {
    let Some(bounds) = own[0].first() else { return Ends::default() };
    let (forgotten, last, settled) = (number(bounds, 0), number(bounds, 1), number(bounds, 2));
    let Some(after) = after.map(Cursor::number) else {
        return Ends { cursor: Cursor::behind(last.min(settled)), ..Ends::default() };
    };
    let new = own[1].iter().filter(|row| window.is_new(number(row, 0))).take(limit);
    let new: Vec<_> = new.map(|row| (number(row, 0), row.get::<_, Uuid>(1).into())).collect();
    let (cursor, more) = window.give(after, limit, new.iter().map(|&(number, _)| number), last, settled);
    Ends {
        runs: new.into_iter().map(|(_, run)| run).collect(),
        cursor: Cursor::behind(cursor),
        more,
        missed: after < forgotten,
    }
}

impl State {
    /// Forgets ends that are too old to be asked for. It is done again if it fails.
    pub(super) async fn forget_ends(&mut self) {
        if self.ends_noted < FORGOTTEN_AT_ONCE {
            return;
        }
        self.ends_noted = 0;
        let Ok(link) = self.take_link() else { return };
        let forgotten = link.run(&[step!(FORGET, sql(rules::ENDS))], Around::Transaction).await;
        self.put_link(link);
        if forgotten.is_err() {
            self.ends_noted = FORGOTTEN_AT_ONCE;
        }
    }
}
