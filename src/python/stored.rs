//! Events, values and classes of Python as stored bytes, and back.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyType};

use super::convert::{PyValue, decode};
use super::error;
use super::event::{self, class_name};
use super::state::Class;
use crate::{Body, EncodedEvent, Translate, Value};

/// From objects to bytes. Nothing large is copied: what an object holds is lent.
pub struct ToBytes<'py> {
    py: Python<'py>,
    lists: Lists<Class, Arc<str>>,
}

// Lists of classes may be long, and shared by many: each is translated once. The list is held so that its address
// cannot come to mean another one.
type Lists<From, To> = HashMap<usize, (Arc<[From]>, Arc<[To]>)>;

impl<'py> ToBytes<'py> {
    pub fn new(py: Python<'py>) -> Self {
        Self { py, lists: HashMap::new() }
    }

    pub fn value(&mut self, value: &PyValue) -> PyResult<Value> {
        let class = match value {
            PyValue::Opaque(_, class) => Some(self.opaque_class(class)?),
            _ => None,
        };
        let (tag, bytes) = value.lend(self.py);
        Ok(Value { tag, class, bytes })
    }

    fn opaque_class(&mut self, class: &Py<PyAny>) -> PyResult<Arc<str>> {
        let class = class.bind(self.py);
        match class.cast::<PyType>() {
            Ok(class) => Ok(class_name(class)),
            Err(_) => Ok(class.cast::<PyString>()?.to_str()?.into()),
        }
    }

    pub fn event(&mut self, event: &Bound<'py, PyAny>) -> PyResult<EncodedEvent> {
        let parts = event::parts(event)?;
        let class = class_name(&event.get_type());
        let mut values = parts.values.into_iter();
        if parts.is_whole
            && let Some((_, whole)) = values.next()
        {
            return Ok(EncodedEvent { class, body: Body::Whole(self.value(&whole)?) });
        }
        let fields = values.map(|(name, value)| Ok((name.into(), self.value(&value)?)));
        Ok(EncodedEvent { class, body: Body::Fields(fields.collect::<PyResult<_>>()?) })
    }
}

impl Translate<Py<PyAny>, PyValue, Class> for ToBytes<'_> {
    type Event = EncodedEvent;
    type Value = Value;
    type Class = Arc<str>;
    type Error = PyErr;

    fn event(&mut self, event: Py<PyAny>) -> PyResult<EncodedEvent> {
        Self::event(self, event.bind(self.py))
    }

    fn value(&mut self, _key: &str, value: PyValue) -> PyResult<Value> {
        Self::value(self, &value)
    }

    fn class(&mut self, class: &Class) -> PyResult<Arc<str>> {
        Ok(class_name(class.0.bind(self.py)))
    }

    fn classes(&mut self, classes: &Arc<[Class]>) -> PyResult<Arc<[Arc<str>]>> {
        let address = classes.as_ptr() as usize;
        if let Some((_, known)) = self.lists.get(&address) {
            return Ok(Arc::clone(known));
        }
        let names: Arc<[_]> = classes.iter().map(|class| self.class(class)).collect::<PyResult<_>>()?;
        self.lists.insert(address, (Arc::clone(classes), Arc::clone(&names)));
        Ok(names)
    }
}

/// From bytes to objects. An opaque value must have been verified: it is unpickled.
pub struct ToObjects<'a, 'py> {
    // The classes that stored events may be of, by name.
    classes: &'a Bound<'py, PyDict>,
    lists: Lists<Arc<str>, Class>,
}

impl<'a, 'py> ToObjects<'a, 'py> {
    /// For events of these classes, by name.
    pub fn new(classes: &'a Bound<'py, PyDict>) -> Self {
        Self { classes, lists: HashMap::new() }
    }

    /// The class of this name, if the workflow's steps name it.
    pub fn find(&self, name: &str) -> PyResult<Option<Bound<'py, PyType>>> {
        Ok(match self.classes.get_item(name)? {
            Some(class) => Some(class.cast_into()?),
            None => None,
        })
    }

    fn class_named(&self, name: &str) -> PyResult<Bound<'py, PyType>> {
        self.find(name)?.ok_or_else(|| error::incompatible(vec![format!("no step names the class {name}")]))
    }

    pub fn stored_value(&self, value: Value) -> PyResult<PyValue> {
        let py = self.classes.py();
        let class = value.class.as_deref().unwrap_or_default();
        PyValue::from_stored(py, value.tag, &value.bytes, class)
    }

    fn object(&self, place: &str, value: Value) -> PyResult<Bound<'py, PyAny>> {
        decode(self.classes.py(), place, &self.stored_value(value)?)
    }
}

impl Translate<EncodedEvent, Value, Arc<str>> for ToObjects<'_, '_> {
    type Event = Py<PyAny>;
    type Value = PyValue;
    type Class = Class;
    type Error = PyErr;

    fn event(&mut self, event: EncodedEvent) -> PyResult<Py<PyAny>> {
        static RESTORED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = self.classes.py();
        let name = event.class;
        let fields = match event.body {
            Body::Whole(value) => return Ok(self.object(&format!("event {name}"), value)?.unbind()),
            Body::Fields(fields) => fields,
        };
        let class = self.class_named(&name)?;
        let values = PyDict::new(py);
        for (field, value) in fields {
            let value = self.object(&format!("event {name}, field {field}"), value)?;
            values.set_item(PyString::intern(py, &field), value)?;
        }
        Ok(RESTORED.import(py, "treadle.events", "restored")?.call1((class, values))?.unbind())
    }

    fn value(&mut self, _key: &str, value: Value) -> PyResult<PyValue> {
        self.stored_value(value)
    }

    fn class(&mut self, class: &Arc<str>) -> PyResult<Class> {
        Ok(Class(self.class_named(class)?.unbind()))
    }

    fn classes(&mut self, classes: &Arc<[Arc<str>]>) -> PyResult<Arc<[Class]>> {
        let address = classes.as_ptr() as usize;
        if let Some((_, known)) = self.lists.get(&address) {
            return Ok(Arc::clone(known));
        }
        let found: Arc<[_]> = classes.iter().map(|class| self.class(class)).collect::<PyResult<_>>()?;
        self.lists.insert(address, (Arc::clone(classes), Arc::clone(&found)));
        Ok(found)
    }
}

/// The bytes of a `bytes` object, lent: the object lives as long as they do.
pub fn lend(object: &Bound<'_, PyBytes>) -> Bytes {
    Bytes::from_owner(Lent { bytes: std::ptr::from_ref(object.as_bytes()), _object: object.clone().unbind() })
}

struct Lent {
    bytes: *const [u8],
    _object: Py<PyBytes>,
}

// SAFETY: the bytes of a `bytes` object never change and never move, so any thread may read them; dropping the
// reference away from the interpreter is what `Py` provides for.
unsafe impl Send for Lent {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the object that holds the bytes is alive as long as `self` is.
        unsafe { &*self.bytes }
    }
}
