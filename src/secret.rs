//! Secrets, and what is signed with them.
//!
//! A value that only the host can read runs code when it is read, so its author must know the secret.
//! Its signature covers the place where it stands: a value that is signed for one place is not taken at another.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::error::{Error, FormatError};
use crate::run_id::RunId;

/// A shorter secret is refused: it could be found by trying.
pub const SHORTEST_SECRET: usize = 16;

pub(crate) const SIGNATURE_LEN: usize = 32;

/// The signature of a value or of a snapshot.
pub(crate) type Signature = [u8; SIGNATURE_LEN];

type Sha256Mac = Hmac<Sha256>;

/// Tells which secret something was signed with; the secret cannot be found from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub(crate) [u8; 8]);

impl KeyId {
    /// The eight bytes.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The secrets that a signature may be made with. The first one signs, and a signature by any of them is valid:
/// to replace a secret, put the new one first.
#[derive(Clone, Default)]
pub struct Secrets(Arc<[Key]>);

impl Secrets {
    /// No secret: nothing is signed.
    pub fn none() -> Self {
        Self::default()
    }

    /// The secrets, the one that signs first.
    ///
    /// # Errors
    /// [`FormatError::ShortSecret`] if one is shorter than [`SHORTEST_SECRET`] bytes.
    pub fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let keys: Result<_, FormatError> = secrets.into_iter().map(|secret| Key::new(secret.as_ref())).collect();
        Ok(Self(keys?))
    }

    /// Whether there is no secret.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which key signs.
    pub fn signs_with(&self) -> Option<KeyId> {
        self.signing().map(|key| key.id)
    }

    pub(crate) fn signing(&self) -> Option<&Key> {
        self.0.first()
    }

    pub(crate) fn find(&self, id: KeyId) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }
}

impl fmt::Debug for Secrets {
    /// The names of the keys: a secret must not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secrets").field(&self.0.iter().map(|key| key.id).collect::<Vec<_>>()).finish()
    }
}

/// What is made from one secret: a key for each purpose, so that no signature can serve another one.
pub(crate) struct Key {
    pub id: KeyId,
    values: Sha256Mac,
    snapshots: Sha256Mac,
    journals: Sha256Mac,
}

/// What the signature of a value covers, besides the key and the run.
pub(crate) struct Signed<'a> {
    /// The version of what is covered.
    pub version: u16,
    /// Where it stands.
    pub place: &'a str,
    /// The class of the event that it is a part of.
    pub owner: &'a str,
    /// Its key, or the name of the field.
    pub name: Option<&'a str>,
    /// The name of its class.
    pub class: Option<&'a str>,
    /// Its bytes.
    pub body: &'a [u8],
}

impl Key {
    fn new(secret: &[u8]) -> Result<Self, FormatError> {
        if secret.len() < SHORTEST_SECRET {
            return Err(FormatError::ShortSecret { length: secret.len() });
        }
        let mut hash = Sha256::new();
        hash.update(b"treadle key id");
        hash.update(secret);
        let mut id = [0; 8];
        id.copy_from_slice(&hash.finalize()[..8]);
        let derived = |purpose: &[u8]| keyed(&keyed(secret).chain_update(purpose).finalize().into_bytes());
        Ok(Self {
            id: KeyId(id),
            values: derived(b"treadle values"),
            snapshots: derived(b"treadle snapshots"),
            journals: derived(b"treadle journals"),
        })
    }

    pub fn sign_value(&self, run: RunId, signed: &Signed<'_>) -> Signature {
        self.value_mac(run, signed).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub fn is_of_value(&self, signature: &[u8], run: RunId, signed: &Signed<'_>) -> bool {
        self.value_mac(run, signed).verify_slice(signature).is_ok()
    }

    pub fn sign_snapshot(&self, bytes: &[u8]) -> Signature {
        self.snapshots.clone().chain_update(bytes).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub fn is_of_snapshot(&self, signature: &[u8], bytes: &[u8]) -> bool {
        self.snapshots.clone().chain_update(bytes).verify_slice(signature).is_ok()
    }

    /// The signature of something of a run in a journal: what it is and where it stands, what comes before it, and
    /// its bytes.
    pub fn sign_in_journal(&self, run: RunId, place: &str, before: &Signature, bytes: &[u8]) -> Signature {
        self.journal_mac(run, place, before, bytes).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub fn is_of_journal(&self, signature: &[u8], run: RunId, place: &str, before: &Signature, bytes: &[u8]) -> bool {
        self.journal_mac(run, place, before, bytes).verify_slice(signature).is_ok()
    }

    fn journal_mac(&self, run: RunId, place: &str, before: &Signature, bytes: &[u8]) -> Sha256Mac {
        let mut mac = self.journals.clone();
        mac.update(&self.id.0);
        mac.update(run.as_bytes());
        mac.update(before);
        mac.update(&(place.len() as u64).to_be_bytes());
        mac.update(place.as_bytes());
        mac.update(bytes);
        mac
    }

    // Every part of changing length comes with its length: two different values never give the same bytes.
    fn value_mac(&self, run: RunId, signed: &Signed<'_>) -> Sha256Mac {
        let mut mac = self.values.clone();
        mac.update(&signed.version.to_be_bytes());
        mac.update(&self.id.0);
        mac.update(run.as_bytes());
        for part in [Some(signed.place), Some(signed.owner), signed.name, signed.class] {
            mac.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
            mac.update(part.unwrap_or_default().as_bytes());
        }
        mac.update(&(signed.body.len() as u64).to_be_bytes());
        mac.update(signed.body);
        mac
    }
}

fn keyed(key: &[u8]) -> Sha256Mac {
    Sha256Mac::new_from_slice(key).expect("HMAC takes a key of any length")
}
