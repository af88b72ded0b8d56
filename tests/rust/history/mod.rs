//! What is loaded of a run is folded as it was live, and forks, retries and runs of other plans begin from there.

mod again;
mod course;
mod diff;
mod edits;
mod fold;
mod live;
mod resume;
mod why;

use treadle::journal::{Chain, Commit, Copying, Loaded, OpId, Request, RunRow, Sign, Signer, Status};
use treadle::snapshot::Standing;
use treadle::{EncodedImage, EncodedRecord, Record, RunId, Secrets, Tag, Value};

const RUN: RunId = RunId::from_bytes([7; 16]);

fn signer(sign: Sign) -> Signer {
    Signer { secrets: Secrets::new(["the secret that signs"]).unwrap(), sign }
}

fn row(seq: u64, status: Status) -> RunRow {
    RunRow {
        id: RUN,
        workflow: "flow".into(),
        key: None,
        input: [3; 32],
        created: 1,
        updated: 1,
        finished: None,
        status,
        owner: None,
        epoch: 4,
        seq,
        op: OpId::NONE,
        made_by: OpId::NONE,
        reopened_by: OpId::NONE,
        inbox: 0,
        published: 0,
        stream_limit: 9,
        is_cut_short: false,
        recoveries: 0,
        not_before: None,
        reason: None,
        dead_letters: 0,
        parent: None,
        root: None,
        depth: 0,
        copying: Copying::No,
    }
}

fn new_image() -> EncodedImage {
    EncodedImage::new(RUN, "flow", vec!["one".into(), "two".into()], 100, Some(400))
}

/// A run with a checkpoint that stands for its first `folded` records, and records behind it.
fn written(image: &EncodedImage, folded: u64, records: &[EncodedRecord], sign: Sign) -> Loaded {
    let signer = signer(sign);
    let mut chain = Chain::begin(sign);
    let checkpoint = chain.seal(image, Standing { seq: folded, epoch: 4 }, &signer.secrets).unwrap();
    let encoded = (folded + 1..).zip(records).map(|(seq, it)| chain.encode(RUN, seq, it, &signer.secrets).unwrap());
    let records: Vec<_> = encoded.map(|bytes| bytes.to_vec()).collect();
    let row = row(folded + records.len() as u64, Status::default());
    Loaded { run: row, checkpoint: Some((folded, checkpoint)), records, inbox: Vec::new() }
}

/// The run that a journal has once it has carried out the request.
fn carried_out(request: Request, before: &Loaded) -> Loaded {
    let (run, commit) = match request {
        Request::Create { run, commit, .. } => {
            let row =
                RunRow { id: run.id, workflow: run.workflow, input: run.input, epoch: 0, ..row(0, commit.status) };
            (row, commit)
        }
        Request::Append { commit, .. } | Request::Reopen { commit, .. } => {
            (RunRow { status: commit.status, epoch: before.run.epoch + 1, ..before.run.clone() }, commit)
        }
        other => panic!("{other:?}"),
    };
    let Commit { checkpoint, records, .. } = commit;
    assert!(records.is_empty(), "a run that begins again has a checkpoint");
    Loaded { checkpoint: checkpoint.map(|bytes| (run.seq, bytes)), run, records, inbox: Vec::new() }
}

fn json(text: &str) -> Value {
    Value::new(Tag::Json, text.to_owned())
}

fn set(key: &str, text: &str) -> EncodedRecord {
    Record::Set { key: key.into(), value: json(text) }
}
