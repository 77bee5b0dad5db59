//! How the language models are, as a part of the whole.
//!
//! Nobody is probed here: a paid model is judged by its traffic, which its breaker knows. What is not configured is no part
//! and does not count.

use std::{
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use holdfast_resilience::{
    breaker::State,
    health::{Component, Queue, Report, Since, Status},
};

use crate::Coordinator;

/// Since when the models are as they are.
#[derive(Debug)]
pub(crate) struct Watch(Mutex<Since>);

impl Default for Watch {
    fn default() -> Self {
        Self(Mutex::new(Since::new(SystemTime::now())))
    }
}

impl Report for Coordinator {
    fn components(&self) -> Vec<Component> {
        let reports = self.providers();
        if reports.is_empty() {
            return Vec::new();
        }
        let catalog = self.shared.catalog.load();
        let models = catalog.entries.iter().flat_map(|entry| &entry.models);
        let (mut passing, mut open) = (0_usize, Vec::new());
        for model in models {
            match model.standing(Instant::now()).breaker {
                State::Closed => passing += 1,
                State::HalfOpen | State::Open => open.push(model.spec().name.clone()),
            }
        }
        let troubled = reports.iter().filter(|report| report.trouble.is_some()).count();
        let (status, reason) = match (passing, open.len(), troubled) {
            (0, _, _) => (Status::Degraded, Some("no language model answers".to_owned())),
            (_, 0, 0) => (Status::Ready, None),
            (_, 0, _) => (Status::Degraded, Some(format!("{troubled} of {} providers do not answer", reports.len()))),
            _ => (Status::Degraded, Some(format!("not asked for a while, since they failed: {}", open.join(", ")))),
        };
        let mut watch = self.shared.health.0.lock().unwrap_or_else(PoisonError::into_inner);
        watch.observe(status, reason, SystemTime::now());
        vec![watch.component("language_models")]
    }

    fn queues(&self) -> Vec<Queue> {
        vec![self.shared.log.queue()]
    }
}
