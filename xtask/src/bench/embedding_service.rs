//! The embedding service from outside: time of one and of many clients, alone, while the machine indexes, under overload, and
//! memory over a long mixed load. See `bench/embedding_service.py`; the load generator is
//! `crates/server/examples/http_load.rs`.

use anyhow::Result;

use crate::repository::Repository;
use crate::shell;

/// What `bench embedding-service` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Only these parts: clients, indexing, overload, memory
    #[arg(value_name = "PART")]
    parts: Vec<String>,
}

/// Builds the program and the generator, and lets the script measure.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let scifact = super::data_folder(repository)?.join("scifact");
    let mut build = shell::command("cargo");
    build.current_dir(&repository.root).args(["build", "--release", "--workspace", "--examples"]);
    shell::run(&mut build)?;
    let program = super::program(repository)?;
    let load = repository.target_folder()?.join("release/examples/http_load");
    let mut measure = shell::command("python3");
    measure.current_dir(&repository.root).arg("bench/embedding_service.py").args([
        program,
        load,
        super::models_folder()?,
    ]);
    measure.args([scifact.join("corpus.jsonl"), scifact.join("queries.jsonl")]);
    measure.arg(super::state_folder("embedding-service")?).args(&options.parts);
    shell::run(&mut measure)
}
