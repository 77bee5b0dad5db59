//! The exact index: scans every row. The oracle for the others, and right for small collections.

use std::path::Path;

use super::{
    AllowedSet, VectorChange, VectorError, VectorIndex,
    bits::Bits,
    persist::{Checkpoint, Files},
    scan::scan,
    table::{Snapshot, Table, check_query},
};
use crate::{ChunkKey, Scored};

/// Every search scores every row: about 0.05 µs a row of 384 dimensions on one core.
pub struct ExactIndex {
    table: Table,
    files: Files,
}

impl ExactIndex {
    /// Opens what the last checkpoint in `directory` held, or an empty index at position 0 where
    /// there is none. `fingerprint` names the embedding space.
    ///
    /// # Errors
    /// [`VectorError::Damaged`] when the files are not what was written or belong to another
    /// space or size; [`VectorError::Io`] when they cannot be read.
    pub fn open(directory: &Path, dimensions: usize, fingerprint: &str) -> Result<Self, VectorError> {
        let (files, checkpoint) = Files::open(directory, dimensions, fingerprint)?;
        let Checkpoint { snapshot, .. } = checkpoint;
        let table = Table::new(snapshot, Bits::default()).map_err(|what| files.damaged(what))?;
        Ok(Self { table, files })
    }
}

impl VectorIndex for ExactIndex {
    fn apply(&self, change: &VectorChange<'_>) -> Result<(), VectorError> {
        self.table.apply(change)
    }

    fn nearest(&self, query: &[f32], limit: usize, allowed: Option<&AllowedSet>) -> Result<Vec<Scored>, VectorError> {
        let (snapshot, allowed) = self.table.view(allowed);
        let query = check_query(query, snapshot.dimensions)?;
        let best = match &allowed {
            Some(allowed) => scan(&snapshot, &query, limit, allowed.count, |block| allowed.slots.word(block)),
            None => scan_all(&snapshot, &query, limit),
        };
        Ok(best.into_sorted())
    }

    fn position(&self) -> u64 {
        self.table.snapshot().position
    }

    fn durable_position(&self) -> u64 {
        self.files.durable_position()
    }

    fn checkpoint(&self) -> Result<(), VectorError> {
        self.files.store(|_| Ok((self.table.snapshot(), None)))
    }

    fn len(&self) -> usize {
        self.table.snapshot().live_count
    }

    fn keys(&self) -> Vec<ChunkKey> {
        self.table.snapshot().entries().map(|(key, _)| key).collect()
    }

    fn digest(&self) -> [u8; 32] {
        self.table.snapshot().digest()
    }

    fn memory_bytes(&self) -> usize {
        self.table.memory_bytes()
    }
}

fn scan_all(snapshot: &Snapshot, query: &[f32], limit: usize) -> super::scan::Best {
    scan(snapshot, query, limit, snapshot.live_count, |block| snapshot.live.word(block))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::contract;

    #[test]
    fn keeps_the_contract() {
        contract::run(|directory| ExactIndex::open(directory, contract::DIMENSIONS, contract::FINGERPRINT).unwrap());
    }
}
