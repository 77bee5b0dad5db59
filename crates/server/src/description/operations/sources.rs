//! Sources and jobs.

use serde_json::{Value, json};

use super::{NEEDS_MODEL, WRITES, knowledge::job_started};
use crate::{
    api::{
        PageParams,
        collections::JobStarted,
        jobs,
        sources::{self, AddAnswer, AddBody, RemoveAnswer, SkippedAnswer, SourceAnswer},
    },
    description::{Tag, operation::Operation, schema::Schemas},
    error::Code,
    routes::Verb::{Delete, Get, Post},
};

const SOURCE: &str = "Its id, as listed";

pub(super) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    vec![
        Operation::new(
            Get,
            "/api/v1/sources",
            "list_sources",
            Tag::Sources,
            "List the folders and files that are followed",
        )
        .query::<PageParams>(schemas)
        .answer::<sources::ListAnswer>(
            schemas,
            200,
            "A page of sources",
            json!({ "sources": [source()], "next_cursor": null }),
        ),
        Operation::new(Post, "/api/v1/sources", "add_source", Tag::Sources, "Follow a folder or a file")
            .about("The server reads it as itself: whoever may add sources may read what the server may read.")
            .body::<AddBody>(schemas, json!({ "path": "/srv/notes" }))
            .answer::<AddAnswer>(
                schemas,
                202,
                "It is followed from now on; the job brings in what is there",
                json!({ "source": source(), "job_id": "job_0198c1f7f0b97c2e8f0e5d5f0d6a1c11", "covered": false }),
            )
            .fails(WRITES)
            .fails(NEEDS_MODEL)
            .fails(&[Code::CollectionNotFound, Code::SourceUnreadable]),
        Operation::new(Get, "/api/v1/sources/{id}", "show_source", Tag::Sources, "Show a source")
            .segment("id", SOURCE, "src_2c26b46b68ffc68f")
            .answer::<SourceAnswer>(schemas, 200, "The source", source())
            .fails(&[Code::SourceNotFound]),
        Operation::new(
            Delete,
            "/api/v1/sources/{id}",
            "remove_source",
            Tag::Sources,
            "Stop following a source, and remove its documents",
        )
        .segment("id", SOURCE, "src_2c26b46b68ffc68f")
        .answer::<RemoveAnswer>(schemas, 200, "It is gone", json!({ "documents_removed": 12 }))
        .fails(WRITES)
        .fails(&[Code::SourceNotFound, Code::IndexUnavailable]),
        Operation::new(Post, "/api/v1/sources/{id}/sync", "sync_source", Tag::Sources, "Look for changes now")
            .segment("id", SOURCE, "src_2c26b46b68ffc68f")
            .answer::<JobStarted>(schemas, 202, "The job that does it", job_started())
            .fails(WRITES)
            .fails(&[Code::SourceNotFound, Code::InProgress]),
        Operation::new(
            Get,
            "/api/v1/sources/{id}/skipped",
            "list_skipped_files",
            Tag::Sources,
            "List files of a source that were not indexed, and why",
        )
        .segment("id", SOURCE, "src_2c26b46b68ffc68f")
        .query::<PageParams>(schemas)
        .answer::<SkippedAnswer>(
            schemas,
            200,
            "A page of files",
            json!({
                "skipped": [{ "path": "/srv/notes/photo.jpg", "code": "binary", "detail": "it is not a text" }],
                "next_cursor": null,
            }),
        )
        .fails(&[Code::SourceNotFound]),
        Operation::new(Get, "/api/v1/jobs", "list_jobs", Tag::Sources, "List accepted work, newest first")
            .query::<PageParams>(schemas)
            .answer::<jobs::ListAnswer>(
                schemas,
                200,
                "A page of jobs",
                json!({ "jobs": [job()], "next_cursor": null }),
            ),
        Operation::new(
            Get,
            "/api/v1/jobs/{id}",
            "show_job",
            Tag::Sources,
            "Show a job and what became of its documents",
        )
        .segment("id", "Its id, as the request was answered with that began it", "job_0198c1f7f0b97c2e8f0e5d5f0d6a1c11")
        .answer::<jobs::ReportAnswer>(schemas, 200, "The job", report())
        .fails(&[Code::JobNotFound]),
    ]
}

fn source() -> Value {
    json!({
        "id": "src_2c26b46b68ffc68f", "collection": "default", "path": "/srv/notes", "files": 12, "skipped": 1,
        "last_error": null, "created_at": "2026-01-31T23:59:59.123Z", "scanned_at": "2026-01-31T23:59:59.456Z",
    })
}

fn job() -> Value {
    json!({
        "id": "job_0198c1f7f0b97c2e8f0e5d5f0d6a1c11", "kind": "documents", "state": "done", "collection": "default",
        "source": null, "progress": { "total": 1, "done": 1, "skipped": 0, "failed": 0 }, "error": null,
        "created_at": "2026-01-31T23:59:59.123Z", "finished_at": "2026-01-31T23:59:59.456Z",
    })
}

fn report() -> Value {
    let mut report = job();
    report["documents"] =
        json!([{ "id": "doc_7d793037a0760186574b0282f2f435e7", "revision": 1, "chunks": 1, "status": "indexed" }]);
    report
}
