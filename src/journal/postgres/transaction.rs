//! Transactions of a step: rows of the user, and what says that they are written, in one transaction of the user's
//! connection.
//!
//! The host carries the statements out, over a connection that is not the journal's. Their parameters are texts, each
//! used once and in order, whatever a driver makes of them. A statement never waits for a row that the journal writes,
//! so that it also passes in a transaction that sees one snapshot.
//!
//! - **Once**: the primary key of `transactions`. Of two transactions of one call the second waits for the first, and
//!   fails if that commits.
//! - **Fence**: the owner's row is locked against losing its lease until the transaction ends, and the run must be the
//!   owner's, in its epoch.

use tokio_postgres::types::Type;

use super::fault::Fault;
use super::link::{Around, IDLE, Link, Sql, Step, quoted, step};
use super::place::Place;
use crate::journal::transaction::{Transactions, WHICH};

static MAY_ASK: Sql =
    Sql { text: "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')", types: &[] as &[Type] };
static SYSTEM: Sql = Sql { text: WHICH, types: &[] };

/// How transactions of the journal that a link leads to are carried out.
pub(super) async fn of(link: &Link, place: &Place) -> Result<Transactions, Fault> {
    let may_ask = link.run(&[step!(MAY_ASK)], Around::Snapshot).await?;
    let database = match may_ask[0].first().is_some_and(|row| row.get(0)) {
        true => {
            let found = link.run(&[step!(SYSTEM)], Around::Snapshot).await?;
            Some((found[0][0].get(0), found[0][0].get(1)))
        }
        false => None,
    };
    let schema = quoted(&place.schema);
    let begin = format!(
        "WITH g AS MATERIALIZED (SELECT $1::text::uuid AS owner, $2::text::uuid AS run, \
             decode($3::text, 'hex') AS call) \
             SELECT (SELECT encode(t.result, 'hex') FROM {schema}.transactions t WHERE t.run = g.run AND t.call = g.call), \
             EXISTS (SELECT FROM {schema}.owners o WHERE o.id = g.owner), pg_current_xact_id()::text FROM g"
    );
    let finish = format!(
        "WITH g AS MATERIALIZED (SELECT $1::text::uuid AS owner, $2::text::uuid AS run, $3::text::bigint AS epoch, \
             $4::text AS xid, decode($5::text, 'hex') AS call, decode($6::text, 'hex') AS result), \
             o AS MATERIALIZED (SELECT n FROM {schema}.owners WHERE id = (SELECT owner FROM g) FOR KEY SHARE), \
             r AS MATERIALIZED (SELECT g.* FROM g, o, {schema}.runs r WHERE r.id = g.run AND r.owner = o.n \
             AND r.epoch = g.epoch AND pg_current_xact_id()::text = g.xid), \
             i AS MATERIALIZED (SELECT r.*, set_config('idle_in_transaction_session_timeout', '{IDLE}', true) FROM r), \
             w AS (INSERT INTO {schema}.transactions (run, call, result) SELECT run, call, result FROM i RETURNING 1) \
             SELECT (SELECT count(*) FROM w)::text, pg_current_xact_id()::text"
    );
    Ok(Transactions { database, shown: place.to_string(), begin, finish })
}
