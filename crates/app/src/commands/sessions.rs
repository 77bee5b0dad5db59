//! `holdfast sessions`: conversations that are remembered.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Session, lists};
use crate::{
    arguments::Sessions,
    output::clean,
    transport::{Request, encode},
};

const COLUMNS: [(&str, &str); 5] =
    [("ID", "id"), ("TURNS", "turns"), ("CREATED", "created_at"), ("LAST USED", "used_at"), ("EXPIRES", "expires_at")];
const FIELDS: [&str; 5] = ["id", "turns", "created_at", "used_at", "expires_at"];

/// Lists, shows or removes sessions.
pub async fn run(session: &Session, action: Sessions) -> Result<()> {
    let output = session.output;
    session
        .with_program(async |transport| {
            match &action {
                Sessions::List { paging } => {
                    let answer = transport.send(lists::page("/api/v1/sessions", paging)).await?;
                    output.value(&answer, |answer| lists::table(answer, "sessions", &COLUMNS))?;
                }
                Sessions::Show { id } => {
                    let answer = transport.send(Request::get(target(id))).await?;
                    output.value(&answer, text)?;
                }
                Sessions::Remove { id } => {
                    transport.send(Request::delete(target(id))).await?;
                    output.value(&json!({ "id": id, "removed": true }), |_| format!("removed {id}"))?;
                }
            }
            Ok(())
        })
        .await
}

fn target(id: &str) -> String {
    format!("/api/v1/sessions/{}", encode(id))
}

/// What is known of a session, and what was said in it.
fn text(session: &Value) -> String {
    let mut text = lists::fields(session, &FIELDS);
    if let Some(summary) = session["summary"].as_str() {
        text.push_str(&format!("\n\n(earlier) {}", clean(summary)));
    }
    for message in session["messages"].as_array().into_iter().flatten() {
        let (role, said) = (message["role"].as_str().unwrap_or_default(), message["text"].as_str().unwrap_or_default());
        text.push_str(&format!("\n\n{role}: {}", clean(said)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_reads_as_one() {
        let session = json!({
            "id": "s", "turns": 2, "created_at": "a", "used_at": "b", "expires_at": "c", "summary": "They met.",
            "messages": [{ "role": "user", "text": "hi\u{1b}[2J" }, { "role": "assistant", "text": "hello" }],
        });
        insta::assert_snapshot!(text(&session), @r"
        id            s
        turns         2
        created_at    a
        used_at       b
        expires_at    c

        (earlier) They met.

        user: hi�[2J

        assistant: hello
        ");
    }
}
