//! Passwords and other secrets that are told by a name: assigned in code and settings, given on a command line, or said.
//!
//! First a name is found that tells of a secret ([`name`]), then how it is bound to what follows, then the value
//! ([`literal`]), and last whether that is one ([`judge`]): `password = "sesame"` is, and "the password is wrong" has none.

use std::{ops::Range, sync::LazyLock};

use regex::bytes::Regex;

use super::{
    Finding, Kind,
    issued::is_aws_secret,
    judge,
    literal::{Literal, literal_at},
    name::told_by,
    surroundings::{WALL, after_escape, line_before, pattern},
};

/// Bytes that a name may have on either side of what it is found by.
const NAME_BYTES_MAX: usize = 64;
/// Bytes that the word before `key` may have.
const PURPOSE_BYTES_MAX: usize = 16;
/// Bytes behind a name that are looked at for a binding, and before it for a value.
const BINDING_BYTES_MAX: usize = 160;
/// Bytes that a secret that is no password has behind a sign, in a sentence, and as the next word.
const ASSIGNED_BYTES_MIN: usize = 8;
const SAID_BYTES_MIN: usize = 12;
const FOLLOWING_BYTES_MIN: usize = 16;
/// What follows an option where one is written about.
const OF_MANUALS: [&str; 12] = [
    "argument",
    "arguments",
    "command",
    "option",
    "options",
    "parameter",
    "parameters",
    "setting",
    "settings",
    "switch",
    "should",
    "instead",
];

/// What names are found by.
static STEM: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        "(?i:pass|pwd|secret|token|key|credential|creds|kennwort|senha|contrase(?:ñ|n)as?|wachtwoord|sessionid|phpsessid|\
         csrf|xsrf|psk|identified by|mot de passe)|(?:\\b|_)(?i:pw)\\b|[?&]sig=|пароль|Пароль|密码|密碼|パスワード",
    )
});

/// How a name is bound to the value behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binding {
    /// By a sign, or the form of a file: `name = value`, `"name": "value"`, `<name>value</name>`.
    Assigned,
    /// By a sentence: the name is the value.
    Said,
    /// By nothing: the value follows.
    Following,
}

/// What a form asks for beside its signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// Quotation marks around the value.
    Mark,
    /// The same, and a name that takes a secret: much is called `pass` that does not.
    Call,
    /// The same, and a value that is no other name: in a list of names it would be.
    List,
    /// The marks of an element around the name and behind the value.
    Element,
}

/// A form in which a value follows a name.
struct Form {
    binding: Binding,
    needs: Needs,
    /// What stands between them.
    between: Regex,
}

impl Form {
    fn new(binding: Binding, needs: Needs, between: &str) -> Self {
        Self { binding, needs, between: pattern(between) }
    }
}

/// The forms that are known.
static FORMS: LazyLock<[Form; 9]> = LazyLock::new(|| {
    [
        // A sign; before it the name's closing mark, brackets, a remark, a type; behind it the mark of bold print.
        Form::new(
            Binding::Assigned,
            Needs::Nothing,
            r#"\A(?:\\{0,8}["'`]{1,3}|[*_]{1,3})?[\])]{0,2}(?:[ \t]\([A-Za-z0-9 ,._-]{1,40}\))?[ \t]{0,20}(?::[ \t]{0,4}(?:&'static |const |mut )?[&A-Za-z_][A-Za-z0-9_:&<>'\[\]|]{0,40}[ \t]=|[!=]={1,2}|:?=>?|<-|->|:|→|⇒|：|是|为|は)(?:\*\*|__)?[ \t]{0,20}"#,
        ),
        // A pair of fields: `"name": "DB_PASSWORD", "value": "…"`, in YAML, JSON and XML, and as options.
        Form::new(
            Binding::Assigned,
            Needs::Nothing,
            r#"\A\\{0,8}["']?\s{0,8},?\s{0,40}(?i:\\{0,8}["']?value\\{0,8}["']?\s{0,4}[:=]\s{0,4}|-value[ \t]{1,4})"#,
        ),
        // An argument behind another: `("password", "…")`.
        Form::new(Binding::Assigned, Needs::List, r#"\A\\{0,8}["'`]\s{0,3},\s{0,8}"#),
        // The argument itself: `setPassword("…")`.
        Form::new(Binding::Assigned, Needs::Call, r"\A\([ \t]{0,4}"),
        // A type without spaces: `password: str="…"`.
        Form::new(Binding::Assigned, Needs::Mark, r"\A:[ \t]{0,4}[A-Za-z_][A-Za-z0-9_\[\]]{0,40}="),
        // The text of an element.
        Form::new(Binding::Assigned, Needs::Element, r"\A>\s{0,8}"),
        // A sentence, with some words of where or whose the secret is.
        Form::new(
            Binding::Said,
            Needs::Nothing,
            r#"\A(?:\\{0,8}["'`]|[*_]{1,2})?(?:[ \t]\(?[A-Za-z0-9'@./-]{1,24}\)?,?){0,6}?(?:[ \t](?:is|was|equals|to|as|ist|war|lautet|est|es|é|=)(?:[ \t](?:now|currently|still|just|set to|reset to|changed to|jetzt))?:?|:)[ \t]{1,4}"#,
        ),
        // The value on the next line, or in the next cell.
        Form::new(
            Binding::Following,
            Needs::Nothing,
            r#"\A(?:[*_`]{0,3}:[*_]{0,2}[ \t]{0,4}(?:\r?\n[ \t>]{0,8}){1,2}|[*_`]{0,3}[ \t]{0,40}\|[ \t]{0,40})"#,
        ),
        // The value as the next word.
        Form::new(Binding::Following, Needs::Nothing, r#"\A(?:\\{0,8}["'`]|[*_]{1,2})?[ \t]{1,4}\(?"#),
    ]
});
/// A value before its name: "use … as the password".
static BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"[\s"'`(]([^\s"'`(]{6,64})["'`]?[ \t]as(?:[ \t](?:the|your|my|a|its|new|root|admin)){0,2}[ \t]\z"#)
});

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(stem) = STEM.find_at(bytes, from) {
        from = stem.end();
        let Some(name) = name_around(text, stem.range()) else { continue };
        from = name.end.max(from);
        let Some(kind) = told_by(&text[name.clone()]) else { continue };
        let told = Told { text, name, kind };
        found.extend(told.values());
        found.extend(told.value_before());
    }
}

/// The whole name that a stem is in; nothing where it is too long for one, or a wall stands beside it.
fn name_around(text: &str, stem: Range<usize>) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    // What has spaces or other letters is a name by itself.
    if !bytes[stem.clone()].iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
        let is_query = matches!(bytes[stem.start], b'?' | b'&');
        let is_walled = bytes[..stem.start].last() == Some(&WALL) || bytes.get(stem.end) == Some(&WALL);
        return (!is_walled).then_some(if is_query { stem.start + 1..stem.end - 1 } else { stem });
    }
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let before = bytes[..stem.start].iter().rev().take(NAME_BYTES_MAX + 1).take_while(|byte| is_of_name(byte)).count();
    let after = bytes[stem.end..].iter().take(NAME_BYTES_MAX + 1).take_while(|byte| is_of_name(byte)).count();
    if before > NAME_BYTES_MAX || after > NAME_BYTES_MAX {
        return None;
    }
    let is_wall = |at: Option<usize>| at.and_then(|at| bytes.get(at)) == Some(&WALL);
    let is_walled = is_wall((stem.start - before).checked_sub(1)) || is_wall(Some(stem.end + after));
    let start = after_escape(bytes, stem.start - before, stem.start);
    let name = text[start..stem.end + after].trim_end_matches(['-', '.']);
    let end = start + name.len();
    let start = end - name.trim_start_matches(['-', '.']).len();
    let start = with_purpose(bytes, start, &text[start..end]);
    (!is_walled && start <= stem.start && end >= stem.end).then_some(start..end)
}

/// Where the name of a key begins that is written as two words: it is told by what it is for, as in `API key`.
fn with_purpose(bytes: &[u8], start: usize, name: &str) -> usize {
    let is_key = name.eq_ignore_ascii_case("key") || name.eq_ignore_ascii_case("keys");
    let Some(before) = bytes[..start].strip_suffix(b" ").filter(|_| is_key) else { return start };
    let word = before.iter().rev().take(PURPOSE_BYTES_MAX + 1).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let start_of_word = before.len() - word;
    let is_walled = before[..start_of_word].last() == Some(&WALL);
    if (1..=PURPOSE_BYTES_MAX).contains(&word) && !is_walled { start_of_word } else { start }
}

/// A name that tells of a secret.
struct Told<'a> {
    text: &'a str,
    name: Range<usize>,
    kind: Kind,
}

impl Told<'_> {
    /// The values that the name tells of: one for each form that what follows has. Usually that is one.
    fn values(&self) -> impl Iterator<Item = Finding> {
        let rest = &self.text.as_bytes()[self.name.end..];
        let rest = &rest[..rest.len().min(BINDING_BYTES_MAX)];
        FORMS.iter().filter_map(move |form| {
            let at = self.name.end + form.between.find(rest)?.end();
            let literal = literal_at(self.text, at)?;
            let is_found = !literal.is_cut && self.is_bound(form, &literal) && self.is_secret(form.binding, &literal);
            is_found.then(|| Finding { kind: self.kind_of(&self.text[literal.range.clone()]), range: literal.range })
        })
    }

    /// The value that stands before the name.
    fn value_before(&self) -> Option<Finding> {
        let line = line_before(self.text, self.name.start, BINDING_BYTES_MAX);
        let value = BEFORE.captures(line.as_bytes())?.get(1)?;
        let start = self.name.start - line.len();
        let range = start + value.start()..start + value.end();
        let value = self.text.get(range.clone())?;
        let is_secret = match self.kind {
            Kind::Password => judge::is_said_password(value),
            _ => value.len() >= SAID_BYTES_MIN && judge::is_said_secret(value),
        };
        (is_secret && !judge::is_none(value)).then(|| Finding { kind: self.kind_of(value), range })
    }

    /// Whether a form that fits what follows the name makes it the name's value.
    fn is_bound(&self, form: &Form, literal: &Literal) -> bool {
        let name = &self.text[self.name.clone()];
        let value = &self.text[literal.range.clone()];
        // `$PASSWORD` is given to something there, and not what follows. One passes other things than passwords.
        let is_used = matches!(self.before_name(), Some(b'$' | b'{' | b'%'));
        let is_verb = form.binding == Binding::Following && name.eq_ignore_ascii_case("pass");
        // In SQL a user is identified by a password, and elsewhere by anything.
        let is_of_sql = name.eq_ignore_ascii_case("identified by");
        let is_given = match form.needs {
            Needs::Nothing => true,
            Needs::Mark => literal.is_quoted,
            Needs::Call => literal.is_quoted && !name.ends_with("pass"),
            Needs::List => literal.is_quoted && !judge::is_of_letters(value),
            Needs::Element => {
                matches!(self.before_name(), Some(b'<' | b':')) && self.text[literal.range.end..].starts_with('<')
            }
        };
        let is_other = is_verb
            || (is_used && form.binding != Binding::Assigned)
            || (is_of_sql && !literal.is_quoted)
            || self.is_in_path();
        is_given && !is_other
    }

    fn is_secret(&self, binding: Binding, literal: &Literal) -> bool {
        let value = &self.text[literal.range.clone()];
        // An option is bound to what follows it.
        let is_argument = binding == Binding::Following && self.is_option();
        let binding = if is_argument { Binding::Assigned } else { binding };
        let next = self.text.as_bytes().get(literal.range.end).copied();
        let is_code = || judge::is_code(value, next) || (self.kind == Kind::Secret && judge::is_type(value));
        if judge::is_none(value) || (is_argument && OF_MANUALS.contains(&value)) || (!literal.is_quoted && is_code()) {
            return false;
        }
        match (self.kind, binding) {
            (Kind::Password, Binding::Assigned) if literal.is_quoted => judge::is_quoted_password(value),
            (Kind::Password, Binding::Assigned) => {
                // A number that a statement ends behind is one to a program.
                let is_setting = self.is_setting();
                let is_constant = !is_setting && next == Some(b';') && value.bytes().all(|byte| byte.is_ascii_digit());
                !is_constant && judge::is_bare_password(value, is_setting)
            }
            (Kind::Password, _) => judge::is_said_password(value),
            (_, Binding::Assigned) => value.len() >= ASSIGNED_BYTES_MIN && judge::is_secret(value),
            (_, Binding::Said) => value.len() >= SAID_BYTES_MIN && judge::is_said_secret(value),
            (_, Binding::Following) => {
                // Times, digests and fields of a log come after the word as well.
                let is_field = value.contains(':') || value.trim_end_matches('=').contains('=');
                value.len() >= FOLLOWING_BYTES_MIN && judge::is_said_secret(value) && !is_field
            }
        }
    }

    fn kind_of(&self, value: &str) -> Kind {
        let name = self.text[self.name.clone()].to_ascii_lowercase();
        let is_of_aws = self.kind == Kind::Secret && (name.contains("aws") || name.contains("secret"));
        if is_of_aws && is_aws_secret(value) { Kind::AwsSecretKey } else { self.kind }
    }

    fn before_name(&self) -> Option<u8> {
        self.name.start.checked_sub(1).map(|at| self.text.as_bytes()[at])
    }

    /// Whether the name is a step of a path with colons, as in the names of resources and of types.
    fn is_in_path(&self) -> bool {
        let bytes = self.text.as_bytes();
        let before = &bytes[..self.name.start];
        before.ends_with(b"::")
            || before.ends_with(&[WALL, b':'])
            || (before.ends_with(b":") && bytes.get(self.name.end) == Some(&b':'))
    }

    /// Whether the name is an option of a command: `--password`.
    fn is_option(&self) -> bool {
        let before = &self.text.as_bytes()[..self.name.start];
        before.ends_with(b"--") && before.len().checked_sub(3).is_none_or(|at| !matches!(before[at], b'-' | WALL))
    }

    /// Whether the name stands where a setting does and no variable: it begins a line or a field of a URL, is exported
    /// or is an option, and a sign is right behind it.
    fn is_setting(&self) -> bool {
        let bytes = self.text.as_bytes();
        let before = &bytes[self.name.start.saturating_sub(8)..self.name.start];
        let is_placed = self.is_option()
            || before.last().is_none_or(|byte| matches!(byte, b'\n' | b'?' | b'&' | b';' | b'"' | b'\''))
            || [&b"export "[..], b"set ", b"ENV ", b"-e "].iter().any(|word| before.ends_with(word));
        is_placed && matches!(bytes.get(self.name.end), Some(b'=' | b' '))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        for pattern in [&*STEM, &*BEFORE] {
            assert!(!pattern.as_str().is_empty());
        }
        assert!(FORMS.iter().all(|form| form.between.as_str().starts_with("\\A")), "a form begins behind the name");
    }
}
