//! MinHash: a few numbers of a row, which another row shares the more of the more shingles they share.
//!
//! The least of all hashes of a set is the same for two sets with probability J, their Jaccard similarity (Broder, "On the
//! resemblance and containment of documents", 1997). `r` such numbers together are a band; of `b` bands at least one is the
//! same with probability `1 - (1 - J^r)^b`, which rises most steeply near `J = (1/b)^(1/r)` (Leskovec, Rajaraman, Ullman,
//! "Mining of Massive Datasets", section 3.4.2). Candidates are rows with a band in common; what they really share is
//! looked at afterwards, so that the bands may be generous.
//!
//! | of | bands × rows | steepest at | J = 0.3 | 0.4 | 0.5 | 0.6 |
//! |---|---|---|---|---|---|---|
//! | pairs of words | 50 × 3 | 0.27 | 0.75 | 0.96 | 0.999 | 1 |
//! | runs of letters | 25 × 4 | 0.45 | 0.18 | 0.48 | 0.80 | 0.97 |
//!
//! A row with a sentence added that is as long as itself has J = 0.5; an error in one word of twelve leaves J = 0.7.

/// Bands of pairs of words, and numbers in each.
const PAIR_BANDS: usize = 50;
const PAIR_BAND_ROWS: usize = 3;
/// Bands of runs of letters, and numbers in each.
const GRAM_BANDS: usize = 25;
const GRAM_BAND_ROWS: usize = 4;
/// All bands.
pub(super) const BANDS: usize = PAIR_BANDS + GRAM_BANDS;

const HASHES: usize = if PAIR_BANDS * PAIR_BAND_ROWS > GRAM_BANDS * GRAM_BAND_ROWS {
    PAIR_BANDS * PAIR_BAND_ROWS
} else {
    GRAM_BANDS * GRAM_BAND_ROWS
};

/// Makes bands.
pub(super) struct Sketcher {
    multipliers: [u64; HASHES],
    offsets: [u64; HASHES],
}

impl Sketcher {
    /// The same one every time: what is near each other does not depend on the run.
    pub fn new() -> Self {
        let mut state = 0x686f_6c64_6661_7374;
        let mut next = || {
            state = u64::wrapping_add(state, 0x9e37_79b9_7f4a_7c15);
            spread(state)
        };
        Self { multipliers: std::array::from_fn(|_| next() | 1), offsets: std::array::from_fn(|_| next()) }
    }

    /// The bands of a row, each as a number; 0 for bands of shingles that it has none of.
    pub fn bands(&self, pairs: &[u32], grams: &[u32]) -> [u32; BANDS] {
        let mut bands = [0; BANDS];
        let (of_pairs, of_grams) = bands.split_at_mut(PAIR_BANDS);
        self.fill::<PAIR_BAND_ROWS>(pairs, of_pairs);
        self.fill::<GRAM_BAND_ROWS>(grams, of_grams);
        bands
    }

    fn fill<const ROWS: usize>(&self, shingles: &[u32], bands: &mut [u32]) {
        if shingles.is_empty() {
            return;
        }
        let used = bands.len() * ROWS;
        let mut least = [u32::MAX; HASHES];
        for &shingle in shingles {
            let functions = self.multipliers[..used].iter().zip(&self.offsets[..used]);
            for (least, (multiplier, offset)) in least[..used].iter_mut().zip(functions) {
                // Multiply-shift, strongly universal for 32-bit keys: Dietzfelbinger, "Universal hashing and k-wise
                // independent random variables via integer arithmetic without primes", STACS 1996.
                let hash = multiplier.wrapping_mul(u64::from(shingle)).wrapping_add(*offset) >> 32;
                *least = (*least).min(hash as u32);
            }
        }
        for (band, rows) in bands.iter_mut().zip(least.as_chunks::<ROWS>().0) {
            *band = rows.iter().fold(0, |hash, &row| mix(u64::from(hash) << 32 | u64::from(row)));
        }
    }
}

/// Which shingles a band is made of: runs of letters, or pairs of words.
pub(super) fn is_of_grams(band: usize) -> bool {
    band >= PAIR_BANDS
}

/// Spreads the bits of a number over 32; the upper half of [`spread`].
pub(super) fn mix(number: u64) -> u32 {
    (spread(number) >> 32) as u32
}

/// Spreads the bits of a number: the last steps of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
pub(super) fn spread(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// How much of the smaller of two sorted sets the other has too; nothing where one is empty.
pub(super) fn containment(left: &[u32], right: &[u32]) -> Option<f32> {
    let smaller = left.len().min(right.len());
    if smaller == 0 {
        return None;
    }
    let (mut at_left, mut at_right, mut common) = (0, 0, 0_usize);
    while let (Some(a), Some(b)) = (left.get(at_left), right.get(at_right)) {
        common += usize::from(a == b);
        at_left += usize::from(a <= b);
        at_right += usize::from(b <= a);
    }
    Some(common as f32 / smaller as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sets of a thousand that have `common` in common.
    fn sets(common: u32) -> (Vec<u32>, Vec<u32>) {
        let set = |numbers: &mut dyn Iterator<Item = u32>| -> Vec<u32> { numbers.map(|n| mix(u64::from(n))).collect() };
        (set(&mut (0..1_000)), set(&mut (1_000 - common..2_000 - common)))
    }

    #[test]
    fn bands_are_shared_as_often_as_the_formula_says() {
        let sketcher = Sketcher::new();
        for common in [200, 400, 600, 800] {
            let (left, right) = sets(common);
            let similarity = f64::from(common) / f64::from(2_000 - common);
            let (left, right) = (sketcher.bands(&left, &[]), sketcher.bands(&right, &[]));
            let shared = left.iter().zip(&right).filter(|(a, b)| **a != 0 && a == b).count();
            let expected = similarity.powi(3) * PAIR_BANDS as f64;
            let deviation = (expected * (1.0 - similarity.powi(3))).sqrt();
            let error = (shared as f64 - expected).abs();
            assert!(error <= 4.0 * deviation + 1.0, "J = {similarity}: {shared} bands, {expected} expected");
        }
    }

    #[test]
    fn a_row_without_shingles_has_no_bands() {
        let bands = Sketcher::new().bands(&[1, 2], &[]);
        assert!(bands[..PAIR_BANDS].iter().all(|&band| band != 0));
        assert!(bands[PAIR_BANDS..].iter().all(|&band| band == 0));
    }

    #[test]
    fn containment_is_of_the_smaller() {
        assert_eq!(containment(&[1, 2], &[1, 2, 3, 4]), Some(1.0));
        assert_eq!(containment(&[1, 5], &[1, 2, 3, 4]), Some(0.5));
        assert_eq!(containment(&[], &[1]), None);
    }
}
