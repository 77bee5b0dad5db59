//! Whether a row is near one of those that are kept, one row at a time.
//!
//! What [`super::groups`] does for all rows at once, with the same comparison. Two things differ: a typing error is told by
//! how often a word occurs in the rows so far, and a band that many rows share keeps its first rows only, so that in a
//! template of thousands a near row may be missed.

use std::collections::{HashMap, hash_map::Entry};

use super::{
    Settings,
    candidates::is_worth,
    read::{Reader, Reading},
    rows::{Draft, Key, Row, key},
    sketch::{BANDS, Sketcher, is_of_grams},
    verdict::{Verdict, compare},
    words::{Lexicon, as_u32},
};

/// Rows that a band keeps.
const BAND_ROWS_MAX: usize = 32;

/// What a row is to the rows of an index. Rows count from 0 in the order in which they were added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// Nothing is near it.
    New,
    /// This row is the same but for case, spacing and punctuation.
    Exact(u32),
    /// This row says the same, and of all that do it is the most similar: from 0 to 1.
    Near(u32, f32),
    /// This row may say the same; nothing is nearer for certain.
    Unsure(u32, f32),
}

/// Rows that others are compared with.
///
/// Memory: what a row has of words, pairs and letters (see [`super::groups`]), and 1 KiB for its bands.
pub struct Index {
    settings: Settings,
    sketcher: Sketcher,
    lexicon: Lexicon,
    /// Distinct rows, and the number that each was added with.
    rows: Vec<Row>,
    numbers: Vec<u32>,
    added: usize,
    exact: HashMap<Key, u32>,
    bands: HashMap<(u32, u32), Vec<u32>, foldhash::fast::RandomState>,
}

impl Index {
    /// An index without rows.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            sketcher: Sketcher::new(),
            lexicon: Lexicon::default(),
            rows: Vec::new(),
            numbers: Vec::new(),
            added: 0,
            exact: HashMap::new(),
            bands: HashMap::default(),
        }
    }

    /// Rows that were added.
    pub fn len(&self) -> usize {
        self.added
    }

    /// Whether no row was added.
    pub fn is_empty(&self) -> bool {
        self.added == 0
    }

    /// What a row is to those that were added.
    pub fn find(&self, text: &str) -> Standing {
        let mut reader = Reader::default();
        if let Some(&row) = self.exact.get(&key(&mut reader, text, Reading::Whole)) {
            return Standing::Exact(row);
        }
        let mut strangers = Vec::new();
        let row = Draft::new(&mut reader, text, Reading::Whole).into_strange_row(&self.lexicon, &mut strangers);
        let words = self.lexicon.words_and(&strangers);
        let mut best = Standing::New;
        for other in self.candidates(&row) {
            let comparison = compare(&row, &self.rows[other], words, &self.settings);
            let (number, similarity) = (self.numbers[other], comparison.similarity);
            best = match (comparison.verdict, best) {
                (Verdict::Same, Standing::Near(_, most)) if most >= similarity => best,
                (Verdict::Same, _) => Standing::Near(number, similarity),
                (Verdict::Unsure, Standing::New) => Standing::Unsure(number, similarity),
                (Verdict::Unsure, Standing::Unsure(_, most)) if similarity > most => {
                    Standing::Unsure(number, similarity)
                }
                _ => best,
            };
        }
        best
    }

    /// Adds a row, whatever it is to the others, and gives its number.
    pub fn add(&mut self, text: &str) -> u32 {
        let mut reader = Reader::default();
        let number = as_u32(self.added);
        self.added += 1;
        // A row that is there already would take a place in each band and be no nearer to anything.
        if let Entry::Vacant(entry) = self.exact.entry(key(&mut reader, text, Reading::Whole)) {
            entry.insert(number);
            let row = Draft::new(&mut reader, text, Reading::Whole).into_row(&mut self.lexicon);
            for place in self.places(&row) {
                let members = self.bands.entry(place).or_default();
                if members.len() < BAND_ROWS_MAX {
                    members.push(as_u32(self.rows.len()));
                }
            }
            self.rows.push(row);
            self.numbers.push(number);
        }
        number
    }

    fn places(&self, row: &Row) -> impl Iterator<Item = (u32, u32)> + use<> {
        let (has_pairs, has_grams) = (!row.pairs.is_empty(), !row.grams.is_empty());
        let bands: [u32; BANDS] = self.sketcher.bands(&row.pairs, &row.grams);
        let places = bands.into_iter().enumerate();
        places
            .filter(move |&(band, _)| if is_of_grams(band) { has_grams } else { has_pairs })
            .map(|(band, hash)| (as_u32(band), hash))
    }

    /// Places of rows worth comparing, those with the most bands in common first.
    fn candidates(&self, row: &Row) -> Vec<usize> {
        let mut shared: HashMap<u32, usize> = HashMap::new();
        for place in self.places(row) {
            for &member in self.bands.get(&place).into_iter().flatten() {
                *shared.entry(member).or_default() += 1;
            }
        }
        let mut members: Vec<(u32, usize)> = shared.into_iter().collect();
        members.sort_unstable_by_key(|&(member, count)| (std::cmp::Reverse(count), member));
        let candidates = members.into_iter().map(|(member, _)| member as usize);
        candidates.filter(|&member| is_worth(row, &self.rows[member])).take(self.settings.comparisons_max).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_known_again_and_a_fact_makes_another() {
        let mut index = Index::new(Settings::default());
        assert!(index.is_empty());
        assert_eq!(index.find("Restart the server after 5 minutes, please."), Standing::New);
        index.add("something else entirely that nobody asks for");
        index.add("Restart the server after 5 minutes, please.");
        assert_eq!(index.find("restart the server after 5 minutes please"), Standing::Exact(1));
        assert!(matches!(index.find("Restart the servre after 5 minutes, please"), Standing::Near(1, _)));
        assert_eq!(index.find("Restart the server after 6 minutes, please."), Standing::New);
        assert_eq!(index.find("Do not restart the server after 5 minutes, please."), Standing::New);
        assert_eq!(index.find(""), Standing::New);
        assert_eq!(index.len(), 2);
    }

    #[test]
    fn rows_added_again_and_again_keep_the_first() {
        let mut index = Index::new(Settings::default());
        for _ in 0..1_000 {
            index.add("the same row again");
        }
        assert_eq!(index.find("the same row again"), Standing::Exact(0));
        assert_eq!(index.add(""), 1_000);
        assert_eq!(index.find(" "), Standing::Exact(1_000));
    }
}
