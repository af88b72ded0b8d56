//! Events of Python as stored events and back.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::{PyBaseException, PyException};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType, PyWeakrefMethods, PyWeakrefReference};
use xxhash_rust::xxh3::Xxh3;

use super::convert::{self, PyValue};
use super::text;

/// The parts of an event: its fields by name, or the whole of it under no name.
pub struct Parts {
    pub is_whole: bool,
    pub values: Vec<(String, PyValue)>,
}

/// Takes an event apart.
///
/// # Errors
/// `UnstorableValue` that names the event and the field, if something of it does not pickle.
pub fn parts(event: &Bound<'_, PyAny>) -> PyResult<Parts> {
    let class = event.get_type();
    if !is_stored_by_field(&class)? {
        let value = convert::encode(&place(&class, None), event)?;
        return Ok(Parts { is_whole: true, values: vec![(String::new(), value)] });
    }
    let fields = event.getattr(intern!(event.py(), "__dict__"))?.cast_into::<PyDict>()?;
    let mut values = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let name = text::key(&name)?.to_owned();
        let place = || place(&class, Some(&name));
        let value = if value.is_instance_of::<PyBaseException>() {
            encode_exception(&value, place)?
        } else {
            convert::encode_named(&value, place)?
        };
        values.push((name, value));
    }
    Ok(Parts { is_whole: false, values })
}

/// The exception that an event carries or, if it does not pickle, one that says what it was.
#[cold]
fn encode_exception(exception: &Bound<'_, PyAny>, place: impl Fn() -> String) -> PyResult<PyValue> {
    let py = exception.py();
    let stored_errors = py.import(intern!(py, "treadle.stored_errors"))?;
    let storable = stored_errors.call_method1(intern!(py, "storable"), (exception,))?;
    match convert::encode_named(&storable, &place) {
        // It pickled a moment ago.
        Err(error) if error.is_instance_of::<PyException>(py) => {
            convert::encode_named(&stored_errors.call_method1(intern!(py, "stand_in"), (exception,))?, &place)
        }
        encoded => encoded,
    }
}

/// How errors name a field of an event.
fn place(class: &Bound<'_, PyType>, field: Option<&str>) -> String {
    let class = text::type_name(class);
    field.map_or_else(|| format!("event {class}"), |field| format!("field {field} of event {class}"))
}

// Of classes that are gone, and may be made anew for each run, not more than these are remembered.
const MOST_CLASSES: usize = 4096;
// By the address of the class, which means that class as long as the weak reference does.
pub(super) type Known<T> = Mutex<Option<HashMap<usize, (Py<PyWeakrefReference>, T)>>>;

/// What `find` gives for a class, or gave before. The class is not kept alive: what its methods refer to may be a run.
pub(super) fn remembered<T: Clone>(
    known: &Known<T>,
    class: &Bound<'_, PyType>,
    find: impl FnOnce() -> PyResult<T>,
) -> PyResult<T> {
    let address = class.as_ptr() as usize;
    let py = class.py();
    if let Some((reference, found)) = known.lock().as_ref().and_then(|known| known.get(&address))
        && reference.bind(py).upgrade().is_some()
    {
        return Ok(found.clone());
    }
    let found = find()?;
    let reference = PyWeakrefReference::new(class)?.unbind();
    let mut known = known.lock();
    let forgotten = known.take_if(|known| known.len() >= MOST_CLASSES);
    let replaced = known.get_or_insert_default().insert(address, (reference, found.clone()));
    drop(known);
    drop((forgotten, replaced));
    Ok(found)
}

/// Whether the fields of an event are all that there is of it, so that they can be stored one by one.
fn is_stored_by_field(class: &Bound<'_, PyType>) -> PyResult<bool> {
    static TEST: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static BY_FIELD: Known<bool> = Mutex::new(None);
    remembered(&BY_FIELD, class, || {
        TEST.import(class.py(), "treadle.events", "is_stored_by_field")?.call1((class,))?.is_truthy()
    })
}

/// The digest that an event had before there were versions of digests: over its pickles, which say more than what
/// the event holds. It is computed only to compare with one that was stored then. Nothing for an event that cannot
/// be stored.
pub fn digest_without_version(event: &Bound<'_, PyAny>) -> PyResult<Option<u128>> {
    let py = event.py();
    let parts = match parts(event) {
        Ok(parts) => parts,
        Err(error) if error.is_instance_of::<PyException>(py) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut hash = Xxh3::new();
    let mut add = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(class_name(&event.get_type()).as_bytes());
    for (name, value) in &parts.values {
        add(name.as_bytes());
        value.with_bytes(py, |tag, bytes| {
            add(&[tag as u8]);
            add(bytes);
        })?;
    }
    Ok(Some(hash.digest128()))
}

/// The name by which a class is found again: its module and its qualified name.
///
/// A class that is given another name later keeps the first one: what is stored under it must be found again.
pub fn class_name(class: &Bound<'_, PyType>) -> Arc<str> {
    static NAMES: Known<Arc<str>> = Mutex::new(None);
    // A class that cannot be referred to weakly is named each time.
    remembered(&NAMES, class, || Ok(found_name(class))).unwrap_or_else(|_| found_name(class))
}

fn found_name(class: &Bound<'_, PyType>) -> Arc<str> {
    let module = class.module().map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned());
    let name = class.qualname().map_or_else(|_| "?".to_owned(), |name| name.to_string_lossy().into_owned());
    format!("{module}:{name}").into()
}
