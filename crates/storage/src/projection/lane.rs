//! One index kind's thread: waits, applies, checkpoints, trims. See the parent module for what
//! wakes and stops it.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use metrics::{Histogram, histogram};

use super::{Indexes, Shared};
use crate::{
    ChunkKey,
    error::StorageError,
    lexical::{LexicalChange, LexicalEntry},
    outbox::{self, Step},
    vectors::VectorChange,
};

/// Chunks applied at once: enough to make a commit worth its sync, few enough to hold in memory.
const CHUNKS_PER_STEP: usize = 4_096;
/// The timer: how long a failure waits to be tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How old changes may get before the vectors are written out. A restart replays what is newer.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(20);
/// How many positions may pass before the vectors are written out all the same.
const CHECKPOINT_POSITIONS: u64 = 20_000;

/// How long nothing must have been written until an index gives back what writing needs.
const REST_AFTER: Duration = Duration::from_secs(5);

/// Which of the two indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Vectors,
    Lexical,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Vectors => "vectors",
            Self::Lexical => "lexical",
        }
    }
}

/// A bell that remembers having been rung.
#[derive(Default)]
pub(super) struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    pub(super) fn raise(&self) {
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    fn wait(&self, timeout: Duration) {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut raised, _) =
            self.changed.wait_timeout_while(raised, timeout, |raised| !*raised).unwrap_or_else(PoisonError::into_inner);
        *raised = false;
    }
}

pub(super) struct Lane {
    kind: Kind,
    shared: Arc<Shared>,
    checkpointed_at: Instant,
    /// When something was last applied, until the indexes rest.
    applied_at: Option<Instant>,
    /// Of a step.
    seconds: Histogram,
}

impl Lane {
    pub(super) fn new(kind: Kind, shared: Arc<Shared>) -> Self {
        let seconds = histogram!("holdfast_index_apply_duration_seconds", "index" => kind.as_str());
        Self { kind, shared, checkpointed_at: Instant::now(), applied_at: None, seconds }
    }

    pub(super) fn run(mut self) {
        loop {
            let stopping = self.shared.stopping.load(Ordering::SeqCst);
            for indexes in self.shared.all() {
                let before = indexes.extent(self.kind);
                self.advance(&indexes);
                if indexes.extent(self.kind) != before {
                    self.applied_at = Some(Instant::now());
                }
            }
            self.checkpoint(stopping);
            self.rest();
            if self.kind == Kind::Vectors {
                self.shared.sweep();
            }
            if stopping {
                return;
            }
            let signal = Arc::clone(&self.shared.signals[self.kind as usize]);
            signal.wait(RETRY_INTERVAL);
        }
    }

    /// After a while without writing, finishes merging and frees the memory of writing.
    fn rest(&mut self) {
        if self.kind != Kind::Lexical || self.applied_at.is_none_or(|at| at.elapsed() < REST_AFTER) {
            return;
        }
        self.applied_at = None;
        for indexes in self.shared.all() {
            if let Err(error) = indexes.lexical().rest() {
                tracing::warn!(%error, "a lexical index did not come to rest; the next change tries again");
            }
        }
    }

    /// Applies what there is, and shows why where it cannot.
    fn advance(&self, indexes: &Indexes) {
        let mut outcome = self.catch_up(indexes);
        if outcome.as_ref().is_err_and(is_damage) {
            tracing::warn!(index = self.kind.as_str(), "an index is damaged; building it anew");
            outcome = indexes.reset(self.kind).and_then(|()| self.catch_up(indexes));
        }
        let failure = outcome.err().map(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                index = self.kind.as_str(),
                generation = indexes.generation.id,
                "failed to bring an index up to date; trying again"
            );
            error.to_string()
        });
        indexes.set_failure(self.kind, failure);
    }

    fn catch_up(&self, indexes: &Indexes) -> Result<(), StorageError> {
        let id = indexes.generation.id;
        let extent = outbox::extent(&self.shared.database, id)?;
        let (position, _) = indexes.extent(self.kind);
        if position < extent.trimmed_through {
            self.rebuild(indexes, extent.last)?;
        } else if position > extent.last {
            // The index has seen what SQL no longer knows: SQL is an older copy.
            indexes.reset(self.kind)?;
            self.rebuild(indexes, extent.last)?;
        }
        loop {
            let (position, _) = indexes.extent(self.kind);
            let step = outbox::next_step(&self.shared.database, id, position, CHUNKS_PER_STEP)?;
            let Some(step) = step else { return Ok(()) };
            self.apply(indexes, &step)?;
        }
    }

    /// Every chunk of SQL, then the position that was the last when the walk began. What changes
    /// meanwhile is in the outbox after it and is applied again, which changes nothing.
    fn rebuild(&self, indexes: &Indexes, position: u64) -> Result<(), StorageError> {
        let id = indexes.generation.id;
        let (at, chunks) = indexes.extent(self.kind);
        if chunks > 0 && at == 0 {
            // A rebuilding that was broken off may hold chunks that are gone by now.
            indexes.reset(self.kind)?;
        }
        tracing::info!(index = self.kind.as_str(), generation = id, "building an index from SQL");
        let mut after: Option<ChunkKey> = None;
        loop {
            let keys = outbox::keys(&self.shared.database, id, after, CHUNKS_PER_STEP)?;
            let Some(&last) = keys.last() else { break };
            after = Some(last);
            self.apply(indexes, &Step { added: keys, ..Step::default() })?;
        }
        self.apply(indexes, &Step { position, ..Step::default() })
    }

    fn apply(&self, indexes: &Indexes, step: &Step) -> Result<(), StorageError> {
        let began = Instant::now();
        let span = tracing::info_span!(
            "project",
            index = self.kind.as_str(),
            added = step.added.len(),
            removed = step.removed.len()
        );
        let _inside = span.entered();
        match self.kind {
            Kind::Vectors => self.apply_vectors(indexes, step),
            Kind::Lexical => self.apply_words(indexes, step),
        }?;
        self.seconds.record(began.elapsed().as_secs_f64());
        self.shared.applied.send_modify(|count| *count += 1);
        Ok(())
    }

    fn apply_vectors(&self, indexes: &Indexes, step: &Step) -> Result<(), StorageError> {
        let vectors = outbox::vectors(&self.shared.database, &indexes.generation, &step.added)?;
        let added: Vec<_> = vectors.iter().map(|(key, vector)| (*key, vector.as_slice())).collect();
        indexes.vectors().apply(&VectorChange { removed: &step.removed, added: &added, position: step.position })?;
        Ok(())
    }

    fn apply_words(&self, indexes: &Indexes, step: &Step) -> Result<(), StorageError> {
        let keys: Vec<ChunkKey> = step.added.iter().chain(&step.refreshed).copied().collect();
        let words = outbox::words(&self.shared.database, &indexes.generation, &keys)?;
        let added: Vec<_> = words
            .iter()
            .map(|words| LexicalEntry {
                key: words.key,
                title: &words.title,
                heading: &words.heading,
                path: &words.path,
                text: &words.text,
                attributes: &words.attributes,
            })
            .collect();
        indexes.lexical().apply(&LexicalChange { removed: &step.removed, added: &added, position: step.position })?;
        Ok(())
    }

    /// Writes the vectors out when it is time, and drops what both indexes hold durably from
    /// the outbox. The lexical index is durable with every step.
    fn checkpoint(&mut self, stopping: bool) {
        if self.kind != Kind::Vectors {
            return;
        }
        let due = self.checkpointed_at.elapsed() >= CHECKPOINT_INTERVAL;
        for indexes in self.shared.all() {
            let index = indexes.vectors();
            let behind = index.position() - index.durable_position().min(index.position());
            if behind == 0 || !(due || stopping || behind >= CHECKPOINT_POSITIONS) {
                continue;
            }
            let outcome = index.checkpoint().map_err(StorageError::from).and_then(|()| {
                let through = index.durable_position().min(indexes.lexical().position());
                outbox::trim(&self.shared.database, indexes.generation.id, through).map(drop)
            });
            if let Err(error) = outcome {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "failed to write out the vector index; trying again"
                );
            }
        }
        if due {
            self.checkpointed_at = Instant::now();
        }
    }
}

fn is_damage(error: &StorageError) -> bool {
    match error {
        StorageError::Vectors(error) => error.is_damage(),
        StorageError::Lexical(error) => error.is_damage(),
        _ => false,
    }
}
