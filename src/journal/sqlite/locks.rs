//! A lock for each process, in a file of its own: the system lets go of it when the process ends, however it ends.
//!
//! They are beside the database, in the directory `<database>-owners`, and not SQLite's: closing any file that is
//! open for a database drops SQLite's own locks on it. A lock that cannot be seen, since its file is gone or cannot be
//! read, says nothing: then the lease alone decides.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::journal::{JournalError, OwnerId};

/// How long to wait for those who look at a lock, which takes them microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The locks of a database, those of this process and of others.
pub(super) struct Locks {
    directory: PathBuf,
    held: HashMap<OwnerId, Held>,
}

// Shared with the list of those that a forked child must close.
type Held = Arc<Mutex<Option<File>>>;

static ALL_HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());

impl Locks {
    /// The locks beside a database.
    pub(super) fn beside(database: &Path) -> Self {
        let mut name = OsString::from(database);
        name.push("-owners");
        Self { directory: name.into(), held: HashMap::new() }
    }

    /// Takes the lock of an owner that is this process, before anything is known of it. Where the file system has no
    /// locks there is none.
    pub(super) fn take(&mut self, owner: OwnerId) -> Result<(), JournalError> {
        if self.held.contains_key(&owner) {
            return Ok(());
        }
        let path = self.path(owner);
        match self.locked(&path) {
            Ok(Some(file)) => {
                let held = Arc::new(Mutex::new(Some(file)));
                if let Ok(mut all) = ALL_HELD.lock() {
                    all.push(Arc::clone(&held));
                }
                self.held.insert(owner, held);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => Err(super::secret::explain(&path, &error)),
        }
    }

    // A file that others took for a left-over before it was locked is made anew.
    fn locked(&self, path: &Path) -> io::Result<Option<File>> {
        let began = Instant::now();
        loop {
            match fs::create_dir(&self.directory) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let file = match OpenOptions::new().write(true).create(true).truncate(false).open(path) {
                // The process that released the last lock has removed the directory.
                Err(error) if error.kind() == ErrorKind::NotFound && began.elapsed() < PATIENCE => continue,
                file => file?,
            };
            failpoint!("lock.file_made");
            match file.try_lock() {
                Ok(()) if is_at(&file, path)? => return Ok(Some(file)),
                Ok(()) | Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(()) | Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
                Err(TryLockError::Error(error)) if has_no_locks(&error) => {
                    drop(file);
                    self.remove(path);
                    return Ok(None);
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Lets go of the lock of an owner that has handed back its runs.
    pub(super) fn let_go(&mut self, owner: OwnerId) {
        if let Some(held) = self.held.remove(&owner) {
            // Removed before it is released, so that no process sees a lock of one that has ended.
            self.remove(&self.path(owner));
            forget(&held);
        }
    }

    /// Whether the process is known to have ended.
    pub(super) fn has_ended(&self, owner: OwnerId) -> bool {
        !self.held.contains_key(&owner) && is_free(&self.path(owner))
    }

    /// Removes the files of processes that have ended, unless the journal still knows them.
    pub(super) fn tidy(&self, is_known: impl Fn(OwnerId) -> bool) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if named(&path).is_some_and(|owner| !is_known(owner) && !self.held.contains_key(&owner)) {
                self.remove_left_over(&path);
            }
        }
    }

    // Only who has the lock removes the file, so that it is never the one that a new owner has just made.
    fn remove_left_over(&self, path: &Path) {
        let Ok(file) = File::open(path) else { return };
        if file.try_lock().is_ok() && is_at(&file, path).unwrap_or(false) {
            self.remove(path);
        }
    }

    // A file that stays behind does no harm.
    fn remove(&self, path: &Path) {
        let _ = fs::remove_file(path);
        let _ = fs::remove_dir(&self.directory);
    }

    fn path(&self, owner: OwnerId) -> PathBuf {
        self.directory.join(owner.to_string())
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        // The files stay: what is seen of a lock that is free tells others that they can go on.
        self.held.drain().for_each(|(_, held)| forget(&held));
    }
}

fn forget(held: &Held) {
    if let Ok(mut all) = ALL_HELD.lock() {
        all.retain(|other| !Arc::ptr_eq(other, held));
    }
    if let Ok(mut file) = held.lock() {
        *file = None;
    }
}

/// Closes the locks that a forked child has from its parent: they would outlive the parent, and others would take it
/// to live. Closing a copy lets go of no lock.
pub fn close_in_forked_child() {
    // A thread of the parent may have had a list locked. Then its lease tells that the parent has ended.
    let Ok(mut all) = ALL_HELD.try_lock() else { return };
    for held in all.drain(..) {
        if let Ok(mut file) = held.try_lock() {
            *file = None;
        }
    }
}

// Looked at with a shared lock, so that those who look do not take one another for the owner.
fn is_free(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock_shared().is_ok())
}

fn named(path: &Path) -> Option<OwnerId> {
    let name = path.file_name()?.to_str()?;
    let number = u128::from_str_radix(name, 16).ok()?;
    Some(OwnerId(number.to_be_bytes())).filter(|owner| owner.to_string() == name)
}

fn has_no_locks(error: &io::Error) -> bool {
    // ENOSYS, EOPNOTSUPP and what the standard library says where there is no such call; ENOLCK of a network file
    // system without its lock service has no kind of its own.
    error.kind() == ErrorKind::Unsupported || error.raw_os_error() == Some(NO_LOCKS)
}

// ENOLCK
#[cfg(target_os = "linux")]
const NO_LOCKS: i32 = 37;
#[cfg(not(target_os = "linux"))]
const NO_LOCKS: i32 = 77;

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let mine = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (mine.dev(), mine.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

// Elsewhere a file that is open cannot be removed.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> io::Result<bool> {
    Ok(true)
}
