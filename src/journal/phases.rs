//! The number in which a database has how far a run is.

use super::reply::RunRow;
use super::request::{Copying, Phase};

// Older versions of treadle take a number beyond the last phase for damage: they do not touch such a run.
const STRIDE: usize = 8;

/// How far a run is and whether it is on its way, as one number.
pub(super) fn number(row: &RunRow) -> i16 {
    row.phase() as i16 + row.copying as i16 * STRIDE as i16
}

/// What such a number says, if it is one.
pub(super) fn of_number(number: i64) -> Option<(Phase, Copying)> {
    let number = usize::try_from(number).ok()?;
    Some((*Phase::ALL.get(number % STRIDE)?, *Copying::ALL.get(number / STRIDE)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_run_is_and_whether_it_is_on_its_way_are_one_number() {
        for (number, phase) in (0..).zip(Phase::ALL) {
            assert_eq!(of_number(number), Some((phase, Copying::No)));
            assert_eq!(of_number(number + 8), Some((phase, Copying::Arrives)));
            assert_eq!(of_number(number + 16), Some((phase, Copying::Left)));
        }
        assert!([-1, 7, 15, 23, 24].into_iter().all(|number| of_number(number).is_none()));
    }
}
