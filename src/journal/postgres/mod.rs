//! A journal in PostgreSQL: any number of machines.
//!
//! - [`place`]: where the database is; `tls`: how it is reached safely; `link`: one connection.
//! - `schema`: the tables; what a newer version changes.
//! - `backend`: what waits, in groups, each carried out until it is answered.
//! - `ledger`, `outgoing`, `rows`, `write`: what a group of requests does to runs, worked out from their rows by the rules of all
//!   backends, and written in one round trip.
//! - `owners`, `claim`, `runs`, `ends`, `read`: what is no matter of such a group; `window`: a cursor over numbers that do
//!   not become visible in their order.
//! - `bell`: what others may have to know, and what they tell.
//! - `transaction`: rows of users, and what says that they are written.
//! - `fault`, `chance`: what errors mean, and how long to wait after them.

mod backend;
mod bell;
mod chance;
mod claim;
mod ends;
mod fault;
mod group;
mod history;
mod ledger;
mod link;
mod outgoing;
mod owners;
pub mod place;
mod read;
mod rows;
mod runs;
mod schema;
mod tls;
mod transaction;
mod window;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::JournalError;
use super::lease::Clock;
use super::request::Request;
use super::worker::Worker;
use super::{Address, Journal, KeptSecret, Limits, OnBatch, OpenOptions, Opened, Ticket, Transactions, address};

pub use place::Place;
pub use schema::{VERSION, statements};

/// A value in PostgreSQL has at most 1 GiB, and so has a message to the server.
const LIMITS: Limits = Limits { commit: 900_000_000 };

pub(super) const BACKEND: address::Backend = address::Backend {
    scheme: "postgresql://",
    form: "\"postgresql://USER@HOST/DATABASE\"",
    parameters: &[],
    is_file: false,
    read: Some(|url| Place::parse(url).map(|place| place.to_string()).map_err(|error| error.to_string())),
    has_password: Some(|url| Place::parse(url).is_ok_and(|place| place.has_password())),
    open: open_address,
};

pub(super) const SHORT: address::Backend = address::Backend { scheme: "postgres://", ..BACKEND };

fn open_address(address: &Address, options: OpenOptions, on_batch: OnBatch) -> Result<Opened, JournalError> {
    let wrong = |error: place::BadUrl| JournalError::Unusable {
        place: "the URL".into(),
        why: format!("is none: {error}"),
        remedy: "correct it".into(),
    };
    let place = Place::parse(address.place()).map_err(wrong)?.with_password(options.password);
    let options = Options { only_looks: options.only_looks, ..Options::default() };
    Ok(Opened { journal: open(&place, &options, on_batch)?, secret: KeptSecret::Nothing })
}

/// How to open a journal. The default is what almost everybody wants.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How long to wait for a server that does not answer when the journal is opened; 10 s if not given. Later it is
    /// waited for until the journal is closed.
    pub patience: Option<Duration>,
    /// How long requests are held for a server that is away, before they are given back; 1 s if not given.
    pub hold: Option<Duration>,
    /// Nothing is made or changed.
    pub only_looks: bool,
    /// A clock of leases instead of the server's.
    #[doc(hidden)]
    pub clock: Option<Clock>,
    /// What of the promises is broken, for the tests to show that they see it.
    #[doc(hidden)]
    pub broken: Broken,
}

/// Promises that tests break.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Broken {
    /// None.
    #[default]
    Nothing,
    /// Rows are written whatever others have done to them meanwhile.
    Fence,
}

/// Opens a journal.
///
/// # Errors
/// [`JournalError::Unavailable`] if there is no answer, [`JournalError::Unusable`] if the server refuses, the schema is a
/// newer one, or who only looks finds none.
pub fn open(place: &Place, options: &Options, on_batch: OnBatch) -> Result<Box<dyn Journal>, JournalError> {
    let on_batch = Arc::new(on_batch);
    let closing = Arc::new(AtomicBool::new(false));
    let backend = backend::Postgres::open(place, options, Arc::clone(&on_batch), Arc::clone(&closing))?;
    let transactions = backend.transactions().clone();
    let worker = Worker::start(backend, Box::new(move |batch| on_batch(batch)));
    let worker = worker.map_err(|error| fault::unavailable(place, error.to_string()))?;
    Ok(Box::new(Open { worker, closing, transactions }))
}

// A wait for a server that is away must learn that it is not wanted any longer.
struct Open {
    worker: Worker,
    closing: Arc<AtomicBool>,
    transactions: Transactions,
}

impl Journal for Open {
    fn transactions(&self) -> Option<&Transactions> {
        Some(&self.transactions)
    }

    fn submit(&self, requests: Vec<(Ticket, Request)>) -> Result<(), JournalError> {
        self.worker.submit(requests)
    }

    fn queued_bytes(&self) -> usize {
        self.worker.queued_bytes()
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.worker.close();
    }
}
