//! Tests of the crate through its public interface, against a scripted upstream on a real socket.

mod anthropic;
mod connections;
mod failures;
mod model;
mod openai;
mod recovery;
mod saying;

mod rig;
