//! Why a model gave no answer, or no whole one.

use std::time::Duration;

/// Why a call failed. What the provider said is for the operator's log alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CallError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What happened, in words of our own: no word of the provider's, no address and no key is in it.
    pub reason: String,
    /// The provider's own words, cut, without anything that looks like a key. For the log, never for a client.
    pub words: Option<String>,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// When the provider said to ask again.
    pub retry_after: Option<Duration>,
}

/// The kinds of failure, closed: what to do about each is decided by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Its name does not resolve.
    Dns,
    /// It takes no connection.
    Refused,
    /// No TLS session came about.
    Tls,
    /// The connection ended before an answer was whole.
    Reset,
    /// Nothing came for as long as may be: before the headers, or before the first event.
    FirstByteTimeout,
    /// The same, between two pieces.
    GapTimeout,
    /// The whole took longer than it may.
    TotalTimeout,
    /// 429: it wants to be asked less often.
    RateLimited,
    /// 503 or 529, or its own word for it: it has too much to do.
    Overloaded,
    /// Another 5xx.
    ServerError,
    /// What came is not what such an interface answers: a wrong content type, JSON that is none, an unknown event.
    Malformed,
    /// A stream without anything in it.
    Empty,
    /// A stream that stopped without saying why.
    Cut,
    /// The provider told of an error within a stream.
    InStream,
    /// 401, 402, or a 403 that says so: our key does not do there.
    Unauthorized,
    /// It does not have the model, or not for us: another 403.
    ModelNotFound,
    /// The conversation is longer than it reads.
    ContextTooLong,
    /// Another 4xx: it does not accept the request.
    Rejected,
    /// It withheld the answer.
    ContentFilter,
    /// What was asked cannot be said in the provider's shape.
    Inexpressible,
    /// Our breaker around it is open.
    BreakerOpen,
    /// Its queue here is full, or the wait in it was too long.
    QueueFull,
    /// Whoever asked is gone.
    Cancelled,
}

impl ErrorKind {
    /// The word for it in records, metrics and errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::GapTimeout => "gap_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server_error",
            Self::Malformed => "malformed",
            Self::Empty => "empty",
            Self::Cut => "cut",
            Self::InStream => "in_stream",
            Self::Unauthorized => "unauthorized",
            Self::ModelNotFound => "model_not_found",
            Self::ContextTooLong => "context_too_long",
            Self::Rejected => "rejected",
            Self::ContentFilter => "content_filter",
            Self::Inexpressible => "inexpressible",
            Self::BreakerOpen => "breaker_open",
            Self::QueueFull => "queue_full",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the same request to the same model may succeed soon. One that was silent for as long as it may be has cost
    /// enough time; another model is asked sooner.
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Dns
                | Self::Refused
                | Self::Reset
                | Self::RateLimited
                | Self::Overloaded
                | Self::ServerError
                | Self::Empty
                | Self::Cut
                | Self::InStream
                | Self::QueueFull
        )
    }

    /// Whether another model may answer the same request, where this one did not.
    pub const fn is_for_others(self) -> bool {
        !matches!(self, Self::Rejected | Self::Cancelled | Self::TotalTimeout)
    }

    /// Whether it says that the provider is not well: such failures open its breaker. A 429 is no failure of the
    /// provider's, a request it rejects is none either, and who left says nothing.
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Dns
                | Self::Refused
                | Self::Tls
                | Self::Reset
                | Self::FirstByteTimeout
                | Self::GapTimeout
                | Self::Overloaded
                | Self::ServerError
                | Self::Malformed
                | Self::Empty
                | Self::Cut
                | Self::InStream
                | Self::Unauthorized
        )
    }
}

impl CallError {
    /// A failure in words of our own.
    pub fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), words: None, status: None, retry_after: None }
    }

    /// Whether the same request to the same model may succeed soon.
    pub const fn is_transient(&self) -> bool {
        self.kind.is_transient()
    }
}
