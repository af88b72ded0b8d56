//! What an engine asks of its journal and of its host, and when.

use std::time::Duration;

use treadle::engine::{AFTER_AN_ERROR, Ask, Effect, Engine, Now, Options, Resumed, RunEnd, Trouble};
use treadle::journal::memory::MemoryStore;
use treadle::journal::{
    Claim, Claimed, Commit, Cursor, Ends, Entry, JournalError, Loaded, NewRun, News, Next, OwnerId, Phase, Polled,
    Reply, Request, RunRow, Status,
};
use treadle::{RunId, Time};

const OWNER: OwnerId = OwnerId([1; 16]);
const LEASE: Time = 9_000_000;
const LEASE_TIME: Duration = Duration::from_micros(LEASE);

struct Host {
    engine: Engine,
    now: Now,
    asked: Vec<(Ask, Request)>,
    effects: Vec<Effect>,
}

impl Host {
    fn new(concurrency: Option<usize>, keep: Option<Time>) -> Self {
        let options = Options {
            owner: OWNER,
            lease: LEASE_TIME,
            workflows: vec!["orders".into()],
            concurrency,
            max_recoveries: Some(3),
            keep,
        };
        let now = Now { steady: 50, wall: 1_000_000_000 };
        Self { engine: Engine::new(options), now, asked: vec![], effects: vec![] }
    }

    /// An engine that is open and has nothing to do.
    fn idle(concurrency: Option<usize>) -> Self {
        let mut host = Self::new(concurrency, None);
        host.call(Engine::open);
        host.answer(Ok(Reply::Done));
        host.answer(Ok(Reply::Polled(Polled::default())));
        host.claimed(&[], false);
        host.answer(Ok(Reply::Next(Next::default())));
        assert!(host.asked.is_empty());
        host.effects.clear();
        host
    }

    fn call(&mut self, call: impl FnOnce(&mut Engine, Now)) {
        call(&mut self.engine, self.now);
        self.take();
    }

    fn take(&mut self) {
        for effect in self.engine.take_effects() {
            match effect {
                Effect::Ask { ask, request } => self.asked.push((ask, *request)),
                effect => self.effects.push(effect),
            }
        }
    }

    /// Answers the oldest request.
    fn answer(&mut self, outcome: Result<Reply, JournalError>) -> Request {
        let (ask, request) = self.asked.remove(0);
        self.call(|engine, now| engine.answer(ask, outcome, now));
        request
    }

    fn claimed(&mut self, runs: &[u8], more: bool) -> Request {
        let runs = runs.iter().map(|&number| row(number)).collect();
        self.answer(Ok(Reply::Claimed(Claimed { runs, stranded: vec![], more })))
    }

    fn loaded(&mut self, numbers: &[u8]) {
        let all = numbers.iter().map(|&number| (id(number), Ok(Box::new(loaded(number))))).collect();
        let request = self.answer(Ok(Reply::Loaded(all)));
        assert_eq!(request, Request::Load { runs: numbers.iter().map(|&number| id(number)).collect() });
    }

    /// Claims a run, and goes on with it.
    fn execute(&mut self, number: u8) {
        self.call(|engine, now| engine.heard(News::ALL, now));
        self.answer(Ok(Reply::Polled(Polled::default())));
        self.claimed(&[number], false);
        self.loaded(&[number]);
        assert!(matches!(self.effects.remove(0), Effect::Resume(_)));
        self.call(|engine, now| engine.resumed(id(number), Resumed::Started, now));
        self.answer(Ok(Reply::Next(Next::default())));
        assert!(self.asked.is_empty() && self.effects.is_empty());
    }

    fn pass(&mut self, time: Time) {
        self.now.steady += time;
        self.now.wall += time;
        self.call(Engine::tick);
    }
}

fn id(number: u8) -> RunId {
    RunId::new(u64::from(number), [number; 10])
}

fn row(number: u8) -> RunRow {
    loaded(number).run
}

/// A run of this process, as a journal has it.
fn loaded(number: u8) -> Loaded {
    let store = MemoryStore::default();
    let run =
        NewRun { id: id(number), workflow: "orders".into(), key: None, input: [0; 32], created: 0, stream_limit: 1 };
    store.carry_out(Request::Enlist { owner: OWNER, lease: LEASE_TIME }).expect("a lease");
    store.carry_out(Request::Create { run, owner: Some(OWNER), commit: Commit::default() }).expect("a run");
    match store.carry_out(Request::Load { runs: vec![id(number)] }) {
        Ok(Reply::Loaded(mut loaded)) => *loaded.remove(0).1.expect("a run"),
        other => panic!("{other:?}"),
    }
}

fn entry(number: u64, run: u8) -> Entry {
    Entry { number, run: id(run), id: [0; 16], kind: 0, at: 0, body: vec![] }
}

fn polled(entries: Vec<Entry>) -> Reply {
    Reply::Polled(Polled { cursor: Cursor::from_bytes(vec![1]), entries, more: false })
}

#[test]
fn an_engine_is_open_once_the_journal_knows_its_process() {
    let mut host = Host::new(None, None);
    host.call(Engine::open);
    assert!(!host.engine.is_open());
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Enlist { owner: OWNER, lease: LEASE_TIME });
    assert!(matches!(host.effects[..], [Effect::Opened(Ok(()))]));
    assert!(host.engine.is_open());
}

#[test]
fn an_engine_that_cannot_be_opened_says_why_and_may_be_opened_again() {
    let mut host = Host::new(None, None);
    host.call(Engine::open);
    host.answer(Err(JournalError::Closed));
    assert!(matches!(host.effects[..], [Effect::Opened(Err(JournalError::Closed))]));
    host.call(Engine::open);
    host.answer(Ok(Reply::Done));
    assert!(host.engine.is_open());
}

#[test]
fn an_engine_renews_its_lease_three_times_in_its_length_and_else_does_nothing() {
    let mut host = Host::idle(None);
    assert_eq!(host.engine.next_tick(), Some(host.now.steady + LEASE / 3));
    host.pass(LEASE / 3 - 1);
    assert!(host.asked.is_empty());
    host.pass(1);
    let requests: Vec<_> = host.asked.iter().map(|(_, request)| request.clone()).collect();
    assert!(requests.contains(&Request::Renew { owner: OWNER, lease: LEASE_TIME }));
}

#[test]
fn a_lost_lease_stops_every_run_and_begins_another_one() {
    let mut host = Host::idle(None);
    host.execute(1);
    host.engine.run_started(id(2));
    host.pass(LEASE / 3);
    host.asked.retain(|(_, request)| matches!(request, Request::Renew { .. }));
    host.answer(Err(JournalError::LeaseLost(OWNER)));
    assert!(matches!(host.effects[0], Effect::Report(Trouble::LeaseLost)));
    assert!(matches!(host.effects[1..], [Effect::Lose(one), Effect::Lose(two)] if [one, two] == [id(1), id(2)]));
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Release { owner: OWNER });
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Enlist { owner: OWNER, lease: LEASE_TIME });
    assert!(host.asked.iter().any(|(_, request)| matches!(request, Request::Claim(_))));
}

#[test]
fn what_was_claimed_under_a_lost_lease_is_not_executed() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    let claim = host.asked.remove(0);
    host.pass(LEASE / 3);
    host.answer(Err(JournalError::LeaseLost(OWNER)));
    let reply = Reply::Claimed(Claimed { runs: vec![row(1)], stranded: vec![], more: false });
    host.call(|engine, now| engine.answer(claim.0, Ok(reply), now));
    assert!(!host.asked.iter().any(|(_, request)| matches!(request, Request::Load { .. })));
}

#[test]
fn a_run_that_the_journal_took_nothing_more_of_makes_the_engine_renew_at_once() {
    let mut host = Host::idle(None);
    host.execute(1);
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Lost, now));
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Renew { owner: OWNER, lease: LEASE_TIME });
}

#[test]
fn a_run_for_which_the_journal_was_too_busy_is_loaded_again() {
    let mut host = Host::idle(None);
    host.execute(1);
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Busy { epoch: 1 }, now));
    host.loaded(&[1]);
    assert!(matches!(host.effects[..], [Effect::Resume(_)]));
}

#[test]
fn what_is_sent_to_a_run_while_it_is_loaded_reaches_it_when_it_has_started() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[1], false);
    host.call(|engine, now| engine.heard(News::ALL, now));
    let poll = host.asked.pop().expect("a poll");
    host.call(|engine, now| engine.answer(poll.0, Ok(polled(vec![entry(7, 1)])), now));
    host.loaded(&[1]);
    assert!(matches!(host.effects[..], [Effect::Resume(_)]));
    host.call(|engine, now| engine.resumed(id(1), Resumed::Started, now));
    assert!(matches!(&host.effects[1..], [Effect::Deliver(delivered)] if *delivered == entry(7, 1)));
}

#[test]
fn a_run_that_is_claimed_again_while_its_steps_unwind_goes_on_after_their_end() {
    let mut host = Host::idle(None);
    host.engine.run_started(id(1));
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[1], false);
    host.loaded(&[1]);
    assert!(host.effects.is_empty());
    host.answer(Ok(Reply::Next(Next::default())));
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Over, now));
    host.loaded(&[1]);
    assert!(matches!(host.effects[..], [Effect::Resume(_)]));
}

#[test]
fn a_run_that_another_process_has_by_now_is_left_alone() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[1, 2], false);
    let theirs = Loaded { run: RunRow { owner: Some(OwnerId([2; 16])), ..row(1) }, ..loaded(1) };
    let unknown = Err(JournalError::UnknownRun(id(2)));
    host.answer(Ok(Reply::Loaded(vec![(id(1), Ok(Box::new(theirs))), (id(2), unknown)])));
    assert!(host.effects.is_empty());
    assert!(matches!(host.answer(Ok(Reply::Next(Next::default()))), Request::NextDue { .. }));
}

#[test]
fn a_run_that_cannot_go_on_here_is_handed_back_with_the_reason() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[1], false);
    host.loaded(&[1]);
    let refused = Resumed::Refused { why: "no step b".into(), is_damaged: false };
    host.call(|engine, now| engine.resumed(id(1), refused, now));
    host.effects.clear();
    let stranded = RunRow { status: Status { phase: Phase::Stranded, due: None }, ..row(1) };
    let request = host.answer(Ok(Reply::Refused(Box::new(stranded.clone()))));
    let Request::Refuse { run, epoch: 1, refusal, .. } = request else { panic!("{request:?}") };
    assert_eq!((run, &*refusal.why, refusal.claimant.max_recoveries), (id(1), "no step b", Some(3)));
    assert!(matches!(&host.effects[..], [Effect::Stranded(row)] if **row == stranded));
}

#[test]
fn a_run_of_which_the_journal_has_only_a_part_is_refused_as_damaged() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[1], false);
    let damaged = JournalError::Damaged { run: id(1), what: "records 3 to 5 are missing".into() };
    host.answer(Ok(Reply::Loaded(vec![(id(1), Err(damaged))])));
    let refusal = host.asked.iter().find_map(|(_, request)| match request {
        Request::Refuse { refusal, .. } => Some(refusal),
        _ => None,
    });
    assert!(refusal.is_some_and(|refusal| refusal.is_damaged && refusal.why.contains("3 to 5")));
}

#[test]
fn no_more_runs_are_claimed_than_there_is_room_for() {
    let limit = |request| match request {
        Request::Claim(Claim { limit, .. }) => limit,
        other => panic!("{other:?}"),
    };
    let mut host = Host::idle(Some(2));
    host.execute(1);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    assert_eq!(limit(host.claimed(&[2], true)), 1);
    host.loaded(&[2]);
    host.call(|engine, now| engine.resumed(id(2), Resumed::Started, now));
    assert!(matches!(host.answer(Ok(Reply::Next(Next::default()))), Request::NextDue { .. }));
    assert!(host.asked.is_empty());
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Over, now));
    assert_eq!(limit(host.claimed(&[], false)), 1);
}

#[test]
fn runs_are_loaded_some_at_a_time_and_claimed_until_there_are_no_more() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    let numbers: Vec<u8> = (1..=40).collect();
    host.claimed(&numbers, true);
    for some in [&numbers[..32], &numbers[32..]] {
        host.loaded(some);
        for &number in some {
            host.call(|engine, now| engine.resumed(id(number), Resumed::Started, now));
        }
    }
    assert!(matches!(host.claimed(&[], false), Request::Claim(_)));
}

#[test]
fn the_next_claim_is_when_the_journal_says() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[], false);
    let due = host.now.wall + 1_000_000;
    host.answer(Ok(Reply::Next(Next { due: Some(due), lapse: None })));
    assert_eq!(host.engine.next_tick(), Some(host.now.steady + 1_000_000));
    host.pass(1_000_000);
    assert!(matches!(host.claimed(&[], false), Request::Claim(Claim { now, .. }) if now == due));
}

#[test]
fn a_run_that_is_due_long_ago_does_not_make_the_engine_spin() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[], false);
    host.answer(Ok(Reply::Next(Next { due: Some(0), lapse: None })));
    assert_eq!(host.engine.next_tick(), Some(host.now.steady + 10_000));
}

#[test]
fn after_an_error_of_the_journal_the_engine_asks_again_some_time_later() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Err(JournalError::Closed));
    host.answer(Err(JournalError::Closed));
    assert_eq!(host.effects.len(), 2);
    host.call(Engine::tick);
    assert!(host.asked.is_empty());
    host.pass(AFTER_AN_ERROR);
    // What could not be read is asked for again, from the same place on.
    let [(_, Request::Poll { after, .. }), (_, Request::Claim(_))] = &host.asked[..] else {
        panic!("{:?}", host.asked)
    };
    assert_eq!(*after, Cursor::default());
}

#[test]
fn a_run_that_could_not_be_loaded_is_loaded_again() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[1], false);
    host.answer(Err(JournalError::Closed));
    assert!(host.asked.is_empty());
    host.pass(AFTER_AN_ERROR);
    host.loaded(&[1]);
}

#[test]
fn runs_are_forgotten_some_time_after_their_end() {
    let mut host = Host::new(None, Some(100));
    host.call(Engine::open);
    host.answer(Ok(Reply::Done));
    let before = host.now.wall - 100;
    assert!(host.asked.iter().any(|(_, request)| {
        matches!(request, Request::Prune { finished_before, .. } if *finished_before == before)
    }));
}

#[test]
fn a_closing_engine_lets_go_of_every_run_before_one_ends_and_then_hands_everything_back() {
    let mut host = Host::idle(None);
    host.execute(1);
    host.execute(2);
    host.call(|engine, now| engine.close(1_000_000, now));
    assert!(!host.engine.is_open());
    host.call(|engine, now| engine.drained(id(1), now));
    assert!(matches!(host.effects[..], [Effect::Drain { stop: false, .. }, Effect::Drain { stop: false, .. }]));
    host.call(|engine, now| engine.drained(id(2), now));
    let [.., Effect::LetGo(_), Effect::LetGo(_), Effect::EndHere(_), Effect::EndHere(_)] = host.effects[..] else {
        panic!("{:?}", host.effects);
    };
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Over, now));
    assert!(host.asked.is_empty());
    host.call(|engine, now| engine.run_ended(id(2), RunEnd::Over, now));
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Release { owner: OWNER });
    assert!(matches!(host.effects.last(), Some(Effect::Closed(Ok(())))));
    assert_eq!(host.engine.next_tick(), None);
}

#[test]
fn a_closing_engine_renews_its_lease_while_steps_finish_and_cancels_them_after_the_grace() {
    let mut host = Host::idle(None);
    host.execute(1);
    host.call(|engine, now| engine.close(2 * LEASE, now));
    host.effects.clear();
    host.pass(LEASE / 3);
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Renew { owner: OWNER, lease: LEASE_TIME });
    host.pass(2 * LEASE);
    assert!(matches!(host.effects[..], [Effect::Drain { stop: true, .. }]));
}

#[test]
fn a_second_call_to_close_hastens_the_end() {
    let mut host = Host::idle(None);
    host.execute(1);
    host.call(|engine, now| engine.close(2 * LEASE, now));
    host.effects.clear();
    host.call(|engine, now| engine.close(0, now));
    assert!(matches!(host.effects[..], [Effect::Drain { stop: true, .. }]));
    host.pass(1_000_000);
    assert!(matches!(host.effects[1..], [Effect::LetGo(_), Effect::EndHere(_)]));
    host.pass(1_000_000);
    assert!(matches!(host.asked.last(), Some((_, Request::Release { .. }))), "a step that does not end is left");
}

#[test]
fn an_engine_that_is_closed_while_it_opens_hands_back_what_there_is() {
    let mut host = Host::new(None, None);
    host.call(Engine::open);
    host.call(|engine, now| engine.close(0, now));
    host.answer(Ok(Reply::Done));
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Release { owner: OWNER });
    assert!(matches!(host.effects[..], [Effect::Closed(Ok(()))]));
}

fn seen(number: u8, phase: Phase) -> Result<Reply, JournalError> {
    let run = Box::new(RunRow { status: Status { phase, due: None }, ..row(number) });
    Ok(Reply::Run { run, outcome: None })
}

fn ends(runs: &[u8]) -> Result<Reply, JournalError> {
    let runs = runs.iter().map(|&number| id(number)).collect();
    Ok(Reply::Ends(Ends { runs, cursor: Cursor::from_bytes(vec![2]), ..Ends::default() }))
}

const NEWS_OF_ENDS: News = News { inbox: false, work: false, ends: true, other: false };

#[test]
fn a_run_that_is_followed_is_looked_at_once_it_is_known_where_the_ends_are() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.follow(id(1), now));
    host.call(|engine, now| engine.follow(id(1), now));
    assert_eq!(host.answer(ends(&[])), Request::Ends { after: None, limit: 0 });
    assert_eq!(host.answer(seen(1, Phase::Completed)), Request::Get { run: id(1) });
    assert!(matches!(&host.effects[..], [Effect::Ended { run, end: Ok(_) }] if *run == id(1)));
    assert!(host.asked.is_empty());
}

#[test]
fn waiting_costs_what_ends() {
    let mut host = Host::idle(None);
    for number in 1..=50 {
        host.call(|engine, now| engine.follow(id(number), now));
    }
    host.answer(ends(&[]));
    for number in 1..=50 {
        assert_eq!(host.answer(seen(number, Phase::Waiting)), Request::Get { run: id(number) });
    }
    for _ in 0..3 {
        host.call(|engine, now| engine.heard(NEWS_OF_ENDS, now));
    }
    assert_eq!(host.asked.len(), 1, "it is asked for once at a time");
    host.answer(ends(&[7, 99]));
    assert_eq!(host.answer(seen(7, Phase::Failed)), Request::Get { run: id(7) });
    host.answer(ends(&[]));
    assert!(matches!(&host.effects[..], [Effect::Ended { run, .. }] if *run == id(7)));
    assert!(host.asked.is_empty());
}

#[test]
fn an_end_that_comes_while_its_run_is_looked_at_is_not_missed() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.follow(id(1), now));
    host.answer(ends(&[]));
    host.call(|engine, now| engine.heard(NEWS_OF_ENDS, now));
    let look = host.asked.remove(0);
    host.answer(ends(&[1]));
    host.call(|engine, now| engine.answer(look.0, seen(1, Phase::Ready), now));
    assert_eq!(host.answer(seen(1, Phase::Completed)), Request::Get { run: id(1) });
    assert_eq!(host.effects.len(), 1);
}

#[test]
fn a_run_that_is_executed_here_is_looked_at_after_its_end_alone() {
    let mut host = Host::idle(None);
    host.engine.run_started(id(1));
    host.call(|engine, now| engine.follow(id(1), now));
    assert!(host.asked.is_empty());
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Over, now));
    host.answer(ends(&[]));
    host.answer(seen(1, Phase::Completed));
    assert_eq!(host.effects.len(), 1);
}

#[test]
fn a_run_that_nobody_follows_any_more_is_told_to_nobody() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.follow(id(1), now));
    host.answer(ends(&[]));
    host.engine.unfollow(id(1));
    host.answer(seen(1, Phase::Completed));
    host.call(|engine, now| engine.heard(NEWS_OF_ENDS, now));
    assert!(host.effects.is_empty() && host.asked.is_empty());
}

#[test]
fn ends_that_were_missed_make_every_run_be_looked_at() {
    let mut host = Host::idle(None);
    for number in [1, 2] {
        host.call(|engine, now| engine.follow(id(number), now));
    }
    host.answer(ends(&[]));
    host.answer(seen(1, Phase::Waiting));
    host.answer(seen(2, Phase::Waiting));
    host.call(|engine, now| engine.heard(NEWS_OF_ENDS, now));
    host.answer(Ok(Reply::Ends(Ends { missed: true, ..Ends::default() })));
    host.answer(seen(1, Phase::Waiting));
    assert_eq!(host.answer(seen(2, Phase::Cancelled)), Request::Get { run: id(2) });
    assert_eq!(host.effects.len(), 1);
}

#[test]
fn those_who_follow_a_run_are_told_also_after_the_lease_was_lost() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.follow(id(1), now));
    host.answer(ends(&[]));
    let look = host.asked.remove(0);
    host.pass(LEASE / 3);
    host.asked.retain(|(_, request)| matches!(request, Request::Renew { .. }));
    host.answer(Err(JournalError::LeaseLost(OWNER)));
    host.effects.clear();
    host.call(|engine, now| engine.answer(look.0, seen(1, Phase::Completed), now));
    assert!(matches!(host.effects[..], [Effect::Ended { .. }]));
}

#[test]
fn ends_that_cannot_be_asked_for_are_asked_for_again() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.follow(id(1), now));
    host.answer(Err(JournalError::Closed));
    assert!(host.asked.is_empty());
    host.pass(AFTER_AN_ERROR);
    assert!(host.asked.iter().any(|(_, request)| matches!(request, Request::Ends { after: None, .. })));
}
