//! Every operation there is, one file a group.
//!
//! A new route needs its line here; a test says so. Examples are sent to a running server by tests, and have to work.

mod knowledge;

mod sources;

mod embeddings;

mod chat;

mod management;

mod language_models;

mod health;

use super::{operation::Operation, schema::Schemas};
use crate::error::Code;

/// What a failing database or disk answers a request with that writes, beyond what any request can meet.
const WRITES: &[Code] = &[Code::Superseded];
/// What a request can fail with that needs a model.
const NEEDS_MODEL: &[Code] = &[
    Code::ModelNotReady,
    Code::ModelNotFound,
    Code::ModelTooLarge,
    Code::ModelDamaged,
    Code::ModelUnsupported,
    Code::ModelFetchFailed,
    Code::RemoteModelFailed,
    Code::EmbeddingFailed,
];

/// Every operation.
pub(super) fn all(schemas: &mut Schemas) -> Vec<Operation> {
    let groups = [
        knowledge::operations(schemas),
        sources::operations(schemas),
        embeddings::operations(schemas),
        chat::operations(schemas),
        management::operations(schemas),
        language_models::operations(schemas),
        health::operations(schemas),
    ];
    groups.into_iter().flatten().collect()
}
