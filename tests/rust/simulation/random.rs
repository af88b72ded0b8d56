//! Dice that fall the same for the same seed, on every machine.

pub struct Random(u64);

impl Random {
    pub fn new(parts: &[u64]) -> Self {
        Self(mix(parts))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        scramble(self.0)
    }

    /// From 0 up to `end`; 0 if there is nothing to choose from.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 32) as usize).checked_rem(end).unwrap_or(0)
    }

    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + (self.next() >> 32) % (most - least + 1)
    }

    pub fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// From 0 up to 1.
    pub fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// One number for several, as good as unique.
pub fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x1234_5678, |mixed, &part| scramble(mixed ^ scramble(part.wrapping_add(0x9E37_79B9_7F4A_7C15))))
}

// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
fn scramble(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
