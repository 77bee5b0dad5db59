//! The whole text of chunks that search found, for those who hand it on to a model.

use std::collections::BTreeMap;

use holdfast_storage::{Caller, ChunkKey, StorageError};

use crate::{Knowledge, KnowledgeError};

/// A chunk's text, and its place in its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The text.
    pub text: String,
    /// Chunks of the document before it.
    pub ordinal: i64,
}

impl Knowledge {
    /// The text of each chunk, in the order of the question: nothing for one that is no longer there, or is in a collection
    /// that the caller may not see.
    pub async fn passages(
        &self,
        caller: &Caller,
        chunks: Vec<(String, ChunkKey)>,
    ) -> Result<Vec<Option<Passage>>, KnowledgeError> {
        let (storage, grants) = (self.inner.storage.clone(), caller.grants().clone());
        let read = move || {
            let mut generations = BTreeMap::new();
            for (collection, _) in &chunks {
                if !generations.contains_key(collection) {
                    let generation = match storage.active_generation(&grants, collection) {
                        Ok((_, _, generation)) => generation.map(|generation| generation.id),
                        Err(StorageError::NotFound { .. }) => None,
                        Err(error) => return Err(error.into()),
                    };
                    generations.insert(collection.clone(), generation);
                }
            }
            let passage = |(collection, key): &(String, ChunkKey)| -> Result<Option<Passage>, KnowledgeError> {
                let Some(Some(generation)) = generations.get(collection) else { return Ok(None) };
                let hit = storage.hit(*generation, *key)?;
                Ok(hit.map(|hit| Passage { text: hit.text, ordinal: hit.ordinal }))
            };
            chunks.iter().map(passage).collect()
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| KnowledgeError::ShuttingDown)?
    }
}
