//! What a call that succeeds pays for its breaker and its retry budget: letting it through, noting it, noting the success.
//!
//! ```text
//! cargo run --release -p holdfast-resilience --example call_cost
//! ```
//!
//! Prints nanoseconds a call, with the clock's own cost, which is part of it, beside them: one thread, and two that share a
//! breaker and a budget and do nothing else. The best and the median of some runs: where they are far apart, another program
//! had the machine.

#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::{
    hint::black_box,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use holdfast_resilience::{
    breaker::{Breaker, FailureRate, Settings},
    retry::{self, Retries},
};

const CALLS: u32 = 50_000;
const RUNS: usize = 51;

fn main() {
    let clock = measured(1, |_| {
        black_box((Instant::now(), Instant::now()));
    });
    println!("reading the clock twice: {clock}");
    let by_rate = Settings { rate: Some(FailureRate { percent: 50, calls_min: 20 }), ..Settings::INFERENCE };
    for (name, settings) in [("by number", Settings::INFERENCE), ("by number and rate", by_rate)] {
        for threads in [1, 2] {
            let guard = Guard::new(settings);
            let borrowed = measured(threads, |_| guard.borrowed());
            let owned = measured(threads, |_| guard.owned());
            println!("{name}, {threads} thread(s): {borrowed} a call, {owned} with an owned attempt");
        }
    }
}

struct Guard {
    breaker: Arc<Breaker>,
    retries: Retries,
}

impl Guard {
    /// A budget that is never full again, so that each call writes to it: the dearer of the two cases.
    fn new(settings: Settings) -> Self {
        let budget = retry::BudgetSettings { percent: 0, per_second: 0, saved_max: 10 };
        let retries = Retries::new(retry::Settings { budget, ..retry::Settings::STANDARD });
        let taken = retries.next(Instant::now(), 1, None, Duration::from_secs(60), 0.5);
        assert!(taken.is_some(), "a fresh budget has a retry");
        Self { breaker: Arc::new(Breaker::new(settings)), retries }
    }

    fn borrowed(&self) {
        self.retries.called();
        if let Ok(attempt) = self.breaker.try_enter(Instant::now()) {
            black_box(&attempt);
            attempt.succeeded(Instant::now());
        }
    }

    fn owned(&self) {
        self.retries.called();
        if let Ok(attempt) = self.breaker.try_enter_owned(Instant::now()) {
            black_box(&attempt);
            attempt.succeeded(Instant::now());
        }
    }
}

/// What one call takes a thread.
fn measured(threads: usize, call: impl Fn(u32) + Sync) -> String {
    let mut runs: Vec<f64> = (0..RUNS).map(|_| run(threads, &call)).collect();
    runs.sort_by(f64::total_cmp);
    format!("{:.0} ns (median {:.0})", runs[0], runs[RUNS / 2])
}

fn run(threads: usize, call: &(impl Fn(u32) + Sync)) -> f64 {
    let together = Barrier::new(threads);
    let took = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| timed(&together, call))).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).max()
    });
    took.unwrap_or_default().as_nanos() as f64 / f64::from(CALLS)
}

fn timed(together: &Barrier, call: &impl Fn(u32)) -> Duration {
    together.wait();
    let began = Instant::now();
    (0..CALLS).for_each(call);
    began.elapsed()
}
