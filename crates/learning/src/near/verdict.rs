//! Whether two rows say the same.

use super::{
    Settings,
    align::{Difference, difference},
    rows::Row,
    words::Words,
};

/// A row of fewer words has no room for an addition: what a short question is asked about besides makes it another.
const ADDED_TO_WORDS_MIN: usize = 8;
/// Rows that share less than this much of the shorter one are no variants of each other.
const ALIKE_SHARE_MIN: f32 = 0.5;
/// Of what the shorter row says, the part in whose place the other may have other words so that it is worth asking whether they are
/// synonyms. What fills a template is more.
const SWAPPED_SHARE_MAX: f32 = 0.15;
/// Words for each that is spelled in another way: in a row of one or two, an error cannot be told from another word.
const WORDS_A_RESPELLING: usize = 3;

/// Rows that share less than this are not brought together by a third that has the words of both.
const STRANGERS_SHARE_MAX: f32 = 0.2;

/// What two rows are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They say the same.
    Same,
    /// They say the same or nearly so; words do not tell.
    Unsure,
    /// They do not say the same.
    Apart,
}

/// Two rows, compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Comparison {
    pub verdict: Verdict,
    /// No third row that is like both may bring them together: they are alike and differ in a fact, a name or an opposite,
    /// or in nothing but words in each other's place; or they have nothing to do with each other.
    pub is_barred: bool,
    /// The part of both rows that is the same.
    pub similarity: f32,
    /// The part of the shorter row that the other has too.
    pub shared: f32,
    /// How many times as long the longer row is.
    pub ratio: f32,
}

/// Compares two rows.
pub(super) fn compare(left: &Row, right: &Row, words: Words<'_>, settings: &Settings) -> Comparison {
    let lengths = [left.tokens.len(), right.tokens.len()];
    let (shorter, longer) = (lengths[0].min(lengths[1]), lengths[0].max(lengths[1]));
    if shorter == 0 {
        let (verdict, ratio) = (Verdict::Apart, f32::INFINITY);
        return Comparison { verdict, is_barred: true, similarity: 0.0, shared: 0.0, ratio };
    }
    let difference = difference(&left.tokens, &right.tokens, words);
    let [left_matched, right_matched] = difference.matched;
    let shared = if lengths[0] <= lengths[1] { left_matched } else { right_matched } as f32 / shorter as f32;
    let alike = (left_matched + right_matched) as f32 - difference.respelled as f32 / 2.0;
    let is_alike = shared >= ALIKE_SHARE_MIN;
    let verdict = if is_alike && !difference.is_opposed {
        weigh(left, right, words, &difference, settings)
    } else {
        Verdict::Apart
    };
    let is_barred = shared < STRANGERS_SHARE_MAX || is_alike && (difference.is_opposed || is_replacement(&difference));
    let similarity = alike / (shorter + longer) as f32;
    Comparison { verdict, is_barred, similarity, shared, ratio: longer as f32 / shorter as f32 }
}

/// Whether rows differ in nothing but words that stand in each other's place and are no slips of the pen for each other.
fn is_replacement(difference: &Difference) -> bool {
    let Difference { swapped, confused, shifted, edits, added, .. } = difference;
    swapped > confused && edits.iter().chain(added).chain([shifted]).all(|words| *words == 0)
}

/// Whether one of two sorted lists has all that the other has, as often.
pub(super) fn includes(left: &[u32], right: &[u32]) -> bool {
    let (fewer, more) = if left.len() <= right.len() { (left, right) } else { (right, left) };
    let mut more = more.iter();
    fewer.iter().all(|fact| more.find(|other| *other >= fact) == Some(fact))
}

fn weigh(left: &Row, right: &Row, words: Words<'_>, difference: &Difference, settings: &Settings) -> Verdict {
    let Difference { respelled, respelled_weight, edits, added, swapped, shifted, .. } = difference;
    let weight = |row: &Row| row.tokens.iter().map(|token| words.weight(token.word())).sum::<usize>();
    let lighter = weight(left).min(weight(right));
    let part = |weight: usize| weight as f32 / lighter as f32;
    let lesser = |of: &[usize; 2]| of[0].min(of[1]);
    // Of what each row has alone the lesser part stands for the other's: only one of two can be the other with more.
    let changed = part(edits[0] + edits[1] + lesser(added)) + part(*respelled_weight) / 2.0;
    let replaced = part(swapped + shifted + lesser(&[edits[0] + added[0], edits[1] + added[1]]));
    let shorter = left.tokens.len().min(right.tokens.len());
    let most_added = added[0].max(added[1]);
    if most_added > 0 && (shorter < ADDED_TO_WORDS_MIN || part(most_added) > settings.added_share_max) {
        return Verdict::Apart;
    }
    let is_too_short = shorter < WORDS_A_RESPELLING && *respelled > 0;
    if changed > settings.unsure_share_max || replaced > SWAPPED_SHARE_MAX || is_too_short {
        return Verdict::Apart;
    }
    let is_replaced = swapped + shifted + lesser(added) > 0;
    if is_replaced || changed > settings.edited_share_max || respelled * WORDS_A_RESPELLING > shorter {
        return Verdict::Unsure;
    }
    Verdict::Same
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::near::{read::Reading, rows::Corpus};

    fn check(left: &str, right: &str, expected: Verdict, is_barred: bool) {
        let corpus = Corpus::new(&[left, right], Reading::Whole);
        let row = |text: usize| &corpus.rows[corpus.row_of[text] as usize];
        let found = compare(row(0), row(1), corpus.lexicon.words(), &Settings::default());
        assert_eq!((found.verdict, found.is_barred), (expected, is_barred), "{left:?} {right:?} {found:?}");
        assert_eq!(compare(row(1), row(0), corpus.lexicon.words(), &Settings::default()), found);
        assert!((0.0..=1.0).contains(&found.similarity) && (0.0..=1.0).contains(&found.shared), "{found:?}");
    }

    #[test]
    fn edits_are_the_same_and_facts_are_not() {
        check("how to chekc whether a file exists", "how to check whether a file exists", Verdict::Same, false);
        check("how to check whether a file exists", "how to quickly check whether a file exists", Verdict::Same, false);
        check("how to check whether 2 files exist", "how to check whether 3 files exist", Verdict::Apart, true);
        check("how to check whether files exist", "how to check whether files do not exist", Verdict::Apart, true);
        check("the capital of france is beautiful", "the capital of spain is beautiful", Verdict::Apart, true);
        check("the capital of france is beautiful", "nothing else says as much as that", Verdict::Apart, true);
        check("hello there", "hallo there", Verdict::Apart, false);
        check("", "hello", Verdict::Apart, true);
    }

    #[test]
    fn what_is_added_brings_its_own_facts() {
        let base = "the valve opens by itself as soon as the pressure rises";
        check(base, &format!("{base}. It takes 5 seconds to close again."), Verdict::Same, false);
        check(base, &format!("{base} in 5 seconds"), Verdict::Apart, true);
        check("the valve opens", "the valve opens and then closes again by itself", Verdict::Apart, false);
        let one = format!("{base}. It takes 5 seconds to close again.");
        let other = format!("{base}. Nobody has ever counted more than 40 of them.");
        check(&one, &other, Verdict::Apart, false);
    }

    #[test]
    fn a_synonym_in_a_long_row_is_asked_about() {
        let left = "we found that the whole procedure takes much longer than anybody in the room had expected";
        check(left, &left.replace("room", "hall"), Verdict::Unsure, true);
    }

    #[test]
    fn lists_include_each_other_with_multiplicity() {
        assert!(includes(&[1, 2], &[1, 2, 2, 3]));
        assert!(includes(&[], &[]));
        assert!(!includes(&[2, 2], &[1, 2, 3]));
        assert!(!includes(&[1, 4], &[1, 2, 3]));
    }
}
