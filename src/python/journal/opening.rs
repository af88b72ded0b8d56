//! The journal of a URL.

use std::mem::ManuallyDrop;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::Journal;
use super::mailbox::{LEAST_AT_ONCE, Mailbox, Pace};
use crate::Secrets;
use crate::journal::{self, Address, KeptSecret, OpIds, OpenOptions, Outbox, OwnerId, Sign, Signer};
use crate::python::lifecycle::some_observers;
use crate::python::plan::micros;
use crate::python::{clock, error, password};
use crate::writer::Durability;

#[pymethods]
impl Journal {
    /// Opens a journal by its URL, for a host: who listens to it, and the event loop. With `only_looks` nothing is made or changed. `signing` says which
    /// secrets there are, and whether all is signed. `password` is asked for one for each
    /// connection. What a journal that is away has not taken for `patience` is given up. It blocks while another process has a file locked, so it is for a
    /// thread of its own.
    #[new]
    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (url, signing, *, patience, is_pipelined, keeps_history, only_looks, host, password = None))]
    fn new(
        py: Python<'_>,
        url: &str,
        signing: (Vec<Vec<u8>>, bool),
        patience: f64,
        is_pipelined: bool,
        keeps_history: bool,
        only_looks: bool,
        host: (Py<PyAny>, Py<PyAny>, Option<Bound<'_, PyTuple>>),
        password: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let (mut secrets, signs_all) = signing;
        let (listener, event_loop, observers) = host;
        let address = address(url)?;
        let (bell, ears) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ears.set_nonblocking(true)?;
        let mailbox = Arc::new(Mailbox { batches: Mutex::default(), is_rung: AtomicBool::new(false), bell });
        let post = Arc::clone(&mailbox);
        let on_batch: journal::OnBatch = Box::new(move |batch| post.put(batch));
        let password = password.map(|function| password::source(py, function)).transpose()?;
        let options = OpenOptions { only_looks, has_secret: !secrets.is_empty(), password };
        let opened = py.detach(|| address.open(options, on_batch))?;
        match opened.secret {
            KeptSecret::Secret(secret) => secrets.push(secret.into()),
            KeptSecret::Anything if secrets.is_empty() => secrets.push(random::<32>()?.into()),
            KeptSecret::Nothing if secrets.is_empty() && !only_looks => {
                py.detach(|| opened.journal.close());
                return Err(error::secret_needed(address.shown()));
            }
            KeptSecret::Anything | KeptSecret::Nothing => {}
        }
        let owner = random::<16>()?;
        let [a, b, c, d, e, f, g, h, ..] = owner;
        let outbox = Outbox::new(micros(patience), OpIds::new([a, b, c, d, e, f, g, h]));
        let outbox = outbox.that_keeps_history(keeps_history);
        Ok(Self {
            backend: ManuallyDrop::new(opened.journal),
            mailbox,
            ears,
            event_loop,
            asked: Mutex::default(),
            outbox: Mutex::new(outbox),
            timer: Mutex::default(),
            answers: Mutex::default(),
            pace: Mutex::new(Pace { at_once: 4 * LEAST_AT_ONCE, handed_on: None }),
            tickets: AtomicU64::new(1),
            watched: Mutex::default(),
            listener,
            owner: OwnerId(owner),
            signer: Signer { secrets: Secrets::new(secrets)?, sign: if signs_all { Sign::All } else { Sign::Opaque } },
            observers: some_observers(observers),
            durability: if is_pipelined { Durability::Pipelined } else { Durability::Step },
            only_looks,
            tells_waits: AtomicBool::new(false),
            forks: clock::forks(),
            process: std::process::id(),
        })
    }
}

fn address(url: &str) -> PyResult<Address> {
    Address::parse(url).map_err(|error| PyValueError::new_err(format!("url: {error}")))
}

/// Checks the URL of a journal: the path of the file that it is in, if it is in one.
#[pyfunction]
pub fn journal_path(url: &str) -> PyResult<Option<PathBuf>> {
    Ok(address(url)?.path())
}

/// Refuses passwords that are given apart from the URL of a journal, if it asks for none or has one.
#[pyfunction]
pub fn journal_takes_password(url: &str) -> PyResult<()> {
    address(url)?.takes_password().map_err(|error| PyValueError::new_err(format!("password: {error}")))
}

/// Checks the URL of a journal: how it is shown, without user and password.
#[pyfunction]
pub fn journal_shown(url: &str) -> PyResult<String> {
    Ok(address(url)?.shown().to_owned())
}

/// The statements that lead from a version of the tables in PostgreSQL, 0 for none, to the newest one.
#[pyfunction]
pub fn postgres_statements(schema: &str, since: i64) -> String {
    journal::postgres::statements(schema, since)
}

pub fn random<const N: usize>() -> PyResult<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| PyOSError::new_err(error.to_string()))?;
    Ok(bytes)
}
