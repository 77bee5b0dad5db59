//! Whether an operation may be attempted, or attempted again, and the words for how a part is.
//!
//! This crate knows neither what is called nor over what, and has no types of ours in it.

pub mod admission;
pub mod breaker;
pub mod budget;
pub mod health;
pub mod queue;
pub mod rate;
pub mod retry;
pub mod shares;
pub mod words;
