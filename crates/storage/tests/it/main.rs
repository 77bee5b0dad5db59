//! Storage as its callers see it: what is written is found, survives, and is rebuilt when lost.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod documents;
mod jobs;
mod keys;
mod projections;
mod providers;
mod sessions;

use std::{path::Path, time::Duration};

use half::f16;
use holdfast_storage::{
    ChunkKey, Storage,
    collections::{Generation, GenerationState, NewSpace},
    documents::{ChunkWrite, DocumentWrite, EmbedHash},
};
use serde_json::json;

const DIMENSIONS: usize = 8;

/// A storage in a folder of its own, with one collection and its generation.
struct Bench {
    storage: Storage,
    collection: i64,
    generation: Generation,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = open(folder.path());
        let made = storage.create_collection("notes".into(), "model-a".into()).await.unwrap();
        let generation = storage.ensure_generation(made.id, GenerationState::Active, space("model-a")).await.unwrap();
        Self { storage, collection: made.id, generation, folder }
    }

    /// Closes everything, lets `meanwhile` do something to the files, opens again.
    async fn reopen(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let Self { storage, collection, generation, folder } = self;
        tokio::task::block_in_place(|| storage.close());
        drop(storage);
        meanwhile(folder.path());
        let storage = open(folder.path());
        Self { storage, collection, generation, folder }
    }

    async fn settle(&self) {
        let projections = self.storage.projections();
        let found = projections.wait_current(self.generation.id, Duration::from_secs(20)).await.unwrap();
        assert!(found, "{:?}", projections.status());
    }

    /// A document whose chunks are its words.
    fn document(&self, id: &str, words: &[&str]) -> DocumentWrite {
        let text = words.join(" ");
        let mut start_byte = 0;
        let mut chunks = Vec::new();
        let mut vectors = Vec::new();
        for word in words {
            let embed_hash = hash(word);
            chunks.push(ChunkWrite {
                key: key(id, word),
                start_byte,
                end_byte: start_byte + word.len(),
                token_count: 1,
                heading: String::new(),
                embed_hash,
            });
            vectors.push((embed_hash, vector(word)));
            start_byte += word.len() + 1;
        }
        DocumentWrite {
            generation_id: self.generation.id,
            collection_id: self.collection,
            public_id: id.to_owned(),
            source_id: None,
            path: Some(format!("notes/{id}.md")),
            title: id.to_owned(),
            content_type: "text/markdown".into(),
            content_hash: *blake3::hash(text.as_bytes()).as_bytes(),
            metadata: json!({"lang": "en"}),
            text,
            chunks,
            vectors,
            made_from: None,
            file: None,
            job_item: None,
        }
    }

    /// The document keys that each index answers a word with: `(words, meaning)`.
    fn find(&self, word: &str) -> (Vec<ChunkKey>, Option<ChunkKey>) {
        let indexes = self.storage.projections().indexes(self.generation.id).unwrap();
        let mut words: Vec<ChunkKey> = indexes
            .lexical()
            .query(word, 10, None)
            .unwrap()
            .into_iter()
            .map(|scored| scored.key)
            .filter(|key| self.storage.hit(self.generation.id, *key).unwrap().is_some_and(|h| h.text == word))
            .collect();
        words.sort();
        let query: Vec<f32> = vector(word).iter().map(|component| component.to_f32()).collect();
        let nearest = indexes.vectors().nearest(&query, 1, None).unwrap();
        (words, nearest.first().filter(|scored| scored.score > 0.999).map(|scored| scored.key))
    }

    fn assert_consistent(&self) {
        assert_eq!(self.storage.projections().compare().unwrap(), []);
    }
}

fn open(folder: &Path) -> Storage {
    std::fs::create_dir_all(folder.join("db")).unwrap();
    Storage::open_at(&folder.join("db/holdfast.db"), &folder.join("index")).unwrap()
}

fn space(model: &str) -> NewSpace {
    NewSpace {
        fingerprint: format!("fingerprint of {model}"),
        model: model.to_owned(),
        dimensions: DIMENSIONS,
        description: "{}".into(),
    }
}

fn hash(word: &str) -> EmbedHash {
    let mut hash = EmbedHash::default();
    hash.copy_from_slice(&blake3::hash(word.as_bytes()).as_bytes()[..16]);
    hash
}

fn key(document: &str, word: &str) -> ChunkKey {
    let hash = blake3::hash(format!("{document}/{word}").as_bytes());
    ChunkKey::new(u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap()))
}

/// A unit vector that is the word's own.
fn vector(word: &str) -> Vec<f16> {
    let hash = blake3::hash(word.as_bytes());
    let raw: Vec<f32> = hash.as_bytes()[..DIMENSIONS].iter().map(|byte| f32::from(*byte) - 127.5).collect();
    let length = raw.iter().map(|component| component * component).sum::<f32>().sqrt();
    raw.into_iter().map(|component| f16::from_f32(component / length)).collect()
}
