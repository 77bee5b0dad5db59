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

use super::{LINGER, NewEvent, NotRecorded, QUEUED_BYTES_MAX, QUEUED_EVENTS_MAX};
use crate::{
    error::StorageError,
    ledger::{RESERVATIONS_MAX, Reservation, ReserveError, Settlement},
    sql::repeat,
};

/// Items and events that share a commit; a batch is a few milliseconds of work.
const BATCH_MAX: usize = 256;
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
    pub answer: oneshot::Sender<Result<Vec<u64>, StorageError>>,
    /// Given back with the request.
    pub _room: OwnedSemaphorePermit,
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
            Self::Append(request) => Load::of(&request.events),
            Self::Settle(_) | Self::Reserve(_) => self.load() + Load { events: 1, bytes: 0 },
            Self::Record(_) | Self::Flush(_) => self.load(),
        }
    }

    /// Whether somebody waits for it.
    fn is_urgent(&self) -> bool {
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
            Self::Append(request) => drop(request.answer.send(Err(repeat(error)))),
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
    /// When the log last told of lost events, and of how many it had told then.
    told: Mutex<Option<(Instant, u64)>>,
    pub meters: Meters,
}

/// What waits.
#[derive(Default)]
pub(super) struct Waiting {
    items: VecDeque<Item>,
    /// Of everything that is not done, what the recorder has in hands included.
    load: Load,
    /// Items that somebody waits for.
    urgent: usize,
    /// When the first of the items came, where there are any.
    first_at: Option<Instant>,
    is_closing: bool,
    /// The recorder sleeps.
    is_asleep: bool,
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
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let first_at = self.first_at?;
        let is_due = self.is_urgent() || self.items.len() >= BATCH_MAX;
        Some(if is_due { now } else { first_at + LINGER })
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
        if self.items.is_empty() {
            self.first_at = None;
        }
        batch
    }

    /// Takes out everything.
    pub fn take_all(&mut self) -> VecDeque<Item> {
        self.urgent = 0;
        self.first_at = None;
        std::mem::take(&mut self.items)
    }

    /// Fails what somebody waits for; nothing of it was tried.
    fn fail(&mut self, error: &StorageError) {
        if self.urgent == 0 {
            return;
        }
        self.items = std::mem::take(&mut self.items).into_iter().filter_map(|item| item.fail(error, false)).collect();
        self.urgent = self.items.iter().filter(|item| item.is_urgent()).count();
        if self.items.is_empty() {
            self.first_at = None;
        }
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
        self.meters.queued.set(waiting.load.events as f64);
        // The recorder is called when it has something new to decide, not for every event: calling costs more than adding.
        let is_called = waiting.is_asleep && (is_first || is_urgent || waiting.items.len() == BATCH_MAX);
        drop(waiting);
        if is_called {
            self.called.notify_one();
        }
    }

    /// Sleeps until the recorder is called, or until a moment.
    pub(super) fn sleep<'a>(
        &'a self,
        mut waiting: MutexGuard<'a, Waiting>,
        until: Option<Duration>,
    ) -> MutexGuard<'a, Waiting> {
        waiting.is_asleep = true;
        let mut waiting = match until {
            None => self.called.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            Some(time) => self.called.wait_timeout(waiting, time).unwrap_or_else(PoisonError::into_inner).0,
        };
        waiting.is_asleep = false;
        waiting
    }

    /// Takes nothing more, and has the recorder end.
    pub fn close(&self) {
        self.lock().is_closing = true;
        self.called.notify_one();
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
}

impl Meters {
    fn new() -> Self {
        let lost = |why: Lost| counter!("holdfast_events_lost_total", "reason" => why.as_str());
        let meters = Self {
            queued: gauge!("holdfast_events_queued"),
            lost: [lost(Lost::Full), lost(Lost::Bad), lost(Lost::Closed)],
            committed: counter!("holdfast_events_committed_total"),
            reservations: gauge!("holdfast_budget_reservations"),
            refused: counter!("holdfast_budget_refused_total"),
        };
        for counter in &meters.lost {
            counter.increment(0);
        }
        meters.queued.set(0.0);
        meters.reservations.set(0.0);
        meters
    }

    fn lost(&self, why: Lost) -> &Counter {
        &self.lost[why as usize]
    }

    /// Counts reservations that were charged in full since nobody saw their calls end.
    pub fn forfeited(&self, reason: &'static str, count: usize) {
        counter!("holdfast_budget_forfeited_total", "reason" => reason).increment(count as u64);
    }
}
