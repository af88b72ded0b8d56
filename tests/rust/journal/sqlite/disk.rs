//! A disk that remembers what was written and synced, makes the files that a power cut could have left, and
//! fails when it is told to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// What was done to the disk, or, as a mark, what was acknowledged at that point.
#[derive(Clone, Debug)]
pub enum Op<M = (u64, u64)> {
    Write { file: String, at: usize, bytes: Vec<u8> },
    Truncate { file: String, size: usize },
    Sync { file: String },
    Delete { file: String },
    Mark(M),
}

#[derive(Default)]
pub struct Disk {
    log: Mutex<Vec<Op>>,
    // How many operations succeed before one fails; not below zero while none is to fail.
    left: AtomicI64,
    armed: AtomicBool,
    stays_broken: AtomicBool,
    is_full: AtomicBool,
    failed: AtomicBool,
}

impl Disk {
    pub fn did(&self, op: Op) {
        self.log.lock().unwrap().push(op);
    }

    pub fn log(&self) -> Vec<Op> {
        self.log.lock().unwrap().clone()
    }

    /// From now on so many operations succeed, then one fails, or all that follow.
    pub fn fail_after(&self, count: i64, stays_broken: bool, is_full: bool) {
        self.left.store(count, Ordering::Relaxed);
        self.stays_broken.store(stays_broken, Ordering::Relaxed);
        self.is_full.store(is_full, Ordering::Relaxed);
        self.failed.store(false, Ordering::Relaxed);
        self.armed.store(true, Ordering::Relaxed);
    }

    /// From now on everything succeeds. Whether something had failed.
    pub fn heal(&self) -> bool {
        self.armed.store(false, Ordering::Relaxed);
        self.failed.load(Ordering::Relaxed)
    }

    /// The code with which this operation is to fail, if it is.
    pub fn fault(&self, code: i32) -> Option<i32> {
        if !self.armed.load(Ordering::Relaxed) {
            return None;
        }
        let left = self.left.fetch_sub(1, Ordering::Relaxed);
        let fails = left == 0 || (left < 0 && self.stays_broken.load(Ordering::Relaxed));
        self.failed.fetch_or(fails, Ordering::Relaxed);
        let is_write = code == rusqlite::ffi::SQLITE_IOERR_WRITE;
        let code = if is_write && self.is_full.load(Ordering::Relaxed) { rusqlite::ffi::SQLITE_FULL } else { code };
        fails.then_some(code)
    }
}

/// What becomes of the writes that were not synced when the power is cut.
#[derive(Clone, Copy, Debug)]
pub enum Unsynced {
    Dropped,
    Kept,
    /// Each sector of each write by the throw of a coin.
    Torn(u64),
}

#[derive(Default)]
struct Content {
    durable: Vec<u8>,
    pending: Vec<Op>,
}

/// Writes the files that a power cut after these operations could have left.
pub fn image(log: &[Op], unsynced: Unsynced, directory: &Path) {
    let mut files: BTreeMap<&str, Content> = BTreeMap::new();
    for op in log {
        match op {
            Op::Write { file, .. } | Op::Truncate { file, .. } => {
                files.entry(file).or_default().pending.push(op.clone());
            }
            Op::Sync { file } => {
                let content = files.entry(file).or_default();
                content.pending.drain(..).for_each(|op| apply(&mut content.durable, &op, &mut |_| true));
            }
            Op::Delete { file } => drop(files.remove(file.as_str())),
            Op::Mark(_) => {}
        }
    }
    let mut coin = coin(unsynced);
    for (name, mut content) in files {
        content.pending.iter().for_each(|op| apply(&mut content.durable, op, &mut coin));
        // What processes share while they run is made anew by the next one.
        if !name.ends_with("-shm") {
            std::fs::write(directory.join(name), content.durable).unwrap();
        }
    }
}

const SECTOR: usize = 512;

fn apply(content: &mut Vec<u8>, op: &Op, keeps: &mut dyn FnMut(usize) -> bool) {
    match op {
        Op::Write { at, bytes, .. } => {
            for (index, sector) in bytes.chunks(SECTOR).enumerate().filter(|&(index, _)| keeps(index)) {
                let start = at + index * SECTOR;
                content.resize(content.len().max(start + sector.len()), 0);
                content[start..start + sector.len()].copy_from_slice(sector);
            }
        }
        Op::Truncate { size, .. } if keeps(0) => content.resize(*size, 0),
        _ => {}
    }
}

fn coin(unsynced: Unsynced) -> Box<dyn FnMut(usize) -> bool> {
    match unsynced {
        Unsynced::Dropped => Box::new(|_| false),
        Unsynced::Kept => Box::new(|_| true),
        Unsynced::Torn(seed) => {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            Box::new(move |_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state >> 40 & 1 == 1
            })
        }
    }
}
