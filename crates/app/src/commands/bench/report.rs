//! What came of a run: counts and percentiles for each kind of request, as JSON and as a table.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use super::{histogram::Histogram, payload::Kind};

/// The percentiles that are told, in thousandths.
const PERCENTILES: [(&str, u64); 5] = [("p50", 500), ("p90", 900), ("p95", 950), ("p99", 990), ("max", 1_000)];

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered with success.
    Ok,
    /// Turned away because there was too much: 429 and 503, with the code of the answer.
    Refused(String),
    /// Anything else, with the code of the answer or the word for why there was none.
    Failed(String),
}

/// The requests of one kind.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Sent, which is the sum of the next three.
    pub sent: u64,
    /// Answered with success.
    pub ok: u64,
    /// Turned away, by code.
    pub refused: BTreeMap<String, u64>,
    /// Failed otherwise, by code.
    pub errors: BTreeMap<String, u64>,
    /// Due and never sent, because every user was still waiting when the run was over.
    pub unsent: u64,
    /// Successes that arrived before the end of the run.
    pub in_time: u64,
    /// Of successes, from due to answered.
    pub took: Histogram,
}

/// Everything that a user, or all of them, saw.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    kinds: BTreeMap<Kind, Tally>,
    /// From due to sent: our own delay, and what users waited who were still waiting for their last answer.
    pub behind: Histogram,
}

impl Tallies {
    /// The tally of a kind.
    pub fn of(&mut self, kind: Kind) -> &mut Tally {
        self.kinds.entry(kind).or_default()
    }

    /// Counts a request that was sent.
    pub fn count(&mut self, kind: Kind, outcome: Outcome, took: Duration, in_time: bool) {
        let tally = self.of(kind);
        tally.sent += 1;
        match outcome {
            Outcome::Ok => {
                tally.ok += 1;
                tally.in_time += u64::from(in_time);
                tally.took.record(took);
            }
            Outcome::Refused(code) => *tally.refused.entry(code).or_default() += 1,
            Outcome::Failed(code) => *tally.errors.entry(code).or_default() += 1,
        }
    }

    /// Adds what another saw.
    pub fn add(&mut self, other: &Self) {
        for (kind, theirs) in &other.kinds {
            let ours = self.of(*kind);
            ours.sent += theirs.sent;
            ours.ok += theirs.ok;
            ours.unsent += theirs.unsent;
            ours.in_time += theirs.in_time;
            ours.took.add(&theirs.took);
            for (code, count) in &theirs.refused {
                *ours.refused.entry(code.clone()).or_default() += count;
            }
            for (code, count) in &theirs.errors {
                *ours.errors.entry(code.clone()).or_default() += count;
            }
        }
        self.behind.add(&other.behind);
    }

    fn total(&self, of: impl Fn(&Tally) -> u64) -> u64 {
        self.kinds.values().map(of).sum()
    }

    /// Of what was due, what did not succeed.
    pub fn failures_share(&self) -> f64 {
        let due = self.total(|tally| tally.sent + tally.unsent);
        if due == 0 { 0.0 } else { (due - self.total(|tally| tally.ok)) as f64 / due as f64 }
    }

    /// The highest 95th percentile of any kind but the probe, which does no work.
    pub fn worst_p95_ms(&self) -> f64 {
        let working = self.kinds.iter().filter(|(kind, _)| **kind != Kind::Health || self.kinds.len() == 1);
        working.filter_map(|(_, tally)| tally.took.permille_ms(950)).fold(0.0, f64::max)
    }

    /// The run in the shape that `--json` prints.
    pub fn to_json(&self, rate: f64, wall: Duration, cpu_seconds: Option<f64>) -> Value {
        let routes: Map<String, Value> =
            self.kinds.iter().map(|(kind, tally)| (kind.word().to_owned(), tally.to_json())).collect();
        json!({
            "rate_per_second": rate,
            "seconds": wall.as_secs_f64(),
            "sent": self.total(|tally| tally.sent),
            "ok": self.total(|tally| tally.ok),
            "refused": self.total(|tally| tally.refused.values().sum()),
            "errors": self.total(|tally| tally.errors.values().sum()),
            "unsent": self.total(|tally| tally.unsent),
            "goodput_per_second": self.total(|tally| tally.in_time) as f64 / wall.as_secs_f64().max(1e-9),
            "routes": routes,
            "behind_ms": percentiles(&self.behind),
            "generator_cpu_seconds": cpu_seconds,
        })
    }
}

impl Tally {
    fn to_json(&self) -> Value {
        json!({
            "sent": self.sent,
            "ok": self.ok,
            "refused": self.refused,
            "errors": self.errors,
            "unsent": self.unsent,
            "ok_ms": percentiles(&self.took),
        })
    }
}

fn percentiles(histogram: &Histogram) -> Value {
    PERCENTILES.iter().map(|(name, permille)| ((*name).to_owned(), json!(histogram.permille_ms(*permille)))).collect()
}

/// A run as a person reads it.
pub fn text(run: &Value) -> String {
    let number = |value: &Value| value.as_f64().map_or("-".to_owned(), |number| format!("{number:.1}"));
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    let sum = |value: &Value| value.as_object().map_or(0, |codes| codes.values().map(count).sum());
    let mut lines = vec![format!(
        "{:<8} {:>8} {:>8} {:>8} {:>7} {:>7} {:>9} {:>9} {:>9} {:>9}",
        "", "sent", "ok", "refused", "errors", "unsent", "p50 ms", "p95 ms", "p99 ms", "max ms"
    )];
    for (name, route) in run["routes"].as_object().into_iter().flatten() {
        let took = &route["ok_ms"];
        lines.push(format!(
            "{name:<8} {:>8} {:>8} {:>8} {:>7} {:>7} {:>9} {:>9} {:>9} {:>9}",
            count(&route["sent"]),
            count(&route["ok"]),
            sum(&route["refused"]),
            sum(&route["errors"]),
            count(&route["unsent"]),
            number(&took["p50"]),
            number(&took["p95"]),
            number(&took["p99"]),
            number(&took["max"]),
        ));
        for (code, times) in
            ["refused", "errors"].iter().flat_map(|field| route[*field].as_object().into_iter().flatten())
        {
            lines.push(format!("  {code}: {times}"));
        }
    }
    lines.push(format!(
        "{} requests/s asked for, {} answered well; sent {} ms after they were due (p99)",
        number(&run["rate_per_second"]),
        number(&run["goodput_per_second"]),
        number(&run["behind_ms"]["p99"]),
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_are_told() {
        let (mut one, mut other) = (Tallies::default(), Tallies::default());
        one.count(Kind::Embed, Outcome::Ok, Duration::from_millis(8), true);
        one.count(Kind::Embed, Outcome::Refused("overloaded".into()), Duration::ZERO, true);
        other.count(Kind::Embed, Outcome::Ok, Duration::from_millis(9), false);
        other.count(Kind::Search, Outcome::Failed("internal".into()), Duration::ZERO, true);
        other.of(Kind::Search).unsent = 1;
        one.add(&other);
        let told = one.to_json(10.0, Duration::from_secs(2), None);
        for (field, expected) in [("sent", 4), ("ok", 2), ("refused", 1), ("errors", 1), ("unsent", 1)] {
            assert_eq!(told[field], expected, "{field}");
        }
        assert_eq!(told["goodput_per_second"], 0.5, "what came after the end is not counted");
        assert!((one.failures_share() - 0.6).abs() < 1e-9);
        assert_eq!(one.worst_p95_ms(), 9.0);
        let text = text(&told);
        assert!(text.contains("overloaded: 1") && text.contains("internal: 1"), "{text}");
    }
}
