//! Virtual environments for the Python parts of tests and benchmarks.
//!
//! Owns where they lie and when one is complete: `python/<hash of the requirements>` in the cache folder, with a mark
//! written last. A changed requirements file gets a new environment; an interrupted installation is begun again.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::repository::Repository;
use crate::shell;

/// Written into an environment once everything in it is installed.
const COMPLETE: &str = "complete";

/// A virtual environment that may not be there yet.
pub struct Environment {
    folder: PathBuf,
    requirements: PathBuf,
    /// The requirements as they are named in the clone.
    name: String,
}

impl Environment {
    /// The environment that a requirements file (a path below the root) asks for.
    pub fn of(repository: &Repository, requirements: &str) -> Result<Self> {
        let name = requirements.to_owned();
        let requirements = repository.root.join(requirements);
        let content = fs::read(&requirements).with_context(|| format!("failed to read {}", requirements.display()))?;
        let key: String = Sha256::digest(&content).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { folder: shell::cache_folder()?.join("python").join(key), requirements, name })
    }

    /// The file that says what is in it.
    pub fn requirements(&self) -> &str {
        &self.name
    }

    /// Its interpreter.
    pub fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// Whether everything is installed and the interpreter still runs (a system upgrade can take it away).
    pub fn is_ready(&self) -> bool {
        self.folder.join(COMPLETE).is_file() && shell::succeeds(shell::command(self.python()).arg("--version"))
    }

    /// Makes it anew from the requirements.
    pub fn install(&self) -> Result<()> {
        if self.folder.exists() {
            let shown = self.folder.display();
            fs::remove_dir_all(&self.folder).with_context(|| format!("failed to remove the unfinished {shown}"))?;
        }
        shell::run(shell::command("python3").args(["-m", "venv"]).arg(&self.folder))?;
        shell::run(
            shell::command(self.python())
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
                .arg(&self.requirements),
        )?;
        let mark = self.folder.join(COMPLETE);
        fs::write(&mark, "").with_context(|| format!("failed to write {}", mark.display()))
    }
}

/// Whether this machine's `python3` can make virtual environments (Debian ships that apart).
pub fn can_make_environments() -> bool {
    shell::succeeds(shell::command("python3").args(["-c", "import venv, ensurepip"]))
}
