//! `cargo xtask coverage`: which lines of each crate the Rust tests run.
//!
//! The compiler counts (`-C instrument-coverage`), in our own crates alone ([`crate::instrument`]); LLVM's own tools add
//! up. Files of tests are not counted among the lines; test modules within a source file are, since the counters do not
//! tell them apart, so a figure is somewhat too high. The program that tests start is instrumented too, so what only runs
//! in a process of its own is seen.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::instrument;
use crate::repository::Repository;
use crate::shell;

/// Crates whose lines have to be run, and how many of a hundred.
const HELD: [&str; 3] = ["storage", "resilience", "server"];
const PERCENT_MIN: f64 = 80.0;

/// What `cargo xtask coverage` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Fail when storage, resilience or server has less than 80 %
    #[arg(long)]
    check: bool,
    /// Only the tests whose name contains this; the figures are then about these
    #[arg(long, value_name = "FILTER")]
    only: Option<String>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// Lines of one crate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lines {
    count: u64,
    covered: u64,
}

impl Lines {
    fn percent(self) -> f64 {
        if self.count == 0 { 0.0 } else { 100.0 * self.covered as f64 / self.count as f64 }
    }
}

/// Runs the tests, adds up and prints.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let tools = Tools::find()?;
    let folder = repository.target_folder()?.join("coverage");
    // Counts of an older build would be taken for those of this one.
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("failed to empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let programs = build(repository)?;
    test(repository, &folder, options.only.as_deref())?;
    let summary = tools.summarise(&folder, &programs)?;
    let crates = by_crate(&repository.root, &summary)?;
    tell(&crates, options.json);
    let low: Vec<String> = HELD
        .iter()
        .map(|name| (name, crates.get(*name).copied().unwrap_or_default().percent()))
        .filter(|(_, percent)| *percent < PERCENT_MIN)
        .map(|(name, percent)| format!("{name} {percent:.1} %"))
        .collect();
    if options.check && !low.is_empty() {
        bail!("below {PERCENT_MIN} % of lines: {}", low.join(", "));
    }
    Ok(())
}

/// The compiler's own versions of LLVM's tools; those of the system read other formats.
struct Tools {
    profdata: PathBuf,
    cov: PathBuf,
}

impl Tools {
    fn find() -> Result<Self> {
        let sysroot = shell::output(shell::command("rustc").args(["--print", "sysroot"]))?;
        let version = shell::output(shell::command("rustc").arg("-vV"))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
        let folder = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin");
        let tools = Self { profdata: folder.join("llvm-profdata"), cov: folder.join("llvm-cov") };
        if !tools.profdata.is_file() || !tools.cov.is_file() {
            bail!("the compiler's llvm-profdata and llvm-cov are missing\nhint: rustup component add llvm-tools");
        }
        Ok(tools)
    }

    fn summarise(&self, folder: &Path, programs: &[PathBuf]) -> Result<Value> {
        let entries = folder.read_dir().with_context(|| format!("failed to read {}", folder.display()))?;
        let profiles: Vec<String> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "profraw"))
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        if profiles.is_empty() {
            bail!("the tests left no counts");
        }
        // There may be more of them than a command line holds. One of a process that was killed is cut off.
        let (list, merged) = (folder.join("profiles"), folder.join("merged.profdata"));
        fs::write(&list, profiles.join("\n")).with_context(|| format!("failed to write {}", list.display()))?;
        let mut merge = shell::command(&self.profdata);
        shell::run(
            merge.args(["merge", "--sparse", "--failure-mode=all", "--input-files"]).arg(&list).arg("-o").arg(&merged),
        )?;
        let mut export = shell::command(&self.cov);
        export.args(["export", "--summary-only", "--instr-profile"]).arg(&merged);
        for program in programs {
            export.arg("--object").arg(program);
        }
        serde_json::from_str(&shell::output(&mut export)?).context("llvm-cov printed no JSON")
    }
}

fn cargo(repository: &Repository) -> Result<std::process::Command> {
    let wrapper = instrument::wrapper(repository, "coverage", &["-Cinstrument-coverage"])?;
    let mut cargo = shell::command("cargo");
    cargo.current_dir(&repository.root).env("RUSTC_WORKSPACE_WRAPPER", wrapper);
    Ok(cargo)
}

/// Builds everything that tests run, and gives the programs.
fn build(repository: &Repository) -> Result<Vec<PathBuf>> {
    let mut build = cargo(repository)?;
    // A build script or macro that was instrumented would leave its counts where it runs.
    build.env("LLVM_PROFILE_FILE", "/dev/null");
    build.args(["test", "--workspace", "--exclude", "xtask", "--lib", "--bins", "--tests", "--no-run"]);
    let told = shell::output(build.arg("--message-format=json"))?;
    let messages = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages.filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?))).collect())
}

fn test(repository: &Repository, folder: &Path, only: Option<&str>) -> Result<()> {
    let mut test = cargo(repository)?;
    // `%m` is the program and `%4`: up to four processes at a time add to one file, however many there are.
    test.env("LLVM_PROFILE_FILE", folder.join("%m-%4.profraw")).args(["test", "--workspace", "--exclude", "xtask"]);
    // A failing test does not make the other figures less true, and is another command's matter.
    test.args(["--lib", "--bins", "--tests", "--no-fail-fast"]).args(only);
    if let Err(error) = shell::run(&mut test) {
        shell::say(&format!("note: {error:#}; lines that only the failing tests run are missing"));
    }
    Ok(())
}

/// Lines by crate: the folder below `crates/`, without files of tests.
fn by_crate(root: &Path, summary: &Value) -> Result<BTreeMap<String, Lines>> {
    let files = summary["data"][0]["files"].as_array().context("llvm-cov names no files")?;
    let mut crates: BTreeMap<String, Lines> = BTreeMap::new();
    for file in files {
        let path = Path::new(file["filename"].as_str().unwrap_or_default());
        let Some(below) = path.strip_prefix(root).ok().and_then(|path| path.strip_prefix("crates").ok()) else {
            continue;
        };
        let mut parts = below.iter().map(|part| part.to_string_lossy().into_owned());
        let (Some(name), Some(folder)) = (parts.next(), parts.next()) else { continue };
        let is_test = below.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
            || below.iter().any(|part| part == "tests");
        if folder != "src" || is_test {
            continue;
        }
        let lines = crates.entry(name).or_default();
        lines.count += file["summary"]["lines"]["count"].as_u64().unwrap_or_default();
        lines.covered += file["summary"]["lines"]["covered"].as_u64().unwrap_or_default();
    }
    if crates.is_empty() {
        bail!("the counts are about no file of ours");
    }
    Ok(crates)
}

#[expect(clippy::print_stdout, reason = "figures are the data of this command")]
fn tell(crates: &BTreeMap<String, Lines>, as_json: bool) {
    if as_json {
        let figures = crates.iter().map(|(name, lines)| {
            let figure = json!({ "lines": lines.count, "covered": lines.covered, "percent": lines.percent() });
            (name.clone(), figure)
        });
        println!("{}", Value::Object(figures.collect()));
        return;
    }
    for (name, lines) in crates {
        println!("{name:<12} {:>6.1} %  {:>6} of {:>6} lines", lines.percent(), lines.covered, lines.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_up_by_crate_and_tests_left_out() {
        let file = |name: &str, count: u64, covered: u64| json!({ "filename": name, "summary": { "lines": { "count": count, "covered": covered } } });
        let summary = json!({ "data": [{ "files": [
            file("/c/crates/storage/src/a.rs", 10, 5),
            file("/c/crates/storage/src/b/c.rs", 10, 10),
            file("/c/crates/storage/src/b/tests.rs", 100, 100),
            file("/c/crates/storage/tests/it/main.rs", 100, 100),
            file("/c/crates/server/examples/x.rs", 100, 0),
            file("/c/xtask/src/main.rs", 100, 0),
            file("/elsewhere/crates/x/src/a.rs", 100, 0),
        ] }] });
        let crates = by_crate(Path::new("/c"), &summary).unwrap();
        assert_eq!(crates, BTreeMap::from([("storage".to_owned(), Lines { count: 20, covered: 15 })]));
        assert!((crates["storage"].percent() - 75.0).abs() < 1e-9);
        assert!(by_crate(Path::new("/other"), &summary).is_err());
    }
}
