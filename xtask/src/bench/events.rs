//! Events of other programs, measured from outside: see `bench/events.py`.

use anyhow::Result;

use crate::repository::Repository;
use crate::shell;

/// Builds the program and lets the script measure it.
pub fn run(repository: &Repository) -> Result<()> {
    let program = super::program(repository)?;
    let mut measure = shell::command("python3");
    measure.current_dir(&repository.root).arg("bench/events.py").args([program, super::models_folder()?]);
    measure.arg(super::state_folder("events")?);
    shell::run(&mut measure)
}
