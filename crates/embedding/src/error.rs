//! What can go wrong between a text and its vector.
//!
//! One type for the whole crate. It does not know codes or HTTP statuses; the server maps variants to those.

use std::{io, path::PathBuf, time::Duration};

use crate::remote::Words;

/// Why an embedding, or a model, could not be had.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The model is still being fetched or loaded, or failed and will be tried again.
    #[error("the embedding model {model} is not ready: {stage}")]
    NotReady {
        /// The model's name.
        model: String,
        /// What it is doing now, for people.
        stage: String,
        /// When asking again makes sense.
        retry_after: Duration,
    },

    /// No model of this name is installed or can be fetched.
    #[error("there is no embedding model {name:?}")]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The names that would work.
        known: Vec<String>,
    },

    /// The name cannot be a model's: it would not be safe as the name of a folder.
    #[error("{name:?} cannot be a model's name")]
    InvalidName {
        /// The name given, shortened.
        name: String,
    },

    /// Too much is waiting already.
    #[error("the embedding queue is full: {queued} of {limit} texts wait")]
    Overloaded {
        /// Texts waiting with the same priority.
        queued: usize,
        /// How many may wait.
        limit: usize,
    },

    /// One request has more texts than the queue could ever hold.
    #[error("{count} texts in one request, at most {limit} are taken")]
    TooManyTexts {
        /// Texts in the request.
        count: usize,
        /// The most a request may have.
        limit: usize,
    },

    /// One request has more tokens than can be embedded within its time.
    #[error("about {count} tokens in one request, of which {limit} can be embedded within {} s", deadline.as_secs_f32())]
    TooManyTokens {
        /// Tokens in the request, about.
        count: usize,
        /// How many the machine embeds in most of that time.
        limit: usize,
        /// How long a request may take.
        deadline: Duration,
    },

    /// A text has more tokens than the model reads, and may not be cut off.
    #[error("text number {index} has more than the {window} tokens that the model reads")]
    TooLong {
        /// Position of the text in the request, from 0.
        index: usize,
        /// Tokens that are read, the special ones included.
        window: usize,
    },

    /// A text was given as token numbers that the model does not have.
    #[error("text number {index} has the token {id}, which the model does not have")]
    UnknownToken {
        /// Position of the text in the request, from 0.
        index: usize,
        /// The token number.
        id: u32,
    },

    /// The model has no vectors of so many dimensions.
    #[error("the model has no vectors of {asked} dimensions, but of {offered}")]
    NoSuchDimensions {
        /// How many were asked for.
        asked: usize,
        /// How many there can be.
        offered: String,
    },

    /// The answer was not there in time.
    #[error("the texts were not embedded within {} s", deadline.as_secs_f32())]
    Expired {
        /// How long a request may take.
        deadline: Duration,
    },

    /// The model would need more memory than is left for models.
    #[error(
        "the model {model} needs about {} MB, and of {} MB for models {} MB are taken{}",
        megabytes(*needed), megabytes(*limit), megabytes(taken.iter().map(|(_, bytes)| bytes).sum()), list(taken)
    )]
    NoRoom {
        /// The model asked for.
        model: String,
        /// Bytes it would take, about.
        needed: u64,
        /// Bytes that all models together may take.
        limit: u64,
        /// The models that are loaded, and the bytes each takes, about.
        taken: Vec<(String, u64)>,
    },

    /// A model file is not what its manifest says.
    #[error("{path} is damaged: {reason}")]
    CorruptFile {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },

    /// Every source was tried, and none gave the files.
    #[error("failed to fetch the model {model}: {}", sentence(.tried))]
    FetchFailed {
        /// The model's name.
        model: String,
        /// The sources in the order tried.
        tried: Vec<SourceFailure>,
    },

    /// The files are whole, but not a model this encoder runs.
    #[error("the model {model} cannot be used: {reason}")]
    InvalidModel {
        /// The model's name or folder.
        model: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The server that has a remote model gave no vectors.
    #[error("the server of the remote model {model} failed: {reason}")]
    RemoteFailed {
        /// The model's name here.
        model: String,
        /// What is known of it, in words of our own.
        reason: String,
        /// What it said itself, or why it could not be asked.
        #[source]
        words: Option<Words>,
        /// Whether the same may succeed later.
        is_transient: bool,
    },

    /// The description of a remote model makes no sense.
    #[error("the remote model cannot be connected: {reason}")]
    InvalidRemote {
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A remote model was asked for what only one in this process can tell.
    #[error("the remote model {model} gives {what} to nobody")]
    OnlyLocal {
        /// The model's name here.
        model: String,
        /// What was asked for.
        what: &'static str,
    },

    /// The model gave no usable vector for a text. No such vector ever leaves the encoder.
    #[error("the model gave no usable vector for text number {index}: {reason}")]
    UnusableVector {
        /// Position of the text in the request, from 0.
        index: usize,
        /// What was wrong with the vector.
        reason: &'static str,
    },

    /// The encoder itself failed; a defect of ours.
    #[error("the encoder failed: {reason}")]
    Encoder {
        /// What is known of it.
        reason: String,
    },

    /// The component is being shut down.
    #[error("the embedding component is shutting down")]
    ShutDown,

    /// A file or directory operation failed.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Why one source did not give the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFailure {
    /// The source, as a person would call it.
    pub source: String,
    /// What went wrong there, at the last attempt.
    pub reason: String,
}

impl EmbedError {
    /// Whether the same call may succeed later without anybody acting.
    pub fn is_transient(&self) -> bool {
        match self {
            EmbedError::NotReady { .. }
            | EmbedError::Overloaded { .. }
            | EmbedError::FetchFailed { .. }
            | EmbedError::Expired { .. }
            | EmbedError::ShutDown
            | EmbedError::Io { .. } => true,
            EmbedError::RemoteFailed { is_transient, .. } => *is_transient,
            EmbedError::UnknownModel { .. }
            | EmbedError::InvalidName { .. }
            | EmbedError::TooManyTexts { .. }
            | EmbedError::TooManyTokens { .. }
            | EmbedError::TooLong { .. }
            | EmbedError::UnknownToken { .. }
            | EmbedError::NoSuchDimensions { .. }
            | EmbedError::NoRoom { .. }
            | EmbedError::InvalidRemote { .. }
            | EmbedError::OnlyLocal { .. }
            | EmbedError::CorruptFile { .. }
            | EmbedError::InvalidModel { .. }
            | EmbedError::UnusableVector { .. }
            | EmbedError::Encoder { .. } => false,
        }
    }

    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            EmbedError::NotReady { retry_after, .. } => {
                Some(format!("try again in {} s", retry_after.as_secs().max(1)))
            }
            EmbedError::UnknownModel { known, .. } => Some(format!(
                "known models: {}; import another with `holdfast models pull NAME --from FOLDER`",
                known.join(", ")
            )),
            EmbedError::InvalidName { .. } => Some(
                "a model's name has 1 to 128 letters, digits, dots, dashes or underscores and begins with a letter \
                 or digit"
                    .to_owned(),
            ),
            EmbedError::Overloaded { .. } => Some("send fewer texts at a time, or try again shortly".to_owned()),
            EmbedError::TooManyTexts { limit, .. } => Some(format!("split the request into parts of {limit} texts")),
            EmbedError::TooManyTokens { limit, .. } => {
                Some(format!("split the request into parts of some {} tokens", limit / 2))
            }
            EmbedError::TooLong { .. } => Some("split the text, or ask for it to be truncated".to_owned()),
            EmbedError::RemoteFailed { model, is_transient: false, .. } => Some(format!(
                "look at that server and at the log; `holdfast models connect {model}` says anew where it is"
            )),
            EmbedError::RemoteFailed { .. } => {
                Some("look at that server and at the log, or try again shortly".to_owned())
            }
            EmbedError::InvalidRemote { .. } => Some("see `holdfast models connect --help`".to_owned()),
            EmbedError::OnlyLocal { .. } => Some("use a model that is installed here".to_owned()),
            EmbedError::NoSuchDimensions { .. } => Some("leave `dimensions` out".to_owned()),
            EmbedError::UnknownToken { .. } => Some("send the text itself".to_owned()),
            EmbedError::Expired { .. } => Some("send fewer texts at a time, or try again shortly".to_owned()),
            EmbedError::NoRoom { .. } => {
                Some("raise models.max_memory_mb, or do without one of the models that are loaded".to_owned())
            }
            EmbedError::CorruptFile { .. } => Some("`holdfast models pull` fetches what is damaged again".to_owned()),
            EmbedError::FetchFailed { model, .. } => Some(format!(
                "check the network, set HF_ENDPOINT to a mirror, or copy the files from another machine and run \
                 `holdfast models pull {model} --from FOLDER`"
            )),
            EmbedError::InvalidModel { .. } => {
                Some("use a BERT model with model.safetensors, config.json and tokenizer.json".to_owned())
            }
            EmbedError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("make room on the disk; the model is tried again by itself".to_owned())
            }
            EmbedError::UnusableVector { .. }
            | EmbedError::Encoder { .. }
            | EmbedError::ShutDown
            | EmbedError::Io { .. } => None,
        }
    }

    /// The same once more, for another who waited for what failed.
    pub(crate) fn again(&self) -> EmbedError {
        match self {
            EmbedError::RemoteFailed { model, reason, words, is_transient } => EmbedError::RemoteFailed {
                model: model.clone(),
                reason: reason.clone(),
                words: words.clone(),
                is_transient: *is_transient,
            },
            other => EmbedError::Encoder { reason: other.to_string() },
        }
    }

    /// Makes a function that wraps an I/O error with what was tried on which path.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> EmbedError {
        let path = path.into();
        move |source| EmbedError::Io { action, path, source }
    }
}

fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

fn list(taken: &[(String, u64)]) -> String {
    let parts: Vec<String> = taken.iter().map(|(model, bytes)| format!("{model} {} MB", megabytes(*bytes))).collect();
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
}

fn sentence(tried: &[SourceFailure]) -> String {
    if tried.is_empty() {
        return "no source is configured".to_owned();
    }
    let parts: Vec<String> = tried.iter().map(|t| format!("{}: {}", t.source, t.reason)).collect();
    parts.join("; ")
}
