//! A growing set of slots as a bitmap whose words line up with blocks of rows.

/// A set of slot numbers. Slots beyond the end are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// A set from its words, the lowest slots first.
    pub(super) fn from_words(words: Vec<u64>) -> Self {
        Self { words }
    }

    /// The words, the lowest slots first.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The 64 slots of a block; zero beyond the end.
    pub(super) fn word(&self, block: usize) -> u64 {
        self.words.get(block).copied().unwrap_or(0)
    }

    /// Whether the slot is in the set.
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.word(slot as usize / 64) >> (slot % 64) & 1 == 1
    }

    /// Adds a slot; says whether it is new.
    pub(super) fn insert(&mut self, slot: u32) -> bool {
        let block = slot as usize / 64;
        if block >= self.words.len() {
            self.words.resize(block + 1, 0);
        }
        let before = self.words[block];
        self.words[block] |= 1 << (slot % 64);
        self.words[block] != before
    }

    /// Takes a slot out.
    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(word) = self.words.get_mut(slot as usize / 64) {
            *word &= !(1 << (slot % 64));
        }
    }

    /// How many slots are in the set.
    pub(super) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The slots, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().zip((0u32..).step_by(64)).flat_map(|(word, first)| ones(*word).map(move |bit| first + bit))
    }
}

/// The positions of a word's set bits, ascending.
pub(super) fn ones(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        (word != 0).then(|| {
            let bit = word.trailing_zeros();
            word &= word - 1;
            bit
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserts_removes_counts_and_lists() {
        let mut bits = Bits::default();
        for slot in [0, 63, 64, 1000] {
            assert!(bits.insert(slot));
            assert!(!bits.insert(slot));
        }
        bits.remove(63);
        bits.remove(100_000);
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 64, 1000]);
        assert_eq!(bits.count(), 3);
        assert!(bits.contains(1000) && !bits.contains(63) && !bits.contains(u32::MAX));
    }
}
