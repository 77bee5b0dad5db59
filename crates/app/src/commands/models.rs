//! `holdfast models`: the files of embedding models.

use std::{io::IsTerminal, path::Path, time::Duration};

use anyhow::Result;
use holdfast_embedding::ModelState;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{Session, lists};
use crate::{
    arguments::Models,
    hint::Advice,
    output::{BARS, bytes, say},
    telemetry::Reader,
    transport::{Request, Transport, encode},
};

/// How often the bytes that have come are asked for.
const INTERVAL: Duration = Duration::from_millis(200);
const COLUMNS: [(&str, &str); 6] = [
    ("NAME", "name"),
    ("FILES", "installation"),
    ("STATE", "state"),
    ("BYTES", "size_bytes"),
    ("PRECISION", "precision"),
    ("DEFAULT", "default"),
];

/// Fetches, lists or verifies models.
pub async fn run(session: &Session, action: Models) -> Result<()> {
    let default = session.settings(Reader::User)?.models.default_model;
    let output = session.output;
    session
        .with_program(async |transport| {
            match &action {
                Models::Pull { name, from } => {
                    let name = name.as_deref().unwrap_or(&default);
                    let answer = pull(transport, name, from.as_deref()).await?;
                    output.value(&answer, |model| whole(model, "is complete"))?;
                }
                Models::List => {
                    let answer = transport.send(Request::get("/api/v1/models")).await?;
                    output.value(&answer, |answer| lists::table(answer, "models", &COLUMNS))?;
                }
                Models::Connect { name, url, api, model, key_file, window, query_prefix, document_prefix } => {
                    let key_file = key_file.as_deref().map(std::path::absolute).transpose()?;
                    let body = json!({
                        "url": url, "api": api, "model": model, "key_file": key_file, "window": window,
                        "query_prefix": query_prefix, "document_prefix": document_prefix,
                    });
                    let request = Request::post(format!("/api/v1/models/{}/connect", encode(name)), body);
                    output.value(&transport.send(request).await?, |_| format!("{name} is connected"))?;
                }
                Models::Verify { name } => {
                    let name = name.as_deref().unwrap_or(&default);
                    let request = Request::post(format!("/api/v1/models/{}/verify", encode(name)), Value::Null);
                    output.value(&transport.send(request).await?, |model| whole(model, "is what it should be"))?;
                }
            }
            Ok(())
        })
        .await
}

fn whole(model: &Value, verdict: &str) -> String {
    let name = model["name"].as_str().unwrap_or_default();
    format!("{name} {verdict}: {}", bytes(model["size_bytes"].as_u64().unwrap_or(0)))
}

/// Fetches a model, with the bytes that have come to look at meanwhile.
async fn pull(transport: &Transport, name: &str, from: Option<&Path>) -> Result<Value> {
    let mut body = json!({});
    if let Some(folder) = from {
        let folder = std::path::absolute(folder)?;
        let Some(folder) = folder.to_str() else {
            return Err(Advice::new("the folder's path is not UTF-8", "rename it").into());
        };
        body["from"] = json!(folder);
    }
    let pulling = transport.send(Request::post(format!("/api/v1/models/{}/pull", encode(name)), body));
    if !std::io::stderr().is_terminal() {
        say(&format!("fetching {name}"));
        return pulling.await;
    }
    let bar = BARS.add(ProgressBar::new(0));
    // The template is ours; where it cannot be read, the default one will do.
    let style = ProgressStyle::with_template("{msg} [{wide_bar:.dim}] {bytes} of {total_bytes}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_message(name.to_owned());
    let pulled = tokio::select! {
        pulled = pulling => pulled,
        never = watch(transport, name, &bar) => never,
    };
    bar.finish_and_clear();
    pulled
}

/// Shows how far a pull is, for as long as it is let.
async fn watch(transport: &Transport, name: &str, bar: &ProgressBar) -> Result<Value> {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let models = transport.send(Request::get("/api/v1/models")).await?;
        let ours = models["models"].as_array().and_then(|models| models.iter().find(|model| model["name"] == name));
        if let Some(model) = ours {
            bar.set_length(model["size_bytes"].as_u64().unwrap_or(0));
            bar.set_position(model["downloaded_bytes"].as_u64().unwrap_or(0).max(loading_bytes(transport, name)));
        }
    }
}

/// What has come for the program in this process, which fetches its default model by itself: the pull waits for that.
fn loading_bytes(transport: &Transport, name: &str) -> u64 {
    let models = transport.program().map(|program| &program.models).filter(|models| models.default_model() == name);
    match models.and_then(|models| Some(models.get(name).ok()?.state())) {
        Some(ModelState::Fetching { downloaded_bytes, .. }) => downloaded_bytes,
        _ => 0,
    }
}
