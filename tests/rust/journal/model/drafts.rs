//! Random requests.

use proptest::prelude::*;
use treadle::journal::{
    Claim, Claimant, Commit, IfOver, Message, NewRun, OpId, OpIds, Outgoing, Phase, Refusal, Request, Status,
};

use super::answers::Model;
use super::{LIMIT, OWNERS};
use crate::journal::desk::*;

/// A request, or the number of things that the model knows when it is its turn.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) request: Request,
    pub(super) is_next: bool,
    // How many requests ago the one was made that is sent again instead.
    pub(super) again: Option<usize>,
}

impl Draft {
    /// A request of a name of its own, or one of before once more.
    pub(super) fn sent(&self, model: &Model, ops: &mut OpIds, before: &[Request]) -> Request {
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
    pub(super) fn finished(&self, model: &Model) -> Request {
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
        (prop::bool::weighted(0.1), prop::bool::weighted(0.8)),
        0..20_u64,
    );
    parts.prop_map(
        |(
            records,
            published,
            consumed,
            checkpoint,
            (status, says, progress, undeliverable),
            (release, keeps_history),
            at,
        )| {
            let outcome = (says && status.phase.is_over()).then(|| b"out".to_vec());
            let op = OpId::NONE;
            Commit {
                op,
                at,
                records,
                published,
                consumed,
                checkpoint,
                keeps_history,
                status,
                outcome,
                release,
                progress,
                undeliverable,
                arrival: None,
                outgoing: vec![],
            }
        },
    )
}

fn outgoing() -> impl Strategy<Value = Outgoing> {
    let owner = prop::option::weighted(0.6, prop::sample::select(OWNERS.to_vec()));
    let if_over = prop::sample::select(vec![IfOver::Bury, IfOver::Drop]);
    prop_oneof![
        1 => (1..6_u64, owner, commits()).prop_map(|(number, owner, commit)| {
            let run = NewRun { parent: Some(id(1)), root: Some(id(1)), depth: 1, stream_limit: LIMIT, ..run(number) };
            let published = (1..).zip(commit.published).map(|(number, (_, body))| (number, body)).collect();
            let commit = Commit { consumed: vec![], undeliverable: vec![], published, ..commit };
            Outgoing::Create { run, owner, commit: Box::new(commit) }
        }),
        3 => (1..7_u64, 0..8_u8, if_over).prop_map(|(number, name, if_over)| {
            let message = Message { id: [name; 16], kind: 1, body: vec![name; 2] };
            Outgoing::Send { to: id(number), message, if_over }
        }),
    ]
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
        12 => (number(), 0..3_u64, 0..4_u64, commits(), prop::collection::vec(outgoing(), 0..3))
            .prop_map(|(run, epoch, after, commit, outgoing)| {
                let commit = Commit { outgoing, ..commit };
                Request::Append { run, epoch, after, commit }
            }),
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

pub(super) fn batches() -> impl Strategy<Value = Vec<Vec<Draft>>> {
    prop::collection::vec(prop::collection::vec(drafts(), 1..5), 1..30)
}
