//! What only the journal in a file has to show.

mod crash;
mod disk;
mod faults;
mod growth;
mod kill;
mod looking;
mod opening;
mod secret;
mod vfs;
