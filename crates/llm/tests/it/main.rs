//! Tests of the crate through its public interface, against a scripted upstream on a real socket.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by them, in its helpers too")]

mod anthropic;
mod connections;
mod failures;
mod model;
mod openai;
mod recovery;
mod saying;

mod rig;
