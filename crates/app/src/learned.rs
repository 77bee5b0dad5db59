//! What learning needs of the others: vectors by the default embedding model, and the knowledge base to put to use what
//! was learned.

use std::{future::Future, pin::Pin};

use holdfast_embedding::{EmbedError, Models, Priority, Purpose};
use holdfast_knowledge::{
    Explain, Group, Knowledge, KnowledgeError, Learned, Mode, NewDocument, PutDocuments, SearchRequest,
};
use holdfast_learning::{Asked, Encode, Encoded, Finding, Keeping, Lesson, NotEncoded, Shelf};
use holdfast_storage::{Caller, learned_collection};
use serde_json::json;

/// The default embedding model, as learning knows it: behind everybody who waits.
pub struct ByDefaultModel(pub Models);

impl Encode for ByDefaultModel {
    fn encode(&self, texts: Vec<String>) -> Pin<Box<dyn Future<Output = Result<Encoded, NotEncoded>> + Send + '_>> {
        Box::pin(async move {
            let encode = async {
                let embedder = self.0.get(self.0.default_model())?;
                embedder.ready().await?;
                let space = embedder.space()?.fingerprint();
                let vectors = embedder.embed(texts, Purpose::Query, Priority::Bulk).await?;
                Ok(Encoded { space, vectors })
            };
            encode.await.map_err(|error: EmbedError| NotEncoded { reason: error.to_string() })
        })
    }
}

fn document(lesson: Lesson) -> NewDocument {
    let Lesson { id, kind, title, text } = lesson;
    NewDocument {
        id: Some(id),
        title: Some(title).filter(|title| !title.trim().is_empty()),
        content: text,
        content_type: Some("text/plain".to_owned()),
        metadata: json!({ "learned": kind }),
        ..NewDocument::default()
    }
}

/// The knowledge base, as learning knows it.
pub struct InKnowledge(pub Knowledge);

impl Shelf for InKnowledge {
    fn rank_by(&self, boosts: Vec<(String, f32)>) {
        self.0.rank_by(boosts);
    }

    fn find(&self, caller: Caller, asked: Asked) -> Finding<'_> {
        Box::pin(async move {
            let learned = if asked.by_usefulness { Learned::Used } else { Learned::Ignored };
            let request = SearchRequest {
                query: asked.query,
                collections: asked.collections,
                mode: Mode::Hybrid,
                limit: asked.limit,
                cursor: None,
                group: Group::Document,
                filter: None,
                min_score: None,
                explain: Explain::No,
                learned,
            };
            let found = self.0.search(&caller, request).await.map_err(|error| error.to_string())?;
            Ok(found.results.into_iter().map(|result| result.document_id).collect())
        })
    }

    fn keep(&self, tenant: String, lessons: Vec<Lesson>, remove: Vec<String>) -> Keeping<'_> {
        Box::pin(async move {
            let told = |error: KnowledgeError| error.to_string();
            let (owner, collection) = (Caller::owner(), learned_collection(&tenant));
            match self.0.create_collection(&owner, &collection, None).await {
                Ok(_) | Err(KnowledgeError::Exists { .. }) => {}
                Err(error) => return Err(told(error)),
            }
            if !lessons.is_empty() {
                let documents = lessons.into_iter().map(document).collect();
                // What was accepted is on disk, and indexed in a while.
                let request = PutDocuments { collection: collection.clone(), documents, wait: None, idempotency: None };
                self.0.put_documents(&owner, request).await.map_err(told)?;
            }
            for id in remove {
                match self.0.remove_document(&owner, &collection, &id).await {
                    Ok(()) | Err(KnowledgeError::NotFound { .. }) => {}
                    Err(error) => return Err(told(error)),
                }
            }
            Ok(())
        })
    }

    fn settings(&self) -> String {
        self.0.search_settings()
    }
}
