//! `cargo xtask fuzz`: the parsers of untrusted input, fed by libFuzzer with what reaches new code in them.
//!
//! Owns the list of targets, how they are built and how long each runs. Only our own crates are instrumented
//! ([`crate::instrument`]): everything below them is taken as the ordinary build made it, which makes minutes of what
//! would be most of an hour. What must hold of an input is said in the crates. Seeds and words of each format lie in
//! `fuzz/`; what a run learns is kept in the cache folder, and what it breaks something with is printed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::instrument;
use crate::repository::Repository;
use crate::shell;

/// Every target, as `crates/app/examples/fuzz.rs` has them.
const TARGETS: [&str; 8] = ["answer", "body", "cursor", "filter", "html", "markdown", "mcp", "settings"];
/// What libFuzzer needs to see where an input gets to (LLVM's SanitizerCoverage): counters at every edge, and what is
/// compared with what.
const COVERAGE: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Copt-level=3",
];
/// Bytes of an input; what goes wrong goes wrong in less.
const INPUT_BYTES_MAX: u32 = 16 * 1024;
/// Seconds a single input may take before that counts as a finding.
const INPUT_SECONDS_MAX: u32 = 10;

/// What `cargo xtask fuzz` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// How long each target runs
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only these targets: answer, body, cursor, filter, html, markdown, mcp, settings
    #[arg(value_name = "TARGET", value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    targets: Vec<String>,
}

/// Builds the fuzzer and runs the targets, each to its end; fails when any found something.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let program = build(repository)?;
    let all: Vec<String> = TARGETS.map(str::to_owned).to_vec();
    let targets = if options.targets.is_empty() { &all } else { &options.targets };
    let mut broken = Vec::new();
    for target in targets {
        if !run_target(repository, &program, target, options.seconds)? {
            broken.push(target.as_str());
        }
    }
    if !broken.is_empty() {
        bail!(
            "fuzzing found something in: {}\nhint: put the input into fuzz/seeds/<target>/, where tests replay it, and mend the parser",
            broken.join(", ")
        );
    }
    shell::say(&format!("fuzz: {} target(s), {} s each, nothing found", targets.len(), options.seconds));
    Ok(())
}

fn build(repository: &Repository) -> Result<PathBuf> {
    let engine = build_engine(repository)?;
    // A library ignores what is for the linker.
    let link = [format!("-Clink-arg={}", engine.display()), "-Clink-arg=-lstdc++".to_owned()];
    let flags: Vec<&str> = COVERAGE.into_iter().chain(link.iter().map(String::as_str)).collect();
    let wrapper = instrument::wrapper(repository, "fuzz", &flags)?;
    let mut build = shell::command("cargo");
    build.current_dir(&repository.root).env("RUSTC_WORKSPACE_WRAPPER", wrapper);
    shell::run(build.args(["build", "--workspace", "--example", "fuzz", "--features", "holdfast/fuzz"]))?;
    Ok(repository.target_folder()?.join("debug/examples/fuzz"))
}

/// libFuzzer itself, as the package `fuzz/engine` brings it.
fn build_engine(repository: &Repository) -> Result<PathBuf> {
    let target = repository.target_folder()?.join("fuzz-engine");
    let manifest = repository.root.join("fuzz/engine/Cargo.toml");
    let mut build = shell::command("cargo");
    build.current_dir(&repository.root).args(["build", "--locked", "--manifest-path"]).arg(manifest);
    shell::run(build.arg("--target-dir").arg(&target))?;
    let folder = target.join("debug/build");
    let built = folder.read_dir().with_context(|| format!("failed to read {}", folder.display()))?;
    let libraries = built.flatten().map(|entry| entry.path().join("out/libfuzzer.a"));
    libraries.into_iter().find(|library| library.is_file()).context("the build made no libfuzzer.a")
}

/// Whether a target ran to its end without finding anything.
fn run_target(repository: &Repository, program: &Path, target: &str, seconds: u32) -> Result<bool> {
    let folder = shell::cache_folder()?.join("fuzz").join(target);
    let (learnt, found) = (folder.join("learnt"), folder.join("found"));
    for folder in [&learnt, &found] {
        fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    let mut fuzz = shell::command(program);
    fuzz.env("HOLDFAST_FUZZ_TARGET", target)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-dict={}", repository.root.join(format!("fuzz/dictionaries/{target}.dict")).display()))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args(["-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=1"])
        // What is learnt goes to the first folder; the seeds are only read.
        .args([learnt, repository.root.join("fuzz/seeds").join(target)]);
    let output = fuzz.output().with_context(|| format!("failed to start {}", program.display()))?;
    let told = String::from_utf8_lossy(&output.stderr);
    let inputs = statistic(&told, "stat::number_of_executed_units:");
    shell::say(&format!("fuzz {target}: {} inputs", inputs.unwrap_or("an unknown number of")));
    if !output.status.success() {
        let last: Vec<&str> = told.lines().rev().take(60).collect();
        last.iter().rev().for_each(|line| shell::say(line));
        return Ok(false);
    }
    if inputs.is_none_or(|inputs| inputs == "0") {
        bail!("the fuzzer of {target} tried nothing:\n{told}");
    }
    Ok(true)
}

fn statistic<'a>(told: &'a str, name: &str) -> Option<&'a str> {
    told.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_seeds_and_words() {
        let repository = Repository::discover().unwrap();
        for target in TARGETS {
            let seeds = repository.root.join("fuzz/seeds").join(target);
            assert!(seeds.read_dir().unwrap().next().is_some(), "{target}");
            assert!(repository.root.join(format!("fuzz/dictionaries/{target}.dict")).is_file(), "{target}");
        }
        let harness = fs::read_to_string(repository.root.join("crates/app/examples/fuzz.rs")).unwrap();
        assert!(TARGETS.iter().all(|target| harness.contains(&format!("(\"{target}\", "))));
    }

    #[test]
    fn the_number_of_inputs_is_read() {
        assert_eq!(statistic("x\nstat::number_of_executed_units: 12\n", "stat::number_of_executed_units:"), Some("12"));
        assert_eq!(statistic("x\n", "stat::"), None);
    }
}
