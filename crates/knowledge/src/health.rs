//! How the parts of the knowledge base are, as far as they show it by themselves.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use holdfast_embedding::ModelState;
use holdfast_resilience::health::{Component, Since, Status};
use holdfast_storage::projection::ProjectionStatus;

use crate::{Inner, Knowledge};

/// Remembers since when each part has been as it is.
pub(crate) struct Health {
    parts: Mutex<BTreeMap<&'static str, Since>>,
}

/// How a part is right now.
type Finding = (Status, Option<String>);

impl Health {
    pub(crate) fn new() -> Self {
        Self { parts: Mutex::default() }
    }

    fn observe(&self, name: &'static str, (status, reason): Finding) -> Component {
        let now = SystemTime::now();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let since = parts.entry(name).or_insert_with(|| Since::new(now));
        since.observe(status, reason, now);
        since.component(name)
    }
}

impl Knowledge {
    /// How each part is.
    pub fn components(&self) -> Vec<Component> {
        let inner = &self.inner;
        let health = &inner.health;
        vec![
            health.observe("embedding", embedding(inner)),
            health.observe("database", database(inner)),
            health.observe("vectors", index(inner, "vectors")),
            health.observe("lexical", index(inner, "lexical")),
            health.observe("sources", sources(inner)),
        ]
    }
}

impl Knowledge {
    /// Sets the gauges of everything here that grows or queues; called before they are read.
    pub fn observe_gauges(&self) {
        let inner = &self.inner;
        let set = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
        set("holdfast_ingest_queued", inner.pipeline.queued() as u64);
        set("holdfast_jobs_running", inner.jobs.running() as u64);
        set("holdfast_search_cache_bytes", inner.searcher.cache_bytes());
        set("holdfast_database_bytes", inner.storage.size_bytes());
        set("holdfast_database_queued_writes", inner.storage.queued_writes() as u64);
        set("holdfast_vectors_bytes", inner.storage.projections().memory_bytes() as u64);
        match inner.storage.projections().status() {
            Ok(statuses) => observe_indexes(&statuses),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to look at the indexes for the metrics"
            ),
        }
    }
}

fn observe_indexes(statuses: &[ProjectionStatus]) {
    for index in ["vectors", "lexical"] {
        let of = || statuses.iter().filter(|status| status.index == index);
        let chunks: usize = of().map(|status| status.chunks).sum();
        let backlog: u64 = of().map(|status| status.backlog).sum();
        metrics::gauge!("holdfast_index_chunks", "index" => index).set(chunks as f64);
        metrics::gauge!("holdfast_index_backlog", "index" => index).set(backlog as f64);
    }
}

const READY: Finding = (Status::Ready, None);

fn embedding(inner: &Inner) -> Finding {
    match inner.models.get(inner.models.default_model()) {
        Ok(embedder) => match embedder.state() {
            ModelState::Ready => READY,
            state => (Status::Down, Some(state.to_string())),
        },
        Err(error) => (Status::Down, Some(error.to_string())),
    }
}

fn database(inner: &Inner) -> Finding {
    match inner.storage.failure() {
        None => READY,
        Some(reason) => (Status::Down, Some(reason)),
    }
}

fn index(inner: &Inner, name: &str) -> Finding {
    match inner.storage.projections().status() {
        Ok(statuses) => statuses
            .into_iter()
            .filter(|status| status.index == name)
            .find_map(|status| status.failure)
            .map_or(READY, |reason| (Status::Degraded, Some(reason))),
        Err(error) => (Status::Down, Some(error.to_string())),
    }
}

fn sources(inner: &Inner) -> Finding {
    if let Some(trouble) = inner.watcher.as_ref().and_then(|watcher| watcher.trouble()) {
        return (Status::Degraded, Some(trouble));
    }
    match inner.storage.sources() {
        Ok(sources) => {
            let failed = sources.iter().filter(|source| source.last_error.is_some()).count();
            match failed {
                0 => READY,
                _ => (Status::Degraded, Some(format!("{failed} of {} sources could not be read", sources.len()))),
            }
        }
        Err(error) => (Status::Down, Some(error.to_string())),
    }
}
