//! The threads of a model.
//!
//! As many as the machine may use, each of which takes some texts off the queue, encodes them from beginning to end and
//! takes the next: no thread ever waits for another. They wake when there is work, and end after the queue is closed:
//! what waits with interactive priority is still answered, bulk work is told of the shutdown.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use crate::{
    encoder::{Encoder, Scratch, Shape, TextVector},
    error::EmbedError,
    queue::{Batch, Key, Queue},
    space::Precision,
};

/// A batch is closed when it has this many tokens, and a query waits this long at most behind bulk work. More would not
/// make products of bytes any faster; weights of floats are four times as much to read for each batch.
pub(crate) fn batch_tokens(precision: Precision) -> usize {
    match precision {
        Precision::Int8 => 256,
        Precision::F32 => 512,
    }
}

pub(crate) const PANICKED: &str = "it panicked; the log has the place";

/// One thread's side of a model.
pub(crate) struct Worker {
    queue: Arc<Queue>,
    encoder: Arc<Encoder>,
    scratch: Scratch,
}

impl Worker {
    pub(crate) fn new(queue: Arc<Queue>, encoder: Arc<Encoder>) -> Worker {
        Worker { queue, encoder, scratch: Scratch::default() }
    }

    /// Works until the queue is closed and answered.
    pub(crate) fn run(mut self) {
        while let Some(batch) = self.queue.wait() {
            self.work(batch);
        }
    }

    /// Answers some texts, or tells their requests why not.
    fn work(&mut self, batch: Batch) {
        let keys: Vec<Key> = batch.texts.iter().map(|text| text.key).collect();
        match catch_unwind(AssertUnwindSafe(|| self.encode(&batch))) {
            Ok(Ok(vectors)) => self.queue.finish(&keys, vectors),
            Ok(Err(error)) => self.give_up(&keys, &error.to_string()),
            Err(_) => self.give_up(&keys, PANICKED),
        }
    }

    fn give_up(&mut self, keys: &[Key], reason: &str) {
        tracing::error!(reason, "an embedding batch failed: {reason}");
        self.scratch = Scratch::default();
        self.queue.give_up(keys, reason);
    }

    fn encode(&mut self, batch: &Batch) -> Result<Vec<TextVector>, EmbedError> {
        let texts: Vec<(&[u32], Shape)> = batch.texts.iter().map(|text| (&*text.ids, text.shape)).collect();
        let started = Instant::now();
        let vectors = self.encoder.encode(&texts, &mut self.scratch)?;
        let tokens = texts.iter().map(|(ids, _)| ids.len()).sum();
        self.queue.encoded(batch.priority, (texts.len(), tokens), started.elapsed());
        Ok(vectors)
    }
}
