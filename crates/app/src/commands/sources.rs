//! `holdfast sources`: folders and files that are followed.

use anyhow::Result;
use serde_json::Value;

use super::{Session, add, lists};
use crate::{
    arguments::Sources,
    output::{Output, count},
    transport::{Request, Transport, encode},
};

const COLUMNS: [(&str, &str); 5] =
    [("ID", "id"), ("COLLECTION", "collection"), ("FILES", "files"), ("SKIPPED", "skipped"), ("PATH", "path")];
const FIELDS: [&str; 8] = ["id", "path", "collection", "files", "skipped", "last_error", "created_at", "scanned_at"];
const SKIPPED: [(&str, &str); 3] = [("WHY", "code"), ("PATH", "path"), ("DETAIL", "detail")];

/// Lists, shows, syncs or removes sources, or lists what was skipped in one.
pub async fn run(session: &Session, action: Sources) -> Result<()> {
    session.with_program(async |transport| one(session, transport, &action).await).await
}

async fn one(session: &Session, transport: &Transport, action: &Sources) -> Result<()> {
    let output = session.output;
    match action {
        Sources::List => {
            let answer = transport.send(Request::get("/api/v1/sources?limit=1000")).await?;
            output.value(&answer, |answer| lists::table(answer, "sources", &COLUMNS))?;
        }
        Sources::Show { id } => {
            let answer = transport.send(Request::get(target(id))).await?;
            output.value(&answer, |source| lists::fields(source, &FIELDS))?;
        }
        Sources::Remove { id } => {
            let answer = transport.send(Request::delete(target(id))).await?;
            output.value(&answer, |answer| {
                let documents = answer["documents_removed"].as_u64().unwrap_or(0);
                format!("removed {id} with {}", count(documents, "document"))
            })?;
        }
        Sources::Sync { id, no_wait } => {
            let started = transport.send(Request::post(format!("{}/sync", target(id)), Value::Null)).await?;
            conclude(transport, &started, *no_wait, output).await?;
        }
        Sources::Skipped { id, paging } => {
            let answer = transport.send(lists::page(&format!("{}/skipped", target(id)), paging)).await?;
            output.value(&answer, |answer| lists::table(answer, "skipped", &SKIPPED))?;
        }
    }
    Ok(())
}

/// Watches a job that was started to its end, unless it is left to the server.
pub async fn conclude(transport: &Transport, started: &Value, no_wait: bool, output: Output) -> Result<()> {
    let job = started["job_id"].as_str().unwrap_or_default().to_owned();
    if no_wait && transport.program().is_none() {
        output.value(started, |_| format!("started; `holdfast jobs show {job}` shows how far it is"))?;
        return Ok(());
    }
    let outcome = add::finish(transport, &[job], output).await?;
    let ended = outcome.jobs.first().cloned().unwrap_or(Value::Null);
    output.value(&ended, |_| add::summary(&outcome, &[]).join("\n"))?;
    Ok(())
}

fn target(id: &str) -> String {
    format!("/api/v1/sources/{}", encode(id))
}
