//! The exact scan: every row asked for is scored, and the best are kept.

use std::{cmp::Ordering, collections::BinaryHeap};

use rayon::prelude::*;

use super::{
    bits::ones,
    kernel::{BLOCK_ROWS, kernel},
    table::Snapshot,
};
use crate::{ChunkKey, Scored};

/// From how many rows on a scan uses more than one thread. Below, waking one costs as much as it
/// saves, and concurrent searches keep the cores busy better.
const PARALLEL_ROWS: usize = 32_768;

/// How many blocks a thread scans at a time.
const PARALLEL_BLOCKS: usize = 64;

/// Scores the rows that `wanted` has a bit for, block by block, and keeps the `limit` best.
/// `count` is about how many those are. Every slot wanted must be live.
pub(super) fn scan(
    snapshot: &Snapshot,
    query: &[f32],
    limit: usize,
    count: usize,
    wanted: impl Fn(usize) -> u64 + Sync,
) -> Best {
    let blocks = snapshot.blocks();
    if count < PARALLEL_ROWS {
        return scan_blocks(snapshot, query, limit, 0..blocks, &wanted);
    }
    (0..blocks.div_ceil(PARALLEL_BLOCKS))
        .into_par_iter()
        .map(|part| {
            let first = part * PARALLEL_BLOCKS;
            let range = first..blocks.min(first + PARALLEL_BLOCKS);
            scan_blocks(snapshot, query, limit, range, &wanted)
        })
        .reduce(|| Best::new(limit), Best::merge)
}

fn scan_blocks(
    snapshot: &Snapshot,
    query: &[f32],
    limit: usize,
    range: std::ops::Range<usize>,
    wanted: &impl Fn(usize) -> u64,
) -> Best {
    let mut best = Best::new(limit);
    let mut scores = [0.0; BLOCK_ROWS];
    let kernel = kernel();
    for at in range {
        let mask = wanted(at);
        if mask == 0 {
            continue;
        }
        let (keys, rows) = snapshot.block(at);
        (kernel.dot_block)(query, rows, mask, &mut scores);
        for row in ones(mask) {
            if let Some(key) = keys.get(row as usize) {
                best.push(ChunkKey::new(*key), scores[row as usize]);
            }
        }
    }
    best
}

/// The best so many of what was pushed: by score, then by key.
pub(super) struct Best {
    limit: usize,
    /// The worst of the best on top.
    heap: BinaryHeap<Candidate>,
}

impl Best {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, heap: BinaryHeap::new() }
    }

    pub(super) fn push(&mut self, key: ChunkKey, score: f32) {
        // Adding zero makes −0 and 0 the one score they are.
        let candidate = Candidate(Scored { key, score: score + 0.0 });
        if self.heap.len() < self.limit {
            self.heap.push(candidate);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
    }

    pub(super) fn merge(mut self, other: Self) -> Self {
        for Candidate(Scored { key, score }) in other.heap {
            self.push(key, score);
        }
        self
    }

    /// Best first.
    pub(super) fn into_sorted(self) -> Vec<Scored> {
        let sorted = self.heap.into_sorted_vec();
        sorted.into_iter().map(|Candidate(scored)| scored).collect()
    }
}

/// The better candidate is the lesser one.
struct Candidate(Scored);

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = other.0.score.total_cmp(&self.0.score);
        by_score.then(self.0.key.cmp(&other.0.key))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_best_in_order_with_ties_by_key() {
        let mut best = Best::new(3);
        for (key, score) in [(5, 0.0), (9, 1.0), (2, -0.0), (7, 1.0), (1, -1.0)] {
            best.push(ChunkKey::new(key), score);
        }
        let keys: Vec<_> = best.into_sorted().iter().map(|scored| scored.key.get()).collect();
        assert_eq!(keys, [7, 9, 2]);
        let mut none = Best::new(0);
        none.push(ChunkKey::new(1), 1.0);
        assert!(none.into_sorted().is_empty());
    }
}
