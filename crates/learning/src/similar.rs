//! The second stage: what a question is like. It makes the vectors of questions, finds the nearest earlier one, and counts
//! similar ones.
//!
//! Questions are compared in the order in which the log tells of them, so that the same log gives the same figures. The
//! vectors are held as bytes: a cosine of them is right to about a hundredth, and a sum of integers is the same on every
//! machine. A question is compared with the newest [`VECTORS_MAX`] before it.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc};

use holdfast_storage::{
    LearningStore, StorageError,
    events::archive::ArchiveError,
    learning::{Fold, InteractionRow, LearningError, Lease, Stale},
};
use uuid::Uuid;

use crate::value::{Parts, SIMILAR, SIMILAR_ENOUGH};

/// Questions that a new one is compared with.
pub(crate) const VECTORS_MAX: usize = 50_000;
/// Questions that are encoded and stored together.
pub(crate) const TOGETHER: usize = 64;
/// Bytes of a question that its vector is made of; what models read is shorter.
const BYTES_MAX: usize = 4 << 10;

/// Makes vectors of length 1 of texts.
pub trait Encode: Send + Sync {
    /// One vector for each text, in order, and the name of the space they lie in.
    fn encode(&self, texts: Vec<String>) -> Pin<Box<dyn Future<Output = Result<Encoded, NotEncoded>> + Send + '_>>;
}

/// Vectors of texts.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// The space they lie in; vectors of two spaces are never compared.
    pub space: String,
    /// The vectors.
    pub vectors: Vec<Vec<f32>>,
}

/// Why there are no vectors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotEncoded {
    /// In words that may be shown.
    pub reason: String,
}

/// What is compared with, in memory. It is a copy of rows, and made anew from them when in doubt.
#[derive(Default)]
pub(crate) struct Memory {
    space: String,
    entries: VecDeque<Entry>,
    /// Whether what is stored was read.
    is_loaded: bool,
}

struct Entry {
    number: i64,
    asked: u64,
    id: Uuid,
    hash: Option<i64>,
    similar: u32,
    length: f64,
    vector: Box<[i8]>,
}

/// What a question was found to be like.
struct Likeness {
    nearest: f64,
    nearest_id: Option<Uuid>,
    /// The places of those that are similar.
    similar: Vec<usize>,
}

/// Gives vectors to the next questions without one; how many that were.
pub(crate) async fn pass(
    store: &LearningStore,
    lease: &Lease,
    encode: &Arc<dyn Encode>,
    memory: &Arc<std::sync::Mutex<Memory>>,
) -> Result<usize, PassError> {
    let reader = store.clone();
    let rows = blocking(move || reader.read(|fold| fold.vectors_due(TOGETHER))).await??;
    if rows.is_empty() {
        return Ok(0);
    }
    let texts = rows.iter().map(|row| question(row).to_owned()).collect();
    let encoded = encode.encode(texts).await?;
    let count = rows.len();
    let (store, lease, memory) = (store.clone(), lease.clone(), Arc::clone(memory));
    blocking(move || {
        let kept = Arc::clone(&memory);
        let done = store.derive(&lease, move |fold| {
            let mut memory = kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            memory.load(fold, &encoded.space)?;
            for (row, vector) in rows.into_iter().zip(&encoded.vectors) {
                memory.add(fold, row, vector)?;
            }
            Ok(())
        });
        if done.is_err() {
            // Nothing was stored of what it was told.
            memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner).forget();
        }
        done
    })
    .await??;
    Ok(count)
}

/// Why a pass came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    #[error(transparent)]
    Learning(#[from] LearningError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Encode(#[from] NotEncoded),
    #[error("lessons cannot be made findable: {0}")]
    Shelf(String),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("a task broke off")]
    Broken(#[from] tokio::task::JoinError),
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(work).await
}

/// What of a question is encoded.
pub(crate) fn question(row: &InteractionRow) -> &str {
    let question = row.question.as_deref().unwrap_or_default();
    &question[..question.floor_char_boundary(BYTES_MAX)]
}

impl Memory {
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Reads what is stored, once for each space.
    fn load(&mut self, fold: &Fold<'_>, space: &str) -> Result<(), StorageError> {
        if self.is_loaded && self.space == space {
            return Ok(());
        }
        self.forget();
        space.clone_into(&mut self.space);
        let mut after = 0;
        loop {
            const PAGE: usize = 1_000;
            let page = fold.vectors(space, after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (number, vector) in page {
                if let Some(row) = fold.numbered(number)? {
                    let vector = vector.iter().map(|byte| byte.cast_signed()).collect();
                    self.push(&row, number, vector);
                }
            }
        }
        // Stored by number, compared in the order in which they were asked.
        self.entries.make_contiguous().sort_by_key(|entry| entry.asked);
        self.is_loaded = true;
        Ok(())
    }

    fn add(&mut self, fold: &Fold<'_>, mut row: InteractionRow, vector: &[f32]) -> Result<(), StorageError> {
        let vector: Box<[i8]> = vector.iter().map(|value| quantised(*value)).collect();
        let likeness = self.like(&vector, row.question_hash);
        for place in &likeness.similar {
            let entry = &mut self.entries[*place];
            if entry.similar < SIMILAR_ENOUGH {
                entry.similar += 1;
                fold.raise_similar(entry.number, entry.similar)?;
            }
        }
        row.nearest = Some(likeness.nearest);
        row.nearest_id = likeness.nearest_id;
        row.similar = Some(u32::try_from(likeness.similar.len()).unwrap_or(u32::MAX).min(SIMILAR_ENOUGH));
        row.value = Some(Parts::of(&row).value());
        row.stale = Stale { failures: row.stale.failures, ..Stale::default() };
        let number = fold.put_interaction(&row)?;
        let bytes: Vec<u8> = vector.iter().map(|value| value.cast_unsigned()).collect();
        fold.put_vector(number, &self.space, &bytes)?;
        self.push(&row, number, vector);
        Ok(())
    }

    fn push(&mut self, row: &InteractionRow, number: i64, vector: Box<[i8]>) {
        if self.entries.len() >= VECTORS_MAX {
            self.entries.pop_front();
        }
        let similar = row.similar.unwrap_or(0);
        let asked = row.asked_position.unwrap_or(row.position);
        let length = f64::from(dot(&vector, &vector)).sqrt();
        self.entries.push_back(Entry { number, asked, id: row.id, hash: row.question_hash, similar, length, vector });
    }

    fn like(&self, vector: &[i8], hash: Option<i64>) -> Likeness {
        let mut likeness = Likeness { nearest: 0.0, nearest_id: None, similar: Vec::new() };
        let length = f64::from(dot(vector, vector)).sqrt();
        for (place, entry) in self.entries.iter().enumerate() {
            if entry.vector.len() != vector.len() {
                continue;
            }
            let cosine = if hash.is_some() && hash == entry.hash {
                1.0
            } else {
                f64::from(dot(vector, &entry.vector)) / (length * entry.length).max(1.0)
            };
            // The latest of those that are equally near.
            if likeness.nearest_id.is_none() || cosine >= likeness.nearest {
                likeness.nearest = cosine.min(1.0);
                likeness.nearest_id = Some(entry.id);
            }
            if cosine >= f64::from(SIMILAR) {
                likeness.similar.push(place);
            }
        }
        likeness
    }
}

/// A number from -1 to 1 as a byte. The numbers of a vector of length 1 are small: four times as fine is never too large
/// for more than a few of 384, which are cut off.
pub(crate) fn quantised(value: f32) -> i8 {
    const SCALE: f32 = 127.0 * 4.0;
    // In range after the clamp, so nothing is lost but the fraction.
    #[expect(clippy::cast_possible_truncation, reason = "it is clamped to the range first")]
    let byte = (value * SCALE).round().clamp(-127.0, 127.0) as i8;
    byte
}

/// The sum of products. In pieces that fit sixteen bits pairwise, which compilers turn into vectors.
pub(crate) fn dot(left: &[i8], right: &[i8]) -> i32 {
    left.iter().zip(right).map(|(left, right)| i32::from(i16::from(*left) * i16::from(*right))).sum()
}
