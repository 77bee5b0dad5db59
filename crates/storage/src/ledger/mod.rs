//! What may be spent and what was: budgets, reservations, settlements.
//!
//! Before a call a reservation sets aside, durably, what the call may cost at most, under every budget that applies or
//! under none. After it a settlement charges what it did cost and writes the events that tell of it, in one transaction:
//! the books and the log never disagree. Whatever becomes of a [`Reserved`], it is settled: one that is dropped is charged
//! in full, and so is one that a process left behind, at the next start; both are told by an event of the kind
//! [`FORFEITED`]. Where no budget applies, nothing is written and nothing waited for.
//!
//! The books are kept in the database of the event log and written by its recorder ([`crate::events`]), which decides
//! about reservations one after another: that is what makes them right under concurrency, and the shared commit is what
//! makes them cheap.

mod period;
pub(crate) mod rows;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::Connection;
use tokio::sync::oneshot;
use uuid::Uuid;

pub use self::period::Period;
use crate::{
    EventLog,
    error::{PutError, StorageError},
    events::{Item, NewEvent, ReserveReply, ReserveRequest},
    keys::present_ms,
};

/// Budgets there may be.
pub const BUDGETS_MAX: usize = 1_000;
/// Reservations that may be unsettled.
pub const RESERVATIONS_MAX: usize = 65_536;
/// The kind of event that tells of a reservation that was charged in full since nobody saw its call end. Its body:
/// `{"reason": "dropped" | "restart", "cost": millionths, "tokens": …, "budgets": [id, …]}`, version 1.
pub const FORFEITED: &str = "budget_forfeited";
const NAME_BYTES_MAX: usize = 128;
const MODEL_BYTES_MAX: usize = 256;

/// What may be spent, by whom, on what, in which time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its id, chosen by whoever made it.
    pub id: String,
    /// Whose spending counts.
    pub subject: Subject,
    /// Spending on what counts: a model's name or an alias. On everything where absent.
    pub model: Option<String>,
    /// How much.
    pub limits: Limits,
    /// In which time.
    pub period: Period,
}

/// Whose spending counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// That of the key of this id, or of `owner`.
    Key(String),
    /// That of all together.
    Everyone,
}

/// How much may be spent; at least one of them is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Millionths of the currency that prices are in.
    pub cost: Option<u64>,
    /// Tokens, asked and answered.
    pub tokens: Option<u64>,
}

/// What was spent or set aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Millionths of the currency that prices are in.
    pub cost: u64,
    /// Tokens, asked and answered.
    pub tokens: u64,
}

impl Amount {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { cost: self.cost.saturating_add(other.cost), tokens: self.tokens.saturating_add(other.tokens) }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self { cost: self.cost.saturating_sub(other.cost), tokens: self.tokens.saturating_sub(other.tokens) }
    }
}

/// What stands in the books of a budget for one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// The budget's id.
    pub budget: String,
    /// When the period began; Unix milliseconds.
    pub period_start_ms: i64,
    /// What was spent.
    pub spent: Amount,
    /// What is set aside for calls under way.
    pub reserved: Amount,
}

/// A call that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Whose data it is about.
    pub tenant: Arc<str>,
    /// Who makes it.
    pub caller: Arc<str>,
    /// The session it belongs to.
    pub session: Option<Arc<str>>,
    /// The interaction it belongs to.
    pub interaction: Uuid,
    /// Every name and alias under which it may be charged.
    pub models: Vec<String>,
    /// What it may cost at most, in millionths; nothing where a model has no price.
    pub cost: Option<u64>,
    /// Tokens it may take at most, asked and answered.
    pub tokens: u64,
    /// Now, in Unix milliseconds: it counts in the periods of this moment, whenever it ends.
    pub now_ms: i64,
}

impl Reservation {
    /// A clock that was set back does not bring a period back that was spent.
    fn no_earlier(mut self) -> Self {
        self.now_ms = self.now_ms.max(present_ms());
        self
    }
}

/// What a call did cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Millionths.
    pub cost: u64,
    /// Tokens, asked and answered.
    pub tokens: u64,
    /// The model's name and the aliases it was called by; budgets of other models that were reserved are left alone.
    pub models: Vec<String>,
}

/// A budget that does not allow a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the budget {budget:?} has {limit} {unit}; {spent} are spent, {reserved} set aside, {wanted} wanted")]
pub struct OverBudget {
    /// Its id.
    pub budget: String,
    /// What it is counted in.
    pub unit: Unit,
    /// When there is more; Unix milliseconds. Nothing where there never is.
    pub resets_at_ms: Option<i64>,
    /// What was spent in this period.
    pub spent: u64,
    /// What is set aside for calls under way.
    pub reserved: u64,
    /// What the call may cost.
    pub wanted: u64,
    /// What may be spent.
    pub limit: u64,
}

/// What a limit is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Millionths of the currency that prices are in.
    Cost,
    /// Tokens.
    Tokens,
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cost => "millionths",
            Self::Tokens => "tokens",
        })
    }
}

/// Why nothing was set aside.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// A budget does not allow it.
    #[error(transparent)]
    Over(#[from] OverBudget),

    /// A budget in money applies, and it is not known what the call costs.
    #[error("the budget {budget:?} counts money, and the model has no price")]
    NoPrice {
        /// The budget's id.
        budget: String,
    },

    /// Too much is set aside already.
    #[error("{RESERVATIONS_MAX} calls under budgets are under way, and no more may be")]
    TooMany,

    /// It could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<rusqlite::Error> for ReserveError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// What became of a reservation.
#[derive(Clone, Debug)]
pub(crate) struct Settlement {
    pub id: Uuid,
    pub ending: Ending,
    /// Written with it.
    pub events: Vec<NewEvent>,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// It cost this.
    Charged(Vec<Charge>),
    /// Nobody knows, for this reason, and it is charged in full.
    Forfeited(&'static str),
}

impl Settlement {
    /// Whether it is charged in full.
    pub fn is_forfeited(&self) -> bool {
        matches!(self.ending, Ending::Forfeited(_))
    }
}

/// A budget and its number.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub number: i64,
    pub budget: Budget,
}

impl Known {
    fn applies(&self, reservation: &Reservation) -> bool {
        let is_subject = match &self.budget.subject {
            Subject::Key(id) => **id == *reservation.caller,
            Subject::Everyone => true,
        };
        is_subject && self.budget.model.as_ref().is_none_or(|model| reservation.models.contains(model))
    }
}

/// Every budget, in memory: most calls are under none, and must not ask the disk to find out.
pub(crate) struct KnownBudgets {
    all: RwLock<Arc<[Known]>>,
}

impl KnownBudgets {
    pub fn new(all: Vec<Known>) -> Self {
        Self { all: RwLock::new(all.into()) }
    }

    fn all(&self) -> Arc<[Known]> {
        Arc::clone(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The numbers of those that apply.
    fn applying(&self, reservation: &Reservation) -> Vec<i64> {
        self.all().iter().filter(|known| known.applies(reservation)).map(|known| known.number).collect()
    }

    /// After a change that is durable: whoever reserves from now on meets it. Told by the writer alone, in the order of
    /// the changes.
    fn replace(&self, all: &[Known]) {
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = all.into();
    }
}

/// What is set aside for a call. To be given to [`Ledger::settle`] or [`Ledger::settle_later`]; dropped before, it is
/// charged in full.
#[must_use = "what is dropped is charged in full"]
pub struct Reserved {
    log: EventLog,
    /// Empty where no budget applied, and once it is settled.
    entry: Option<Entry>,
}

struct Entry {
    id: Uuid,
    /// Whether it is known to stand in the books. Until then, dropping it charges nothing.
    is_certain: bool,
}

impl Reserved {
    /// Whether a budget applied.
    pub fn is_counted(&self) -> bool {
        self.entry.is_some()
    }
}

impl std::fmt::Debug for Reserved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reserved").field(&self.entry.as_ref().map(|entry| entry.id)).finish()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let Some(Entry { id, is_certain }) = self.entry.take() else { return };
        let ending = if is_certain { Ending::Forfeited(rows::DROPPED) } else { Ending::Charged(Vec::new()) };
        self.log.settle(Settlement { id, ending, events: Vec::new() }, None);
    }
}

/// A handle to the books; cloning is shallow.
#[derive(Clone)]
pub struct Ledger {
    log: EventLog,
}

impl Ledger {
    pub(crate) fn new(log: EventLog) -> Self {
        Self { log }
    }

    /// Makes a budget, or gives the one of that id other limits. What was spent in the period stays spent.
    ///
    /// # Errors
    /// [`PutError`]; [`StorageError::Exists`] where one of that id counts something else.
    pub async fn put_budget(&self, budget: Budget) -> Result<(), PutError> {
        check(&budget)?;
        let put = move |connection: &Connection| match rows::put(connection, &budget) {
            Err(PutError::Storage(error)) => Err(error),
            Err(refused) => Ok(Err(refused)),
            Ok(()) => Ok(Ok(rows::known(connection)?)),
        };
        let known = Arc::clone(&self.log.inner.budgets);
        let then = move |put: &Result<Vec<Known>, PutError>| {
            if let Ok(all) = put {
                known.replace(all);
            }
        };
        self.log.inner.database.write_then(put, then).await??;
        Ok(())
    }

    /// Every budget, by id.
    pub fn budgets(&self) -> Vec<Budget> {
        self.log.inner.budgets.all().iter().map(|known| known.budget.clone()).collect()
    }

    /// Removes a budget and its books. Calls under way are no longer counted under it.
    pub async fn remove_budget(&self, id: String) -> Result<(), StorageError> {
        let remove = move |connection: &Connection| {
            rows::remove(connection, &id)?;
            rows::known(connection)
        };
        let known = Arc::clone(&self.log.inner.budgets);
        self.log.inner.database.write_then(remove, move |all: &Vec<Known>| known.replace(all)).await?;
        Ok(())
    }

    /// What stands in the books, of every budget and period that is kept, by id and time.
    pub fn sums(&self) -> Result<Vec<Sums>, StorageError> {
        self.log.inner.database.read(rows::sums)
    }

    /// What stands in the books of every budget for the period of a moment, by id.
    pub fn sums_at(&self, now_ms: i64) -> Result<Vec<Sums>, StorageError> {
        let all = self.log.inner.budgets.all();
        self.log
            .inner
            .database
            .read_snapshot(|connection| all.iter().map(|known| rows::sums_at(connection, known, now_ms)).collect())
    }

    /// Calls whose reservations are not settled.
    pub fn reservations(&self) -> usize {
        self.log.inner.shared.reservations()
    }

    /// Whether a reservation would be made right now. Blocks for as long as the disk takes, unless no budget applies.
    ///
    /// # Errors
    /// As [`Ledger::reserve`].
    pub fn allows(&self, reservation: &Reservation) -> Result<(), ReserveError> {
        let reservation = &reservation.clone().no_earlier();
        let budgets = self.log.inner.budgets.applying(reservation);
        if budgets.is_empty() {
            return Ok(());
        }
        self.log.inner.database.read_snapshot(|connection| Ok(rows::check(connection, &budgets, reservation)))?
    }

    /// Sets aside what a call may cost, under every budget that applies, and returns once that is durable; where none
    /// applies, at once.
    ///
    /// # Errors
    /// [`ReserveError`]; nothing is set aside then.
    pub async fn reserve(&self, reservation: Reservation) -> Result<Reserved, ReserveError> {
        let inner = &self.log.inner;
        let budgets = inner.budgets.applying(&reservation);
        if budgets.is_empty() {
            return Ok(Reserved { log: self.log.clone(), entry: None });
        }
        let reservation = reservation.no_earlier();
        if !inner.shared.begin_reservation() {
            return Err(ReserveError::TooMany);
        }
        let id = Uuid::now_v7();
        // Made before the answer, so that whoever leaves meanwhile leaves nothing behind.
        let mut reserved = Reserved { log: self.log.clone(), entry: Some(Entry { id, is_certain: false }) };
        let (answer, answered) = oneshot::channel();
        inner.shared.push(Item::Reserve(Box::new(ReserveRequest { id, budgets, reservation, answer })));
        let error = match answered.await {
            Ok(ReserveReply::Decided(Ok(()))) => {
                reserved.entry = Some(Entry { id, is_certain: true });
                return Ok(reserved);
            }
            Ok(ReserveReply::Failed { error, was_tried: true }) => return Err(error.into()),
            Ok(ReserveReply::Decided(Err(error))) => error,
            Ok(ReserveReply::Failed { error, was_tried: false }) => error.into(),
            Err(_) => StorageError::Closed.into(),
        };
        // It is certain that nothing was set aside.
        reserved.entry = None;
        inner.shared.end_reservation();
        Err(error)
    }

    /// Charges what a call did cost and writes events, together, and returns once that is durable. Where no budget
    /// applied, the events are recorded as by [`EventLog::record`]. One whose body is too large is cut, so that the books
    /// and the events agree; one whose kind or names cannot be stored is left out and counted.
    ///
    /// # Errors
    /// [`StorageError`] where it is not durable yet; it is tried on by itself, and must not be settled again.
    pub async fn settle(
        &self,
        mut reserved: Reserved,
        charges: Vec<Charge>,
        events: Vec<NewEvent>,
    ) -> Result<(), StorageError> {
        let Some(Entry { id, .. }) = reserved.entry.take() else {
            self.record(events);
            return Ok(());
        };
        let (answer, answered) = oneshot::channel();
        self.log.settle(Settlement { id, ending: Ending::Charged(charges), events }, Some(answer));
        answered.await.map_err(|_| StorageError::Closed)?
    }

    /// The same without waiting, for who cannot. If the process dies before it is durable, the reservation is found at the
    /// next start and charged in full.
    pub fn settle_later(&self, mut reserved: Reserved, charges: Vec<Charge>, events: Vec<NewEvent>) {
        match reserved.entry.take() {
            Some(Entry { id, .. }) => {
                self.log.settle(Settlement { id, ending: Ending::Charged(charges), events }, None);
            }
            None => self.record(events),
        }
    }

    fn record(&self, events: Vec<NewEvent>) {
        for event in events {
            // One that is not taken is counted.
            let _ = self.log.record(event);
        }
    }
}

fn check(budget: &Budget) -> Result<(), PutError> {
    PutError::check_name("id", &budget.id, NAME_BYTES_MAX)?;
    if let Subject::Key(id) = &budget.subject {
        PutError::check_name("subject", id, NAME_BYTES_MAX)?;
    }
    if let Some(model) = &budget.model {
        PutError::check_name("model", model, MODEL_BYTES_MAX)?;
    }
    let Limits { cost, tokens } = budget.limits;
    if cost.is_none() && tokens.is_none() {
        return Err(PutError::Invalid { field: "limits", problem: "are empty: set money, tokens or both" });
    }
    if [cost, tokens].into_iter().flatten().any(|limit| i64::try_from(limit).is_err()) {
        return Err(PutError::Invalid { field: "limits", problem: "are too large" });
    }
    Ok(())
}
