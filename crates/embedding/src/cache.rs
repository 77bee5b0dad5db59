//! Vectors that were computed before, bounded in bytes.
//!
//! Exact match: a vector is found by its embedding space, what is wanted of the text, and the text, hashed together.
//! Only what somebody waited for is kept, since a text that is indexed is seldom indexed again. It does not compute.

use std::{fmt, sync::Arc};

use metrics::{Counter, Gauge, counter, gauge};
use moka::{notification::RemovalCause, policy::EvictionPolicy, sync::Cache as Kept};

use crate::{encoder::Encoded, queue::Key};

/// Where vectors are kept beyond this process. What it loses is computed again.
pub trait Keeper: fmt::Debug + Send + Sync {
    /// What is kept under each key. May read a disk.
    fn get(&self, keys: &[[u8; 32]]) -> Vec<Option<Vec<u8>>>;

    /// Keeps something, if it can. Does not wait.
    fn put(&self, key: [u8; 32], value: Vec<u8>);
}

/// Bytes before an entry's numbers where it is kept.
const HEAD_BYTES: usize = 9;
/// Bytes of an entry beside its numbers, about: the key, the entry, the cache's own bookkeeping.
const ENTRY_BYTES: usize = 256;

/// A vector and how its text was read.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) encoded: Arc<Encoded>,
    /// Tokens that were read, the special ones included.
    pub(crate) tokens: usize,
    /// Whether the text had more.
    pub(crate) cut: bool,
}

/// Kept vectors of all models; cheap to clone.
#[derive(Clone)]
pub(crate) struct Cache {
    kept: Option<Kept<Key, Found>>,
    keeper: Option<Arc<dyn Keeper>>,
    hits: Counter,
    /// Found where they are kept beyond this process.
    kept_hits: Counter,
    misses: Counter,
    bytes: Gauge,
}

impl Cache {
    /// A cache of at most so many bytes in memory; none at all where that is 0.
    pub(crate) fn new(bytes: u64, keeper: Option<Arc<dyn Keeper>>) -> Cache {
        let evictions = counter!("holdfast_embedding_cache_evictions_total");
        let kept = (bytes > 0).then(|| {
            Kept::builder()
                .max_capacity(bytes)
                .weigher(|_, found: &Found| found.bytes())
                // The last asked for are the likeliest to be asked for again, also where each is asked for once.
                .eviction_policy(EvictionPolicy::lru())
                .eviction_listener(move |_, _, cause| {
                    if cause == RemovalCause::Size {
                        evictions.increment(1);
                    }
                })
                .build()
        });
        let lookups = |outcome: &'static str| counter!("holdfast_embedding_cache_total", "outcome" => outcome);
        Cache {
            kept,
            keeper,
            hits: lookups("hit"),
            kept_hits: lookups("kept"),
            misses: lookups("miss"),
            bytes: gauge!("holdfast_embedding_cache_bytes"),
        }
    }

    /// Whether looking something up may read a disk.
    pub(crate) fn may_wait(&self) -> bool {
        self.keeper.is_some()
    }

    /// What is known under each key. `width` is how many numbers a vector has.
    pub(crate) fn get(&self, keys: &[Key], width: usize) -> Vec<Option<Found>> {
        let mut found: Vec<Option<Found>> = match &self.kept {
            Some(kept) => keys.iter().map(|key| kept.get(key)).collect(),
            None => vec![None; keys.len()],
        };
        let hits = found.iter().flatten().count();
        self.hits.increment(hits as u64);
        let mut missing: Vec<usize> = (0..keys.len()).filter(|at| found[*at].is_none()).collect();
        if let Some(keeper) = self.keeper.as_ref().filter(|_| !missing.is_empty()) {
            let asked: Vec<Key> = missing.iter().map(|at| keys[*at]).collect();
            for (at, value) in missing.iter().zip(keeper.get(&asked)) {
                found[*at] = value.and_then(|value| Found::read(&value, width));
                if let Some(found) = &found[*at] {
                    self.remember(keys[*at], found.clone());
                }
            }
            let still = missing.len();
            missing.retain(|at| found[*at].is_none());
            self.kept_hits.increment((still - missing.len()) as u64);
        }
        self.misses.increment(missing.len() as u64);
        found
    }

    /// What is in memory under a key. Counts as no lookup.
    pub(crate) fn peek(&self, key: &Key) -> Option<Found> {
        self.kept.as_ref()?.get(key)
    }

    pub(crate) fn put(&self, key: Key, found: Found) {
        if let Some(keeper) = &self.keeper {
            keeper.put(key, found.write());
        }
        self.remember(key, found);
    }

    fn remember(&self, key: Key, found: Found) {
        if let Some(kept) = &self.kept {
            kept.insert(key, found);
            self.bytes.set(kept.weighted_size() as f64);
        }
    }
}

impl Found {
    /// As bytes: tokens, whether it was cut, length, numbers, all with the least significant byte first.
    fn write(&self) -> Vec<u8> {
        let tokens = u32::try_from(self.tokens).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.encoded.values.len() * size_of::<f32>());
        bytes.extend(tokens.to_le_bytes());
        bytes.push(u8::from(self.cut));
        bytes.extend(self.encoded.length.to_le_bytes());
        bytes.extend(self.encoded.values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    /// The same read back, if that is what it is.
    fn read(bytes: &[u8], width: usize) -> Option<Found> {
        let (head, values) = bytes.split_at_checked(HEAD_BYTES)?;
        if values.len() != width * size_of::<f32>() {
            return None;
        }
        let tokens = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
        let length = f32::from_le_bytes(head[5..].try_into().ok()?);
        let values = values.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
        Some(Found { encoded: Arc::new(Encoded { values, length }), tokens, cut: head[4] == 1 })
    }

    fn bytes(&self) -> u32 {
        u32::try_from(ENTRY_BYTES + self.encoded.values.len() * size_of::<f32>()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Mutex};

    use super::*;

    fn found(numbers: usize) -> Found {
        Found { encoded: Arc::new(Encoded { values: vec![1.0; numbers], length: 1.0 }), tokens: 3, cut: false }
    }

    fn key(number: usize) -> Key {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    #[test]
    fn its_bytes_are_bounded_and_the_latest_stay() {
        let cache = Cache::new(100 * 1024, None);
        for number in 0..1_000 {
            cache.put(key(number), found(256));
        }
        let kept = cache.kept.as_ref().unwrap();
        kept.run_pending_tasks();
        assert!(kept.weighted_size() <= 100 * 1024 && kept.entry_count() >= 70, "{}", kept.entry_count());
        let found = cache.get(&[key(999), key(0)], 256);
        assert!(found[0].is_some() && found[1].is_none());
    }

    #[derive(Debug, Default)]
    struct Shelf(Mutex<HashMap<Key, Vec<u8>>>);

    impl Keeper for Shelf {
        fn get(&self, keys: &[Key]) -> Vec<Option<Vec<u8>>> {
            let shelf = self.0.lock().unwrap();
            keys.iter().map(|key| shelf.get(key).cloned()).collect()
        }

        fn put(&self, key: Key, value: Vec<u8>) {
            self.0.lock().unwrap().insert(key, value);
        }
    }

    #[test]
    fn what_is_kept_elsewhere_is_found_unless_it_is_something_else() {
        let shelf = Arc::new(Shelf::default());
        let first = Cache::new(1 << 20, Some(shelf.clone()));
        let mut wanted = found(4);
        wanted.cut = true;
        first.put(key(1), wanted);
        shelf.put(key(2), vec![1, 2, 3]);
        // Another process, so to say.
        let second = Cache::new(1 << 20, Some(shelf.clone()));
        let back = second.get(&[key(1), key(2), key(3)], 4);
        let there = back[0].as_ref().unwrap();
        assert_eq!(
            (&*there.encoded.values, there.encoded.length, there.tokens, there.cut),
            (&[1.0; 4][..], 1.0, 3, true)
        );
        assert!(back[1].is_none() && back[2].is_none());
        assert!(Cache::new(0, Some(shelf.clone())).get(&[key(1)], 5)[0].is_none(), "of another width");
        shelf.0.lock().unwrap().clear();
        assert!(second.get(&[key(1)], 4)[0].is_some(), "by now it is in memory");
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let cache = Cache::new(0, None);
        cache.put(key(1), found(1));
        assert!(cache.get(&[key(1)], 1)[0].is_none());
    }
}
