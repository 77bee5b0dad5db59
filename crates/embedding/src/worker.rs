//! The queue in front of a model and the threads that work it off.
//!
//! As many threads a model as the machine may use, each of which takes some texts, encodes them from beginning to end and
//! takes the next: no thread ever waits for another. They wake when a job is pushed, and end after [`Queue::close`]: what
//! waits with interactive priority is still answered, bulk work is told of the shutdown.
//!
//! Texts are taken as soon as a thread is free, whosever they are: nothing waits for a batch to fill up, and while all
//! threads are busy the next batches fill by themselves. Interactive texts go before bulk ones, so a query never waits for
//! more than what a thread has in hand. Sorting texts by length would save padding, but a batch has none.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::oneshot;

use crate::{
    embedder::Priority,
    encoder::{Encoder, Scratch, TextVector},
    error::EmbedError,
    space::Precision,
    tokens::Tokens,
};

/// A batch is closed when it has this many tokens, as far as can be told before tokenizing, and a query waits this long
/// at most behind bulk work. More would not make products of bytes any faster; weights of floats are four times as much
/// to read for each batch.
pub(crate) fn batch_tokens(precision: Precision) -> usize {
    match precision {
        Precision::Int8 => 256,
        Precision::F32 => 512,
    }
}

/// What a token has of an English text, with the space before it.
const BYTES_A_TOKEN: usize = 5;

const PANICKED: &str = "it panicked; the log has the place";

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
    window: usize,
    batch_tokens: usize,
    workers: usize,
}

#[derive(Default)]
struct Waiting {
    interactive: Lane,
    bulk: Lane,
    closed: bool,
}

/// The texts of one priority.
#[derive(Default)]
struct Lane {
    texts: VecDeque<Text>,
    /// What they will be in tokens, about.
    tokens: usize,
    /// Texts accepted and not yet answered.
    unanswered: usize,
}

/// One text of a request.
struct Text {
    text: String,
    /// Its tokens, about.
    tokens: usize,
    /// Its place in the request.
    index: usize,
    request: Arc<Request>,
}

/// What is known of a request's answer. Without a reply it has been answered.
struct Request(Mutex<Answering>);

struct Answering {
    reply: Option<oneshot::Sender<Answer>>,
    vectors: Vec<Vec<f32>>,
    missing: usize,
}

impl Waiting {
    fn lane(&mut self, priority: Priority) -> &mut Lane {
        match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Bulk => &mut self.bulk,
        }
    }
}

impl Lane {
    /// Texts for one thread: its share of what waits, but no more than a batch, and at least one.
    fn take(&mut self, workers: usize, batch_tokens: usize) -> Vec<Text> {
        let share = self.tokens.div_ceil(workers).min(batch_tokens);
        let mut tokens = 0;
        let mut batch = Vec::new();
        while let Some(next) = self.texts.front() {
            if !batch.is_empty() && tokens + next.tokens > share {
                break;
            }
            tokens += next.tokens;
            batch.extend(self.texts.pop_front());
        }
        self.tokens -= tokens;
        batch
    }
}

impl Request {
    /// Whether nobody waits for it any more, because it was answered or its caller went away.
    fn is_over(&self) -> bool {
        self.lock().reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Notes one text's vector, and answers when it was the last or there is none.
    fn deliver(&self, index: usize, vector: TextVector) {
        let mut answering = self.lock();
        match vector {
            Ok(vector) => {
                answering.vectors[index] = vector;
                answering.missing -= 1;
                if answering.missing == 0 {
                    let vectors = std::mem::take(&mut answering.vectors);
                    answering.answer(Ok(vectors));
                }
            }
            Err(reason) => answering.answer(Err(EmbedError::UnusableVector { index, reason })),
        }
    }

    fn fail(&self, error: EmbedError) {
        self.lock().answer(Err(error));
    }

    fn lock(&self) -> MutexGuard<'_, Answering> {
        // Nothing panics while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answering {
    fn answer(&mut self, answer: Answer) {
        if let Some(reply) = self.reply.take() {
            // The receiver is gone when the caller stopped waiting; then nobody misses the answer.
            drop(reply.send(answer));
        }
    }
}

impl Queue {
    /// A queue for texts of which `window` tokens are read, in front of so many threads.
    pub(crate) fn new(model: &str, limit: usize, window: usize, batch_tokens: usize, workers: usize) -> Queue {
        let (model, workers) = (model.to_owned(), workers.max(1));
        Queue { model, waiting: Mutex::default(), changed: Condvar::new(), limit, window, batch_tokens, workers }
    }

    /// Accepts a job, or refuses it when too much waits.
    pub(crate) fn push(&self, priority: Priority, job: Job) -> Result<(), EmbedError> {
        let count = job.texts.len();
        if count > self.limit {
            return Err(EmbedError::TooManyTexts { count, limit: self.limit });
        }
        let answering = Answering { reply: Some(job.reply), vectors: vec![Vec::new(); count], missing: count };
        let request = Arc::new(Request(Mutex::new(answering)));
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(EmbedError::ShutDown);
        }
        let lane = waiting.lane(priority);
        if lane.unanswered + count > self.limit {
            let labels = [("model", self.model.clone()), ("priority", priority.label().to_owned())];
            metrics::counter!("holdfast_embedding_refused_total", &labels).increment(1);
            return Err(EmbedError::Overloaded { queued: lane.unanswered, limit: self.limit });
        }
        lane.unanswered += count;
        for (index, text) in job.texts.into_iter().enumerate() {
            let tokens = (2 + text.len() / BYTES_A_TOKEN).min(self.window);
            lane.tokens += tokens;
            lane.texts.push_back(Text { text, tokens, index, request: Arc::clone(&request) });
        }
        self.show(priority, lane.unanswered);
        drop(waiting);
        if count == 1 {
            self.changed.notify_one()
        } else {
            self.changed.notify_all()
        }
        Ok(())
    }

    /// Accepts nothing more, and lets the threads end when they have answered what waits.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits for work and takes some, or says that there will be none.
    fn wait(&self) -> Option<(Priority, Vec<Text>)> {
        let mut waiting = self.lock();
        loop {
            if let Some(work) = self.take(&mut waiting) {
                return Some(work);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes what a thread should do next of what waits.
    fn take(&self, waiting: &mut Waiting) -> Option<(Priority, Vec<Text>)> {
        if waiting.closed {
            let lane = std::mem::take(&mut waiting.bulk);
            lane.texts.iter().for_each(|text| text.request.fail(EmbedError::ShutDown));
            self.show(Priority::Bulk, 0);
        }
        for priority in [Priority::Interactive, Priority::Bulk] {
            let lane = waiting.lane(priority);
            if !lane.texts.is_empty() {
                return Some((priority, lane.take(self.workers, self.batch_tokens)));
            }
        }
        None
    }

    fn answered(&self, priority: Priority, count: usize) {
        let mut waiting = self.lock();
        let lane = waiting.lane(priority);
        // Closing forgets bulk work, some of which may be in hand.
        lane.unanswered = lane.unanswered.saturating_sub(count);
        self.show(priority, lane.unanswered);
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

/// One thread's side of a model.
pub(crate) struct Worker {
    queue: Arc<Queue>,
    encoder: Arc<Encoder>,
    tokens: Arc<Tokens>,
    scratch: Scratch,
}

impl Worker {
    pub(crate) fn new(queue: Arc<Queue>, encoder: Arc<Encoder>, tokens: Arc<Tokens>) -> Worker {
        Worker { queue, encoder, tokens, scratch: Scratch::default() }
    }

    /// Works until the queue is closed and answered.
    pub(crate) fn run(mut self) {
        while let Some((priority, batch)) = self.queue.wait() {
            self.work(priority, batch);
        }
    }

    /// Answers some texts, or tells their requests why not.
    fn work(&mut self, priority: Priority, mut batch: Vec<Text>) {
        let taken = batch.len();
        // What nobody waits for costs nothing.
        batch.retain(|text| !text.request.is_over());
        let (batch, ids) = self.tokenize(batch);
        let encoded = catch_unwind(AssertUnwindSafe(|| self.encode(priority, &ids)));
        // Whoever hears its answer finds room for its next request.
        self.queue.answered(priority, taken);
        match encoded {
            Ok(Ok(vectors)) => {
                for (text, vector) in batch.iter().zip(vectors) {
                    text.request.deliver(text.index, vector);
                }
            }
            Ok(Err(error)) => self.give_up(&batch, &error.to_string()),
            Err(_) => self.give_up(&batch, PANICKED),
        }
    }

    /// The tokens of each text. A text that has none fails its own request and nobody else's.
    fn tokenize(&self, batch: Vec<Text>) -> (Vec<Text>, Vec<Vec<u32>>) {
        let tokenized = batch.into_iter().filter_map(|text| {
            let error = match catch_unwind(AssertUnwindSafe(|| self.tokens.ids(&text.text))) {
                Ok(Ok(ids)) => return Some((text, ids)),
                Ok(Err(error)) => error,
                Err(_) => EmbedError::Encoder { reason: PANICKED.to_owned() },
            };
            tracing::error!(%error, "a text could not be tokenized: {error}");
            text.request.fail(error);
            None
        });
        tokenized.unzip()
    }

    fn give_up(&mut self, batch: &[Text], reason: &str) {
        tracing::error!(reason, "an embedding batch failed: {reason}");
        self.scratch = Scratch::default();
        for text in batch {
            text.request.fail(EmbedError::Encoder { reason: reason.to_owned() });
        }
    }

    fn encode(&mut self, priority: Priority, ids: &[Vec<u32>]) -> Result<Vec<TextVector>, EmbedError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let vectors = self.encoder.encode(ids, &mut self.scratch)?;
        let labels = [("model", self.queue.model.clone()), ("priority", priority.label().to_owned())];
        metrics::histogram!("holdfast_embedding_batch_seconds", &labels).record(started.elapsed().as_secs_f64());
        let tokens: usize = ids.iter().map(Vec::len).sum();
        metrics::counter!("holdfast_embedding_tokens_total", &labels).increment(tokens as u64);
        Ok(vectors)
    }
}

#[cfg(test)]
mod tests {
    use holdfast_testkit::tiny_model;

    use super::*;
    use crate::encoder::Settings;

    fn worker(limit: usize) -> Worker {
        let folder = tempfile::tempdir().unwrap();
        tiny_model::write(folder.path()).unwrap();
        let settings = Settings::load("tiny", folder.path()).unwrap();
        let tokens = Tokens::load("tiny", &folder.path().join("tokenizer.json"), settings.window).unwrap();
        let queue = Queue::new("tiny", limit, settings.window, TEXTS_A_BATCH * settings.window, 1);
        let encoder = Encoder::load(settings, Precision::F32, &folder.path().join("model.safetensors")).unwrap();
        Worker::new(Arc::new(queue), Arc::new(encoder), Arc::new(tokens))
    }

    impl Worker {
        /// Works off one batch and says of which priority.
        fn step(&mut self) -> Priority {
            let (priority, batch) = self.queue.wait().unwrap();
            self.work(priority, batch);
            priority
        }
    }

    fn push(worker: &Worker, priority: Priority, texts: usize) -> Result<oneshot::Receiver<Answer>, EmbedError> {
        let (reply, answer) = oneshot::channel();
        // Each text fills the window, so that the number of texts says how many batches there are.
        let texts = vec!["moon ".repeat(tiny_model::WINDOW); texts];
        worker.queue.push(priority, Job { texts, reply }).map(|()| answer)
    }

    const TEXTS_A_BATCH: usize = 4;

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
        assert_eq!(worker.step(), Priority::Bulk);
        let mut interactive = push(&worker, Priority::Interactive, 1).unwrap();
        assert_eq!(worker.step(), Priority::Interactive);
        assert_eq!(interactive.try_recv().unwrap().unwrap().len(), 1);
        assert!(bulk.try_recv().is_err(), "two batches are left");
        for _ in 0..2 {
            assert_eq!(worker.step(), Priority::Bulk);
        }
        assert_eq!(bulk.try_recv().unwrap().unwrap().len(), 3 * TEXTS_A_BATCH);
        assert_eq!(worker.queue.lock().bulk.unanswered, 0);
        assert_eq!(worker.queue.lock().bulk.tokens, 0);
    }

    #[test]
    fn small_requests_share_a_batch() {
        let mut worker = worker(1000);
        let answers: Vec<_> = (0..TEXTS_A_BATCH).map(|_| push(&worker, Priority::Interactive, 1).unwrap()).collect();
        worker.step();
        for mut answer in answers {
            assert_eq!(answer.try_recv().unwrap().unwrap().len(), 1);
        }
    }

    #[test]
    fn a_request_is_shared_out_among_the_threads() {
        let mut worker = worker(1000);
        Arc::get_mut(&mut worker.queue).unwrap().workers = 2;
        let mut answer = push(&worker, Priority::Interactive, 2).unwrap();
        worker.step();
        assert!(answer.try_recv().is_err(), "the other half is for the other thread");
        worker.step();
        assert_eq!(answer.try_recv().unwrap().unwrap().len(), 2);
    }

    #[test]
    fn vectors_come_back_in_the_order_of_the_texts() {
        let mut worker = worker(1000);
        let texts: Vec<String> = (0..40).map(|number| format!("moon {number}")).collect();
        let push = |texts: &[String]| {
            let (reply, answer) = oneshot::channel();
            worker.queue.push(Priority::Bulk, Job { texts: texts.to_vec(), reply }).unwrap();
            answer
        };
        let mut together = push(&texts);
        let mut alone: Vec<_> = texts.iter().map(|text| push(std::slice::from_ref(text))).collect();
        while worker.queue.lock().bulk.unanswered > 0 {
            worker.step();
        }
        let together = together.try_recv().unwrap().unwrap();
        for (vector, alone) in together.iter().zip(&mut alone) {
            assert_eq!(*vector, alone.try_recv().unwrap().unwrap()[0]);
        }
        assert!(together.iter().any(|vector| *vector != together[0]), "all texts came out alike");
    }

    #[test]
    fn what_nobody_waits_for_is_not_computed() {
        let mut worker = worker(1000);
        drop(push(&worker, Priority::Bulk, 5 * TEXTS_A_BATCH).unwrap());
        let mut wanted = push(&worker, Priority::Bulk, 1).unwrap();
        while worker.queue.lock().bulk.unanswered > 1 {
            worker.step();
        }
        // Five batches were taken and thrown away without a row being made.
        assert!(worker.scratch.is_unused());
        worker.step();
        assert_eq!(wanted.try_recv().unwrap().unwrap().len(), 1);
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
