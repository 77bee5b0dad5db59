//! `holdfast search`: a question, and the best places in the documents.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{Session, add};
use crate::{
    arguments::{self, Group, Mode},
    hint::Advice,
    output::{Output, clean, clean_line, say},
    transport::{Request, Transport, encode},
};

/// Where is searched when nothing is said about it.
const DEFAULT_COLLECTION: &str = "default";

/// Searches, and prints what was found.
pub async fn run(session: &Session, arguments: arguments::Search) -> Result<()> {
    let body = body(&arguments)?;
    let output = session.output;
    session
        .with_program(async |transport| {
            if !matches!(arguments.mode, Mode::Lexical) {
                prepare(transport, &arguments).await?;
            }
            let answer = transport.send(Request::post("/api/v1/search", body)).await?;
            if let Some(reason) = answer["degraded"].as_str() {
                say(&format!("note: the answer is less than it should be: {}", clean_line(reason)));
            }
            output.value(&answer, |answer| text(answer, &arguments.query, output))?;
            Ok(())
        })
        .await
}

/// In a process of its own a search has to wait for the models of what it searches. Without them it can still go by
/// words, if it may.
async fn prepare(transport: &Transport, arguments: &arguments::Search) -> Result<()> {
    let Some(program) = transport.program() else { return Ok(()) };
    let default = [DEFAULT_COLLECTION.to_owned()];
    let collections = if arguments.collection.is_empty() { &default[..] } else { &arguments.collection };
    for name in collections {
        let target = format!("/api/v1/collections/{}", encode(name));
        // One that is not there is for the search to complain of.
        let Ok(collection) = transport.send(Request::get(target)).await else { continue };
        let Some(model) = collection["model"].as_str() else { continue };
        match add::await_model(&program.models, model).await {
            Ok(()) => {}
            Err(error) if matches!(arguments.mode, Mode::Dense) => return Err(error),
            Err(error) => tracing::warn!("{error}"),
        }
    }
    Ok(())
}

fn body(arguments: &arguments::Search) -> Result<Value> {
    let mut body = Map::new();
    body.insert("query".into(), json!(arguments.query));
    body.insert("mode".into(), json!(mode(arguments.mode)));
    body.insert("limit".into(), json!(arguments.limit));
    body.insert("explain".into(), json!(arguments.explain));
    body.insert("group".into(), json!(group(arguments.group)));
    if !arguments.collection.is_empty() {
        body.insert("collections".into(), json!(arguments.collection));
    }
    if let Some(filter) = &arguments.filter {
        let advice =
            || Advice::new("the filter is not JSON", r#"for example --filter '{"field":"metadata.lang","eq":"en"}'"#);
        body.insert("filter".into(), serde_json::from_str(filter).with_context(advice)?);
    }
    if let Some(min_score) = arguments.min_score {
        body.insert("min_score".into(), json!(min_score));
    }
    if let Some(cursor) = &arguments.cursor {
        body.insert("cursor".into(), json!(cursor));
    }
    Ok(Value::Object(body))
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Hybrid => "hybrid",
        Mode::Dense => "dense",
        Mode::Lexical => "lexical",
    }
}

fn group(group: Group) -> &'static str {
    match group {
        Group::Chunk => "chunk",
        Group::Document => "document",
    }
}

fn text(answer: &Value, query: &str, output: Output) -> String {
    let results = answer["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    if results.is_empty() {
        return "nothing found".to_owned();
    }
    let found: Vec<String> =
        results.iter().enumerate().map(|(at, result)| one(at + 1, result, query, output)).collect();
    let mut text = found.join("\n\n");
    if let Some(cursor) = answer["next_cursor"].as_str() {
        text.push_str(&output.faint(&format!("\n\nmore: --cursor {cursor}")));
    }
    text
}

/// Where a result stands, what it is called, where it lies, and what it says.
fn one(rank: usize, result: &Value, query: &str, output: Output) -> String {
    let field = |name: &str| clean_line(result[name].as_str().unwrap_or_default());
    let (title, heading) = (field("title"), field("heading"));
    // A heading often begins with the title already.
    let name = match (title.is_empty(), heading.is_empty()) {
        (_, true) => title,
        (true, _) => heading,
        _ if heading.starts_with(&title) => heading,
        _ => format!("{title} › {heading}"),
    };
    let score = result["score"].as_f64().unwrap_or_default();
    let mut lines = vec![format!("{rank:>2}. {}  {}", output.strong(&name), output.faint(&format!("{score:.3}")))];
    let path = field("path");
    lines.push(output.faint(&format!("    {}", if path.is_empty() { field("document_id") } else { path })));
    if let Some(explained) = explained(&result["explain"]) {
        lines.push(format!("    {explained}"));
    }
    let snippet = clean(result["snippet"].as_str().unwrap_or_default());
    lines.extend(
        snippet
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| format!("    {}", output.emphasise(line.trim_end(), query))),
    );
    lines.join("\n")
}

fn explained(explain: &Value) -> Option<String> {
    let place = |list: &str| {
        let score = explain[list]["score"].as_f64()?;
        let rank = explain[list]["rank"].as_u64().map_or("not ranked".to_owned(), |rank| format!("rank {rank}"));
        Some(format!("{list}: {rank}, score {score:.3}"))
    };
    let places: Vec<String> = ["dense", "lexical"].into_iter().filter_map(place).collect();
    (!places.is_empty()).then(|| places.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Form;

    #[test]
    fn a_result_reads_well() {
        let answer = json!({
            "results": [{
                "document_id": "d1", "collection": "default", "title": "Pinning", "path": "/docs/pin.md",
                "heading": "Pinning › Flakes", "snippet": "A flake\n\npins \u{1b}[31mnixpkgs.", "score": 0.87654,
                "explain": { "dense": { "rank": 1, "score": 0.5 }, "lexical": null },
            }],
            "next_cursor": "c1",
        });
        insta::assert_snapshot!(text(&answer, "pin nixpkgs", Output::new(Form::Text)), @r"
         1. Pinning › Flakes  0.877
            /docs/pin.md
            dense: rank 1, score 0.500
            A flake
            pins �[31mnixpkgs.

        more: --cursor c1
        ");
        assert_eq!(text(&json!({ "results": [] }), "x", Output::new(Form::Text)), "nothing found");
    }
}
