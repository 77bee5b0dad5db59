//! `holdfast documents`: what is in a collection.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Session, lists};
use crate::{
    arguments::Documents,
    output::{clean, clean_line},
    transport::{Request, encode},
};

/// Lists, shows or removes documents.
pub async fn run(session: &Session, action: Documents) -> Result<()> {
    let output = session.output;
    session
        .with_program(async |transport| {
            match &action {
                Documents::List { collection, source, paging } => {
                    let request = lists::page("/api/v1/documents", paging)
                        .with("collection", Some(collection))
                        .with("source", source.as_deref());
                    output.value(&transport.send(request).await?, listing)?;
                }
                Documents::Show { id, collection } => {
                    let request = Request::get(target(id)).with("collection", Some(collection));
                    output.value(&transport.send(request).await?, shown)?;
                }
                Documents::Remove { id, collection } => {
                    let request = Request::delete(target(id)).with("collection", Some(collection));
                    transport.send(request).await?;
                    output.value(&json!({ "id": id, "removed": true }), |_| format!("removed {id}"))?;
                }
            }
            Ok(())
        })
        .await
}

fn target(id: &str) -> String {
    format!("/api/v1/documents/{}", encode(id))
}

fn listing(answer: &Value) -> String {
    lists::table(answer, "documents", &[("ID", "id"), ("TITLE", "title"), ("PATH", "path")])
}

fn shown(document: &Value) -> String {
    let fields = ["id", "collection", "source", "path", "title", "content_type", "revision", "chunks", "updated_at"];
    let mut text = lists::fields(document, &fields);
    if document["metadata"].as_object().is_some_and(|metadata| !metadata.is_empty()) {
        text.push_str(&format!("\nmetadata      {}", clean_line(&document["metadata"].to_string())));
    }
    format!("{text}\n\n{}", clean(document["content"].as_str().unwrap_or_default()))
}
