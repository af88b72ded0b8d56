//! Random requests in random batches, against a model that is too simple to be wrong in the same way.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use treadle::RunId;
use treadle::journal::{
    Claim, Claimant, Commit, Cursor, DeadLetter, Ends, Entry, Filter, JournalError, Loaded, Message, NewRun, OpId,
    OpIds, OwnerId, Phase, Refusal, Reply, Request, Status, StreamRead,
};

use super::desk::*;

type Outcome = Result<Reply, JournalError>;

const OWNERS: [OwnerId; 3] = [A, B, OwnerId([0xcc; 16])];
const LIMIT: u64 = 3;

#[derive(Default)]
struct Model {
    leases: HashMap<OwnerId, u64>,
    time: u64,
    runs: BTreeMap<RunId, Run>,
    entries: u64,
    ends: Vec<RunId>,
    claims: HashMap<OwnerId, OpId>,
}

struct Run {
    new: NewRun,
    owner: Option<OwnerId>,
    epoch: u64,
    status: Status,
    finished: Option<u64>,
    outcome: Option<Vec<u8>>,
    log: Vec<Vec<u8>>,
    checkpoint: Option<(u64, Vec<u8>)>,
    published: Vec<(u64, Vec<u8>)>,
    sent: Vec<(Entry, bool)>,
    dead: Vec<DeadLetter>,
    // How often it lost its owner without progress, and whether it is taken over again only after a time that is
    // longer than any here.
    losses: u32,
    is_delayed: bool,
    op: OpId,
    made_by: OpId,
}

impl Run {
    fn seq(&self) -> u64 {
        self.log.len() as u64
    }

    fn folded(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, |&(seq, _)| seq)
    }

    fn inbox(&self) -> Vec<Entry> {
        self.sent.iter().filter(|(_, is_new)| *is_new).map(|(entry, _)| entry.clone()).collect()
    }

    fn wake(&self) -> Option<u64> {
        match self.status.phase {
            _ if self.is_delayed => None,
            phase if !phase.goes_on() => None,
            Phase::Ready => Some(0),
            _ if !self.inbox().is_empty() => Some(0),
            _ => self.status.due,
        }
    }

    fn last_published(&self) -> u64 {
        self.published.last().map_or(0, |&(number, _)| number)
    }

    fn takes(&self, commit: &Commit) -> bool {
        let numbers: Vec<_> = commit.published.iter().map(|&(number, _)| number).collect();
        let inbox: Vec<_> = self.inbox().iter().map(|entry| entry.number).collect();
        let mut consumed = taken_out(commit);
        let count = consumed.len();
        consumed.sort_unstable();
        consumed.dedup();
        numbers.iter().all(|&number| number > self.last_published())
            && numbers.windows(2).all(|pair| pair[0] < pair[1])
            && consumed.len() == count
            && consumed.iter().all(|number| inbox.contains(number))
            && (commit.outcome.is_none() || commit.status.phase.is_over())
    }

    fn write(&mut self, commit: &Commit) {
        self.op = commit.op;
        let is_over = commit.status.phase.is_over();
        self.log.extend(commit.records.iter().cloned());
        self.published.extend(commit.published.iter().cloned());
        self.checkpoint = commit.checkpoint.clone().map(|state| (self.seq(), state)).or(self.checkpoint.take());
        for (entry, is_new) in &mut self.sent {
            let why = commit.undeliverable.iter().find(|(number, _)| *number == entry.number);
            self.dead.extend(why.map(|(_, why)| DeadLetter { entry: entry.clone(), why: why.clone() }));
            *is_new &= !taken_out(commit).contains(&entry.number);
        }
        self.dead.sort_by_key(|letter| letter.entry.number);
        if commit.progress || is_over {
            self.forget_losses();
        }
        self.status = Status { due: commit.status.due.filter(|_| !is_over), ..commit.status };
        self.finished = is_over.then_some(commit.at);
        self.outcome = commit.outcome.clone();
        if is_over || commit.release {
            self.owner = None;
        }
    }
}

impl Run {
    fn forget_losses(&mut self) {
        (self.losses, self.is_delayed) = (0, false);
    }

    fn strand(&mut self) {
        self.status = Status { phase: Phase::Stranded, due: None };
        self.owner = None;
        self.is_delayed = false;
    }
}

fn taken_out(commit: &Commit) -> Vec<u64> {
    commit.consumed.iter().copied().chain(commit.undeliverable.iter().map(|&(number, _)| number)).collect()
}

impl Model {
    /// What the journal must answer; `claimed` is what it did claim, where it had a choice.
    fn answer(&mut self, request: &Request, given: &Outcome) -> Outcome {
        match request {
            Request::Enlist { owner, lease } => {
                self.leases.insert(*owner, self.time + lease.as_micros() as u64);
                Ok(Reply::Done)
            }
            Request::Renew { owner, lease } => {
                self.lives(Some(*owner))?;
                self.leases.insert(*owner, self.time + lease.as_micros() as u64);
                Ok(Reply::Done)
            }
            Request::Release { owner } => {
                self.lose(*owner, 0);
                Ok(Reply::Done)
            }
            Request::Create { run, owner, commit } => self.create(run, *owner, commit),
            Request::Append { run, epoch, after, commit } => self.append(*run, *epoch, *after, commit),
            Request::Reopen { run, after, owner, commit } => self.reopen(*run, *after, *owner, commit),
            Request::Claim(claim) => self.claim(claim, given),
            Request::Refuse { run, epoch, refusal, .. } => self.refuse(*run, *epoch, refusal, given),
            Request::Redeliver { run } => self.redeliver(*run),
            Request::Send { run, message, now } => self.send(*run, message, *now),
            Request::Delete { run } => match self.run(*run)?.owner {
                Some(_) => Err(JournalError::RunActive(*run)),
                None => {
                    let removed = self.runs.remove(run);
                    self.ends.extend(removed.filter(|run| run.status.phase.goes_on()).map(|run| run.new.id));
                    Ok(Reply::Done)
                }
            },
            // These are asked after each batch.
            other => panic!("{other:?}"),
        }
    }

    // Numbers grow, and need not follow one another: they are taken over from the journal.
    fn learn_numbers(&mut self, desk: &Desk) {
        for (&id, run) in &mut self.runs {
            let Ok(Reply::DeadLetters(dead)) = desk.ask(Request::DeadLetters { run: id }) else { panic!("{id}") };
            let inbox = desk.load(id).inbox;
            let given: HashMap<_, _> = inbox
                .iter()
                .chain(dead.iter().map(|letter| &letter.entry))
                .map(|entry| (entry.id, entry.number))
                .collect();
            let letters = run.dead.iter_mut().map(|letter| &mut letter.entry);
            for entry in run.sent.iter_mut().map(|(entry, _)| entry).chain(letters) {
                entry.number = given.get(&entry.id).copied().unwrap_or(entry.number);
            }
            let new: Vec<_> = run.inbox().iter().map(|entry| entry.number).collect();
            assert!(new.is_sorted(), "{new:?}");
            self.entries = new.into_iter().fold(self.entries, u64::max);
        }
    }

    fn run(&mut self, id: RunId) -> Result<&mut Run, JournalError> {
        self.runs.get_mut(&id).ok_or(JournalError::UnknownRun(id))
    }

    fn lives(&self, owner: Option<OwnerId>) -> Result<(), JournalError> {
        match owner {
            Some(owner) if !self.leases.contains_key(&owner) => Err(JournalError::LeaseLost(owner)),
            _ => Ok(()),
        }
    }

    fn lose(&mut self, owner: OwnerId, losses: u32) {
        self.leases.remove(&owner);
        self.claims.remove(&owner);
        for run in self.runs.values_mut().filter(|run| run.owner == Some(owner)) {
            run.owner = None;
            run.losses += losses;
        }
    }

    fn refuse(&mut self, id: RunId, epoch: u64, refusal: &Refusal, given: &Outcome) -> Outcome {
        let run = self.run(id)?;
        if run.owner.is_none() || run.epoch != epoch {
            return Err(JournalError::Conflict(id));
        }
        run.losses += 1;
        run.owner = None;
        run.is_delayed = true;
        if refusal.is_damaged || refusal.claimant.is_too_many(run.losses) {
            run.strand();
            self.ends.push(id);
        }
        given.clone()
    }

    fn redeliver(&mut self, id: RunId) -> Outcome {
        let last = self.entries;
        let run = self.run(id)?;
        if run.status.phase.is_over() {
            return Err(JournalError::RunEnded(id));
        }
        let letters = std::mem::take(&mut run.dead);
        let messages = letters.len();
        for (number, letter) in (last + 1..).zip(letters) {
            run.sent.retain(|(entry, _)| entry.number != letter.entry.number);
            run.sent.push((Entry { number, ..letter.entry }, true));
        }
        self.entries = last + messages as u64;
        Ok(Reply::Redelivered { messages })
    }

    fn create(&mut self, new: &NewRun, owner: Option<OwnerId>, commit: &Commit) -> Outcome {
        let same = |run: &&Run| run.new.id == new.id || (new.key.is_some() && run.new.key == new.key);
        let by_id = self.runs.get(&new.id);
        if let Some(there) = by_id.or_else(|| self.runs.values().find(same)) {
            if there.made_by == commit.op {
                return Ok(Reply::Created { epoch: u64::from(owner.is_some()) });
            }
            return Ok(Reply::Exists { id: there.new.id, input: there.new.input });
        }
        self.lives(owner)?;
        let mut run = Run {
            new: new.clone(),
            owner,
            epoch: u64::from(owner.is_some()),
            status: Status::default(),
            finished: None,
            outcome: None,
            log: vec![],
            checkpoint: None,
            published: vec![],
            sent: vec![],
            dead: vec![],
            losses: 0,
            is_delayed: false,
            op: commit.op,
            made_by: commit.op,
        };
        if !run.takes(commit) {
            return invalid(new.id);
        }
        run.write(commit);
        let epoch = run.epoch;
        self.ends.extend(run.status.phase.is_over().then_some(new.id));
        self.runs.insert(new.id, run);
        Ok(Reply::Created { epoch })
    }

    fn append(&mut self, id: RunId, epoch: u64, after: u64, commit: &Commit) -> Outcome {
        let run = self.run(id)?;
        if run.op == commit.op {
            return Ok(Reply::Appended { seq: run.seq() });
        }
        if run.owner.is_none() || run.epoch != epoch || run.seq() != after {
            return Err(JournalError::Conflict(id));
        }
        if !run.takes(commit) {
            return invalid(id);
        }
        run.write(commit);
        let (seq, is_over) = (run.seq(), run.status.phase.is_over());
        self.ends.extend(is_over.then_some(id));
        Ok(Reply::Appended { seq })
    }

    fn reopen(&mut self, id: RunId, after: u64, owner: Option<OwnerId>, commit: &Commit) -> Outcome {
        self.lives(owner)?;
        let run = self.run(id)?;
        if run.op == commit.op {
            let is_taken = owner.is_some() && run.owner != owner;
            let again = Reply::Reopened { epoch: run.epoch, seq: run.seq() };
            return if is_taken { Err(JournalError::Conflict(id)) } else { Ok(again) };
        }
        if run.status.phase.goes_on() || run.seq() != after {
            return Err(JournalError::Conflict(id));
        }
        if !run.takes(commit) {
            return invalid(id);
        }
        run.owner = owner;
        run.epoch += u64::from(owner.is_some());
        run.forget_losses();
        run.write(commit);
        let reopened = Reply::Reopened { epoch: run.epoch, seq: run.seq() };
        let is_over = run.status.phase.is_over();
        self.ends.extend(is_over.then_some(id));
        Ok(reopened)
    }

    fn claim(&mut self, claim: &Claim, given: &Outcome) -> Outcome {
        let &Claim { owner, claimant, now, limit, .. } = claim;
        self.lives(Some(owner))?;
        let Ok(Reply::Claimed(claimed)) = given else { panic!("{given:?}") };
        if self.claims.get(&owner) == Some(&claim.op) {
            let taken = self.runs.values().filter(|run| run.owner == Some(owner) && run.op == claim.op);
            let mut answered: Vec<_> = claimed.runs.iter().map(|row| row.id).collect();
            answered.sort_unstable();
            assert_eq!(answered, taken.map(|run| run.new.id).collect::<Vec<_>>());
            assert!(claimed.stranded.is_empty() && claimed.more);
            return given.clone();
        }
        let lapsed = self.leases.iter().filter(|&(&other, &until)| other != owner && until < self.time);
        let lapsed: Vec<_> = lapsed.map(|(&other, _)| other).collect();
        lapsed.into_iter().for_each(|other| self.lose(other, 1));
        let fits = |run: &&Run| run.owner.is_none() && run.wake().is_some_and(|at| at <= now);
        let due: Vec<_> = self.runs.values().filter(fits).map(|run| run.new.id).collect();
        assert_eq!(claimed.runs.len() + claimed.stranded.len(), due.len().min(limit));
        for row in &claimed.stranded {
            assert!(due.contains(&row.id), "{row:?} had nothing to do");
            let run = self.run(row.id)?;
            assert!(claimant.is_too_many(run.losses), "{row:?} was taken over {} times", run.losses);
            run.strand();
            self.ends.push(row.id);
        }
        for row in &claimed.runs {
            assert!(due.contains(&row.id), "{row:?} had nothing to do");
            let run = self.run(row.id)?;
            assert!(!claimant.is_too_many(run.losses), "{row:?} was taken over {} times", run.losses);
            run.owner = Some(owner);
            run.epoch += 1;
            run.op = claim.op;
            run.is_delayed = run.losses > 0;
            assert_eq!(row.recoveries, run.losses);
            assert_eq!((row.owner, row.epoch), (run.owner, run.epoch));
        }
        if !claimed.runs.is_empty() {
            self.claims.insert(owner, claim.op);
        }
        given.clone()
    }

    fn send(&mut self, id: RunId, message: &Message, now: u64) -> Outcome {
        let number = self.entries + 1;
        let run = self.run(id)?;
        if run.sent.iter().any(|(entry, _)| entry.id == message.id) {
            return Ok(Reply::Sent { new: false });
        }
        if run.status.phase.is_over() {
            return Err(JournalError::RunEnded(id));
        }
        let entry = Entry { number, run: id, id: message.id, kind: message.kind, at: now, body: message.body.clone() };
        run.sent.push((entry, true));
        self.entries = number;
        Ok(Reply::Sent { new: true })
    }

    fn polled(&self, owner: OwnerId, after: u64) -> Vec<Entry> {
        let own = self.runs.values().filter(|run| run.owner == Some(owner));
        let mut entries: Vec<_> = own.flat_map(Run::inbox).filter(|entry| entry.number > after).collect();
        entries.sort_by_key(|entry| entry.number);
        entries
    }
}

fn invalid(run: RunId) -> Outcome {
    Err(JournalError::Invalid { run, why: "" })
}

fn same(given: &Outcome, expected: &Outcome) -> bool {
    match (given, expected) {
        (Err(JournalError::Invalid { run: given, .. }), Err(JournalError::Invalid { run: expected, .. })) => {
            given == expected
        }
        // What is refused for two reasons may be refused for either.
        (Err(JournalError::Conflict(_)), Err(JournalError::LeaseLost(_))) => true,
        _ => given == expected,
    }
}

/// A request, or the number of things that the model knows when it is its turn.
#[derive(Clone, Debug)]
struct Draft {
    request: Request,
    is_next: bool,
    // How many requests ago the one was made that is sent again instead.
    again: Option<usize>,
}

impl Draft {
    /// A request of a name of its own, or one of before once more.
    fn sent(&self, model: &Model, ops: &mut OpIds, before: &[Request]) -> Request {
        let again = self.again.and_then(|ago| before.len().checked_sub(ago)).map(|at| before[at].clone());
        again.unwrap_or_else(|| {
            let mut request = self.finished(model);
            if let Some(op) = request.op_mut() {
                *op = ops.draw();
            }
            request
        })
    }

    /// Appends that guess the epoch and the number are nearly always refused: most take them from the model.
    fn finished(&self, model: &Model) -> Request {
        let mut request = self.request.clone();
        if let Request::Refuse { run, epoch, .. } = &mut request {
            *epoch = model.runs.get(run).filter(|_| self.is_next).map_or(*epoch, |now| now.epoch);
            return request;
        }
        let (Request::Append { run, commit, .. } | Request::Reopen { run, commit, .. }) = &mut request else {
            return request;
        };
        let Some(now) = model.runs.get(run).filter(|_| self.is_next) else { return request };
        let first = now.last_published() + 1;
        for (published, number) in commit.published.iter_mut().zip(first..) {
            published.0 = number;
        }
        let mut inbox = now.inbox().into_iter().map(|entry| entry.number);
        commit.consumed = inbox.by_ref().take(commit.consumed.len()).collect();
        commit.undeliverable =
            inbox.zip(commit.undeliverable.drain(..)).map(|(number, (_, why))| (number, why)).collect();
        match &mut request {
            Request::Append { epoch, after, .. } => (*epoch, *after) = (now.epoch, now.seq()),
            Request::Reopen { after, .. } => *after = now.seq(),
            _ => {}
        }
        request
    }
}

fn commits() -> impl Strategy<Value = Commit> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..5);
    let status = (0..6_usize, prop::option::of(0..20_u64))
        .prop_map(|(phase, due)| Status { phase: Phase::ALL[[0, 0, 1, 1, 2, 3][phase]], due });
    let parts = (
        prop::collection::vec(bytes(), 0..3),
        prop::collection::vec((0..6_u64, bytes()), 0..3),
        prop::collection::vec(0..6_u64, 0..2),
        prop::option::weighted(0.2, bytes()),
        (status, any::<bool>(), any::<bool>(), prop::collection::vec((0..6_u64, "[a-c]{0,2}"), 0..2)),
        prop::bool::weighted(0.1),
        0..20_u64,
    );
    parts.prop_map(
        |(records, published, consumed, checkpoint, (status, says, progress, undeliverable), release, at)| {
            let outcome = (says && status.phase.is_over()).then(|| b"out".to_vec());
            let op = OpId::NONE;
            Commit {
                op,
                at,
                records,
                published,
                consumed,
                checkpoint,
                status,
                outcome,
                release,
                progress,
                undeliverable,
            }
        },
    )
}

fn patience() -> impl Strategy<Value = Claimant> {
    prop::option::of(0..3_u32).prop_map(|max_recoveries| Claimant { max_recoveries })
}

fn drafts() -> impl Strategy<Value = Draft> {
    let owner = || prop::sample::select(OWNERS.to_vec());
    let number = || (1..6_u64).prop_map(id);
    let time = || 0..20_u64;
    let new = (1..6_u64, prop::option::of(0..3_u8), 0..3_u8).prop_map(|(number, key, input)| NewRun {
        key: key.map(|key| key.to_string()),
        input: [input; 32],
        stream_limit: LIMIT,
        ..run(number)
    });
    let request = prop_oneof![
        3 => (owner(), time()).prop_map(|(owner, micros)| enlist(owner, micros)),
        1 => (owner(), time()).prop_map(|(owner, micros)| renew(owner, micros)),
        1 => owner().prop_map(|owner| Request::Release { owner }),
        6 => (new, prop::option::weighted(0.8, owner()), commits())
            .prop_map(|(run, owner, mut commit)| {
                commit.consumed.clear();
                commit.undeliverable.clear();
                Request::Create { run, owner, commit }
            }),
        12 => (number(), 0..3_u64, 0..4_u64, commits())
            .prop_map(|(run, epoch, after, commit)| Request::Append { run, epoch, after, commit }),
        1 => (number(), 0..4_u64, prop::option::of(owner()), commits())
            .prop_map(|(run, after, owner, commit)| Request::Reopen { run, after, owner, commit }),
        6 => (owner(), patience(), time(), 0..4_usize).prop_map(|(owner, claimant, now, limit)| Request::Claim(Claim {
            claimant,
            ..claim_of(owner, now, limit)
        })),
        1 => (number(), 0..3_u64, patience(), prop::bool::weighted(0.2)).prop_map(
            |(run, epoch, claimant, is_damaged)| {
                let refusal = Refusal { why: "old code".into(), is_damaged, claimant };
                Request::Refuse { run, epoch, refusal, now: 3 }
            }
        ),
        1 => number().prop_map(|run| Request::Redeliver { run }),
        5 => (number(), 0..8_u8, any::<u8>(), time()).prop_map(|(run, name, kind, now)| Request::Send {
            run,
            message: Message { id: [name; 16], kind, body: vec![name; 3] },
            now,
        }),
        1 => number().prop_map(|run| Request::Delete { run }),
    ];
    let again = prop::option::weighted(0.1, 1..6_usize);
    (request, prop::bool::weighted(0.9), again).prop_map(|(request, is_next, again)| Draft { request, is_next, again })
}

fn batches() -> impl Strategy<Value = Vec<Vec<Draft>>> {
    prop::collection::vec(prop::collection::vec(drafts(), 1..5), 1..30)
}

fn behaves_like_the_model(store: &dyn Store, batches: &[Vec<Draft>]) {
    let desk = store.open();
    let mut model = Model::default();
    let (mut ops, mut before, mut cursors) = (OpIds::new([9; 8]), Vec::new(), Cursors::new());
    for batch in batches {
        model.time += 3;
        store.clock().set(model.time);
        // What a request of a batch asks for is known from the model before the batch.
        let sent: Vec<_> = batch.iter().map(|draft| draft.sent(&model, &mut ops, &before)).collect();
        let requests = sent.clone();
        before.extend(sent);
        let answers = in_groups(&requests).flat_map(|group| desk.ask_all(group.to_vec())).collect::<Vec<_>>();
        for (request, given) in requests.iter().zip(&answers) {
            let expected = model.answer(request, given);
            assert!(same(given, &expected), "{request:?}\n gave {given:?}\n instead of {expected:?}");
        }
        model.learn_numbers(&desk);
        holds_what_the_model_holds(&desk, &model, &mut cursors);
    }
    desk.journal.close();
    holds_what_the_model_holds(&store.open(), &model, &mut cursors);
}

// Requests that are answered in their order: those about one run.
fn in_groups(requests: &[Request]) -> impl Iterator<Item = &[Request]> {
    requests.chunk_by(|one, next| one.run().is_some() && one.run() == next.run())
}

// Where each process goes on, and which entry was the last one then.
type Cursors = HashMap<OwnerId, (Cursor, u64)>;

fn holds_what_the_model_holds(desk: &Desk, model: &Model, cursors: &mut Cursors) {
    let newest_first: Vec<_> = model.runs.keys().rev().copied().collect();
    assert_eq!(desk.list(Filter { limit: 100, ..Filter::default() }), newest_first);
    for (&id, run) in &model.runs {
        assert_eq!(desk.ask(Request::DeadLetters { run: id }), Ok(Reply::DeadLetters(run.dead.clone())));
        holds_run(desk.load(id), run);
        assert_eq!(desk.get(id).1, run.outcome);
        let kept = run.published.iter().filter(|&&(number, _)| number + LIMIT > run.last_published());
        let entries: Vec<_> = kept.cloned().collect();
        let missed = entries.first().map_or(0, |&(number, _)| number - 1);
        let (published, ended) = (run.last_published(), !run.status.phase.goes_on());
        assert_eq!(desk.stream(id, 0, 100), StreamRead { entries, missed, published, ended });
    }
    let ends = |after| match desk.ask(Request::Ends { after: Some(after), limit: 10_000 }) {
        Ok(Reply::Ends(ends)) => ends,
        other => panic!("{other:?}"),
    };
    let all = ends(Cursor::default());
    assert_eq!(all, Ends { runs: model.ends.clone(), cursor: all.cursor.clone(), more: false, missed: false });
    assert_eq!(ends(all.cursor.clone()), Ends { runs: vec![], ..all });
    for owner in OWNERS {
        let in_order = |mut entries: Vec<Entry>| {
            entries.sort_by_key(|entry| (entry.run, entry.number));
            entries
        };
        let all = desk.poll(owner, &Cursor::default());
        assert_eq!(in_order(all.entries.clone()), in_order(model.polled(owner, 0)));
        if let Some((cursor, last)) = cursors.insert(owner, (all.cursor, model.entries)) {
            let newer = desk.poll(owner, &cursor).entries;
            let sent_since = model.polled(owner, last);
            assert!(sent_since.iter().all(|entry| newer.contains(entry)), "{newer:?} lacks some of {sent_since:?}");
            assert!(newer.iter().all(|entry| all.entries.contains(entry)), "{newer:?}");
        }
    }
}

fn holds_run(loaded: Loaded, run: &Run) {
    let row = loaded.run;
    assert_eq!((row.owner, row.epoch, row.seq, row.key), (run.owner, run.epoch, run.seq(), run.new.key.clone()));
    assert_eq!((row.status, row.finished, row.published), (run.status, run.finished, run.last_published()));
    assert_eq!(row.inbox, run.inbox().len() as u64);
    assert_eq!(row.dead_letters, run.dead.len() as u64);
    assert_eq!(loaded.inbox, run.inbox());
    assert_eq!(loaded.checkpoint, run.checkpoint);
    assert_eq!(loaded.records, run.log[run.folded() as usize..]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn memory_behaves_like_the_model(batches in batches()) {
        behaves_like_the_model(&Memory::default(), &batches);
    }
}

#[cfg(feature = "sqlite")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn sqlite_behaves_like_the_model(batches in batches()) {
        behaves_like_the_model(&File::new(), &batches);
    }
}

#[cfg(feature = "postgres")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn postgres_behaves_like_the_model(batches in batches()) {
        behaves_like_the_model(&super::postgres::Schema::new(), &batches);
    }
}
