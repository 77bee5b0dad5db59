//! The embedding service, as programs written for OpenAI or for text-embeddings-inference know it.
//!
//! A handler converts, has the model answer, and converts back. Bounds hold for every caller: texts a request here, tokens
//! and time in the embedding component, bytes at the gate. Requests may have fields that are not known here, since
//! clients of these APIs send hints; answers have exactly the fields of the API they follow. Nothing is truncated
//! unless the request says so, and then a header tells how many texts were.

pub(crate) mod openai;

pub(crate) mod tei;

use std::{fmt, time::Duration};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use holdfast_embedding::{Cut, EmbedError, Embedder, Embedding, ModelState, Overlong, Request};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};

use crate::{
    Server,
    error::{Code, Failure, SOMETHING_WENT_WRONG},
};

/// How many texts were cut off.
const TRUNCATED: HeaderName = HeaderName::from_static("x-holdfast-truncated");
/// How long a request waits for a model that it made load.
const LOADING_PATIENCE: Duration = Duration::from_secs(10);
/// Numbers in a text that is given as tokens; more than any model reads by far.
const TOKENS_MAX: usize = 1 << 20;

/// One text or many, each as such or as token numbers.
#[derive(Debug, PartialEq)]
pub(crate) struct Inputs {
    items: Vec<Item>,
    /// Whether it was one text and not a list.
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
    Text(String),
    Number(u32),
    Ids(Vec<u32>),
}

impl Inputs {
    /// The texts, when they are neither none nor too many, and none of them is blank.
    fn checked(self, field: &'static str, most: usize) -> Result<Vec<Item>, Failure> {
        if self.items.is_empty() {
            return Err(Failure::new(Code::EmptyInput, format!("{field} is empty")).at(field));
        }
        if self.items.len() > most {
            let detail = format!("{field} has {} texts, at most {most} are taken", self.items.len());
            return Err(Failure::new(Code::TooManyTexts, detail).at(field));
        }
        let blank = |item: &Item| match item {
            Item::Text(text) => text.trim().is_empty(),
            Item::Ids(ids) => ids.is_empty(),
        };
        if let Some(index) = self.items.iter().position(blank) {
            let place = if self.single { field.to_owned() } else { format!("{field}[{index}]") };
            return Err(Failure::new(Code::EmptyInput, format!("{place} is blank")).at(place));
        }
        Ok(self.items)
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
                Ok(Inputs { items: vec![Item::Text(text.to_owned())], single: true })
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Inputs, E> {
                Ok(Inputs { items: vec![Item::Text(text)], single: true })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Inputs, A::Error> {
                let (mut items, mut numbers) = (Vec::new(), Vec::new());
                while let Some(element) = list.next_element::<Element>()? {
                    match element {
                        Element::Text(text) => items.push(Item::Text(text)),
                        Element::Ids(ids) => items.push(Item::Ids(ids)),
                        Element::Number(number) => numbers.push(number),
                    }
                    if !items.is_empty() && !numbers.is_empty() {
                        return Err(de::Error::custom("token numbers stand beside texts"));
                    }
                    if numbers.len() > TOKENS_MAX {
                        return Err(de::Error::custom(format_args!("more than {TOKENS_MAX} token numbers")));
                    }
                }
                if numbers.is_empty() {
                    return Ok(Inputs { items, single: false });
                }
                Ok(Inputs { items: vec![Item::Ids(numbers)], single: true })
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
                Ok(Element::Text(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Element, E> {
                Ok(Element::Text(text))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Element, E> {
                u32::try_from(number)
                    .map(Element::Number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &"a token number"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = list.next_element::<u32>()? {
                    if ids.len() == TOKENS_MAX {
                        return Err(de::Error::custom(format_args!("more than {TOKENS_MAX} token numbers")));
                    }
                    ids.push(id);
                }
                Ok(Element::Ids(ids))
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

/// Has the model answer; how many texts were cut off is for the response's header. `field` is where the texts were.
async fn answer(
    embedder: &Embedder,
    field: &'static str,
    request: Request,
) -> Result<(Vec<Embedding>, usize), Failure> {
    let embeddings = embedder.answer(request).await.map_err(|error| match error {
        EmbedError::TooLong { index, .. } | EmbedError::UnknownToken { index, .. } => {
            Failure::from(error).at(format!("{field}[{index}]"))
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
    let body =
        serde_json::to_vec(body).map_err(|error| Failure::new(Code::Internal, SOMETHING_WENT_WRONG).cause(error))?;
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if cut > 0 {
        headers.insert(TRUNCATED, HeaderValue::from(cut));
    }
    Ok(response)
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
        let one = |items| Inputs { items, single: true };
        let many = |items| Inputs { items, single: false };
        assert_eq!(read(json!("a")).unwrap(), one(vec![text("a")]));
        assert_eq!(read(json!(["a", "b"])).unwrap(), many(vec![text("a"), text("b")]));
        assert_eq!(read(json!([1, 2])).unwrap(), one(vec![Item::Ids(vec![1, 2])]));
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
    }
}
