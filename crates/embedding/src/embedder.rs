//! The handle of one model.
//!
//! Owns what callers see of a model: its state, its space, its tokenizer and the way into its queue. It does not load
//! the model; that is the registry's background task.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::{
    cache::Cache,
    encoder::Shorter,
    error::EmbedError,
    queue::Queue,
    remote::Remote,
    request::{Embedding, Input, Prepared, Request},
    space::EmbeddingSpace,
    tokens::Tokens,
    worker::PANICKED,
};

/// Texts of at most so many bytes are tokenized on the spot, in a millisecond or less.
const PREPARED_AT_ONCE_BYTES: usize = 16 << 10;

/// What a model is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelState {
    /// Missing or damaged files are being fetched.
    Fetching {
        /// Bytes that are there.
        downloaded_bytes: u64,
        /// Bytes of all files of the model.
        total_bytes: u64,
    },
    /// The files are being checked and read.
    Loading,
    /// It answers.
    Ready,
    /// It could not be fetched or loaded, and will be tried again by itself.
    Failed {
        /// Why.
        reason: String,
        /// What a person can do about it.
        hint: Option<String>,
        /// The pause before the next try, counted from the failure.
        retry_in: Duration,
    },
}

impl fmt::Display for ModelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelState::Fetching { downloaded_bytes, total_bytes } => {
                write!(f, "fetching, {} of {} MB", downloaded_bytes / 1_000_000, total_bytes / 1_000_000)
            }
            ModelState::Loading => f.write_str("loading"),
            ModelState::Ready => f.write_str("ready"),
            ModelState::Failed { reason, .. } => write!(f, "failed, {reason}"),
        }
    }
}

/// What a text is: some models put another prefix before each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Whatever its sender says it is: nothing is put before it.
    Plain,
    /// A question that documents are searched with.
    Query,
    /// A text that is searched.
    Document,
}

/// Who waits for a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Somebody does: these texts overtake bulk ones between two batches.
    Interactive,
    /// Indexing and other background work.
    Bulk,
}

impl Purpose {
    /// What is put before such a text.
    pub(crate) fn prefix(self, space: &EmbeddingSpace) -> &str {
        match self {
            Purpose::Plain => "",
            Purpose::Query => &space.query_prefix,
            Purpose::Document => &space.document_prefix,
        }
    }
}

impl Priority {
    /// Its word, in metrics and in the status.
    pub fn label(self) -> &'static str {
        match self {
            Priority::Interactive => "interactive",
            Priority::Bulk => "bulk",
        }
    }
}

/// How much a model takes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Tokens of a batch.
    pub batch_tokens: usize,
    /// Threads, each of which has a batch of its own.
    pub threads: usize,
}

/// A handle of one model; cheap to clone.
#[derive(Clone)]
pub struct Embedder {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    state: watch::Sender<ModelState>,
    loaded: OnceLock<Loaded>,
    cache: Cache,
    /// How long an interactive request may take.
    deadline: Duration,
    shutdown: CancellationToken,
}

/// What there is once the model is loaded.
pub(crate) struct Loaded {
    pub(crate) space: Arc<EmbeddingSpace>,
    /// The space's fingerprint, as bytes.
    pub(crate) fingerprint: [u8; 32],
    pub(crate) tokens: Arc<Tokens>,
    /// The server that has the model, where it is not in this process.
    pub(crate) remote: Option<Arc<Remote>>,
    /// Which shorter vectors the model was trained for.
    pub(crate) shorter: Shorter,
    pub(crate) queue: Arc<Queue>,
    /// Large requests that are tokenized at the same time, as many as there are threads.
    pub(crate) tokenizing: Arc<Semaphore>,
}

impl Loaded {
    pub(crate) fn new(
        space: Arc<EmbeddingSpace>,
        tokens: Arc<Tokens>,
        remote: Option<Arc<Remote>>,
        shorter: Shorter,
        queue: Arc<Queue>,
    ) -> Loaded {
        let fingerprint = *blake3::hash(space.fingerprint().as_bytes()).as_bytes();
        let tokenizing = Arc::new(Semaphore::new(queue.limits().workers));
        Loaded { space, fingerprint, tokens, remote, shorter, queue, tokenizing }
    }
}

impl fmt::Debug for Embedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedder").field("name", &self.inner.name).field("state", &self.state()).finish()
    }
}

impl Embedder {
    pub(crate) fn new(name: &str, cache: Cache, deadline: Duration, shutdown: CancellationToken) -> Embedder {
        let (name, state) = (name.to_owned(), watch::Sender::new(ModelState::Loading));
        Embedder { inner: Arc::new(Inner { name, state, loaded: OnceLock::new(), cache, deadline, shutdown }) }
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What the model is doing now.
    pub fn state(&self) -> ModelState {
        self.inner.state.borrow().clone()
    }

    /// Follows what the model is doing.
    pub fn watch(&self) -> watch::Receiver<ModelState> {
        self.inner.state.subscribe()
    }

    /// Waits until the model is ready, however often loading fails before.
    ///
    /// # Errors
    ///
    /// [`EmbedError::ShutDown`] when the component is shut down first.
    pub async fn ready(&self) -> Result<(), EmbedError> {
        let mut state = self.watch();
        tokio::select! {
            reached = state.wait_for(|state| *state == ModelState::Ready) => {
                reached.map(|_| ()).map_err(|_| EmbedError::ShutDown)
            }
            () = self.inner.shutdown.cancelled() => Err(EmbedError::ShutDown),
        }
    }

    /// The space of the model's vectors.
    ///
    /// # Errors
    ///
    /// [`EmbedError::NotReady`] until the model is loaded: the space contains hashes that are checked then.
    pub fn space(&self) -> Result<Arc<EmbeddingSpace>, EmbedError> {
        Ok(Arc::clone(&self.loaded()?.space))
    }

    /// Whether another server runs the model. Asking it may cost money.
    pub fn is_remote(&self) -> bool {
        self.remote().is_some()
    }

    /// What waits before the model, once it is loaded.
    pub(crate) fn queue(&self) -> Option<&Arc<Queue>> {
        Some(&self.inner.loaded.get()?.queue)
    }

    pub(crate) fn remote(&self) -> Option<&Arc<Remote>> {
        self.inner.loaded.get()?.remote.as_ref()
    }

    /// The model's tokenizer.
    ///
    /// # Errors
    ///
    /// [`EmbedError::NotReady`] until the model is loaded.
    pub fn tokenizer(&self) -> Result<Arc<Tokens>, EmbedError> {
        Ok(Arc::clone(&self.loaded()?.tokens))
    }

    /// How much it takes at a time.
    ///
    /// # Errors
    ///
    /// [`EmbedError::NotReady`] until the model is loaded.
    pub fn limits(&self) -> Result<BatchLimits, EmbedError> {
        let limits = self.loaded()?.queue.limits();
        Ok(BatchLimits { batch_tokens: limits.batch_tokens, threads: limits.workers })
    }

    /// Computes one vector for each text, in order, of length 1 where the space says *normalised*.
    ///
    /// A text longer than the window is cut off there; an empty one is answered too. For the rest, as [`Self::answer`].
    pub async fn embed(
        &self,
        texts: Vec<String>,
        purpose: Purpose,
        priority: Priority,
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        let answer = self.answer(Request::of(texts, purpose, priority)).await?;
        Ok(answer.into_iter().map(|embedding| embedding.values).collect())
    }

    /// Answers a request, one embedding for each text, in order. Dropping the future takes back what has not begun.
    ///
    /// # Errors
    ///
    /// [`EmbedError::NotReady`] until the model is loaded; [`EmbedError::Overloaded`] when too much waits,
    /// [`EmbedError::TooManyTexts`] or [`EmbedError::TooManyTokens`] when this alone is too much;
    /// [`EmbedError::TooLong`] for a text that may not be cut, [`EmbedError::UnknownToken`];
    /// [`EmbedError::Expired`] when somebody waited in vain, [`EmbedError::UnusableVector`] when the model has no answer
    /// to a text, [`EmbedError::ShutDown`] during shutdown.
    pub async fn answer(&self, request: Request) -> Result<Vec<Embedding>, EmbedError> {
        let inner = &self.inner;
        let loaded = self.loaded()?;
        let priority = request.priority;
        let span = self.span(&request);
        let answer = async {
            let (request, mut prepared) = self.prepare(loaded, request).await?;
            let mut encoded = Vec::new();
            if !prepared.is_known() {
                let (reply, answer) = oneshot::channel();
                loaded.queue.push(priority, std::mem::take(&mut prepared.texts), reply);
                let answer = answer.await.unwrap_or(Err(EmbedError::ShutDown));
                encoded = answer.map_err(|error| match error {
                    EmbedError::UnusableVector { index, reason } => {
                        EmbedError::UnusableVector { index: prepared.place_of(index), reason }
                    }
                    other => other,
                })?;
            }
            Ok(prepared.finish(&request, &loaded.space, encoded))
        }
        .instrument(span);
        match priority {
            Priority::Bulk => answer.await,
            Priority::Interactive => tokio::time::timeout(inner.deadline, answer)
                .await
                .unwrap_or(Err(EmbedError::Expired { deadline: inner.deadline })),
        }
    }

    /// The span of a request. Where nobody's request is being worked on, somebody only tries whether there is an answer.
    fn span(&self, request: &Request) -> Span {
        if request.priority == Priority::Interactive && Span::current().is_none() {
            return Span::none();
        }
        let (model, texts, priority) = (self.name(), request.inputs.len(), request.priority.label());
        tracing::info_span!("embed", model, texts, priority)
    }

    /// Looks up and tokenizes; what takes longer than a moment, where it does not hold up others.
    async fn prepare(&self, loaded: &Loaded, request: Request) -> Result<(Request, Prepared), EmbedError> {
        let cache = &self.inner.cache;
        let bytes: usize = request.inputs.iter().map(Input::bytes).sum();
        if bytes <= PREPARED_AT_ONCE_BYTES && !cache.may_wait() {
            let prepared = Prepared::new(loaded, cache, &request)?;
            return Ok((request, prepared));
        }
        let turn = Arc::clone(&loaded.tokenizing).acquire_owned().await.map_err(|_| EmbedError::ShutDown)?;
        let (embedder, span) = (self.clone(), Span::current());
        let prepare = move || {
            let _inside = span.entered();
            // Kept until it is done, also when the caller has gone away.
            let _turn = turn;
            let prepared = Prepared::new(embedder.loaded()?, &embedder.inner.cache, &request)?;
            Ok((request, prepared))
        };
        tokio::task::spawn_blocking(prepare)
            .await
            .unwrap_or_else(|_| Err(EmbedError::Encoder { reason: PANICKED.to_owned() }))
    }

    /// What the model has loaded, or why it has not.
    fn loaded(&self) -> Result<&Loaded, EmbedError> {
        // One in this process does not fail once it is loaded.
        let answers = |loaded: &&Loaded| loaded.remote.is_none() || self.state() == ModelState::Ready;
        self.inner.loaded.get().filter(answers).ok_or_else(|| {
            if self.inner.shutdown.is_cancelled() {
                return EmbedError::ShutDown;
            }
            let state = self.state();
            let retry_after = match &state {
                ModelState::Fetching { .. } => Duration::from_secs(5),
                ModelState::Loading | ModelState::Ready => Duration::from_secs(1),
                ModelState::Failed { retry_in, .. } => *retry_in,
            };
            EmbedError::NotReady { model: self.inner.name.clone(), stage: state.to_string(), retry_after }
        })
    }

    pub(crate) fn set_state(&self, state: ModelState) {
        self.inner.state.send_replace(state);
    }

    /// Refuses new texts and lets the model's thread end.
    pub(crate) fn close(&self) {
        if let Some(loaded) = self.inner.loaded.get() {
            loaded.queue.close();
        }
    }

    /// Makes the model answer. Only the first call has an effect.
    pub(crate) fn set_loaded(&self, loaded: Loaded) {
        if self.inner.loaded.set(loaded).is_ok() {
            self.set_state(ModelState::Ready);
        }
    }
}
