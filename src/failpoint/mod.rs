//! Places at which a process can be made to die, for the tests of what it leaves behind.
//!
//! Only in a build with the feature `failpoints`: elsewhere `failpoint!` expands to nothing. The process dies by
//! SIGKILL, so that nothing of it is cleaned up.

#[cfg(feature = "failpoints")]
mod fatal;

#[cfg(feature = "failpoints")]
pub use fatal::{NAMES, NoSuchFailpoint, VARIABLE, arm, passed};
#[cfg(feature = "failpoints")]
pub(crate) use fatal::{number, pass};

/// Dies here if this is the place and the passing at which to die.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::failpoint::pass(const { $crate::failpoint::number($name) });
    };
}
