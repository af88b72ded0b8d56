//! Where the database is: a URL, and the environment for what it leaves open.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};

use super::tls::Verify;
use crate::journal::address::Password;

/// How a URL begins.
pub const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// How long an answer may take before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(10);
const CONNECTING: Duration = Duration::from_secs(5);

const KNOWN: &str = "application_name, connect_timeout, dbname, host, listen, password, patience, port, prepare, \
     schema, sslmode, sslrootcert, target_session_attrs, user";

/// Where a journal is, and how it is reached. The password is in `server` alone, which no text shows.
#[derive(Clone)]
pub struct Place {
    pub(super) server: Config,
    // Asked for each connection, in the place of a password in `server`.
    pub(super) password: Option<Password>,
    // Whether the URL has a password, not a variable.
    has_password: bool,
    pub(super) verify: Verify,
    pub(super) root_certificates: Option<PathBuf>,
    pub(super) schema: String,
    // A second way to the same database, for notifications, where a pool is between.
    pub(super) listen: Option<Box<Place>>,
    // Whether statements are prepared: not where a pool gives each transaction another connection.
    pub(super) is_prepared: bool,
    pub(super) patience: Duration,
    // For people: without user and password.
    pub(super) name: String,
}

/// What is wrong with a URL. It never shows the URL, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadUrl(pub String);

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadUrl {}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.name).finish()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Place {
    /// Reads a URL; what it leaves open is taken from the variables `PG*`.
    ///
    /// # Errors
    /// [`BadUrl`] if it is not one, or has a parameter that is not known.
    pub fn parse(url: &str) -> Result<Self, BadUrl> {
        Self::parse_with(url, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// As [`parse`](Self::parse), with these variables.
    pub fn parse_with(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, BadUrl> {
        Self::read(url, &variable)
    }

    /// The same, with passwords that are asked for, one for each connection.
    pub fn with_password(self, password: Option<Password>) -> Self {
        let listen = self.listen.map(|place| Box::new(place.with_password(password.clone())));
        Self { password, listen, ..self }
    }

    /// Whether its URL, or the one to listen at, has a password.
    pub fn has_password(&self) -> bool {
        self.has_password || self.listen.as_ref().is_some_and(|place| place.has_password())
    }

    fn read(url: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, BadUrl> {
        let rest = SCHEMES.iter().find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.ok_or_else(|| bad("a URL of PostgreSQL begins with postgresql://"))?;
        let mut parts = Parts::default();
        parts.read(rest)?;
        parts.has_password = parts.password.is_some();
        parts.complete(variable)?;
        let listen = match parts.listen.take() {
            Some(url) => {
                let mut place = Self::read(&url, variable).map_err(|error| bad(format!("listen: {error}")))?;
                place.schema.clone_from(&parts.schema);
                Some(Box::new(place))
            }
            None => None,
        };
        parts.finish(listen)
    }
}

#[derive(Default)]
struct Parts {
    user: Option<String>,
    password: Option<String>,
    has_password: bool,
    hosts: Vec<String>,
    ports: Vec<u16>,
    database: Option<String>,
    application: Option<String>,
    mode: Option<String>,
    root_certificates: Option<String>,
    connect_timeout: Option<Duration>,
    must_write: bool,
    schema: String,
    listen: Option<String>,
    is_pooled: bool,
    patience: Option<Duration>,
}

impl Parts {
    fn read(&mut self, rest: &str) -> Result<(), BadUrl> {
        self.schema = "treadle".into();
        if rest.contains('#') {
            return Err(bad("a URL has no #: write %23"));
        }
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
        if let Some(user) = user {
            let (name, password) = user.split_once(':').map_or((user, None), |(name, word)| (name, Some(word)));
            self.user = Some(decoded(name, "user")?).filter(|name| !name.is_empty());
            self.password = password.map(|word| decoded(word, "password")).transpose()?;
        }
        self.read_hosts(hosts)?;
        self.database = Some(decoded(database, "database")?).filter(|name| !name.is_empty());
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or_else(|| bad("a parameter is NAME=VALUE"))?;
            let name = decoded(name, "the name of a parameter")?;
            let value = decoded(value, &name)?;
            self.set(&name, value)?;
        }
        Ok(())
    }

    fn read_hosts(&mut self, hosts: &str) -> Result<(), BadUrl> {
        for host in hosts.split(',').filter(|host| !host.is_empty()) {
            let end = host.rfind(']').map_or(0, |at| at + 1);
            let (name, port) = match host[end..].rfind(':') {
                Some(at) => (&host[..end + at], Some(&host[end + at + 1..])),
                None => (host, None),
            };
            let name = decoded(name.trim_start_matches('[').trim_end_matches(']'), "host")?;
            self.hosts.push(if name.is_empty() { "localhost".into() } else { name });
            self.ports.push(port.filter(|port| !port.is_empty()).map_or(Ok(5432), number)?);
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), BadUrl> {
        match name {
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "host" => {
                self.hosts = value.split(',').map(str::to_owned).collect();
                self.ports.clear();
            }
            "port" => self.ports = value.split(',').map(number).collect::<Result<_, _>>()?,
            "dbname" => self.database = Some(value),
            "application_name" => self.application = Some(value),
            "sslmode" => self.mode = Some(value),
            "sslrootcert" => self.root_certificates = Some(value),
            "connect_timeout" => self.connect_timeout = Some(seconds(name, &value)?),
            "patience" => self.patience = Some(seconds(name, &value)?),
            "target_session_attrs" => self.must_write = one_of(name, &value, &[("any", false), ("read-write", true)])?,
            "prepare" => self.is_pooled = one_of(name, &value, &[("true", false), ("false", true)])?,
            "schema" => self.schema = value,
            "listen" => self.listen = Some(value),
            _ => return Err(bad(format!("there is no parameter {name:?}; there are {KNOWN}"))),
        }
        Ok(())
    }

    fn complete(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), BadUrl> {
        if self.hosts.is_empty() {
            let host = variable("PGHOST").or_else(socket_directory).unwrap_or_else(|| "localhost".into());
            self.hosts = host.split(',').map(str::to_owned).collect();
        }
        if self.ports.is_empty() {
            let ports = variable("PGPORT").map(|ports| ports.split(',').map(number).collect::<Result<_, _>>());
            self.ports = ports.unwrap_or_else(|| Ok(vec![5432]))?;
        }
        self.user = self.user.take().or_else(|| ["PGUSER", "USER", "LOGNAME"].into_iter().find_map(variable));
        self.password = self.password.take().or_else(|| variable("PGPASSWORD"));
        self.database = self.database.take().or_else(|| variable("PGDATABASE")).or_else(|| self.user.clone());
        self.mode = self.mode.take().or_else(|| variable("PGSSLMODE"));
        self.root_certificates = self.root_certificates.take().or_else(|| variable("PGSSLROOTCERT"));
        self.application = self.application.take().or_else(|| variable("PGAPPNAME"));
        if self.schema.is_empty() || self.schema.len() > 63 || self.schema.contains('\0') {
            return Err(bad("schema: a name of 1 to 63 bytes expected"));
        }
        Ok(())
    }

    fn finish(self, listen: Option<Box<Place>>) -> Result<Place, BadUrl> {
        let user = self.user.ok_or_else(|| bad("a user is missing: postgresql://USER@HOST/DATABASE, or PGUSER"))?;
        let database = self.database.unwrap_or_else(|| user.clone());
        let has_socket = self.hosts.iter().all(|host| host.starts_with('/'));
        let (mode, verify) = match self.mode.as_deref() {
            _ if has_socket => (SslMode::Disable, Verify::Nothing),
            None | Some("prefer") => (SslMode::Prefer, Verify::Nothing),
            Some("disable") => (SslMode::Disable, Verify::Nothing),
            Some("no-verify") => (SslMode::Require, Verify::Nothing),
            Some("verify-ca") => (SslMode::Require, Verify::Chain),
            Some("require" | "verify-full") => (SslMode::Require, Verify::Full),
            Some(other) => {
                return Err(bad(format!(
                    "sslmode: one of disable, prefer, no-verify, verify-ca, require, verify-full expected, not {other:?}"
                )));
            }
        };
        if self.ports.len() != 1 && self.ports.len() != self.hosts.len() {
            return Err(bad("port: one, or one for each host"));
        }
        let places: Vec<_> = (0..)
            .zip(&self.hosts)
            .map(|(at, host)| {
                let port = self.ports.get(at).or(self.ports.first()).copied().unwrap_or(5432);
                if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
            })
            .collect();
        let name = format!("postgresql://{}/{database} (schema {})", places.join(","), self.schema);
        let mut server = Config::new();
        server.user(user).dbname(database).ssl_mode(mode);
        server.application_name(self.application.unwrap_or_else(|| "treadle".into()));
        server.connect_timeout(self.connect_timeout.unwrap_or(CONNECTING));
        // A peer that is gone is noticed long before the default of two hours.
        server
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3);
        server.tcp_user_timeout(Duration::from_secs(20));
        for host in &self.hosts {
            if host.starts_with('/') {
                server.host_path(host)
            } else {
                server.host(host)
            };
        }
        for &port in &self.ports {
            server.port(port);
        }
        if let Some(password) = self.password {
            server.password(password);
        }
        // A list of hosts is that of a primary and its replicas: the journal writes.
        if self.must_write || self.hosts.len() > 1 {
            server.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Ok(Place {
            server,
            password: None,
            has_password: self.has_password,
            verify,
            root_certificates: self.root_certificates.filter(|path| path != "system").map(PathBuf::from),
            schema: self.schema,
            listen,
            is_prepared: !self.is_pooled,
            patience: self.patience.unwrap_or(PATIENCE),
            name,
        })
    }
}

fn bad(what: impl Into<String>) -> BadUrl {
    BadUrl(what.into())
}

fn socket_directory() -> Option<String> {
    ["/var/run/postgresql", "/tmp"]
        .into_iter()
        .find(|place| {
            std::fs::read_dir(place).is_ok_and(|mut entries| {
                entries
                    .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with(".s.PGSQL.")))
            })
        })
        .map(str::to_owned)
}

fn number(text: &str) -> Result<u16, BadUrl> {
    text.parse().ok().filter(|&port| port > 0).ok_or_else(|| bad("port: a number from 1 to 65535 expected"))
}

fn seconds(name: &str, text: &str) -> Result<Duration, BadUrl> {
    let seconds = text.parse().ok().filter(|&seconds| seconds > 0.0);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| bad(format!("{name}: seconds expected, more than 0")))
}

fn one_of<T: Copy>(name: &str, value: &str, values: &[(&str, T)]) -> Result<T, BadUrl> {
    let found = values.iter().find(|(known, _)| *known == value).map(|&(_, meaning)| meaning);
    found.ok_or_else(|| {
        let known: Vec<_> = values.iter().map(|&(known, _)| known).collect();
        bad(format!("{name}: {} expected", known.join(" or ")))
    })
}

fn decoded(text: &str, what: &str) -> Result<String, BadUrl> {
    let wrong = || bad(format!("{what}: % is followed by two hexadecimal digits, and the whole is UTF-8"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong()).and_then(|text| match text.contains('\0') {
        true => Err(bad(format!("{what}: it has a zero byte"))),
        false => Ok(text),
    })
}
