//! The exceptions of `treadle.exceptions`.

#![allow(missing_docs)]
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;

macro_rules! classes {
    ($($name:ident),+ $(,)?) => {
        $(pyo3::import_exception!(treadle.exceptions, $name);)+

        /// Imports them all. One that is imported late would panic: at the end of the interpreter nothing can be
        /// imported.
        pub fn load(py: Python<'_>) {
            $($name::type_object(py);)+
        }
    };
}

classes!(
    DamagedRun,
    EngineClosed,
    EventLoopError,
    FamilyTooDeep,
    IncompatibleSnapshot,
    InternalError,
    InvalidSignature,
    JournalConflict,
    JournalError,
    KeyConflict,
    OutsideStep,
    RetryFailed,
    RunCancelled,
    RunEnded,
    RunStalled,
    SnapshotError,
    StepCancelled,
    StepTimeout,
    TransactionError,
    UnknownRun,
    UnreadableValue,
    UnroutedEvent,
    UnsignedValue,
    UnstorableValue,
    WaitTimeout,
    WorkflowTimeout,
);
