//! `holdfast providers`: servers of language models.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::Session;
use crate::{
    arguments::{Abilities, AddProvider, Providers},
    hint::Advice,
    output::{clean_line, say, table},
    transport::{Request, Transport, encode},
};

/// Adds, lists, tries or removes providers.
pub async fn run(session: &Session, action: Providers) -> Result<()> {
    match &action {
        Providers::Add(arguments) if arguments.gguf.is_some() => {
            session.with_models(async |transport| add(session, transport, arguments).await).await
        }
        Providers::Add(arguments) => {
            session.with_program(async |transport| add(session, transport, arguments).await).await
        }
        Providers::Test { name, model } => {
            session.with_models(async |transport| test(session, transport, name, model.as_deref()).await).await
        }
        Providers::List => session.with_program(async |transport| list(session, transport).await).await,
        Providers::Remove { name } => {
            session
                .with_program(async |transport| {
                    transport.send(Request::delete(target(name))).await?;
                    session.output.value(&json!({ "name": name, "removed": true }), |_| format!("removed {name}"))?;
                    Ok(())
                })
                .await
        }
    }
}

fn target(name: &str) -> String {
    format!("/api/v1/providers/{}", encode(name))
}

async fn add(session: &Session, transport: &Transport, arguments: &AddProvider) -> Result<()> {
    let added = transport.send(Request::post("/api/v1/providers", body(arguments)?)).await?;
    if arguments.gguf.is_none() || arguments.no_wait {
        session.output.value(&added, summary)?;
        return Ok(());
    }
    let name = &arguments.name;
    say(&format!("starting {name}, whose log is logs/model-{name}.log in the data directory"));
    // A model that does not answer stays on record: its server is tried again and again.
    let tested = transport.send(Request::post(format!("{}/test", target(name)), json!({}))).await;
    let now = transport.send(Request::get(target(name))).await?;
    session.output.value(&now, summary)?;
    tested.map(|_| ()).map_err(|error| {
        let remedy = format!(
            "its log says why; it is tried again as long as the server runs, and `holdfast providers test {name}` tells"
        );
        error.context(Advice::new(format!("{name} is on record, and does not answer"), remedy))
    })
}

/// What was put on record, and what it can be asked.
fn summary(provider: &Value) -> String {
    let name = clean_line(provider["name"].as_str().unwrap_or_default());
    let models: Vec<String> = names(provider).collect();
    let mut lines = vec![match models.as_slice() {
        [] => format!("added {name}"),
        models => format!("added {name}: {}", models.join(", ")),
    }];
    if let Some(trouble) = provider["trouble"].as_str() {
        lines.push(format!("but {}", clean_line(trouble)));
    }
    lines.join("\n")
}

fn names(provider: &Value) -> impl Iterator<Item = String> {
    let models = provider["models"].as_array().map(Vec::as_slice).unwrap_or_default();
    models.iter().filter_map(|model| model["name"].as_str()).map(clean_line)
}

async fn test(session: &Session, transport: &Transport, name: &str, model: Option<&str>) -> Result<()> {
    let answer = transport.send(Request::post(format!("{}/test", target(name)), json!({ "model": model }))).await?;
    session.output.value(&answer, |answer| {
        let model = clean_line(answer["model"].as_str().unwrap_or_default());
        let took_s = answer["took_ms"].as_f64().unwrap_or_default() / 1e3;
        format!("{model} answered in {took_s:.1} s: {}", clean_line(answer["answer"].as_str().unwrap_or_default()))
    })?;
    Ok(())
}

async fn list(session: &Session, transport: &Transport) -> Result<()> {
    let answer = transport.send(Request::get("/api/v1/providers")).await?;
    if answer["providers"].as_array().is_some_and(Vec::is_empty) {
        say("`holdfast providers add --help` says how to add one");
    }
    session.output.value(&answer, |answer| {
        let providers = answer["providers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let rows: Vec<Vec<String>> = providers.iter().flat_map(rows).collect();
        if rows.is_empty() {
            return "none".to_owned();
        }
        table(&["PROVIDER", "API", "WHERE", "MODEL", "BREAKER", "CONTEXT", "$/M IN", "$/M OUT", "TROUBLE"], &rows)
    })?;
    Ok(())
}

/// A line for each model, or one for a provider without any.
fn rows(provider: &Value) -> Vec<Vec<String>> {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let row = |model: &Value| {
        let of_provider = ["name", "api", "location"].map(|field| text(&provider[field]));
        let price = &model["price"];
        let of_model = [&model["name"], &model["breaker"], &model["context_tokens"], &price["input"], &price["output"]];
        let all = of_provider.into_iter().chain(of_model.map(text)).chain([text(&provider["trouble"])]);
        all.collect::<Vec<_>>()
    };
    match provider["models"].as_array().map(Vec::as_slice).unwrap_or_default() {
        [] => vec![row(&Value::Null)],
        models => models.iter().map(row).collect(),
    }
}

/// What the API is sent. Paths are as this command was given them, from where it was started.
fn body(arguments: &AddProvider) -> Result<Value> {
    let AddProvider { name, api, url, key_file, ca_file, location, concurrency, gguf, command, .. } = arguments;
    let mut body = Map::new();
    body.insert("name".into(), json!(name));
    body.insert("api".into(), json!(api));
    for (field, value) in [("url", url), ("location", location)] {
        body.extend(value.as_ref().map(|value| (field.to_owned(), json!(value))));
    }
    for (field, path) in [("key_file", key_file), ("ca_file", ca_file), ("gguf", gguf)] {
        if let Some(path) = path {
            body.insert(field.into(), json!(absolute(path)?));
        }
    }
    body.extend(concurrency.map(|places| ("concurrency".to_owned(), json!(places))));
    if !command.is_empty() {
        body.insert("command".into(), json!(command));
    }
    let models = models(arguments)?;
    if !models.is_empty() {
        body.insert("models".into(), json!(models));
    }
    Ok(Value::Object(body))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)?;
    if path.to_str().is_none() {
        return Err(Advice::new(format!("the path {} is not UTF-8", path.display()), "rename it").into());
    }
    Ok(path)
}

/// The models that are named, each with what is said of all of them.
fn models(arguments: &AddProvider) -> Result<Vec<Value>> {
    let abilities = abilities(&arguments.abilities);
    let names = match (arguments.models.as_slice(), &arguments.gguf) {
        ([], _) if abilities.is_empty() => Vec::new(),
        // The usual programs are told to call it so.
        ([], Some(gguf)) if arguments.command.is_empty() => {
            gguf.file_stem().map(|stem| stem.to_string_lossy().into_owned()).into_iter().collect()
        }
        ([], _) => {
            let what = "what models can do was given, and no model";
            return Err(Advice::new(what, "name the models with --model").into());
        }
        (named, _) => named.to_vec(),
    };
    let with_name = |name: String| {
        let mut model = abilities.clone();
        model.insert("name".into(), json!(name));
        Value::Object(model)
    };
    Ok(names.into_iter().map(with_name).collect())
}

fn abilities(given: &Abilities) -> Map<String, Value> {
    let images = given.images.then_some(true).or(given.no_images.then_some(false));
    let said = [
        ("context_tokens", given.context_tokens.map(Value::from)),
        ("max_output_tokens", given.max_output_tokens.map(Value::from)),
        ("images", images.map(Value::from)),
        ("tools", given.no_tools.then(|| Value::from(false))),
        ("continues", given.continues.then(|| Value::from(true))),
    ];
    said.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn given(line: &[&str]) -> Result<Value> {
        let arguments = Arguments::try_parse_from([&["holdfast", "providers", "add"], line].concat())?;
        let Command::Providers(Providers::Add(add)) = arguments.command else { panic!("another command") };
        body(&add)
    }

    #[test]
    fn flags_become_what_the_api_takes() {
        let body = given(&["openai", "--key-file", "/k", "--model", "a", "--model", "b", "--context-tokens", "8000"]);
        let models = json!([{ "name": "a", "context_tokens": 8000 }, { "name": "b", "context_tokens": 8000 }]);
        let expected = json!({ "name": "openai", "api": "openai", "key_file": "/k", "models": models });
        assert_eq!(body.unwrap(), expected);
        let body = given(&["ollama", "--url", "http://127.0.0.1:11434/v1", "--no-tools", "--no-images"]);
        assert!(body.unwrap_err().to_string().contains("no model"));
        let body = given(&["local", "--gguf", "/m/tiny.gguf", "--continues", "--concurrency", "1"]).unwrap();
        assert_eq!(body["models"], json!([{ "name": "tiny", "continues": true }]));
        let body = given(&["local", "--gguf", "/m/tiny.gguf", "--command", "serve", "-m", "{gguf}", "--port={port}"]);
        let body = body.unwrap();
        assert_eq!((&body["command"], body.get("models")), (&json!(["serve", "-m", "{gguf}", "--port={port}"]), None));
    }

    #[test]
    fn what_excludes_another_is_wrong_usage() {
        for line in [
            &["a", "--url", "http://x", "--gguf", "/m"][..],
            &["a", "--command", "x"],
            &["a", "--no-wait"],
            &["a", "--api", "tei"],
            &["a", "--location", "moon"],
            &[],
        ] {
            assert!(given(line).unwrap_err().downcast_ref::<clap::Error>().is_some(), "{line:?}");
        }
    }

    #[test]
    fn a_model_a_line_and_a_line_for_a_provider_without_any() {
        let price = json!({ "input": 2.5, "output": 10.0 });
        let models = json!([{ "name": "p/a", "breaker": "closed", "context_tokens": 8000, "price": price },
                            { "name": "p/b", "breaker": "open" }]);
        let provider = json!({ "name": "p", "api": "openai", "location": "remote", "models": models, "trouble": null });
        let rows = rows(&provider);
        assert_eq!(rows[0], ["p", "openai", "remote", "p/a", "closed", "8000", "2.5", "10.0", "-"]);
        assert_eq!(rows[1][3..], ["p/b", "open", "-", "-", "-", "-"]);
        let silent = json!({ "name": "q", "api": "openai", "location": "local", "models": [], "trouble": "gone" });
        assert_eq!(super::rows(&silent), [["q", "openai", "local", "-", "-", "-", "-", "-", "gone"]]);
        assert_eq!(summary(&silent), "added q\nbut gone");
    }
}
