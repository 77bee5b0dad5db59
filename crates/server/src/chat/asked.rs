//! What a client asks a model, whichever face it asks at: what both faces read their bodies into, and the pieces of a body
//! that both read in the same way.
//!
//! A body is kept as it came, for a provider that speaks the same. Beside it stands what the vocabulary of `llm` has words
//! for, for all others; whether that is enough for one of them is looked at in `llm`, which knows what each can be told.

use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use holdfast_llm::{Image, Message, Original, Part, Request, Shape, Tool, ToolChoice};
use serde_json::{Map, Value, json};

use super::{
    own::{self, Own},
    read::Node,
};
use crate::error::Failure;

/// The longest name of a model or tool, in characters.
pub(crate) const MODEL_CHARS_MAX: usize = 256;
/// The longest id of a call.
const ID_CHARS_MAX: usize = 256;
/// Texts before which an answer may be told to end, and their length.
const STOPS_MAX: usize = 64;
const STOP_CHARS_MAX: usize = 1_024;

/// What a client asks.
#[derive(Debug)]
pub(super) struct Asked {
    /// The model or alias.
    pub(super) model: String,
    /// What it is asked, with the body as it came.
    pub(super) request: Request,
    /// How the answer is to come.
    pub(super) delivery: Delivery,
    /// What it asks of this server.
    pub(super) own: Own,
}

impl Asked {
    /// Hints that a provider of another shape does not get, in the client's words.
    pub(super) fn dropped(&self, shape: Shape) -> Vec<&'static str> {
        let other = match shape {
            Shape::OpenAi => Shape::Anthropic,
            Shape::Anthropic => Shape::OpenAi,
        };
        // What cannot be said there at all is not said there.
        holdfast_llm::check(other, &self.request).unwrap_or_default()
    }
}

/// How an answer is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// At once.
    Whole,
    /// As it is made.
    Stream(Counting),
}

/// Whether the end of a stream says what the answer took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counting {
    /// It does.
    Told,
    /// Nobody asked.
    Untold,
}

/// What was read of a body so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    messages: Vec<Message>,
    /// The calls that a result can answer.
    calls: HashSet<String>,
    /// What a message has that there is no word for: the first of it.
    wordless: Option<String>,
    /// A call may stand in what the session had before.
    in_session: bool,
}

impl Reading {
    pub(super) fn new(own: &Own) -> Self {
        Self { in_session: own.session.is_some(), ..Self::default() }
    }

    /// Notes what only a provider of the same shape understands.
    pub(super) fn wordless(&mut self, node: &Node<'_>) {
        self.wordless.get_or_insert_with(|| node.place());
    }

    /// Notes a message, unless nothing of it is left.
    pub(super) fn message(&mut self, message: Message) {
        if message.parts.is_empty() {
            return;
        }
        self.messages.push(message);
    }

    /// A call that the model made.
    pub(super) fn call(&mut self, id: &Node<'_>, name: &Node<'_>, arguments: String) -> Result<Part, Failure> {
        Ok(Part::ToolCall { id: self.called(id)?, name: tool_name(name)?, arguments })
    }

    /// Notes that a call has this id, whatever kind of call it is.
    pub(super) fn called(&mut self, id: &Node<'_>) -> Result<String, Failure> {
        let id = identity(id)?;
        self.calls.insert(id.clone());
        Ok(id)
    }

    /// The call that a result answers, which has to have been made.
    pub(super) fn answered(&self, id: &Node<'_>) -> Result<String, Failure> {
        let called = identity(id)?;
        if self.in_session || self.calls.contains(&called) {
            return Ok(called);
        }
        Err(id.wrong("answers a call that no message before it has"))
    }

    /// The messages, once all of them are read.
    pub(super) fn finish(self) -> Result<Vec<Message>, Failure> {
        match self.wordless {
            // A session keeps what there are words for: the next turn would not know of the rest.
            Some(path) if self.in_session => Err(Failure::field(path, "is of a kind that a session cannot keep")),
            _ => Ok(self.messages),
        }
    }
}

/// A body as it came, without what was for this server.
pub(super) fn original(shape: Shape, body: Value) -> Original {
    let mut fields = match body {
        Value::Object(fields) => fields,
        // What is no object was refused when it was read.
        _ => Map::new(),
    };
    // The others stay in their order: a model fills a schema's fields as they come.
    fields.shift_remove(own::FIELD);
    Original { shape, body: fields }
}

/// A model's name.
pub(super) fn model_name(node: Node<'_>) -> Result<String, Failure> {
    printable(&node, MODEL_CHARS_MAX)
}

/// What a result refers to.
fn identity(node: &Node<'_>) -> Result<String, Failure> {
    printable(node, ID_CHARS_MAX)
}

/// A tool's name.
fn tool_name(node: &Node<'_>) -> Result<String, Failure> {
    printable(node, MODEL_CHARS_MAX)
}

fn printable(node: &Node<'_>, most: usize) -> Result<String, Failure> {
    let text = node.text()?;
    let fits = !text.trim().is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(node.wrong(format_args!("must be 1 to {most} printable characters"))) }
}

/// Texts before which the answer ends, in a list.
pub(super) fn stops(node: Node<'_>) -> Result<Vec<String>, Failure> {
    let stops = node.items()?;
    if stops.len() > STOPS_MAX {
        return Err(node.wrong(format_args!("has {} texts, at most {STOPS_MAX} are taken", stops.len())));
    }
    stops.map(|stop| self::stop(&stop)).collect()
}

/// One such text.
pub(super) fn stop(node: &Node<'_>) -> Result<String, Failure> {
    let text = node.text()?;
    if text.is_empty() || text.chars().count() > STOP_CHARS_MAX {
        return Err(node.wrong(format_args!("must have 1 to {STOP_CHARS_MAX} characters")));
    }
    Ok(text.to_owned())
}

/// A tool: where its name, its description and its schema stand. `names` has those before it.
pub(super) fn tool(object: &Node<'_>, schema_field: &str, names: &mut HashSet<String>) -> Result<Tool, Failure> {
    let name = unique_name(object, names)?;
    Ok(Tool {
        name,
        description: object.optional("description", Node::owned)?,
        parameters: object.field(schema_field).map_or_else(|| Ok(no_parameters()), |node| object_schema(&node))?,
        strict: object.optional("strict", Node::flag)?,
    })
}

/// The name of a tool, which no other one has.
pub(super) fn unique_name(object: &Node<'_>, names: &mut HashSet<String>) -> Result<String, Failure> {
    let node = object.required("name")?;
    let name = tool_name(&node)?;
    if !names.insert(name.clone()) {
        return Err(node.wrong("is the name of another tool too"));
    }
    Ok(name)
}

/// The schema of a tool that takes nothing.
fn no_parameters() -> Value {
    json!({ "type": "object", "properties": {} })
}

/// A JSON Schema of objects: arguments have names. What it says of each is left to the provider.
pub(super) fn object_schema(node: &Node<'_>) -> Result<Value, Failure> {
    node.fields()?;
    if let Some(kind) = node.field("type") {
        let is_object = match kind.value() {
            Value::String(word) => word == "object",
            Value::Array(words) => words.iter().any(|word| word == "object"),
            _ => false,
        };
        if !is_object {
            return Err(kind.wrong("must be object: it is the schema of an object that is wanted"));
        }
    }
    node.optional("properties", |properties| {
        let fields = properties.fields()?;
        for name in fields.keys() {
            // JSON Schema 2020-12, section 4.3: a schema is an object or a truth value.
            let is_schema = |value: &Value| value.is_object() || value.is_boolean();
            if let Some(property) = properties.field(name).filter(|property| !is_schema(property.value())) {
                return Err(property.wrong("must be a schema"));
            }
        }
        Ok(())
    })?;
    node.optional("required", |required| required.items()?.try_for_each(|name| name.text().map(drop)))?;
    Ok(node.value().clone())
}

/// Refuses a choice of tools that there are none for.
pub(super) fn check_choice(node: &Node<'_>, choice: &ToolChoice, names: &HashSet<String>) -> Result<(), Failure> {
    match choice {
        ToolChoice::Required if names.is_empty() => Err(node.wrong("wants a tool to be called, and there is none")),
        ToolChoice::Named(name) if !names.contains(name) => Err(node.wrong("names a tool that is not in tools")),
        _ => Ok(()),
    }
}

/// A picture at an address, or in one. Nothing is fetched here; the provider gets no address but of the web.
pub(super) fn image_at(node: &Node<'_>) -> Result<Image, Failure> {
    let url = node.text()?;
    let is = |scheme: &str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if is("https://") || is("http://") {
        return Ok(Image::Url(url.to_owned()));
    }
    if !is("data:") {
        return Err(node.wrong("must begin with https://, http:// or data:"));
    }
    // RFC 2397, with the one encoding that providers take.
    let inline = url.get("data:".len()..).and_then(|rest| rest.split_once(','));
    let inline = inline.and_then(|(head, data)| Some((head.strip_suffix(";base64")?, data)));
    let Some((media_type, data)) = inline else {
        return Err(node.wrong("must be a picture in Base64: data:image/png;base64,…"));
    };
    picture(node, media_type, data)
}

/// A picture in Base64.
pub(super) fn picture(node: &Node<'_>, media_type: &str, data: &str) -> Result<Image, Failure> {
    let media_type = media_type.to_ascii_lowercase();
    let subtype = media_type.strip_prefix("image/").unwrap_or_default();
    if subtype.is_empty() || !subtype.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
        return Err(node.wrong("has a media type that is not of a picture"));
    }
    if data.is_empty() || !is_base64(data) {
        return Err(node.wrong("is not Base64"));
    }
    Ok(Image::Inline { media_type, data: data.to_owned() })
}

/// Whether a text is Base64 (RFC 4648, section 4). What it stands for is not kept.
fn is_base64(text: &str) -> bool {
    /// Decoded at a time; a multiple of four characters.
    const PIECE: usize = 4 << 10;
    let mut decoded = [0; PIECE];
    // Only the last piece may have padding, which decoding a piece that is not the last one has to refuse.
    text.len().is_multiple_of(4)
        && text.as_bytes().chunks(PIECE).enumerate().all(|(index, piece)| {
            let is_last = (index + 1) * PIECE >= text.len();
            (is_last || !piece.contains(&b'=')) && STANDARD.decode_slice(piece, &mut decoded).is_ok()
        })
}

/// JSON text of an object, as arguments of a call are.
pub(super) fn as_text(object: &Map<String, Value>) -> String {
    // Writing to a string cannot fail.
    serde_json::to_string(object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail<T: std::fmt::Debug>(read: Result<T, Failure>) -> String {
        read.unwrap_err().report().detail
    }

    #[test]
    fn pictures_are_inline_or_on_the_web() {
        let image = |url: &str| image_at(&Node::body(&json!(url)));
        assert_eq!(image("HTTPS://a/b.png").unwrap(), Image::Url("HTTPS://a/b.png".into()));
        let inline = Image::Inline { media_type: "image/png".into(), data: "aGk=".into() };
        assert_eq!(image("data:image/PNG;base64,aGk=").unwrap(), inline);
        let long = format!("data:image/png;base64,{}", "AAAA".repeat(5_000));
        assert!(image(&long).is_ok());
        for (url, told) in [
            ("file:///etc/passwd", "must begin with https://"),
            ("", "must begin with"),
            ("data:image/png,aGk=", "in Base64"),
            ("data:image/png;base64", "in Base64"),
            ("data:text/html;base64,aGk=", "not of a picture"),
            ("data:image/;base64,aGk=", "not of a picture"),
            ("data:image/a b;base64,aGk=", "not of a picture"),
            ("data:image/png;base64,", "is not Base64"),
            ("data:image/png;base64,aGk", "is not Base64"),
            ("data:image/png;base64,a-k=", "is not Base64"),
            ("data:image/png;base64,aGk=\r\n", "is not Base64"),
        ] {
            let found = detail(image(url));
            assert!(found.contains(told), "{url}: {found}");
        }
        assert!(image(&long.replacen("AAAA", "AA==", 1)).is_err(), "padding in the middle");
    }

    #[test]
    fn schemas_of_arguments_are_of_objects() {
        let schema = |value: &Value| object_schema(&Node::body(value));
        for good in [
            json!({}),
            json!({ "type": "object" }),
            json!({ "type": ["object", "null"], "properties": { "a": true, "b": {} }, "required": ["a"] }),
            json!({ "$ref": "#/$defs/a", "$defs": {} }),
        ] {
            assert_eq!(schema(&good).unwrap(), good);
        }
        for wrong in [
            json!([]),
            json!("object"),
            json!({ "type": "string" }),
            json!({ "type": 7 }),
            json!({ "properties": [] }),
            json!({ "properties": { "a": "string" } }),
            json!({ "required": "a" }),
            json!({ "required": [1] }),
        ] {
            assert!(schema(&wrong).is_err(), "{wrong}");
        }
    }
}
