//! Problems that came again, and what worked: clusters of interactions that were worth it, each told by those of its members
//! that speak for it most.
//!
//! What is compared are question and answer together: the questions alone put problems together that share their words and
//! nothing else. All patterns are made anew from the newest interactions whenever these have changed, so they depend on
//! nothing but rows, and cannot drift.

use std::collections::BTreeMap;

use holdfast_storage::{
    LearningStore, StorageError,
    learning::{Fold, Lease, PairVector, Pattern, PatternFigures},
};
use uuid::Uuid;

use crate::{
    cluster::{self, Cluster, Point},
    redact::redact,
    similar::{Encode, PassError, TOGETHER, blocking, dot, quantised},
    value::SIMILAR,
};

/// What an interaction has to be worth: more than half of it is that it succeeded.
pub const VALUE_MIN: f64 = 0.5;
/// Interactions that are looked at, the newest.
pub const POINTS_MAX: usize = 10_000;
/// Interactions that are named for a pattern.
pub const EVIDENCE_MAX: usize = 16;
/// A cosine of middles from which on two clusters are one, or, of questions only, two answers to the same.
const SAME: f64 = 0.90;
/// Days in which a pattern of which nothing new is heard loses half of what it is worth.
const HALF_LIFE_DAYS: f64 = 180.0;
/// Bytes of question and of answer of which a vector is made.
const HALF_BYTES_MAX: usize = 2 << 10;
/// Bytes of a problem, and of an approach, that are kept.
const PROBLEM_BYTES_MAX: usize = 1 << 10;
const APPROACH_BYTES_MAX: usize = 4 << 10;
/// The same of another question.
const ASKED_BYTES_MAX: usize = 256;
/// Failures that are looked at for what speaks against a pattern, the newest.
const FAILED_MAX: usize = 5_000;

/// Vectors for the next interactions that were worth it; how many that were.
pub(crate) async fn vectors(
    store: &LearningStore,
    lease: &Lease,
    encode: &std::sync::Arc<dyn Encode>,
) -> Result<usize, PassError> {
    let reader = store.clone();
    let due = move || {
        reader.read(|fold| {
            let Some(space) = fold.newest_space()? else { return Ok(None) };
            let due = fold.pairs_due(VALUE_MIN, &space, TOGETHER)?;
            Ok::<_, StorageError>(Some((space, due)))
        })
    };
    let Some((space, due)) = blocking(due).await?? else { return Ok(0) };
    if due.is_empty() {
        return Ok(0);
    }
    let texts = due.iter().map(|(_, question, answer)| format!("{}\n\n{}", half(question), half(answer))).collect();
    let encoded = encode.encode(texts).await?;
    if encoded.space != space {
        // The model was changed: questions get their vectors first.
        return Ok(0);
    }
    let (store, lease, count) = (store.clone(), lease.clone(), due.len());
    let keep = move || {
        store.derive(&lease, move |fold| {
            for ((number, ..), vector) in due.iter().zip(&encoded.vectors) {
                let bytes: Vec<u8> = vector.iter().map(|value| quantised(*value).cast_unsigned()).collect();
                fold.put_pair(*number, &space, &bytes)?;
            }
            Ok(())
        })
    };
    blocking(keep).await??;
    Ok(count)
}

fn half(text: &str) -> &str {
    &text[..text.floor_char_boundary(HALF_BYTES_MAX)]
}

/// Makes all patterns anew, unless nothing has changed; how many there are. Blocks.
pub(crate) fn pass(store: &LearningStore, lease: &Lease) -> Result<usize, PassError> {
    let (pairs, failed, before) = store.read(|fold| {
        let Some(space) = fold.newest_space()? else { return Ok(Default::default()) };
        let pairs = fold.pairs(VALUE_MIN, &space, POINTS_MAX)?;
        Ok((pairs, fold.failed_questions(&space, FAILED_MAX)?, fold.pattern_figures()?))
    })?;
    if pairs.is_empty() && before.is_none() {
        return Ok(0);
    }
    let inputs = inputs(&pairs, &failed);
    if before.is_some_and(|before| before.inputs == inputs) {
        return Ok(0);
    }
    let newest_ms = pairs.iter().map(|pair| pair.at_ms).max().unwrap_or(0);
    let (mut points, mut alone, mut groups) = (0, 0, Vec::new());
    for (tenant, pairs) in by_tenant(&pairs) {
        let failed: Vec<&[u8]> =
            failed.iter().filter(|(whose, _)| *whose == tenant).map(|(_, vector)| vector.as_slice()).collect();
        let found = found_in(&pairs, &failed, newest_ms);
        points += pairs.len();
        alone += pairs.len() - found.iter().map(|found| found.members.len()).sum::<usize>();
        groups.extend(found);
    }
    let figures = PatternFigures { inputs, points: points as u64, alone: alone as u64 };
    let count = groups.len().max(1);
    store.derive(lease, move |fold| {
        let mut patterns = Vec::with_capacity(groups.len());
        for group in groups {
            patterns.extend(group.told(fold)?);
        }
        fold.set_patterns(&patterns, &figures)
    })?;
    Ok(count)
}

/// Stands for all that patterns are made of.
fn inputs(pairs: &[PairVector], failed: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut hash = blake3::Hasher::new();
    for pair in pairs {
        hash.update(&pair.number.to_le_bytes());
        hash.update(&pair.value.to_le_bytes());
        hash.update(&pair.pair);
    }
    hash.update(&pairs.len().to_le_bytes());
    for (tenant, vector) in failed {
        hash.update(tenant.as_bytes());
        hash.update(vector);
    }
    hash.finalize().as_bytes().to_vec()
}

fn by_tenant(pairs: &[PairVector]) -> BTreeMap<&str, Vec<&PairVector>> {
    let mut tenants = BTreeMap::<&str, Vec<&PairVector>>::new();
    for pair in pairs {
        tenants.entry(&pair.tenant).or_default().push(pair);
    }
    tenants
}

/// A pattern before it is put in words.
struct Group {
    pattern: Pattern,
    /// The interactions that are part of it.
    members: Vec<i64>,
    /// The one whose words are used.
    spoken_by: i64,
    /// Those whose questions are other words for the same.
    asked_by: Vec<i64>,
}

impl Group {
    /// The pattern in the words of one of its members, in which nothing secret or personal is left.
    fn told(self, fold: &Fold<'_>) -> Result<Option<Pattern>, StorageError> {
        let Some(row) = fold.numbered(self.spoken_by)? else { return Ok(None) };
        let words = |text: Option<&str>, limit: usize| {
            let text = redact(text.unwrap_or_default()).text.into_owned();
            text[..text.floor_char_boundary(limit)].trim().to_owned()
        };
        let mut asked = Vec::new();
        for number in &self.asked_by {
            let row = fold.numbered(*number)?;
            let question = words(row.as_ref().and_then(|row| row.question.as_deref()), ASKED_BYTES_MAX);
            asked.extend(Some(question).filter(|question| !question.is_empty()));
        }
        Ok(Some(Pattern {
            asked: serde_json::Value::from(asked).to_string(),
            problem: words(row.question.as_deref(), PROBLEM_BYTES_MAX),
            approach: words(row.answer.as_deref(), APPROACH_BYTES_MAX),
            ..self.pattern
        }))
    }
}

/// The middle of vectors, as a sum that is not scaled.
struct Middle(Vec<f64>);

impl Middle {
    fn of<'a>(vectors: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut sum = Vec::new();
        for vector in vectors {
            sum.resize(vector.len().max(sum.len()), 0.0);
            // Each counts alike, however well it was rounded.
            let length = length(vector);
            for (sum, value) in sum.iter_mut().zip(vector) {
                *sum += f64::from(value.cast_signed()) / length;
            }
        }
        Self(sum)
    }

    fn cosine(&self, vector: &[u8]) -> f64 {
        let product: f64 = self.0.iter().zip(vector).map(|(own, value)| own * f64::from(value.cast_signed())).sum();
        product / (self.length() * length(vector)).max(f64::MIN_POSITIVE)
    }

    fn cosine_with(&self, other: &Self) -> f64 {
        let product: f64 = self.0.iter().zip(&other.0).map(|(own, other)| own * other).sum();
        product / (self.length() * other.length()).max(f64::MIN_POSITIVE)
    }

    fn length(&self) -> f64 {
        self.0.iter().map(|value| value * value).sum::<f64>().sqrt()
    }
}

fn length(vector: &[u8]) -> f64 {
    let signed: Vec<i8> = vector.iter().map(|value| value.cast_signed()).collect();
    f64::from(dot(&signed, &signed)).sqrt().max(1.0)
}

/// The patterns of one tenant.
fn found_in(pairs: &[&PairVector], failed: &[&[u8]], newest_ms: i64) -> Vec<Group> {
    let vectors: Vec<Vec<f32>> =
        pairs.iter().map(|pair| pair.pair.iter().map(|value| f32::from(value.cast_signed())).collect()).collect();
    let points: Vec<Point<'_>> =
        pairs.iter().zip(&vectors).map(|(pair, vector)| Point { key: pair.id.as_u128(), vector }).collect();
    // There are never too many: what was read is bounded.
    let clusters = cluster::clusters(&points, &cluster::Settings::default()).unwrap_or_default();
    let clusters = joined(pairs, clusters.into_iter().map(|Cluster { members, .. }| members).collect());
    let middles: Vec<(Middle, Middle)> = clusters
        .iter()
        .map(|members| {
            let of = |vector: fn(&PairVector) -> &[u8]| Middle::of(members.iter().map(|member| vector(pairs[*member])));
            (of(|pair| &pair.pair), of(|pair| &pair.question))
        })
        .collect();
    let mut groups: Vec<Group> = clusters
        .iter()
        .enumerate()
        .map(|(place, members)| group(pairs, members, place, &middles, failed, newest_ms))
        .collect();
    // Two that are asked the same and answered another way stay two, and say so of each other.
    for one in 0..groups.len() {
        let nearest = (0..groups.len())
            .filter(|other| *other != one)
            .map(|other| (middles[one].1.cosine_with(&middles[other].1), other))
            .filter(|(cosine, _)| *cosine >= SAME)
            .max_by(|left, right| left.0.total_cmp(&right.0));
        groups[one].pattern.contradicts = nearest.map(|(_, other)| groups[other].pattern.id);
    }
    groups
}

/// Joins clusters whose middles are the same.
fn joined(pairs: &[&PairVector], clusters: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut joined: Vec<(Vec<usize>, Middle)> = Vec::new();
    for members in clusters {
        let middle_of = |members: &[usize]| Middle::of(members.iter().map(|member| pairs[*member].pair.as_slice()));
        let middle = middle_of(&members);
        match joined.iter_mut().find(|(_, other)| other.cosine_with(&middle) >= SAME) {
            Some((others, other)) => {
                others.extend(members);
                *other = middle_of(others);
            }
            None => joined.push((members, middle)),
        }
    }
    joined.into_iter().map(|(members, _)| members).collect()
}

fn group(
    pairs: &[&PairVector],
    members: &[usize],
    place: usize,
    middles: &[(Middle, Middle)],
    failed: &[&[u8]],
    newest_ms: i64,
) -> Group {
    let (middle, of_questions) = &middles[place];
    let mut near: Vec<(f64, &PairVector)> =
        members.iter().map(|member| (middle.cosine(&pairs[*member].pair), pairs[*member])).collect();
    near.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.id.cmp(&right.1.id)));
    let evidence = &near[..near.len().min(EVIDENCE_MAX)];
    // Of those that stand in the middle, the one that was worth most has the word.
    let spoken_by = evidence
        .iter()
        .take(5)
        .max_by(|left, right| left.1.value.total_cmp(&right.1.value).then(right.1.id.cmp(&left.1.id)))
        .map_or(0, |(_, pair)| pair.number);
    let count = near.len() as f64;
    let worth = evidence.iter().map(|(_, pair)| pair.value).sum::<f64>() / evidence.len().max(1) as f64;
    let last_at_ms = near.iter().map(|(_, pair)| pair.at_ms).max().unwrap_or(0);
    let first = near.iter().map(|(_, pair)| pair.id).min().unwrap_or_default();
    let age_days = newest_ms.saturating_sub(last_at_ms).max(0) as f64 / 86_400_000.0;
    let against = failed.iter().filter(|vector| of_questions.cosine(vector) >= f64::from(SIMILAR)).count() as u64;
    let cohesion = near.iter().map(|(cosine, _)| cosine).sum::<f64>() / count.max(1.0);
    let apart = near
        .iter()
        .map(|(own, pair)| {
            let others = middles.iter().enumerate().filter(|(other, _)| *other != place);
            own - others.map(|(_, (other, _))| other.cosine(&pair.pair)).fold(0.0, f64::max)
        })
        .sum::<f64>()
        / count.max(1.0);
    Group {
        pattern: Pattern {
            id: id(first),
            tenant: near.first().map(|(_, pair)| pair.tenant.clone()).unwrap_or_default(),
            value: worth * count / (count + 1.0) * 0.5_f64.powf(age_days / HALF_LIFE_DAYS),
            members: near.len() as u64,
            evidence: serde_json::Value::from_iter(evidence.iter().map(|(_, pair)| pair.id.to_string())).to_string(),
            against,
            cohesion,
            // It speaks for nothing: as much went wrong as right, or its members are as near to others as to each other.
            is_junk: against >= near.len() as u64 || apart <= 0.0,
            first_at_ms: near.iter().map(|(_, pair)| pair.at_ms).min().unwrap_or(0),
            last_at_ms,
            ..Pattern::default()
        },
        members: near.iter().map(|(_, pair)| pair.number).collect(),
        spoken_by,
        // From the middle outwards: what is asked in like words stands close together.
        asked_by: evidence
            .iter()
            .step_by(2)
            .map(|(_, pair)| pair.number)
            .filter(|number| *number != spoken_by)
            .collect(),
    }
}

/// The id of a pattern whose first interaction is this one: it stays as others join.
fn id(first: Uuid) -> Uuid {
    let hash = blake3::derive_key("holdfast learning pattern", first.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
