//! Calls that the body of a step in flight makes once.

use super::{Host, Phase, Run, Slot};
use crate::error::Error;
use crate::memo::{ArgumentsDigest, Begun, Kept, Memo, MemoCall, Strand};
use crate::record::Record;

/// Whether a call is to be made.
pub enum Once<'a, V> {
    /// It was made by an earlier body, and gave this.
    Before(&'a Kept<V>),
    /// It is to be made; [`Run::keep_memo`] keeps what it gives.
    New(MemoCall),
}

/// What is not kept, for the caller to drop where foreign code may run.
pub type Unkept<V> = Vec<Kept<V>>;

impl<H: Host> Run<H> {
    /// The body of a step in flight makes a call in one of its strands.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known, [`Error::StepOver`] if the body is not in flight any more.
    pub fn once(
        &mut self,
        slot: Slot,
        strand: Strand,
        name: &str,
        arguments: &ArgumentsDigest,
    ) -> Result<Once<'_, H::Value>, Error> {
        if self.phase != Phase::Running {
            return Err(Error::RunEnded);
        }
        let flight = self.flight_mut(slot).ok_or(Error::StepOver)?;
        let memos = &mut flight.delivery.replay_mut().memos;
        match memos.begin(strand, name, arguments) {
            Begun::New(call) => Ok(Once::New(call)),
            Begun::Before(number) => {
                let memo = memos.get(number).expect("what was found is kept");
                match &memo.kept {
                    // No child has the digest of arguments, unless it was made up.
                    Kept::Child(_) => Err(Error::OtherInput),
                    kept => Ok(Once::Before(kept)),
                }
            }
        }
    }

    /// The body of a step in flight comes to a transaction: how often it has, with this time.
    ///
    /// # Errors
    /// [`Error::StepOver`] if the body is not in flight any more.
    pub fn transaction(&mut self, slot: Slot, name: &str, arguments: &ArgumentsDigest) -> Result<u64, Error> {
        let flight = self.flight_mut(slot).ok_or(Error::StepOver)?;
        Ok(flight.delivery.replay_mut().memos.transaction(name, arguments))
    }

    /// A new strand of the body of a step in flight, started by another one.
    ///
    /// # Errors
    /// [`Error::StepOver`] if the body is not in flight any more.
    pub fn new_strand(&mut self, slot: Slot, starter: Option<Strand>) -> Result<Strand, Error> {
        let flight = self.flight_mut(slot).ok_or(Error::StepOver)?;
        flight.has_tasks = true;
        Ok(flight.delivery.replay_mut().memos.new_strand(starter))
    }

    /// A call that is new has been made: what it gave is kept. Gives what is void by that.
    ///
    /// # Errors
    /// As [`Run::once`], with what was to be kept.
    // The memo comes back whole, as it was given.
    #[allow(clippy::type_complexity, clippy::result_large_err)]
    pub fn keep_memo(
        &mut self,
        slot: Slot,
        strand: Strand,
        memo: Memo<H::Value>,
    ) -> Result<Unkept<H::Value>, (Error, Memo<H::Value>)> {
        if self.phase != Phase::Running {
            return Err((Error::RunEnded, memo));
        }
        let has_log = self.log.is_some();
        let Some(flight) = self.flight_mut(slot) else { return Err((Error::StepOver, memo)) };
        let memos = &mut flight.delivery.replay_mut().memos;
        let void = memos.stray(strand, &memo.call);
        let forgotten: Unkept<_> =
            void.iter().filter_map(|number| memos.forget(*number)).map(|memo| memo.kept).collect();
        let recorded = has_log.then(|| Memo { call: memo.call.clone(), kept: memo.kept.copied(H::copy_value) });
        let number = memos.keep(memo);
        self.void_children(&forgotten);
        for number in void {
            self.record(|| Record::Forgotten { seq: slot.seq, number });
        }
        if let Some(memo) = recorded {
            self.record(|| Record::Memo { seq: slot.seq, number, memo });
        }
        Ok(forgotten)
    }
}
