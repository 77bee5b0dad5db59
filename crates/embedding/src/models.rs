//! The registry: which models there are, and the background task that brings each to life.
//!
//! A model is loaded when it is first asked for, the default one at start. Its task fetches what is missing, checks and
//! reads the files, and starts the thread that answers; when anything fails it waits, longer each time, and tries
//! again. It wakes early when a pull of the model has succeeded, and ends at shutdown, where it closes the queue.

use std::{
    collections::HashMap,
    fmt,
    num::NonZero,
    panic::resume_unwind,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, ModelSource,
    cache::Cache,
    embedder::{Embedder, Loaded, ModelState, Priority},
    encoder::{Encoder, Scratch, Settings, Shape, Shorter},
    error::EmbedError,
    fetch::{self, PullProgress},
    manifest::{Manifest, TOKENIZER, WEIGHTS},
    memory,
    queue::{Limits, Queue},
    remote::{Client, Described, Remote, RemoteModel, RemoteReport},
    space::{EmbeddingSpace, Precision},
    store::{ModelInfo, Store, check_file},
    tokens::{Cut, Tokens},
    worker::{Elsewhere, Engine, Local, Worker, batch_tokens},
};

/// The longest pause between two tries to load a model, in units of the longest pause between two fetch attempts.
const LOAD_BACKOFF_FACTOR: u32 = 4;

/// Requests to a remote model at a time.
const REMOTE_REQUESTS: usize = 4;
/// What one of them has at most: as many texts as text-embeddings-inference takes unless told otherwise.
const REMOTE_BATCH_TEXTS: usize = 32;
const REMOTE_BATCH_TOKENS: usize = 16_384;
/// Tokens a second that one request at a time makes, before anything is known.
const REMOTE_SPEED: f64 = 2_000.0;
/// A word that every vocabulary can spell.
const WARM_UP: &str = "a ";

/// All models; cheap to clone.
#[derive(Clone)]
pub struct Models {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    store: Store,
    asked: Mutex<HashMap<String, Asked>>,
    cache: Cache,
    /// Bytes that all models together may take.
    memory: u64,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    runtime: Handle,
}

/// A model that somebody asked for.
struct Asked {
    embedder: Embedder,
    /// Its files changed.
    changed: Arc<Notify>,
    /// Bytes it takes, or will.
    bytes: u64,
}

/// What is unanswered of a model, in one priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelQueue {
    /// The model's name.
    pub model: String,
    /// Whose texts.
    pub priority: Priority,
    /// Texts accepted and not answered.
    pub texts: usize,
    /// How many there may be; a request beyond is refused.
    pub limit: usize,
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Models {
    /// Begins to load the default model and returns at once. To be called within a Tokio runtime.
    ///
    /// Everything started here ends after `shutdown` is cancelled, and is counted by `tasks`.
    pub fn start(config: Config, shutdown: CancellationToken, tasks: TaskTracker) -> Models {
        let store = Store::new(config.models_dir.clone(), config.known_models.clone());
        let cache = Cache::new(config.cache_bytes, config.keeper.clone());
        let memory = match config.max_memory_bytes {
            0 => memory::granted().map_or(u64::MAX, |bytes| bytes / 2),
            bytes => bytes,
        };
        let runtime = Handle::current();
        let shared = Shared { config, store, asked: Mutex::default(), cache, memory, shutdown, tasks, runtime };
        let models = Models { shared: Arc::new(shared) };
        let name = models.shared.config.default_model.clone();
        if let Err(error) = models.get(&name) {
            tracing::error!(model = %name, %error, "the default model cannot be loaded: {error}");
        }
        models
    }

    /// The name of the model that is used where none is named.
    pub fn default_model(&self) -> &str {
        &self.shared.config.default_model
    }

    /// The handle of a model, which begins to load unless it has.
    ///
    /// # Errors
    ///
    /// [`EmbedError::UnknownModel`] when it is neither installed nor known, [`EmbedError::InvalidName`] when it could
    /// not be, [`EmbedError::NoRoom`] when it would take more memory than is left for models.
    pub fn get(&self, name: &str) -> Result<Embedder, EmbedError> {
        let mut asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = asked.get(name) {
            return Ok(asked.embedder.clone());
        }
        let bytes = self.shared.room_for(name, &asked)?;
        let Shared { cache, config, shutdown, .. } = &*self.shared;
        let embedder = Embedder::new(name, cache.clone(), config.deadline, shutdown.clone());
        let changed = Arc::new(Notify::new());
        let loading =
            Loading { shared: Arc::clone(&self.shared), embedder: embedder.clone(), changed: Arc::clone(&changed) };
        asked.insert(name.to_owned(), Asked { embedder: embedder.clone(), changed, bytes });
        self.shared.tasks.spawn_on(loading.run(), &self.shared.runtime);
        Ok(embedder)
    }

    /// The handle of a model that somebody has asked for already, and the memory it takes, about.
    pub fn asked(&self, name: &str) -> Option<(Embedder, u64)> {
        let asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(name).map(|asked| (asked.embedder.clone(), asked.bytes))
    }

    /// How the remote models fare that somebody has asked for already, by name.
    pub fn remotes(&self) -> Vec<RemoteReport> {
        let asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reports: Vec<_> =
            asked.values().filter_map(|asked| asked.embedder.remote()).map(|remote| remote.report()).collect();
        reports.sort_unstable_by(|one, other| one.model.cmp(&other.model));
        reports
    }

    /// What is unanswered of each model that is loaded, by name.
    pub fn queues(&self) -> Vec<ModelQueue> {
        let asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |embedder: &Embedder| {
            let (model, queue) = (embedder.name().to_owned(), embedder.queue()?);
            let limit = queue.limits().texts;
            Some([Priority::Interactive, Priority::Bulk].map(|priority| {
                let texts = queue.unanswered(priority);
                ModelQueue { model: model.clone(), priority, texts, limit }
            }))
        };
        let mut queues: Vec<_> = asked.values().filter_map(|asked| of(&asked.embedder)).flatten().collect();
        // Of one model as they are.
        queues.sort_by(|one, other| one.model.cmp(&other.model));
        queues
    }

    /// The models of which there is something on disk, by name. Compares sizes, not contents.
    pub fn local(&self) -> Vec<ModelInfo> {
        self.shared.store.list()
    }

    /// Fetches what is missing or damaged of a model, and wakes its loading.
    ///
    /// `from` names one source instead of the configured ones. From a folder, a model of any other name than the known
    /// ones can be imported; what it consists of is recorded beside it.
    ///
    /// # Errors
    ///
    /// [`EmbedError::FetchFailed`] with each source's reason; [`EmbedError::UnknownModel`] and
    /// [`EmbedError::InvalidName`] for the name; [`EmbedError::InvalidModel`] for a folder with something else;
    /// [`EmbedError::Io`] when the files cannot be written here.
    pub async fn pull(
        &self,
        name: &str,
        from: Option<ModelSource>,
        progress: impl Fn(PullProgress) + Send + Sync,
    ) -> Result<ModelInfo, EmbedError> {
        let sources = from.map_or_else(|| self.shared.config.sources.clone(), |source| vec![source]);
        let pull = fetch::pull(&self.shared.config, &self.shared.store, name, &sources, &progress);
        let info = tokio::select! {
            info = pull => info?,
            () = self.shared.shutdown.cancelled() => return Err(EmbedError::ShutDown),
        };
        let asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = asked.get(name) {
            asked.changed.notify_one();
        }
        Ok(info)
    }

    /// Makes a model of another server one of ours, after asking it for some texts' vectors. Where one of that name is
    /// loaded and this is the same model, it is asked there from now on; another stays out until the next start.
    ///
    /// # Errors
    ///
    /// [`EmbedError::RemoteFailed`] when the server does not answer, or not with vectors; [`EmbedError::InvalidRemote`]
    /// for what could never work, [`EmbedError::InvalidName`]; [`EmbedError::Io`] when it cannot be recorded.
    pub async fn connect(&self, name: &str, remote: RemoteModel) -> Result<ModelInfo, EmbedError> {
        let Shared { store, config, .. } = &*self.shared;
        if store.manifest(name)?.is_some() {
            return Err(EmbedError::InvalidRemote { reason: "there is a model of that name that runs here" });
        }
        remote.check().map_err(|reason| EmbedError::InvalidRemote { reason })?;
        let _lock = store.lock(name).await?;
        let described = async {
            let client = Client::new(name, &remote, config.deadline, config.propagate.clone())?;
            Described::probe(&client, remote).await
        };
        let described = described.await.map_err(|trouble| trouble.into_error(name))?;
        // What cannot be read of an earlier one is no reason not to have this one.
        let described = described.known_as(Described::read(&store.folder(name)).ok().flatten());
        let info = store.write_description(name, &described)?;
        let asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = asked.get(name) {
            asked.changed.notify_one();
        }
        Ok(info)
    }

    /// Reads every file of a model and compares it with its pinned or recorded hash. Takes a second a gigabyte; call it
    /// off the async runtime.
    ///
    /// # Errors
    ///
    /// [`EmbedError::CorruptFile`] for the first file that is missing or differs, [`EmbedError::UnknownModel`].
    pub fn verify(&self, name: &str) -> Result<ModelInfo, EmbedError> {
        self.shared.store.verify(name)
    }
}

/// The background task of one model.
struct Loading {
    shared: Arc<Shared>,
    embedder: Embedder,
    changed: Arc<Notify>,
}

impl Loading {
    async fn run(self) {
        let shutdown = self.shared.shutdown.clone();
        tokio::select! {
            () = self.live() => {}
            () = shutdown.cancelled() => {}
        }
        self.embedder.close();
    }

    async fn live(&self) {
        self.until_ready().await;
        match self.embedder.remote() {
            Some(remote) => {
                tokio::join!(remote.guard(&self.embedder), remote.forgive(), self.follow(remote));
            }
            None => std::future::pending().await,
        }
    }

    /// Whenever a remote model is connected anew: asks for it there, unless it is another one.
    async fn follow(&self, remote: &Remote) {
        let name = self.embedder.name();
        loop {
            self.changed.notified().await;
            match self.client_of_the_same(remote) {
                Ok(Some(client)) => remote.reach_by(client),
                Ok(None) => tracing::warn!(
                    model = name,
                    "the remote model {name} was connected anew and is another one; it is used from the next start on"
                ),
                Err(error) => tracing::warn!(
                    model = name,
                    error = &error as &dyn std::error::Error,
                    "the remote model {name} was connected anew and cannot be used: {error}"
                ),
            }
        }
    }

    /// The way to the model on record, where that is the one that is loaded.
    fn client_of_the_same(&self, remote: &Remote) -> Result<Option<Client>, EmbedError> {
        let name = self.embedder.name();
        let described = Described::read(&self.shared.store.folder(name))?;
        let same = described.filter(|described| remote.is_the_one_of(described));
        let Config { deadline, propagate, .. } = &self.shared.config;
        same.map(|described| Client::new(name, &described.remote, *deadline, propagate.clone()))
            .transpose()
            .map_err(|trouble| trouble.into_error(name))
    }

    async fn until_ready(&self) {
        let name = self.embedder.name();
        let limits = &self.shared.config.fetch;
        let pauses = || {
            ExponentialBuilder::default()
                .with_jitter()
                .with_min_delay(limits.backoff_min)
                .with_max_delay(limits.backoff_max * LOAD_BACKOFF_FACTOR)
                .without_max_times()
                .build()
        };
        let mut pause = pauses();
        loop {
            match self.load().await {
                Ok(()) => return,
                Err(error) => {
                    let retry_in = pause.next().unwrap_or(limits.backoff_max);
                    tracing::warn!(
                        model = %name, error = &error as &dyn std::error::Error, retry_in_ms = retry_in.as_millis() as u64,
                        "the embedding model {name} is not ready: {error}"
                    );
                    let (reason, hint) = (error.to_string(), error.hint());
                    self.embedder.set_state(ModelState::Failed { reason, hint, retry_in });
                    tokio::select! {
                        () = tokio::time::sleep(retry_in) => {}
                        () = self.changed.notified() => pause = pauses(),
                    }
                }
            }
        }
    }

    /// One try: load; where files are missing or damaged, fetch them and load again.
    async fn load(&self) -> Result<(), EmbedError> {
        let name = self.embedder.name();
        if let Some(described) = Described::read(&self.shared.store.folder(name))? {
            return self.reach(described).await;
        }
        match self.read().await {
            Err(EmbedError::CorruptFile { path, reason }) => {
                if self.shared.store.known(self.embedder.name()).is_none() {
                    // Only the folder it came from has the files, and where that was is not known.
                    return Err(EmbedError::CorruptFile { path, reason });
                }
            }
            result => return result,
        }
        self.fetch().await?;
        self.read().await
    }

    async fn fetch(&self) -> Result<(), EmbedError> {
        let Shared { config, store, .. } = &*self.shared;
        let report = |progress: PullProgress| {
            let PullProgress { downloaded_bytes, total_bytes, .. } = progress;
            self.embedder.set_state(ModelState::Fetching { downloaded_bytes, total_bytes });
        };
        fetch::pull(config, store, self.embedder.name(), &config.sources, &report).await.map(|_| ())
    }

    /// Makes sure that a remote model is the one that was connected, and starts the threads that wait for its answers.
    async fn reach(&self, described: Described) -> Result<(), EmbedError> {
        self.embedder.set_state(ModelState::Loading);
        let name = self.embedder.name();
        let verified = async {
            let Config { deadline, propagate, .. } = &self.shared.config;
            let client = Client::new(name, &described.remote, *deadline, propagate.clone())?;
            described.verify(&client).await.map(|()| client)
        };
        let client = verified.await.map_err(|trouble| trouble.into_error(name))?;
        let space = Arc::new(described.space(name));
        let tokens = Arc::new(Tokens::approximate(name, described.remote.window));
        let remote = Arc::new(Remote::new(name, client, described, self.shared.config.remote_pause));
        let limits = Limits {
            texts: self.shared.config.max_queued_texts,
            batch_tokens: REMOTE_BATCH_TOKENS,
            batch_texts: REMOTE_BATCH_TEXTS,
            workers: REMOTE_REQUESTS,
            deadline: self.shared.config.deadline,
        };
        let queue = Arc::new(Queue::new(name, limits, REMOTE_SPEED, self.shared.cache.clone()));
        let engine = || {
            let elsewhere = Elsewhere { remote: Arc::clone(&remote), runtime: self.shared.runtime.clone() };
            Box::new(elsewhere) as Box<dyn Engine>
        };
        self.start_threads(&queue, REMOTE_REQUESTS, engine)?;
        self.embedder.set_loaded(Loaded::new(space, tokens, Some(Arc::clone(&remote)), Shorter::None, queue));
        tracing::info!(model = name, "the remote model {name} is ready");
        Ok(())
    }

    fn start_threads(
        &self,
        queue: &Arc<Queue>,
        count: usize,
        engine: impl Fn() -> Box<dyn Engine>,
    ) -> Result<(), EmbedError> {
        for number in 0..count {
            let worker = Worker::new(Arc::clone(queue), engine());
            // The tracker waits for the thread as for a task.
            let tracked = self.shared.tasks.token();
            let started = thread::Builder::new().name(format!("embed {number}")).spawn(move || {
                worker.run();
                drop(tracked);
            });
            if let Err(error) = started {
                queue.close();
                let folder = self.shared.store.folder(self.embedder.name());
                return Err(EmbedError::io("start a thread for", folder)(error));
            }
        }
        Ok(())
    }

    /// Reads the files and starts the threads.
    async fn read(&self) -> Result<(), EmbedError> {
        self.embedder.set_state(ModelState::Loading);
        let started = Instant::now();
        let (shared, name) = (Arc::clone(&self.shared), self.embedder.name().to_owned());
        let precision = shared.config.precision;
        let read = tokio::task::spawn_blocking(move || read_model(&shared.store, &name, precision));
        let (encoder, tokens, space, speed) = read
            .await
            .map_err(|_| EmbedError::Encoder { reason: "loading panicked; the log has the place".to_owned() })??;
        let (encoder, tokens, space) = (Arc::new(encoder), Arc::new(tokens), Arc::new(space));
        let workers = self.shared.threads();
        let kernel = encoder.kernel_name();
        let limits = Limits {
            texts: self.shared.config.max_queued_texts,
            batch_tokens: match self.shared.config.batch_tokens {
                0 => batch_tokens(precision),
                tokens => tokens,
            },
            batch_texts: usize::MAX,
            workers,
            deadline: self.shared.config.deadline,
        };
        let queue = Arc::new(Queue::new(self.embedder.name(), limits, speed, self.shared.cache.clone()));
        let engine = || Box::new(Local::new(Arc::clone(&encoder))) as Box<dyn Engine>;
        self.start_threads(&queue, workers, engine)?;
        let shorter = encoder.settings().shorter.clone();
        self.embedder.set_loaded(Loaded::new(space, tokens, None, shorter, queue));
        let took_ms = started.elapsed().as_millis() as u64;
        let model = self.embedder.name();
        tracing::info!(
            model,
            ?precision,
            kernel,
            workers,
            took_ms,
            "the embedding model {model} is ready: {precision:?} with {kernel} on {workers} threads"
        );
        Ok(())
    }
}

impl Shared {
    /// Bytes that a model will take, if they are there.
    fn room_for(&self, name: &str, asked: &HashMap<String, Asked>) -> Result<u64, EmbedError> {
        let manifest = match self.store.manifest(name)? {
            Some(manifest) => manifest,
            // It takes its memory elsewhere.
            None if Described::read(&self.store.folder(name))?.is_some() => return Ok(0),
            None => return Err(self.store.unknown(name)),
        };
        // Until its files are here, what they have on disk is all that is known.
        let needed = match Settings::load(name, &self.store.folder(name)) {
            Ok(settings) => settings.memory_bytes(self.config.precision, self.threads()),
            Err(_) => manifest.files.iter().map(|file| file.size_bytes).sum(),
        };
        let taken: u64 = asked.values().map(|asked| asked.bytes).sum();
        if taken.saturating_add(needed) <= self.memory {
            return Ok(needed);
        }
        let mut taken: Vec<(String, u64)> = asked.iter().map(|(name, asked)| (name.clone(), asked.bytes)).collect();
        taken.sort_unstable();
        Err(EmbedError::NoRoom { model: name.to_owned(), needed, limit: self.memory, taken })
    }

    /// Threads that compute for one model: what is set, or what the machine and the control group's quota allow.
    fn threads(&self) -> usize {
        match self.config.threads {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            threads => threads,
        }
    }
}

/// Checks every file of a model against its manifest and reads it, both at once: hashing costs no more time than
/// packing the weights, so there is no need to trust sizes and times.
fn read_model(
    store: &Store,
    name: &str,
    precision: Precision,
) -> Result<(Encoder, Tokens, EmbeddingSpace, f64), EmbedError> {
    let manifest = store.manifest(name)?.ok_or_else(|| store.unknown(name))?;
    let folder = store.folder(name);
    let check = || manifest.files.iter().try_for_each(|file| check_file(&folder.join(&file.path), file));
    let (checked, parts) = thread::scope(|scope| {
        let checked = scope.spawn(check);
        let parts = read_folder(name, &folder, precision);
        (checked.join().unwrap_or_else(|panic| resume_unwind(panic)), parts)
    });
    checked?;
    let (encoder, tokens) = parts?;
    let space = space(&manifest, encoder.settings(), precision);
    let speed = speed(&encoder, &tokens)?;
    Ok((encoder, tokens, space, speed))
}

/// Tokens a second that one thread makes of a first text.
fn speed(encoder: &Encoder, tokens: &Tokens) -> Result<f64, EmbedError> {
    let (ids, _) = tokens.ids(&WARM_UP.repeat(encoder.settings().window), Cut::End)?;
    let started = Instant::now();
    // Whether its vector is of use does not matter: each text is told its own.
    encoder.encode(&[(&ids, Shape::Pooled)], &mut Scratch::default())?;
    Ok(ids.len() as f64 / started.elapsed().as_secs_f64().max(1e-6))
}

/// Reads a folder with a model's files, and refuses what cannot be used.
pub(crate) fn read_folder(name: &str, folder: &Path, precision: Precision) -> Result<(Encoder, Tokens), EmbedError> {
    let settings = Settings::load(name, folder)?;
    let tokens = Tokens::load(name, &folder.join(TOKENIZER), settings.window)?;
    tokens.fits(settings.vocabulary)?;
    let encoder = Encoder::load(settings, precision, &folder.join(WEIGHTS))?;
    Ok((encoder, tokens))
}

fn space(manifest: &Manifest, settings: &Settings, precision: Precision) -> EmbeddingSpace {
    let hash = |path| manifest.sha256(path).unwrap_or_default().to_owned();
    EmbeddingSpace {
        model: settings.model.clone(),
        revision: hash(WEIGHTS),
        tokenizer: hash(TOKENIZER),
        window: settings.window,
        precision: Some(precision),
        dimensions: settings.hidden,
        pooling: Some(settings.pooling),
        normalised: settings.normalised,
        query_prefix: settings.query_prefix.clone(),
        document_prefix: settings.document_prefix.clone(),
    }
}
