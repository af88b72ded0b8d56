//! Deleting runs, forgetting old ones, and delivering dead letters again.

use tokio_postgres::types::Type;

use super::backend::{State, Tries};
use super::fault::Fault;
use super::ledger::Draft;
use super::link::{Around, Link, Sql, Step, step};
use super::rows::{Stored, Uuid, columns, sql, sql_limit};
use super::write;
use crate::journal::{JournalError, Outcome, Reply, Seen, copying};
use crate::run_id::RunId;
use crate::timers::Time;

static LOCK: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM {s}.runs r LEFT JOIN {s}.owners o ON o.n = r.owner WHERE r.id = $1 \
         FOR UPDATE OF r"
    ),
    types: &[Type::UUID],
};
static OLD: Sql = Sql {
    text: "SELECT id FROM {s}.runs WHERE finished < $1 AND phase < 8 ORDER BY finished LIMIT $2 FOR UPDATE SKIP LOCKED",
    types: &[Type::INT8, Type::INT8],
};
static REDELIVER: Sql = Sql {
    text: "WITH d AS MATERIALIZED (SELECT number, row_number() OVER (ORDER BY number) AS place FROM {s}.inbox \
           WHERE run = $1 AND dead IS NOT NULL) \
           UPDATE {s}.inbox i SET dead = NULL, number = $2 + (pg_current_xact_id()::text::bigint << 16) + d.place \
           FROM d WHERE i.run = $1 AND i.number = d.number RETURNING 1",
    types: &[Type::UUID, Type::INT8],
};

macro_rules! forget {
    ($($name:ident $table:literal $column:literal),+) => {
        $(static $name: Sql = Sql {
            text: concat!("DELETE FROM {s}.", $table, " WHERE ", $column, " = ANY($1)"),
            types: &[Type::UUID_ARRAY],
        };)+
    };
}

forget!(
    COMMITS "commits" "run", CHECKPOINTS "checkpoints" "run", STREAM "stream" "run", INBOX "inbox" "run",
    FOLDED "folded" "run", KEYFRAMES "keyframes" "run", OUTCOMES "outcomes" "run", TRANSACTIONS "transactions" "run", RUNS "runs" "id"
);

fn forget<'a>(runs: &[Uuid]) -> Vec<Step<'a>> {
    let step = |sql| Step { sql, given: vec![Box::new(runs.to_vec())] };
    [&COMMITS, &CHECKPOINTS, &FOLDED, &KEYFRAMES, &STREAM, &INBOX, &OUTCOMES, &TRANSACTIONS, &RUNS].map(step).into()
}

impl State {
    async fn lock(&self, link: &Link, id: RunId) -> Result<Result<Stored, JournalError>, Fault> {
        let found = link.run(&[step!(LOCK, Uuid::from(id))], Around::Begin).await?;
        let run = found[0].first().ok_or(JournalError::UnknownRun(id)).and_then(Stored::of);
        if run.is_err() {
            link.roll_back().await?;
        }
        Ok(run)
    }

    pub(super) async fn delete(&mut self, link: &Link, id: RunId, tries: Tries) -> Result<Outcome, Fault> {
        let run = match self.lock(link, id).await? {
            Ok(run) => run,
            // It was deleted, and the answer lost.
            Err(JournalError::UnknownRun(_)) if tries.was_lost => return Ok(Ok(Reply::Done)),
            Err(error) => return Ok(Err(error)),
        };
        self.forget_if(link, &run, copying::check_delete(&run.row)).await
    }

    /// Forgets a run that has left, after the other journal was told.
    pub(super) async fn remove(
        &mut self,
        link: &Link,
        id: RunId,
        (epoch, seen): (u64, Seen),
        tries: Tries,
    ) -> Result<Outcome, Fault> {
        match self.lock(link, id).await? {
            Ok(run) => self.forget_if(link, &run, copying::check_remove(&run.row, epoch, seen)).await,
            Err(JournalError::UnknownRun(_)) if tries.was_lost => Ok(Ok(Reply::Done)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn forget_if(&mut self, link: &Link, run: &Stored, may: Result<(), JournalError>) -> Result<Outcome, Fault> {
        if let Err(error) = may {
            link.roll_back().await?;
            return Ok(Err(error));
        }
        let id = Uuid::from(run.row.id);
        let mut steps = forget(&[id]);
        if run.row.phase().goes_on() {
            steps.push(write::note_ends(vec![id], self.base));
            self.news.has_told = true;
        }
        link.run(&steps, Around::Commit).await?;
        drop(steps);
        self.kept.remove(&run.row.id);
        Ok(Ok(Reply::Done))
    }

    pub(super) async fn prune(&mut self, link: &Link, before: Time, limit: usize) -> Result<Outcome, Fault> {
        let found = link.run(&[step!(OLD, sql(before), sql_limit(limit))], Around::Begin).await?;
        let old: Vec<Uuid> = found[0].iter().map(|row| row.get(0)).collect();
        if old.is_empty() {
            link.roll_back().await?;
        } else {
            link.run(&forget(&old), Around::Commit).await?;
        }
        Ok(Ok(Reply::Pruned { runs: old.len() }))
    }

    pub(super) async fn redeliver(&mut self, link: &Link, id: RunId) -> Result<Outcome, Fault> {
        let mut run = match self.lock(link, id).await? {
            Ok(run) => run,
            Err(error) => return Ok(Err(error)),
        };
        if run.row.is_over() {
            link.roll_back().await?;
            return Ok(Err(JournalError::RunEnded(id)));
        }
        let redelivered = link.run(&[step!(REDELIVER, Uuid::from(id), self.base)], Around::Inside).await?;
        let messages = redelivered[0].len();
        let before = run.version;
        run.row.inbox += messages as u64;
        run.row.dead_letters = 0;
        let draft = Draft::new(run, Some(before));
        let mut steps = Vec::new();
        write::update(&[&draft], &mut steps);
        link.run(&steps, Around::Commit).await?;
        drop(steps);
        self.kept.remove(&id);
        match draft.stored.owner {
            0 => self.news.has_work = true,
            owner => drop(self.news.mail.insert(owner)),
        }
        Ok(Ok(Reply::Redelivered { messages }))
    }
}
