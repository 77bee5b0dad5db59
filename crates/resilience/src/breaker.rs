//! A circuit breaker (Nygard 2007): after some failures within a time, nothing more is tried until a pause is over; then
//! one attempt decides.
//!
//! Whoever tries something has an [`Attempt`], which knows the state it began in: what was under way when that changed
//! says nothing about the new state, so a late success closes nothing and a late failure prolongs nothing.
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

impl State {
    /// The word users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// The number that metrics have for it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
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
    /// How often the state has changed.
    changes: u64,
    failures: VecDeque<Instant>,
    opened_at: Option<Instant>,
}

/// Something that is being tried. Dropped without a word it says nothing, and another may be tried in its place.
#[derive(Debug)]
#[must_use]
pub struct Attempt<'a> {
    breaker: &'a Breaker,
    /// The state it began in.
    changes: u64,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: Settings) -> Self {
        let inner = Inner { state: State::Closed, changes: 0, failures: VecDeque::new(), opened_at: None };
        Self { settings, inner: Mutex::new(inner) }
    }

    /// What it lets through now.
    pub fn state(&self) -> State {
        self.lock().state
    }

    /// Lets an attempt through where everything is.
    pub fn enter(&self) -> Option<Attempt<'_>> {
        let inner = self.lock();
        (inner.state == State::Closed).then(|| Attempt { breaker: self, changes: inner.changes })
    }

    /// Lets the one attempt through that decides, once the pause is over.
    pub fn try_half_open(&self, now: Instant) -> Option<Attempt<'_>> {
        let mut inner = self.lock();
        let left = self.left(&inner, now)?;
        left.is_zero().then(|| {
            inner.change(State::HalfOpen);
            Attempt { breaker: self, changes: inner.changes }
        })
    }

    /// Lets the one attempt through that decides although the pause is not over: something says that it may succeed.
    pub fn try_half_open_early(&self) -> Option<Attempt<'_>> {
        let mut inner = self.lock();
        (inner.state == State::Open).then(|| {
            inner.change(State::HalfOpen);
            Attempt { breaker: self, changes: inner.changes }
        })
    }

    /// How long it stays open still; nothing where it is not open.
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        self.left(&self.lock(), now)
    }

    fn left(&self, inner: &Inner, now: Instant) -> Option<Duration> {
        let opened = inner.opened_at.filter(|_| inner.state == State::Open)?;
        Some((opened + self.settings.pause).saturating_duration_since(now))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while holding the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn change(&mut self, state: State) {
        self.state = state;
        self.changes += 1;
    }

    fn open(&mut self, now: Instant) {
        self.change(State::Open);
        self.opened_at = Some(now);
    }
}

impl Attempt<'_> {
    /// Opens the breaker at once: what it guards is known to be wrong. Whether that changed anything.
    pub fn open(self, now: Instant) -> bool {
        let mut inner = self.breaker.lock();
        let current = inner.changes == self.changes;
        if current {
            inner.open(now);
        }
        current
    }

    /// Notes a success. That of the deciding attempt closes the breaker.
    pub fn succeeded(self) {
        let mut inner = self.breaker.lock();
        if inner.changes == self.changes && inner.state == State::HalfOpen {
            inner.change(State::Closed);
            inner.failures.clear();
            inner.opened_at = None;
        }
    }

    /// Notes a failure; whether that opened the breaker.
    pub fn failed(self, now: Instant) -> bool {
        let Settings { failures, within, .. } = self.breaker.settings;
        let mut inner = self.breaker.lock();
        if inner.changes != self.changes {
            return false;
        }
        inner.failures.push_back(now);
        while inner.failures.front().is_some_and(|at| now.saturating_duration_since(*at) > within) {
            inner.failures.pop_front();
        }
        let opens = inner.state == State::HalfOpen || inner.failures.len() >= failures;
        if opens {
            inner.open(now);
        }
        opens
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut inner = self.breaker.lock();
        if inner.changes == self.changes && inner.state == State::HalfOpen {
            // Since when it is open stays as it was: the next may try at once.
            inner.change(State::Open);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(Settings { failures: 3, within: 60 * SECOND, pause: 10 * SECOND }), Instant::now())
    }

    fn fail(breaker: &Breaker, now: Instant) -> bool {
        breaker.enter().unwrap().failed(now)
    }

    #[test]
    fn failures_within_the_time_open_it_and_one_attempt_decides() {
        let (breaker, start) = breaker();
        assert!(!fail(&breaker, start) && !fail(&breaker, start + SECOND));
        assert!(fail(&breaker, start + 2 * SECOND));
        assert_eq!((breaker.state(), breaker.open_for(start + 5 * SECOND)), (State::Open, Some(7 * SECOND)));
        assert!(breaker.enter().is_none() && breaker.try_half_open(start + 11 * SECOND).is_none());
        let attempt = breaker.try_half_open(start + 12 * SECOND).unwrap();
        assert!(breaker.try_half_open(start + 12 * SECOND).is_none() && breaker.enter().is_none(), "one at a time");
        assert!(attempt.failed(start + 13 * SECOND), "it failed again");
        breaker.try_half_open(start + 23 * SECOND).unwrap().succeeded();
        assert_eq!((breaker.state(), breaker.open_for(start + 24 * SECOND)), (State::Closed, None));
        assert!(!fail(&breaker, start + 24 * SECOND), "old failures are forgotten");
    }

    #[test]
    fn a_sign_of_life_lets_the_deciding_attempt_through_before_the_pause_is_over() {
        let (breaker, start) = breaker();
        assert!(breaker.try_half_open_early().is_none(), "it is closed");
        breaker.enter().unwrap().open(start);
        let attempt = breaker.try_half_open_early().unwrap();
        assert!(breaker.try_half_open_early().is_none(), "one at a time");
        attempt.succeeded();
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn it_can_be_opened_at_once() {
        let (breaker, start) = breaker();
        let late = breaker.enter().unwrap();
        assert!(breaker.enter().unwrap().open(start));
        assert!(!late.open(start + SECOND), "it is open");
        assert_eq!((breaker.state(), breaker.open_for(start)), (State::Open, Some(10 * SECOND)));
    }

    #[test]
    fn failures_far_apart_do_not_open_it() {
        let (breaker, start) = breaker();
        for round in 0..20 {
            assert!(!fail(&breaker, start + round * 31 * SECOND), "{round}");
        }
    }

    #[test]
    fn what_was_under_way_when_it_opened_changes_nothing() {
        let (breaker, start) = breaker();
        let late: Vec<_> = (0..4).map(|_| breaker.enter().unwrap()).collect();
        let [first, second, third, fourth] = late.try_into().unwrap();
        for _ in 0..3 {
            fail(&breaker, start);
        }
        first.succeeded();
        assert_eq!(breaker.state(), State::Open, "a late success is none of the attempt that decides");
        assert!(!second.failed(start + 9 * SECOND), "a late failure does not prolong the pause");
        let attempt = breaker.try_half_open(start + 10 * SECOND).unwrap();
        third.succeeded();
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(!fourth.failed(start + 10 * SECOND));
        attempt.succeeded();
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn an_attempt_that_is_given_up_leaves_its_place_to_another() {
        let (breaker, start) = breaker();
        breaker.enter().unwrap().open(start);
        drop(breaker.try_half_open(start + 10 * SECOND).unwrap());
        assert_eq!(breaker.state(), State::Open);
        breaker.try_half_open(start + 10 * SECOND).unwrap().succeeded();
        drop(breaker.enter().unwrap());
        assert_eq!(breaker.state(), State::Closed);
    }
}
