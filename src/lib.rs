//! treadle, a workflow engine for async Python.
//!
//! The core is sans-I/O and knows no Python. Where things are:
//!
//! - [`run`]: one run as a state machine; `store`, `queue`, `stream` and `timers` meet there.
//! - [`value`]: what a key holds, its tag, and the JSON text writer.
//! - [`store`]: one run's keys and values.
//! - [`event`]: kinds of events and the table of routes.
//! - [`queue`]: deliveries that wait for a step, and events that a step collects.
//! - [`stream`]: what a run publishes.
//! - [`timers`]: the deadlines of a run. [`retry`]: when a failed step is tried again.
//! - [`replay`]: what a delivery has done so far, for a body that runs again; [`memo`]: the calls that it makes once;
//!   [`child`]: the runs that it starts.
//! - [`changes`]: changes of a state from outside.
//! - [`digest`]: a value by type and content, the same in every process: what is the same input, the same event.
//! - [`places`]: how many runs of a workflow execute at once.
//! - [`record`]: what happens to a run; [`image`]: a run as plain data, the fold of its records;
//!   [`translate`]: either as objects of a host or as bytes.
//! - [`snapshot`]: a run as bytes. [`journal`]: where runs are written down: a record as bytes, requests,
//!   answers, and the backends.
//! - [`history`]: what a journal has of a run, as the run that goes on from it; forks, and runs that are tried again.
//! - [`writer`]: what of a run is written to its journal, and when. [`family`]: what parents and children write to each
//!   other.
//! - [`engine`]: one process's part in the runs of a journal: the lease, claims, inboxes, retention, the orderly end.
//! - [`copy`]: moving runs from one journal to another.
//! - [`secret`]: what signs the values that must be trusted. `wire`: what is common to the bytes of both. `hex`: bytes as
//!   they are shown.
//! - `failpoint` (feature `failpoints`): where tests make a process die.
//! - [`run_id`], [`error`]: the name of a run, and what can go wrong.
//! - `python` (feature `python`): the binding, the only room that knows Python.

pub mod changes;
pub mod child;
pub mod digest;
pub mod engine;
pub mod error;
pub mod event;
pub mod family;
#[macro_use]
pub mod failpoint;
pub mod copy;
mod hex;
pub mod history;
pub mod image;
pub mod journal;
pub mod memo;
pub mod places;
pub mod queue;
pub mod rare;
pub mod record;
pub mod replay;
pub mod retry;
pub mod run;
pub mod run_id;
pub mod secret;
pub mod snapshot;
pub mod store;
pub mod stream;
pub mod timers;
pub mod translate;
pub mod value;
mod wire;
pub mod writer;

#[cfg(feature = "python")]
mod python;

pub use changes::Changes;
pub use child::{Child, ChildEnd, Family, OnParentEnd, OpenChild};
pub use error::{Error, FormatError, Refused};
pub use event::{Body, Delivery, EncodedEvent, EventKind, Routes, StepId};
pub use image::{EncodedImage, Grouped, Held, Image, Pending, Status, Waiting};
pub use memo::{ArgumentsDigest, Kept, Memo, MemoCall, Memos, Strand, Turn};
pub use places::Places;
pub use queue::{Collected, Queue};
pub use rare::Rare;
pub use record::{EncodedRecord, Record};
pub use replay::{Collection, Failure, Replay, Wanted};
pub use retry::{Backoff, RetryPlan};
pub use run::{
    Answer, Arrival, ChildBegun, ChildCall, Collecting, Deadline, Gathered, Host, HostDelivery, HostImage, HostRecord,
    Leftover, Limits, Lookup, MAX_FAMILY_DEPTH, MOST_IN_A_ROW, MOST_SENT, Once, Origin, Outbound, Phase, Plan,
    Progress, Question, Remains, Route, Routed, Routing, Run, Setbacks, Slot, Started, StepPlan, Unkept, WaitId,
    WaitOver, message_id,
};
pub use run_id::RunId;
pub use secret::{KeyId, Secrets};
pub use snapshot::Inspection;
pub use store::Store;
pub use stream::{Read, Stream};
pub use timers::{Time, Timers};
pub use translate::Translate;
pub use value::{JsonWriter, MAX_DEPTH, Stored, Tag, Value};
