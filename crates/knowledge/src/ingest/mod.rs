//! How documents come in: one bounded pipeline for files, accepted documents and re-embedding.
//!
//! ```text
//! submit ─▶ prepare (read, hash, split) ─▶ embed ─▶ write ─▶ the indexes follow the outbox
//! ```
//!
//! Stages are tasks joined by bounded channels, and a budget of bytes covers all that is between
//! them, so a slow stage holds the faster ones up instead of filling memory. The tasks are woken
//! by their channels and end when the knowledge base shuts down. What is in the pipeline then is
//! not lost: files are scanned again at the next start, accepted documents wait in storage.

pub(crate) mod prepare;
pub(crate) mod progress;

mod accept;
mod pipeline;
mod reconcile;
mod reembed;
mod watch;

pub(crate) use accept::Acceptance;
pub(crate) use pipeline::{KnownFile, Origin, Pipeline, Target, Targets, Work};
pub(crate) use reconcile::{Scope, Sources, SourcesParts};
pub(crate) use reembed::Reembedding;
pub(crate) use watch::Watcher;
