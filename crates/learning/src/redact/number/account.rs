//! Numbers of bank accounts (IBAN, ISO 13616): a country's letters, two digits that check the rest, and the length that
//! the country gives them.

use std::ops::Range;

use crate::redact::surroundings::{WALL, begins, ends, hyphen_at, space_at};

/// Countries and the lengths of their numbers, as the registry of SWIFT has them.
const COUNTRIES: [(&str, usize); 89] = [
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BI", 27),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DJ", 27),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FK", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HN", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MN", 20),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NI", 28),
    ("NL", 18),
    ("NO", 15),
    ("OM", 23),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("RU", 33),
    ("SA", 24),
    ("SC", 31),
    ("SD", 18),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("SO", 23),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VA", 22),
    ("VG", 24),
    ("XK", 20),
    ("YE", 30),
];

/// The account whose two digits that check it stand there.
pub(super) fn at(text: &str, digits: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let start = digits.checked_sub(2)?;
    let country = std::str::from_utf8(&bytes[start..digits]).ok()?.to_ascii_uppercase();
    let len = COUNTRIES.iter().find(|(code, _)| *code == country)?.1;
    if !begins(bytes, start) {
        return None;
    }
    let mut number = String::with_capacity(len);
    let mut at = start;
    loop {
        number.push(char::from(*bytes.get(at).filter(|byte| byte.is_ascii_alphanumeric())?));
        at += 1;
        if number.len() == len {
            break;
        }
        at += space_at(bytes, at).or_else(|| hyphen_at(bytes, at)).unwrap_or(0);
    }
    let is_over = ends(bytes, at) && bytes.get(at) != Some(&WALL);
    (is_over && leaves_one(&number)).then_some(start..at)
}

/// ISO 7064, MOD 97-10: the first four characters last, letters as numbers from 10.
fn leaves_one(number: &str) -> bool {
    let rest = number[4..].bytes().chain(number[..4].bytes()).fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte.to_ascii_uppercase() - b'A') + 10) % 97,
    });
    rest == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_is_that_of_the_standard() {
        // The examples of the registry.
        assert!(leaves_one("GB29NWBK60161331926819") && leaves_one("NO9386011117947"));
        assert!(!leaves_one("GB29NWBK60161331926891"));
    }
}
