//! What is asked of the coordinator, and what it answers.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use holdfast_llm::{Answer, CallError, Event, Request, Shape};
use holdfast_storage::{PutError, sessions::SessionError};
use uuid::Uuid;

/// What a client asks a model.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The model or alias: `auto`, `local`, `remote`, a model's name, or `provider/model`.
    pub model: String,
    /// What is asked.
    pub request: Request,
    /// The session it belongs to.
    pub session: Option<String>,
    /// What to look up for it, if anything.
    pub augmentation: Option<Augmentation>,
    /// Whether a kept answer will do, and whether this one is kept.
    pub cache: CacheUse,
    /// The request's id, for the record.
    pub request_id: String,
    /// `traceparent` and `tracestate`, for the provider.
    pub trace: Vec<(&'static str, String)>,
}

/// What to look up for a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Augmentation {
    /// Where; the default collection where empty. Collections that the caller may not see are as good as absent.
    pub collections: Vec<String>,
    /// For what; the last message of the user where absent.
    pub query: Option<String>,
    /// Tokens that it may take.
    pub budget_tokens: u64,
    /// Passages at most.
    pub passages_max: usize,
}

/// What `Cache-Control` of a request asks for (RFC 9111, section 5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheUse {
    /// A kept answer will not do (`no-cache`, `max-age=0`).
    pub is_fresh: bool,
    /// The answer is not kept (`no-store`).
    pub is_unkept: bool,
    /// A kept answer may be that old at most, in seconds (`max-age`).
    pub max_age_s: Option<u64>,
    /// Nothing but a kept answer will do (`only-if-cached`).
    pub is_kept_only: bool,
}

/// What every answer to a turn comes with.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// What the turn is called in records: `interactions/{id}/why`.
    pub interaction: Uuid,
    /// The model that answers, as clients call it.
    pub model: String,
    /// Whether it is a kept answer.
    pub is_cached: bool,
    /// Where the passages are from that the model was given.
    pub citations: Vec<Citation>,
    /// The session, where there is one.
    pub session: Option<String>,
}

/// Where a passage is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Citation {
    /// What the model knows it by: `[1]` is the first.
    pub number: usize,
    /// The collection,
    pub collection: String,
    /// the document,
    pub document_id: String,
    /// and the chunk.
    pub chunk_id: String,
    /// The document's title.
    pub title: Option<String>,
    /// Its path.
    pub path: Option<String>,
    /// The headings it stands below.
    pub heading: Option<String>,
    /// Its score in the search.
    pub score: f32,
    /// Tokens it takes.
    pub tokens: u64,
    /// BLAKE3 of its text.
    pub content_hash: [u8; 32],
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Completed {
    /// About it.
    pub about: About,
    /// The answer. Its body is empty where it came in pieces once and was kept.
    pub answer: Arc<Answer>,
}

/// An answer as it comes. The first visible piece has come already, or the whole of an answer without any.
pub struct Streaming {
    /// About it.
    pub about: About,
    /// What the model that answers speaks: its frames can be handed on to clients of this shape. Nothing for a kept
    /// answer, whose pieces have no frames.
    pub shape: Option<Shape>,
    /// The rest. Ends after [`holdfast_llm::Delta::End`] or after a failure.
    pub events: TurnStream,
}

/// Pieces of an answer.
pub type TurnStream = Pin<Box<dyn Stream<Item = TurnEvent> + Send>>;

/// A piece of an answer to a turn.
#[derive(Clone, Debug)]
pub enum TurnEvent {
    /// As a model said it.
    Piece(Event),
    /// The model failed, and another one goes on from what it said. Its frames are those of another answer, so from here
    /// on only what they say may be handed on.
    Continued {
        /// The other model, as clients call it.
        model: String,
    },
    /// No more comes, and this is why.
    Failed(Arc<TurnError>),
}

/// What was found for a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Augmented {
    /// The passages, numbered and fenced as data, for a model's system message; empty where nothing was found.
    pub context: String,
    /// Where they are from.
    pub citations: Vec<Citation>,
    /// What was found and left out, and why.
    pub refused: Vec<Refused>,
    /// Tokens of the context.
    pub tokens: u64,
    /// Why search gave less than it could, where it did.
    pub degraded: Option<String>,
}

/// A passage that was found and left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The chunk.
    pub chunk_id: String,
    /// Its score in the search.
    pub score: f32,
    /// Why.
    pub reason: RefusedBecause,
}

/// Why a passage was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBecause {
    /// It says what another one says.
    NearDuplicate,
    /// It does not fit into the budget any more.
    Budget,
    /// It was sent in this session before.
    SentBefore,
    /// There are as many as may be.
    Count,
}

impl RefusedBecause {
    /// The word for it in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NearDuplicate => "near_duplicate",
            Self::Budget => "budget",
            Self::SentBefore => "sent_before",
            Self::Count => "count",
        }
    }
}

/// A model that clients can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// What clients call it.
    pub name: String,
    /// The provider that has it; nothing for an alias.
    pub provider: Option<String>,
    /// Tokens of question and answer together, where known.
    pub context_tokens: Option<u64>,
    /// When it was added; Unix seconds.
    pub created_s: i64,
}

/// Why a turn has no answer.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// What a new user meets first.
    #[error("no language model is configured")]
    NoProvider,

    /// There is no such model, for this caller.
    #[error("there is no model or alias of that name")]
    UnknownModel {
        /// The name.
        model: String,
    },

    /// The word stands for models, none of which the caller may ask.
    #[error("the key may ask none of the models that {asked} stands for")]
    NotGranted {
        /// The word.
        asked: String,
    },

    /// No model can answer this request, whoever is well.
    #[error("no model can answer this request")]
    NoneFits {
        /// Each model, and what rules it out.
        obstacles: Vec<(String, String)>,
    },

    /// No model reads as much.
    #[error("the request has {tokens} tokens; at most {limit} fit with an answer")]
    ContextTooLong {
        /// Tokens of question and answer.
        tokens: u64,
        /// What the most patient model takes.
        limit: u64,
    },

    /// A budget is used up.
    #[error("a budget is used up")]
    BudgetExceeded {
        /// Which.
        budget: String,
        /// When there is more; Unix milliseconds. Nothing where there never is.
        resets_at_ms: Option<i64>,
    },

    /// A budget in money applies, and the model has no price.
    #[error("the model {model} has no price, and a budget in money applies")]
    MissingPrice {
        /// Its name.
        model: String,
    },

    /// The caller has no such session, or it expired.
    #[error("there is no such session")]
    SessionNotFound,

    /// Another turn of the session is under way.
    #[error("another turn of this session is under way")]
    SessionBusy,

    /// The session has as much in it as may be.
    #[error("the session is full")]
    SessionFull,

    /// There are as many as may be.
    #[error("there are as many {what} as may be")]
    TooMany {
        /// Of what.
        what: &'static str,
    },

    /// There is no such turn on record, for this caller.
    #[error("there is no such interaction")]
    InteractionNotFound,

    /// Only a kept answer would have done, and there is none.
    #[error("no answer to this request is kept")]
    NotCached,

    /// Every model that could have answered failed; this is the last of their failures.
    #[error("no model answered")]
    Failed {
        /// What happened last.
        last: CallError,
        /// Calls that were made.
        attempts: usize,
    },

    /// A field makes no sense.
    #[error("{field} {problem}")]
    Invalid {
        /// The field, as a path.
        field: String,
        /// What is wrong with it, continuing the sentence.
        problem: String,
    },

    /// The knowledge base failed.
    #[error(transparent)]
    Knowledge(#[from] holdfast_knowledge::KnowledgeError),

    /// The event log or the ledger failed.
    #[error(transparent)]
    Storage(#[from] holdfast_storage::StorageError),
}

impl From<SessionError> for TurnError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotFound => Self::SessionNotFound,
            SessionError::Conflict { .. } => Self::SessionBusy,
            SessionError::Full => Self::SessionFull,
            SessionError::Invalid { field, problem } => {
                Self::Invalid { field: field.to_owned(), problem: problem.to_owned() }
            }
            SessionError::Storage(error) => Self::Storage(error),
        }
    }
}

impl From<PutError> for TurnError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Invalid { field, problem } => {
                Self::Invalid { field: field.to_owned(), problem: problem.to_owned() }
            }
            PutError::TooMany { what, .. } => Self::TooMany { what },
            PutError::Storage(error) => Self::Storage(error),
        }
    }
}
