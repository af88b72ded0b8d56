//! Transactions of a step: `Context.transaction`. The statements are the journal's; the package carries them out over the
//! user's connection.

use bytes::Bytes;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use sha2::{Digest as _, Sha256};

use super::context::Context;
use super::convert::{decode, encode};
use super::digest::arguments_digest;
use super::error::{self, classes};
use super::journal::Journal;
use super::memo::{self, MemoBegun, MemoWaiter};
use super::run::Run;
use super::stored::{ToBytes, ToObjects};
use crate::hex::{Hex, from_hex};
use crate::journal::transaction::WHICH;
use crate::journal::{Digest, JournalError, Sign, Slot, Transactions, entry};
use crate::writer::Occurrence;
use crate::{Body, EncodedEvent, RunId};

const RESULT: &str = "result";

/// A transaction that is to be carried out, unless the database has what it gave.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct TransactionBegun {
    memo: Py<MemoBegun>,
    name: String,
    journal: Py<Journal>,
    run: RunId,
    epoch: u64,
    call: Digest,
}

#[pymethods]
impl Context {
    /// Carries out a transaction once: `treadle.transactions.transaction_in`, bound to this context.
    #[getter]
    fn transaction<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static TRANSACTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let function = TRANSACTION.import(slf.py(), "treadle.transactions", "transaction_in")?;
        function.call_method1(intern!(slf.py(), "__get__"), (slf,))
    }

    /// Begins a transaction: gives a `TransactionBegun` if it is to be carried out, else whether it gave a result, and
    /// that.
    fn _begin_transaction<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        keywords: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let Ok(name) = name.cast::<PyString>() else { return Err(memo::not_a_name("transaction", name)) };
        let name = name.to_str()?;
        let (journal, run, epoch) = place(slf, name)?;
        let arguments = arguments_digest(args, keywords)?;
        let slot = slf.get().slot;
        let occurrence = slf.get().state()?.core.transaction(slot, name, &arguments);
        let occurrence = occurrence.map_err(|refused| memo::refused(slf, &refused))?;
        let begun = memo::begin(slf, name, &arguments)?;
        let Ok(memo) = begun.cast::<MemoBegun>() else { return Ok(begun) };
        let mut hash = Sha256::new();
        hash.update(slot.seq().to_le_bytes());
        hash.update(occurrence.to_le_bytes());
        hash.update(arguments);
        hash.update(name.as_bytes());
        let memo = memo.clone().unbind();
        let begun = TransactionBegun { memo, name: name.into(), journal, run, epoch, call: hash.finalize().into() };
        Ok(Bound::new(py, begun)?.into_any())
    }
}

/// Where the run is written, if transactions can be carried out there.
fn place(context: &Bound<'_, Context>, name: &str) -> PyResult<(Py<Journal>, RunId, u64)> {
    let py = context.py();
    let found = {
        let state = context.get().state()?;
        let durable = state.durable.as_ref();
        durable.map(|durable| (durable.journal.clone_ref(py), state.core.id(), durable.writer.epoch()))
    };
    let why = match &found {
        Some((journal, ..)) if journal.get().transactions().is_some() => None,
        Some(_) => Some("its journal is not in PostgreSQL"),
        None => Some("it has no journal"),
    };
    match (found, why) {
        (Some(found), None) => Ok(found),
        (_, why) => Err(classes::TransactionError::new_err(format!(
            "{}: {}, so that no transaction of a database can hold rows of yours and what the run has done; use an \
             Engine on that PostgreSQL database, or `ctx.once` with a function that bears to be called twice \
             (ctx.idempotency_key)",
            memo::described(context.get(), "transaction", name),
            why.unwrap_or_default()
        ))),
    }
}

#[pymethods]
impl TransactionBegun {
    /// The memo that keeps what the transaction gives.
    #[getter]
    fn memo(&self, py: Python<'_>) -> Py<MemoBegun> {
        self.memo.clone_ref(py)
    }

    /// The transaction with its step and its run, for messages.
    #[getter]
    fn title(&self) -> String {
        memo::described(self.memo.get().context.get(), "transaction", &self.name)
    }

    /// The statement that tells which database it is, and what it gives in the journal's.
    #[getter]
    fn which(&self) -> (&'static str, Option<(String, String)>) {
        (WHICH, self.transactions().database.clone())
    }

    /// How the URL of the journal is shown.
    #[getter]
    fn journal(&self) -> String {
        self.transactions().shown.clone()
    }

    /// The first statement and its parameters.
    fn begin(&self) -> (&str, [String; 3]) {
        (&self.transactions().begin, [self.owner(), self.run.to_string(), Hex(&self.call).to_string()])
    }

    /// The last statement and its parameters: what is written if the transaction gave `value`. `id` is the
    /// transaction's.
    fn finish(&self, value: &Bound<'_, PyAny>, id: String) -> PyResult<(&str, [String; 6])> {
        let (call, result) = (Hex(&self.call).to_string(), Hex(&self.encode(value)?).to_string());
        let parameters = [self.owner(), self.run.to_string(), self.epoch.to_string(), id, call, result];
        Ok((&self.transactions().finish, parameters))
    }

    /// What the transaction gave before, as the database has it.
    fn given<'py>(&self, py: Python<'py>, result: &str) -> PyResult<Bound<'py, PyAny>> {
        let bytes: Bytes = from_hex(result).ok_or_else(|| error::internal(&"the database gave no digits"))?.into();
        let signer = &self.journal.get().signer;
        let slot = Slot::Transaction { call: self.call };
        let event = entry::decode(self.run, &slot, bytes, &signer.secrets, signer.sign == Sign::All)?;
        let Body::Whole(value) = event.body else { return Err(error::internal(&"a transaction gave no value")) };
        let classes = PyDict::new(py);
        decode(py, &self.title(), &ToObjects::new(&classes).stored_value(value)?)
    }

    /// A future that is done when all that the run has done is on disk; nothing if it is.
    fn written<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let context = self.memo.get().context.bind(py);
        let Some(waiter) = self.memo.get().waiter(context, None)? else { return Ok(None) };
        let MemoWaiter::Loop(waker) = &waiter else { return Ok(None) };
        let future = waker.future.bind(py).clone();
        {
            let mut state = context.get().state()?;
            let recorded = state.core.recorded();
            if state.durable.as_ref().is_none_or(|durable| durable.writer.written() >= recorded) {
                return Ok(None);
            }
            state.memo_waiters.make().push((recorded, waiter));
        }
        Run::mark(context.get().run.bind(py), Occurrence::Memo)?;
        Ok(Some(future))
    }

    /// Another process has the run: it stops here. Gives the error.
    fn lose<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let lost: PyErr = JournalError::Conflict(self.run).into();
        let run = self.memo.get().context.get().run.bind(py);
        Run::lose_journal(run, lost.clone_ref(py))?;
        Ok(lost.into_value(py).into_bound(py).into_any())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.memo)?;
        visit.call(&self.journal)
    }
}

impl TransactionBegun {
    fn transactions(&self) -> &Transactions {
        self.journal.get().transactions().expect("it was asked when the transaction began")
    }

    fn owner(&self) -> String {
        self.journal.get().owner.to_string()
    }

    fn encode(&self, value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
        let py = value.py();
        let stored = encode(&self.name, value)
            .map_err(|cause| error::unstorable_memo(py, &self.title(), &value.get_type(), cause))?;
        let signer = &self.journal.get().signer;
        let body = Body::Whole(ToBytes::new(py).value(&stored)?);
        let event = EncodedEvent { class: RESULT.into(), body };
        let slot = Slot::Transaction { call: self.call };
        Ok(entry::encode(self.run, &slot, &event, &signer.secrets, signer.sign == Sign::All)?)
    }
}
