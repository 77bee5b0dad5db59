//! `holdfast status`: how everything is.

use std::time::Duration;

use anyhow::Result;
use holdfast_embedding::{ModelState, Models};
use serde_json::Value;

use super::{Session, lists};
use crate::transport::{Request, Transport};

/// How long a model may take to load before that is what is shown.
const LOOK: Duration = Duration::from_secs(5);
/// A list of the status as a table: its field, and its columns.
type Table = (&'static str, &'static [(&'static str, &'static str)]);
const TABLES: [Table; 4] = [
    ("components", &[("PART", "name"), ("STATUS", "status"), ("SINCE", "since"), ("REASON", "reason")]),
    ("queues", &[("QUEUE", "name"), ("LENGTH", "length"), ("LIMIT", "limit")]),
    (
        "embedding_queues",
        &[("TEXTS FOR MODEL", "model"), ("PRIORITY", "priority"), ("LENGTH", "length"), ("LIMIT", "limit")],
    ),
    ("breakers", &[("BREAKER OF MODEL", "name"), ("STATE", "state")]),
];

/// Shows how everything is, in the server or, where none runs, in this process.
pub async fn run(session: &Session) -> Result<()> {
    let output = session.output;
    session
        .with_program(async |transport| {
            if let Some(program) = transport.program() {
                until_looked_at(&program.models).await;
            }
            let answer = transport.send(Request::get("/api/v1/status")).await?;
            let server = match transport {
                Transport::Socket(_) => "server running",
                Transport::InProcess(_) => "no server running",
            };
            output.value(&answer, |answer| text(answer, server))?;
            Ok(())
        })
        .await
}

/// In a process of its own the model has only just begun to load, which says nothing about how it is.
async fn until_looked_at(models: &Models) {
    let Ok(embedder) = models.get(models.default_model()) else { return };
    let mut state = embedder.watch();
    let looked_at = state.wait_for(|state| *state != ModelState::Loading);
    // A model that takes longer is shown as loading, which is the truth.
    let _ = tokio::time::timeout(LOOK, looked_at).await;
}

/// Every list that has something in it; no breakers are what most people have.
fn text(answer: &Value, server: &str) -> String {
    let whole = answer["status"].as_str().unwrap_or("unknown");
    let version = answer["version"].as_str().unwrap_or("unknown");
    let is_empty = |list: &str| answer[list].as_array().is_none_or(Vec::is_empty);
    let tables = TABLES.iter().filter(|(list, _)| !is_empty(list));
    let head = format!("{whole}, version {version}, {server}");
    let parts = std::iter::once(head).chain(tables.map(|(list, columns)| lists::table(answer, list, columns)));
    parts.collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn queues_and_breakers_are_shown_where_there_are_some() {
        let mut answer = json!({
            "status": "degraded", "version": "1.2.3",
            "components": [{ "name": "remote", "status": "degraded", "reason": "it is late", "since": "then" }],
            "queues": [{ "name": "ingest", "length": 3, "limit": 256 }],
            "embedding_queues": [{ "model": "tiny", "priority": "bulk", "length": 64, "limit": 4096 }],
            "breakers": [{ "name": "far", "state": "open" }],
        });
        insta::assert_snapshot!(text(&answer, "server running"), @r"
        degraded, version 1.2.3, server running

        PART    STATUS    SINCE  REASON
        remote  degraded  then   it is late

        QUEUE   LENGTH  LIMIT
        ingest  3       256

        TEXTS FOR MODEL  PRIORITY  LENGTH  LIMIT
        tiny             bulk      64      4096

        BREAKER OF MODEL  STATE
        far               open
        ");
        answer["breakers"] = json!([]);
        assert!(!text(&answer, "server running").contains("BREAKER"));
    }
}
