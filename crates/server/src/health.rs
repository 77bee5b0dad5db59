//! The probes, which need no key and are never refused for load.
//!
//! They say what was measured in the background; nothing is measured here. What they say is for machines and for
//! strangers: names of parts and their reasons, no paths, names of collections or texts.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use holdfast_knowledge::HealthReport;
use holdfast_resilience::health::{Component, STALE_AFTER, Status, worst};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Server,
    error::{public, seconds},
    timestamp,
};

/// When an unready server is worth asking again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Alive {
    status: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Readiness {
    #[schemars(extend("enum" = ["ready", "degraded", "down"]))]
    status: &'static str,
    reason: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    checked_at: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HealthSummary")]
pub(crate) struct Summary {
    #[serde(flatten)]
    readiness: Readiness,
    version: &'static str,
    uptime_seconds: u64,
    components: Vec<Part>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HealthPart")]
pub(crate) struct Part {
    name: String,
    #[schemars(extend("enum" = ["ready", "degraded", "down"]))]
    status: &'static str,
}

/// 200 for as long as the process answers at all.
pub(crate) async fn live() -> impl IntoResponse {
    Json(Alive { status: "alive" })
}

/// 200: a server exists only once storage is open and the sources are started.
pub(crate) async fn startup() -> impl IntoResponse {
    Json(Alive { status: "started" })
}

/// 200 when work can be sent here, 503 with the reason when not.
pub(crate) async fn ready(State(server): State<Server>) -> Response {
    let (code, readiness) = judge(&server.health(), server.shutdown().is_cancelled());
    answer(code, readiness)
}

/// The same with every part's word.
pub(crate) async fn summary(State(server): State<Server>) -> Response {
    let report = server.health();
    let (code, readiness) = judge(&report, server.shutdown().is_cancelled());
    let part = |component: Component| Part { name: component.name, status: component.status.as_str() };
    let summary = Summary {
        readiness,
        version: server.version(),
        uptime_seconds: server.uptime().as_secs(),
        components: report.components.into_iter().map(part).collect(),
    };
    answer(code, summary)
}

/// A report as it may be told: what was tried too long ago says nothing of how a part is.
pub(crate) fn told(mut report: HealthReport) -> HealthReport {
    if let Some(age) = report.stale {
        let since = report.checked_at + STALE_AFTER;
        for part in &mut report.components {
            (part.status, part.reason) = (Status::Down, Some(format!("it was last tried {} s ago", age.as_secs())));
            part.since = since;
        }
    }
    report
}

fn judge(report: &HealthReport, is_stopping: bool) -> (StatusCode, Readiness) {
    let components = &report.components;
    let readiness = |status: Status, reason| Readiness {
        status: status.as_str(),
        reason,
        checked_at: timestamp::from_system(report.checked_at),
    };
    if is_stopping {
        return (StatusCode::SERVICE_UNAVAILABLE, readiness(Status::Down, Some("shutting down".to_owned())));
    }
    let status = worst(components);
    // What is degraded still does its work.
    let code = if status == Status::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, readiness(status, reason(components)))
}

/// Why, from the worst part on.
fn reason(components: &[Component]) -> Option<String> {
    let mut troubled: Vec<&Component> =
        components.iter().filter(|component| component.status != Status::Ready).collect();
    troubled.sort_by_key(|component| std::cmp::Reverse(component.status));
    let say = |component: &&Component| match public_reason(component) {
        Some(reason) => format!("{}: {reason}", component.name),
        None => format!("{} is {}", component.name, component.status),
    };
    (!troubled.is_empty()).then(|| troubled.iter().map(say).collect::<Vec<_>>().join("; "))
}

/// A part's reason as anybody may read it; one that names files is whole for the owner only, and in the log.
pub(crate) fn public_reason(component: &Component) -> Option<String> {
    component.reason.as_deref().map(|reason| public(reason).into_owned())
}

fn answer(code: StatusCode, body: impl Serialize) -> Response {
    let mut response = (code, Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if code == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(RETRY_AFTER)));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_worst_part_is_named_first() {
        let part = |name: &str, status, reason: Option<&str>| Component {
            name: name.to_owned(),
            status,
            reason: reason.map(str::to_owned),
            since: SystemTime::UNIX_EPOCH,
        };
        let parts = [
            part("lexical", Status::Degraded, Some("3 changes behind")),
            part("storage", Status::Ready, None),
            part("model", Status::Down, None),
        ];
        assert_eq!(reason(&parts).as_deref(), Some("model is down; lexical: 3 changes behind"));
        assert_eq!(reason(&parts[1..2]), None);
    }

    #[test]
    fn what_was_found_too_long_ago_says_nothing() {
        let ready = Component {
            name: "database".to_owned(),
            status: Status::Ready,
            reason: None,
            since: SystemTime::UNIX_EPOCH,
        };
        let mut report = HealthReport { components: vec![ready], checked_at: SystemTime::UNIX_EPOCH, stale: None };
        assert_eq!(judge(&report, false).0, StatusCode::OK);
        assert_eq!(judge(&report, true).0, StatusCode::SERVICE_UNAVAILABLE);
        report.stale = Some(Duration::from_secs(90));
        let told = told(report);
        assert_eq!(told.components[0].since, SystemTime::UNIX_EPOCH + STALE_AFTER);
        let (code, readiness) = judge(&told, false);
        assert_eq!((code, readiness.status), (StatusCode::SERVICE_UNAVAILABLE, "down"));
        assert_eq!(readiness.reason.as_deref(), Some("database: it was last tried 90 s ago"));
    }
}
