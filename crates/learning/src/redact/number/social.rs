//! Social security numbers of the United States: three, two and four digits, none of the groups of zeros.

use std::{ops::Range, sync::LazyLock};

use regex::bytes::Regex;

use super::phrase::{Phrase, Separator};
use crate::redact::surroundings::{begins, line_before, pattern};

/// Bytes before a number that are looked at for words.
const WORDS_BYTES_MAX: usize = 48;
/// What tells of one that is written without hyphens.
static WORDS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?i:\bssn|social[ _-]?security(?:[ _-]?(?:number|no|num|nr))?)(?:[\s:=#"'().]|is|was|number|no|num){0,12}\z"#,
    )
});

pub(super) fn at(text: &str, phrase: &Phrase) -> Option<Range<usize>> {
    let is_told = || WORDS.is_match(line_before(text, phrase.start(), WORDS_BYTES_MAX).as_bytes());
    let groups = match phrase.shape(phrase.len().min(3)).as_slice() {
        [3, 2, 4] if phrase.is_separated_by(3, Separator::Hyphen) => 3,
        [3, 2, 4] if phrase.is_separated_by(3, Separator::Space) && is_told() => 3,
        [9, ..] if is_told() => 1,
        _ => return None,
    };
    let number = phrase.joined(text, groups);
    let (area, group, serial) = (&number[..3], &number[3..5], &number[5..]);
    let is_valid = area != "000" && area != "666" && !area.starts_with('9') && group != "00" && serial != "0000";
    let bytes = text.as_bytes();
    let is_alone =
        begins(bytes, phrase.start()) && !matches!(bytes[..phrase.start()], [.., b'-' | b'.' | b'_' | b'/' | b'+']);
    (is_valid && is_alone && phrase.can_end(text, groups)).then(|| phrase.range(groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        assert!(!WORDS.as_str().is_empty());
    }
}
