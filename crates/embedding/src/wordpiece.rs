//! WordPiece as BERT does it, in one pass over the text.
//!
//! Owns nothing but speed: every text gets the tokens that the general library gives it, at a twentieth of the time,
//! which indexing spends on nearly every byte. A tokenizer file that asks for anything else than what is written here
//! is not read, and the library does the work.
//!
//! The steps are those of the BERT paper's reference tokenizer: clean, set ideographs apart, strip accents, lowercase,
//! split at white space and punctuation, then take the longest piece of the vocabulary that a word begins with, again
//! and again. Character classes come from the tables the library uses, as their Unicode version decides about tokens.

use std::collections::HashMap;

use serde::Deserialize;
use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

type Pieces = HashMap<Box<[u8]>, u32, foldhash::fast::RandomState>;

/// Splits texts into the pieces of a vocabulary.
#[derive(Debug)]
pub(crate) struct WordPiece {
    strips_accents: bool,
    lowercases: bool,
    /// What a word can begin with.
    beginnings: Pieces,
    /// What can follow in a word.
    continuations: Pieces,
    /// Bytes of the longest piece.
    longest: usize,
    unknown: u32,
    /// A word of more characters is unknown as a whole.
    characters_max: usize,
    /// Tokens that are found in the raw text, longest first.
    added: Vec<(Box<str>, u32)>,
}

impl WordPiece {
    /// Reads a tokenizer file; none where it asks for more than is done here.
    pub(crate) fn read(file: &[u8]) -> Option<WordPiece> {
        let file: File = serde_json::from_slice(file).ok()?;
        let Normalizer::BertNormalizer { clean_text: true, handle_chinese_chars: true, strip_accents, lowercase } =
            file.normalizer
        else {
            return None;
        };
        let PreTokenizer::BertPreTokenizer {} = file.pre_tokenizer;
        let model = file.model;
        if model.continuing_subword_prefix != "##" {
            return None;
        }
        let unknown = *model.vocab.get(&model.unk_token)?;
        let mut pieces = WordPiece {
            strips_accents: strip_accents.unwrap_or(lowercase),
            lowercases: lowercase,
            beginnings: Pieces::default(),
            continuations: Pieces::default(),
            longest: 0,
            unknown,
            characters_max: model.max_input_chars_per_word,
            added: Vec::new(),
        };
        for (piece, id) in model.vocab {
            pieces.longest = pieces.longest.max(piece.len());
            if let Some(rest) = piece.strip_prefix("##") {
                pieces.continuations.insert(rest.as_bytes().into(), id);
            }
            // A word never begins with the mark of a continuation and goes on, as that is punctuation; the mark alone is
            // in some vocabularies.
            pieces.beginnings.insert(piece.into_bytes().into(), id);
        }
        for token in file.added_tokens {
            if token.is_anything_but_plain() {
                return None;
            }
            pieces.added.push((token.content.into(), token.id));
        }
        pieces.added.sort_by_key(|(content, _)| std::cmp::Reverse(content.len()));
        Some(pieces)
    }

    /// Calls `emit` with number, start and end of every token of `text`, in order.
    pub(crate) fn tokens(&self, text: &str, mut emit: impl FnMut(u32, usize, usize)) {
        let mut word = Word::new(self.characters_max);
        let mut at = 0;
        while let Some(&byte) = text.as_bytes().get(at) {
            if let Some((length, id)) = self.added_at(text, at) {
                self.end_word(&mut word, &mut emit);
                emit(id, at, at + length);
                at += length;
                continue;
            }
            match CLASSES.get(usize::from(byte)) {
                Some(Class::Letter) => {
                    let byte = if self.lowercases { byte.to_ascii_lowercase() } else { byte };
                    word.push_ascii(byte, at);
                    at += 1;
                }
                Some(Class::Space) => {
                    self.end_word(&mut word, &mut emit);
                    at += 1;
                }
                Some(Class::Punctuation) => {
                    self.end_word(&mut word, &mut emit);
                    word.push_ascii(byte, at);
                    self.end_word(&mut word, &mut emit);
                    at += 1;
                }
                Some(Class::Control) => at += 1,
                None => {
                    let Some(c) = text[at..].chars().next() else { return };
                    self.character(c, (at, at + c.len_utf8()), &mut word, &mut emit);
                    at += c.len_utf8();
                }
            }
        }
        self.end_word(&mut word, &mut emit);
    }

    fn added_at(&self, text: &str, at: usize) -> Option<(usize, u32)> {
        let rest = &text.as_bytes()[at..];
        let found = self.added.iter().find(|(content, _)| rest.starts_with(content.as_bytes()));
        found.map(|(content, id)| (content.len(), *id))
    }

    /// Takes a character beyond ASCII.
    fn character(&self, c: char, origin: Origin, word: &mut Word, emit: &mut impl FnMut(u32, usize, usize)) {
        if c == char::REPLACEMENT_CHARACTER || c.is_other() {
            return;
        }
        if c.is_whitespace() {
            return self.end_word(word, emit);
        }
        let ideograph = is_ideograph(c);
        if ideograph {
            self.end_word(word, emit);
        }
        if self.strips_accents {
            decompose_canonical(c, |part| {
                let class = canonical_combining_class(part);
                if part.is_mark_nonspacing() {
                    word.passed(class);
                } else {
                    self.cased(part, class, origin, word, emit);
                }
            });
        } else {
            self.cased(c, 0, origin, word, emit);
        }
        if ideograph {
            self.end_word(word, emit);
        }
    }

    fn cased(&self, c: char, class: u8, origin: Origin, word: &mut Word, emit: &mut impl FnMut(u32, usize, usize)) {
        if !self.lowercases {
            return self.normal(c, class, origin, word, emit);
        }
        for c in c.to_lowercase() {
            self.normal(c, class, origin, word, emit);
        }
    }

    /// Takes a character as normalisation leaves it.
    fn normal(&self, c: char, class: u8, origin: Origin, word: &mut Word, emit: &mut impl FnMut(u32, usize, usize)) {
        if c.is_whitespace() {
            self.end_word(word, emit);
        } else if c.is_ascii_punctuation() || c.is_punctuation() {
            self.end_word(word, emit);
            word.push(c, class, origin);
            self.end_word(word, emit);
        } else {
            word.push(c, class, origin);
        }
    }

    /// Emits the pieces of the word, and empties it.
    fn end_word(&self, word: &mut Word, emit: &mut impl FnMut(u32, usize, usize)) {
        if word.origins.is_empty() {
            return word.clear();
        }
        if word.characters > self.characters_max || !self.cut(word) {
            let (start, end) = word.origin(0, word.origins.len());
            emit(self.unknown, start.min(word.beyond.0), end.max(word.beyond.1));
        } else {
            for &(id, from, to) in &word.pieces {
                let (start, end) = word.origin(from, to);
                emit(id, start, end);
            }
        }
        word.clear();
    }

    /// Cuts the word into pieces, the longest first; says whether it could.
    fn cut(&self, word: &mut Word) -> bool {
        let mut start = 0;
        while start < word.bytes.len() {
            let pieces = if start == 0 { &self.beginnings } else { &self.continuations };
            let rest = &word.bytes[start..word.bytes.len().min(start + self.longest)];
            let longest = (1..=rest.len()).rev().find_map(|length| Some((length, *pieces.get(&rest[..length])?)));
            let Some((length, id)) = longest else { return false };
            word.pieces.push((id, start, start + length));
            start += length;
        }
        true
    }
}

/// The bytes of the text that something was made of.
type Origin = (usize, usize);

/// No bytes at all; widened by any.
const NOTHING: Origin = (usize::MAX, 0);

/// A word on its way to its end.
#[derive(Default)]
struct Word {
    bytes: Vec<u8>,
    /// Of every byte.
    origins: Vec<Origin>,
    characters: usize,
    /// A word of more characters is unknown, whatever they are: they are counted and not kept.
    characters_max: usize,
    /// What those beyond were made of, all together.
    beyond: Origin,
    /// Combining characters since the last that is none: class and place of its first byte.
    combining: Vec<(u8, usize)>,
    /// Number, start and end of what it was cut into.
    pieces: Vec<(u32, usize, usize)>,
}

impl Word {
    fn new(characters_max: usize) -> Word {
        Word { characters_max, beyond: NOTHING, ..Word::default() }
    }

    fn push_ascii(&mut self, byte: u8, at: usize) {
        self.characters += 1;
        if self.characters > self.characters_max {
            return self.widen((at, at + 1));
        }
        self.bytes.push(byte);
        self.origins.push((at, at + 1));
        self.combining.clear();
    }

    fn widen(&mut self, (start, end): Origin) {
        self.beyond = (self.beyond.0.min(start), self.beyond.1.max(end));
    }

    /// What some bytes were made of.
    fn origin(&self, from: usize, to: usize) -> Origin {
        let (start, end) = (self.origins[from].0, self.origins[to - 1].1);
        if start < end {
            return (start, end);
        }
        // Canonical ordering put a mark before one that it comes after in the text.
        let parts = &self.origins[from..to];
        parts.iter().fold(NOTHING, |(start, end), part| (start.min(part.0), end.max(part.1)))
    }

    /// Adds a character where canonical ordering puts it.
    fn push(&mut self, c: char, class: u8, origin: Origin) {
        self.characters += 1;
        if self.characters > self.characters_max {
            return self.widen(origin);
        }
        let mut buffer = [0; 4];
        let encoded = c.encode_utf8(&mut buffer).as_bytes();
        self.passed(class);
        let after = self.combining.iter().rposition(|&(other, _)| other <= class).map_or(0, |at| at + 1);
        let place = match self.combining.get(after) {
            Some(&(_, place)) if class != 0 => place,
            _ => self.bytes.len(),
        };
        self.bytes.splice(place..place, encoded.iter().copied());
        self.origins.splice(place..place, encoded.iter().map(|_| origin));
        if class != 0 {
            self.combining.insert(after, (class, place));
            for (_, place) in &mut self.combining[after + 1..] {
                *place += encoded.len();
            }
        }
    }

    /// Notes a character that may be dropped: one that does not combine ends the run of those that do.
    fn passed(&mut self, class: u8) {
        if class == 0 {
            self.combining.clear();
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.origins.clear();
        self.characters = 0;
        self.beyond = NOTHING;
        self.combining.clear();
        self.pieces.clear();
    }
}

/// What an ASCII character is to the tokenizer.
#[derive(Clone, Copy)]
enum Class {
    Letter,
    Space,
    Punctuation,
    Control,
}

const CLASSES: [Class; 128] = {
    let mut classes = [Class::Letter; 128];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b'\t' | b'\n' | b'\r' | b' ' => Class::Space,
            byte if byte.is_ascii_control() => Class::Control,
            byte if byte.is_ascii_punctuation() => Class::Punctuation,
            _ => Class::Letter,
        };
        byte += 1;
    }
    classes
};

/// The blocks that the reference tokenizer sets apart, its gap at U+2B820 included.
fn is_ideograph(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}'
        | '\u{2f800}'..='\u{2fa1f}')
}

/// The parts of a tokenizer file that decide about tokens without special ones. A part with a field that is not known
/// here makes the file unreadable to this module, on purpose.
#[derive(Deserialize)]
struct File {
    added_tokens: Vec<AddedToken>,
    normalizer: Normalizer,
    pre_tokenizer: PreTokenizer,
    model: Model,
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Normalizer {
    BertNormalizer { clean_text: bool, handle_chinese_chars: bool, strip_accents: Option<bool>, lowercase: bool },
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum PreTokenizer {
    BertPreTokenizer {},
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    #[serde(rename = "type")]
    _kind: WordPieceKind,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: HashMap<String, u32>,
}

#[derive(Deserialize)]
enum WordPieceKind {
    WordPiece,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddedToken {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    #[serde(rename = "special")]
    _special: bool,
}

impl AddedToken {
    fn is_anything_but_plain(&self) -> bool {
        self.single_word || self.lstrip || self.rstrip || self.normalized || self.content.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::Tokenizer;

    use super::*;

    fn both() -> (WordPiece, Tokenizer) {
        let folder = tempfile::tempdir().unwrap();
        holdfast_testkit::tiny_model::write(folder.path()).unwrap();
        let file = std::fs::read(folder.path().join("tokenizer.json")).unwrap();
        let mut library = Tokenizer::from_bytes(&file).unwrap();
        library.with_padding(None);
        library.with_truncation(None).unwrap();
        (WordPiece::read(&file).unwrap(), library)
    }

    fn ours(pieces: &WordPiece, text: &str) -> (Vec<u32>, Vec<(usize, usize)>) {
        let (mut ids, mut offsets) = (Vec::new(), Vec::new());
        pieces.tokens(text, |id, from, to| {
            ids.push(id);
            offsets.push((from, to));
        });
        (ids, offsets)
    }

    #[track_caller]
    fn assert_same(pieces: &WordPiece, library: &Tokenizer, text: &str) {
        let theirs = library.encode(text, false).unwrap();
        let (ids, offsets) = ours(pieces, text);
        assert_eq!(ids, theirs.get_ids(), "{text:?}");
        // Where canonical ordering moves a mark, the library takes its neighbour's place for its own.
        if !text.contains(['\u{302e}', '\u{302f}', '\u{1d165}']) {
            assert_eq!(offsets, theirs.get_offsets(), "{text:?}");
        }
    }

    #[test]
    fn every_character_gives_the_librarys_tokens() {
        let (pieces, library) = both();
        for c in '\0'..=char::MAX {
            // Most of the planes above are unassigned or all alike.
            if ('\u{30000}'..'\u{e0000}').contains(&c) || c > '\u{f0100}' {
                continue;
            }
            assert_same(&pieces, &library, &format!("a{c}b"));
        }
    }

    #[test]
    fn marks_that_are_put_in_order_have_a_place() {
        let (pieces, library) = both();
        for text in ["\u{1d16d}\u{302e}\u{1d165}", "a\u{1d16d}\u{302e}\u{1d165} b", "\u{1d16d}\u{302e}"] {
            assert_same(&pieces, &library, text);
            let (_, offsets) = ours(&pieces, text);
            assert!(offsets.iter().all(|&(from, to)| from < to && text.get(from..to).is_some()), "{offsets:?}");
        }
    }

    #[test]
    fn an_endless_word_is_counted_and_not_kept() {
        let (pieces, library) = both();
        let long = |n| format!("{}{}a", "\u{1d16d}".repeat(n), "\u{1d165}".repeat(n));
        assert_same(&pieces, &library, &long(80));
        // With a million marks, putting each in its place among all others would take minutes.
        let text = long(500_000);
        let (ids, offsets) = ours(&pieces, &text);
        assert_eq!((ids, offsets), (vec![pieces.unknown], vec![(0, text.len())]));
    }

    #[test]
    fn mixed_texts_give_the_librarys_tokens() {
        let (pieces, library) = both();
        let strange: Vec<char> = "\u{301}\u{323}\u{302e}\u{302f}\u{1d165}日本한글ßéİẞΣς\0\u{85}\u{b}\u{a0}\u{3000}👩\u{200d}≠\u{37e}ﬁ\u{f900}\u{2f800}\u{fffd}\u{feff}ǆ\u{e000}"
            .chars()
            .collect();
        for seed in 0..3_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let text: String = (0..random.usize(0..120))
                .map(|_| match random.u8(0..24) {
                    0..3 => " ".to_owned(),
                    3 => "\n".to_owned(),
                    4..8 => strange[random.usize(..strange.len())].to_string(),
                    8 => random.char('!'..='/').to_string(),
                    9 => random.char(..).to_string(),
                    10 => ["[SEP]", "[CLS]", "[cls]", "[MASK", "[UNK]]"][random.usize(..5)].to_owned(),
                    11 => ["moon", "Moon", "cats", "jumping"][random.usize(..4)].to_owned(),
                    12 => random.uppercase().to_string(),
                    _ => random.lowercase().to_string(),
                })
                .collect();
            assert_same(&pieces, &library, &text);
        }
    }

    #[test]
    fn a_word_of_too_many_characters_is_one_unknown() {
        let (pieces, library) = both();
        for length in [1, 99, 100, 101, 5_000] {
            assert_same(&pieces, &library, &"x".repeat(length));
            assert_same(&pieces, &library, &format!("moon {} moon", "é".repeat(length)));
        }
    }

    #[test]
    fn a_file_that_asks_for_more_is_left_to_the_library() {
        let folder = tempfile::tempdir().unwrap();
        holdfast_testkit::tiny_model::write(folder.path()).unwrap();
        let file = std::fs::read_to_string(folder.path().join("tokenizer.json")).unwrap();
        let file: serde_json::Value = serde_json::from_str(&file).unwrap();
        assert!(WordPiece::read(file.to_string().as_bytes()).is_some());
        for (pointer, value) in [
            ("/normalizer/clean_text", serde_json::json!(false)),
            ("/normalizer", serde_json::json!({"type": "NFC"})),
            ("/pre_tokenizer/type", serde_json::json!("Whitespace")),
            ("/model/type", serde_json::json!("BPE")),
            ("/model/continuing_subword_prefix", serde_json::json!("@@")),
            ("/added_tokens/0/normalized", serde_json::json!(true)),
        ] {
            let mut other = file.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            assert!(WordPiece::read(other.to_string().as_bytes()).is_none(), "{pointer}");
        }
    }
}
