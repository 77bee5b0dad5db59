//! Which of some hundred phrases a text has, in one pass over it: one search for each would be slow in a long log.

use std::sync::LazyLock;

use super::errors::{ALL_WELL, CONSEQUENCES, PHRASES, WITHIN};

/// Lists of phrases by a hash of their first two bytes.
const BUCKETS: usize = 1_024;
/// Phrases that can be told apart.
const PHRASES_MAX: usize = 256;

static MATCHER: LazyLock<Matcher> = LazyLock::new(|| {
    let consequences = CONSEQUENCES.iter().copied();
    let phrases = PHRASES.iter().map(|(phrase, _)| *phrase);
    Matcher::new(phrases.chain(consequences).chain(ALL_WELL.iter().copied()).chain(WITHIN.iter().copied()))
});

struct Matcher {
    buckets: Vec<Vec<(usize, &'static str)>>,
}

impl Matcher {
    fn new(phrases: impl Iterator<Item = &'static str>) -> Self {
        let mut buckets = vec![Vec::new(); BUCKETS];
        for (number, phrase) in phrases.enumerate().take(PHRASES_MAX) {
            if let [first, second, ..] = phrase.as_bytes() {
                buckets[bucket(*first, *second)].push((number, phrase));
            }
        }
        Self { buckets }
    }
}

const fn bucket(first: u8, second: u8) -> usize {
    (first as usize * 31 + second as usize) % BUCKETS
}

/// The phrases that a text has.
pub(in crate::fingerprint) struct Seen {
    bits: [u64; PHRASES_MAX / 64],
}

impl Seen {
    /// Looks through a text in small letters.
    pub(in crate::fingerprint) fn new(lower: &str) -> Self {
        let matcher = &*MATCHER;
        let bytes = lower.as_bytes();
        let mut bits = [0; PHRASES_MAX / 64];
        for (at, pair) in bytes.windows(2).enumerate() {
            for (number, phrase) in &matcher.buckets[bucket(pair[0], pair[1])] {
                if bytes[at..].starts_with(phrase.as_bytes()) {
                    bits[number / 64] |= 1 << (number % 64);
                }
            }
        }
        Self { bits }
    }

    fn has(&self, number: usize) -> bool {
        self.bits[number / 64] & (1 << (number % 64)) != 0
    }

    /// The first phrase of [`PHRASES`] that the text has, and its class.
    pub(in crate::fingerprint) fn phrase(&self) -> Option<&'static (&'static str, &'static str)> {
        (0..PHRASES.len()).find(|number| self.has(*number)).map(|number| &PHRASES[number])
    }

    /// Whether it has one of [`CONSEQUENCES`].
    pub(in crate::fingerprint) fn has_consequence(&self) -> bool {
        let start = PHRASES.len();
        (start..start + CONSEQUENCES.len()).any(|number| self.has(number))
    }

    /// Those of [`ALL_WELL`] that it has.
    pub(in crate::fingerprint) fn all_well(&self) -> impl Iterator<Item = &'static str> {
        let start = PHRASES.len() + CONSEQUENCES.len();
        ALL_WELL.iter().enumerate().filter(move |(number, _)| self.has(start + number)).map(|(_, phrase)| *phrase)
    }

    /// Whether it has one of [`WITHIN`].
    pub(in crate::fingerprint) fn is_marked(&self) -> bool {
        let start = PHRASES.len() + CONSEQUENCES.len() + ALL_WELL.len();
        (start..start + WITHIN.len()).any(|number| self.has(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_what_a_search_would_find() {
        let count = PHRASES.len() + CONSEQUENCES.len() + ALL_WELL.len() + WITHIN.len();
        assert!(count <= PHRASES_MAX, "{count}");
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let tables = [CONSEQUENCES, ALL_WELL, WITHIN];
        let all: Vec<&str> =
            PHRASES.iter().map(|(phrase, _)| *phrase).chain(tables.into_iter().flatten().copied()).collect();
        for _ in 0..3_000 {
            let text: String = (0..random.usize(..4))
                .map(|_| {
                    let phrase = all[random.usize(..all.len())];
                    phrase[..random.usize(..=phrase.len())].to_owned()
                })
                .collect();
            let seen = Seen::new(&text);
            assert_eq!(seen.phrase(), PHRASES.iter().find(|(phrase, _)| text.contains(phrase)), "{text}");
            assert_eq!(seen.has_consequence(), CONSEQUENCES.iter().any(|phrase| text.contains(phrase)), "{text}");
            assert!(seen.all_well().eq(ALL_WELL.iter().filter(|phrase| text.contains(**phrase)).copied()), "{text}");
            assert_eq!(seen.is_marked(), WITHIN.iter().any(|phrase| text.contains(phrase)), "{text}");
        }
    }
}
