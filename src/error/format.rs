//! What can be wrong with the bytes of a snapshot or a record.

use std::fmt;

use crate::secret::{KeyId, SHORTEST_SECRET};

/// Why bytes were not made, or not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes do not begin as a snapshot does.
    NotASnapshot,
    /// They have a version that is not known here.
    UnknownVersion {
        /// The version.
        found: u16,
        /// The newest version that is known here.
        newest: u16,
    },
    /// They have a feature that is not known here.
    UnknownFlags(u16),
    /// They end too early.
    Truncated,
    /// More bytes follow where they should end.
    TrailingBytes,
    /// They cannot have been written by this format.
    Malformed {
        /// The place: how many bytes come before it.
        at: usize,
        /// What is wrong there.
        why: &'static str,
    },
    /// The checksum does not match: they were damaged.
    Damaged,
    /// The signature of a snapshot does not match: it was changed after it was signed.
    Changed,
    /// The signature of a value does not match: it was changed, or was signed for another place or another run.
    ValueChanged {
        /// Where the value stands.
        place: String,
    },
    /// Not all of it is signed, and all of it has to be.
    NotSignedWhole {
        /// Where it stands.
        place: String,
    },
    /// All of it is to be signed, and there is no secret.
    NothingToSignWith {
        /// Where it stands.
        place: String,
    },
    /// They are whole, and were signed for another place than the one where they stand.
    Misplaced {
        /// What stands there.
        what: String,
        /// What should.
        wanted: String,
    },
    /// They are signed with a secret that is not among those given.
    UnknownSecret(KeyId),
    /// A snapshot is signed, and no secret is given.
    SignedWithoutSecret(KeyId),
    /// A secret is given, and the snapshot is not signed.
    Unsigned,
    /// A value can only be read from a trusted source, and no secret is given to sign it or to check it.
    SecretNeeded {
        /// Where the value stands.
        place: String,
        /// The class of the value.
        class: String,
    },
    /// The secret can be guessed.
    ShortSecret {
        /// Its length in bytes.
        length: usize,
    },
    /// A value that is to be JSON is not.
    NotJson {
        /// Where the value stands.
        place: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two fields of an event, or two keys, have one name.
    Doubled {
        /// Where the second one stands.
        place: String,
    },
    /// More than the format can hold.
    TooLarge {
        /// What is too large.
        what: &'static str,
    },
}

impl FormatError {
    /// Whether the bytes are damaged, or were changed. The others could be read with other code or other secrets.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::NotASnapshot
                | Self::Truncated
                | Self::TrailingBytes
                | Self::Malformed { .. }
                | Self::Damaged
                | Self::Changed
                | Self::ValueChanged { .. }
                | Self::NotJson { .. }
                | Self::Doubled { .. }
        )
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASnapshot => f.write_str("these bytes are not a snapshot"),
            Self::UnknownVersion { found, newest } if found > newest => {
                write!(f, "written in version {found} of the format; this treadle reads up to version {newest}")
            }
            Self::UnknownVersion { found, .. } => write!(f, "there is no version {found} of the format"),
            Self::UnknownFlags(flags) => {
                write!(f, "written with features that this treadle does not know ({flags:#06x})")
            }
            Self::Truncated => f.write_str("the bytes end too early"),
            Self::TrailingBytes => f.write_str("more bytes follow where the end should be"),
            Self::Malformed { at, why } => write!(f, "malformed at byte {at}: {why}"),
            Self::Damaged => f.write_str("the checksum does not match: the bytes were damaged"),
            Self::Changed => f.write_str("the signature does not match: the snapshot was changed after it was signed"),
            Self::ValueChanged { place } => write!(
                f,
                "the signature of {place:?} does not match: it was changed, or signed for another place or another run"
            ),
            Self::NotSignedWhole { place } => write!(f, "{place:?} is not signed as a whole, and has to be"),
            Self::NothingToSignWith { place } => {
                write!(f, "{place:?} is to be signed, and there is no secret: give one as {GIVE_SECRET}")
            }
            Self::Misplaced { what, wanted } => write!(f, "{what} stands in the place of {wanted}"),
            Self::UnknownSecret(key) => write!(f, "signed with another secret (key {key}) than those given"),
            Self::SignedWithoutSecret(key) => {
                write!(f, "signed, and there is no secret to check it: give the one with key {key} as {GIVE_SECRET}")
            }
            Self::Unsigned => f.write_str(
                "a secret is given, but the snapshot is not signed: only without a secret can it be read, and only if \
                 all its values are JSON or binary",
            ),
            Self::SecretNeeded { place, class } => write!(
                f,
                "{place:?} holds a pickled {class}, which is stored and read with a signature only: give a secret as \
                 {GIVE_SECRET}"
            ),
            Self::ShortSecret { length } => {
                write!(f, "a secret of {length} bytes can be guessed: take at least {SHORTEST_SECRET}, at random")
            }
            Self::NotJson { place, why } => write!(f, "{place:?} is marked as JSON, but is not: {why}"),
            Self::Doubled { place } => write!(f, "{place:?} is there twice"),
            Self::TooLarge { what } => write!(f, "{what} is larger than the format can hold"),
        }
    }
}

const GIVE_SECRET: &str = "`secret=` or TREADLE_SECRET";

impl std::error::Error for FormatError {}
