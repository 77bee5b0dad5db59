//! Passwords and other secrets that are told by a name: assigned in code and settings, given on a command line, or said.
//!
//! First a name is found that tells of a secret ([`name`]), then how it is bound to what follows, then the value
//! ([`literal`]). The looser the binding, the more a value has to look like a secret by itself: `password = "sesame"` is
//! one, and "the password is wrong" has none.

use std::{ops::Range, sync::LazyLock};

use regex::bytes::Regex;

use super::{
    Finding, Kind,
    issued::is_aws_secret,
    literal::{Literal, literal_at},
    name::told_by,
    surroundings::{WALL, after_escape, pattern},
    value::{Makeup, is_drawn, is_stand_in},
};

/// Bytes that a name may have on either side of what it is found by.
const NAME_BYTES_MAX: usize = 64;
/// Bytes that the word before `key` may have.
const PURPOSE_BYTES_MAX: usize = 16;
/// Bytes behind a name that are looked at for a binding.
const BINDING_BYTES_MAX: usize = 160;
/// Letters alone are a password in a place like `DB_PASSWORD=…` from so many on.
const LETTERS_MIN: usize = 6;
/// Bytes that a secret has in prose.
const SAID_BYTES_MIN: usize = 12;
/// Bytes that a secret has that simply follows its name.
const FOLLOWING_BYTES_MIN: usize = 16;

/// What names are found by.
static STEM: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        "(?i:pass|pwd|secret|token|key|credential|creds|kennwort|senha|contrase(?:ñ|n)as?|wachtwoord|sessionid|phpsessid|\
         csrf|xsrf|psk|identified by|mot de passe)|(?:\\b|_)(?i:pw)\\b|[?&]sig=|пароль|Пароль|密码|密碼|パスワード",
    )
});

/// How a name is bound to the value behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    /// By a sign, or the form of a file: `name = value`, `"name": "value"`, `<name>value</name>`.
    Assigned,
    /// By a sentence: the name is the value.
    Said,
    /// By nothing: the value follows.
    Following,
}

/// The forms of each binding, in the order in which they are tried. What is matched ends where the value begins.
static BINDINGS: LazyLock<[(Binding, Regex); 8]> = LazyLock::new(|| {
    [
        // A sign; before it the name's closing mark, brackets, a remark, a type; behind it the mark of bold print.
        (
            Binding::Assigned,
            pattern(
                r#"\A(?:\\{0,8}["'`]{1,3}|[*_]{1,3})?[\])]{0,2}(?:[ \t]\([A-Za-z0-9 ,._-]{1,40}\))?[ \t]{0,20}(?::[ \t]{0,4}[&A-Za-z_][A-Za-z0-9_:&<>'\[\]| ]{0,40}=|[!=]={1,2}|:?=>?|->|:{1,2}|→|⇒|：|是|为|は)(?:\*\*|__)?[ \t]{0,20}"#,
            ),
        ),
        // A pair of fields: `"name": "DB_PASSWORD", "value": "…"`, in YAML, JSON and XML.
        (
            Binding::Assigned,
            pattern(r#"\A\\{0,8}["']?\s{0,8},?\s{0,40}(?i:\\{0,8}["']?value\\{0,8}["']?\s{0,4}[:=]\s{0,4})"#),
        ),
        // An argument behind another: `("password", "…")`.
        (Binding::Assigned, pattern(r#"\A\\{0,8}["'`]\s{0,3},\s{0,8}"#)),
        // The argument itself: `setPassword("…")`.
        (Binding::Assigned, pattern(r"\A\([ \t]{0,4}")),
        // The text of an element.
        (Binding::Assigned, pattern(r"\A>\s{0,8}")),
        // A sentence, with some words of where or whose the secret is.
        (
            Binding::Said,
            pattern(
                r#"\A(?:\\{0,8}["'`]|[*_]{1,2})?(?:[ \t]\(?[A-Za-z0-9'@./-]{1,24}\)?,?){0,6}?(?:[ \t](?:is|was|equals|to|as|ist|war|lautet|est|es|é|=)(?:[ \t](?:now|currently|still|just|set to|jetzt))?:?|:)[ \t]{1,4}"#,
            ),
        ),
        // The value on the next line, or in the next cell.
        (
            Binding::Following,
            pattern(
                r#"\A(?:[*_`]{0,3}:[*_]{0,2}[ \t]{0,4}(?:\r?\n[ \t>]{0,8}){1,2}|[*_`]{0,3}[ \t]{0,40}\|[ \t]{0,40})"#,
            ),
        ),
        (Binding::Following, pattern(r#"\A(?:\\{0,8}["'`]|[*_]{1,2})?[ \t]{1,4}\(?"#)),
    ]
});
/// Words with a number that are no password: algorithms, formats, versions.
static TECHNICAL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\A(?:sha|md|utf|aes|rsa|hs|rs|es|iso|rfc|oauth|bcrypt|argon|pbkdf|scrypt|ed|http|ipv?|base|win|windows|python|php|tls|ssl|v|x|u|i|uint|int|bytes|float|varchar|char|office|excel|mysql|postgres|version|chapter|page|line|step|arg|param|field|test|str|var|val|value|attempt|user|item)[-_]?v?\d|\A\d{4}-\d{2}-\d{2}|\A\d{1,2}:\d{2}",
    )
});
/// "Send the password to …" is followed by no password.
static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\A[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,64}\.[A-Za-z]{2,16}\z"));

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(stem) = STEM.find_at(bytes, from) {
        from = stem.end();
        let Some(name) = name_around(text, stem.range()) else { continue };
        from = name.end.max(from);
        let Some(kind) = told_by(&text[name.clone()]) else { continue };
        let told = Told { text, name, kind };
        if let Some(finding) = told.value() {
            from = finding.range.end;
            found.push(finding);
        }
    }
}

/// The whole name that a stem is in; nothing where it is too long for one, or a wall stands beside it.
fn name_around(text: &str, stem: Range<usize>) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    // What has spaces or other letters is a name by itself.
    if !bytes[stem.clone()].iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
        let is_query = matches!(bytes[stem.start], b'?' | b'&');
        return Some(if is_query { stem.start + 1..stem.end - 1 } else { stem });
    }
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let before = bytes[..stem.start].iter().rev().take(NAME_BYTES_MAX + 1).take_while(|byte| is_of_name(byte)).count();
    let after = bytes[stem.end..].iter().take(NAME_BYTES_MAX + 1).take_while(|byte| is_of_name(byte)).count();
    if before > NAME_BYTES_MAX || after > NAME_BYTES_MAX {
        return None;
    }
    let start = after_escape(bytes, stem.start - before, stem.start);
    let name = text[start..stem.end + after].trim_end_matches(['-', '.']);
    let end = start + name.len();
    let start = end - name.trim_start_matches(['-', '.']).len();
    let start = with_purpose(bytes, start, &text[start..end]);
    let is_walled = bytes.get(end) == Some(&WALL) || start.checked_sub(1).is_some_and(|at| bytes[at] == WALL);
    (!is_walled && start <= stem.start && end >= stem.end).then_some(start..end)
}

/// Where the name of a key begins that is written as two words: it is told by what it is for, as in `API key`.
fn with_purpose(bytes: &[u8], start: usize, name: &str) -> usize {
    let is_key = name.eq_ignore_ascii_case("key") || name.eq_ignore_ascii_case("keys");
    let Some(before) = bytes[..start].strip_suffix(b" ").filter(|_| is_key) else { return start };
    let word = before.iter().rev().take(PURPOSE_BYTES_MAX + 1).take_while(|byte| byte.is_ascii_alphabetic()).count();
    if (1..=PURPOSE_BYTES_MAX).contains(&word) { before.len() - word } else { start }
}

/// A name that tells of a secret.
struct Told<'a> {
    text: &'a str,
    name: Range<usize>,
    kind: Kind,
}

impl Told<'_> {
    /// The value that the name tells of.
    fn value(&self) -> Option<Finding> {
        let rest = &self.text.as_bytes()[self.name.end..];
        let rest = &rest[..rest.len().min(BINDING_BYTES_MAX)];
        BINDINGS.iter().enumerate().find_map(|(index, (binding, form))| {
            let at = self.name.end + form.find(rest)?.end();
            let literal = literal_at(self.text, at)?;
            let is_in_place = match index {
                2 | 3 => literal.is_quoted,
                4 => matches!(self.before_name(), Some(b'<' | b':')) && self.text[literal.range.end..].starts_with('<'),
                _ => true,
            };
            let is_found = is_in_place && !literal.is_cut && self.is_secret(*binding, &literal);
            is_found.then(|| Finding { kind: self.kind_of(&literal), range: literal.range })
        })
    }

    fn before_name(&self) -> Option<u8> {
        self.name.start.checked_sub(1).map(|at| self.text.as_bytes()[at])
    }

    fn kind_of(&self, literal: &Literal) -> Kind {
        let is_of_aws = self.kind == Kind::Secret && is_aws_secret(&self.text[literal.range.clone()]);
        let name = self.text[self.name.clone()].to_ascii_lowercase();
        if is_of_aws && (name.contains("aws") || name.contains("secret")) { Kind::AwsSecretKey } else { self.kind }
    }

    fn is_secret(&self, binding: Binding, literal: &Literal) -> bool {
        let value = &self.text[literal.range.clone()];
        if is_stand_in(value) || is_place(value) || is_of_name(value) {
            return false;
        }
        // A flag is bound to what follows it.
        let binding = if self.is_flag() { Binding::Assigned } else { binding };
        let next = self.text.as_bytes().get(literal.range.end);
        if !literal.is_quoted && is_code(value, next.copied()) {
            return false;
        }
        match (self.kind, binding) {
            (Kind::Password, Binding::Assigned) if literal.is_quoted => is_quoted_password(value),
            (Kind::Password, Binding::Assigned) => is_bare_password(value, self.is_setting()),
            (Kind::Password, _) => is_said_password(value),
            (_, Binding::Assigned) => value.len() >= 8 && is_secret_text(value),
            (_, Binding::Said) => value.len() >= SAID_BYTES_MIN && is_secret_text(value),
            (_, Binding::Following) => {
                // Times, digests and fields of a log come after the word as well.
                let is_field = value.contains(':') || value.trim_end_matches('=').contains('=');
                value.len() >= FOLLOWING_BYTES_MIN && is_secret_text(value) && !is_field
            }
        }
    }

    /// Whether the name is an option of a command: `--password`.
    fn is_flag(&self) -> bool {
        let before = &self.text.as_bytes()[..self.name.start];
        before.ends_with(b"--") && before.len().checked_sub(3).is_none_or(|at| !matches!(before[at], b'-' | WALL))
    }

    /// Whether the name stands where a setting does and no variable: it begins a line or a field of a URL, is exported
    /// or is an option, and a sign is right behind it.
    fn is_setting(&self) -> bool {
        let bytes = self.text.as_bytes();
        let before = &bytes[self.name.start.saturating_sub(8)..self.name.start];
        let is_placed = self.is_flag()
            || before.last().is_none_or(|byte| matches!(byte, b'\n' | b'?' | b'&' | b';' | b'"' | b'\''))
            || [&b"export "[..], b"set ", b"ENV ", b"-e "].iter().any(|word| before.ends_with(word));
        is_placed && matches!(bytes.get(self.name.end), Some(b'=' | b' '))
    }
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
    has_stem(value) && (is_constant || !value.bytes().any(|byte| byte.is_ascii_digit()))
}

fn has_stem(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token", "credential", "kennwort", "passwort", "api_key", "apikey"]
        .iter()
        .any(|stem| lower.contains(stem))
}

/// Whether a value without quotation marks is an expression: a call, a field, a number with a unit, the start of a list.
fn is_code(value: &str, next: Option<u8>) -> bool {
    let is_identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if value.starts_with(['(', '[', '{', '=', '&', ',', ')', '|']) || value.contains("()") {
        return true;
    }
    let parts: Vec<&str> = value.split(['.', '(', '[', ':', '?', '>', '-']).filter(|part| !part.is_empty()).collect();
    let is_path = parts.iter().all(|part| is_identifier(part.trim_end_matches([')', ']', '!', ';'])));
    let is_call = value.contains(['(', '[']) && is_identifier(parts.first().unwrap_or(&""));
    let is_field = value.contains('.') || value.contains("::") || value.contains("->");
    // A chosen password may have dots and digits; a field that has them is named like what is in it.
    let is_literal = value.bytes().any(|byte| byte.is_ascii_digit()) && !has_stem(value);
    is_call || (is_path && matches!(next, Some(b'(' | b'['))) || (is_path && is_field && !is_literal)
}

/// Letters and digits, or something that words do not have.
fn is_mixed(makeup: Makeup, value: &str) -> bool {
    let has_sign = value
        .bytes()
        .any(|byte| byte.is_ascii_punctuation() && !matches!(byte, b'-' | b'_' | b'.' | b'\'' | b',' | b'/'));
    makeup.letters() > 0 && (makeup.digits > 0 || has_sign)
}

fn is_quoted_password(value: &str) -> bool {
    let makeup = Makeup::of(value);
    if value.contains(char::is_whitespace) {
        return is_passphrase(value, ' ');
    }
    if value.len() < 4 {
        return false;
    }
    // A word with a capital labels a field.
    let is_label = makeup.upper == 1 && value.starts_with(|c: char| c.is_ascii_uppercase());
    let is_of_letters = makeup.letters() == value.len();
    is_mixed(makeup, value)
        || makeup.digits == value.len()
        || (is_of_letters && !is_label && value.len() >= LETTERS_MIN)
        || is_passphrase(value, '-')
        || is_passphrase(value, '_')
        || (!value.is_ascii() && makeup.others * 2 > value.len() && makeup.digits > 0)
}

fn is_bare_password(value: &str, is_setting: bool) -> bool {
    let makeup = Makeup::of(value);
    let is_of_letters = makeup.letters() == value.len() && makeup.upper != 1;
    let is_number = makeup.digits == value.len();
    (is_mixed(makeup, value) && value.len() >= LETTERS_MIN && !TECHNICAL.is_match(value.as_bytes()))
        || (is_number && value.len() >= LETTERS_MIN)
        || (is_setting
            && (is_of_letters || makeup.digits > 0 || is_passphrase(value, '-'))
            && value.len() >= LETTERS_MIN)
        || is_passphrase(value, '-')
}

/// In prose a password has to differ from words.
fn is_said_password(value: &str) -> bool {
    let makeup = Makeup::of(value);
    let is_strong = makeup.letters() > 0 && makeup.digits > 0 || is_mixed(makeup, value) && makeup.changes > 0;
    let is_number = makeup.digits == value.len();
    let is_word = value.ends_with(['!', ')', '%']) && makeup.digits == 0;
    value.len() >= LETTERS_MIN
        && !value.contains(char::is_whitespace)
        && (is_strong || is_number || is_passphrase(value, '-'))
        && !is_word
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

/// A secret that is no password: drawn, or one of the forms that drawn ones are written in.
fn is_secret_text(value: &str) -> bool {
    !value.contains(char::is_whitespace) && (is_drawn(value) || is_hex(value))
}

/// Hexadecimal digits as they are drawn, with or without the hyphens of a UUID.
fn is_hex(value: &str) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_hexdigit).count();
    let hyphens = value.bytes().filter(|byte| *byte == b'-').count();
    digits >= 16 && digits + hyphens == value.len() && (hyphens == 0 || hyphens == 4)
}
