//! Tests of the crate through its public interface, on a tiny model that `testkit` makes.

mod encoder;

mod hub;

mod models;

mod python_package;

mod reference;
mod remote;

mod rig;
