//! Which paths the tree itself asks to leave out: `.gitignore` and `.holdfastignore`.
//!
//! Only files at and below the root count, in a git repository or not: what is indexed then depends on the
//! tree alone, and not on the user's global settings or on what lies above. A `.holdfastignore` anywhere wins
//! over every `.gitignore`; a deeper file wins over one above it.

use std::{io::Read, os::fd::OwnedFd, path::Path, rc::Rc};

use ignore::{
    Match,
    gitignore::{Gitignore, GitignoreBuilder},
};

use super::open::open_regular;

/// A larger ignore file is not one.
const MAX_IGNORE_FILE_BYTES: u64 = 1024 * 1024;

/// The ignore files of a directory and of those above it, up to the root.
pub(super) struct Rules {
    above: Option<Rc<Rules>>,
    git: Gitignore,
    holdfast: Gitignore,
    /// Bytes of the path from the root to the directory, a trailing slash included.
    prefix_bytes: usize,
}

impl Rules {
    /// The rules inside a directory, which are those above it when it has no ignore file.
    pub(super) fn enter(above: Option<Rc<Self>>, directory: &OwnedFd, prefix_bytes: usize) -> Option<Rc<Self>> {
        let git = load(directory, ".gitignore");
        let holdfast = load(directory, ".holdfastignore");
        if git.is_empty() && holdfast.is_empty() {
            return above;
        }
        Some(Rc::new(Self { above, git, holdfast, prefix_bytes }))
    }

    /// Whether the path, relative to the root, is to be left out.
    pub(super) fn ignores(&self, relative: &str, is_directory: bool) -> bool {
        self.verdict(relative, is_directory, |rules| &rules.holdfast)
            .or_else(|| self.verdict(relative, is_directory, |rules| &rules.git))
            .unwrap_or(false)
    }

    fn verdict(&self, relative: &str, is_directory: bool, list: fn(&Self) -> &Gitignore) -> Option<bool> {
        let mut level = Some(self);
        while let Some(rules) = level {
            let below = relative.get(rules.prefix_bytes..).unwrap_or(relative);
            match list(rules).matched(below, is_directory) {
                Match::Ignore(_) => return Some(true),
                Match::Whitelist(_) => return Some(false),
                Match::None => level = rules.above.as_deref(),
            }
        }
        None
    }
}

/// Reads an ignore file. One that is missing, unreadable or not text ignores nothing; so does a line in it
/// that is no pattern.
fn load(directory: &OwnedFd, name: &str) -> Gitignore {
    let Ok((file, _)) = open_regular(directory, Path::new(name)) else { return Gitignore::empty() };
    let mut bytes = Vec::new();
    if let Err(error) = file.take(MAX_IGNORE_FILE_BYTES).read_to_end(&mut bytes) {
        tracing::warn!(%error, name, "an ignore file cannot be read and is not applied");
        return Gitignore::empty();
    }
    let mut builder = GitignoreBuilder::new(".");
    for line in String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').lines() {
        if let Err(error) = builder.add_line(None, line) {
            tracing::debug!(%error, name, "a line of an ignore file is no pattern");
        }
    }
    builder.build().unwrap_or_else(|error| {
        tracing::warn!(%error, name, "an ignore file cannot be used and is not applied");
        Gitignore::empty()
    })
}
