//! Secrets that are told by their surroundings in one place and stand without them in another: "I set it to …, but … does
//! not work".

use memchr::memmem;

use super::{
    Finding, Kind, merged,
    surroundings::{begins, ends, walled},
    value::Makeup,
};

/// Secrets of one row that are looked for elsewhere in it. Each costs a search through its texts, which takes about as
/// long as copying them; the bound keeps a row of nothing but secrets from taking forever.
const VALUES_MAX: usize = 64;
/// Bytes that such a secret has at least: a shorter one could be a word.
const VALUE_BYTES_MIN: usize = 6;

/// The secrets that have been seen.
#[derive(Default)]
pub(super) struct Repeats {
    values: Vec<(Kind, String)>,
}

impl Repeats {
    /// Keeps the secrets among what was found in a text.
    pub(super) fn learn(&mut self, text: &str, findings: &[Finding]) {
        for Finding { kind, range } in findings {
            let value = &text[range.clone()];
            let is_known = self.values.iter().any(|(_, known)| known == value);
            if self.values.len() < VALUES_MAX && is_told_by_place(*kind) && is_distinct(value) && !is_known {
                self.values.push((*kind, value.to_owned()));
            }
        }
    }

    /// The findings of a text with those of the secrets that stand in it without anything that tells of them.
    pub(super) fn add(&self, text: &str, mut findings: Vec<Finding>) -> Vec<Finding> {
        if self.values.is_empty() {
            return findings;
        }
        let walled = walled(text);
        let bytes = walled.as_bytes();
        let known = findings.len();
        for (kind, value) in &self.values {
            for start in memmem::find_iter(bytes, value) {
                let range = start..start + value.len();
                if begins(bytes, range.start) && ends(bytes, range.end) {
                    findings.push(Finding { kind: *kind, range });
                }
            }
        }
        if findings.len() == known { findings } else { merged(findings) }
    }
}

/// Whether a kind is found by what stands around it. The others are found wherever they are.
fn is_told_by_place(kind: Kind) -> bool {
    matches!(kind, Kind::AwsSecretKey | Kind::Authorization | Kind::UrlPassword | Kind::Password | Kind::Secret)
}

/// Whether a value is no word or number that may stand for something else.
fn is_distinct(value: &str) -> bool {
    let makeup = Makeup::of(value);
    value.len() >= VALUE_BYTES_MIN && makeup.letters() > 0 && makeup.letters() < value.len()
}
