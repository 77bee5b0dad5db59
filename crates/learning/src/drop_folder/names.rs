//! Which names are read, and what a file was called before it was rotated. Nothing here touches a file.

/// How a file of events ends.
const ENDING: &str = ".jsonl";
/// Digits that make a date, so that `worker-1.jsonl` is a file of its own and `worker-20260101.jsonl` one that was rotated.
const DATE_DIGITS_MIN: usize = 8;

/// Whether files of this name are read: `x.jsonl`, and what rotation makes of it by counting or dating, `x.jsonl.1`,
/// `x.jsonl-20260101`, `x-20260101.jsonl`, `x.1.jsonl`. Hidden files and compressed ones are not.
pub(super) fn is_read(name: &str) -> bool {
    !name.starts_with('.') && (name.ends_with(ENDING) || counted(name).is_some())
}

/// What a rotated file was called before; nothing for a file that bears its own name.
pub(super) fn unrotated(name: &str) -> Option<String> {
    counted(name).map(str::to_owned).or_else(|| dated(name).map(|stem| format!("{stem}{ENDING}")))
}

/// `x.jsonl` of `x.jsonl.1`.
fn counted(name: &str) -> Option<&str> {
    let end = name.rfind(ENDING)? + ENDING.len();
    let (base, rest) = name.split_at(end);
    let is_counted = rest.starts_with(is_separator) && rest.chars().all(is_of_date) && rest.contains(is_digit);
    (is_counted && base != ENDING).then_some(base)
}

/// `x` of `x-20260101.jsonl` and of `x.1.jsonl`.
fn dated(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(ENDING)?;
    let undated = stem.trim_end_matches(is_of_date);
    let rest = &stem[undated.len()..];
    let begin = undated.len() + rest.find(is_separator)?;
    let (stem, rest) = stem.split_at(begin);
    let digits = rest.chars().filter(|character| is_digit(*character)).count();
    let is_count = rest.starts_with('.') && digits + 1 == rest.len();
    ((is_count && digits > 0 || digits >= DATE_DIGITS_MIN) && !stem.is_empty()).then_some(stem)
}

fn is_digit(character: char) -> bool {
    character.is_ascii_digit()
}

fn is_separator(character: char) -> bool {
    matches!(character, '.' | '-' | '_')
}

/// What counts and dates are made of: `2026-01-01T10:00:00Z`.
fn is_of_date(character: char) -> bool {
    is_digit(character) || is_separator(character) || matches!(character, 'T' | 'Z' | ':' | '+')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_of_events_are_read_under_their_own_name_and_rotated() {
        let own =
            ["x.jsonl", "a b.jsonl", "worker-1.jsonl", "\u{1f980}.jsonl", "x.jsonl.jsonl", "x2.jsonl", "-1.jsonl"];
        for name in own {
            assert!(is_read(name), "{name}");
            assert_eq!(unrotated(name), None, "{name}");
        }
        for (name, base) in [
            ("x.jsonl.1", "x.jsonl"),
            ("x.jsonl.20260101", "x.jsonl"),
            ("x.jsonl-2026-01-01T10:00:00Z", "x.jsonl"),
            ("x.jsonl_3", "x.jsonl"),
            ("x-20260101.jsonl", "x.jsonl"),
            ("x2-2026-01-01.jsonl", "x2.jsonl"),
            ("a.b.12.jsonl", "a.b.jsonl"),
            ("x.jsonl.1.2", "x.jsonl"),
        ] {
            assert!(is_read(name), "{name}");
            assert_eq!(unrotated(name).as_deref(), Some(base), "{name}");
        }
        for name in [
            "",
            "x",
            ".jsonl",
            ".x.jsonl",
            ".jsonl.1",
            "x.json",
            "x.jsonl.gz",
            "x.jsonl.1.gz",
            "x.jsonl.tmp",
            "x.jsonl~",
            "x.jsonl.",
            "x.jsonl.-",
            "x.jsonl1",
            "x.jsonl.T",
            "x.JSONL",
            "dead-letters",
        ] {
            assert!(!is_read(name), "{name}");
        }
    }

    proptest! {
        /// A file that was rotated is read as the one that it was, and has been rotated once.
        #[test]
        fn whatever_the_name_is(name in "[x0-9TZ:+._\u{e9}-]{0,12}(\\.jsonl)?[0-9.T_-]{0,6}(\\.jsonl)?") {
            if let Some(base) = unrotated(&name) {
                prop_assert!(base.ends_with(ENDING) && base.len() < name.len(), "{name} {base}");
            }
        }
    }
}
