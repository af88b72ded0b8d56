//! Whether the files that are open are still those at their paths.
//!
//! A file that was removed or moved away can be written as long as it is open, and nothing of it is found
//! afterwards. And a process that makes a new database at the old path has a new log there, which must not be removed when
//! the old one is closed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::fault::Fault;
use crate::journal::JournalError;

/// The files of an open database, as they were when it was opened.
pub(super) struct Files {
    open: Vec<(PathBuf, Identity)>,
}

impl Files {
    /// The files of a database, its log and what its processes share, whichever are there.
    pub(super) fn of(database: &Path) -> Self {
        let paths = ["", "-wal", "-shm"].map(|suffix| {
            let mut name = OsString::from(database);
            name.push(suffix);
            PathBuf::from(name)
        });
        Self { open: paths.into_iter().filter_map(|path| Some((path.clone(), identity(&path)?))).collect() }
    }

    /// Refuses to go on if one of them is no longer at its path.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        match self.open.iter().find(|(path, was)| identity(path).as_ref() != Some(was)) {
            None => Ok(()),
            Some((path, _)) => Err(Fault::Gone.at(path)),
        }
    }
}

#[cfg(unix)]
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    let about = std::fs::metadata(path).ok()?;
    Some((std::os::unix::fs::MetadataExt::dev(&about), std::os::unix::fs::MetadataExt::ino(&about)))
}

// Elsewhere a file that is open can be neither moved nor removed.
#[cfg(not(unix))]
type Identity = ();

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<Identity> {
    path.exists().then_some(())
}
