//! What slow and idle connections do to honest clients, measured from outside: see `bench/connections.py`.

use std::path::PathBuf;

use anyhow::Result;

use crate::repository::Repository;
use crate::shell;

/// What `bench connections` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Measure this program instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// How long each measurement takes
    #[arg(long, default_value_t = 15)]
    seconds: u32,
}

/// Builds the program and lets the script measure it.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let scifact = super::data_folder(repository)?.join("scifact");
    let program = match &options.binary {
        Some(binary) => binary.clone(),
        None => super::program(repository)?,
    };
    let mut measure = shell::command("python3");
    measure.current_dir(&repository.root).arg("bench/connections.py").args([program, super::models_folder()?]);
    measure.args([scifact.join("corpus.jsonl"), super::state_folder("connections")?, scifact.join("queries.jsonl")]);
    shell::run(measure.arg(options.seconds.to_string()))
}
