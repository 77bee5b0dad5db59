//! A circuit breaker (Nygard 2007): after some failures within a time, nothing more is tried until a pause is over; then
//! one attempt decides.
//!
//! It is told the time and what happened; it does not wait, call or log.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// So many failures open it,
    pub failures: usize,
    /// within this time.
    pub within: Duration,
    /// How long it stays open before one attempt is let through.
    pub pause: Duration,
}

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Closed,
    /// One attempt is under way and decides.
    HalfOpen,
    /// Nothing.
    Open,
}

/// Whether something that fails may be tried.
#[derive(Debug)]
pub struct Breaker {
    settings: Settings,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    failures: VecDeque<Instant>,
    opened_at: Option<Instant>,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: Settings) -> Self {
        let inner = Inner { state: State::Closed, failures: VecDeque::new(), opened_at: None };
        Self { settings, inner: Mutex::new(inner) }
    }

    /// What it lets through now.
    pub fn state(&self) -> State {
        self.lock().state
    }

    /// Notes a success, which closes it.
    pub fn succeeded(&self) {
        let mut inner = self.lock();
        if inner.state != State::Closed {
            inner.failures.clear();
        }
        inner.state = State::Closed;
        inner.opened_at = None;
    }

    /// Notes a failure; whether that opened it.
    pub fn failed(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        inner.failures.push_back(now);
        while inner.failures.front().is_some_and(|at| now.saturating_duration_since(*at) > self.settings.within) {
            inner.failures.pop_front();
        }
        let opens = match inner.state {
            State::Closed => inner.failures.len() >= self.settings.failures,
            State::HalfOpen => true,
            // Attempts that were under way when it opened change nothing.
            State::Open => false,
        };
        if opens {
            inner.state = State::Open;
            inner.opened_at = Some(now);
        }
        opens
    }

    /// Opens it at once, whatever came before: what it guards is known to be wrong.
    pub fn open(&self, now: Instant) {
        let mut inner = self.lock();
        inner.state = State::Open;
        inner.opened_at = Some(now);
    }

    /// How long it stays open still; nothing where it is not open.
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        let inner = self.lock();
        let opened = inner.opened_at.filter(|_| inner.state == State::Open)?;
        Some((opened + self.settings.pause).saturating_duration_since(now))
    }

    /// Asks for the one attempt that decides. Only one caller gets it, and has to tell how it went.
    pub fn try_half_open(&self, now: Instant) -> bool {
        if self.open_for(now) != Some(Duration::ZERO) {
            return false;
        }
        let mut inner = self.lock();
        let granted = inner.state == State::Open;
        if granted {
            inner.state = State::HalfOpen;
        }
        granted
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while holding the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(Settings { failures: 3, within: 60 * SECOND, pause: 10 * SECOND }), Instant::now())
    }

    #[test]
    fn failures_within_the_time_open_it_and_one_attempt_decides() {
        let (breaker, start) = breaker();
        assert!(!breaker.failed(start) && !breaker.failed(start + SECOND));
        assert!(breaker.failed(start + 2 * SECOND));
        assert_eq!((breaker.state(), breaker.open_for(start + 5 * SECOND)), (State::Open, Some(7 * SECOND)));
        assert!(!breaker.try_half_open(start + 11 * SECOND));
        assert!(breaker.try_half_open(start + 12 * SECOND));
        assert!(!breaker.try_half_open(start + 12 * SECOND), "one at a time");
        assert!(breaker.failed(start + 13 * SECOND), "it failed again");
        assert!(breaker.try_half_open(start + 23 * SECOND));
        breaker.succeeded();
        assert_eq!((breaker.state(), breaker.open_for(start + 24 * SECOND)), (State::Closed, None));
        assert!(!breaker.failed(start + 24 * SECOND), "old failures are forgotten");
    }

    #[test]
    fn it_can_be_opened_at_once() {
        let (breaker, start) = breaker();
        breaker.open(start);
        assert_eq!((breaker.state(), breaker.open_for(start)), (State::Open, Some(10 * SECOND)));
    }

    #[test]
    fn failures_far_apart_do_not_open_it() {
        let (breaker, start) = breaker();
        for round in 0..20 {
            assert!(!breaker.failed(start + round * 31 * SECOND), "{round}");
        }
    }

    #[test]
    fn late_failures_of_what_was_under_way_do_not_prolong_the_pause() {
        let (breaker, start) = breaker();
        for _ in 0..3 {
            breaker.failed(start);
        }
        assert!(!breaker.failed(start + 9 * SECOND));
        assert!(breaker.try_half_open(start + 10 * SECOND));
    }
}
