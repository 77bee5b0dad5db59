//! `holdfast keys`: API keys. A key is printed when it is made, and never again.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Session, lists};
use crate::{
    arguments::Keys,
    output::say,
    transport::{Request, encode},
};

const COLUMNS: [(&str, &str); 8] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("ROLES", "roles"),
    ("COLLECTIONS", "collections"),
    ("MODELS", "models"),
    ("LAST USED", "last_used_at"),
    ("EXPIRES", "expires_at"),
    ("REVOKED", "revoked_at"),
];

/// Creates, lists, rotates or revokes keys.
pub async fn run(session: &Session, action: Keys) -> Result<()> {
    let output = session.output;
    session
        .with_program(async |transport| {
            match &action {
                Keys::Create { name, roles, collections, models, addresses, expires_in_s } => {
                    let mut body = json!({ "name": name, "expires_in_s": expires_in_s });
                    let lists =
                        [("roles", roles), ("collections", collections), ("models", models), ("addresses", addresses)];
                    for (field, list) in lists {
                        if !list.is_empty() {
                            body[field] = json!(list);
                        }
                    }
                    let answer = transport.send(Request::post("/api/v1/keys", body)).await?;
                    show_once(session, &answer)?;
                }
                Keys::Rotate { id, grace_s } => {
                    let target = format!("/api/v1/keys/{}/rotate", encode(id));
                    let answer = transport.send(Request::post(target, json!({ "grace_s": grace_s }))).await?;
                    show_once(session, &answer)?;
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

fn show_once(session: &Session, answer: &Value) -> Result<()> {
    say("this key is not shown again:");
    session.output.value(answer, |key| key["key"].as_str().unwrap_or_default().to_owned())?;
    Ok(())
}
