//! One connection, and statements that go over it in one round trip.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Error, Row, Statement};

use super::fault::{Fault, is_consequence, unusable};
use super::place::Place;
use super::tls::Tls;
use crate::journal::address::Password;

/// A statement: `{s}` in it stands for the schema.
pub(super) struct Sql {
    pub(super) text: &'static str,
    pub(super) types: &'static [Type],
}

/// A value that a statement is given.
pub(super) type Given<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// A statement and what it is given.
pub(super) struct Step<'a> {
    pub(super) sql: &'static Sql,
    pub(super) given: Vec<Given<'a>>,
}

/// Makes a step.
macro_rules! step {
    ($sql:expr $(, $given:expr)* $(,)?) => {
        Step { sql: &$sql, given: vec![$(Box::new($given) as $crate::journal::postgres::link::Given<'_>),*] }
    };
}
pub(super) use step;

/// What of a transaction is around some steps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    /// All of one.
    Transaction,
    /// Its beginning: it stays open.
    Begin,
    /// Its end.
    Commit,
    /// All of one that only reads, from one snapshot.
    Snapshot,
    /// Nothing: each statement is one, unless one is open.
    Inside,
}

/// How long a session that does nothing in an open transaction is borne with: its process was stopped, and it may keep
/// others from its runs.
pub(super) const IDLE: &str = "2s";

/// How long to wait for a password.
const ASKING: Duration = Duration::from_secs(30);

// Plans must not depend on how large the tables were when a statement was prepared: each statement walks an index.
const SETTINGS: [(&str, &str); 10] = [
    ("search_path", "pg_catalog"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", IDLE),
    ("client_min_messages", "warning"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
];

/// A connection.
pub(super) struct Link {
    client: Client,
    place: Arc<Place>,
    schema: String,
    prepared: RefCell<HashMap<usize, Statement>>,
    // What begins a transaction, with the settings where a pool gives each one another connection.
    begin: String,
    snapshot: String,
    patience: Duration,
    // A commit is here alone: who was to wait for a replica did not.
    is_unconfirmed: Arc<AtomicBool>,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Error>> + 'a>>;

// It is asked on a thread of its own: what gives it may take long, and closing must not wait for it.
async fn password_of(password: &Password, place: &Place) -> Result<String, Fault> {
    let (tell, told) = oneshot::channel();
    let Password(password) = password.clone();
    let asking = thread::Builder::new().name("treadle-password".into()).spawn(move || tell.send(password()));
    asking.map_err(|error| Fault::Lost(format!("no thread to ask for a password: {error}")))?;
    let why = match timeout(ASKING, told).await {
        Ok(Ok(Ok(given))) => return Ok(given),
        Ok(Ok(Err(why))) => why,
        Ok(Err(_)) => "it gave no answer".into(),
        Err(_) => return Err(Fault::Lost(format!("no password within {} s", ASKING.as_secs()))),
    };
    Err(Fault::Broken(unusable(place, format!("asks for a password: {why}"), "see what Engine(password=...) does")))
}

impl Link {
    /// Connects. `notified` gets the payload of each notification.
    pub(super) async fn open(
        place: &Arc<Place>,
        tls: &Tls,
        notified: Option<UnboundedSender<String>>,
    ) -> Result<Self, Fault> {
        let mut server = place.server.clone();
        if let Some(password) = &place.password {
            server.password(password_of(password, place).await?);
        }
        let connecting = server.connect(tls.clone());
        let patience = place.server.get_connect_timeout().copied().unwrap_or(place.patience) * 2;
        let (client, mut connection) = match timeout(patience, connecting).await {
            Ok(connected) => connected.map_err(|error| Fault::of_connecting(&error, place))?,
            Err(_) => return Err(Fault::Lost("no answer while connecting".into())),
        };
        let is_unconfirmed = Arc::new(AtomicBool::new(false));
        let unconfirmed = Arc::clone(&is_unconfirmed);
        let notified = notified.unwrap_or_else(|| unbounded_channel().0);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    AsyncMessage::Notification(said) => drop(notified.send(said.payload().to_owned())),
                    AsyncMessage::Notice(said) if said.routine() == Some("SyncRepWaitForLSN") => {
                        unconfirmed.store(true, Ordering::Release);
                    }
                    _ => {}
                }
            }
        });
        let schema = quoted(&place.schema);
        let mut link = Self {
            client,
            place: Arc::clone(place),
            schema,
            prepared: RefCell::default(),
            begin: "BEGIN".into(),
            snapshot: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".into(),
            patience: place.patience,
            is_unconfirmed,
        };
        link.set_up().await?;
        Ok(link)
    }

    async fn set_up(&mut self) -> Result<(), Fault> {
        let found = self.patiently(self.client.simple_query("SHOW synchronous_commit")).await?;
        let is_asynchronous = found.iter().any(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0) == Some("off"),
            _ => false,
        });
        // What is acknowledged is on disk, whatever the role or the database has for a default.
        let on = is_asynchronous.then_some(("synchronous_commit", "on"));
        let settings = SETTINGS.into_iter().chain(on);
        if self.place.is_prepared {
            let set: String = settings.map(|(name, value)| format!("SET {name} = '{value}';")).collect();
            self.execute(&set).await
        } else {
            let set: String = settings.map(|(name, value)| format!("; SET LOCAL {name} = '{value}'")).collect();
            self.begin += &set;
            self.snapshot += &set;
            Ok(())
        }
    }

    /// Carries out steps in one round trip, in a transaction that may have begun before or go on afterwards. After an
    /// error there is none any more.
    pub(super) async fn run(&self, steps: &[Step<'_>], around: Around) -> Result<Vec<Vec<Row>>, Fault> {
        let statements = self.statements(steps).await?;
        let begin = match around {
            Around::Transaction | Around::Begin => Some(&self.begin),
            // One statement is a transaction.
            Around::Snapshot if steps.len() > 1 || !self.place.is_prepared => Some(&self.snapshot),
            Around::Snapshot | Around::Commit | Around::Inside => None,
        };
        let has_commit = around == Around::Commit || (around != Around::Begin && begin.is_some());
        let mut answers: Vec<Answer<'_>> = Vec::with_capacity(steps.len() + 2);
        answers.extend(begin.map(|begin| self.command(begin)));
        for (step, statement) in steps.iter().zip(&statements) {
            answers.push(self.answer(step, statement.as_ref()));
        }
        if has_commit {
            answers.push(self.command("COMMIT"));
        }
        let answers = self.patiently(async { Ok(join_all(answers).await) }).await?;
        let mut results = Vec::with_capacity(answers.len());
        let mut failed = None;
        for answer in answers {
            match answer {
                Ok(rows) => results.push(rows),
                Err(error) if is_consequence(&error) => {}
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        if let Some(error) = failed {
            let fault = Fault::of(&error, &self.place);
            if !matches!(fault, Fault::Lost(_)) {
                self.roll_back().await?;
            }
            if matches!(fault, Fault::Again(_)) {
                self.prepared.borrow_mut().clear();
            }
            return Err(fault);
        }
        if has_commit && self.is_unconfirmed.load(Ordering::Acquire) {
            return Err(Fault::Lost("no replica has confirmed a commit".into()));
        }
        if begin.is_some() {
            results.remove(0);
        }
        Ok(results)
    }

    /// Ends the transaction; nothing of it is kept.
    pub(super) async fn roll_back(&self) -> Result<(), Fault> {
        // One that has failed or ended is left as well; a warning says no more than that.
        self.execute("ROLLBACK").await
    }

    /// Carries out commands whose results do not matter.
    pub(super) async fn execute(&self, commands: &str) -> Result<(), Fault> {
        self.patiently(self.client.batch_execute(&commands.replace("{s}", &self.schema))).await
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    fn command<'a>(&'a self, command: &'a str) -> Answer<'a> {
        Box::pin(async move { self.client.batch_execute(command).await.map(|()| Vec::new()) })
    }

    fn answer<'a>(&'a self, step: &'a Step<'_>, statement: Option<&'a Statement>) -> Answer<'a> {
        Box::pin(async move {
            match statement {
                Some(statement) => {
                    let given: Vec<_> = step.given.iter().map(|given| &**given as &(dyn ToSql + Sync)).collect();
                    self.client.query(statement, &given).await
                }
                None => {
                    let given = step.given.iter().map(|given| &**given as &(dyn ToSql + Sync));
                    let given: Vec<_> = given.zip(step.sql.types.iter().cloned()).collect();
                    self.client.query_typed(&step.sql.text.replace("{s}", &self.schema), &given).await
                }
            }
        })
    }

    // Prepared before the first of them goes out: otherwise they would not arrive in their order.
    async fn statements(&self, steps: &[Step<'_>]) -> Result<Vec<Option<Statement>>, Fault> {
        let mut statements = Vec::with_capacity(steps.len());
        for step in steps {
            statements.push(if self.place.is_prepared { Some(self.statement(step.sql).await?) } else { None });
        }
        Ok(statements)
    }

    async fn statement(&self, sql: &'static Sql) -> Result<Statement, Fault> {
        let known = self.prepared.borrow().get(&std::ptr::from_ref(sql).addr()).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let text = sql.text.replace("{s}", &self.schema);
        let prepared = self.patiently(self.client.prepare_typed(&text, sql.types)).await?;
        self.prepared.borrow_mut().insert(std::ptr::from_ref(sql).addr(), prepared.clone());
        Ok(prepared)
    }

    // An answer that does not come is lost, however whole the connection seems.
    async fn patiently<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Fault> {
        match timeout(self.patience, answer).await {
            Ok(answer) => answer.map_err(|error| Fault::of(&error, &self.place)),
            Err(_) => Err(Fault::Lost(format!("no answer within {:?}", self.patience))),
        }
    }
}

/// The name of something, however it is written.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
