//! The names of operations, by which a journal knows one again that is sent once more after a lost answer.

use std::fmt;

use crate::hex::Hex;

/// Names an operation: a commit or a claim. It is sent again under the same name until it is answered, so that one
/// which was carried out and whose answer was lost is answered as if it had just been.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub [u8; 16]);

impl OpId {
    /// No name: the operation is never known again.
    pub const NONE: Self = Self([0; 16]);

    /// Whether `other` is this operation.
    pub fn is_same(self, other: Self) -> bool {
        self != Self::NONE && self == other
    }
}

/// Draws the names of the operations of one process.
#[derive(Clone, Debug)]
pub struct OpIds {
    seed: [u8; 8],
    drawn: u64,
}

impl OpIds {
    /// Names that begin with these bytes, which are random and used for nothing else.
    pub fn new(seed: [u8; 8]) -> Self {
        Self { seed, drawn: 0 }
    }

    /// A new name.
    pub fn draw(&mut self) -> OpId {
        self.drawn += 1;
        let mut name = [0; 16];
        name[..8].copy_from_slice(&self.seed);
        name[8..].copy_from_slice(&self.drawn.to_be_bytes());
        OpId(name)
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpId({})", Hex(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_drawn_twice_and_an_operation_without_one_is_no_other() {
        let (mut one, mut other) = (OpIds::new([0; 8]), OpIds::new([1; 8]));
        let drawn = [one.draw(), one.draw(), other.draw(), other.draw()];
        assert!((1..4).all(|at| !drawn[..at].contains(&drawn[at]) && drawn[at].is_same(drawn[at])));
        assert!(!OpId::NONE.is_same(OpId::NONE));
    }
}
