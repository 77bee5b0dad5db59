//! A circuit breaker (Nygard 2007): after too many failures within a time, nothing more is tried until a pause is over;
//! then one attempt decides.
//!
//! Whoever tries something has an [`Attempt`], which knows the state it began in: what was under way when that changed
//! says nothing about the new state, so a late success closes nothing and a late failure prolongs nothing.
//!
//! It is told the time and what happened; it does not wait, call or log. A time before one that it was told already is
//! taken for that one.

mod outcomes;

use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use outcomes::Outcomes;

/// When a breaker opens, and for how long. With neither a number nor a rate, only [`Attempt::open`] opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// So many failures open it, however many calls succeed between them. As many moments are remembered.
    pub failures: Option<usize>,
    /// So does such a share of failures, which is for what is called so often that some calls always fail.
    pub rate: Option<FailureRate>,
    /// The time within which failures and calls count.
    pub within: Duration,
    /// How long it stays open before one attempt is let through.
    pub pause: Duration,
}

/// A share of failures among calls.
///
/// Calls are counted when they end, by tenths of [`Settings::within`]: those of the present tenth and of the nine before
/// it count. It is looked at when a call fails: one that succeeded is no reason to refuse the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureRate {
    /// Failures of a hundred calls. More than 100 are never reached.
    pub percent: u8,
    /// So few calls say nothing.
    pub calls_min: u64,
}

impl Settings {
    /// For whatever runs language models: three failures within 120 seconds open it for 120 seconds.
    ///
    /// Numbers and times are those of the program this one descends from, which opened after so many failures for so long;
    /// that failures count for no longer is ours, since there it was until a success. Whoever hears of it that a server is
    /// back need not wait for the pause ([`Breaker::try_half_open_early`]).
    pub const INFERENCE: Self = Self::number(3, Duration::from_secs(120));

    /// For stores and remote embeddings: five failures within 60 seconds open it for 60 seconds.
    pub const STORE: Self = Self::number(5, Duration::from_secs(60));

    const fn number(failures: usize, time: Duration) -> Self {
        Self { failures: Some(failures), rate: None, within: time, pause: time }
    }
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
    /// The latest time it was told.
    latest: Option<Instant>,
    opened_at: Option<Instant>,
    outcomes: Outcomes,
}

/// Something that is being tried. Dropped without a word it says nothing, and another may be tried in its place.
#[derive(Debug)]
#[must_use]
pub struct Attempt<B: Deref<Target = Breaker>> {
    breaker: B,
    /// The state it began in.
    changes: u64,
    /// It was told how it ended.
    is_over: bool,
}

/// An attempt that outlives the function that began it, such as an answer that comes in pieces.
pub type OwnedAttempt = Attempt<Arc<Breaker>>;

/// The breaker lets nothing through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the breaker is open, for {retry_in:?} still")]
pub struct Refused {
    /// When one attempt will be let through. Zero while that attempt is under way: it may decide at any moment.
    pub retry_in: Duration,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: Settings) -> Self {
        let outcomes = Outcomes::default();
        let inner = Inner { state: State::Closed, changes: 0, latest: None, opened_at: None, outcomes };
        Self { settings, inner: Mutex::new(inner) }
    }

    /// What it lets through now. A pause that is over changes nothing by itself: the next who comes does.
    pub fn state(&self) -> State {
        self.lock().state
    }

    /// Lets an attempt through: any where everything passes, and the one that decides once the pause is over.
    ///
    /// # Errors
    /// [`Refused`] during the pause, and while another attempt decides.
    pub fn try_enter(&self, now: Instant) -> Result<Attempt<&Self>, Refused> {
        Ok(Attempt::begun(self, self.pass(now)?))
    }

    /// The same, for an attempt that outlives the function that begins it.
    ///
    /// # Errors
    /// As [`Breaker::try_enter`].
    pub fn try_enter_owned(self: &Arc<Self>, now: Instant) -> Result<OwnedAttempt, Refused> {
        Ok(Attempt::begun(Arc::clone(self), self.pass(now)?))
    }

    /// Lets an attempt through where everything passes.
    pub fn enter(&self) -> Option<Attempt<&Self>> {
        let inner = self.lock();
        (inner.state == State::Closed).then(|| Attempt::begun(self, inner.changes))
    }

    /// Lets the one attempt through that decides, once the pause is over.
    pub fn try_half_open(&self, now: Instant) -> Option<Attempt<&Self>> {
        let mut inner = self.lock();
        let left = self.left(&mut inner, now)?;
        left.is_zero().then(|| Attempt::begun(self, inner.change(State::HalfOpen)))
    }

    /// Lets the one attempt through that decides although the pause is not over: something says that it may succeed.
    pub fn try_half_open_early(&self) -> Option<Attempt<&Self>> {
        let mut inner = self.lock();
        (inner.state == State::Open).then(|| Attempt::begun(self, inner.change(State::HalfOpen)))
    }

    /// How long it stays open still; nothing where it is not open.
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        self.left(&mut self.lock(), now)
    }

    /// In which state an attempt may begin.
    fn pass(&self, now: Instant) -> Result<u64, Refused> {
        let mut inner = self.lock();
        inner.tell(now);
        match inner.state {
            State::Closed => Ok(inner.changes),
            State::HalfOpen => Err(Refused { retry_in: Duration::ZERO }),
            State::Open => {
                let retry_in = self.left(&mut inner, now).unwrap_or_default();
                if retry_in.is_zero() { Ok(inner.change(State::HalfOpen)) } else { Err(Refused { retry_in }) }
            }
        }
    }

    fn left(&self, inner: &mut Inner, now: Instant) -> Option<Duration> {
        let now = inner.tell(now);
        let opened = inner.opened_at.filter(|_| inner.state == State::Open)?;
        Some(self.settings.pause.saturating_sub(now.saturating_duration_since(opened)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while holding the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The time, which does not go back.
    fn tell(&mut self, now: Instant) -> Instant {
        let latest = self.latest.map_or(now, |latest| latest.max(now));
        self.latest = Some(latest);
        latest
    }

    fn change(&mut self, state: State) -> u64 {
        self.state = state;
        self.changes += 1;
        self.changes
    }

    fn open(&mut self, now: Instant) {
        self.change(State::Open);
        self.opened_at = Some(now);
        // What is counted, is counted from when it closes again.
        self.outcomes.forget();
    }

    fn close(&mut self) {
        self.change(State::Closed);
        self.opened_at = None;
    }
}

impl<B: Deref<Target = Breaker>> Attempt<B> {
    fn begun(breaker: B, changes: u64) -> Self {
        Self { breaker, changes, is_over: false }
    }

    /// Whether it is the one that decides.
    pub fn is_deciding(&self) -> bool {
        let inner = self.breaker.lock();
        inner.changes == self.changes && inner.state == State::HalfOpen
    }

    /// Opens the breaker at once: what it guards is known to be wrong. Whether that changed anything.
    pub fn open(mut self, now: Instant) -> bool {
        self.is_over = true;
        let mut inner = self.breaker.lock();
        let now = inner.tell(now);
        let current = inner.changes == self.changes;
        if current {
            inner.open(now);
        }
        current
    }

    /// Notes that what is tried answers, though it is not over. The deciding attempt closes the breaker with it, so that
    /// nobody is refused for as long as a long answer takes; how it ends counts as with any other.
    pub fn answered(&mut self) {
        let mut inner = self.breaker.lock();
        if inner.changes == self.changes && inner.state == State::HalfOpen {
            inner.close();
            self.changes = inner.changes;
        }
    }

    /// Notes a success. That of the deciding attempt closes the breaker.
    pub fn succeeded(mut self, now: Instant) {
        self.is_over = true;
        let mut inner = self.breaker.lock();
        let now = inner.tell(now);
        if inner.changes != self.changes {
            return;
        }
        if inner.state == State::HalfOpen {
            inner.close();
        }
        inner.outcomes.succeeded(&self.breaker.settings, now);
    }

    /// Notes a failure; whether that opened the breaker.
    pub fn failed(mut self, now: Instant) -> bool {
        self.is_over = true;
        let mut inner = self.breaker.lock();
        let now = inner.tell(now);
        if inner.changes != self.changes {
            return false;
        }
        let opens = inner.state == State::HalfOpen || inner.outcomes.failed(&self.breaker.settings, now);
        if opens {
            inner.open(now);
        }
        opens
    }
}

impl<B: Deref<Target = Breaker>> Drop for Attempt<B> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut inner = self.breaker.lock();
        if inner.changes == self.changes && inner.state == State::HalfOpen {
            // Since when it is open stays as it was: the next may try at once.
            inner.change(State::Open);
        }
    }
}

#[cfg(test)]
mod tests;
