//! What a model's small JSON files say: the network's shape, the window, the pooling, the prefixes.
//!
//! Reads and checks them; refuses what the encoder would compute differently from the model's authors. Does not read
//! weights.

use std::{
    io::{ErrorKind, Read},
    path::Path,
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    error::EmbedError,
    manifest::{CONFIG, MODULES, POOLING, PROMPTS, SENTENCE_CONFIG},
    space::{Pooling, Precision},
    worker::batch_tokens,
};

/// The settings files have a few hundred bytes; more than this is not one of them.
const MAX_JSON_BYTES: u64 = 1 << 20;

/// Everything but weights and vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) model: String,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) layers: usize,
    pub(crate) intermediate: usize,
    pub(crate) vocabulary: usize,
    pub(crate) positions: usize,
    pub(crate) token_types: usize,
    pub(crate) norm_epsilon: f32,
    /// Tokens read of a text, the special ones included.
    pub(crate) window: usize,
    pub(crate) pooling: Pooling,
    pub(crate) normalised: bool,
    pub(crate) query_prefix: String,
    pub(crate) document_prefix: String,
    pub(crate) shorter: Shorter,
}

#[derive(Deserialize)]
struct NetworkFile {
    model_type: String,
    hidden_act: String,
    hidden_size: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "default_token_types")]
    type_vocab_size: usize,
    #[serde(default = "default_norm_epsilon")]
    layer_norm_eps: f32,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_matryoshka: bool,
    matryoshka_dimensions: Option<Vec<usize>>,
}

/// Shorter vectors that mean the same: the first so many numbers of a vector (Kusupati et al. 2022).
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shorter {
    /// The model was not trained for it.
    None,
    /// Of any number of dimensions.
    Any,
    /// Of these.
    Of(Vec<usize>),
}

// Both as in the `BertConfig` of the transformers library, which leaves defaults out of the file.
fn default_token_types() -> usize {
    2
}

fn default_norm_epsilon() -> f32 {
    1e-12
}

#[derive(Deserialize)]
struct SentenceFile {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct ModuleEntry {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PoolingFile {
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

#[derive(Default, Deserialize)]
struct PromptsFile {
    #[serde(default)]
    prompts: Prompts,
}

#[derive(Default, Deserialize)]
struct Prompts {
    query: Option<String>,
    document: Option<String>,
    /// What some models call their documents.
    passage: Option<String>,
}

impl Settings {
    /// Reads the settings of a model's folder.
    pub(crate) fn load(model: &str, folder: &Path) -> Result<Settings, EmbedError> {
        let reader = Reader { model, folder };
        let network: NetworkFile = reader.json(CONFIG)?.ok_or_else(|| reader.invalid(format!("it has no {CONFIG}")))?;
        network.check().map_err(|reason| reader.invalid(reason))?;
        let sentence: Option<SentenceFile> = reader.json(SENTENCE_CONFIG)?;
        let window = sentence
            .and_then(|file| file.max_seq_length)
            .unwrap_or(network.max_position_embeddings)
            .min(network.max_position_embeddings);
        let modules: Option<Vec<ModuleEntry>> = reader.json(MODULES)?;
        let normalised = match &modules {
            // Without a list of stages nothing is known to want raw lengths, and unit vectors suit every comparison.
            None => true,
            Some(modules) => reader.normalises(modules)?,
        };
        let pooling =
            reader.json(POOLING)?.unwrap_or(PoolingFile { pooling_mode_mean_tokens: true, ..Default::default() });
        let shorter = match (network.matryoshka_dimensions, network.is_matryoshka) {
            (Some(dimensions), _) => Shorter::Of(dimensions),
            (None, true) => Shorter::Any,
            (None, false) => Shorter::None,
        };
        let prompts = reader.json::<PromptsFile>(PROMPTS)?.unwrap_or_default().prompts;
        Ok(Settings {
            model: model.to_owned(),
            hidden: network.hidden_size,
            heads: network.num_attention_heads,
            layers: network.num_hidden_layers,
            intermediate: network.intermediate_size,
            vocabulary: network.vocab_size,
            positions: network.max_position_embeddings,
            token_types: network.type_vocab_size,
            norm_epsilon: network.layer_norm_eps,
            window,
            pooling: pooling.pooling().map_err(|reason| reader.invalid(reason))?,
            normalised,
            query_prefix: prompts.query.unwrap_or_default(),
            document_prefix: prompts.document.or(prompts.passage).unwrap_or_default(),
            shorter,
        })
    }
}

impl Settings {
    /// Memory that a network of this shape takes with so many threads, about: tables, packed weights, tokenizer, and
    /// what each thread has in hand.
    pub(crate) fn memory_bytes(&self, precision: Precision, threads: usize) -> u64 {
        /// A piece of the vocabulary, in the maps that find it.
        const PIECE_BYTES: usize = 200;
        let weight_bytes = match precision {
            Precision::F32 => 4,
            Precision::Int8 => 1,
        };
        let tables = (self.vocabulary + self.window) * self.hidden * 4 + self.vocabulary * PIECE_BYTES;
        let layer = self.hidden * (4 * self.hidden + 2 * self.intermediate) * weight_bytes;
        // State, change, query, key, value, context and bytes of a row, and a block of wide rows.
        let rows = batch_tokens(precision).max(self.window) * self.hidden * 7 * 4;
        let thread = rows + 224 * self.intermediate * 4;
        (tables + self.layers * layer + threads * thread) as u64
    }
}

impl NetworkFile {
    fn check(&self) -> Result<(), String> {
        if self.model_type != "bert" {
            return Err(format!("it is a {:?} network, not a BERT", self.model_type));
        }
        if self.hidden_act != "gelu" {
            return Err(format!("its activation {:?} is not the exact GELU", self.hidden_act));
        }
        if let Some(kind) = self.position_embedding_type.as_deref().filter(|kind| *kind != "absolute") {
            return Err(format!("its position embedding {kind:?} is not absolute"));
        }
        let sizes = [
            self.hidden_size,
            self.num_attention_heads,
            self.num_hidden_layers,
            self.intermediate_size,
            self.vocab_size,
            self.max_position_embeddings,
            self.type_vocab_size,
        ];
        // The bound keeps products of two sizes far from overflow; the largest BERT has a vocabulary of 250 000.
        if sizes.iter().any(|size| !(1..=1 << 22).contains(size)) {
            return Err("one of its sizes is out of range".to_owned());
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!("{} heads do not divide {}", self.num_attention_heads, self.hidden_size));
        }
        Ok(())
    }
}

impl PoolingFile {
    fn pooling(&self) -> Result<Pooling, String> {
        let unsupported = self.pooling_mode_max_tokens
            || self.pooling_mode_mean_sqrt_len_tokens
            || self.pooling_mode_weightedmean_tokens
            || self.pooling_mode_lasttoken;
        match (self.pooling_mode_mean_tokens, self.pooling_mode_cls_token, unsupported) {
            (true, false, false) => Ok(Pooling::Mean),
            (false, true, false) => Ok(Pooling::Cls),
            _ => Err("its pooling is neither the mean nor the first token".to_owned()),
        }
    }
}

/// Reads one model's JSON files.
struct Reader<'a> {
    model: &'a str,
    folder: &'a Path,
}

impl Reader<'_> {
    fn invalid(&self, reason: String) -> EmbedError {
        EmbedError::InvalidModel { model: self.model.to_owned(), reason }
    }

    /// One file's content, or nothing when there is no such file.
    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, EmbedError> {
        let path = self.folder.join(name);
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(EmbedError::io("open", path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_JSON_BYTES).read_to_end(&mut bytes).map_err(EmbedError::io("read", path))?;
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| self.invalid(format!("{name} cannot be understood: {error}")))
    }

    /// Whether the stages end with a normalisation; refuses stages the encoder does not have.
    fn normalises(&self, modules: &[ModuleEntry]) -> Result<bool, EmbedError> {
        // The last part is stable where the module's path is not.
        let names: Vec<&str> = modules.iter().map(|m| m.kind.rsplit('.').next().unwrap_or_default()).collect();
        match names.as_slice() {
            ["Transformer", "Pooling"] => Ok(false),
            ["Transformer", "Pooling", "Normalize"] => Ok(true),
            _ => Err(self.invalid(format!("its stages {names:?} are not network, pooling, normalisation"))),
        }
    }
}
