//! The one door of xtask to the outside: other programs, the environment and the terminal.
//!
//! Does not decide what is run. The clippy bans on processes, environment and printing protect the product; here they
//! are lifted once, so that every other module of xtask obeys them.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Variables that `cargo run` sets for xtask. Handed on to an inner cargo they would look like a changed environment to
/// build scripts that watch them (ring's does), and everything above those would be rebuilt on every other command.
const SET_BY_CARGO_RUN: [&str; 4] = ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_BIN_NAME", "CARGO_CRATE_NAME"];

/// A command whose standard input is empty and whose environment is the caller's own, without traces of `cargo run`.
#[expect(clippy::disallowed_methods, reason = "xtask exists to start other programs")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    for name in SET_BY_CARGO_RUN {
        command.env_remove(name);
    }
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command with its output passed through. Fails, naming the command, unless it exits with 0.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = describe(command);
    let status = command.status().with_context(|| format!("failed to start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a command and returns its standard output. Fails, with what it wrote to standard error, unless it exits with 0.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = describe(command);
    let output = command.output().with_context(|| format!("failed to start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` wrote something that is not UTF-8"))
}

/// Whether a command can be started and exits with 0; its output is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The program's path if a folder of `PATH`, or one where system tools lie, holds it.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// An environment variable, if it is set, not empty and UTF-8.
#[expect(
    clippy::disallowed_methods,
    reason = "xtask has no settings file; its few variables are documented in CONTRIBUTING.md"
)]
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The folder for what can be fetched again: `$XDG_CACHE_HOME/holdfast`, or `~/.cache/holdfast`.
pub fn cache_folder() -> Result<PathBuf> {
    let base = match variable("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&variable("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache"),
    };
    Ok(base.join("holdfast"))
}

/// Writes one line for the person at the terminal (standard error; standard output carries data).
#[expect(clippy::print_stderr, reason = "xtask talks to a person")]
pub fn say(line: &str) {
    eprintln!("{line}");
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_what_it_said() {
        let error = output(command("sh").args(["-c", "echo broken >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c"), "{error}");
        assert!(error.contains("broken"), "{error}");
    }

    #[test]
    fn a_program_that_is_missing_is_an_error_and_not_a_success() {
        assert!(run(&mut command("holdfast-no-such-program")).is_err());
        assert!(!succeeds(&mut command("holdfast-no-such-program")));
        assert!(find_program("holdfast-no-such-program").is_none());
        assert!(find_program("sh").is_some());
    }

    #[test]
    fn the_environment_of_cargo_run_is_not_handed_on() {
        let seen =
            output(command("sh").args(["-c", "echo ${CARGO_MANIFEST_DIR-none} ${CARGO_PKG_NAME-none}"])).unwrap();
        assert_eq!(seen.trim(), "none none");
    }
}
