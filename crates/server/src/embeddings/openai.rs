//! `POST /v1/embeddings`, as in <https://platform.openai.com/docs/api-reference/embeddings/create>.
//!
//! Beyond that, `truncate`: a text longer than the model reads is refused unless it says otherwise. Token numbers are of
//! `cl100k_base`, which clients use that do not know the model; they are turned back into text.

use axum::{extract::State, response::Response};
use base64::{Engine, prelude::BASE64_STANDARD};
use holdfast_embedding::{Input, Priority, Purpose, Request, Reuse, Scale, Shape};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Inputs, Item, Place, TEXTS_MAX, answer, charge, json, model, overlong};
use crate::{
    Server, description,
    error::{Code, Failure},
    input::{Authenticated, Body, one_of},
    limits::Meter,
};

/// Fields that are not listed are hints of other servers' clients; they change nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "EmbeddingsRequest")]
pub(crate) struct EmbeddingsBody {
    input: Inputs,
    /// A model; the default one where absent
    model: Option<String>,
    /// How the vectors are written; as numbers where absent
    #[schemars(extend("enum" = description::words(&ENCODINGS)))]
    encoding_format: Option<String>,
    /// How many numbers a vector has; as many as the model gives where absent
    dimensions: Option<u32>,
    /// Whether a text longer than the model reads is cut; it is refused where absent
    truncate: Option<bool>,
    /// Which end is cut off; the right where absent
    #[schemars(extend("enum" = ["Right", "right", "Left", "left", null]))]
    truncation_direction: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Embeddings")]
pub(crate) struct EmbeddingsAnswer<'a> {
    #[schemars(extend("const" = "list"))]
    object: &'static str,
    data: Vec<Datum>,
    model: &'a str,
    usage: Usage,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Embedding")]
struct Datum {
    #[schemars(extend("const" = "embedding"))]
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Vector {
    /// Its numbers
    Numbers(Vec<f32>),
    /// Its numbers as 32-bit floats, least significant byte first
    Base64(String),
}

#[derive(Debug, Serialize, JsonSchema)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

#[derive(Clone, Copy, Debug)]
enum Encoding {
    Float,
    Base64,
}

/// The words for how vectors are written.
const ENCODINGS: [(&str, Encoding); 2] = [("float", Encoding::Float), ("base64", Encoding::Base64)];

pub(crate) async fn embeddings(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
    meter: Meter,
    body: Body<EmbeddingsBody>,
) -> Result<Response, Failure> {
    let body = body.value;
    let encoding = one_of("encoding_format", body.encoding_format.as_deref(), Encoding::Float, &ENCODINGS)?;
    let overlong = overlong(body.truncate, body.truncation_direction.as_deref())?;
    let (items, place) = body.input.checked("input", TEXTS_MAX)?;
    charge(&meter, &items)?;
    let embedder = model(&server, body.model.as_deref()).await?;
    let inputs = texts(&server, items, place).await?.into_iter().map(Input::Text).collect();
    let request = Request {
        inputs,
        purpose: Purpose::Plain,
        priority: Priority::Interactive,
        overlong,
        scale: Scale::AsModel,
        shape: Shape::Pooled,
        reuse: Reuse::Yes,
        dimensions: body.dimensions.map(|dimensions| dimensions as usize),
    };
    let (embeddings, cut) = answer(&embedder, |index| place.of(index), request).await?;
    let tokens = embeddings.iter().map(|embedding| embedding.tokens).sum();
    let data = embeddings.into_iter().enumerate().map(|(index, embedding)| {
        let embedding = match encoding {
            Encoding::Float => Vector::Numbers(embedding.values),
            Encoding::Base64 => Vector::Base64(base64(&embedding.values)),
        };
        Datum { object: "embedding", index, embedding }
    });
    let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
    json(&EmbeddingsAnswer { object: "list", data: data.collect(), model: embedder.name(), usage }, cut)
}

fn base64(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

/// The texts, with token numbers turned back.
async fn texts(server: &Server, items: Vec<Item>, place: Place) -> Result<Vec<String>, Failure> {
    let bytes_max = server.config().max_body_bytes;
    let decode = move |items: Vec<Item>| {
        let mut bytes = 0;
        let texts = items.into_iter().enumerate().map(|(index, item)| {
            let text = text(item).ok_or_else(|| unknown(place, index))?;
            bytes += text.len();
            if bytes > bytes_max {
                let detail = format!("the token numbers stand for more than {bytes_max} bytes of text");
                return Err(Failure::new(Code::BodyTooLarge, detail).at(place.of(index)));
            }
            if text.trim().is_empty() {
                let place = place.of(index);
                return Err(Failure::new(Code::EmptyInput, format!("{place} is blank")).at(place));
            }
            Ok(text)
        });
        texts.collect()
    };
    if items.iter().all(|item| matches!(item, Item::Text(_))) {
        return decode(items);
    }
    // The first time, the vocabulary is read.
    server.blocking(move |_| decode(items)).await?
}

fn unknown(place: Place, index: usize) -> Failure {
    Failure::field(place.of(index), "has a token number that cl100k_base does not have")
}

/// A text, unless it has a token that there is not.
fn text(item: Item) -> Option<String> {
    let ids = match item {
        Item::Text(text) => return Some(text),
        Item::Ids(ids) => ids,
    };
    let bytes = tiktoken_rs::cl100k_base_singleton().decode_bytes(&ids).ok()?;
    // Clients cut long texts between two tokens, which can be within a character.
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.trim_end_matches('\u{fffd}').trim_start_matches('\u{fffd}');
    Some(if whole.trim().is_empty() { text.into_owned() } else { whole.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_numbers_become_their_text() {
        let wanted = "Ein Café, 漢字 and 👩‍🚀 again";
        let ids = tiktoken_rs::cl100k_base_singleton().encode_ordinary(wanted);
        assert_eq!(text(Item::Ids(ids.clone())).unwrap(), wanted);
        // 漢 is two tokens: cut in between, the rest of it is left out.
        let cut = text(Item::Ids(ids[..6].to_vec())).unwrap();
        assert!(wanted.starts_with(&cut) && cut.len() > 8, "{cut:?}");
        for wrong in [100_256, u32::MAX] {
            assert!(text(Item::Ids(vec![wrong])).is_none(), "{wrong}");
        }
    }

    #[test]
    fn base64_is_of_little_endian_floats() {
        assert_eq!(base64(&[1.0, -2.0]), "AACAPwAAAMA=");
    }
}
