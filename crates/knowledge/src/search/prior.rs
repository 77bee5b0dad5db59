//! What was learned of documents, as it is added to their chunks' scores.
//!
//! It comes by document and is wanted by chunk, so the chunks of ten thousand documents are looked up at once. While documents
//! are indexed that is done at most every [`STALE`], and a new chunk has no boost until then. It says nothing of who may see
//! what: it moves chunks of a ranking that is made already.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use holdfast_storage::{ChunkKey, Storage, projection::Indexes};

use crate::KnowledgeError;

/// The most that a document's usefulness adds to a score, or takes from it; a cosine has a range of about one.
pub(crate) const BOOST_MAX: f32 = 0.1;
/// Generations that boosts are held for.
const GENERATIONS_MAX: usize = 64;

/// How long boosts are held whose chunks may be others by now.
const STALE: Duration = Duration::from_secs(10);

/// Boosts by chunk.
pub(super) type ByChunk = Arc<HashMap<ChunkKey, f32>>;

/// What was learned, until something else is.
#[derive(Clone, Default)]
pub(crate) struct Priors {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    learned: ArcSwap<Boosts>,
    by_chunk: Mutex<HashMap<i64, Held>>,
}

#[derive(Default)]
struct Boosts {
    /// By the ids of documents.
    documents: Vec<(String, f32)>,
    /// Stands for them, after a restart too: cursors of before stay good where nothing else was learned.
    version: u64,
}

/// Boosts of a generation's chunks.
struct Held {
    /// What had been learned.
    version: u64,
    /// What the indexes held,
    indexes: (u64, u64),
    /// and when.
    since: Instant,
    by_chunk: ByChunk,
}

impl Priors {
    /// Has these from now on, and no others.
    pub fn set(&self, mut boosts: Vec<(String, f32)>) {
        boosts.retain(|(_, boost)| boost.is_finite());
        for (_, boost) in &mut boosts {
            *boost = boost.clamp(-BOOST_MAX, BOOST_MAX);
        }
        let mut hasher = blake3::Hasher::new();
        for (document, boost) in &boosts {
            hasher
                .update(&(document.len() as u64).to_le_bytes())
                .update(document.as_bytes())
                .update(&boost.to_le_bytes());
        }
        let mut version = [0; 8];
        version.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        let version = if boosts.is_empty() { 0 } else { u64::from_le_bytes(version) };
        self.shared.learned.store(Arc::new(Boosts { documents: boosts, version }));
    }

    /// Stands for them.
    pub fn version(&self) -> u64 {
        self.shared.learned.load().version
    }

    /// Those of the chunks of a generation.
    pub fn by_chunk(&self, storage: &Storage, indexes: &Indexes) -> Result<ByChunk, KnowledgeError> {
        let learned = self.shared.learned.load_full();
        let Boosts { documents, version } = &*learned;
        if documents.is_empty() {
            return Ok(Arc::default());
        }
        let generation = indexes.generation.id;
        let (version, state) = (*version, indexes.version());
        {
            let all = self.shared.by_chunk.lock().unwrap_or_else(PoisonError::into_inner);
            let is_good =
                |held: &&Held| held.version == version && (held.indexes == state || held.since.elapsed() < STALE);
            if let Some(held) = all.get(&generation).filter(is_good) {
                return Ok(Arc::clone(&held.by_chunk));
            }
        }
        let ids: Vec<&str> = documents.iter().map(|(id, _)| id.as_str()).collect();
        let boosts: HashMap<&str, f32> = documents.iter().map(|(id, boost)| (id.as_str(), *boost)).collect();
        let chunks = storage.chunks_of_documents(generation, &ids)?;
        let by_chunk = chunks.iter().filter_map(|(id, key)| Some((*key, *boosts.get(id.as_str())?)));
        let by_chunk: ByChunk = Arc::new(by_chunk.collect());
        let mut all = self.shared.by_chunk.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= GENERATIONS_MAX {
            all.clear();
        }
        let held = Held { version, indexes: state, since: Instant::now(), by_chunk: Arc::clone(&by_chunk) };
        all.insert(generation, held);
        Ok(by_chunk)
    }
}
