//! Random numbers that follow from the seed alone. Each task has a generator of its own, so that its numbers do not depend on when
//! another task draws. The generator is SplitMix64 (Steele, Lea, Flood 2014). Pure.

use std::time::Duration;

/// A generator. The same name under the same seed always gives the same numbers.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The generator of this name.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a, so that the name's hash is the same in every version of the program.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut rng = Self(seed ^ hash);
        rng.draw();
        rng
    }

    /// The next 64 bits.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.draw() % (high - low + 1)
    }

    /// A time from `low` to `high` milliseconds, both included.
    pub const fn pause_ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    /// True in `of_1000` of 1,000 cases.
    pub const fn chance(&mut self, of_1000: u64) -> bool {
        self.draw() % 1000 < of_1000
    }

    /// One of several; `None` when there are none.
    pub fn one_of<'a, T>(&mut self, several: &'a [T]) -> Option<&'a T> {
        if several.is_empty() { None } else { several.get(self.index(several.len())) }
    }

    /// A number below `length`. For a length of 0 it is 0.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.draw() % length.max(1) as u64).unwrap_or_default()
    }

    /// A UUID of version 4.
    pub fn uuid(&mut self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(((u128::from(self.draw()) << 64) | u128::from(self.draw())).to_be_bytes()).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generators_of_one_name_and_seed_agree_and_others_do_not() {
        let draws = |seed, name: &str| {
            let mut rng = Rng::new(seed, name);
            (0..9).map(|_| rng.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draws(7, "faults"), draws(7, "faults"));
        assert_ne!(draws(7, "faults"), draws(8, "faults"));
        assert_ne!(draws(7, "faults"), draws(7, "client 1"));
    }

    #[test]
    fn draws_stay_within_their_bounds() {
        let mut rng = Rng::new(1, "x");
        let drawn: Vec<u64> = (0..1000).map(|_| rng.between(3, 5)).collect();
        assert!(drawn.iter().all(|number| (3..=5).contains(number)) && [3, 4, 5].iter().all(|number| drawn.contains(number)));
        assert!((0..1000).all(|_| !rng.chance(0) && rng.chance(1000)));
        assert_eq!(rng.one_of::<u8>(&[]), None);
        assert_eq!(rng.uuid().get_version_num(), 4);
    }
}
