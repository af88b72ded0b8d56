//! An archive: a file of one run, which is looked into as a journal is. Nothing is ever written to it.
//!
//! - this file: the file as a journal; `format`: its bytes; `bytes`: what they are made of.

mod bytes;
mod format;

use std::fs;
use std::path::Path;

use super::error::JournalError;
use super::memory::{self, MemoryStore};
use super::reply::{DeadLetter, Entry, RunRow};
use super::worker::{Away, Backend, Worker};
use super::{Address, KeptSecret, Limits, News, OnBatch, OpenOptions, Opened, Outcome, Request, address};
use crate::error::FormatError;

/// The newest version of the format: the one that is written.
pub const VERSION: u16 = format::VERSION;

pub(super) const BACKEND: address::Backend = address::Backend {
    scheme: "archive:///",
    form: "\"archive:///PATH\"",
    parameters: &[],
    is_file: true,
    read: None,
    has_password: None,
    open: open_address,
};

/// A checkpoint, with the number of the last record that it stands for, and the records behind it.
pub type Part = (Option<(u64, Vec<u8>)>, Vec<Vec<u8>>);

/// All that a journal has of a run. Signatures are those of the journal, and nothing here checks them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The run. The names of its operations are not part of a file.
    pub run: RunRow,
    /// Its result or its error, if it is over.
    pub outcome: Option<Vec<u8>>,
    /// Its history, in order: each part begins where the one before it ends.
    pub parts: Vec<Part>,
    /// What is kept of its stream, with the numbers.
    pub stream: Vec<(u64, Vec<u8>)>,
    /// Messages that no process has taken.
    pub inbox: Vec<Entry>,
    /// Messages that could not be delivered.
    pub dead_letters: Vec<DeadLetter>,
}

impl Archive {
    /// The bytes of a file.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] if it is not what a journal can have of a run.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        format::encode(self)
    }

    /// Reads the bytes of a file. They may come from anywhere: no more memory is taken than they have bytes, but for a
    /// constant factor.
    ///
    /// # Errors
    /// A [`FormatError`] if they are no archive.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        format::decode(bytes)
    }
}

fn open_address(address: &Address, options: OpenOptions, on_batch: OnBatch) -> Result<Opened, JournalError> {
    let path = address.path().unwrap_or_default();
    if !options.only_looks {
        return Err(read_only(&path));
    }
    let archive = read(&path)?;
    let store = MemoryStore::of_archive(archive);
    let worker = Worker::start(File { store, place: path.clone().into_os_string() }, on_batch);
    let journal = worker.map_err(|error| unusable(&path, format!("cannot be used: {error}"), "try again"))?;
    Ok(Opened { journal: Box::new(journal), secret: KeptSecret::Nothing })
}

fn read(path: &Path) -> Result<Archive, JournalError> {
    let bytes = fs::read(path)
        .map_err(|error| unusable(path, format!("cannot be read: {error}"), "the file must be readable"))?;
    Archive::decode(&bytes).map_err(|error| {
        let remedy = match error {
            FormatError::UnknownVersion { .. } => "upgrade treadle",
            _ => "export the run again",
        };
        unusable(path, format!("is no archive that can be read: {error}"), remedy)
    })
}

fn unusable(path: &Path, why: String, remedy: &str) -> JournalError {
    JournalError::Unusable { place: path.display().to_string(), why, remedy: remedy.into() }
}

fn read_only(path: &Path) -> JournalError {
    let why = "is an archive of a run, which is only looked into".into();
    unusable(path, why, "the run itself is in the journal that it was exported from")
}

struct File {
    store: MemoryStore,
    place: std::ffi::OsString,
}

impl Backend for File {
    fn carry_out(&mut self, requests: Vec<Request>) -> Result<Vec<Outcome>, Away> {
        let answer = |request: Request| match request.only_reads() {
            true => self.store.carry_out(request),
            false => Err(read_only(Path::new(&self.place))),
        };
        Ok(requests.into_iter().map(answer).collect())
    }

    fn limits() -> Limits {
        memory::LIMITS
    }

    fn news(&mut self) -> News {
        News::default()
    }
}
