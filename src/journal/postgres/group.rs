//! Which requests go together, and how a group of them is carried out.

use std::collections::HashSet;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::backend::{State, Tries};
use super::fault::{Fault, unusable};
use super::ledger::{Draft, Ledger};
use super::link::{Around, Link, Sql, Step, step};
use super::rows::{COLUMNS, Stored, Uuid, columns, key_digest, sql};
use super::{Broken, read, write};
use crate::journal::outgoing::Known;
use crate::journal::{Commit, EntryId, JournalError, Outcome, Outgoing, OwnerId, Reply, Request, rules};
use crate::run_id::RunId;

/// The most requests of one transaction: the numbers of what it adds must fit between those of two transactions.
const MOST: usize = 4096;
/// The most that requests of one transaction write to other runs.
const MOST_OUTGOING: usize = 60_000;
/// The most bytes of one that has more than one request.
const MOST_BYTES: usize = 32 << 20;

macro_rules! find {
    ($rest:literal) => {
        Sql {
            text: concat!(
                "SELECT ",
                columns!(),
                " FROM {s}.runs r LEFT JOIN {s}.owners o ON o.n = r.owner WHERE r.id = ANY($1)",
                $rest
            ),
            types: &[Type::UUID_ARRAY],
        }
    };
}

static FIND: Sql = find!("");
static LOCK: Sql = find!(" ORDER BY r.id FOR NO KEY UPDATE OF r");

static FIND_KEYS: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        ", r.key_digest FROM {s}.runs r LEFT JOIN {s}.owners o ON o.n = r.owner \
         WHERE r.key_digest = ANY($1)"
    ),
    types: &[Type::BYTEA_ARRAY],
};

static KNOWN: Sql = Sql {
    text: "SELECT i.run, i.id, i.dead IS NOT NULL FROM unnest($1, $2) AS m(run, id), {s}.inbox i WHERE i.run = m.run AND i.id = m.id",
    types: &[Type::UUID_ARRAY, Type::UUID_ARRAY],
};

static THERE: Sql = Sql {
    text: "SELECT i.run, i.number FROM unnest($1, $2) AS m(run, number), {s}.inbox i WHERE i.run = m.run \
           AND i.number = m.number AND i.body IS NOT NULL AND i.dead IS NULL",
    types: &[Type::UUID_ARRAY, Type::INT8_ARRAY],
};

static OWNERS: Sql = Sql { text: "SELECT id, n FROM {s}.owners WHERE id = ANY($1)", types: &[Type::UUID_ARRAY] };

/// How a request goes with others.
enum Kind {
    /// It changes a run, by its row and what is beside it.
    Write(RunId),
    /// It reads.
    Read,
    /// Alone.
    Alone,
}

fn kind(request: &Request) -> Kind {
    match request {
        Request::Create { run, .. } => Kind::Write(run.id),
        Request::Append { run, .. } | Request::Reopen { run, .. } => Kind::Write(*run),
        Request::Send { run, .. } | Request::Refuse { run, .. } => Kind::Write(*run),
        Request::Take { run, .. } | Request::Leave { run, .. } => Kind::Write(*run),
        Request::Load { .. }
        | Request::Get { .. }
        | Request::DeadLetters { .. }
        | Request::Records { .. }
        | Request::Segment { .. }
        | Request::ReadStream { .. }
        | Request::Traces { .. }
        | Request::List { .. }
        | Request::Ends { .. }
        | Request::Poll { .. }
        | Request::NextDue { .. } => Kind::Read,
        _ => Kind::Alone,
    }
}

#[derive(Default)]
struct Group {
    writes: Vec<usize>,
    bytes: usize,
    outgoing: usize,
    // They come after the writes.
    reads: Vec<usize>,
    read: HashSet<RunId>,
}

impl State {
    /// Carries out requests in their order; those that have nothing to do with one another, together.
    pub(super) async fn carry_out(&mut self, requests: &[Request]) -> Vec<Outcome> {
        let mut answers: Vec<Option<Outcome>> = vec![None; requests.len()];
        let mut group = Group::default();
        for (at, request) in requests.iter().enumerate() {
            match kind(request) {
                Kind::Write(run) => {
                    let outgoing = request.commit().map_or(0, |commit| commit.outgoing.len());
                    let is_full = group.writes.len() == MOST
                        || (!group.writes.is_empty() && group.bytes + request.bytes() > MOST_BYTES)
                        || group.outgoing + outgoing > MOST_OUTGOING;
                    if is_full || group.read.contains(&run) {
                        self.flush(&mut group, requests, &mut answers).await;
                    }
                    group.writes.push(at);
                    group.bytes += request.bytes();
                    group.outgoing += outgoing;
                }
                Kind::Read => {
                    group.reads.push(at);
                    group.read.extend(read::named(request));
                }
                Kind::Alone => {
                    self.flush(&mut group, requests, &mut answers).await;
                    answers[at] = Some(self.alone(request).await);
                }
            }
        }
        self.flush(&mut group, requests, &mut answers).await;
        let missing = || Err(JournalError::Panicked("a request was not answered".into()));
        answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
    }

    async fn flush(&mut self, group: &mut Group, requests: &[Request], answers: &mut [Option<Outcome>]) {
        let Group { writes, reads, .. } = std::mem::take(group);
        let of = |places: &[usize]| places.iter().map(|&at| &requests[at]).collect::<Vec<_>>();
        if !writes.is_empty() {
            let outcomes = self.write(&of(&writes)).await;
            writes.into_iter().zip(outcomes).for_each(|(at, outcome)| answers[at] = Some(outcome));
        }
        if !reads.is_empty() {
            let outcomes = self.read(&of(&reads)).await;
            reads.into_iter().zip(outcomes).for_each(|(at, outcome)| answers[at] = Some(outcome));
        }
    }

    async fn write(&mut self, requests: &[&Request]) -> Vec<Outcome> {
        if self.only_looks {
            return vec![Err(self.read_only()); requests.len()];
        }
        let mut tries = Tries::default();
        loop {
            let fault = match self.try_write(requests, tries).await {
                Ok(answers) => return answers,
                Err(fault) => fault,
            };
            if let Err(error) = self.overcome(fault, &mut tries).await {
                return self.write_each(requests, error).await;
            }
        }
    }

    // What one request is to blame for fails that one alone.
    async fn write_each(&mut self, requests: &[&Request], error: JournalError) -> Vec<Outcome> {
        if requests.len() == 1 || matches!(error, JournalError::Unavailable { .. }) {
            return vec![Err(error); requests.len()];
        }
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.extend(Box::pin(self.write(&[request])).await);
        }
        answers
    }

    pub(super) fn read_only(&self) -> JournalError {
        unusable(&self.place, "is only looked into".into(), "open an engine on it to write")
    }

    async fn try_write(&mut self, requests: &[&Request], tries: Tries) -> Result<Vec<Outcome>, Fault> {
        self.link().await.map_err(Fault::Broken)?;
        let link = self.take_link()?;
        let written = self.write_over(&link, requests, tries).await;
        self.put_link(link);
        written
    }

    async fn write_over(&mut self, link: &Link, requests: &[&Request], tries: Tries) -> Result<Vec<Outcome>, Fault> {
        // At first what is known here is taken to hold. Then rows are locked, so that it holds to the end.
        let is_locked = tries.count > 0;
        let mut needs = Needs::of(requests);
        let mut ledger = Ledger::default();
        let guessed = if is_locked { HashSet::new() } else { self.fill_in(&mut needs, &mut ledger) };
        needs.read(link, &mut ledger, is_locked).await?;
        let answers = ledger.carry_out_all(requests, tries.was_lost);
        let is_refused = requests.iter().zip(&answers).any(|(request, answer)| {
            let is_guess = matches!(kind(request), Kind::Write(run) if guessed.contains(&run));
            let has_missed = matches!(answer, Ok(Reply::Appended { undelivered, .. }) if !undelivered.is_empty());
            let may_be_stale = is_guess || !is_locked && writes_beside(request);
            answer.is_err() && may_be_stale || has_missed && !is_locked
        });
        if is_refused {
            return Err(Fault::Stale);
        }
        let (mut steps, news) = write::steps(&ledger, self.base);
        if self.broken == Broken::Fence {
            write::unfence(&mut steps);
        }
        match (steps.is_empty(), is_locked) {
            (true, true) => link.roll_back().await?,
            (true, false) => {}
            (false, true) => drop(link.run(&steps, Around::Commit).await?),
            (false, false) => drop(link.run(&steps, Around::Transaction).await?),
        }
        drop(steps);
        self.written(ledger, news);
        Ok(answers)
    }

    // Fills in what is known here of own runs, and that new names are new.
    fn fill_in(&self, needs: &mut Needs, ledger: &mut Ledger) -> HashSet<RunId> {
        let mut guessed = HashSet::new();
        needs.runs.retain(|id| {
            let known = self.kept.get(id).map(|run| Draft::new(run.clone(), Some(run.version)));
            let is_known = known.is_some() || needs.new.contains(id);
            if is_known {
                ledger.drafts.insert(*id, known);
                guessed.insert(*id);
            }
            !is_known
        });
        needs.owners.retain(|owner| {
            let own = self.own.get(owner);
            ledger.owners.extend(own.map(|own| (*owner, own.number)));
            own.is_none()
        });
        needs.taken_out.clear();
        guessed
    }

    fn written(&mut self, ledger: Ledger, mut news: super::bell::News) {
        let own = self.own_numbers();
        news.mail.retain(|owner| !own.contains(owner));
        self.news.merge(news);
        for draft in ledger.drafts.into_values().flatten() {
            if draft.is_changed {
                self.ends_noted += draft.ends as u64;
                let version = draft.before.map_or(1, |before| before + 1);
                self.keep(Stored { version, ..draft.stored });
            }
        }
    }
}

// Whether its commit is about more than the row of its run.
fn writes_beside(request: &Request) -> bool {
    commit_of(request).is_some_and(|(_, commit)| !rules::taken_out(commit).is_empty() || !commit.outgoing.is_empty())
}

fn commit_of(request: &Request) -> Option<(RunId, &Commit)> {
    match request {
        Request::Append { run, commit, .. } | Request::Reopen { run, commit, .. } => Some((*run, commit)),
        _ => None,
    }
}

// Takes over what a row says.
type Reader = fn(&mut Ledger, &Row) -> Result<(), JournalError>;

/// What must be read to work out a group.
#[derive(Default)]
struct Needs {
    runs: HashSet<RunId>,
    // Runs that are to be, and are nothing but made by the group: they are not there unless a request is sent again.
    new: HashSet<RunId>,
    keys: Vec<Vec<u8>>,
    owners: HashSet<OwnerId>,
    sent: Vec<(RunId, EntryId)>,
    taken_out: Vec<(RunId, u64)>,
}

impl Needs {
    fn of(requests: &[&Request]) -> Self {
        let mut needs = Self::default();
        for request in requests {
            if let Kind::Write(run) = kind(request) {
                let is_first = needs.runs.insert(run);
                if matches!(request, Request::Create { run, .. } if run.key.is_none()) && is_first {
                    needs.new.insert(run);
                }
            }
            match request {
                Request::Create { run, owner, .. } => {
                    needs.owners.extend(owner);
                    needs.keys.extend(key_digest(&run.workflow, run.key.as_deref()).map(Vec::from));
                }
                Request::Reopen { owner, .. } => needs.owners.extend(owner),
                Request::Take { owner, .. } => drop(needs.owners.insert(*owner)),
                Request::Send { run, message, .. } => needs.sent.push((*run, message.id)),
                _ => {}
            }
            if let Some((run, commit)) = commit_of(request) {
                needs.taken_out.extend(rules::taken_out(commit).into_iter().map(|number| (run, number)));
                commit.outgoing.iter().for_each(|outgoing| needs.add_outgoing(outgoing));
            }
        }
        needs
    }

    fn add_outgoing(&mut self, outgoing: &Outgoing) {
        match outgoing {
            Outgoing::Create { run, owner, .. } => {
                let is_first = self.runs.insert(run.id);
                self.new.extend(is_first.then_some(run.id));
                self.owners.extend(owner);
            }
            Outgoing::Send { to, message, .. } => {
                self.runs.insert(*to);
                self.sent.push((*to, message.id));
            }
        }
    }

    async fn read(&self, link: &Link, ledger: &mut Ledger, is_locked: bool) -> Result<(), Fault> {
        let mut steps = Vec::new();
        let mut readers: Vec<Reader> = Vec::new();
        if !self.runs.is_empty() {
            let mut runs: Vec<_> = self.runs.iter().copied().collect();
            runs.sort_unstable();
            ledger.drafts.extend(runs.iter().map(|&run| (run, None)));
            let names = write::names(runs);
            steps.push(if is_locked { step!(LOCK, names) } else { step!(FIND, names) });
            readers.push(read_run);
        }
        if !self.keys.is_empty() {
            steps.push(step!(FIND_KEYS, self.keys.clone()));
            readers.push(read_key);
        }
        if !self.owners.is_empty() {
            steps.push(step!(OWNERS, self.owners.iter().map(|owner| Uuid(owner.0)).collect::<Vec<_>>()));
            readers.push(read_owner);
        }
        if !self.sent.is_empty() {
            let (runs, ids): (Vec<_>, Vec<_>) = self.sent.iter().map(|&(run, id)| (Uuid::from(run), Uuid(id))).unzip();
            steps.push(step!(KNOWN, runs, ids));
            readers.push(read_message);
        }
        if is_locked {
            ledger.inbox = Some(HashSet::new());
        }
        if !self.taken_out.is_empty() {
            let (runs, numbers): (Vec<_>, Vec<_>) =
                self.taken_out.iter().map(|&(run, number)| (Uuid::from(run), sql(number))).unzip();
            steps.push(step!(THERE, runs, numbers));
            readers.push(read_entry);
        }
        if steps.is_empty() && !is_locked {
            return Ok(());
        }
        let found = link.run(&steps, if is_locked { Around::Begin } else { Around::Inside }).await?;
        for (read, rows) in readers.into_iter().zip(&found) {
            for row in rows {
                read(ledger, row).map_err(Fault::Broken)?;
            }
        }
        Ok(())
    }
}

fn read_run(ledger: &mut Ledger, row: &Row) -> Result<(), JournalError> {
    let run = Stored::of(row)?;
    ledger.drafts.insert(run.row.id, Some(Draft::new(run.clone(), Some(run.version))));
    Ok(())
}

fn read_key(ledger: &mut Ledger, row: &Row) -> Result<(), JournalError> {
    let run = Stored::of(row)?;
    let id = run.row.id;
    let digest: &[u8] = row.get(COLUMNS);
    ledger.keys.extend(digest.try_into().ok().map(|digest: [u8; 32]| (digest, id)));
    let version = run.version;
    // A row that is locked was read later.
    if ledger.drafts.get(&id).is_none_or(Option::is_none) {
        ledger.drafts.insert(id, Some(Draft::new(run, Some(version))));
    }
    Ok(())
}

fn read_owner(ledger: &mut Ledger, row: &Row) -> Result<(), JournalError> {
    ledger.owners.insert(OwnerId(row.get::<_, Uuid>(0).0), row.get(1));
    Ok(())
}

fn read_message(ledger: &mut Ledger, row: &Row) -> Result<(), JournalError> {
    let known = if row.get(2) { Known::Dead } else { Known::Delivered };
    ledger.known.insert((row.get::<_, Uuid>(0).into(), row.get::<_, Uuid>(1).0), known);
    Ok(())
}

fn read_entry(ledger: &mut Ledger, row: &Row) -> Result<(), JournalError> {
    let number: i64 = row.get(1);
    let there = ledger.inbox.get_or_insert_default();
    there.insert((row.get::<_, Uuid>(0).into(), number as u64));
    Ok(())
}
