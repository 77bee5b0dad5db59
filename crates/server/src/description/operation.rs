//! One operation of the description, and how it is written down.
//!
//! It knows the shape of OpenAPI and nothing of any route: what holds for every route of a kind (a key, a body, a
//! parameter) brings its failures with it here, so that the tables name only those of the route itself.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use holdfast_storage::{Role, Scope};
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::{Tag, object, schema::Schemas};
use crate::{
    error::{Code, Problem},
    face::{AnthropicFailure, Face, McpFailure, OpenAiFailure, TeiFailure},
    routes::{PROBES, Route, Verb},
};

/// What any request can fail with that is let in.
const COMMON: &[Code] = &[Code::Overloaded, Code::ShuttingDown, Code::DeadlineExceeded, Code::Internal];
/// What any request can fail with that needs a key: keys are stored.
const WITH_KEY: &[Code] = &[
    Code::Unauthorized,
    Code::Forbidden,
    Code::RateLimited,
    Code::StorageUnavailable,
    Code::StorageReadOnly,
    Code::StorageFull,
    Code::StorageDamaged,
];
/// What any request with a JSON body can fail with.
const WITH_BODY: &[Code] = &[
    Code::InvalidJson,
    Code::JsonTooDeep,
    Code::InvalidBody,
    Code::InvalidField,
    Code::BodyTooLarge,
    Code::BodyTooSlow,
    Code::UnsupportedMediaType,
];
/// What any request can fail with that names who it is meant for, which is all but the probes.
const WITH_HOST: &[Code] = &[Code::InvalidRequest, Code::ForbiddenHost];

/// A method of a route, described.
pub(super) struct Operation {
    pub(super) path: &'static str,
    pub(super) verb: Verb,
    pub(super) id: &'static str,
    tag: Tag,
    summary: &'static str,
    about: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: BTreeMap<u16, Value>,
    failures: Vec<Code>,
    fails_plainly: bool,
}

impl Operation {
    pub(super) fn new(verb: Verb, path: &'static str, id: &'static str, tag: Tag, summary: &'static str) -> Self {
        let failures = if path.contains('{') { vec![Code::InvalidRequest] } else { Vec::new() };
        Self {
            path,
            verb,
            id,
            tag,
            summary,
            about: "",
            parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            failures,
            fails_plainly: false,
        }
    }

    /// More than the summary says.
    pub(super) fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// The variable segment of the path.
    pub(super) fn segment(mut self, name: &'static str, description: &str, example: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "path", "required": true, "description": description,
            "schema": { "type": "string", "minLength": 1 }, "example": example,
        }));
        self
    }

    /// The query string.
    pub(super) fn query<T: JsonSchema>(mut self, schemas: &mut Schemas) -> Self {
        self.parameters.extend(schemas.query::<T>());
        self.fails(&[Code::InvalidField])
    }

    /// The header that makes repeating a request harmless.
    pub(super) fn idempotent(mut self) -> Self {
        self.parameters.push(json!({
            "name": "Idempotency-Key", "in": "header",
            "description": "Makes repeating the request harmless: for 24 hours the same key with the same body has the same answer",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$" },
        }));
        self.fails(&[Code::IdempotencyKeyReused, Code::InProgress])
    }

    /// A header of the request that may be absent.
    pub(super) fn asks(mut self, name: &'static str, description: &str, schema: Value) -> Self {
        self.parameters.push(json!({ "name": name, "in": "header", "description": description, "schema": schema }));
        self
    }

    /// The JSON body and an example of it.
    pub(super) fn body<T: JsonSchema>(self, schemas: &mut Schemas, example: Value) -> Self {
        let schema = schemas.request::<T>();
        self.raw_body(schema, &[("example", example)])
    }

    /// The JSON body of a shape that no type has, and examples of it.
    pub(super) fn raw_body(mut self, schema: Value, examples: &[(&str, Value)]) -> Self {
        let examples = object(examples.iter().map(|(name, value)| (*name, json!({ "value": value }))));
        self.body = Some(json!({
            "required": true,
            "content": { "application/json": { "schema": schema, "examples": examples } },
        }));
        self.fails(WITH_BODY)
    }

    /// An answer of JSON and an example of it.
    pub(super) fn answer<T: JsonSchema>(self, schemas: &mut Schemas, status: u16, when: &str, example: Value) -> Self {
        let schema = schemas.answer::<T>();
        let examples = json!({ "example": { "value": example } });
        self.content(status, when, &json!({ "application/json": { "schema": schema, "examples": examples } }))
    }

    /// An answer without a body.
    pub(super) fn empty(mut self, status: u16, when: &str) -> Self {
        self.answers
            .insert(status, json!({ "description": when, "headers": { "X-Request-ID": header("X-Request-ID") } }));
        self
    }

    /// An answer with the content of each media type.
    pub(super) fn content(mut self, status: u16, when: &str, content: &Value) -> Self {
        self.answers.insert(
            status,
            json!({
                "description": when,
                "headers": { "X-Request-ID": header("X-Request-ID") },
                "content": content,
            }),
        );
        self
    }

    /// A header that the answer of a status can have.
    pub(super) fn header(mut self, status: u16, name: &str) -> Self {
        if let Some(answer) = self.answers.get_mut(&status) {
            answer["headers"][name] = header(name);
        }
        self
    }

    /// What it can fail with beyond what its kind can.
    pub(super) fn fails(mut self, codes: &[Code]) -> Self {
        self.failures.extend(codes);
        self
    }

    /// It does nothing that could fail but for being let in.
    pub(super) fn never_fails(mut self) -> Self {
        self.fails_plainly = true;
        self
    }

    /// As OpenAPI has it.
    pub(super) fn describe(&self, route: &Route, scope: Option<Scope>, schemas: &mut Schemas) -> Value {
        let mut about = self.about.to_owned();
        if let Some(scope) = scope {
            let roles: Vec<_> = Role::with(scope).map(|role| format!("`{role}`")).collect();
            let separator = if about.is_empty() { "" } else { "\n\n" };
            about.push_str(&format!("{separator}Scope: `{scope}`, which the roles {} have.", roles.join(", ")));
        }
        let mut described = json!({
            "operationId": self.id,
            "tags": [self.tag.name()],
            "summary": self.summary,
            "description": about,
            "responses": self.responses(route.face, scope, schemas),
        });
        if !self.parameters.is_empty() {
            described["parameters"] = json!(self.parameters);
        }
        if let Some(body) = &self.body {
            described["requestBody"] = body.clone();
        }
        match scope {
            Some(scope) => described["x-holdfast-scope"] = json!(scope.as_str()),
            None => described["security"] = json!([]),
        }
        described
    }

    fn responses(&self, face: Face, scope: Option<Scope>, schemas: &mut Schemas) -> Map<String, Value> {
        let mut responses: BTreeMap<u16, Value> = self.answers.clone();
        for (status, codes) in self.failures_by_status(face, scope) {
            let failed = failed(face, status, &codes, schemas);
            match responses.get_mut(&status) {
                // An answer of the same status, as that of a probe, has its own shape: it is one or the other.
                Some(answer) => {
                    for (media_type, content) in failed["content"].as_object().into_iter().flatten() {
                        let known = &mut answer["content"][media_type];
                        if known.is_null() {
                            *known = content.clone();
                        } else {
                            known["schema"] = json!({ "anyOf": [known["schema"], content["schema"]] });
                        }
                    }
                }
                None => drop(responses.insert(status, failed)),
            }
        }
        responses.into_iter().map(|(status, response)| (status.to_string(), response)).collect()
    }

    fn failures_by_status(&self, face: Face, scope: Option<Scope>) -> BTreeMap<u16, Vec<Code>> {
        let common = if self.fails_plainly { &[] } else { COMMON };
        let with_key = if scope.is_some() { WITH_KEY } else { &[] };
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        let with_host = if PROBES.contains(&self.path) { &[] } else { WITH_HOST };
        for code in common.iter().chain(with_key).chain(with_host).chain(&self.failures) {
            let codes = by_status.entry(face.status(code.as_str(), code.status()).as_u16()).or_default();
            if !codes.contains(code) {
                codes.push(*code);
            }
        }
        by_status
    }
}

/// The failures of one status.
fn failed(face: Face, status: u16, codes: &[Code], schemas: &mut Schemas) -> Value {
    let mut words: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    words.sort_unstable();
    let (media_type, shape, narrowed) = match face {
        Face::Own => ("application/problem+json", schemas.answer::<Problem>(), json!({ "code": { "enum": words } })),
        Face::OpenAi => (
            "application/json",
            schemas.answer::<OpenAiFailure>(),
            json!({ "error": { "properties": { "code": { "enum": words } } } }),
        ),
        Face::Anthropic => (
            "application/json",
            schemas.answer::<AnthropicFailure<'static>>(),
            json!({ "error": { "properties": { "code": { "enum": words } } } }),
        ),
        Face::Mcp => (
            "application/json",
            schemas.answer::<McpFailure>(),
            json!({ "error": { "properties": { "data": { "properties": { "code": { "enum": words } } } } } }),
        ),
        Face::Tei => ("application/json", schemas.answer::<TeiFailure>(), json!({ "code": { "enum": words } })),
    };
    let titles: Vec<_> = codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.title())).collect();
    let mut headers = Map::from_iter([("X-Request-ID".to_owned(), header("X-Request-ID"))]);
    if status == StatusCode::UNAUTHORIZED {
        headers.insert("WWW-Authenticate".to_owned(), header("WWW-Authenticate"));
    }
    if codes.iter().any(|code| matches!(code, Code::RateLimited | Code::Unauthorized)) {
        for name in ["RateLimit", "RateLimit-Policy"] {
            headers.insert(name.to_owned(), header(name));
        }
    }
    if codes.iter().any(|code| code.passes()) {
        headers.insert("Retry-After".to_owned(), header("Retry-After"));
    }
    json!({
        "description": titles.join("; "),
        "headers": headers,
        "content": { media_type: { "schema": { "allOf": [shape, { "properties": narrowed }] } } },
    })
}

fn header(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

/// The headers that answers have.
pub(super) fn headers() -> Value {
    let text = |about: &str| json!({ "description": about, "schema": { "type": "string" } });
    let number = |about: &str| json!({ "description": about, "schema": { "type": "integer", "minimum": 1 } });
    let count = |about: &str| json!({ "description": about, "schema": { "type": "integer", "minimum": 0 } });
    let word = |about: &str, words: &[&str]| json!({ "description": about, "schema": { "enum": words } });
    json!({
        "X-Request-ID": text("The request's own id, taken over or made, which every log line about it has"),
        "WWW-Authenticate": text("How to be let in: RFC 6750"),
        "Retry-After": number("Seconds after which asking again makes sense"),
        "RateLimit": text("What remains of each limit and when it is full again: draft-ietf-httpapi-ratelimit-headers-09"),
        "RateLimit-Policy": text("The limits that hold: draft-ietf-httpapi-ratelimit-headers-09"),
        "X-Holdfast-Truncated": number("How many texts were cut off"),
        "X-Holdfast-Interaction": text("The turn's id in the record"),
        "X-Holdfast-Model": text("The model that answered"),
        "X-Holdfast-Cache": word("Whether the answer was kept from before", &["hit", "miss"]),
        "X-Holdfast-Context": count("How many passages the model was given"),
        "X-Holdfast-Session": text("The session that the turn belongs to"),
        "X-Holdfast-Dropped": text("Hints that the model's provider has no place for, and was not given"),
    })
}
