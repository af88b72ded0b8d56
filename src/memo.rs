//! Memos: calls that a delivery makes once. What each gave is kept, and a body that runs again is given it.
//!
//! The body's own task makes its calls in an order, and a body that runs again has to make them in that order: the
//! first one that differs is new, and so is everything that follows. In the tasks and threads that a body starts there
//! is no order: there a call is known by its name, its arguments and how often they came.

use std::collections::{BTreeMap, HashSet};

use hashbrown::{Equivalent, HashMap};

use crate::child::{Child, ChildEnd};
use crate::run_id::RunId;

/// A digest of the arguments of a call.
pub type ArgumentsDigest = [u8; 32];

/// What a call gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept<V> {
    /// What it returned.
    Result(V),
    /// What it raised.
    Failure(V),
    /// The run that it started.
    Child(Box<Child<V>>),
}

impl<V> Kept<V> {
    /// The value, whatever it stands for. There is none of a child that has not ended.
    pub fn value(&self) -> Option<&V> {
        match self {
            Self::Result(value) | Self::Failure(value) => Some(value),
            Self::Child(child) => child.end.as_ref().map(|end| end.value()),
        }
    }

    /// The same, with what `function` makes of its value.
    pub fn copied<T>(&self, function: impl FnOnce(&V) -> T) -> Kept<T> {
        match self {
            Self::Result(value) => Kept::Result(function(value)),
            Self::Failure(value) => Kept::Failure(function(value)),
            Self::Child(child) => Kept::Child(Box::new(child.copied(function))),
        }
    }

    /// The same of another value.
    ///
    /// # Errors
    /// That of the function.
    pub fn try_map<T, E>(self, function: impl FnOnce(V) -> Result<T, E>) -> Result<Kept<T>, E> {
        Ok(match self {
            Self::Result(value) => Kept::Result(function(value)?),
            Self::Failure(value) => Kept::Failure(function(value)?),
            Self::Child(child) => Kept::Child(Box::new(child.try_map(function)?)),
        })
    }
}

/// A call that is made once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemoCall {
    /// The name that the caller gave it.
    pub name: Box<str>,
    /// The digest of its arguments.
    pub arguments: ArgumentsDigest,
    /// Which of several it is.
    pub turn: Turn,
}

/// What tells a call from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    /// In the body's own task the calls have an order: one that began later has a larger number.
    Ordered(u64),
    /// In any other strand: how often this name came with these arguments.
    Occurrence(u64),
    /// The name alone tells it, in whatever strand and order.
    Named,
}

/// A call and what it gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memo<V> {
    /// The call.
    pub call: MemoCall,
    /// What it gave.
    pub kept: Kept<V>,
}

/// A line of calls, one after the other: the body's own task, or a task or a thread that it has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Strand(u32);

impl Strand {
    /// The body's own task.
    pub const BODY: Self = Self(0);
}

/// Whether a call was made before.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// It was: the number of its memo.
    Before(u64),
    /// It is to be made.
    New(MemoCall),
}

/// A name that tells a call from all others stands for another call: it was made with other arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherArguments;

/// The memos of a delivery, by number, and how far the body has come that runs now.
#[derive(Debug)]
pub struct Memos<V> {
    kept: BTreeMap<u64, Memo<V>>,
    seen: Option<Box<Seen>>,
}

// What the body that runs now has come to.
#[derive(Debug, Default)]
struct Seen {
    // Memos of earlier bodies that this one has not come to: those with an order, in the order in which the calls began,
    // and the others.
    ahead: BTreeMap<(u64, u64), u64>,
    known: HashMap<MemoCall, u64>,
    // Those that their name alone tells: the running body may come to them any number of times.
    named: HashMap<Box<str>, u64>,
    // How often each name came with the same arguments.
    counts: HashMap<Named, u64>,
    // The same of transactions.
    transactions: HashMap<Named, u64>,
    // The number of the last call with an order.
    begun: u64,
    strands: u32,
    // Those in which a new call was made: what follows there is new as well.
    strayed: HashSet<Strand>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Named {
    name: Box<str>,
    arguments: ArgumentsDigest,
}

#[derive(Hash)]
struct NamedBy<'a> {
    name: &'a str,
    arguments: &'a ArgumentsDigest,
}

impl Equivalent<Named> for NamedBy<'_> {
    fn equivalent(&self, named: &Named) -> bool {
        self.name == &*named.name && self.arguments == &named.arguments
    }
}

impl<V> Default for Memos<V> {
    fn default() -> Self {
        Self { kept: BTreeMap::new(), seen: None }
    }
}

impl<V: PartialEq> PartialEq for Memos<V> {
    /// Whether the same is kept; how much of it the running body has come to does not count.
    fn eq(&self, other: &Self) -> bool {
        self.kept == other.kept
    }
}

impl<V> FromIterator<(u64, Memo<V>)> for Memos<V> {
    fn from_iter<I: IntoIterator<Item = (u64, Memo<V>)>>(memos: I) -> Self {
        Self { kept: memos.into_iter().collect(), seen: None }
    }
}

impl<V> IntoIterator for Memos<V> {
    type Item = (u64, Memo<V>);
    type IntoIter = std::collections::btree_map::IntoIter<u64, Memo<V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.kept.into_iter()
    }
}

impl<V> Memos<V> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// The memos, by number.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, &Memo<V>)> {
        self.kept.iter().map(|(number, memo)| (*number, memo))
    }

    /// The memo of this number.
    pub fn get(&self, number: u64) -> Option<&Memo<V>> {
        self.kept.get(&number)
    }

    /// The child of this number has ended. The number may be that of another child by now, if its memo was void.
    ///
    /// # Errors
    /// What it gave, if there is no such child, or it has ended before.
    pub fn end_child(&mut self, number: u64, id: RunId, end: ChildEnd<V>) -> Result<(), ChildEnd<V>> {
        match self.kept.get_mut(&number).map(|memo| &mut memo.kept) {
            Some(Kept::Child(child)) if child.id == id && child.end.is_none() => {
                child.end = Some(end);
                Ok(())
            }
            _ => Err(end),
        }
    }

    /// The children that have not ended.
    pub fn open_children_mut(&mut self) -> impl Iterator<Item = (u64, &mut Child<V>)> {
        self.kept.iter_mut().filter_map(|(number, memo)| match &mut memo.kept {
            Kept::Child(child) if child.end.is_none() => Some((*number, &mut **child)),
            _ => None,
        })
    }

    /// The child of this number.
    pub fn child_mut(&mut self, number: u64) -> Option<&mut Child<V>> {
        match self.kept.get_mut(&number).map(|memo| &mut memo.kept) {
            Some(Kept::Child(child)) => Some(child),
            _ => None,
        }
    }

    /// Adds a memo behind all others. Says whether its number is larger than theirs.
    pub fn put(&mut self, number: u64, memo: Memo<V>) -> bool {
        let is_last = number == self.next_number();
        self.kept.insert(number, memo);
        is_last
    }

    /// Forgets a memo.
    pub fn forget(&mut self, number: u64) -> Option<Memo<V>> {
        self.kept.remove(&number)
    }

    /// A body begins: it has come to nothing yet.
    pub fn rewind(&mut self) {
        self.seen = None;
    }

    /// The number of the next memo.
    pub fn next_number(&self) -> u64 {
        self.kept.last_key_value().map_or(1, |(last, _)| last.saturating_add(1))
    }

    fn seen(&mut self) -> &mut Seen {
        let kept = &self.kept;
        self.seen.get_or_insert_with(|| {
            let mut seen = Seen::default();
            for (number, memo) in kept {
                match memo.call.turn {
                    Turn::Ordered(begun) => seen.ahead.insert((begun, *number), *number),
                    Turn::Occurrence(_) => seen.known.insert(memo.call.clone(), *number),
                    Turn::Named => seen.named.insert(memo.call.name.clone(), *number),
                };
            }
            Box::new(seen)
        })
    }

    /// A strand begins that was started by another one, or by none that is known. What follows a new call follows it
    /// there as well.
    pub fn new_strand(&mut self, starter: Option<Strand>) -> Strand {
        let seen = self.seen();
        seen.strands += 1;
        let strand = Strand(seen.strands);
        if starter.is_some_and(|starter| seen.strayed.contains(&starter)) {
            seen.strayed.insert(strand);
        }
        strand
    }

    /// The running body makes a call.
    pub fn begin(&mut self, strand: Strand, name: &str, arguments: &ArgumentsDigest) -> Begun {
        if strand == Strand::BODY {
            return self.begin_in_order(name, arguments);
        }
        let seen = self.seen();
        let occurrence = count(&mut seen.counts, name, arguments);
        let call = MemoCall { name: name.into(), arguments: *arguments, turn: Turn::Occurrence(occurrence) };
        if !seen.strayed.contains(&strand)
            && let Some(number) = seen.known.remove(&call)
        {
            return Begun::Before(number);
        }
        Begun::New(call)
    }

    /// The running body makes a call that its name alone tells, in whatever strand and order.
    ///
    /// # Errors
    /// It was made with other arguments.
    pub fn begin_named(&mut self, name: &str, arguments: &ArgumentsDigest) -> Result<Begun, OtherArguments> {
        let Some(number) = self.seen().named.get(name).copied() else {
            return Ok(Begun::New(MemoCall { name: name.into(), arguments: *arguments, turn: Turn::Named }));
        };
        let is_same = self.kept.get(&number).is_some_and(|memo| memo.call.arguments == *arguments);
        if is_same { Ok(Begun::Before(number)) } else { Err(OtherArguments) }
    }

    /// How often the running body has come to this transaction, with this time. No other call has a part in it: what a
    /// database has of a transaction is found again in whatever order a body makes its calls.
    pub fn transaction(&mut self, name: &str, arguments: &ArgumentsDigest) -> u64 {
        count(&mut self.seen().transactions, name, arguments)
    }

    fn begin_in_order(&mut self, name: &str, arguments: &ArgumentsDigest) -> Begun {
        if let Some((&(begun, number), _)) = self.seen().ahead.first_key_value()
            && let Some(memo) = self.kept.get(&number)
            && *memo.call.name == *name
            && memo.call.arguments == *arguments
        {
            let seen = self.seen();
            // A call that was kept before this one although it began later was made by it, and is not made again.
            seen.ahead.pop_first();
            while seen.ahead.first_key_value().is_some_and(|(_, other)| *other < number) {
                seen.ahead.pop_first();
            }
            seen.begun = seen.begun.max(begun);
            return Begun::Before(number);
        }
        let seen = self.seen();
        seen.begun = seen.begun.saturating_add(1);
        Begun::New(MemoCall { name: name.into(), arguments: *arguments, turn: Turn::Ordered(seen.begun) })
    }

    /// A strand has made a call that no earlier body had made there: what earlier ones did behind that point is void.
    /// Gives the numbers of those memos, which are to be forgotten.
    ///
    /// In the body's own task nothing is kept of what the body has not come to by now. In another strand the calls of
    /// that one are new from now on, and so are those of the body's own task that it has not come to: they may depend on
    /// this one. Other strands go on as before.
    ///
    /// What its name alone tells has no place among the others, and voids none.
    pub fn stray(&mut self, strand: Strand, call: &MemoCall) -> Vec<u64> {
        if call.turn == Turn::Named {
            return Vec::new();
        }
        let seen = self.seen();
        let mut void: Vec<_> = std::mem::take(&mut seen.ahead).into_values().collect();
        if strand == Strand::BODY {
            void.extend(seen.known.drain().map(|(_, number)| number));
        } else {
            seen.strayed.insert(strand);
            void.extend(seen.known.remove(call));
        }
        void.sort_unstable();
        void
    }

    /// The running body has made a call: a memo that it has come to. Gives its number.
    pub fn keep(&mut self, memo: Memo<V>) -> u64 {
        let number = self.next_number();
        // Built before the memo is there, so that the running body does not come to it again.
        let seen = self.seen();
        if memo.call.turn == Turn::Named {
            seen.named.insert(memo.call.name.clone(), number);
        }
        self.kept.insert(number, memo);
        number
    }
}

fn count(counts: &mut HashMap<Named, u64>, name: &str, arguments: &ArgumentsDigest) -> u64 {
    match counts.get_mut(&NamedBy { name, arguments }) {
        Some(count) => {
            *count += 1;
            *count
        }
        None => {
            counts.insert(Named { name: name.into(), arguments: *arguments }, 1);
            1
        }
    }
}
