//! What the queue and the threads of one model count.
//!
//! Labels are a model's name and a priority; both come from the operator, never from a request.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::embedder::Priority;

/// The series of one model, looked up once.
pub(crate) struct Meters {
    interactive: Lane,
    bulk: Lane,
    shared: Counter,
    failed: Counter,
}

struct Lane {
    depth: Gauge,
    refused: Counter,
    wait_seconds: Histogram,
    batch_seconds: Histogram,
    batch_texts: Histogram,
    batch_tokens: Histogram,
    tokens: Counter,
}

impl Meters {
    pub(crate) fn new(model: &str, workers: usize, texts_max: usize) -> Meters {
        let model = model.to_owned();
        gauge!("holdfast_embedding_threads", "model" => model.clone()).set(workers as f64);
        for priority in [Priority::Interactive, Priority::Bulk] {
            let labels = [("model", model.clone()), ("priority", priority.label().to_owned())];
            gauge!("holdfast_embedding_queue_limit_texts", &labels).set(texts_max as f64);
        }
        Meters {
            interactive: Lane::new(&model, Priority::Interactive),
            bulk: Lane::new(&model, Priority::Bulk),
            shared: counter!("holdfast_embedding_shared_total", "model" => model.clone()),
            failed: counter!("holdfast_embedding_batches_failed_total", "model" => model),
        }
    }

    fn lane(&self, priority: Priority) -> &Lane {
        match priority {
            Priority::Interactive => &self.interactive,
            Priority::Bulk => &self.bulk,
        }
    }

    /// Texts that are accepted and not answered.
    pub(crate) fn depth(&self, priority: Priority, texts: usize) {
        self.lane(priority).depth.set(texts as f64);
    }

    /// A request that was refused because too much waits.
    pub(crate) fn refused(&self, priority: Priority) {
        self.lane(priority).refused.increment(1);
    }

    /// A text that was under way already.
    pub(crate) fn shared(&self) {
        self.shared.increment(1);
    }

    /// A batch that was given up.
    pub(crate) fn failed(&self) {
        self.failed.increment(1);
    }

    /// How long a text waited for a thread.
    pub(crate) fn waited(&self, priority: Priority, time: Duration) {
        self.lane(priority).wait_seconds.record(time.as_secs_f64());
    }

    /// A batch of so many texts and tokens that a thread was busy with for so long.
    pub(crate) fn batch(&self, priority: Priority, (texts, tokens): (usize, usize), took: Duration) {
        let lane = self.lane(priority);
        lane.batch_seconds.record(took.as_secs_f64());
        lane.batch_texts.record(texts as f64);
        lane.batch_tokens.record(tokens as f64);
        lane.tokens.increment(tokens as u64);
    }
}

impl Lane {
    fn new(model: &str, priority: Priority) -> Lane {
        let labels = [("model", model.to_owned()), ("priority", priority.label().to_owned())];
        Lane {
            depth: gauge!("holdfast_embedding_queue_texts", &labels),
            refused: counter!("holdfast_embedding_refused_total", &labels),
            wait_seconds: histogram!("holdfast_embedding_wait_seconds", &labels),
            batch_seconds: histogram!("holdfast_embedding_batch_seconds", &labels),
            batch_texts: histogram!("holdfast_embedding_batch_texts", &labels),
            batch_tokens: histogram!("holdfast_embedding_batch_tokens", &labels),
            tokens: counter!("holdfast_embedding_tokens_total", &labels),
        }
    }
}
