//! Whether what happens is written down: the part `events` of the status, and how large the log is.
//!
//! [`EventHealth::measure`] is woken by a timer, since a disk that does not answer must not keep anybody waiting who asks
//! for the metrics; it ends at shutdown.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use holdfast_resilience::health::{Component, Report, Since, Status};
use holdfast_storage::EventLog;
use tokio_util::sync::CancellationToken;

/// How often the size is looked at.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// The event log, as a part of the whole. Its queue is told by whoever fills it.
pub struct EventHealth {
    events: EventLog,
    since: Mutex<Since>,
}

impl EventHealth {
    /// How that log is.
    pub fn of(events: EventLog) -> Self {
        Self { events, since: Mutex::new(Since::new(SystemTime::now())) }
    }

    /// Tells how large the log is, until stopped.
    pub async fn measure(events: EventLog, stop: CancellationToken) {
        loop {
            let looked_at = events.clone();
            if let Ok(bytes) = tokio::task::spawn_blocking(move || looked_at.size_bytes()).await {
                metrics::gauge!("holdfast_events_bytes").set(bytes as f64);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(MEASURE_EVERY) => {}
            }
        }
    }
}

impl Report for EventHealth {
    fn components(&self) -> Vec<Component> {
        let failure = self.events.failure();
        let status = if failure.is_some() { Status::Degraded } else { Status::Ready };
        let reason = failure.map(|failure| format!("what happens is not written down: {failure}"));
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.observe(status, reason, SystemTime::now());
        vec![since.component("events")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_works_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let events = EventLog::open_at(&folder.path().join("events.db")).unwrap();
        let [component] = &EventHealth::of(events.clone()).components()[..] else { panic!("not one part") };
        assert_eq!((component.name.as_str(), component.status, &component.reason), ("events", Status::Ready, &None));
        events.close();
    }
}
