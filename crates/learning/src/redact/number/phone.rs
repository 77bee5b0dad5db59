//! Telephone numbers: international ones by the plan of their country (ITU-T E.164), national ones by the forms that are
//! common where they are, and any others behind a word that tells of one.

use std::{
    ops::{Range, RangeInclusive},
    sync::LazyLock,
};

use regex::bytes::Regex;

use super::phrase::{Phrase, Separator};
use crate::redact::surroundings::{WALL, begins, line_before, pattern};

/// Bytes before a number that are looked at for words.
const WORDS_BYTES_MAX: usize = 56;
/// Groups that a number is written in, at most.
const GROUPS_MAX: usize = 7;
/// Groups of digits from which on they are a row of numbers.
const ROW_GROUPS: usize = 8;
/// Codes of countries, and the digits that their numbers have with them. Others have any length.
const PLANS: [(&str, RangeInclusive<usize>); 70] = [
    ("1", 11..=11),
    ("7", 11..=11),
    ("20", 11..=12),
    ("27", 11..=11),
    ("30", 12..=12),
    ("31", 11..=11),
    ("32", 10..=11),
    ("33", 11..=11),
    ("34", 11..=11),
    ("36", 10..=11),
    ("39", 8..=13),
    ("40", 11..=11),
    ("41", 11..=11),
    ("43", 8..=15),
    ("44", 11..=12),
    ("45", 10..=10),
    ("46", 9..=12),
    ("47", 10..=10),
    ("48", 11..=11),
    ("49", 9..=14),
    ("51", 10..=11),
    ("52", 12..=13),
    ("54", 12..=13),
    ("55", 12..=13),
    ("56", 11..=11),
    ("57", 10..=12),
    ("58", 12..=12),
    ("60", 10..=12),
    ("61", 11..=11),
    ("62", 10..=14),
    ("63", 11..=12),
    ("64", 10..=12),
    ("65", 10..=10),
    ("66", 10..=11),
    ("81", 11..=12),
    ("82", 10..=12),
    ("84", 11..=12),
    ("86", 11..=13),
    ("90", 12..=12),
    ("91", 12..=12),
    ("92", 11..=12),
    ("94", 11..=11),
    ("98", 12..=12),
    ("212", 12..=12),
    ("233", 12..=12),
    ("234", 11..=13),
    ("254", 12..=12),
    ("351", 12..=12),
    ("352", 8..=12),
    ("353", 10..=12),
    ("354", 10..=10),
    ("356", 11..=11),
    ("357", 11..=11),
    ("358", 8..=13),
    ("359", 11..=12),
    ("370", 11..=11),
    ("371", 11..=11),
    ("372", 10..=11),
    ("375", 12..=12),
    ("380", 12..=12),
    ("381", 11..=12),
    ("385", 11..=12),
    ("386", 11..=11),
    ("420", 12..=12),
    ("421", 12..=12),
    ("852", 11..=11),
    ("886", 11..=12),
    ("966", 12..=12),
    ("971", 11..=12),
    ("972", 11..=12),
];
/// Digits that a number of another country has.
const OTHER_PLAN: RangeInclusive<usize> = 9..=15;

/// What may stand between a word that tells of a number and the number.
const BETWEEN: &str = r#"(?i:[\s:=#\\"'`().*\[\]{}<>/_-]|number|nummer|numero|num|no|nr|is|was|at|on|me|us|him|her|them|my|to|or|under|unter|ist|lautet|est|es|s|：|是){0,14}\z"#;
/// Words that a number follows.
static TOLD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        "(?i:phone|mobile|whats ?app|telefon|handy|rufnummer|hotline|msisdn|celular|t(?:é|e)l(?:é|e)(?:fono|phone)|m(?:ó|o)vil|\
         \\b(?:tel|cell|fax|sms|ph|mob|t(?:é|e)l)|电话|手机|電話|携帯){BETWEEN}"
    ))
});
/// Words that a number may follow, and something else.
static HINTED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        "(?i:\\b(?:call(?:ed|ing)?|text(?:ed)?|dial(?:ed|ing)?|ring|reach(?:ed|able)?|contact|appelez|llamar?|\
         (?:my|his|her|their|our|personal|work|home|private|direct) (?:number|line))){BETWEEN}"
    ))
});

/// A number within a house behind the one of the house.
static EXTENSION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\A,? ?(?:x|ext\.?|extension|durchwahl|poste) ?[0-9]{1,6}"));
/// What is cut short with a dot right before a number.
static ABBREVIATION: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\b(?:tel|fax|ph|mob|no|nr|telefon|mobil)\.\z"));

/// What stands right before the first digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    None,
    Plus,
    Bracket,
}

pub(super) fn at(text: &str, phrase: &Phrase) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let (begin, opening) = match opening(&bytes[..phrase.start()]) {
        // Brackets around more than the first group are of the sentence.
        (_, Opening::Bracket) if phrase.separators(2.min(phrase.len())).next() != Some(Separator::Bracket) => {
            (phrase.start(), Opening::None)
        }
        opening => opening,
    };
    if !is_free(bytes, begin) {
        return None;
    }
    let most = phrase.len().min(GROUPS_MAX);
    let groups = if opening == Opening::Plus || phrase.group(text, 0).starts_with("00") {
        (1..=most).rev().find(|groups| phrase.can_end(text, *groups) && is_international(text, phrase, *groups))
    } else {
        let national = (2..=most)
            .rev()
            .find(|groups| phrase.can_end(text, *groups) && is_national(text, phrase, *groups, opening));
        national.or_else(|| told(text, phrase, begin, most))
    };
    groups.map(|groups| begin..with_extension(bytes, phrase.end_of(groups)))
}

/// Where a number ends with its extension.
fn with_extension(bytes: &[u8], end: usize) -> usize {
    let rest = &bytes[end..bytes.len().min(end + 24)];
    EXTENSION.find(rest).filter(|found| rest.get(found.end()) != Some(&WALL)).map_or(end, |found| end + found.end())
}

/// Where a number begins whose first digit follows, and with what.
fn opening(before: &[u8]) -> (usize, Opening) {
    let (mark, opening) = match before {
        [.., b'(', b'+'] | [.., b'+', b'('] => (2, Opening::Plus),
        [.., b'%', b'2', b'B' | b'b'] => (3, Opening::Plus),
        [.., b'+'] => (1, Opening::Plus),
        [.., b'('] => (1, Opening::Bracket),
        _ => (0, Opening::None),
    };
    (before.len() - mark, opening)
}

/// Whether nothing before a number goes on into it: other digits, a decimal, a price, a name.
fn is_free(bytes: &[u8], begin: usize) -> bool {
    let before = &bytes[..begin];
    let is_joined = match before {
        [.., b'_' | b'#' | b'$' | b'+' | b'^'] | [b'-' | b'.' | b'/'] => true,
        // The signs of currencies.
        [.., 0xc2, 0xa2..=0xa5] | [.., 0xe2, 0x82, 0xac] => true,
        [.., b'0'..=b'9' | WALL, b':'] | [.., WALL, b','] => true,
        [.., before, b'-' | b'/'] => before.is_ascii_alphanumeric() || *before == WALL,
        [.., b'.'] => {
            let word = &before[before.len().saturating_sub(12)..];
            word.contains(&WALL) || !ABBREVIATION.is_match(word)
        }
        // A field of a table, or a thousand.
        [.., b'0'..=b'9', b','] => {
            matches!(bytes[begin..], [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', next, ..] if !matches!(next, b'0'..=b'9' | b'-' | b'/' | b'.'))
        }
        _ => false,
    };
    begins(bytes, begin) && !is_joined
}

fn is_international(text: &str, phrase: &Phrase, groups: usize) -> bool {
    let joined = phrase.joined(text, groups);
    let number = joined.strip_prefix("00").unwrap_or(&joined);
    // A zero in brackets is dialled within the country only.
    let has_zero = groups > 1 && phrase.group(text, 1) == "0";
    let slashes = phrase.separators(groups).filter(|separator| *separator == Separator::Slash).count();
    let plan = PLANS.iter().rev().find(|(code, _)| number.starts_with(code)).map(|(_, plan)| plan);
    // Without a plus, what begins with zeros is more often something else.
    let is_known = plan.is_some() || number.len() == joined.len();
    let is_long = plan.unwrap_or(&OTHER_PLAN).contains(&(number.len() - usize::from(has_zero)));
    // Areas of North America do not begin with these.
    let is_area = !(number.starts_with("10") || number.starts_with("11"));
    // A year of more than four digits (ISO 8601, 4.3.2).
    let is_year =
        matches!(phrase.shape(groups)[..], [5 | 6, 2, 2]) && phrase.is_separated_by(groups, Separator::Hyphen);
    let is_dump = phrase.shape(groups).iter().all(|len| *len == 2) && is_in_dump(text.as_bytes(), phrase, groups);
    let is_decimal =
        phrase.separators(groups).last() == Some(Separator::Dot) && phrase.shape(groups).last() == Some(&1);
    !number.starts_with('0') && is_area && !is_decimal && slashes <= 1 && is_known && is_long && !is_year && !is_dump
}

/// Whether it has the form of numbers of some country.
fn is_national(text: &str, phrase: &Phrase, groups: usize, opening: Opening) -> bool {
    let separators: Vec<Separator> = phrase.separators(groups).collect();
    let is_in_brackets = opening == Opening::Bracket && separators.first() == Some(&Separator::Bracket);
    // A row of numbers goes on before or behind what may look like one.
    let is_spaced = separators.iter().all(|separator| *separator == Separator::Space);
    let is_in_row =
        matches!(text.as_bytes()[..phrase.start()], [.., b'0'..=b'9' | WALL, b' ']) || phrase.len() > ROW_GROUPS;
    if (opening == Opening::Bracket && !is_in_brackets) || (is_spaced && is_in_row) || is_date(text, phrase, groups) {
        return false;
    }
    // A year in brackets behind a volume.
    if separators.last() == Some(&Separator::Bracket) && text.as_bytes().get(phrase.end_of(groups)) == Some(&b')') {
        return false;
    }
    let first = phrase.group(text, 0);
    let is_even = separators.iter().all(|separator| *separator == separators[0]);
    match phrase.shape(groups).as_slice() {
        [3, 3, 4] if !first.starts_with('0') => is_american(first, phrase.group(text, 1), &separators),
        [1, 3, 3, 4] if first == "1" => is_american(phrase.group(text, 1), phrase.group(text, 2), &separators[1..]),
        // Brazil.
        [2, 4 | 5, 4] if is_in_brackets && !first.starts_with('0') => true,
        // Russia.
        [3, 3, 2, 2] => is_in_brackets,
        [1, 3, 3, 2, 2] => matches!(first, "7" | "8") && (is_even || separators.contains(&Separator::Bracket)),
        // Mobile ones of China.
        [3, 4, 4] if first.starts_with('1') => {
            is_even && !first.starts_with("10") && !first.starts_with("11") && !first.starts_with("12")
        }
        shape => first.starts_with('0') && is_with_trunk(text, phrase, shape, &separators),
    }
}

/// Area and exchange of North America begin with no 0 or 1.
fn is_american(area: &str, exchange: &str, separators: &[Separator]) -> bool {
    let is_valid = |code: &str| code.starts_with(|c: char| ('2'..='9').contains(&c));
    let [.., between, last] = separators else { return false };
    let is_joined = matches!(last, Separator::Hyphen | Separator::Dot | Separator::Space);
    let is_even = between == last || matches!(between, Separator::Bracket | Separator::Space | Separator::Slash);
    is_valid(area) && is_valid(exchange) && is_joined && is_even
}

/// The zero that long-distance numbers begin with in most of the world, an area or a network, and the rest.
fn is_with_trunk(text: &str, phrase: &Phrase, shape: &[usize], separators: &[Separator]) -> bool {
    let first = phrase.group(text, 0);
    let digits: usize = shape.iter().sum();
    let is_of_pairs = shape.iter().all(|len| *len == 2);
    let has_dots = separators.contains(&Separator::Dot);
    let is_dotted = separators.iter().all(|separator| *separator == Separator::Dot)
        && (is_of_pairs || matches!(shape.len(), 3 | 4));
    // The code of a place in the United States.
    let is_place = matches!(shape, [5, 4]) && separators == [Separator::Hyphen];
    let rest: Vec<&str> = (1..shape.len()).map(|index| phrase.group(text, index)).collect();
    // A column of numbers that are filled up with zeros, or counted up.
    let is_table =
        shape.len() > 2 && shape.iter().all(|len| *len == shape[0]) && rest.iter().all(|group| group.starts_with('0'));
    let numbers: Vec<u32> = (0..shape.len()).filter_map(|index| phrase.group(text, index).parse().ok()).collect();
    let is_counted = is_of_pairs && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let is_dump = is_of_pairs && is_in_dump(text.as_bytes(), phrase, shape.len());
    (9..=12).contains(&digits)
        && !is_dump
        && !is_place
        && (2..=6).contains(&first.len())
        && !first.starts_with("00")
        && shape[1..].iter().all(|len| (2..=8).contains(len))
        && (!is_of_pairs || shape.len() == 5)
        && (!has_dots || is_dotted)
        && !is_table
        && !is_counted
}

/// Whether pairs of digits stand among others that are hexadecimal, as bytes that were printed do.
fn is_in_dump(bytes: &[u8], phrase: &Phrase, groups: usize) -> bool {
    let (start, end) = (phrase.start(), phrase.end_of(groups));
    let is_pair = |pair: &[u8]| pair.iter().all(u8::is_ascii_hexdigit);
    let is_alone = |beside: Option<&u8>| !beside.is_some_and(u8::is_ascii_alphanumeric);
    let is_before = match &bytes[..start] {
        [rest @ .., one, other, b' '] => is_pair(&[*one, *other]) && is_alone(rest.last()),
        _ => false,
    };
    let is_after = match &bytes[end..] {
        [b' ', one, other, rest @ ..] => is_pair(&[*one, *other]) && is_alone(rest.first()),
        _ => false,
    };
    let around = bytes[start.saturating_sub(4)..start].iter().chain(&bytes[end..bytes.len().min(end + 4)]);
    let is_walled = around.into_iter().any(|byte| *byte == WALL);
    is_before || is_after || is_walled
}

/// Whether the first groups are a day, a month and a year in some order.
fn is_date(text: &str, phrase: &Phrase, groups: usize) -> bool {
    let separators: Vec<Separator> = phrase.separators(groups).take(2).collect();
    let [one, other] = separators[..] else { return false };
    let is_joined = one == other && matches!(one, Separator::Dot | Separator::Slash | Separator::Hyphen);
    let shape = phrase.shape(3);
    let is_small =
        |index: usize, most: u32| phrase.group(text, index).parse::<u32>().is_ok_and(|part| (1..=most).contains(&part));
    let is_day_first = matches!(shape[..], [1 | 2, 1 | 2, 4 | 2]) && is_small(0, 31) && is_small(1, 31);
    let is_year_first = matches!(shape[..], [4, 2, 2]) && is_small(1, 12) && is_small(2, 31);
    // A number of five pairs begins like a date as well.
    let is_of_pairs = shape == [2, 2, 2] && groups == 5;
    is_joined && (is_day_first || is_year_first) && !is_of_pairs
}

/// `555-0173`, as people of one town tell each other.
fn is_local(phrase: &Phrase, groups: usize) -> bool {
    phrase.shape(groups) == [3, 4] && phrase.is_separated_by(groups, Separator::Hyphen)
}

/// How many groups are a number since words before it say so.
fn told(text: &str, phrase: &Phrase, begin: usize, most: usize) -> Option<usize> {
    let line = line_before(text, begin, WORDS_BYTES_MAX).as_bytes();
    let is_told = TOLD.is_match(line);
    let is_hinted = !is_told && HINTED.is_match(line);
    if !(is_told || is_hinted) {
        return None;
    }
    (1..=most).rev().find(|groups| {
        let digits = phrase.digits_of(*groups);
        // What programs count has ten digits and begins with 1: seconds since 1970.
        let is_time = *groups == 1 && phrase.group(text, 0).starts_with('1') && matches!(digits, 10 | 13);
        let is_long = if is_told {
            (7..=15).contains(&digits)
        } else {
            (9..=12).contains(&digits) && !is_time || is_local(phrase, *groups)
        };
        let is_decimal = *groups == 2 && phrase.is_separated_by(2, Separator::Dot);
        is_long && !is_decimal && phrase.can_end(text, *groups) && !is_date(text, phrase, *groups)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        for pattern in [&*TOLD, &*HINTED, &*EXTENSION, &*ABBREVIATION] {
            assert!(!pattern.as_str().is_empty());
        }
    }
}
