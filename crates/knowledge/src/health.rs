//! How the parts of the knowledge base are, by trying them.
//!
//! One task does a little of everything at intervals: a text is embedded, the database written,
//! each index asked. It is woken by a timer and by the model becoming ready, and ends with the
//! knowledge base. What it found last is what [`Knowledge::health`] tells, with its age; a task
//! that is stuck is noticed by that.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use holdfast_embedding::{EmbedError, Embedder, ModelState, Priority, Purpose, Request, Reuse};
use holdfast_resilience::health::{Component, STALE_AFTER, Since, Status};
use holdfast_storage::projection::{Indexes, ProjectionStatus};
use tokio_util::sync::CancellationToken;

use crate::{Inner, Knowledge, KnowledgeError};

/// How often everything is tried.
const INTERVAL: Duration = Duration::from_secs(4);
/// How long a part may take for what is next to nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is embedded and searched for.
const PROBE: &str = "holdfast";

/// How everything is, and when that was found out.
#[derive(Clone, Debug)]
pub struct HealthReport {
    /// Every part.
    pub components: Vec<Component>,
    /// When the parts were tried.
    pub checked_at: SystemTime,
    /// How long ago, where that is too long to mean anything.
    pub stale: Option<Duration>,
}

/// What was found last, and since when each part has been as it is.
pub(crate) struct Health {
    measured: RwLock<Measured>,
    parts: Mutex<BTreeMap<&'static str, Since>>,
}

/// One round of trying.
struct Measured {
    at: Instant,
    checked_at: SystemTime,
    /// Whether the default model was ready when the round began.
    with_model: bool,
    findings: BTreeMap<&'static str, Finding>,
}

/// How a part is right now.
type Finding = (Status, Option<String>);

const READY: Finding = (Status::Ready, None);

fn down(reason: impl ToString) -> Finding {
    (Status::Down, Some(reason.to_string()))
}

impl Health {
    pub(crate) fn new() -> Self {
        let nothing = Measured {
            at: Instant::now(),
            checked_at: SystemTime::now(),
            with_model: false,
            findings: BTreeMap::new(),
        };
        Self { measured: RwLock::new(nothing), parts: Mutex::default() }
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
    /// How each part was when it was last tried. What is known without trying is told at once: a
    /// model that is not there yet, a commit that failed.
    pub fn health(&self) -> HealthReport {
        let inner = &self.inner;
        let measured = inner.health.measured.read().unwrap_or_else(PoisonError::into_inner);
        let found = |name: &str| measured.findings.get(name).cloned().unwrap_or_else(|| down("not tried yet"));
        let components = vec![
            inner.health.observe("embedding", loading(inner).unwrap_or_else(|| found("embedding"))),
            inner.health.observe("database", inner.storage.failure().map_or_else(|| found("database"), down)),
            inner.health.observe("vectors", found("vectors")),
            inner.health.observe("lexical", found("lexical")),
            inner.health.observe("sources", found("sources")),
        ];
        let age = measured.at.elapsed();
        HealthReport { components, checked_at: measured.checked_at, stale: (age > STALE_AFTER).then_some(age) }
    }

    /// Tries everything at intervals until the knowledge base shuts down.
    pub(crate) async fn keep_watch(self, shutdown: CancellationToken) {
        let mut timer = tokio::time::interval(INTERVAL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        timer.reset();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = timer.tick() => {}
                () = self.model_ready() => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.try_everything() => {}
            }
        }
    }

    /// Comes back when the default model is ready and was not yet when it was last tried.
    async fn model_ready(&self) {
        let tried = self.inner.health.measured.read().unwrap_or_else(PoisonError::into_inner).with_model;
        if !tried
            && let Ok(embedder) = self.inner.models.get(self.inner.models.default_model())
            && embedder.ready().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    pub(crate) async fn try_everything(&self) {
        let inner = &self.inner;
        let with_model = loading(inner).is_none();
        let (embedding, database, indexes) = tokio::join!(
            in_time(try_embedding(inner)),
            in_time(try_database(inner)),
            in_time(async {
                self.blocking(|inner| {
                    Ok([
                        ("vectors", try_index(inner, "vectors")),
                        ("lexical", try_index(inner, "lexical")),
                        ("sources", sources(inner)),
                    ])
                })
                .await
            }),
        );
        let mut findings = BTreeMap::from([
            ("embedding", embedding.unwrap_or_else(down)),
            ("database", database.unwrap_or_else(down)),
        ]);
        let late = |error: KnowledgeError| ["vectors", "lexical", "sources"].map(|name| (name, down(&error)));
        findings.extend(indexes.unwrap_or_else(late));
        let measured = Measured { at: Instant::now(), checked_at: SystemTime::now(), with_model, findings };
        *inner.health.measured.write().unwrap_or_else(PoisonError::into_inner) = measured;
    }
}

async fn in_time<T>(trial: impl Future<Output = Result<T, KnowledgeError>>) -> Result<T, KnowledgeError> {
    tokio::time::timeout(PATIENCE, trial).await.unwrap_or(Err(KnowledgeError::Deadline { deadline: PATIENCE }))
}

/// What the default model is doing instead of answering.
fn loading(inner: &Inner) -> Option<Finding> {
    match inner.models.get(inner.models.default_model()).map(|embedder: Embedder| embedder.state()) {
        Ok(ModelState::Ready) => None,
        Ok(state) => Some(down(state)),
        Err(error) => Some(down(error)),
    }
}

async fn try_embedding(inner: &Inner) -> Result<Finding, KnowledgeError> {
    if let Some(finding) = loading(inner) {
        return Ok(finding);
    }
    let embedder = inner.models.get(inner.models.default_model())?;
    if embedder.is_remote() {
        // It may cost money: it is judged by its traffic, and by probes of its own once that fails.
        return Ok(READY);
    }
    let texts = vec![PROBE.to_owned()];
    let probe = Request { reuse: Reuse::No, ..Request::of(texts, Purpose::Query, Priority::Interactive) };
    match embedder.answer(probe).await {
        Ok(_) => Ok(READY),
        // Full of work is not broken.
        Err(error @ EmbedError::Overloaded { .. }) => Ok((Status::Degraded, Some(error.to_string()))),
        Err(error) => Ok(down(error)),
    }
}

async fn try_database(inner: &Inner) -> Result<Finding, KnowledgeError> {
    Ok(inner.storage.probe().await.map_or_else(down, |()| READY))
}

fn try_index(inner: &Inner, name: &str) -> Finding {
    let projections = inner.storage.projections();
    let statuses = match projections.status() {
        Ok(statuses) => statuses,
        Err(error) => return down(error),
    };
    for status in statuses.into_iter().filter(|status| status.index == name) {
        if let Some(reason) = status.failure {
            return (Status::Degraded, Some(reason));
        }
        let Some(indexes) = projections.indexes(status.generation_id) else { continue };
        if let Err(error) = ask(&indexes, name) {
            return down(error);
        }
    }
    READY
}

fn ask(indexes: &Indexes, name: &str) -> Result<(), Box<dyn std::error::Error>> {
    if name == "lexical" {
        indexes.lexical().query(PROBE, 1, None)?;
    } else {
        indexes.vectors().nearest(&vec![1.0; indexes.generation.space.dimensions], 1, None)?;
    }
    Ok(())
}

fn sources(inner: &Inner) -> Finding {
    if let Some(trouble) = inner.watcher.as_ref().and_then(|watcher| watcher.trouble()) {
        return (Status::Degraded, Some(trouble));
    }
    match inner.storage.failing_sources() {
        Ok((0, _)) => READY,
        // What was wrong with them names folders and collections, and health is told to strangers.
        Ok((failing, all)) => (
            Status::Degraded,
            Some(format!("{failing} of {all} sources failed at the last look, `holdfast sources list` says why")),
        ),
        Err(error) => down(error),
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
