//! Our names and OpenTelemetry's, side by side.
//!
//! The one place where a field of a span becomes an attribute: what is not in the table does not leave this process, so a
//! field that is added to a span for the log is not exported by accident. The attributes are those of OpenTelemetry's
//! semantic conventions (HTTP, generative AI) where there is one, and begin with `holdfast.` where there is none. None of
//! them has a text, a query or a key.

use opentelemetry::{
    Key, KeyValue, Value,
    trace::{SpanKind, Status},
};
use opentelemetry_sdk::trace::SpanData;

/// A field, and what it is called outside.
struct Name {
    ours: &'static str,
    theirs: &'static str,
}

const fn name(ours: &'static str, theirs: &'static str) -> Name {
    Name { ours, theirs }
}

/// A kind of span.
struct Kind {
    name: &'static str,
    kind: SpanKind,
    fields: &'static [Name],
    /// What holds for all of them.
    fixed: &'static [(&'static str, &'static str)],
}

/// Every span that is exported.
const SPANS: [Kind; 6] = [
    Kind {
        name: "request",
        kind: SpanKind::Server,
        fields: &[
            name("method", "http.request.method"),
            name("route", "http.route"),
            name("status", "http.response.status_code"),
            name("request_id", "holdfast.request_id"),
        ],
        fixed: &[],
    },
    Kind {
        name: "search",
        kind: SpanKind::Internal,
        fields: &[
            name("mode", "holdfast.search.mode"),
            name("limit", "holdfast.search.limit"),
            name("collections", "holdfast.search.collections"),
        ],
        fixed: &[],
    },
    Kind {
        name: "embed",
        kind: SpanKind::Internal,
        fields: &[
            name("model", "gen_ai.request.model"),
            name("texts", "holdfast.embed.texts"),
            name("priority", "holdfast.embed.priority"),
        ],
        fixed: &[("gen_ai.operation.name", "embeddings")],
    },
    Kind {
        name: "call",
        kind: SpanKind::Client,
        fields: &[
            name("model", "gen_ai.request.model"),
            name("peer", "server.address"),
            name("texts", "holdfast.embed.texts"),
            name("status", "http.response.status_code"),
            name("error", ERROR),
        ],
        fixed: &[("gen_ai.operation.name", "embeddings"), ("http.request.method", "POST")],
    },
    Kind {
        name: "chat",
        kind: SpanKind::Client,
        fields: &[
            name("upstream", "gen_ai.request.model"),
            name("finish", "gen_ai.response.finish_reasons"),
            name("input_tokens", "gen_ai.usage.input_tokens"),
            name("output_tokens", "gen_ai.usage.output_tokens"),
            name("model", "holdfast.model"),
            name("provider", "holdfast.provider"),
            name("peer", "server.address"),
            name("status", "http.response.status_code"),
            name("error", ERROR),
        ],
        fixed: &[("gen_ai.operation.name", "chat"), ("http.request.method", "POST")],
    },
    Kind {
        name: "project",
        kind: SpanKind::Internal,
        fields: &[
            name("index", "holdfast.index"),
            name("added", "holdfast.index.added"),
            name("removed", "holdfast.index.removed"),
        ],
        fixed: &[],
    },
];

/// Fields of log records whose names differ outside; the others are called `holdfast.` and what they are called here.
const RECORDS: [Name; 6] = [
    name("error", "exception.message"),
    name("method", "http.request.method"),
    name("route", "http.route"),
    name("status", "http.response.status_code"),
    name("model", "gen_ai.request.model"),
    name("peer", "server.address"),
];

/// What went wrong; it becomes the span's status.
const ERROR: &str = "error.message";
const METHOD: &str = "http.request.method";
const ROUTE: &str = "http.route";
const STATUS: &str = "http.response.status_code";
const ERROR_TYPE: &str = "error.type";
const PORT: &str = "server.port";
const ADDRESS: &str = "server.address";

/// Whether a span of ours is exported at all.
pub(super) fn is_exported(name: &str) -> bool {
    SPANS.iter().any(|kind| kind.name == name)
}

/// What a field of a log record is called outside.
pub(super) fn of_record(ours: &'static str) -> Key {
    match RECORDS.iter().find(|name| name.ours == ours) {
        Some(name) => Key::from_static_str(name.theirs),
        None => Key::new(format!("holdfast.{ours}")),
    }
}

/// A span as it is exported.
pub(super) fn translate(mut span: SpanData) -> SpanData {
    let Some(kind) = SPANS.iter().find(|kind| kind.name == span.name) else { return span };
    let renamed = |attribute: KeyValue| {
        let name = kind.fields.iter().find(|name| name.ours == attribute.key.as_str())?;
        Some(KeyValue::new(name.theirs, attribute.value))
    };
    span.attributes = std::mem::take(&mut span.attributes).into_iter().filter_map(renamed).collect();
    span.attributes.extend(kind.fixed.iter().map(|(key, value)| KeyValue::new(*key, *value)));
    span.span_kind = kind.kind.clone();
    split_address(&mut span.attributes);
    judge(&mut span);
    if kind.kind == SpanKind::Server {
        // As the conventions have it: few names, which tell more than "request".
        if let (Some(method), Some(route)) = (text(&span, METHOD), text(&span, ROUTE)) {
            span.name = format!("{method} {route}").into();
        }
    }
    span
}

fn text(span: &SpanData, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.as_str().into_owned())
}

/// Address and port are two attributes.
fn split_address(attributes: &mut Vec<KeyValue>) {
    let Some(peer) = attributes.iter_mut().find(|attribute| attribute.key.as_str() == ADDRESS) else { return };
    let whole = peer.value.as_str().into_owned();
    if let Some((host, port)) = whole.rsplit_once(':')
        && let Ok(port) = port.parse::<i64>()
    {
        peer.value = Value::from(host.to_owned());
        attributes.push(KeyValue::new(PORT, port));
    }
}

/// Says of a span that it failed, and as what: a server's with 5xx, a call with any failure.
fn judge(span: &mut SpanData) {
    let code = text(span, STATUS).and_then(|code| code.parse::<u16>().ok());
    if let Some(code) = code {
        // Fields of a span come as 64 bits, and the conventions want a number.
        span.attributes.retain(|attribute| attribute.key.as_str() != STATUS);
        span.attributes.push(KeyValue::new(STATUS, i64::from(code)));
    }
    let error = text(span, ERROR);
    span.attributes.retain(|attribute| attribute.key.as_str() != ERROR);
    let failed = match span.span_kind {
        SpanKind::Server => code.is_some_and(|code| code >= 500),
        _ => error.is_some(),
    };
    if failed {
        // A word says more than that there was no answer; a sentence is no type.
        let word = error.as_deref().filter(|error| !error.is_empty() && !error.contains(' ')).unwrap_or("connection");
        let kind = code.filter(|code| *code >= 400).map_or_else(|| word.to_owned(), |code| code.to_string());
        span.attributes.push(KeyValue::new(ERROR_TYPE, kind));
        span.status = Status::error(error.unwrap_or_default());
    }
}
