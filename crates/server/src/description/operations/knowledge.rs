//! Search, documents and collections.

use serde_json::{Value, json};

use super::{NEEDS_MODEL, WRITES};
use crate::{
    api::{
        PageParams,
        collections::{self, CollectionAnswer, JobStarted, ReembedBody},
        documents::{self, CollectionParam, ContentAnswer, ListParams, PutAnswer, PutBody},
        search::{SearchAnswer, SearchBody},
    },
    description::{Tag, operation::Operation, schema::Schemas},
    error::Code,
    routes::Verb::{Delete, Get, Post},
};

const DOCUMENT: &str = "Its id, as listed or found";
const COLLECTION: &str = "Its name";

pub(super) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let mut all = vec![search(schemas)];
    all.extend(documents(schemas));
    all.extend(collections(schemas));
    all
}

fn search(schemas: &mut Schemas) -> Operation {
    let found = json!({
        "results": [{
            "document_id": "doc_7d793037a0760186574b0282f2f435e7", "chunk_id": "4f1c9f8c2b0e4a6f9b1d2c3e4f5a6b7c",
            "collection": "default", "title": "Flakes", "path": "nix/flake.md", "heading": "Flakes",
            "snippet": "A flake lock pins every package.", "score": 0.0328, "metadata": { "lang": "nix" },
        }],
        "next_cursor": null, "took_ms": 3.1, "degraded": null, "cached": false,
    });
    Operation::new(Post, "/api/v1/search", "search", Tag::Knowledge, "Find passages by meaning and by words")
        .about(
            "Only live documents of collections that the key may see are looked at, also while scores are made. Results \
             of several collections are put together by rank. A cursor holds for one state of the indexes: when that is \
             gone, it is refused with `cursor_expired`. `degraded` says why an answer may be worse than usual.",
        )
        .body::<SearchBody>(schemas, json!({ "query": "how do I pin nixpkgs", "limit": 5 }))
        .answer::<SearchAnswer>(schemas, 200, "What was found", found)
        .fails(NEEDS_MODEL)
        .fails(&[
            Code::CollectionNotFound,
            Code::EmbeddingSpaceMismatch,
            Code::InvalidFilter,
            Code::CursorExpired,
            Code::TextTooLong,
            Code::IndexUnavailable,
        ])
}

fn documents(schemas: &mut Schemas) -> [Operation; 4] {
    let put = json!({ "documents": [{
        "path": "nix/flake.md", "content": "# Flakes\n\nA flake lock pins every package.", "metadata": { "lang": "nix" },
    }]});
    let stored = json!({
        "job_id": "job_0198c1f7f0b97c2e8f0e5d5f0d6a1c11",
        "documents": [{ "id": "doc_7d793037a0760186574b0282f2f435e7", "revision": 1, "chunks": 1, "status": "indexed" }],
    });
    let mut with_text = document();
    with_text["chunks"] = json!(1);
    with_text["content"] = json!("# Flakes\n\nA flake lock pins every package.");
    [
        Operation::new(Post, "/api/v1/documents", "put_documents", Tag::Knowledge, "Store documents")
            .about(
                "Each is stored or refused on its own; the answer says which, in their order. What was stored before in \
                 the same words is not embedded again.",
            )
            .idempotent()
            .body::<PutBody>(schemas, put)
            .answer::<PutAnswer>(schemas, 200, "All of them were dealt with, and can be found", stored.clone())
            .answer::<PutAnswer>(schemas, 202, "They are stored, and will be findable when the job is done", stored)
            .fails(WRITES)
            .fails(NEEDS_MODEL)
            .fails(&[Code::CollectionNotFound, Code::EmbeddingSpaceMismatch, Code::IndexUnavailable]),
        Operation::new(Get, "/api/v1/documents", "list_documents", Tag::Knowledge, "List the documents of a collection")
            .query::<ListParams>(schemas)
            .answer::<documents::ListAnswer>(
                schemas,
                200,
                "A page of documents, without their texts",
                json!({ "documents": [document()], "next_cursor": null }),
            )
            .fails(&[Code::CollectionNotFound, Code::SourceNotFound]),
        Operation::new(Get, "/api/v1/documents/{id}", "show_document", Tag::Knowledge, "Read a document")
            .segment("id", DOCUMENT, "flake")
            .query::<CollectionParam>(schemas)
            .answer::<ContentAnswer>(schemas, 200, "The document with its text", with_text)
            .fails(&[Code::CollectionNotFound, Code::DocumentNotFound]),
        Operation::new(Delete, "/api/v1/documents/{id}", "remove_document", Tag::Knowledge, "Remove a document")
            .segment("id", DOCUMENT, "flake")
            .query::<CollectionParam>(schemas)
            .empty(204, "It is gone")
            .fails(WRITES)
            .fails(&[Code::CollectionNotFound, Code::DocumentNotFound, Code::IndexUnavailable]),
    ]
}

fn collections(schemas: &mut Schemas) -> [Operation; 5] {
    [
        Operation::new(Get, "/api/v1/collections", "list_collections", Tag::Knowledge, "List the collections")
            .query::<PageParams>(schemas)
            .answer::<collections::ListAnswer>(
                schemas,
                200,
                "A page of those the key may see",
                json!({ "collections": [collection()], "next_cursor": null }),
            ),
        Operation::new(Post, "/api/v1/collections", "create_collection", Tag::Knowledge, "Make a collection")
            .about("A collection has one embedding model. One named `default` is there from the beginning.")
            .body::<collections::CreateBody>(schemas, json!({ "name": "notes" }))
            .answer::<CollectionAnswer>(schemas, 201, "It is there", collection())
            .fails(WRITES)
            .fails(&[Code::CollectionExists, Code::ModelNotFound]),
        Operation::new(Get, "/api/v1/collections/{name}", "show_collection", Tag::Knowledge, "Show a collection")
            .segment("name", COLLECTION, "default")
            .answer::<CollectionAnswer>(schemas, 200, "The collection", collection())
            .fails(&[Code::CollectionNotFound, Code::InvalidField]),
        Operation::new(
            Delete,
            "/api/v1/collections/{name}",
            "remove_collection",
            Tag::Knowledge,
            "Remove a collection with all that is in it",
        )
        .segment("name", COLLECTION, "notes")
        .empty(204, "It is gone")
        .fails(WRITES)
        // The default collection is always there.
        .fails(&[Code::CollectionNotFound, Code::InvalidField, Code::InProgress, Code::IndexUnavailable]),
        Operation::new(
            Post,
            "/api/v1/collections/{name}/reembed",
            "reembed_collection",
            Tag::Knowledge,
            "Move a collection to another embedding model",
        )
        .about("It answers searches with the old vectors until the new ones are complete.")
        .segment("name", COLLECTION, "default")
        .body::<ReembedBody>(schemas, json!({ "model": "all-MiniLM-L6-v2" }))
        .answer::<JobStarted>(schemas, 202, "The job that does it", job_started())
        .fails(WRITES)
        .fails(NEEDS_MODEL)
        .fails(&[Code::CollectionNotFound, Code::InProgress, Code::EmbeddingSpaceMismatch]),
    ]
}

fn document() -> Value {
    json!({
        "id": "doc_7d793037a0760186574b0282f2f435e7", "collection": "default", "source": null, "path": "nix/flake.md",
        "title": "Flakes", "content_type": "text/markdown", "revision": 1, "size_bytes": 42,
        "metadata": { "lang": "nix" }, "created_at": "2026-01-31T23:59:59.123Z", "updated_at": "2026-01-31T23:59:59.123Z",
    })
}

fn collection() -> Value {
    json!({
        "name": "notes", "model": "all-MiniLM-L6-v2", "space": null, "dimensions": null, "documents": 0, "chunks": 0,
        "building": null, "created_at": "2026-01-31T23:59:59.123Z",
    })
}

pub(super) fn job_started() -> Value {
    json!({ "job_id": "job_0198c1f7f0b97c2e8f0e5d5f0d6a1c11" })
}
