//! E-mail addresses (RFC 5321, with the letters of RFC 6531), as they stand in prose, in URLs and in HTML.
//!
//! Any ending is taken for that of a domain: a list of those that exist would miss the next one, and names of hosts
//! inside an organisation. What has an `@` and is no address is told by its form: units of systemd, pictures for dense
//! screens, versions of packages, repositories.

use std::{ops::Range, sync::LazyLock};

use memchr::memmem;
use regex::bytes::Regex;

use super::{
    Finding, Kind,
    surroundings::{WALL, after_escape, pattern},
};

/// Bytes of a name and of a domain (RFC 5321, 4.5.3.1).
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 255;
/// Bytes before an address that are looked at for the beginning of a URL.
const URL_BYTES_MAX: usize = 256;
/// The sign, and how URLs, JSON and HTML write it.
static AT: LazyLock<Regex> = LazyLock::new(|| pattern(r"@|%40|\\u0040|&#(?:64|x40);|&commat;|\[at\]|\(at\)"));
/// What ends names of files and of units, and no domain that mail is sent to.
const NO_DOMAINS: [&str; 12] =
    ["service", "socket", "timer", "target", "mount", "slice", "scope", "device", "path", "automount", "swap", "conf"];
/// Endings of pictures.
const PICTURES: [&str; 7] = ["png", "jpg", "jpeg", "gif", "svg", "webp", "avif"];

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    for at in AT.find_iter(text.as_bytes()) {
        if let Some(range) = address_around(text, with_spaces(text, at.range())) {
            found.push(Finding { kind: Kind::Email, range });
        }
    }
}

/// A sign that is written out may have a space on either side.
fn with_spaces(text: &str, at: Range<usize>) -> Range<usize> {
    if !text[at.clone()].ends_with([']', ')']) {
        return at;
    }
    let before = usize::from(text[..at.start].ends_with(' '));
    let after = usize::from(text[at.end..].starts_with(' '));
    at.start - before..at.end + after
}

fn address_around(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let is_encoded = text[at.clone()].starts_with('%');
    let start = start_of_local(text, at.start, is_encoded)?;
    let domain = at.end..end_of_domain(text, at.end)?;
    let local = &text[start..at.start];
    let name = &text[domain.clone()];
    let is_address = is_domain(name, local) && !is_of_url(text, start);
    is_address.then_some(start..domain.end)
}

/// Where the name before the sign begins.
fn start_of_local(text: &str, end: usize, is_encoded: bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut letters = Letters::default();
    let mut start = end;
    for (place, c) in text[..end].char_indices().rev() {
        if end - place > LOCAL_BYTES_MAX || !(letters.has(c) || matches!(c, '.' | '_' | '+' | '-' | '%' | '\'')) {
            break;
        }
        start = place;
    }
    if start.checked_sub(1).is_some_and(|before| bytes[before] == WALL) {
        return None;
    }
    start = after_escape(bytes, start, end);
    // What is encoded before the address in a URL is of the URL: `mailto%3Ajane%40…`.
    let codes = text[start..end].match_indices('%').map(|(place, _)| start + place).filter(|_| is_encoded);
    let mut foreign = codes.filter(|code| {
        let is_of_name = |code: &str| ["%2B", "%2E", "%2D", "%5F"].iter().any(|known| code.eq_ignore_ascii_case(known));
        !text.get(*code..code + 3).is_some_and(is_of_name)
    });
    start = foreign.next_back().map_or(start, |code| code + 3);
    let local = text.get(start..end)?;
    let local = local.trim_start_matches(['.', '-', '\'', '%', '+']);
    let is_local = !local.is_empty() && !local.ends_with(['.', '\'']);
    is_local.then_some(end - local.len())
}

/// Where the domain behind the sign ends: behind the last name that can end one.
fn end_of_domain(text: &str, start: usize) -> Option<usize> {
    let mut letters = Letters::default();
    let mut end = start;
    for (place, c) in text[start..].char_indices() {
        if place > DOMAIN_BYTES_MAX || !(letters.has(c) || matches!(c, '.' | '-')) {
            break;
        }
        end = start + place + c.len_utf8();
    }
    if text.as_bytes().get(end) == Some(&WALL) {
        return None;
    }
    let mut domain = &text[start..end];
    while let Some((front, last)) = domain.rsplit_once('.') {
        // A hyphen may join the address to what comes after it.
        let ending = last.split('-').next().unwrap_or_default();
        let ending = if last.starts_with("xn--") { last } else { ending };
        if is_ending(ending) && !front.is_empty() {
            return Some(start + front.len() + 1 + ending.len());
        }
        domain = front;
    }
    None
}

fn is_ending(name: &str) -> bool {
    name.chars().count() >= 2 && (name.chars().all(char::is_alphabetic) || name.starts_with("xn--"))
}

/// Which letters go on: those that are written with spaces between words, unless the first one is of another kind. An
/// address stands in the middle of a sentence in Chinese.
#[derive(Default)]
struct Letters {
    is_unspaced: Option<bool>,
}

impl Letters {
    fn has(&mut self, c: char) -> bool {
        if c.is_ascii() {
            self.is_unspaced.get_or_insert(false);
            return c.is_ascii_alphanumeric();
        }
        let is_spaced = c < '\u{e00}' || ('\u{1e00}'..'\u{2000}').contains(&c);
        let is_unspaced = *self.is_unspaced.get_or_insert(!is_spaced);
        c.is_alphanumeric() && (is_spaced || is_unspaced)
    }
}

/// Whether mail is sent there, and it only looks like it.
fn is_domain(domain: &str, local: &str) -> bool {
    let Some((front, last)) = domain.rsplit_once('.') else { return false };
    let last_lower = last.to_ascii_lowercase();
    let is_empty = domain.split('.').any(str::is_empty);
    // `logo@2x.png`
    let is_picture = PICTURES.contains(&last_lower.as_str())
        && front.ends_with('x')
        && front.starts_with(|c: char| c.is_ascii_digit());
    // `jquery@3.6.0.js`
    let numbers = front.split('.').filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).count();
    // `x@self.weight`, the product of two matrices
    let is_field = matches!(front.split('.').next(), Some("self" | "this"));
    // `git@github.com:…`, the same for everybody
    let is_shared = local == "git";
    !is_empty && !is_picture && numbers < 2 && !is_field && !is_shared && !NO_DOMAINS.contains(&last_lower.as_str())
}

/// Whether a name is that of a user in a URL, whose password may be in between. `mailto:` has no slashes.
fn is_of_url(text: &str, start: usize) -> bool {
    let before = text.as_bytes()[..start].iter().rev().take(URL_BYTES_MAX);
    let is_of_authority =
        |byte: &&u8| !byte.is_ascii_whitespace() && !matches!(**byte, b'/' | b'"' | b'\'' | b'<' | b'>' | WALL | b'?');
    let len = before.take_while(is_of_authority).count();
    let (before, authority) = text.as_bytes()[..start].split_at(start - len);
    let is_encoded = |slashes: &[u8]| memmem::find(authority, slashes).is_some();
    // Behind a wall that cannot be told any more.
    before.ends_with(b"//")
        || before.ends_with(b"\\/")
        || before.last() == Some(&WALL)
        || is_encoded(b"%2F%2F")
        || is_encoded(b"%2f%2f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        assert!(!AT.as_str().is_empty());
    }
}
