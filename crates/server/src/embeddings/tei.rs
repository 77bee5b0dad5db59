//! The routes of text-embeddings-inference, as its 1.9 describes them: `/embed`, `/embed_all`, `/info`, `/tokenize`,
//! `/similarity`. All of them are about the default model.

use axum::{extract::State, response::Response};
use holdfast_embedding::{
    Embedder, EmbeddingSpace, Input, Overlong, Pooling, Precision, Priority, Purpose, Request, Reuse, Scale, Shape,
    Token,
};
use serde::{Deserialize, Serialize};

use super::{Inputs, Item, answer, json, model, overlong};
use crate::{
    Server,
    error::{Code, Failure},
    input::{Authenticated, Body},
};

/// The most texts of a request.
const TEXTS_MAX: usize = 2_048;
/// The most texts whose tokens' vectors are asked for: each is as much as some hundred texts' vectors.
const WHOLE_TEXTS_MAX: usize = 32;

#[derive(Debug, Deserialize)]
pub(crate) struct EmbedBody {
    inputs: Inputs,
    normalize: Option<bool>,
    dimensions: Option<u32>,
    #[serde(flatten)]
    reading: Reading,
}

#[derive(Debug, Deserialize)]
pub(crate) struct EmbedAllBody {
    inputs: Inputs,
    #[serde(flatten)]
    reading: Reading,
}

/// How texts are read.
#[derive(Debug, Default, Deserialize)]
struct Reading {
    prompt_name: Option<String>,
    truncate: Option<bool>,
    truncation_direction: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TokenizeBody {
    inputs: Inputs,
    add_special_tokens: Option<bool>,
    prompt_name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SimilarityBody {
    inputs: Comparison,
    parameters: Option<Reading>,
}

#[derive(Debug, Deserialize)]
struct Comparison {
    source_sentence: String,
    sentences: Vec<String>,
}

#[derive(Debug, Serialize)]
struct InfoAnswer<'a> {
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

#[derive(Debug, Serialize)]
struct ModelType {
    embedding: PoolingInfo,
}

#[derive(Debug, Serialize)]
struct PoolingInfo {
    pooling: &'static str,
}

#[derive(Debug, Serialize)]
struct SimpleToken {
    id: u32,
    text: String,
    special: bool,
    start: Option<usize>,
    stop: Option<usize>,
}

pub(crate) async fn embed(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
    body: Body<EmbedBody>,
) -> Result<Response, Failure> {
    let EmbedBody { inputs, normalize, dimensions, reading } = body.value;
    let items = inputs.checked("inputs", TEXTS_MAX)?;
    let scale = if normalize.unwrap_or(true) { Scale::Unit } else { Scale::Raw };
    let dimensions = dimensions.map(|dimensions| dimensions as usize);
    let embedder = model(&server, None).await?;
    let request = Request { scale, dimensions, ..reading.request(&embedder, items)? };
    let (embeddings, cut) = answer(&embedder, "inputs", request).await?;
    let vectors: Vec<_> = embeddings.into_iter().map(|embedding| embedding.values).collect();
    json(&vectors, cut)
}

pub(crate) async fn embed_all(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
    body: Body<EmbedAllBody>,
) -> Result<Response, Failure> {
    let EmbedAllBody { inputs, reading } = body.value;
    let items = inputs.checked("inputs", WHOLE_TEXTS_MAX)?;
    let embedder = model(&server, None).await?;
    let refused = |_| Failure::new(Code::Overloaded, "the vectors of as many texts' tokens are under way as may be");
    let _place = server.whole_texts().try_enter().map_err(refused)?;
    let request = Request { shape: Shape::Tokens, ..reading.request(&embedder, items)? };
    let width = embedder.space()?.dimensions;
    let (embeddings, cut) = answer(&embedder, "inputs", request).await?;
    let vectors: Vec<Vec<&[f32]>> =
        embeddings.iter().map(|embedding| embedding.values.chunks_exact(width).collect()).collect();
    json(&vectors, cut)
}

pub(crate) async fn similarity(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
    body: Body<SimilarityBody>,
) -> Result<Response, Failure> {
    let SimilarityBody { inputs: Comparison { source_sentence, sentences }, parameters } = body.value;
    let items = |texts: Vec<String>, field| {
        let items = texts.into_iter().map(Item::Text).collect();
        Inputs { items, single: false }.checked(field, TEXTS_MAX - 1)
    };
    let mut texts = items(vec![source_sentence], "inputs.source_sentence")?;
    texts.extend(items(sentences, "inputs.sentences")?);
    let embedder = model(&server, None).await?;
    let request = Request { scale: Scale::Unit, ..parameters.unwrap_or_default().request(&embedder, texts)? };
    let (embeddings, cut) = answer(&embedder, "inputs", request).await?;
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
    body: Body<TokenizeBody>,
) -> Result<Response, Failure> {
    let TokenizeBody { inputs, add_special_tokens, prompt_name } = body.value;
    let items = inputs.checked("inputs", TEXTS_MAX)?;
    let embedder = model(&server, None).await?;
    let (tokens, space) = (embedder.tokenizer()?, embedder.space()?);
    if !tokens.is_exact() {
        let detail = format!("{} is run by another server, which alone knows its tokens", embedder.name());
        return Err(Failure::new(Code::ModelUnsupported, detail).hint(Some("ask that server".to_owned())));
    }
    let prefix = prefix(prompt_name.as_deref(), &space)?.to_owned();
    let special = add_special_tokens.unwrap_or(true);
    let spelled = server.blocking(move |_| {
        let spell = |(index, item)| match item {
            Item::Text(text) => {
                let text = format!("{prefix}{text}");
                let [first, last] = tokens.special().map(|(id, name)| special.then(|| named(id, name)));
                let plain = simple(&text, tokens.spell(&text)?);
                Ok(first.into_iter().chain(plain).chain(last).collect::<Vec<_>>())
            }
            Item::Ids(_) => Err(Failure::field(format!("inputs[{index}]"), "must be a text")),
        };
        items.into_iter().enumerate().map(spell).collect::<Result<Vec<_>, Failure>>()
    });
    json(&spelled.await??, 0)
}

fn named(id: u32, name: &str) -> SimpleToken {
    SimpleToken { id, text: name.to_owned(), special: true, start: None, stop: None }
}

/// Tokens with their part of the text, whose place is counted in characters.
fn simple(text: &str, tokens: Vec<Token>) -> Vec<SimpleToken> {
    let (mut byte, mut character) = (0, 0);
    // Tokens come in order, so the text is counted through once.
    let mut characters_to = |to: usize| {
        if to >= byte {
            character += text[byte..to].chars().count();
            byte = to;
            character
        } else {
            text[..to].chars().count()
        }
    };
    let place = |token: Token| {
        let start = Some(characters_to(token.start));
        let stop = Some(characters_to(token.end));
        SimpleToken { id: token.id, text: text[token.start..token.end].to_owned(), special: false, start, stop }
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
        let places: Vec<_> = spelled.iter().map(|token| (&*token.text, token.start, token.stop)).collect();
        assert_eq!(places, [("é", Some(0), Some(1)), ("n", Some(2), Some(3)), ("né", Some(2), Some(4))]);
    }
}
