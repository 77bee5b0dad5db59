//! The routes of OpenAI and Anthropic for language models.
//!
//! Their bodies go on, to providers that speak the same, with every field they have; what is written down here is what
//! this server itself reads.

use holdfast_coordinator::{BUDGET_TOKENS_MAX, PASSAGES_MAX};
use serde_json::{Value, json};

use crate::{
    api::augment::{BUDGET_TOKENS_DEFAULT, COLLECTIONS_MAX, PASSAGES_DEFAULT},
    chat::{
        MODEL_CHARS_MAX, OwnAnswer, SESSION_ID,
        anthropic::{self, CountAnswer},
        models::{ListAnswer, ModelAnswer},
        openai,
    },
    description::{
        COLLECTION_NAME, NAME, NOT_BLANK, QUERY_CHARS_MAX, Tag, object, operation::Operation, schema::Schemas,
    },
    error::Code,
    routes::Verb::{Get, Post},
};

/// What a turn can fail with, whichever face it comes through.
const TURN: &[Code] = &[
    Code::NoProvider,
    Code::ModelNotFound,
    Code::NoModelFits,
    Code::NotExpressible,
    Code::ContextTooLong,
    Code::BudgetExceeded,
    Code::PriceMissing,
    Code::SessionNotFound,
    Code::SessionBusy,
    Code::SessionFull,
    Code::NotCached,
    Code::ProviderFailed,
    Code::ProviderTimeout,
    Code::ProviderOverloaded,
    Code::ProviderRateLimited,
    Code::ProviderRejected,
    Code::ContentFiltered,
];
/// What counting can fail with.
const COUNTING: &[Code] = &[
    Code::NoProvider,
    Code::ModelNotFound,
    Code::NotExpressible,
    Code::ProviderFailed,
    Code::ProviderTimeout,
    Code::ProviderOverloaded,
    Code::ProviderRateLimited,
    Code::ProviderRejected,
];
/// What looking something up for it can.
const LOOKED_UP: &[Code] = &[Code::CollectionNotFound, Code::ModelNotReady, Code::IndexUnavailable];
/// What an answer says in headers.
const HEADERS: [&str; 6] = [
    "X-Holdfast-Interaction",
    "X-Holdfast-Model",
    "X-Holdfast-Cache",
    "X-Holdfast-Context",
    "X-Holdfast-Session",
    "X-Holdfast-Dropped",
];
const ABOUT: &str = "The body goes to a provider that speaks the same as it came; one that speaks otherwise gets what can be \
    said to it, hints that it has no place for are named in `X-Holdfast-Dropped`, and what bears meaning and cannot be said \
    to any is refused with `not_expressible`. Of the fields, those below are read here. `model` is a model, \
    `provider/model`, or an alias: `auto`, `local`, `remote`. A stream ends as clients expect, or with an event that has \
    the same error that an answer without a stream would be.";

pub(super) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    vec![models(schemas), model_shown(schemas), completions(schemas), messages(schemas), count(schemas)]
}

fn model_named(id: &str, owner: &str, kind: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 1_760_000_000, "owned_by": owner, "kind": kind })
}

fn models(schemas: &mut Schemas) -> Operation {
    Operation::new(
        Get,
        "/v1/models",
        "list_all_models",
        Tag::LanguageModels,
        "List the models there are, as OpenAI does",
    )
    .about("Language models and aliases that the key may ask, and the embedding models that are here.")
    .answer::<ListAnswer>(
        schemas,
        200,
        "Their names",
        json!({ "object": "list", "data": [
                model_named("auto", "holdfast", "chat"), model_named("local/qwen3-8b", "local", "chat"),
                model_named("all-MiniLM-L6-v2", "holdfast", "embedding"),
            ] }),
    )
}

fn model_shown(schemas: &mut Schemas) -> Operation {
    Operation::new(Get, "/v1/models/{*name}", "show_any_model", Tag::LanguageModels, "Show a model, as OpenAI does")
        .about("Slashes in the name may stand as they are.")
        .segment("name", "A model, `provider/model`, or an alias", "local/qwen3-8b")
        .answer::<ModelAnswer>(schemas, 200, "The model", model_named("local/qwen3-8b", "local", "chat"))
        .fails(&[Code::ModelNotFound])
}

fn completions(schemas: &mut Schemas) -> Operation {
    let asked = json!({
        "model": "auto", "messages": [{ "role": "user", "content": "How do I pin a package?" }],
        "holdfast": { "augment": true },
    });
    let answered = json!({
        "id": "chatcmpl-0198c1f7f0b97c2e8f0e5d5f0d6a1c11", "object": "chat.completion", "created": 1_760_000_000,
        "model": "qwen3-8b", "usage": { "prompt_tokens": 412, "completion_tokens": 18, "total_tokens": 430 },
        "choices": [{
            "index": 0, "logprobs": null, "finish_reason": "stop",
            "message": { "role": "assistant", "content": "With the lock file of a flake [1].", "refusal": null },
        }],
        "holdfast": own_answer(),
    });
    let operation = Operation::new(
        Post,
        "/v1/chat/completions",
        "create_chat_completion",
        Tag::LanguageModels,
        "Ask a language model, as OpenAI does",
    );
    turn(operation.about(ABOUT), completion_body(), asked, completion_answer(schemas), answered)
}

fn messages(schemas: &mut Schemas) -> Operation {
    let asked = json!({
        "model": "auto", "max_tokens": 512, "messages": [{ "role": "user", "content": "How do I pin a package?" }],
    });
    let answered = json!({
        "id": "msg_0198c1f7f0b97c2e8f0e5d5f0d6a1c11", "type": "message", "role": "assistant", "model": "qwen3-8b",
        "content": [{ "type": "text", "text": "With the lock file of a flake." }], "stop_reason": "end_turn",
        "stop_sequence": null, "usage": { "input_tokens": 12, "output_tokens": 9 },
    });
    let operation = Operation::new(
        Post,
        "/v1/messages",
        "create_message",
        Tag::LanguageModels,
        "Ask a language model, as Anthropic does",
    );
    turn(
        operation.about(ABOUT),
        message_body(&["model", "max_tokens", "messages"]),
        asked,
        message_answer(schemas),
        answered,
    )
}

fn count(schemas: &mut Schemas) -> Operation {
    let asked = json!({ "model": "auto", "messages": [{ "role": "user", "content": "How do I pin a package?" }] });
    Operation::new(
        Post,
        "/v1/messages/count_tokens",
        "count_message_tokens",
        Tag::LanguageModels,
        "Count the tokens of a message, as Anthropic does",
    )
    .about("By the provider's own count where it has one, else by a tokenizer that is near to most.")
    .raw_body(message_body(&["model", "messages"]), &[("example", asked)])
    .answer::<CountAnswer>(schemas, 200, "How many there are", json!({ "input_tokens": 12 }))
    .fails(COUNTING)
}

/// What both ways to ask have in common.
fn turn(operation: Operation, body: Value, asked: Value, answer: Value, answered: Value) -> Operation {
    let examples = json!({ "example": { "value": answered } });
    let events = "Server-sent events, where `stream` is true: one for each piece of the answer, each sent by itself";
    let content = json!({
        "application/json": { "schema": answer, "examples": examples },
        "text/event-stream": { "schema": { "type": "string", "description": events } },
    });
    let operation = operation
        .asks(
            "X-Holdfast-Session",
            "The session that the turn belongs to, where the body does not say so",
            json!({ "type": "string", "pattern": SESSION_ID }),
        )
        .asks(
            "X-Holdfast-Augment",
            "`true`, or the collections to look in, where the body does not say so",
            json!({ "type": "string" }),
        )
        .asks(
            "Cache-Control",
            "Whether a kept answer will do, and whether this one is kept: RFC 9111, section 5.2.1",
            json!({ "type": "string" }),
        )
        .raw_body(body, &[("example", asked)])
        .content(200, "The answer: whole, or as it comes", &content)
        .fails(TURN)
        .fails(LOOKED_UP);
    HEADERS.into_iter().fold(operation, |operation, name| operation.header(200, name))
}

fn own() -> Value {
    let terms = json!({
        "type": "object",
        "properties": {
            "collections": {
                "description": "Where; the default collection where absent",
                "type": ["array", "null"], "items": { "type": "string", "pattern": COLLECTION_NAME },
                "maxItems": COLLECTIONS_MAX,
            },
            "query": {
                "description": "For what; the user's last message where absent",
                "type": ["string", "null"], "maxLength": QUERY_CHARS_MAX, "pattern": NOT_BLANK,
            },
            "budget_tokens": {
                "description": format!("Tokens that the passages may take; {BUDGET_TOKENS_DEFAULT} where absent"),
                "type": ["integer", "null"], "minimum": 1, "maximum": BUDGET_TOKENS_MAX,
            },
            "passages": {
                "description": format!("Passages at most; {PASSAGES_DEFAULT} where absent"),
                "type": ["integer", "null"], "minimum": 1, "maximum": PASSAGES_MAX,
            },
        },
        "additionalProperties": false,
    });
    json!({
        "description": "What is asked of this server; it goes no further",
        "type": ["object", "null"],
        "properties": {
            "session": {
                "description": "The session that the turn belongs to",
                "type": ["string", "null"], "pattern": SESSION_ID,
            },
            "augment": {
                "description": "Whether something is looked up for the model, and what",
                "anyOf": [{ "type": ["boolean", "null"] }, terms],
            },
        },
        "additionalProperties": false,
    })
}

fn own_answer() -> Value {
    json!({
        "interaction": "0198c1f7-f0b9-7c2e-8f0e-5d5f0d6a1c11", "model": "local/qwen3-8b",
        "citations": [{
            "number": 1, "collection": "default", "document_id": "flake", "chunk_id": "flake-0", "title": "Flakes",
            "path": "nix/flake.md", "heading": "Flakes", "score": 0.82, "tokens": 61,
        }],
    })
}

fn model() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": MODEL_CHARS_MAX, "pattern": NAME })
}

/// A number of something, or null.
fn count_of(least: i64, most: i64) -> Value {
    json!({ "type": ["integer", "null"], "minimum": least, "maximum": most })
}

fn number(least: f64, most: f64) -> Value {
    json!({ "type": ["number", "null"], "minimum": least, "maximum": most })
}

fn completion_body() -> Value {
    let flag = json!({ "type": ["boolean", "null"] });
    let tokens = count_of(1, i64::from(u32::MAX));
    let penalty = number(-openai::request::PENALTY_MAX, openai::request::PENALTY_MAX);
    let roles = ["system", "developer", "user", "assistant", "tool"];
    let several = json!({ "type": "array", "items": { "type": "object" } });
    let message = json!({
        "type": "object",
        "properties": {
            "role": { "enum": roles },
            "content": { "anyOf": [{ "type": ["string", "null"] }, several] },
            "tool_calls": { "anyOf": [{ "type": "null" }, several] },
            "tool_call_id": { "type": ["string", "null"] },
        },
        "required": ["role"],
    });
    let fields = object([
        ("model", model()),
        ("messages", json!({ "type": "array", "items": message, "minItems": 1 })),
        ("tools", json!({ "anyOf": [{ "type": "null" }, several] })),
        ("tool_choice", json!({ "type": ["string", "object", "null"] })),
        ("parallel_tool_calls", flag.clone()),
        ("response_format", json!({ "type": ["object", "null"] })),
        ("max_tokens", tokens.clone()),
        ("max_completion_tokens", tokens),
        ("temperature", number(0.0, openai::request::TEMPERATURE_MAX)),
        ("top_p", number(0.0, 1.0)),
        (
            "stop",
            json!({ "anyOf": [{ "type": ["string", "null"] }, { "type": "array", "items": { "type": "string" } }] }),
        ),
        ("seed", json!({ "type": ["integer", "null"] })),
        ("frequency_penalty", penalty.clone()),
        ("presence_penalty", penalty),
        ("n", count_of(1, openai::request::ANSWERS_MAX)),
        ("reasoning_effort", json!({ "type": ["string", "null"] })),
        ("stream", flag),
        ("stream_options", json!({ "type": ["object", "null"] })),
        ("holdfast", own()),
    ]);
    json!({ "type": "object", "properties": fields, "required": ["model", "messages"] })
}

fn message_body(required: &[&str]) -> Value {
    let blocks = json!({ "type": "array", "items": { "type": "object" } });
    let said = json!({ "anyOf": [{ "type": "string" }, blocks] });
    let message = json!({
        "type": "object",
        "properties": { "role": { "enum": ["user", "assistant"] }, "content": said },
        "required": ["role", "content"],
    });
    let fields = object([
        ("model", model()),
        ("messages", json!({ "type": "array", "items": message, "minItems": 1 })),
        ("system", json!({ "anyOf": [{ "type": ["string", "null"] }, blocks] })),
        ("max_tokens", count_of(1, i64::from(u32::MAX))),
        ("tools", json!({ "anyOf": [{ "type": "null" }, blocks] })),
        ("tool_choice", json!({ "type": ["object", "null"] })),
        ("temperature", number(0.0, anthropic::request::TEMPERATURE_MAX)),
        ("top_p", number(0.0, 1.0)),
        ("top_k", count_of(0, i64::from(u32::MAX))),
        ("stop_sequences", json!({ "type": ["array", "null"], "items": { "type": "string" } })),
        ("thinking", json!({ "type": ["object", "null"] })),
        ("stream", json!({ "type": ["boolean", "null"] })),
        ("holdfast", own()),
    ]);
    json!({ "type": "object", "properties": fields, "required": required })
}

fn completion_answer(schemas: &mut Schemas) -> Value {
    let own = schemas.answer::<OwnAnswer<'static>>();
    json!({
        "type": "object",
        "properties": {
            "id": { "type": "string" },
            "object": { "type": "string" },
            "created": { "type": "integer" },
            "model": { "type": "string" },
            "choices": { "type": "array", "items": { "type": "object" } },
            "usage": { "type": ["object", "null"] },
            "holdfast": own,
        },
        "required": ["choices"],
    })
}

fn message_answer(schemas: &mut Schemas) -> Value {
    let own = schemas.answer::<OwnAnswer<'static>>();
    json!({
        "type": "object",
        "properties": {
            "id": { "type": "string" },
            "type": { "const": "message" },
            "role": { "const": "assistant" },
            "model": { "type": "string" },
            "content": { "type": "array", "items": { "type": "object" } },
            "stop_reason": { "type": ["string", "null"] },
            "stop_sequence": { "type": ["string", "null"] },
            "usage": { "type": "object" },
            "holdfast": own,
        },
        "required": ["content"],
    })
}
