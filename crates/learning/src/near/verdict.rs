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
/// Of the shorter row, the part in whose place the other may have other words so that it is worth asking whether they are
/// synonyms. What fills a template is more.
const SWAPPED_SHARE_MAX: f32 = 0.1;
/// Words for each that is spelled in another way: in a row of one or two, an error cannot be told from another word.
const WORDS_A_RESPELLING: usize = 3;

/// What two rows are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They say the same.
    Same,
    /// They say the same or nearly so; words do not tell.
    Unsure,
    /// They are alike, and differ in a fact, a name or an opposite.
    Opposed,
    /// They are alike, and one has words in whose place the other has others, as rows of one template do.
    Swapped,
    /// They have little in common.
    Apart,
}

/// Two rows, compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Comparison {
    pub verdict: Verdict,
    /// The part of both rows that is the same.
    pub similarity: f32,
    /// The part of the shorter row that the other has too.
    pub shared: f32,
    /// How many times as long the longer row is.
    pub ratio: f32,
    /// They differ in nothing but words that stand in each other's place.
    pub is_replacement: bool,
}

/// Compares two rows.
pub(super) fn compare(left: &Row, right: &Row, words: Words<'_>, settings: &Settings) -> Comparison {
    let lengths = [left.tokens.len(), right.tokens.len()];
    let (shorter, longer) = (lengths[0].min(lengths[1]), lengths[0].max(lengths[1]));
    if shorter == 0 {
        return Comparison {
            verdict: Verdict::Apart,
            similarity: 0.0,
            shared: 0.0,
            ratio: f32::INFINITY,
            is_replacement: false,
        };
    }
    let difference = difference(&left.tokens, &right.tokens, words);
    let [left_matched, right_matched] = difference.matched;
    let shared = if lengths[0] <= lengths[1] { left_matched } else { right_matched } as f32 / shorter as f32;
    let alike = (left_matched + right_matched) as f32 - difference.respelled as f32 / 2.0;
    let verdict = if shared < ALIKE_SHARE_MIN {
        Verdict::Apart
    } else if difference.is_opposed || !do_facts_agree(left, right, &difference) {
        Verdict::Opposed
    } else {
        weigh(&difference, shorter, settings)
    };
    let Difference { swapped, edits, added, .. } = &difference;
    let is_replacement = *swapped > 0 && edits.iter().chain(added).all(|words| *words == 0);
    let similarity = alike / (shorter + longer) as f32;
    Comparison { verdict, similarity, shared, ratio: longer as f32 / shorter as f32, is_replacement }
}

/// Whether rows state the same facts but for what was added to each.
fn do_facts_agree(left: &Row, right: &Row, difference: &Difference) -> bool {
    let [left_added, right_added] = &difference.added_facts;
    if left_added.is_empty() && right_added.is_empty() {
        return left.facts == right.facts;
    }
    let mut facts = [left.facts.to_vec(), right.facts.to_vec()];
    facts[0].extend(right_added);
    facts[1].extend(left_added);
    for facts in &mut facts {
        facts.sort_unstable();
    }
    facts[0] == facts[1]
}

/// Whether one of two sorted lists has all that the other has, as often.
pub(super) fn includes(left: &[u32], right: &[u32]) -> bool {
    let (fewer, more) = if left.len() <= right.len() { (left, right) } else { (right, left) };
    let mut more = more.iter();
    fewer.iter().all(|fact| more.find(|other| *other >= fact) == Some(fact))
}

fn weigh(difference: &Difference, shorter: usize, settings: &Settings) -> Verdict {
    let Difference { respelled, edits, weighty, added, swapped, .. } = difference;
    let part = |words: usize| words as f32 / shorter as f32;
    let lesser = |of: &[usize; 2]| of[0].min(of[1]);
    // Of what each row has in addition the lesser part stands for the other's: only one of two can be the other with more.
    let changed = part(edits[0] + edits[1] + lesser(added)) + part(*respelled) / 2.0;
    let replaced = part(swapped + lesser(weighty) + lesser(added));
    let most_added = added[0].max(added[1]);
    if most_added > 0 && (shorter < ADDED_TO_WORDS_MIN || part(most_added) > settings.added_share_max) {
        return Verdict::Apart;
    }
    if changed > settings.unsure_share_max || shorter < WORDS_A_RESPELLING && *respelled > 0 {
        return Verdict::Apart;
    }
    if replaced > SWAPPED_SHARE_MAX {
        return Verdict::Swapped;
    }
    let is_replaced = *swapped > 0 || lesser(added) > 0;
    if is_replaced || changed > settings.edited_share_max || respelled * WORDS_A_RESPELLING > shorter {
        return Verdict::Unsure;
    }
    Verdict::Same
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::near::{read::Reading, rows::Corpus};

    fn check(left: &str, right: &str, expected: Verdict) {
        let corpus = Corpus::new(&[left, right], Reading::Whole);
        let row = |text: usize| &corpus.rows[corpus.row_of[text] as usize];
        let found = compare(row(0), row(1), corpus.lexicon.words(), &Settings::default());
        assert_eq!(found.verdict, expected, "{left:?} {right:?} {found:?}");
        assert_eq!(compare(row(1), row(0), corpus.lexicon.words(), &Settings::default()), found);
        assert!((0.0..=1.0).contains(&found.similarity) && (0.0..=1.0).contains(&found.shared), "{found:?}");
    }

    #[test]
    fn edits_are_the_same_and_facts_are_not() {
        check("how to chekc whether a file exists", "how to check whether a file exists", Verdict::Same);
        check("how to check whether a file exists", "how to quickly check whether a file exists", Verdict::Same);
        check("how to check whether 2 files exist", "how to check whether 3 files exist", Verdict::Opposed);
        check("how to check whether files exist", "how to check whether files do not exist", Verdict::Opposed);
        check("the capital of france is beautiful", "the capital of spain is beautiful", Verdict::Swapped);
        check("the capital of france is beautiful", "nothing of this is the same", Verdict::Apart);
        check("hello", "hallo", Verdict::Apart);
        check("", "hello", Verdict::Apart);
    }

    #[test]
    fn what_is_added_brings_its_own_facts() {
        let base = "the valve opens by itself as soon as the pressure rises";
        check(base, &format!("{base}. It takes 5 seconds to close again."), Verdict::Same);
        check(base, &format!("{base} in 5 seconds"), Verdict::Opposed);
        check("the valve opens", "the valve opens and then closes again by itself", Verdict::Apart);
    }

    #[test]
    fn a_synonym_in_a_long_row_is_asked_about() {
        let left = "we found that the whole procedure takes much longer than anybody in the room had expected";
        check(left, &left.replace("room", "hall"), Verdict::Unsure);
    }

    #[test]
    fn lists_include_each_other_with_multiplicity() {
        assert!(includes(&[1, 2], &[1, 2, 2, 3]));
        assert!(includes(&[], &[]));
        assert!(!includes(&[2, 2], &[1, 2, 3]));
        assert!(!includes(&[1, 4], &[1, 2, 3]));
    }
}
