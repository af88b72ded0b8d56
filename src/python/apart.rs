//! What an object consists of, for its digest.

use std::sync::Arc;
use std::vec::IntoIter;

use parking_lot::Mutex;
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyByteArray, PyBytes, PyDict, PyFrozenSet, PyFunction, PyInt, PyList, PyMemoryView, PySet, PyString, PyTuple,
    PyType,
};
use pyo3::{ffi, intern};

use super::event::{Known, class_name, remembered};
use crate::digest::Kind;

/// Why a walk ends before it has come to everything.
pub enum Stop {
    Raised(PyErr),
    /// There is more than a walk goes through.
    TooMuch,
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

/// One object or item less may come.
pub fn spend(left: &mut usize) -> Result<(), Stop> {
    *left = left.checked_sub(1).ok_or(Stop::TooMuch)?;
    Ok(())
}

/// A part that the walk has still to come to.
pub enum Node<'py> {
    Value(Bound<'py, PyAny>),
    /// A container that no object stands for.
    Container(Kind, Vec<Bound<'py, PyAny>>),
}

/// The parts of a container.
pub enum Nodes<'py> {
    Values(IntoIter<Bound<'py, PyAny>>),
    Parts(IntoIter<Node<'py>>),
}

impl<'py> Iterator for Nodes<'py> {
    type Item = Node<'py>;

    fn next(&mut self) -> Option<Node<'py>> {
        match self {
            Self::Values(values) => values.next().map(Node::Value),
            Self::Parts(parts) => parts.next(),
        }
    }
}

/// An object that was taken apart.
pub enum Taken<'py> {
    Leaf(Kind, Vec<u8>),
    Parts(Kind, Nodes<'py>),
    /// By Python, which may make new parts each time that it is asked.
    Object(Kind, Arc<str>, Vec<Node<'py>>),
}

/// Takes an object apart that is none of the usual types without parts. What it holds is referred to from then on:
/// Python code that runs later may change the object, not what was taken from it.
pub fn take_apart<'py>(value: &Bound<'py, PyAny>, left: &mut usize) -> Result<Taken<'py>, Stop> {
    let values = |kind, values: Vec<_>| Ok(Taken::Parts(kind, Nodes::Values(values.into_iter())));
    if let Ok(list) = value.cast_exact::<PyList>() {
        return values(Kind::List, list.iter().collect());
    }
    if let Ok(dict) = value.cast_exact::<PyDict>() {
        return values(Kind::Map, dict.iter().flat_map(<[_; 2]>::from).collect());
    }
    if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        return values(Kind::Tuple, tuple.iter().collect());
    }
    if let Ok(set) = value.cast_exact::<PySet>() {
        return values(Kind::Set, set.iter().collect());
    }
    if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
        return values(Kind::FrozenSet, set.iter().collect());
    }
    if let Some((kind, content)) = rare_leaf(value)? {
        return Ok(Taken::Leaf(kind, content));
    }
    object(value, left)
}

/// What has no parts, and is too rare to be asked for first.
fn rare_leaf(value: &Bound<'_, PyAny>) -> PyResult<Option<(Kind, Vec<u8>)>> {
    let py = value.py();
    if let Ok(number) = value.cast_exact::<PyInt>() {
        return Ok(Some((Kind::Int, int_bytes(number)?)));
    }
    if value.cast_exact::<PyString>().is_ok() {
        // It has a lone surrogate.
        let bytes = value.call_method1(intern!(py, "encode"), ("utf-8", "surrogatepass"))?;
        return Ok(Some((Kind::Text, bytes.cast_into::<PyBytes>()?.as_bytes().to_vec())));
    }
    if let Ok(bytes) = value.cast_exact::<PyByteArray>() {
        return Ok(Some((Kind::MutableBytes, bytes.to_vec())));
    }
    if value.cast_exact::<PyMemoryView>().is_ok() {
        // It is stored as `bytes`.
        let bytes = value.call_method0(intern!(py, "tobytes"))?;
        return Ok(Some((Kind::Bytes, bytes.cast_into::<PyBytes>()?.as_bytes().to_vec())));
    }
    if let Ok(class) = value.cast::<PyType>() {
        return Ok(Some((Kind::Class, class_name(class).as_bytes().to_vec())));
    }
    if value.cast_exact::<PyFunction>().is_ok() {
        let name = value.getattr(intern!(py, "__qualname__"))?;
        return Ok(Some((Kind::Global, global_name(value, &name)?)));
    }
    Ok(None)
}

/// A whole number as two's complement, the lowest byte first.
fn int_bytes(number: &Bound<'_, PyInt>) -> PyResult<Vec<u8>> {
    let py = number.py();
    let bits: usize = number.call_method0(intern!(py, "bit_length"))?.extract()?;
    let signed = PyDict::new(py);
    signed.set_item(intern!(py, "signed"), true)?;
    let bytes = number.call_method(intern!(py, "to_bytes"), (bits / 8 + 1, "little"), Some(&signed))?;
    Ok(bytes.cast_into::<PyBytes>()?.as_bytes().to_vec())
}

fn global_name(value: &Bound<'_, PyAny>, name: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let module = optional(value, "__module__")?;
    let module = module.as_ref().map(|module| module.str()).transpose()?;
    let module = module.as_ref().map_or(Ok(""), |module| module.to_str())?;
    Ok(format!("{module}:{}", name.str()?.to_str()?).into_bytes())
}

/// What the digest of an object is made of, by its class.
enum Shape {
    /// All attributes but these.
    Vars(Py<PyTuple>),
    /// These attributes.
    Fields(Py<PyTuple>),
    /// These attributes, and what else a pydantic model compares.
    Model(Py<PyTuple>),
    /// The items of a subclass of a set.
    Set(Kind),
    /// What this attribute says.
    Member(&'static str),
    Decimal,
    /// How `pickle` would make it again, and whether the order of its pairs counts.
    Rebuilt {
        is_ordered: bool,
    },
}

/// What the digest of an object is made of, and under which name of a class.
type NamedShape = Arc<(Shape, Arc<str>)>;

fn shape_of(class: &Bound<'_, PyType>) -> PyResult<NamedShape> {
    static SHAPE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static SHAPES: Known<NamedShape> = Mutex::new(None);
    remembered(&SHAPES, class, || {
        let told = SHAPE.import(class.py(), "treadle.shapes", "shape")?.call1((class,))?;
        let (kind, name, fields): (String, String, Bound<'_, PyTuple>) = told.extract()?;
        let fields = fields.unbind();
        let shape = match kind.as_str() {
            "vars" => Shape::Vars(fields),
            "fields" => Shape::Fields(fields),
            "model" => Shape::Model(fields),
            "set" => Shape::Set(Kind::Set),
            "frozenset" => Shape::Set(Kind::FrozenSet),
            "member" => Shape::Member("_name_"),
            "flag" => Shape::Member("_value_"),
            "decimal" => Shape::Decimal,
            _ => Shape::Rebuilt { is_ordered: kind == "ordered" },
        };
        let name = if name.is_empty() { class_name(class) } else { name.into() };
        Ok(Arc::new((shape, name)))
    })
}

fn object<'py>(value: &Bound<'py, PyAny>, left: &mut usize) -> Result<Taken<'py>, Stop> {
    let py = value.py();
    let shape = shape_of(&value.get_type())?;
    let (shape, class) = &*shape;
    let object = |kind, parts| Ok(Taken::Object(kind, Arc::clone(class), parts));
    match shape {
        Shape::Vars(left_out) => object(Kind::Object, vec![vars_without(value, left_out.bind(py))?]),
        Shape::Fields(names) => object(Kind::Object, vec![fields(value, names.bind(py))?]),
        Shape::Model(names) => object(Kind::Object, model(value, names.bind(py))?),
        Shape::Set(kind) => {
            let items = Node::Container(*kind, items_of_set(value)?);
            let vars = optional(value, "__dict__")?.map(Node::Value);
            object(Kind::Object, [items].into_iter().chain(vars).collect())
        }
        Shape::Member(attribute) => object(Kind::Member, vec![Node::Value(value.getattr(*attribute)?)]),
        Shape::Decimal => {
            static TEXT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let text: String = TEXT.import(py, "treadle.shapes", "decimal_text")?.call1((value,))?.extract()?;
            Ok(Taken::Leaf(Kind::Decimal, text.into_bytes()))
        }
        Shape::Rebuilt { is_ordered } => rebuilt(value, class, *is_ordered, left),
    }
}

/// The name of the class of an object and its fields, if these are all of its attributes.
pub fn plain_fields<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<(Arc<str>, Bound<'py, PyDict>)>> {
    match &*shape_of(&value.get_type())? {
        (Shape::Vars(left_out), class) if left_out.bind(value.py()).is_empty() => {
            Ok(Some((Arc::clone(class), dict_of(value)?)))
        }
        _ => Ok(None),
    }
}

/// An attribute, unless there is none.
fn optional<'py>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    match value.getattr(name) {
        Ok(attribute) => Ok(Some(attribute)),
        Err(error) if error.is_instance_of::<PyAttributeError>(value.py()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn dict_of<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    Ok(value.getattr(intern!(value.py(), "__dict__"))?.cast_into::<PyDict>()?)
}

fn vars_without<'py>(value: &Bound<'py, PyAny>, left_out: &Bound<'py, PyTuple>) -> PyResult<Node<'py>> {
    let mut vars = Vec::new();
    for (name, value) in dict_of(value)? {
        if left_out.is_empty() || !left_out.contains(&name)? {
            vars.extend([name, value]);
        }
    }
    Ok(Node::Container(Kind::Map, vars))
}

fn fields<'py>(value: &Bound<'py, PyAny>, names: &Bound<'py, PyTuple>) -> PyResult<Node<'py>> {
    let mut fields = Vec::with_capacity(2 * names.len());
    for name in names {
        let name = name.cast_into::<PyString>()?;
        match value.getattr(&name) {
            Ok(field) => fields.extend([name.into_any(), field]),
            // One that was never set, or was deleted.
            Err(error) if error.is_instance_of::<PyAttributeError>(value.py()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Node::Container(Kind::Map, fields))
}

fn model<'py>(value: &Bound<'py, PyAny>, names: &Bound<'py, PyTuple>) -> PyResult<Vec<Node<'py>>> {
    let vars = dict_of(value)?;
    let mut fields = Vec::with_capacity(2 * names.len());
    for name in names {
        if let Some(field) = vars.get_item(&name)? {
            fields.extend([name, field]);
        }
    }
    let mut parts = vec![Node::Container(Kind::Map, fields)];
    for more in ["__pydantic_extra__", "__pydantic_private__"] {
        let more = optional(value, more)?;
        parts.push(Node::Value(more.unwrap_or_else(|| value.py().None().into_bound(value.py()))));
    }
    Ok(parts)
}

/// The items of a set or of a subclass, whatever iterating over that would give.
fn items_of_set<'py>(value: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    // SAFETY: `value` is a live object; a new reference or an exception comes back.
    let items = unsafe { Bound::from_owned_ptr_or_err(value.py(), ffi::PyFrozenSet_New(value.as_ptr())) }?;
    Ok(items.cast_into::<PyFrozenSet>()?.iter().collect())
}

// `pickle` knows it from 3.8 on; later ones lend large buffers instead of showing them.
const PROTOCOL: u8 = 4;

/// How `pickle` would make an object again.
fn rebuilt<'py>(
    value: &Bound<'py, PyAny>,
    class: &Arc<str>,
    is_ordered: bool,
    left: &mut usize,
) -> Result<Taken<'py>, Stop> {
    static REDUCERS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let py = value.py();
    let reducers = REDUCERS.import(py, "copyreg", "dispatch_table")?;
    let reduced = match reducers.get_item(value.get_type())? {
        Some(reduce) => reduce.call1((value,))?,
        None => value.call_method1(intern!(py, "__reduce_ex__"), (PROTOCOL,))?,
    };
    if reduced.is_instance_of::<PyString>() {
        return Ok(Taken::Leaf(Kind::Global, global_name(value, &reduced)?));
    }
    let parts = reduced.cast_into::<PyTuple>().map_err(PyErr::from)?;
    if !(2..=6).contains(&parts.len()) {
        return Err(PyTypeError::new_err("what __reduce_ex__ returned has 2 to 6 parts").into());
    }
    let part = |at| parts.get_item(at).unwrap_or_else(|_| py.None().into_bound(py));
    let items = if part(3).is_none() { Vec::new() } else { collected(&part(3), left)? };
    let pairs = if part(4).is_none() { Vec::new() } else { collected(&part(4), left)? };
    let pairs =
        if is_ordered { Node::Container(Kind::List, pairs) } else { Node::Container(Kind::Map, unpaired(pairs)?) };
    let nodes = vec![
        Node::Value(part(0)),
        Node::Value(part(1)),
        Node::Value(part(2)),
        Node::Container(Kind::List, items),
        pairs,
        Node::Value(part(5)),
    ];
    Ok(Taken::Object(Kind::Rebuilt, Arc::clone(class), nodes))
}

/// What an iterator gives, which need not end.
fn collected<'py>(items: &Bound<'py, PyAny>, left: &mut usize) -> Result<Vec<Bound<'py, PyAny>>, Stop> {
    let mut collected = Vec::new();
    for item in items.try_iter()? {
        spend(left)?;
        collected.push(item?);
    }
    Ok(collected)
}

fn unpaired(pairs: Vec<Bound<'_, PyAny>>) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let mut unpaired = Vec::with_capacity(2 * pairs.len());
    for pair in pairs {
        let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
        unpaired.extend([key, value]);
    }
    Ok(unpaired)
}
