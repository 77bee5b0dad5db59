//! What stands around a finding: where a word begins and ends, the words before it, and the walls.
//!
//! A wall is what an earlier redaction put into the text. Detectors see its bytes as [`WALL`], which is a letter to none
//! of them, begins nothing and ends nothing.

use std::{borrow::Cow, iter};

use memchr::{memchr, memchr_iter, memrchr2};
use regex::bytes::{Regex, RegexBuilder};

use super::Kind;

/// Stands for each byte of a wall: a control character that text does not have. Where it has one nevertheless,
/// [`STAND_IN`] is seen in its place.
pub(super) const WALL: u8 = 0x7f;
const STAND_IN: char = '\u{1f}';
/// Digits that the number in a placeholder may have.
const NUMBER_DIGITS_MAX: usize = 9;
/// Bytes that the word in a placeholder may have.
const WORD_BYTES_MAX: usize = 24;

/// What an earlier redaction left.
pub(super) struct Placeholder {
    pub(super) kind: Kind,
    /// 0 where it has none.
    pub(super) number: usize,
    at: usize,
    len: usize,
}

/// What stands in the place of a finding.
pub(super) fn placeholder(kind: Kind, number: usize) -> String {
    format!("[{kind}:{number}]")
}

/// What earlier redactions left in a text: `[kind]` and `[kind:number]`.
pub(super) fn placeholders(text: &str) -> impl Iterator<Item = Placeholder> {
    memchr_iter(b'[', text.as_bytes()).filter_map(|at| placeholder_at(text, at))
}

fn placeholder_at(text: &str, at: usize) -> Option<Placeholder> {
    let rest = &text.as_bytes()[at + 1..];
    let is_of_word = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'_';
    let word = rest.iter().take(WORD_BYTES_MAX + 1).take_while(|byte| is_of_word(byte)).count();
    let ending = rest.get(word)?;
    if word == 0 || !matches!(ending, b']' | b':') {
        return None;
    }
    let kind = Kind::from_word(&text[at + 1..at + 1 + word])?;
    if *ending == b']' {
        return Some(Placeholder { kind, number: 0, at, len: word + 2 });
    }
    let digits = digits_at(&rest[word + 1..]).min(NUMBER_DIGITS_MAX + 1);
    if digits == 0 || digits > NUMBER_DIGITS_MAX || rest.get(word + 1 + digits) != Some(&b']') {
        return None;
    }
    let number = text[at + word + 2..at + word + 2 + digits].parse().ok()?;
    Some(Placeholder { kind, number, at, len: word + digits + 3 })
}

fn digits_at(bytes: &[u8]) -> usize {
    bytes.iter().take(NUMBER_DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count()
}

/// A text of the same length in which walls are [`WALL`] throughout.
pub(super) fn walled(text: &str) -> Cow<'_, str> {
    let mut walls = placeholders(text).peekable();
    if walls.peek().is_none() && memchr(WALL, text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let plain = text.replace(char::from(WALL), STAND_IN.encode_utf8(&mut [0; 4]));
    let mut walled = String::with_capacity(text.len());
    for wall in walls {
        walled.push_str(&plain[walled.len()..wall.at]);
        walled.extend(iter::repeat_n(char::from(WALL), wall.len));
    }
    walled.push_str(&plain[walled.len()..]);
    Cow::Owned(walled)
}

/// A pattern of bytes, without the tables of Unicode.
#[expect(
    clippy::expect_used,
    reason = "the patterns are constants, and a test in each module, `every_pattern_is_one`, builds them"
)]
pub(super) fn pattern(source: &str) -> Regex {
    // Some tables of words make a large program; none comes from input.
    let built = RegexBuilder::new(source).unicode(false).dfa_size_limit(8 << 20).build();
    built.expect("a constant pattern is one")
}

/// Whether a byte continues a word. Underscores and hyphens join words, as in `GITHUB_TOKEN_ghp_…`, and what is not
/// ASCII stands beside tokens in languages without spaces.
fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == WALL
}

/// Whether a word can begin there.
pub(super) fn begins(bytes: &[u8], at: usize) -> bool {
    let before = &bytes[..at];
    before.last().is_none_or(|byte| !is_of_word(*byte)) || ends_in_escape(before)
}

/// Whether a word can end there.
pub(super) fn ends(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_none_or(|byte| !is_of_word(*byte))
}

/// Whether a text ends in what stands for another character: `\n` in JSON, `%3D` in a URL, `\u0022`, a terminal's
/// colour. Its last letter is none of the word that follows.
fn ends_in_escape(before: &[u8]) -> bool {
    let is_hex = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
    match before {
        [.., b'\\', b'n' | b'r' | b't' | b'b' | b'f' | b'v' | b'0' | b'e'] => true,
        [.., b'%', one, two] if is_hex(&[*one, *two]) => true,
        [.., b'\\', b'x', one, two] if is_hex(&[*one, *two]) => true,
        [.., b'm'] => ends_in_colour(before),
        _ => ends_in_code_point(before),
    }
}

/// `\u0022` and its like.
fn ends_in_code_point(before: &[u8]) -> bool {
    let Some(digits) = before.last_chunk::<6>() else { return false };
    digits.starts_with(b"\\u") && digits[2..].iter().all(u8::is_ascii_hexdigit)
}

/// `[1;31m`, whatever form the escape character before it has.
fn ends_in_colour(before: &[u8]) -> bool {
    let tail = &before[before.len().saturating_sub(12)..before.len() - 1];
    let numbers = tail.iter().rev().take_while(|byte| byte.is_ascii_digit() || **byte == b';').count();
    tail.len() > numbers && tail[tail.len() - numbers - 1] == b'['
}

/// Where a word really begins whose first letters may belong to an escape before it: `\nalice` is a line's end and a
/// name. `from` is where its letters begin, `to` where they end.
pub(super) fn after_escape(bytes: &[u8], from: usize, to: usize) -> usize {
    let word = &bytes[from..to];
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    let skipped = match (from.checked_sub(1).map(|at| bytes[at]), word) {
        (Some(b'\\'), [b'u', digits @ ..]) if digits.len() >= 4 && is_hex(&digits[..4]) => 5,
        (Some(b'\\'), [b'x', digits @ ..]) if digits.len() >= 2 && is_hex(&digits[..2]) => 3,
        (Some(b'\\'), [b'n' | b'r' | b't' | b'b' | b'f' | b'v', ..]) => 1,
        (Some(b'%'), [one, two, ..]) if is_hex(&[*one, *two]) => 2,
        (Some(b'[' | b';'), _) => {
            let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits > 0 && word.get(digits) == Some(&b'm') { digits + 1 } else { 0 }
        }
        _ => 0,
    };
    from + skipped
}

/// The text of the same line before a place, at most some bytes of it, and not past a wall.
pub(super) fn line_before(text: &str, at: usize, bytes_max: usize) -> &str {
    let from = text.floor_char_boundary(at.saturating_sub(bytes_max));
    let window = &text[from..at];
    let cut = memrchr2(b'\n', WALL, window.as_bytes());
    let line = cut.map_or(window, |place| &window[place + 1..]);
    let is_whole = match cut {
        Some(place) => window.as_bytes()[place] == b'\n',
        None => from == 0,
    };
    // Half a word would be another word.
    if is_whole { line } else { line.trim_start_matches(|c: char| c.is_alphanumeric()) }
}

/// Bytes of the space that stands there, if it is one: a plain one, or one that does not break.
pub(super) fn space_at(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at..)? {
        [b' ', ..] => Some(1),
        [0xc2, 0xa0, ..] => Some(2),
        // Thin, figure and narrow spaces.
        [0xe2, 0x80, 0x87 | 0x89 | 0xaf, ..] => Some(3),
        _ => None,
    }
}

/// Bytes of the hyphen that stands there, if it is one: a plain one, or one that does not break.
pub(super) fn hyphen_at(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at..)? {
        [b'-', ..] => Some(1),
        [0xe2, 0x80, 0x90 | 0x91, ..] => Some(3),
        _ => None,
    }
}
