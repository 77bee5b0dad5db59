//! The gateway from outside: what it adds to a call and to a stream, its throughput against peers, and its memory. See
//! `bench/gateway.py`; the upstream and the clients are `crates/server/examples/gateway_load.rs`.

use anyhow::Result;

use crate::repository::Repository;
use crate::shell;

/// What `bench gateway` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Only these parts: latency, streaming, streams, throughput, memory
    #[arg(value_name = "PART")]
    parts: Vec<String>,
}

/// Builds the program as it is handed out, and the generator, and lets the script measure.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let mut build = shell::command("cargo");
    build.current_dir(&repository.root).args([
        "build",
        "--profile",
        "dist",
        "--workspace",
        "--bins",
        "--example",
        "gateway_load",
        "--example",
        "bare_proxy",
    ]);
    shell::run(&mut build)?;
    let built = repository.target_folder()?.join("dist");
    let mut measure = shell::command("python3");
    measure.current_dir(&repository.root).arg("bench/gateway.py").arg(built.join("holdfast"));
    measure
        .args([built.join("examples/gateway_load"), super::models_folder()?, super::state_folder("gateway")?])
        .args(&options.parts);
    shell::run(&mut measure)
}
