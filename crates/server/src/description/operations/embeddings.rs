//! The routes of OpenAI and of text-embeddings-inference, and MCP.

use serde_json::{Value, json};

use super::NEEDS_MODEL;
use crate::{
    description::{Tag, operation::Operation, schema::Schemas},
    embeddings::{
        openai::{EmbeddingsAnswer, EmbeddingsBody},
        tei::{EmbedAllBody, EmbedBody, InfoAnswer, SimilarityBody, SimpleToken, TokenizeBody},
    },
    error::Code,
    routes::Verb::{Get, Post},
};

/// What texts can be refused for.
const TEXTS: &[Code] = &[Code::EmptyInput, Code::TextTooLong, Code::TooManyTexts];
const TRUNCATED: &str = "X-Holdfast-Truncated";

pub(super) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let mut all = vec![
        Operation::new(Post, "/v1/embeddings", "create_embeddings", Tag::Embeddings, "Embed texts, as OpenAI does")
            .about("Texts longer than the model reads are refused unless `truncate` is set. Unknown fields change nothing.")
            .body::<EmbeddingsBody>(
                schemas,
                json!({ "input": ["two texts", "or two thousand"] }),
            )
            .answer::<EmbeddingsAnswer<'static>>(
                schemas,
                200,
                "A vector for each text, in their order",
                json!({
                    "object": "list", "data": [{ "object": "embedding", "index": 0, "embedding": [0.0123, -0.0456] }],
                    "model": "all-MiniLM-L6-v2", "usage": { "prompt_tokens": 4, "total_tokens": 4 },
                }),
            )
            .header(200, TRUNCATED)
            .fails(TEXTS)
            .fails(NEEDS_MODEL),
    ];
    all.extend(tei(schemas));
    all.push(mcp());
    all
}

fn tei(schemas: &mut Schemas) -> [Operation; 5] {
    [
        Operation::new(Post, "/embed", "embed", Tag::Embeddings, "Embed texts, as text-embeddings-inference does")
            .body::<EmbedBody>(schemas, json!({ "inputs": "one text, or a list of them" }))
            .answer::<Vec<Vec<f32>>>(schemas, 200, "A vector for each text", json!([[0.0123, -0.0456]]))
            .header(200, TRUNCATED)
            .fails(TEXTS)
            .fails(NEEDS_MODEL),
        Operation::new(Post, "/embed_all", "embed_all", Tag::Embeddings, "Embed every token of texts")
            .about("At most 32 texts: the answer has a vector for each of their tokens.")
            .body::<EmbedAllBody>(schemas, json!({ "inputs": ["a short text"] }))
            .answer::<Vec<Vec<Vec<f32>>>>(
                schemas,
                200,
                "For each text a vector for each token",
                json!([[[0.0123, -0.0456], [0.0789, 0.0012]]]),
            )
            .header(200, TRUNCATED)
            .fails(TEXTS)
            .fails(NEEDS_MODEL),
        Operation::new(Post, "/similarity", "similarity", Tag::Embeddings, "Compare one text with others")
            .body::<SimilarityBody>(
                schemas,
                json!({ "inputs": { "source_sentence": "pin a package", "sentences": ["a flake lock", "a garden"] } }),
            )
            .answer::<Vec<f32>>(schemas, 200, "The cosine of each, in their order", json!([0.61, 0.08]))
            .header(200, TRUNCATED)
            .fails(TEXTS)
            .fails(NEEDS_MODEL),
        Operation::new(Post, "/tokenize", "tokenize", Tag::Embeddings, "Take texts apart into the model's tokens")
            .about("At most 1 MiB of text at a time.")
            .body::<TokenizeBody>(schemas, json!({ "inputs": "one text, or a list of them" }))
            .answer::<Vec<Vec<SimpleToken<'static>>>>(
                schemas,
                200,
                "The tokens of each text",
                json!([[{ "id": 2028, "text": "one", "special": false, "start": 0, "stop": 3 }]]),
            )
            .fails(TEXTS)
            .fails(NEEDS_MODEL),
        Operation::new(Get, "/info", "info", Tag::Embeddings, "What the default model is and takes")
            .answer::<InfoAnswer<'static>>(
                schemas,
                200,
                "The model and its limits",
                json!({
                    "model_id": "all-MiniLM-L6-v2", "model_sha": "53aa51172d142c89d9012cce15ae4d6c",
                    "model_dtype": "int8", "served_model_name": "all-MiniLM-L6-v2",
                    "model_type": { "embedding": { "pooling": "mean" } }, "max_concurrent_requests": 256,
                    "max_input_length": 256, "max_batch_tokens": 16384, "max_batch_requests": null,
                    "max_client_batch_size": 2048, "auto_truncate": false, "tokenization_workers": 2, "version": "0.1.0",
                }),
            )
            .fails(NEEDS_MODEL),
    ]
}

fn mcp() -> Operation {
    let id = json!({ "type": ["string", "integer", "null"] });
    let message = json!({
        "type": "object",
        "description": "A message of JSON-RPC 2.0, as the Model Context Protocol has them",
        "properties": {
            "jsonrpc": { "const": "2.0" }, "id": { "type": ["string", "integer"] }, "method": { "type": "string" },
            "params": { "type": "object" },
        },
        "required": ["jsonrpc", "method"],
    });
    let answer = json!({
        "type": "object",
        "properties": {
            "jsonrpc": { "const": "2.0" }, "id": id, "result": { "type": "object" }, "error": rpc_error(),
        },
        "required": ["jsonrpc"],
        "oneOf": [{ "required": ["result"] }, { "required": ["error"] }],
    });
    // What the protocol itself refuses, such as a method that it does not have.
    let refused = json!({
        "type": "object",
        "properties": { "jsonrpc": { "const": "2.0" }, "id": id, "error": rpc_error() },
        "required": ["jsonrpc", "error"],
    });
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let listed = json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": [] } });
    Operation::new(Post, "/mcp", "mcp", Tag::Agents, "Speak MCP over streamable HTTP")
        .about(
            "One message, one answer: there are no sessions and no streams, but clients have to accept both \
             `application/json` and `text/event-stream`. `tools/list` has the tools and what each \
             takes; each asks for a scope of its own besides. Failures of tools are tool errors within an answer of 200.",
        )
        .raw_body(message, &[("tools", list)])
        .content(
            200,
            "The answer to a request",
            &json!({ "application/json": { "schema": answer, "examples": { "tools": { "value": listed } } } }),
        )
        .empty(202, "A notification was taken")
        .content(400, "The message was refused", &json!({ "application/json": { "schema": refused } }))
        .content(404, "There is no such method", &json!({ "application/json": { "schema": refused } }))
        .fails(&[Code::NotAcceptable, Code::ForbiddenHost, Code::InvalidRequest])
}

fn rpc_error() -> Value {
    json!({
        "type": "object",
        "properties": { "code": { "type": "integer" }, "message": { "type": "string" } },
        "required": ["code", "message"],
    })
}
