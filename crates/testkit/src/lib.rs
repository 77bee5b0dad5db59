//! testkit

pub mod tiny_model;

pub mod seeds;

pub mod upstream;

pub mod tls;
