//! Commands without a server: the program in their own process answers the same way.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::home::{Home, finished};

#[test]
fn documents_come_in_are_found_and_go_without_a_server() -> Result<()> {
    let home = Home::with_documents()?;
    let added = home.json(&["add", "docs"])?;
    assert_eq!(added["jobs"][0]["state"], "done");
    assert_eq!(added["jobs"][0]["progress"]["done"], 3);

    let found = home.json(&["search", "services.nginx.enable", "--limit", "1", "--explain", "--group", "document"])?;
    insta::assert_json_snapshot!(
        found,
        {
            ".took_ms" => "[ms]", ".next_cursor" => "[cursor]", ".results[].document_id" => "[id]",
            ".results[].chunk_id" => "[id]", ".results[].path" => "[path]", ".results[].score" => "[score]",
            ".results[].explain.*.score" => "[score]", ".results[].metadata" => "[metadata]",
        },
        @r##"
        {
          "results": [
            {
              "document_id": "[id]",
              "chunk_id": "[id]",
              "collection": "default",
              "title": "Server",
              "path": "[path]",
              "heading": "Server",
              "snippet": "# Server The option services.nginx.enable starts a web server.",
              "score": "[score]",
              "metadata": "[metadata]",
              "explain": {
                "dense": {
                  "rank": 1,
                  "score": "[score]"
                },
                "lexical": {
                  "rank": 1,
                  "score": "[score]"
                },
                "usefulness": null
              }
            }
          ],
          "next_cursor": "[cursor]",
          "took_ms": "[ms]",
          "degraded": null,
          "cached": false
        }
        "##
    );
    let documents = home.json(&["documents", "list"])?;
    assert_eq!(documents["documents"].as_array().map(Vec::len), Some(3));
    let id = found["results"][0]["document_id"].as_str().context("no id")?;
    let shown = home.json(&["documents", "show", id])?;
    assert!(shown["content"].as_str().is_some_and(|text| text.contains("services.nginx.enable")));

    let source = home.json(&["sources", "list"])?;
    let source = source["sources"][0]["id"].as_str().context("no source")?.to_owned();
    assert_eq!(home.json(&["sources", "remove", &source])?["documents_removed"], 3);
    assert_eq!(home.json(&["search", "nginx"])?["results"], Value::Array(Vec::new()));
    Ok(())
}

#[test]
fn a_search_reads_well() -> Result<()> {
    let home = Home::with_documents()?;
    home.succeed(&["add", "docs"])?;
    let output = home.transcript(&["search", "services.nginx.enable", "--mode", "lexical", "--limit", "1"])?;
    insta::with_settings!({ filters => vec![(r"\d+\.\d{3}", "[score]")] }, {
        insta::assert_snapshot!(output, @r#"
        exit 0
        -- stdout
         1. Server  [score]
            [home]/docs/server.md
            # Server The option services.nginx.enable starts a web server.
        -- stderr
        "#);
    });
    Ok(())
}

#[test]
fn keys_are_made_listed_and_revoked() -> Result<()> {
    let home = Home::new()?;
    let made = home.json(&["keys", "create", "laptop"])?;
    insta::assert_json_snapshot!(made, { ".id" => "[id]", ".key" => "[key]", ".created_at" => "[time]" }, @r#"
    {
      "id": "[id]",
      "name": "laptop",
      "roles": [
        "admin"
      ],
      "collections": null,
      "models": null,
      "addresses": null,
      "created_at": "[time]",
      "expires_at": null,
      "revoked_at": null,
      "last_used_at": null,
      "former_secret_until": null,
      "key": "[key]"
    }
    "#);
    let id = made["id"].as_str().context("no id")?;
    let rotated = home.json(&["keys", "rotate", id, "--grace", "2h"])?;
    assert!(rotated["id"] == made["id"] && rotated["key"] != made["key"]);
    assert!(rotated["former_secret_until"].is_string());
    let roles = ["--role", "reader", "--role", "metrics"];
    let limits = ["--collection", "default", "--model", "local", "--address", "::1", "--expires", "90d"];
    let narrow = home.json(&[&["keys", "create", "app"][..], &roles, &limits].concat())?;
    assert_eq!(narrow["roles"], serde_json::json!(["reader", "metrics"]));
    assert_eq!(narrow["collections"], serde_json::json!(["default"]));
    assert_eq!(narrow["models"], serde_json::json!(["local"]));
    assert!(narrow["expires_at"].is_string());
    assert_eq!(home.run(&["keys", "create", "x", "--role", "root"])?.status.code(), Some(2));
    assert_eq!(home.run(&["keys", "create", "x", "--expires", "soon"])?.status.code(), Some(2));
    home.succeed(&["keys", "revoke", id])?;
    let listed = home.json(&["keys", "list"])?;
    assert_eq!(listed["keys"][0]["name"], "laptop");
    assert!(listed["keys"][0]["revoked_at"].is_string());
    assert_eq!(listed["keys"][0].get("key"), None);
    Ok(())
}

#[test]
fn a_refusal_says_why_and_what_to_do() -> Result<()> {
    let home = Home::new()?;
    insta::assert_snapshot!(home.transcript(&["collections", "show", "nowhere"])?, @r#"
    exit 1
    -- stdout
    -- stderr
    error: there is no collection "nowhere"
    hint: list them with `holdfast collections list`
    "#);
    insta::assert_snapshot!(home.transcript(&["search", "x", "--filter", "{"])?, @r#"
    exit 1
    -- stdout
    -- stderr
    error: the filter is not JSON: EOF while parsing an object at line 1 column 1
    hint: for example --filter '{"field":"metadata.lang","eq":"en"}'
    "#);
    let refused = home.run(&["search", "x", "--limit", "0", "--json"])?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty(), "there is no data");
    let problem: Value = serde_json::from_slice(&refused.stderr)?;
    assert_eq!(problem["code"], "invalid_field");
    Ok(())
}

#[test]
fn wrong_usage_is_told_from_failure() -> Result<()> {
    let home = Home::bare()?;
    for arguments in [&["serach", "x"][..], &["search"], &["search", "x", "--mode", "fuzzy"], &["add"]] {
        let output = home.run(arguments)?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["completions", "bash"]] {
        let output = home.run(arguments)?;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
    Ok(())
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() -> Result<()> {
    let home = Home::bare()?;
    let mut child = home.command(&["config", "reference"]);
    let mut child = child.stdout(std::process::Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    assert_eq!(child.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn the_schema_goes_down_and_up_again() -> Result<()> {
    let home = Home::new()?;
    let before = home.json(&["db", "status"])?;
    assert_eq!(before["version"], before["newest"]);
    assert_eq!(home.json(&["db", "down", "--to", "0"])?["version"], 0);
    assert_eq!(home.json(&["db", "up"])?["version"], before["newest"]);
    insta::assert_snapshot!(home.transcript(&["db", "up", "--to", "99"])?, @r#"
    exit 1
    -- stdout
    -- stderr
    error: version 99 is not up from here
    hint: give a version from 7 to 7
    "#);
    // The record of turns has a schema of its own.
    assert_eq!(before["events"]["version"], before["events"]["newest"]);
    let down = home.json(&["db", "down", "--to", "0", "--events"])?;
    assert_eq!((&down["events"]["version"], &down["version"]), (&serde_json::json!(0), &before["newest"]));
    assert_eq!(home.json(&["db", "up"])?["events"]["version"], before["events"]["newest"]);
    let _server = home.up(&[])?;
    let refused = home.run(&["db", "status"])?;
    assert_eq!(refused.status.code(), Some(1), "a server has it");
    Ok(())
}

#[test]
fn models_are_listed_and_verified_and_damage_is_told() -> Result<()> {
    let home = Home::new()?;
    let listed = home.json(&["models", "list"])?;
    let models = listed["models"].as_array().context("no models")?;
    let tiny = models.iter().find(|model| model["name"] == crate::home::MODEL).context("no tiny model")?;
    assert_eq!(tiny["installation"], "complete");
    home.succeed(&["models", "verify"])?;
    let weights = home.data_dir().join("models").join(crate::home::MODEL).join("model.safetensors");
    let mut bytes = std::fs::read(&weights)?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes)?;
    assert_eq!(home.run(&["models", "verify"])?.status.code(), Some(1));
    Ok(())
}

#[test]
fn without_a_model_words_are_still_found() -> Result<()> {
    let home = Home::bare()?;
    let output = finished(home.command(&["search", "anything"]))?;
    assert_eq!(output.status.code(), Some(0), "{}", home.told(&output));
    let output = finished(home.command(&["search", "anything", "--mode", "dense"]))?;
    assert_eq!(output.status.code(), Some(1), "{}", home.told(&output));
    Ok(())
}
