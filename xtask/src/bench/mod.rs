//! `cargo xtask bench NAME`: one module a benchmark.
//!
//! Owns where the data lies and nothing of what is measured. A benchmark builds what it measures in release mode, prints
//! its figures to standard output, and fails when a figure is worse than what `docs/BENCHMARKS.md` promises.

mod encoder;
mod retrieval;
mod survive;

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::repository::Repository;
use crate::shell;

/// The benchmarks by name.
#[derive(clap::Subcommand)]
pub enum Benchmark {
    /// The encoder against sentence-transformers and the stored golden vectors: the lowest cosine
    Encoder(encoder::Options),
    /// Search on judged data: nDCG@10 and MRR@100 by mode
    Retrieval(retrieval::Options),
    /// Kills or power losses at random moments: what is lost, if anything
    Survive(survive::Options),
}

/// Runs one benchmark.
pub fn run(repository: &Repository, benchmark: Benchmark) -> Result<()> {
    match benchmark {
        Benchmark::Encoder(options) => encoder::run(repository, &options),
        Benchmark::Retrieval(options) => retrieval::run(repository, &options),
        Benchmark::Survive(options) => survive::run(repository, &options),
    }
}

/// The folder with the public data sets, which are too large for the repository.
fn data_folder(repository: &Repository) -> Result<PathBuf> {
    let folder = match shell::variable("HOLDFAST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => repository.root.join("../shared/data"),
    };
    if !folder.is_dir() {
        bail!(
            "there is no folder {}\nhint: benchmarks need the data sets (see docs/BENCHMARKS.md); put them there, or set HOLDFAST_DATA",
            folder.display()
        );
    }
    Ok(folder)
}

/// The models that `cargo xtask test --install` fetched.
fn models_folder() -> Result<PathBuf> {
    let folder = shell::cache_folder()?.join("test-data/models");
    if !folder.join("all-MiniLM-L6-v2/model.safetensors").is_file() {
        bail!("there is no model in {}\nhint: cargo xtask test --install", folder.display());
    }
    Ok(folder)
}

/// Prints one figure, or a group of them, as a line of JSON.
#[expect(clippy::print_stdout, reason = "figures are the data a benchmark makes")]
fn print(figures: &serde_json::Value) {
    println!("{figures}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_data_is_named_with_the_way_out() {
        let lonely = tempfile::tempdir().unwrap();
        let repository = Repository { root: lonely.path().join("clone") };
        let error = data_folder(&repository).unwrap_err().to_string();
        assert!(error.contains("HOLDFAST_DATA"), "{error}");
    }
}
