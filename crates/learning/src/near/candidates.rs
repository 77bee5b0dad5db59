//! Which rows are worth comparing: those that have a band in common ([`super::sketch`]).
//!
//! The work is bounded whatever the rows. A band that few rows share gives all their pairs. One that many share, as rows of
//! one template do, is looked at through the rarest words of its rows, which are what fills the template: rows that share one
//! of those are paired, and beyond that each row with the next few in an order that puts rows with the same rare words
//! together. And a row that has been proposed often enough is proposed no more, unless its partner was not.

use std::{collections::HashSet, ops::Range};

use rayon::prelude::*;

use super::{
    rows::{Corpus, Row},
    sketch::{BANDS, Sketcher, containment, is_of_grams},
    words::as_u32,
};

/// Rows in a group of which all pairs are looked at.
const BUCKET_ROWS_MAX: usize = 24;
/// In a larger group, how many of those that follow a row are looked at.
const NEIGHBOURS: usize = 3;
/// Rare words of a row by which a large group is taken apart. More than one, since the rarest is a typing error's.
pub(super) const RARE_WORDS: usize = 4;
/// The part of the smaller set of shingles that the other must have, of pairs of words or of runs of letters. Two words
/// changed in eight leave so many pairs.
const CONTAINMENT_MIN: f32 = 0.3;

/// Pairs of rows, the lower number first, and how many rows were proposed as often as may be.
pub(super) struct Candidates {
    pub pairs: Vec<(u32, u32)>,
    pub exhausted: usize,
}

/// Finds the pairs of rows that are worth comparing. They are the same on any number of processors.
pub(super) fn candidates(corpus: &Corpus, comparisons_max: usize) -> Candidates {
    let sketcher = Sketcher::new();
    let mut search = Search {
        rows: &corpus.rows,
        bands: corpus.rows.par_iter().map(|row| sketcher.bands(&row.pairs, &row.grams)).collect(),
        rare: corpus.rows.par_iter().map(|row| rare_words(row, corpus)).collect(),
        comparisons_max,
        tries: vec![0; corpus.rows.len()],
        seen: HashSet::default(),
        pairs: Vec::new(),
    };
    for band in 0..BANDS {
        search.look_at(band);
    }
    let exhausted = search.tries.iter().filter(|&&tries| tries >= comparisons_max).count();
    Candidates { pairs: search.pairs, exhausted }
}

struct Search<'a> {
    rows: &'a [Row],
    bands: Vec<[u32; BANDS]>,
    rare: Vec<[u32; RARE_WORDS]>,
    comparisons_max: usize,
    /// How often each row was proposed.
    tries: Vec<usize>,
    seen: HashSet<(u32, u32), foldhash::fast::RandomState>,
    pairs: Vec<(u32, u32)>,
}

impl Search<'_> {
    fn look_at(&mut self, band: usize) {
        let mut members: Vec<(u32, u32)> = (0..as_u32(self.rows.len()))
            .filter(|&row| has_band(&self.rows[row as usize], band))
            .map(|row| (self.bands[row as usize][band], row))
            .collect();
        members.par_sort_unstable();
        let mut proposed = Vec::new();
        for bucket in members.chunk_by(|a, b| a.0 == b.0) {
            propose(bucket, &self.rare, |pair| proposed.extend(Some(pair).filter(|&pair| self.is_open(pair))));
        }
        proposed.par_sort_unstable();
        proposed.dedup();
        let is_worth = |&(left, right): &(u32, u32)| is_worth(&self.rows[left as usize], &self.rows[right as usize]);
        let worth: Vec<(u32, u32)> = proposed.into_par_iter().filter(is_worth).collect();
        for (left, right) in worth {
            if self.is_open((left, right)) && self.seen.insert((left, right)) {
                self.tries[left as usize] += 1;
                self.tries[right as usize] += 1;
                self.pairs.push((left, right));
            }
        }
    }

    /// Whether one of two rows was not proposed as often as may be.
    fn is_open(&self, (left, right): (u32, u32)) -> bool {
        self.tries[left as usize] < self.comparisons_max || self.tries[right as usize] < self.comparisons_max
    }
}

fn has_band(row: &Row, band: usize) -> bool {
    !if is_of_grams(band) { &row.grams } else { &row.pairs }.is_empty()
}

/// Whether what rows share besides a band is enough to look at their words.
pub(super) fn is_worth(left: &Row, right: &Row) -> bool {
    let shares = |share: Option<f32>| share.is_some_and(|share| share >= CONTAINMENT_MIN);
    shares(containment(&left.pairs, &right.pairs)) || shares(containment(&left.grams, &right.grams))
}

/// The words of a row that the fewest rows have, the rarest first; `u32::MAX` where it has no more.
fn rare_words(row: &Row, corpus: &Corpus) -> [u32; RARE_WORDS] {
    let words = corpus.lexicon.words();
    let mut rare = [(u32::MAX, u32::MAX); RARE_WORDS];
    for token in &row.tokens {
        let candidate = (words.get(token.word()).texts, token.word());
        let place = rare.partition_point(|other| *other < candidate);
        if place < RARE_WORDS && rare[place] != candidate {
            rare[place..].rotate_right(1);
            rare[place] = candidate;
        }
    }
    rare.map(|(_, word)| word)
}

/// Proposes pairs of rows that share a band.
fn propose(bucket: &[(u32, u32)], rare: &[[u32; RARE_WORDS]], mut propose: impl FnMut((u32, u32))) {
    if bucket.len() <= BUCKET_ROWS_MAX {
        return all_pairs(bucket, &mut propose);
    }
    let mut by_word: Vec<(u32, u32)> = bucket
        .iter()
        .flat_map(|&(_, row)| rare[row as usize].iter().map(move |&word| (word, row)))
        .filter(|&(word, _)| word != u32::MAX)
        .collect();
    by_word.sort_unstable();
    for sharing in by_word.chunk_by(|a, b| a.0 == b.0) {
        if sharing.len() <= BUCKET_ROWS_MAX {
            all_pairs(sharing, &mut propose);
        } else {
            neighbours(sharing, rare, &mut propose);
        }
    }
    neighbours(bucket, rare, &mut propose);
}

fn all_pairs(rows: &[(u32, u32)], propose: &mut impl FnMut((u32, u32))) {
    for (at, &(_, left)) in rows.iter().enumerate() {
        for &(_, right) in &rows[at + 1..] {
            propose(ordered(left, right));
        }
    }
}

fn neighbours(rows: &[(u32, u32)], rare: &[[u32; RARE_WORDS]], propose: &mut impl FnMut((u32, u32))) {
    let mut order: Vec<u32> = rows.iter().map(|&(_, row)| row).collect();
    // The commonest of the rare words first: what a typing error made is in no other row.
    order.sort_unstable_by_key(|&row| {
        let mut words = rare[row as usize];
        words.reverse();
        (words, row)
    });
    for (at, &left) in order.iter().enumerate() {
        let end = (at + 1 + NEIGHBOURS).min(order.len());
        for &right in &order[Range { start: at + 1, end }] {
            propose(ordered(left, right));
        }
    }
}

fn ordered(left: u32, right: u32) -> (u32, u32) {
    (left.min(right), left.max(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::near::read::Reading;

    #[test]
    fn a_template_gives_a_bounded_number_of_pairs_and_finds_what_shares_its_filling() {
        let texts: Vec<String> = (0..3_000)
            .map(|n| {
                let name = format!("name{}", char::from(b'a' + (n % 26) as u8)).repeat(1 + n / 26 % 3);
                let (first, second) = (n / 2 % 40, n / 80);
                format!("dear {name} your order of item {first} from store {second} has been sent to you today")
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let corpus = Corpus::new(&texts, Reading::Whole);
        let found = candidates(&corpus, 16);
        assert!(found.pairs.len() <= 3_000 * 16, "{}", found.pairs.len());
        assert!(found.exhausted > 0);
        let mut unique = found.pairs.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), found.pairs.len());
        assert!(unique.iter().all(|(left, right)| left < right));
    }

    #[test]
    fn the_rarest_words_come_first() {
        let corpus = Corpus::new(&["common rare", "common other", "common other more"], Reading::Whole);
        let words = corpus.lexicon.words();
        let rare = rare_words(&corpus.rows[corpus.row_of[0] as usize], &corpus);
        assert_eq!(&*words.get(rare[0]).text, "rare");
        assert_eq!(&*words.get(rare[1]).text, "common");
        assert_eq!(rare[2], u32::MAX);
    }
}
