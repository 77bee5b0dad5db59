//! Where a value begins and ends that stands behind a name: in quotation marks, written out in code, settings or prose.

use std::{ops::Range, sync::LazyLock};

use regex::bytes::Regex;

use super::surroundings::{WALL, pattern};

/// Bytes that a value in quotation marks may have.
const QUOTED_BYTES_MAX: usize = 4096;
/// Bytes that any other value may have; also what is looked at for one.
const BARE_BYTES_MAX: usize = 512;

/// What may stand before a value's quotation mark: the call that makes it a secret, a list, the prefix of a string in
/// Python. The marks themselves may be escaped, once or more often.
static OPENING: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"\A(?:(?:new[ \t]{1,4})?[A-Za-z_][A-Za-z0-9_:.!]{0,48}\([ \t]{0,4}|ConvertTo-SecureString[ \t]{1,4}(?:-String[ \t]{1,4})?|[\[{(][ \t]{0,4}|[bBrRuU]{1,2}|@)?(\\{0,8})("""|'''|["'`])"#,
    )
});
/// What the next pair of a list of names and values begins with. A wall may have been what tells it.
static NEXT_NAME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\A[;,&][ \t]{0,4}[A-Za-z_][A-Za-z0-9_.-]{0,40}(?: [A-Za-z0-9]{0,16})?([=:]|\x7f)"));
/// A mark that HTML writes out.
static ENTITY: LazyLock<Regex> = LazyLock::new(|| pattern(r"\A&(?:amp|quot|apos|lt|gt|#[0-9]{2,3});"));

/// A value behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) range: Range<usize>,
    pub(super) is_quoted: bool,
    /// It runs into a wall: it is what is left of a value that was judged as a whole.
    pub(super) is_cut: bool,
}

/// The value that begins at a place, if one does.
pub(super) fn literal_at(text: &str, at: usize) -> Option<Literal> {
    let bytes = text.as_bytes();
    if let Some(opening) = OPENING.captures(&bytes[at..bytes.len().min(at + 80)]) {
        let start = at + opening.get(0)?.end();
        let range = start..end_of_quoted(bytes, start, opening.get(1)?.len(), opening.get(2)?.as_bytes())?;
        return Some(Literal { range, is_quoted: true, is_cut: false });
    }
    if let Some(range) = typographic_at(text, at) {
        return Some(Literal { range, is_quoted: true, is_cut: false });
    }
    let stars = bytes[at..].iter().take(3).take_while(|byte| **byte == b'*').count();
    Some(bare_at(text, at + stars)).filter(|literal| !literal.range.is_empty())
}

/// Where the value ends that is in quotation marks escaped so many times; nothing where it does not on the same line.
fn end_of_quoted(bytes: &[u8], start: usize, escapes: usize, mark: &[u8]) -> Option<usize> {
    let mut backslashes = 0;
    for at in start..bytes.len().min(start + QUOTED_BYTES_MAX) {
        match bytes[at] {
            b'\\' => backslashes += 1,
            b'\n' | WALL => return None,
            _ if bytes[at..].starts_with(mark) => {
                // In a string of its own an escaped mark is of the value. In a string within a string, the marks that
                // are escaped deeper are.
                let is_end = if escapes == 0 { backslashes % 2 == 0 } else { backslashes <= escapes };
                if is_end {
                    return Some(at - if escapes == 0 { 0 } else { backslashes });
                }
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
    }
    None
}

/// What stands in the quotation marks of print.
fn typographic_at(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = &text[at..];
    let opening = rest.chars().next()?;
    let closing: &[char] = match opening {
        '“' | '„' | '”' => &['”', '“'],
        '‘' | '‚' | '’' => &['’', '‘'],
        '«' => &['»'],
        '»' => &['«'],
        '「' => &['」'],
        _ => return None,
    };
    let start = at + opening.len_utf8();
    let window = &text[start..text.floor_char_boundary(text.len().min(start + BARE_BYTES_MAX))];
    let len = window.find(closing)?;
    let is_whole = !window[..len].contains(['\n', char::from(WALL)]);
    is_whole.then_some(start..start + len)
}

/// A value without quotation marks: up to a space, or what ends it where it stands. Its own brackets are of it.
fn bare_at(text: &str, at: usize) -> Literal {
    let bytes = text.as_bytes();
    let window = &text[at..text.floor_char_boundary(text.len().min(at + BARE_BYTES_MAX))];
    let is_in_query = at >= 2 && is_in_query(&bytes[..at]);
    // In prose an ampersand is of the password.
    let is_after_sign = bytes[..at].ends_with(b"=");
    let mut open = 0_usize;
    let mut end = window.len();
    let mut is_cut = false;
    for (place, c) in window.char_indices() {
        let rest = &bytes[at + place..];
        let is_over = match c {
            '(' | '[' | '{' => {
                open += 1;
                false
            }
            ')' | ']' | '}' => {
                let is_over = open == 0;
                open = open.saturating_sub(1);
                is_over
            }
            '\\' => matches!(rest.get(1), Some(b'n' | b'r' | b't' | b'"' | b'\'' | b'\\') | None),
            '&' if is_in_query || ENTITY.is_match(rest) => true,
            '&' if !is_after_sign => matches!(rest.get(1), None | Some(b'"' | b'\'' | b'\\')),
            ',' | ';' | '&' => {
                let next = NEXT_NAME.captures(&rest[..rest.len().min(64)]).and_then(|next| next.get(1));
                is_cut |= next.is_some_and(|sign| sign.as_bytes() == [WALL]);
                next.is_some() || (c != '&' && is_separated(rest))
            }
            _ => is_end(c),
        };
        if is_over {
            end = place;
            break;
        }
    }
    let value = window[..end].trim_end_matches(['.', ',', ';', ':', '?', '*']);
    is_cut |= bytes.get(at + end) == Some(&WALL);
    Literal { range: at..at + value.len(), is_quoted: false, is_cut }
}

/// What no value without quotation marks goes on after.
fn is_end(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '"' | '\'' | '`' | '<' | '>' | '|')
        || matches!(
            c,
            '，' | '。'
                | '；'
                | '、'
                | '）'
                | '」'
                | '】'
                | '“'
                | '”'
                | '‘'
                | '’'
                | '„'
                | '«'
                | '»'
                | '—'
                | '–'
        )
}

/// Whether a mark has behind it what no value goes on with.
fn is_separated(rest: &[u8]) -> bool {
    rest.get(1).is_none_or(|next| next.is_ascii_whitespace() || matches!(next, b'"' | b'\'' | b'\\' | b'}' | b')'))
}

/// Whether the name before a value is in the query of a URL, where `&` begins the next one.
fn is_in_query(before: &[u8]) -> bool {
    let Some(name) = before.strip_suffix(b"=") else { return false };
    let len =
        name.iter().rev().take(64).take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')).count();
    name[..name.len() - len].last().is_some_and(|byte| matches!(byte, b'?' | b'&'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        for pattern in [&*OPENING, &*NEXT_NAME, &*ENTITY] {
            assert!(!pattern.as_str().is_empty());
        }
    }
}
