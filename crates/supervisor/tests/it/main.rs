//! Tests of the crate through its public interface, with real processes.

mod death;
mod failing;
mod metrics;
mod rig;
mod running;
mod surroundings;
