//! testkit

pub mod tiny_model;

pub mod seeds;
