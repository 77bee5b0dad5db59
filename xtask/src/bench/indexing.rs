//! How fast indexing is when every vector is known: `crates/knowledge/examples/indexing_speed.rs`.

use anyhow::Result;

use crate::repository::Repository;
use crate::shell;

/// What `bench indexing` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// How often to measure
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

/// Embeds the documents once, and then indexes them again and again.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    shell::run(super::example(repository, "indexing_speed")?.arg(options.rounds.to_string()))
}
