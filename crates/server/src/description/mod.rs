//! The description of the API: OpenAPI 3.1, made from the route table, the wire types and the table of errors.
//!
//! What a machine can know is taken from where it is decided: paths, methods, scopes and keys from `routes`, shapes and
//! bounds from the types that handlers take and give, failures and their statuses from `error`. What only a person can
//! say (names, sentences, examples, which failures a route can have) stands in the tables below `operations`, and a
//! test holds both together. [`pages`] serves it to people.

mod schema;

mod operation;

mod operations;

pub(crate) mod pages;

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Serialize;
use serde_json::{Map, Value, json, ser::PrettyFormatter};

pub(crate) use schema::{
    COLLECTION_NAME, DOCUMENTS_MAX, Filter, NAME, NO_CONTROL, NOT_BLANK, QUERY_CHARS_MAX, RoleName, TEXT_MAX, words,
};

use operation::Operation;
use schema::Schemas;

use crate::routes::{Audience, ROUTES, Verb};

/// The version of the interface, not of the program: who holds no key need not know that one.
const INTERFACE: &str = "1";

const ABOUT: &str = "Holdfast keeps a private knowledge base: documents and folders that are indexed as they change, and \
    found by meaning and by words, and is one door to language models. Beside its own routes it has those of OpenAI and \
    Anthropic for language models, those of OpenAI and of text-embeddings-inference for embeddings, and speaks \
    MCP.\n\nEvery route but the probes and this description needs a key, in `Authorization: Bearer` or `X-API-Key`; each says which scope the key must have. Failures are problem documents (RFC 9457) with a stable \
    `code`; the routes of other APIs answer in the shape their clients parse, with the same `code` and `error_id`. \
    Lists are pages: `next_cursor` of one is `cursor` of the next. Answers may gain fields.\n\nBefore there is a request \
    there is no route to answer it: bytes that are no HTTP get a 400, more than 64 KiB or 100 lines of headers a 431, \
    and a target longer than that a 414, each without a body and without a `code`.";

/// The whole description.
static DOCUMENT: LazyLock<Value> = LazyLock::new(describe);

/// The document, readable, one space a level: it is long.
pub(crate) fn text() -> String {
    let mut text = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b" "));
    // A document in memory can be written to memory, and what is written is UTF-8.
    match document().serialize(&mut writer) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => String::new(),
    }
}

/// The whole description.
pub(crate) fn document() -> &'static Value {
    &DOCUMENT
}

fn describe() -> Value {
    let mut schemas = Schemas::new();
    let operations = operations::all(&mut schemas);
    let mut paths = Map::new();
    for route in ROUTES.iter().filter(|route| route.audience == Audience::All) {
        let mut item = Map::new();
        for (verb, scope) in route.methods {
            // A route without its operation is left out here, and found by a test.
            if let Some(operation) = find(&operations, route.path, *verb) {
                item.insert(
                    verb.method().as_str().to_ascii_lowercase(),
                    operation.describe(route, *scope, &mut schemas),
                );
            }
        }
        // OpenAPI has no word for a parameter that takes in slashes.
        paths.insert(route.path.replace("{*", "{"), Value::Object(item));
    }
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "Holdfast",
            "version": INTERFACE,
            "summary": "A private knowledge base for apps and coding agents",
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }, { "api_key": [] }],
        "tags": tags(),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "A key: `holdfast keys create NAME`" },
                "api_key": { "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key" },
            },
            "headers": operation::headers(),
            "schemas": schemas.finish(),
        },
    })
}

fn find<'a>(operations: &'a [Operation], path: &str, verb: Verb) -> Option<&'a Operation> {
    operations.iter().find(|operation| operation.path == path && operation.verb == verb)
}

/// What operations are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Knowledge,
    Sources,
    Embeddings,
    LanguageModels,
    Agents,
    Keys,
    Operations,
    Health,
    Description,
}

impl Tag {
    const ALL: [Self; 9] = [
        Self::Knowledge,
        Self::Sources,
        Self::Embeddings,
        Self::LanguageModels,
        Self::Agents,
        Self::Keys,
        Self::Operations,
        Self::Health,
        Self::Description,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Knowledge => "knowledge",
            Self::Sources => "sources",
            Self::Embeddings => "embeddings",
            Self::LanguageModels => "language models",
            Self::Agents => "agents",
            Self::Keys => "keys",
            Self::Operations => "operations",
            Self::Health => "health",
            Self::Description => "description",
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Self::Knowledge => "Search, documents and the collections they are in",
            Self::Sources => "Folders and files that are followed, and the jobs that bring them in",
            Self::Embeddings => "Texts to vectors, for programs written for OpenAI or text-embeddings-inference",
            Self::LanguageModels => {
                "Asked as OpenAI and Anthropic have it; who answers, what was asked, and what it may cost"
            }
            Self::Agents => "The Model Context Protocol",
            Self::Keys => "Who may do what",
            Self::Operations => "How everything is, models, repair, metrics",
            Self::Health => "Probes, which need no key",
            Self::Description => "This description, which needs no key",
        }
    }
}

fn tags() -> Vec<Value> {
    Tag::ALL.into_iter().map(|tag| json!({ "name": tag.name(), "description": tag.about() })).collect()
}

/// A JSON object with its keys in order, as a list of pairs makes it.
fn object<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Value)>) -> Value {
    Value::Object(
        pairs.into_iter().map(|(key, value)| (key.into(), value)).collect::<BTreeMap<_, _>>().into_iter().collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::error::Code;

    /// What was generated last, for those who read the repository.
    const COMMITTED: &str = include_str!("../../../../openapi/holdfast.json");

    #[test]
    fn the_committed_description_is_what_the_server_gives() {
        let committed: Value = serde_json::from_str(COMMITTED).unwrap();
        assert!(committed == *document(), "it differs: `holdfast openapi > openapi/holdfast.json` makes it anew");
        assert_eq!(COMMITTED, crate::openapi() + "\n", "it is formatted differently");
    }

    #[test]
    fn every_route_has_its_operation_and_every_operation_its_route() {
        let operations = operations::all(&mut Schemas::new());
        let mut described = 0;
        for route in ROUTES.iter().filter(|route| route.audience == Audience::All) {
            for (verb, _) in route.methods {
                let found = operations.iter().filter(|it| it.path == route.path && it.verb == *verb).count();
                assert_eq!(found, 1, "{verb:?} {} has {found} operations", route.path);
                described += 1;
            }
        }
        assert_eq!(described, operations.len(), "an operation has no route");
        let ids: BTreeSet<_> = operations.iter().map(|operation| operation.id).collect();
        assert_eq!(ids.len(), operations.len(), "an operation's id stands twice");
    }

    /// A code that no operation has is a code that a client cannot know of.
    #[test]
    fn every_code_is_described_somewhere() {
        let described = document()["paths"].to_string();
        // What comes about outside of any route, and where a handler is not reached through the network.
        let elsewhere = [Code::RouteNotFound, Code::MethodNotAllowed, Code::UpgradeRequired, Code::HttpsRequired];
        // What is reserved for kinds of things that no route has.
        let reserved = [Code::NotFound];
        // What a single document of a batch is refused with, in an answer of 200.
        let within = [Code::DocumentRefused];
        for code in Code::ALL {
            let is_exempt = elsewhere.contains(code) || reserved.contains(code) || within.contains(code);
            let is_described = described.contains(&format!("\"{}\"", code.as_str()));
            assert_eq!(is_described, !is_exempt, "{}", code.as_str());
        }
    }

    #[test]
    fn schemas_have_names_of_their_own() {
        for name in document()["components"]["schemas"].as_object().unwrap().keys() {
            assert!(!name.ends_with(|last: char| last.is_ascii_digit()), "two types are called {name}");
        }
    }
}
