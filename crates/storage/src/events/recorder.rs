//! The thread that writes the event log and the ledger.
//!
//! It takes what waits, a batch at a time, and has it written in one transaction. It is woken by what comes and by the end
//! of a pause, waits a moment for those who shared the last commit, and ends when the log is closed and nothing waits any more. A batch that fails is tried again after a pause
//! that grows, without what somebody waited for, who is told; since a failed commit may have reached the disk all the same,
//! what is tried again is looked for first.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use uuid::Uuid;

use super::{
    AppendError, Appended,
    marks::{self, Remembered},
    queue::{AppendRequest, Company, Item, Load, ReserveReply, Shared, Waiting, With},
    rows::{self, Appender},
};
use crate::{
    error::StorageError,
    ledger::{ReserveError, rows as ledger_rows},
    sql::Database,
};

/// The pause after a failed commit; doubled by each further one.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a closing log tries to write what is left to a disk that fails.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Recorder {
    shared: Arc<Shared>,
    database: Database,
    /// What was tried and failed, and has to be done all the same.
    kept: Vec<Item>,
    failing: Option<Failing>,
    last: Company,
    /// Since when the log is closing while the disk fails.
    closing_since: Option<Instant>,
}

/// Commits that failed, one after another.
#[derive(Clone, Copy)]
struct Failing {
    count: u32,
    last_at: Instant,
    /// The last position before; what is after it may be of commits that failed.
    position: u64,
}

impl Failing {
    fn pause(self, is_urgent: bool) -> Duration {
        if is_urgent { PAUSE } else { PAUSE.saturating_mul(1 << (self.count - 1).min(10)).min(PAUSE_MAX) }
    }
}

/// What the recorder does next.
enum Next {
    Write,
    /// Wait for a moment, or for a call.
    Sleep(Option<Duration>),
    End,
}

/// What came of an item.
enum Outcome {
    Done,
    Appended(Result<Appended, AppendError>),
    Reserved(Result<(), ReserveError>),
}

/// What came of a batch.
struct Applied {
    outcomes: Vec<Outcome>,
    events: u64,
    last_position: Option<u64>,
}

impl Recorder {
    pub fn new(shared: Arc<Shared>, database: Database) -> Self {
        Self { shared, database, kept: Vec::new(), failing: None, last: Company::default(), closing_since: None }
    }

    pub fn run(mut self) {
        let _end = End(Arc::clone(&self.shared));
        while let Some(batch) = self.batch() {
            self.write(batch);
        }
        self.give_up();
    }

    /// Waits for the next batch; nothing comes after the end.
    fn batch(&mut self) -> Option<Vec<Item>> {
        let shared = Arc::clone(&self.shared);
        let mut waiting = shared.lock();
        loop {
            match self.next(&waiting, Instant::now()) {
                Next::Write if self.kept.is_empty() => return Some(waiting.take()),
                Next::Write => return Some(std::mem::take(&mut self.kept)),
                Next::Sleep(time) => {
                    let expected = if waiting.urgent() == 0 { 1 } else { self.last.urgent };
                    waiting = shared.sleep(waiting, time, expected);
                }
                Next::End => return None,
            }
        }
    }

    fn next(&mut self, waiting: &Waiting, now: Instant) -> Next {
        // Unlike a disk that fails, this does not pass.
        if self.database.has_ended() {
            return Next::End;
        }
        let due = if self.kept.is_empty() { waiting.due(now, self.last) } else { Some(now) };
        let Some(due) = due else {
            return if waiting.is_closing() { Next::End } else { Next::Sleep(None) };
        };
        let due = match self.failing {
            None => due,
            Some(failing) => {
                if waiting.is_closing() && now > *self.closing_since.get_or_insert(now) + PATIENCE {
                    return Next::End;
                }
                due.max(failing.last_at + failing.pause(waiting.is_urgent()))
            }
        };
        if due <= now { Next::Write } else { Next::Sleep(Some(due - now)) }
    }

    fn write(&mut self, items: Vec<Item>) {
        let began = Instant::now();
        let urgent = items.iter().filter(|item| item.is_urgent()).count();
        let batch = Arc::new(items);
        let work = Arc::clone(&batch);
        let last_position = self.shared.last_position();
        let uncertain_after = self.failing.map(|failing| failing.position);
        let outcome = self.database.write_blocking(move |connection| apply(connection, &work, uncertain_after));
        let Some(items) = Arc::into_inner(batch) else {
            tracing::error!("the database kept a batch of events");
            return;
        };
        match outcome {
            Ok(applied) => {
                if urgent > 0 {
                    self.last = Company { urgent, took: began.elapsed() };
                }
                self.done(items, applied);
            }
            Err(error) => self.failed(items, &error, last_position),
        }
    }

    fn done(&mut self, items: Vec<Item>, applied: Applied) {
        if let Some(failing) = self.failing.take() {
            tracing::info!(failures = failing.count, "the event log can be written again");
        }
        self.closing_since = None;
        self.shared.note_failure(None);
        self.shared.meters.committed.increment(applied.events);
        if let Some(position) = applied.last_position {
            self.shared.advance(position);
        }
        self.shared.finished(items.iter().fold(Load::default(), |load, item| load + item.load()));
        for (item, outcome) in items.into_iter().zip(applied.outcomes) {
            self.answer(item, outcome);
        }
    }

    /// Tells whoever waits. Where they have gone, nobody wants to know.
    fn answer(&self, item: Item, outcome: Outcome) {
        match (item, outcome) {
            (Item::Append(request), Outcome::Appended(decided)) => drop(request.answer.send(decided)),
            (Item::Reserve(request), Outcome::Reserved(decided)) => {
                if decided.is_err() {
                    self.shared.meters.refused.increment(1);
                }
                drop(request.answer.send(ReserveReply::Decided(decided)));
            }
            (Item::Settle(request), _) => {
                self.shared.end_reservation();
                if request.settlement.is_forfeited() {
                    self.shared.meters.dropped.increment(1);
                }
                if let Some(answer) = request.answer {
                    let _ = answer.send(Ok(()));
                }
            }
            (Item::Flush(request), _) => drop(request.answer.send(())),
            (Item::Record(_) | Item::Append(_) | Item::Reserve(_), _) => {}
        }
    }

    fn failed(&mut self, items: Vec<Item>, error: &StorageError, last_position: u64) {
        // A statement that was reverted is no failure of the database's own, and has to be told all the same.
        if self.database.failure().is_none() {
            self.shared.note_failure(Some(error.to_string()));
        }
        self.kept = items.into_iter().filter_map(|item| item.fail(error, true)).collect();
        self.shared.fail_waiting(error);
        let last_at = Instant::now();
        self.failing = Some(match self.failing {
            None => Failing { count: 1, last_at, position: last_position },
            Some(failing) => Failing { count: failing.count.saturating_add(1), last_at, ..failing },
        });
    }

    fn give_up(self) {
        let left = self.shared.lock().take_all();
        self.shared.give_up(self.kept.into_iter().chain(left));
    }
}

/// Sees to it that nobody waits for a recorder that has ended, also by a defect of ours.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// Does everything of a batch, in order. Where former commits failed, events after a position may be theirs.
fn apply(connection: &Connection, items: &[Item], uncertain_after: Option<u64>) -> Result<Applied, StorageError> {
    let present: HashSet<Uuid> = match uncertain_after {
        Some(position) => rows::ids_after(connection, position)?,
        None => HashSet::new(),
    };
    let mut appender = Appender::new(connection)?;
    let mut outcomes = Vec::with_capacity(items.len());
    for item in items {
        outcomes.push(match item {
            Item::Record(event) => {
                if !present.contains(&event.id) {
                    appender.append(event)?;
                }
                Outcome::Done
            }
            Item::Append(request) => Outcome::Appended(append(connection, &mut appender, request)?),
            Item::Reserve(request) => match ledger_rows::reserve(connection, request) {
                Err(ReserveError::Storage(error)) => return Err(error),
                decided => Outcome::Reserved(decided),
            },
            Item::Settle(request) => {
                ledger_rows::settle(connection, &mut appender, &request.settlement)?;
                Outcome::Done
            }
            Item::Flush(_) => Outcome::Done,
        });
    }
    // Events of a commit that failed and is there all the same are told of now.
    let last_position =
        if uncertain_after.is_some() { Some(rows::last_position(connection)?) } else { appender.last() };
    Ok(Applied { outcomes, events: appender.count(), last_position })
}

/// Appends events with what is written beside them, or finds that they may not be. Whoever is refused has written
/// nothing, so that the rest of the batch can stand.
///
/// An append that failed is never tried again here: whoever waited for it was told, reads its mark, or comes again with
/// its key, and finds what was left behind by a commit that failed.
fn append(
    connection: &Connection,
    appender: &mut Appender<'_>,
    request: &AppendRequest,
) -> Result<Result<Appended, AppendError>, StorageError> {
    match &request.with {
        With::Nothing => {}
        With::Marks(marks) => {
            if let Some(mark) = marks::unmet(connection, marks)? {
                return Ok(Err(AppendError::Moved { name: mark.name.clone() }));
            }
            marks::set(connection, marks)?;
        }
        With::Key(key) => match marks::remembered(connection, key)? {
            Some(Remembered::Same(positions)) => return Ok(Ok(Appended { positions, is_repeat: true })),
            Some(Remembered::Other) => return Ok(Err(AppendError::KeyReused)),
            None => {}
        },
    }
    let mut positions = 0..0;
    for event in &request.events {
        let position = appender.append(event)?;
        if positions.is_empty() {
            positions.start = position;
        }
        positions.end = position + 1;
    }
    if let With::Key(key) = &request.with {
        marks::remember(connection, key, &positions)?;
    }
    Ok(Ok(Appended { positions, is_repeat: false }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Semaphore, oneshot};

    use super::*;
    use crate::{
        events::{Before, Mark, marks::OnceKey, tests::event},
        sql::migrate,
    };

    fn empty() -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate::EVENTS.up(&mut connection, migrate::EVENTS.newest()).unwrap();
        connection
    }

    fn appending(with: With) -> Item {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let answer = oneshot::channel().0;
        Item::Append(Box::new(AppendRequest { events: vec![event(0), event(1)], with, answer, _room: room }))
    }

    fn appended(applied: &Applied) -> &Result<Appended, AppendError> {
        let [Outcome::Appended(appended)] = applied.outcomes.as_slice() else { panic!("nothing was appended") };
        appended
    }

    /// Whoever appends is told of a failure, and comes again without knowing what became of the first time.
    #[test]
    fn what_a_failed_commit_left_behind_is_seen_in_its_mark_and_by_its_key() {
        let connection = empty();
        let marked = || {
            let mark = Mark { name: "m".into(), before: Before::Absent, value: Some(vec![1]) };
            appending(With::Marks(vec![mark]))
        };
        // It reached the disk before the failure, so that the same again changes nothing, whatever position is uncertain.
        apply(&connection, &[marked()], None).unwrap();
        let again = apply(&connection, &[marked()], Some(0)).unwrap();
        assert!(matches!(appended(&again), Err(AppendError::Moved { name }) if name == "m"));
        assert_eq!((again.events, rows::last_position(&connection).unwrap()), (0, 2));
        let keyed = || {
            let key = OnceKey { caller: "c".into(), key: "k".into(), body_hash: [7; 32], now_ms: 5 };
            appending(With::Key(key))
        };
        apply(&connection, &[keyed()], None).unwrap();
        let again = apply(&connection, &[keyed()], Some(2)).unwrap();
        assert_eq!(appended(&again).as_ref().unwrap(), &Appended { positions: 3..5, is_repeat: true });
        assert_eq!(rows::last_position(&connection).unwrap(), 4);
    }

    #[test]
    fn whoever_is_refused_leaves_the_rest_of_the_batch_standing() {
        let connection = empty();
        let unmet = Mark { name: "m".into(), before: Before::Value(vec![9]), value: Some(vec![1]) };
        let batch = [appending(With::Nothing), appending(With::Marks(vec![unmet])), appending(With::Nothing)];
        let applied = apply(&connection, &batch, None).unwrap();
        assert_eq!((applied.events, applied.last_position), (4, Some(4)));
        assert_eq!(marks::beginning_with(&connection, "").unwrap(), []);
    }

    /// A commit whose sync fails may be there when the file is opened again.
    #[test]
    fn what_a_failed_commit_left_behind_is_not_written_twice() {
        let connection = empty();
        let batch = |numbers: std::ops::Range<u64>| -> Vec<Item> {
            numbers.map(|number| Item::Record(Box::new(event(number)))).collect()
        };
        apply(&connection, &batch(0..3), None).unwrap();
        // Of five more, three reached the disk before the failure.
        let five = batch(3..8);
        apply(&connection, &five[..3], None).unwrap();
        let again = apply(&connection, &five, Some(3)).unwrap();
        assert_eq!((again.events, again.last_position), (2, Some(8)));
        let page = rows::read_after(&connection, 0, 100, &crate::events::EventFilter::default()).unwrap();
        let ids: Vec<_> = page.events.iter().map(|event| event.id).collect();
        assert_eq!(ids, (0..8).map(|number| event(number).id).collect::<Vec<_>>());
    }
}
