//! Which rows of a dataset say the same, so that a model does not learn one thing many times, or is tested on what it learnt.
//!
//! Near-duplicates are rows that differ in case, spacing, punctuation, typing errors, a few words more or less, the order of
//! sentences or clauses, or a sentence that one has in addition. Rows that differ in a number, a unit, a denial, a name of a
//! program or an opposite are not, however alike they look, nor are two fillings of one template. Pure: nothing is read,
//! written or kept between calls; other threads of the pool take part in the work.
//!
//! The way of a row: it is read as words, of which some are facts ([`read`]); rows that read alike are one ([`rows`]); those
//! that share a band of MinHash are candidates ([`sketch`], [`candidates`]); candidates are aligned word by word
//! ([`align`]), which gives a verdict ([`verdict`]); pairs become groups in which no two rows are opposed ([`union`]).
//!
//! **Order.** The same rows give the same groups in any order, on any number of processors: all that decides is computed on
//! distinct rows in the order of a hash of their words. Only which number a group has follows the order of rows. Rows that are
//! added can change what others are to each other: a word that becomes common is no typing error any more, a new row can
//! connect two groups, and where rows crowd in a template others may be compared.
//!
//! **Bounds.** Time grows with the text, and with rows times [`Settings::comparisons_max`] comparisons, each linear in the
//! two rows. Memory is kept for distinct rows: about 300 bytes each for bands, eight bytes a word and four a letter of a short
//! one, 16 bytes a comparison. A row may be of any size and any characters.
//!
//! What is not seen: other words for the same thing, letters of one script in place of those of another, a number that is
//! wrong in both. Two rows of one or two words are the same only if they read alike.

mod align;
mod candidates;
mod meaning;
mod read;
mod rows;
mod scan;
mod sketch;
mod split;
#[cfg(test)]
mod tests;
mod tiles;
mod union;
mod verdict;
mod words;

use rayon::prelude::*;

pub use self::split::split;
use self::{
    candidates::{Candidates, candidates},
    read::Reading,
    rows::Corpus,
    union::{Link, Sets, group, unchecked},
    verdict::{Comparison, Verdict, compare},
    words::as_u32,
};

/// How near is near.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Of the shorter row's words, the part that may be added, left out or (counted half) misspelled here and there.
    pub edited_share_max: f32,
    /// Up to this part it is unsure whether two rows say the same.
    pub unsure_share_max: f32,
    /// How much may be added at a stretch, as a part of the shorter row.
    pub added_share_max: f32,
    /// From this similarity on, by the judge, an unsure pair is the same.
    pub judged_same_min: f32,
    /// Of the shorter row's words, the part that must be in another so that the two leak ([`leak_groups`]).
    pub leak_share_min: f32,
    /// How often a row is compared with others; a pair is left out only when both of its rows have been. Bounds the work in a
    /// dataset of one template.
    pub comparisons_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            edited_share_max: 0.35,
            unsure_share_max: 0.5,
            added_share_max: 1.5,
            judged_same_min: 0.95,
            leak_share_min: 0.6,
            comparisons_max: 48,
        }
    }
}

/// Says how similar two rows are, by their places: a cosine of embeddings, from -1 to 1. Nothing, or no number, where it
/// cannot say. It is asked about a pair once at most, in an order that does not depend on that of the rows.
pub type Judge<'a> = &'a mut dyn FnMut(usize, usize) -> Option<f32>;

/// Rows in groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// The group of each row. Groups count from 0 in the order of their first rows.
    pub group_of: Vec<u32>,
    /// For each group the least hash of the content of a row, which does not change with order or company.
    pub marks: Vec<u64>,
    /// Rows that read like an earlier one: what keeping one of each would leave out.
    pub exact: usize,
    /// Rows beyond those that are in the group of an earlier one.
    pub near: usize,
    /// Pairs that words did not decide and no judge either. They are taken to be different.
    pub unsure: usize,
    /// Rows that were compared as often as [`Settings::comparisons_max`] says. Near-duplicates of theirs may have been missed.
    pub exhausted: usize,
}

impl Groups {
    /// How many groups there are.
    pub fn count(&self) -> usize {
        self.marks.len()
    }
}

/// Groups rows that say the same.
///
/// A pair of which words leave it open is put to the judge, and is different without one. There are at most 2³² rows.
pub fn groups(rows: &[&str], settings: &Settings, judge: Option<Judge<'_>>) -> Groups {
    let corpus = Corpus::new(rows, Reading::Whole);
    let found = Found::new(&corpus, settings, judge);
    let sets = group(&corpus.rows, found.links, &found.barred);
    finish(&corpus, sets, found.unsure, found.exhausted)
}

/// Groups rows of which one gives away what another says, so that a split by these groups is fair: all of [`groups`], and
/// rows that differ in facts alone or have [`Settings::leak_share_min`] of their words in common, through however many
/// others. The rows of a template are one group.
pub fn leak_groups(rows: &[&str], settings: &Settings, judge: Option<Judge<'_>>) -> Groups {
    let corpus = Corpus::new(rows, Reading::Whole);
    let found = Found::new(&corpus, settings, judge);
    let mut sets = Sets::new(corpus.rows.len());
    let links = found.links.iter().map(|link| link.rows);
    for (left, right) in links.chain(found.leaks) {
        sets.join(left, right);
    }
    let skeletons = Corpus::new(rows, Reading::Skeleton);
    let bare = Found::new(&skeletons, settings, None);
    let mut row_of_skeleton: Vec<Option<u32>> = vec![None; skeletons.rows.len()];
    for (&row, &skeleton) in corpus.row_of.iter().zip(&skeletons.row_of) {
        let first = *row_of_skeleton[skeleton as usize].get_or_insert(row);
        sets.join(first, row);
    }
    for (left, right) in bare.leaks {
        if let (Some(left), Some(right)) = (row_of_skeleton[left as usize], row_of_skeleton[right as usize]) {
            sets.join(left, right);
        }
    }
    finish(&corpus, sets, found.unsure, found.exhausted.max(bare.exhausted))
}

/// What comparing the candidates of a corpus has brought.
#[derive(Default)]
struct Found {
    links: Vec<Link>,
    barred: Vec<(u32, u32)>,
    /// Pairs that share enough for one to give the other away.
    leaks: Vec<(u32, u32)>,
    unsure: usize,
    exhausted: usize,
}

impl Found {
    fn new(corpus: &Corpus, settings: &Settings, mut judge: Option<Judge<'_>>) -> Self {
        let Candidates { pairs, exhausted } = candidates(corpus, settings.comparisons_max);
        let mut found = Self { exhausted, ..Self::default() };
        found.compare_all(corpus, &pairs, settings, &mut judge);
        // What two rows are to each other matters as well where only a third has brought them together.
        let more = unchecked(corpus.rows.len(), &found.links, &pairs);
        found.compare_all(corpus, &more, settings, &mut judge);
        found
    }

    fn compare_all(
        &mut self,
        corpus: &Corpus,
        pairs: &[(u32, u32)],
        settings: &Settings,
        judge: &mut Option<Judge<'_>>,
    ) {
        /// Pairs whose comparisons are in memory at a time.
        const PAIRS_AT_ONCE: usize = 1 << 16;
        let words = corpus.lexicon.words();
        let compare_pair = |&(left, right): &(u32, u32)| {
            compare(&corpus.rows[left as usize], &corpus.rows[right as usize], words, settings)
        };
        for pairs in pairs.chunks(PAIRS_AT_ONCE) {
            let comparisons: Vec<Comparison> = pairs.par_iter().map(compare_pair).collect();
            for (&rows, comparison) in pairs.iter().zip(comparisons) {
                self.take(corpus, rows, comparison, settings, judge);
            }
        }
    }

    fn take(
        &mut self,
        corpus: &Corpus,
        rows: (u32, u32),
        comparison: Comparison,
        settings: &Settings,
        judge: &mut Option<Judge<'_>>,
    ) {
        /// A row that is longer than so many of the other is not given away by it.
        const LEAK_RATIO_MAX: f32 = 2.5;
        let Comparison { verdict, is_barred, similarity, shared, ratio } = comparison;
        if shared >= settings.leak_share_min && ratio <= LEAK_RATIO_MAX {
            self.leaks.push(rows);
        }
        let judged = match verdict {
            Verdict::Unsure => judge.as_mut().and_then(|judge| judged(corpus, rows, *judge)),
            _ => None,
        };
        self.unsure += usize::from(verdict == Verdict::Unsure && judged.is_none());
        if verdict == Verdict::Same || judged.is_some_and(|judged| judged >= settings.judged_same_min) {
            self.links.push(Link { rows, similarity });
        } else if is_barred {
            self.barred.push(rows);
        }
    }
}

fn judged(corpus: &Corpus, (left, right): (u32, u32), judge: Judge<'_>) -> Option<f32> {
    let source = |row: u32| corpus.sources[row as usize] as usize;
    judge(source(left), source(right)).filter(|similarity| !similarity.is_nan())
}

/// Numbers groups by the order of rows, and counts.
fn finish(corpus: &Corpus, mut sets: Sets, unsure: usize, exhausted: usize) -> Groups {
    let mut numbers: Vec<Option<u32>> = vec![None; corpus.rows.len()];
    let mut is_seen = vec![false; corpus.rows.len()];
    let mut groups = Groups { unsure, exhausted, ..Groups::default() };
    for (&row, &mark) in corpus.row_of.iter().zip(&corpus.marks) {
        let root = sets.find(row) as usize;
        let is_exact = std::mem::replace(&mut is_seen[row as usize], true);
        let group = if let Some(group) = numbers[root] {
            groups.exact += usize::from(is_exact);
            groups.near += usize::from(!is_exact);
            groups.marks[group as usize] = groups.marks[group as usize].min(mark);
            group
        } else {
            groups.marks.push(mark);
            *numbers[root].insert(as_u32(groups.marks.len() - 1))
        };
        groups.group_of.push(group);
    }
    groups
}
