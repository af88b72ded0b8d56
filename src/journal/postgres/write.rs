//! Writes what a group of requests does, in one round trip.
//!
//! Each statement asserts that what it was worked out from still holds, by dividing by zero if it does not: the
//! transaction fails whole then, and the group is worked out anew. So the end of the transaction can go out with the
//! statements.

use tokio_postgres::types::Type;

use super::bell::News;
use super::history;
use super::ledger::{Draft, Ledger, Sent};
use super::link::{Sql, Step, step};
use super::rows::{Uuid, key_digest, sql, storable};
use crate::journal::{packed, phases, rules};
use crate::run_id::RunId;

static ALIVE: Sql = Sql {
    text: "WITH l AS MATERIALIZED (SELECT n FROM {s}.owners WHERE n = ANY($1) AND id IS NOT NULL FOR KEY SHARE) \
           SELECT 1 / ((SELECT count(*) FROM l) = cardinality($1))::int",
    types: &[Type::INT8_ARRAY],
};

static UPDATE: Sql = Sql {
    text: "WITH c AS MATERIALIZED (SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, \
           $15, $16, $17, $18, $19) AS c(id, version, updated, finished, phase, due, wake, owner, epoch, seq, op, inbox, \
           consumed, published, recoveries, not_before, reason, dead_letters, reopened_by)), \
           w AS (UPDATE {s}.runs r SET version = c.version + 1, updated = c.updated, finished = c.finished, \
           phase = c.phase, due = c.due, wake = c.wake, owner = c.owner, epoch = c.epoch, seq = c.seq, op = c.op, \
           inbox = c.inbox, consumed = c.consumed, published = c.published, recoveries = c.recoveries, \
           not_before = c.not_before, reason = c.reason, dead_letters = c.dead_letters, \
           reopened_by = c.reopened_by FROM c WHERE r.id = c.id AND r.version = c.version RETURNING 1) \
           SELECT 1 / ((SELECT count(*) FROM w) = cardinality($1))::int",
    types: UPDATE_TYPES,
};

const UPDATE_TYPES: &[Type] = &[
    Type::UUID_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT2_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::UUID_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT8_ARRAY,
    Type::UUID_ARRAY,
];

static INSERT: Sql = Sql {
    text: "INSERT INTO {s}.runs (id, version, workflow, key, key_digest, input, created, stream_limit, updated, finished, \
           phase, due, wake, owner, epoch, seq, op, made_by, inbox, consumed, published, recoveries, dead_letters, parent, root, \
           depth) SELECT id, 1, workflow, key, key_digest, input, created, stream_limit, updated, finished, phase, due, \
           wake, owner, epoch, seq, op, made_by, inbox, consumed, published, 0, dead_letters, parent, root, depth \
           FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
           $22, $23, $24) \
           AS c(id, workflow, key, key_digest, input, created, stream_limit, updated, finished, phase, due, wake, owner, \
           epoch, seq, op, made_by, inbox, consumed, published, dead_letters, parent, root, depth)",
    types: &[
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::BYTEA_ARRAY,
        Type::BYTEA_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT2_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::UUID_ARRAY,
        Type::UUID_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::UUID_ARRAY,
        Type::UUID_ARRAY,
        Type::INT8_ARRAY,
    ],
};

static CHECKPOINT: Sql = Sql {
    text: "INSERT INTO {s}.checkpoints (run, seq, state) SELECT * FROM unnest($1, $2, $3) \
           ON CONFLICT (run) DO UPDATE SET seq = excluded.seq, state = excluded.state",
    types: &[Type::UUID_ARRAY, Type::INT8_ARRAY, Type::BYTEA_ARRAY],
};

static LOG: Sql = Sql {
    text: "INSERT INTO {s}.commits (run, seq, records) SELECT * FROM unnest($1, $2, $3)",
    types: &[Type::UUID_ARRAY, Type::INT8_ARRAY, Type::BYTEA_ARRAY],
};

static PUBLISH: Sql = Sql {
    text: "INSERT INTO {s}.stream (run, number, body) SELECT * FROM unnest($1, $2, $3)",
    types: &[Type::UUID_ARRAY, Type::INT8_ARRAY, Type::BYTEA_ARRAY],
};

static FORGET_PUBLISHED: Sql = Sql {
    text: "DELETE FROM {s}.stream x USING unnest($1, $2) AS c(run, last) WHERE x.run = c.run AND x.number <= c.last",
    types: &[Type::UUID_ARRAY, Type::INT8_ARRAY],
};

static SEND: Sql = Sql {
    text: "INSERT INTO {s}.inbox (run, number, id, kind, at, body, dead) \
           SELECT run, $7 + (pg_current_xact_id()::text::bigint << 16) + place, id, kind, at, body, dead \
           FROM unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY AS m(run, id, kind, at, body, dead, place)",
    types: &[
        Type::UUID_ARRAY,
        Type::UUID_ARRAY,
        Type::INT2_ARRAY,
        Type::INT8_ARRAY,
        Type::BYTEA_ARRAY,
        Type::TEXT_ARRAY,
        Type::INT8,
    ],
};

static CONSUME: Sql = Sql {
    text: "WITH w AS (UPDATE {s}.inbox i SET body = NULL FROM unnest($1, $2) AS c(run, number) \
           WHERE i.run = c.run AND i.number = c.number AND i.body IS NOT NULL AND i.dead IS NULL RETURNING 1) \
           SELECT 1 / ((SELECT count(*) FROM w) = cardinality($1))::int",
    types: &[Type::UUID_ARRAY, Type::INT8_ARRAY],
};

static BURY: Sql = Sql {
    text: "WITH w AS (UPDATE {s}.inbox i SET dead = c.why FROM unnest($1, $2, $3) AS c(run, number, why) \
           WHERE i.run = c.run AND i.number = c.number AND i.body IS NOT NULL AND i.dead IS NULL RETURNING 1) \
           SELECT 1 / ((SELECT count(*) FROM w) = cardinality($1))::int",
    types: &[Type::UUID_ARRAY, Type::INT8_ARRAY, Type::TEXT_ARRAY],
};

static FORGET_NAMES: Sql = Sql {
    text: "DELETE FROM {s}.inbox i USING unnest($1, $2) AS c(run, many), LATERAL (SELECT number FROM {s}.inbox x \
           WHERE x.run = c.run AND x.body IS NULL ORDER BY number LIMIT c.many) o \
           WHERE i.run = c.run AND i.number = o.number",
    types: &[Type::UUID_ARRAY, Type::INT8_ARRAY],
};

static FORGET_OUTCOMES: Sql = Sql { text: "DELETE FROM {s}.outcomes WHERE run = ANY($1)", types: &[Type::UUID_ARRAY] };

static OUTCOME: Sql = Sql {
    text: "INSERT INTO {s}.outcomes (run, body) SELECT * FROM unnest($1, $2) \
           ON CONFLICT (run) DO UPDATE SET body = excluded.body",
    types: &[Type::UUID_ARRAY, Type::BYTEA_ARRAY],
};

static END: Sql = Sql {
    text: "INSERT INTO {s}.ends (number, run) SELECT $2 + (pg_current_xact_id()::text::bigint << 16) + place, run \
           FROM unnest($1) WITH ORDINALITY AS e(run, place)",
    types: &[Type::UUID_ARRAY, Type::INT8],
};

/// Notes that nothing more comes of runs.
pub(super) fn note_ends<'a>(runs: Vec<Uuid>, base: i64) -> Step<'a> {
    step!(END, runs, base)
}

/// Asserts that owners have not lost their leases, until the end of the transaction.
pub(super) fn assert_living<'a>(owners: Vec<i64>) -> Step<'a> {
    step!(ALIVE, owners)
}

/// The steps that write what has become of the runs, and what of it concerns others. None: nothing has changed.
pub(super) fn steps(ledger: &Ledger, base: i64) -> (Vec<Step<'_>>, News) {
    let Ledger { drafts, living, .. } = ledger;
    let mut changed: Vec<&Draft> = drafts.values().flatten().filter(|draft| draft.is_changed).collect();
    // Everybody locks rows in this order, so that they do not wait for one another in a circle.
    changed.sort_unstable_by_key(|draft| draft.stored.row.id);
    let mut news = News::default();
    changed.iter().for_each(|draft| news.tell_of(draft));
    if changed.is_empty() {
        return (Vec::new(), news);
    }
    let mut steps = Vec::new();
    if !living.is_empty() {
        let mut owners: Vec<_> = living.iter().copied().collect();
        owners.sort_unstable();
        steps.push(assert_living(owners));
    }
    update(&changed, &mut steps);
    insert(&changed, &mut steps);
    take_out(&changed, &mut steps);
    ends(&changed, base, &mut steps);
    history::fold(&changed, &mut steps);
    bodies(changed, base, &mut steps);
    (steps, news)
}

/// The step that writes the rows that were there before.
pub(super) fn update<'a>(changed: &[&Draft], steps: &mut Vec<Step<'a>>) {
    let there: Vec<_> = changed.iter().filter_map(|draft| Some((draft.before?, &draft.stored))).collect();
    if there.is_empty() {
        return;
    }
    macro_rules! each {
        ($each:expr) => {
            there.iter().map($each).collect::<Vec<_>>()
        };
    }
    steps.push(step!(
        UPDATE,
        each!(|(_, run)| Uuid::from(run.row.id)),
        each!(|&(before, _)| before),
        each!(|(_, run)| sql(run.row.updated)),
        each!(|(_, run)| run.row.finished.map(sql)),
        each!(|(_, run)| phases::number(&run.row)),
        each!(|(_, run)| run.row.status.due.map(sql)),
        each!(|(_, run)| run.wake()),
        each!(|(_, run)| run.owner),
        each!(|(_, run)| sql(run.row.epoch)),
        each!(|(_, run)| sql(run.row.seq)),
        each!(|(_, run)| Uuid(run.row.op.0)),
        each!(|(_, run)| sql(run.row.inbox)),
        each!(|(_, run)| sql(run.consumed)),
        each!(|(_, run)| sql(run.row.published)),
        each!(|(_, run)| i64::from(run.row.recoveries)),
        each!(|(_, run)| run.row.not_before.map(sql)),
        each!(|(_, run)| run.row.reason.as_deref().map(storable)),
        each!(|(_, run)| sql(run.row.dead_letters)),
        each!(|(_, run)| Uuid(run.row.reopened_by.0)),
    ));
}

fn insert<'a>(changed: &[&Draft], steps: &mut Vec<Step<'a>>) {
    let new: Vec<_> = changed.iter().filter(|draft| draft.before.is_none()).map(|draft| &draft.stored).collect();
    if new.is_empty() {
        return;
    }
    macro_rules! each {
        ($each:expr) => {
            new.iter().map($each).collect::<Vec<_>>()
        };
    }
    steps.push(step!(
        INSERT,
        each!(|run| Uuid::from(run.row.id)),
        each!(|run| storable(&run.row.workflow)),
        each!(|run| run.row.key.as_deref().map(storable)),
        each!(|run| key_digest(&run.row.workflow, run.row.key.as_deref()).map(Vec::from)),
        each!(|run| run.row.input.to_vec()),
        each!(|run| sql(run.row.created)),
        each!(|run| sql(run.row.stream_limit)),
        each!(|run| sql(run.row.updated)),
        each!(|run| run.row.finished.map(sql)),
        each!(|run| phases::number(&run.row)),
        each!(|run| run.row.status.due.map(sql)),
        each!(|run| run.wake()),
        each!(|run| run.owner),
        each!(|run| sql(run.row.epoch)),
        each!(|run| sql(run.row.seq)),
        each!(|run| Uuid(run.row.op.0)),
        each!(|run| Uuid(run.row.made_by.0)),
        each!(|run| sql(run.row.inbox)),
        each!(|run| sql(run.consumed)),
        each!(|run| sql(run.row.published)),
        each!(|run| sql(run.row.dead_letters)),
        each!(|run| run.row.parent.map(Uuid::from)),
        each!(|run| run.row.root.map(Uuid::from)),
        each!(|run| i64::from(run.row.depth)),
    ));
}

fn take_out<'a>(changed: &[&Draft], steps: &mut Vec<Step<'a>>) {
    let id = |draft: &&Draft| Uuid::from(draft.stored.row.id);
    let consumed = changed.iter().flat_map(|draft| draft.consumed.iter().map(move |&number| (id(draft), sql(number))));
    let (runs, numbers): (Vec<_>, Vec<_>) = consumed.unzip();
    if !runs.is_empty() {
        steps.push(step!(CONSUME, runs, numbers));
    }
    let mut dead = (Vec::new(), Vec::new(), Vec::new());
    for draft in changed {
        for (number, why) in &draft.dead {
            dead.0.push(id(draft));
            dead.1.push(sql(*number));
            dead.2.push(storable(why));
        }
    }
    if !dead.0.is_empty() {
        steps.push(step!(BURY, dead.0, dead.1, dead.2));
    }
}

fn ends<'a>(changed: &[&Draft], base: i64, steps: &mut Vec<Step<'a>>) {
    let ended = changed.iter().flat_map(|draft| std::iter::repeat_n(Uuid::from(draft.stored.row.id), draft.ends));
    let ended: Vec<_> = ended.collect();
    if !ended.is_empty() {
        steps.push(note_ends(ended, base));
    }
}

// What may be large is moved, not copied.
fn bodies<'a>(changed: Vec<&'a Draft>, base: i64, steps: &mut Vec<Step<'a>>) {
    let mut folded = (Vec::new(), Vec::new(), Vec::new());
    let mut log = (Vec::new(), Vec::new(), Vec::new());
    let mut stream = (Vec::new(), Vec::new(), Vec::new());
    let mut forgotten = (Vec::new(), Vec::new());
    let mut sent = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut names = (Vec::new(), Vec::new());
    let mut reopened = Vec::new();
    let mut outcomes = (Vec::new(), Vec::new());
    for draft in changed {
        let run = &draft.stored;
        let id = Uuid::from(run.row.id);
        if let Some((seq, state)) = &draft.checkpoint {
            folded.0.push(id);
            folded.1.push(sql(*seq));
            folded.2.push(state.as_slice());
        }
        for (seq, records) in &draft.log {
            log.0.push(id);
            log.1.push(sql(*seq));
            log.2.push(packed::pack(records));
        }
        let last_forgotten = rules::forgotten(&run.row);
        for (number, body) in draft.published.iter().filter(|&&(number, _)| number > last_forgotten) {
            stream.0.push(id);
            stream.1.push(sql(*number));
            stream.2.push(body.as_slice());
        }
        if last_forgotten > 0 && !draft.published.is_empty() {
            forgotten.0.push(id);
            forgotten.1.push(sql(last_forgotten));
        }
        for Sent { message, at, dead } in &draft.sent {
            sent.0.push(id);
            sent.1.push(Uuid(message.id));
            sent.2.push(i16::from(message.kind));
            sent.3.push(sql(*at));
            sent.4.push(message.body.as_slice());
            sent.5.push(*dead);
        }
        if draft.too_many_names > 0 {
            names.0.push(id);
            names.1.push(sql(draft.too_many_names));
        }
        if draft.is_reopened {
            reopened.push(id);
        }
        if let Some(outcome) = &draft.outcome {
            outcomes.0.push(id);
            outcomes.1.push(outcome.as_slice());
        }
    }
    if !folded.0.is_empty() {
        steps.push(step!(CHECKPOINT, folded.0, folded.1, folded.2));
    }
    if !log.0.is_empty() {
        steps.push(step!(LOG, log.0, log.1, log.2));
    }
    if !stream.0.is_empty() {
        steps.push(step!(PUBLISH, stream.0, stream.1, stream.2));
    }
    if !forgotten.0.is_empty() {
        steps.push(step!(FORGET_PUBLISHED, forgotten.0, forgotten.1));
    }
    if !sent.0.is_empty() {
        steps.push(step!(SEND, sent.0, sent.1, sent.2, sent.3, sent.4, sent.5, base));
    }
    if !names.0.is_empty() {
        steps.push(step!(FORGET_NAMES, names.0, names.1));
    }
    if !reopened.is_empty() {
        steps.push(step!(FORGET_OUTCOMES, reopened));
    }
    if !outcomes.0.is_empty() {
        steps.push(step!(OUTCOME, outcomes.0, outcomes.1));
    }
}

/// A run as a name in the database.
pub(super) fn names(runs: impl IntoIterator<Item = RunId>) -> Vec<Uuid> {
    runs.into_iter().map(Uuid::from).collect()
}

/// Lets what was worked out be written whatever others have done meanwhile, for the tests to show that they see it.
pub(super) fn unfence(steps: &mut Vec<Step<'_>>) {
    steps.retain(|step| !std::ptr::eq(step.sql, &ALIVE));
    for step in steps {
        if std::ptr::eq(step.sql, &UPDATE) {
            step.sql = &UNFENCED;
        }
    }
}

static UNFENCED: Sql = Sql {
    text: "UPDATE {s}.runs r SET version = r.version + 1, updated = c.updated, finished = c.finished, phase = c.phase, \
           due = c.due, wake = c.wake, owner = CASE WHEN c.owner = 0 THEN 0 ELSE r.owner END, seq = c.seq, op = c.op, \
           inbox = c.inbox, consumed = c.consumed, published = c.published, epoch = c.epoch, \
           recoveries = c.recoveries, not_before = c.not_before, reason = c.reason, dead_letters = c.dead_letters, \
           reopened_by = c.reopened_by \
           FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
           $19) AS c(id, version, updated, finished, phase, due, wake, owner, epoch, seq, op, inbox, consumed, published, \
           recoveries, not_before, reason, dead_letters, reopened_by) WHERE r.id = c.id",
    types: UPDATE_TYPES,
};
