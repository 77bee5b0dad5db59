//! The embedding service, as programs written for OpenAI or for text-embeddings-inference know it.
//!
//! A handler converts, has the model answer, and converts back. Bounds hold for every caller: texts a request here, tokens
//! and time in the embedding component, bytes at the gate. Requests may have fields that are not known here, since
//! clients of these APIs send hints; answers have exactly the fields of the API they follow. Nothing is truncated
//! unless the request says so, and then a header tells how many texts were.

pub(crate) mod openai;

pub(crate) mod tei;

use std::{borrow::Cow, fmt, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use holdfast_embedding::{Cut, EmbedError, Embedder, Embedding, ModelState, Overlong, Request};
use holdfast_resilience::admission::Permit;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};

use crate::{
    Server, description,
    error::{Code, Failure, SOMETHING_WENT_WRONG},
    limits::{self, Meter},
};

/// How many texts were cut off.
const TRUNCATED: HeaderName = HeaderName::from_static("x-holdfast-truncated");
/// How long a request waits for a model that it made load.
const LOADING_PATIENCE: Duration = Duration::from_secs(10);
/// Numbers in a text that is given as tokens; more than any model reads by far.
const TOKENS_MAX: usize = 1 << 20;

/// The most texts of a request, on any route. What a list has beyond them is counted and not kept.
const TEXTS_MAX: usize = 2_048;

/// One text or many, each as such or as token numbers.
#[derive(Debug, PartialEq)]
pub(crate) struct Inputs {
    items: Vec<Item>,
    /// How many there were.
    count: usize,
    /// Whether it was one text and not a list.
    single: bool,
}

/// Where in a request a text is, for those who are told what is wrong with it.
#[derive(Clone, Copy, Debug)]
struct Place {
    field: &'static str,
    single: bool,
}

/// One text of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    Text(String),
    Ids(Vec<u32>),
}

/// What may stand in a list.
enum Element {
    Item(Item),
    Id(u32),
}

impl Inputs {
    fn one(item: Item) -> Inputs {
        Inputs { items: vec![item], count: 1, single: true }
    }

    /// The texts and where they are, when they are neither none nor too many, and none of them is blank.
    fn checked(self, field: &'static str, most: usize) -> Result<(Vec<Item>, Place), Failure> {
        if self.items.is_empty() {
            return Err(Failure::new(Code::EmptyInput, format!("{field} is empty")).at(field));
        }
        if self.count > most {
            let detail = format!("{field} has {} texts, at most {most} are taken", self.count);
            return Err(Failure::new(Code::TooManyTexts, detail).at(field));
        }
        let blank = |item: &Item| match item {
            Item::Text(text) => text.trim().is_empty(),
            Item::Ids(ids) => ids.is_empty(),
        };
        let place = Place { field, single: self.single };
        if let Some(index) = self.items.iter().position(blank) {
            let place = place.of(index);
            return Err(Failure::new(Code::EmptyInput, format!("{place} is blank")).at(place));
        }
        Ok((self.items, place))
    }
}

impl Item {
    /// Its length in bytes, or what it takes to name its tokens.
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Ids(ids) => size_of_val(ids.as_slice()),
        }
    }
}

/// Charges texts to whoever sent them.
fn charge(meter: &Meter, items: &[Item]) -> Result<(), Failure> {
    meter.charge(limits::texts(items.iter().map(Item::bytes)))
}

impl Place {
    fn of(self, index: usize) -> String {
        if self.single { self.field.to_owned() } else { format!("{}[{index}]", self.field) }
    }
}

fn push_id<E: de::Error>(ids: &mut Vec<u32>, id: u32) -> Result<(), E> {
    if ids.len() == TOKENS_MAX {
        return Err(E::custom(format_args!("more than {TOKENS_MAX} token numbers")));
    }
    ids.push(id);
    Ok(())
}

impl JsonSchema for Inputs {
    fn schema_name() -> Cow<'static, str> {
        "Inputs".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = json_schema!({ "type": "string", "pattern": description::NOT_BLANK });
        let ids = json_schema!({
            "type": "array",
            "items": { "type": "integer", "minimum": 0, "maximum": u32::MAX },
            "minItems": 1,
            "maxItems": TOKENS_MAX,
        });
        json_schema!({
            "description": "One text or many; a text may be given as numbers of tokens. The model bounds how many at once.",
            "anyOf": [text, ids, { "type": "array", "items": { "anyOf": [text, ids] }, "minItems": 1, "maxItems": TEXTS_MAX }],
        })
    }
}

/// What is taken where token numbers are not: the schema of one text or many.
struct Texts;

impl JsonSchema for Texts {
    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = json_schema!({ "type": "string", "pattern": description::NOT_BLANK });
        json_schema!({
            "description": "One text or many",
            "anyOf": [text, { "type": "array", "items": text, "minItems": 1, "maxItems": TEXTS_MAX }],
        })
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Expected;

        impl<'de> Visitor<'de> for Expected {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a list of texts, or token numbers")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Inputs, E> {
                Ok(Inputs::one(Item::Text(text.to_owned())))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Inputs, E> {
                Ok(Inputs::one(Item::Text(text)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Inputs, A::Error> {
                let (mut items, mut count, mut ids) = (Vec::new(), 0, Vec::new());
                while let Some(element) = list.next_element::<Element>()? {
                    match element {
                        Element::Item(item) => {
                            count += 1;
                            if count <= TEXTS_MAX {
                                items.push(item);
                            }
                        }
                        Element::Id(id) => push_id(&mut ids, id)?,
                    }
                    if count > 0 && !ids.is_empty() {
                        return Err(de::Error::custom("token numbers stand beside texts"));
                    }
                }
                if ids.is_empty() {
                    Ok(Inputs { items, count, single: false })
                } else {
                    Ok(Inputs::one(Item::Ids(ids)))
                }
            }
        }

        deserializer.deserialize_any(Expected)
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Expected;

        impl<'de> Visitor<'de> for Expected {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a token number or a list of token numbers")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Item(Item::Text(text.to_owned())))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Element, E> {
                Ok(Element::Item(Item::Text(text)))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Element, E> {
                u32::try_from(number)
                    .map(Element::Id)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &"a token number"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = list.next_element::<u32>()? {
                    push_id(&mut ids, id)?;
                }
                Ok(Element::Item(Item::Ids(ids)))
            }
        }

        deserializer.deserialize_any(Expected)
    }
}

/// The model of a name, or the default one, ready to answer. One that is being loaded is waited for.
///
/// A name may have its owner on the hub before it, as `sentence-transformers/all-MiniLM-L6-v2`.
async fn model(server: &Server, name: Option<&str>) -> Result<Embedder, Failure> {
    let name = name.unwrap_or(server.models().default_model());
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    let embedder = server.models().get(name)?;
    if embedder.state() == ModelState::Loading {
        // Whether it became ready or not, the request is told the state it is in then.
        drop(tokio::time::timeout(LOADING_PATIENCE, embedder.ready()).await);
    }
    Ok(embedder)
}

/// Has the model answer; how many texts were cut off is for the response's header. `place` says where each text was.
async fn answer(
    embedder: &Embedder,
    place: impl Fn(usize) -> String,
    request: Request,
) -> Result<(Vec<Embedding>, usize), Failure> {
    let embeddings = embedder.answer(request).await.map_err(|error| match error {
        EmbedError::TooLong { index, .. } | EmbedError::UnknownToken { index, .. } => {
            Failure::from(error).at(place(index))
        }
        _ => error.into(),
    })?;
    let cut = embeddings.iter().filter(|embedding| embedding.cut).count();
    Ok((embeddings, cut))
}

/// What a request says about texts that are longer than the window.
fn overlong(truncate: Option<bool>, direction: Option<&str>) -> Result<Overlong, Failure> {
    let cut = match direction {
        None | Some("Right" | "right") => Cut::End,
        Some("Left" | "left") => Cut::Start,
        Some(_) => return Err(Failure::field("truncation_direction", "must be Right or Left")),
    };
    Ok(if truncate.unwrap_or(false) { Overlong::Cut(cut) } else { Overlong::Refuse })
}

/// A body of JSON, with the number of texts that were cut off in a header where there are any.
fn json(body: &impl Serialize, cut: usize) -> Result<Response, Failure> {
    Ok(respond(to_json(body)?.into(), cut))
}

fn to_json(body: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(body).map_err(|error| Failure::new(Code::Internal, SOMETHING_WENT_WRONG).cause(error))
}

/// JSON that holds a place for as long as it is in memory, which is until the client has taken it.
fn held(json: Vec<u8>, place: Permit) -> Bytes {
    struct Held(Vec<u8>, #[expect(dead_code, reason = "it is held, not looked at")] Permit);

    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    Bytes::from_owner(Held(json, place))
}

fn respond(json: Bytes, cut: usize) -> Response {
    let mut response = Response::new(Body::from(json));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if cut > 0 {
        headers.insert(TRUNCATED, HeaderValue::from(cut));
    }
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: serde_json::Value) -> Result<Inputs, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    fn text(text: &str) -> Item {
        Item::Text(text.to_owned())
    }

    #[test]
    fn every_kind_of_input_is_read() {
        let one = Inputs::one;
        let many = |items: Vec<Item>| Inputs { count: items.len(), items, single: false };
        assert_eq!(read(json!("a")).unwrap(), one(text("a")));
        assert_eq!(read(json!(["a", "b"])).unwrap(), many(vec![text("a"), text("b")]));
        assert_eq!(read(json!([1, 2])).unwrap(), one(Item::Ids(vec![1, 2])));
        assert_eq!(read(json!([[1], [2, 3]])).unwrap(), many(vec![Item::Ids(vec![1]), Item::Ids(vec![2, 3])]));
        assert_eq!(read(json!(["a", [1]])).unwrap(), many(vec![text("a"), Item::Ids(vec![1])]));
        assert_eq!(read(json!([])).unwrap(), many(Vec::new()));
    }

    #[test]
    fn anything_else_is_refused() {
        for wrong in [
            json!(1),
            json!(null),
            json!({"a": 1}),
            json!([1, "a"]),
            json!([1.5]),
            json!([-1]),
            json!([1_u64 << 32]),
            json!([["a"]]),
            json!([[[1]]]),
            json!([null]),
            json!([true]),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn blank_texts_and_too_many_are_told_with_their_place() {
        let check = |value, expected: &str| {
            let told = read(value).unwrap().checked("input", 2).unwrap_err().report().text();
            assert!(told.contains(expected), "{told}");
        };
        check(json!([]), "input is empty");
        check(json!(""), "input is blank");
        check(json!(["a", " \n\t"]), "input[1] is blank");
        check(json!([[]]), "input[0] is blank");
        check(json!(["a", "b", "c"]), "has 3 texts, at most 2");
        check(json!(vec![""; 1_000_000]), "has 1000000 texts, at most 2");
    }

    #[test]
    fn what_is_beyond_the_most_texts_is_not_kept() {
        let read = read(json!(vec!["a"; 100_000])).unwrap();
        assert_eq!((read.items.len(), read.count), (TEXTS_MAX, 100_000));
    }

    #[test]
    fn a_place_is_held_until_the_answer_is_gone() {
        let door = holdfast_resilience::admission::Admission::new(1);
        let bytes = held(b"[]".to_vec(), door.try_enter().unwrap());
        let rest = bytes.slice(1..);
        drop(bytes);
        assert_eq!(door.in_use(), 1);
        drop(rest);
        assert_eq!(door.in_use(), 0);
    }
}
