//! How the parts of the knowledge base are, by trying them.
//!
//! One task does a little of everything at intervals: a text is embedded, the database written, the disk written, each
//! index asked and its files looked at, sources and jobs read. It is woken by a timer and by the model becoming ready,
//! and ends with the knowledge base. What it found last is what [`Knowledge::health`] tells, with its age; a task that
//! is stuck is noticed by that.
//!
//! A part that does not answer in time is degraded, and down when it still has not the next time; it is not tried again
//! beside the trial that is under way, so that one that hangs takes one thread and no more. From a break to its being told
//! takes [`INTERVAL`] and [`PATIENCE`] at most, which is less than five seconds.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use holdfast_embedding::{EmbedError, Embedder, ModelState, Priority, Purpose, Request, Reuse};
use holdfast_resilience::{
    breaker::State,
    health::{Component, Queue, STALE_AFTER, Since, Status},
};
use holdfast_storage::{
    DiskSpace, Grants,
    projection::{Indexes, ProjectionStatus},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Inner, Knowledge};

/// How often everything is tried.
const INTERVAL: Duration = Duration::from_millis(1_500);
/// How long a part may take for what is next to nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is embedded and searched for.
const PROBE: &str = "holdfast";
/// Less than this, or than a twentieth of the disk where that is less still, is little room.
const LITTLE_ROOM_BYTES: u64 = 256 << 20;

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
    /// One round at a time.
    trials: tokio::sync::Mutex<Trials>,
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

/// The trials of the parts that are tried on threads of their own, from one round to the next.
#[derive(Default)]
struct Trials {
    embedding: Lateness,
    database: Lateness,
    blocking: BTreeMap<&'static str, Trial>,
}

/// How often in a row a part has not answered in time.
#[derive(Default)]
struct Lateness(u32);

/// The trial of one part.
#[derive(Default)]
struct Trial {
    /// Under way since an earlier round, if it hangs.
    running: Option<JoinHandle<Finding>>,
    lateness: Lateness,
}

/// What tries a part, and may block.
type Attempt = fn(&Inner) -> Finding;

/// What is tried where blocking is allowed, and how.
const BLOCKING: [(&str, Attempt); 6] = [
    ("disk", try_disk),
    ("vectors", |inner| try_index(inner, "vectors")),
    ("lexical", |inner| try_index(inner, "lexical")),
    ("sources", sources),
    ("jobs", jobs),
    // The gauges are looked up here, so that asking for the metrics waits for nothing.
    ("gauges", gauges),
];

const READY: Finding = (Status::Ready, None);

fn down(reason: impl ToString) -> Finding {
    (Status::Down, Some(reason.to_string()))
}

fn degraded(reason: impl ToString) -> Finding {
    (Status::Degraded, Some(reason.to_string()))
}

impl Lateness {
    /// What an answer comes to, or that there was none in time.
    fn judge(&mut self, answer: Option<Finding>) -> Finding {
        let Some(finding) = answer else {
            self.0 += 1;
            let reason = format!("it has not answered for {} s", (PATIENCE * self.0).as_secs());
            return if self.0 == 1 { degraded(reason) } else { down(reason) };
        };
        self.0 = 0;
        finding
    }
}

impl Trial {
    /// Goes on with the trial that is under way, or begins one.
    async fn settle(&mut self, patience: Duration, begin: impl FnOnce() -> JoinHandle<Finding>) -> Finding {
        let running = self.running.get_or_insert_with(begin);
        let answer = match tokio::time::timeout(patience, running).await {
            Ok(Ok(finding)) => Some(finding),
            Ok(Err(_)) => Some(down("trying it panicked; the log has the place")),
            Err(_) => None,
        };
        if answer.is_some() {
            self.running = None;
        }
        self.lateness.judge(answer)
    }
}

impl Health {
    pub(crate) fn new() -> Self {
        let nothing = Measured {
            at: Instant::now(),
            checked_at: SystemTime::now(),
            with_model: false,
            findings: BTreeMap::new(),
        };
        Self { measured: RwLock::new(nothing), parts: Mutex::default(), trials: tokio::sync::Mutex::default() }
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
    /// model that is not there yet, a commit that failed, what indexing waits for.
    pub fn health(&self) -> HealthReport {
        let inner = &self.inner;
        let measured = inner.health.measured.read().unwrap_or_else(PoisonError::into_inner);
        let found = |name: &str| measured.findings.get(name).cloned().unwrap_or_else(|| down("not tried yet"));
        let observe = |name: &'static str, finding| inner.health.observe(name, finding);
        let mut components = vec![observe("embedding", loading(inner).unwrap_or_else(|| found("embedding")))];
        components.extend(remote(inner).map(|finding| observe("remote", finding)));
        components.extend([
            observe("database", inner.storage.failure().map_or_else(|| found("database"), down)),
            observe("disk", found("disk")),
            observe("vectors", found("vectors")),
            observe("lexical", found("lexical")),
            observe("ingest", ingest(inner)),
            observe("sources", found("sources")),
            observe("jobs", found("jobs")),
        ]);
        let age = measured.at.elapsed();
        HealthReport { components, checked_at: measured.checked_at, stale: (age > STALE_AFTER).then_some(age) }
    }

    /// What waits in the knowledge base, with its bounds.
    pub fn queues(&self) -> [Queue; 2] {
        [self.inner.pipeline.queue(), self.inner.storage.queue()]
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
        let mut trials = inner.health.trials.lock().await;
        let Trials { embedding, database, blocking } = &mut *trials;
        for (name, _) in BLOCKING {
            blocking.entry(name).or_default();
        }
        let blocking = blocking.iter_mut().filter_map(|(name, trial)| {
            let (_, attempt) = BLOCKING.into_iter().find(|(known, _)| known == name)?;
            let inner = std::sync::Arc::clone(inner);
            Some(async move {
                (*name, trial.settle(PATIENCE, || tokio::task::spawn_blocking(move || attempt(&inner))).await)
            })
        });
        let (embedded, written, blocked) = tokio::join!(
            tokio::time::timeout(PATIENCE, try_embedding(inner)),
            tokio::time::timeout(PATIENCE, try_database(inner)),
            futures::future::join_all(blocking),
        );
        let mut findings: BTreeMap<&'static str, Finding> = blocked.into_iter().collect();
        findings.insert("embedding", embedding.judge(embedded.ok()));
        findings.insert("database", database.judge(written.ok()));
        drop(trials);
        let measured = Measured { at: Instant::now(), checked_at: SystemTime::now(), with_model, findings };
        *inner.health.measured.write().unwrap_or_else(PoisonError::into_inner) = measured;
        // Also where nobody asks: who does so later is told since when it is so, not since when it was asked about.
        drop(self.health());
    }
}

/// What the default model is doing instead of answering.
fn loading(inner: &Inner) -> Option<Finding> {
    match inner.models.get(inner.models.default_model()).map(|embedder: Embedder| embedder.state()) {
        Ok(ModelState::Ready) => None,
        Ok(state) => Some(down(state)),
        Err(error) => Some(down(error)),
    }
}

async fn try_embedding(inner: &Inner) -> Finding {
    if let Some(finding) = loading(inner) {
        return finding;
    }
    let embedder = match inner.models.get(inner.models.default_model()) {
        Ok(embedder) => embedder,
        Err(error) => return down(error),
    };
    if embedder.is_remote() {
        return remote_default(inner);
    }
    let texts = vec![PROBE.to_owned()];
    let probe = Request { reuse: Reuse::No, ..Request::of(texts, Purpose::Query, Priority::Interactive) };
    match embedder.answer(probe).await {
        Ok(_) => READY,
        // Full of work is not broken.
        Err(error @ EmbedError::Overloaded { .. }) => degraded(error),
        Err(error) => down(error),
    }
}

/// How the default model is where it is a remote one: it may cost money, so it is judged by its traffic, and by probes of
/// its own once its breaker opened.
fn remote_default(inner: &Inner) -> Finding {
    let name = inner.models.default_model();
    let report = inner.models.remotes().into_iter().find(|report| report.model == name);
    match report.and_then(|report| Some((report.breaker, report.trouble?))) {
        None => READY,
        // What is down gets no traffic, so it is only called that while something else tries it.
        Some((State::Closed, trouble)) => degraded(trouble),
        Some((State::Open | State::HalfOpen, trouble)) => down(trouble),
    }
}

/// How the remote models answer that somebody has asked for; nothing where there are none.
fn remote(inner: &Inner) -> Option<Finding> {
    let remotes = inner.models.remotes();
    let troubled: Vec<_> = remotes.iter().filter_map(|remote| remote.trouble.as_ref()).collect();
    match (remotes.len(), troubled.first()) {
        (0, _) => None,
        (_, None) => Some(READY),
        // Their names are the operator's; `holdfast models list` has them.
        (all, Some(reason)) => Some(degraded(format!("{} of {all} remote models fail: {reason}", troubled.len()))),
    }
}

async fn try_database(inner: &Inner) -> Finding {
    inner.storage.probe().await.map_or_else(down, |()| READY)
}

fn try_disk(inner: &Inner) -> Finding {
    match inner.storage.try_disk() {
        Ok(space) => {
            metrics::gauge!("holdfast_disk_free_bytes").set(space.free_bytes as f64);
            metrics::gauge!("holdfast_disk_size_bytes").set(space.size_bytes as f64);
            room(space)
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            down(format!("the data directory cannot be written: {cause}"))
        }
    }
}

fn room(DiskSpace { free_bytes, size_bytes }: DiskSpace) -> Finding {
    if free_bytes < LITTLE_ROOM_BYTES.min(size_bytes / 20) {
        return degraded(format!("the data directory's disk has {} MB left", free_bytes / 1_000_000));
    }
    READY
}

/// What indexing waits for, and whether it gets on.
fn ingest(inner: &Inner) -> Finding {
    let pipeline = &inner.pipeline;
    if let Some(reason) = pipeline.obstacle() {
        return degraded(reason);
    }
    match pipeline.stuck_for().filter(|time| *time > inner.config.stuck_after) {
        Some(time) => degraded(format!("documents are under way, and none was finished for {} s", time.as_secs())),
        None => READY,
    }
}

fn jobs(inner: &Inner) -> Finding {
    match inner.storage.jobs(&Grants::All, None, 1) {
        Ok(_) => READY,
        Err(error) => down(error),
    }
}

fn gauges(inner: &Inner) -> Finding {
    observe_gauges(inner);
    READY
}

fn try_index(inner: &Inner, name: &str) -> Finding {
    let projections = inner.storage.projections();
    let statuses = match projections.status() {
        Ok(statuses) => statuses,
        Err(error) => return down(error),
    };
    for status in statuses.into_iter().filter(|status| status.index == name) {
        if let Some(reason) = status.failure {
            return degraded(reason);
        }
        let Some(indexes) = projections.indexes(status.generation_id) else { continue };
        if let Err(error) = ask(&indexes, name) {
            return down(error);
        }
    }
    match projections.examine(name) {
        // It answers from memory; the next start would not have it.
        Some((_, error)) => {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            degraded(format!("its files are damaged, `holdfast doctor --fix` builds it anew: {cause}"))
        }
        None => READY,
    }
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
        return degraded(trouble);
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

/// Sets the gauges of everything here that grows, and cannot be had without asking a disk.
fn observe_gauges(inner: &Inner) {
    metrics::gauge!("holdfast_jobs_running").set(inner.jobs.running() as f64);
    metrics::gauge!("holdfast_search_cache_bytes").set(inner.searcher.cache_bytes() as f64);
    metrics::gauge!("holdfast_database_bytes").set(inner.storage.size_bytes() as f64);
    metrics::gauge!("holdfast_vectors_bytes").set(inner.storage.projections().memory_bytes() as f64);
    for (index, bytes) in inner.storage.projections().disk_bytes() {
        metrics::gauge!("holdfast_index_bytes", "index" => index).set(bytes as f64);
    }
    let (idle, readers) = inner.storage.readers();
    metrics::gauge!("holdfast_database_readers", "state" => "idle").set(idle as f64);
    metrics::gauge!("holdfast_database_readers", "state" => "in_use").set((readers - idle) as f64);
    // That these cannot be had is told by the parts themselves.
    if let Ok((failing, all)) = inner.storage.failing_sources() {
        metrics::gauge!("holdfast_sources", "state" => "failing").set(failing as f64);
        metrics::gauge!("holdfast_sources", "state" => "ok").set((all - failing) as f64);
    }
    if let Ok(statuses) = inner.storage.projections().status() {
        observe_indexes(&statuses);
    }
}

fn observe_indexes(statuses: &[ProjectionStatus]) {
    for index in ["vectors", "lexical"] {
        let of = || statuses.iter().filter(|status| status.index == index);
        let chunks: usize = of().map(|status| status.chunks).sum();
        let backlog: u64 = of().map(|status| status.backlog).sum();
        metrics::gauge!("holdfast_index_chunks", "index" => index).set(chunks as f64);
        let failing = of().filter(|status| status.failure.is_some()).count();
        metrics::gauge!("holdfast_index_backlog", "index" => index).set(backlog as f64);
        metrics::gauge!("holdfast_index_failing", "index" => index).set(failing as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_late_is_degraded_and_who_stays_late_is_down() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.judge(None).0, Status::Degraded);
        assert_eq!(lateness.judge(None), (Status::Down, Some("it has not answered for 4 s".to_owned())));
        assert_eq!(lateness.judge(Some(READY)), READY);
        assert_eq!(lateness.judge(None).0, Status::Degraded);
    }

    #[tokio::test]
    async fn a_trial_that_hangs_is_waited_for_and_not_begun_again() {
        let (mut trial, short) = (Trial::default(), Duration::from_millis(20));
        let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
        let hanging = || {
            tokio::task::spawn_blocking(move || {
                held.recv().unwrap();
                READY
            })
        };
        assert_eq!(trial.settle(short, hanging).await.0, Status::Degraded);
        assert_eq!(trial.settle(short, || unreachable!("it is under way")).await.0, Status::Down);
        release.send(()).unwrap();
        assert_eq!(trial.settle(PATIENCE, || unreachable!("it is under way")).await, READY);
        assert_eq!(trial.settle(PATIENCE, || tokio::task::spawn_blocking(|| READY)).await, READY);
    }

    #[test]
    fn what_little_room_is_depends_on_the_disk() {
        let room = |free_bytes, size_bytes| room(DiskSpace { free_bytes, size_bytes }).0;
        assert_eq!(room(100 << 20, 100 << 30), Status::Degraded);
        assert_eq!(room(300 << 20, 100 << 30), Status::Ready);
        assert_eq!(room(100 << 20, 1 << 30), Status::Ready);
        assert_eq!(room(1 << 20, 1 << 30), Status::Degraded);
    }
}
