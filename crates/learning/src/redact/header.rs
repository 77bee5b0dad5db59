//! Credentials in `Authorization` headers (RFC 9110, 11.6), in whatever program, tool or log the header stands, and the
//! same schemes without a header.

use std::sync::LazyLock;

use regex::bytes::Regex;

use super::{
    Finding, Kind,
    surroundings::{WALL, begins, pattern},
    value::{Makeup, is_drawn, is_stand_in},
};

/// Bytes that a credential has at least behind the header's name.
const CREDENTIAL_BYTES_MIN: usize = 8;
/// Bytes that a bearer's token has at least where only the scheme tells of it.
const BEARER_BYTES_MIN: usize = 16;
/// Bytes that a credential may have.
const CREDENTIAL_BYTES_MAX: usize = 8192;

/// The name of the header or of a scheme, and what stands between it and the credential. A comma is between them where
/// both are in quotation marks.
static BEGINNING: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?i:(authorization)(?:(?:\\{0,8}["'`])?\]?(?:[ \t]{0,8}(?:[:=]|=>)|[ \t]header[:,]?)[ \t]{0,8}\\{0,8}["'`]?|\\{0,8}["'`],[ \t]{0,8}\\{0,8}["'`])(?:(?:bearer|basic|aws4-hmac-sha256|token|api-?key|api-token|key|bot|jwt|splunk|digest|negotiate)(?:[ \t]|%20|\+|:[ \t]?){1,3})?|(bearer)(?:[ \t]|%20|\+){1,3}|(basic)(?:[ \t]|%20){1,3}|_?(auth)\\{0,8}["']?[ \t]{0,4}[:=][ \t]{0,4}\\{0,8}["']?)"#,
    )
});

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(beginning) = BEGINNING.captures_at(bytes, from) {
        let Some(whole) = beginning.get(0) else { break };
        // Schemes may stand one behind another, and each is asked for what follows it.
        from = whole.start() + 1;
        let start = whole.end();
        let len = bytes[start..].iter().take(CREDENTIAL_BYTES_MAX).take_while(|byte| is_of_token(**byte)).count();
        let rest = &bytes[start + len..];
        // What is left out says that this is an example, and what opens here fills something in.
        let is_cut = rest.first().is_some_and(|byte| matches!(*byte, b'(' | b'{' | b'$' | b'<' | b'[' | b'*' | WALL));
        let value = &text[start..start + len];
        let is_cut = is_cut || value.ends_with("...") || rest.starts_with("…".as_bytes());
        let value = value.trim_end_matches('.');
        let end = start + value.len();
        let is_credential = if beginning.get(1).is_some() {
            value.len() >= CREDENTIAL_BYTES_MIN && is_of_header(value)
        } else if beginning.get(2).is_some() {
            value.len() >= BEARER_BYTES_MIN && is_drawn(value)
        } else {
            is_basic(value)
        };
        if is_credential && begins(bytes, whole.start()) && !is_cut && !is_stand_in(value) {
            found.push(Finding { kind: Kind::Authorization, range: start..end });
        }
    }
}

/// The letters of a token (RFC 6750, `b64token`), and what schemes of others add.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=' | b':' | b'|' | b'%' | b'@')
}

/// Whether it can be what a header carries, and is no word of code or prose.
fn is_of_header(value: &str) -> bool {
    let makeup = Makeup::of(value);
    let is_name = value.contains('.') && !value.bytes().any(|byte| byte.is_ascii_digit());
    // Forty letters have no digit by chance once in a thousand times.
    let is_of_letters = value.len() >= 24 && makeup.upper > 3 && makeup.changes * 4 >= makeup.letters();
    !is_name && (is_of_letters || (makeup.digits > 0 && makeup.letters() > 0) || is_drawn(value) || is_basic(value))
}

/// Whether it is a user's name and password in Base64, as the scheme `Basic` has them (RFC 7617).
fn is_basic(value: &str) -> bool {
    let Some(decoded) = decoded(value.trim_end_matches('=')) else { return false };
    let is_text = str::from_utf8(&decoded).is_ok_and(|text| !text.contains(char::is_control));
    is_text && decoded.len() >= 4 && decoded.contains(&b':')
}

/// What Base64 stands for. Written out here, since one line of it is needed, and no other alphabet or padding.
fn decoded(value: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(value.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in value.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(digit)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count) as u8);
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        assert!(!BEGINNING.as_str().is_empty());
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648, 10.
        for (encoded, expected) in [("", ""), ("Zg", "f"), ("Zm8", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")] {
            assert_eq!(decoded(encoded), Some(expected.as_bytes().to_vec()), "{encoded}");
        }
        assert_eq!(decoded("Zm 9v"), None);
        // RFC 7617, 2.
        assert!(is_basic("QWxhZGRpbjpvcGVuIHNlc2FtZQ==") && !is_basic("knowledge") && !is_basic(""));
    }
}
