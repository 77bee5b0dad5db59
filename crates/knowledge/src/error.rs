//! What can go wrong with the knowledge base, as its callers need to tell it apart.

use std::time::Duration;

use holdfast_embedding::EmbedError;
use holdfast_storage::{FilterError, StorageError};

use crate::files::FilesError;

/// Why a request to the knowledge base failed.
#[derive(Debug, thiserror::Error)]
pub enum KnowledgeError {
    /// A part of the request is not acceptable.
    #[error("{field} {problem}")]
    Invalid {
        /// Which part.
        field: &'static str,
        /// What is wrong with it, as the rest of a sentence.
        problem: String,
    },

    /// The filter is not acceptable.
    #[error("the filter is not valid")]
    Filter(#[from] FilterError),

    /// The named thing does not exist.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// Which kind of thing.
        what: &'static str,
        /// The name asked for.
        name: String,
    },

    /// It would reach beyond the collections that the caller may see.
    #[error("this key does not reach {what}")]
    NotGranted {
        /// What lies beyond.
        what: String,
    },

    /// The named thing exists already.
    #[error("there is already a {what} {name:?}")]
    Exists {
        /// Which kind of thing.
        what: &'static str,
        /// The name asked for.
        name: String,
    },

    /// The embedding model cannot answer yet.
    #[error("the embedding model is not ready: {stage}")]
    ModelNotReady {
        /// What it is doing.
        stage: String,
        /// When asking again makes sense.
        retry_after: Duration,
    },

    /// The collection's vectors are of another embedding space than the model at hand makes.
    #[error("collection {collection:?} holds vectors of {held}, not of {offered}")]
    OtherModel {
        /// The collection.
        collection: String,
        /// The model its vectors are of.
        held: String,
        /// The model at hand.
        offered: String,
    },

    /// The collection's vectors are of the model at hand, but it was another then.
    #[error("the vectors of collection {collection:?} are of {model} from other files or in another precision")]
    OtherSpace {
        /// The collection.
        collection: String,
        /// The model.
        model: String,
    },

    /// A page was asked for of a result that is no longer kept.
    #[error("the cursor is no longer valid: the index has changed")]
    CursorExpired,

    /// More is being done already than is good.
    #[error("too much is being done at once")]
    Overloaded,

    /// The request would start what is running already.
    #[error("{what} is in progress")]
    InProgress {
        /// What is running.
        what: String,
    },

    /// It took longer than it may.
    #[error("not finished within {deadline:?}")]
    Deadline {
        /// How long it may take.
        deadline: Duration,
    },

    /// A folder or file given as a source cannot be used.
    #[error("the source cannot be read")]
    Source(#[from] FilesError),

    /// The model failed.
    #[error("embedding failed")]
    Embedding(#[source] EmbedError),

    /// What is persisted failed.
    #[error("storage failed")]
    Storage(#[source] StorageError),

    /// Some documents could not be moved, so none were.
    #[error("{failed} documents could not be embedded")]
    Incomplete {
        /// How many.
        failed: u64,
    },

    /// The knowledge base is shutting down.
    #[error("shutting down")]
    ShuttingDown,
}

impl KnowledgeError {
    pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { field, problem: problem.into() }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Filter(error) => Some(error.hint()),
            Self::NotFound { what: "collection", .. } => Some("list them with `holdfast collections list`".into()),
            Self::NotFound { what: "source", .. } => Some("list them with `holdfast sources list`".into()),
            Self::NotGranted { .. } => Some("use a key that has it among its collections".into()),
            Self::ModelNotReady { .. } => Some("wait for it; `holdfast status` shows how far it is".into()),
            Self::OtherModel { collection, held, offered } => Some(format!(
                "use {held}, or move the collection: \
                 holdfast collections reembed {collection} --model {offered}"
            )),
            Self::OtherSpace { collection, model } => Some(format!(
                "set models.precision back if it was changed, or bring the collection over: \
                 holdfast collections reembed {collection} --model {model}"
            )),
            Self::CursorExpired => Some("search again without a cursor".into()),
            Self::Embedding(error) => error.hint(),
            Self::Storage(error) => error.hint(),
            _ => None,
        }
    }
}

impl From<StorageError> for KnowledgeError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NotFound { what, name } => Self::NotFound { what, name },
            StorageError::Exists { what, name } => Self::Exists { what, name },
            StorageError::Closed => Self::ShuttingDown,
            other => Self::Storage(other),
        }
    }
}

impl From<EmbedError> for KnowledgeError {
    fn from(error: EmbedError) -> Self {
        match error {
            EmbedError::NotReady { stage, retry_after, .. } => Self::ModelNotReady { stage, retry_after },
            EmbedError::Overloaded { .. } => Self::Overloaded,
            EmbedError::ShutDown => Self::ShuttingDown,
            EmbedError::UnknownModel { name, .. } => Self::NotFound { what: "model", name },
            other => Self::Embedding(other),
        }
    }
}
