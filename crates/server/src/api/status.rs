//! `GET /api/v1/status`: how the whole is, and each part.

use axum::{Json, extract::State};
use holdfast_embedding::{ModelQueue, RemoteReport};
use holdfast_resilience::health::{Component, Queue, worst};
use holdfast_storage::Caller;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{Server, health::public_reason, input::Authenticated, timestamp};

/// How everything is.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Status")]
pub(crate) struct StatusAnswer {
    #[schemars(extend("enum" = ["ready", "degraded", "down"]))]
    pub(crate) status: &'static str,
    pub(crate) version: &'static str,
    uptime_seconds: u64,
    pub(crate) components: Vec<ComponentAnswer>,
    queues: Vec<QueueAnswer>,
    embedding_queues: Vec<EmbeddingQueueAnswer>,
    breakers: Vec<BreakerAnswer>,
}

/// What waits at a place that has a bound, or is inside.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Queue")]
struct QueueAnswer {
    name: &'static str,
    length: usize,
    limit: usize,
}

/// Texts that were accepted for a model and are not answered.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EmbeddingQueue")]
struct EmbeddingQueueAnswer {
    model: String,
    #[schemars(extend("enum" = ["interactive", "bulk"]))]
    priority: &'static str,
    length: usize,
    limit: usize,
}

/// What the breaker of a remote model lets through.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Breaker")]
struct BreakerAnswer {
    name: String,
    #[schemars(extend("enum" = ["closed", "half_open", "open"]))]
    state: &'static str,
}

/// How one part is.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Component")]
pub(crate) struct ComponentAnswer {
    pub(crate) name: String,
    #[schemars(extend("enum" = ["ready", "degraded", "down"]))]
    pub(crate) status: &'static str,
    pub(crate) reason: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    since: String,
}

pub(crate) async fn show(State(server): State<Server>, Authenticated(caller): Authenticated) -> Json<StatusAnswer> {
    Json(StatusAnswer::of(&server, &caller))
}

impl StatusAnswer {
    /// The state of things now.
    pub(crate) fn of(server: &Server, caller: &Caller) -> Self {
        let components = server.health().components;
        let queue = |Queue { name, length, limit }: Queue| QueueAnswer { name, length, limit };
        let embedding_queue = |ModelQueue { model, priority, texts, limit }: ModelQueue| EmbeddingQueueAnswer {
            model,
            priority: priority.label(),
            length: texts,
            limit,
        };
        let breaker = |remote: RemoteReport| BreakerAnswer { name: remote.model, state: remote.breaker.as_str() };
        Self {
            status: worst(&components).as_str(),
            version: server.version(),
            uptime_seconds: server.uptime().as_secs(),
            components: components.into_iter().map(|component| ComponentAnswer::of(component, caller)).collect(),
            queues: server.queues().into_iter().map(queue).collect(),
            embedding_queues: server.models().queues().into_iter().map(embedding_queue).collect(),
            breakers: server.models().remotes().into_iter().map(breaker).collect(),
        }
    }
}

impl ComponentAnswer {
    fn of(component: Component, caller: &Caller) -> Self {
        let reason = if *caller == Caller::owner() { component.reason.clone() } else { public_reason(&component) };
        Self {
            name: component.name,
            status: component.status.as_str(),
            reason,
            since: timestamp::from_system(component.since),
        }
    }
}
