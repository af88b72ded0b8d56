//! What a commit takes out of its run, and how it becomes bytes.

use super::Pending;
use crate::error::Error;
use crate::event::{Body, EncodedEvent};
use crate::image::EncodedImage;
use crate::journal::{Chain, Commit, EntryNumber, Limits, Outgoing, Signer, Slot, Status, entry};
use crate::record::{EncodedRecord, Record};
use crate::run::{Host, HostImage, HostRecord, Outbound};
use crate::run_id::RunId;
use crate::snapshot::Standing;
use crate::timers::Time;
use crate::translate::Translate;

/// What a commit takes out of its run.
pub struct Taken<H: Host> {
    pub(super) records: Vec<HostRecord<H>>,
    // What is not written, for the host to drop.
    pub(super) left_out: Vec<HostRecord<H>>,
    pub(super) unsent: Vec<Outbound<H::Event>>,
    // What goes to other runs.
    pub(super) outbound: Vec<Outbound<H::Event>>,
    // Most commits have none, and are moved with it.
    pub(super) image: Option<Box<HostImage<H>>>,
    pub(super) draft: Draft,
}

/// What a commit says beside its records.
#[derive(Debug)]
pub struct Draft {
    pub(super) run: RunId,
    pub(super) epoch: u64,
    // The number of the last record before those of this commit, and what the first one comes behind.
    pub(super) after: u64,
    pub(super) chain: Chain,
    // How many records the run has had with these.
    pub(super) recorded: u64,
    // The number of the last event of the stream before those of this commit.
    pub(super) published: u64,
    pub(super) creation: Option<Box<Pending>>,
    pub(super) consumed: Vec<EntryNumber>,
    pub(super) outgoing: Vec<Outgoing>,
    pub(super) undeliverable: Vec<(EntryNumber, String)>,
    pub(super) status: Status,
    // Whether there is more than the creation.
    pub(super) has_commit: bool,
}

/// The records of a commit, and its checkpoint if one is due, as stored objects.
#[derive(Debug, Default)]
pub struct Encoded {
    records: Vec<EncodedRecord>,
    outbound: Vec<Outbound<EncodedEvent>>,
    image: Option<Box<EncodedImage>>,
}

/// The bytes of a commit.
#[derive(Debug)]
pub struct Sealed {
    pub(super) commit: Commit,
    pub(super) chain: Chain,
    pub(super) published: u64,
    pub(super) record_bytes: usize,
    pub(super) checkpoint_bytes: Option<usize>,
}

impl<H: Host> Taken<H> {
    /// How many records there are.
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Makes stored objects of the host's, or says why it cannot: then the commit is
    /// [left out](super::Writer::leave_gap). What is not needed any more is dropped.
    ///
    /// All objects become bytes before the first record does: foreign code may run here, and none may come between a
    /// record and the next one, which is chained to it.
    pub fn translate<T>(self, to: &mut T) -> (Draft, Result<Encoded, T::Error>)
    where
        T: Translate<
                H::Event,
                H::Value,
                H::Class,
                Event = EncodedEvent,
                Value = crate::Value,
                Class = std::sync::Arc<str>,
            >,
    {
        let Self { records, left_out, unsent, outbound, image, draft } = self;
        drop((left_out, unsent));
        let translate = || {
            let records = records.into_iter().map(|record| record.translate(to)).collect::<Result<_, _>>()?;
            let outbound = outbound.into_iter().map(|one| one.translate(to)).collect::<Result<_, _>>()?;
            let image = image.map(|image| image.translate(to).map(Box::new)).transpose()?;
            Ok(Encoded { records, outbound, image })
        };
        (draft, translate())
    }
}

impl Draft {
    /// Makes the bytes of a commit at this time, for a journal with these limits: a checkpoint for which it has no room is
    /// left out.
    ///
    /// # Errors
    /// What is to be signed and cannot be, or what the format cannot hold: then the commit is
    /// [left out](super::Writer::leave_gap).
    pub fn seal(&self, encoded: Encoded, at: Time, signer: &Signer, limits: Limits) -> Result<Sealed, Error> {
        let mut sealed = self.empty(at);
        for (seq, record) in (self.after + 1..).zip(encoded.records) {
            self.add(&mut sealed, seq, record, signer)?;
        }
        for outbound in &encoded.outbound {
            sealed.commit.outgoing.push(outbound.seal(signer)?);
        }
        if let Some(image) = encoded.image {
            self.add_checkpoint(&mut sealed, &image, signer, limits)?;
        }
        Ok(sealed)
    }

    pub(super) fn empty(&self, at: Time) -> Sealed {
        let commit = Commit { at, ..Commit::default() };
        Sealed { commit, chain: self.chain.clone(), published: self.published, record_bytes: 0, checkpoint_bytes: None }
    }

    fn add(&self, sealed: &mut Sealed, seq: u64, record: EncodedRecord, signer: &Signer) -> Result<(), Error> {
        let Sealed { commit, chain, .. } = sealed;
        commit.progress |= record.is_progress();
        let record = match record {
            Record::Published { event } => {
                sealed.published += 1;
                let number = sealed.published;
                let slot = Slot::Stream { number };
                let body = entry::encode(self.run, &slot, &event, &signer.secrets, chain.signs_all())?;
                commit.published.push((number, body.into()));
                // It is read in the stream, and written there alone.
                Record::Published { event: EncodedEvent { class: "".into(), body: Body::Fields(Vec::new()) } }
            }
            other => other,
        };
        let body = chain.encode(self.run, seq, &record, &signer.secrets)?;
        sealed.record_bytes += body.len();
        commit.records.push(body.into());
        Ok(())
    }

    /// The checkpoint has all records of the commit.
    fn add_checkpoint(
        &self,
        sealed: &mut Sealed,
        image: &EncodedImage,
        signer: &Signer,
        limits: Limits,
    ) -> Result<(), Error> {
        let standing = Standing { seq: self.after + sealed.commit.records.len() as u64, epoch: self.epoch };
        let mut behind = sealed.chain.clone();
        let checkpoint = behind.seal(image, standing, &signer.secrets)?;
        sealed.checkpoint_bytes = Some(checkpoint.len());
        sealed.commit.add_checkpoint(checkpoint, limits.commit);
        // Without it the next record comes behind the last one.
        if sealed.commit.checkpoint.is_some() {
            sealed.chain = behind;
        }
        Ok(())
    }
}
