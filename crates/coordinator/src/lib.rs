//! One turn: what it needs to know, which model answers it, what becomes of failures, and the record of it all.
//!
//! This crate does not know about HTTP or MCP, nor how a policy is learned. It takes and gives plain data and the
//! vocabulary of `llm`.

pub mod requests;

pub use requests::*;
