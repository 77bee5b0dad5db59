//! The queue in front of a model: what waits, in which order it is taken, and what is refused.
//!
//! Texts are taken as soon as a thread is free, whosever they are: nothing waits for a batch to fill up, and while all
//! threads are busy the next batches fill by themselves. Interactive texts go before bulk ones, so a query never waits for
//! more than what a thread has in hand; one batch in [`BULK_ONE_IN`] is a bulk one all the same, so that what is indexed
//! while somebody always asks gets done. Interactive requests take turns of [`TURN_TOKENS`], or one text where that has
//! more (after deficit round robin, Shreedhar and Varghese 1995, without keeping account of what was overdrawn), so one of a thousand texts does not hold up one of a single text; bulk requests go one
//! after the other.
//!
//! A text that is under way already is not computed again: the second request waits for the first one's vector. A vector
//! is in the cache before its text is no longer under way, and a text that is not under way is looked for there once
//! more, so there is no moment between the two; but where a bulk text is joined in the very moment that it is done. Who waits for a text is known here until the end, so what nobody waits
//! for any more is never begun.
//!
//! It does not know tokenizers or networks.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    cache::{Cache, Found},
    embedder::Priority,
    encoder::{Encoded, Shape, TextVector},
    error::EmbedError,
    meters::Meters,
};

/// What an interactive request may have taken of it before the next one has its turn.
const TURN_TOKENS: usize = 64;
/// One batch in so many is a bulk one where both kinds wait.
const BULK_ONE_IN: u32 = 16;
/// How much the speed of a full batch counts against all those before it.
const SPEED_WEIGHT: f64 = 0.05;
/// The share of the time a request may take that its texts may have to wait; the rest is for what cannot be foreseen.
const WAIT_SHARE: f64 = 0.7;

/// Names a text with everything that decides its vector.
pub(crate) type Key = [u8; 32];

pub(crate) type Answer = Result<Vec<Arc<Encoded>>, EmbedError>;

/// A text on its way to the encoder.
pub(crate) struct Text {
    pub(crate) key: Key,
    pub(crate) content: Content,
    /// Its tokens; of a remote model's text, about.
    pub(crate) tokens: usize,
    /// Whether it had more.
    pub(crate) cut: bool,
    pub(crate) shape: Shape,
    /// Whether its vector may come from the cache, and goes there.
    pub(crate) keep: bool,
}

/// What an engine is given of a text.
pub(crate) enum Content {
    /// The model's token numbers.
    Ids(Vec<u32>),
    /// The text itself, for a model that tokenizes elsewhere, and the span it was asked for in.
    Text(String, tracing::Span),
}

/// How much may wait, and how it is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Texts of each priority that may be unanswered.
    pub(crate) texts: usize,
    /// A batch is closed when it has this many tokens,
    pub(crate) batch_tokens: usize,
    /// or this many texts.
    pub(crate) batch_texts: usize,
    /// Threads that take batches.
    pub(crate) workers: usize,
    /// How long an interactive request may take.
    pub(crate) deadline: Duration,
}

/// What waits for one model.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    limits: Limits,
    cache: Cache,
    meters: Meters,
}

#[derive(Default)]
struct Waiting {
    interactive: Lane,
    bulk: Lane,
    /// Every text that waits or is in hand, by what it is.
    under_way: HashMap<Key, UnderWay>,
    /// Tokens a second of one thread.
    speed: f64,
    /// Interactive batches in a row while bulk texts waited.
    passed_over: u32,
    closed: bool,
}

/// The texts of one priority.
#[derive(Default)]
struct Lane {
    requests: VecDeque<Turns>,
    tokens: usize,
    /// Texts accepted and not yet answered.
    unanswered: usize,
}

/// What waits of one request.
#[derive(Default)]
struct Turns {
    places: VecDeque<Place>,
    tokens: usize,
    /// Tokens of its longest text.
    longest: usize,
}

/// A text's place in its lane. It may have been computed meanwhile, because another request was more urgent.
struct Place {
    key: Key,
    tokens: usize,
    since: Instant,
}

/// A text that waits, and from then on until its vector is there.
struct UnderWay {
    /// What the encoder needs; taken by the thread that has it in hand.
    text: Option<Text>,
    priority: Priority,
    /// Whether anybody would have its vector kept.
    keep: bool,
    /// The requests that wait for it, each with the text's place in it.
    wanted: Vec<(Arc<Request>, usize)>,
}

/// What is known of a request's answer. Without a reply it has been answered.
struct Request(Mutex<Answering>);

struct Answering {
    reply: Option<oneshot::Sender<Answer>>,
    vectors: Vec<Option<Arc<Encoded>>>,
    missing: usize,
}

/// A request's room in the queue, for as long as it lives.
pub(crate) struct Room {
    queue: Arc<Queue>,
    priority: Priority,
    texts: usize,
}

/// What a thread does next.
pub(crate) struct Batch {
    pub(crate) priority: Priority,
    pub(crate) texts: Vec<Text>,
}

impl Waiting {
    fn lane(&mut self, priority: Priority) -> &mut Lane {
        match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Bulk => &mut self.bulk,
        }
    }

    /// The text of a place in a lane, unless it is done, in hand, or wanted by nobody.
    fn begin(&mut self, key: &Key) -> Option<Text> {
        let under_way = self.under_way.get_mut(key)?;
        let text = under_way.text.take()?;
        under_way.wanted.retain(|(request, _)| !request.is_over());
        if under_way.wanted.is_empty() {
            self.under_way.remove(key);
            return None;
        }
        Some(text)
    }

    /// Texts for one thread: its share of what waits, but no more than a batch, and at least one.
    fn batch(&mut self, priority: Priority, limits: &Limits) -> Vec<(Text, Instant)> {
        let share = self.lane(priority).tokens.div_ceil(limits.workers).clamp(1, limits.batch_tokens.max(1));
        let turn = match priority {
            Priority::Interactive => TURN_TOKENS.min(share),
            Priority::Bulk => share,
        };
        let (mut batch, mut tokens) = (Vec::new(), 0);
        while let Some(mut request) = self.lane(priority).requests.pop_front() {
            let mut taken = 0;
            let mut full = false;
            while let Some(next) = request.places.front() {
                full = batch.len() >= limits.batch_texts || (!batch.is_empty() && tokens + next.tokens > share);
                if taken >= turn || full {
                    break;
                }
                let Some(next) = request.places.pop_front() else { break };
                request.tokens -= next.tokens;
                self.lane(priority).tokens -= next.tokens;
                if let Some(text) = self.begin(&next.key) {
                    tokens += next.tokens;
                    taken += next.tokens;
                    batch.push((text, next.since));
                }
            }
            if !request.places.is_empty() {
                let requests = &mut self.lane(priority).requests;
                // Who had its turn goes to the end; whom the batch had no room for is next.
                if taken >= turn && priority == Priority::Interactive {
                    requests.push_back(request);
                } else {
                    requests.push_front(request);
                }
            }
            if full || tokens >= share {
                break;
            }
        }
        batch
    }
}

impl Request {
    /// Whether nobody waits for it any more, because it was answered or its caller went away.
    fn is_over(&self) -> bool {
        self.lock().reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Notes one text's vector, and answers when it was the last or there is none.
    fn deliver(&self, index: usize, vector: Result<&Arc<Encoded>, &'static str>) {
        let mut answering = self.lock();
        match vector {
            Ok(vector) => {
                answering.vectors[index] = Some(Arc::clone(vector));
                answering.missing -= 1;
                if answering.missing == 0 {
                    let vectors = std::mem::take(&mut answering.vectors);
                    answering.answer(Ok(vectors.into_iter().flatten().collect()));
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

impl Drop for Room {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        let lane = waiting.lane(self.priority);
        lane.unanswered -= self.texts;
        self.queue.meters.depth(self.priority, lane.unanswered);
    }
}

impl Queue {
    /// A queue in front of threads that make so many tokens a second each, as far as is known.
    pub(crate) fn new(model: &str, limits: Limits, speed: f64, cache: Cache) -> Queue {
        let limits = Limits { workers: limits.workers.max(1), ..limits };
        let meters = Meters::new(model, limits.workers, limits.texts);
        let waiting = Mutex::new(Waiting { speed, ..Waiting::default() });
        Queue { waiting, changed: Condvar::new(), limits, cache, meters }
    }

    /// Room for a request of so many texts, with about so many tokens, or why there is none.
    ///
    /// What would not be answered in time is refused at once. An interactive request is, besides, where what waits with
    /// it would take longer than it may.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        priority: Priority,
        texts: usize,
        tokens: usize,
    ) -> Result<Room, EmbedError> {
        let limit = self.limits.texts;
        if texts > limit {
            return Err(EmbedError::TooManyTexts { count: texts, limit });
        }
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(EmbedError::ShutDown);
        }
        let speed = waiting.speed * self.limits.workers as f64;
        let lane = waiting.lane(priority);
        if lane.unanswered + texts > limit {
            self.meters.refused(priority);
            return Err(EmbedError::Overloaded { queued: lane.unanswered, limit });
        }
        if priority == Priority::Interactive {
            let most = (speed * self.limits.deadline.as_secs_f64() * WAIT_SHARE) as usize;
            if tokens > most {
                return Err(EmbedError::TooManyTokens { count: tokens, limit: most, deadline: self.limits.deadline });
            }
            // What each of those who wait will have had when this one has had all its turns.
            let had = tokens.div_ceil(TURN_TOKENS) * TURN_TOKENS;
            let ahead: usize = lane.requests.iter().map(|other| other.tokens.min(had.max(other.longest))).sum();
            if ahead + tokens > most {
                self.meters.refused(priority);
                return Err(EmbedError::Overloaded { queued: lane.unanswered, limit });
            }
        }
        lane.unanswered += texts;
        self.meters.depth(priority, lane.unanswered);
        Ok(Room { queue: Arc::clone(self), priority, texts })
    }

    /// Puts a request's texts in its lane; each that is under way already is only waited for.
    pub(crate) fn push(&self, priority: Priority, texts: Vec<Text>, reply: oneshot::Sender<Answer>) {
        let answering = Answering { reply: Some(reply), vectors: vec![None; texts.len()], missing: texts.len() };
        let request = Arc::new(Request(Mutex::new(answering)));
        let mut guard = self.lock();
        let waiting = &mut *guard;
        if waiting.closed {
            request.fail(EmbedError::ShutDown);
            return;
        }
        let since = Instant::now();
        let mut turns = Turns::default();
        for (index, text) in texts.into_iter().enumerate() {
            let wanted = (Arc::clone(&request), index);
            let place = Place { key: text.key, tokens: text.tokens, since };
            if let Some(under_way) = waiting.under_way.get_mut(&text.key) {
                under_way.wanted.push(wanted);
                under_way.keep |= text.keep;
                self.meters.shared();
                // Whose turn comes first takes it along, and the other place is skipped. Bulk work can wait for either.
                if under_way.text.is_none() || priority == Priority::Bulk {
                    continue;
                }
                under_way.priority = priority;
            } else if let Some(found) = text.keep.then(|| self.cache.peek(&text.key)).flatten() {
                // Computed between the look at the cache and now.
                self.meters.shared();
                request.deliver(index, Ok(&found.encoded));
                continue;
            } else {
                let (key, keep) = (text.key, text.keep);
                waiting.under_way.insert(key, UnderWay { text: Some(text), priority, keep, wanted: vec![wanted] });
            }
            turns.tokens += place.tokens;
            turns.longest = turns.longest.max(place.tokens);
            turns.places.push_back(place);
        }
        let count = turns.places.len();
        if count > 0 {
            let lane = waiting.lane(priority);
            lane.tokens += turns.tokens;
            lane.requests.push_back(turns);
        }
        drop(guard);
        match count {
            0 => {}
            1 => self.changed.notify_one(),
            _ => self.changed.notify_all(),
        }
    }

    /// Texts of a priority that are accepted and not answered.
    pub(crate) fn unanswered(&self, priority: Priority) -> usize {
        self.lock().lane(priority).unanswered
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Accepts nothing more, and lets the threads end when they have answered what waits.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits for work and takes some, or says that there will be none.
    pub(crate) fn wait(&self) -> Option<Batch> {
        let mut waiting = self.lock();
        loop {
            if let Some(batch) = self.take(&mut waiting) {
                return Some(batch);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes what a thread should do next of what waits.
    fn take(&self, waiting: &mut Waiting) -> Option<Batch> {
        if waiting.closed {
            waiting.bulk.requests.clear();
            waiting.bulk.tokens = 0;
            waiting.under_way.retain(|_, under_way| {
                let given_up = under_way.text.is_some() && under_way.priority == Priority::Bulk;
                if given_up {
                    under_way.wanted.iter().for_each(|(request, _)| request.fail(EmbedError::ShutDown));
                }
                !given_up
            });
        }
        let mut order = [Priority::Interactive, Priority::Bulk];
        if waiting.passed_over + 1 >= BULK_ONE_IN {
            order.reverse();
        }
        for priority in order {
            // A lane can turn out to have nothing that anybody wants.
            while !waiting.lane(priority).requests.is_empty() {
                let batch = waiting.batch(priority, &self.limits);
                if !batch.is_empty() {
                    let passed_over = priority == Priority::Interactive && !waiting.bulk.requests.is_empty();
                    waiting.passed_over = if passed_over { waiting.passed_over + 1 } else { 0 };
                    batch.iter().for_each(|(_, since)| self.meters.waited(priority, since.elapsed()));
                    return Some(Batch { priority, texts: batch.into_iter().map(|(text, _)| text).collect() });
                }
            }
        }
        None
    }

    /// Keeps the vectors of these texts, and answers whoever waits for them.
    pub(crate) fn finish(&self, texts: &[Text], vectors: Vec<TextVector>) {
        let vectors: Vec<Result<Arc<Encoded>, _>> = vectors.into_iter().map(|vector| vector.map(Arc::new)).collect();
        let keep: Vec<bool> = {
            let waiting = self.lock();
            texts.iter().map(|text| waiting.under_way.get(&text.key).is_some_and(|it| it.keep)).collect()
        };
        for ((text, vector), _) in texts.iter().zip(&vectors).zip(keep).filter(|(_, keep)| *keep) {
            if let Ok(encoded) = vector {
                let found = Found { encoded: Arc::clone(encoded), tokens: text.tokens, cut: text.cut };
                self.cache.put(text.key, found);
            }
        }
        for (wanted, vector) in self.wanted(texts).into_iter().zip(&vectors) {
            for (request, index) in wanted {
                request.deliver(index, vector.as_ref().map_err(|reason| *reason));
            }
        }
    }

    /// Tells whoever waits for these texts that there is no vector, and why.
    pub(crate) fn give_up(&self, texts: &[Text], error: &dyn Fn() -> EmbedError) {
        self.meters.failed();
        for (request, _) in self.wanted(texts).into_iter().flatten() {
            request.fail(error());
        }
    }

    /// Who waits for each of some texts, which are no longer under way.
    fn wanted(&self, texts: &[Text]) -> Vec<Vec<(Arc<Request>, usize)>> {
        let mut waiting = self.lock();
        texts.iter().map(|text| waiting.under_way.remove(&text.key).map(|it| it.wanted).unwrap_or_default()).collect()
    }

    /// Notes how long a thread took for so many texts and tokens.
    pub(crate) fn encoded(&self, priority: Priority, (texts, tokens): (usize, usize), took: Duration) {
        self.meters.batch(priority, (texts, tokens), took);
        let seconds = took.as_secs_f64();
        if seconds > 0.0 {
            // A small batch says little: most of its time goes into what every batch costs.
            let full = (tokens as f64 / self.limits.batch_tokens.max(1) as f64).min(1.0);
            let mut waiting = self.lock();
            waiting.speed += SPEED_WEIGHT * full * (tokens as f64 / seconds - waiting.speed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while holding the lock, and its data is consistent between any two statements.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of a text here; four fill a batch.
    const TOKENS: usize = 64;
    const SPEED: f64 = 1_000.0;

    fn queue(texts: usize, workers: usize) -> Arc<Queue> {
        let limits =
            Limits { texts, batch_tokens: 4 * TOKENS, batch_texts: 100, workers, deadline: Duration::from_secs(30) };
        Arc::new(Queue::new("test", limits, SPEED, Cache::new(1 << 20, None)))
    }

    fn key(number: usize) -> Key {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    /// A request with these texts, each of which is its number.
    fn push(
        queue: &Arc<Queue>,
        priority: Priority,
        texts: impl IntoIterator<Item = usize>,
    ) -> (Room, oneshot::Receiver<Answer>) {
        let texts: Vec<Text> = texts
            .into_iter()
            .map(|number| Text {
                key: key(number),
                content: Content::Ids(vec![number as u32; TOKENS]),
                tokens: TOKENS,
                cut: false,
                shape: Shape::Pooled,
                keep: priority == Priority::Interactive,
            })
            .collect();
        let before = queue.unanswered(priority);
        let room = queue.reserve(priority, texts.len(), texts.len() * TOKENS).unwrap();
        assert_eq!(queue.unanswered(priority), before + texts.len());
        let (reply, answer) = oneshot::channel();
        queue.push(priority, texts, reply);
        (room, answer)
    }

    /// Takes a batch, answers it, and says which texts it had.
    fn step(queue: &Queue) -> (Priority, Vec<u32>) {
        let Batch { priority, texts } = queue.wait().unwrap();
        let numbers: Vec<u32> = texts
            .iter()
            .map(|text| match &text.content {
                Content::Ids(ids) => ids[0],
                Content::Text(..) => unreachable!(),
            })
            .collect();
        let vectors = numbers.iter().map(|number| Ok(Encoded { values: vec![*number as f32], length: 1.0 }));
        queue.finish(&texts, vectors.collect());
        (priority, numbers)
    }

    fn values(answer: &mut oneshot::Receiver<Answer>) -> Vec<f32> {
        answer.try_recv().unwrap().unwrap().iter().map(|encoded| encoded.values[0]).collect()
    }

    fn refused(queue: &Arc<Queue>, priority: Priority, texts: usize, tokens: usize) -> EmbedError {
        queue.reserve(priority, texts, tokens).map(|_| ()).unwrap_err()
    }

    fn is_idle(queue: &Queue) -> bool {
        let waiting = queue.lock();
        let lane = |lane: &Lane| lane.tokens == 0 && lane.unanswered == 0 && lane.requests.is_empty();
        waiting.under_way.is_empty() && lane(&waiting.interactive) && lane(&waiting.bulk)
    }

    #[test]
    fn what_would_exceed_the_bound_is_refused_for_each_priority() {
        let queue = queue(10, 1);
        let first = push(&queue, Priority::Bulk, 0..7);
        let full = refused(&queue, Priority::Bulk, 4, 4);
        assert!(matches!(full, EmbedError::Overloaded { queued: 7, limit: 10 }) && full.is_transient(), "{full:?}");
        let _second = queue.reserve(Priority::Bulk, 3, 3).unwrap();
        let _other = queue.reserve(Priority::Interactive, 10, 10).unwrap();
        assert!(matches!(refused(&queue, Priority::Bulk, 11, 11), EmbedError::TooManyTexts { .. }));
        drop(first);
        queue.reserve(Priority::Bulk, 7, 7).unwrap();
    }

    #[test]
    fn what_would_come_too_late_is_refused() {
        let queue = queue(100_000, 1);
        let most = (SPEED * 30.0 * WAIT_SHARE) as usize;
        let alone = refused(&queue, Priority::Interactive, 1, most + 1);
        assert!(matches!(alone, EmbedError::TooManyTokens { limit, .. } if limit == most), "{alone:?}");
        let _large = push(&queue, Priority::Interactive, 0..most / TOKENS);
        assert!(matches!(refused(&queue, Priority::Interactive, 99, most / 2 + 99), EmbedError::Overloaded { .. }));
        // Taking turns with the large one, a small one would be there in time; and who does not wait may come any time.
        let _small = queue.reserve(Priority::Interactive, 1, TOKENS).unwrap();
        let _bulk = queue.reserve(Priority::Bulk, 1, 10 * most).unwrap();
    }

    #[test]
    fn interactive_texts_overtake_bulk_ones_between_two_batches() {
        let queue = queue(1_000, 1);
        let (_room, mut bulk) = push(&queue, Priority::Bulk, 0..12);
        assert_eq!(step(&queue), (Priority::Bulk, vec![0, 1, 2, 3]));
        let (_other, mut interactive) = push(&queue, Priority::Interactive, [100]);
        assert_eq!(step(&queue), (Priority::Interactive, vec![100]));
        assert_eq!(values(&mut interactive), [100.0]);
        assert!(bulk.try_recv().is_err(), "two batches are left");
        step(&queue);
        step(&queue);
        assert_eq!(values(&mut bulk), (0..12).map(|number| number as f32).collect::<Vec<_>>());
        drop((_room, _other));
        assert!(is_idle(&queue));
    }

    #[test]
    fn texts_without_tokens_are_answered_too() {
        let queue = queue(100, 2);
        for priority in [Priority::Interactive, Priority::Bulk] {
            let text = Text {
                key: key(1),
                content: Content::Ids(vec![1]),
                tokens: 0,
                cut: false,
                shape: Shape::Pooled,
                keep: false,
            };
            let (reply, mut answer) = oneshot::channel();
            queue.push(priority, vec![text], reply);
            assert_eq!(step(&queue), (priority, vec![1]));
            assert_eq!(values(&mut answer), [1.0]);
        }
    }

    #[test]
    fn long_texts_ahead_are_counted_whole() {
        let queue = queue(100_000, 1);
        let most = (SPEED * 30.0 * WAIT_SHARE) as usize;
        let long = most / 2;
        for number in 0..2 {
            let text = Text {
                key: key(number),
                content: Content::Ids(vec![1]),
                tokens: long,
                cut: false,
                shape: Shape::Pooled,
                keep: false,
            };
            drop(queue.reserve(Priority::Interactive, 1, long).unwrap());
            queue.push(Priority::Interactive, vec![text], oneshot::channel().0);
        }
        assert!(matches!(refused(&queue, Priority::Interactive, 1, TOKENS), EmbedError::Overloaded { .. }));
    }

    #[test]
    fn small_batches_say_little_of_the_speed() {
        let queue = queue(100, 1);
        let speed = || queue.lock().speed;
        (0..100).for_each(|_| queue.encoded(Priority::Interactive, (1, 2), Duration::from_secs(1)));
        assert!(speed() > 0.9 * SPEED, "{}", speed());
        (0..200).for_each(|_| queue.encoded(Priority::Bulk, (4, 4 * TOKENS), Duration::from_secs(1)));
        assert!((speed() - 4.0 * TOKENS as f64).abs() < 1.0, "{}", speed());
    }

    #[test]
    fn bulk_work_gets_on_while_somebody_always_asks() {
        let queue = queue(10_000, 1);
        let _bulk = push(&queue, Priority::Bulk, 0..1_000);
        let _asked = push(&queue, Priority::Interactive, 1_000..1_300);
        let priorities: Vec<Priority> = (0..64).map(|_| step(&queue).0).collect();
        let bulk = |part: &[Priority]| part.iter().filter(|priority| **priority == Priority::Bulk).count();
        assert!(priorities.chunks(16).all(|part| bulk(part) == 1), "{priorities:?}");
    }

    #[test]
    fn small_requests_share_a_batch_and_a_large_one_lets_them_pass() {
        let queue = queue(1_000, 1);
        let (_large, mut large) = push(&queue, Priority::Interactive, 0..40);
        let mut small: Vec<_> = (100..103).map(|number| push(&queue, Priority::Interactive, [number])).collect();
        let (_, taken) = step(&queue);
        assert_eq!(taken, [0, 100, 101, 102], "each has its turn");
        small.iter_mut().for_each(|(_, answer)| assert_eq!(values(answer).len(), 1));
        for _ in 0..10 {
            step(&queue);
        }
        assert_eq!(values(&mut large).len(), 40);
    }

    #[test]
    fn bulk_requests_go_one_after_the_other() {
        let queue = queue(1_000, 1);
        let _first = push(&queue, Priority::Bulk, 0..6);
        let _second = push(&queue, Priority::Bulk, 10..12);
        assert_eq!(step(&queue).1, [0, 1, 2, 3]);
        assert_eq!(step(&queue).1, [4, 5, 10, 11]);
    }

    #[test]
    fn a_request_is_shared_out_among_the_threads() {
        let queue = queue(1_000, 2);
        let (_room, mut answer) = push(&queue, Priority::Interactive, [1, 2]);
        assert_eq!(step(&queue).1, [1]);
        assert!(answer.try_recv().is_err(), "the other half is for the other thread");
        assert_eq!(step(&queue).1, [2]);
        assert_eq!(values(&mut answer), [1.0, 2.0]);
    }

    #[test]
    fn equal_texts_under_way_are_computed_once() {
        let queue = queue(1_000, 1);
        let (_first, mut first) = push(&queue, Priority::Interactive, [1, 2, 1]);
        let (_second, mut second) = push(&queue, Priority::Interactive, [2]);
        let in_hand = queue.wait().unwrap();
        let (_third, mut third) = push(&queue, Priority::Interactive, [1]);
        let keys: Vec<Key> = in_hand.texts.iter().map(|text| text.key).collect();
        assert_eq!(keys, [key(1), key(2)]);
        let vector = |number: f32| Ok(Encoded { values: vec![number], length: 1.0 });
        queue.finish(&in_hand.texts, vec![vector(1.0), vector(2.0)]);
        assert_eq!(values(&mut first), [1.0, 2.0, 1.0]);
        assert_eq!(values(&mut second), [2.0]);
        assert_eq!(values(&mut third), [1.0]);
        drop((_first, _second, _third));
        assert!(is_idle(&queue));
    }

    #[test]
    fn a_text_that_was_computed_since_the_look_at_the_cache_is_not_computed_again() {
        let queue = queue(1_000, 1);
        let (_bulk, mut bulk) = push(&queue, Priority::Bulk, [1]);
        let in_hand = queue.wait().unwrap();
        let _first = push(&queue, Priority::Interactive, [1]);
        queue.finish(&in_hand.texts, vec![Ok(Encoded { values: vec![1.0], length: 1.0 })]);
        assert_eq!(values(&mut bulk), [1.0]);
        let (_late, mut late) = push(&queue, Priority::Interactive, [1, 2]);
        assert_eq!(step(&queue), (Priority::Interactive, vec![2]));
        assert_eq!(values(&mut late), [1.0, 2.0]);
        let (_known, mut known) = push(&queue, Priority::Interactive, [2, 1]);
        assert_eq!(values(&mut known), [2.0, 1.0], "nothing is left to do");
        let _alone = push(&queue, Priority::Bulk, [1]);
        assert_eq!(step(&queue).1, [1], "a text that is not to be kept is not looked for");
    }

    #[test]
    fn who_is_in_a_hurry_takes_a_bulk_text_along() {
        let queue = queue(1_000, 1);
        let (_bulk, mut bulk) = push(&queue, Priority::Bulk, 0..6);
        let (_hurry, mut hurry) = push(&queue, Priority::Interactive, [5]);
        assert_eq!(step(&queue), (Priority::Interactive, vec![5]));
        assert_eq!(values(&mut hurry), [5.0]);
        assert_eq!(step(&queue).1, [0, 1, 2, 3]);
        assert_eq!(step(&queue).1, [4], "its old place is skipped");
        assert_eq!(values(&mut bulk), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        drop((_bulk, _hurry));
        assert!(is_idle(&queue));
    }

    #[test]
    fn what_nobody_waits_for_is_not_computed() {
        let queue = queue(1_000, 1);
        drop(push(&queue, Priority::Interactive, 0..50));
        let (_room, mut wanted) = push(&queue, Priority::Interactive, [49, 50]);
        assert_eq!(step(&queue).1, [49, 50]);
        assert_eq!(values(&mut wanted), [49.0, 50.0]);
        drop(_room);
        assert!(is_idle(&queue));
    }

    #[test]
    fn a_text_without_a_vector_fails_those_who_asked_for_it() {
        let queue = queue(1_000, 1);
        let (_first, mut first) = push(&queue, Priority::Interactive, [1]);
        let (_second, mut second) = push(&queue, Priority::Interactive, [2]);
        let in_hand = queue.wait().unwrap();
        queue.finish(&in_hand.texts, vec![Err("it is zero"), Ok(Encoded { values: vec![2.0], length: 1.0 })]);
        let failed = first.try_recv().unwrap();
        assert!(matches!(failed, Err(EmbedError::UnusableVector { index: 0, .. })), "{failed:?}");
        assert_eq!(values(&mut second), [2.0]);
    }

    #[test]
    fn closing_answers_who_waits_and_tells_bulk_work() {
        let queue = queue(1_000, 1);
        let (_bulk, mut bulk) = push(&queue, Priority::Bulk, [1, 2]);
        let (_hurry, mut hurry) = push(&queue, Priority::Interactive, [3]);
        queue.close();
        assert_eq!(step(&queue).1, [3]);
        assert!(queue.wait().is_none());
        assert_eq!(values(&mut hurry), [3.0]);
        assert!(matches!(bulk.try_recv().unwrap(), Err(EmbedError::ShutDown)));
        assert!(matches!(refused(&queue, Priority::Interactive, 1, 1), EmbedError::ShutDown));
    }
}
