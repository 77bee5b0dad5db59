//! Whether log lines get where they are to go.
//!
//! Each way that they go notes here how it is: with every line, and with a trial every second and a half, so that one on
//! which nothing is logged is known too. One that notes nothing any more stands still. What is lost is told by the part
//! `log` of the status, since there is no log to tell it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use holdfast_resilience::health::{Component, Report, Since, Status};

/// How long a way may note nothing: more than the time between two trials, and less than the five seconds within which
/// what breaks is told.
const SILENT_MAX: Duration = Duration::from_secs(4);

static WAYS: Mutex<Ways> = Mutex::new(Ways { by_name: BTreeMap::new(), since: None });

struct Ways {
    by_name: BTreeMap<&'static str, Way>,
    since: Option<Since>,
}

struct Way {
    /// Why the last line, or trial, did not get through.
    failing: Option<io::ErrorKind>,
    /// When that was noted.
    noted_at: Instant,
}

/// Notes how the writing of lines went, or the trial of it.
pub fn note<T>(way: &'static str, written: &io::Result<T>) {
    let failing = written.as_ref().err().map(io::Error::kind);
    let mut ways = ways();
    ways.by_name.insert(way, Way { failing, noted_at: Instant::now() });
    ways.observe();
}

/// Forgets a way that lines go no more.
pub fn forget(way: &'static str) {
    let mut ways = ways();
    ways.by_name.remove(way);
    ways.observe();
}

fn ways() -> MutexGuard<'static, Ways> {
    WAYS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ways {
    fn observe(&mut self) -> Component {
        let now = SystemTime::now();
        let troubles: Vec<String> = self.by_name.iter().filter_map(|(name, way)| way.trouble(name)).collect();
        let status = if troubles.is_empty() { Status::Ready } else { Status::Degraded };
        let since = self.since.get_or_insert_with(|| Since::new(now));
        since.observe(status, (!troubles.is_empty()).then(|| troubles.join("; ")), now);
        since.component("log")
    }
}

impl Way {
    fn trouble(&self, name: &str) -> Option<String> {
        let silent = self.noted_at.elapsed();
        if silent > SILENT_MAX {
            return Some(format!("lines for {name} have stood still for {} s", silent.as_secs()));
        }
        self.failing.map(|kind| format!("lines for {name} do not get through: {kind}"))
    }
}

/// The part `log`.
pub struct LogHealth;

impl Report for LogHealth {
    fn components(&self) -> Vec<Component> {
        vec![ways().observe()]
    }
}
