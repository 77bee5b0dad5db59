//! A BERT written to be read: 64-bit numbers, one loop after the other, nothing packed, batched or shared.
//!
//! The tests hold the encoder against it. It tokenizes for itself too, with the rules that matter for ASCII text.

use std::{collections::HashMap, path::Path};

use anyhow::Context;
use holdfast_testkit::tiny_model::{DIMENSIONS, HEADS, LAYERS, WINDOW, vocabulary};
use safetensors::SafeTensors;

type Row = Vec<f64>;

pub struct Reference {
    tensors: HashMap<String, Vec<f64>>,
    vocabulary: HashMap<String, usize>,
}

impl Reference {
    pub fn load(folder: &Path) -> anyhow::Result<Reference> {
        let bytes = std::fs::read(folder.join("model.safetensors"))?;
        let tensors = SafeTensors::deserialize(&bytes)?
            .iter()
            .map(|(name, tensor)| {
                let (numbers, _) = tensor.data().as_chunks::<4>();
                let values = numbers.iter().map(|&four| f64::from(f32::from_le_bytes(four))).collect();
                (name.to_owned(), values)
            })
            .collect();
        let vocabulary = vocabulary().into_iter().enumerate().map(|(id, piece)| (piece, id)).collect();
        Ok(Reference { tensors, vocabulary })
    }

    /// One vector a token of an ASCII text.
    pub fn rows(&self, text: &str) -> anyhow::Result<Vec<Row>> {
        let ids = self.tokenize(text);
        let mut rows = Vec::new();
        for (position, id) in ids.iter().enumerate() {
            let word = self.row("embeddings.word_embeddings.weight", *id)?;
            let place = self.row("embeddings.position_embeddings.weight", position)?;
            let kind = self.row("embeddings.token_type_embeddings.weight", 0)?;
            let sum: Row = (0..DIMENSIONS).map(|i| word[i] + place[i] + kind[i]).collect();
            rows.push(self.norm("embeddings.LayerNorm", &sum)?);
        }
        for layer in 0..LAYERS {
            rows = self.layer(&format!("encoder.layer.{layer}"), &rows)?;
        }
        Ok(rows)
    }

    /// The mean of the rows, scaled to length 1.
    pub fn vector(&self, text: &str) -> anyhow::Result<Row> {
        let rows = self.rows(text)?;
        let mean: Row =
            (0..DIMENSIONS).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / rows.len() as f64).collect();
        Ok(unit(&mean))
    }

    fn layer(&self, name: &str, rows: &[Row]) -> anyhow::Result<Vec<Row>> {
        let project = |part: &str| -> anyhow::Result<Vec<Row>> {
            rows.iter().map(|row| self.linear(&format!("{name}.attention.self.{part}"), row)).collect()
        };
        let (queries, keys, values) = (project("query")?, project("key")?, project("value")?);
        let width = DIMENSIONS / HEADS;
        let mut result = Vec::new();
        for (row, query) in rows.iter().zip(&queries) {
            let mut mixed = vec![0.0; DIMENSIONS];
            for head in 0..HEADS {
                let span = head * width..(head + 1) * width;
                let dot = |key: &Row| span.clone().map(|i| query[i] * key[i]).sum::<f64>();
                let weights: Vec<f64> = keys.iter().map(|key| (dot(key) / (width as f64).sqrt()).exp()).collect();
                let total: f64 = weights.iter().sum();
                for (weight, value) in weights.iter().zip(&values) {
                    for i in span.clone() {
                        mixed[i] += weight / total * value[i];
                    }
                }
            }
            let attended = self.linear(&format!("{name}.attention.output.dense"), &mixed)?;
            let row = self.norm(&format!("{name}.attention.output.LayerNorm"), &add(row, &attended))?;
            let inner = self.linear(&format!("{name}.intermediate.dense"), &row)?;
            let inner: Row = inner.into_iter().map(gelu).collect();
            let outer = self.linear(&format!("{name}.output.dense"), &inner)?;
            result.push(self.norm(&format!("{name}.output.LayerNorm"), &add(&row, &outer))?);
        }
        Ok(result)
    }

    fn tensor(&self, name: &str) -> anyhow::Result<&[f64]> {
        self.tensors.get(name).map(Vec::as_slice).with_context(|| format!("no tensor {name}"))
    }

    fn row(&self, name: &str, index: usize) -> anyhow::Result<&[f64]> {
        Ok(&self.tensor(name)?[index * DIMENSIONS..][..DIMENSIONS])
    }

    fn linear(&self, name: &str, input: &[f64]) -> anyhow::Result<Row> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let bias = self.tensor(&format!("{name}.bias"))?;
        let output = |o: usize| {
            let row = &weight[o * input.len()..][..input.len()];
            row.iter().zip(input).map(|(w, x)| w * x).sum::<f64>() + bias[o]
        };
        Ok((0..bias.len()).map(output).collect())
    }

    fn norm(&self, name: &str, input: &[f64]) -> anyhow::Result<Row> {
        let gain = self.tensor(&format!("{name}.weight"))?;
        let bias = self.tensor(&format!("{name}.bias"))?;
        let mean = input.iter().sum::<f64>() / input.len() as f64;
        let variance = input.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / input.len() as f64;
        let scaled = |i: usize| (input[i] - mean) / (variance + 1e-12).sqrt() * gain[i] + bias[i];
        Ok((0..input.len()).map(scaled).collect())
    }

    /// WordPiece for lower-case ASCII: whitespace separates, punctuation stands alone, the longest piece wins.
    fn tokenize(&self, text: &str) -> Vec<usize> {
        let mut words: Vec<String> = Vec::new();
        for chunk in text.split_ascii_whitespace() {
            let mut open = false;
            for c in chunk.chars() {
                match words.last_mut() {
                    Some(word) if open && !c.is_ascii_punctuation() => word.push(c),
                    _ => words.push(String::from(c)),
                }
                open = !c.is_ascii_punctuation();
            }
        }
        let mut ids: Vec<usize> = words.iter().flat_map(|word| self.pieces(word)).collect();
        ids.truncate(WINDOW - 2);
        ids.insert(0, self.vocabulary["[CLS]"]);
        ids.push(self.vocabulary["[SEP]"]);
        ids
    }

    fn pieces(&self, word: &str) -> Vec<usize> {
        let unknown = vec![self.vocabulary["[UNK]"]];
        if word.len() > 100 {
            return unknown;
        }
        let mut ids = Vec::new();
        let mut start = 0;
        while start < word.len() {
            let prefix = if start == 0 { "" } else { "##" };
            let longest = (start + 1..=word.len())
                .rev()
                .find_map(|end| Some((end, *self.vocabulary.get(&format!("{prefix}{}", &word[start..end]))?)));
            let Some((end, id)) = longest else { return unknown };
            ids.push(id);
            start = end;
        }
        ids
    }
}

pub fn unit(vector: &[f64]) -> Row {
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

fn add(a: &[f64], b: &[f64]) -> Row {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

/// The error function by its Maclaurin series, which converges everywhere and is exact enough below 6.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}
