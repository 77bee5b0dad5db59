//! The graph index: the exact index's rows, and over them a graph once there are enough.
//!
//! The graph only makes searches faster. Rows that are not in it yet are scanned exactly, so a
//! change is visible at once, a damaged graph costs speed and nothing else, and an index without
//! one answers as well. Rows enter it on a thread of the index's own (see [`build`]), a few at a
//! time, so that searches wait a fraction of a millisecond at most.
//!
//! Small sets are scanned, allowed or all: below [`GraphOptions::min_rows`] there is no graph,
//! and a narrow [`AllowedSet`] is scanned where that costs less than walking past everything
//! that it excludes.

mod build;
mod engine;

use std::{path::Path, sync::Arc};

use self::{
    build::Shared,
    engine::{Engine, Walk},
};
use super::{
    AllowedSet, VectorChange, VectorError, VectorIndex,
    allowed::Resolved,
    bits::Bits,
    persist::{Checkpoint, Files, GraphImage, SavedGraph},
    scan::scan,
    table::{Snapshot, Table, check_query},
};
use crate::{ChunkKey, Scored};

/// How the graph is built and walked. The defaults are what measured best on sentence
/// embeddings of 384 dimensions (`cargo run --release --example vector_bench`).
#[derive(Clone, Debug)]
pub struct GraphOptions {
    /// From how many rows on there is a graph. Below, a scan is as fast.
    pub min_rows: usize,
    /// Links of a node on the upper layers; twice as many on the lowest (`M` in the paper).
    pub connectivity: usize,
    /// How many candidates an insertion considers (`efConstruction`).
    pub expansion_add: usize,
    /// How many candidates a search considers at least (`ef`).
    pub expansion_search: usize,
    /// How many distances a walk is taken to compute for each candidate it expands; with it the
    /// costs of walking and of scanning are compared. Zero walks always.
    pub distances_per_candidate: usize,
    /// How many rows may wait outside the graph before a thread puts them in.
    pub pending_rows: usize,
    /// How many removed rows the graph carries at least before it is replaced; in a large graph,
    /// a quarter of its rows.
    pub removed_rows: usize,
}

impl Default for GraphOptions {
    fn default() -> Self {
        Self {
            min_rows: 10_000,
            connectivity: 16,
            expansion_add: 128,
            expansion_search: 96,
            distances_per_candidate: 64,
            pending_rows: 256,
            removed_rows: 1024,
        }
    }
}

impl GraphOptions {
    /// A walk that must collect so many candidates, of which one in `rows / candidates` is
    /// wanted, expands that many times more.
    fn scanning_is_cheaper(&self, candidates: usize, rows: usize, limit: usize) -> bool {
        let breadth = self.expansion_search.max(limit.saturating_mul(2));
        let walked = breadth.saturating_mul(self.distances_per_candidate).saturating_mul(rows);
        candidates.saturating_mul(candidates) <= walked
    }
}

/// Approximate nearest neighbours with USearch's graph.
pub struct UsearchIndex {
    shared: Arc<Shared>,
}

impl UsearchIndex {
    /// Opens what the last checkpoint in `directory` held, or an empty index at position 0 where
    /// there is none. `fingerprint` names the embedding space. If only the graph is missing or
    /// damaged, it is built again from the rows while searches scan them.
    ///
    /// # Errors
    /// [`VectorError::Damaged`] when the rows are not what was written or belong to another space
    /// or size; [`VectorError::Io`] when they cannot be read.
    pub fn open(directory: &Path, dimensions: usize, fingerprint: &str) -> Result<Self, VectorError> {
        Self::open_with(directory, dimensions, fingerprint, GraphOptions::default())
    }

    /// As [`UsearchIndex::open`], with other options than the default.
    ///
    /// # Errors
    /// As [`UsearchIndex::open`].
    pub fn open_with(
        directory: &Path,
        dimensions: usize,
        fingerprint: &str,
        options: GraphOptions,
    ) -> Result<Self, VectorError> {
        let (files, checkpoint) = Files::open(directory, dimensions, fingerprint)?;
        let Checkpoint { snapshot, graph } = checkpoint;
        let engine = match graph {
            SavedGraph::Absent => None,
            SavedGraph::Damaged(error) => {
                tracing::warn!(%error, "building a vector graph again from its rows");
                None
            }
            SavedGraph::Intact { members, bytes } => Engine::load(&options, &bytes, members, &snapshot)
                .inspect_err(|error| {
                    tracing::warn!(%error, "building a vector graph again from its rows");
                })
                .ok(),
        };
        let retained = engine.as_ref().map_or_else(Bits::default, |engine| engine.members().clone());
        let table = Table::new(snapshot, retained).map_err(|what| files.damaged(what))?;
        let shared = Arc::new(Shared::new(table, files, options, engine));
        build::start_if_needed(&shared);
        Ok(Self { shared })
    }

    /// How many rows are in the graph, removed ones that it still walks through included.
    pub fn graph_rows(&self) -> usize {
        let graphs = self.shared.graphs();
        graphs.current.as_ref().map_or(0, |graph| graph.engine.count())
    }

    /// The nearest by walking the graph and scanning what it lacks; none if that is not possible
    /// or would take longer than scanning everything.
    fn walk(
        &self,
        query: &[f32],
        limit: usize,
        allowed: Option<&AllowedSet>,
    ) -> Result<Option<Vec<Scored>>, VectorError> {
        let graphs = self.shared.graphs();
        let Some(graph) = &graphs.current else {
            return Ok(None);
        };
        // Taken while the graph stands still, so that no slot it refers to holds another row.
        let view = View::of(&self.shared.table, allowed);
        let breadth = self.shared.options.expansion_search.max(limit.saturating_mul(2)).min(view.candidates());
        let keep = |slot: u32| view.contains(slot);
        let walk = graph.engine.walk(&view.snapshot, query.to_vec(), breadth, view.candidates(), keep)?;
        let Walk::Found(found) = walk else {
            return Ok(None);
        };
        let members = graph.engine.members().clone();
        drop(graphs);
        let pending = |block: usize| view.word(block) & !members.word(block);
        let outside = (0..view.snapshot.blocks()).map(|block| pending(block).count_ones() as usize).sum();
        let mut best = scan(&view.snapshot, query, limit, outside, pending);
        for (slot, score) in found {
            if let Some(key) = view.snapshot.key(slot).filter(|_| keep(slot)) {
                best.push(key, score);
            }
        }
        Ok(Some(best.into_sorted()))
    }
}

/// What one search may find.
struct View {
    snapshot: Arc<Snapshot>,
    allowed: Option<Arc<Resolved>>,
}

impl View {
    fn of(table: &Table, allowed: Option<&AllowedSet>) -> Self {
        let (snapshot, allowed) = table.view(allowed);
        Self { snapshot, allowed }
    }

    fn candidates(&self) -> usize {
        self.allowed.as_ref().map_or(self.snapshot.live_count, |allowed| allowed.count)
    }

    /// A block's slots, as bits.
    fn word(&self, block: usize) -> u64 {
        self.allowed.as_ref().map_or_else(|| self.snapshot.live.word(block), |allowed| allowed.slots.word(block))
    }

    fn contains(&self, slot: u32) -> bool {
        let slots = self.allowed.as_ref().map_or(&*self.snapshot.live, |allowed| &allowed.slots);
        slots.contains(slot)
    }
}

impl VectorIndex for UsearchIndex {
    fn apply(&self, change: &VectorChange<'_>) -> Result<(), VectorError> {
        self.shared.table.apply(change)?;
        build::start_if_needed(&self.shared);
        Ok(())
    }

    fn nearest(&self, query: &[f32], limit: usize, allowed: Option<&AllowedSet>) -> Result<Vec<Scored>, VectorError> {
        let view = View::of(&self.shared.table, allowed);
        let query = check_query(query, view.snapshot.dimensions)?;
        if !self.shared.options.scanning_is_cheaper(view.candidates(), view.snapshot.live_count, limit)
            && let Some(found) = self.walk(&query, limit, allowed)?
        {
            return Ok(found);
        }
        let best = scan(&view.snapshot, &query, limit, view.candidates(), |block| view.word(block));
        Ok(best.into_sorted())
    }

    fn examine(&self) -> Result<(), VectorError> {
        self.shared.files.examine()
    }

    fn position(&self) -> u64 {
        self.shared.table.snapshot().position
    }

    fn durable_position(&self) -> u64 {
        self.shared.files.durable_position()
    }

    fn checkpoint(&self) -> Result<(), VectorError> {
        self.shared.files.store(|known| {
            self.shared.hold_still(|graphs| {
                let image = graphs.current.as_ref().map(|graph| {
                    let bytes = if known == Some(graph.version) { Vec::new() } else { graph.engine.save()? };
                    Ok(GraphImage { version: graph.version, members: graph.engine.members().clone(), bytes })
                });
                // Taken while no slot that the graph refers to can be used for another row.
                Ok((self.shared.table.snapshot(), image.transpose()?))
            })
        })
    }

    fn settle(&self) {
        build::start_if_needed(&self.shared);
        self.shared.wait_until_built();
    }

    fn len(&self) -> usize {
        self.shared.table.snapshot().live_count
    }

    fn keys(&self) -> Vec<ChunkKey> {
        let snapshot = self.shared.table.snapshot();
        snapshot.entries().map(|(key, _)| key).collect()
    }

    fn digest(&self) -> [u8; 32] {
        self.shared.table.snapshot().digest()
    }

    fn memory_bytes(&self) -> usize {
        let graphs = self.shared.graphs();
        let engines = [&graphs.current, &graphs.next].into_iter().flatten();
        let graphs: usize = engines.map(|graph| graph.engine.memory_bytes()).sum();
        self.shared.table.memory_bytes() + graphs
    }
}

impl Drop for UsearchIndex {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

#[cfg(test)]
mod tests;
