//! The bytes of an archive. `docs/formats.md` tells them byte by byte.

use xxhash_rust::xxh3::xxh3_128;

use super::bytes::{Input, MOST, Output};
use super::{Archive, Part};
use crate::error::FormatError;
use crate::journal::op::OpId;
use crate::journal::reply::{DeadLetter, Entry, RunRow};
use crate::journal::request::{Copying, OwnerId, Phase, Status};
use crate::run_id::RunId;

type Result<T> = std::result::Result<T, FormatError>;

pub(super) const VERSION: u16 = 1;

// The last byte ends a text for old programs, as in a snapshot.
const MAGIC: [u8; 8] = *b"trdlrun\x1a";
// magic 8, version 2, flags 2, length of the body 8
const HEAD: usize = 20;
const CHECKSUM: usize = 16;

pub(super) fn encode(archive: &Archive) -> Result<Vec<u8>> {
    check(archive)?;
    let mut to = Output::default();
    to.raw(&MAGIC);
    to.raw(&VERSION.to_be_bytes());
    to.raw(&[0; 2]);
    to.raw(&[0; 8]);
    write(&mut to, archive);
    let mut bytes = to.0;
    let length = (bytes.len() - HEAD) as u64;
    bytes[HEAD - 8..HEAD].copy_from_slice(&length.to_be_bytes());
    let checksum = xxh3_128(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    Ok(bytes)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Archive> {
    let mut from = Input::new(bytes, 0);
    if bytes.len() < HEAD + CHECKSUM || from.raw()? != MAGIC {
        return Err(FormatError::Malformed { at: 0, why: "an archive begins with another mark" });
    }
    let version = u16::from_be_bytes(from.raw()?);
    if version != VERSION {
        return Err(FormatError::UnknownVersion { found: version, newest: VERSION });
    }
    let flags = u16::from_be_bytes(from.raw()?);
    if flags != 0 {
        return Err(FormatError::UnknownFlags(flags));
    }
    let (length, room) = (u64::from_be_bytes(from.raw()?), (bytes.len() - HEAD - CHECKSUM) as u64);
    match length.cmp(&room) {
        std::cmp::Ordering::Greater => return Err(FormatError::Truncated),
        std::cmp::Ordering::Less => return Err(FormatError::TrailingBytes),
        std::cmp::Ordering::Equal => {}
    }
    let (whole, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
    if xxh3_128(whole).to_be_bytes() != checksum {
        return Err(FormatError::Damaged);
    }
    let mut from = Input::new(&whole[HEAD..], HEAD);
    let archive = read(&mut from)?;
    from.finish()?;
    check(&archive)?;
    Ok(archive)
}

/// Refuses what no journal has of a run, so that nothing that reads an archive meets it.
fn check(archive: &Archive) -> Result<()> {
    let refuse = |why| Err(FormatError::Malformed { at: HEAD, why });
    let run = &archive.run;
    let mut end = None;
    for (checkpoint, records) in &archive.parts {
        let start = checkpoint.as_ref().map_or(0, |&(seq, _)| seq);
        match (checkpoint, end) {
            (_, None) => {}
            (Some(_), Some(end)) if end == start => {}
            _ => return refuse("a part of the history does not begin where the one before it ends"),
        }
        end = Some(start.saturating_add(records.len() as u64));
    }
    let starts = archive.parts.iter().map(|(checkpoint, _)| checkpoint.as_ref().map_or(0, |&(seq, _)| seq));
    let starts: Vec<_> = starts.collect();
    if !starts.is_sorted_by(|one, next| one < next) {
        return refuse("two parts of the history begin at one record");
    }
    if end != Some(run.seq) {
        return refuse("the history does not end with the last record");
    }
    let ascend = |numbers: &mut dyn Iterator<Item = u64>| {
        let numbers: Vec<_> = [0].into_iter().chain(numbers).collect();
        numbers.is_sorted_by(|one, next| one < next) && numbers.last().is_none_or(|&last| last <= MOST)
    };
    if !ascend(&mut archive.stream.iter().map(|&(number, _)| number))
        || archive.stream.last().is_some_and(|&(last, _)| last > run.published)
    {
        return refuse("the numbers of the stream do not ascend");
    }
    let messages = || archive.inbox.iter().chain(archive.dead_letters.iter().map(|letter| &letter.entry));
    if !ascend(&mut archive.inbox.iter().map(|entry| entry.number)) || messages().any(|entry| entry.run != run.id) {
        return refuse("the messages are not those of the run");
    }
    let counts = (archive.inbox.len() as u64, archive.dead_letters.len() as u64);
    if counts != (run.inbox, run.dead_letters) || run.stream_limit == 0 {
        return refuse("the run has other numbers than its parts");
    }
    let numbers = [run.created, run.updated, run.epoch, run.seq, run.published, run.stream_limit];
    if numbers.into_iter().any(|number| number > MOST) {
        return refuse("a number is too large");
    }
    let is_over = run.is_over();
    if archive.outcome.is_some() && !is_over || run.finished.is_some() != is_over {
        return refuse("only a run that is over has an end");
    }
    Ok(())
}

fn write(to: &mut Output, archive: &Archive) {
    row(to, &archive.run);
    to.maybe(archive.outcome.as_ref(), |to, outcome| to.piece(outcome));
    to.list(&archive.parts, |to, (checkpoint, records)| {
        to.maybe(checkpoint.as_ref(), |to, (seq, state)| {
            to.number(*seq);
            to.piece(state);
        });
        to.list(records, |to, record| to.piece(record));
    });
    to.list(&archive.stream, |to, (number, body)| {
        to.number(*number);
        to.piece(body);
    });
    to.list(&archive.inbox, entry);
    to.list(&archive.dead_letters, |to, letter| {
        entry(to, &letter.entry);
        to.piece(letter.why.as_bytes());
    });
}

fn row(to: &mut Output, run: &RunRow) {
    to.raw(run.id.as_bytes());
    to.piece(run.workflow.as_bytes());
    to.maybe(run.key.as_ref(), |to, key| to.piece(key.as_bytes()));
    to.raw(&run.input);
    to.number(run.created);
    to.number(run.updated);
    // Times beyond what numbers hold stand for "never".
    let time = |to: &mut Output, at: u64| to.number(at.min(MOST));
    to.maybe(run.finished, time);
    to.raw(&[run.phase() as u8]);
    to.maybe(run.status.due, time);
    to.maybe(run.owner, |to, owner| to.raw(&owner.0));
    to.number(run.epoch);
    to.number(run.seq);
    to.number(run.inbox);
    to.number(run.published);
    to.number(run.stream_limit);
    to.number(u64::from(run.recoveries));
    to.maybe(run.not_before, time);
    to.maybe(run.reason.as_ref(), |to, reason| to.piece(reason.as_bytes()));
    to.number(run.dead_letters);
    to.maybe(run.parent, |to, parent| to.raw(parent.as_bytes()));
    to.maybe(run.root, |to, root| to.raw(root.as_bytes()));
    to.number(u64::from(run.depth));
}

fn entry(to: &mut Output, entry: &Entry) {
    to.number(entry.number);
    to.raw(&entry.id);
    to.raw(&[entry.kind]);
    to.number(entry.at.min(MOST));
    to.piece(&entry.body);
}

fn read(from: &mut Input<'_>) -> Result<Archive> {
    const LEAST: usize = 8;
    let run = read_row(from)?;
    let id = run.id;
    Ok(Archive {
        outcome: from.maybe(Input::piece)?,
        parts: from.list(LEAST, read_part)?,
        stream: from.list(2 * LEAST, |from| Ok((from.number()?, from.piece()?)))?,
        inbox: from.list(4 * LEAST, |from| read_entry(from, id))?,
        dead_letters: from
            .list(5 * LEAST, |from| Ok(DeadLetter { entry: read_entry(from, id)?, why: from.text()? }))?,
        run,
    })
}

fn read_part(from: &mut Input<'_>) -> Result<Part> {
    let checkpoint = from.maybe(|from| Ok((from.number()?, from.piece()?)))?;
    Ok((checkpoint, from.list(8, Input::piece)?))
}

fn read_row(from: &mut Input<'_>) -> Result<RunRow> {
    let (id, workflow) = (from.run()?, from.text()?);
    let (key, input) = (from.maybe(Input::text)?, from.raw()?);
    let (created, updated, finished) = (from.number()?, from.number()?, from.maybe(Input::number)?);
    let phase = Phase::ALL.get(usize::from(from.byte()?)).copied();
    let phase = phase.ok_or_else(|| from.malformed("a run has no such phase"))?;
    let status = Status { phase, due: from.maybe(Input::number)? };
    Ok(RunRow {
        id,
        workflow,
        key,
        input,
        created,
        updated,
        finished,
        status,
        owner: from.maybe(|from| Ok(OwnerId(from.raw()?)))?,
        epoch: from.number()?,
        seq: from.number()?,
        op: OpId::NONE,
        made_by: OpId::NONE,
        reopened_by: OpId::NONE,
        inbox: from.number()?,
        published: from.number()?,
        stream_limit: from.number()?,
        is_cut_short: false,
        recoveries: from.small()?,
        not_before: from.maybe(Input::number)?,
        reason: from.maybe(Input::text)?,
        dead_letters: from.number()?,
        parent: from.maybe(Input::run)?,
        root: from.maybe(Input::run)?,
        depth: from.small()?,
        copying: Copying::No,
    })
}

fn read_entry(from: &mut Input<'_>, run: RunId) -> Result<Entry> {
    let (number, id) = (from.number()?, from.raw()?);
    Ok(Entry { number, run, id, kind: from.byte()?, at: from.number()?, body: from.piece()? })
}
