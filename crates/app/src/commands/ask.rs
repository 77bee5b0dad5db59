//! `holdfast ask`: a question, answered by a language model from passages of one's own documents.
//!
//! It goes through the same door as every app's questions, so it is on record like theirs. The answer is printed as it
//! comes; where its passages are from is said at the end, from that record.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::Session;
use crate::{
    arguments,
    hint::Advice,
    output::{Form, clean, clean_line, say},
    transport::{Request, Transport, encode},
};

const CHAT: &str = "/v1/chat/completions";
/// The header that names the turn on record.
const INTERACTION: &str = "x-holdfast-interaction";
/// How long providers may take to tell their models, in a process of its own that has only just begun to ask them.
const LOOK: Duration = Duration::from_secs(10);
/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Asks, and prints the answer.
pub async fn run(session: &Session, arguments: arguments::Ask) -> Result<()> {
    session
        .with_models(async |transport| {
            prepare(transport).await?;
            match session.output.form() {
                Form::Json => {
                    let answer = transport.send(Request::post(CHAT, body(&arguments, false))).await.map_err(advised)?;
                    Ok(session.output.json(&answer)?)
                }
                Form::Text => stream(transport, &arguments).await,
            }
        })
        .await
}

/// In a process of its own nobody has been asked anything yet: models that are run here are waited for, and providers that
/// name no models tell them.
async fn prepare(transport: &Transport) -> Result<()> {
    if transport.program().is_none() {
        return Ok(());
    }
    let deadline = tokio::time::Instant::now() + LOOK;
    loop {
        let answer = transport.send(Request::get("/api/v1/providers")).await?;
        let providers = answer["providers"].as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(name) = providers.iter().filter(|it| it["runs_here"] == true).find_map(|it| it["name"].as_str()) {
            say(&format!("no server runs, so {} is started for this question", clean_line(name)));
            // What it cannot do is told by the question itself.
            let test = Request::post(format!("/api/v1/providers/{}/test", encode(name)), json!({}));
            let _tested = transport.send(test).await;
            return Ok(());
        }
        let has_told =
            |it: &Value| it["models"].as_array().is_some_and(|it| !it.is_empty()) || it["trouble"].is_string();
        if providers.iter().all(has_told) || tokio::time::Instant::now() >= deadline {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn body(arguments: &arguments::Ask, is_streamed: bool) -> Value {
    let mut own = Map::new();
    if let Some(session) = &arguments.session {
        own.insert("session".into(), json!(session));
    }
    if !arguments.no_context {
        let mut augment = Map::new();
        if !arguments.collection.is_empty() {
            augment.insert("collections".into(), json!(arguments.collection));
        }
        augment.extend(arguments.budget_tokens.map(|tokens| ("budget_tokens".to_owned(), json!(tokens))));
        own.insert("augment".into(), if augment.is_empty() { json!(true) } else { Value::Object(augment) });
    }
    let mut body = json!({
        "model": arguments.model,
        "messages": [{ "role": "user", "content": arguments.query }],
        "stream": is_streamed,
    });
    if !own.is_empty() {
        body["holdfast"] = Value::Object(own);
    }
    body
}

/// Failures in the shape of OpenAI's interface, as the commands tell theirs.
fn advised(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<crate::transport::Refusal>() {
        Ok(refusal) => refusal.of_openai().into(),
        Err(error) => error,
    }
}

/// Prints the answer as it comes, and then where its passages are from.
async fn stream(transport: &Transport, arguments: &arguments::Ask) -> Result<()> {
    let mut answer = Answer::new(io::stdout());
    let head = transport.stream(Request::post(CHAT, body(arguments, true)), |piece| answer.take(piece)).await;
    let head = head.map_err(advised)?;
    answer.end()?;
    let interaction = head.get(INTERACTION).and_then(|id| id.to_str().ok());
    if let (Some(id), false) = (interaction, arguments.no_context) {
        for line in citations(transport, id).await {
            say(&line);
        }
    }
    Ok(())
}

/// An answer that is being printed: server-sent events (WHATWG HTML, section 9.2) with OpenAI's chunks in them.
struct Answer<W> {
    out: W,
    /// What came after the last whole line.
    rest: Vec<u8>,
    /// Whether the last character printed ended a line.
    is_at_start: bool,
    is_over: bool,
}

impl<W: Write> Answer<W> {
    fn new(out: W) -> Self {
        Self { out, rest: Vec::new(), is_at_start: true, is_over: false }
    }

    fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.rest.extend_from_slice(piece);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.line(String::from_utf8_lossy(&line).trim_end())?;
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { return Ok(()) };
        if data == "[DONE]" {
            self.is_over = true;
            return Ok(());
        }
        let Ok(event) = serde_json::from_str::<Value>(data) else { return Ok(()) };
        if event["error"].is_object() {
            self.break_line()?;
            return Err(broken(&event["error"]));
        }
        // Several choices come only to those who ask for several.
        if let Some(text) = event["choices"][0]["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
            self.out.write_all(clean(text).as_bytes())?;
            self.out.flush()?;
            self.is_at_start = text.ends_with('\n');
        }
        Ok(())
    }

    fn break_line(&mut self) -> Result<()> {
        if !self.is_at_start {
            self.out.write_all(b"\n")?;
            self.out.flush()?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.break_line()?;
        if self.is_over {
            return Ok(());
        }
        Err(Advice::new("the answer broke off", "ask again; the server's log says why").into())
    }
}

/// Why an answer ended in the middle.
fn broken(error: &Value) -> anyhow::Error {
    let told = clean_line(error["message"].as_str().unwrap_or("the answer broke off"));
    match told.split_once("; ") {
        Some((what, remedy)) => Advice::new(what, remedy).into(),
        None => anyhow::anyhow!(told),
    }
}

/// Where the passages of a turn are from: a line for each. What cannot be looked up any more is left out.
async fn citations(transport: &Transport, interaction: &str) -> Vec<String> {
    let why = Request::get(format!("/api/v1/interactions/{}/why", encode(interaction)));
    let Ok(why) = transport.send(why).await else { return Vec::new() };
    let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut lines = Vec::new();
    for (at, passage) in why["context"]["taken"].as_array().into_iter().flatten().enumerate() {
        let (Some(id), Some(collection)) = (passage["document_id"].as_str(), passage["collection"].as_str()) else {
            continue;
        };
        let target = format!("/api/v1/documents/{}?collection={}", encode(id), encode(collection));
        if !known.contains_key(&target) {
            let document = transport.send(Request::get(target.clone())).await.ok();
            known.insert(target.clone(), document.as_ref().map(called));
        }
        if let Some(Some(document)) = known.get(&target) {
            lines.push(format!("[{}] {document}", at + 1));
        }
    }
    lines
}

/// What a document is called, and where it lies.
fn called(document: &Value) -> String {
    let word = |name: &str| clean_line(document[name].as_str().unwrap_or_default());
    let place = if word("path").is_empty() { word("id") } else { word("path") };
    if word("title").is_empty() { place } else { format!("{}: {place}", word("title")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(change: impl FnOnce(&mut arguments::Ask)) -> Value {
        let mut arguments = arguments::Ask {
            query: "why?".into(),
            model: "auto".into(),
            collection: Vec::new(),
            no_context: false,
            session: None,
            budget_tokens: None,
        };
        change(&mut arguments);
        body(&arguments, true)
    }

    #[test]
    fn a_question_is_asked_with_what_is_to_be_looked_up() {
        let plain = asked(|_| {});
        assert_eq!((&plain["holdfast"], &plain["stream"]), (&json!({ "augment": true }), &json!(true)));
        let narrow = asked(|it| (it.collection, it.budget_tokens) = (vec!["notes".into()], Some(900)));
        assert_eq!(narrow["holdfast"], json!({ "augment": { "collections": ["notes"], "budget_tokens": 900 } }));
        let alone = asked(|it| it.no_context = true);
        assert_eq!(alone.get("holdfast"), None);
        let session = asked(|it| (it.no_context, it.session) = (true, Some("s".into())));
        assert_eq!(session["holdfast"], json!({ "session": "s" }));
    }

    fn printed(pieces: &[&str]) -> (String, Result<()>) {
        let mut answer = Answer::new(Vec::new());
        let mut result = Ok(());
        for piece in pieces {
            result = result.and_then(|()| answer.take(piece.as_bytes()));
        }
        let result = result.and_then(|()| answer.end());
        (String::from_utf8(answer.out).unwrap(), result)
    }

    #[test]
    fn an_answer_is_printed_as_it_comes() {
        let (text, result) = printed(&[
            ": ping\n\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\nda",
            "ta: {\"choices\":[{\"delta\":{\"content\":\"Two\\u001b[2J \"}}]}\n",
            "\ndata: {\"choices\":[{\"delta\":{\"content\":\"words\"}}]}\n\ndata: {\"choices\":[],\"usage\":{}}\n\n",
            "data: [DONE]\n\n",
        ]);
        assert_eq!(text, "Two\u{fffd}[2J words\n");
        assert!(result.is_ok());
    }

    #[test]
    fn an_answer_that_breaks_off_says_so() {
        let piece = "data: {\"choices\":[{\"delta\":{\"content\":\"Half\"}}]}\n\n";
        let (text, result) = printed(&[piece]);
        assert_eq!(text, "Half\n");
        assert!(result.unwrap_err().to_string().contains("broke off"));
        let failed = "data: {\"error\":{\"message\":\"it stopped; try again\",\"code\":\"provider_failed\"}}\n\n";
        let (text, result) = printed(&[piece, failed]);
        let error = result.unwrap_err();
        assert_eq!((text.as_str(), error.to_string().as_str()), ("Half\n", "it stopped"));
        assert_eq!(crate::hint::of(&error).as_deref(), Some("try again"));
    }

    #[test]
    fn documents_are_called_by_title_and_place() {
        let document = json!({ "id": "d", "title": "Pinning", "path": "/n/pin.md" });
        assert_eq!(called(&document), "Pinning: /n/pin.md");
        assert_eq!(called(&json!({ "id": "d", "title": "", "path": null })), "d");
    }
}
