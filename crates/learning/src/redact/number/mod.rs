//! Numbers that tell of a person: of cards, accounts, telephones, social security, and addresses of the Internet.
//!
//! One pass goes from one row of digits to the next and asks what it could be the beginning of. Most are too short for
//! anything, and cost no more than being looked at.

mod account;
mod address;
mod card;
mod phone;
mod phrase;
mod social;

use super::{Finding, Kind};

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    address::find_long(text, found);
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(start) = bytes[from..].iter().position(u8::is_ascii_digit).map(|place| from + place) {
        let end = start + bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let finding = number_at(text, start, end - start);
        from = finding.as_ref().map_or(end, |finding| finding.range.end.max(end));
        found.extend(finding);
    }
}

/// What a row of so many digits is the beginning of.
fn number_at(text: &str, start: usize, digits: usize) -> Option<Finding> {
    let found = |kind: Kind| move |range| Finding { kind, range };
    if digits >= 2
        && let Some(account) = account::at(text, start).map(found(Kind::Iban))
    {
        return Some(account);
    }
    if digits <= 3
        && let Some(address) = address::at(text, start).map(found(Kind::IpAddress))
    {
        return Some(address);
    }
    let phrase = phrase::Phrase::at(text, start);
    if phrase.digits() < 7 {
        return None;
    }
    card::at(text, &phrase)
        .map(found(Kind::CardNumber))
        .or_else(|| social::at(text, &phrase).map(found(Kind::SocialSecurityNumber)))
        .or_else(|| phone::at(text, &phrase).map(found(Kind::PhoneNumber)))
}
