//! What is asked of a model, and what has to be known of it before it can wait for a thread: which texts have their
//! vectors kept, and which tokens the others have.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    cache::{Cache, Found},
    embedder::{Loaded, Priority, Purpose},
    encoder::{Encoded, Shape, Shorter},
    error::EmbedError,
    queue::{Content, Key, Room, Text},
    space::EmbeddingSpace,
    tokens::{Cut, Tokens},
    worker::PANICKED,
};

/// What a token has of an English text, with the space before it.
const BYTES_A_TOKEN: usize = 5;

/// Texts to embed, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// The texts.
    pub inputs: Vec<Input>,
    /// What they are, for models that put another prefix before each kind. Has no effect on token numbers.
    pub purpose: Purpose,
    /// Who waits.
    pub priority: Priority,
    /// What happens to a text with more tokens than the model reads.
    pub overlong: Overlong,
    /// How long the vectors are.
    pub scale: Scale,
    /// What is made of each text.
    pub shape: Shape,
    /// Whether what is known already will do.
    pub reuse: Reuse,
    /// Numbers in a vector, where it should have fewer than the model's.
    pub dimensions: Option<usize>,
}

impl Request {
    /// Texts as the model means them: cut off at the window, one vector each, of the length the model gives it.
    pub fn of(texts: Vec<String>, purpose: Purpose, priority: Priority) -> Request {
        let inputs = texts.into_iter().map(Input::Text).collect();
        let overlong = Overlong::Cut(Cut::End);
        Request {
            inputs,
            purpose,
            priority,
            overlong,
            scale: Scale::AsModel,
            shape: Shape::Pooled,
            reuse: Reuse::Yes,
            dimensions: None,
        }
    }
}

/// One text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// As such.
    Text(String),
    /// As the model's own token numbers, with or without the special ones.
    Ids(Vec<u32>),
}

/// What happens to a text with more tokens than the model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlong {
    /// The whole request is refused.
    Refuse,
    /// A part of it is not read, and the answer says so.
    Cut(Cut),
}

/// Whether a vector that was computed before will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// It is the same.
    Yes,
    /// That one is computed is what is asked: neither what is kept nor what is under way for others will do.
    No,
}

/// How long vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As the model's files say.
    AsModel,
    /// Of length 1.
    Unit,
    /// As the network gives them.
    Raw,
}

/// What was made of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// The vector, or the vectors of the tokens one after the other.
    pub values: Vec<f32>,
    /// Tokens that were read, the special ones included.
    pub tokens: usize,
    /// Whether the text had more.
    pub cut: bool,
}

/// A request whose texts are ready to be encoded.
pub(crate) struct Prepared {
    /// The room of what has to be encoded; none where everything is known.
    _room: Option<Room>,
    pub(crate) texts: Vec<Text>,
    slots: Vec<Slot>,
}

enum Slot {
    Known(Found),
    New { tokens: usize, cut: bool },
}

impl Prepared {
    /// Looks up what is known, makes sure of room for the rest, and tokenizes it.
    pub(crate) fn new(loaded: &Loaded, cache: &Cache, request: &Request) -> Result<Prepared, EmbedError> {
        if let Some(asked) = request.dimensions {
            loaded.check_dimensions(asked)?;
        }
        let cut = match request.overlong {
            Overlong::Refuse => Cut::End,
            Overlong::Cut(cut) => cut,
        };
        let prefix = request.purpose.prefix(&loaded.space);
        let keys: Vec<Key> =
            request.inputs.iter().map(|input| key(&loaded.fingerprint, input, prefix, cut, request)).collect();
        let reuse = request.reuse == Reuse::Yes && request.shape == Shape::Pooled;
        let known = match reuse {
            true => cache.get(&keys, loaded.space.dimensions),
            false => vec![None; keys.len()],
        };
        let keep = reuse && request.priority == Priority::Interactive;
        let unknown = || request.inputs.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(input, _)| input);
        let count = unknown().count();
        let room = (count > 0)
            .then(|| {
                let tokens = unknown().map(|input| input.tokens(loaded.space.window)).sum();
                loaded.queue.reserve(request.priority, count, tokens)
            })
            .transpose()?;
        let mut prepared =
            Prepared { _room: room, texts: Vec::with_capacity(count), slots: Vec::with_capacity(keys.len()) };
        for (index, ((input, key), known)) in request.inputs.iter().zip(keys).zip(known).enumerate() {
            let slot = match known {
                Some(found) => Slot::Known(found),
                None => {
                    let (content, tokens, cut) = if loaded.remote.is_some() {
                        read_for_elsewhere(loaded, input, prefix, cut, request.shape)?
                    } else {
                        let (ids, cut) = tokenize(&loaded.tokens, input, prefix, cut, index)?;
                        let tokens = ids.len();
                        (Content::Ids(ids), tokens, cut)
                    };
                    prepared.texts.push(Text { key, content, tokens, cut, shape: request.shape, keep });
                    Slot::New { tokens, cut }
                }
            };
            if slot.cut() && request.overlong == Overlong::Refuse {
                return Err(EmbedError::TooLong { index, window: loaded.space.window });
            }
            prepared.slots.push(slot);
        }
        Ok(prepared)
    }

    /// Whether nothing has to be encoded.
    pub(crate) fn is_known(&self) -> bool {
        self.texts.is_empty()
    }

    /// The place in the request of a text that had to be encoded.
    pub(crate) fn place_of(&self, encoded: usize) -> usize {
        let new = self.slots.iter().enumerate().filter(|(_, slot)| matches!(slot, Slot::New { .. }));
        new.map(|(place, _)| place).nth(encoded).unwrap_or(encoded)
    }

    /// Puts together what was known and what was encoded.
    pub(crate) fn finish(
        self,
        request: &Request,
        space: &EmbeddingSpace,
        encoded: Vec<Arc<Encoded>>,
    ) -> Vec<Embedding> {
        let mut encoded = encoded.into_iter();
        let found = self.slots.into_iter().filter_map(|slot| match slot {
            Slot::Known(found) => Some(found),
            Slot::New { tokens, cut } => Some(Found { encoded: encoded.next()?, tokens, cut }),
        });
        found.map(|found| found.scaled(request, space)).collect()
    }
}

impl Loaded {
    fn check_dimensions(&self, asked: usize) -> Result<(), EmbedError> {
        let has = self.space.dimensions;
        let offered = match &self.shorter {
            _ if asked == has => return Ok(()),
            Shorter::Any if (1..=has).contains(&asked) => return Ok(()),
            Shorter::Of(dimensions) if asked < has && asked > 0 && dimensions.contains(&asked) => return Ok(()),
            Shorter::Any => format!("1 to {has}"),
            Shorter::Of(dimensions) => {
                let offered: Vec<String> = dimensions.iter().map(usize::to_string).collect();
                format!("{has}, {}", offered.join(", "))
            }
            Shorter::None => format!("{has} only"),
        };
        Err(EmbedError::NoSuchDimensions { asked, offered })
    }
}

impl Slot {
    fn cut(&self) -> bool {
        match self {
            Slot::Known(found) => found.cut,
            Slot::New { cut, .. } => *cut,
        }
    }
}

impl Found {
    fn scaled(self, request: &Request, space: &EmbeddingSpace) -> Embedding {
        let mut values = self.encoded.values.clone();
        if request.shape == Shape::Pooled {
            let shorter = request.dimensions.filter(|dimensions| *dimensions < values.len());
            values.truncate(shorter.unwrap_or(values.len()));
            let is_unit = space.normalised && shorter.is_none();
            let factor = match (request.scale, is_unit) {
                (Scale::Unit, false) => length(&values).recip(),
                (Scale::AsModel, false) if space.normalised => length(&values).recip(),
                (Scale::Raw, _) if space.normalised => self.encoded.length,
                _ => 1.0,
            };
            if factor != 1.0 {
                values.iter_mut().for_each(|value| *value *= factor);
            }
        }
        Embedding { values, tokens: self.tokens, cut: self.cut }
    }
}

/// A vector's length; of one that has none, such that it stays what it is.
fn length(values: &[f32]) -> f32 {
    let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32;
    if length > f32::MIN_POSITIVE { length } else { 1.0 }
}

impl Input {
    /// Bytes that have to be looked at.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Input::Text(text) => text.len(),
            Input::Ids(ids) => ids.len() * size_of::<u32>(),
        }
    }

    /// Its tokens, about, before it is tokenized.
    fn tokens(&self, window: usize) -> usize {
        match self {
            Input::Text(text) => (2 + text.len() / BYTES_A_TOKEN).min(window),
            Input::Ids(ids) => ids.len().min(window),
        }
    }
}

/// Names what is wanted of a text: two with the same name have the same vector.
fn key(space: &[u8; 32], input: &Input, prefix: &str, cut: Cut, request: &Request) -> Key {
    /// Makes one name of its own for each text that nothing else may stand for.
    static ALONE: AtomicU64 = AtomicU64::new(1);
    let mut hasher = blake3::Hasher::new_keyed(space);
    hasher.update(&[cut as u8, request.shape as u8, u8::from(matches!(input, Input::Ids(_)))]);
    let alone = match request.reuse {
        Reuse::Yes => 0,
        Reuse::No => ALONE.fetch_add(1, Ordering::Relaxed),
    };
    hasher.update(&alone.to_le_bytes());
    match input {
        Input::Text(text) => {
            hasher.update(prefix.as_bytes()).update(text.as_bytes());
        }
        Input::Ids(ids) => ids.iter().for_each(|id| {
            hasher.update(&id.to_le_bytes());
        }),
    }
    *hasher.finalize().as_bytes()
}

/// A text for a server elsewhere, its tokens, about, and whether it was cut.
fn read_for_elsewhere(
    loaded: &Loaded,
    input: &Input,
    prefix: &str,
    cut: Cut,
    shape: Shape,
) -> Result<(Content, usize, bool), EmbedError> {
    let only_local = |what| EmbedError::OnlyLocal { model: loaded.space.model.clone(), what };
    let Input::Text(text) = input else { return Err(only_local("vectors of token numbers")) };
    if shape == Shape::Tokens {
        return Err(only_local("the vectors of tokens"));
    }
    let text = format!("{prefix}{text}");
    let tokens = loaded.tokens.spell(&text)?;
    // Two are the special ones, which that server adds.
    let count = tokens.len() + 2;
    let over = count.saturating_sub(loaded.space.window);
    if over == 0 {
        return Ok((Content::Text(text, tracing::Span::current()), count, false));
    }
    let part = match cut {
        Cut::End => &text[..tokens[tokens.len() - over].start],
        Cut::Start => &text[tokens[over].start..],
    };
    Ok((Content::Text(part.to_owned(), tracing::Span::current()), loaded.space.window, true))
}

/// Token numbers of a text, and whether it had more than are read.
fn tokenize(
    tokens: &Tokens,
    input: &Input,
    prefix: &str,
    cut: Cut,
    index: usize,
) -> Result<(Vec<u32>, bool), EmbedError> {
    match input {
        Input::Text(text) => {
            let prefixed = (!prefix.is_empty()).then(|| format!("{prefix}{text}"));
            // Tokenizers other than our own are not known never to panic.
            catch_unwind(AssertUnwindSafe(|| tokens.ids(prefixed.as_deref().unwrap_or(text), cut)))
                .unwrap_or_else(|_| Err(EmbedError::Encoder { reason: PANICKED.to_owned() }))
        }
        Input::Ids(ids) => match ids.iter().find(|id| **id as usize >= tokens.vocabulary()) {
            Some(id) => Err(EmbedError::UnknownToken { index, id: *id }),
            None => Ok(tokens.given_ids(ids, cut)),
        },
    }
}
