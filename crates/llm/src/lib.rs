//! Language models: one vocabulary for what they are asked and what they answer, one provider trait, and models whose
//! every call has a deadline, a bounded retry budget, a place among few and a breaker around it.
//!
//! This crate does not know about sessions, documents, keys of callers or processes, and stores nothing. What a server
//! says is kept apart from what is said of it here: it goes into logs, shortened, and to nobody else.

pub mod answer;
pub mod error;
pub mod message;
pub mod price;
pub mod provider;
pub mod request;

pub mod model;

pub mod anthropic;
pub mod openai;

pub mod collect;
mod express;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod http;
mod passed;
mod redact;
pub mod sse;
mod stream;
pub mod tokens;

pub use answer::{Answer, Delta, Event, EventStream, Finish, Usage};
pub use anthropic::Anthropic;
pub use collect::Collected;
pub use error::{CallError, ErrorKind};
pub use express::check;
pub use http::{Endpoint, EndpointError};
pub use message::{Image, Message, Part, Role, Tool, ToolChoice};
pub use model::{Ask, AttemptRecord, Location, Model, Spec, Tried};
pub use openai::OpenAi;
pub use price::{Cost, Price};
pub use provider::{Call, Deadlines, Listed, Provider};
pub use request::{Format, Original, Request, Sampling, Shape};
