//! Whether something that failed is tried again, and when.
//!
//! Each thing that is called has one [`Retries`], shared by all who call it. It has a [`Budget`], so that retries stay a
//! small share of the calls when everything fails: without one, three attempts a call are three times the load on what
//! is down because of its load. A [`Backoff`] spreads them.
//!
//! It is told the time and given random numbers; it does not wait, call or log. What may be tried again at all, because
//! it may end otherwise and does no harm twice, is the caller's to know.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The parts that a retry has: so many that a percent of it is a whole number of them, and so is what comes in a nanosecond.
const RETRY: u64 = 100_000_000_000;
const PARTS_OF_PERCENT: u64 = RETRY / 100;
/// At one retry a second.
const PARTS_OF_NANOSECOND: u64 = RETRY / 1_000_000_000;

/// How retries are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Attempts of one call at most, the first included.
    pub attempts_max: u32,
    /// How they are spread.
    pub backoff: Backoff,
    /// A server that wants to be asked later than that is not asked again: whoever waits holds a place, and another may
    /// answer at once.
    pub wait_max: Duration,
    /// How many there may be of all calls together.
    pub budget: BudgetSettings,
}

impl Settings {
    /// For language models and other servers over HTTP: three attempts, from a quarter of a second on, for who says no
    /// more than ten seconds.
    pub const STANDARD: Self = Self {
        attempts_max: 3,
        backoff: Backoff { base: Duration::from_millis(250), longest: Duration::from_secs(8) },
        wait_max: Duration::from_secs(10),
        budget: BudgetSettings::STANDARD,
    };
}

/// Why something is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GivenUp {
    /// It was tried as often as it may be.
    Attempts,
    /// The server wants to be asked later than anybody waits.
    Wait,
    /// The wait would be as long as the time that is left, or longer.
    Deadline,
    /// All calls together have retried as often as they may for now.
    Budget,
}

impl GivenUp {
    /// The word for it in records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Wait => "wait",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
        }
    }
}

/// Decides whether to try again. One for each thing that is called, shared by all who call it.
#[derive(Debug)]
pub struct Retries {
    attempts_max: u32,
    backoff: Backoff,
    wait_max: Duration,
    budget: Budget,
}

impl Retries {
    /// Nothing was retried so far.
    pub fn new(settings: Settings) -> Self {
        let Settings { attempts_max, backoff, wait_max, budget } = settings;
        Self { attempts_max, backoff, wait_max, budget: Budget::new(budget) }
    }

    /// Notes a call: to be told once for each, however often it is tried.
    pub fn called(&self) {
        self.budget.deposit();
    }

    /// How long to wait before trying again, or why not to.
    ///
    /// `attempt` is how many attempts of this call have failed, 1 after the first. `retry_after` is what the server said,
    /// if it did. `deadline_left` is the time that the call has still. `random` is between 0 and 1.
    ///
    /// In this order:
    /// 1. With `attempts_max` attempts made, [`GivenUp::Attempts`].
    /// 2. With a `retry_after` beyond `wait_max`, [`GivenUp::Wait`].
    /// 3. The wait is `random` times the bound of the back-off ([`Backoff::wait`]), on top of `retry_after`: the server's
    ///    word is a lower bound, and everybody who was given the same one would otherwise come at the same moment.
    /// 4. A wait that is not shorter than `deadline_left` is [`GivenUp::Deadline`]: nothing could come of that attempt.
    /// 5. The retry is taken from the budget at `now`, or [`GivenUp::Budget`]. Whoever is refused takes nothing.
    ///
    /// A retry that is granted and then not made (its caller left while it waited) remains taken.
    ///
    /// # Errors
    /// Why not to.
    pub fn decide(
        &self,
        now: Instant,
        attempt: u32,
        retry_after: Option<Duration>,
        deadline_left: Duration,
        random: f64,
    ) -> Result<Duration, GivenUp> {
        if attempt >= self.attempts_max {
            return Err(GivenUp::Attempts);
        }
        if retry_after.is_some_and(|after| after > self.wait_max) {
            return Err(GivenUp::Wait);
        }
        let wait = self.backoff.wait(attempt, random).saturating_add(retry_after.unwrap_or_default());
        if wait >= deadline_left {
            return Err(GivenUp::Deadline);
        }
        if self.budget.withdraw(now) { Ok(wait) } else { Err(GivenUp::Budget) }
    }

    /// As [`Retries::decide`], for whom the reason is all the same.
    pub fn next(
        &self,
        now: Instant,
        attempt: u32,
        retry_after: Option<Duration>,
        deadline_left: Duration,
        random: f64,
    ) -> Option<Duration> {
        self.decide(now, attempt, retry_after, deadline_left, random).ok()
    }

    /// What all calls together may retry.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
}

/// Exponential back-off with full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015:
/// `sleep = random_between(0, min(cap, base * 2 ** attempt))`), which of the kinds measured there takes the fewest calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the wait before the first retry; it doubles with each.
    pub base: Duration,
    /// What it does not grow beyond.
    pub longest: Duration,
}

impl Backoff {
    /// The bound of the wait after `attempt` attempts that failed.
    pub fn bound(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        self.base.saturating_mul(doubled).min(self.longest)
    }

    /// The wait after `attempt` attempts that failed: `random`, which is between 0 and 1, times the bound, in whole
    /// nanoseconds. What is not between 0 and 1 is taken for the nearest of them, and what is no number for 0.
    pub fn wait(&self, attempt: u32, random: f64) -> Duration {
        let bound = u64::try_from(self.bound(attempt).as_nanos()).unwrap_or(u64::MAX);
        // Such a conversion rounds down, and goes to the nearest bound of the type.
        let wait = (bound as f64 * random) as u64;
        Duration::from_nanos(wait.min(bound))
    }
}

/// What a retry budget holds, and how it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Retries for a hundred calls.
    pub percent: u8,
    /// Retries that come in each second without a call.
    pub per_second: u32,
    /// Retries it can hold, and does at first. None, and there are no retries.
    pub saved_max: u32,
}

impl BudgetSettings {
    /// A retry for five calls as in Finagle's `RetryBudget`, whose ten a second and ten seconds of savings are meant for
    /// services with thousands of calls a second; a language model has few, which are long and may cost money.
    pub const STANDARD: Self = Self { percent: 20, per_second: 1, saved_max: 10 };
}

/// How many retries there may be in proportion to calls (Finagle's `RetryBudget`; gRPC proposal A6, retry throttling).
///
/// A bucket, full at first: each call puts a share of a retry in, each second some, and each retry takes one out or is
/// refused. In any time there are thus no more retries than `saved_max`, plus `percent` of the calls, plus `per_second`
/// times the seconds. All arithmetic is in whole numbers, so nothing is lost by rounding.
///
/// Putting in needs no time and no lock, and where the bucket is full, as it is while all is well, it writes nothing.
#[derive(Debug)]
pub struct Budget {
    settings: BudgetSettings,
    /// What would fill the bucket, in parts.
    missing: AtomicU64,
    /// Until when seconds have been counted; nothing before the first retry, since until then it is full.
    counted_to: Mutex<Option<Instant>>,
}

impl Budget {
    /// A full budget.
    pub fn new(settings: BudgetSettings) -> Self {
        Self { settings, missing: AtomicU64::new(0), counted_to: Mutex::new(None) }
    }

    /// Notes a call.
    pub fn deposit(&self) {
        if self.missing.load(Ordering::Relaxed) > 0 {
            self.fill(u64::from(self.settings.percent) * PARTS_OF_PERCENT);
        }
    }

    /// Takes a retry, if there is one.
    pub fn withdraw(&self, now: Instant) -> bool {
        // Nothing panics while holding the lock.
        let mut counted_to = self.counted_to.lock().unwrap_or_else(PoisonError::into_inner);
        self.count(&mut counted_to, now);
        let take = |missing: u64| missing.checked_add(RETRY).filter(|missing| *missing <= self.capacity());
        self.missing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Whole retries that there are.
    pub fn balance(&self, now: Instant) -> u64 {
        let mut counted_to = self.counted_to.lock().unwrap_or_else(PoisonError::into_inner);
        self.count(&mut counted_to, now);
        self.capacity().saturating_sub(self.missing.load(Ordering::Relaxed)) / RETRY
    }

    /// Puts in what came with time. A time before one that was told already is taken for that one.
    fn count(&self, counted_to: &mut Option<Instant>, now: Instant) {
        let elapsed = now.saturating_duration_since(counted_to.unwrap_or(now));
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.fill(nanoseconds.saturating_mul(u64::from(self.settings.per_second) * PARTS_OF_NANOSECOND));
        *counted_to = Some(counted_to.map_or(now, |before| before.max(now)));
    }

    fn fill(&self, parts: u64) {
        let filled = |missing: u64| Some(missing.saturating_sub(parts));
        // It is never refused.
        let _ = self.missing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, filled);
    }

    /// As many parts as fit into the number are the most: some hundred million retries.
    fn capacity(&self) -> u64 {
        u64::from(self.settings.saved_max).saturating_mul(RETRY)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicU32, thread};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    fn retries(budget: BudgetSettings) -> Retries {
        let backoff = Backoff { base: SECOND, longest: 4 * SECOND };
        Retries::new(Settings { attempts_max: 4, backoff, wait_max: Duration::MAX, budget })
    }

    const ENOUGH: BudgetSettings = BudgetSettings { percent: 0, per_second: 0, saved_max: 1_000 };

    #[test]
    fn the_bound_doubles_up_to_the_longest_wait() {
        let backoff = Backoff { base: 100 * Duration::from_millis(1), longest: SECOND };
        let bounds: Vec<u128> = (0..7).map(|attempt| backoff.bound(attempt).as_millis()).collect();
        assert_eq!(bounds, [100, 100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff.bound(u32::MAX), SECOND);
        let endless = Backoff { base: Duration::MAX, longest: Duration::MAX };
        assert_eq!(endless.bound(3), Duration::MAX);
        assert_eq!(endless.wait(3, 1.0), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn the_wait_is_anywhere_up_to_the_bound() {
        let backoff = Backoff { base: 4 * SECOND, longest: MINUTE };
        assert_eq!(backoff.wait(1, 0.0), Duration::ZERO);
        assert_eq!(backoff.wait(2, 0.25), 2 * SECOND);
        assert_eq!((backoff.wait(1, 1.0), backoff.wait(1, 7.0)), (4 * SECOND, 4 * SECOND));
        assert_eq!((backoff.wait(1, -1.0), backoff.wait(1, f64::NAN)), (Duration::ZERO, Duration::ZERO));
        assert_eq!(backoff.wait(1, f64::INFINITY), 4 * SECOND);
        // Full jitter: every tenth of the bound is as likely as any other.
        let mut random = fastrand::Rng::with_seed(7);
        let mut tenths = [0_u32; 10];
        for _ in 0..100_000 {
            let wait = backoff.wait(3, random.f64());
            tenths[(wait.as_nanos() * 10 / (16 * SECOND).as_nanos()) as usize] += 1;
        }
        // Three standard deviations of 95 are less than 300.
        assert!(tenths.iter().all(|count| (9_600..10_400).contains(count)), "{tenths:?}");
    }

    #[test]
    fn attempts_are_numbered() {
        let (retries, now) = (retries(ENOUGH), Instant::now());
        let wait = |attempt| retries.decide(now, attempt, None, MINUTE, 0.5);
        assert_eq!(wait(1), Ok(SECOND / 2));
        assert_eq!((wait(2), wait(3)), (Ok(SECOND), Ok(2 * SECOND)));
        assert_eq!((wait(4), wait(5)), (Err(GivenUp::Attempts), Err(GivenUp::Attempts)));
        assert_eq!(retries.next(now, 4, None, MINUTE, 0.5), None);
        assert_eq!(retries.next(now, 3, None, MINUTE, 0.5), Some(2 * SECOND));
    }

    #[test]
    fn nobody_comes_before_the_server_said() {
        let (retries, now) = (retries(ENOUGH), Instant::now());
        let wait = |after, left, random| retries.decide(now, 1, Some(after), left, random);
        assert_eq!(wait(5 * SECOND, MINUTE, 0.0), Ok(5 * SECOND));
        assert_eq!(wait(5 * SECOND, MINUTE, 0.5), Ok(5 * SECOND + SECOND / 2));
        assert_eq!(wait(Duration::ZERO, MINUTE, 0.5), Ok(SECOND / 2));
        assert_eq!(wait(61 * SECOND, MINUTE, 0.0), Err(GivenUp::Deadline));
        assert_eq!(wait(MINUTE, MINUTE, 0.0), Err(GivenUp::Deadline), "no time would be left");
        assert_eq!(wait(Duration::MAX, Duration::MAX, 1.0), Err(GivenUp::Deadline));
        let mut random = fastrand::Rng::with_seed(8);
        for _ in 0..600 {
            let after = Duration::from_millis(random.u64(..20_000));
            let left = Duration::from_millis(random.u64(..20_000));
            match wait(after, left, random.f64()) {
                Ok(wait) => assert!(after <= wait && wait < left, "{after:?} {wait:?} {left:?}"),
                Err(reason) => {
                    assert_eq!(reason, GivenUp::Deadline);
                    assert!(after + SECOND > left, "{after:?} {left:?}");
                }
            }
        }
    }

    #[test]
    fn a_server_that_wants_to_be_left_alone_for_long_is_not_waited_for() {
        let retries = Retries::new(Settings { budget: ENOUGH, ..Settings::STANDARD });
        let wait = |after| retries.decide(Instant::now(), 1, Some(after), 10 * MINUTE, 0.0);
        assert_eq!(wait(10 * SECOND), Ok(10 * SECOND));
        assert_eq!(wait(11 * SECOND), Err(GivenUp::Wait));
    }

    #[test]
    fn a_wait_without_jitter_fits_into_what_is_left_or_is_given_up() {
        let (retries, now) = (retries(ENOUGH), Instant::now());
        assert_eq!(retries.decide(now, 1, None, Duration::ZERO, 0.0), Err(GivenUp::Deadline));
        assert_eq!(retries.decide(now, 1, None, SECOND, 0.9), Ok(SECOND * 9 / 10));
        assert_eq!(retries.decide(now, 2, None, SECOND, 0.9), Err(GivenUp::Deadline));
    }

    #[test]
    fn who_is_refused_takes_nothing() {
        let (retries, now) = (retries(BudgetSettings { percent: 0, per_second: 0, saved_max: 1 }), Instant::now());
        assert_eq!(retries.decide(now, 9, None, MINUTE, 0.0), Err(GivenUp::Attempts));
        assert_eq!(retries.decide(now, 1, Some(MINUTE), SECOND, 0.0), Err(GivenUp::Deadline));
        assert_eq!(retries.budget().balance(now), 1);
        assert_eq!(retries.decide(now, 1, None, MINUTE, 0.0), Ok(Duration::ZERO));
        assert_eq!(retries.decide(now, 1, None, MINUTE, 0.0), Err(GivenUp::Budget));
        assert_eq!(GivenUp::Budget.as_str(), "budget");
    }

    #[test]
    fn when_everything_fails_retries_are_a_share_of_the_calls() {
        let retries = Retries::new(Settings::STANDARD);
        let start = Instant::now();
        let mut retried = 0;
        // Ten minutes of a hundred calls a second that fail again and again.
        for call in 0..60_000_u32 {
            let now = start + call * Duration::from_millis(10);
            retries.called();
            retried += (1..3).filter(|attempt| retries.next(now, *attempt, None, MINUTE, 0.0).is_some()).count();
        }
        // Ten saved ones, one a second, and one for five calls.
        assert!((12_600..=12_610).contains(&retried), "{retried}");
    }

    #[test]
    fn someone_who_calls_seldom_may_retry_every_call() {
        let retries = Retries::new(Settings::STANDARD);
        let start = Instant::now();
        for call in 0..1_000 {
            retries.called();
            for attempt in 1..3 {
                assert!(retries.next(start + call * 2 * SECOND, attempt, None, MINUTE, 0.0).is_some(), "{call}");
            }
        }
    }

    /// A budget by the book: a number of retries that grows with calls and time up to the most. It is a fraction, kept as
    /// so many parts of which 100 thousand million make a retry.
    struct Model {
        settings: BudgetSettings,
        parts: i128,
        at: u64,
    }

    impl Model {
        const RETRY: i128 = 100_000_000_000;

        fn new(settings: BudgetSettings) -> Self {
            Self { settings, parts: i128::from(settings.saved_max) * Self::RETRY, at: 0 }
        }

        fn grow(&mut self, parts: i128) {
            self.parts = (self.parts + parts).min(i128::from(self.settings.saved_max) * Self::RETRY);
        }

        fn tell(&mut self, now: u64) {
            let elapsed = i128::from(now.saturating_sub(self.at));
            self.grow(elapsed * i128::from(self.settings.per_second) * 100);
            self.at = self.at.max(now);
        }

        fn deposit(&mut self) {
            self.grow(i128::from(self.settings.percent) * Self::RETRY / 100);
        }

        fn withdraw(&mut self, now: u64) -> bool {
            self.tell(now);
            let has = self.parts >= Self::RETRY;
            self.parts -= if has { Self::RETRY } else { 0 };
            has
        }

        /// How long until there is a retry, if nobody calls.
        fn next_in(&self) -> u64 {
            let each = i128::from(self.settings.per_second) * 100;
            let missing = (Self::RETRY - self.parts).max(0);
            if each == 0 { 0 } else { (missing + each - 1).div_euclid(each) as u64 }
        }
    }

    #[test]
    fn half_a_million_random_steps_are_counted_as_the_model_counts_them() {
        let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let all = [(20, 1, 10), (20, 10, 100), (7, 0, 3), (0, 3, 2), (100, 0, 1), (255, 999_999_937, 5), (1, 7, 1_000)];
        for (percent, per_second, saved_max) in all {
            let settings = BudgetSettings { percent, per_second, saved_max };
            let (budget, mut model, origin) = (Budget::new(settings), Model::new(settings), Instant::now());
            let (mut now, mut granted, mut refused) = (0_u64, 0_u32, 0_u32);
            let typical = 1_000_000_000 / u64::from(per_second.max(1)) + 1;
            for _ in 0..75_000 {
                now = match random.u32(..100) {
                    0..40 => now,
                    40..50 => now + 1,
                    50..75 => (now.max(model.at) + model.next_in()).saturating_sub(random.u64(..2)),
                    75..77 => now.saturating_sub(random.u64(..typical * 3)),
                    77 => now + random.u64(..typical * 50),
                    _ => now + random.u64(..typical),
                };
                match random.u32(..10) {
                    0..3 => {
                        budget.deposit();
                        model.deposit();
                    }
                    3 => {
                        model.tell(now);
                        let balance = budget.balance(origin + Duration::from_nanos(now));
                        assert_eq!(i128::from(balance), model.parts / Model::RETRY, "{settings:?} at {now} ns");
                    }
                    _ => {
                        let taken = budget.withdraw(origin + Duration::from_nanos(now));
                        assert_eq!(taken, model.withdraw(now), "{settings:?} at {now} ns");
                        if taken { granted += 1 } else { refused += 1 }
                    }
                }
            }
            assert!(granted > 1_000 && refused > 1_000, "{settings:?}: {granted} granted, {refused} refused");
        }
    }

    #[test]
    fn many_at_once_get_no_more_than_there_is() {
        let budget = Budget::new(BudgetSettings { percent: 50, per_second: 0, saved_max: 100 });
        let (now, granted) = (Instant::now(), AtomicU32::new(0));
        thread::scope(|scope| {
            for worker in 0..4 {
                let (budget, granted) = (&budget, &granted);
                scope.spawn(move || {
                    for round in 0..20_000 {
                        if (round + worker) % 4 == 0 {
                            budget.deposit();
                        }
                        if budget.withdraw(now) {
                            granted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        // The first hundred, and half a retry for each of 20 000 calls; nothing is saved in vain, since there are more who
        // want one. What is left is less than a whole one.
        let granted = u64::from(granted.into_inner());
        assert!(granted > 9_000 && granted <= 10_100, "{granted}");
        assert_eq!(budget.balance(now), 0);
        assert!(budget.missing.load(Ordering::Relaxed) <= budget.capacity());
    }

    #[test]
    fn impossible_settings_give_no_retries_or_do_not_overflow() {
        let none = Budget::new(BudgetSettings { percent: 100, per_second: 100, saved_max: 0 });
        none.deposit();
        assert!(!none.withdraw(Instant::now()));
        let huge = Budget::new(BudgetSettings { percent: 255, per_second: u32::MAX, saved_max: u32::MAX });
        let now = Instant::now();
        assert!(huge.withdraw(now) && huge.withdraw(now + 1_000_000 * MINUTE));
        huge.deposit();
        assert_eq!(huge.balance(now), u64::MAX / RETRY);
    }
}
