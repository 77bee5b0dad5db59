//! Who derives, and when: one worker, woken by new events and by a timer.
//!
//! A worker holds the lease, or watches who does. While it holds it, it runs each stage until that has nothing to do, the
//! cheap ones first; the next activation is the retry. Stages know nothing of each other but rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use holdfast_storage::{
    EventLog, LearningStore, StorageError,
    events::{
        EventFilter, EventPage,
        archive::{Archive, ArchiveFilter},
    },
    learning::{Checkpoint, Lease, LeaseState},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Shelf, failures, interactions, lessons, patterns,
    similar::{self, Encode, Memory, PassError, blocking},
    useful,
    value::Parts,
};

/// How often the holder of the lease shows that it lives.
const BEAT: Duration = Duration::from_secs(2);
/// How long a beat may stand still before somebody else derives.
const BEAT_STANDS: Duration = Duration::from_secs(10);
/// How often there is a look for work that no event announced.
const TIMER: Duration = Duration::from_secs(30);
/// The pause after a failure, from and to.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Events that are folded in one transaction at most, and how many there are to begin with.
const BATCH_MAX: usize = 4_000;
/// How long one transaction should take; what a crash repeats.
const BATCH_TIME: Duration = Duration::from_millis(500);
/// Values that are computed in one transaction.
const VALUES_TOGETHER: usize = 500;

/// The stage that makes vectors, and the one that says what interactions are worth.
const VECTORS: &str = "vectors";
const VALUES: &str = "values";
/// What tells ranking which documents were of use, and how often it does at most.
const USEFULNESS: &str = "usefulness";
const USEFULNESS_EVERY: Duration = Duration::from_secs(5);
/// The stage that finds failures, those that look for patterns and make lessons findable, and how often these two look at
/// most.
const FAILURES: &str = "failures";
const PATTERNS: &str = "patterns";
const LESSONS: &str = "lessons";
const LESSONS_EVERY: Duration = Duration::from_secs(2);

/// What a stage is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageStatus {
    /// Why it failed the last time, until it succeeds.
    pub error: Option<String>,
    /// Times it failed since the start.
    pub failures: u64,
    /// Of them, those since it last succeeded.
    pub in_a_row: u32,
    /// Times it did something.
    pub passes: u64,
}

/// Whether this process derives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Somebody else does, or nobody yet.
    #[default]
    Standby,
    /// It does.
    Worker,
}

/// What the worker shows of itself.
#[derive(Clone, Debug, Default)]
pub struct WorkerStatus {
    /// Whether this process derives.
    pub role: Role,
    /// Each stage.
    pub stages: BTreeMap<&'static str, StageStatus>,
}

pub(crate) struct Worker {
    pub store: LearningStore,
    pub log: EventLog,
    pub encode: Option<Arc<dyn Encode>>,
    pub shelf: Option<Arc<dyn Shelf>>,
    pub archive: Option<Archive>,
    pub status: Arc<Mutex<WorkerStatus>>,
    /// Changes whenever something was derived.
    pub progress: watch::Sender<()>,
    pub shutdown: CancellationToken,
}

/// What wakes the worker.
enum Wake {
    Events,
    Timer,
    Shutdown,
}

impl Worker {
    /// Derives until shutdown.
    pub async fn run(self) {
        let holder = Uuid::now_v7();
        let mut pause = PAUSE.0;
        loop {
            let lease = match self.acquire(holder).await {
                Ok(Some(lease)) => lease,
                Ok(None) => return,
                Err(error) => {
                    self.failed("lease", &error);
                    if !self.sleep(pause).await {
                        return;
                    }
                    pause = (pause * 2).min(PAUSE.1);
                    continue;
                }
            };
            pause = PAUSE.0;
            self.set_role(Role::Worker);
            self.hold(&lease).await;
            self.set_role(Role::Standby);
            if self.shutdown.is_cancelled() {
                return;
            }
        }
    }

    /// Waits until nobody else derives. Nothing on shutdown.
    async fn acquire(&self, holder: Uuid) -> Result<Option<Lease>, StorageError> {
        let mut seen: Option<(Option<LeaseState>, Instant)> = None;
        loop {
            let store = self.store.clone();
            let state = blocking(move || store.lease()).await.map_err(|_| StorageError::Closed)??;
            let stands = match &seen {
                Some((before, since)) if *before == state => since.elapsed() >= BEAT_STANDS,
                _ => {
                    seen = Some((state, Instant::now()));
                    false
                }
            };
            if (state.is_none() || stands)
                && let Some(lease) = self.store.take_lease(holder, state).await?
            {
                return Ok(Some(lease));
            }
            if !self.sleep(BEAT).await {
                return Ok(None);
            }
        }
    }

    /// Runs the stages as long as the lease is held.
    async fn hold(&self, lease: &Lease) {
        let mut positions = self.log.positions();
        let mut timer = tokio::time::interval(TIMER);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let beats = self.beats(lease);
        let stages = async {
            let mut stages = Stages {
                worker: self,
                lease,
                batch: BATCH_MAX,
                memory: Arc::default(),
                ranked: None,
                rests: BTreeMap::new(),
                pauses: BTreeMap::new(),
            };
            loop {
                let soonest = stages.soonest();
                let wake = tokio::select! {
                    () = self.shutdown.cancelled() => Wake::Shutdown,
                    changed = positions.changed() => if changed.is_ok() { Wake::Events } else { Wake::Shutdown },
                    _ = timer.tick() => Wake::Timer,
                    () = until(soonest) => Wake::Timer,
                };
                match wake {
                    Wake::Shutdown => return,
                    Wake::Events | Wake::Timer => {
                        positions.mark_unchanged();
                        stages.run().await;
                    }
                }
            }
        };
        tokio::select! {
            () = stages => {}
            () = beats => {}
        }
    }

    /// Shows that the holder lives, until it does not hold the lease any more.
    async fn beats(&self, lease: &Lease) {
        loop {
            match self.store.beat(lease).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!("another worker took over deriving from the event log");
                    return;
                }
                Err(error) => self.failed("lease", &error),
            }
            if !self.sleep(BEAT).await {
                return;
            }
        }
    }

    /// False on shutdown.
    async fn sleep(&self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.shutdown.cancelled() => false,
        }
    }

    fn set_role(&self, role: Role) {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).role = role;
    }

    fn failed(&self, stage: &'static str, error: &(dyn std::error::Error + 'static)) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let stage_status = status.stages.entry(stage).or_default();
        stage_status.failures += 1;
        stage_status.in_a_row += 1;
        let reason = error.to_string();
        if stage_status.error.as_ref() != Some(&reason) {
            tracing::warn!(stage, error, "a stage of learning failed; it is tried again");
        }
        stage_status.error = Some(reason);
        metrics::counter!("holdfast_learning_failures_total", "stage" => stage).increment(1);
    }

    fn succeeded(&self, stage: &'static str, did: usize) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let stage_status = status.stages.entry(stage).or_default();
        stage_status.error = None;
        stage_status.in_a_row = 0;
        if did > 0 {
            stage_status.passes += 1;
            self.progress.send_replace(());
            metrics::counter!("holdfast_learning_derived_total", "stage" => stage).increment(did as u64);
        }
    }
}

/// Waits until then; for ever where there is no time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// The stages of one holder of the lease.
struct Stages<'a> {
    worker: &'a Worker,
    lease: &'a Lease,
    /// Events of the next transaction.
    batch: usize,
    memory: Arc<Mutex<Memory>>,
    /// What ranking was last told.
    ranked: Option<Vec<(String, f32)>>,
    /// When stages that look at everything may do so again, and whether something waits for that.
    rests: BTreeMap<&'static str, (Instant, bool)>,
    /// Until when a stage that failed is left alone, and how long it was the last time.
    pauses: BTreeMap<&'static str, (Instant, Duration)>,
}

impl Stages<'_> {
    /// Runs each stage until it has nothing to do; a later one lets the earlier ones go first again.
    async fn run(&mut self) {
        loop {
            if self.worker.shutdown.is_cancelled() {
                return;
            }
            let mut did = 0;
            if self.is_due(interactions::STAGE) {
                did += self.told(interactions::STAGE, self.interactions().await);
            }
            if self.is_due(FAILURES) {
                did += self.told(FAILURES, self.failures().await);
            }
            if self.is_due(VALUES) {
                did += self.told(VALUES, self.values().await);
            }
            if self.is_due(VECTORS) {
                did += self.told(VECTORS, self.vectors().await);
            }
            if did == 0 {
                break;
            }
        }
        metrics::gauge!("holdfast_learning_bytes").set(self.worker.store.size_bytes() as f64);
        // These look at everything: however much that is, each takes a twentieth of a processor at most.
        for stage in [USEFULNESS, PATTERNS, LESSONS] {
            if !self.is_due(stage) || self.is_resting(stage) {
                continue;
            }
            let began = Instant::now();
            let done = match stage {
                USEFULNESS => self.usefulness().await,
                PATTERNS => self.patterns().await,
                _ => self.lessons().await,
            };
            let did = self.told(stage, done);
            let least = if stage == USEFULNESS { USEFULNESS_EVERY } else { LESSONS_EVERY };
            // What did something has more to do, or another one has.
            self.rests.insert(stage, (Instant::now() + least.max(began.elapsed() * 20), did > 0));
        }
    }

    /// When something is to be done that no event and no timer announces.
    fn soonest(&self) -> Option<Instant> {
        let rests = self.rests.values().filter(|(_, is_owed)| *is_owed).map(|(again, _)| *again);
        self.pauses.values().map(|(until, _)| *until).chain(rests).min()
    }

    /// Whether a stage that looks at everything has just done so; then it is looked after later.
    fn is_resting(&mut self, stage: &'static str) -> bool {
        let Some((again, is_owed)) = self.rests.get_mut(stage) else { return false };
        *is_owed = Instant::now() < *again;
        *is_owed
    }

    /// Tells ranking which documents were of use, if that has changed.
    async fn usefulness(&mut self) -> Result<usize, PassError> {
        let Some(shelf) = &self.worker.shelf else { return Ok(0) };
        let store = self.worker.store.clone();
        let estimate = move || Ok::<_, StorageError>(useful::estimate(&store.read(|fold| fold.shown())?).boosts());
        let boosts = blocking(estimate).await??;
        let is_new = self.ranked.as_ref() != Some(&boosts);
        if is_new {
            shelf.rank_by(boosts.clone());
        }
        self.ranked = Some(boosts);
        Ok(usize::from(is_new))
    }

    fn is_due(&self, stage: &'static str) -> bool {
        self.pauses.get(stage).is_none_or(|(until, _)| Instant::now() >= *until)
    }

    fn told(&mut self, stage: &'static str, done: Result<usize, PassError>) -> usize {
        match done {
            Ok(did) => {
                self.pauses.remove(stage);
                self.worker.succeeded(stage, did);
                did
            }
            Err(error) => {
                let pause = self.pauses.get(stage).map_or(PAUSE.0, |(_, last)| (*last * 2).min(PAUSE.1));
                self.pauses.insert(stage, (Instant::now() + pause, pause));
                self.worker.failed(stage, &error);
                0
            }
        }
    }

    /// Folds the log to its end.
    async fn interactions(&self) -> Result<usize, PassError> {
        let (store, log, lease) = (self.worker.store.clone(), self.worker.log.clone(), self.lease.clone());
        let (shutdown, batch, archive) = (self.worker.shutdown.clone(), self.batch, self.worker.archive.clone());
        let fold = move || fold_all(&store, (&log, archive.as_ref()), &lease, batch, &|| shutdown.is_cancelled());
        blocking(fold).await?
    }

    async fn failures(&self) -> Result<usize, PassError> {
        let (store, lease) = (self.worker.store.clone(), self.lease.clone());
        blocking(move || failures::pass(&store, &lease)).await?
    }

    async fn patterns(&self) -> Result<usize, PassError> {
        let (store, lease) = (self.worker.store.clone(), self.lease.clone());
        blocking(move || patterns::pass(&store, &lease)).await?
    }

    async fn lessons(&self) -> Result<usize, PassError> {
        let Some(shelf) = &self.worker.shelf else { return Ok(0) };
        lessons::pass(&self.worker.store, self.lease, shelf.as_ref()).await
    }

    async fn values(&self) -> Result<usize, PassError> {
        let (store, lease) = (self.worker.store.clone(), self.lease.clone());
        blocking(move || values(&store, &lease)).await?
    }

    async fn vectors(&self) -> Result<usize, PassError> {
        let Some(encode) = &self.worker.encode else { return Ok(0) };
        match similar::pass(&self.worker.store, self.lease, encode, &self.memory).await? {
            0 => patterns::vectors(&self.worker.store, self.lease, encode).await,
            done => Ok(done),
        }
    }
}

/// The next events of the log; of the archive, where the log has let go of them.
fn next((log, archive): (&EventLog, Option<&Archive>), after: u64, batch: usize) -> Result<EventPage, PassError> {
    match (log.read_after(after, batch, &EventFilter::default()), archive) {
        (Err(StorageError::Archived { first_position, .. }), Some(archive)) => {
            let wanted = ArchiveFilter { after, through: Some(first_position - 1), ..ArchiveFilter::default() };
            let events: Vec<_> = archive.read(wanted).take(batch).collect::<Result<_, _>>()?;
            // Where there are fewer, what is left up to there was erased.
            let whole = events.len() < batch;
            let last = events.last().map_or(first_position - 1, |event| event.position);
            Ok(EventPage { events, through: if whole { first_position - 1 } else { last } })
        }
        (page, _) => Ok(page?),
    }
}

/// Folds what the log has, batch by batch; how many events that were. A batch that took long is followed by a smaller one.
pub(crate) fn fold_all(
    store: &LearningStore,
    from: (&EventLog, Option<&Archive>),
    lease: &Lease,
    batch: usize,
    is_over: &dyn Fn() -> bool,
) -> Result<usize, PassError> {
    let mut at: Checkpoint = store.checkpoint(interactions::STAGE, interactions::VERSION)?;
    let (mut batch, mut count, log) = (batch, 0, from.0);
    while !is_over() {
        let page = next(from, at.position, batch)?;
        if page.events.is_empty() && page.through <= at.position {
            break;
        }
        let began = Instant::now();
        let (events, through) = (page.events, page.through);
        count += events.len();
        at = store.fold(lease, interactions::STAGE, &at, move |fold| interactions::fold(fold, &events, through))?;
        lag(log, at.position);
        let took = began.elapsed();
        if took > BATCH_TIME {
            batch = (batch / 2).max(1);
        } else if took < BATCH_TIME / 4 {
            batch = (batch * 2).min(BATCH_MAX);
        }
    }
    lag(log, at.position);
    Ok(count)
}

fn lag(log: &EventLog, position: u64) {
    metrics::gauge!("holdfast_learning_lag").set(log.last_position().saturating_sub(position) as f64);
}

pub(crate) fn values(store: &LearningStore, lease: &Lease) -> Result<usize, PassError> {
    let rows = store.read(|fold| fold.values_due(VALUES_TOGETHER))?;
    let count = rows.len();
    if count > 0 {
        store.derive(lease, move |fold| {
            let mut changed = BTreeSet::new();
            for row in &rows {
                // Nobody else changes rows, so what was read is what is there.
                if let Some(number) = row.number {
                    fold.set_value(number, Parts::of(row).value())?;
                    let about = fold.failures_about(number)?;
                    changed.extend(about.into_iter().map(|error| (row.tenant.clone(), error)));
                }
            }
            // How it went may have solved them.
            for (tenant, error) in changed {
                fold.recount_error(&tenant, &error)?;
            }
            Ok(())
        })?;
    }
    Ok(count)
}
