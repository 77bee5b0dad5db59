//! The arithmetic of some texts, from token numbers to finished vectors, on one thread.
//!
//! Texts are laid end to end without padding: linear layers and normalisation see one matrix with a row a token, and
//! attention works on each text's rows alone. So a text's vector does not depend on what else is in the batch, down to
//! the last bit: every sum runs over the text's own numbers in an order that the batch does not change, and a row of
//! bytes has a scale of its own.
//!
//! It does not tokenize and does not decide which texts go together.

use super::{
    Encoder, Layer, Linear, Weight,
    kernel::{ByteRows, FloatPanels, FloatProduct, Kernel, Output, PANEL},
};
use crate::{
    error::EmbedError,
    measure::{Stage, timed},
    space::Pooling,
};

/// Rows that go through the two wide layers at a time, so that their 1 536 numbers a row stay in the second cache between
/// the first multiplication, the activation and the second, with the weights if those are bytes. Weights of floats do
/// not fit there in any case, and are read once for all rows.
fn wide_rows(layer: &Linear) -> usize {
    match layer.weight {
        Weight::Bytes(_) => 64,
        Weight::Floats(_) => 224,
    }
}

/// Rows of a text whose scores are made at a time, so that they stay in the first cache.
const QUERY_ROWS: usize = 14;

/// What is made of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One vector, of length 1 where the model wants that.
    Pooled,
    /// The vector of every token, as the last layer leaves it.
    Tokens,
}

/// What was made of a text.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// One vector, or one a token, end to end.
    pub(crate) values: Vec<f32>,
    /// The pooled vector's length before it was made 1.
    pub(crate) length: f32,
}

impl Encoded {
    /// A vector as it came, unless it cannot be used.
    pub(crate) fn of(values: Vec<f32>) -> TextVector {
        let length = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        if !length.is_finite() {
            return Err(NOT_FINITE);
        }
        if length < f64::from(f32::MIN_POSITIVE) {
            return Err("it is zero");
        }
        Ok(Encoded { values, length: length as f32 })
    }
}

/// A text's vector, or what makes it unusable: a number that is not finite, or no direction.
pub(crate) type TextVector = Result<Encoded, &'static str>;

/// Buffers kept between batches, so that a batch allocates next to nothing.
#[derive(Default)]
pub(crate) struct Scratch {
    /// A row a token: the state that each layer transforms.
    hidden: Vec<f32>,
    /// What a layer adds to it.
    change: Vec<f32>,
    /// A row a token: query, key, value.
    query_key_value: Vec<f32>,
    /// The attention's result, a row a token.
    context: Vec<f32>,
    /// Some rows of the wide layer.
    wide: Vec<f32>,
    /// Rows on their way into a multiplication.
    bytes: ByteRows,
    attention: Attention,
}

/// Buffers of one text's head.
#[derive(Default)]
struct Attention {
    keys: FloatPanels,
    values: FloatPanels,
    /// [`QUERY_ROWS`] rows with a score a token, filled up to whole panels.
    scores: Vec<f32>,
    /// Each row's sum of weights.
    sums: Vec<f32>,
    no_bias: Vec<f32>,
}

const NOT_FINITE: &str = "it has a number that is not finite";

impl Encoder {
    /// Computes the vector of each text of a batch, given as token numbers with the special ones.
    pub(crate) fn encode(
        &self,
        batch: &[(&[u32], Shape)],
        scratch: &mut Scratch,
    ) -> Result<Vec<TextVector>, EmbedError> {
        let lengths: Vec<usize> = batch.iter().map(|(ids, _)| ids.len()).collect();
        timed(Stage::Lookup, || self.embed_tokens(batch, scratch))?;
        for layer in &self.layers {
            self.attend(layer, &lengths, scratch);
            self.widen(layer, scratch);
        }
        Ok(timed(Stage::Pool, || self.pool(batch, &scratch.hidden)))
    }

    /// Looks up the rows of tokens and positions, adds and normalises them.
    fn embed_tokens(&self, batch: &[(&[u32], Shape)], scratch: &mut Scratch) -> Result<(), EmbedError> {
        let width = self.settings.hidden;
        let Scratch { hidden, change, .. } = scratch;
        hidden.clear();
        change.clear();
        for (ids, _) in batch {
            if ids.is_empty() || ids.len() > self.settings.window {
                return Err(EmbedError::Encoder { reason: format!("a text has {} tokens", ids.len()) });
            }
            for id in *ids {
                let from = *id as usize * width;
                let row = self.word_rows.get(from..from + width).ok_or_else(|| EmbedError::InvalidModel {
                    model: self.settings.model.clone(),
                    reason: format!("its tokenizer gives token {id}, which its weights do not have"),
                })?;
                hidden.extend_from_slice(row);
            }
            change.extend_from_slice(&self.position_rows[..ids.len() * width]);
        }
        self.kernel.add_and_normalise(hidden, change, &self.embedding_norm, self.settings.norm_epsilon);
        Ok(())
    }

    /// Self-attention with its residual: `hidden = norm(hidden + output(attention(hidden)))`.
    fn attend(&self, layer: &Layer, lengths: &[usize], scratch: &mut Scratch) {
        let width = self.settings.hidden;
        let Scratch { hidden, change, query_key_value, context, bytes, attention, .. } = scratch;
        query_key_value.resize(hidden.len() * 3, 0.0);
        context.resize(hidden.len(), 0.0);
        timed(Stage::Linear, || layer.query_key_value.apply(self.kernel, hidden, bytes, query_key_value));
        let mut first = 0;
        for length in lengths {
            let rows = first..first + length;
            first = rows.end;
            let input = &query_key_value[rows.start * 3 * width..rows.end * 3 * width];
            let output = &mut context[rows.start * width..rows.end * width];
            timed(Stage::Attention, || {
                for head in 0..self.settings.heads {
                    attention.mix(self.kernel, (width, self.settings.heads, head), input, output);
                }
            });
        }
        timed(Stage::Linear, || layer.attention_output.apply(self.kernel, context, bytes, change));
        timed(Stage::Normalise, || {
            self.kernel.add_and_normalise(hidden, change, &layer.attention_norm, self.settings.norm_epsilon);
        });
    }

    /// The two wide layers with their residual: `hidden = norm(hidden + output(gelu(intermediate(hidden))))`.
    fn widen(&self, layer: &Layer, scratch: &mut Scratch) {
        let (width, inner) = (self.settings.hidden, self.settings.intermediate);
        let Scratch { hidden, change, wide, bytes, .. } = scratch;
        let at_once = wide_rows(&layer.intermediate) * width;
        for (rows, change) in hidden.chunks_mut(at_once).zip(change.chunks_mut(at_once)) {
            wide.resize(rows.len() / width * inner, 0.0);
            timed(Stage::Linear, || layer.intermediate.apply(self.kernel, rows, bytes, wide));
            timed(Stage::Activation, || self.kernel.gelu(wide));
            timed(Stage::Linear, || layer.output.apply(self.kernel, wide, bytes, change));
            timed(Stage::Normalise, || {
                self.kernel.add_and_normalise(rows, change, &layer.output_norm, self.settings.norm_epsilon);
            });
        }
    }

    /// What is wanted of each text.
    fn pool(&self, batch: &[(&[u32], Shape)], hidden: &[f32]) -> Vec<TextVector> {
        let width = self.settings.hidden;
        let mut rest = hidden;
        let mut vectors = Vec::with_capacity(batch.len());
        for (ids, shape) in batch {
            let (rows, later) = rest.split_at(ids.len() * width);
            rest = later;
            vectors.push(match (shape, self.settings.pooling) {
                (Shape::Tokens, _) => whole(rows),
                (Shape::Pooled, Pooling::Cls) => self.finish(rows[..width].to_vec()),
                (Shape::Pooled, Pooling::Mean) => self.finish(mean_row(rows, width)),
            });
        }
        vectors
    }

    /// Scales a vector to length 1 where the model wants that, and refuses one without a direction.
    fn finish(&self, values: Vec<f32>) -> TextVector {
        let mut encoded = Encoded::of(values)?;
        if self.settings.normalised {
            let share = 1.0 / encoded.length;
            encoded.values.iter_mut().for_each(|value| *value *= share);
        }
        Ok(encoded)
    }
}

impl Linear {
    /// `output = input · W + b`, for as many rows as the input has.
    fn apply(&self, kernel: &Kernel, input: &[f32], bytes: &mut ByteRows, output: &mut [f32]) {
        let output = Output { rows: output, stride: self.outputs };
        match &self.weight {
            Weight::Floats(panels) => {
                let count = input.len() / self.inputs;
                let product =
                    FloatProduct { rows: input, stride: self.inputs, count, panels, scale: 1.0, bias: &self.bias };
                kernel.multiply(&product, output);
            }
            Weight::Bytes(panels) => {
                bytes.fill(kernel, input, self.inputs);
                kernel.multiply_bytes(bytes, panels, &self.bias, output);
            }
        }
    }
}

impl Attention {
    /// For one text and head, `softmax(Q·Kᵀ/√d)·V` (Vaswani et al. 2017, equation 1).
    ///
    /// `input` has a row a token with query, key and value side by side, `output` a row a token of which this head's
    /// part is written.
    fn mix(&mut self, kernel: &Kernel, (width, heads, head): (usize, usize, usize), input: &[f32], output: &mut [f32]) {
        let head_width = width / heads;
        let length = output.len() / width;
        let part = |token: usize, which: usize| token * 3 * width + which * width + head * head_width;
        let stride = length.next_multiple_of(PANEL);
        self.keys.shape(head_width, stride);
        self.values.shape(length, head_width);
        for token in 0..length {
            self.keys.set_column(token, &input[part(token, 1)..][..head_width]);
            self.values.set_row(token, &input[part(token, 2)..][..head_width]);
        }
        // Room for both products' biases, which are none.
        self.no_bias.resize(stride.max(head_width.next_multiple_of(PANEL)), 0.0);
        for first in (0..length).step_by(QUERY_ROWS) {
            let count = QUERY_ROWS.min(length - first);
            self.scores.resize(count * stride, 0.0);
            let queries = FloatProduct {
                rows: &input[part(first, 0)..],
                stride: 3 * width,
                count,
                panels: &self.keys,
                scale: 1.0 / (head_width as f32).sqrt(),
                bias: &self.no_bias,
            };
            kernel.multiply(&queries, Output { rows: &mut self.scores, stride });
            self.sums.clear();
            self.sums.extend(self.scores.chunks_exact_mut(stride).map(|row| {
                row[length..].fill(f32::NEG_INFINITY);
                kernel.exponentials(row)
            }));
            let weights = FloatProduct {
                rows: &self.scores,
                stride,
                count,
                panels: &self.values,
                scale: 1.0,
                bias: &self.no_bias,
            };
            let place = &mut output[first * width + head * head_width..];
            kernel.multiply(&weights, Output { rows: place, stride: width });
            for (row, sum) in place.chunks_mut(width).zip(&self.sums) {
                let share = 1.0 / sum;
                row[..head_width].iter_mut().for_each(|value| *value *= share);
            }
        }
    }
}

/// The vectors of a text's tokens, unless one of their numbers is not one.
fn whole(rows: &[f32]) -> TextVector {
    let finite = rows.iter().all(|value| value.is_finite());
    finite.then(|| Encoded { values: rows.to_vec(), length: 1.0 }).ok_or(NOT_FINITE)
}

fn mean_row(rows: &[f32], width: usize) -> Vec<f32> {
    let count = (rows.len() / width) as f32;
    let mut mean = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        for (sum, value) in mean.iter_mut().zip(row) {
            *sum += value;
        }
    }
    mean.iter_mut().for_each(|sum| *sum /= count);
    mean
}
