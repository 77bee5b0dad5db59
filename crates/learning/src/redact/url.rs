//! Passwords in URLs and in the connection strings of databases: `postgres://me:…@host`, `me:…@tcp(host)`.
//!
//! The name before the password stays, and so does the host: what a conversation is about can still be seen.

use std::ops::Range;

use memchr::memmem;

use super::{
    Finding, Kind,
    surroundings::WALL,
    value::{is_drawn, is_stand_in},
};

/// Bytes behind `://` in which a password ends.
const URL_BYTES_MAX: usize = 320;

/// Bytes that a token has at least that is given as a user.
const TOKEN_BYTES_MIN: usize = 20;

/// What begins an authority, and what separates name, password and host in it: plain, escaped in JSON, and encoded in the
/// query of another URL.
const FORMS: [(&str, &str, &str); 4] =
    [("://", ":", "@"), (":\\/\\/", ":", "@"), ("%3A%2F%2F", "%3A", "%40"), ("%3a%2f%2f", "%3a", "%40")];
/// Where the address of a database begins behind name and password in Go.
const ADDRESSES: [&str; 2] = ["@tcp(", "@unix("];

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    for (opening, colon, at) in FORMS {
        for place in memmem::find_iter(bytes, opening) {
            found.extend(finding(text, in_authority(text, place + opening.len(), colon, at)));
        }
    }
    for address in ADDRESSES {
        for place in memmem::find_iter(bytes, address) {
            found.extend(finding(text, before_address(text, place)));
        }
    }
}

fn finding(text: &str, range: Option<Range<usize>>) -> Option<Finding> {
    let range = range?;
    let value = &text[range.clone()];
    let is_password = !value.is_empty() && !is_stand_in(value);
    // A variable of a template or of a shell, within whatever else.
    let is_filled_in = value.contains('{') && value.contains('}') || value.starts_with('$');
    (is_password && !is_filled_in).then_some(Finding { kind: Kind::UrlPassword, range })
}

/// The password in an authority (RFC 3986, 3.2.1) that begins there.
fn in_authority(text: &str, start: usize, colon: &str, at: &str) -> Option<Range<usize>> {
    let window = &text[start..text.floor_char_boundary(text.len().min(start + URL_BYTES_MAX))];
    let is_end = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '<' | '>' | '`');
    let window = &window[..window.find(is_end).unwrap_or(window.len())];
    if text.as_bytes().get(start + window.len()) == Some(&WALL) {
        return None;
    }
    let authority = &window[..window.find(['/', '?', '#', '\\']).unwrap_or(window.len())];
    if let Some(end) = authority.rfind(at) {
        let user = &authority[..end];
        return match user.find(colon) {
            Some(before) => Some(start + before + colon.len()..start + end),
            // A token in the place of a user needs no password.
            None => (user.len() >= TOKEN_BYTES_MIN && is_drawn(user)).then_some(start..start + end),
        };
    }
    // A password that should have been encoded and was not. What follows the colon of a host is a number.
    let begin = authority.find(colon)? + colon.len();
    let is_port = authority[begin..].bytes().all(|byte| byte.is_ascii_digit());
    if is_port || authority.starts_with('[') {
        return None;
    }
    let end = begin + window[begin..].find(at)?;
    Some(start + begin..start + end)
}

/// The password before the address of a database.
fn before_address(text: &str, end: usize) -> Option<Range<usize>> {
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(*byte, b'"' | b'\'' | b'`' | WALL);
    let len = text.as_bytes()[..end].iter().rev().take(URL_BYTES_MAX).take_while(|byte| !is_end(byte)).count();
    let start = end - len;
    let pair = text.get(start..end)?;
    let begin = pair.find(':')? + 1;
    (!pair.contains("://") && start.checked_sub(1).is_none_or(|at| text.as_bytes()[at] != WALL))
        .then_some(start + begin..end)
}
