//! What two rows have in common word by word, and how the rest differs.
//!
//! Between the runs that both have ([`super::tiles`]) the words that are left are aligned in order, so that an error is
//! found next to what it is an error for. What then has no partner was added or left out, or stands where the other row has
//! something else. The last is what makes two rows out of one template different, however much they share.
//!
//! Bounded by [`CELLS_MAX`] for each stretch between runs: a longer one is taken to have nothing in common, which only
//! rows show that are not alike.

use std::{mem::take, ops::Range};

use super::{
    meaning,
    rows::Token,
    tiles::{right_order, tiles},
    words::{Words, are_confusable},
};

/// Words in a row, of which the other row has none, that are told by themselves: a sentence or a clause that was added.
/// Facts in it are additions too; in a shorter run they change what is said.
pub(super) const ADDED_WORDS_MIN: usize = 5;
/// Two longer stretches at one place that have less than one word in so many in common are two sentences, not one in two
/// forms.
const UNRELATED_PART: usize = 3;
/// Words that join a clause to the rest. Where clauses moved, so many in one place are taken for each other.
const JOINTS_MAX: usize = 2;
/// Words of a run that may be another one misspelled.
const CONFUSED_WORDS_MAX: usize = 3;
/// Cells of the table in which a stretch is aligned.
const CELLS_MAX: usize = 1 << 14;
/// Words between two runs of which one may stand for the other.
const SHIFT_WORDS_MAX: usize = 4;
/// Pairs of runs that are looked at for words that moved.
const MOVES_MAX: usize = 1 << 12;
/// Pairs of words in one place that are looked at for opposites.
const OPPOSITES_MAX: usize = 9;

/// How two rows differ. What is given twice is so for each row. Weights are those of [`Words::weight`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Words that the other row has too, perhaps spelled in another way.
    pub matched: [usize; 2],
    /// Places that are spelled in another way, and phrases of few words that moved.
    pub respelled: usize,
    /// Their weight.
    pub respelled_weight: usize,
    /// The weight of words that one row has in addition, few at a place.
    pub edits: [usize; 2],
    /// The weight of long additions, whatever facts they bring.
    pub added: [usize; 2],
    /// The weight of words in whose place the other row has others.
    pub swapped: usize,
    /// That of those of them that are a letter or two apart: one may be meant to be the other, or both to be a third.
    pub confused: usize,
    /// The weight of words close to which the other row has others.
    pub shifted: usize,
    /// A fact, a name or an opposite is in the place of another, or a fact or a part of a name was added alone.
    pub is_opposed: bool,
}

/// Compares two rows.
pub(super) fn difference(left: &[Token], right: &[Token], words: Words<'_>) -> Difference {
    let mut aligner =
        Aligner { rows: [left, right], words, difference: Difference::default(), loose: Default::default() };
    aligner.align();
    aligner.settle();
    aligner.difference
}

struct Aligner<'a> {
    rows: [&'a [Token]; 2],
    words: Words<'a>,
    difference: Difference,
    /// Runs of each row that have nothing in their place in the other.
    loose: [Vec<Loose>; 2],
}

impl Aligner<'_> {
    fn align(&mut self) {
        let tiles = tiles(self.rows[0], self.rows[1]);
        let order = right_order(&tiles);
        for tile in &tiles {
            self.matched(tile.length, tile.length);
        }
        // What follows each tile up to the next one.
        let left_run = |at: usize| tiles.get(at + 1).map(|next| tiles[at].left().end..next.left);
        let right_run = |at: usize| order.after[at].map(|next| tiles[at].right().end..tiles[next].right);
        let mut open: [Vec<Range<usize>>; 2] = [vec![0..0; tiles.len()], vec![0..0; tiles.len()]];
        for (at, after) in order.after.iter().enumerate() {
            let (Some(left), Some(right)) = (left_run(at), right_run(at)) else { continue };
            if *after == Some(at + 1) {
                self.compare(left, right);
            } else {
                // Where a run moved away or came from, what is beside it belongs to what is before it …
                (open[0][at], open[1][at]) = self.compare_behind(left, right);
            }
        }
        for (at, before) in order.before.iter().enumerate().skip(1) {
            // … or to what is after it.
            if let Some(before) = before.filter(|before| before + 1 != at) {
                let (left, right) = (take(&mut open[0][at - 1]), take(&mut open[1][before]));
                (open[0][at - 1], open[1][before]) = self.compare_ahead(left, right);
            }
        }
        let [left_open, right_open] = open;
        for (left, right) in left_open.into_iter().zip(right_open) {
            if left.len() <= JOINTS_MAX && right.len() <= JOINTS_MAX {
                self.replaced(left, right);
            } else {
                self.loosen(left, right);
            }
        }
    }

    fn matched(&mut self, left: usize, right: usize) {
        self.difference.matched[0] += left;
        self.difference.matched[1] += right;
    }

    /// Compares two runs that stand at the same place.
    fn compare(&mut self, left: Range<usize>, right: Range<usize>) {
        let partners = self.partners(left.clone(), right.clone());
        let shorter = left.len().min(right.len());
        if shorter >= ADDED_WORDS_MIN && partners.len() * UNRELATED_PART < shorter {
            return self.loosen(left, right);
        }
        let (left, right) = self.compare_until_last(&partners, left, right);
        self.replaced(left, right);
    }

    /// Compares two runs that follow the same, as far as they have something in common, and gives back the rest.
    fn compare_behind(&mut self, left: Range<usize>, right: Range<usize>) -> (Range<usize>, Range<usize>) {
        let partners = self.partners(left.clone(), right.clone());
        self.compare_until_last(&partners, left, right)
    }

    fn compare_until_last(
        &mut self,
        partners: &[Partners],
        mut left: Range<usize>,
        mut right: Range<usize>,
    ) -> (Range<usize>, Range<usize>) {
        for partner in partners {
            self.replaced(left.start..partner.left, right.start..partner.right);
            self.matched(1, 1);
            if !partner.is_same {
                self.respelled(partner.left..partner.left + 1, partner.right..partner.right + 1);
            }
            (left.start, right.start) = (partner.left + 1, partner.right + 1);
        }
        (left, right)
    }

    /// Compares two runs that precede the same, as far as they have something in common, and gives back the rest.
    fn compare_ahead(&mut self, left: Range<usize>, right: Range<usize>) -> (Range<usize>, Range<usize>) {
        let partners = self.partners(left.clone(), right.clone());
        let Some(first) = partners.first() else { return (left, right) };
        let rest = (left.start..first.left, right.start..first.right);
        let (left, right) = self.compare_until_last(&partners, first.left..left.end, first.right..right.end);
        self.replaced(left, right);
        rest
    }

    /// Two runs have nothing to do with each other.
    fn loosen(&mut self, left: Range<usize>, right: Range<usize>) {
        let (place_in_left, place_in_right) = (left.start, right.start);
        let some = |run: Range<usize>, place: usize| Some(Loose { run, place }).filter(|loose| !loose.run.is_empty());
        self.loose[0].extend(some(left, place_in_right));
        self.loose[1].extend(some(right, place_in_left));
    }

    /// The words of two runs that are the same or alike, in order: as many as there can be, and rather the same.
    fn partners(&self, left_run: Range<usize>, right_run: Range<usize>) -> Vec<Partners> {
        const STEP: u16 = 2;
        const RESPELLED: u16 = 1;
        let (left, right) = (&self.rows[0][left_run.clone()], &self.rows[1][right_run.clone()]);
        let width = right.len() + 1;
        if left.is_empty() || right.is_empty() || (left.len() + 1) * width > CELLS_MAX {
            return Vec::new();
        }
        let cost = |a: Token, b: Token| match a.word() == b.word() {
            true => Some(0),
            false => self.are_alike(a, b).then_some(RESPELLED),
        };
        // Cells count from the ends, so that the way through them is walked from the beginning.
        let mut cells = vec![0_u16; (left.len() + 1) * width];
        for at_left in (0..=left.len()).rev() {
            for at_right in (0..=right.len()).rev() {
                let cell = |down: usize, across: usize| cells[(at_left + down) * width + at_right + across];
                cells[at_left * width + at_right] = match (left.get(at_left), right.get(at_right)) {
                    (None, None) => 0,
                    (Some(_), None) => cell(1, 0) + STEP,
                    (None, Some(_)) => cell(0, 1) + STEP,
                    (Some(&a), Some(&b)) => {
                        let apart = cell(1, 0).min(cell(0, 1)) + STEP;
                        cost(a, b).map_or(apart, |cost| apart.min(cell(1, 1) + cost))
                    }
                };
            }
        }
        let mut partners = Vec::new();
        let (mut at_left, mut at_right) = (0, 0);
        while let (Some(&a), Some(&b)) = (left.get(at_left), right.get(at_right)) {
            let cell = |down: usize, across: usize| cells[(at_left + down) * width + at_right + across];
            if cost(a, b).is_some_and(|cost| cell(0, 0) == cell(1, 1) + cost) {
                let is_same = a.word() == b.word();
                partners.push(Partners { left: left_run.start + at_left, right: right_run.start + at_right, is_same });
                at_left += 1;
                at_right += 1;
            } else if cell(0, 0) == cell(1, 0) + STEP {
                at_left += 1;
            } else {
                at_right += 1;
            }
        }
        partners
    }

    fn are_alike(&self, left: Token, right: Token) -> bool {
        let is_plain = |token: Token| !token.is_fact() && !token.is_fixed();
        is_plain(left)
            && is_plain(right)
            && self.words.are_alike(left.word(), right.word())
            && !self.are_opposed(left, right)
    }

    fn are_opposed(&self, left: Token, right: Token) -> bool {
        let (left, right) = (&self.words.get(left.word()).text, &self.words.get(right.word()).text);
        meaning::is_denied_by_prefix(left, right) || meaning::are_opposites(left, right)
    }

    /// One run stands where the other row has the other run, and they have nothing in common.
    fn replaced(&mut self, left: Range<usize>, right: Range<usize>) {
        let has_grown = |long: usize, short: usize| short <= 1 && long >= short + ADDED_WORDS_MIN;
        let is_addition = has_grown(left.len(), right.len()) || has_grown(right.len(), left.len());
        if left.is_empty() || right.is_empty() || is_addition {
            return self.loosen(left, right);
        }
        let (lefts, rights) = (&self.rows[0][left.clone()], &self.rows[1][right.clone()]);
        let any = |test: fn(Token) -> bool| lefts.iter().chain(rights).any(|&token| test(token));
        if !any(Token::is_fact) && self.is_spelled_alike(lefts, rights) {
            self.matched(left.len(), right.len());
            return self.respelled(left, right);
        }
        let is_small = lefts.len() * rights.len() <= OPPOSITES_MAX;
        let are_opposites = || lefts.iter().any(|&a| rights.iter().any(|&b| self.are_opposed(a, b)));
        let is_opposed = any(Token::is_fact) || any(Token::is_fixed);
        let is_opposed = is_opposed || is_small && are_opposites();
        self.difference.is_opposed |= is_opposed;
        if self.has_weight(lefts) || self.has_weight(rights) {
            let weight = self.weight(lefts).max(self.weight(rights));
            let are_confusable = self.are_confusable(lefts, rights);
            self.difference.swapped += weight;
            self.difference.confused += if are_confusable { weight } else { 0 };
        } else {
            self.difference.edits[0] += self.weight(&self.rows[0][left]);
            self.difference.edits[1] += self.weight(&self.rows[1][right]);
        }
    }

    /// A run is spelled in another way in the other row, or stands elsewhere. An error weighs no more than the word.
    fn respelled(&mut self, left: Range<usize>, right: Range<usize>) {
        self.difference.respelled += 1;
        let weight = self.weight(&self.rows[0][left]).min(self.weight(&self.rows[1][right]));
        self.difference.respelled_weight += weight;
    }

    fn weight(&self, run: &[Token]) -> usize {
        run.iter().map(|token| self.words.weight(token.word())).sum()
    }

    fn has_weight(&self, run: &[Token]) -> bool {
        run.iter().any(|token| !self.words.get(token.word()).is_minor)
    }

    /// Whether two runs are the same letters with other spaces: `data base`, `database`.
    fn is_spelled_alike(&self, left: &[Token], right: &[Token]) -> bool {
        left.len() != right.len() && self.letters(left) == self.letters(right)
    }

    /// Whether two runs are perhaps meant to be the same.
    fn are_confusable(&self, left: &[Token], right: &[Token]) -> bool {
        left.len().max(right.len()) <= CONFUSED_WORDS_MAX && are_confusable(&self.letters(left), &self.letters(right))
    }

    fn letters(&self, run: &[Token]) -> String {
        run.iter().map(|token| &*self.words.get(token.word()).text).collect()
    }

    /// Decides what the runs are that nothing stands for.
    fn settle(&mut self) {
        let [mut lefts, mut rights] = take(&mut self.loose);
        if lefts.len() * rights.len() <= MOVES_MAX {
            lefts.retain(|left| {
                let moved = rights.iter().position(|right| self.has_moved(left, right));
                if let Some(right) = moved {
                    self.matched(left.run.len(), left.run.len());
                    self.respelled(left.run.clone(), rights.remove(right).run);
                }
                moved.is_none()
            });
            lefts.retain(|left| {
                let shifted = rights.iter().position(|right| self.has_shifted(left, right));
                if let Some(right) = shifted {
                    let right = rights.remove(right);
                    let (lefts, rights) = (&self.rows[0][left.run.clone()], &self.rows[1][right.run]);
                    let weight = self.weight(lefts).max(self.weight(rights));
                    let is_opposed = is_telling(lefts) || is_telling(rights);
                    self.difference.shifted += weight;
                    self.difference.is_opposed |= is_opposed;
                }
                shifted.is_none()
            });
        }
        for (side, runs) in [(0, lefts), (1, rights)] {
            for loose in runs {
                self.count_loose(side, loose.run);
            }
        }
    }

    fn count_loose(&mut self, side: usize, run: Range<usize>) {
        let tokens = &self.rows[side][run];
        let weight = self.weight(tokens);
        if tokens.len() >= ADDED_WORDS_MIN {
            self.difference.added[side] += weight;
        } else {
            self.difference.edits[side] += weight;
            self.difference.is_opposed |= is_telling(tokens);
        }
    }

    /// Whether a run is the other, elsewhere. A single word is none, and no denial: what it belongs to has changed.
    fn has_moved(&self, left: &Loose, right: &Loose) -> bool {
        let (lefts, rights) = (&self.rows[0][left.run.clone()], &self.rows[1][right.run.clone()]);
        let is_denial = |token: &Token| meaning::is_denial(&self.words.get(token.word()).text);
        lefts.len() > 1
            && lefts.len() == rights.len()
            && lefts.iter().zip(rights).all(|(a, b)| a.word() == b.word())
            && !lefts.iter().any(is_denial)
    }

    /// Whether two short runs are so close to each other that one stands for the other, though words that both rows have are
    /// between them: a template filled with `a` and `b`, and with `b` and `c`.
    fn has_shifted(&self, left: &Loose, right: &Loose) -> bool {
        let (lefts, rights) = (&self.rows[0][left.run.clone()], &self.rows[1][right.run.clone()]);
        let is_close = left.place.abs_diff(right.run.start) <= SHIFT_WORDS_MAX
            || right.place.abs_diff(left.run.start) <= SHIFT_WORDS_MAX;
        let is_short = lefts.len().max(rights.len()) < ADDED_WORDS_MIN;
        is_short && is_close && self.has_weight(lefts) && self.has_weight(rights)
    }
}

/// Whether something else is said without these words.
fn is_telling(tokens: &[Token]) -> bool {
    tokens.iter().any(|token| token.is_fact() || token.is_part())
}

/// A run that has nothing in its place in the other row.
struct Loose {
    run: Range<usize>,
    /// Where in the other row it would stand.
    place: usize,
}

/// Two words at their places in two rows.
struct Partners {
    left: usize,
    right: usize,
    is_same: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::near::{read::Reading, rows::Corpus};

    fn compare(left: &str, right: &str) -> Difference {
        let corpus = Corpus::new(&[left, right], Reading::Whole);
        let tokens = |text: usize| &corpus.rows[corpus.row_of[text] as usize].tokens;
        difference(tokens(0), tokens(1), corpus.lexicon.words())
    }

    /// How many words have a partner, at how many places they are spelled in another way, and how many words are in one row
    /// only, here and there. In both directions.
    fn check(left: &str, right: &str, matched: [usize; 2], respelled: usize, edits: usize) {
        let found = compare(left, right);
        let total = |of: &Difference| of.edits.iter().chain(&of.added).sum::<usize>() + of.swapped + of.shifted;
        // Of two rows, what only one has weighs 27 sixteenths.
        assert_eq!(
            (found.matched, found.respelled, total(&found)),
            (matched, respelled, edits * 27),
            "{left:?} {right:?}"
        );
        let mirrored = compare(right, left);
        assert_eq!((mirrored.matched, mirrored.respelled), ([matched[1], matched[0]], respelled), "{right:?} {left:?}");
        assert_eq!(total(&mirrored), edits * 27);
        assert!(!found.is_opposed && !mirrored.is_opposed, "{left:?} {right:?}");
    }

    #[test]
    fn errors_spacing_and_single_words_are_small_differences() {
        check("please recieve the parcel", "please receive the parcel", [4, 4], 1, 0);
        check("our data base is down", "our database is down", [5, 4], 1, 0);
        check("so it really works", "so it works", [3, 3], 0, 1);
        check("at night the owl hunts mice", "the owl hunts mice at night", [6, 6], 1, 0);
    }

    #[test]
    fn facts_oppose_where_they_replace_each_other_or_stand_alone() {
        for (left, right) in [
            ("wait 5 minutes", "wait 6 minutes"),
            ("wait 5 minutes", "wait 5 hours"),
            ("it does work", "it does not work"),
            ("a stable release", "an unstable release"),
            ("levels increased here", "levels decreased here"),
            ("call get_user now", "call get_users now"),
            ("if a == b then", "if a != b then"),
            ("all of them are not here", "not all of them are here"),
            ("take 2 3 pills", "take 23 pills"),
            ("the first is not very good and the second is bad", "the first is good and the second is not very bad"),
        ] {
            assert!(compare(left, right).is_opposed, "{left:?} {right:?}");
            assert!(compare(right, left).is_opposed, "{right:?} {left:?}");
        }
    }

    #[test]
    fn a_word_in_the_place_of_another_is_swapped() {
        let swapped = |left, right| {
            let difference = compare(left, right);
            assert!(!difference.is_opposed, "{left:?} {right:?}");
            (difference.swapped > 0, difference.shifted > 0)
        };
        assert_eq!(swapped("fly to paris today", "fly to london today"), (true, false));
        assert_eq!(swapped("the dog bites the man", "the man bites the dog"), (true, false));
        assert_eq!(swapped("he saw the bird", "he saw a bird"), (false, false));
        let (left, right) =
            ("compare oslo and bern with regard to price", "compare bern and lima with regard to price");
        assert_eq!(swapped(left, right), (false, true));
        let (left, right) =
            ("well he came by bus and left on foot again", "he came by bus and left on foot again soon");
        assert_eq!(swapped(left, right), (false, false));
    }

    #[test]
    fn a_sentence_more_is_an_addition_with_its_facts() {
        let left = "the first sentence says something";
        let right = "the first sentence says something. then 5 more words come along";
        let found = compare(left, right);
        assert_eq!((found.matched, found.added[0], found.edits, found.is_opposed), ([5, 5], 0, [0, 0], false));
    }

    #[test]
    fn an_error_is_found_in_a_sentence_that_moved() {
        let left = "we tested the new engine on monday. nobody complained about the noise it made";
        let right = "nobody complained abuot the noise it made. we tested the new engine on monday";
        check(left, right, [14, 14], 1, 0);
    }

    #[test]
    fn a_word_is_found_in_the_place_of_another_beside_what_moved() {
        let left = "both the red and the blue lamp are lit in the evening, so that the guests find their way";
        let right = "so that the guests find their way, both the red or the blue lamp are lit in the evening";
        assert!(compare(left, right).swapped > 0);
    }

    #[test]
    fn two_sentences_at_one_place_are_no_forms_of_each_other() {
        let base = "the report was late";
        let left = format!("{base}. nobody had told the 3 authors when it was due");
        let right = format!("{base}. yesterday 17 copies were sold at a price of 4 dollars");
        let found = compare(&left, &right);
        assert_eq!((found.is_opposed, found.swapped), (false, 0), "{found:?}");
        assert!(found.added[0] > 100 && found.added[1] > 100, "{found:?}");
    }
}
