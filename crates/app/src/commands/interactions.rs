//! `holdfast interactions`: what language models were asked, and why each turn went as it did.

use std::fmt::Write;

use anyhow::Result;
use serde_json::Value;

use super::{
    Session,
    lists::{self, items, word},
};
use crate::{
    arguments::Interactions,
    output::{clean, clean_line, table},
    transport::{Request, encode},
};

const COLUMNS: [(&str, &str); 8] = [
    ("ID", "id"),
    ("AT", "at"),
    ("OUTCOME", "outcome"),
    ("MODEL", "model"),
    ("TOKENS IN", "input_tokens"),
    ("OUT", "output_tokens"),
    ("COST $", "cost"),
    ("MS", "duration_ms"),
];

/// Lists turns, or explains one.
pub async fn run(session: &Session, action: Interactions) -> Result<()> {
    let output = session.output;
    session
        .with_program(async |transport| {
            match &action {
                Interactions::List { paging } => {
                    let answer = transport.send(lists::page("/api/v1/interactions", paging)).await?;
                    output.value(&answer, |answer| lists::table(answer, "interactions", &COLUMNS))?;
                }
                Interactions::Why { id } => {
                    let target = format!("/api/v1/interactions/{}/why", encode(id));
                    output.value(&transport.send(Request::get(target)).await?, text)?;
                }
            }
            Ok(())
        })
        .await
}

// Writing to a string cannot fail, so the results of `write!` below say nothing.

/// The whole story: what was asked, who could answer, what was looked up, what happened.
fn text(why: &Value) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} asked for {} at {}", field(why, "caller"), field(why, "asked"), field(why, "at"));
    if let Some(session) = why["session"].as_str() {
        let _ = writeln!(text, "session {}", clean_line(session));
    }
    for message in items(&why["messages"]) {
        let _ = writeln!(text, "  {}: {}", field(message, "role"), said(&message["text"]));
    }
    let features = &why["features"];
    let about = if features["is_counted"] == true { "counted" } else { "guessed" };
    let _ = writeln!(text, "{} tokens, {about}; kept answers: {}", features["input_tokens"], field(why, "cache"));
    context(&mut text, &why["context"]);
    let _ = writeln!(text, "\nwho could answer, by {}:", field(why, "policy"));
    let rows: Vec<Vec<String>> = items(&why["candidates"]).iter().map(candidate).collect();
    let header = ["RANK", "MODEL", "WHERE", "BREAKER", "SCORE", "PROPENSITY", "$/M IN", "$/M OUT", "RULED OUT BY"];
    let _ = writeln!(text, "{}", table(&header, &rows));
    match &why["result"] {
        Value::Null => text.push_str("\nit is not over, or the program ended before it was\n"),
        result => outcome(&mut text, result),
    }
    text
}

fn field(object: &Value, name: &str) -> String {
    word(&object[name])
}

/// A text of the record, or what stands for it.
fn said(text: &Value) -> String {
    match text {
        Value::String(text) => clean(text),
        Value::Null => "(not recorded)".to_owned(),
        hash => format!("({} bytes, BLAKE3 {})", hash["bytes"], field(hash, "blake3")),
    }
}

fn context(text: &mut String, context: &Value) {
    if context.is_null() {
        return;
    }
    let _ = writeln!(text, "\nlooked up, {} of {} tokens:", context["tokens"], context["budget_tokens"]);
    if let Some(reason) = context["degraded"].as_str() {
        let _ = writeln!(text, "  less than it could be: {}", clean_line(reason));
    }
    for (number, passage) in items(&context["taken"]).iter().enumerate() {
        let place = format!("{} in {}", field(passage, "document_id"), field(passage, "collection"));
        let _ = writeln!(text, "  [{}] {place}, score {}", number + 1, passage["score"]);
    }
    for passage in items(&context["refused"]) {
        let (chunk, reason) = (field(passage, "chunk_id"), field(passage, "reason"));
        let _ = writeln!(text, "  left out {chunk}, score {}: {reason}", passage["score"]);
    }
}

fn candidate(candidate: &Value) -> Vec<String> {
    let price = &candidate["price"];
    let fields = ["rank", "model", "location", "breaker", "score", "propensity"].map(|name| field(candidate, name));
    let obstacles = items(&candidate["obstacles"]).iter().map(word).collect::<Vec<_>>().join(", ");
    let obstacles = if obstacles.is_empty() { "-".to_owned() } else { obstacles };
    fields.into_iter().chain([word(&price["input"]), word(&price["output"]), obstacles]).collect()
}

fn outcome(text: &mut String, result: &Value) {
    text.push_str("\nwhat happened:\n");
    for attempt in items(&result["attempts"]) {
        let (started, took) = (&attempt["started_ms"], &attempt["duration_ms"]);
        let _ =
            write!(text, "  {started} ms: {} for {took} ms, {}", field(attempt, "model"), field(attempt, "outcome"));
        if let Some(status) = attempt["status"].as_u64() {
            let _ = write!(text, " ({status})");
        }
        if let Some(reason) = attempt["reason"].as_str() {
            let _ = write!(text, ": {}", clean_line(reason));
        }
        text.push('\n');
    }
    for continued in items(&result["continued"]) {
        let _ = writeln!(text, "  {} went on after {} bytes", field(continued, "model"), continued["after_bytes"]);
    }
    let _ = write!(text, "{} by {}", field(result, "outcome"), field(result, "model"));
    if let Some(finish) = result["finish"].as_str() {
        let _ = write!(text, ", which ended with {}", clean_line(finish));
    }
    let usage = &result["usage"];
    let estimated = if usage["is_estimated"] == true { ", counted here" } else { "" };
    let cost = result["cost"].as_f64().map_or("no price".to_owned(), |cost| format!("${cost}"));
    let (input, output) = (field(usage, "input_tokens"), field(usage, "output_tokens"));
    let _ = writeln!(text, "\n{input} tokens asked and {output} answered{estimated}; {cost}");
    let _ = writeln!(
        text,
        "{} ms in all, {} ms to the first visible piece",
        result["duration_ms"],
        field(result, "first_visible_ms")
    );
    if !result["answer"].is_null() {
        let _ = writeln!(text, "\n{}", said(&result["answer"]));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_turn_is_told_from_beginning_to_end() {
        let why = json!({
            "id": "0198", "caller": "owner", "session": "s1", "at": "2026-01-31T23:59:59.123Z", "request_id": "r",
            "asked": "auto", "messages": [{ "role": "user", "text": "why?" }, { "role": "system", "text": null }],
            "features": { "input_tokens": 12, "is_counted": true }, "policy": "local-first", "cache": "not_used",
            "candidates": [
                { "model": "local/a", "location": "local", "breaker": "open",
                  "obstacles": ["no_tools", "breaker_open"] },
                { "model": "openai/b", "location": "remote", "breaker": "closed", "rank": 0, "score": 1.0,
                  "propensity": 1.0, "price": { "input": 2.0, "output": 8.0 } },
            ],
            "context": {
                "budget_tokens": 1500, "tokens": 80, "degraded": "words only",
                "taken": [{ "chunk_id": "c1", "document_id": "d1", "collection": "default", "score": 0.5 }],
                "refused": [{ "chunk_id": "c2", "score": 0.25, "reason": "near_duplicate" }],
            },
            "result": {
                "outcome": "answered", "model": "openai/b", "finish": "stop",
                "attempts": [
                    { "model": "openai/b", "started_ms": 1.5, "duration_ms": 20.0, "outcome": "server_error",
                      "status": 500, "reason": "it answered 500" },
                    { "model": "openai/b", "started_ms": 90.0, "duration_ms": 200.0, "outcome": "ok" },
                ],
                "usage": { "input_tokens": 92, "output_tokens": 7, "is_estimated": true }, "cost": 0.00024,
                "first_visible_ms": 150.0, "duration_ms": 290.0, "answer": "because", "continued": [],
            },
        });
        insta::assert_snapshot!(text(&why), @r"
        owner asked for auto at 2026-01-31T23:59:59.123Z
        session s1
          user: why?
          system: (not recorded)
        12 tokens, counted; kept answers: not_used

        looked up, 80 of 1500 tokens:
          less than it could be: words only
          [1] d1 in default, score 0.5
          left out c2, score 0.25: near_duplicate

        who could answer, by local-first:
        RANK  MODEL     WHERE   BREAKER  SCORE  PROPENSITY  $/M IN  $/M OUT  RULED OUT BY
        -     local/a   local   open     -      -           -       -        no_tools, breaker_open
        0     openai/b  remote  closed   1.0    1.0         2.0     8.0      -

        what happened:
          1.5 ms: openai/b for 20.0 ms, server_error (500): it answered 500
          90.0 ms: openai/b for 200.0 ms, ok
        answered by openai/b, which ended with stop
        92 tokens asked and 7 answered, counted here; $0.00024
        290.0 ms in all, 150.0 ms to the first visible piece

        because
        ");
    }

    #[test]
    fn a_turn_that_is_not_over_says_so() {
        let why = json!({ "messages": [], "candidates": [], "features": {}, "result": null });
        assert!(text(&why).contains("it is not over"));
        assert_eq!(said(&json!({ "blake3": "ab", "bytes": 7 })), "(7 bytes, BLAKE3 ab)");
    }
}
