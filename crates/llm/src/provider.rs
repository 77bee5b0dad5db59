//! What speaks to a server that has models.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;

use crate::{Answer, CallError, EventStream, Request, Shape};

/// One server, and the interface it speaks. It tries once, within the deadlines of the call; what comes of a failure is
/// decided around it. Dropping a future or a stream closes the connection, so that the server stops working.
pub trait Provider: Send + Sync + fmt::Debug {
    /// What it speaks.
    fn shape(&self) -> Shape;

    /// The host and port of it, for spans.
    fn peer(&self) -> &str {
        ""
    }

    /// Asks for a whole answer.
    fn complete<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, CallError>>;

    /// Asks for an answer as it comes. Returns once the headers are there.
    fn stream<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<EventStream, CallError>>;

    /// How many tokens the request has, by the provider's own count; nothing where it has no way to tell.
    fn count_tokens<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Option<u64>, CallError>>;

    /// The models it has.
    fn models<'a>(&'a self, deadlines: &'a Deadlines) -> BoxFuture<'a, Result<Vec<Listed>, CallError>>;
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked.
    pub request: Arc<Request>,
    /// The model, as the provider calls it.
    pub model: String,
    /// The most tokens it answers with, where that is known.
    pub max_output_tokens: Option<u32>,
    /// How long it may take.
    pub deadlines: Deadlines,
    /// `traceparent` and `tracestate` of the span around it, where there is one.
    pub trace: Vec<(&'static str, String)>,
    /// Text that the answer has to go on from, which was sent to a client already. Only for models that declare that they
    /// can.
    pub continued: Option<String>,
}

/// How long the steps of a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// A connection, TLS included.
    pub connect: Duration,
    /// From having asked to the first byte of the body: of the answer, or of its first event.
    pub first_byte: Duration,
    /// Between two pieces of a stream.
    pub gap: Duration,
    /// All of it, attempts that failed included.
    pub total: Duration,
}

/// A model that a provider says it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name there.
    pub name: String,
    /// Tokens of question and answer together, where it tells.
    pub context_tokens: Option<u64>,
}
