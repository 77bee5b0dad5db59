//! Known errors: the same failure has the same fingerprint, whenever and wherever it happens.
//!
//! A text is cleaned of what terminals and logs add ([`clean`], [`prefix`]), searched for what tells of a failure
//! ([`find`]), and what was found is freed of what changes from one time to the next ([`normal`]). Nothing here knows
//! where a text is from, or keeps anything. The time is linear in what is looked at, which is [`END_BYTES_MAX`] from
//! either end of a text.
//!
//! Two fingerprints are the same where class and normal form are. What is a form's own, such as the missing module's name,
//! the code or the status, tells failures apart; so a rule that took more out would mix up different failures, and one that
//! took less out would not know a failure again. A change of the rules changes ids: [`RULES`] says which ones they are.

mod clean;
mod find;
mod normal;
mod prefix;
mod words;

#[cfg(test)]
mod tests;

pub use clean::END_BYTES_MAX;

use std::collections::HashSet;

use find::{Found, Weight};
use prefix::Line;

/// The version of the rules; it is part of every id, since ids of different rules do not compare.
pub const RULES: u32 = 1;
/// Bytes that an excerpt may have, about.
pub const EXCERPT_BYTES_MAX: usize = 1_200;
/// Messages of one text that are freed of what changes; further ones are left out.
const DIFFERENT_MAX: usize = 2_000;
/// Hexadecimal digits of an id: 128 bits, so that no two failures share one by chance.
const ID_DIGITS: usize = 32;
/// Lines of an excerpt, from the beginning of what was found and from its end.
const EXCERPT_LINES: (usize, usize) = (4, 8);
/// Bytes of one line of an excerpt.
const EXCERPT_LINE_BYTES_MAX: usize = 240;

/// A failure, known again by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Hexadecimal digits of a BLAKE3 hash over class and normal form.
    pub id: String,
    /// What kind of failure: the class of an exception, a code, a name of an errno, `exit status 1`, or `error`.
    pub class: String,
    /// What the message says, without what changes; for people to read.
    pub normal: String,
    /// The lines it was found in, cleaned, shortened where they are many.
    pub excerpt: String,
}

/// The failure that a text tells of; nothing where it tells of none.
///
/// Of several it is the one that says most: a trace before a line that names a class or a code, this before a line that
/// is only marked as an error, and that before one which only says that something else failed. Among alike ones it is the
/// first.
pub fn fingerprint(text: &str) -> Option<Fingerprint> {
    find_all(text, 1).pop()
}

/// The failures that a text tells of, each once, the one that says most in front; `max` of them.
///
/// Lines which only say that something else failed count where there is nothing else.
pub fn find_all(text: &str, max: usize) -> Vec<Fingerprint> {
    let cleaned = clean::clean(text);
    let lines: Vec<Line<'_>> = cleaned.lines().map(Line::new).collect();
    let mut found = find::find(&lines);
    // Stable: among alike ones the first stays in front.
    found.sort_by_key(|found| std::cmp::Reverse(found.weight));
    let is_known = found.first().is_some_and(|best| best.weight > Weight::Consequence);
    let mut fingerprints: Vec<Fingerprint> = Vec::new();
    let mut seen = HashSet::new();
    for found in &found {
        let is_enough = fingerprints.len() >= max || seen.len() >= DIFFERENT_MAX;
        if is_enough || (is_known && found.weight == Weight::Consequence) {
            break;
        }
        // Most errors that repeat do so letter by letter, and need not be freed of anything to be known.
        if !seen.insert((found.class.as_str(), found.message.as_str())) {
            continue;
        }
        let made = made(found, &lines);
        if fingerprints.iter().all(|known| known.id != made.id) {
            fingerprints.push(made);
        }
    }
    fingerprints
}

fn made(found: &Found, lines: &[Line<'_>]) -> Fingerprint {
    let normal = normal::normal(&found.message, found.names);
    let normal = if normal.is_empty() { found.class.clone() } else { normal };
    let id = id(&found.class, &normal);
    let excerpt = excerpt(&lines[found.lines.start.min(lines.len())..found.lines.end.min(lines.len())]);
    Fingerprint { id, class: found.class.clone(), normal, excerpt }
}

fn id(class: &str, normal: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&RULES.to_le_bytes());
    hasher.update(class.to_lowercase().as_bytes());
    // No class has it, so that no two pairs run together to the same bytes.
    hasher.update(&[0]);
    hasher.update(normal::folded(normal).as_bytes());
    hasher.finalize().to_hex().as_str()[..ID_DIGITS].to_owned()
}

/// Lines as they were, the middle of many left out.
fn excerpt(lines: &[Line<'_>]) -> String {
    let (first, last) = EXCERPT_LINES;
    let mut excerpt = String::new();
    for (at, line) in lines.iter().enumerate() {
        let is_left_out = at >= first && at + last < lines.len();
        if is_left_out {
            if at == first {
                excerpt.push_str("…\n");
            }
            continue;
        }
        let whole = line.whole.trim_end();
        let shown = &whole[..whole.floor_char_boundary(EXCERPT_LINE_BYTES_MAX)];
        if excerpt.len() + shown.len() > EXCERPT_BYTES_MAX {
            break;
        }
        excerpt.push_str(shown);
        excerpt.push_str(if shown.len() < whole.len() { "…\n" } else { "\n" });
    }
    excerpt.truncate(excerpt.trim_end().len());
    excerpt
}
