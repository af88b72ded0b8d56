//! Taking runs that no process executes, and declaring processes lost.

use tokio_postgres::types::Type;

use super::backend::State;
use super::fault::Fault;
use super::ledger::Draft;
use super::link::{Around, Link, Sql, Step, step};
use super::owners::{self, All};
use super::rows::{Stored, Uuid, columns, sql, sql_limit, storable};
use super::write;
use crate::journal::recovery::{self, Turn};
use crate::journal::{Claim, Claimed, JournalError, Outcome, Reply, rules};

/// How many runs of lost processes one claim gives free at most, beyond those that it takes.
const FREED_AT_ONCE: i64 = 1000;

static DECLARE: Sql = Sql {
    text: "WITH c AS MATERIALIZED (SELECT o.n FROM unnest($1, $2) AS c(n, since), {s}.owners o WHERE o.n = c.n \
           AND o.since = c.since AND o.id IS NOT NULL FOR UPDATE OF o SKIP LOCKED) \
           UPDATE {s}.owners o SET id = NULL FROM c WHERE o.n = c.n RETURNING o.n",
    types: &[Type::INT8_ARRAY, Type::INT8_ARRAY],
};

// Runs without an owner, and of processes that lost them. Each row is locked as it is found, so that two never find the same.
static CLAIMABLE: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM unnest($1) AS q(name), \
         (SELECT 0::bigint AS n, NULL::uuid AS id UNION ALL SELECT n, id FROM {s}.owners WHERE id IS NULL) o, \
         LATERAL (SELECT * FROM {s}.runs WHERE owner = o.n AND workflow = q.name COLLATE \"C\" AND wake <= $2 \
         ORDER BY wake LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED) r LIMIT $3"
    ),
    types: &[Type::TEXT_ARRAY, Type::INT8, Type::INT8],
};

static CLAIMED: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM {s}.runs r JOIN {s}.owners o ON o.n = r.owner \
         WHERE r.owner = $1 AND r.op = $2 AND r.wake IS NOT NULL"
    ),
    types: &[Type::INT8, Type::UUID],
};

static REMEMBER: Sql = Sql { text: "UPDATE {s}.owners SET claim = $2 WHERE n = $1", types: &[Type::INT8, Type::UUID] };

static FREE: Sql = Sql {
    text: "WITH f AS MATERIALIZED (SELECT r.id, o.is_released FROM {s}.owners o, LATERAL (SELECT id FROM {s}.runs \
           WHERE owner = o.n AND wake IS NOT NULL LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED) r \
           WHERE o.id IS NULL LIMIT $1) \
           UPDATE {s}.runs r SET owner = 0, version = r.version + 1, \
           recoveries = r.recoveries + (NOT f.is_released)::int FROM f WHERE r.id = f.id",
    types: &[Type::INT8],
};

// A lost process is forgotten when no run refers to it any more.
static FORGET: Sql = Sql {
    text: "DELETE FROM {s}.owners o WHERE o.id IS NULL \
           AND NOT EXISTS (SELECT FROM {s}.runs r WHERE r.owner = o.n AND r.wake IS NOT NULL)",
    types: &[],
};

impl State {
    pub(super) async fn claim(&mut self, link: &Link, claim: &Claim) -> Result<Outcome, Fault> {
        let names: Vec<_> = rules::distinct(&claim.workflows).map(storable).collect();
        // Not beyond those that have a time at all.
        let now = sql(claim.now).min(i64::MAX - 1);
        let find = || step!(CLAIMABLE, names.clone(), now, sql_limit(claim.limit));
        let found = link.run(&[owners::all(self.given_clock()), find()], Around::Begin).await?;
        let mut all = All::of(&found[0]);
        self.observe(&all);
        let Some(me) = all.get(claim.owner) else {
            link.roll_back().await?;
            return Ok(Err(JournalError::LeaseLost(claim.owner)));
        };
        let me = me.n;
        if all.get(claim.owner).is_some_and(|me| claim.op.is_same(me.last_claim)) {
            let steps = [step!(CLAIMED, me, Uuid(claim.op.0))];
            let again = link.run(&steps, Around::Commit).await?;
            let runs = stored(&again[0])?.into_iter().map(|run| run.row).collect();
            return Ok(Ok(Reply::Claimed(Claimed { runs, more: true, ..Claimed::default() })));
        }
        let mut rows = stored(&found[1])?;
        let lapsed = self.lapsed(&all, claim);
        if !lapsed.0.is_empty() {
            let steps = [step!(DECLARE, lapsed.0, lapsed.1), owners::all(self.given_clock()), find()];
            let found = link.run(&steps, Around::Inside).await?;
            all = All::of(&found[1]);
            rows = stored(&found[2])?;
        }
        self.take(link, claim, me, &all, rows).await
    }

    // Processes whose leases are over, and since when they had them.
    fn lapsed(&self, all: &All, claim: &Claim) -> (Vec<i64>, Vec<i64>) {
        if !self.held_off().is_zero() {
            return Default::default();
        }
        let others = all.living.iter().filter(|other| other.id != claim.owner && all.left(other).is_none());
        others.map(|other| (other.n, other.since)).unzip()
    }

    async fn take(
        &mut self,
        link: &Link,
        claim: &Claim,
        me: i64,
        all: &All,
        rows: Vec<Stored>,
    ) -> Result<Outcome, Fault> {
        let mut claimed = Claimed { more: rows.len() == claim.limit, ..Claimed::default() };
        let mut drafts = Vec::with_capacity(rows.len());
        for mut run in in_order(claim, rows) {
            let before = run.version;
            if all.has_lost(run.owner) {
                recovery::lose(&mut run.row);
            }
            match recovery::take(&mut run.row, claim) {
                Turn::Given => {
                    run.owner = me;
                    claimed.runs.push(run.row.clone());
                }
                Turn::Stranded => {
                    run.owner = 0;
                    claimed.stranded.push(run.row.clone());
                }
            }
            drafts.push(Draft::new(run, Some(before)));
        }
        let mut steps = Vec::new();
        if !drafts.is_empty() {
            steps.push(write::assert_living(vec![me]));
            drafts.sort_unstable_by_key(|draft| draft.stored.row.id);
            write::update(&drafts.iter().collect::<Vec<_>>(), &mut steps);
        }
        if !claimed.runs.is_empty() {
            steps.push(step!(REMEMBER, me, Uuid(claim.op.0)));
        }
        if !claimed.stranded.is_empty() {
            steps.push(write::note_ends(write::names(claimed.stranded.iter().map(|row| row.id)), self.base));
        }
        if !all.lost.is_empty() {
            steps.extend([step!(FREE, FREED_AT_ONCE), step!(FORGET)]);
        }
        link.run(&steps, Around::Commit).await?;
        drop(steps);
        self.news.has_told |= !claimed.stranded.is_empty();
        for draft in drafts {
            let version = draft.stored.version + 1;
            self.keep(Stored { version, ..draft.stored });
        }
        Ok(Ok(Reply::Claimed(claimed)))
    }
}

fn stored(rows: &[tokio_postgres::Row]) -> Result<Vec<Stored>, Fault> {
    rows.iter().map(Stored::of).collect::<Result<_, _>>().map_err(Fault::Broken)
}

// By workflow, in the order of the request, then by when they have something to do.
fn in_order(claim: &Claim, mut rows: Vec<Stored>) -> Vec<Stored> {
    let place = |run: &Stored| claim.workflows.iter().position(|name| *name == run.row.workflow);
    rows.sort_by_key(|run| (place(run), run.wake()));
    rows
}
