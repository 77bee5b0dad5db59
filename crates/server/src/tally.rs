//! What happens too often for a line of the log each: it is counted, and told in one line now and then.

use std::{
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A line that is told now and then. The words of its counts are few: they come from the program.
pub(crate) struct Tally {
    /// How the sentence begins and how it goes on after the count.
    sentence: (&'static str, &'static str),
    code: &'static str,
    /// How often it is told at most.
    every: Duration,
    counts: Mutex<Counts>,
}

/// When it was told last, and what came since.
struct Counts {
    told: Option<Instant>,
    by_word: Vec<(&'static str, u64)>,
}

impl Tally {
    pub(crate) const fn new(sentence: (&'static str, &'static str), code: &'static str, every: Duration) -> Self {
        Self { sentence, code, every, counts: Mutex::new(Counts { told: None, by_word: Vec::new() }) }
    }

    /// Counts one more, and tells of all since the last time unless that was only just.
    pub(crate) fn note(&self, word: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.by_word.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.by_word.push((word, 1)),
        }
        drop(counts);
        self.tell();
    }

    /// Tells of what is left of a burst. To be called now and then, or it would be told with the next one.
    pub(crate) fn tell(&self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.by_word.is_empty() || counts.told.is_some_and(|told| told.elapsed() < self.every) {
            return;
        }
        counts.told = Some(Instant::now());
        let by_word = std::mem::take(&mut counts.by_word);
        drop(counts);
        let count: u64 = by_word.iter().map(|(_, count)| count).sum();
        let reasons = listed(&by_word);
        let ((begin, rest), code) = (self.sentence, self.code);
        tracing::warn!(count, code, reasons, "{begin} {count} {rest} ({reasons})");
    }
}

/// As `unknown 12, missing 3`.
fn listed(by_word: &[(&'static str, u64)]) -> String {
    let mut text = String::new();
    for (word, count) in by_word {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{word} {count}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(tally: &Tally) -> String {
        listed(&tally.counts.lock().unwrap().by_word)
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_together() {
        let tally = Tally::new(("refused", "requests"), "some_code", Duration::from_secs(3_600));
        tally.note("one");
        assert_eq!(left(&tally), "", "it was told");
        for word in ["one", "two", "one"] {
            tally.note(word);
        }
        tally.tell();
        assert_eq!(left(&tally), "one 2, two 1", "it is too soon");
        tally.counts.lock().unwrap().told = None;
        tally.tell();
        assert_eq!(left(&tally), "");
    }
}
