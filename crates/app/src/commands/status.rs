//! `holdfast status`: how everything is.

use std::time::Duration;

use anyhow::Result;
use holdfast_embedding::{ModelState, Models};
use serde_json::Value;

use super::{Session, lists};
use crate::transport::{Request, Transport};

/// How long a model may take to load before that is what is shown.
const LOOK: Duration = Duration::from_secs(5);
const COLUMNS: [(&str, &str); 4] = [("PART", "name"), ("STATUS", "status"), ("SINCE", "since"), ("REASON", "reason")];

/// Shows how everything is, in the server or, where none runs, in this process.
pub async fn run(session: &Session) -> Result<()> {
    let output = session.output;
    session
        .with_program(async |transport| {
            if let Some(program) = transport.program() {
                until_looked_at(&program.models).await;
            }
            let answer = transport.send(Request::get("/api/v1/status")).await?;
            output.value(&answer, |answer| text(answer, transport))?;
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

fn text(answer: &Value, transport: &Transport) -> String {
    let whole = answer["status"].as_str().unwrap_or("unknown");
    let version = answer["version"].as_str().unwrap_or("unknown");
    let server = match transport {
        Transport::Socket(_) => "server running",
        Transport::InProcess(_) => "no server running",
    };
    format!("{whole}, version {version}, {server}\n\n{}", lists::table(answer, "components", &COLUMNS))
}
