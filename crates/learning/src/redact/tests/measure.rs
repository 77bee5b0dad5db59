//! How well findings agree with what was planted.
//!
//! Strict where it matters: a planted thing counts as found only when all of its bytes are, and every finding counts as
//! wrong that has no byte of one.

use std::{collections::BTreeMap, fmt, ops::Range};

use super::corpus::Sample;

/// What became of the things of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// How many were planted, and of these how many were found.
    pub planted: usize,
    pub found: usize,
    /// How many findings are of this kind, and of these how many are of something planted.
    pub findings: usize,
    pub right: usize,
}

impl Count {
    pub fn recall(&self) -> f64 {
        self.found as f64 / self.planted.max(1) as f64
    }

    pub fn precision(&self) -> f64 {
        if self.findings == 0 { 1.0 } else { self.right as f64 / self.findings as f64 }
    }
}

/// What became of all of them.
#[derive(Debug, Default)]
pub struct Measured {
    pub kinds: BTreeMap<&'static str, Count>,
    pub decoys: usize,
    /// Of what was found, how much has its own kind.
    pub named_right: usize,
    /// Bytes of what was planted, and bytes of right findings beyond it.
    pub planted_bytes: usize,
    pub excess_bytes: usize,
    /// What was not found and what was found wrongly, with what stands around it.
    pub missed: Vec<String>,
    pub wrong: Vec<String>,
}

impl Measured {
    pub fn total(&self) -> Count {
        self.kinds.values().fold(Count::default(), |total, count| Count {
            planted: total.planted + count.planted,
            found: total.found + count.found,
            findings: total.findings + count.findings,
            right: total.right + count.right,
        })
    }
}

/// Measures what finds kinds and ranges in a text.
pub fn measure(samples: &[Sample], find: impl Fn(&str) -> Vec<(&'static str, Range<usize>)>) -> Measured {
    let mut measured = Measured::default();
    for sample in samples {
        let findings = find(&sample.text);
        measured.decoys += sample.decoys.len();
        for item in &sample.planted {
            let covering =
                findings.iter().find(|(_, range)| range.start <= item.range.start && item.range.end <= range.end);
            let count = measured.kinds.entry(item.what).or_default();
            count.planted += 1;
            count.found += usize::from(covering.is_some());
            measured.planted_bytes += item.range.len();
            match covering {
                Some((kind, range)) => {
                    measured.named_right += usize::from(*kind == item.what);
                    measured.excess_bytes += range.len() - item.range.len();
                }
                None => measured.missed.push(shown(&sample.text, item.what, &item.range)),
            }
        }
        for (kind, range) in &findings {
            let is_right =
                sample.planted.iter().any(|item| item.range.start < range.end && range.start < item.range.end);
            let count = measured.kinds.entry(kind).or_default();
            count.findings += 1;
            count.right += usize::from(is_right);
            if !is_right {
                measured.wrong.push(shown(&sample.text, kind, range));
            }
        }
    }
    measured
}

/// Something with what stands around it, on one line.
fn shown(text: &str, what: &str, range: &Range<usize>) -> String {
    let from = text.floor_char_boundary(range.start.saturating_sub(40));
    let to = text.ceil_char_boundary(text.len().min(range.end + 20));
    let value: String = text[range.clone()].chars().take(200).collect();
    format!("{what}: {:?} «{value}» {:?}", &text[from..range.start], &text[range.end..to])
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24}{:>8}{:>8}{:>9}{:>10}{:>8}{:>11}",
            "kind", "planted", "found", "recall", "findings", "right", "precision"
        )?;
        let total = self.total();
        for (kind, count) in self.kinds.iter().chain([(&"all", &total)]) {
            let Count { planted, found, findings, right } = count;
            let (recall, precision) = (count.recall(), count.precision());
            writeln!(f, "{kind:<24}{planted:>8}{found:>8}{recall:>9.4}{findings:>10}{right:>8}{precision:>11.4}")?;
        }
        writeln!(
            f,
            "decoys {}, named right {} of {}, bytes beyond what was planted {} for {}",
            self.decoys, self.named_right, total.found, self.excess_bytes, self.planted_bytes
        )
    }
}
