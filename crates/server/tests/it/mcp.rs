//! MCP as messages; real clients are tested in `tests/clients`.

use anyhow::{Context, Result, ensure};
use axum::http::{Method, header};
use serde_json::{Value, json};

use crate::house::{House, Reply};

async fn rpc(house: &House, body: impl Into<String>) -> Result<Reply> {
    let request = house
        .request(Method::POST, "/mcp")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25");
    house.send(request.body(body.into().into())?).await
}

async fn call(house: &House, tool: &str, arguments: Value) -> Result<Value> {
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                          "params": { "name": tool, "arguments": arguments } });
    let answer = rpc(house, message.to_string()).await?.expect(200)?;
    ensure!(answer["id"] == 1, "{answer}");
    Ok(answer)
}

/// A call that has to succeed: its structured result and its text.
async fn done(house: &House, tool: &str, arguments: Value) -> Result<(Value, String)> {
    let answer = call(house, tool, arguments).await?;
    let result = &answer["result"];
    ensure!(result["isError"] != true, "{answer}");
    let text = result["content"][0]["text"].as_str().context("no text")?.to_owned();
    Ok((result["structuredContent"].clone(), text))
}

/// A call that has to fail: its code.
async fn failed(house: &House, tool: &str, arguments: Value) -> Result<String> {
    let answer = call(house, tool, arguments).await?;
    let result = &answer["result"];
    ensure!(result["isError"] == true, "{answer}");
    let problem = &result["structuredContent"];
    let (code, id) = (problem["code"].as_str().context("no code")?, problem["error_id"].as_str().context("no id")?);
    let text = result["content"][0]["text"].as_str().context("no text")?;
    ensure!(text.starts_with(code) && text.contains(id), "{answer}");
    Ok(code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_five_tools_work_together() -> Result<()> {
    let house = House::new().await?;
    let (added, text) = done(
        &house,
        "add_document",
        json!({
            "content": "# Moon\n\nThe moon is full tonight.", "path": "notes/moon.md", "metadata": { "kind": "note" },
        }),
    )
    .await?;
    ensure!(added["status"] == "indexed" && added["revision"] == 1 && added["chunks"] == 1, "{added}");
    let id = added["document_id"].as_str().context("no id")?;
    ensure!(text.contains(id), "{text}");

    let filter = json!({ "field": "metadata.kind", "eq": "note" });
    let (found, text) = done(&house, "search", json!({ "query": "full moon", "filter": filter, "limit": 3 })).await?;
    ensure!(found["results"][0]["document_id"] == id, "{found}");
    ensure!(text.contains("Moon") && text.contains("notes/moon.md") && text.contains(id), "{text}");

    let fetch = json!({ "document_id": id, "max_chars": 6 });
    let (first, text) = done(&house, "fetch_document", fetch).await?;
    ensure!(first["text"] == "# Moon" && first["next_offset"] == 6, "{first}");
    ensure!(text.contains("offset 6"), "{text}");
    let (rest, _) = done(&house, "fetch_document", json!({ "document_id": id, "offset": 6 })).await?;
    ensure!(rest["text"] == "\n\nThe moon is full tonight." && rest.get("next_offset").is_none(), "{rest}");

    let (collections, _) = done(&house, "list_collections", json!({})).await?;
    ensure!(collections["collections"][0]["documents"] == 1, "{collections}");
    let (status, text) = done(&house, "status", json!({})).await?;
    ensure!(status["status"] == "ready" && text.contains("embedding: ready"), "{status} {text}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_the_codes_of_the_api() -> Result<()> {
    let house = House::new().await?;
    house.furnish().await?;
    for (tool, arguments, code) in [
        ("search", json!({ "query": "" }), "invalid_field"),
        ("search", json!({}), "invalid_field"),
        ("search", json!({ "query": "x", "limit": 51 }), "invalid_field"),
        ("search", json!({ "query": "x", "colour": 1 }), "invalid_field"),
        ("search", json!({ "query": "x", "collections": ["nowhere"] }), "collection_not_found"),
        ("search", json!({ "query": "x", "filter": { "field": "nothing", "eq": 1 } }), "invalid_filter"),
        ("fetch_document", json!({ "document_id": "nothing" }), "document_not_found"),
        ("fetch_document", json!({ "document_id": "flake", "offset": -1 }), "invalid_field"),
        ("add_document", json!({ "content": "x", "path": "../x" }), "invalid_field"),
        ("status", json!({ "verbose": true }), "invalid_field"),
    ] {
        let got = failed(&house, tool, arguments.clone()).await?;
        ensure!(got == code, "{tool} {arguments}: {got}");
    }
    let unknown = call(&house, "drop_everything", json!({})).await?;
    ensure!(unknown["error"]["code"] == -32_602, "{unknown}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused_with_a_code() -> Result<()> {
    let house = House::new().await?;
    for (body, code, word) in [
        ("{", -32_700, "invalid_json"),
        ("", -32_700, "invalid_json"),
        ("[]", -32_600, "invalid_request"),
        ("{}", -32_600, "invalid_request"),
        ("\"x\"", -32_600, "invalid_request"),
    ] {
        let answer = rpc(&house, body).await?;
        let told = answer.expect(400)?;
        ensure!(told["error"]["code"] == code && told["error"]["data"]["code"] == word, "{body}: {told}");
        ensure!(told["error"]["data"]["error_id"].is_string(), "{told}");
    }
    let deep = rpc(&house, "[".repeat(1_000_000)).await?.expect(400)?;
    ensure!(deep["error"]["data"]["code"] == "json_too_deep", "{deep}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_or_page_may_not_call() -> Result<()> {
    let house = House::new().await?;
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    for (name, value, status) in [
        ("host", "evil.example", 403),
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("host", "127.0.0.1:8088", 200),
        ("host", "[::1]:8088", 200),
        ("origin", "http://localhost", 200),
        ("origin", "http://localhost:3000", 403),
    ] {
        let mut request = house
            .request(Method::POST, "/mcp")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(list.clone().into())?;
        let name = header::HeaderName::from_static(name);
        request.headers_mut().insert(name.clone(), header::HeaderValue::from_static(value));
        let reply = house.send(request).await?;
        if status == 200 {
            let tools = reply.expect(200).with_context(|| format!("{name}: {value}"))?;
            ensure!(tools["result"]["tools"].as_array().map(Vec::len) == Some(8), "{tools}");
        } else {
            reply.failure("/mcp", 403, "forbidden_host").with_context(|| format!("{name}: {value}"))?;
        }
    }
    let request = house.request(Method::POST, "/mcp").header(header::CONTENT_TYPE, "application/json");
    house.send(request.body(list.into())?).await?.failure("/mcp", 406, "not_acceptable")?;
    house.close().await
}
