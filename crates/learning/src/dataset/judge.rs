//! What decides where words leave it open whether two rows say the same: the vectors of both.
//!
//! Only rows of unsure pairs get vectors. They are encoded many at a time, so pairs are collected first and judged in the
//! next round; a judgement can bring up pairs that were not compared before, hence more rounds than two. The pairs are
//! asked about in an order that the rows alone decide, so that the same rows and the same model give the same dataset.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::{Encoded, NotEncoded, near};

/// Makes vectors of texts, and waits for them.
pub type EncodeNow<'a> = &'a dyn Fn(Vec<String>) -> Result<Encoded, NotEncoded>;

/// Rows that get a vector for one dataset; a model on a processor makes some tens a second.
const VECTORS_MAX: usize = 8_192;
/// Texts that are encoded together.
const TOGETHER: usize = 64;
/// Bytes of a row that its vector is made of; what models read is shorter.
const BYTES_MAX: usize = 4 << 10;
/// Rounds of collecting and judging. What comes up later stays unsure.
const ROUNDS_MAX: usize = 3;

/// What vectors decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The space of the vectors; none where nothing was judged.
    pub space: Option<String>,
    /// Pairs that vectors decided, each counted once,
    pub pairs: usize,
    /// those of them that were found to say the same,
    pub same: usize,
    /// and those that nothing decided. They were taken to be different.
    pub unsure: usize,
    /// Why there are no vectors, where they could not be made.
    pub problem: Option<String>,
}

/// Vectors of rows, by their texts, and what they decided.
pub(super) struct Judges<'a> {
    encode: Option<EncodeNow<'a>>,
    vectors: HashMap<String, Option<Vec<f32>>>,
    /// Pairs of texts that were judged, by their hashes.
    decided: HashSet<[blake3::Hash; 2]>,
    undecided: HashSet<[blake3::Hash; 2]>,
    told: Judged,
}

impl<'a> Judges<'a> {
    pub fn new(encode: Option<EncodeNow<'a>>) -> Self {
        Self {
            encode,
            vectors: HashMap::new(),
            decided: HashSet::new(),
            undecided: HashSet::new(),
            told: Judged::default(),
        }
    }

    /// What vectors decided so far.
    pub fn told(&self) -> Judged {
        let unsure = self.undecided.difference(&self.decided).count();
        Judged { pairs: self.decided.len(), unsure, ..self.told.clone() }
    }

    /// Groups rows, by `group`, with vectors where words are unsure.
    pub fn group(
        &mut self,
        texts: &[&str],
        group: fn(&[&str], &near::Settings, Option<near::Judge<'_>>) -> near::Groups,
    ) -> near::Groups {
        let settings = near::Settings::default();
        for round in 1.. {
            let mut asked: Vec<(usize, usize)> = Vec::new();
            let mut judge = |left: usize, right: usize| {
                asked.push((left, right));
                self.similarity(texts[left], texts[right])
            };
            let groups = group(texts, &settings, Some(&mut judge));
            if round == ROUNDS_MAX || !self.encode_missing(texts, &asked) {
                self.count(texts, &asked, settings.judged_same_min);
                return groups;
            }
        }
        near::Groups::default()
    }

    fn similarity(&self, left: &str, right: &str) -> Option<f32> {
        let vector = |text: &str| self.vectors.get(head(text))?.as_ref();
        cosine(vector(left)?, vector(right)?)
    }

    fn count(&mut self, texts: &[&str], asked: &[(usize, usize)], same_min: f32) {
        for (left, right) in asked {
            let mut pair = [texts[*left], texts[*right]].map(|text| blake3::hash(text.as_bytes()));
            pair.sort_unstable_by_key(|hash| *hash.as_bytes());
            match self.similarity(texts[*left], texts[*right]) {
                Some(similarity) => {
                    let is_new = self.decided.insert(pair);
                    self.told.same += usize::from(is_new && similarity >= same_min);
                }
                None => {
                    self.undecided.insert(pair);
                }
            }
        }
    }

    /// Makes the vectors that were missed; whether there are any new ones.
    fn encode_missing(&mut self, texts: &[&str], asked: &[(usize, usize)]) -> bool {
        let Some(encode) = self.encode else { return false };
        let rows = asked.iter().flat_map(|(left, right)| [*left, *right]);
        let mut seen = BTreeSet::new();
        let missing = rows.map(|row| head(texts[row])).filter(|text| !self.vectors.contains_key(*text));
        let mut missing: Vec<String> = missing.filter(|text| seen.insert(*text)).map(str::to_owned).collect();
        missing.truncate(VECTORS_MAX.saturating_sub(self.vectors.len()));
        for batch in missing.chunks(TOGETHER) {
            match encode(batch.to_vec()) {
                Ok(encoded) => self.take(batch, encoded),
                Err(NotEncoded { reason }) => {
                    self.told.problem = Some(reason);
                    self.encode = None;
                    break;
                }
            }
        }
        !missing.is_empty()
    }

    /// Vectors of another space than the first ones are compared with nothing.
    fn take(&mut self, texts: &[String], encoded: Encoded) {
        let is_same_space = *self.told.space.get_or_insert_with(|| encoded.space.clone()) == encoded.space;
        for (place, text) in texts.iter().enumerate() {
            let vector = encoded.vectors.get(place).filter(|_| is_same_space);
            self.vectors.insert(text.clone(), vector.cloned());
        }
    }
}

fn head(text: &str) -> &str {
    &text[..text.floor_char_boundary(BYTES_MAX)]
}

fn cosine(left: &[f32], right: &[f32]) -> Option<f32> {
    let dot = |left: &[f32], right: &[f32]| -> f32 { left.iter().zip(right).map(|(a, b)| a * b).sum() };
    let cosine = dot(left, right) / (dot(left, left) * dot(right, right)).sqrt();
    (left.len() == right.len() && cosine.is_finite()).then_some(cosine)
}
