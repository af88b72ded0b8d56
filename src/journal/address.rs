//! Journals by their URLs: the table of backends.
//!
//! `scheme:PLACE?name=value&name=value`. A backend says what its place looks like and which parameters it has; all else
//! is an error that lists what is known.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "sqlite")]
use std::time::Duration;

use super::error::JournalError;
use super::{Journal, OnBatch};

/// Gives the password for a new connection to a server, or says why there is none.
#[derive(Clone)]
pub struct Password(pub Arc<dyn Fn() -> Result<String, String> + Send + Sync>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// How a journal is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// It is only looked into: nothing is made or changed, and what would write is refused.
    pub only_looks: bool,
    /// There are secrets already: the journal keeps none of its own.
    pub has_secret: bool,
    /// What gives passwords, if the URL has none. Only a journal on a server takes it.
    pub password: Option<Password>,
}

/// A journal that was opened.
pub struct Opened {
    /// The journal.
    pub journal: Box<dyn Journal>,
    /// What it has to sign with.
    pub secret: KeptSecret,
}

/// What a journal itself has to sign with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum KeptSecret {
    /// Nothing: opaque values need a secret that is given.
    Nothing,
    /// Anything will do: what is written never leaves the process.
    Anything,
    /// This.
    Secret([u8; 32]),
}

/// Reads a URL: how it is shown, or what is wrong with it.
pub(super) type Reading = fn(&str) -> Result<String, String>;

/// One kind of journal.
pub(super) struct Backend {
    /// What its URLs begin with.
    pub(super) scheme: &'static str,
    /// What its URLs look like.
    pub(super) form: &'static str,
    pub(super) parameters: &'static [Parameter],
    /// Whether its place is the path of a file.
    pub(super) is_file: bool,
    /// Reads a URL of another form as a whole: how it is shown, or what is wrong with it.
    pub(super) read: Option<Reading>,
    /// Whether it connects to a server, with a password; and whether a URL has that password itself.
    pub(super) has_password: Option<fn(&str) -> bool>,
    pub(super) open: fn(&Address, OpenOptions, OnBatch) -> Result<Opened, JournalError>,
}

/// A parameter of a URL.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// What its value is, for people.
    pub(super) expected: &'static str,
    pub(super) check: fn(&str) -> bool,
}

/// Every backend that is built in.
const BACKENDS: &[&Backend] = &[
    &super::memory::BACKEND,
    &super::archive::BACKEND,
    #[cfg(feature = "sqlite")]
    &super::sqlite::BACKEND,
    #[cfg(feature = "postgres")]
    &super::postgres::BACKEND,
    #[cfg(feature = "postgres")]
    &super::postgres::SHORT,
];

/// Where a journal is, checked.
#[derive(Clone)]
pub struct Address {
    backend: &'static Backend,
    // What is behind the scheme; all of a URL that the backend reads as a whole.
    place: String,
    shown: String,
    parameters: Vec<(&'static str, String)>,
}

/// What is wrong with a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// No backend has such URLs.
    Unknown {
        /// The URL.
        url: String,
        /// What those of the backends look like.
        known: Vec<&'static str>,
    },
    /// The backend has no such parameter.
    UnknownParameter {
        /// What the URL begins with.
        scheme: &'static str,
        /// The parameter.
        name: String,
        /// Those that the backend has.
        known: Vec<&'static str>,
    },
    /// What the backend says that is wrong.
    Place {
        /// What.
        what: String,
    },
    /// A parameter is given twice.
    Twice {
        /// The parameter.
        name: &'static str,
    },
    /// The value of a parameter makes no sense.
    Value {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is expected.
        expected: &'static str,
    },
    /// Passwords are given apart from the URL, and nothing asks for one.
    NoServer,
    /// Passwords are given apart from the URL, and the URL has one as well.
    HasPassword,
}

impl Address {
    /// Reads a URL. The parameters are behind its last question mark.
    ///
    /// # Errors
    /// What is wrong with it, and what is known instead.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let unknown =
            || AddressError::Unknown { url: shown(url), known: BACKENDS.iter().map(|backend| backend.form).collect() };
        let backend = BACKENDS.iter().find(|backend| url.starts_with(backend.scheme)).ok_or_else(unknown)?;
        if let Some(read) = backend.read {
            let shown = read(url).map_err(|what| AddressError::Place { what })?;
            return Ok(Self { backend, place: url.into(), shown, parameters: Vec::new() });
        }
        let rest = &url[backend.scheme.len()..];
        let (place, query) = rest.rsplit_once('?').unwrap_or((rest, ""));
        if place.is_empty() == backend.is_file {
            return Err(unknown());
        }
        let mut address = Self { backend, place: place.into(), shown: url.into(), parameters: Vec::new() };
        query.split('&').filter(|one| !one.is_empty()).try_for_each(|one| address.add(one))?;
        Ok(address)
    }

    fn add(&mut self, parameter: &str) -> Result<(), AddressError> {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let known = self.backend.parameters;
        let Some(Parameter { name, expected, check }) = known.iter().find(|known| known.name == name) else {
            let known = known.iter().map(|known| known.name).collect();
            return Err(AddressError::UnknownParameter { scheme: self.backend.scheme, name: name.into(), known });
        };
        if self.parameter(name).is_some() {
            return Err(AddressError::Twice { name });
        }
        if !check(value) {
            return Err(AddressError::Value { name, value: value.into(), expected });
        }
        self.parameters.push((name, value.into()));
        Ok(())
    }

    /// The file of the journal, if it is in one.
    pub fn path(&self) -> Option<PathBuf> {
        self.backend.is_file.then(|| Path::new(&self.place).to_owned())
    }

    /// How the URL is shown: without user and password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Refuses passwords that are given apart from the URL.
    ///
    /// # Errors
    /// If the journal connects to no server, or the URL has a password as well.
    pub fn takes_password(&self) -> Result<(), AddressError> {
        match self.backend.has_password {
            None => Err(AddressError::NoServer),
            Some(has_password) if has_password(&self.place) => Err(AddressError::HasPassword),
            Some(_) => Ok(()),
        }
    }

    /// What is behind the scheme; all of a URL that the backend reads as a whole.
    #[cfg(feature = "postgres")]
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The value of a parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// Opens the journal. It blocks.
    ///
    /// # Errors
    /// Why the journal cannot be used.
    pub fn open(&self, options: OpenOptions, on_batch: OnBatch) -> Result<Opened, JournalError> {
        (self.backend.open)(self, options, on_batch)
    }
}

// A URL in an error: what may be a password is left out.
fn shown(url: &str) -> String {
    match url.split_once(':') {
        Some((scheme, rest)) if rest.contains('@') => format!("{scheme}:…"),
        _ => url.into(),
    }
}

/// A number of seconds as the value of a parameter.
#[cfg(feature = "sqlite")]
pub(super) fn seconds(value: &str) -> Option<Duration> {
    value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The place may hold a password.
        write!(f, "Address({}…)", self.backend.scheme)
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { url, known } => write!(f, "{} expected, not {url:?}", known.join(" or ")),
            Self::UnknownParameter { scheme, name, known } => {
                write!(f, "{name:?} is no parameter of {scheme}, which has ")?;
                match known.as_slice() {
                    [] => f.write_str("none")?,
                    known => f.write_str(&known.join(", "))?,
                }
                f.write_str("; a question mark that belongs to the place needs another one behind the place")
            }
            Self::Place { what } => f.write_str(what),
            Self::Twice { name } => write!(f, "the parameter {name} is given twice"),
            Self::Value { name, value, expected } => write!(f, "the parameter {name} is {expected}, not {value:?}"),
            Self::NoServer => f.write_str("only a journal on a PostgreSQL server takes a password"),
            Self::HasPassword => f.write_str("the URL has a password as well: leave one of the two out"),
        }
    }
}

impl std::error::Error for AddressError {}
