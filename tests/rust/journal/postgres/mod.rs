//! A schema of its own for each test, and what only the journal in PostgreSQL has to show.

mod faults;
mod opening;
mod place;
mod proxy;

use std::sync::atomic::{AtomicU64, Ordering};

use treadle::journal::postgres::{self, Options, Place};
use treadle::journal::{Journal, OnBatch};

use super::desk::{Desk, PATIENCE, StillClock, Store};

/// A schema that is dropped with it.
pub struct Schema {
    url: String,
    name: String,
    clock: StillClock,
    pub options: Options,
}

/// The server of the tests.
pub fn server() -> String {
    std::env::var("TREADLE_TEST_POSTGRES").expect(
        "TREADLE_TEST_POSTGRES names no server: `make test-postgres`, or `tests/python/postgres_server.py cargo test …`, starts one",
    )
}

impl Schema {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("treadle_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let clock = StillClock::default();
        let options = Options { clock: Some(clock.clock()), hold: Some(PATIENCE), ..Options::default() };
        let schema = Self { url: server(), name, clock, options };
        schema.execute(&format!("DROP SCHEMA IF EXISTS {} CASCADE", schema.name));
        schema
    }

    pub fn url(&self) -> String {
        let sign = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{sign}schema={}", self.url, self.name)
    }

    /// "HOST:PORT" of the server.
    pub fn host_and_port(&self) -> String {
        let authority = self.url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        authority.rsplit('@').next().unwrap_or_default().to_owned()
    }

    pub fn place(&self) -> Place {
        Place::parse(&self.url()).unwrap()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A desk of one that only looks.
    pub fn looking(schema: &Self) -> Desk {
        Looking(schema).open()
    }

    /// Carries out commands; `{s}` in them is the schema.
    pub fn execute(&self, commands: &str) {
        self.query(commands);
    }

    /// The first column of the rows that a command gives.
    pub fn query(&self, command: &str) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let command = command.replace("{s}", &self.name);
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            let messages = client.simple_query(&command).await.unwrap();
            let rows = messages.into_iter().filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
                _ => None,
            });
            rows.collect()
        })
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.execute(&format!("DROP SCHEMA IF EXISTS {} CASCADE", self.name));
        }
    }
}

impl Store for Schema {
    fn open_with(&self, on_batch: OnBatch) -> Box<dyn Journal> {
        postgres::open(&self.place(), &self.options, on_batch).unwrap()
    }

    fn clock(&self) -> &StillClock {
        &self.clock
    }
}

struct Looking<'a>(&'a Schema);

impl Store for Looking<'_> {
    fn open_with(&self, on_batch: OnBatch) -> Box<dyn Journal> {
        let options = Options { only_looks: true, ..self.0.options.clone() };
        postgres::open(&self.0.place(), &options, on_batch).unwrap()
    }
}
