//! How far indexing is: asked of the program while jobs run, and shown.
//!
//! On a terminal that is a bar; elsewhere a line now and then, or JSON. The time that is left is estimated from the
//! last seconds only, because the first files say little about the last, and is not shown while there is too little to
//! estimate from, or while the number of files still grows. Asking stops when every job has ended.

use std::{collections::VecDeque, fmt, io::IsTerminal, time::Duration};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    output::{BARS, Form, Output, count, say},
    transport::{Refusal, Request, Transport, encode},
};

/// How often progress is asked for.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long a program may fail to say how far it is.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often a line is printed where there is no bar.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// How often a JSON line is printed.
const JSON_INTERVAL: Duration = Duration::from_secs(1);
/// What the estimate looks back on.
const WINDOW: Duration = Duration::from_secs(20);
/// Less than this says nothing about what comes.
const WINDOW_MIN: Duration = Duration::from_secs(3);
/// So do fewer documents than this: the first ones may be large.
const SETTLED_MIN: u64 = 5;

/// Documents or files of some jobs, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Known so far.
    pub total: u64,
    /// Indexed, or found unchanged.
    pub done: u64,
    /// Skipped with a reason.
    pub skipped: u64,
    /// Failed.
    pub failed: u64,
}

impl Counts {
    /// How many are dealt with, one way or another.
    pub fn settled(&self) -> u64 {
        self.done + self.skipped + self.failed
    }

    fn of(job: &Value) -> Self {
        let number = |name: &str| job["progress"][name].as_u64().unwrap_or(0);
        Self { total: number("total"), done: number("done"), skipped: number("skipped"), failed: number("failed") }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            done: self.done + other.done,
            skipped: self.skipped + other.skipped,
            failed: self.failed + other.failed,
        }
    }
}

/// What came of the jobs.
pub struct Outcome {
    /// All of them together.
    pub counts: Counts,
    /// How long they were watched.
    pub took: Duration,
    /// The jobs, as they ended.
    pub jobs: Vec<Value>,
}

impl Outcome {
    /// The first failure of a job as a whole: its code and a sentence.
    pub fn failure(&self) -> Option<(&str, &str)> {
        let error = self.jobs.iter().map(|job| &job["error"]).find(|error| error.is_object())?;
        Some((error["code"].as_str().unwrap_or_default(), error["detail"].as_str().unwrap_or_default()))
    }
}

/// Watches jobs until every one has ended, and shows how far they are. A program that cannot say, because its disk
/// fails, is asked again for a while.
pub async fn follow(transport: &Transport, jobs: &[String], output: Output) -> Result<Outcome> {
    let started = Instant::now();
    let mut display = Display::new(output);
    let mut seen: Vec<Value> = vec![Value::Null; jobs.len()];
    let mut answered = Instant::now();
    loop {
        for (id, job) in jobs.iter().zip(&mut seen).filter(|(_, job)| !has_ended(job)) {
            match transport.send(Request::get(format!("/api/v1/jobs/{}", encode(id)))).await {
                Ok(now) => (*job, answered) = (now, Instant::now()),
                Err(error) if passes(&error) && answered.elapsed() < PATIENCE => {}
                Err(error) => return Err(error),
            }
        }
        let counts = seen.iter().map(Counts::of).fold(Counts::default(), Counts::plus);
        if seen.iter().all(has_ended) {
            display.finish();
            return Ok(Outcome { counts, took: started.elapsed(), jobs: seen });
        }
        let waiting_for = if counts.done == 0 { model_stage(transport).await } else { None };
        display.show(counts, waiting_for, started.elapsed())?;
        tokio::time::sleep(INTERVAL).await;
    }
}

fn has_ended(job: &Value) -> bool {
    matches!(job["state"].as_str(), Some("done" | "failed"))
}

/// Whether the trouble is the program's, not the question's.
fn passes(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status >= 500)
}

/// What the embedding model is doing, while it is not ready: nothing is indexed without it.
async fn model_stage(transport: &Transport) -> Option<String> {
    let status = transport.send(Request::get("/api/v1/status")).await.ok()?;
    let components = status["components"].as_array()?;
    let model = components.iter().find(|component| component["name"] == "embedding")?;
    (model["status"] != "ready").then(|| model["reason"].as_str().unwrap_or("loading").to_owned())
}

/// Where progress is shown.
enum Display {
    Bar { bar: ProgressBar, estimate: Estimate },
    Lines { estimate: Estimate, last: Option<Instant> },
    Json { output: Output, estimate: Estimate, last: Option<Instant> },
}

impl Display {
    fn new(output: Output) -> Self {
        let estimate = Estimate::default();
        match output.form() {
            Form::Json => Self::Json { output, estimate, last: None },
            Form::Text if std::io::stderr().is_terminal() => Self::Bar { bar: bar(), estimate },
            // What is done before the first line is due needs none.
            Form::Text => Self::Lines { estimate, last: Some(Instant::now()) },
        }
    }

    fn show(&mut self, counts: Counts, waiting_for: Option<String>, elapsed: Duration) -> Result<()> {
        match self {
            Self::Bar { bar, estimate } => {
                let left = estimate.update(counts, elapsed);
                bar.set_length(counts.total);
                bar.set_position(counts.settled());
                bar.set_message(remark(waiting_for.as_deref(), left));
            }
            Self::Lines { estimate, last } => {
                let left = estimate.update(counts, elapsed);
                if is_due(last, LINE_INTERVAL) {
                    let Counts { total, .. } = counts;
                    let remark = remark(waiting_for.as_deref(), left);
                    let comma = if remark.is_empty() { "" } else { ", " };
                    say(&format!("{} of {}{comma}{remark}", counts.settled(), count(total, "document")));
                }
            }
            Self::Json { output, estimate, last } => {
                let left = estimate.update(counts, elapsed);
                if is_due(last, JSON_INTERVAL) {
                    let Counts { total, done, skipped, failed } = counts;
                    output.json(&json!({
                        "event": "progress", "total": total, "done": done, "skipped": skipped, "failed": failed,
                        "seconds_left": left.map(|left| left.as_secs()), "waiting_for": waiting_for,
                    }))?;
                }
            }
        }
        Ok(())
    }

    fn finish(&self) {
        if let Self::Bar { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let bar = BARS.add(ProgressBar::new(0));
    // The template is ours; where it cannot be read, the default one will do.
    let style = ProgressStyle::with_template("{spinner} [{wide_bar:.dim}] {pos} of {len} documents {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn remark(waiting_for: Option<&str>, left: Option<Duration>) -> String {
    match (waiting_for, left) {
        (Some(stage), _) => format!("waiting for the embedding model: {stage}"),
        (None, Some(left)) => format!("about {} left", Rough(left)),
        (None, None) => String::new(),
    }
}

fn is_due(last: &mut Option<Instant>, interval: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= interval);
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// Estimates the time that is left from the speed of the last seconds.
#[derive(Default)]
struct Estimate {
    /// When how many were settled, oldest first.
    seen: VecDeque<(Duration, u64)>,
    /// How many there are to settle, and since when that is known.
    total: (u64, Duration),
}

impl Estimate {
    /// Notes how far the work is `elapsed` after its start, and says how long the rest will take at this speed.
    ///
    /// Nothing while there is too little to go by: when the first few were settled just now, when none was for a while,
    /// and when more is still being found, as while a large folder is walked.
    fn update(&mut self, counts: Counts, elapsed: Duration) -> Option<Duration> {
        let settled = counts.settled();
        if settled == 0 {
            // Waiting for a model is no measure of speed.
            self.seen.clear();
        }
        if counts.total != self.total.0 {
            self.total = (counts.total, elapsed);
        }
        self.seen.push_back((elapsed, settled));
        while self.seen.get(1).is_some_and(|(at, _)| elapsed.saturating_sub(*at) >= WINDOW) {
            self.seen.pop_front();
        }
        let (since, before) = *self.seen.front()?;
        let (span, settled_then) = (elapsed.saturating_sub(since), settled.saturating_sub(before));
        let is_counted = elapsed.saturating_sub(self.total.1) >= WINDOW_MIN;
        if !is_counted || span < WINDOW_MIN || settled_then < SETTLED_MIN {
            return None;
        }
        let remaining = counts.total.saturating_sub(settled);
        // Counts of documents are far below what a double holds exactly.
        Some(span.mul_f64(remaining as f64 / settled_then as f64))
    }
}

/// A time as one would say it.
struct Rough(Duration);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0..=9 => write!(f, "{} s", self.0.as_secs().max(1)),
            seconds @ 10..=90 => write!(f, "{} s", seconds.div_ceil(5) * 5),
            seconds @ 91..=5400 => write!(f, "{} min", seconds.div_ceil(60)),
            seconds => write!(f, "{} h", seconds.div_ceil(3600)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(total: u64, done: u64) -> Counts {
        Counts { total, done, ..Counts::default() }
    }

    #[test]
    fn the_estimate_waits_until_there_is_something_to_go_by() {
        let mut estimate = Estimate::default();
        let second = Duration::from_secs(1);
        assert_eq!(estimate.update(at(100, 0), 60 * second), None, "a model was waited for");
        assert_eq!(estimate.update(at(100, 1), 61 * second), None);
        assert_eq!(estimate.update(at(100, 4), 65 * second), None, "these may have been large");
        assert_eq!(estimate.update(at(100, 10), 65 * second), Some(45 * second));
    }

    #[test]
    fn no_time_is_told_while_more_is_being_found() {
        let mut estimate = Estimate::default();
        for second in 0..30 {
            let found = at(100 + second * 10, second * 10);
            assert_eq!(estimate.update(found, Duration::from_secs(second)), None);
        }
        assert_eq!(estimate.update(at(390, 290), Duration::from_secs(31)), None);
        assert!(estimate.update(at(390, 300), Duration::from_secs(32)).is_some());
    }

    #[test]
    fn the_estimate_follows_a_change_of_speed() {
        let mut estimate = Estimate::default();
        let mut left = None;
        for second in 0..60 {
            left = estimate.update(at(1_000, 1 + second * 10), Duration::from_secs(second));
        }
        assert_eq!(left.map(|left| left.as_secs()), Some(40));
        for second in 60..90 {
            left = estimate.update(at(1_000, 600 + (second - 60)), Duration::from_secs(second));
        }
        assert_eq!(left.map(|left| left.as_secs() / 10), Some(37));
    }

    #[test]
    fn no_time_is_told_while_nothing_happens() {
        let mut estimate = Estimate::default();
        for second in 0..40 {
            estimate.update(at(100, 50), Duration::from_secs(second));
        }
        assert_eq!(estimate.update(at(100, 50), Duration::from_secs(40)), None);
    }

    #[test]
    fn times_are_told_as_one_would() {
        let told = [0, 7, 42, 100, 4000, 9000].map(|seconds| Rough(Duration::from_secs(seconds)).to_string());
        assert_eq!(told, ["1 s", "7 s", "45 s", "2 min", "67 min", "3 h"]);
    }
}
