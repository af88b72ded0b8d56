//! Waits that differ from process to process, so that those who wait for the same do not come back together.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

/// Draws waits.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new() -> Self {
        let mut seed = [0; 8];
        // Without a source of chance the waits are the same everywhere, which is only less good.
        let _ = getrandom::fill(&mut seed);
        Self(u64::from_le_bytes(seed) | 1)
    }

    /// How long to wait after so many failures in a row: from a half to all of a time that doubles.
    pub(super) fn wait(&mut self, failures: u32) -> Duration {
        let longest = FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST);
        longest / 2 + (longest / 2).mul_f64(self.draw())
    }

    /// A time within a quarter of this one.
    pub(super) fn about(&mut self, time: Duration) -> Duration {
        time.mul_f64(0.75 + self.draw() / 2.0)
    }

    fn draw(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_get_longer_and_differ() {
        let mut chance = Chance::new();
        for failures in [0, 1, 5, 40] {
            let longest = FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST);
            let waits: Vec<_> = (0..50).map(|_| chance.wait(failures)).collect();
            assert!(waits.iter().all(|&wait| longest / 2 <= wait && wait <= longest), "{waits:?}");
            assert!(waits.iter().collect::<std::collections::HashSet<_>>().len() > 40);
        }
    }
}
