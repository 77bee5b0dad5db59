//! Text to terms: words, identifiers whole and in parts, and scripts written without spaces.
//!
//! Owns the rules by which a chunk and a query become comparable terms; changing any of them
//! needs another [`NAME`], so that an index made by other rules is rebuilt. Does not know about
//! fields, scores or which terms matter. Work is linear in the text and every term is at most
//! [`MAX_TERM_BYTES`] long plus a marker.
//!
//! What a text turns into, from the outside in:
//!
//! | text | terms |
//! |---|---|
//! | `services.nginx.enable` | `services.nginx.enable`, and each part |
//! | `src/main.rs`, `foo::bar` | `src.main.rs`, `foo.bar`, and each part |
//! | `snake_case`, `kebab-case`, `camelCase` | `snakecas` (joined, stemmed), and each part |
//! | `E0382`, `utf8`, `HTTPServer` | `e0382`, `utf8`, `httpserver`, and each part |
//! | `1.2.3`, `10,000` | `1.2.3`, `10000` |
//! | `C++`, `C#` | `c++`, `c#`, and `c` |
//! | `connections` | `connect`, and `=connections` |
//! | `résumé` | `resum`, and `=resume` |
//! | `検索エンジン` | each character and each pair; in a query only the pairs |
//!
//! Joining makes `wi-fi`, `WiFi` and `wifi` one word. English stems (Snowball's Porter 2) are
//! what matches; the unstemmed form is a second term of little weight, so that of two documents
//! the one with the very word comes first. `crates/storage/examples/lexical_eval.rs` measures
//! what each of these is worth.

use std::{borrow::Cow, ops::Range};

use ::tantivy::tokenizer::{Token, TokenStream, Tokenizer};
use frostem::{Algorithm, Stemmer};
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Names these rules in an index's schema. Raise the number with every change of the rules.
pub(super) const NAME: &str = "holdfast_words_1";

/// The longest term. A longer word is cut, a longer compound gives only its parts.
pub const MAX_TERM_BYTES: usize = 128;

/// Marks a term as the unstemmed form of a word; no other term contains it.
pub(super) const EXACT: char = '=';

/// A compound of more words than this is continued as a second one.
const MAX_COMPOUND_WORDS: usize = 64;
/// A word that would fall into more parts than this (a hash, base64) is not an identifier.
const MAX_WORD_PARTS: usize = 8;
/// A group of more parts than this gives only its joined form.
const MAX_GROUP_PARTS: usize = 16;

/// Which side of the comparison a text is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A chunk: everything a query might ask for.
    Index,
    /// A query: pairs instead of single characters in scripts without spaces, because single
    /// ones match nearly everything.
    Query,
}

/// Calls `emit` with every term of `text` and the bytes it comes from, in order of the text;
/// terms of one compound overlap.
pub(super) fn terms(text: &str, side: Side, emit: &mut dyn FnMut(&str, Range<usize>)) {
    Analysis { text, side, stemmer: Stemmer::new(Algorithm::English), scratch: String::new(), emit }.run();
}

/// The words of this module as a tantivy tokenizer.
#[derive(Clone, Default)]
pub(super) struct WordTokenizer {
    arena: String,
    /// Where in `arena`, and which bytes of the text.
    terms: Vec<(Range<usize>, Range<usize>)>,
    token: Token,
}

/// The terms of one text.
pub(super) struct WordStream<'a> {
    source: &'a mut WordTokenizer,
    next: usize,
}

impl Tokenizer for WordTokenizer {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.arena.clear();
        self.terms.clear();
        self.token.reset();
        let (arena, found) = (&mut self.arena, &mut self.terms);
        terms(text, Side::Index, &mut |term, from| {
            let start = arena.len();
            arena.push_str(term);
            found.push((start..arena.len(), from));
        });
        WordStream { source: self, next: 0 }
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        let Some((term, from)) = self.source.terms.get(self.next) else {
            return false;
        };
        let token = &mut self.source.token;
        token.text.clear();
        token.text.push_str(&self.source.arena[term.clone()]);
        token.offset_from = from.start;
        token.offset_to = from.end;
        token.position = self.next;
        self.next += 1;
        true
    }

    fn token(&self) -> &Token {
        &self.source.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.source.token
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Part of a word.
    Word,
    /// A script written without spaces between words.
    Unspaced,
    /// Neither.
    Other,
}

/// What stands between two words of one compound.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Joiner {
    /// `_` or `-`: the words make one name.
    Tight,
    /// `.`, `/`, `\`, `@` or `::`: the words are steps of a path.
    Loose,
}

struct Analysis<'a, 'e> {
    text: &'a str,
    side: Side,
    stemmer: Stemmer,
    scratch: String,
    emit: &'e mut dyn FnMut(&str, Range<usize>),
}

impl Analysis<'_, '_> {
    fn run(&mut self) {
        let mut at = 0;
        while let Some(first) = self.char_at(at) {
            at = match class(first) {
                Class::Other => at + first.len_utf8(),
                Class::Unspaced => self.unspaced(at),
                Class::Word => self.compound(at),
            };
        }
    }

    fn char_at(&self, at: usize) -> Option<char> {
        match self.text.as_bytes().get(at) {
            Some(byte) if byte.is_ascii() => Some(char::from(*byte)),
            Some(_) => self.text[at..].chars().next(),
            None => None,
        }
    }

    fn class_at(&self, at: usize) -> Class {
        self.char_at(at).map_or(Class::Other, class)
    }

    /// Single characters and pairs; returns where the run ends.
    fn unspaced(&mut self, start: usize) -> usize {
        let mut previous: Option<usize> = None;
        let mut pairs = false;
        let mut at = start;
        while let Some(character) = self.char_at(at).filter(|c| class(*c) == Class::Unspaced) {
            let end = at + character.len_utf8();
            if self.side == Side::Index {
                self.word(at..end);
            }
            if let Some(before) = previous {
                self.word(before..end);
                pairs = true;
            }
            previous = Some(at);
            at = end;
        }
        if self.side == Side::Query && !pairs {
            self.word(start..at);
        }
        at
    }

    /// A run of words and joiners; returns where it ends.
    fn compound(&mut self, start: usize) -> usize {
        let mut words: Vec<Range<usize>> = Vec::new();
        let mut joiners: Vec<Joiner> = Vec::new();
        let mut at = start;
        loop {
            let end = self.word_end(at);
            words.push(at..end);
            match self.joiner(end) {
                Some((joiner, next)) if words.len() < MAX_COMPOUND_WORDS => {
                    joiners.push(joiner);
                    at = next;
                }
                _ => break,
            }
        }
        let end = words.last().map_or(start, |word| word.end);
        self.whole_path(&words, &joiners);
        let mut group = 0;
        for index in 0..words.len() {
            if joiners.get(index) != Some(&Joiner::Tight) {
                self.group(&words[group..=index]);
                group = index + 1;
            }
        }
        if words.len() == 1 { self.sharp_or_plus(start..end) } else { end }
    }

    /// Where the word that begins at `at` ends. A point or comma between digits and an
    /// apostrophe between letters belong to the word.
    fn word_end(&self, start: usize) -> usize {
        let mut at = start;
        let mut last = '\0';
        while let Some(character) = self.char_at(at) {
            let next = at + character.len_utf8();
            let inside = match character {
                '.' | ',' => last.is_ascii_digit() && self.char_at(next).is_some_and(|c| c.is_ascii_digit()),
                '\'' | '’' => {
                    last.is_alphabetic()
                        && self.char_at(next).is_some_and(char::is_alphabetic)
                        && self.class_at(next) == Class::Word
                }
                other => class(other) == Class::Word,
            };
            if !inside {
                break;
            }
            last = character;
            at = next;
        }
        at
    }

    /// The joiner at `at` and where the word after it begins, if one does.
    fn joiner(&self, at: usize) -> Option<(Joiner, usize)> {
        let rest = self.text.get(at..)?;
        let (joiner, length) = match rest.chars().next()? {
            // Two, because `__` is common in names; three draw a line.
            '_' | '-' => {
                let again = rest[1..].starts_with(['_', '-']);
                (Joiner::Tight, if again { 2 } else { 1 })
            }
            hyphen @ ('\u{2010}' | '\u{2011}') => (Joiner::Tight, hyphen.len_utf8()),
            '.' | '/' | '\\' | '@' => (Joiner::Loose, 1),
            ':' if rest.starts_with("::") => (Joiner::Loose, 2),
            _ => return None,
        };
        let next = at + length;
        (self.class_at(next) == Class::Word).then_some((joiner, next))
    }

    /// `a.b_c` for `a::b-c`: the compound as one term, where it has steps.
    fn whole_path(&mut self, words: &[Range<usize>], joiners: &[Joiner]) {
        let (Some(first), Some(last)) = (words.first(), words.last()) else { return };
        let from = first.start..last.end;
        if !joiners.contains(&Joiner::Loose) || from.len() > MAX_TERM_BYTES {
            return;
        }
        let mut whole = String::with_capacity(from.len());
        for (index, word) in words.iter().enumerate() {
            if index > 0 {
                whole.push(if joiners.get(index - 1) == Some(&Joiner::Loose) { '.' } else { '_' });
            }
            fold(&self.text[word.clone()], &mut whole);
        }
        if whole.len() <= MAX_TERM_BYTES {
            (self.emit)(&whole, from);
        }
    }

    /// Words joined tightly, or a single one: the joined form if it has parts, then the parts.
    fn group(&mut self, words: &[Range<usize>]) {
        let (Some(first), Some(last)) = (words.first(), words.last()) else { return };
        let from = first.start..last.end;
        let mut parts = Vec::new();
        for word in words {
            split_word(self.text, word.clone(), &mut parts);
        }
        if let [part] = parts.as_slice() {
            self.word(part.clone());
            return;
        }
        if from.len() <= MAX_TERM_BYTES {
            let joined: String = words.iter().map(|word| &self.text[word.clone()]).collect();
            self.term(&joined, from);
        }
        if parts.len() <= MAX_GROUP_PARTS {
            for part in parts {
                self.word(part);
            }
        }
    }

    /// `C++` and `C#` as terms of their own; returns where the compound ends then.
    fn sharp_or_plus(&mut self, word: Range<usize>) -> usize {
        let rest = &self.text[word.end..];
        let sign = if rest.starts_with("++") && word.len() <= 16 {
            "++"
        } else if rest.starts_with('#') && word.len() <= 2 {
            "#"
        } else {
            return word.end;
        };
        let end = word.end + sign.len();
        if self.class_at(end) == Class::Word {
            return word.end;
        }
        let mut term = String::new();
        fold(&self.text[word.clone()], &mut term);
        term.push_str(sign);
        (self.emit)(&term, word.start..end);
        end
    }

    fn word(&mut self, from: Range<usize>) {
        let end = self.text.floor_char_boundary(from.end.min(from.start + MAX_TERM_BYTES));
        let text = self.text;
        self.term(&text[from.start..end], from);
    }

    /// The stem of `word`, and `word` itself where they differ.
    fn term(&mut self, word: &str, from: Range<usize>) {
        let word = without_apostrophes(word);
        let mut folded = std::mem::take(&mut self.scratch);
        folded.clear();
        folded.push(EXACT);
        fold(&word, &mut folded);
        folded.truncate(folded.floor_char_boundary(MAX_TERM_BYTES + EXACT.len_utf8()));
        let exact = &folded[EXACT.len_utf8()..];
        if exact.len() > 2 && exact.bytes().all(|byte| byte.is_ascii_lowercase()) {
            let stem = self.stemmer.stem(exact);
            if stem != exact {
                (self.emit)(&folded, from.clone());
            }
            (self.emit)(&stem, from);
        } else if !exact.is_empty() {
            (self.emit)(exact, from);
        }
        self.scratch = folded;
    }
}

/// Splits `fooBar`, `HTTPServer` and `utf8` into their parts; a plural `IDs` stays whole.
fn split_word(text: &str, word: Range<usize>, parts: &mut Vec<Range<usize>>) {
    let before = parts.len();
    let mut start = word.start;
    let mut characters = text[word.clone()].char_indices().peekable();
    let mut previous = '\0';
    while let Some((offset, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        if boundary(previous, character, next) {
            parts.push(start..word.start + offset);
            start = word.start + offset;
            if parts.len() - before >= MAX_WORD_PARTS {
                parts.truncate(before);
                parts.push(word);
                return;
            }
        }
        previous = character;
    }
    parts.push(start..word.end);
}

fn boundary(previous: char, character: char, next: Option<char>) -> bool {
    if previous.is_ascii_digit() {
        return character.is_alphabetic();
    }
    if !previous.is_alphabetic() {
        return false;
    }
    character.is_ascii_digit()
        || character.is_uppercase()
            && (previous.is_lowercase() || next.is_some_and(|next| next.is_lowercase() && next != 's'))
}

/// `user's` is `user`, `don't` is `dont`, `10,000` is `10000`.
fn without_apostrophes(word: &str) -> Cow<'_, str> {
    if !word.contains(['\'', '’', ',']) {
        return Cow::Borrowed(word);
    }
    let owner = word.strip_suffix(['s', 'S']).and_then(|owner| owner.strip_suffix(['\'', '’']));
    Cow::Owned(owner.unwrap_or(word).replace(['\'', '’', ','], ""))
}

/// Appends `text` lower-cased, compatibility-composed, and without the accents that people
/// leave out when they type. Marks that make another letter (Hindi, Thai, Japanese) stay.
fn fold(text: &str, into: &mut String) {
    if text.is_ascii() {
        into.extend(text.bytes().map(|byte| char::from(byte.to_ascii_lowercase())));
        return;
    }
    let folded =
        text.nfkd().filter(|character| !('\u{300}'..='\u{36f}').contains(character)).nfc().flat_map(char::to_lowercase);
    for character in folded {
        match character {
            'ß' => into.push_str("ss"),
            'æ' => into.push_str("ae"),
            'œ' => into.push_str("oe"),
            'þ' => into.push_str("th"),
            'ø' => into.push('o'),
            'ł' => into.push('l'),
            'đ' | 'ð' => into.push('d'),
            'ı' => into.push('i'),
            other => into.push(other),
        }
    }
}

fn class(character: char) -> Class {
    if character.is_ascii() {
        return if character.is_ascii_alphanumeric() { Class::Word } else { Class::Other };
    }
    // Thai, Lao; Myanmar; Khmer; Hangul (spaced, but with its particles attached); kana; Han.
    // The blocks' own punctuation is left out by the test for letters and marks.
    let unspaced = matches!(
        u32::from(character),
        0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1100..=0x11FF | 0x1780..=0x17FF | 0x3005..=0x3007
            | 0x3040..=0x30FF | 0x3130..=0x318F | 0x31F0..=0x31FF | 0x3400..=0x4DBF
            | 0x4E00..=0x9FFF | 0xAC00..=0xD7FF | 0xF900..=0xFAFF | 0xFF66..=0xFFDC
            | 0x2_0000..=0x3_FFFF
    );
    match (character.is_alphanumeric() || is_combining_mark(character), unspaced) {
        (true, true) => Class::Unspaced,
        (true, false) => Class::Word,
        (false, _) => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str, side: Side) -> Vec<String> {
        let mut found = Vec::new();
        terms(text, side, &mut |term, _| found.push(term.to_owned()));
        found
    }

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(of(text, Side::Index), expected, "{text}");
    }

    #[test]
    fn identifiers_are_found_whole_and_in_parts() {
        check("services.nginx.enable", &["services.nginx.enable", "=services", "servic", "nginx", "=enable", "enabl"]);
        check("snake_case", &["=snakecase", "snakecas", "snake", "case"]);
        check("camelCase", &["=camelcase", "camelcas", "camel", "case"]);
        check("HTTPServer", &["httpserver", "http", "server"]);
        check("E0382", &["e0382", "e", "0382"]);
        check("foo::bar", &["foo.bar", "foo", "bar"]);
        check("--flag-name", &["=flagname", "flagnam", "flag", "name"]);
        check("src/main.rs", &["src.main.rs", "src", "main", "rs"]);
        check("1.2.3", &["1.2.3"]);
        check("v1.2.3", &["v1.2.3", "v", "1.2.3"]);
        check("C++ and C# (F#)", &["c", "c++", "and", "c", "c#", "f", "f#"]);
        check("__init__", &["init"]);
    }

    #[test]
    fn spellings_of_one_name_share_its_joined_term() {
        let joined = |text: &str| of(text, Side::Index).contains(&"writeboolean".to_owned());
        for spelling in ["writeBoolean", "WriteBoolean", "write_boolean", "write-boolean", "WRITE_BOOLEAN"] {
            assert!(joined(spelling), "{spelling}: {:?}", of(spelling, Side::Index));
        }
        assert!(of("TGF-beta", Side::Index).contains(&"tgfbeta".to_owned()));
    }

    #[test]
    fn words_are_stemmed_folded_and_kept() {
        check("Connections", &["=connections", "connect"]);
        check("the user's don't", &["the", "user", "dont"]);
        check("10,000 3.14", &["10000", "3.14"]);
        check("Résumé STRASSE Straße", &["=resume", "resum", "=strasse", "strass", "=strasse", "strass"]);
        check("ＦＵＬＬ ﬁne", &["full", "fine"]);
        check("Ёлка", &["елка"]);
        check("हिन्दी", &["हिन्दी"]);
        check("IDs", &["=ids", "id"]);
    }

    #[test]
    fn scripts_without_spaces_are_indexed_by_one_and_two_and_asked_by_two() {
        check("検索語", &["検", "索", "検索", "語", "索語"]);
        assert_eq!(of("検索語", Side::Query), ["検索", "索語"]);
        assert_eq!(of("猫", Side::Query), ["猫"]);
        check("Rust言語", &["rust", "言", "語", "言語"]);
    }

    #[test]
    fn what_is_no_word_gives_nothing() {
        for text in ["", "   ", "--", "?!…", "🦀", "::", "\u{feff}", "\0"] {
            check(text, &[]);
        }
    }

    #[test]
    fn hashes_and_blobs_stay_one_bounded_term() {
        let hash = "3f2a9c1be07d4458a6f0c3d2e1b4a59687";
        check(hash, &[hash]);
        let blob = "aGVsbG8gd29ybGQhIFRoaXMgaXM".repeat(100);
        let found = of(&blob, Side::Index);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].len(), MAX_TERM_BYTES);
    }

    #[test]
    fn a_long_compound_costs_no_more_than_its_length() {
        for joiner in [".", "_", "/", "-", "::"] {
            let text = ["ab"; 200_000].join(joiner);
            assert!(of(&text, Side::Index).len() < 3 * 200_000, "{joiner}");
        }
    }

    #[test]
    fn the_tokenizer_gives_the_same_terms_with_their_places() {
        let text = "See services.nginx.enable, in Straße 7.";
        let mut tokenizer = WordTokenizer::default();
        let mut stream = tokenizer.token_stream(text);
        let mut tokens = Vec::new();
        while stream.advance() {
            tokens.push(stream.token().clone());
        }
        let words: Vec<_> = tokens.iter().map(|token| token.text.clone()).collect();
        assert_eq!(words, of(text, Side::Index));
        let whole = tokens.iter().find(|token| token.text == "services.nginx.enable").unwrap();
        assert_eq!(&text[whole.offset_from..whole.offset_to], "services.nginx.enable");
    }

    proptest! {
        #[test]
        fn any_text_gives_bounded_terms_on_character_boundaries(text in "\\PC{0,200}|[a-zA-Z0-9_.:/ '+#-]{0,200}") {
            terms(&text, Side::Index, &mut |term, from| {
                assert!(!term.is_empty() && term.len() <= MAX_TERM_BYTES + 1);
                assert!(text.get(from.clone()).is_some_and(|from| !from.is_empty()));
            });
        }

        /// What a text contains, a query for that text finds: every query term was indexed.
        #[test]
        fn a_query_asks_only_for_what_is_indexed(text in "\\PC{0,100}|[a-zA-Z0-9_.:/ -]{0,100}") {
            let indexed = of(&text, Side::Index);
            for term in of(&text, Side::Query) {
                prop_assert!(indexed.contains(&term), "{term:?} of {text:?}");
            }
        }
    }
}
