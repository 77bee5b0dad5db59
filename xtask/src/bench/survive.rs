//! Whether anything is lost when the server is killed or the power fails: see `bench/survive.py`.

use std::path::PathBuf;

use anyhow::Result;

use crate::repository::Repository;
use crate::shell;

/// What `bench survive` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// `kill`, or `power`, which needs root and ext4 on a loop device
    mode: String,
    /// How often to strike
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// The folder whose files are indexed; the public documentation set by default
    #[arg(long, value_name = "FOLDER")]
    corpus: Option<PathBuf>,
}

/// Builds the program and lets the script strike.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let corpus = match &options.corpus {
        Some(folder) => folder.clone(),
        None => super::data_folder(repository)?.join("nix-docs"),
    };
    let models = super::models_folder()?;
    let program = super::program(repository)?;
    let mut strike = shell::command("python3");
    strike.current_dir(&repository.root).args(["bench/survive.py", &options.mode]).args([program, models, corpus]);
    shell::run(strike.args(["--rounds", &options.rounds.to_string()]))
}
