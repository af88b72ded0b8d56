//! The journal's thread: what waits is carried out in groups, each until it is answered.
//!
//! A group whose connection is lost is carried out again on the next one. What had been written by then is known again by
//! the names of its operations; what is still on its way waits for the locks of the rows, or finds them changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::bell::{Bell, News, Owners, Ringing};
use super::chance::Chance;
use super::fault::{Fault, unavailable};
use super::link::Link;
use super::place::Place;
use super::rows::{Stored, Uuid};
use super::tls::Tls;
use super::window::Window;
use super::{Broken, LIMITS, Options, schema, transaction};
use crate::journal::lease::Clock;
use crate::journal::worker::{Away, Backend};
use crate::journal::{self, JournalError, Limits, OnBatch, Outcome, OwnerId, Request, Transactions};
use crate::run_id::RunId;

/// How long a server that does not answer is waited for when the journal is opened.
const OPENING: Duration = Duration::from_secs(10);
/// How long requests are held for a server that is away, before they are given back.
const HOLDING: Duration = Duration::from_secs(1);
/// So many rows of own runs are kept, to write them without reading them before.
const KEPT: usize = 200_000;

/// The connection of one process, used by the journal's thread alone.
pub(super) struct Postgres {
    runtime: Runtime,
    pub(super) state: State,
    transactions: Transactions,
    // The thread of news ends before the runtime does.
    bell: Option<Bell>,
}

/// An owner of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) number: i64,
    pub(super) lease: Duration,
}

/// What the thread knows.
pub(super) struct State {
    pub(super) place: Arc<Place>,
    tls: Tls,
    link: Option<Link>,
    was_open: bool,
    closing: Arc<AtomicBool>,
    hold: Duration,
    /// What is added to numbers.
    pub(super) base: i64,
    pub(super) only_looks: bool,
    pub(super) clock: Option<Clock>,
    pub(super) broken: Broken,
    pub(super) own: HashMap<OwnerId, Own>,
    owners: Owners,
    /// Rows of own runs, as they were written last.
    pub(super) kept: HashMap<RunId, Stored>,
    /// No process is declared lost before this.
    pub(super) hold_off: Option<Instant>,
    /// How far the server's clock is ahead of that of this process.
    pub(super) ahead: Option<i64>,
    pub(super) ends_noted: u64,
    /// How far each owner has polled, and how far ends were asked for.
    pub(super) polls: HashMap<OwnerId, Window>,
    pub(super) ends: Window,
    pub(super) news: News,
    pub(super) chance: Chance,
}

/// How often a group was tried, and whether an answer was lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    pub(super) count: u32,
    pub(super) was_lost: bool,
}

impl Postgres {
    pub(super) fn open(
        place: &Place,
        options: &Options,
        on_batch: Arc<OnBatch>,
        closing: Arc<AtomicBool>,
    ) -> Result<Self, JournalError> {
        let place = Arc::new(place.clone());
        let unavailable = |why: String| unavailable(&place, why);
        let tls = Tls::new(place.verify, place.root_certificates.as_deref()).map_err(unavailable)?;
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(|error| unavailable(error.to_string()))?;
        let owners = Owners::default();
        let mut state = State {
            place: Arc::clone(&place),
            tls: tls.clone(),
            link: None,
            was_open: false,
            closing,
            hold: options.hold.unwrap_or(HOLDING),
            base: 0,
            only_looks: options.only_looks,
            clock: options.clock.clone(),
            broken: options.broken,
            own: HashMap::new(),
            owners: Arc::clone(&owners),
            kept: HashMap::new(),
            hold_off: None,
            ahead: None,
            ends_noted: 0,
            polls: HashMap::new(),
            ends: Window::default(),
            news: News::default(),
            chance: Chance::new(),
        };
        let transactions = runtime.block_on(state.open_link(options.patience.unwrap_or(OPENING)))?;
        let mut writer = [0; 16];
        getrandom::fill(&mut writer).map_err(|error| unavailable(error.to_string()))?;
        let ringing = Ringing { place: Arc::clone(&place), tls, writer: Uuid(writer), owners, on_batch };
        let bell = Bell::hang(ringing).map_err(|error| unavailable(error.to_string()))?;
        Ok(Self { runtime, state, transactions, bell: Some(bell) })
    }

    pub(super) fn transactions(&self) -> &Transactions {
        &self.transactions
    }
}

impl Backend for Postgres {
    fn carry_out(&mut self, requests: Vec<Request>) -> Result<Vec<Outcome>, Away> {
        let answers = self.runtime.block_on(self.state.carry_out(&requests));
        let news = std::mem::take(&mut self.state.news);
        if let Some(bell) = &self.bell {
            bell.tell(news);
        }
        // What of them was carried out is known again by its name.
        let away =
            answers.iter().filter_map(|answer| answer.as_ref().err()).find(|error| error.is_transient()).cloned();
        match away {
            Some(error) => Err(Away(requests, error)),
            None => Ok(answers),
        }
    }

    fn limits() -> Limits {
        LIMITS
    }

    // The thread of news tells it.
    fn news(&mut self) -> journal::News {
        journal::News::default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.bell = None;
    }
}

impl State {
    async fn open_link(&mut self, patience: Duration) -> Result<Transactions, JournalError> {
        let began = Instant::now();
        for failures in 0.. {
            let cause = match self.first_connect().await {
                Ok(transactions) => return Ok(transactions),
                Err(Fault::Broken(error)) => return Err(error),
                Err(fault) => fault.to_string(),
            };
            if began.elapsed() > patience {
                return Err(unavailable(&self.place, cause));
            }
            tokio::time::sleep(self.chance.wait(failures)).await;
        }
        unreachable!("the loop has no end")
    }

    async fn first_connect(&mut self) -> Result<Transactions, Fault> {
        self.connect().await?;
        let link = self.take_link()?;
        let transactions = transaction::of(&link, &self.place).await?;
        self.put_link(link);
        Ok(transactions)
    }

    async fn connect(&mut self) -> Result<(), Fault> {
        let link = Link::open(&self.place, &self.tls, None).await?;
        self.base = schema::prepare(&link, &self.place, self.only_looks).await?;
        // A lease of this process may have passed meanwhile, and those of others as well: it is renewed first, and no process
        // is declared lost before all have had the time to do the same.
        self.back_again(&link, self.was_open).await?;
        self.link = Some(link);
        self.was_open = true;
        Ok(())
    }

    /// The connection, made anew if it is lost; an error if that takes too long.
    pub(super) async fn link(&mut self) -> Result<(), JournalError> {
        let began = Instant::now();
        for failures in 0.. {
            if self.link.as_ref().is_some_and(|link| !link.is_closed()) {
                return Ok(());
            }
            self.forget_link();
            let cause = match self.connect().await {
                Ok(()) => return Ok(()),
                Err(fault) => fault.to_string(),
            };
            if began.elapsed() > self.hold || self.closing.load(Ordering::Acquire) {
                return Err(unavailable(&self.place, cause));
            }
            tokio::time::sleep(self.chance.wait(failures)).await;
        }
        unreachable!("the loop has no end")
    }

    pub(super) fn forget_link(&mut self) {
        self.link = None;
        self.kept.clear();
    }

    /// Gives the connection to a piece of work, and takes it back.
    pub(super) fn take_link(&mut self) -> Result<Link, Fault> {
        self.link.take().ok_or_else(|| Fault::Lost("there is no connection".into()))
    }

    pub(super) fn put_link(&mut self, link: Link) {
        self.link = Some(link);
    }

    /// What to do about a fault; an error if the group is to be answered with it.
    pub(super) async fn overcome(&mut self, fault: Fault, tries: &mut Tries) -> Result<(), JournalError> {
        tries.count += 1;
        self.kept.clear();
        match fault {
            Fault::Broken(error) => return Err(error),
            Fault::Lost(_) => {
                tries.was_lost = true;
                self.forget_link();
            }
            Fault::Stale | Fault::Again(_) => {}
        }
        if tries.count > 1 {
            tokio::time::sleep(self.chance.wait(tries.count.min(4) - 2) / 8).await;
        }
        Ok(())
    }

    pub(super) fn own(&mut self, owner: OwnerId, own: Option<Own>) {
        let before = match own {
            Some(own) => self.own.insert(owner, own),
            None => self.own.remove(&owner),
        };
        let mut owners = self.owners.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(before) = before {
            owners.remove(&before.number);
        }
        owners.extend(own.map(|own| own.number));
    }

    /// Keeps the row of a run of this process, or forgets it.
    pub(super) fn keep(&mut self, run: Stored) {
        let is_own = run.row.owner.is_some_and(|owner| self.own.contains_key(&owner));
        if is_own && self.kept.len() < KEPT {
            self.kept.insert(run.row.id, run);
        } else {
            self.kept.remove(&run.row.id);
        }
    }

    /// The numbers of own owners.
    pub(super) fn own_numbers(&self) -> HashSet<i64> {
        self.own.values().map(|own| own.number).collect()
    }
}
