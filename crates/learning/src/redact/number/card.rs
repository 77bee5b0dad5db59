//! Numbers of payment cards (ISO/IEC 7812): the length and the beginning that an issuer gives them, and a check digit.

use std::{
    ops::{Range, RangeInclusive},
    sync::LazyLock,
};

use regex::bytes::Regex;

use super::phrase::{Phrase, Separator};
use crate::redact::surroundings::{begins, line_before, pattern};

/// Beginnings of six digits, and the lengths of the numbers that have them.
const ISSUERS: [(RangeInclusive<u32>, &[usize]); 13] = [
    // Visa.
    (400_000..=499_999, &[16, 19]),
    // Mastercard.
    (510_000..=559_999, &[16]),
    (222_100..=272_099, &[16]),
    // American Express.
    (340_000..=349_999, &[15]),
    (370_000..=379_999, &[15]),
    // Discover.
    (601_100..=601_199, &[16, 19]),
    (644_000..=659_999, &[16, 19]),
    // JCB.
    (352_800..=358_999, &[16, 19]),
    // Diners Club.
    (300_000..=305_999, &[14, 16]),
    (360_000..=369_999, &[14]),
    (380_000..=399_999, &[14, 16]),
    // UnionPay.
    (620_000..=629_999, &[16, 17, 18, 19]),
    // Maestro.
    (500_000..=509_999, &[16, 18, 19]),
];
/// What tells of a card.
static WORDS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)card|karte|carte|tarjeta|visa|maestro|unionpay|credit|debit|\bpan\b|\bcc\b|银联|卡号")
});
/// How the digits of a card are grouped on it.
const SHAPES: [&[usize]; 7] =
    [&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 4, 3], &[6, 13], &[4, 4, 4, 2], &[4, 4, 4, 4, 2]];

pub(super) fn at(text: &str, phrase: &Phrase) -> Option<Range<usize>> {
    (1..=phrase.len().min(5)).rev().find_map(|groups| {
        let digits = phrase.digits_of(groups);
        let is_grouped = groups == 1 || SHAPES.contains(&phrase.shape(groups).as_slice());
        let is_even = [Separator::Space, Separator::Hyphen].iter().any(|s| phrase.is_separated_by(groups, *s));
        if !(14..=19).contains(&digits) || !is_grouped || !is_even || !phrase.can_end(text, groups) {
            return None;
        }
        let number = phrase.joined(text, groups);
        // Nearly all cards have 16 digits at most, and a number of a program has 19 often.
        let is_told = groups > 1 || digits <= 16 || WORDS.is_match(line_before(text, phrase.start(), 40).as_bytes());
        let is_card = is_told && is_alone(text, phrase.start()) && is_issued(&number) && has_check_digit(&number);
        is_card.then(|| phrase.range(groups))
    })
}

/// Whether no other number goes on into this one.
fn is_alone(text: &str, start: usize) -> bool {
    let bytes = text.as_bytes();
    begins(bytes, start) && !matches!(bytes[..start], [.., b'.' | b'-' | b'_' | b'+' | b'$' | b'#'])
}

fn is_issued(number: &str) -> bool {
    let Ok(beginning) = number[..6].parse() else { return false };
    ISSUERS.iter().any(|(range, lengths)| range.contains(&beginning) && lengths.contains(&number.len()))
}

/// ISO/IEC 7812-1, annex B, known by the name of Luhn. Zeros throughout have it too.
fn has_check_digit(number: &str) -> bool {
    let sum: u32 = number
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte - b'0');
            if place % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        assert!(!WORDS.as_str().is_empty());
    }

    #[test]
    fn the_check_digit_is_that_of_the_standard() {
        // The example of ISO/IEC 7812-1, and the same with two digits exchanged.
        assert!(has_check_digit("49927398716") && !has_check_digit("49927398176"));
    }
}
