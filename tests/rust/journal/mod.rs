//! The journal: one suite that every backend passes, and what only SQLite has to show.

mod address;
mod again;
mod commits;
mod concurrent;
mod copying;
pub mod desk;
mod history;
mod inbox;
mod lists;
mod model;
mod outbox;
mod outgoing;
mod owners;
#[cfg(feature = "postgres")]
pub mod postgres;
mod runs;
#[cfg(feature = "sqlite")]
mod sqlite;
mod stream;

/// Makes of each function a test for every backend. It gets a store that it can open as often as it likes.
macro_rules! every_backend {
    ($($name:ident),+ $(,)?) => {
        $crate::journal::every_embedded_backend!($($name),+);
        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[test] fn $name() { super::$name(&crate::journal::postgres::Schema::new()); })+
        }
    };
}
pub(crate) use every_backend;

/// The same for the backends of one machine alone.
macro_rules! every_embedded_backend {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[test] fn $name() { super::$name(&crate::journal::desk::Memory::default()); })+
        }
        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(#[test] fn $name() { super::$name(&crate::journal::desk::File::new()); })+
        }
    };
}
pub(crate) use every_embedded_backend;
