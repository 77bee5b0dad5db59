//! testkit

pub mod tiny_model;
