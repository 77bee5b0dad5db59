//! The encoder: token numbers in, one vector a text out.
//!
//! Owns the network's description and weights, and the way from a model's folder to something that computes. It does
//! not tokenize, queue or fetch; a batch runs on whatever thread pool the caller has entered.

mod forward;

mod settings;

mod weights;

use std::path::Path;

use rten_gemm::{GemmExecutor, PackedBMatrix};
use rten_tensor::{AsView, NdTensor};

pub(crate) use forward::{Scratch, TextVector};
pub(crate) use settings::Settings;

use crate::error::EmbedError;
use weights::Weights;

/// A loaded network of the BERT family (Devlin et al. 2019, <https://arxiv.org/abs/1810.04805>) with its pooling.
pub(crate) struct Encoder {
    settings: Settings,
    /// One row a token of the vocabulary. Stays as it is in the file: rows are read, never multiplied.
    word_rows: Vec<f32>,
    /// One row a position within the window, with the vector of token type 0 already added.
    position_rows: Vec<f32>,
    embedding_norm: Norm,
    layers: Vec<Layer>,
}

/// One transformer layer.
struct Layer {
    /// Query, key and value side by side: one multiplication instead of three.
    query_key_value: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
}

/// `x · W + b`, with the weights packed for the matrix kernel. The unpacked copy is not kept.
struct Linear {
    weight: PackedBMatrix<f32>,
    bias: Vec<f32>,
}

/// Layer normalisation's gain and bias.
struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
}

impl Encoder {
    /// Loads the network of a model's folder.
    pub(crate) fn load(settings: Settings, weights_path: &Path) -> Result<Encoder, EmbedError> {
        let mut weights = Weights::open(&settings.model, weights_path)?;
        let gemm = GemmExecutor::default();
        let hidden = settings.hidden;
        let word_rows = weights.take("embeddings.word_embeddings.weight", &[settings.vocabulary, hidden])?;
        let mut position_rows = weights.take("embeddings.position_embeddings.weight", &[settings.positions, hidden])?;
        position_rows.truncate(settings.window * hidden);
        position_rows.shrink_to_fit();
        let token_types = weights.take("embeddings.token_type_embeddings.weight", &[settings.token_types, hidden])?;
        for row in position_rows.chunks_exact_mut(hidden) {
            for (value, token_type) in row.iter_mut().zip(&token_types) {
                *value += token_type;
            }
        }
        let embedding_norm = Norm::load(&mut weights, "embeddings.LayerNorm", hidden)?;
        let layers = (0..settings.layers)
            .map(|index| Layer::load(&mut weights, &gemm, &settings, index))
            .collect::<Result<Vec<Layer>, EmbedError>>()?;
        Ok(Encoder { settings, word_rows, position_rows, embedding_norm, layers })
    }

    /// What the model's files say about it.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Layer {
    fn load(
        weights: &mut Weights,
        gemm: &GemmExecutor,
        settings: &Settings,
        index: usize,
    ) -> Result<Layer, EmbedError> {
        let (hidden, inner) = (settings.hidden, settings.intermediate);
        let part = |name: &str| format!("encoder.layer.{index}.{name}");
        let mut stacked = Vec::with_capacity(3 * hidden * hidden);
        let mut bias = Vec::with_capacity(3 * hidden);
        for name in ["query", "key", "value"] {
            let name = part(&format!("attention.self.{name}"));
            stacked.extend(weights.take(&format!("{name}.weight"), &[hidden, hidden])?);
            bias.extend(weights.take(&format!("{name}.bias"), &[hidden])?);
        }
        let query_key_value = Linear::pack(gemm, stacked, bias, hidden);
        let mut linear = |name: &str, from: usize, to: usize| {
            let name = part(name);
            let weight = weights.take(&format!("{name}.weight"), &[to, from])?;
            let bias = weights.take(&format!("{name}.bias"), &[to])?;
            Ok::<Linear, EmbedError>(Linear::pack(gemm, weight, bias, from))
        };
        let attention_output = linear("attention.output.dense", hidden, hidden)?;
        let intermediate = linear("intermediate.dense", hidden, inner)?;
        let output = linear("output.dense", inner, hidden)?;
        Ok(Layer {
            query_key_value,
            attention_output,
            attention_norm: Norm::load(weights, &part("attention.output.LayerNorm"), hidden)?,
            intermediate,
            output,
            output_norm: Norm::load(weights, &part("output.LayerNorm"), hidden)?,
        })
    }
}

impl Linear {
    /// Packs `weight`, which the file stores as one row an output.
    fn pack(gemm: &GemmExecutor, weight: Vec<f32>, bias: Vec<f32>, inputs: usize) -> Linear {
        let stored = NdTensor::from_data([bias.len(), inputs], weight);
        Linear { weight: gemm.prepack_b(stored.transposed()), bias }
    }
}

impl Norm {
    fn load(weights: &mut Weights, name: &str, size: usize) -> Result<Norm, EmbedError> {
        Ok(Norm {
            gain: weights.take(&format!("{name}.weight"), &[size])?,
            bias: weights.take(&format!("{name}.bias"), &[size])?,
        })
    }
}
