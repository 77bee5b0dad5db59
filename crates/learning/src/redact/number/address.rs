//! Addresses of the Internet Protocol, without those that are the same for everybody, and what has their form and is a
//! version or a section.

use std::{
    iter,
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
    sync::LazyLock,
};

use memchr::memchr_iter;
use regex::bytes::Regex;

use crate::redact::{
    Finding, Kind,
    surroundings::{WALL, after_escape, begins, ends, line_before, pattern},
};

/// Bytes before an address that are looked at for words.
const WORDS_BYTES_MAX: usize = 48;
/// Bytes of a row of hexadecimal digits and colons that may have an address of version 6. The longest one has 45.
const ROW_BYTES_MAX: usize = 64;
/// Bytes of the shortest one that is somebody's: `2a00::1`.
const ADDRESS_BYTES_MIN: usize = 7;
/// Names before an address in such a row.
const NAMES_MAX: usize = 3;
/// Parts from here on are rare in versions.
const VERSION_PART_MAX: u8 = 99;

/// What a version stands right behind.
static OF_VERSION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?i)(?:\b(?:v|ver|version|versions|release|rev|revision|build|firmware|driver|oid|ec)[\s.:="'#(]{0,4}|[=<>~!^][=>]|[~^]|§)[ \t]{0,2}\z"#,
    )
});
/// Words in the same line that make it an object identifier (ITU-T X.660).
static IDENTIFIER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)oid|object[ _]?identifier"));
/// Words in the same line that make a small number more of a version, or of a place in a document.
static NEAR_VERSION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\b(?:ver(?:sions?)?|releases?|released|upgrad(?:e|ed|ing)|downgrad(?:e|ed|ing)|bump(?:s|ed)?|updated?|firmware|package|section|sections|clause|chapter|article|paragraph|appendix|requires?|install(?:ed|s)?|oid|rfc|semver|changelog)\b",
    )
});

/// The address of version 4 that begins there.
pub(super) fn at(text: &str, start: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let end = end_of_parts(bytes, start)?;
    let address: Ipv4Addr = text[start..end].parse().ok()?;
    let is_address = is_alone(bytes, start, end) && !is_common(address) && !is_version(text, start, end, address);
    is_address.then_some(start..end)
}

/// Where four parts end that dots separate.
fn end_of_parts(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    for part in 0..4 {
        let digits = bytes[at..].iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
        at += digits;
        if !(1..=3).contains(&digits) || (part < 3 && bytes.get(at) != Some(&b'.')) {
            return None;
        }
        at += usize::from(part < 3);
    }
    Some(at)
}

/// Whether the four parts are all there is of the number, and no name of a file follows.
fn is_alone(bytes: &[u8], start: usize, end: usize) -> bool {
    const FILES: [&[u8]; 12] =
        [b"tar", b"zip", b"tgz", b"whl", b"deb", b"rpm", b"jar", b"dll", b"exe", b"dmg", b"msi", b"nupkg"];
    let is_begun = begins(bytes, start) && !matches!(bytes[..start], [.., b'.' | b'_']);
    let is_ended = match &bytes[end..] {
        [b'_', ..] | [b'.', b'0'..=b'9' | WALL, ..] => false,
        [b'.', ending @ ..] => !FILES.iter().any(|file| ending.starts_with(file)),
        _ => ends(bytes, end),
    };
    is_begun && is_ended
}

/// Whether an address is the same for everybody.
fn is_common(address: Ipv4Addr) -> bool {
    let [first, second, third, last] = address.octets();
    let is_network_or_gateway = address.is_private() && (last == 0 || (last == 1 && (second, third) == (0, 0)));
    let is_usual = matches!([first, second, third, last], [192, 168, 0 | 1, 1 | 255] | [172, 17, 0, 1] | [10, 0, 0, 1]);
    let is_resolver = matches!(
        [first, second, third, last],
        [8, 8, 8, 8] | [8, 8, 4, 4] | [1, 1, 1, 1] | [1, 0, 0, 1] | [9, 9, 9, 9]
    );
    first == 0
        // Multicast, reserved, broadcast and masks.
        || first >= 224
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        // RFC 2544.
        || (first == 198 && matches!(second, 18 | 19))
        || is_network_or_gateway
        || is_usual
        || is_resolver
        // One digit each: a version, a section, or made up. One address in half a million is like that.
        || address.octets().iter().all(|part| *part < 10)
}

/// Whether the four parts are of a version or of a section.
fn is_version(text: &str, start: usize, end: usize, address: Ipv4Addr) -> bool {
    let bytes = text.as_bytes();
    // With a wall before it, what the line was about cannot be told any more.
    if bytes[start.saturating_sub(WORDS_BYTES_MAX)..start].contains(&WALL) {
        return true;
    }
    let before = line_before(text, start, WORDS_BYTES_MAX);
    if OF_VERSION.is_match(before.as_bytes()) || is_of_product(before) {
        return true;
    }
    let sentence = before.rsplit_once(". ").map_or(before, |(_, sentence)| sentence);
    let is_small = address.octets().iter().all(|part| *part <= VERSION_PART_MAX);
    let is_of_name = matches!(bytes[..start], [.., b'A'..=b'Z' | b'a'..=b'z', b'-']);
    let is_labelled = matches!(&bytes[end..], [b'-' | b'+', label, ..] if label.is_ascii_alphanumeric());
    let is_build = matches!(&bytes[end..], [b'-' | b'+', label, ..] if label.is_ascii_alphabetic() || *label == WALL);
    // The two arcs that most object identifiers are under.
    let is_identifier = address.octets()[0] <= 2 && IDENTIFIER.is_match(before.as_bytes());
    is_build || is_identifier || (is_small && (is_of_name || is_labelled || NEAR_VERSION.is_match(sentence.as_bytes())))
}

/// `Chrome/120.0.6.10`; the parts of a path have a slash before them too.
fn is_of_product(before: &str) -> bool {
    let Some(product) = before.strip_suffix('/') else { return false };
    let name =
        product.len() - product.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).len();
    let rest = &product[..product.len() - name];
    name > 0 && product.ends_with(|c: char| c.is_ascii_alphabetic()) && !rest.ends_with(['/', '.', ':'])
}

/// Addresses of version 6. They are looked for by their colons, since they may have letters alone.
pub(super) fn find_long(text: &str, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let mut from = 0;
    for colon in memchr_iter(b':', bytes) {
        if colon < from {
            continue;
        }
        let start = colon - bytes[from..colon].iter().rev().take_while(|byte| is_part(byte)).count();
        from = colon + bytes[colon..].iter().take_while(|byte| is_part(byte)).count();
        let is_walled = bytes.get(from) == Some(&WALL) || start.checked_sub(1).is_some_and(|at| bytes[at] == WALL);
        if from - start <= ROW_BYTES_MAX && !is_walled {
            found.extend(long_address(text, start, from).map(|range| Finding { kind: Kind::IpAddress, range }));
        }
    }
}

/// The address in a row of hexadecimal digits and colons. What is before it may look the same: in `node:2001:…` the last
/// letters of the name do.
fn long_address(text: &str, start: usize, end: usize) -> Option<Range<usize>> {
    let row = &text[start..end];
    let starts = row.match_indices(':').map(|(at, _)| start + at + 1).take(NAMES_MAX);
    iter::once(after_escape(text.as_bytes(), start, end)).chain(starts).find_map(|start| address_in(text, start, end))
}

fn address_in(text: &str, start: usize, end: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let row = text[start..end].trim_end_matches('.');
    // Two colons in the end are of the address, and one is not: `2001:db8::`.
    let row = if row.ends_with("::") { row } else { row.trim_end_matches(':') };
    if row.len() < ADDRESS_BYTES_MIN || !begins(bytes, start) || !ends(bytes, end) || bytes.get(end) == Some(&b'_') {
        return None;
    }
    let address: Ipv6Addr = row.parse().ok()?;
    let is_begun = !matches!(bytes[..start], [.., b'_' | b'.' | b'-']);
    (is_begun && is_of_somebody(address, row)).then_some(start..start + row.len())
}

/// Whether an address belongs to somebody. Names in programs can be hexadecimal, but do not begin with a digit.
fn is_of_somebody(address: Ipv6Addr, text: &str) -> bool {
    let [first, second, third, ..] = address.segments();
    let is_global = first & 0xe000 == 0x2000;
    let is_local = first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80;
    // RFC 3849, RFC 9637, and the resolvers that everybody knows.
    let is_documentation = (first, second) == (0x2001, 0x0db8) || (first == 0x3fff && second < 0x1000);
    let is_resolver =
        matches!((first, second, third), (0x2001, 0x4860, 0x4860) | (0x2606, 0x4700, 0x4700) | (0x2620, 0x00fe, _));
    let rest = &address.segments()[1..];
    let is_network =
        rest.iter().all(|part| *part == 0) || (is_local && rest[..6].iter().all(|part| *part == 0) && rest[6] == 1);
    let has_digits = text.bytes().any(|byte| byte.is_ascii_digit());
    (is_global || is_local) && has_digits && !is_documentation && !is_resolver && !is_network
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        for pattern in [&*OF_VERSION, &*IDENTIFIER, &*NEAR_VERSION] {
            assert!(!pattern.as_str().is_empty());
        }
    }
}
