//! Transactions of a step: rows of the user that are written together with what says so, over the user's connection.

/// How transactions of a journal are carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transactions {
    /// What [`WHICH`] gives in the journal's database; nothing if its role may not ask.
    pub database: Option<(String, String)>,
    /// Where the journal is, as it is shown.
    pub shown: String,
    /// What a call gave before, as hexadecimal digits, if it was carried out; whether the owner lives; and the id of the
    /// transaction. Takes the owner, the run and the call.
    pub begin: String,
    /// Writes what a call gave: how many rows, 0 if the owner has lost the run or the transaction is another one; and the
    /// id of the transaction. Takes the owner, the run, its epoch, the id of the transaction, the call and what it gave.
    pub finish: String,
}

/// Tells which database a connection is to: the cluster, and the name in it.
pub const WHICH: &str = "SELECT (pg_control_system()).system_identifier::text, current_database()::text";
