//! What the server adds to a request: authentication, limits, ids, metrics and log, against a bare route that answers the
//! same bytes. See `crates/server/examples/gate_cost.rs`.
//!
//! Processor time comes from the system. Instructions come from the processor's counters (`perf stat`) where there are
//! any; a virtual machine often has none, and then valgrind counts them, if it is installed. Both count whole processes,
//! so each mode runs twice, and the difference of the two runs is what the requests between them took.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::repository::Repository;
use crate::shell;

/// Requests whose processor time is taken, and how often; the least is told, since whatever else runs only adds.
const TIMED_REQUESTS: usize = 100_000;
const TIMED_ROUNDS: usize = 5;
/// Requests by which the two runs differ whose instructions are counted.
const COUNTED_REQUESTS: usize = 5_000;
/// The most that a request may be charged, in microseconds of processor time.
const OVERHEAD_MAX_US: f64 = 30.0;
/// Nothing counts instructions here.
const NO_COUNTER: &str = "neither hardware counters nor valgrind";

/// What `bench overhead` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Measure the build that tests use, instead of a release build
    #[arg(long)]
    dev: bool,
}

/// Builds the measuring program, runs it both ways and prints the difference; fails when that is over the bound.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let mut build = shell::command("cargo");
    build.current_dir(&repository.root).args(["build", "--workspace", "--example", "gate_cost"]);
    build.args((!options.dev).then_some("--release"));
    shell::run(&mut build)?;
    let profile = if options.dev { "debug" } else { "release" };
    let program = repository.target_folder()?.join(profile).join("examples/gate_cost");

    let (gate, bare) = (cpu_us(&program, "gate")?, cpu_us(&program, "bare")?);
    let instructions = match counter(&program)? {
        Some(counter) => {
            let (gate, bare) = (instructions(&program, "gate", counter)?, instructions(&program, "bare", counter)?);
            json!({ "counted_by": counter.name(), "gate": gate, "bare": bare, "overhead": gate - bare })
        }
        None => json!({ "counted_by": null, "reason": NO_COUNTER }),
    };
    super::print(&json!({
        "build": profile,
        "cpu_us": { "gate": gate, "bare": bare, "overhead": gate - bare, "at_most": OVERHEAD_MAX_US },
        "instructions": instructions,
    }));
    if gate - bare > OVERHEAD_MAX_US {
        bail!("the gate costs {:.1} µs of processor time a request, at most {OVERHEAD_MAX_US} are meant", gate - bare);
    }
    Ok(())
}

fn cpu_us(program: &Path, mode: &str) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..TIMED_ROUNDS {
        let told = shell::output(shell::command(program).args([mode, &TIMED_REQUESTS.to_string()]))?;
        let figure: Value = serde_json::from_str(&told).context("gate_cost printed no figure")?;
        least = least.min(figure["cpu_us"].as_f64().context("gate_cost printed no time")?);
    }
    Ok(least)
}

/// Who counts instructions.
#[derive(Clone, Copy)]
enum Counter {
    Hardware,
    Valgrind,
}

impl Counter {
    fn name(self) -> &'static str {
        match self {
            Self::Hardware => "perf stat (instructions:u)",
            Self::Valgrind => "valgrind (cachegrind)",
        }
    }

    /// The words before the program, and what its count stands behind.
    fn command(self) -> &'static [&'static str] {
        match self {
            Self::Hardware => &["perf", "stat", "--field-separator", ",", "--event", "instructions:u"],
            Self::Valgrind => &[
                "valgrind",
                "--tool=cachegrind",
                "--cache-sim=no",
                "--cachegrind-out-file=/dev/null",
                "--error-exitcode=9",
            ],
        }
    }

    fn read(self, told: &str) -> Option<f64> {
        let digits = match self {
            Self::Hardware => told.lines().find(|line| line.contains("instructions:u"))?.split(',').next()?.to_owned(),
            Self::Valgrind => told
                .lines()
                .find(|line| line.contains("I refs:") || line.contains("I   refs:"))?
                .rsplit(':')
                .next()?
                .replace(',', ""),
        };
        digits.trim().parse().ok()
    }

    fn count(self, program: &Path, mode: &str, requests: usize) -> Result<Option<f64>> {
        let (first, rest) = self.command().split_first().context("no command")?;
        let Some(tool) = shell::find_program(first) else { return Ok(None) };
        let mut command = shell::command(tool);
        command.args(rest).arg(program).args([mode, &requests.to_string()]);
        let output = command.output().with_context(|| format!("failed to start {first}"))?;
        Ok(output.status.success().then(|| self.read(&String::from_utf8_lossy(&output.stderr))).flatten())
    }
}

fn counter(program: &Path) -> Result<Option<Counter>> {
    for counter in [Counter::Hardware, Counter::Valgrind] {
        if counter.count(program, "bare", 1)?.is_some() {
            return Ok(Some(counter));
        }
    }
    Ok(None)
}

fn instructions(program: &Path, mode: &str, counter: Counter) -> Result<f64> {
    let count = |requests| counter.count(program, mode, requests)?.context("the counter counted nothing");
    Ok((count(2 * COUNTED_REQUESTS)? - count(COUNTED_REQUESTS)?) / COUNTED_REQUESTS as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_each_tool_writes_them() {
        assert_eq!(Counter::Hardware.read("123456,,instructions:u,5,100.00,,\n"), Some(123_456.0));
        assert_eq!(Counter::Hardware.read("<not supported>,,instructions:u,0,100.00,,\n"), None);
        assert_eq!(Counter::Valgrind.read("==1== \n==1== I refs:        1,234,567\n"), Some(1_234_567.0));
        assert_eq!(Counter::Valgrind.read("nothing"), None);
    }
}
