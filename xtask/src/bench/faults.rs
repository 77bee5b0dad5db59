//! What the program does when the disk fails or is full: see `bench/faults.py`.

use anyhow::Result;

use crate::repository::Repository;
use crate::shell;

/// What `bench faults` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Only this one: `errors`, which needs strace, `full`, which needs root, or `many`
    kind: Option<String>,
}

/// Builds the program and lets the script trouble it.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let corpus = super::data_folder(repository)?.join("nix-docs");
    let program = super::program(repository)?;
    let kinds = options.kind.as_ref().map_or(vec!["errors", "full", "many"], |kind| vec![kind]);
    for kind in kinds {
        let mut trouble = shell::command("python3");
        trouble.current_dir(&repository.root).args(["bench/faults.py", kind]);
        shell::run(trouble.args([&program, &super::models_folder()?, &corpus]))?;
    }
    Ok(())
}
