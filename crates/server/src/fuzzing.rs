//! What the fuzzer calls: the parsers of request bodies and MCP messages, with what must hold of every input.
//!
//! Exists in tests and for `cargo xtask fuzz` only. A broken promise is a panic, which is how a fuzzer hears of it. What a
//! request does is not its matter: nothing here has a server.

use std::sync::LazyLock;

use axum::body::Body;
use http_body_util::BodyExt;
use rmcp::{
    RoleServer,
    model::{ClientRequest, JsonRpcMessage},
    transport::Transport,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    Config, api, chat,
    distinct::{Distinct, counting},
    embeddings,
    error::Failure,
    input::{check_depth, parse},
    mcp::{
        self,
        lines::{Bounds, Lines},
    },
};

/// Longer than any answer about a body should be: what it repeats of the input is a name, and cut.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// What a line of MCP may have here.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A body, as every route that takes one would read it.
pub fn body(input: &[u8]) {
    if let Err(failure) = check_depth(input, Config::default().max_json_depth) {
        return told(failure);
    }
    // What passed by depth does not make the parser give up over depth.
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(input) {
        assert!(!error.to_string().contains("recursion"), "{error}");
    }
    read::<api::search::SearchBody>(input);
    read::<api::documents::PutBody>(input);
    read::<api::sources::AddBody>(input);
    read::<api::collections::CreateBody>(input);
    read::<api::collections::ReembedBody>(input);
    read::<api::keys::CreateBody>(input);
    read::<api::models::ConnectBody>(input);
    read::<api::doctor::DoctorBody>(input);
    read::<embeddings::openai::EmbeddingsBody>(input);
    read::<embeddings::tei::EmbedBody>(input);
    read::<embeddings::tei::EmbedAllBody>(input);
    read::<embeddings::tei::TokenizeBody>(input);
    read::<embeddings::tei::SimilarityBody>(input);
    match counting(|| parse::<Distinct>(input)).0 {
        Ok(Distinct(body)) => chat::read(&body).for_each(told),
        Err(failure) => told(failure),
    }
}

fn read<T: DeserializeOwned>(input: &[u8]) {
    if let Err(failure) = counting(|| parse::<T>(input)).0 {
        told(failure);
    }
}

/// A refusal is an answer that can be written down, and no longer than it need be.
fn told(failure: Failure) {
    let response = axum::response::IntoResponse::into_response(failure);
    assert!(response.status().is_client_error(), "{}", response.status());
    let body = RUNTIME.as_ref().map(|runtime| runtime.block_on(Body::new(response.into_body()).collect()));
    if let Some(Ok(body)) = body {
        let body = body.to_bytes();
        assert!(body.len() <= MESSAGE_BYTES_MAX, "an answer of {} bytes", body.len());
        assert!(serde_json::from_slice::<IgnoredAny>(&body).is_ok(), "an answer that is not JSON");
    }
}

static RUNTIME: LazyLock<Option<Runtime>> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().ok());

/// A stream of MCP messages, a line each: every line is a message, answered with an error, or passed over.
pub fn mcp(input: &[u8]) {
    if let Some(runtime) = RUNTIME.as_ref() {
        runtime.block_on(stream(input));
    }
}

async fn stream(input: &[u8]) {
    let bounds = Bounds { bytes: LINE_BYTES_MAX, depth: Config::default().max_json_depth };
    let mut transport = Lines::new(std::io::Cursor::new(input.to_vec()), tokio::io::sink(), bounds);
    let lines = input.iter().filter(|byte| **byte == b'\n').count() + 1;
    let mut messages = 0;
    while let Some(message) = transport.receive().await {
        messages += 1;
        assert!(messages <= lines, "more messages than lines");
        // What was read can be written and read again. It may lose what its method does not have; after that it changes no
        // more.
        let written = rewritten(serde_json::to_value(&message).unwrap_or_default());
        assert!(written.is_some(), "a message that cannot be read again");
        assert_eq!(written.clone().and_then(rewritten), written, "a message that changes whenever it is written");
        if let JsonRpcMessage::Request(request) = message
            && let ClientRequest::CallToolRequest(call) = request.request
        {
            let arguments = call.params.arguments.unwrap_or_default();
            mcp::tools::TOOLS.iter().for_each(|(name, _)| mcp::tools::check_arguments(name, arguments.clone()));
        }
    }
}

/// What is written of a message that was read.
fn rewritten(message: Value) -> Option<Value> {
    let message = serde_json::from_value::<rmcp::service::RxJsonRpcMessage<RoleServer>>(message).ok()?;
    serde_json::to_value(message).ok()
}

#[cfg(test)]
mod tests {
    use holdfast_testkit::seeds::replay;

    #[test]
    fn what_the_fuzzer_begins_with_breaks_no_promise() {
        replay("body", super::body);
        replay("mcp", super::mcp);
    }
}
