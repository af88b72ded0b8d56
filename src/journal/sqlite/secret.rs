//! The file beside the database that holds the key of signatures.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::fault::Fault;
use crate::hex::Hex;
use crate::journal::JournalError;

/// The key of signatures.
pub type Secret = [u8; 32];

/// Where the secret of this database is: `<database>.secret`.
pub fn path(database: &Path) -> PathBuf {
    with_suffix(database, ".secret")
}

/// The secret of this database; made on first use. Processes that make it at the same time get the same.
pub fn secret(database: &Path) -> Result<Secret, JournalError> {
    let path = path(database);
    let failed = |error: io::Error| explain(&path, &error);
    match read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => make(&path).and_then(|()| read(&path)).map_err(failed)?,
        other => other.map_err(failed)?,
    }
}

/// The secret of this database, if there is one.
pub fn secret_if_made(database: &Path) -> Result<Option<Secret>, JournalError> {
    let path = path(database);
    match read(&path) {
        Ok(found) => found.map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::Unreadable(error.to_string()).at(&path)),
    }
}

// The file appears under its name whole or not at all: it is written under another name, and linked. A link is
// never made over a file that is there, so the second process takes the secret of the first.
fn make(path: &Path) -> io::Result<()> {
    let mut random = [0; 40];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let (secret, name) = random.split_at(32);
    let draft = with_suffix(path, &format!(".{}", Hex(name)));
    let written = write(&draft, secret);
    failpoint!("secret.drafted");
    let linked = written.and_then(|()| fs::hard_link(&draft, path));
    failpoint!("secret.linked");
    let removed = fs::remove_file(&draft);
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => removed?,
    }
    sync_directory(path)?;
    failpoint!("secret.made");
    Ok(())
}

fn write(path: &Path, secret: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(secret)?;
    file.sync_all()
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

// The outer error is the system's, the inner one says that the file will not do.
fn read(path: &Path) -> io::Result<Result<Secret, JournalError>> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Ok(Err(Fault::SecretExposed { mode }.at(path)));
        }
    }
    let mut bytes = Vec::new();
    file.take(33).read_to_end(&mut bytes)?;
    let malformed = |_| Fault::SecretMalformed { length: about.len() }.at(path);
    Ok(bytes.try_into().map_err(malformed))
}

pub(super) fn explain(path: &Path, error: &io::Error) -> JournalError {
    let cause = error.to_string();
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Fault::ReadOnly(cause).at(path),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Fault::Full.at(path),
        ErrorKind::IsADirectory => Fault::IsDirectory.at(path),
        ErrorKind::NotFound => Fault::NoDirectory.at(path.parent().unwrap_or(path)),
        _ => Fault::Disk(cause).at(path),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
