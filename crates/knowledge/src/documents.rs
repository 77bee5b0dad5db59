//! The façade's part on documents.

use std::time::Duration;

use holdfast_storage::{
    Caller,
    documents::{Document, DocumentQuery},
    jobs::{Handover, Idempotency},
};

use crate::{
    DocumentContent, DocumentPage, JobReport, Knowledge, KnowledgeError, NewDocument, Page, PutDocuments, TroubleCode,
    names,
};

/// Documents of a page, at most.
const LIMIT_MAX: usize = 1_000;
/// How long a caller may wait for documents to be in, at most.
const WAIT_MAX: Duration = Duration::from_secs(300);

impl Knowledge {
    /// Accepts documents, each on its own: what is wrong with one does not hold up the others.
    /// When this returns they are safe and will be indexed; with `wait`, and if the time suffices,
    /// they are and can be found.
    ///
    /// # Errors
    /// When not one of them could be accepted, why the first could not.
    pub async fn put_documents(&self, caller: &Caller, request: PutDocuments) -> Result<JobReport, KnowledgeError> {
        names::collection(&request.collection)?;
        let documents = self.handover(request.documents)?;
        let (collection_id, _, _) = self.inner.storage.active_generation(caller.grants(), &request.collection)?;
        let idempotency = request.idempotency.map(|key| Idempotency {
            caller: caller.id().to_owned(),
            route: key.route,
            key: key.key,
            body_hash: key.body_hash,
        });
        let storage = &self.inner.storage;
        let id = storage.accept_documents(collection_id, documents, idempotency).await?;
        self.inner.acceptance.wake();
        if let Some(wait) = request.wait {
            let wait = wait.min(WAIT_MAX);
            let waited = tokio::time::timeout(wait, self.findable(caller, &request.collection, &id));
            if let Ok(outcome) = waited.await {
                outcome?;
            }
        }
        self.job(caller, &id).await
    }

    fn handover(&self, documents: Vec<NewDocument>) -> Result<Vec<Handover>, KnowledgeError> {
        let most = self.inner.config.documents_per_request_max;
        if documents.is_empty() || documents.len() > most {
            return Err(KnowledgeError::invalid("documents", format!("must be 1 to {most}, are {}", documents.len())));
        }
        let mut checked: Vec<_> = documents.into_iter().map(|document| self.checked(document)).collect();
        if checked.iter().all(Result::is_err) {
            checked.swap_remove(0)?;
        }
        let handover = |checked: Result<NewDocument, KnowledgeError>| match checked {
            Ok(document) => Handover::Accepted(document.to_payload()),
            Err(problem) => {
                Handover::Refused { code: TroubleCode::InvalidField.as_str().to_owned(), detail: problem.to_string() }
            }
        };
        Ok(checked.into_iter().map(handover).collect())
    }

    fn checked(&self, mut document: NewDocument) -> Result<NewDocument, KnowledgeError> {
        for (field, text) in
            [("id", &document.id), ("title", &document.title), ("content_type", &document.content_type)]
        {
            if let Some(text) = text {
                names::text_field(field, text)?;
            }
        }
        if let Some(path) = &document.path {
            names::path(path)?;
        }
        let most = self.inner.config.document_bytes_max;
        if document.content.len() > most {
            return Err(KnowledgeError::invalid("content", format!("must not be larger than {most} bytes")));
        }
        document.metadata = names::metadata(document.metadata)?;
        Ok(document)
    }

    /// Waits until a job of accepted documents is over and its documents can be found.
    async fn findable(&self, caller: &Caller, collection: &str, job: &str) -> Result<(), KnowledgeError> {
        let mut settled = self.inner.pipeline.settled();
        loop {
            settled.borrow_and_update();
            if self.inner.storage.job(caller.grants(), job)?.state.is_final() {
                break;
            }
            settled.changed().await.map_err(|_| KnowledgeError::ShuttingDown)?;
        }
        let (_, _, generation) = self.inner.storage.active_generation(caller.grants(), collection)?;
        if let Some(generation) = generation {
            let projections = self.inner.storage.projections();
            projections.wait_current(generation.id, WAIT_MAX).await?;
        }
        Ok(())
    }

    /// A page of a collection's documents, in the order they came in.
    pub async fn documents(&self, caller: &Caller, page: DocumentPage) -> Result<Page<Document>, KnowledgeError> {
        names::collection(&page.collection)?;
        names::limit(page.limit, LIMIT_MAX)?;
        let after = match page.cursor.as_deref() {
            None => 0,
            Some(cursor) => {
                cursor.parse().map_err(|_| KnowledgeError::invalid("cursor", "is not one that a list has given"))?
            }
        };
        let caller = caller.clone();
        self.blocking(move |inner| {
            let grants = caller.grants();
            let (collection_id, _, _) = inner.storage.active_generation(grants, &page.collection)?;
            let source_id = match &page.source {
                Some(id) => Some(inner.storage.source(grants, id)?.id),
                None => None,
            };
            let query = DocumentQuery { collection_id, source_id, after, limit: page.limit + 1 };
            let mut items = inner.storage.documents(&query)?;
            let more = items.len() > page.limit;
            items.truncate(page.limit);
            let next_cursor = items.last().filter(|_| more).map(|document| document.id.to_string());
            Ok(Page { items, next_cursor })
        })
        .await
    }

    /// A document with its text.
    pub async fn document(
        &self,
        caller: &Caller,
        collection: &str,
        id: &str,
    ) -> Result<DocumentContent, KnowledgeError> {
        names::collection(collection)?;
        let (caller, collection, id) = (caller.clone(), collection.to_owned(), id.to_owned());
        self.blocking(move |inner| {
            let (collection_id, _, generation) = inner.storage.active_generation(caller.grants(), &collection)?;
            let document = inner.storage.document(collection_id, &id)?;
            let text = inner.storage.document_text(document.id)?;
            let chunks = match generation {
                Some(generation) => inner.storage.chunk_count(generation.id, document.id)?,
                None => 0,
            };
            Ok(DocumentContent { document, text, chunks })
        })
        .await
    }

    /// Removes a document. When this returns it is no longer found.
    pub async fn remove_document(&self, caller: &Caller, collection: &str, id: &str) -> Result<(), KnowledgeError> {
        names::collection(collection)?;
        let storage = &self.inner.storage;
        let (collection_id, _, _) = storage.active_generation(caller.grants(), collection)?;
        let document = storage.document(collection_id, id)?;
        if storage.remove_documents(vec![document.id]).await? == 0 {
            return Err(KnowledgeError::NotFound { what: "document", name: id.to_owned() });
        }
        Ok(())
    }
}
