//! `cargo xtask`: what a developer and the build machine run besides cargo itself.
//!
//! Owns the checks of the house (`tidy`), the one command that runs every test (`test`), the benchmarks (`bench`),
//! the security audit (`audit`), coverage, fuzzing and the git hook (`hooks`). It is no part of the product: nothing depends on it, and it depends on no crate of ours.

mod audit;
mod bench;
mod coverage;
mod fuzz;
mod hooks;
mod instrument;
mod python;
mod repository;
mod security_tls;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::repository::Repository;

/// Tasks for working on Holdfast.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check crate edges, module headers, documentation links, sizes and leftovers
    Tidy,
    /// Run every test: Rust, documentation examples, and the Python clients against the built program
    Test(test::Options),
    /// Let schemathesis look for answers that the API's description does not have, for longer than the tests do
    FuzzApi(test::FuzzOptions),
    /// Run a benchmark; its data lies in ../shared/data beside the clone, or where HOLDFAST_DATA says
    #[command(subcommand)]
    Bench(bench::Benchmark),
    /// Check dependencies, settings, deployment files, file modes and the repository for what one should not trust
    SecurityAudit(audit::Options),
    /// Run the Rust tests and print which share of each crate's lines they run
    Coverage(coverage::Options),
    /// Feed the parsers of untrusted input with what reaches new code in them
    Fuzz(fuzz::Options),
    /// Let sslscan and testssl.sh judge the HTTPS listener; fails on anything weak
    SecurityTls(security_tls::Options),
    /// Install the git hook that checks a commit before it is made
    Hooks,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    let repository = Repository::discover()?;
    match task {
        Task::Tidy => tidy::run(&repository),
        Task::Test(options) => test::run(&repository, &options),
        Task::FuzzApi(options) => test::fuzz_api(&repository, &options),
        Task::Bench(benchmark) => bench::run(&repository, benchmark),
        Task::SecurityAudit(options) => audit::run(&repository, &options),
        Task::Coverage(options) => coverage::run(&repository, &options),
        Task::Fuzz(options) => fuzz::run(&repository, &options),
        Task::SecurityTls(options) => security_tls::run(&repository, &options),
        Task::Hooks => hooks::install(&repository),
    }
}
