//! Private keys as text: PEM, OpenPGP and PuTTY blocks, whole or cut off, as they stand in files, mails and JSON.
//!
//! A block is what its first and its last line enclose. Where one of them is missing, it is the lines that can be of a key
//! beside the other. A piece of a key without either is known by how the keys of common programs begin, or not at all.

use std::{ops::Range, sync::LazyLock};

use memchr::memmem;
use regex::bytes::{Captures, Regex};

use super::{
    Finding, Kind,
    surroundings::{WALL, pattern},
    value::Makeup,
};

/// Bytes that a block between its first and its last line may have. RSA with 16 384 bits has 13 000.
const BLOCK_BYTES_MAX: usize = 64 << 10;
/// Bytes that are looked at before a last line whose first is missing.
const BACK_BYTES_MAX: usize = 16 << 10;
/// Letters of Base64 without which there is no key, only talk of one.
const KEY_BYTES_MIN: usize = 16;

/// First and last lines: RFC 7468, RFC 4880, RFC 4716.
static LINE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"-{4,5} ?(?:(BEGIN)|END) (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY(?: BLOCK)? ?-{0,5}"));
/// How keys begin that have lost their first line: PKCS #8 and PKCS #1 with RSA, and OpenSSH's own form.
static BEGINNING: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:MII[EJ][A-Za-z0-9]{1,2}IBA(?:DAN|AK)|b3BlbnNzaC1rZXktdjE)[A-Za-z0-9+/=]"));
/// Lines between the first one and the key, as RFC 1421 and RFC 4880 have them.
static HEADER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"\A(?:[\s>#|"'+]|\\[nr]){0,16}[A-Z][A-Za-z-]{2,20}: [ -~--\\]{0,80}"#));
/// How many of them there may be.
const HEADERS_MAX: usize = 8;
/// What PuTTY writes before the private part.
const PUTTY: &[u8] = b"Private-Lines:";

/// A first or a last line.
struct Line {
    range: Range<usize>,
    is_first: bool,
}

impl Line {
    fn of(captures: &Captures<'_>) -> Option<Self> {
        Some(Self { range: captures.get(0)?.range(), is_first: captures.get(1).is_some() })
    }
}

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    let mut block = |range: Option<Range<usize>>| {
        found.extend(range.map(|range| Finding { kind: Kind::PrivateKey, range }));
    };
    let lines: Vec<Line> = LINE.captures_iter(bytes).filter_map(|captures| Line::of(&captures)).collect();
    let mut from = 0;
    for (index, line) in lines.iter().enumerate() {
        let last = lines.get(index + 1).filter(|next| line.is_first && !next.is_first);
        let inner =
            last.map(|last| line.range.end..last.range.start).filter(|inner| can_be_inner(&bytes[inner.clone()]));
        block(match (inner, last) {
            (Some(inner), Some(last)) => has_key(&bytes[inner]).then_some(line.range.start..last.range.end),
            _ if line.is_first => end_of_key(text, line.range.end).map(|end| line.range.start..end),
            _ => start_of_key(text, from, line.range.start).map(|start| start..line.range.end),
        });
        from = line.range.end;
    }
    for at in memmem::find_iter(bytes, PUTTY) {
        let digits = bytes[at + PUTTY.len()..].iter().take(8).take_while(|b| **b == b' ' || b.is_ascii_digit()).count();
        let start = after_around(text, at + PUTTY.len() + digits);
        block(end_of_key(text, start).map(|end| start..end));
    }
    let mut from = 0;
    while let Some(beginning) = BEGINNING.find_at(bytes, from) {
        let end = end_of_key(text, beginning.start());
        block(end.map(|end| beginning.start()..end));
        from = end.unwrap_or(beginning.end());
    }
}

/// Whether two lines that far apart are of one block. With a wall between them that cannot be told any more.
fn can_be_inner(inner: &[u8]) -> bool {
    inner.len() <= BLOCK_BYTES_MAX && !inner.contains(&WALL)
}

/// Whether there is a key in what two lines enclose, or only dots.
fn has_key(block: &[u8]) -> bool {
    let mut run = 0;
    block.iter().any(|byte| {
        run = if is_of_base64(*byte) { run + 1 } else { 0 };
        run >= KEY_BYTES_MIN
    })
}

fn is_of_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// Where the key ends whose text begins here; nothing where there is none. What is looked at is looked at once: a key
/// ends where the next one could begin.
fn end_of_key(text: &str, from: usize) -> Option<usize> {
    let mut end = None;
    let mut key_bytes = 0;
    let mut at = from;
    loop {
        if key_bytes == 0 {
            at = after_headers(text, at);
        }
        let Some(piece) = piece_at(text, at) else { break };
        if !can_be_of_key(&text[piece.clone()], key_bytes > 0) {
            break;
        }
        key_bytes += piece.len();
        at = piece.end;
        end = Some(at);
    }
    end.filter(|_| key_bytes >= KEY_BYTES_MIN)
}

/// Where the key begins whose text ends here and begins after `from`.
fn start_of_key(text: &str, from: usize, to: usize) -> Option<usize> {
    let from = text.floor_char_boundary(from.max(to.saturating_sub(BACK_BYTES_MAX)));
    let (mut start, mut key_bytes) = (None, 0);
    let mut at = from;
    while after_around(&text[..to], at) < to {
        match piece_at(&text[..to], at) {
            Some(piece) if !is_cut(text, &piece) && can_be_of_key(&text[piece.clone()], start.is_some()) => {
                start = start.or(Some(piece.start));
                key_bytes += piece.len();
                at = piece.end;
            }
            other => {
                // What came before belongs to something else.
                (start, key_bytes) = (None, 0);
                at = other.map_or_else(|| after_foreign(text, at), |piece| piece.end);
            }
        }
    }
    start.filter(|_| key_bytes >= KEY_BYTES_MIN)
}

/// The next run of Base64, if nothing is before it but what may stand around the lines of a key.
fn piece_at(text: &str, from: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let mut start = after_around(text, from);
    // The marks of comments and of added lines are letters of Base64 too.
    for mark in ["// ", "+ ", "+\n", "+\r"] {
        if text[start..].starts_with(mark) {
            start = after_around(text, start + 2);
        }
    }
    let len = bytes[start..].iter().take_while(|byte| is_of_base64(**byte)).count();
    (len > 0 && bytes.get(start + len) != Some(&WALL)).then_some(start..start + len)
}

/// Past what may stand around the lines of a key without being of it: their ends, written out or not, quotation marks of
/// code and mail, comments.
fn after_around(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = from;
    loop {
        at += match bytes.get(at) {
            Some(b'\\') if matches!(bytes.get(at + 1), Some(b'n' | b'r' | b't')) => 2,
            Some(byte) if byte.is_ascii_whitespace() || b">#*|\"'`,;\\().".contains(byte) => 1,
            _ => return at,
        };
    }
}

/// Past what is neither of a key nor around it.
fn after_foreign(text: &str, from: usize) -> usize {
    let at = after_around(text, from);
    text[at..].chars().next().map_or(text.len(), |c| at + c.len_utf8())
}

/// Past lines such as `Proc-Type: 4,ENCRYPTED` before a key.
fn after_headers(text: &str, from: usize) -> usize {
    (0..HEADERS_MAX).fold(from, |at, _| HEADER.find(&text.as_bytes()[at..]).map_or(at, |header| at + header.end()))
}

/// Whether a piece begins at a wall: it is what is left of one.
fn is_cut(text: &str, piece: &Range<usize>) -> bool {
    text.as_bytes()[..piece.start].last() == Some(&WALL)
}

fn can_be_of_key(piece: &str, is_within: bool) -> bool {
    let makeup = Makeup::of(piece);
    // A word of prose can begin with a capital; its case does not change after that, and it has no digits.
    let is_word = makeup.digits == 0 && makeup.others == 0 && makeup.changes <= 1;
    // A name in a program is as long as that, and changes less.
    let is_drawn = piece.len() >= KEY_BYTES_MIN && makeup.changes * 4 >= piece.len();
    !is_word && (is_within || is_drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        for pattern in [&*LINE, &*BEGINNING, &*HEADER] {
            assert!(!pattern.as_str().is_empty());
        }
    }
}
