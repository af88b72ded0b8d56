//! Moving runs from one journal to another.
//!
//! Nothing here knows a backend, a clock or a process: the host carries out what is asked of it ([`Desk`]), and tells
//! people how far it is. For each run, in this order:
//!
//! 1. It is taken at its journal: the copier is its owner there, in a new epoch, so that no process goes on with it.
//! 2. All of it is written to the other journal, signed anew, where it *arrives*: no process claims it.
//! 3. It *leaves* its journal, if the copier still has it and has copied every message. Only now it is the other's.
//! 4. The other journal is told that it is there: from now on it is claimed as any run.
//! 5. What is left of it is forgotten.
//!
//! A copier that dies before the third step loses its lease, and the run goes on where it was. One that dies later leaves
//! a run that no process executes until the runs are copied again. At no time do both journals execute it.
//!
//! - this file: the order for all runs; [`families`]: which runs go together;
//! - [`arrive`]: what is written at the destination; [`messages`]: its inbox; [`signing`]: what is signed anew;
//! - [`error`]: why a run stays where it is.

#![forbid(unsafe_code)]

mod arrive;
pub mod error;
mod families;
mod messages;
mod signing;

use std::time::Duration;

use crate::journal::{Claim, Copying, JournalError, OpId, Outcome, OwnerId, Reply, Request, RunRow, Seen, Signer};
use crate::run_id::RunId;
use crate::timers::Time;

pub use error::{Stays, Trouble};
pub use families::Which;

use error::is_of_journal;

/// One of the two journals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where the runs are.
    From,
    /// Where they shall be.
    To,
}

/// What a copier is at a journal.
#[derive(Clone, Debug)]
pub struct Side {
    /// The process, new at this journal.
    pub owner: OwnerId,
    /// What signs and verifies.
    pub signer: Signer,
    /// How the journal is shown.
    pub shown: String,
    /// About how many bytes are written at once.
    pub part: usize,
    /// The most bytes of a commit.
    pub limit: usize,
}

/// What the host does for a copier.
pub trait Desk {
    /// Asks a journal, and waits for the answers, in the order of the requests.
    fn ask(&mut self, end: End, requests: Vec<Request>) -> Vec<Outcome>;

    /// The time.
    fn now(&mut self) -> Time;

    /// Waits for a moment, so that a process can hand back its runs, or lose them. False if that has lasted too long.
    fn waits(&mut self) -> bool;

    /// How far it is.
    fn tell(&mut self, news: News<'_>);
}

/// How far a copier is.
#[derive(Clone, Copy, Debug)]
pub enum News<'a> {
    /// So many runs were found.
    Found(usize),
    /// All of a run is at the destination, and still the source's.
    Written(RunId),
    /// A run is the destination's.
    Moved(RunId),
    /// A run stays where it is.
    Stays(&'a Stays),
}

/// What has become of the runs.
#[derive(Debug, Default)]
pub struct Summary {
    /// Those that are the destination's now.
    pub moved: usize,
    /// Those that had been moved before.
    pub there: usize,
    /// Those that are where they were, and why.
    pub stays: Vec<Stays>,
}

/// How long a copier is taken to live without a word of it.
pub const LEASE: Duration = Duration::from_secs(15);

const RENEW_AFTER: Time = 4_000_000;

/// How often messages that came meanwhile are copied as well before that is given up.
const MOST_TRIES: usize = 100;

/// Moves runs.
///
/// # Errors
/// An error of a journal that keeps all runs from being moved. The runs that were moved by then are.
pub fn copy<D: Desk>(desk: &mut D, from: Side, to: Side, which: Which) -> Result<Summary, JournalError> {
    let mut copier = Copier { desk, from, to, renewed: 0, summary: Summary::default() };
    let result = copier.enlist().and_then(|()| copier.carry_out(which));
    for end in [End::To, End::From] {
        let owner = copier.side(end).owner;
        // What cannot be handed back is lost when the lease is over.
        let released = copier.desk.ask(end, vec![Request::Release { owner }]);
        drop(released);
    }
    result.map(|()| copier.summary)
}

struct Copier<'a, D> {
    desk: &'a mut D,
    from: Side,
    to: Side,
    renewed: Time,
    summary: Summary,
}

/// A run that is being moved.
struct Member {
    run: RunId,
    /// The epoch in which it was taken, or left.
    epoch: u64,
    /// What was copied of its messages.
    seen: Seen,
    has_left: bool,
    /// Where the next commit at the destination comes; `None`: the run is the destination's already.
    place: Option<Place>,
}

/// Where the next commit of a run that arrives comes.
#[derive(Clone, Copy)]
struct Place {
    epoch: u64,
    seq: u64,
}

type Done<T = ()> = Result<T, Trouble>;

impl<D: Desk> Copier<'_, D> {
    fn side(&self, end: End) -> &Side {
        match end {
            End::From => &self.from,
            End::To => &self.to,
        }
    }

    fn enlist(&mut self) -> Result<(), JournalError> {
        for end in [End::From, End::To] {
            let owner = self.side(end).owner;
            self.desk.ask(end, vec![Request::Enlist { owner, lease: LEASE }]).pop().unwrap_or(Ok(Reply::Done))?;
            self.end_leases(end)?;
        }
        self.renewed = self.desk.now();
        Ok(())
    }

    // Processes that have ended lose their runs with the claim of another one.
    fn end_leases(&mut self, end: End) -> Result<(), JournalError> {
        let claim = Claim { owner: self.side(end).owner, now: self.desk.now(), limit: 1, ..Claim::default() };
        self.desk.ask(end, vec![Request::Claim(claim)]).pop().unwrap_or(Ok(Reply::Done)).map(drop)
    }

    // So many requests go at once that none of them lasts longer than the lease.
    fn ask_all(&mut self, end: End, requests: Vec<Request>) -> Vec<Outcome> {
        let now = self.desk.now();
        if now.abs_diff(self.renewed) > RENEW_AFTER {
            for end in [End::From, End::To] {
                // Who has lost the lease is told by the answer to what comes.
                drop(self.desk.ask(end, vec![Request::Renew { owner: self.side(end).owner, lease: LEASE }]));
            }
            self.renewed = now;
        }
        self.desk.ask(end, requests)
    }

    fn ask(&mut self, end: End, request: Request) -> Outcome {
        let closed = Err(JournalError::Closed);
        self.ask_all(end, vec![request]).pop().unwrap_or(closed)
    }

    fn carry_out(&mut self, which: Which) -> Result<(), JournalError> {
        let families = self.families(which)?;
        self.desk.tell(News::Found(families.iter().map(Vec::len).sum()));
        // No run goes on at the destination before all that it may write to are there.
        let mut taken = Vec::new();
        for family in families {
            taken.extend(self.one(&family, |copier| copier.take_all(&family))?);
        }
        let mut written = Vec::new();
        for mut members in taken {
            let ids: Vec<_> = members.iter().map(|member| member.run).collect();
            let outcome = self.one(&ids, |copier| {
                members.iter_mut().try_for_each(|member| {
                    let run = member.run;
                    copier.write(member).map_err(|trouble| (run, trouble))?;
                    copier.desk.tell(News::Written(run));
                    Ok(())
                })
            })?;
            written.extend(outcome.map(|()| members));
        }
        for mut members in written {
            let ids: Vec<_> = members.iter().map(|member| member.run).collect();
            self.one(&ids, |copier| copier.hand_over(&mut members))?;
        }
        Ok(())
    }

    // What keeps one run of a family keeps all of it; what keeps the journal ends everything.
    fn one<T>(
        &mut self,
        family: &[RunId],
        work: impl FnOnce(&mut Self) -> Result<T, (RunId, Trouble)>,
    ) -> Result<Option<T>, JournalError> {
        let (culprit, trouble) = match work(self) {
            Ok(done) => return Ok(Some(done)),
            Err((_, Trouble::Journal(error))) if is_of_journal(&error) => return Err(error),
            Err(found) => found,
        };
        for &run in family.iter().filter(|&&run| run != culprit) {
            self.stays(run, Trouble::Family(culprit));
        }
        self.stays(culprit, trouble);
        Ok(None)
    }

    fn stays(&mut self, run: RunId, trouble: Trouble) {
        let stays = Stays { run, trouble };
        self.desk.tell(News::Stays(&stays));
        self.summary.stays.push(stays);
    }

    fn take_all(&mut self, family: &[RunId]) -> Result<Vec<Member>, (RunId, Trouble)> {
        let mut members = Vec::with_capacity(family.len());
        for &run in family {
            members.extend(self.take(run).map_err(|trouble| (run, trouble))?);
        }
        Ok(members)
    }

    // Nothing: it is gone.
    fn take(&mut self, run: RunId) -> Done<Option<Member>> {
        let row = match self.take_at(End::From, run) {
            Ok(row) => row,
            Err(JournalError::UnknownRun(_)) => return Ok(None),
            Err(JournalError::BeingCopied(_)) => self.row(End::From, run)?,
            Err(error) => return Err(error.into()),
        };
        failpoint!("copy.taken");
        if row.copying == Copying::Arrives {
            return Err(Trouble::Arrives);
        }
        let has_left = row.copying == Copying::Left;
        Ok(Some(Member { run, epoch: row.epoch, seen: Seen::default(), has_left, place: None }))
    }

    fn take_at(&mut self, end: End, run: RunId) -> Result<RunRow, JournalError> {
        let owner = self.side(end).owner;
        loop {
            match self.ask(end, Request::Take { run, owner, op: OpId::NONE }) {
                Ok(Reply::Taken(row)) => return Ok(*row),
                Err(JournalError::RunActive(_)) if self.desk.waits() => self.end_leases(end)?,
                other => return Err(unexpected(other)),
            }
        }
    }

    fn row(&mut self, end: End, run: RunId) -> Result<RunRow, JournalError> {
        match self.ask(end, Request::Get { run }) {
            Ok(Reply::Run { run, .. }) => Ok(*run),
            other => Err(unexpected(other)),
        }
    }

    // The family is the destination's when all of it is: a run of it that is executed finds the others.
    fn hand_over(&mut self, members: &mut [Member]) -> Result<(), (RunId, Trouble)> {
        for member in members.iter_mut().filter(|member| !member.has_left) {
            self.leave(member).map_err(|trouble| (member.run, trouble))?;
        }
        for member in members {
            self.finish(member).map_err(|trouble| (member.run, trouble))?;
            failpoint!("copy.told");
            self.remove(member).map_err(|trouble| (member.run, trouble))?;
            failpoint!("copy.removed");
            self.summary.moved += 1;
            self.desk.tell(News::Moved(member.run));
        }
        Ok(())
    }

    fn leave(&mut self, member: &mut Member) -> Done {
        let &mut Member { run, epoch, .. } = member;
        for _ in 0..MOST_TRIES {
            match self.ask(End::From, Request::Leave { run, epoch, seen: member.seen }) {
                Ok(_) => {
                    member.has_left = true;
                    failpoint!("copy.left");
                    return Ok(());
                }
                Err(JournalError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let row = self.row(End::From, run)?;
            if row.epoch != epoch || row.owner != Some(self.from.owner) {
                return Err(Trouble::Lost);
            }
            self.copy_messages(member)?;
        }
        Err(Trouble::Messages)
    }

    fn remove(&mut self, member: &mut Member) -> Done {
        let &mut Member { run, epoch, .. } = member;
        for _ in 0..MOST_TRIES {
            match self.ask(End::From, Request::Remove { run, epoch, seen: member.seen }) {
                Ok(_) | Err(JournalError::UnknownRun(_)) => return Ok(()),
                Err(JournalError::Conflict(_)) => self.forward(member)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Trouble::Messages)
    }
}

/// The error of an answer, or that it is none to what was asked.
fn unexpected(answer: Outcome) -> JournalError {
    match answer {
        Ok(reply) => JournalError::Panicked(format!("a copier was answered with {reply:?}")),
        Err(error) => error,
    }
}
