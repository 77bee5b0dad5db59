//! Nearest neighbours: one trait, an exact scan, and a graph.
//!
//! A vector index is a projection of SQL. It never decides who may see what and never outlives
//! the rows it was built from: what it returns is looked up in SQL before anyone sees it.
//!
//! [`ExactIndex`] scans every row; it is the oracle the others are tested against, and right for
//! small collections. [`UsearchIndex`] holds the same rows and adds a graph once there are enough
//! of them. Both keep their rows in a table of immutable chunks, of which every search
//! takes a snapshot, and both write the same file.

mod allowed;
mod exact;
mod graph;

mod bits;
mod kernel;
mod persist;
mod scan;
mod table;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod durability_tests;

use std::{io, path::PathBuf};

use half::f16;

use crate::{ChunkKey, Scored};

pub use allowed::AllowedSet;
pub use exact::ExactIndex;
pub use graph::{GraphOptions, UsearchIndex};

/// One collection generation's vectors.
///
/// Implementations are internally synchronised: `nearest` runs concurrently with `apply` and
/// `checkpoint`, and sees each change whole or not at all.
pub trait VectorIndex: Send + Sync {
    /// Removes, then adds, then becomes visible as a whole with `position`.
    ///
    /// Applying the same change twice changes nothing: removing an absent key and adding a
    /// present one (which replaces it) are not errors. Of a key added twice in one change the
    /// last vector stays. The position never goes back. A refused change changes nothing.
    ///
    /// # Errors
    /// [`VectorError::WrongDimensions`], [`VectorError::NotFinite`] and [`VectorError::Zero`]
    /// for a vector that cannot be stored; [`VectorError::Engine`] when a backend fails.
    fn apply(&self, change: &VectorChange<'_>) -> Result<(), VectorError>;

    /// The `limit` chunks nearest to `query` by cosine similarity, best first; ties by key.
    /// Vectors are stored normalised; the query need not be. With `allowed`, only those chunks
    /// take part, and the result is as exact as without.
    ///
    /// # Errors
    /// As [`VectorIndex::apply`], about the query.
    fn nearest(&self, query: &[f32], limit: usize, allowed: Option<&AllowedSet>) -> Result<Vec<Scored>, VectorError>;

    /// The last position that is visible to `nearest`.
    fn position(&self) -> u64;

    /// The last position that survives a power loss.
    fn durable_position(&self) -> u64;

    /// Makes everything applied so far durable: written to a new file, synced, renamed, the
    /// directory synced. A failure leaves the former checkpoint in place and may be retried.
    ///
    /// # Errors
    /// [`VectorError::Io`], for one when the disk is full.
    fn checkpoint(&self) -> Result<(), VectorError>;

    /// Looks whether the checkpoint is there that the next start will read. Costs a few reads, not one of everything.
    ///
    /// # Errors
    /// [`VectorError::Damaged`] or [`VectorError::Io`] naming what is wrong.
    fn examine(&self) -> Result<(), VectorError> {
        Ok(())
    }

    /// Waits until what is built in the background is built; searches are right before, and faster after.
    fn settle(&self) {}

    /// How many vectors there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every key present, in no particular order; for comparison with SQL.
    fn keys(&self) -> Vec<ChunkKey>;

    /// BLAKE3 over every key, ascending and little-endian, each followed by its vector's bytes.
    /// Equal contents have equal digests, whichever changes led to them and in whichever index.
    fn digest(&self) -> [u8; 32];

    /// Bytes held in memory.
    fn memory_bytes(&self) -> usize;
}

/// A step from one position to the next.
pub struct VectorChange<'a> {
    /// Chunks that are gone, whether or not they were ever here.
    pub removed: &'a [ChunkKey],
    /// Chunks that are new or replaced, each with its vector of the index's dimensions.
    pub added: &'a [(ChunkKey, &'a [f16])],
    /// The outbox position this brings the index to.
    pub position: u64,
}

/// Why a vector index refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    /// The file system failed; nothing was lost, and the same call may be tried again.
    #[error("failed to access {path}")]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The files do not hold what was written, or were written for another embedding space. The
    /// way out is an empty directory and a rebuild from SQL.
    #[error("the vector index at {path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A vector or query of another length than the index's.
    #[error("expected a vector of {expected} dimensions, got {got}")]
    WrongDimensions {
        /// The index's dimensions.
        expected: usize,
        /// The vector's.
        got: usize,
    },
    /// A component that is infinite or not a number.
    #[error("a vector has a component that is not a finite number")]
    NotFinite,
    /// A vector without direction, which is near nothing.
    #[error("a vector is zero and so has no direction")]
    Zero,
    /// A backend failed.
    #[error("the vector engine failed: {0}")]
    Engine(String),
}

impl VectorError {
    /// Whether the files are no good, so that an empty directory and a rebuild from SQL are the
    /// way out.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}
