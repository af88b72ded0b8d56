//! The digest of a Python object: the walk over what it holds. `crate::digest` has the encoding.
//!
//! The walk has a stack of its own, so that no depth of nesting is too deep for it. It calls Python only to ask an
//! object what it consists of; what that raises makes the object one without a content, not the walk fail.

use std::cell::RefCell;

use hashbrown::HashMap;
use pyo3::exceptions::{PyException, PyMemoryError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString, PyTuple};

use super::apart::{Node, Nodes, Stop, Taken, plain_fields, spend, take_apart};
use super::event::{class_name, digest_without_version};
use crate::ArgumentsDigest;
use crate::digest::{ContentDigest, Encoder, Kind, PartDigest, version_of_input};
use crate::journal::Digest;

// What Python takes apart need not end. With more objects and items of these than this, or nested deeper, a value has a
// digest by its class alone.
const MOST_OBJECTS: usize = 1 << 22;
const MOST_OBJECTS_DEEP: usize = 1 << 16;
// The same of containers that are gone through again, because parts of a cycle have no encoding of their own.
const MOST_AGAIN: usize = 1 << 18;

/// The digest of a value: the same for the same content, in this process and in any other. What has no content
/// that could be told (a lock, an object that raises when it is asked) counts by its class.
///
/// # Errors
/// What is no `Exception`, as `KeyboardInterrupt`, and `MemoryError`.
pub fn digest(value: &Bound<'_, PyAny>) -> PyResult<ContentDigest> {
    let mut walk = Walk::with(Encoder::new());
    match walk.all(value) {
        Ok(()) => Ok(walk.encoder.finish()),
        Err(Stop::Raised(error)) => Err(error),
        Err(Stop::TooMuch) => {
            let mut encoder = Encoder::new();
            encoder.leaf(Kind::Nameless, class_name(&value.get_type()).as_bytes());
            Ok(encoder.finish())
        }
    }
}

/// The digest of an event that a body sends. Equal events have equal ones, as with [`digest`].
///
/// # Errors
/// As of [`digest`].
pub fn sent_digest(event: &Bound<'_, PyAny>) -> PyResult<u64> {
    match plain_digest(event) {
        Ok(Some(digest)) => return Ok(digest),
        // The walk says what the event counts as.
        Err(error) if !is_about_the_value(event.py(), &error) => return Err(error),
        Ok(None) | Err(_) => {}
    }
    let mut walk = Walk::with(Encoder::of_sent());
    match walk.all(event) {
        Ok(()) => Ok(walk.encoder.finish_sent()),
        Err(Stop::Raised(error)) => Err(error),
        Err(Stop::TooMuch) => {
            let mut encoder = Encoder::of_sent();
            encoder.leaf(Kind::Nameless, class_name(&event.get_type()).as_bytes());
            Ok(encoder.finish_sent())
        }
    }
}

/// The digest of a sent event whose fields have no parts, as the walk would compute it, without calling Python.
/// Nothing for any other event.
fn plain_digest(event: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    thread_local! {
        static ENCODER: RefCell<Option<Encoder>> = const { RefCell::new(None) };
    }
    let Some((class, fields)) = plain_fields(event)? else { return Ok(None) };
    Ok(ENCODER.with(|encoder| {
        let mut encoder = encoder.try_borrow_mut().ok()?;
        let encoder = encoder.get_or_insert_with(Encoder::of_sent);
        encoder.begin(Kind::Object);
        encoder.leaf(Kind::Class, class.as_bytes());
        encoder.begin(Kind::Map);
        for (name, value) in fields {
            encoder.item();
            if !(scalar(encoder, &name) && scalar(encoder, &value)) {
                encoder.clear();
                return None;
            }
        }
        encoder.end();
        encoder.end();
        Some(encoder.finish_sent())
    }))
}

/// The digest of the arguments of a call: that of the tuple of both.
///
/// # Errors
/// As of [`digest`].
pub fn arguments_digest(args: &Bound<'_, PyTuple>, keywords: &Bound<'_, PyDict>) -> PyResult<ArgumentsDigest> {
    thread_local! {
        static ENCODER: RefCell<Option<Encoder>> = const { RefCell::new(None) };
    }
    let plain = ENCODER.with(|encoder| {
        let mut encoder = encoder.try_borrow_mut().ok()?;
        let encoder = encoder.get_or_insert_with(Encoder::new);
        if plain_arguments(encoder, args, keywords) {
            return Some(encoder.finish_again());
        }
        encoder.clear();
        None
    });
    let found = match plain {
        Some(found) => found,
        None => digest(PyTuple::new(args.py(), [args.as_any(), keywords.as_any()])?.as_any())?,
    };
    Ok(found.of_input())
}

/// Encodes arguments that have no parts, as the walk would. Says whether they are such.
fn plain_arguments(encoder: &mut Encoder, args: &Bound<'_, PyTuple>, keywords: &Bound<'_, PyDict>) -> bool {
    encoder.begin(Kind::Tuple);
    encoder.begin(Kind::Tuple);
    if !args.iter_borrowed().all(|argument| scalar(encoder, &argument)) {
        return false;
    }
    encoder.end();
    encoder.begin(Kind::Map);
    for (name, value) in keywords.iter() {
        encoder.item();
        if !(scalar(encoder, &name) && scalar(encoder, &value)) {
            return false;
        }
    }
    encoder.end();
    encoder.end();
    true
}

/// A container that the walk is in.
struct Frame<'py> {
    nodes: Nodes<'py>,
    // How many nodes make an item, in what has no order; else 0.
    per_item: usize,
    at: usize,
    // The object, if it may be met again: then it is among those on the way.
    object: Option<Bound<'py, PyAny>>,
    // The outermost container that something in this one refers to.
    reaches: usize,
    objects_deep: usize,
    // It is gone through again.
    is_again: bool,
}

/// How a container was come to.
#[derive(Default)]
struct Met {
    is_again: bool,
    /// Python took it apart.
    is_object: bool,
}

struct Walk<'py> {
    encoder: Encoder,
    frames: Vec<Frame<'py>>,
    // The containers on the way to here, and how deep each is.
    way: HashMap<usize, usize>,
    // What was encoded already, with the encoding if it is the same at any place. The objects are held, so that their
    // addresses cannot come to mean others.
    known: HashMap<usize, (Bound<'py, PyAny>, Option<PartDigest>)>,
    left: usize,
    left_again: usize,
}

impl<'py> Walk<'py> {
    fn with(encoder: Encoder) -> Self {
        Self {
            encoder,
            frames: Vec::new(),
            way: HashMap::new(),
            known: HashMap::new(),
            left: MOST_OBJECTS,
            left_again: MOST_AGAIN,
        }
    }

    fn all(&mut self, value: &Bound<'py, PyAny>) -> Result<(), Stop> {
        self.value(value.clone())?;
        while let Some(frame) = self.frames.last_mut() {
            let Some(node) = frame.nodes.next() else {
                self.close();
                continue;
            };
            if frame.per_item > 0 && frame.at % frame.per_item == 0 {
                self.encoder.item();
            }
            frame.at += 1;
            match node {
                Node::Value(value) => self.value(value)?,
                Node::Container(kind, values) => {
                    self.open(kind, Nodes::Values(values.into_iter()), None, Met::default())?;
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, value: Bound<'py, PyAny>) -> Result<(), Stop> {
        if scalar(&mut self.encoder, &value) {
            return Ok(());
        }
        let address = value.as_ptr() as usize;
        let mut met = Met::default();
        // One reference is ours: without another it is met once.
        let may_come_again = references(&value) > 1;
        if may_come_again {
            if let Some(&depth) = self.way.get(&address) {
                self.encoder.above(self.frames.len() - depth);
                if let Some(frame) = self.frames.last_mut() {
                    frame.reaches = frame.reaches.min(depth);
                }
                return Ok(());
            }
            match self.known.get(&address) {
                Some((_, Some(digest))) => {
                    self.encoder.hashed(digest);
                    return Ok(());
                }
                known => met.is_again = known.is_some(),
            }
        }
        let taken = match take_apart(&value, &mut self.left) {
            Ok(taken) => taken,
            Err(Stop::Raised(error)) if is_about_the_value(value.py(), &error) => {
                Taken::Leaf(Kind::Nameless, class_name(&value.get_type()).as_bytes().to_vec())
            }
            Err(stop) => return Err(stop),
        };
        match taken {
            Taken::Leaf(Kind::Int, content) => self.encoder.large_int(&content),
            Taken::Leaf(kind, content) => self.encoder.leaf(kind, &content),
            Taken::Parts(kind, nodes) => self.open(kind, nodes, may_come_again.then_some(value), met)?,
            Taken::Object(kind, class, parts) => {
                met.is_object = true;
                self.open(kind, Nodes::Parts(parts.into_iter()), may_come_again.then_some(value), met)?;
                self.encoder.leaf(Kind::Class, class.as_bytes());
            }
        }
        Ok(())
    }

    fn open(&mut self, kind: Kind, nodes: Nodes<'py>, object: Option<Bound<'py, PyAny>>, met: Met) -> Result<(), Stop> {
        let depth = self.frames.len();
        let outer = self.frames.last();
        let objects_deep = outer.map_or(0, |frame| frame.objects_deep) + usize::from(met.is_object);
        let is_again = met.is_again || outer.is_some_and(|frame| frame.is_again);
        if objects_deep > MOST_OBJECTS_DEEP {
            return Err(Stop::TooMuch);
        }
        if met.is_object {
            spend(&mut self.left)?;
        }
        if is_again {
            spend(&mut self.left_again)?;
        }
        self.encoder.begin(kind);
        if let Some(object) = &object {
            self.way.insert(object.as_ptr() as usize, depth);
        }
        let per_item = match kind {
            Kind::Set | Kind::FrozenSet => 1,
            Kind::Map => 2,
            _ => 0,
        };
        self.frames.push(Frame { nodes, per_item, at: 0, object, reaches: depth, objects_deep, is_again });
        Ok(())
    }

    fn close(&mut self) {
        let digest = self.encoder.end();
        let Some(frame) = self.frames.pop() else { return };
        let depth = self.frames.len();
        if let Some(outer) = self.frames.last_mut() {
            outer.reaches = outer.reaches.min(frame.reaches);
        }
        let Some(object) = frame.object else { return };
        let address = object.as_ptr() as usize;
        self.way.remove(&address);
        let refers_out = frame.reaches < depth;
        // Mostly the other reference is that of the one place where it stands.
        if refers_out || (digest.is_some() && references(&object) > 2) {
            self.known.insert(address, (object, digest.filter(|_| !refers_out)));
        }
    }
}

/// Encodes an object of the usual types without parts. Says whether it was one.
#[inline]
fn scalar(encoder: &mut Encoder, value: &Bound<'_, PyAny>) -> bool {
    if let Ok(text) = value.cast_exact::<PyString>() {
        let Ok(text) = text.to_str() else { return false };
        encoder.leaf(Kind::Text, text.as_bytes());
    } else if value.is_none() {
        encoder.leaf(Kind::None, &[]);
    } else if let Ok(truth) = value.cast_exact::<PyBool>() {
        encoder.leaf(if truth.is_true() { Kind::True } else { Kind::False }, &[]);
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        encoder.float(number.value());
    } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        encoder.leaf(Kind::Bytes, bytes.as_bytes());
    } else if let Ok(number) = value.cast_exact::<PyInt>() {
        let Ok(number) = number.extract::<i64>() else { return false };
        encoder.int(number);
    } else {
        return false;
    }
    true
}

fn references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: reads a number of a live object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// Whether what was raised says something of the value: then it has no content that could be told.
fn is_about_the_value(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyException>(py) && !error.is_instance_of::<PyMemoryError>(py)
}

/// Whether an event, which has a digest as an input, is the one whose digest was stored, by whatever version.
pub fn is_same_input(event: &Bound<'_, PyAny>, input: &Digest, stored: &Digest) -> PyResult<bool> {
    if version_of_input(stored) > 0 {
        return Ok(input == stored);
    }
    let older = digest_without_version(event)?.map(u128::to_le_bytes);
    Ok(older.is_some_and(|older| older == stored[..16]))
}
