//! `cargo xtask bench NAME`: one module a benchmark.
//!
//! Owns where the data lies and nothing of what is measured. A benchmark builds what it measures in release mode, prints
//! its figures to standard output, and fails when a figure is worse than what `docs/BENCHMARKS.md` promises.

mod connections;
mod embedding;
mod embedding_service;
mod encoder;
mod events;
mod faults;
mod gateway;
mod indexing;
mod overhead;
mod patterns;
mod retrieval;
mod search;
mod serving;
mod survive;
mod usefulness;

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::repository::Repository;
use crate::shell;

/// The benchmarks by name.
#[derive(clap::Subcommand)]
pub enum Benchmark {
    /// 450 slow and idle connections while four clients search: their time against quiet, a probe's, and the memory
    Connections(connections::Options),
    /// The encoder against ONNX Runtime in turns: tokens a second, one query's time, bytes against floats
    Embedding(embedding::Options),
    /// The embedding service over HTTP: one client and many, beside indexing, overloaded, and its memory
    EmbeddingService(embedding_service::Options),
    /// The encoder against sentence-transformers and the stored golden vectors: the lowest cosine
    Encoder(encoder::Options),
    /// Events of other programs: how many are taken over HTTP, and how fast a backlog is folded
    Events,
    /// Input and output errors and a full disk: a coded error, no crash, recovery by itself
    Faults(faults::Options),
    /// The gateway from outside: what it adds to a call and a stream, throughput against nginx and LiteLLM, memory
    Gateway(gateway::Options),
    /// Indexing without the embedding: documents a second
    Indexing(indexing::Options),
    /// What the server adds to a request: processor time and instructions, against a bare route
    Overhead(overhead::Options),
    /// Whether patterns and known errors are found that are there, and by search, among 2 000 interactions
    Patterns,
    /// Search on judged data: nDCG@10 and MRR@100 by mode
    Retrieval(retrieval::Options),
    /// Search over 100 000 chunks, in process: time and recall, with and without filters
    Search,
    /// The server from outside: start, memory, cached searches
    Serving,
    /// What ranking gains from being told which documents were of use, by a simulated user over SciFact
    Usefulness,
    /// Kills or power losses at random moments: what is lost, if anything
    Survive(survive::Options),
}

/// Runs one benchmark.
pub fn run(repository: &Repository, benchmark: Benchmark) -> Result<()> {
    match benchmark {
        Benchmark::Connections(options) => connections::run(repository, &options),
        Benchmark::Embedding(options) => embedding::run(repository, &options),
        Benchmark::EmbeddingService(options) => embedding_service::run(repository, &options),
        Benchmark::Encoder(options) => encoder::run(repository, &options),
        Benchmark::Events => events::run(repository),
        Benchmark::Faults(options) => faults::run(repository, &options),
        Benchmark::Gateway(options) => gateway::run(repository, &options),
        Benchmark::Indexing(options) => indexing::run(repository, &options),
        Benchmark::Overhead(options) => overhead::run(repository, &options),
        Benchmark::Patterns => patterns::run(repository),
        Benchmark::Retrieval(options) => retrieval::run(repository, &options),
        Benchmark::Search => search::run(repository),
        Benchmark::Serving => serving::run(repository),
        Benchmark::Usefulness => usefulness::run(repository),
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

/// A measuring program of `knowledge`, built in release mode, with its first arguments: where the data, the models and
/// the state lie that it keeps for the next time.
fn example(repository: &Repository, name: &str) -> Result<Command> {
    let mut build = shell::command("cargo");
    build.current_dir(&repository.root).args(["build", "--release", "--workspace", "--example", name]);
    shell::run(&mut build)?;
    let mut measure = shell::command(repository.target_folder()?.join("release/examples").join(name));
    measure.arg(data_folder(repository)?).arg(models_folder()?).arg(state_folder(name)?);
    Ok(measure)
}

/// The program itself, built in release mode. With the whole workspace, as the measuring programs are: each choice of
/// packages has dependencies of its own to build.
fn program(repository: &Repository) -> Result<PathBuf> {
    let mut build = shell::command("cargo");
    shell::run(build.current_dir(&repository.root).args(["build", "--release", "--workspace", "--bins"]))?;
    Ok(repository.target_folder()?.join("release/holdfast"))
}

/// Where a benchmark keeps what it need not do again.
fn state_folder(name: &str) -> Result<PathBuf> {
    let folder = shell::cache_folder()?.join("bench").join(name);
    std::fs::create_dir_all(&folder)?;
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
