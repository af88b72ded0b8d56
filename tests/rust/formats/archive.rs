//! Archives: what comes out is what went in, and bytes that somebody has made are refused or harmless.

use proptest::prelude::*;
use treadle::journal::archive::Part;
use treadle::journal::{
    Archive, DeadLetter, Entry, Filter, Journal, KeptSecret, OpId, OpenOptions, OwnerId, Phase, Request, RunRow, Status,
};
use treadle::{FormatError, RunId};

const RUN: RunId = RunId::from_bytes([7; 16]);

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..6)
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::vec((any::<u8>(), pieces()), 0..3).prop_map(|entries| {
        let entry = |(number, (kind, body))| Entry { number, run: RUN, id: [kind; 16], kind, at: 5, body };
        (1..).zip(entries).map(entry).collect()
    })
}

prop_compose! {
    fn archives()(
        parts in prop::collection::vec((pieces(), prop::collection::vec(pieces(), 1..4)), 1..4),
        begins in any::<bool>(),
        stream in prop::collection::vec(pieces(), 0..3),
        inbox in entries(),
        dead in entries(),
        phase in prop::sample::select(vec![Phase::Ready, Phase::Waiting, Phase::Completed, Phase::Stranded]),
        key in prop::option::of("[a-z]{0,3}"),
        due in prop::option::of(0..9_u64),
        owner in prop::option::of(any::<[u8; 16]>()),
    ) -> Archive {
        let mut seq = 0;
        let of_part = |(at, (state, records)): (usize, (Vec<u8>, Vec<Vec<u8>>))| -> Part {
            let checkpoint = (begins || at > 0).then_some((seq, state));
            seq += records.len() as u64;
            (checkpoint, records)
        };
        let parts: Vec<_> = parts.into_iter().enumerate().map(of_part).collect();
        let is_over = phase.is_over();
        let run = RunRow {
            id: RUN,
            workflow: "flow".into(),
            key,
            input: [3; 32],
            created: 1,
            updated: 2,
            finished: is_over.then_some(2),
            status: Status { phase, due },
            owner: owner.map(OwnerId),
            epoch: 4,
            seq,
            op: OpId::NONE,
            made_by: OpId::NONE,
            reopened_by: OpId::NONE,
            inbox: inbox.len() as u64,
            published: 9,
            stream_limit: 9,
            is_cut_short: false,
            recoveries: 1,
            not_before: due,
            reason: None,
            dead_letters: dead.len() as u64,
            parent: None,
            root: None,
            depth: 0,
            copying: treadle::journal::Copying::No,
        };
        let dead_letters = dead.into_iter().map(|entry| DeadLetter { entry, why: "why".into() }).collect();
        let stream = (3..).zip(stream).collect();
        Archive { run, outcome: is_over.then(|| vec![1]), parts, stream, inbox, dead_letters }
    }
}

/// The same bytes with the length and the checksum that they should have.
fn mended(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 16;
    let length = (end - 20) as u64;
    bytes[12..20].copy_from_slice(&length.to_be_bytes());
    let checksum = xxhash_rust::xxh3::xxh3_128(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn opened(bytes: &[u8]) -> Box<dyn Journal> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let url = format!("archive:///{}", file.path().display());
    let address = treadle::journal::Address::parse(&url).unwrap();
    let opened = address.open(OpenOptions { only_looks: true, ..OpenOptions::default() }, Box::new(|_| {})).unwrap();
    assert!(opened.secret == KeptSecret::Nothing);
    opened.journal
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_archive_is_read_as_it_was_written(archive in archives()) {
        let bytes = archive.encode().unwrap();
        prop_assert_eq!(Archive::decode(&bytes).unwrap(), archive);
    }

    #[test]
    fn an_archive_that_is_cut_short_or_changed_is_refused(archive in archives(), at in any::<prop::sample::Index>()) {
        let bytes = archive.encode().unwrap();
        let at = at.index(bytes.len());
        prop_assert!(Archive::decode(&bytes[..at]).is_err());
        let mut changed = bytes.clone();
        changed[at] ^= 0x41;
        prop_assert!(Archive::decode(&changed).is_err());
        prop_assert!(Archive::decode(&[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn what_somebody_has_made_is_refused_or_can_be_looked_into(
        archive in archives(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let mut bytes = archive.encode().unwrap();
        for (at, byte) in changes {
            let at = 20 + at.index(bytes.len() - 36);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            let at = 20 + cut.index(bytes.len() - 36);
            bytes.remove(at);
        }
        let bytes = mended(bytes);
        if let Ok(archive) = Archive::decode(&bytes) {
            let id = archive.run.id;
            prop_assert_eq!(archive.encode().unwrap(), bytes.clone());
            let requests = [
                Request::Get { run: id },
                Request::Load { runs: vec![id] },
                Request::List { filter: Filter { limit: 9, ..Filter::default() } },
                Request::Segment { run: id, at: 0 },
                Request::Segment { run: id, at: u64::MAX },
                Request::ReadStream { run: id, after: 0, limit: 9 },
                Request::DeadLetters { run: id },
                Request::Delete { run: id },
            ];
            let journal = opened(&bytes);
            journal.submit((0..).zip(requests).collect()).unwrap();
            journal.close();
        }
    }
}

#[test]
fn a_length_beyond_what_is_there_takes_no_memory() {
    let archive = |length: u64| {
        let mut bytes = [b"trdlrun\x1a".as_slice(), &[0, 1, 0, 0], &[0; 8], &[7; 16]].concat();
        bytes.extend_from_slice(&length.to_be_bytes());
        mended([bytes.as_slice(), &[0; 16]].concat())
    };
    for length in [1, 1 << 40, i64::MAX as u64, u64::MAX] {
        assert!(matches!(Archive::decode(&archive(length)), Err(FormatError::Malformed { .. })), "{length}");
    }
}

#[test]
fn another_version_and_unknown_flags_are_refused() {
    let bytes = [b"trdlrun\x1a".as_slice(), &[0, 2, 0, 0], &[0; 24]].concat();
    assert_eq!(Archive::decode(&bytes), Err(FormatError::UnknownVersion { found: 2, newest: 1 }));
    let bytes = [b"trdlrun\x1a".as_slice(), &[0, 1, 0, 4], &[0; 24]].concat();
    assert_eq!(Archive::decode(&bytes), Err(FormatError::UnknownFlags(4)));
}
