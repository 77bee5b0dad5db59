//! The arithmetic of a batch, from token numbers to finished vectors.
//!
//! Texts are laid end to end without padding: linear layers and normalisation see one matrix with a row a token, and
//! attention works on each text's rows alone. So a text's vector does not depend on what else is in the batch, down to
//! the last bit: every sum runs over the text's own numbers in an order that the batch does not change.
//!
//! It does not tokenize and does not decide the size of a batch.

use rayon::prelude::*;
use rten_gemm::{BiasVector, GemmError, GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_tensor::{Matrix, NdTensorView};
use rten_vecmath::{Gelu, Normalize, NormalizeOptions, Softmax, Sum, SumSquareSub};

use super::{Encoder, Layer, Linear, Norm, Settings};
use crate::{error::EmbedError, space::Pooling};

/// Rows that go through the two wide layers at a time. Their 1 536 numbers a row then stay in a core's cache between
/// the first multiplication, the activation and the second.
const WIDE_ROWS: usize = 256;

/// A text's vector, or what makes it unusable: a number that is not finite, or no direction.
pub(crate) type TextVector = Result<Vec<f32>, &'static str>;

/// Buffers kept between batches, so that a batch allocates next to nothing.
#[derive(Default)]
pub(crate) struct Scratch {
    /// A row a token: the state that each layer transforms.
    hidden: Vec<f32>,
    /// A row a token: query, key, value.
    query_key_value: Vec<f32>,
    /// The attention's result, a text's heads one after the other.
    by_head: Vec<f32>,
    /// The same, a row a token.
    context: Vec<f32>,
    /// [`WIDE_ROWS`] rows of the wide layer.
    wide: Vec<f32>,
}

impl Encoder {
    /// Computes the vector of each text of a batch, given as token numbers with the special ones.
    pub(crate) fn encode(&self, batch: &[Vec<u32>], scratch: &mut Scratch) -> Result<Vec<TextVector>, EmbedError> {
        let lengths: Vec<usize> = batch.iter().map(Vec::len).collect();
        // Made anew for every batch, which costs nothing, because it cannot move between threads.
        let pass = Pass { model: self, settings: &self.settings, gemm: GemmExecutor::default() };
        pass.embed_tokens(batch, &mut scratch.hidden)?;
        for layer in &self.layers {
            pass.attend(layer, &lengths, scratch).map_err(|error| defect(&error))?;
            pass.widen(layer, scratch).map_err(|error| defect(&error))?;
        }
        Ok(pass.pool(&lengths, &scratch.hidden))
    }
}

/// One batch on its way through the network.
struct Pass<'a> {
    model: &'a Encoder,
    settings: &'a Settings,
    gemm: GemmExecutor,
}

impl Pass<'_> {
    /// Looks up the rows of tokens and positions, adds and normalises them.
    fn embed_tokens(&self, batch: &[Vec<u32>], hidden: &mut Vec<f32>) -> Result<(), EmbedError> {
        let width = self.settings.hidden;
        hidden.clear();
        for ids in batch {
            if ids.is_empty() || ids.len() > self.settings.window {
                return Err(EmbedError::Encoder { reason: format!("a text has {} tokens", ids.len()) });
            }
            for (id, position) in ids.iter().zip(self.model.position_rows.chunks_exact(width)) {
                let from = *id as usize * width;
                let row = self.model.word_rows.get(from..from + width).ok_or_else(|| EmbedError::InvalidModel {
                    model: self.settings.model.clone(),
                    reason: format!("its tokenizer gives token {id}, which its weights do not have"),
                })?;
                hidden.extend(row.iter().zip(position).map(|(word, position)| word + position));
            }
        }
        self.normalise_rows(hidden, &self.model.embedding_norm);
        Ok(())
    }

    /// Self-attention with its residual: `hidden = norm(hidden + output(attention(hidden)))`.
    fn attend(&self, layer: &Layer, lengths: &[usize], scratch: &mut Scratch) -> Result<(), GemmError> {
        let width = self.settings.hidden;
        let Scratch { hidden, query_key_value, by_head, context, .. } = scratch;
        let rows = hidden.len() / width;
        query_key_value.resize(rows * 3 * width, 0.0);
        by_head.resize(rows * width, 0.0);
        context.resize(rows * width, 0.0);
        self.multiply(query_key_value, hidden, &layer.query_key_value, 0.0)?;
        self.mix(lengths, query_key_value, by_head)?;
        self.join_heads(lengths, by_head, context);
        self.multiply(hidden, context, &layer.attention_output, 1.0)?;
        self.normalise_rows(hidden, &layer.attention_norm);
        Ok(())
    }

    /// For every text and head, `softmax(Q·Kᵀ/√d)·V` (Vaswani et al. 2017, equation 1).
    fn mix(&self, lengths: &[usize], query_key_value: &[f32], by_head: &mut [f32]) -> Result<(), GemmError> {
        let width = self.settings.hidden;
        let head_width = width / self.settings.heads;
        let mut work = Vec::with_capacity(lengths.len() * self.settings.heads);
        let (mut inputs, mut outputs) = (query_key_value, by_head);
        for &length in lengths {
            let (input, later) = inputs.split_at(length * 3 * width);
            inputs = later;
            for head in 0..self.settings.heads {
                let (output, later) = outputs.split_at_mut(length * head_width);
                outputs = later;
                work.push((length, head, input, output));
            }
        }
        let scale = 1.0 / (head_width as f32).sqrt();
        work.into_par_iter().try_for_each_init(Vec::new, |scores, (length, head, input, output)| {
            let view = |part: usize| &input[part * width + head * head_width..];
            let by_rows = |part: usize| view_matrix([length, head_width], view(part), [3 * width, 1]);
            let keys = view_matrix([head_width, length], view(1), [1, 3 * width])?;
            scores.resize(length * length, 0.0);
            self.gemm.gemm(
                scores,
                GemmInputA::Unpacked(by_rows(0)?),
                GemmInputB::Unpacked(keys),
                GemmOptions { alpha: scale, ..Default::default() },
            )?;
            for row in scores.chunks_exact_mut(length) {
                Softmax::new_mut(row).dispatch();
            }
            let scores = view_matrix([length, length], scores, [length, 1])?;
            self.gemm.gemm(
                output,
                GemmInputA::Unpacked(scores),
                GemmInputB::Unpacked(by_rows(2)?),
                GemmOptions::default(),
            )
        })
    }

    /// Turns each text's blocks of one head a block into one row a token.
    fn join_heads(&self, lengths: &[usize], by_head: &[f32], context: &mut [f32]) {
        let width = self.settings.hidden;
        let head_width = width / self.settings.heads;
        let mut start = 0;
        for length in lengths {
            let text = start..start + length * width;
            start = text.end;
            let blocks = by_head[text.clone()].chunks_exact(length * head_width);
            for (head, block) in blocks.enumerate() {
                let rows = context[text.clone()].chunks_exact_mut(width);
                for (row, values) in rows.zip(block.chunks_exact(head_width)) {
                    row[head * head_width..][..head_width].copy_from_slice(values);
                }
            }
        }
    }

    /// The two wide layers with their residual: `hidden = norm(hidden + output(gelu(intermediate(hidden))))`.
    fn widen(&self, layer: &Layer, scratch: &mut Scratch) -> Result<(), GemmError> {
        let width = self.settings.hidden;
        let Scratch { hidden, wide, .. } = scratch;
        for rows in hidden.chunks_mut(WIDE_ROWS * width) {
            wide.resize(rows.len() / width * self.settings.intermediate, 0.0);
            self.multiply(wide, rows, &layer.intermediate, 0.0)?;
            wide.par_chunks_mut(self.settings.intermediate).for_each(|row| {
                Gelu {}.map_mut(row);
            });
            self.multiply(rows, wide, &layer.output, 1.0)?;
        }
        self.normalise_rows(hidden, &layer.output_norm);
        Ok(())
    }

    /// `output = keep · output + input · W + b`
    fn multiply(&self, output: &mut [f32], input: &[f32], linear: &Linear, keep: f32) -> Result<(), GemmError> {
        let inputs = linear.weight.rows();
        let input = view_matrix([input.len() / inputs, inputs], input, [inputs, 1])?;
        self.gemm.gemm(
            output,
            GemmInputA::Unpacked(input),
            GemmInputB::Packed(&linear.weight),
            GemmOptions { beta: keep, bias: Some(BiasVector::Row(&linear.bias)), ..Default::default() },
        )
    }

    /// Layer normalisation of every row (Ba et al. 2016, <https://arxiv.org/abs/1607.06450>).
    fn normalise_rows(&self, hidden: &mut [f32], norm: &Norm) {
        let width = self.settings.hidden;
        let epsilon = self.settings.norm_epsilon;
        hidden.par_chunks_exact_mut(width).for_each(|row| {
            let mean = Sum::new(row).dispatch() / width as f32;
            let variance = SumSquareSub::new(row, mean).dispatch() / width as f32;
            let options = NormalizeOptions {
                pre_scale_bias: mean,
                scale: 1.0 / (variance + epsilon).sqrt(),
                element_scale: Some(&norm.gain),
                element_bias: Some(&norm.bias),
                ..Default::default()
            };
            Normalize::new_mut(row, options).dispatch();
        });
    }

    /// One vector a text.
    fn pool(&self, lengths: &[usize], hidden: &[f32]) -> Vec<TextVector> {
        let width = self.settings.hidden;
        let mut rest = hidden;
        let mut vectors = Vec::with_capacity(lengths.len());
        for &length in lengths {
            let (rows, later) = rest.split_at(length * width);
            rest = later;
            let vector = match self.settings.pooling {
                Pooling::Cls => rows[..width].to_vec(),
                Pooling::Mean => mean_row(rows, width),
            };
            vectors.push(self.finish(vector));
        }
        vectors
    }

    /// Scales a vector to length 1 where the model wants that, and refuses one without a direction.
    fn finish(&self, mut vector: Vec<f32>) -> TextVector {
        let length = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        if !length.is_finite() {
            return Err("it has a number that is not finite");
        }
        if length < f64::from(f32::MIN_POSITIVE) {
            return Err("it is zero");
        }
        if self.settings.normalised {
            vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
        }
        Ok(vector)
    }
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

fn view_matrix(shape: [usize; 2], data: &[f32], strides: [usize; 2]) -> Result<Matrix<'_, f32>, GemmError> {
    NdTensorView::from_slice_with_strides(shape, data, strides).map_err(|_| GemmError::OutputSizeMismatch)
}

fn defect(error: &GemmError) -> EmbedError {
    EmbedError::Encoder { reason: format!("a matrix product failed: {error}") }
}
