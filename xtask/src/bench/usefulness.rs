//! What ranking gains from being told which documents were of use, measured from outside: see `bench/usefulness.py`.

use anyhow::Result;

use crate::repository::Repository;
use crate::shell;

/// Builds the program and lets the script measure it.
pub fn run(repository: &Repository) -> Result<()> {
    let scifact = super::data_folder(repository)?.join("scifact");
    let program = super::program(repository)?;
    let mut measure = shell::command("python3");
    measure.current_dir(&repository.root).arg("bench/usefulness.py").args([program, super::models_folder()?]);
    measure.args([scifact, super::state_folder("usefulness")?]);
    shell::run(&mut measure)
}
