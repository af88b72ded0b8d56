//! The names of the failpoints, and dying at one of them.

use std::env::{self, VarError};
use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names the failpoint at which to die, and optionally the passing: `journal.before_commit:3`.
pub const VARIABLE: &str = "TREADLE_FAILPOINT";

/// All of them. What a test must reach is what is listed here.
pub const NAMES: [&str; 68] = [
    // The file is opened.
    "journal.connected",
    "journal.set_up",
    "journal.schema_made",
    "journal.schema_committed",
    "lock.file_made",
    "secret.drafted",
    "secret.linked",
    "secret.made",
    // Requests, from their queue to their answers.
    "journal.queued",
    "journal.batch_taken",
    "journal.transaction_begun",
    "journal.before_commit",
    "journal.after_commit",
    "journal.batch_told",
    "journal.before_wal_checkpoint",
    "journal.after_wal_checkpoint",
    "loop.answers_taken",
    // What transactions consist of.
    "journal.enlisted",
    "journal.lease_renewed",
    "journal.released",
    "journal.leases_lapsed",
    "journal.run_claimed",
    "journal.runs_freed",
    "journal.run_inserted",
    "journal.history_kept",
    "journal.log_folded",
    "journal.log_written",
    "journal.stream_written",
    "journal.run_updated",
    "journal.run_moved",
    "journal.run_reopened",
    "journal.end_noted",
    "journal.message_inserted",
    "journal.child_inserted",
    "journal.other_told",
    "journal.entry_consumed",
    "journal.run_deleted",
    "journal.run_pruned",
    "journal.run_forgotten_in_part",
    // What a run hands over, and is told.
    "run.made",
    "run.going_on",
    "run.gone_on",
    "run.entry_taken",
    "run.memo_told",
    "run.child_made",
    "run.child_begun",
    "run.child_ended",
    "run.before_flush",
    "run.flushed",
    "run.commit_told",
    "run.gap_left",
    "run.before_end",
    "run.end_handed_over",
    "run.end_told",
    // The engine is closed.
    "run.let_go",
    "journal.closing",
    "journal.closed",
    // A run moves to another journal.
    "copy.run_taken",
    "copy.taken",
    "copy.begun",
    "copy.part_written",
    "copy.sent",
    "copy.written",
    "copy.run_left",
    "copy.left",
    "copy.told",
    "copy.run_removed",
    "copy.removed",
];

/// A value of [`VARIABLE`] that names no passing of a failpoint.
#[derive(Debug)]
pub struct NoSuchFailpoint(String);

impl fmt::Display for NoSuchFailpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VARIABLE}={:?} names no passing of a failpoint, such as \"{}:1\"", self.0, NAMES[0])
    }
}

impl std::error::Error for NoSuchFailpoint {}

#[derive(Clone, Copy)]
struct Fatal {
    number: usize,
    passing: u64,
}

static FATAL: OnceLock<Option<Fatal>> = OnceLock::new();
static PASSED: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

/// Reads where to die. Until then every failpoint is passed unnoticed.
pub fn arm() -> Result<(), NoSuchFailpoint> {
    let fatal = match env::var(VARIABLE) {
        Ok(value) => Some(parse(&value).ok_or(NoSuchFailpoint(value))?),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(value)) => return Err(NoSuchFailpoint(value.to_string_lossy().into())),
    };
    let _ = FATAL.set(fatal);
    Ok(())
}

fn parse(value: &str) -> Option<Fatal> {
    let (name, passing) = value.split_once(':').unwrap_or((value, "1"));
    let number = NAMES.iter().position(|known| *known == name)?;
    let passing = passing.parse().ok().filter(|&passing| passing > 0)?;
    Some(Fatal { number, passing })
}

/// How often each was passed.
pub fn passed() -> impl Iterator<Item = (&'static str, u64)> {
    NAMES.into_iter().zip(PASSED.iter().map(|count| count.load(Ordering::Relaxed)))
}

/// The place of a name in the list. It is evaluated at compile time, so that no failpoint can be missing there.
pub(crate) const fn number(name: &str) -> usize {
    let mut number = 0;
    while number < NAMES.len() {
        if is_same(NAMES[number].as_bytes(), name.as_bytes()) {
            return number;
        }
        number += 1;
    }
    panic!("this failpoint is not in the list");
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

pub(crate) fn pass(number: usize) {
    let passing = PASSED[number].fetch_add(1, Ordering::Relaxed) + 1;
    if let Some(Some(fatal)) = FATAL.get()
        && (fatal.number, fatal.passing) == (number, passing)
    {
        die(NAMES[number], passing);
    }
}

fn die(name: &str, passing: u64) -> ! {
    // The parent of the process can tell by this that it died here, and nowhere else. Other threads write as well, so
    // that it must be one write.
    let said = io::stderr().write_all(format!("failpoint {name}:{passing}\n").as_bytes());
    let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    unreachable!("a process that killed itself goes on: {said:?}, {killed:?}");
}
