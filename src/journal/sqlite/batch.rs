//! One transaction for everything that waits.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::failure::{Failure, explain, is_busy};
use super::machine::Machine;
use super::{LIMITS, Sqlite, commits, copying, ends, history, inbox, owners, read, runs};
use crate::journal::worker::{Away, Backend};
use crate::journal::{JournalError, Limits, News, Outcome, Reply, Request};

/// After about how many pages the length of the log is looked at: that takes as long as a small request.
const LOOK_EVERY: usize = 128;

pub(super) type Answer = Result<Reply, Failure>;

impl Backend for Sqlite {
    fn carry_out(&mut self, requests: Vec<Request>) -> Result<Vec<Outcome>, Away> {
        let error = match &self.failed {
            Some(cause) => JournalError::Failed { cause: cause.clone().into() },
            None => match self.take_locks(&requests).and_then(|()| self.transact(&requests)) {
                Ok(answers) => {
                    self.let_go_of_locks(&requests);
                    return Ok(answers);
                }
                Err(error) => error,
            },
        };
        if error.is_transient() { Err(Away(requests, error)) } else { Ok(vec![Err(error); requests.len()]) }
    }

    fn limits() -> Limits {
        LIMITS
    }

    fn news(&mut self) -> News {
        if self.failed.is_some() {
            return News::default();
        }
        if let Err(gone) = self.files.check() {
            self.stop(gone);
            return News::default();
        }
        self.look().unwrap_or_else(|error| {
            self.fail(&error);
            News::default()
        })
    }

    // The answers are out: the next commit waits for the checkpoint, but none that was made.
    fn tidy(&mut self) {
        if self.failed.is_none()
            && let Err(error) = self.checkpoint()
        {
            self.fail(&error);
        }
    }
}

impl Sqlite {
    // Nothing of a transaction is acknowledged before all of it is on disk.
    fn transact(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, JournalError> {
        // IMMEDIATE: a transaction that turned from reading to writing could find that it has read old data.
        self.unlooked += requests.iter().map(|request| 1 + request.bytes() / 4096).sum::<usize>();
        let begin = if requests.iter().any(is_write) { "BEGIN IMMEDIATE" } else { "BEGIN" };
        let result = self.execute(begin).and_then(|()| {
            failpoint!("journal.transaction_begun");
            let answers = requests.iter().map(|request| self.answer(request)).collect::<rusqlite::Result<_>>()?;
            failpoint!("journal.before_commit");
            self.execute("COMMIT")?;
            failpoint!("journal.after_commit");
            Ok(answers)
        });
        let answers = result.map_err(|error| self.fail(&error))?;
        // What is written into a file without a name is not safe.
        self.files.check().map_err(|gone| self.stop(gone))?;
        Ok(answers)
    }

    // Before anything is known of the process: who looks at its lock must find it.
    fn take_locks(&mut self, requests: &[Request]) -> Result<(), JournalError> {
        for request in requests {
            if let Request::Enlist { owner, .. } = request {
                self.machine.locks.take(*owner)?;
            }
        }
        Ok(())
    }

    fn let_go_of_locks(&mut self, requests: &[Request]) {
        for request in requests {
            if let Request::Release { owner } = request {
                self.machine.locks.let_go(*owner);
            }
        }
    }

    // Whether others have written, or a process has ended that has not handed back its runs. The numbers of the last
    // entry and of the last end say what they have written; those of this process are among them.
    fn look(&mut self) -> rusqlite::Result<News> {
        let version = self.data_version()?;
        let has_changed = version != std::mem::replace(&mut self.seen, version);
        let mut news = News { work: has_changed, other: has_changed, ..News::default() };
        if has_changed {
            let last = self.last_numbers()?;
            let seen = std::mem::replace(&mut self.last, last);
            (news.inbox, news.ends) = (last.0 != seen.0, last.1 != seen.1);
            self.others = owners::leases(&self.connection)?.into_iter().map(|(owner, _)| owner).collect();
        }
        // Each is told of once: it is not known here when another process has claimed its runs.
        let before = self.others.len();
        self.others.retain(|&owner| !self.machine.locks.has_ended(owner));
        news.work |= self.others.len() < before;
        Ok(news)
    }

    pub(super) fn last_numbers(&self) -> rusqlite::Result<(u64, u64)> {
        Ok((inbox::last_number(&self.connection)?, ends::last_number(&self.connection)?))
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    // A request that was refused has written nothing, so the others of the transaction go on.
    fn answer(&self, request: &Request) -> rusqlite::Result<Outcome> {
        match carry_out(&self.connection, &self.machine, request) {
            Ok(reply) => Ok(Ok(reply)),
            Err(Failure::Refused(error)) => Ok(Err(error)),
            Err(Failure::Broken(error)) => Err(error),
        }
    }

    // A lock that was not had has broken nothing. After anything else it is unknown what is on the disk.
    fn fail(&mut self, error: &rusqlite::Error) -> JournalError {
        let explained = explain(&self.path, error);
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        if is_busy(error) { explained } else { self.stop(explained) }
    }

    fn stop(&mut self, cause: JournalError) -> JournalError {
        self.failed = Some(cause.clone());
        self.leave_the_log();
        cause
    }

    // What failed to be written once is left to the process that opens the file next. And a log at a path where another database
    // was made meanwhile is not this one's to remove.
    pub(super) fn leave_the_log(&self) {
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }

    pub(super) fn data_version(&self) -> rusqlite::Result<i64> {
        self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
    }

    fn checkpoint(&mut self) -> rusqlite::Result<()> {
        if self.unlooked < LOOK_EVERY.min(self.wal_pages as usize) {
            return Ok(());
        }
        self.unlooked = 0;
        let state = |row: &rusqlite::Row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (pages, copied) = self.connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], state)?;
        if pages - copied >= i64::from(self.wal_pages) {
            failpoint!("journal.before_wal_checkpoint");
            self.connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], state)?;
            failpoint!("journal.after_wal_checkpoint");
        }
        Ok(())
    }
}

pub(super) fn is_write(request: &Request) -> bool {
    !request.only_reads()
}

pub(super) fn carry_out(db: &Connection, machine: &Machine, request: &Request) -> Answer {
    match request {
        Request::Enlist { owner, lease } => owners::enlist(db, machine, *owner, *lease),
        Request::Renew { owner, lease } => owners::renew(db, machine, *owner, *lease),
        Request::Release { owner } => owners::release(db, *owner),
        Request::Create { run, owner, commit } => commits::create(db, run, *owner, commit),
        Request::Append { run, epoch, after, commit } => commits::append(db, *run, *epoch, *after, commit),
        Request::Reopen { run, after, owner, commit } => commits::reopen(db, *run, *after, *owner, commit),
        Request::Claim(claim) => owners::claim(db, machine, claim),
        Request::Refuse { run, epoch, refusal, now } => owners::refuse(db, *run, *epoch, refusal, *now),
        Request::Ends { after, limit } => ends::after(db, after.as_ref(), *limit),
        Request::DeadLetters { run } => inbox::dead_letters(db, *run),
        Request::Redeliver { run } => inbox::redeliver(db, *run),
        Request::NextDue { owner, workflows } => owners::next_due(db, machine, *owner, workflows),
        Request::Send { run, message, now } => inbox::send(db, *run, message, *now),
        Request::Poll { owner, after, limit } => inbox::poll(db, *owner, after, *limit),
        Request::Load { runs } => read::load_all(db, runs),
        Request::Get { run } => read::get(db, *run),
        Request::List { filter } => read::list(db, filter),
        Request::Records { run, after, limit } => read::records(db, *run, *after, *limit),
        Request::Segment { run, at } => history::segment(db, *run, *at),
        Request::ReadStream { run, after, limit } => read::stream(db, *run, *after, *limit),
        Request::Take { run, owner, op } => copying::take(db, *run, *owner, *op),
        Request::Leave { run, epoch, seen } => copying::leave(db, *run, *epoch, *seen),
        Request::Remove { run, epoch, seen } => copying::remove(db, *run, *epoch, *seen),
        Request::Traces { run } => copying::traces(db, *run),
        Request::Delete { run } => runs::delete(db, *run),
        Request::Prune { finished_before, limit } => runs::prune(db, *finished_before, *limit),
    }
}
