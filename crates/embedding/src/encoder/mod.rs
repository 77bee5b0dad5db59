//! The encoder: token numbers in, one vector a text out.
//!
//! Owns the network's description and weights, and the way from a model's folder to something that computes. It does
//! not tokenize, queue or fetch, and a batch runs on the thread it is given to.

mod forward;

mod kernel;

mod settings;

mod weights;

use std::path::Path;

pub use forward::Shape;
pub(crate) use forward::{Encoded, Scratch, TextVector};
pub(crate) use kernel::vnni_peak_of_one_thread;
pub(crate) use settings::{Settings, Shorter};

use crate::{error::EmbedError, space::Precision};
use kernel::{BYTES_DEPTH_MAX, BytePanels, FloatPanels, Kernel, Norm, PANEL};
use weights::Weights;

/// A loaded network of the BERT family (Devlin et al. 2019, <https://arxiv.org/abs/1810.04805>) with its pooling.
pub(crate) struct Encoder {
    settings: Settings,
    kernel: &'static Kernel,
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

/// `x · W + b`, with the weights packed for the kernels. The unpacked copy is not kept.
struct Linear {
    weight: Weight,
    inputs: usize,
    outputs: usize,
    /// Filled up to whole panels.
    bias: Vec<f32>,
}

/// The weights of a layer, in the encoder's arithmetic.
enum Weight {
    Floats(FloatPanels),
    Bytes(BytePanels),
}

impl Encoder {
    /// Loads the network of a model's folder.
    pub(crate) fn load(settings: Settings, precision: Precision, weights_path: &Path) -> Result<Encoder, EmbedError> {
        let widest = settings.hidden.max(settings.intermediate);
        if precision == Precision::Int8 && widest > BYTES_DEPTH_MAX {
            let reason =
                format!("a layer has {widest} inputs, of which int8 takes {BYTES_DEPTH_MAX}; f32 takes them all");
            return Err(EmbedError::InvalidModel { model: settings.model, reason });
        }
        let mut weights = Weights::open(&settings.model, weights_path)?;
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
            .map(|index| Layer::load(&mut weights, precision, &settings, index))
            .collect::<Result<Vec<Layer>, EmbedError>>()?;
        Ok(Encoder { settings, kernel: kernel::best(), word_rows, position_rows, embedding_norm, layers })
    }

    /// The instruction set it computes with.
    pub(crate) fn kernel_name(&self) -> &'static str {
        self.kernel.name
    }

    /// What the model's files say about it.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Layer {
    fn load(
        weights: &mut Weights,
        precision: Precision,
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
        let query_key_value = Linear::pack(precision, &stacked, bias, hidden);
        let mut linear = |name: &str, from: usize, to: usize| {
            let name = part(name);
            let weight = weights.take(&format!("{name}.weight"), &[to, from])?;
            let bias = weights.take(&format!("{name}.bias"), &[to])?;
            Ok::<Linear, EmbedError>(Linear::pack(precision, &weight, bias, from))
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
    fn pack(precision: Precision, weight: &[f32], mut bias: Vec<f32>, inputs: usize) -> Linear {
        let outputs = bias.len();
        bias.resize(outputs.next_multiple_of(PANEL), 0.0);
        let weight = match precision {
            Precision::F32 => Weight::Floats(FloatPanels::pack(weight, inputs)),
            Precision::Int8 => Weight::Bytes(BytePanels::pack(kernel::best(), weight, inputs)),
        };
        Linear { weight, inputs, outputs, bias }
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
