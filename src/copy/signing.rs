//! What is stored of a run, verified with the secret of one journal and signed with that of the other. A signature covers
//! where it stands, so that it is made anew also where both have the same secret.

use super::{Copier, Desk};
use crate::error::Error;
use crate::history::{History, Trusted};
use crate::journal::kind::{CANCEL, PAUSE, RESUME};
use crate::journal::{Chain, Entry, Loaded, RunRow, Sign, Slot, entry};
use crate::run_id::RunId;
use crate::snapshot::Standing;

/// The checkpoint of a run and its records.
pub(super) struct Log {
    /// The number of the last record that the checkpoint stands for.
    pub(super) folded: u64,
    pub(super) checkpoint: Vec<u8>,
    pub(super) records: Vec<Vec<u8>>,
    /// Whether everything is signed.
    pub(super) signs_all: bool,
}

impl<D: Desk> Copier<'_, D> {
    /// The log of a run, with the numbers that it has, for this epoch at the destination.
    pub(super) fn sign_log(&self, loaded: &Loaded, epoch: u64) -> Result<Log, Error> {
        let history = History::new(loaded, Trusted::Signed(&self.from.signer));
        let (image, was) = history.checkpoint()?;
        let to = &self.to.signer;
        let run = loaded.run.id;
        let folded = history.folded();
        let mut chain = Chain::begin(if was.signs_all() { Sign::All } else { to.sign });
        let checkpoint = chain.seal(&image, Standing { seq: folded, epoch }, &to.secrets)?;
        let records = history.records().map(|record| {
            let (seq, record) = record?;
            Ok(chain.encode(run, seq, &record, &to.secrets)?.into())
        });
        let records = records.collect::<Result<_, Error>>()?;
        Ok(Log { folded, checkpoint, records, signs_all: chain.signs_all() })
    }

    /// An entry of the stream.
    pub(super) fn sign_published(
        &self,
        run: RunId,
        number: u64,
        body: Vec<u8>,
        signs_all: bool,
    ) -> Result<Vec<u8>, Error> {
        self.sign_event(run, &Slot::Stream { number }, body, signs_all)
    }

    /// How a run ended.
    pub(super) fn sign_outcome(&self, run: &RunRow, outcome: Vec<u8>, signs_all: bool) -> Result<Vec<u8>, Error> {
        self.sign_event(run.id, &Slot::Outcome { seq: run.seq, phase: run.phase() }, outcome, signs_all)
    }

    /// A message.
    pub(super) fn sign_message(&self, message: &Entry) -> Result<Vec<u8>, Error> {
        let (from, to) = (&self.from.signer, &self.to.signer);
        let slot = Slot::Inbox { id: message.id, kind: message.kind };
        let body = message.body.clone();
        match message.kind {
            CANCEL | PAUSE | RESUME => {
                entry::check_wish(message.run, &slot, body.into(), &from.secrets, from.signs_all())?;
                Ok(entry::encode_wish(message.run, &slot, &to.secrets)?.into())
            }
            _ => self.sign_event(message.run, &slot, body, !to.secrets.is_empty()),
        }
    }

    fn sign_event(&self, run: RunId, slot: &Slot, body: Vec<u8>, signs_all: bool) -> Result<Vec<u8>, Error> {
        let to = &self.to.signer;
        let event = Trusted::Signed(&self.from.signer).event(run, slot, body.into())?;
        Ok(entry::encode(run, slot, &event, &to.secrets, signs_all || to.signs_all())?.into())
    }
}
