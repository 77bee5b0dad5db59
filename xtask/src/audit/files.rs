//! Rules about the repository's own files: no secrets, no programs, no large binaries, no modes that let others write.
//!
//! Owns the patterns of secrets. They ask for what is really random, so that an example in a document is none. Who put
//! something into the history and took it out again is not found: only what is there now is looked at.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use regex::bytes::{Regex, RegexBuilder};

use crate::repository::{Repository, TrackedFile};

use super::{Finding, settings::has_password};

/// Bytes a binary file may have.
const BINARY_BYTES_MAX: usize = 1 << 20;
/// How programs begin: ELF, Windows, macOS.
const PROGRAMS: [&[u8]; 4] = [b"\x7fELF", b"MZ\x90\0", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"];
/// Names of files that hold keys, whatever is in them.
const KEY_FILES: [&str; 8] = [".key", ".p12", ".pfx", ".jks", ".env", "id_rsa", "id_ed25519", ".htpasswd"];
/// Bits of Shannon entropy a character needs to count as drawn and not written: examples repeat themselves.
const ENTROPY_MIN: f64 = 3.0;

/// What a secret looks like. The patterns are written so that they do not match themselves.
static PATTERNS: LazyLock<Vec<(&'static str, Regex)>> = LazyLock::new(|| {
    let patterns = [
        ("a private key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*(?:\\n)?[A-Za-z0-9+/]{16}"),
        ("a key of Holdfast", r"\bhf_[0-9A-Za-z_]{40,}"),
        ("a Hugging Face token", r"\bhf_[A-Za-z]{34}\b"),
        ("a key of Amazon Web Services", r"\bA(?:KIA|SIA)[0-9A-Z]{16}\b"),
        ("a GitHub token", r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{60,})"),
        ("a GitLab token", r"\bglpat-[0-9A-Za-z_-]{20}"),
        ("a Slack token", r"\bxox[abeprs]-[0-9A-Za-z-]{20,}"),
        ("a Google key", r"\bAIza[0-9A-Za-z_-]{35}"),
        ("a key of a model provider", r"\bsk-(?:ant-|proj-)?[0-9A-Za-z_-]{32,}"),
        ("a signed token", r"\beyJ[0-9A-Za-z_-]{16,}\.eyJ[0-9A-Za-z_-]{16,}\.[0-9A-Za-z_-]{16,}"),
        ("a registry token", r"\b(?:cio[0-9A-Za-z]{32}|npm_[0-9A-Za-z]{36}|pypi-[0-9A-Za-z_-]{50,})"),
    ];
    // Bytes and not characters: the tables of Unicode are left out. A pattern that is none is a defect of this table,
    // which its test would find.
    let built = |pattern| RegexBuilder::new(pattern).unicode(false).build().ok();
    patterns.into_iter().filter_map(|(what, pattern)| Some((what, built(pattern)?))).collect()
});

/// Findings in the contents and names of files.
pub fn check(files: &[TrackedFile]) -> Vec<Finding> {
    files.iter().flat_map(check_file).collect()
}

fn check_file(file: &TrackedFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = file.path.rsplit('/').next().unwrap_or_default();
    if KEY_FILES.iter().any(|ending| name.ends_with(ending)) {
        let remedy = "remove it and replace what it held; a test makes its keys itself";
        findings.push(Finding::new("repository.key-file", &file.path, "has the name of a file with keys", remedy));
    }
    if PROGRAMS.iter().any(|beginning| file.bytes.starts_with(beginning)) {
        let remedy = "remove it: what is run is built from source";
        findings.push(Finding::new("repository.program", &file.path, "is a built program", remedy));
    }
    if file.text().is_none() && file.bytes.len() > BINARY_BYTES_MAX {
        let message = format!("is a binary of {} bytes; at most {BINARY_BYTES_MAX}", file.bytes.len());
        findings.push(Finding::new("repository.large-binary", &file.path, message, "keep it elsewhere, with its hash"));
    }
    findings.extend(secrets(file));
    findings
}

fn secrets(file: &TrackedFile) -> Vec<Finding> {
    let remedy = "take it out, and replace it wherever it is used: it has been seen";
    let mut findings = Vec::new();
    for (what, pattern) in PATTERNS.iter() {
        for found in pattern.find_iter(&file.bytes) {
            if entropy(found.as_bytes()) < ENTROPY_MIN {
                continue;
            }
            let line = file.bytes[..found.start()].iter().filter(|byte| **byte == b'\n').count() + 1;
            // The secret itself is not repeated: this may be printed where others read.
            findings.push(Finding::new("repository.secret", &file.path, format!("holds {what}"), remedy).at(line));
        }
    }
    if !file.is_test_code() && !file.path.ends_with(".rs") {
        let lines = file.text().unwrap_or_default().lines().enumerate();
        for (index, _) in lines.filter(|(_, line)| line.split_whitespace().any(has_password)) {
            let message = "holds an address with a password";
            findings.push(Finding::new("repository.secret", &file.path, message, remedy).at(index + 1));
        }
    }
    findings
}

/// Bits a character, by the frequencies in the text itself (Shannon 1948).
fn entropy(text: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    text.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let length = text.len() as f64;
    let share = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / length);
    share.map(|share| -share * share.log2()).sum()
}

/// Findings in the modes that files have in the working tree.
pub fn check_modes(repository: &Repository, files: &[TrackedFile]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files {
        let path = repository.root.join(&file.path);
        let metadata = fs::symlink_metadata(&path).with_context(|| format!("failed to look at {}", file.path))?;
        findings.extend(check_mode(&file.path, metadata.permissions().mode(), &file.bytes));
    }
    Ok(findings)
}

fn check_mode(path: &str, mode: u32, bytes: &[u8]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if mode & 0o002 != 0 {
        let message = format!("can be written by anybody (mode {:04o})", mode & 0o7777);
        findings.push(Finding::new("repository.writable", path, message, "chmod o-w"));
    }
    if mode & 0o6000 != 0 {
        let message = format!("runs as its owner or group (mode {:04o})", mode & 0o7777);
        findings.push(Finding::new("repository.set-user-id", path, message, "chmod ug-s"));
    }
    if mode & 0o111 != 0 && !bytes.starts_with(b"#!") {
        findings.push(Finding::new("repository.executable", path, "can be run and is no script", "chmod a-x"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use crate::repository::file;

    use super::*;

    fn rules(path: &str, content: &str) -> Vec<&'static str> {
        check_file(&file(path, content)).iter().map(|finding| finding.rule).collect()
    }

    /// Made here, so that this file does not hold what it looks for.
    fn drawn(length: usize, alphabet: &str) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..length).map(|at| letters[(at * 7 + at / 3) % letters.len()]).collect()
    }

    const WORDS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

    #[test]
    fn each_kind_of_secret_is_found() {
        let (long, letters) = (drawn(64, WORDS), drawn(34, &WORDS[..52]));
        let upper = drawn(16, &WORDS[26..]);
        let secrets = [
            format!("-----BEGIN EC {} KEY-----\n{long}", "PRIVATE"),
            format!("-----BEGIN {} KEY-----\n{long}", "PRIVATE"),
            format!("hf_{}", drawn(64, "0123456789abcdef")),
            format!("hf_{letters}"),
            format!("AKIA{upper}"),
            format!("ghp_{}", drawn(36, WORDS)),
            format!("glpat-{}", drawn(20, WORDS)),
            format!("xoxb-{}", drawn(24, WORDS)),
            format!("AIza{}", drawn(35, WORDS)),
            format!("sk-ant-{long}"),
            format!("eyJ{0}.eyJ{0}.{0}", drawn(20, WORDS)),
            format!("npm_{}", drawn(36, WORDS)),
            format!("see https://me:{}@example.org/x", "hunter2"),
        ];
        for secret in secrets {
            let found = rules("docs/a.md", &format!("fine\n{secret}\n"));
            assert!(found.contains(&"repository.secret"), "{secret}: {found:?}");
            assert_eq!(check_file(&file("docs/a.md", &format!("fine\n{secret}\n")))[0].line, Some(2));
        }
        assert_eq!(PATTERNS.len(), 11, "each pattern is one");
    }

    #[test]
    fn an_example_is_no_secret() {
        let examples = [
            "hf_…".to_owned(),
            format!("hf_{}", "x".repeat(64)),
            "sk-your-key-goes-here".to_owned(),
            "-----BEGIN PRIVATE KEY-----\n…\n".to_owned(),
            "AKIA".to_owned() + &"A".repeat(16),
            "http://localhost:8088/a@b and https://user@example.org and postgres://me:$PASSWORD@db/x".to_owned(),
        ];
        for example in examples {
            assert!(rules("docs/a.md", &example).is_empty(), "{example}");
        }
    }

    #[test]
    fn keys_programs_and_large_binaries_have_no_place_here() {
        assert_eq!(rules("tls/server.key", "x"), ["repository.key-file"]);
        assert_eq!(rules("bin/tool", "\x7fELF…"), ["repository.program"]);
        assert_eq!(rules("a.bin", &"\0".repeat(BINARY_BYTES_MAX + 1)), ["repository.large-binary"]);
        assert!(rules("a.bin", &"\0".repeat(BINARY_BYTES_MAX)).is_empty());
        assert!(rules("src/key.rs", "fn key() {}").is_empty());
    }

    #[test]
    fn modes_that_let_others_in_are_found() {
        let of = |mode, bytes: &[u8]| check_mode("a", mode, bytes).iter().map(|found| found.rule).collect::<Vec<_>>();
        assert_eq!(of(0o100_666, b""), ["repository.writable"]);
        assert_eq!(of(0o104_755, b"#!/bin/sh"), ["repository.set-user-id"]);
        assert_eq!(of(0o100_755, b"text"), ["repository.executable"]);
        assert!(of(0o100_755, b"#!/bin/sh").is_empty() && of(0o100_644, b"text").is_empty());
    }
}
