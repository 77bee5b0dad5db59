//! `holdfast keys`: API keys. A key is printed when it is made, and never again.

use anyhow::Result;
use serde_json::json;

use super::{Session, lists};
use crate::{
    arguments::Keys,
    output::say,
    transport::{Request, encode},
};

const COLUMNS: [(&str, &str); 4] =
    [("ID", "id"), ("NAME", "name"), ("CREATED", "created_at"), ("REVOKED", "revoked_at")];

/// Creates, lists or revokes keys.
pub async fn run(session: &Session, action: Keys) -> Result<()> {
    let output = session.output;
    session
        .with_program(async |transport| {
            match &action {
                Keys::Create { name } => {
                    let answer = transport.send(Request::post("/api/v1/keys", json!({ "name": name }))).await?;
                    say("this key is not shown again:");
                    output.value(&answer, |key| key["key"].as_str().unwrap_or_default().to_owned())?;
                }
                Keys::List => {
                    let answer = transport.send(Request::get("/api/v1/keys")).await?;
                    output.value(&answer, |answer| lists::table(answer, "keys", &COLUMNS))?;
                }
                Keys::Revoke { id } => {
                    transport.send(Request::delete(format!("/api/v1/keys/{}", encode(id)))).await?;
                    output.value(&json!({ "id": id, "revoked": true }), |_| format!("revoked {id}"))?;
                }
            }
            Ok(())
        })
        .await
}
