//! Processes and their leases, on the server's clock.
//!
//! A process that has lost its lease loses its id, which is a key: a transaction that writes for it holds a lock on that key to the
//! end of the transaction, so that it is declared lost before or after, never in between.

use std::time::{Duration, Instant};

use tokio_postgres::types::Type;

use super::backend::{Own, State, Tries};
use super::fault::Fault;
use super::link::{Around, Link, Sql, Step, step};
use super::rows::{Uuid, number, sql};
use crate::journal::{JournalError, OpId, Outcome, OwnerId, Reply, Request};

macro_rules! now {
    ($given:literal) => {
        concat!("coalesce(", $given, ", (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)")
    };
}

static ENLIST: Sql = Sql {
    text: concat!(
        "INSERT INTO {s}.owners (id, since, lasts, claim) VALUES ($1, ",
        now!("$3"),
        ", $2, $4) \
         ON CONFLICT (id) DO UPDATE SET since = excluded.since, lasts = excluded.lasts RETURNING n"
    ),
    types: &[Type::UUID, Type::INT8, Type::INT8, Type::UUID],
};
static RENEW: Sql = Sql {
    text: concat!("UPDATE {s}.owners SET since = ", now!("$3"), ", lasts = $2 WHERE id = $1 RETURNING n"),
    types: &[Type::UUID, Type::INT8, Type::INT8],
};
static RELEASE: Sql =
    Sql { text: "UPDATE {s}.owners SET id = NULL, is_released = true WHERE id = $1", types: &[Type::UUID] };
static ALL: Sql = Sql {
    text: concat!(
        "SELECT c.now, o.n, o.id, o.since, o.lasts, o.is_released, o.claim FROM (SELECT ",
        now!("$1"),
        " AS now) c LEFT JOIN {s}.owners o ON true"
    ),
    types: &[Type::INT8],
};
static UPTIME: Sql = Sql {
    text: "SELECT (extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) * 1000000)::bigint, \
           coalesce((SELECT max(lasts) FROM {s}.owners WHERE id IS NOT NULL), 0)",
    types: &[],
};

/// A step of the server's clock that is larger than this is noticed.
const STEP: i64 = 1_000_000;

/// All processes that are known, and the time of leases.
#[derive(Debug, Default)]
pub(super) struct All {
    now: i64,
    pub(super) living: Vec<Living>,
    pub(super) lost: Vec<Lost>,
}

/// A process that has not lost its lease yet.
#[derive(Debug)]
pub(super) struct Living {
    pub(super) n: i64,
    pub(super) id: OwnerId,
    pub(super) since: i64,
    lasts: i64,
    pub(super) last_claim: OpId,
}

/// A process that lost its runs, or handed them back.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) n: i64,
    pub(super) is_released: bool,
}

/// The step that reads all processes.
pub(super) fn all<'a>(clock: Option<i64>) -> Step<'a> {
    step!(ALL, clock)
}

impl All {
    pub(super) fn of(rows: &[tokio_postgres::Row]) -> Self {
        let mut all = Self::default();
        for row in rows {
            all.now = row.get(0);
            let Some(n) = row.get::<_, Option<i64>>(1) else { continue };
            match row.get::<_, Option<Uuid>>(2) {
                Some(id) => all.living.push(Living {
                    n,
                    id: OwnerId(id.0),
                    since: row.get(3),
                    lasts: row.get(4),
                    last_claim: OpId(row.get::<_, Uuid>(6).0),
                }),
                None => all.lost.push(Lost { n, is_released: row.get(5) }),
            }
        }
        all
    }

    pub(super) fn get(&self, owner: OwnerId) -> Option<&Living> {
        self.living.iter().find(|living| living.id == owner)
    }

    /// For how long a process keeps its runs; nothing if its lease is over. So is one that begins long after now: the
    /// clock was set back, and the process has not renewed it since.
    pub(super) fn left(&self, living: &Living) -> Option<Duration> {
        if living.since > self.now.saturating_add(STEP) {
            return None;
        }
        let left = living.since.saturating_add(living.lasts).checked_sub(self.now).filter(|&left| left >= 0)?;
        Some(Duration::from_micros(left as u64))
    }

    /// Whether the run's owner was lost and did not hand it back.
    pub(super) fn has_lost(&self, owner: i64) -> bool {
        self.lost.iter().any(|lost| lost.n == owner && !lost.is_released)
    }
}

impl State {
    /// The time of leases, if it is not the server's.
    pub(super) fn given_clock(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| sql(clock.now().micros))
    }

    /// Notices a step of the server's clock: then no lease says anything until all have been renewed.
    pub(super) fn observe(&mut self, all: &All) {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        if self.clock.is_some() {
            return;
        }
        let steady = START.get_or_init(Instant::now).elapsed().as_micros() as i64;
        let ahead = all.now - steady;
        if self.ahead.replace(ahead).is_some_and(|before| (before - ahead).abs() > STEP) {
            self.hold_off_for(self.longest_lease());
        }
    }

    fn longest_lease(&self) -> Duration {
        self.own.values().map(|own| own.lease).max().unwrap_or_default()
    }

    fn hold_off_for(&mut self, time: Duration) {
        let until = Instant::now().checked_add(time);
        self.hold_off = self.hold_off.max(until);
    }

    /// For how long no process is declared lost.
    pub(super) fn held_off(&self) -> Duration {
        self.hold_off.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default()
    }

    /// What is done first on a new connection.
    pub(super) async fn back_again(&mut self, link: &Link, was_open: bool) -> Result<(), Fault> {
        if self.only_looks || self.clock.is_some() {
            return Ok(());
        }
        let own: Vec<_> = self.own.iter().map(|(&owner, own)| (owner, own.lease)).collect();
        for (owner, lease) in own {
            link.run(&[step!(RENEW, Uuid(owner.0), micros(lease), self.given_clock())], Around::Transaction).await?;
        }
        if was_open {
            self.hold_off_for(self.longest_lease());
        }
        // A server that has just started was away for all.
        let found = link.run(&[step!(UPTIME)], Around::Snapshot).await?;
        let (uptime, longest) = (number(&found[0][0], 0), number(&found[0][0], 1));
        if uptime < longest {
            self.hold_off_for(Duration::from_micros(longest - uptime));
        }
        Ok(())
    }

    /// Carries out a request that goes with no other.
    pub(super) async fn alone(&mut self, request: &Request) -> Outcome {
        if self.only_looks {
            return Err(self.read_only());
        }
        let mut tries = Tries::default();
        loop {
            let fault = match self.try_alone(request, tries).await {
                Ok(outcome) => return outcome,
                Err(fault) => fault,
            };
            self.overcome(fault, &mut tries).await?;
        }
    }

    async fn try_alone(&mut self, request: &Request, tries: Tries) -> Result<Outcome, Fault> {
        self.link().await.map_err(Fault::Broken)?;
        let link = self.take_link()?;
        let outcome = match request {
            Request::Enlist { owner, lease } => self.enlist(&link, *owner, *lease).await,
            Request::Renew { owner, lease } => self.renew(&link, *owner, *lease).await,
            Request::Release { owner } => self.release(&link, *owner).await,
            Request::Claim(claim) => self.claim(&link, claim).await,
            Request::Redeliver { run } => self.redeliver(&link, *run).await,
            Request::Delete { run } => self.delete(&link, *run, tries).await,
            Request::Remove { run, epoch, seen } => self.remove(&link, *run, (*epoch, *seen), tries).await,
            Request::Prune { finished_before, limit } => self.prune(&link, *finished_before, *limit).await,
            other => Ok(Err(JournalError::Panicked(format!("{other:?} goes with others")))),
        };
        self.put_link(link);
        outcome
    }

    async fn enlist(&mut self, link: &Link, owner: OwnerId, lease: Duration) -> Result<Outcome, Fault> {
        let enlist = step!(ENLIST, Uuid(owner.0), micros(lease), self.given_clock(), Uuid(OpId::NONE.0));
        let found = link.run(&[enlist], Around::Transaction).await?;
        self.own(owner, Some(Own { number: found[0][0].get(0), lease }));
        Ok(Ok(Reply::Done))
    }

    async fn renew(&mut self, link: &Link, owner: OwnerId, lease: Duration) -> Result<Outcome, Fault> {
        let renew = step!(RENEW, Uuid(owner.0), micros(lease), self.given_clock());
        let found = link.run(&[renew], Around::Transaction).await?;
        let Some(row) = found[0].first() else {
            self.own(owner, None);
            self.kept.clear();
            return Ok(Err(JournalError::LeaseLost(owner)));
        };
        if self.own.contains_key(&owner) {
            self.own(owner, Some(Own { number: row.get(0), lease }));
        }
        Ok(Ok(Reply::Done))
    }

    async fn release(&mut self, link: &Link, owner: OwnerId) -> Result<Outcome, Fault> {
        link.run(&[step!(RELEASE, Uuid(owner.0))], Around::Transaction).await?;
        self.own(owner, None);
        self.kept.clear();
        self.news.has_work = true;
        Ok(Ok(Reply::Done))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
