//! Moving runs between journals: carries out what the core's copier asks, in the thread of the caller.

use std::mem;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use pyo3::exceptions::{PyKeyboardInterrupt, PyValueError};
use pyo3::prelude::*;

use super::clock::now;
use super::error;
use super::journal::id;
use super::plan::micros;
use crate::Secrets;
use crate::copy::{Desk, End, News, Side, Which, copy};
use crate::journal::{
    self, Address, Batch, JournalError, KeptSecret, OpIds, OpenOptions, Outbox, Outcome, OwnerId, Request, Sign,
    Signer, Ticket,
};

/// How often a copier looks whether it is interrupted.
const LOOK: Duration = Duration::from_millis(200);

/// About how many bytes are written at once.
const PART: usize = 4 << 20;

/// One of the journals, as one thread uses it.
struct Line {
    journal: Box<dyn journal::Journal>,
    told: Receiver<Batch>,
    outbox: Outbox,
    tickets: Ticket,
}

struct Host {
    from: Line,
    to: Line,
    tell: Py<PyAny>,
    // Until when runs that are executed are waited for.
    until: Instant,
    // What Python has raised: nothing more is done.
    raised: Option<PyErr>,
}

impl Line {
    fn open(py: Python<'_>, url: &str, mut secrets: Vec<Vec<u8>>, is_source: bool) -> PyResult<(Self, Side)> {
        let address = Address::parse(url).map_err(|error| PyValueError::new_err(format!("url: {error}")))?;
        let (tell, told) = channel();
        let on_batch: journal::OnBatch = Box::new(move |batch| drop(tell.send(batch)));
        // What a file was signed with may be beside it, whatever other secrets there are.
        let has_own = is_source && address.path().is_some_and(|path| has_secret_beside(&path));
        let options = OpenOptions { only_looks: false, has_secret: !has_own && !secrets.is_empty(), password: None };
        let opened = py.detach(|| address.open(options, on_batch))?;
        match opened.secret {
            KeptSecret::Secret(secret) => secrets.push(secret.into()),
            KeptSecret::Nothing if secrets.is_empty() => {
                py.detach(|| opened.journal.close());
                return Err(error::secret_needed(address.shown()));
            }
            KeptSecret::Nothing | KeptSecret::Anything => {}
        }
        let owner: [u8; 16] = super::journal::random()?;
        let [a, b, c, d, e, f, g, h, ..] = owner;
        let part = PART.min(opened.journal.limits().commit / 2);
        let side = Side {
            owner: OwnerId(owner),
            signer: Signer { secrets: Secrets::new(secrets)?, sign: Sign::Opaque },
            shown: address.shown().to_owned(),
            part,
            limit: opened.journal.limits().commit,
        };
        let outbox = Outbox::new(micros(60.0), OpIds::new([h, g, f, e, d, c, b, a]));
        Ok((Self { journal: opened.journal, told, outbox, tickets: 0 }, side))
    }

    /// Asks, and waits for the answers; gives up when `stops` says so.
    fn ask(&mut self, requests: Vec<Request>, mut stops: impl FnMut() -> bool) -> Vec<Outcome> {
        let first = self.tickets;
        let count = requests.len();
        for request in requests {
            self.outbox.put(self.tickets, request);
            self.tickets += 1;
        }
        let mut answers: HashMap<Ticket, Outcome> = HashMap::default();
        let mut is_stopped = false;
        while answers.len() < count && !is_stopped {
            let ready = self.outbox.take();
            if !ready.is_empty()
                && let Err(error) = self.journal.submit(ready)
            {
                return vec![Err(error); count];
            }
            let tick = self.outbox.next_tick().map(|at| Duration::from_micros(at.saturating_sub(now())));
            if let Ok(batch) = self.told.recv_timeout(tick.map_or(LOOK, |tick| tick.min(LOOK))) {
                for (ticket, answer) in batch.answers {
                    self.outbox.answered(ticket, answer);
                }
                for (ticket, request, error) in batch.returned {
                    self.outbox.returned(ticket, request, error, now());
                }
            } else {
                is_stopped = stops();
            }
            self.outbox.tick(now());
            answers.extend(self.outbox.answers().into_iter().filter(|(ticket, _)| *ticket >= first));
        }
        let closed = || Err(JournalError::Closed);
        (first..self.tickets).map(|ticket| answers.remove(&ticket).unwrap_or_else(closed)).collect()
    }
}

fn has_secret_beside(database: &Path) -> bool {
    let mut name = database.as_os_str().to_owned();
    name.push(".secret");
    Path::new(&name).exists()
}

impl Host {
    fn is_interrupted(raised: &mut Option<PyErr>) -> bool {
        if raised.is_none() {
            *raised = Python::attach(|py| py.check_signals()).err();
        }
        raised.is_some()
    }
}

impl Desk for Host {
    fn ask(&mut self, end: End, requests: Vec<Request>) -> Vec<Outcome> {
        let releases = requests.iter().any(|request| matches!(request, Request::Release { .. }));
        if Self::is_interrupted(&mut self.raised) && !releases {
            return vec![Err(JournalError::Closed); requests.len()];
        }
        let line = if end == End::From { &mut self.from } else { &mut self.to };
        line.ask(requests, || Self::is_interrupted(&mut self.raised))
    }

    fn now(&mut self) -> u64 {
        now()
    }

    fn waits(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(LOOK));
        !left.is_zero() && !Self::is_interrupted(&mut self.raised)
    }

    fn tell(&mut self, news: News<'_>) {
        let (what, run, why) = match news {
            News::Found(count) => ("found", count.to_string(), String::new()),
            News::Written(run) => ("written", run.to_string(), String::new()),
            News::Moved(run) => ("moved", run.to_string(), String::new()),
            News::Stays(stays) => ("stays", stays.run.to_string(), stays.trouble.to_string()),
        };
        let told = Python::attach(|py| self.tell.call1(py, (what, run, why)).map(drop));
        if let Err(error) = told {
            self.raised.get_or_insert(error);
        }
    }
}

/// Moves runs from one journal to another: the family of `run`, or all. `secrets` are those of the source and of the
/// destination. Runs that are executed are waited for up to `wait` seconds. `tell` is called with "found", "written",
/// "moved" or "stays", a run (or their number), and why. Gives how many are the destination's now, how many were before,
/// and how many stay. Blocks.
#[pyfunction]
#[pyo3(signature = (source, destination, secrets, run, wait, tell))]
pub fn copy_runs(
    py: Python<'_>,
    source: &str,
    destination: &str,
    secrets: (Vec<Vec<u8>>, Vec<Vec<u8>>),
    run: Option<&str>,
    wait: f64,
    tell: Py<PyAny>,
) -> PyResult<(usize, usize, usize)> {
    let which = run.map_or(Ok(Which::All), |run| id(run).map(Which::FamilyOf))?;
    let (from, from_side) = Line::open(py, source, secrets.0, true)?;
    let (to, to_side) = match Line::open(py, destination, secrets.1, false) {
        Ok(opened) => opened,
        Err(error) => {
            py.detach(|| from.journal.close());
            return Err(error);
        }
    };
    let until = Instant::now() + Duration::try_from_secs_f64(wait).unwrap_or(Duration::ZERO);
    let mut host = Host { from, to, tell, until, raised: None };
    let result = py.detach(|| {
        let result = copy(&mut host, from_side, to_side, which);
        host.from.journal.close();
        host.to.journal.close();
        result
    });
    if let Some(raised) = mem::take(&mut host.raised) {
        return Err(raised);
    }
    match result {
        Ok(summary) => Ok((summary.moved, summary.there, summary.stays.len())),
        Err(JournalError::Closed) => Err(PyKeyboardInterrupt::new_err(())),
        Err(error) => Err(error.into()),
    }
}
