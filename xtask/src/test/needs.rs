//! What the tests need on the machine: programs, a Python environment, the embedding model.
//!
//! Each need can say whether it is met, what would meet it, and can meet itself. Without leave to install, everything
//! that is missing is named at once with the command that provides it, and nothing runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::python;
use crate::shell;

use super::Places;

/// A program that tests start, and the Debian package that has it.
struct Program {
    name: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const PROGRAMS: [Program; 10] = [
    Program { name: "git", package: "git", purpose: "tidy reads the list of tracked files" },
    Program { name: "python3", package: "python3", purpose: "the MCP and HTTP clients are Python" },
    Program { name: "bash", package: "bash", purpose: "the documents' examples are run by it" },
    Program { name: "curl", package: "curl", purpose: "the documents' examples use it" },
    Program {
        name: "chromium-headless-shell",
        package: "chromium-headless-shell",
        purpose: "a real browser opens the API's page",
    },
    Program { name: "openssl", package: "openssl", purpose: "tests let it judge the certificates that are made" },
    Program { name: "strace", package: "strace", purpose: "fault tests inject I/O errors" },
    Program { name: "mkfs.ext4", package: "e2fsprogs", purpose: "power-loss tests make a small file system" },
    Program { name: "mount", package: "mount", purpose: "power-loss and full-disk tests mount it" },
    Program { name: "promtool", package: "prometheus", purpose: "metrics, rules and alerts are checked with it" },
];

/// Something missing, and the command that provides it.
#[derive(Debug, PartialEq, Eq)]
struct Missing {
    what: String,
    remedy: String,
}

/// Checks the programs and the Python environment, and provides what is missing if that is allowed.
pub fn ensure_tools(places: &Places, install: bool) -> Result<()> {
    if install {
        install_packages(&missing_packages(&|name| shell::find_program(name).is_some()))?;
        for environment in places.environments.iter().filter(|environment| !environment.is_ready()) {
            shell::say(&format!("installing the Python packages of {}", environment.requirements()));
            environment.install()?;
        }
    }
    let mut missing = missing_programs(&|name| shell::find_program(name).is_some());
    for environment in places.environments.iter().filter(|environment| !environment.is_ready()) {
        missing.push(Missing {
            what: format!("the Python environment with the packages of {}", environment.requirements()),
            remedy: "cargo xtask test --install".to_owned(),
        });
    }
    if !has_model(&places.models()) && !install {
        missing.push(missing_model(places));
    }
    refuse(&missing)
}

/// Checks the embedding model with the built program, and lets it fetch the files if that is allowed.
pub fn ensure_model(places: &Places, install: bool) -> Result<()> {
    forget_all_but_models(&places.data_directory)?;
    let models = |action: &str| {
        let mut command = places.command(&places.binary);
        command.arg("--data-dir").arg(&places.data_directory).args(["models", action]);
        command
    };
    if install {
        // A pull checks what is there by hash and fetches only what is missing or damaged.
        shell::run(&mut models("pull")).context("the embedding model could not be fetched")?;
    } else if !shell::succeeds(&mut models("verify")) {
        return refuse(&[missing_model(places)]);
    }
    Ok(())
}

/// Empties a data directory but for its models: a database that another commit's program left would be refused by this one.
fn forget_all_but_models(data_directory: &Path) -> Result<()> {
    let Ok(entries) = data_directory.read_dir() else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| entry.file_name() != "models") {
        let path = entry.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("failed to remove {}", path.display()))?;
    }
    Ok(())
}

fn missing_model(places: &Places) -> Missing {
    Missing {
        what: format!("the embedding model below {}", places.models().display()),
        remedy: "cargo xtask test --install".to_owned(),
    }
}

/// Whether a folder holds a model file at any depth; whether it is the right one is for the program to say.
fn has_model(folder: &Path) -> bool {
    let Ok(entries) = folder.read_dir() else {
        return false;
    };
    entries.flatten().any(|entry| entry.file_name() == "model.safetensors" || has_model(&entry.path()))
}

fn missing_programs(is_present: &dyn Fn(&str) -> bool) -> Vec<Missing> {
    let absent = PROGRAMS.iter().filter(|program| !is_present(program.name));
    let described = absent.map(|program| Missing {
        what: format!("`{}` ({})", program.name, program.purpose),
        remedy: format!("apt-get install {}", program.package),
    });
    described.collect()
}

fn missing_packages(is_present: &dyn Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<_> =
        PROGRAMS.iter().filter(|program| !is_present(program.name)).map(|program| program.package).collect();
    // Debian's python3 has neither venv nor ensurepip until this package is there.
    if packages.contains(&"python3") || !python::can_make_environments() {
        packages.push("python3-venv");
    }
    packages
}

fn install_packages(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if shell::find_program("apt-get").is_none() {
        bail!("only Debian's packages are known here; install these by hand: {}", packages.join(" "));
    }
    shell::say(&format!("installing the system packages {}", packages.join(" ")));
    shell::run(&mut as_root(&["apt-get", "update", "--quiet"])?)?;
    let install = [&["apt-get", "install", "--yes", "--quiet", "--no-install-recommends"], packages].concat();
    shell::run(as_root(&install)?.env("DEBIAN_FRONTEND", "noninteractive"))
}

fn as_root(words: &[&str]) -> Result<Command> {
    let is_root = shell::output(shell::command("id").arg("-u"))?.trim() == "0";
    let words = if is_root { words.to_vec() } else { [&["sudo", "--non-interactive"], words].concat() };
    let (program, arguments) = words.split_first().context("no command given")?;
    let mut command = shell::command(program);
    command.args(arguments);
    Ok(command)
}

fn refuse(missing: &[Missing]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    for need in missing {
        shell::say(&format!("missing: {}\n  hint: {}", need.what, need.remedy));
    }
    bail!("{} thing(s) that tests need are missing; `cargo xtask test --install` fetches them", missing.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_program_is_named_with_the_command_that_provides_it() {
        let missing = missing_programs(&|name| name != "strace" && name != "mkfs.ext4");
        let remedies: Vec<_> = missing.iter().map(|need| need.remedy.as_str()).collect();
        assert_eq!(remedies, ["apt-get install strace", "apt-get install e2fsprogs"]);
        assert!(missing_programs(&|_| true).is_empty());
    }

    #[test]
    fn something_missing_is_a_failure() {
        assert!(refuse(&missing_programs(&|_| false)).is_err());
        assert!(refuse(&[]).is_ok());
    }

    #[test]
    fn what_another_program_left_is_forgotten_and_the_models_stay() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["models", "db", "run"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("holdfast.toml"), "").unwrap();
        forget_all_but_models(folder.path()).unwrap();
        let left: Vec<_> = folder.path().read_dir().unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["models"]);
        assert!(forget_all_but_models(&folder.path().join("gone")).is_ok());
    }

    #[test]
    fn the_model_counts_as_there_only_with_its_weights() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!has_model(folder.path()));
        assert!(!has_model(&folder.path().join("gone")));
        let inner = folder.path().join("all-MiniLM-L6-v2");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("tokenizer.json"), "{}").unwrap();
        assert!(!has_model(folder.path()));
        fs::write(inner.join("model.safetensors"), "x").unwrap();
        assert!(has_model(folder.path()));
    }
}
