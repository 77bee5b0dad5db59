//! The encoder against ONNX Runtime, in turns on the same texts: speed by set, one query's time, bytes against floats.
//!
//! `bench/embedding.py` drives both; our side is `crates/embedding/examples/embed_rounds.rs`. ONNX Runtime's graphs are
//! made by the baseline script that lies beside the data sets.

use anyhow::{Result, bail};

use crate::python::Environment;
use crate::repository::Repository;
use crate::shell;

/// What `bench embedding` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Install ONNX Runtime if it is not there
    #[arg(long)]
    install: bool,
}

/// Builds our side and lets the script compare.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let data = super::data_folder(repository)?;
    let baseline = data.join("../bench/ort_baseline.py");
    if !baseline.is_file() {
        bail!("there is no {}\nhint: the baseline script belongs beside the data sets", baseline.display());
    }
    let environment = Environment::of(repository, "bench/embedding_requirements.txt")?;
    if options.install && !environment.is_ready() {
        environment.install()?;
    }
    if !environment.is_ready() {
        bail!("ONNX Runtime is missing\nhint: cargo xtask bench embedding --install");
    }
    let mut build = shell::command("cargo");
    build.current_dir(&repository.root).args(["build", "--release", "--workspace", "--examples"]);
    shell::run(&mut build)?;
    let program = repository.target_folder()?.join("release/examples/embed_rounds");
    let mut compare = shell::command(environment.python());
    compare.current_dir(&repository.root).arg("bench/embedding.py").arg(program);
    compare.arg(super::models_folder()?.join("all-MiniLM-L6-v2")).arg(data.join("scifact")).arg(baseline);
    shell::run(compare.arg(super::state_folder("embedding")?))
}
