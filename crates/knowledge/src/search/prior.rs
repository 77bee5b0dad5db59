//! What was learned of documents, as it is added to their chunks' scores.
//!
//! It comes by document and is wanted by chunk, so it is looked up once for each state of a generation's indexes. It says
//! nothing of who may see what: it moves chunks of a ranking that is made already.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use holdfast_storage::{ChunkKey, Storage, projection::Indexes};

use crate::KnowledgeError;

/// The most that a document's usefulness adds to a score, or takes from it; a cosine has a range of about one.
pub(crate) const BOOST_MAX: f32 = 0.1;
/// Generations that boosts are held for.
const GENERATIONS_MAX: usize = 64;

/// Boosts by chunk.
pub(super) type ByChunk = Arc<HashMap<ChunkKey, f32>>;

/// What was learned, until something else is.
#[derive(Clone, Default)]
pub(crate) struct Priors {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Boosts by the ids of documents.
    documents: ArcSwap<Vec<(String, f32)>>,
    /// How often they were set.
    version: AtomicU64,
    by_chunk: Mutex<HashMap<i64, (State, ByChunk)>>,
}

/// What boosts by chunk depend on: what was learned, and what the indexes held.
type State = (u64, (u64, u64));

impl Priors {
    /// Has these from now on, and no others.
    pub fn set(&self, mut boosts: Vec<(String, f32)>) {
        boosts.retain(|(_, boost)| boost.is_finite());
        for (_, boost) in &mut boosts {
            *boost = boost.clamp(-BOOST_MAX, BOOST_MAX);
        }
        self.shared.documents.store(Arc::new(boosts));
        self.shared.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Changes whenever they do.
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::SeqCst)
    }

    /// Those of the chunks of a generation.
    pub fn by_chunk(&self, storage: &Storage, indexes: &Indexes) -> Result<ByChunk, KnowledgeError> {
        let documents = self.shared.documents.load_full();
        if documents.is_empty() {
            return Ok(Arc::default());
        }
        let generation = indexes.generation.id;
        let state = (self.version(), indexes.version());
        {
            let held = self.shared.by_chunk.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((known, by_chunk)) = held.get(&generation)
                && *known == state
            {
                return Ok(Arc::clone(by_chunk));
            }
        }
        let ids: Vec<&str> = documents.iter().map(|(id, _)| id.as_str()).collect();
        let boosts: HashMap<&str, f32> = documents.iter().map(|(id, boost)| (id.as_str(), *boost)).collect();
        let chunks = storage.chunks_of_documents(generation, &ids)?;
        let by_chunk = chunks.iter().filter_map(|(id, key)| Some((*key, *boosts.get(id.as_str())?)));
        let by_chunk: ByChunk = Arc::new(by_chunk.collect());
        let mut held = self.shared.by_chunk.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= GENERATIONS_MAX {
            held.clear();
        }
        held.insert(generation, (state, Arc::clone(&by_chunk)));
        Ok(by_chunk)
    }
}
