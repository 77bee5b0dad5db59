//! How long requests took, in a fixed amount of memory.
//!
//! Buckets grow with their value: each power of two is cut into [`STEPS`] equal parts, so a percentile is never more
//! than 1/64 above the truth. Times are kept in microseconds, up to an hour.

use std::time::Duration;

/// Parts of each power of two.
const STEPS: u64 = 64;
/// Values below this have a bucket each.
const EXACT: u64 = 2 * STEPS;
/// An hour in microseconds is below two to the power of this.
const BITS_MAX: u32 = 32;
const BUCKETS: usize = (EXACT + (BITS_MAX as u64 - 7) * STEPS) as usize;

/// Counts of durations.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, longest: 0 }
    }
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min((1 << BITS_MAX) - 1);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
        self.longest = self.longest.max(micros);
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(ours, theirs)| *ours += theirs);
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// The least duration in milliseconds that so many of a thousand were not above, by nearest rank; nothing where
    /// nothing was counted.
    pub fn permille_ms(&self, permille: u64) -> Option<f64> {
        let rank = (self.total * permille).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(upper(at).min(self.longest) as f64 / 1_000.0);
            }
        }
        None
    }
}

fn bucket(micros: u64) -> usize {
    if micros < EXACT {
        return micros as usize;
    }
    // The highest bit is bit 7 or above; the six below it say which part of its power of two this is.
    let shift = micros.ilog2() - STEPS.ilog2();
    (EXACT + u64::from(shift - 1) * STEPS + (micros >> shift) - STEPS) as usize
}

/// The greatest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    let (power, part) = ((bucket - EXACT) / STEPS, (bucket - EXACT) % STEPS);
    ((STEPS + part + 1) << (power + 1)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_that_ends_little_above_it() {
        let mut last = 0;
        for value in (0..2_000).chain((11..32).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1])) {
            let at = bucket(value);
            assert!(at >= last && at < BUCKETS, "{value}");
            last = at;
            assert!(upper(at) >= value && (upper(at) - value) as f64 <= value as f64 / 64.0, "{value}: {}", upper(at));
        }
        assert_eq!(bucket((1 << BITS_MAX) - 1), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.permille_ms(500), None);
        for micros in 1..=100 {
            histogram.record(Duration::from_micros(micros));
        }
        let of = |permille| histogram.permille_ms(permille).unwrap();
        assert_eq!([of(500), of(950), of(990), of(1_000)], [0.05, 0.095, 0.099, 0.1]);
        let mut both = Histogram::default();
        both.record(Duration::from_secs(7_200));
        both.add(&histogram);
        assert_eq!(both.permille_ms(500).unwrap(), 0.051);
        assert!(both.permille_ms(1_000).unwrap() > 3_600_000.0);
    }
}
