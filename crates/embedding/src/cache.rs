//! Vectors that were computed before, bounded in bytes.
//!
//! Exact match: a vector is found by its embedding space, what is wanted of the text, and the text, hashed together.
//! Only what somebody waited for is kept, since a text that is indexed is seldom indexed again. It does not compute.

use std::sync::Arc;

use metrics::{Counter, Gauge, counter, gauge};
use moka::{notification::RemovalCause, policy::EvictionPolicy, sync::Cache as Kept};

use crate::{encoder::Encoded, queue::Key};

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
    hits: Counter,
    misses: Counter,
    bytes: Gauge,
}

impl Cache {
    /// A cache of at most so many bytes; none at all where that is 0.
    pub(crate) fn new(bytes: u64) -> Cache {
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
        Cache { kept, hits: lookups("hit"), misses: lookups("miss"), bytes: gauge!("holdfast_embedding_cache_bytes") }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Found> {
        let found = self.kept.as_ref()?.get(key);
        if found.is_some() { &self.hits } else { &self.misses }.increment(1);
        found
    }

    pub(crate) fn put(&self, key: Key, found: Found) {
        if let Some(kept) = &self.kept {
            kept.insert(key, found);
            self.bytes.set(kept.weighted_size() as f64);
        }
    }
}

impl Found {
    fn bytes(&self) -> u32 {
        u32::try_from(ENTRY_BYTES + self.encoded.values.len() * size_of::<f32>()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(numbers: usize) -> Found {
        Found { encoded: Arc::new(Encoded { values: vec![1.0; numbers], length: 1.0 }), tokens: 3, cut: false }
    }

    fn key(number: usize) -> Key {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    #[test]
    fn its_bytes_are_bounded_and_the_latest_stay() {
        let cache = Cache::new(100 * 1024);
        for number in 0..1_000 {
            cache.put(key(number), found(256));
        }
        let kept = cache.kept.as_ref().unwrap();
        kept.run_pending_tasks();
        assert!(kept.weighted_size() <= 100 * 1024 && kept.entry_count() >= 70, "{}", kept.entry_count());
        assert!(cache.get(&key(999)).is_some() && cache.get(&key(0)).is_none());
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let cache = Cache::new(0);
        cache.put(key(1), found(1));
        assert!(cache.get(&key(1)).is_none());
    }
}
