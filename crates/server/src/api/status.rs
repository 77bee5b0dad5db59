//! `GET /api/v1/status`: how the whole is, and each part.

use axum::{Json, extract::State};
use holdfast_resilience::health::{Component, worst};
use holdfast_storage::Caller;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{Server, error::Failure, health::public_reason, input::Authenticated, timestamp};

/// How everything is.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Status")]
pub(crate) struct StatusAnswer {
    #[schemars(extend("enum" = ["ready", "degraded", "down"]))]
    pub(crate) status: &'static str,
    pub(crate) version: &'static str,
    uptime_seconds: u64,
    pub(crate) components: Vec<ComponentAnswer>,
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

pub(crate) async fn show(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
) -> Result<Json<StatusAnswer>, Failure> {
    Ok(Json(StatusAnswer::of(&server, &caller)))
}

impl StatusAnswer {
    /// The state of things now.
    pub(crate) fn of(server: &Server, caller: &Caller) -> Self {
        let components = server.knowledge().health().components;
        Self {
            status: worst(&components).as_str(),
            version: server.version(),
            uptime_seconds: server.uptime().as_secs(),
            components: components.into_iter().map(|component| ComponentAnswer::of(component, caller)).collect(),
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
