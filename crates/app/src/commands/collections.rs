//! `holdfast collections`: sets of documents that share an embedding space.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Session, add, lists, sources};
use crate::{
    arguments::Collections,
    transport::{Request, Transport, encode},
};

const COLUMNS: [(&str, &str); 4] =
    [("NAME", "name"), ("MODEL", "model"), ("DOCUMENTS", "documents"), ("CHUNKS", "chunks")];
const FIELDS: [&str; 8] = ["name", "model", "dimensions", "documents", "chunks", "building", "space", "created_at"];

/// Lists, creates, shows, removes or re-embeds collections.
pub async fn run(session: &Session, action: Collections) -> Result<()> {
    session.with_program(async |transport| one(session, transport, &action).await).await
}

async fn one(session: &Session, transport: &Transport, action: &Collections) -> Result<()> {
    let output = session.output;
    match action {
        Collections::List => {
            let answer = transport.send(Request::get("/api/v1/collections?limit=1000")).await?;
            output.value(&answer, |answer| lists::table(answer, "collections", &COLUMNS))?;
        }
        Collections::Create { name, model } => {
            let body = match model {
                Some(model) => json!({ "name": name, "model": model }),
                None => json!({ "name": name }),
            };
            output.value(&transport.send(Request::post("/api/v1/collections", body)).await?, shown)?;
        }
        Collections::Show { name } => {
            output.value(&transport.send(Request::get(target(name))).await?, shown)?;
        }
        Collections::Remove { name } => {
            transport.send(Request::delete(target(name))).await?;
            output.value(&json!({ "name": name, "removed": true }), |_| format!("removed {name}"))?;
        }
        Collections::Reembed { name, model, no_wait } => {
            if let Some(program) = transport.program() {
                add::await_model(&program.models, model).await?;
            }
            let request = Request::post(format!("{}/reembed", target(name)), json!({ "model": model }));
            let started = transport.send(request).await?;
            sources::conclude(transport, &started, *no_wait, output).await?;
        }
    }
    Ok(())
}

fn target(name: &str) -> String {
    format!("/api/v1/collections/{}", encode(name))
}

fn shown(collection: &Value) -> String {
    lists::fields(collection, &FIELDS)
}
