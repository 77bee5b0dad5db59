//! `cargo xtask tidy`: the rules of the house that neither the compiler nor clippy knows.
//!
//! Each rule is a function from the tracked files (and what cargo says of the workspace) to findings, so that its test
//! is a violating input. Nothing here repairs a file.

mod documents;
mod edges;
mod leftovers;
mod rust_text;
mod sources;

use std::fmt;

use anyhow::{Context, Result, bail};

use crate::repository::{Repository, TrackedFile};
use crate::shell;

/// One violation of one rule, at a place a reader can open.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path below the root.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Finding {
    fn new(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Checks the working tree against every rule and fails when one is broken, after naming all breaches.
pub fn run(repository: &Repository) -> Result<()> {
    let files = repository.files()?;
    let members = edges::members(repository)?;
    let findings = check(&files, &members);
    for finding in &findings {
        shell::say(&finding.to_string());
    }
    if !findings.is_empty() {
        bail!("tidy found {} violation(s)", findings.len());
    }
    shell::say(&format!("tidy: {} files, nothing to say", files.len()));
    Ok(())
}

fn check(files: &[TrackedFile], members: &[edges::Member]) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(edges::check(files, members));
    findings.extend(documents::check(files, members));
    findings.extend(sources::check(files));
    findings.extend(leftovers::check(files));
    findings.sort();
    findings
}

fn text_of<'a>(files: &'a [TrackedFile], path: &str) -> Result<&'a str> {
    let file = files.iter().find(|file| file.path == path).with_context(|| format!("{path} is missing"))?;
    file.text().with_context(|| format!("{path} is not text"))
}
