//! From pieces to the words that are compared, and which of them are facts.
//!
//! A fact is a word of which one text cannot have another without saying something else: a number, a unit, a denial, a
//! sign that compares. Spellings of one fact become one word here: `two` and `2`, `doesn't` and `does not`.

use super::{
    meaning,
    scan::{Piece, Scanner, Shape},
};

/// What is made of facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// They are words, and known as facts.
    Whole,
    /// A number or unit is some number or unit, and denials are left out: what is left is what texts share that differ in
    /// nothing but facts.
    Skeleton,
}

/// A word as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadWord<'a> {
    /// What it says.
    pub text: &'a str,
    /// No text without it says the same.
    pub is_fact: bool,
    /// Nothing may stand in its place: it is a name of a program, or says what the number before it counts. The latter is
    /// no fact because it depends on little whether it stands there.
    pub is_fixed: bool,
    /// It is part of a name that is another without it.
    pub is_part: bool,
}

impl<'a> ReadWord<'a> {
    fn plain(text: &'a str) -> Self {
        Self { text, is_fact: false, is_fixed: false, is_part: false }
    }
}

/// The word that a fact is known by, from one of its spellings.
pub(super) fn canonical(spelling: &str) -> &str {
    meaning::number(spelling).unwrap_or_else(|| meaning::singular(spelling))
}

/// In a skeleton: a number. No scanned word is the same, for a word that holds a sign holds no other.
const SOME_NUMBER: &str = "#";
/// In a skeleton: a unit.
const SOME_UNIT: &str = "#unit";

/// Reads texts; its buffers are kept from one to the next.
#[derive(Default)]
pub(super) struct Reader {
    scanner: Scanner,
    joined: String,
}

impl Reader {
    /// Gives the words of a text to `sink`, in order.
    pub fn read(&mut self, text: &str, reading: Reading, mut sink: impl FnMut(ReadWord<'_>)) {
        self.scanner.scan(text);
        let mut is_after_number = false;
        let mut at = 0;
        while let Some(piece) = self.scanner.pieces().get(at) {
            let word = self.scanner.text(piece);
            let next = self.scanner.pieces().get(at + 1);
            let fact = |text| ReadWord { is_fact: true, ..ReadWord::plain(text) };
            let is_number =
                piece.shape == Shape::Number || piece.shape == Shape::Word && meaning::number(word).is_some();
            at += 1;
            match piece.shape {
                Shape::Number => sink(hide(fact(word), Kind::Number, reading)),
                Shape::Unit => sink(hide(fact(word), Kind::Unit, reading)),
                Shape::Sign if reading == Reading::Skeleton => {}
                Shape::Sign => sink(fact(word)),
                Shape::Word => {
                    let joined = next.and_then(|next| join(&self.scanner, word, next, &mut self.joined));
                    if joined.is_some() {
                        at += 1;
                    }
                    let word = if joined.is_some() { self.joined.as_str() } else { word };
                    interpret(word, piece, is_after_number, reading, &mut sink);
                }
            }
            is_after_number = is_number;
        }
    }
}

enum Kind {
    Number,
    Unit,
}

fn hide(word: ReadWord<'_>, kind: Kind, reading: Reading) -> ReadWord<'_> {
    match (reading, kind) {
        (Reading::Whole, _) => word,
        (Reading::Skeleton, Kind::Number) => ReadWord::plain(SOME_NUMBER),
        (Reading::Skeleton, Kind::Unit) => ReadWord::plain(SOME_UNIT),
    }
}

/// Puts two pieces together that are one word however they are written: `don't` of which the apostrophe became a space,
/// `non-smokers`, `un-American`.
fn join(scanner: &Scanner, word: &str, next: &Piece, joined: &mut String) -> Option<()> {
    if next.shape != Shape::Word {
        return None;
    }
    let follower = scanner.text(next);
    joined.clear();
    joined.push_str(word);
    joined.push_str(follower);
    let is_contraction = follower == "t" && meaning::contracted(joined).is_some();
    let is_denied = word == "non" || word == "un" && next.is_hyphenated;
    (is_contraction || is_denied).then_some(())
}

fn interpret(
    word: &str,
    &Piece { is_name, is_part, .. }: &Piece,
    is_after_number: bool,
    reading: Reading,
    sink: &mut impl FnMut(ReadWord<'_>),
) {
    let fact = |text| ReadWord { is_fact: true, ..ReadWord::plain(text) };
    if let Some(digits) = meaning::number(word) {
        return sink(hide(fact(digits), Kind::Number, reading));
    }
    if meaning::is_count(word) {
        return sink(hide(fact(word), Kind::Number, reading));
    }
    if let Some(verb) = meaning::contracted(word) {
        sink(ReadWord::plain(verb));
        if reading == Reading::Whole {
            sink(fact("not"));
        }
        return;
    }
    if meaning::is_denial(word) {
        if reading == Reading::Whole {
            sink(fact(word));
        }
        return;
    }
    let singular = meaning::singular(word);
    if meaning::is_unit(singular) {
        return sink(hide(fact(singular), Kind::Unit, reading));
    }
    if is_after_number && meaning::is_unit_of_number(singular) {
        let measure = ReadWord { is_fixed: true, is_part, ..ReadWord::plain(singular) };
        return sink(hide(measure, Kind::Unit, reading));
    }
    sink(ReadWord { is_fixed: is_name || is_part, is_part, ..ReadWord::plain(word) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, reading: Reading) -> String {
        let mut words = Vec::new();
        Reader::default().read(text, reading, |word| {
            words.push(format!("{}{}", word.text, if word.is_fact { "!" } else { "" }));
        });
        words.join(" ")
    }

    #[test]
    fn facts_are_marked_and_their_spellings_are_one() {
        assert_eq!(read("It doesn't take two hours", Reading::Whole), "it does not! take 2! hour!");
        assert_eq!(read("It doesnt take 2 hour", Reading::Whole), "it does not! take 2! hour!");
        assert_eq!(read("it does not take", Reading::Whole), "it does not! take");
        assert_eq!(read("don t, cannot", Reading::Whole), "do not! can not!");
        assert_eq!(read("non-smokers, non smokers", Reading::Whole), "nonsmokers nonsmokers");
        assert_eq!(read("5 s, s 5", Reading::Whole), "5! s s 5!");
        assert_eq!(read("p<0.05", Reading::Whole), "p <! 0.05!");
        assert_eq!(read("3 of 4", Reading::Whole), "3! of 4!");
        assert_eq!(read("我不去", Reading::Whole), "我 不! 去");
    }

    #[test]
    fn a_skeleton_is_the_same_whatever_the_facts() {
        let skeleton = read("it does not take 2 hours, p < 5 %", Reading::Skeleton);
        assert_eq!(skeleton, "it does take # #unit p # #unit");
        assert_eq!(read("It doesn't take seven weeks: p > 12 kg", Reading::Skeleton), skeleton);
    }
}
