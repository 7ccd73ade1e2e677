//! One seed, many independent streams of draws.
//!
//! Every part of a run (topology, timeouts, network, the disk of each replica, workload, faults) draws from a stream of
//! its own, named by a label. So one more draw in one part moves nothing in the others, and a failing seed keeps
//! failing while a part is worked on.

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// The one number that a whole run follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed(pub u64);

impl Seed {
    /// A number that follows from this seed and `label` alone.
    pub fn derive(self, label: &str) -> u64 {
        // FNV-1a over the label, then a finalizer (splitmix64) over label and seed.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in label.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let mut z = hash ^ self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A seed for the `n`-th thing of a kind (the boots of a replica, for example).
    pub fn child(self, label: &str, n: u64) -> Seed {
        Seed(Seed(self.derive(label)).derive(&n.to_string()))
    }

    /// The stream of draws called `label`.
    pub fn stream(self, label: &str) -> Draws {
        Draws(StdRng::seed_from_u64(self.derive(label)))
    }
}

/// A stream of draws. Two streams of different labels know nothing of each other.
#[derive(Debug)]
pub struct Draws(StdRng);

impl Draws {
    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high)
    }

    /// An index below `count`, which must be positive.
    pub fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }

    /// True in `percent` of 100 draws.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.between(0, 99) < percent
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.between(0, u64::MAX)
    }
}

/// Reads a range of seeds, `FIRST..LAST`, both ends included; the error is a sentence for the user.
pub fn range(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is no range of seeds, expected FIRST..LAST");
    let (first, last) = text.split_once("..").ok_or_else(wrong)?;
    let first: u64 = first.parse().map_err(|_| wrong())?;
    let last: u64 = last.trim_start_matches('=').parse().map_err(|_| wrong())?;
    if last < first {
        return Err(wrong());
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_stable_and_independent() {
        let draw = |seed: u64, label: &str| -> Vec<u64> {
            let mut stream = Seed(seed).stream(label);
            (0..8).map(|_| stream.number()).collect()
        };
        assert_eq!(draw(1, "network"), draw(1, "network"));
        assert_ne!(draw(1, "network"), draw(1, "workload"));
        assert_ne!(draw(1, "network"), draw(2, "network"));
        assert_ne!(Seed(1).child("boot", 0), Seed(1).child("boot", 1));
    }

    #[test]
    fn ranges_are_read_or_refused() {
        assert_eq!(range("1..20"), Ok((1, 20)));
        assert_eq!(range("3..=3"), Ok((3, 3)));
        for text in ["", "5", "5..", "9..5", "a..b"] {
            assert!(range(text).is_err(), "{text:?} was taken");
        }
    }
}
