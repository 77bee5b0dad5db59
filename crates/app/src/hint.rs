//! The way out of an error: what a person can do about it, found anywhere in its chain.

use std::{fmt, io::ErrorKind};

use holdfast_coordinator::TurnError;
use holdfast_embedding::EmbedError;
use holdfast_knowledge::KnowledgeError;
use holdfast_server::tls::{TlsError, authority::AuthorityError};
use holdfast_storage::StorageError;

use crate::{settings::Problems, transport::Refusal, wiring::WithoutKeys};

/// An error that may know what a person can do about it.
pub trait Hint {
    /// What to do, as a sentence without its first capital and its full stop.
    fn hint(&self) -> Option<String>;
}

/// A failure of this program's own, with the way out.
#[derive(Debug)]
pub struct Advice {
    what: String,
    remedy: String,
}

impl Advice {
    /// A failure and what to do about it.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Advice {}

impl Hint for Advice {
    fn hint(&self) -> Option<String> {
        Some(self.remedy.clone())
    }
}

/// The first hint in the chain of an error.
pub fn of(error: &anyhow::Error) -> Option<String> {
    // An `anyhow` context is not itself in the chain as its type; downcasting finds it.
    if let Some(advice) = error.downcast_ref::<Advice>() {
        return advice.hint();
    }
    error.chain().find_map(of_one)
}

fn of_one(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<StorageError>() {
        return error.hint().or_else(|| of_file(error));
    }
    if let Some(error) = error.downcast_ref::<KnowledgeError>() {
        return error.hint();
    }
    if let Some(TurnError::Storage(error)) = error.downcast_ref::<TurnError>() {
        return error.hint().or_else(|| of_file(error));
    }
    if let Some(error) = error.downcast_ref::<EmbedError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<Refusal>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<Problems>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<TlsError>() {
        return Some(error.hint());
    }
    if let Some(error) = error.downcast_ref::<AuthorityError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<WithoutKeys>() {
        return error.hint();
    }
    error.downcast_ref::<Advice>()?.hint()
}

/// What this program's user can do about a file: where it lies is their choice.
fn of_file(error: &StorageError) -> Option<String> {
    let StorageError::File { source, .. } = error else { return None };
    match source.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Some("make it writable for you, or give another folder with --data-dir".into())
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some("make room on the disk".into()),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => Some("give a folder with --data-dir".into()),
        _ => None,
    }
}

/// An error and its causes in one line, each said once.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !parts.iter().any(|part| part.ends_with(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_hint_is_found_below_and_above() {
        let below = anyhow::Error::new(Advice::new("no room", "make room")).context("failed to write");
        assert_eq!(of(&below).as_deref(), Some("make room"));
        assert_eq!(sentence(&below), "failed to write: no room");
        let above = anyhow!("no room").context(Advice::new("failed to write", "make room"));
        assert_eq!(of(&above).as_deref(), Some("make room"));
        assert_eq!(sentence(&above), "failed to write: no room");
        assert_eq!(of(&anyhow!("alone")), None);
    }
}
