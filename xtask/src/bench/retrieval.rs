//! How well search finds what it should: SciFact and CoSQA by mode, with intervals.
//!
//! The measuring is `crates/knowledge/examples/retrieval_quality.rs`; this builds it and tells it where things lie.

use std::path::PathBuf;

use anyhow::Result;

use crate::repository::Repository;
use crate::shell;

/// What `bench retrieval` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Arithmetic of the encoder: f32 or int8
    #[arg(long, default_value = "int8")]
    precision: String,
    /// Write both lists of every query there, as JSON lines, for trying fusions out
    #[arg(long, value_name = "FILE")]
    lists: Option<PathBuf>,
}

/// Indexes both sets, searches and prints; the index is kept in the cache folder for the next time.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    shell::run(super::example(repository, "retrieval_quality")?.arg(&options.precision).args(&options.lists))
}
