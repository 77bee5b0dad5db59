//! What waits to be written to the event log, and who is told when it is.
//!
//! Whoever adds something holds the lock for as long as that takes; the recorder takes a batch out and writes it without
//! the lock.

use std::{
    collections::VecDeque,
    ops::{Add, AddAssign, Sub},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, counter, gauge};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use uuid::Uuid;

use super::{
    AppendError, Appended, LINGER, Mark, NewEvent, NotRecorded, QUEUED_BYTES_MAX, QUEUED_EVENTS_MAX, marks::OnceKey,
};
use crate::{
    error::StorageError,
    ledger::{
        RESERVATIONS_MAX, Reservation, ReserveError, Settlement,
        rows::{DROPPED, RESTART},
    },
    sql::repeat,
};

/// Items and events that share a commit. That many wait only where the disk does not keep up, and there each sync has to
/// do for as many as it can.
const BATCH_MAX: usize = 2_048;
/// Items that are worth a commit without waiting for more; a few milliseconds of work.
const ENOUGH: usize = 256;
/// Bytes of events that share a commit, unless a single item has more.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How often the log tells of lost events.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Something that waits for the recorder.
pub(crate) enum Item {
    /// An event that nobody waits for.
    Record(Box<NewEvent>),
    /// Events that somebody waits for.
    Append(Box<AppendRequest>),
    /// Something to be set aside.
    Reserve(Box<ReserveRequest>),
    /// What came of something that was set aside.
    Settle(Box<SettleRequest>),
    /// Somebody waits for all that came before.
    Flush(FlushRequest),
}

pub(crate) struct AppendRequest {
    pub events: Vec<NewEvent>,
    pub with: With,
    pub answer: oneshot::Sender<Result<Appended, AppendError>>,
    /// Given back with the request.
    pub _room: OwnedSemaphorePermit,
}

/// What is written together with events that are appended, and may refuse them.
pub(crate) enum With {
    Nothing,
    Marks(Vec<Mark>),
    Key(OnceKey),
}

impl With {
    /// What it adds to the events.
    pub fn load(&self) -> Load {
        match self {
            Self::Nothing => Load::default(),
            Self::Marks(marks) => Load { events: marks.len(), bytes: marks.iter().map(Mark::size_bytes).sum() },
            Self::Key(key) => Load { events: 1, bytes: key.caller.len() + key.key.len() },
        }
    }
}

pub(crate) struct ReserveRequest {
    pub id: Uuid,
    /// The numbers of the budgets that may apply.
    pub budgets: Vec<i64>,
    pub reservation: Reservation,
    pub answer: oneshot::Sender<ReserveReply>,
}

/// What became of a [`ReserveRequest`].
pub(crate) enum ReserveReply {
    /// It was decided, durably.
    Decided(Result<(), ReserveError>),
    /// It could not be written. Where that was tried, nobody knows whether it is there all the same.
    Failed {
        /// Why.
        error: StorageError,
        /// Whether it was tried.
        was_tried: bool,
    },
}

pub(crate) struct SettleRequest {
    pub settlement: Settlement,
    /// Empty where nobody waits, or was told already that it takes longer.
    pub answer: Option<oneshot::Sender<Result<(), StorageError>>>,
}

pub(crate) struct FlushRequest {
    pub answer: oneshot::Sender<()>,
    /// Given back with the request.
    pub _place: OwnedSemaphorePermit,
}

/// How much something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub events: usize,
    pub bytes: usize,
}

impl Load {
    fn of(events: &[NewEvent]) -> Self {
        Self { events: events.len(), bytes: events.iter().map(NewEvent::size_bytes).sum() }
    }
}

impl Add for Load {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { events: self.events + other.events, bytes: self.bytes + other.bytes }
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Load {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { events: self.events - other.events, bytes: self.bytes - other.bytes }
    }
}

impl Item {
    /// What it adds to the queue's load. What somebody waits for has bounds of its own.
    pub fn load(&self) -> Load {
        match self {
            Self::Record(event) => Load { events: 1, bytes: event.size_bytes() },
            Self::Settle(request) => Load::of(&request.settlement.events),
            Self::Append(_) | Self::Reserve(_) | Self::Flush(_) => Load::default(),
        }
    }

    /// What it adds to a commit.
    fn work(&self) -> Load {
        match self {
            Self::Append(request) => Load::of(&request.events) + request.with.load(),
            Self::Settle(_) | Self::Reserve(_) => self.load() + Load { events: 1, bytes: 0 },
            Self::Record(_) | Self::Flush(_) => self.load(),
        }
    }

    /// Whether somebody waits for it.
    pub fn is_urgent(&self) -> bool {
        match self {
            Self::Record(_) => false,
            Self::Settle(request) => request.answer.is_some(),
            Self::Append(_) | Self::Reserve(_) | Self::Flush(_) => true,
        }
    }

    /// Tells whoever waits for it that it failed, and gives it back where it has to be done all the same.
    pub fn fail(self, error: &StorageError, was_tried: bool) -> Option<Self> {
        // Where the other side has gone, nobody wants to know.
        match self {
            Self::Append(request) => drop(request.answer.send(Err(repeat(error).into()))),
            Self::Reserve(request) => {
                drop(request.answer.send(ReserveReply::Failed { error: repeat(error), was_tried }));
            }
            Self::Settle(mut request) => {
                if let Some(answer) = request.answer.take() {
                    let _ = answer.send(Err(repeat(error)));
                }
                return Some(Self::Settle(request));
            }
            kept @ (Self::Record(_) | Self::Flush(_)) => return Some(kept),
        }
        None
    }
}

/// What all handles and the recorder have in common.
pub(crate) struct Shared {
    waiting: Mutex<Waiting>,
    called: Condvar,
    last_position: watch::Sender<u64>,
    /// Reservations that are not settled.
    reservations: AtomicUsize,
    lost: AtomicU64,
    /// Why what was tried last is not written, until something is.
    failure: Mutex<Option<String>>,
    /// When the log last told of lost events, and of how many it had told then.
    told: Mutex<Option<(Instant, u64)>>,
    pub meters: Meters,
}

/// How it was the last time somebody waited: whoever was answered together comes back together, and a commit that does
/// not wait for the rest of them makes the rest wait for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Company {
    /// Items that somebody waited for.
    pub urgent: usize,
    /// How long writing them took.
    pub took: Duration,
}

impl Company {
    /// How long the first of them waits for the others: a small part of what they will all wait for the disk.
    fn patience(self) -> Duration {
        (self.took / 8).min(Duration::from_millis(1))
    }
}

/// What waits.
#[derive(Default)]
pub(super) struct Waiting {
    items: VecDeque<Item>,
    /// Of everything that is not done, what the recorder has in hands included.
    load: Load,
    /// Items that somebody waits for.
    urgent: usize,
    /// When the first of the items came, where there are any,
    first_at: Option<Instant>,
    /// and the first of those that somebody waits for.
    urgent_at: Option<Instant>,
    is_closing: bool,
    /// The recorder sleeps until so many wait urgently, or until something else calls it.
    asleep_until: Option<usize>,
}

impl Waiting {
    pub fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Whether somebody waits.
    pub fn is_urgent(&self) -> bool {
        self.urgent > 0 || self.is_closing
    }

    /// When the items are to be written, where there are any.
    pub fn due(&self, now: Instant, last: Company) -> Option<Instant> {
        let first_at = self.first_at?;
        if self.is_closing || self.items.len() >= ENOUGH {
            return Some(now);
        }
        Some(match self.urgent_at {
            None => first_at + LINGER,
            Some(_) if self.urgent >= last.urgent => now,
            Some(urgent_at) => urgent_at + last.patience(),
        })
    }

    /// Items that somebody waits for.
    pub fn urgent(&self) -> usize {
        self.urgent
    }

    /// Takes out as much as shares a commit.
    pub fn take(&mut self) -> Vec<Item> {
        let mut batch = Vec::new();
        let mut work = Load::default();
        while let Some(item) = self.items.front() {
            work += item.work();
            let is_full = batch.len() >= BATCH_MAX || work.events > BATCH_MAX || work.bytes > BATCH_BYTES_MAX;
            if is_full && !batch.is_empty() {
                break;
            }
            self.urgent -= usize::from(item.is_urgent());
            batch.extend(self.items.pop_front());
        }
        self.note_empty();
        batch
    }

    /// Nothing waits since any time where nothing waits.
    fn note_empty(&mut self) {
        if self.items.is_empty() {
            self.first_at = None;
        }
        if self.urgent == 0 {
            self.urgent_at = None;
        }
    }

    /// Takes out everything.
    pub fn take_all(&mut self) -> VecDeque<Item> {
        let items = std::mem::take(&mut self.items);
        self.urgent = 0;
        self.note_empty();
        items
    }

    /// Fails what somebody waits for; nothing of it was tried.
    fn fail(&mut self, error: &StorageError) {
        if self.urgent == 0 {
            return;
        }
        self.items = std::mem::take(&mut self.items).into_iter().filter_map(|item| item.fail(error, false)).collect();
        self.urgent = self.items.iter().filter(|item| item.is_urgent()).count();
        self.note_empty();
    }
}

impl Shared {
    pub fn new(last_position: u64) -> Self {
        Self {
            waiting: Mutex::default(),
            called: Condvar::new(),
            last_position: watch::Sender::new(last_position),
            reservations: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            failure: Mutex::default(),
            told: Mutex::default(),
            meters: Meters::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while holding the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an event, if there is room.
    pub fn offer(&self, event: Box<NewEvent>) -> Result<(), NotRecorded> {
        let item = Item::Record(event);
        let waiting = self.lock();
        let load = waiting.load + item.load();
        if waiting.is_closing {
            drop(waiting);
            self.lost(Lost::Closed, 1);
            return Err(NotRecorded::Closed);
        }
        if load.events > QUEUED_EVENTS_MAX || load.bytes > QUEUED_BYTES_MAX {
            drop(waiting);
            self.lost(Lost::Full, 1);
            return Err(NotRecorded::Overflow);
        }
        self.add(waiting, item);
        Ok(())
    }

    /// Queues what has a bound of its own. Once the log is closed it is dropped, which whoever waits for it sees.
    pub fn push(&self, item: Item) {
        let waiting = self.lock();
        if waiting.is_closing {
            let load = item.load();
            drop(waiting);
            self.lost(Lost::Closed, load.events);
            return;
        }
        self.add(waiting, item);
    }

    fn add(&self, mut waiting: MutexGuard<'_, Waiting>, item: Item) {
        let is_urgent = item.is_urgent();
        waiting.load += item.load();
        waiting.urgent += usize::from(is_urgent);
        waiting.items.push_back(item);
        let is_first = waiting.first_at.is_none();
        if is_first {
            waiting.first_at = Some(Instant::now());
        }
        if is_urgent && waiting.urgent_at.is_none() {
            waiting.urgent_at = Some(Instant::now());
        }
        self.meters.queued.set(waiting.load.events as f64);
        // The recorder is called when it has something new to decide, not for every event: calling costs more than adding.
        let is_called = waiting
            .asleep_until
            .is_some_and(|urgent| is_first || is_urgent && waiting.urgent >= urgent || waiting.items.len() == ENOUGH);
        drop(waiting);
        if is_called {
            self.called.notify_one();
        }
    }

    /// Sleeps until the recorder is called, which so many that wait urgently do, or until a moment.
    pub(super) fn sleep<'a>(
        &'a self,
        mut waiting: MutexGuard<'a, Waiting>,
        time: Option<Duration>,
        urgent: usize,
    ) -> MutexGuard<'a, Waiting> {
        waiting.asleep_until = Some(urgent);
        let mut waiting = match time {
            None => self.called.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            Some(time) => self.called.wait_timeout(waiting, time).unwrap_or_else(PoisonError::into_inner).0,
        };
        waiting.asleep_until = None;
        waiting
    }

    /// Takes nothing more, and has the recorder end.
    pub fn close(&self) {
        self.lock().is_closing = true;
        self.called.notify_one();
    }

    /// Nobody writes any more, for whatever reason: whoever waits is told, and nobody waits from now on.
    pub(super) fn ended(&self) {
        let mut waiting = self.lock();
        let is_expected = std::mem::replace(&mut waiting.is_closing, true);
        let items = waiting.take_all();
        drop(waiting);
        if !is_expected {
            self.note_failure(Some("the recorder of events broke off".to_owned()));
            tracing::error!(waiting = items.len(), "the recorder of events broke off; nothing is recorded any more");
        }
        self.give_up(items);
    }

    /// Counts what could not be written. Reservations are found at the next start.
    pub(super) fn give_up(&self, items: impl IntoIterator<Item = Item>) {
        let mut load = Load::default();
        for item in items {
            load += item.load();
            drop(item.fail(&StorageError::Closed, false));
        }
        self.lost(Lost::Closed, load.events);
        self.finished(load);
        self.tell_lost();
    }

    pub(super) fn note_failure(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fails what somebody waits for; nothing of it was tried.
    pub(super) fn fail_waiting(&self, error: &StorageError) {
        self.lock().fail(error);
    }

    /// Something left the queue for good.
    pub(super) fn finished(&self, load: Load) {
        let mut waiting = self.lock();
        waiting.load = waiting.load - load;
        self.meters.queued.set(waiting.load.events as f64);
    }

    pub(super) fn queued(&self) -> usize {
        self.lock().load.events
    }

    pub(super) fn last_position(&self) -> u64 {
        *self.last_position.borrow()
    }

    pub(super) fn positions(&self) -> watch::Receiver<u64> {
        self.last_position.subscribe()
    }

    pub(super) fn advance(&self, position: u64) {
        self.last_position.send_if_modified(|last| {
            let is_further = position > *last;
            *last = position.max(*last);
            is_further
        });
    }

    /// Counts one reservation more, if there may be one.
    pub fn begin_reservation(&self) -> bool {
        let one_more = |count| (count < RESERVATIONS_MAX).then_some(count + 1);
        let begun = self.reservations.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        self.meters.reservations.set(self.reservations() as f64);
        begun.is_ok()
    }

    /// Counts one reservation less.
    pub fn end_reservation(&self) {
        self.reservations.fetch_sub(1, Ordering::Relaxed);
        self.meters.reservations.set(self.reservations() as f64);
    }

    pub fn reservations(&self) -> usize {
        self.reservations.load(Ordering::Relaxed)
    }

    /// Counts events that will never be on record, and tells of them now and then.
    pub fn lost(&self, why: Lost, count: usize) {
        if count == 0 {
            return;
        }
        self.meters.lost(why).increment(count as u64);
        self.lost.fetch_add(count as u64, Ordering::Relaxed);
        // Whoever finds somebody telling has nothing to add.
        let Ok(mut told) = self.told.try_lock() else { return };
        if told.is_none_or(|(at, _)| at.elapsed() >= TOLD_EVERY) {
            let in_all = self.lost_in_all();
            let before = told.map_or(0, |(_, count)| count);
            *told = Some((Instant::now(), in_all));
            drop(told);
            tracing::warn!(events = in_all - before, reason = why.as_str(), "events were not recorded");
        }
    }

    /// Tells of lost events that nobody was told of.
    pub(super) fn tell_lost(&self) {
        let in_all = self.lost_in_all();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).replace((Instant::now(), in_all));
        let before = told.map_or(0, |(_, count)| count);
        if in_all > before {
            tracing::warn!(events = in_all - before, "events were not recorded");
        }
    }

    pub(super) fn lost_in_all(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Why an event is not on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Too much waited.
    Full,
    /// It cannot be stored.
    Bad,
    /// The log was closed.
    Closed,
}

impl Lost {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Bad => "bad",
            Self::Closed => "closed",
        }
    }
}

/// What is counted.
pub(crate) struct Meters {
    queued: Gauge,
    lost: [Counter; 3],
    pub committed: Counter,
    reservations: Gauge,
    pub refused: Counter,
    /// Reservations that were charged in full since whoever held them let go,
    pub dropped: Counter,
    /// or since their process ended.
    pub left_behind: Counter,
}

impl Meters {
    fn new() -> Self {
        let lost = |why: Lost| counter!("holdfast_events_lost_total", "reason" => why.as_str());
        let forfeited = |reason: &'static str| counter!("holdfast_budget_forfeited_total", "reason" => reason);
        let meters = Self {
            queued: gauge!("holdfast_events_queued"),
            lost: [lost(Lost::Full), lost(Lost::Bad), lost(Lost::Closed)],
            committed: counter!("holdfast_events_committed_total"),
            reservations: gauge!("holdfast_budget_reservations"),
            refused: counter!("holdfast_budget_refused_total"),
            dropped: forfeited(DROPPED),
            left_behind: forfeited(RESTART),
        };
        meters.queued.set(0.0);
        meters.reservations.set(0.0);
        meters
    }

    fn lost(&self, why: Lost) -> &Counter {
        &self.lost[why as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::events::{EVENT_BYTES_MAX, tests::event};

    fn record(number: u64) -> Item {
        Item::Record(Box::new(event(number)))
    }

    fn flush() -> Item {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Item::Flush(FlushRequest { answer: oneshot::channel().0, _place: place })
    }

    fn append(count: u64, bytes: usize) -> Item {
        let events = (0..count).map(|number| NewEvent { body: vec![b' '; bytes], ..event(number) }).collect();
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let answer = oneshot::channel().0;
        Item::Append(Box::new(AppendRequest { events, with: With::Nothing, answer, _room: room }))
    }

    #[test]
    fn what_nobody_waits_for_waits_for_company_and_the_first_of_many_for_the_rest() {
        let shared = Shared::new(0);
        let last = Company { urgent: 2, took: Duration::from_millis(4) };
        let due_in = |last| {
            let waiting = shared.lock();
            waiting.due(Instant::now(), last).map(|due| due.saturating_duration_since(Instant::now()))
        };
        assert_eq!(due_in(last), None);
        shared.push(record(0));
        assert!(due_in(last).is_some_and(|time| time > LINGER / 2 && time <= LINGER));
        shared.push(flush());
        assert_eq!(due_in(Company::default()), Some(Duration::ZERO));
        assert!(due_in(last).is_some_and(|time| time <= Duration::from_micros(500)));
        let slow = Company { took: Duration::from_secs(9), ..last };
        assert!(due_in(slow).is_some_and(|time| time <= Duration::from_millis(1)));
        shared.push(flush());
        assert_eq!(due_in(slow), Some(Duration::ZERO));
        assert_eq!(shared.lock().take().len(), 3);
        assert_eq!(due_in(last), None);
        for number in 0..ENOUGH as u64 {
            assert_ne!(due_in(last), Some(Duration::ZERO));
            shared.push(record(number));
        }
        assert_eq!(due_in(last), Some(Duration::ZERO));
        drop(shared.lock().take_all());
        shared.push(record(0));
        shared.close();
        assert_eq!(due_in(last), Some(Duration::ZERO));
    }

    #[test]
    fn a_batch_has_bounds_and_at_least_one_item() {
        let shared = Shared::new(0);
        let large = BATCH_BYTES_MAX / EVENT_BYTES_MAX + 1;
        shared.push(append(large as u64, EVENT_BYTES_MAX));
        shared.push(record(0));
        shared.push(append(1_000, 10));
        shared.push(append(1_000, 10));
        shared.push(append(1_000, 10));
        for number in 0..3_000 {
            shared.push(record(number));
        }
        let mut sizes = Vec::new();
        loop {
            let batch = shared.lock().take();
            if batch.is_empty() {
                break;
            }
            sizes.push(batch.len());
        }
        // The large one alone; one and two thousand; a thousand and as many; the rest.
        assert_eq!(sizes, [1, 3, 1 + BATCH_MAX - 1_000, 3_000 - (BATCH_MAX - 1_000)]);
        assert_eq!(shared.lock().urgent(), 0);
        assert_eq!(shared.queued(), 3_001, "what was taken is not done yet");
    }
}
