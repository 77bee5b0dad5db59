//! What happens too often for a line of the log each: it is counted, and told in one line now and then.
//!
//! Of many networks that something came from, the few with most of it are told. They are found as Metwally, Agrawal and El
//! Abbadi do (*Efficient computation of frequent and top-k elements in data streams*, ICDT 2005, "Space-Saving"): whoever
//! comes when no more can be remembered takes the place, and the count, of who has the least. So whoever makes more than
//! one in [`NETWORKS_MAX`] of all is never missing, and a flood from ever new addresses takes no memory.

use std::{
    fmt::{Display, Write},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Networks that are remembered between two lines,
const NETWORKS_MAX: usize = 64;
/// and those that a line tells.
const NETWORKS_TOLD: usize = 3;

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
    by_network: Vec<(IpAddr, u64)>,
}

impl Tally {
    pub(crate) const fn new(sentence: (&'static str, &'static str), code: &'static str, every: Duration) -> Self {
        let counts = Counts { told: None, by_word: Vec::new(), by_network: Vec::new() };
        Self { sentence, code, every, counts: Mutex::new(counts) }
    }

    /// Counts one more, and tells of all since the last time unless that was only just.
    pub(crate) fn note(&self, word: &'static str) {
        self.note_from(word, None);
    }

    /// The same of something that came from a network.
    pub(crate) fn note_from(&self, word: &'static str, network: Option<IpAddr>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.by_word.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.by_word.push((word, 1)),
        }
        if let Some(network) = network {
            counts.note_network(network);
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
        let mut by_network = std::mem::take(&mut counts.by_network);
        drop(counts);
        by_network.sort_unstable_by_key(|(network, count)| (std::cmp::Reverse(*count), *network));
        by_network.truncate(NETWORKS_TOLD);
        let count: u64 = by_word.iter().map(|(_, count)| count).sum();
        let reasons = listed(&by_word);
        let ((begin, rest), code) = (self.sentence, self.code);
        if by_network.is_empty() {
            tracing::warn!(count, code, reasons, "{begin} {count} {rest} ({reasons})");
        } else {
            let networks = listed(&by_network);
            tracing::warn!(count, code, reasons, networks, "{begin} {count} {rest} ({reasons}), most from {networks}");
        }
    }
}

impl Counts {
    fn note_network(&mut self, network: IpAddr) {
        if let Some((_, count)) = self.by_network.iter_mut().find(|(known, _)| *known == network) {
            *count += 1;
        } else if self.by_network.len() < NETWORKS_MAX {
            self.by_network.push((network, 1));
        } else if let Some((known, count)) = self.by_network.iter_mut().min_by_key(|(_, count)| *count) {
            *known = network;
            *count += 1;
        }
    }
}

/// As `unknown 12, missing 3`.
fn listed(counts: &[(impl Display, u64)]) -> String {
    let mut text = String::new();
    for (word, count) in counts {
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

    #[test]
    fn the_network_with_most_is_found_in_a_flood_of_others() {
        let tally = Tally::new(("refused", "requests"), "some_code", Duration::from_secs(3_600));
        let worst: IpAddr = "192.0.2.1".parse().unwrap();
        tally.note("told at once");
        for stranger in 0..10_000_u32 {
            tally.note_from("one", Some(IpAddr::from(stranger.to_be_bytes())));
            if stranger % 20 == 0 {
                tally.note_from("one", Some(worst));
            }
        }
        let by_network = tally.counts.lock().unwrap().by_network.clone();
        assert_eq!(by_network.len(), NETWORKS_MAX);
        let (most, count) = by_network.iter().max_by_key(|(_, count)| *count).unwrap();
        // Each count is too high by the least of all at the most.
        assert!(*most == worst && *count >= 500, "{by_network:?}");
    }
}
