//! What happens too often for a line of the log each: it is counted, and told in one line now and then.
//!
//! Where it matters who it comes from, the networks it came from most are told too. Of any number of them a few are counted
//! at a time, so that whoever has many addresses fills no memory, and hides nobody who does it often.

use std::{
    fmt::{Display, Write},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Networks that are counted at a time.
const COUNTED_MAX: usize = 64;
/// Networks that are told.
const TOLD_MAX: usize = 5;

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
    from: Frequent,
}

/// The networks that something came from most, after Misra and Gries, "Finding repeated elements" (1982): of those that it came
/// from more often than one time in [`COUNTED_MAX`] and one none is missed, and no count is too high.
struct Frequent(Vec<(IpAddr, u64)>);

impl Tally {
    pub(crate) const fn new(sentence: (&'static str, &'static str), code: &'static str, every: Duration) -> Self {
        Self {
            sentence,
            code,
            every,
            counts: Mutex::new(Counts { told: None, by_word: Vec::new(), from: Frequent(Vec::new()) }),
        }
    }

    /// Counts one more, and tells of all since the last time unless that was only just.
    pub(crate) fn note(&self, word: &'static str) {
        self.note_from(word, None);
    }

    /// The same of one that came from a network, if it came from one.
    pub(crate) fn note_from(&self, word: &'static str, network: Option<IpAddr>) {
        let mut counts = self.lock();
        match counts.by_word.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.by_word.push((word, 1)),
        }
        if let Some(network) = network {
            counts.from.count(network);
        }
        drop(counts);
        self.tell();
    }

    /// Tells of what is left of a burst. To be called now and then, or it would be told with the next one.
    pub(crate) fn tell(&self) {
        let mut counts = self.lock();
        if counts.by_word.is_empty() || counts.told.is_some_and(|told| told.elapsed() < self.every) {
            return;
        }
        counts.told = Some(Instant::now());
        let by_word = std::mem::take(&mut counts.by_word);
        let networks = counts.from.take_most();
        drop(counts);
        let count: u64 = by_word.iter().map(|(_, count)| count).sum();
        let reasons = listed(&by_word);
        let ((begin, rest), code) = (self.sentence, self.code);
        if networks.is_empty() {
            tracing::warn!(count, code, reasons, "{begin} {count} {rest} ({reasons})");
        } else {
            let networks = listed(&networks);
            tracing::warn!(
                count,
                code,
                reasons,
                networks,
                "{begin} {count} {rest} ({reasons}), most of them from {networks}"
            );
        }
    }

    /// The networks that are counted now.
    #[cfg(test)]
    pub(crate) fn networks(&self) -> Vec<IpAddr> {
        self.lock().from.0.iter().map(|(network, _)| *network).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frequent {
    fn count(&mut self, network: IpAddr) {
        if let Some((_, count)) = self.0.iter_mut().find(|(known, _)| *known == network) {
            *count += 1;
        } else if self.0.len() < COUNTED_MAX {
            self.0.push((network, 1));
        } else {
            self.0.retain_mut(|(_, count)| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// Those with the most, which are counted anew from here on.
    fn take_most(&mut self) -> Vec<(String, u64)> {
        let mut counted = std::mem::take(&mut self.0);
        counted.sort_unstable_by_key(|(network, count)| (std::cmp::Reverse(*count), *network));
        counted.truncate(TOLD_MAX);
        let shown = |network: IpAddr| if network.is_ipv6() { format!("{network}/64") } else { network.to_string() };
        counted.into_iter().map(|(network, count)| (shown(network), count)).collect()
    }
}

/// As `unknown 12, missing 3`.
fn listed(by_word: &[(impl Display, u64)]) -> String {
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

    /// Networks of documentation (RFC 5737, RFC 3849).
    fn network(number: u32) -> IpAddr {
        if number.is_multiple_of(2) {
            return std::net::Ipv4Addr::from_bits(0xc000_0200 + number).into();
        }
        std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + (u128::from(number) << 64)).into()
    }

    /// What is logged meanwhile.
    #[derive(Clone, Default)]
    struct Lines(std::sync::Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_line_says_where_they_come_from() {
        let lines = Lines::default();
        let (told, tally) = (lines.clone(), Tally::new(("refused", "requests"), "some_code", Duration::ZERO));
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || lines.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            tally.note_from("unknown", Some(network(2)));
            tally.note("unknown");
        });
        let told = String::from_utf8(told.0.lock().unwrap().clone()).unwrap();
        let (first, second) = told.split_once('\n').unwrap();
        assert!(first.contains("refused 1 requests (unknown 1), most of them from 192.0.2.2 1"), "{told}");
        assert!(second.contains("refused 1 requests (unknown 1)") && !second.contains("from"), "{told}");
    }

    #[test]
    fn the_networks_with_the_most_are_found_among_any_number() {
        let mut from = Frequent(Vec::new());
        for round in 0..1_000 {
            from.count(network(2));
            from.count(network(3));
            from.count(network(2));
            // Each once: they fill what is counted, and are told of nobody.
            from.count(network(10 + round));
            assert!(from.0.len() <= COUNTED_MAX);
        }
        let most = from.take_most();
        assert_eq!(most.len(), TOLD_MAX);
        assert_eq!((most[0].0.as_str(), most[1].0.as_str()), ("192.0.2.2", "2001:db8:0:3::/64"));
        assert!((1_900..=2_000).contains(&most[0].1) && (900..=1_000).contains(&most[1].1), "{most:?}");
        assert!(from.take_most().is_empty(), "it began anew");
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
