//! Start, memory and cached searches of the server, measured from outside: see `bench/serving.py`.

use anyhow::Result;

use crate::repository::Repository;
use crate::shell;

/// Builds the program and lets the script measure it.
pub fn run(repository: &Repository) -> Result<()> {
    let scifact = super::data_folder(repository)?.join("scifact");
    let program = super::program(repository)?;
    let mut measure = shell::command("python3");
    measure.current_dir(&repository.root).arg("bench/serving.py").args([program, super::models_folder()?]);
    measure.args([scifact.join("corpus.jsonl"), super::state_folder("serving")?, scifact.join("queries.jsonl")]);
    shell::run(&mut measure)
}
