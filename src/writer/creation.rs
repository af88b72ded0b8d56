//! How a journal learns of a run: by a checkpoint that has the first event queued.

use super::Durability;
use super::{Pending, READY, Requests, Writer};
use crate::error::{Error, Refused};
use crate::event::EventKind;
use crate::image::EncodedImage;
use crate::journal::{Chain, Commit, NewRun, OwnerId, Request, Signer};
use crate::run::{Host, HostImage, HostRecord, Run};
use crate::snapshot::Standing;
use crate::timers::Time;

/// What makes a run in a journal.
#[derive(Debug)]
pub struct Creation {
    run: NewRun,
    commit: Commit,
    chain: Chain,
}

/// Queues the first event of a run, which is recorded from then on. Gives the run as it is then, and the records of
/// that, which nothing needs, for the host to drop.
///
/// # Errors
/// [`Error::RunEnded`] if the run is over.
#[allow(clippy::type_complexity)]
pub fn begin<H: Host>(
    run: &mut Run<H>,
    kind: EventKind,
    event: H::Event,
) -> Result<(HostImage<H>, Vec<HostRecord<H>>), Refused<H::Event>> {
    run.start_log();
    run.deliver(kind, event)?;
    Ok((run.image(), run.take_log()))
}

impl Creation {
    /// The creation of a run that is at its beginning.
    ///
    /// # Errors
    /// What is to be signed and cannot be, or what the format cannot hold.
    pub fn new(image: &EncodedImage, run: NewRun, signer: &Signer, at: Time) -> Result<Self, Error> {
        let mut chain = Chain::begin(signer.sign);
        let checkpoint = Some(chain.seal(image, Standing { seq: 0, epoch: 0 }, &signer.secrets)?);
        Ok(Self { run, commit: Commit { at, checkpoint, status: READY, ..Commit::default() }, chain })
    }

    /// The run and its first commit, for the commit of another run that makes it.
    pub(crate) fn into_parts(self) -> (NewRun, Commit) {
        (self.run, self.commit)
    }

    /// The request that makes the run for any process to execute.
    pub fn for_any_process(self) -> Request {
        Request::Create { run: self.run, owner: None, commit: self.commit }
    }
}

impl Writer {
    /// The writer of a new run that this process executes. Gives what is to be submitted at once.
    ///
    /// A run with a key starts nothing before it is known that no other run has the key. Any other is made with its
    /// first commit, since its existence was told to no caller yet. `has_room` as in
    /// [`Writer::handed_over`](Self::handed_over).
    pub fn of_new<H: Host>(
        creation: Creation,
        run: &mut Run<H>,
        owner: OwnerId,
        durability: Durability,
        has_room: impl FnOnce() -> bool,
    ) -> (Self, Requests) {
        let (mut writer, pending, has_key) = Self::of_creation(creation, run, Some(owner), durability);
        let recorded = pending.recorded;
        if has_key {
            return (writer, vec![pending.into_request()]);
        }
        writer.creation = Some(Box::new(pending));
        run.acknowledge(writer.ahead_of(recorded, has_room));
        (writer, Requests::new())
    }

    /// The writer of a new run that a commit of another run makes, for this process. It begins once that is written.
    pub fn of_child<H: Host>(creation: &Creation, run: &mut Run<H>, durability: Durability) -> Self {
        let mut writer = Self::new(creation.run.id, 1, creation.chain.clone(), durability);
        writer.status = Some(READY);
        writer.written = run.recorded();
        run.acknowledge(writer.ahead_of(writer.written, || true));
        writer
    }

    /// The writer of a new run that any process may execute. Gives what is to be submitted at once. Once it is written,
    /// what is here of the run [stands for](Self::stands_for) what the journal has.
    pub fn of_new_for_any<H: Host>(creation: Creation, run: &Run<H>, durability: Durability) -> (Self, Requests) {
        let (mut writer, pending, _) = Self::of_creation(creation, run, None, durability);
        writer.is_for_any = true;
        (writer, vec![pending.into_request()])
    }

    /// Whether the run was made for any process.
    pub fn is_for_any(&self) -> bool {
        self.is_for_any
    }

    fn of_creation<H: Host>(
        creation: Creation,
        run: &Run<H>,
        owner: Option<OwnerId>,
        durability: Durability,
    ) -> (Self, Pending, bool) {
        let Creation { run: new, commit, chain } = creation;
        let (has_key, recorded) = (new.key.is_some(), run.recorded());
        let mut writer = Self::new(new.id, 1, chain, durability);
        (writer.status, writer.input) = (Some(READY), new.input);
        (writer, Pending { request: Request::Create { run: new, owner, commit }, recorded }, has_key)
    }
}
