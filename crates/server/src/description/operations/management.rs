//! Keys, models, status, repair, metrics.

use serde_json::{Value, json};

use super::WRITES;
use crate::{
    api::{
        doctor::{DoctorAnswer, DoctorBody},
        keys::{self, RotateBody, SecretAnswer},
        models::{self, ConnectBody, ModelAnswer, PullBody},
        status::StatusAnswer,
    },
    description::{Tag, operation::Operation, schema::Schemas},
    error::Code,
    routes::Verb::{Delete, Get, Post},
};

const KEY: &str = "Its id, as listed; not the secret";
const MODEL: &str = "Its name";
const UNKNOWN_KEY: &str = "key_0198c1f7f0b97c2e8f0e5d5f0d6a1c11";

pub(super) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let mut all = Vec::from(keys(schemas));
    all.extend(models(schemas));
    all.extend(whole(schemas));
    all
}

fn keys(schemas: &mut Schemas) -> [Operation; 4] {
    [
        Operation::new(Get, "/api/v1/keys", "list_keys", Tag::Keys, "List the keys, without their secrets")
            .answer::<keys::ListAnswer>(schemas, 200, "All of them", json!({ "keys": [key()], "next_cursor": null })),
        Operation::new(Post, "/api/v1/keys", "create_key", Tag::Keys, "Make a key")
            .about("The secret is in this answer and nowhere else. A key can be given no more than its maker may do and see.")
            .body::<keys::CreateBody>(
                schemas,
                json!({ "name": "my-app", "roles": ["reader"], "collections": ["default"], "expires_in_s": 86400 }),
            )
            .answer::<SecretAnswer<'static>>(schemas, 201, "The key with its secret", secret())
            .fails(WRITES)
            .fails(&[Code::TooManyKeys]),
        Operation::new(Delete, "/api/v1/keys/{id}", "revoke_key", Tag::Keys, "Revoke a key, its former secret included")
            .segment("id", KEY, UNKNOWN_KEY)
            .empty(204, "It lets nobody in any more")
            .fails(WRITES)
            .fails(&[Code::KeyNotFound]),
        Operation::new(Post, "/api/v1/keys/{id}/rotate", "rotate_key", Tag::Keys, "Give a key a new secret")
            .about("The former one is taken for a while, so that the new one can be brought everywhere.")
            .segment("id", KEY, UNKNOWN_KEY)
            .body::<RotateBody>(schemas, json!({ "grace_s": 3600 }))
            .answer::<SecretAnswer<'static>>(schemas, 200, "The key with its new secret", secret())
            .fails(WRITES)
            .fails(&[Code::KeyNotFound]),
    ]
}

fn models(schemas: &mut Schemas) -> [Operation; 4] {
    const STORED: &[Code] =
        &[Code::ModelNotFound, Code::ModelDamaged, Code::ModelUnsupported, Code::InvalidField, Code::ModelTooLarge];
    [
        Operation::new(
            Get,
            "/api/v1/models",
            "list_models",
            Tag::Operations,
            "List the models that are here or could be",
        )
        .answer::<models::ListAnswer>(
            schemas,
            200,
            "All of them",
            json!({ "models": [model()], "next_cursor": null }),
        ),
        Operation::new(Post, "/api/v1/models/{name}/pull", "pull_model", Tag::Operations, "Fetch a model's files")
            .about("The answer comes when all of them are there and checked, which can take minutes.")
            .segment("name", MODEL, "all-MiniLM-L6-v2")
            .body::<PullBody>(schemas, json!({}))
            .answer::<ModelAnswer>(schemas, 200, "The model", model())
            .fails(STORED)
            .fails(&[Code::ModelFetchFailed, Code::ModelNotReady]),
        Operation::new(
            Post,
            "/api/v1/models/{name}/connect",
            "connect_model",
            Tag::Operations,
            "Use a model that another server runs",
        )
        .about("Texts are sent to that server from then on. It is tried first.")
        .segment("name", MODEL, "theirs")
        .body::<ConnectBody>(schemas, json!({ "url": "https://models.example/v1", "api": "openai" }))
        .answer::<ModelAnswer>(schemas, 200, "The model", model())
        .fails(STORED)
        .fails(&[Code::InvalidRequest, Code::RemoteModelFailed, Code::ModelNotReady, Code::EmbeddingFailed]),
        Operation::new(
            Post,
            "/api/v1/models/{name}/verify",
            "verify_model",
            Tag::Operations,
            "Check a model's files by their hashes",
        )
        .segment("name", MODEL, "all-MiniLM-L6-v2")
        .answer::<ModelAnswer>(schemas, 200, "The model, whose files are as they should be", model())
        .fails(STORED),
    ]
}

fn whole(schemas: &mut Schemas) -> [Operation; 3] {
    let component =
        json!({ "name": "database", "status": "ready", "reason": null, "since": "2026-01-31T23:59:59.123Z" });
    let status = json!({
        "status": "ready", "version": "0.1.0", "uptime_seconds": 3600, "components": [component],
        "queues": [{ "name": "http_requests", "length": 1, "limit": 256 }],
        "embedding_queues": [{ "model": "all-MiniLM-L6-v2", "priority": "interactive", "length": 2, "limit": 4096 }],
        "breakers": [{ "name": "another-server", "state": "closed" }],
    });
    let metrics = "# HELP holdfast_uptime_seconds Time since the server was built\n# TYPE holdfast_uptime_seconds gauge\nholdfast_uptime_seconds 3600\n";
    let metrics =
        json!({ "text/plain": { "schema": { "type": "string" }, "examples": { "example": { "value": metrics } } } });
    [
        Operation::new(Get, "/api/v1/status", "show_status", Tag::Operations, "How everything is, and each part")
            .about("What a background task found when it last tried each part.")
            .answer::<StatusAnswer>(schemas, 200, "The whole is the worst of what it needs", status),
        Operation::new(Post, "/api/v1/doctor", "run_doctor", Tag::Operations, "Look for damage, and repair it if asked to")
            .body::<DoctorBody>(schemas, json!({ "fix": false }))
            .answer::<DoctorAnswer>(
                schemas,
                200,
                "What was found",
                json!({ "findings": [{ "code": "index_differs", "detail": "the lexical index lacks 3 chunks", "fixed": false }] }),
            )
            .fails(&[Code::IndexUnavailable, Code::ModelDamaged, Code::InProgress]),
        Operation::new(Get, "/metrics", "metrics", Tag::Operations, "Metrics as Prometheus text").content(
            200,
            "Every metric there is",
            &metrics,
        ),
    ]
}

fn key() -> Value {
    json!({
        "id": UNKNOWN_KEY, "name": "my-app", "roles": ["reader"], "collections": ["default"], "models": ["local"],
        "addresses": null,        "created_at": "2026-01-31T23:59:59.123Z", "expires_at": "2026-02-01T23:59:59.123Z", "revoked_at": null,
        "last_used_at": null, "former_secret_until": null,
    })
}

fn secret() -> Value {
    let mut secret = key();
    secret["key"] = json!("hf_…");
    secret
}

fn model() -> Value {
    json!({
        "name": "all-MiniLM-L6-v2", "default": true, "installation": "complete", "state": "ready",
        "downloaded_bytes": null, "size_bytes": 91_368_376, "revision": "53aa51172d142c89", "wanting": [],
        "precision": "int8", "memory_bytes": 120_000_000,
    })
}
