//! What stands in quotes: a name that the failure is about, a path, a sentence, or a value like any other.

use super::{Names, token};
use crate::fingerprint::words;

/// Bytes within which a quote has to end.
const QUOTE_BYTES_MAX: usize = 400;
/// Bytes that a name may have.
const NAME_BYTES_MAX: usize = 96;

/// Something in quotes.
pub(super) struct Quote<'a> {
    pub inner: &'a str,
    /// All of it, with its marks.
    pub bytes: usize,
    mark: char,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Path,
    /// Several words that tell of a failure themselves.
    Sentence,
    Value,
}

/// The quote that the text begins with. An apostrophe within a word is none.
pub(super) fn quoted(text: &str, last: Option<char>) -> Option<Quote<'_>> {
    let mark = text.chars().next()?;
    let closing: &[char] = match mark {
        '"' => &['"'],
        '\'' => &['\''],
        '`' => &['`', '\''],
        '‘' => &['’'],
        '“' | '„' => &['”', '“'],
        '«' => &['»'],
        _ => return None,
    };
    if last.is_some_and(char::is_alphanumeric) && matches!(mark, '\'' | '’') {
        return None;
    }
    let start = mark.len_utf8();
    let end = text.floor_char_boundary(text.len().min(start + QUOTE_BYTES_MAX));
    let inner = &text[start..end];
    let mut was_backslash = false;
    for (at, character) in inner.char_indices() {
        let after = inner[at + character.len_utf8()..].chars().next();
        // Within a sentence in single quotes, an apostrophe has a letter on both sides.
        let ends = closing.contains(&character)
            && !was_backslash
            && !(mark == '\'' && after.is_some_and(char::is_alphanumeric));
        if ends {
            let bytes = start + at + character.len_utf8();
            return Some(Quote { inner: &inner[..at], bytes, mark });
        }
        if character == '\n' {
            return None;
        }
        was_backslash = character == '\\' && !was_backslash && mark == '"';
    }
    None
}

impl Quote<'_> {
    /// What it is, by its form and by the words around it.
    pub(super) fn kind(&self, before: &str, after: &str, names: Names, was_name: bool) -> Kind {
        let inner = self.inner;
        if inner.is_empty() {
            return Kind::Value;
        }
        let word = before.trim_end_matches(['=', ':', '(', '[', ',']);
        let is_place = token::is_place(inner);
        match names {
            // A header is named by where it lies among others.
            Names::Kept if !token::is_rooted(inner) => return Kind::Name,
            Names::Dropped if self.mark == '`' => return Kind::Value,
            _ => {}
        }
        let is_named =
            words::has(words::NAMES, word) || begins(after.trim_start_matches([':', ' ']), words::AFTER_NAMES);
        if is_place {
            // The name of a module may be where it lies: relative to the one that asks for it.
            return if is_named && inner.starts_with('.') { Kind::Name } else { Kind::Path };
        }
        if token::is_address(inner) {
            return Kind::Value;
        }
        let is_type = words::has(words::TYPES, &inner.to_ascii_lowercase());
        let is_word =
            inner.len() <= NAME_BYTES_MAX && !inner.contains(char::is_whitespace) && has_letter_or_sign(inner);
        if is_type && is_word {
            return Kind::Name;
        }
        // Compilers put what they name in backticks, whatever stands before it.
        if is_word && self.mark == '`' {
            return Kind::Name;
        }
        if words::has(words::VALUES, word) || words::has(words::USERS, word) {
            return Kind::Value;
        }
        let is_identifier = inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        let is_joined = was_name && is_identifier && (matches!(before, "and" | "or") || before.ends_with(','));
        if is_word && (is_named || is_joined) {
            return Kind::Name;
        }
        if self.mark == '`' || tells_of_trouble(inner) { Kind::Sentence } else { Kind::Value }
    }
}

/// A name without what changes in it: folders before it, ids and generated endings, versions.
pub(super) fn name(inner: &str) -> String {
    if token::is_rooted(inner) {
        let base = inner.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or_default();
        return format!("<path>/{}", token::without_ids(base));
    }
    let unversioned = match inner.find(['@', '=', '<', '>', '~', '^']) {
        // `@scope/package` begins with what elsewhere begins a version.
        Some(at) if at > 0 => inner[..at].trim_end(),
        _ => inner,
    };
    let name = if has_letter_or_sign(unversioned) { unversioned } else { inner };
    // The port of a server is not what it is called.
    let port =
        name.rsplit_once(':').filter(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    match port {
        Some((host, _)) => format!("{}:<n>", token::without_ids(host)),
        None => token::without_ids(name),
    }
}

/// Whether it is more than a number.
fn has_letter_or_sign(text: &str) -> bool {
    text.chars().any(|character| !character.is_ascii_digit() && !matches!(character, '.' | '-' | ':' | ','))
}

fn begins(text: &str, table: &[&str]) -> bool {
    table.iter().any(|known| text.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known)))
}

/// Whether it is a sentence, and one that says what failed.
fn tells_of_trouble(text: &str) -> bool {
    const WORDS_MIN: usize = 3;
    if text.split_whitespace().take(WORDS_MIN).count() < WORDS_MIN {
        return false;
    }
    let lower = text.to_ascii_lowercase();
    words::TROUBLE.iter().any(|phrase| lower.contains(phrase))
}
