//! How fast search is over 100 000 chunks, and how exact: `crates/knowledge/examples/search_speed.rs`.

use anyhow::Result;

use crate::repository::Repository;
use crate::shell;

/// Indexes the chunks, which takes a while and is kept, and searches.
pub fn run(repository: &Repository) -> Result<()> {
    shell::run(&mut super::example(repository, "search_speed")?)
}
