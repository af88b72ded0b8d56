//! Children: runs that a body has started.
//!
//! A child is a call that a body makes once, as a memo is: a body that runs again finds the same child. What the child
//! gave comes later, and is kept with the call.

use bytes::Bytes;

use crate::run_id::RunId;

/// What becomes of a child when its parent ends first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnParentEnd {
    /// It is cancelled.
    #[default]
    Cancel,
    /// It goes on.
    Detach,
}

/// A child of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child<V> {
    /// Its name.
    pub id: RunId,
    /// The name of its workflow.
    pub workflow: Box<str>,
    /// What becomes of it when its parent ends first.
    pub on_parent_end: OnParentEnd,
    /// What it gave, once it is over.
    pub end: Option<ChildEnd<V>>,
    /// The child itself, as a snapshot: in the snapshot of a run that is in memory alone.
    pub inside: Option<Bytes>,
}

/// What a child gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildEnd<V> {
    /// Its result.
    Result(V),
    /// The error of a child that failed or was cancelled.
    Failure(V),
}

impl<V> ChildEnd<V> {
    /// The value, whatever it stands for.
    pub fn value(&self) -> &V {
        let (Self::Result(value) | Self::Failure(value)) = self;
        value
    }

    /// Whether it is an error.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failure(_))
    }

    /// The same of another value.
    ///
    /// # Errors
    /// That of the function.
    pub fn try_map<T, E>(self, function: impl FnOnce(V) -> Result<T, E>) -> Result<ChildEnd<T>, E> {
        Ok(match self {
            Self::Result(value) => ChildEnd::Result(function(value)?),
            Self::Failure(value) => ChildEnd::Failure(function(value)?),
        })
    }

    /// The same with a value for the place of each.
    pub fn copied<T>(&self, function: impl FnOnce(&V) -> T) -> ChildEnd<T> {
        match self {
            Self::Result(value) => ChildEnd::Result(function(value)),
            Self::Failure(value) => ChildEnd::Failure(function(value)),
        }
    }
}

impl<V> Child<V> {
    /// The same of another value.
    ///
    /// # Errors
    /// That of the function.
    pub fn try_map<T, E>(self, function: impl FnOnce(V) -> Result<T, E>) -> Result<Child<T>, E> {
        let end = self.end.map(|end| end.try_map(function)).transpose()?;
        let Self { id, workflow, on_parent_end, inside, .. } = self;
        Ok(Child { id, workflow, on_parent_end, end, inside })
    }

    /// The same, with what `function` makes of its value.
    pub fn copied<T>(&self, function: impl FnOnce(&V) -> T) -> Child<T> {
        Child {
            id: self.id,
            workflow: self.workflow.clone(),
            on_parent_end: self.on_parent_end,
            end: self.end.as_ref().map(|end| end.copied(function)),
            inside: self.inside.clone(),
        }
    }
}

/// A child that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenChild {
    /// The delivery whose body has started it.
    pub seq: u64,
    /// The number of its memo.
    pub number: u64,
    /// What becomes of it when its parent ends first.
    pub on_parent_end: OnParentEnd,
}

/// Where a child stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The run that has started it.
    pub parent: RunId,
    /// The first run of the family, which none has started.
    pub root: RunId,
    /// How many runs are above it.
    pub depth: u32,
}
