//! Documents into a collection.

use std::time::Duration;

use anyhow::Result;
use holdfast_knowledge::{KnowledgeError, NewDocument, PutDocuments};

use crate::support::House;

/// Documents handed over at once.
const BATCH: usize = 128;

/// Makes the collection hold these documents, of which it may hold some already.
#[expect(clippy::print_stderr, reason = "progress is for people")]
pub async fn fill(house: &House, collection: &str, documents: &[NewDocument]) -> Result<()> {
    match house.knowledge.create_collection(&house.caller, collection, None).await {
        Ok(_) | Err(KnowledgeError::Exists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let held = house.knowledge.collection(&house.caller, collection).await?.documents;
    if held == documents.len() as u64 {
        return Ok(());
    }
    for (index, batch) in documents.chunks(BATCH).enumerate() {
        let request = PutDocuments {
            collection: collection.to_owned(),
            documents: batch.to_vec(),
            wait: Some(Duration::from_secs(60)),
            idempotency: None,
        };
        let id = house.knowledge.put_documents(&house.caller, request).await?.job.id;
        house.finished(&id).await?;
        if index % 8 == 0 {
            eprintln!("{collection}: {} of {}", index * BATCH + batch.len(), documents.len());
        }
    }
    Ok(())
}
