//! The queue in front of a model and the thread that works it off.
//!
//! One thread a model, because the encoder fills all cores by itself: more would only fight over them. It wakes when a
//! job is pushed, and ends after [`Queue::close`]: what waits with interactive priority is still answered, bulk work is
//! told of the shutdown. Between two batches interactive texts overtake bulk ones, so a query never waits for more than
//! one batch.
//!
//! Texts are batched in their order of arrival. Sorting them by length would save padding, but a batch has none.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rayon::{ThreadPool, prelude::*};
use tokio::sync::oneshot;

use crate::{
    embedder::Priority,
    encoder::{Encoder, Scratch, TextVector},
    error::EmbedError,
    tokens::Tokens,
};

/// A batch is closed when it has this many tokens: some 0.1 s of work on two cores, the longest a query waits behind
/// bulk work. Larger batches would not make the matrix products any faster.
const BATCH_TOKENS: usize = 1024;

/// Texts tokenized at a time.
const TOKENIZE_TEXTS: usize = 32;

type Answer = Result<Vec<Vec<f32>>, EmbedError>;

/// One request: texts that are answered together.
pub(crate) struct Job {
    pub(crate) texts: Vec<String>,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// What waits for one model, bounded by the number of texts for each priority.
pub(crate) struct Queue {
    /// The value of the metrics' label.
    model: String,
    waiting: Mutex<Waiting>,
    changed: Condvar,
    limit: usize,
}

#[derive(Default)]
struct Waiting {
    interactive: VecDeque<Job>,
    bulk: VecDeque<Job>,
    /// Texts accepted and not yet answered, of each priority.
    interactive_texts: usize,
    bulk_texts: usize,
    closed: bool,
}

impl Waiting {
    fn lane(&mut self, priority: Priority) -> (&mut VecDeque<Job>, &mut usize) {
        match priority {
            Priority::Interactive => (&mut self.interactive, &mut self.interactive_texts),
            Priority::Bulk => (&mut self.bulk, &mut self.bulk_texts),
        }
    }
}

impl Queue {
    pub(crate) fn new(model: &str, limit: usize) -> Queue {
        Queue { model: model.to_owned(), waiting: Mutex::default(), changed: Condvar::new(), limit }
    }

    /// Accepts a job, or refuses it when too much waits.
    pub(crate) fn push(&self, priority: Priority, job: Job) -> Result<(), EmbedError> {
        let count = job.texts.len();
        if count > self.limit {
            return Err(EmbedError::TooManyTexts { count, limit: self.limit });
        }
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(EmbedError::ShutDown);
        }
        let (jobs, texts) = waiting.lane(priority);
        if *texts + count > self.limit {
            let labels = [("model", self.model.clone()), ("priority", priority.label().to_owned())];
            metrics::counter!("holdfast_embedding_refused_total", &labels).increment(1);
            return Err(EmbedError::Overloaded { queued: *texts, limit: self.limit });
        }
        *texts += count;
        jobs.push_back(job);
        self.show(priority, *texts);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// Accepts nothing more, and lets the thread end when it has answered what waits.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    fn take(&self, priority: Priority) -> Option<Job> {
        self.lock().lane(priority).0.pop_front()
    }

    fn answered(&self, priority: Priority, count: usize) {
        let mut waiting = self.lock();
        let texts = waiting.lane(priority).1;
        *texts -= count;
        self.show(priority, *texts);
    }

    fn show(&self, priority: Priority, texts: usize) {
        let labels = [("model", self.model.clone()), ("priority", priority.label().to_owned())];
        metrics::gauge!("holdfast_embedding_queue_texts", &labels).set(texts as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while holding the lock, and its data is consistent between any two statements.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's side of a model.
pub(crate) struct Worker {
    queue: Arc<Queue>,
    encoder: Encoder,
    tokens: Arc<Tokens>,
    pool: Arc<ThreadPool>,
    scratch: Scratch,
    interactive: Lane,
    bulk: Lane,
}

impl Worker {
    pub(crate) fn new(queue: Arc<Queue>, encoder: Encoder, tokens: Arc<Tokens>, pool: Arc<ThreadPool>) -> Worker {
        Worker {
            queue,
            encoder,
            tokens,
            pool,
            scratch: Scratch::default(),
            interactive: Lane::default(),
            bulk: Lane::default(),
        }
    }

    /// Works until the queue is closed and answered.
    pub(crate) fn run(mut self) {
        while let Some(priority) = self.wait() {
            let stepped = catch_unwind(AssertUnwindSafe(|| self.step(priority)));
            let failed = match stepped {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked; the log has the place".to_owned(),
            };
            tracing::error!(reason = %failed, "an embedding batch failed: {failed}");
            self.scratch = Scratch::default();
            self.fail(priority, || EmbedError::Encoder { reason: failed.clone() });
        }
    }

    /// Waits for work and says of which priority, or that there will be none.
    fn wait(&mut self) -> Option<Priority> {
        let queue = Arc::clone(&self.queue);
        let mut waiting = queue.lock();
        loop {
            if waiting.closed && !(self.bulk.jobs.is_empty() && waiting.bulk.is_empty()) {
                drop(waiting);
                while let Some(job) = queue.take(Priority::Bulk) {
                    self.bulk.admit(job);
                }
                self.fail(Priority::Bulk, || EmbedError::ShutDown);
                waiting = queue.lock();
            }
            if !(self.interactive.jobs.is_empty() && waiting.interactive.is_empty()) {
                return Some(Priority::Interactive);
            }
            if !(self.bulk.jobs.is_empty() && waiting.bulk.is_empty()) {
                return Some(Priority::Bulk);
            }
            if waiting.closed {
                return None;
            }
            waiting = queue.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One batch of one priority.
    fn step(&mut self, priority: Priority) -> Result<(), EmbedError> {
        let lane = match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Bulk => &mut self.bulk,
        };
        let dropped = lane.forget_abandoned();
        self.queue.answered(priority, dropped);
        while lane.tokenized_tokens() < BATCH_TOKENS {
            let texts = lane.next_texts();
            if !texts.is_empty() {
                let tokens = &self.tokens;
                let ids: Result<Vec<Vec<u32>>, EmbedError> =
                    self.pool.install(|| texts.par_iter().map(|(_, text)| tokens.ids(text)).collect());
                lane.tokenized.extend(texts.iter().map(|(job, _)| *job).zip(ids?));
            } else if let Some(job) = self.queue.take(priority) {
                lane.admit(job);
            } else {
                break;
            }
        }
        let batch = lane.next_batch();
        if batch.is_empty() {
            return Ok(());
        }
        let (jobs, ids): (Vec<u64>, Vec<Vec<u32>>) = batch.into_iter().unzip();
        let started = Instant::now();
        let vectors = self.pool.install(|| self.encoder.encode(&ids, &mut self.scratch))?;
        let labels = [("model", self.queue.model.clone()), ("priority", priority.label().to_owned())];
        metrics::histogram!("holdfast_embedding_batch_seconds", &labels).record(started.elapsed().as_secs_f64());
        let tokens: usize = ids.iter().map(Vec::len).sum();
        metrics::counter!("holdfast_embedding_tokens_total", &labels).increment(tokens as u64);
        let answered = lane.deliver(jobs.into_iter().zip(vectors));
        self.queue.answered(priority, answered);
        Ok(())
    }

    /// Answers every job under way of one priority with an error.
    fn fail(&mut self, priority: Priority, error: impl Fn() -> EmbedError) {
        let lane = match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Bulk => &mut self.bulk,
        };
        let mut texts = 0;
        for running in std::mem::take(lane).jobs {
            texts += running.total;
            running.answer(Err(error()));
        }
        self.queue.answered(priority, texts);
    }
}

/// The jobs of one priority that have been begun.
#[derive(Default)]
struct Lane {
    jobs: VecDeque<Running>,
    /// Texts as token numbers, each with the number of its job, in order.
    tokenized: VecDeque<(u64, Vec<u32>)>,
    next_number: u64,
}

struct Running {
    number: u64,
    /// Texts in the job.
    total: usize,
    /// Texts not yet tokenized.
    texts: std::vec::IntoIter<String>,
    vectors: Vec<Vec<f32>>,
    reply: oneshot::Sender<Answer>,
}

impl Running {
    fn answer(self, answer: Answer) {
        // The receiver is gone when the caller stopped waiting; then nobody misses the answer.
        drop(self.reply.send(answer));
    }
}

impl Lane {
    fn admit(&mut self, job: Job) {
        let number = self.next_number;
        self.next_number += 1;
        let total = job.texts.len();
        self.jobs.push_back(Running {
            number,
            total,
            texts: job.texts.into_iter(),
            vectors: Vec::with_capacity(total),
            reply: job.reply,
        });
    }

    /// Drops jobs whose callers stopped waiting, before they cost anything, and says how many texts they had.
    fn forget_abandoned(&mut self) -> usize {
        let mut texts = 0;
        let tokenized = &mut self.tokenized;
        self.jobs.retain(|running| {
            let wanted = !running.reply.is_closed();
            if !wanted {
                texts += running.total;
                tokenized.retain(|(job, _)| *job != running.number);
            }
            wanted
        });
        texts
    }

    fn tokenized_tokens(&self) -> usize {
        self.tokenized.iter().map(|(_, ids)| ids.len()).sum()
    }

    /// The next texts to tokenize, each with the number of its job.
    fn next_texts(&mut self) -> Vec<(u64, String)> {
        let mut texts = Vec::new();
        for running in &mut self.jobs {
            let room = TOKENIZE_TEXTS - texts.len();
            texts.extend(running.texts.by_ref().take(room).map(|text| (running.number, text)));
        }
        texts
    }

    /// As many texts as a batch holds, at least one.
    fn next_batch(&mut self) -> Vec<(u64, Vec<u32>)> {
        let mut tokens = 0;
        let fits = self
            .tokenized
            .iter()
            .take_while(|(_, ids)| {
                tokens += ids.len();
                tokens <= BATCH_TOKENS
            })
            .count();
        let count = fits.max(1).min(self.tokenized.len());
        self.tokenized.drain(..count).collect()
    }

    /// Hands each vector to its job and answers the jobs that are complete; says how many texts those had.
    fn deliver(&mut self, vectors: impl Iterator<Item = (u64, TextVector)>) -> usize {
        let mut answered = 0;
        for (number, vector) in vectors {
            let Some(at) = self.jobs.iter().position(|running| running.number == number) else {
                // An earlier text of the job was refused, which answered it.
                continue;
            };
            let running = &mut self.jobs[at];
            let outcome = match vector {
                Ok(vector) => {
                    running.vectors.push(vector);
                    None
                }
                Err(reason) => Some(Err(EmbedError::UnusableVector { index: running.vectors.len(), reason })),
            };
            let complete = running.vectors.len() == running.total;
            let Some(answer) = outcome.or_else(|| complete.then(|| Ok(std::mem::take(&mut running.vectors)))) else {
                continue;
            };
            if let Some(running) = self.jobs.remove(at) {
                answered += running.total;
                self.tokenized.retain(|(job, _)| *job != running.number);
                running.answer(answer);
            }
        }
        answered
    }
}

#[cfg(test)]
mod tests {
    use holdfast_testkit::tiny_model;
    use rayon::ThreadPoolBuilder;

    use super::*;
    use crate::encoder::Settings;

    fn worker(limit: usize) -> Worker {
        let folder = tempfile::tempdir().unwrap();
        tiny_model::write(folder.path()).unwrap();
        let settings = Settings::load("tiny", folder.path()).unwrap();
        let tokens = Tokens::load("tiny", &folder.path().join("tokenizer.json"), settings.window).unwrap();
        let encoder = Encoder::load(settings, &folder.path().join("model.safetensors")).unwrap();
        let pool = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        Worker::new(Arc::new(Queue::new("tiny", limit)), encoder, Arc::new(tokens), Arc::new(pool))
    }

    fn push(worker: &Worker, priority: Priority, texts: usize) -> Result<oneshot::Receiver<Answer>, EmbedError> {
        let (reply, answer) = oneshot::channel();
        // Each text fills the window, so that the number of texts says how many batches there are.
        let texts = vec!["moon ".repeat(tiny_model::WINDOW); texts];
        worker.queue.push(priority, Job { texts, reply }).map(|()| answer)
    }

    const TEXTS_A_BATCH: usize = BATCH_TOKENS / tiny_model::WINDOW;

    #[test]
    fn what_would_exceed_the_bound_is_refused_for_each_priority() {
        let worker = worker(10);
        let _first = push(&worker, Priority::Bulk, 7).unwrap();
        let refused = push(&worker, Priority::Bulk, 4).map(|_| ()).unwrap_err();
        assert!(matches!(refused, EmbedError::Overloaded { queued: 7, limit: 10 }), "{refused:?}");
        assert!(refused.is_transient());
        push(&worker, Priority::Bulk, 3).unwrap();
        push(&worker, Priority::Interactive, 10).unwrap();
        assert!(matches!(push(&worker, Priority::Bulk, 11), Err(EmbedError::TooManyTexts { .. })));
    }

    #[test]
    fn interactive_texts_overtake_bulk_ones_between_two_batches() {
        let mut worker = worker(1000);
        let mut bulk = push(&worker, Priority::Bulk, 3 * TEXTS_A_BATCH).unwrap();
        assert_eq!(worker.wait(), Some(Priority::Bulk));
        worker.step(Priority::Bulk).unwrap();
        let mut interactive = push(&worker, Priority::Interactive, 1).unwrap();
        assert_eq!(worker.wait(), Some(Priority::Interactive));
        worker.step(Priority::Interactive).unwrap();
        assert_eq!(interactive.try_recv().unwrap().unwrap().len(), 1);
        assert!(bulk.try_recv().is_err(), "two batches are left");
        for _ in 0..2 {
            assert_eq!(worker.wait(), Some(Priority::Bulk));
            worker.step(Priority::Bulk).unwrap();
        }
        assert_eq!(bulk.try_recv().unwrap().unwrap().len(), 3 * TEXTS_A_BATCH);
        assert_eq!(worker.queue.lock().bulk_texts, 0);
    }

    #[test]
    fn small_requests_share_a_batch() {
        let mut worker = worker(1000);
        let answers: Vec<_> = (0..8).map(|_| push(&worker, Priority::Interactive, 1).unwrap()).collect();
        worker.step(Priority::Interactive).unwrap();
        for mut answer in answers {
            assert_eq!(answer.try_recv().unwrap().unwrap().len(), 1);
        }
    }

    #[test]
    fn what_nobody_waits_for_is_not_computed() {
        let mut worker = worker(1000);
        drop(push(&worker, Priority::Bulk, 5 * TEXTS_A_BATCH).unwrap());
        let mut wanted = push(&worker, Priority::Bulk, 1).unwrap();
        let mut steps = 0;
        while wanted.is_empty() {
            worker.step(Priority::Bulk).unwrap();
            steps += 1;
        }
        assert_eq!(wanted.try_recv().unwrap().unwrap().len(), 1);
        // The first step finds out; without that, all five batches would come first.
        assert!(steps <= 2, "{steps} batches");
    }

    #[test]
    fn closing_answers_who_waits_and_tells_bulk_work() {
        let worker = worker(1000);
        let mut bulk = push(&worker, Priority::Bulk, 2).unwrap();
        let mut interactive = push(&worker, Priority::Interactive, 2).unwrap();
        let queue = Arc::clone(&worker.queue);
        queue.close();
        worker.run();
        assert_eq!(interactive.try_recv().unwrap().unwrap().len(), 2);
        assert!(matches!(bulk.try_recv().unwrap(), Err(EmbedError::ShutDown)));
        let (reply, _answer) = oneshot::channel();
        let refused = queue.push(Priority::Interactive, Job { texts: vec![String::new()], reply });
        assert!(matches!(refused, Err(EmbedError::ShutDown)));
    }
}
