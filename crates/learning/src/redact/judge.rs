//! Whether a value behind a telling name is a secret. The looser it is bound to the name, the less it may look like a
//! word.

use std::sync::LazyLock;

use regex::bytes::Regex;

use super::{
    surroundings::pattern,
    value::{Makeup, is_drawn, is_stand_in},
};

/// Letters alone are a password in a place like `DB_PASSWORD=…` from so many on; and so is a number.
const PASSWORD_BYTES_MIN: usize = 6;
/// Bytes that a password in quotation marks has at least.
const QUOTED_BYTES_MIN: usize = 4;
/// Letters alone are another secret in prose from so many on.
const LETTERS_OF_SECRET_MIN: usize = 20;

/// Words with a number that are no password: algorithms, formats, versions.
static TECHNICAL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)\A(?:sha|md|utf|aes|rsa|iso|rfc|oauth|bcrypt|argon|pbkdf|scrypt|ed|http|ipv|base|win|windows|python|php|tls|ssl|",
        r"office|excel|mysql|postgres|version|[hrep]s|[vxui])[-_/]?v?\d{1,5}(?:[-_./][a-z]{0,3}\d{1,4}){0,2}[a-z]{0,2}\z",
        r"|\A(?:uint|int|bytes|float|varchar|char|chapter|page|line|step|arg|param|field|test|str|var|val|value|attempt|user|item)_?\d{1,2}\z",
        r"|\A0[bx][0-9a-f]|\A\d{4}-\d{2}-\d{2}|\A\d{1,2}:\d{2}",
    ))
});
/// What text is encoded or hashed with, which is given to a password's methods.
static ENCODING: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)\A(?:utf|latin|iso|cp|sha|md|base|ascii|windows)[-_]?[0-9]{1,4}(?:[-_][0-9]{1,2})?\z")
});
/// A name and a sign before another value.
static FIELD: LazyLock<Regex> = LazyLock::new(|| pattern(r"\A[a-z_]{2,40}=."));
/// "Send the password to …" is followed by no password.
static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\A[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,64}\.[A-Za-z]{2,16}\z"));

/// Whether a value can be no secret, wherever it stands: it stands in for one, says where one is, or names one.
pub(super) fn is_none(value: &str) -> bool {
    is_stand_in(value) || is_place(value) || is_of_name(value) || ENCODING.is_match(value.as_bytes())
}

/// Whether a value says where something is, and not what it is.
fn is_place(value: &str) -> bool {
    let is_path = value.starts_with(['/', '~'])
        || value.starts_with("./")
        || value.starts_with("../")
        || value.get(1..3) == Some(":\\");
    value.contains("://") || (is_path && !is_drawn(value))
}

/// Whether a value is another name of a secret, or speaks of one: `user_password`, `Forgot your password?`.
fn is_of_name(value: &str) -> bool {
    let is_constant =
        value.contains('_') && value.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    has_stem(value) && (is_constant || !has_digits(value))
}

fn has_stem(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token", "credential", "kennwort", "passwort", "api_key", "apikey"]
        .iter()
        .any(|stem| lower.contains(stem))
}

/// Whether a value without quotation marks is an expression: a call, a field, a number with a unit, the start of a list.
pub(super) fn is_code(value: &str, next: Option<u8>) -> bool {
    let is_identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if value.starts_with(['(', '[', '{', '=', ',', ')', '|', ':']) || value.contains("()") {
        return true;
    }
    let value = value.strip_prefix('&').unwrap_or(value);
    let parts: Vec<&str> = value.split(['.', '(', '[', ':', '?', '>', '-']).filter(|part| !part.is_empty()).collect();
    let is_path = parts.iter().all(|part| is_identifier(part.trim_end_matches([')', ']', '!', ';'])));
    let called = parts.first().map_or("", |part| part.trim_start_matches(['$', '#', '*', '&']).trim_end_matches('!'));
    let is_call = value.contains(['(', '[']) && is_identifier(called);
    let is_field = value.contains('.') || value.contains("::") || value.contains("->");
    // A chosen password may have dots and digits; a field that has them is named like what is in it.
    let is_literal = has_digits(value) && !has_stem(value);
    is_call || (is_path && matches!(next, Some(b'(' | b'['))) || (is_path && is_field && !is_literal)
}

/// Whether a value without quotation marks is the name of a type: `Curve25519Key`. What is drawn has more capitals.
pub(super) fn is_type(value: &str) -> bool {
    const DIGIT_ROWS_MAX: usize = 2;
    let makeup = Makeup::of(value);
    let rows = value.split(|c: char| !c.is_ascii_digit()).filter(|row| !row.is_empty()).count();
    let is_of_words = makeup.upper > 1 && makeup.lower * 2 >= makeup.upper * 5 && rows <= DIGIT_ROWS_MAX;
    value.starts_with(|c: char| c.is_ascii_uppercase())
        && makeup.others == 0
        && is_of_words
        && value.ends_with(|c: char| c.is_ascii_lowercase())
}

/// Letters and digits, or something that words do not have.
fn is_mixed(makeup: Makeup, value: &str) -> bool {
    let has_sign = value
        .bytes()
        .any(|byte| byte.is_ascii_punctuation() && !matches!(byte, b'-' | b'_' | b'.' | b'\'' | b',' | b'/'));
    makeup.letters() > 0 && (makeup.digits > 0 || has_sign)
}

/// Whether a value has letters alone.
pub(super) fn is_of_letters(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// In quotation marks a password may be a word, and have spaces where it is made of several.
pub(super) fn is_quoted_password(value: &str) -> bool {
    let makeup = Makeup::of(value);
    if value.contains(char::is_whitespace) {
        return is_passphrase(value, ' ');
    }
    if value.len() < QUOTED_BYTES_MIN {
        return false;
    }
    // A word with a capital labels a field.
    let is_label = makeup.upper == 1 && value.starts_with(|c: char| c.is_ascii_uppercase());
    let is_of_letters = makeup.letters() == value.len();
    is_mixed(makeup, value)
        || makeup.digits == value.len()
        || (is_of_letters && !is_label && value.len() >= PASSWORD_BYTES_MIN)
        || is_passphrase(value, '-')
        || is_passphrase(value, '_')
        || (!value.is_ascii() && makeup.others * 2 > value.len() && makeup.digits > 0)
}

/// Without them it differs from words, unless it is in a file of settings, where there are none.
pub(super) fn is_bare_password(value: &str, is_setting: bool) -> bool {
    let makeup = Makeup::of(value);
    let is_of_letters = makeup.letters() == value.len() && makeup.upper != 1;
    let is_number = makeup.digits == value.len();
    (is_mixed(makeup, value) && value.len() >= PASSWORD_BYTES_MIN && !TECHNICAL.is_match(value.as_bytes()))
        || (is_number && value.len() >= PASSWORD_BYTES_MIN)
        || (is_setting
            && (is_of_letters || makeup.digits > 0 || is_passphrase(value, '-'))
            && value.len() >= PASSWORD_BYTES_MIN)
        || is_passphrase(value, '-')
}

/// In prose a password has to differ from words.
pub(super) fn is_said_password(value: &str) -> bool {
    let makeup = Makeup::of(value);
    let signs = value.bytes().filter(|byte| b"!@#$%^&*+=?~".contains(byte)).count();
    let is_strong = makeup.letters() > 0 && (makeup.digits > 0 || signs > 0 && makeup.changes > 0);
    let is_number = makeup.digits == value.len();
    let is_word = value.ends_with(['!', ')', '%']) && makeup.digits == 0;
    let is_option = value.starts_with('-') || value.contains('\\');
    let is_field = FIELD.is_match(value.as_bytes());
    let is_variable = value.starts_with('$') && value[1..].starts_with(|c: char| c.is_ascii_alphabetic());
    value.len() >= PASSWORD_BYTES_MIN
        && !value.contains(char::is_whitespace)
        && (is_strong || is_number || is_passphrase(value, '-'))
        && !is_word
        && !is_variable
        && !is_option
        && !is_field
        && !TECHNICAL.is_match(value.as_bytes())
        && !ADDRESS.is_match(value.as_bytes())
}

/// Four words or more that do not make a sentence.
fn is_passphrase(value: &str, separator: char) -> bool {
    const OF_SENTENCES: [&str; 24] = [
        "the",
        "must",
        "please",
        "for",
        "and",
        "with",
        "not",
        "are",
        "this",
        "that",
        "least",
        "characters",
        "should",
        "contain",
        "has",
        "have",
        "you",
        "can",
        "cannot",
        "will",
        "when",
        "from",
        "does",
        "was",
    ];
    let words: Vec<&str> = value.split(separator).collect();
    let is_word = |word: &&str| word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    (4..=10).contains(&words.len())
        && words.iter().all(is_word)
        && !words.iter().any(|word| OF_SENTENCES.contains(word))
}

fn has_digits(value: &str) -> bool {
    value.bytes().any(|byte| byte.is_ascii_digit())
}

/// A secret that is no password: drawn, or one of the forms that drawn ones are written in.
pub(super) fn is_secret(value: &str) -> bool {
    !value.contains(char::is_whitespace) && (is_drawn(value) || is_hex(value))
}

/// The same in prose, where letters alone are a name unless they are many.
pub(super) fn is_said_secret(value: &str) -> bool {
    is_secret(value) && (has_digits(value) || value.len() >= LETTERS_OF_SECRET_MIN)
}

/// Hexadecimal digits as they are drawn, with or without the hyphens of a UUID.
fn is_hex(value: &str) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_hexdigit).count();
    let hyphens = value.bytes().filter(|byte| *byte == b'-').count();
    digits >= 16 && digits + hyphens == value.len() && (hyphens == 0 || hyphens == 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        for pattern in [&*TECHNICAL, &*ENCODING, &*FIELD, &*ADDRESS] {
            assert!(!pattern.as_str().is_empty());
        }
    }

    #[test]
    fn words_with_numbers_are_no_passwords_in_prose() {
        for value in
            ["SHA-256", "Argon2id", "HTTP/1.1", "Excel2016", "x86-64", "utf-8", "0b0010", "2024-05-01", "12:30", "arg1"]
        {
            assert!(!is_said_password(value), "{value}");
        }
        for value in ["hunter22", "Winter2024!", "correct-horse-battery-staple", "Tr0ub4dor&3", "482913", "x7Kq2mB9"] {
            assert!(is_said_password(value), "{value}");
        }
    }
}
