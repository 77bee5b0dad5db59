use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn breaker() -> (Breaker, Instant) {
    (Breaker::new(Settings { failures: Some(3), rate: None, within: 60 * SECOND, pause: 10 * SECOND }), Instant::now())
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
    breaker.try_half_open(start + 23 * SECOND).unwrap().succeeded(start + 24 * SECOND);
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
    attempt.succeeded(start);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn it_can_be_opened_at_once() {
    let (breaker, start) = breaker();
    let late = breaker.enter().unwrap();
    assert!(breaker.enter().unwrap().open(start));
    assert!(!late.open(start + SECOND), "it is open");
    assert_eq!((breaker.state(), breaker.open_for(start + SECOND)), (State::Open, Some(9 * SECOND)));
    assert_eq!(breaker.open_for(start), Some(9 * SECOND), "its time does not go back");
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
    first.succeeded(start);
    assert_eq!(breaker.state(), State::Open, "a late success is none of the attempt that decides");
    assert!(!second.failed(start + 9 * SECOND), "a late failure does not prolong the pause");
    let attempt = breaker.try_half_open(start + 10 * SECOND).unwrap();
    third.succeeded(start + 10 * SECOND);
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(!fourth.failed(start + 10 * SECOND));
    attempt.succeeded(start + 10 * SECOND);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn an_attempt_that_is_given_up_leaves_its_place_to_another() {
    let (breaker, start) = breaker();
    breaker.enter().unwrap().open(start);
    drop(breaker.try_half_open(start + 10 * SECOND).unwrap());
    assert_eq!(breaker.state(), State::Open);
    breaker.try_half_open(start + 10 * SECOND).unwrap().succeeded(start + 10 * SECOND);
    drop(breaker.enter().unwrap());
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn one_way_in_passes_refuses_and_probes() {
    let (breaker, start) = breaker();
    breaker.try_enter(start).unwrap().succeeded(start);
    breaker.try_enter(start).unwrap().open(start);
    let refused = breaker.try_enter(start + 4 * SECOND).unwrap_err();
    assert_eq!(refused, Refused { retry_in: 6 * SECOND });
    assert_eq!(refused.to_string(), "the breaker is open, for 6s still");
    let almost = start + 10 * SECOND - Duration::from_nanos(1);
    assert_eq!(breaker.try_enter(almost).unwrap_err().retry_in, Duration::from_nanos(1));
    let probe = breaker.try_enter(start + 10 * SECOND).unwrap();
    assert_eq!(breaker.try_enter(start + 10 * SECOND).unwrap_err().retry_in, Duration::ZERO);
    assert!(probe.failed(start + 11 * SECOND));
    assert_eq!(breaker.try_enter(start + 12 * SECOND).unwrap_err().retry_in, 9 * SECOND);
}

#[test]
fn an_attempt_can_outlive_the_function_that_began_it() {
    let (breaker, start) = breaker();
    let breaker = Arc::new(breaker);
    breaker.try_enter_owned(start).unwrap().open(start);
    let probe = breaker.try_enter_owned(start + 10 * SECOND).unwrap();
    let end = thread::spawn(move || probe.succeeded(start + 20 * SECOND));
    end.join().unwrap();
    assert_eq!(breaker.state(), State::Closed);
    drop(breaker.try_enter_owned(start + 20 * SECOND).unwrap());
    assert_eq!(Arc::strong_count(&breaker), 1);
}

#[test]
fn a_long_answer_closes_the_breaker_when_it_begins_and_counts_when_it_ends() {
    let (breaker, start) = breaker();
    breaker.try_enter(start).unwrap().open(start);
    let mut probe = breaker.try_enter(start + 10 * SECOND).unwrap();
    probe.answered();
    assert_eq!(breaker.state(), State::Closed);
    breaker.try_enter(start + 10 * SECOND).unwrap().succeeded(start + 10 * SECOND);
    assert!(!fail(&breaker, start + 11 * SECOND) && !fail(&breaker, start + 11 * SECOND));
    assert!(probe.failed(start + 12 * SECOND), "the third failure");
    let mut late = breaker.try_enter(start + 22 * SECOND).unwrap();
    assert!(breaker.try_half_open_early().is_none(), "one at a time");
    late.answered();
    late.answered();
    breaker.enter().unwrap().open(start + 23 * SECOND);
    late.answered();
    assert_eq!(breaker.state(), State::Open, "it began when the breaker was closed");
}

#[test]
fn a_share_of_failures_opens_it_where_there_are_calls_enough() {
    let start = Instant::now();
    let rate = Some(FailureRate { percent: 50, calls_min: 10 });
    let breaker = Breaker::new(Settings { failures: None, rate, within: 100 * SECOND, pause: SECOND });
    for second in 0..9 {
        assert!(!fail(&breaker, start + second * SECOND), "{second}: too few calls");
    }
    for _ in 0..10 {
        breaker.enter().unwrap().succeeded(start + 9 * SECOND);
    }
    // Ten of twenty.
    assert!(fail(&breaker, start + 9 * SECOND));
    breaker.try_enter(start + 10 * SECOND).unwrap().succeeded(start + 10 * SECOND);
    // What was counted before it opened is forgotten: one success, and now eight failures, are too few calls.
    for _ in 0..8 {
        assert!(!fail(&breaker, start + 10 * SECOND));
    }
    assert!(fail(&breaker, start + 109 * SECOND));
}

#[test]
fn a_tenth_of_the_time_is_forgotten_at_once() {
    let start = Instant::now();
    let rate = Some(FailureRate { percent: 100, calls_min: 2 });
    let breaker = || Breaker::new(Settings { failures: None, rate, within: 10 * SECOND, pause: SECOND });
    let nanosecond = Duration::from_nanos(1);
    for (first, second, opens) in [
        (Duration::ZERO, 10 * SECOND - nanosecond, true),
        (Duration::ZERO, 10 * SECOND, false),
        // In the first tenth, too, and therefore forgotten as early as nine seconds later.
        (SECOND - nanosecond, 10 * SECOND - nanosecond, true),
        (SECOND - nanosecond, 10 * SECOND, false),
        (SECOND, 11 * SECOND - nanosecond, true),
    ] {
        let breaker = breaker();
        // Tenths are counted from here; it is long forgotten when the first call fails.
        breaker.enter().unwrap().succeeded(start);
        let later = start + 30 * SECOND;
        assert!(!fail(&breaker, later + first));
        assert_eq!(fail(&breaker, later + second), opens, "{first:?}, then {second:?}");
    }
}

#[test]
fn its_memory_does_not_grow_with_the_calls() {
    let (breaker, start) = breaker();
    let rate = Some(FailureRate { percent: 101, calls_min: 1 });
    let busy = Breaker::new(Settings { rate, failures: Some(50), within: SECOND, pause: SECOND });
    for round in 0..100_000 {
        let now = start + round * Duration::from_millis(30);
        if fail(&breaker, now) {
            breaker.try_half_open_early().unwrap().succeeded(now);
        }
        assert!(!fail(&busy, now));
    }
    assert!(breaker.lock().outcomes.remembered() <= 3);
    assert!(busy.lock().outcomes.remembered() <= 50);
}

/// A breaker by the book: all that happened is kept, and every question is answered by looking through it. Times are
/// nanoseconds.
struct Model {
    settings: Settings,
    state: State,
    opened_at: u64,
    /// The latest time.
    now: u64,
    /// When calls ended since the breaker closed, and whether they failed.
    outcomes: Vec<(u64, bool)>,
    /// The attempts under way, and whether the state is still the one that they began in.
    attempts: BTreeMap<u64, bool>,
    begun: u64,
}

impl Model {
    fn new(settings: Settings) -> Self {
        let state = State::Closed;
        Self { settings, state, opened_at: 0, now: 0, outcomes: Vec::new(), attempts: BTreeMap::new(), begun: 0 }
    }

    fn tell(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    fn enters(&mut self, state: State) {
        self.state = state;
        self.attempts.values_mut().for_each(|is_current| *is_current = false);
        if state == State::Closed {
            self.outcomes.clear();
        }
    }

    fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.attempts.insert(self.begun, true);
        self.begun
    }

    fn left(&self) -> u64 {
        (self.opened_at + self.settings.pause.as_nanos() as u64).saturating_sub(self.now)
    }

    fn try_enter(&mut self) -> Result<u64, u64> {
        match self.state {
            State::Closed => Ok(self.begin()),
            State::HalfOpen => Err(0),
            State::Open if self.left() > 0 => Err(self.left()),
            State::Open => Ok(self.probe()),
        }
    }

    fn probe(&mut self) -> u64 {
        self.enters(State::HalfOpen);
        self.begin()
    }

    fn is_too_much(&self) -> bool {
        let within = self.settings.within.as_nanos() as u64;
        let failures = self.outcomes.iter().filter(|(at, failed)| *failed && self.now - at <= within).count();
        let slice = (within / 10).max(1);
        let first = self.outcomes.first().map_or(0, |outcome| outcome.0);
        let number = |at: u64| (at - first) / slice;
        let counted = || self.outcomes.iter().filter(|(at, _)| number(*at) + 10 > number(self.now));
        let (calls, failed) = (counted().count() as f64, counted().filter(|outcome| outcome.1).count() as f64);
        self.settings.failures.is_some_and(|most| failures >= most)
            || self
                .settings
                .rate
                .is_some_and(|rate| calls >= rate.calls_min as f64 && failed / calls >= f64::from(rate.percent) / 100.0)
    }

    fn opens(&mut self) {
        self.enters(State::Open);
        self.opened_at = self.now;
    }

    fn ends(&mut self, attempt: u64, end: End) -> bool {
        let is_current = self.attempts[&attempt];
        if end != End::Answered {
            self.attempts.remove(&attempt);
        }
        if !is_current {
            return false;
        }
        let decides = self.state == State::HalfOpen;
        if decides && matches!(end, End::Succeeded | End::Answered) {
            self.enters(State::Closed);
        }
        match end {
            End::Succeeded => self.outcomes.push((self.now, false)),
            End::Failed => self.outcomes.push((self.now, true)),
            End::Answered if decides => drop(self.attempts.insert(attempt, true)),
            End::Dropped if decides => self.enters(State::Open),
            _ => {}
        }
        let opens = end == End::Opened || end == End::Failed && (decides || self.is_too_much());
        if opens {
            self.opens();
        }
        opens
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Succeeded,
    Failed,
    Opened,
    Answered,
    Dropped,
}

/// A breaker and its model, asked the same.
struct Pair {
    origin: Instant,
    breaker: Arc<Breaker>,
    model: Model,
    attempts: BTreeMap<u64, OwnedAttempt>,
}

impl Pair {
    fn new(settings: Settings) -> Self {
        let (breaker, model) = (Arc::new(Breaker::new(settings)), Model::new(settings));
        Self { origin: Instant::now(), breaker, model, attempts: BTreeMap::new() }
    }

    fn enter(&mut self, now: u64) {
        self.model.tell(now);
        let entered = self.breaker.try_enter_owned(self.origin + Duration::from_nanos(now));
        match (entered, self.model.try_enter()) {
            (Ok(attempt), Ok(number)) => drop(self.attempts.insert(number, attempt)),
            (Err(refused), Err(left)) => assert_eq!(refused.retry_in, Duration::from_nanos(left)),
            (entered, expected) => panic!("{entered:?} where the model has {expected:?}"),
        }
    }

    /// The ways in that the guard of an embedding model uses.
    fn enter_by_halves(&mut self, now: u64, way: u32) {
        let at = self.origin + Duration::from_nanos(now);
        let (entered, expected) = match way {
            0 => (self.breaker.enter(), self.model.state == State::Closed),
            1 => {
                self.model.tell(now);
                (self.breaker.try_half_open(at), self.model.state == State::Open && self.model.left() == 0)
            }
            _ => (self.breaker.try_half_open_early(), self.model.state == State::Open),
        };
        assert_eq!(entered.is_some(), expected, "way {way}");
        if entered.is_some() {
            let number = if way == 0 { self.model.begin() } else { self.model.probe() };
            // It is given up at once: an attempt that borrows cannot be kept here.
            drop(entered);
            self.model.ends(number, End::Dropped);
        }
    }

    fn end(&mut self, number: u64, now: u64, end: End) {
        let at = self.origin + Duration::from_nanos(now);
        let Some(mut attempt) = self.attempts.remove(&number) else { return };
        if matches!(end, End::Succeeded | End::Failed | End::Opened) {
            self.model.tell(now);
        }
        let expected = self.model.ends(number, end);
        match end {
            End::Succeeded => attempt.succeeded(at),
            End::Failed => assert_eq!(attempt.failed(at), expected),
            End::Opened => assert_eq!(attempt.open(at), expected),
            End::Dropped => drop(attempt),
            End::Answered => {
                attempt.answered();
                self.attempts.insert(number, attempt);
            }
        }
    }

    fn compare(&mut self, now: u64) {
        assert_eq!(self.breaker.state(), self.model.state);
        self.model.tell(now);
        let left = self.breaker.open_for(self.origin + Duration::from_nanos(now));
        let expected = (self.model.state == State::Open).then(|| Duration::from_nanos(self.model.left()));
        assert_eq!(left, expected);
    }
}

/// Steps of all sizes: none, a nanosecond, a part of what counts, just before and just when the pause is over or the time
/// within which something counts, and now and then back.
fn next_time(random: &mut fastrand::Rng, now: u64, model: &Model) -> u64 {
    let within = model.settings.within.as_nanos() as u64;
    let pause = model.settings.pause.as_nanos() as u64;
    match random.u32(..100) {
        0..25 => now,
        25..35 => now + 1,
        35..75 => now + random.u64(..within / 6 + 2),
        75..85 => now.max((model.opened_at + pause).saturating_sub(random.u64(..2))),
        85..90 => now.max(model.outcomes.first().map_or(0, |first| first.0 + within + random.u64(..3) - 1)),
        90..96 => now + (within / 10).max(1) - random.u64(..2),
        96..98 => now.saturating_sub(random.u64(..within * 2)),
        _ => now + within + pause,
    }
}

fn random_end(random: &mut fastrand::Rng, failing: u32) -> End {
    match random.u32(..100) {
        0..4 => End::Dropped,
        4..8 => End::Answered,
        8 => End::Opened,
        _ if random.u32(..100) < failing => End::Failed,
        _ => End::Succeeded,
    }
}

fn settings_to_try() -> Vec<Settings> {
    let rate = |percent, calls_min| Some(FailureRate { percent, calls_min });
    let nanosecond = Duration::from_nanos(1);
    vec![
        Settings::INFERENCE,
        Settings::STORE,
        Settings { rate: rate(50, 10), failures: None, ..Settings::INFERENCE },
        Settings { rate: rate(20, 20), failures: Some(12), ..Settings::STORE },
        Settings { rate: rate(100, 3), failures: None, within: 7 * nanosecond, pause: 5 * nanosecond },
        Settings { rate: rate(33, 1), failures: None, within: 1_003 * nanosecond, pause: 10 * nanosecond },
        Settings { rate: rate(0, 5), failures: Some(1_000), within: SECOND, pause: Duration::ZERO },
        Settings { rate: None, failures: Some(1), within: SECOND, pause: SECOND },
        Settings { rate: rate(90, 30), failures: Some(40), within: 10 * SECOND, pause: 3 * SECOND },
        Settings { rate: None, failures: None, within: SECOND, pause: SECOND },
    ]
}

#[test]
fn half_a_million_random_steps_are_judged_as_the_model_judges_them() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut seen = BTreeMap::<(usize, &str), u32>::new();
    for (at, settings) in settings_to_try().into_iter().enumerate() {
        let mut pair = Pair::new(settings);
        let (mut now, mut failing) = (0, 30);
        for step in 0..50_000 {
            now = next_time(&mut random, now, &pair.model);
            match random.u32(..100) {
                0..45 if pair.attempts.len() < 40 => pair.enter(now),
                45..48 => pair.enter_by_halves(now, random.u32(..3)),
                48 => failing = [0, 5, 15, 30, 50, 80, 100][random.usize(..7)],
                _ => {
                    let under_way: Vec<u64> = pair.attempts.keys().copied().collect();
                    if let Some(number) = random.choice(under_way) {
                        pair.end(number, now, random_end(&mut random, failing));
                    }
                }
            }
            pair.compare(now);
            *seen.entry((at, pair.model.state.as_str())).or_default() += 1;
            if step % 512 == 0 && pair.model.outcomes.len() > 1 {
                // The model looks through all it has; what is that old can count no more.
                let old = pair.model.now.saturating_sub(settings.within.as_nanos() as u64 * 3);
                let kept = pair.model.outcomes.iter().skip(1).position(|outcome| outcome.0 >= old);
                let forgotten = kept.unwrap_or(pair.model.outcomes.len() - 1);
                pair.model.outcomes.drain(1..=forgotten);
            }
        }
    }
    let seldom: Vec<_> = seen.iter().filter(|(_, count)| **count < 500).collect();
    assert!(seen.len() == 30 && seldom.is_empty(), "some states are hardly tried: {seen:?}");
}

#[test]
fn however_many_come_at_once_one_probes() {
    let seed = 5;
    let start = Instant::now();
    let breaker = Arc::new(Breaker::new(Settings { pause: Duration::ZERO, ..Settings::INFERENCE }));
    breaker.enter().unwrap().open(start);
    let (probing, probes, passed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for worker in 0..8 {
            let (breaker, probing, probes, passed) = (&breaker, &probing, &probes, &passed);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed + worker);
                // Until enough was tried, however the threads take turns.
                while probes.load(Ordering::Relaxed) < 2_000 || passed.load(Ordering::Relaxed) < 200 {
                    let Ok(attempt) = breaker.try_enter_owned(start) else {
                        thread::yield_now();
                        continue;
                    };
                    let is_probe = attempt.is_deciding();
                    if !is_probe {
                        // Opened again, for the next to probe.
                        passed.fetch_add(1, Ordering::Relaxed);
                        attempt.open(start);
                        continue;
                    }
                    assert_eq!(probing.fetch_add(1, Ordering::AcqRel), 0, "two probes at once");
                    probes.fetch_add(1, Ordering::Relaxed);
                    if random.bool() {
                        thread::yield_now();
                    }
                    probing.fetch_sub(1, Ordering::AcqRel);
                    match random.u32(..3) {
                        0 => attempt.succeeded(start),
                        1 => assert!(attempt.failed(start)),
                        _ => drop(attempt),
                    }
                }
            });
        }
    });
    // Whatever happened, the next one may probe, or passes.
    breaker.try_enter(start).unwrap().succeeded(start);
}
