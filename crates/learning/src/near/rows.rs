//! Rows made ready to be compared: equal ones once, as words by number, with their shingles.
//!
//! Distinct rows stand in the order of a hash of their words. All that follows works in this order and knows no other, which
//! is why the groups do not depend on the order in which rows were given.
//!
//! Memory is kept for distinct rows only: four bytes a word for the words and as much for their pairs, four bytes a letter
//! for rows of up to [`SHORT_CHARS_MAX`], and each different word once.

use rayon::prelude::*;

use super::{
    read::{Reader, Reading},
    sketch::mix,
    words::{Facts, Lexicon, Words, as_u32, hash},
};

/// Rows of up to so many letters are compared by letters as well as by words: an error in one word of seven leaves too few
/// pairs of words alike.
pub(super) const SHORT_CHARS_MAX: usize = 120;
/// Letters of a shingle.
const GRAM_CHARS: usize = 3;
/// Rows that are read at a time, and bytes after which no further one is taken along.
const CHUNK_ROWS: usize = 4_096;
const CHUNK_BYTES: usize = 4 << 20;

/// A word at its place in a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token(u32);

impl Token {
    const FACT: u32 = 1 << 31;
    const FIXED: u32 = 1 << 30;
    const PART: u32 = 1 << 29;
    const FLAGS: u32 = Self::FACT | Self::FIXED | Self::PART;

    fn new(number: u32, flags: u32) -> Self {
        Self(number & !Self::FLAGS | flags)
    }

    /// Which word.
    pub fn word(self) -> u32 {
        self.0 & !Self::FLAGS
    }

    /// See [`super::read::ReadWord::is_fact`].
    pub fn is_fact(self) -> bool {
        self.0 & Self::FACT != 0
    }

    /// See [`super::read::ReadWord::is_fixed`].
    pub fn is_fixed(self) -> bool {
        self.0 & Self::FIXED != 0
    }

    /// The fact that it misspells, in its place.
    fn corrected(self, fact: Option<u32>) -> Self {
        match fact {
            Some(fact) if !self.is_fact() && !self.is_fixed() => Self::new(fact, Self::FACT),
            _ => self,
        }
    }

    /// See [`super::read::ReadWord::is_part`].
    pub fn is_part(self) -> bool {
        self.0 & Self::PART != 0
    }
}

/// A row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Its words, in order.
    pub tokens: Box<[Token]>,
    /// Its facts, sorted, as often as they occur.
    pub facts: Box<[u32]>,
    /// Hashes of its pairs of neighbouring words; sorted, each once.
    pub pairs: Box<[u32]>,
    /// Hashes of its runs of letters, spaces left out; sorted, each once; none in a long row.
    pub grams: Box<[u32]>,
}

impl Row {
    fn new(tokens: Box<[Token]>, words: Words<'_>) -> Self {
        let mut facts: Box<[u32]> = tokens.iter().filter(|token| token.is_fact()).map(|token| token.word()).collect();
        facts.sort_unstable();
        let pairs = pairs(&tokens, words);
        let grams = grams(&tokens, words);
        Self { tokens, facts, pairs, grams }
    }
}

/// What a row is known by: BLAKE3 of its words, or of the row itself where it has none.
pub(super) type Key = [u8; 16];

/// The key of a row.
pub(super) fn key(reader: &mut Reader, text: &str, reading: Reading) -> Key {
    let mut hasher = blake3::Hasher::new();
    let mut is_empty = true;
    reader.read(text, reading, |word| {
        // No word has a line feed in it.
        hasher.update(word.text.as_bytes()).update(b"\n");
        is_empty = false;
    });
    if is_empty {
        hasher.update(b"\0").update(text.trim().as_bytes());
    }
    let mut key = Key::default();
    hasher.finalize_xof().fill(&mut key);
    key
}

/// The number that a key begins with.
pub(super) fn mark(key: &Key) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *key;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The distinct rows of some texts.
pub(super) struct Corpus {
    /// In the order of their keys.
    pub rows: Vec<Row>,
    /// A text that each of them was read from: of all that read alike the least, and of equal ones the first.
    pub sources: Vec<u32>,
    /// Which row each text is.
    pub row_of: Vec<u32>,
    /// The key of each text, in short.
    pub marks: Vec<u64>,
    /// Their words.
    pub lexicon: Lexicon,
}

impl Corpus {
    /// Reads texts.
    pub fn new(texts: &[&str], reading: Reading) -> Self {
        let keys: Vec<Key> =
            texts.par_iter().map_init(Reader::default, |reader, text| key(reader, text, reading)).collect();
        let mut order: Vec<u32> = (0..as_u32(texts.len())).collect();
        order.par_sort_unstable_by_key(|&text| (keys[text as usize], texts[text as usize], text));
        let mut row_of = vec![0; texts.len()];
        let mut sources: Vec<u32> = Vec::new();
        for &text in &order {
            if sources.last().is_none_or(|&last| keys[last as usize] != keys[text as usize]) {
                sources.push(text);
            }
            row_of[text as usize] = as_u32(sources.len() - 1);
        }
        let marks = keys.iter().map(mark).collect();
        let (rows, lexicon) = read_rows(texts, &sources, reading);
        Self { rows, sources, row_of, marks, lexicon }
    }
}

fn read_rows(texts: &[&str], sources: &[u32], reading: Reading) -> (Vec<Row>, Lexicon) {
    let mut lexicon = Lexicon::default();
    let mut all_tokens: Vec<Box<[Token]>> = Vec::with_capacity(sources.len());
    let mut rest = sources;
    while !rest.is_empty() {
        let mut size_bytes = 0;
        let fits = |&&text: &&u32| {
            let fits = size_bytes < CHUNK_BYTES;
            size_bytes += texts[text as usize].len();
            fits
        };
        let count = rest.iter().take(CHUNK_ROWS).take_while(fits).count();
        let (chunk, after) = rest.split_at(count);
        rest = after;
        let drafts: Vec<Draft> = chunk
            .par_iter()
            .map_init(Reader::default, |reader, &text| Draft::new(reader, texts[text as usize], reading))
            .collect();
        // Numbers are given in the order of rows, so that they are the same on any number of processors.
        all_tokens.extend(drafts.iter().map(|draft| draft.intern(&mut lexicon)));
    }
    let words = lexicon.words();
    let facts = match reading {
        Reading::Whole => Facts::new(&lexicon).of_all(words),
        Reading::Skeleton => Vec::new(),
    };
    let row = |mut tokens: Box<[Token]>| {
        for token in &mut tokens {
            *token = token.corrected(facts.get(token.word() as usize).copied().flatten());
        }
        Row::new(tokens, words)
    };
    let rows = all_tokens.into_par_iter().map(row).collect();
    (rows, lexicon)
}

/// A row that was read, before its words have numbers.
pub(super) struct Draft {
    text: String,
    words: Vec<DraftWord>,
}

struct DraftWord {
    end: usize,
    hash: u64,
    flags: u32,
}

impl Draft {
    /// Reads a row.
    pub fn new(reader: &mut Reader, text: &str, reading: Reading) -> Self {
        let mut draft = Self { text: String::with_capacity(text.len()), words: Vec::new() };
        reader.read(text, reading, |word| {
            draft.text.push_str(word.text);
            let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
            let flags =
                flag(word.is_fact, Token::FACT) | flag(word.is_fixed, Token::FIXED) | flag(word.is_part, Token::PART);
            draft.words.push(DraftWord { end: draft.text.len(), hash: hash(word.text), flags });
        });
        draft
    }

    fn tokens(&self, mut number: impl FnMut(&str, u64) -> u32) -> Box<[Token]> {
        let mut start = 0;
        let token = |word: &DraftWord| {
            let text = &self.text[start..word.end];
            start = word.end;
            Token::new(number(text, word.hash), word.flags)
        };
        self.words.iter().map(token).collect()
    }

    fn intern(&self, lexicon: &mut Lexicon) -> Box<[Token]> {
        let tokens = self.tokens(|text, hash| lexicon.intern(text, hash));
        let mut numbers: Vec<u32> = tokens.iter().map(|token| token.word()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        lexicon.count(&numbers);
        tokens
    }
}

fn pairs(tokens: &[Token], words: Words<'_>) -> Box<[u32]> {
    let hash = |token: Token| words.get(token.word()).hash;
    let mut pairs: Vec<u32> = match tokens {
        [token] => vec![mix(hash(*token))],
        _ => tokens.array_windows().map(|&[left, right]| mix(hash(left).rotate_left(29) ^ hash(right))).collect(),
    };
    pairs.sort_unstable();
    pairs.dedup();
    pairs.into_boxed_slice()
}

fn grams(tokens: &[Token], words: Words<'_>) -> Box<[u32]> {
    let letters = tokens.iter().flat_map(|token| words.get(token.word()).text.chars());
    let letters: Vec<char> = letters.take(SHORT_CHARS_MAX + 1).collect();
    if letters.len() > SHORT_CHARS_MAX {
        return Box::default();
    }
    let hash = |gram: &[char]| gram.iter().fold(0, |hash, &c| hash << 21 | u64::from(c));
    let mut grams: Vec<u32> = match letters.len() {
        0 => Vec::new(),
        1..=GRAM_CHARS => vec![mix(hash(&letters))],
        _ => letters.windows(GRAM_CHARS).map(|gram| mix(hash(gram))).collect(),
    };
    grams.sort_unstable();
    grams.dedup();
    grams.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_read_alike_are_one_and_stand_in_the_same_order_always() {
        let texts = ["b c", "A  b.", "", "a, B", "?!", " ", "B-C"];
        let corpus = Corpus::new(&texts, Reading::Whole);
        let row = |text: usize| corpus.row_of[text];
        assert_eq!(corpus.rows.len(), 4);
        assert_eq!((row(0), row(1), row(2)), (row(6), row(3), row(5)));
        assert_ne!(row(2), row(4), "what has no words is compared as it is");
        let reversed: Vec<&str> = texts.iter().rev().copied().collect();
        let again = Corpus::new(&reversed, Reading::Whole);
        let rows: Vec<u32> = again.row_of.iter().rev().copied().collect();
        assert_eq!(rows, corpus.row_of);
    }

    #[test]
    fn a_word_is_counted_once_a_distinct_text() {
        let corpus = Corpus::new(&["tick tick tick", "tick tock", "Tick, tock!"], Reading::Whole);
        let words = corpus.lexicon.words();
        let tick = corpus.rows[corpus.row_of[0] as usize].tokens[0].word();
        assert_eq!((words.get(tick).text.as_ref(), words.get(tick).texts), ("tick", 2));
    }

    #[test]
    fn only_short_rows_have_grams_and_spaces_do_not_count() {
        let long = "word ".repeat(40);
        let corpus = Corpus::new(&[&long, "data base", "database"], Reading::Whole);
        let row = |text: usize| &corpus.rows[corpus.row_of[text] as usize];
        assert!(row(0).grams.is_empty());
        assert_eq!(row(1).grams, row(2).grams);
        assert_ne!(row(1).pairs, row(2).pairs);
        assert_eq!(row(0).pairs.len(), 1);
    }
}
