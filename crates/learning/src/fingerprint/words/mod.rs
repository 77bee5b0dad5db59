//! The vocabulary of errors: what classes, codes and phrases there are, and which words say that a name follows.
//!
//! Tables are sorted, for binary search, unless they are short or their order matters; all of them are in small letters
//! unless case is what they are told by.

mod errors;
mod matcher;
mod names;

pub(super) use self::{errors::*, matcher::Seen, names::*};

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Whether a sorted table has a word.
pub(super) fn has(table: &[&str], word: &str) -> bool {
    table.binary_search(&word).is_ok()
}

/// Whether it is a month's short name.
pub(super) fn is_month(word: &str) -> bool {
    MONTHS.iter().any(|month| word.eq_ignore_ascii_case(month))
}

/// Whether it is a weekday's short name.
pub(super) fn is_weekday(word: &str) -> bool {
    WEEKDAYS.iter().any(|day| word.eq_ignore_ascii_case(day))
}

/// Whether a name, of a module or without one, is that of a class of errors: `TypeError`, `java.io.IOException`.
pub(super) fn is_error_class(name: &str) -> bool {
    const ENDINGS: &[&str] = &["Error", "Exception", "Failure", "Fault", "Interrupt"];
    const ALONE: &[&str] = &[
        "DoesNotExist",
        "GeneratorExit",
        "ImproperlyConfigured",
        "MultipleObjectsReturned",
        "StopIteration",
        "SystemExit",
        "TemplateNotFound",
        "UndefinedTable",
    ];
    // Most words are none, which is told without taking them apart.
    let may_be = ENDINGS.iter().chain(ALONE).any(|ending| name.ends_with(ending));
    let last = name.rsplit(['.', ':', '$', '\\']).next().unwrap_or_default();
    let begins = last.starts_with(|c: char| c.is_ascii_uppercase());
    let is_identifier = last.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    may_be && begins && is_identifier && (ENDINGS.iter().any(|ending| last.ends_with(ending)) || ALONE.contains(&last))
}

/// Whether it names an errno or a code of an operating system's kind.
pub(super) fn is_errno(word: &str) -> bool {
    has(ERRNO, word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        let check = |name: &str, table: &[&str]| {
            for pair in table.windows(2) {
                assert!(pair[0] < pair[1], "{name}: {pair:?}");
            }
        };
        check("names", NAMES);
        check("values", VALUES);
        check("users", USERS);
        check("no users", NO_USERS);
        check("codes", CODES);
        check("code prefixes", CODE_PREFIXES);
        check("words with digits", WORDS_WITH_DIGITS);
        check("types", TYPES);
        check("known files", KNOWN_FILES);
        check("file endings", FILE_ENDINGS);
        check("errno", ERRNO);
        check("redis", OF_REDIS);
        check("advice", ADVICE);
        check("code before class", CODE_BEFORE_CLASS);
        check("prose", PROSE);
    }

    #[test]
    fn phrases_and_the_like_are_in_small_letters() {
        let phrases = PHRASES.iter().map(|(phrase, _)| *phrase);
        let others = CONSEQUENCES
            .iter()
            .chain(TROUBLE)
            .chain(PROSE_ENDS)
            .chain(HTTP_REASONS)
            .chain(ALL_WELL)
            .chain(WITHIN)
            .chain(BEGINNINGS)
            .chain(MARKS)
            .copied();
        for phrase in phrases.chain(others) {
            assert_eq!(phrase, phrase.to_ascii_lowercase());
        }
    }
}
