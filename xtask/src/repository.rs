//! The repository as tidy sees it: its root and the files git tracks or would track.
//!
//! Does not read ignored files and does not judge anything. File contents are read once, at discovery.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cargo_metadata::MetadataCommand;

use crate::shell;

/// A checked-out clone.
pub struct Repository {
    /// Absolute path of the working tree.
    pub root: PathBuf,
}

/// One file of the working tree.
pub struct TrackedFile {
    /// Path below the root, with forward slashes.
    pub path: String,
    /// The file's bytes.
    pub bytes: Vec<u8>,
}

impl Repository {
    /// Finds the clone that xtask is run from. What `cargo run` says comes first: clones may share a build cache.
    pub fn discover() -> Result<Self> {
        let built_from = env!("CARGO_MANIFEST_DIR").to_owned();
        let manifest = PathBuf::from(shell::variable("CARGO_MANIFEST_DIR").unwrap_or(built_from));
        let root = manifest.parent().context("xtask lies in no workspace")?;
        Ok(Self { root: root.to_owned() })
    }

    /// Where cargo puts what it builds.
    pub fn target_folder(&self) -> Result<PathBuf> {
        let manifest = self.root.join("Cargo.toml");
        let metadata =
            MetadataCommand::new().manifest_path(manifest).no_deps().exec().context("cargo metadata failed")?;
        Ok(metadata.target_directory.into_std_path_buf())
    }

    /// Every file that is tracked or new and not ignored, sorted by path. Files deleted but still tracked are left out.
    pub fn files(&self) -> Result<Vec<TrackedFile>> {
        let listing = shell::output(shell::command("git").current_dir(&self.root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        let mut paths: Vec<&str> = listing.split_terminator('\0').collect();
        paths.sort_unstable();
        paths.dedup();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let absolute = self.root.join(path);
            // A symbolic link is not followed: what it points at is another file's matter, or not ours at all.
            match fs::symlink_metadata(&absolute) {
                Ok(metadata) if metadata.is_file() => {}
                _ => continue,
            }
            let bytes = fs::read(&absolute).with_context(|| format!("failed to read {path}"))?;
            files.push(TrackedFile { path: path.to_owned(), bytes });
        }
        Ok(files)
    }
}

impl TrackedFile {
    /// The content as text, unless the file is binary.
    pub fn text(&self) -> Option<&str> {
        if self.bytes.contains(&0) { None } else { std::str::from_utf8(&self.bytes).ok() }
    }

    /// Whether the file lies in the test fixtures, which stand for foreign input and follow no rule of ours but size.
    pub fn is_fixture(&self) -> bool {
        self.path.split('/').any(|folder| folder == "fixtures")
    }

    /// Whether the whole file is test code: below a `tests` folder, or a `tests.rs` beside its module.
    pub fn is_test_code(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }
}

#[cfg(test)]
pub fn file(path: &str, content: &str) -> TrackedFile {
    TrackedFile { path: path.to_owned(), bytes: content.as_bytes().to_vec() }
}
