//! What only the journal in a file has to show.

mod crash;
mod damaged;
mod disk;
mod faults;
mod gone;
mod growth;
mod kill;
mod locks;
mod looking;
mod older;
mod opening;
mod secret;
mod vfs;
