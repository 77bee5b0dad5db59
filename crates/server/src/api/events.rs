//! Events that other programs put on record.

use axum::{Json, extract::State, http::StatusCode};
use holdfast_learning::batch::{BATCH_EVENTS_MAX, BatchKey};
use holdfast_storage::events::{Appended, KIND_BYTES_MAX};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    Server,
    error::Failure,
    input::{Authenticated, Body, Hashed, Idempotency},
};

/// Events to put on record.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EventBatch")]
pub(crate) struct EventsBody {
    #[schemars(with = "Vec<EventBody>", length(min = 1, max = BATCH_EVENTS_MAX))]
    events: Vec<Box<RawValue>>,
}

/// An event. Fields that are not named here become part of its body.
#[derive(JsonSchema)]
#[schemars(rename = "Event")]
#[expect(dead_code, reason = "it describes what learning reads from the text itself, so that nothing of it changes")]
struct EventBody {
    /// What it tells of; kinds that begin with `turn_`, `budget_` or `session_`, and `gap_found`, are this server's own
    #[schemars(length(min = 1, max = KIND_BYTES_MAX), regex(pattern = "^[a-z0-9_]+$"))]
    kind: String,
    /// A new one where absent
    #[schemars(extend("format" = "uuid"))]
    id: Option<String>,
    /// When it was, in Unix milliseconds or as RFC 3339 has it; now where absent
    #[schemars(extend("type" = ["integer", "string", "null"]))]
    at: Option<Value>,
    /// The interaction it belongs to
    #[schemars(extend("format" = "uuid"))]
    interaction: Option<String>,
    #[schemars(length(min = 1, max = 256))]
    session: Option<String>,
    /// The version of its body; 1 where absent
    version: Option<u16>,
    #[schemars(extend("type" = ["object", "null"]))]
    body: Option<Value>,
}

/// Events that are on record.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EventsAppended")]
pub(crate) struct AppendedAnswer {
    /// How many
    events: u64,
    /// Where the first of them stands in the log; the others follow
    first_position: u64,
    /// They came before, with the same `Idempotency-Key`
    is_repeat: bool,
}

pub(crate) async fn record(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    key: Idempotency,
    hashed: Hashed<EventsBody>,
) -> Result<(StatusCode, Json<AppendedAnswer>), Failure> {
    let Hashed { body: Body { value: EventsBody { events }, .. }, hash } = hashed;
    let key = key.key().map(|key| BatchKey { key, body_hash: hash });
    let Appended { positions, is_repeat } = server.learning().record(&caller, key, &events).await?;
    let answer = AppendedAnswer { events: positions.end - positions.start, first_position: positions.start, is_repeat };
    Ok((StatusCode::CREATED, Json(answer)))
}
