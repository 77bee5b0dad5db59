//! The routes of text-embeddings-inference, as its 1.9 describes them: `/embed`, `/embed_all`, `/info`, `/tokenize`,
//! `/similarity`. All of them are about the default model.

use axum::{extract::State, response::Response};
use holdfast_embedding::{
    Embedder, EmbeddingSpace, Input, Overlong, Pooling, Precision, Priority, Purpose, Request, Reuse, Scale, Shape,
    Token,
};
use holdfast_resilience::admission::Permit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Inputs, Item, TEXTS_MAX, Texts, answer, charge, held, json, model, overlong, respond, to_json};
use crate::{
    Server, description,
    error::{Code, Failure},
    input::{Authenticated, Body},
    limits::Meter,
};

/// The most texts whose tokens' vectors are asked for: each is as much as some hundred texts' vectors.
const WHOLE_TEXTS_MAX: usize = 32;
/// The most bytes of text whose tokens are spelled out: each of them may be a token, which is told in some 60 bytes.
const SPELLED_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "EmbedRequest")]
pub(crate) struct EmbedBody {
    inputs: Inputs,
    /// Whether vectors get length 1; they do where absent
    normalize: Option<bool>,
    /// How many numbers a vector has; as many as the model gives where absent
    dimensions: Option<u32>,
    /// What the texts are to the model: `query`, or `document` (also `passage`), where it knows them apart
    #[schemars(extend("enum" = ["query", "document", "passage", null]))]
    prompt_name: Option<String>,
    /// Whether a text longer than the model reads is cut; it is refused where absent
    truncate: Option<bool>,
    /// Which end is cut off; the right where absent
    #[schemars(extend("enum" = ["Right", "right", "Left", "left", null]))]
    truncation_direction: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "EmbedAllRequest")]
pub(crate) struct EmbedAllBody {
    inputs: Inputs,
    /// What the texts are to the model: `query`, or `document` (also `passage`), where it knows them apart
    #[schemars(extend("enum" = ["query", "document", "passage", null]))]
    prompt_name: Option<String>,
    /// Whether a text longer than the model reads is cut; it is refused where absent
    truncate: Option<bool>,
    /// Which end is cut off; the right where absent
    #[schemars(extend("enum" = ["Right", "right", "Left", "left", null]))]
    truncation_direction: Option<String>,
}

/// How texts are read. The other bodies spell these fields out: to flatten them in would keep unknown ones in memory.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct Reading {
    /// What the texts are to the model: `query`, or `document` (also `passage`), where it knows them apart
    #[schemars(extend("enum" = ["query", "document", "passage", null]))]
    prompt_name: Option<String>,
    /// Whether a text longer than the model reads is cut; it is refused where absent
    truncate: Option<bool>,
    /// Which end is cut off; the right where absent
    #[schemars(extend("enum" = ["Right", "right", "Left", "left", null]))]
    truncation_direction: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "TokenizeRequest")]
pub(crate) struct TokenizeBody {
    #[schemars(with = "Texts")]
    inputs: Inputs,
    /// Whether the tokens that the model puts around a text are told too; they are where absent
    add_special_tokens: Option<bool>,
    /// What the texts are to the model: `query`, or `document` (also `passage`), where it knows them apart
    #[schemars(extend("enum" = ["query", "document", "passage", null]))]
    prompt_name: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "SimilarityRequest")]
pub(crate) struct SimilarityBody {
    inputs: Comparison,
    parameters: Option<Reading>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Comparison {
    #[schemars(regex(pattern = description::NOT_BLANK))]
    source_sentence: String,
    #[schemars(with = "Vec<String>", length(min = 1, max = TEXTS_MAX - 1), inner(regex(pattern = description::NOT_BLANK)))]
    sentences: Inputs,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Info")]
pub(crate) struct InfoAnswer<'a> {
    model_id: &'a str,
    model_sha: &'a str,
    model_dtype: &'static str,
    served_model_name: &'a str,
    model_type: ModelType,
    max_concurrent_requests: usize,
    max_input_length: usize,
    max_batch_tokens: usize,
    max_batch_requests: Option<usize>,
    max_client_batch_size: usize,
    auto_truncate: bool,
    tokenization_workers: usize,
    version: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ModelType {
    embedding: PoolingInfo,
}

#[derive(Debug, Serialize, JsonSchema)]
struct PoolingInfo {
    pooling: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub(crate) struct SimpleToken<'a> {
    id: u32,
    text: &'a str,
    special: bool,
    start: Option<usize>,
    stop: Option<usize>,
}

pub(crate) async fn embed(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
    meter: Meter,
    body: Body<EmbedBody>,
) -> Result<Response, Failure> {
    let EmbedBody { inputs, normalize, dimensions, prompt_name, truncate, truncation_direction } = body.value;
    let reading = Reading { prompt_name, truncate, truncation_direction };
    let (items, place) = inputs.checked("inputs", TEXTS_MAX)?;
    charge(&meter, &items)?;
    let scale = if normalize.unwrap_or(true) { Scale::Unit } else { Scale::Raw };
    let dimensions = dimensions.map(|dimensions| dimensions as usize);
    let embedder = model(&server, None).await?;
    let request = Request { scale, dimensions, ..reading.request(&embedder, items)? };
    let (embeddings, cut) = answer(&embedder, |index| place.of(index), request).await?;
    let vectors: Vec<_> = embeddings.into_iter().map(|embedding| embedding.values).collect();
    json(&vectors, cut)
}

pub(crate) async fn embed_all(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
    meter: Meter,
    body: Body<EmbedAllBody>,
) -> Result<Response, Failure> {
    let EmbedAllBody { inputs, prompt_name, truncate, truncation_direction } = body.value;
    let reading = Reading { prompt_name, truncate, truncation_direction };
    let (items, place) = inputs.checked("inputs", WHOLE_TEXTS_MAX)?;
    charge(&meter, &items)?;
    let embedder = model(&server, None).await?;
    let permit = large(&server)?;
    let request = Request { shape: Shape::Tokens, ..reading.request(&embedder, items)? };
    let width = embedder.space()?.dimensions;
    let (embeddings, cut) = answer(&embedder, |index| place.of(index), request).await?;
    let written = server.blocking(move |_| {
        let vectors: Vec<Vec<&[f32]>> =
            embeddings.iter().map(|embedding| embedding.values.chunks_exact(width).collect()).collect();
        // The place is held here, also when the client has gone away.
        to_json(&vectors).map(|json| held(json, permit))
    });
    Ok(respond(written.await??, cut))
}

/// A place for an answer that takes much memory.
fn large(server: &Server) -> Result<Permit, Failure> {
    let refused = |_| Failure::new(Code::Overloaded, "as many answers about single tokens are under way as may be");
    server.whole_texts().try_enter().map_err(refused)
}

pub(crate) async fn similarity(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
    meter: Meter,
    body: Body<SimilarityBody>,
) -> Result<Response, Failure> {
    let SimilarityBody { inputs: Comparison { source_sentence, sentences }, parameters } = body.value;
    let source = Inputs::one(Item::Text(source_sentence));
    let (mut texts, source) = source.checked("inputs.source_sentence", 1)?;
    let (others, sentences) = sentences.checked("inputs.sentences", TEXTS_MAX - 1)?;
    if sentences.single || others.iter().any(|item| matches!(item, Item::Ids(_))) {
        return Err(Failure::field("inputs.sentences", "must be a list of texts"));
    }
    texts.extend(others);
    charge(&meter, &texts)?;
    let place = |index: usize| index.checked_sub(1).map_or_else(|| source.of(0), |index| sentences.of(index));
    let embedder = model(&server, None).await?;
    let request = Request { scale: Scale::Unit, ..parameters.unwrap_or_default().request(&embedder, texts)? };
    let (embeddings, cut) = answer(&embedder, place, request).await?;
    let similarities: Vec<f32> = match embeddings.split_first() {
        Some((source, others)) => others.iter().map(|other| dot(&source.values, &other.values)).collect(),
        None => Vec::new(),
    };
    json(&similarities, cut)
}

/// Of two vectors of length 1, their cosine.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

pub(crate) async fn tokenize(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
    meter: Meter,
    body: Body<TokenizeBody>,
) -> Result<Response, Failure> {
    let TokenizeBody { inputs, add_special_tokens, prompt_name } = body.value;
    let (items, place) = inputs.checked("inputs", TEXTS_MAX)?;
    charge(&meter, &items)?;
    let bytes: usize = items.iter().map(|item| if let Item::Text(text) = item { text.len() } else { 0 }).sum();
    if bytes > SPELLED_BYTES_MAX {
        let detail = format!("inputs has {bytes} bytes of text, at most {SPELLED_BYTES_MAX} are spelled out at a time");
        return Err(Failure::new(Code::TooManyTexts, detail).at("inputs"));
    }
    let embedder = model(&server, None).await?;
    let (tokens, space) = (embedder.tokenizer()?, embedder.space()?);
    if !tokens.is_exact() {
        let detail = format!("{} is run by another server, which alone knows its tokens", embedder.name());
        return Err(Failure::new(Code::ModelUnsupported, detail).hint(Some("ask that server".to_owned())));
    }
    let prefix = prefix(prompt_name.as_deref(), &space)?.to_owned();
    let special = add_special_tokens.unwrap_or(true);
    let permit = large(&server)?;
    let written = server.blocking(move |_| {
        let mut written = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let Item::Text(text) = item else { return Err(Failure::field(place.of(index), "must be a text")) };
            let text = format!("{prefix}{text}");
            let [first, last] = tokens.special().map(|(id, name)| special.then(|| named(id, name)));
            let plain = simple(&text, tokens.spell(&text)?);
            let spelled: Vec<_> = first.into_iter().chain(plain).chain(last).collect();
            written.push(if written.is_empty() { b'[' } else { b',' });
            written.append(&mut to_json(&spelled)?);
        }
        written.push(b']');
        Ok(held(written, permit))
    });
    Ok(respond(written.await??, 0))
}

fn named(id: u32, name: &str) -> SimpleToken<'_> {
    SimpleToken { id, text: name, special: true, start: None, stop: None }
}

/// Tokens with their part of the text, whose place is counted in characters.
fn simple(text: &str, tokens: Vec<Token>) -> Vec<SimpleToken<'_>> {
    let (mut byte, mut character) = (0, 0);
    // Tokens come in order, so the text is counted through once.
    let mut characters_to = |to: usize| {
        if to >= byte {
            character += text[byte..to].chars().count();
        } else {
            // Several tokens of one character begin where the one before did.
            character -= text[to..byte].chars().count();
        }
        byte = to;
        character
    };
    let place = |token: Token| {
        let start = Some(characters_to(token.start));
        let stop = Some(characters_to(token.end));
        SimpleToken { id: token.id, text: &text[token.start..token.end], special: false, start, stop }
    };
    tokens.into_iter().map(place).collect()
}

pub(crate) async fn info(State(server): State<Server>, Authenticated(_): Authenticated) -> Result<Response, Failure> {
    let embedder = model(&server, None).await?;
    let space = embedder.space()?;
    let limits = embedder.limits()?;
    let answer = InfoAnswer {
        model_id: embedder.name(),
        model_sha: &space.revision,
        model_dtype: match space.precision {
            Some(Precision::F32) => "float32",
            Some(Precision::Int8) => "int8",
            None => "unknown",
        },
        served_model_name: embedder.name(),
        model_type: ModelType {
            embedding: PoolingInfo {
                pooling: match space.pooling {
                    Some(Pooling::Mean) => "mean",
                    Some(Pooling::Cls) => "cls",
                    None => "unknown",
                },
            },
        },
        max_concurrent_requests: server.config().max_concurrent_requests,
        max_input_length: space.window,
        max_batch_tokens: limits.batch_tokens,
        max_batch_requests: None,
        max_client_batch_size: TEXTS_MAX,
        auto_truncate: false,
        tokenization_workers: limits.threads,
        version: server.version(),
    };
    json(&answer, 0)
}

impl Reading {
    /// The request for some texts, apart from what each route says itself.
    fn request(&self, embedder: &Embedder, items: Vec<Item>) -> Result<Request, Failure> {
        let overlong: Overlong = overlong(self.truncate, self.truncation_direction.as_deref())?;
        let inputs = items.into_iter().map(|item| match item {
            Item::Text(text) => Input::Text(text),
            Item::Ids(ids) => Input::Ids(ids),
        });
        Ok(Request {
            inputs: inputs.collect(),
            purpose: purpose(self.prompt_name.as_deref(), &*embedder.space()?)?,
            priority: Priority::Interactive,
            overlong,
            scale: Scale::AsModel,
            shape: Shape::Pooled,
            reuse: Reuse::Yes,
            dimensions: None,
        })
    }
}

/// What a prompt's name says the texts are.
fn purpose(name: Option<&str>, space: &EmbeddingSpace) -> Result<Purpose, Failure> {
    let known = |prefix: &str, purpose| (!prefix.is_empty()).then_some(purpose);
    let purpose = match name {
        None => Some(Purpose::Plain),
        Some("query") => known(&space.query_prefix, Purpose::Query),
        Some("document" | "passage") => known(&space.document_prefix, Purpose::Document),
        Some(_) => None,
    };
    purpose.ok_or_else(|| Failure::field("prompt_name", "is not one that the model has"))
}

fn prefix<'a>(name: Option<&str>, space: &'a EmbeddingSpace) -> Result<&'a str, Failure> {
    Ok(match purpose(name, space)? {
        Purpose::Plain => "",
        Purpose::Query => &space.query_prefix,
        Purpose::Document => &space.document_prefix,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters() {
        let token = |start, end| Token { id: 1, start, end };
        let spelled = simple("é né", vec![token(0, 2), token(3, 4), token(3, 6)]);
        let places: Vec<_> = spelled.iter().map(|token| (token.text, token.start, token.stop)).collect();
        assert_eq!(places, [("é", Some(0), Some(1)), ("n", Some(2), Some(3)), ("né", Some(2), Some(4))]);
    }
}
