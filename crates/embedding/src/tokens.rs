//! The tokenizer of a model.
//!
//! Owns the rule that a text of any length is tokenized in pieces, so that memory and time stay bounded; does not
//! decide how texts are split into chunks.

use std::{ops::Range, path::Path};

use tokenizers::Tokenizer;

use crate::{error::EmbedError, wordpiece::WordPiece};

/// A text longer than this is tokenized piece by piece. Large enough that the cost of a piece does not show, small
/// enough that the tokenizer's bookkeeping, some hundred bytes a token, stays in the megabytes.
const PIECE_BYTES: usize = 16 << 10;

/// The longest piece, reached only where a text has no whitespace for so long.
const LONGEST_PIECE_BYTES: usize = 64 << 10;

/// Splits texts into a model's tokens.
#[derive(Debug)]
pub struct Tokens {
    model: String,
    engine: Engine,
    /// Special tokens before and after a text.
    first: u32,
    last: u32,
    first_name: String,
    last_name: String,
    window: usize,
    /// One more than the highest token number.
    vocabulary: usize,
}

/// One token of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Its number in the vocabulary.
    pub id: u32,
    /// Where it begins in the text, in bytes, on a character boundary.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// Which part is cut off a text that is longer than the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its end.
    End,
    /// Its beginning.
    Start,
}

/// What does the work.
#[derive(Debug)]
enum Engine {
    /// For the files it can read, which are those of nearly every BERT.
    WordPiece(WordPiece),
    /// For all others.
    Library(Box<Tokenizer>),
    /// For models that tokenize elsewhere: punctuation and pieces of words of at most [`APPROXIMATE_BYTES`], of which
    /// there are more than tokens in most English texts. Of other scripts there can be fewer.
    Approximate,
}

const APPROXIMATE_BYTES: usize = 4;

impl Tokens {
    /// Reads a tokenizer file. `window` is the number of tokens the model reads, with the two special ones.
    pub(crate) fn load(model: &str, path: &Path, window: usize) -> Result<Tokens, EmbedError> {
        let bytes = std::fs::read(path).map_err(EmbedError::io("read", path))?;
        let invalid = |reason: String| EmbedError::InvalidModel { model: model.to_owned(), reason };
        // The library panics on some inconsistent files, and a folder to import can hold anything.
        let (tokenizer, special) = std::panic::catch_unwind(|| unpadded(&bytes))
            .unwrap_or_else(|_| Err("its tokenizer contradicts itself".to_owned()))
            .map_err(invalid)?;
        let [first, last] = special[..] else {
            return Err(invalid("its tokenizer does not put one special token before and one after a text".to_owned()));
        };
        if window < 3 {
            return Err(invalid(format!("its window of {window} tokens leaves no room for text")));
        }
        let name = |id| tokenizer.id_to_token(id).unwrap_or_default();
        let (first_name, last_name) = (name(first), name(last));
        let highest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        let vocabulary = highest as usize + 1;
        let engine = WordPiece::read(&bytes).map_or_else(|| Engine::Library(Box::new(tokenizer)), Engine::WordPiece);
        Ok(Tokens { model: model.to_owned(), engine, first, last, first_name, last_name, window, vocabulary })
    }

    /// A stand-in for the tokenizer of a model that is elsewhere.
    pub(crate) fn approximate(model: &str, window: usize) -> Tokens {
        Tokens {
            model: model.to_owned(),
            engine: Engine::Approximate,
            first: 0,
            last: 0,
            first_name: String::new(),
            last_name: String::new(),
            window,
            vocabulary: 0,
        }
    }

    /// Whether these are the model's own tokens, and not about as many.
    pub fn is_exact(&self) -> bool {
        !matches!(self.engine, Engine::Approximate)
    }

    /// Refuses a tokenizer with token numbers that a vocabulary of this size does not have.
    pub(crate) fn fits(&self, vocabulary: usize) -> Result<(), EmbedError> {
        if self.vocabulary <= vocabulary {
            return Ok(());
        }
        let reason = format!("its tokenizer has {} tokens, its weights have {vocabulary}", self.vocabulary);
        Err(EmbedError::InvalidModel { model: self.model.clone(), reason })
    }

    /// One more than the highest token number.
    pub(crate) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Tokens the model reads of a text, the two special ones included.
    pub fn window(&self) -> usize {
        self.window
    }

    /// Byte range of every token of `text`, in order, without special tokens.
    ///
    /// Ranges lie on character boundaries. Two tokens made from one character (a Hangul syllable, say) have the same
    /// range. Works in pieces cut at whitespace, so memory beyond the answer is bounded for any length.
    pub fn offsets(&self, text: &str) -> Result<Vec<(usize, usize)>, EmbedError> {
        Ok(self.spell(text)?.into_iter().map(|token| (token.start, token.end)).collect())
    }

    /// Number of tokens of `text`, without special tokens.
    pub fn count(&self, text: &str) -> Result<usize, EmbedError> {
        let mut count = 0;
        for piece in Pieces::new(text, PIECE_BYTES) {
            count += self.piece_ids(&text[piece])?.len();
        }
        Ok(count)
    }

    /// Every token of `text`, in order, without special ones.
    pub fn spell(&self, text: &str) -> Result<Vec<Token>, EmbedError> {
        let mut tokens = Vec::new();
        for piece in Pieces::new(text, PIECE_BYTES) {
            let at = piece.start;
            match &self.engine {
                Engine::WordPiece(pieces) => {
                    pieces.tokens(&text[piece], |id, start, end| {
                        tokens.push(Token { id, start: at + start, end: at + end });
                    });
                }
                Engine::Library(tokenizer) => {
                    let encoding = tokenizer.encode(&text[piece], false).map_err(|_| self.failed())?;
                    let ids = encoding.get_ids().iter().zip(encoding.get_offsets());
                    tokens.extend(ids.map(|(&id, &(start, end))| Token { id, start: at + start, end: at + end }));
                }
                Engine::Approximate => tokens.extend(approximate(&text[piece]).map(|(start, end)| Token {
                    id: 0,
                    start: at + start,
                    end: at + end,
                })),
            }
        }
        Ok(tokens)
    }

    /// The special tokens before and after a text: number and name.
    pub fn special(&self) -> [(u32, &str); 2] {
        [(self.first, &self.first_name), (self.last, &self.last_name)]
    }

    /// Token numbers of `text` with the special ones, and whether the text had more than the window has room for. Of such
    /// a text the end is cut off, or the beginning; in the first case no more of it is read than needed.
    pub(crate) fn ids(&self, text: &str, cut: Cut) -> Result<(Vec<u32>, bool), EmbedError> {
        let room = self.window - 2;
        let mut ids = vec![self.first];
        let mut is_cut = false;
        // Eight bytes a token is more than nearly any text has, so one piece fills the window.
        for piece in Pieces::new(text, PIECE_BYTES.min(self.window * 8)) {
            ids.extend(self.piece_ids(&text[piece])?);
            if ids.len() <= room + 1 {
                continue;
            }
            is_cut = true;
            match cut {
                Cut::End => {
                    ids.truncate(room + 1);
                    break;
                }
                Cut::Start => {
                    ids.drain(1..ids.len() - room);
                }
            }
        }
        ids.push(self.last);
        Ok((ids, is_cut))
    }

    /// The same of a text that is given as token numbers, with or without the special ones.
    pub(crate) fn given_ids(&self, given: &[u32], cut: Cut) -> (Vec<u32>, bool) {
        let room = self.window - 2;
        let plain: Vec<u32> = given.iter().copied().filter(|id| *id != self.first && *id != self.last).collect();
        let over = plain.len().saturating_sub(room);
        let kept = match cut {
            Cut::End => &plain[..plain.len() - over],
            Cut::Start => &plain[over..],
        };
        ([&[self.first], kept, &[self.last]].concat(), over > 0)
    }

    fn piece_ids(&self, piece: &str) -> Result<Vec<u32>, EmbedError> {
        match &self.engine {
            Engine::WordPiece(pieces) => {
                let mut ids = Vec::new();
                pieces.tokens(piece, |id, _, _| ids.push(id));
                Ok(ids)
            }
            Engine::Library(tokenizer) => {
                let encoding = tokenizer.encode_fast(piece, false).map_err(|_| self.failed())?;
                Ok(encoding.get_ids().to_vec())
            }
            Engine::Approximate => Ok(approximate(piece).map(|_| 0).collect()),
        }
    }

    /// The tokenizer's own message is left out: it can quote the text, which must not reach a log.
    fn failed(&self) -> EmbedError {
        EmbedError::Encoder { reason: format!("the tokenizer of {} failed on a text", self.model) }
    }
}

/// Pieces of words, in order.
fn approximate(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(|c: char| !c.is_whitespace())?;
        let word = &text[start..];
        let first = word.chars().next()?;
        if first.is_ascii_punctuation() {
            at = start + 1;
            return Some((start, at));
        }
        let word = &word[..word.find(|c: char| c.is_whitespace() || c.is_ascii_punctuation()).unwrap_or(word.len())];
        let first = first.len_utf8();
        at = start + word.floor_char_boundary(APPROXIMATE_BYTES.min(word.len())).max(first);
        Some((start, at))
    })
}

/// Reads a tokenizer without padding and truncation, and the tokens it makes of an empty text.
///
/// The file may ask for padding and truncation to a length of its own; the window decides here, and batches are packed
/// without padding.
fn unpadded(bytes: &[u8]) -> Result<(Tokenizer, Vec<u32>), String> {
    let mut tokenizer =
        Tokenizer::from_bytes(bytes).map_err(|error| format!("its tokenizer cannot be read: {error}"))?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| format!("its tokenizer cannot be set up: {error}"))?;
    let empty =
        tokenizer.encode_fast("", true).map_err(|error| format!("its tokenizer fails on an empty text: {error}"))?;
    let special = empty.get_ids().to_vec();
    Ok((tokenizer, special))
}

/// Cuts a text into ranges of bounded size at which tokenizing separately gives the same tokens.
struct Pieces<'a> {
    text: &'a str,
    start: usize,
    piece_bytes: usize,
}

impl<'a> Pieces<'a> {
    fn new(text: &'a str, piece_bytes: usize) -> Pieces<'a> {
        Pieces { text, start: 0, piece_bytes }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.start;
        let rest = &self.text[start..];
        if rest.is_empty() {
            return None;
        }
        self.start = start + piece_length(rest, self.piece_bytes);
        Some(start..self.start)
    }
}

/// Length in bytes of the first piece of `text`: at most `wanted` where a clean cut allows it.
///
/// Without a clean cut that early the piece grows to the next one, and only a stretch of [`LONGEST_PIECE_BYTES`]
/// without any is cut where it happens to be: a word there may become two, and one that is too long to be known
/// several unknown ones.
fn piece_length(text: &str, wanted: usize) -> usize {
    if text.len() <= wanted {
        return text.len();
    }
    let near = text.floor_char_boundary(wanted);
    let far = text.floor_char_boundary(LONGEST_PIECE_BYTES);
    let clean = |&(at, c): &(usize, char)| at > 0 && starts_a_word(c);
    let before = text[..near].char_indices().rfind(clean).map(|(at, _)| at);
    let after = || text[near..far].char_indices().find(|&(at, c)| clean(&(near + at, c))).map(|(at, _)| near + at);
    before.or_else(after).unwrap_or(far)
}

/// Whether no token, and no combining mark, ever spans the boundary in front of this character.
///
/// True of whitespace and of CJK ideographs, which BERT's tokenizer makes words of their own. Control characters are
/// removed rather than split at, even those that Unicode calls whitespace.
fn starts_a_word(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
        || (c.is_whitespace() && !c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let folder = tempfile::tempdir().unwrap();
        holdfast_testkit::tiny_model::write(folder.path()).unwrap();
        Tokens::load("tiny", &folder.path().join("tokenizer.json"), 64).unwrap()
    }

    /// Text of many kinds: words, marks, scripts with and without spaces, controls.
    fn text(random: &mut fastrand::Rng, characters: usize) -> String {
        let strange =
            ['\u{301}', '日', '本', '한', 'ß', 'é', '\0', '\u{85}', '\u{b}', '\u{a0}', '\u{3000}', '👩', '\u{200d}'];
        (0..characters)
            .map(|_| match random.u8(0..20) {
                0..3 => ' ',
                3 => '\n',
                4 => strange[random.usize(..strange.len())],
                5 => random.char('!'..='/'),
                6..8 => random.char('\u{4e00}'..='\u{4e80}'),
                _ => random.lowercase(),
            })
            .collect()
    }

    #[test]
    fn pieces_give_the_tokens_of_the_whole() {
        let tokens = tokens();
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let text = text(&mut random, 400);
            let whole: Vec<u32> = tokens.piece_ids(&text).unwrap();
            let wanted = random.usize(1..100);
            let mut joined = Vec::new();
            let mut end = 0;
            for piece in Pieces::new(&text, wanted) {
                assert_eq!(piece.start, end);
                end = piece.end;
                joined.extend(tokens.piece_ids(&text[piece]).unwrap());
            }
            assert_eq!(end, text.len());
            assert_eq!(joined, whole, "seed {seed}, pieces of {wanted} bytes");
        }
    }

    #[test]
    fn offsets_are_characters_of_the_text_in_order() {
        let tokens = tokens();
        for seed in 0..50 {
            let text = text(&mut fastrand::Rng::with_seed(seed), 300);
            let offsets = tokens.offsets(&text).unwrap();
            assert_eq!(offsets.len(), tokens.count(&text).unwrap(), "seed {seed}");
            let mut last = (0, 0);
            for (from, to) in offsets {
                assert!(text.get(from..to).is_some_and(|token| !token.is_empty()), "seed {seed}: {from}..{to}");
                assert!(last <= (from, to), "seed {seed}: {last:?} before {from}..{to}");
                last = (from, to);
            }
        }
        assert_eq!(tokens.offsets("The  cats, é").unwrap(), [(0, 3), (5, 8), (8, 9), (9, 10), (11, 13)]);
    }

    #[test]
    fn the_files_own_truncation_and_padding_are_off() {
        let tokens = tokens();
        assert_eq!(tokens.count(&"moon ".repeat(40)).unwrap(), 40);
        assert_eq!(tokens.count("moon").unwrap(), 1);
    }

    #[test]
    fn a_text_is_cut_to_the_window_at_either_end() {
        let tokens = tokens();
        assert_eq!(tokens.ids("", Cut::End).unwrap(), (vec![2, 3], false));
        let moons = "moon ".repeat(62);
        let (whole, cut) = tokens.ids(&moons, Cut::End).unwrap();
        assert_eq!((whole.len(), whole[0], whole[63], cut), (64, 2, 3, false));
        let long = format!("sea {}{}{moons}sky", "moon ".repeat(5_000), "day ".repeat(5_000));
        let (start, end) = (tokens.ids("sea", Cut::End).unwrap().0[1], tokens.ids("sky", Cut::End).unwrap().0[1]);
        let (ids, cut) = tokens.ids(&long, Cut::End).unwrap();
        assert_eq!((ids.len(), ids[0], ids[1], ids[62], ids[63], cut), (64, 2, start, whole[1], 3, true));
        let (ids, cut) = tokens.ids(&long, Cut::Start).unwrap();
        assert_eq!((ids.len(), ids[0], ids[1], ids[62], ids[63], cut), (64, 2, whole[1], end, 3, true));
        let all: Vec<u32> = tokens.spell(&long).unwrap().into_iter().map(|token| token.id).collect();
        assert_eq!(tokens.given_ids(&all, Cut::Start), (ids.clone(), true));
        assert_eq!(tokens.given_ids(&ids, Cut::End), (ids, false), "special tokens may be there already");
    }

    #[test]
    fn approximate_tokens_cover_every_word() {
        let tokens = Tokens::approximate("remote", 8);
        let text = "A lighthouse, 漢字 👩‍🚀\n and ßß";
        let spelled: Vec<&str> =
            tokens.spell(text).unwrap().into_iter().map(|token| &text[token.start..token.end]).collect();
        assert_eq!(spelled.concat(), text.split_whitespace().collect::<String>());
        assert_eq!(spelled[..5], ["A", "ligh", "thou", "se", ","]);
        assert!(spelled.iter().all(|piece| piece.len() <= APPROXIMATE_BYTES || piece.chars().count() == 1));
        assert_eq!(tokens.count(text).unwrap(), spelled.len());
    }

    #[test]
    fn megabytes_without_a_space_are_cut_anyway() {
        let tokens = tokens();
        for text in ["x".repeat(1 << 20), "ä".repeat(1 << 19), "漢".repeat(1 << 18)] {
            let longest = Pieces::new(&text, PIECE_BYTES).map(|piece| piece.len()).max().unwrap();
            assert!(longest <= LONGEST_PIECE_BYTES);
            assert!(tokens.count(&text).unwrap() > 0);
            assert!(tokens.ids(&text, Cut::End).unwrap().0.len() <= 64);
        }
    }
}
