//! Pairs of texts that tell of the same failure, pairs that do not, texts that tell of none, and texts by an attacker.

mod differ;
mod hostile;
mod many_tools;
mod more_tools;
mod none;
mod same;
mod several;
mod shown;

use super::*;

/// The fingerprint of a text that has one.
fn of(text: &str) -> Fingerprint {
    match fingerprint(text) {
        Some(fingerprint) => fingerprint,
        None => panic!("no error is found in: {text}"),
    }
}

/// Holds a table against a check, and tells of every line that fails.
fn all<T>(table: &[T], check: impl Fn(&T) -> Result<(), String>) {
    let wrong: Vec<String> = table.iter().filter_map(|line| check(line).err()).collect();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

/// What is told of a text whose fingerprint is not as expected.
fn told(text: &str) -> String {
    match fingerprint(text) {
        Some(found) => format!("    [{}] {}\n        in {:?}", found.class, found.normal, found.excerpt),
        None => format!("    nothing in {text:?}"),
    }
}

/// Holds pairs against each other: both have a fingerprint, and it is the same or it is not.
fn pairs(table: &[(&str, &str, &str)], are_same: Same) {
    all(table, |(name, one, other)| {
        let ids = [one, other].map(|text| fingerprint(text).map(|found| found.id));
        match &ids {
            [Some(one_id), Some(other_id)] if (one_id == other_id) == (are_same == Same::Yes) => Ok(()),
            _ => Err(format!("{name}\n{}\n{}", told(one), told(other))),
        }
    });
}

/// Whether pairs are the same failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Same {
    Yes,
    No,
}

/// Texts that have no fingerprint.
fn nothing(table: &[&str]) {
    all(table, |text| if fingerprint(text).is_none() { Ok(()) } else { Err(format!("{text:?}\n{}", told(text))) });
}
