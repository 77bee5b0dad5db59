//! The words of all rows, each once, and which of two words may be a slip of the pen for the other.

use std::collections::HashMap;

use rayon::prelude::*;

use super::{meaning, read::canonical};

/// Below this, a letter more or less makes another word as often as a typing error.
const TYPO_CHARS_MIN: usize = 4;
/// A word in this many different texts may still be an error that was copied along.
const TYPO_TEXTS_MAX: u32 = 4;
/// An error in a common word is made again and again, but it stays rarer than the word by far.
const TYPO_RARITY: u32 = 64;

/// A word.
#[derive(Debug)]
pub(super) struct Word {
    pub text: Box<str>,
    /// From its text alone, the same in every run.
    pub hash: u64,
    /// Different texts that have it.
    pub texts: u32,
    /// See [`meaning::is_minor`].
    pub is_minor: bool,
    chars: usize,
}

impl Word {
    fn new(text: &str, hash: u64) -> Self {
        Self { text: text.into(), hash, texts: 0, is_minor: meaning::is_minor(text), chars: text.chars().count() }
    }
}

/// Words by number.
#[derive(Debug, Default)]
pub(super) struct Lexicon {
    words: Vec<Word>,
    /// Numbers by hash. Two words with one hash, which BLAKE3 makes unlikely, stand at consecutive ones.
    numbers: HashMap<u64, u32, foldhash::fast::RandomState>,
    /// Different texts that were counted.
    texts: u32,
}

impl Lexicon {
    /// The number of a word, which gets one if it is new.
    pub fn intern(&mut self, text: &str, hash: u64) -> u32 {
        if let Some(number) = self.find(text, hash) {
            return number;
        }
        let mut place = hash;
        while self.numbers.contains_key(&place) {
            place = place.wrapping_add(1);
        }
        let number = as_u32(self.words.len());
        self.words.push(Word::new(text, hash));
        self.numbers.insert(place, number);
        number
    }

    /// The number of a word, if it is there.
    fn find(&self, text: &str, hash: u64) -> Option<u32> {
        let places = (0..).map(|step| hash.wrapping_add(step));
        let mut numbers = places.map_while(|place| self.numbers.get(&place).copied());
        numbers.find(|&number| *self.words[number as usize].text == *text)
    }

    /// Counts a text that has these words, each named once.
    pub fn count(&mut self, numbers: &[u32]) {
        self.texts += 1;
        for &number in numbers {
            self.words[number as usize].texts += 1;
        }
    }

    /// All words.
    pub fn words(&self) -> Words<'_> {
        Words { known: &self.words, texts: self.texts }
    }
}

/// Words to look up.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    known: &'a [Word],
    texts: u32,
}

impl<'a> Words<'a> {
    /// The word that has this number.
    pub fn get(self, number: u32) -> &'a Word {
        &self.known[number as usize]
    }

    /// How much a word says, in sixteenths: `1 + ln(texts / texts that have it)`, the inverse document frequency of Spärck
    /// Jones (1972). A word that all have says one, so that of few texts all words say about as much.
    pub fn weight(self, number: u32) -> usize {
        // To a sixteenth, so that it is the same on every machine; 11 sixteenths are ln 2.
        let texts = self.get(number).texts.max(1);
        16 + log2_sixteenths(self.texts.max(texts)).saturating_sub(log2_sixteenths(texts)) * 11 / 16
    }

    /// Whether two words, which are not the same, are one word as far as anybody can tell: one with another ending, or
    /// with a typing error.
    ///
    /// An error gives a word that hardly any text has. Where both words are in use, as `form` and `from` are, or the names
    /// that fill a template, neither is an error for the other.
    pub fn are_alike(self, left: u32, right: u32) -> bool {
        let (left, right) = (self.get(left), self.get(right));
        let (shorter, longer) = (left.chars.min(right.chars), left.chars.max(right.chars));
        if longer < TYPO_CHARS_MIN || longer - shorter > 3 {
            return false;
        }
        if meaning::is_inflected(&left.text, &right.text) {
            return true;
        }
        let (rarer, commoner) = (left.texts.min(right.texts), left.texts.max(right.texts));
        is_rare_beside(rarer, commoner) && longer - shorter <= 1 && is_one_edit(&left.text, &right.text)
    }
}

/// The binary logarithm of a number from 1, straight between powers of two, in sixteenths.
fn log2_sixteenths(number: u32) -> usize {
    let whole = number.ilog2();
    let fraction = (u64::from(number) << 4 >> whole) & 15;
    whole as usize * 16 + fraction as usize
}

/// Whether a word is so much rarer than another that it may be an error for it.
fn is_rare_beside(rarer: u32, commoner: u32) -> bool {
    rarer <= TYPO_TEXTS_MAX || rarer.saturating_mul(TYPO_RARITY) <= commoner
}

/// Facts whose names are long enough for a typing error.
pub(super) struct Facts {
    /// With the number of the word that stands for the fact.
    names: Vec<(&'static str, u32)>,
}

impl Facts {
    /// Those that some row states.
    pub fn new(lexicon: &Lexicon) -> Self {
        let number = |name: &&'static str| {
            let text = canonical(name);
            lexicon.find(text, hash(text)).map(|number| (*name, number))
        };
        Self { names: meaning::MISSPELLED.iter().filter_map(number).collect() }
    }

    /// The fact that a word misspells: `wihtout`, `yeras`.
    pub fn misspelled(&self, words: Words<'_>, number: u32) -> Option<u32> {
        const CHARS_MIN: usize = 5;
        let word = words.get(number);
        let is_close = |&&(name, fact): &&(&str, u32)| {
            name.len().max(word.chars) >= CHARS_MIN
                && name.len().abs_diff(word.chars) <= 1
                && is_rare_beside(word.texts, words.get(fact).texts)
                && word.texts <= words.get(fact).texts
                && is_one_edit(name, &word.text)
        };
        self.names.iter().find(is_close).map(|&(_, fact)| fact)
    }

    /// For each word the fact that it misspells.
    pub fn of_all(&self, words: Words<'_>) -> Vec<Option<u32>> {
        (0..as_u32(words.known.len())).into_par_iter().map(|number| self.misspelled(words, number)).collect()
    }
}

/// The hash of a word, the same in every run.
pub(super) fn hash(word: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(word.as_bytes()).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Whether one letter was added, left out or replaced, or two neighbours swapped (Damerau, CACM 7(3), 1964: four in five
/// errors are one of these).
fn is_one_edit(left: &str, right: &str) -> bool {
    let mut left_rest = left.chars();
    let mut right_rest = right.chars();
    loop {
        let before = (left_rest.clone(), right_rest.clone());
        match (left_rest.next(), right_rest.next()) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => {
                let (left_here, right_here) = (before.0.as_str(), before.1.as_str());
                let (left_next, right_next) = (left_rest.as_str(), right_rest.as_str());
                let is_swap = || {
                    let mut left_after = left_rest.clone();
                    let mut right_after = right_rest.clone();
                    left_after.next() == Some(b)
                        && right_after.next() == Some(a)
                        && left_after.as_str() == right_after.as_str()
                };
                return left_next == right_next || left_here == right_next || left_next == right_here || is_swap();
            }
            (None, None) => return false,
            (one, other) => {
                return one.is_none() != other.is_none() && left_rest.next().or(right_rest.next()).is_none();
            }
        }
    }
}

/// Whether two words are so few letters apart that one may be meant to be the other: one in a word of four letters, two in a
/// longer one.
pub(super) fn are_confusable(left: &str, right: &str) -> bool {
    const LETTERS_APART_MAX: usize = 2;
    const CHARS_MAX: usize = 64;
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let (shorter, longer) = (left.len().min(right.len()), left.len().max(right.len()));
    if longer > CHARS_MAX || longer - shorter > LETTERS_APART_MAX {
        return false;
    }
    edits(&left, &right)
        <= if longer > TYPO_CHARS_MIN { LETTERS_APART_MAX } else { usize::from(longer == TYPO_CHARS_MIN) }
}

/// How many letters must be added, left out or replaced, or neighbours swapped, to make one word of another (optimal string
/// alignment).
fn edits(left: &[char], right: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (at_left, a) in left.iter().enumerate() {
        let mut row = vec![at_left + 1];
        for (at_right, b) in right.iter().enumerate() {
            let replaced = last[at_right] + usize::from(a != b);
            let mut least = replaced.min(last[at_right + 1] + 1).min(row[at_right] + 1);
            let is_swap = at_left > 0 && at_right > 0 && *a == right[at_right - 1] && left[at_left - 1] == *b;
            if is_swap {
                least = least.min(before_last[at_right - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

/// A place in a list of rows or words. A list that is longer would not fit into the memory of any machine that this runs
/// on: four thousand million entries of sixteen bytes or more.
pub(super) fn as_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lexicon(words: &[(&str, u32)]) -> Lexicon {
        let mut lexicon = Lexicon::default();
        for (text, texts) in words {
            // One hash for all of them: the texts tell them apart.
            let number = lexicon.intern(text, 7);
            for _ in 0..*texts {
                lexicon.count(&[number]);
            }
        }
        lexicon
    }

    fn alike(left: (&str, u32), right: (&str, u32)) -> bool {
        let lexicon = lexicon(&[left, right]);
        lexicon.words().are_alike(0, 1)
    }

    #[test]
    fn one_edit_is_one_letter_or_two_neighbours() {
        for (left, right) in
            [("receive", "recieve"), ("word", "wrd"), ("word", "words"), ("word", "ward"), ("été", "étè")]
        {
            assert!(is_one_edit(left, right), "{left} {right}");
            assert!(is_one_edit(right, left), "{right} {left}");
        }
        for (left, right) in [("word", "word"), ("word", "drow"), ("", "ab"), ("abcd", "badc"), ("receive", "recieved")]
        {
            assert!(!is_one_edit(left, right), "{left} {right}");
            assert!(!is_one_edit(right, left), "{right} {left}");
        }
        assert!(is_one_edit("", "a"));
    }

    #[test]
    fn what_is_in_use_is_no_typing_error() {
        assert!(alike(("from", 30_000), ("fromm", 1)));
        assert!(alike(("from", 30_000), ("form", 100)));
        assert!(!alike(("from", 3_000), ("form", 800)));
        assert!(!alike(("anna", 40), ("anne", 35)));
        assert!(alike(("cell", 900), ("cells", 900)));
        assert!(!alike(("cat", 1), ("car", 1)));
    }

    #[test]
    fn what_is_few_letters_apart_may_be_confused() {
        for (left, right) in
            [("form", "from"), ("tlsts", "tets"), ("abrican", "afrcan"), ("shouldconsider", "shoudlconsider")]
        {
            assert!(are_confusable(left, right), "{left} {right}");
            assert!(are_confusable(right, left), "{right} {left}");
        }
        for (left, right) in
            [("and", "or"), ("cat", "car"), ("", "a"), ("france", "spain"), ("hall", "room"), ("ab", "ba")]
        {
            assert!(!are_confusable(left, right), "{left} {right}");
        }
    }

    #[test]
    fn a_rare_word_says_more() {
        let mut lexicon = Lexicon::default();
        let (common, rare) = (lexicon.intern("common", 1), lexicon.intern("rare", 2));
        (0..1_000).for_each(|n| lexicon.count(if n == 0 { &[0, 1] } else { &[0] }));
        assert_eq!(lexicon.words().weight(common), 16);
        let weight = lexicon.words().weight(rare) as f64 / 16.0;
        assert!((weight - (1.0 + 1_000_f64.ln())).abs() < 0.2, "{weight}");
    }

    #[test]
    fn words_with_one_hash_stay_apart() {
        let mut lexicon = lexicon(&[("a", 1), ("b", 2)]);
        assert_eq!((lexicon.intern("b", 7), lexicon.intern("a", 7), lexicon.intern("c", 8)), (1, 0, 2));
    }
}
