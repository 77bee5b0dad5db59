//! What a search is narrowed to.

use std::sync::{Arc, Mutex, PoisonError};

use super::{bits::Bits, table::SlotMap};
use crate::ChunkKey;

/// How many indexes' places one set remembers.
const REMEMBERED: usize = 4;

/// A set of chunks that a search is narrowed to, meant to be kept and used again.
///
/// An index finds out where the keys lie at the first search and again after each change (about
/// 2 ms for 50 000 keys); in between the set remembers it.
#[derive(Default)]
pub struct AllowedSet {
    /// Ascending, each once.
    keys: Vec<ChunkKey>,
    resolved: Mutex<Vec<(u64, Arc<Resolved>)>>,
}

impl AllowedSet {
    /// A set of these chunks. Order and repetition do not matter, and neither do keys that no
    /// index has.
    pub fn new(mut keys: Vec<ChunkKey>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        Self { keys, resolved: Mutex::default() }
    }

    /// The chunks, ascending, each once.
    pub fn keys(&self) -> &[ChunkKey] {
        &self.keys
    }

    /// How many chunks.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Where the keys lie in the snapshot of that version.
    pub(super) fn resolve(&self, version: u64, slots: &SlotMap) -> Arc<Resolved> {
        // Poisoned by a panic while pushing at worst, which leaves a good list.
        let mut known = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, resolved)) = known.iter().find(|(of, _)| *of == version) {
            return Arc::clone(resolved);
        }
        let resolved = Arc::new(Resolved::new(&self.keys, slots));
        if known.len() == REMEMBERED {
            known.remove(0);
        }
        known.push((version, Arc::clone(&resolved)));
        resolved
    }
}

impl FromIterator<ChunkKey> for AllowedSet {
    fn from_iter<I: IntoIterator<Item = ChunkKey>>(keys: I) -> Self {
        Self::new(keys.into_iter().collect())
    }
}

/// An allowed set as slots of one snapshot.
pub(super) struct Resolved {
    /// The slots; every one of them is live.
    pub slots: Bits,
    /// How many.
    pub count: usize,
}

impl Resolved {
    fn new(keys: &[ChunkKey], places: &SlotMap) -> Self {
        let mut slots = Bits::default();
        for key in keys {
            if let Some(slot) = places.get(&key.get()) {
                slots.insert(*slot);
            }
        }
        Self { count: slots.count(), slots }
    }
}
