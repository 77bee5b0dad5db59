//! How long to wait before the next start. Counts failures; it does not wait.

use std::time::Duration;

use crate::spec::{Jitter, Restart};

/// Failures in a row, and the pause that follows from them.
#[derive(Debug)]
pub(crate) struct Backoff {
    restart: Restart,
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new(restart: Restart, random: fastrand::Rng) -> Self {
        Self { restart, failures: 0, random }
    }

    /// The number of the start that comes next, from 1 on.
    pub(crate) fn attempt(&self) -> u32 {
        self.failures.saturating_add(1)
    }

    /// Counts a failure, and says how long to wait after it.
    pub(crate) fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let longest = self.longest();
        match self.restart.jitter {
            Jitter::None => longest,
            Jitter::Full => longest.mul_f64(self.random.f64()),
        }
    }

    /// Whether pauses have stopped growing.
    pub(crate) fn is_at_longest(&self) -> bool {
        self.failures > 0 && self.longest() == self.restart.longest
    }

    /// Forgets the failures.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The longest pause after so many failures.
    fn longest(&self) -> Duration {
        let doubled = 2_u32.checked_pow(self.failures.saturating_sub(1));
        let grown = doubled.and_then(|factor| self.restart.first.checked_mul(factor));
        grown.unwrap_or(self.restart.longest).min(self.restart.longest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backoff(jitter: Jitter, seed: u64) -> Backoff {
        let restart = Restart {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            jitter,
            healthy_after: Duration::from_secs(60),
        };
        Backoff::new(restart, fastrand::Rng::with_seed(seed))
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = backoff(Jitter::None, 0);
        let pauses: Vec<u64> = (0..9).map(|_| backoff.failed().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!((backoff.attempt(), backoff.is_at_longest()), (10, true));
        backoff.reset();
        assert_eq!((backoff.attempt(), backoff.is_at_longest()), (1, false));
        assert_eq!(backoff.failed(), Duration::from_secs(1));
    }

    #[test]
    fn chance_takes_anything_up_to_the_pause() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut backoff = backoff(Jitter::Full, seed);
        for _ in 0..6 {
            backoff.failed();
        }
        let pauses: Vec<f64> = (0..2_000).map(|_| backoff.failed().as_secs_f64()).collect();
        assert!(pauses.iter().all(|pause| (0.0..=60.0).contains(pause)));
        let mean = pauses.iter().sum::<f64>() / 2_000.0;
        // Six standard errors of the mean of a uniform distribution (60 / √12 / √2000).
        assert!((mean - 30.0).abs() < 6.0 * 0.388, "{mean}");
        assert!(pauses.iter().any(|pause| *pause < 6.0) && pauses.iter().any(|pause| *pause > 54.0));
    }

    proptest! {
        #[test]
        fn no_number_of_failures_is_too_many(first_ms in 1_u64..=u64::MAX, more_ms: u64, failures: u32) {
            let (first, longest) = (Duration::from_millis(first_ms), Duration::from_millis(first_ms.saturating_add(more_ms)));
            let restart = Restart { first, longest, jitter: Jitter::Full, healthy_after: Duration::ZERO };
            let mut backoff = Backoff { restart, failures, random: fastrand::Rng::with_seed(1) };
            prop_assert!(backoff.failed() <= longest);
            prop_assert!(backoff.longest() >= first);
        }
    }
}
