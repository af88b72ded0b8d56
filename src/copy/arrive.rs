//! What is written of a run at the destination.

use std::mem;

use super::signing::Log;
use super::{Copier, Desk, Done, End, Member, Place, Trouble, unexpected};
use crate::journal::{Arrival, Chain, Commit, Copying, JournalError, Loaded, NewRun, Reply, Request, RunRow};
use crate::run_id::RunId;

const ENTRIES: usize = 256;

/// What a commit takes beside an outcome.
const ROOM: usize = 4096;

impl<D: Desk> Copier<'_, D> {
    /// Writes all of a run, so that no process claims it yet. What an earlier copier has written of it is kept, as far as it
    /// is still so.
    pub(super) fn write(&mut self, member: &mut Member) -> Done {
        let run = member.run;
        if member.has_left {
            member.place = self.resume(run)?;
            return if member.place.is_some() { self.copy_messages(member) } else { self.forward(member) };
        }
        let loaded = self.load(End::From, run)?;
        if self.traces(run)?.transactions > 0 && !loaded.run.is_over() {
            return Err(Trouble::Transactions);
        }
        // What cannot be verified is found before anything is written.
        let mut signs_all = false;
        self.each_part(&loaded, |copier, part| {
            signs_all = copier.sign_log(part, 0)?.signs_all;
            Ok(())
        })?;
        self.check_outcome(run, signs_all)?;
        let (place, published) = self.begin(&loaded.run)?;
        member.place = Some(place);
        failpoint!("copy.begun");
        self.write_stream(member, &loaded.run, published, signs_all)?;
        let mut is_first = true;
        self.each_part(&loaded, |copier, part| {
            let log = copier.sign_log(part, place.epoch)?;
            copier.write_log(member, &loaded.run, log, mem::take(&mut is_first))
        })?;
        self.copy_messages(member)?;
        failpoint!("copy.written");
        Ok(())
    }

    // The parts of a history that is kept, the earliest first; the last is the one that the run goes on with.
    fn each_part(&mut self, last: &Loaded, mut work: impl FnMut(&mut Self, &Loaded) -> Done) -> Done {
        let run = last.run.id;
        let folded = last.checkpoint.as_ref().map_or(0, |&(folded, _)| folded);
        let mut end = 0;
        while end < folded {
            let part = match self.ask(End::From, Request::Segment { run, at: end }) {
                Ok(Reply::Segment(part)) => *part,
                other => return Err(unexpected(other).into()),
            };
            if part.checkpoint.as_ref().is_some_and(|&(begin, _)| begin >= folded) {
                break;
            }
            end = part.end();
            work(self, &part.into_loaded())?;
        }
        work(self, last)
    }

    pub(super) fn load(&mut self, end: End, run: RunId) -> Result<Loaded, JournalError> {
        match self.ask(end, Request::Load { runs: vec![run] }) {
            Ok(Reply::Loaded(mut loaded)) if loaded.len() == 1 => loaded.remove(0).1.map(|loaded| *loaded),
            other => Err(unexpected(other)),
        }
    }

    // Makes the run, or goes on with what is there of it. Gives the number of the last entry of its stream that is there.
    fn begin(&mut self, row: &RunRow) -> Done<(Place, u64)> {
        let new = NewRun {
            id: row.id,
            workflow: row.workflow.clone(),
            key: row.key.clone(),
            input: row.input,
            created: row.created,
            stream_limit: row.stream_limit,
            parent: row.parent,
            root: row.root,
            depth: row.depth,
        };
        let commit = self.commit(row, Arrival::default());
        match self.ask(End::To, Request::Create { run: new, owner: Some(self.to.owner), commit }) {
            Ok(Reply::Created { epoch }) => Ok((Place { epoch, seq: 0 }, 0)),
            Ok(Reply::Exists { id, .. }) if id == row.id => match self.row(End::To, id)?.copying {
                Copying::Arrives => {
                    let there = self.take_at(End::To, id)?;
                    Ok((Place { epoch: there.epoch, seq: there.seq }, there.published))
                }
                Copying::No | Copying::Left => Err(Trouble::Exists),
            },
            Ok(Reply::Exists { id, .. }) => Err(Trouble::Key { key: row.key.clone().unwrap_or_default(), other: id }),
            other => Err(unexpected(other).into()),
        }
    }

    // Goes on with a run that has left; nothing if it is the destination's already.
    fn resume(&mut self, run: RunId) -> Done<Option<Place>> {
        match self.row(End::To, run) {
            Err(JournalError::UnknownRun(_)) => Err(Trouble::Elsewhere),
            Err(error) => Err(error.into()),
            Ok(row) if row.copying == Copying::Arrives => {
                let there = self.take_at(End::To, run)?;
                Ok(Some(Place { epoch: there.epoch, seq: there.seq }))
            }
            Ok(row) if row.copying == Copying::No => Ok(None),
            Ok(_) => Err(Trouble::Elsewhere),
        }
    }

    fn commit(&self, row: &RunRow, arrival: Arrival) -> Commit {
        let text = format!("it is being copied from {}: run the command again to finish that", self.from.shown);
        let arrival = Arrival { reason: Some(text), ..arrival };
        Commit { at: row.updated, arrival: Some(Box::new(arrival)), ..Commit::default() }
    }

    /// Adds to a run that arrives.
    pub(super) fn append(&mut self, member: &mut Member, commit: Commit) -> Done {
        let Some(Place { epoch, seq }) = member.place else { return Ok(()) };
        match self.ask(End::To, Request::Append { run: member.run, epoch, after: seq, commit }) {
            Ok(Reply::Appended { seq, .. }) => {
                member.place = Some(Place { epoch, seq });
                Ok(())
            }
            Err(JournalError::Conflict(_)) => Err(Trouble::Lost),
            other => Err(unexpected(other).into()),
        }
    }

    fn write_stream(&mut self, member: &mut Member, row: &RunRow, published: u64, signs_all: bool) -> Done {
        let run = member.run;
        let mut after = published;
        loop {
            let read = match self.ask(End::From, Request::ReadStream { run, after, limit: ENTRIES }) {
                Ok(Reply::Stream(read)) => read,
                other => return Err(unexpected(other).into()),
            };
            let Some(&(last, _)) = read.entries.last() else { return Ok(()) };
            let mut signed = Vec::with_capacity(read.entries.len());
            for (number, body) in read.entries {
                signed.push((number, self.sign_published(run, number, body, signs_all)?));
            }
            for part in parts(signed, self.to.part, |(_, body)| body.len()) {
                let commit = Commit { published: part, ..self.commit(row, Arrival::default()) };
                self.append(member, commit)?;
                failpoint!("copy.part_written");
            }
            after = last;
        }
    }

    // The first part takes the place of all that an earlier copier has written.
    fn write_log(&mut self, member: &mut Member, row: &RunRow, log: Log, is_first: bool) -> Done {
        let begins = Arrival { behind: is_first.then_some(log.folded), ..Arrival::default() };
        let checkpoint = Some(log.checkpoint);
        let commit = Commit { checkpoint, keeps_history: !is_first, ..self.commit(row, begins) };
        self.append(member, commit)?;
        failpoint!("copy.part_written");
        for part in parts(log.records, self.to.part, Vec::len) {
            let commit = Commit { records: part, ..self.commit(row, Arrival::default()) };
            self.append(member, commit)?;
            failpoint!("copy.part_written");
        }
        Ok(())
    }

    // A run that has left is not found to have an outcome that cannot go.
    fn check_outcome(&mut self, run: RunId, signs_all: bool) -> Done {
        let (row, Some(outcome)) = self.get(run)? else { return Ok(()) };
        let bytes = self.sign_outcome(&row, outcome, signs_all)?.len();
        let limit = self.to.limit;
        match bytes.saturating_add(ROOM) > limit {
            true => Err(JournalError::TooLarge { run, bytes, limit }.into()),
            false => Ok(()),
        }
    }

    fn get(&mut self, run: RunId) -> Result<(RunRow, Option<Vec<u8>>), JournalError> {
        match self.ask(End::From, Request::Get { run }) {
            Ok(Reply::Run { run, outcome }) => Ok((*run, outcome)),
            other => Err(unexpected(other)),
        }
    }

    /// Tells the destination that the run is its, with everything that says how far it is.
    pub(super) fn finish(&mut self, member: &mut Member) -> Done {
        if member.place.is_none() {
            return Ok(());
        }
        let (row, outcome) = self.get(member.run)?;
        let signs_all = Chain::start_of(&self.load(End::To, member.run)?).signs_all();
        let outcome = outcome.map(|outcome| self.sign_outcome(&row, outcome, signs_all)).transpose()?;
        let arrival = Arrival {
            behind: None,
            is_last: true,
            recoveries: row.recoveries,
            not_before: row.not_before,
            reason: row.reason,
        };
        let commit = Commit {
            at: row.finished.unwrap_or(row.updated),
            status: row.status,
            outcome,
            release: true,
            arrival: Some(Box::new(arrival)),
            ..Commit::default()
        };
        self.append(member, commit)
    }
}

/// The same items in parts of at most so many bytes, or of one item.
pub(super) fn parts<T>(items: Vec<T>, most: usize, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    const EACH: usize = 64;
    let mut parts: Vec<Vec<T>> = Vec::new();
    let mut left = 0;
    for item in items {
        let bytes = size(&item) + EACH;
        match parts.last_mut().filter(|_| bytes <= left) {
            Some(part) => part.push(item),
            None => {
                parts.push(vec![item]);
                left = most;
            }
        }
        left = left.saturating_sub(bytes);
    }
    parts
}
