//! What became of the last calls, as far as a breaker has to know it. The memory is bounded whatever the traffic: as many
//! moments as failures open the breaker, and a count of calls for each tenth of the time that is looked at.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{FailureRate, Settings};

/// Into so many slices the time is cut in which calls are counted: as many as Finagle's `WindowedAdder` has in its retry
/// budget. A call is thus forgotten when nine tenths of the time have passed at the soonest, and the whole at the latest.
const SLICES: usize = 10;

/// Outcomes since the breaker closed.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// The last failures, no more of them than open it.
    failed_at: VecDeque<Instant>,
    counts: Counts,
}

impl Outcomes {
    /// Notes a success. It opens nothing.
    pub(super) fn succeeded(&mut self, settings: &Settings, now: Instant) {
        if settings.rate.is_some() {
            self.counts.add(settings.within, now, 0);
        }
    }

    /// Notes a failure; whether that is too much.
    pub(super) fn failed(&mut self, settings: &Settings, now: Instant) -> bool {
        let are_too_many = settings.failures.is_some_and(|most| self.are_too_many(most, settings.within, now));
        let is_too_much = settings.rate.is_some_and(|rate| {
            self.counts.add(settings.within, now, 1);
            self.counts.reach(rate, settings.within, now)
        });
        are_too_many || is_too_much
    }

    /// Begins anew.
    pub(super) fn forget(&mut self) {
        self.failed_at.clear();
        self.counts = Counts::default();
    }

    /// Moments it remembers.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.failed_at.len()
    }

    fn are_too_many(&mut self, most: usize, within: Duration, now: Instant) -> bool {
        self.failed_at.push_back(now);
        if self.failed_at.len() > most {
            self.failed_at.pop_front();
        }
        let oldest = self.failed_at.front();
        self.failed_at.len() >= most && oldest.is_none_or(|at| now.saturating_duration_since(*at) <= within)
    }
}

/// Calls by slice of time: a ring, in which a slice takes the place of the one that is as many slices older as there are.
#[derive(Debug, Default)]
struct Counts {
    /// When the first slice began: with the first call that was counted.
    origin: Option<Instant>,
    slices: [Slice; SLICES],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    /// Which it is, from the origin.
    number: u64,
    calls: u64,
    failures: u64,
}

impl Counts {
    fn add(&mut self, within: Duration, now: Instant, failures: u64) {
        let number = self.number(within, now);
        let slice = &mut self.slices[(number % SLICES as u64) as usize];
        if slice.number != number {
            *slice = Slice { number, ..Slice::default() };
        }
        slice.calls += 1;
        slice.failures += failures;
    }

    fn reach(&mut self, rate: FailureRate, within: Duration, now: Instant) -> bool {
        let number = self.number(within, now);
        let recent = |slice: &&Slice| number - slice.number < SLICES as u64;
        let (calls, failures) = self
            .slices
            .iter()
            .filter(recent)
            .fold((0, 0), |(calls, failures), slice| (calls + slice.calls, failures + slice.failures));
        calls >= rate.calls_min && failures * 100 >= calls * u64::from(rate.percent)
    }

    /// The slice that is being filled. The time is never one before that of another call (the breaker sees to it).
    fn number(&mut self, within: Duration, now: Instant) -> u64 {
        let origin = *self.origin.get_or_insert(now);
        let slice = (within / SLICES as u32).max(Duration::from_nanos(1));
        nanoseconds(now.saturating_duration_since(origin)) / nanoseconds(slice)
    }
}

/// Five centuries are the most.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
