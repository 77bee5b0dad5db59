//! Words: BM25 over chunks, with a tokenizer that finds identifiers whole and in parts.
//!
//! One index a collection, so that no collection's term statistics leak into another's scores.
//! A lexical index is a projection of SQL: it never decides who may see what, and what it
//! returns is looked up in SQL before anyone sees it.

mod attributes;
mod highlight;
mod score;
mod tantivy;
mod tokenizer;

#[cfg(test)]
mod contract;

use std::{io, path::PathBuf};

pub use self::{
    highlight::{Highlighter, highlight_terms, matches_in},
    tantivy::TantivyIndex,
};
use crate::{ChunkKey, Filter, Scored};

/// One collection generation's words and filterable attributes.
///
/// Implementations are internally synchronised: queries run concurrently with `apply`, and see
/// the whole of a change or nothing of it.
pub trait LexicalIndex: Send + Sync {
    /// Removes, then adds, then becomes visible as a whole and durable, with `position`.
    ///
    /// Applying the same change twice changes nothing. Where one change adds a key twice, the
    /// last one counts. After an error nothing of the change is visible (some of it may become
    /// so at the next start), and applying it again is right.
    fn apply(&self, change: &LexicalChange<'_>) -> Result<(), LexicalError>;

    /// The `limit` best chunks for `text` by BM25, best first; ties by key. `text` is words,
    /// never query syntax; without a single indexable word it finds nothing. With `filter`,
    /// only chunks that pass take part, though scores stay what they are without.
    fn query(&self, text: &str, limit: usize, filter: Option<&Filter>) -> Result<Vec<Scored>, LexicalError>;

    /// The scores that [`Self::query`] gives to these chunks, however low; those without a word
    /// of `text`, and those that are not here, are left out. In no particular order.
    fn scores(&self, text: &str, keys: &[ChunkKey]) -> Result<Vec<Scored>, LexicalError>;

    /// Every chunk that passes `filter`, in no particular order.
    fn matching(&self, filter: &Filter) -> Result<Vec<ChunkKey>, LexicalError>;

    /// The last position that is both visible and durable.
    fn position(&self) -> u64;

    /// How many chunks there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every key present, in no particular order; for comparison with SQL.
    fn keys(&self) -> Result<Vec<ChunkKey>, LexicalError>;

    /// Looks whether the files are there that the next start will read. Costs a few reads, not one of everything.
    ///
    /// # Errors
    /// [`LexicalError::Damaged`] naming what is wrong.
    fn examine(&self) -> Result<(), LexicalError> {
        Ok(())
    }

    /// Finishes what runs in the background and gives back what only writing needs. For when
    /// nothing was written for a while, and before the index's files are deleted from under it.
    fn rest(&self) -> Result<(), LexicalError> {
        Ok(())
    }
}

/// A step from one position to the next.
pub struct LexicalChange<'a> {
    /// Chunks that are gone, whether or not they were ever here.
    pub removed: &'a [ChunkKey],
    /// Chunks that are new or replaced.
    pub added: &'a [LexicalEntry<'a>],
    /// The outbox position this brings the index to.
    pub position: u64,
}

/// What is indexed of one chunk.
pub struct LexicalEntry<'a> {
    /// The chunk.
    pub key: ChunkKey,
    /// The document's title.
    pub title: &'a str,
    /// The headings above the chunk, outermost first, joined by ` › `.
    pub heading: &'a str,
    /// Where the document lies; searched as words, so that a file is found by its name.
    pub path: &'a str,
    /// The chunk itself.
    pub text: &'a str,
    /// What filters see: an object `{"metadata": {…}, "path": …, "title": …, "content_type": …,
    /// "source_id": …, "document_id": …}`.
    pub attributes: &'a serde_json::Value,
}

/// Why a lexical index could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LexicalError {
    /// What is on disk cannot be used. It has to be rebuilt from SQL; nothing else helps.
    #[error("the lexical index in {dir} is damaged: {reason}")]
    Damaged {
        /// Where it lies.
        dir: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Reading or writing failed, for instance because the disk is full. Asking again is right
    /// once the cause is gone.
    #[error("the lexical index in {dir} failed to {action}")]
    Io {
        /// Where it lies.
        dir: PathBuf,
        /// What was being done.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The engine failed in a way that is neither; a defect.
    #[error("the lexical index in {dir} failed to {action}: {reason}")]
    Engine {
        /// Where it lies.
        dir: PathBuf,
        /// What was being done.
        action: &'static str,
        /// The engine's reason.
        reason: String,
    },
}

impl LexicalError {
    /// Whether the index must be built anew.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "run holdfast doctor --fix to rebuild it from the database",
            Self::Io { .. } => "check free space and permissions of the data directory",
            Self::Engine { .. } => "restart; if it stays, run holdfast doctor --fix",
        }
    }
}
