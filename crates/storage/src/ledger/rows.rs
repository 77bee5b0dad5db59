//! Budgets, reservations and sums as rows.

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};
use serde_json::json;
use uuid::Uuid;

use super::{
    Amount, BUDGETS_MAX, Budget, Charge, Ending, FORFEITED, Known, Limits, OverBudget, Period, Reservation,
    ReserveError, Settlement, Subject, Sums, Unit,
};
use crate::{
    error::{PutError, StorageError},
    events::{Appender, NewEvent, ReserveRequest},
    now_ms,
};

/// Why a reservation was charged in full: whoever held it let go of it,
pub(crate) const DROPPED: &str = "dropped";
/// or its process ended.
pub(crate) const RESTART: &str = "restart";
/// Periods of a budget that are kept.
const PERIODS_KEPT: u32 = 400;
/// Reservations of a former process that share a transaction.
const FORFEITED_PER_COMMIT: u32 = 1_000;

/// What a reservation counts in: a budget's number and the beginning of its period.
type Part = (i64, i64);

/// A budget as a reservation meets it.
struct Standing {
    part: Part,
    known: Known,
    spent: Amount,
    reserved: Amount,
}

impl Standing {
    /// Whether there is room.
    fn check(&self, reservation: &Reservation) -> Result<(), ReserveError> {
        let Budget { id, limits, period, .. } = &self.known.budget;
        if let Some(limit) = limits.cost {
            let wanted = reservation.cost.ok_or_else(|| ReserveError::NoPrice { budget: id.clone() })?;
            self.check_unit(Unit::Cost, [self.spent.cost, self.reserved.cost, wanted, limit], reservation, *period)?;
        }
        if let Some(limit) = limits.tokens {
            let amounts = [self.spent.tokens, self.reserved.tokens, reservation.tokens, limit];
            self.check_unit(Unit::Tokens, amounts, reservation, *period)?;
        }
        Ok(())
    }

    fn check_unit(
        &self,
        unit: Unit,
        [spent, reserved, wanted, limit]: [u64; 4],
        reservation: &Reservation,
        period: Period,
    ) -> Result<(), OverBudget> {
        if spent.saturating_add(reserved).saturating_add(wanted) <= limit {
            return Ok(());
        }
        let budget = self.known.budget.id.clone();
        let resets_at_ms = period.end_ms(reservation.now_ms);
        Err(OverBudget { budget, unit, resets_at_ms, spent, reserved, wanted, limit })
    }
}

/// What a reservation sets aside.
fn amount_of(reservation: &Reservation) -> Amount {
    Amount { cost: reservation.cost.unwrap_or(0), tokens: reservation.tokens }
}

/// Whether every budget of a reservation that is still there has room for it.
pub(super) fn check(connection: &Connection, budgets: &[i64], reservation: &Reservation) -> Result<(), ReserveError> {
    standings(connection, budgets, reservation).map(drop)
}

/// The budgets of a reservation that are still there, each with room for it.
fn standings(
    connection: &Connection,
    budgets: &[i64],
    reservation: &Reservation,
) -> Result<Vec<Standing>, ReserveError> {
    let mut found = Vec::with_capacity(budgets.len());
    for &number in budgets {
        let mut statement = connection.prepare_cached(&format!("{BUDGET} WHERE number = ?1"))?;
        // One that was removed a moment ago allows everything.
        let Some(known) = statement.query_row([number], known_row).optional()? else { continue };
        let part = (number, known.budget.period.start_ms(reservation.now_ms));
        let (spent, reserved) = sums_of(connection, part)?.unwrap_or_default();
        let standing = Standing { part, known, spent, reserved };
        standing.check(reservation)?;
        found.push(standing);
    }
    Ok(found)
}

/// Sets aside what a call may cost under every budget that applies, or under none.
pub(crate) fn reserve(connection: &Connection, request: &ReserveRequest) -> Result<(), ReserveError> {
    let reservation = &request.reservation;
    let standings = standings(connection, &request.budgets, reservation)?;
    let amount = amount_of(reservation);
    for standing in &standings {
        set_sums(connection, standing.part, standing.spent, standing.reserved.plus(amount))?;
    }
    let parts: Vec<Part> = standings.iter().map(|standing| standing.part).collect();
    connection
        .prepare_cached(
            "INSERT INTO reservations (id, tenant, caller, session, interaction, cost, tokens, parts, made_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            request.id.as_bytes().as_slice(),
            &reservation.tenant,
            &reservation.caller,
            &reservation.session,
            reservation.interaction.as_bytes().as_slice(),
            column(amount.cost),
            column(amount.tokens),
            json!(parts).to_string(),
            reservation.now_ms,
        ))?;
    Ok(())
}

/// Charges what a call did cost, gives back what was set aside, and writes the events. A second settlement of the same
/// reservation changes nothing.
pub(crate) fn settle(
    connection: &Connection,
    appender: &mut Appender<'_>,
    settlement: &Settlement,
) -> Result<(), StorageError> {
    let Some(held) = take(connection, settlement.id)? else { return Ok(()) };
    match &settlement.ending {
        Ending::Charged(charges) => {
            charge(connection, &held, |model| charged(charges, model))?;
        }
        Ending::Forfeited(reason) => forfeit(connection, appender, &held, reason)?,
    }
    for event in &settlement.events {
        appender.append(event)?;
    }
    Ok(())
}

/// Charges what a former process had set aside, in full, and tells of it. Returns how many reservations that were.
pub(crate) fn forfeit_all(connection: &mut Connection) -> Result<usize, StorageError> {
    let mut forfeited = 0;
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let ids: Vec<Uuid> = transaction
            .prepare_cached("SELECT id FROM reservations ORDER BY id LIMIT ?1")?
            .query_map([FORFEITED_PER_COMMIT], |row| row.get(0).map(Uuid::from_bytes))?
            .collect::<Result<_, _>>()?;
        if ids.is_empty() {
            return Ok(forfeited);
        }
        let mut appender = Appender::new(&transaction)?;
        for &id in &ids {
            let settlement = Settlement { id, ending: Ending::Forfeited(RESTART), events: Vec::new() };
            settle(&transaction, &mut appender, &settlement)?;
        }
        drop(appender);
        transaction.commit()?;
        forfeited += ids.len();
    }
}

/// A reservation as it is found when it is settled.
struct Held {
    tenant: String,
    caller: String,
    session: Option<String>,
    interaction: Uuid,
    amount: Amount,
    parts: Vec<Part>,
}

/// Takes a reservation out of the books; nothing where it was settled before.
fn take(connection: &Connection, id: Uuid) -> Result<Option<Held>, StorageError> {
    let held = connection
        .prepare_cached(
            "DELETE FROM reservations WHERE id = ?1
             RETURNING tenant, caller, session, interaction, cost, tokens, parts",
        )?
        .query_row([id.as_bytes().as_slice()], |row| {
            let parts: String = row.get(6)?;
            let held = Held {
                tenant: row.get(0)?,
                caller: row.get(1)?,
                session: row.get(2)?,
                interaction: Uuid::from_bytes(row.get(3)?),
                amount: Amount { cost: row.get(4)?, tokens: row.get(5)? },
                parts: Vec::new(),
            };
            Ok((held, parts))
        })
        .optional()?;
    let Some((mut held, parts)) = held else { return Ok(None) };
    held.parts = serde_json::from_str(&parts).map_err(|_| StorageError::Unreadable { what: "a reservation" })?;
    Ok(Some(held))
}

/// Gives back what was set aside and charges what `of` says, by the budget's model. Returns the budgets' ids.
fn charge(
    connection: &Connection,
    held: &Held,
    of: impl Fn(Option<&str>) -> Amount,
) -> Result<Vec<String>, StorageError> {
    let mut budgets = Vec::with_capacity(held.parts.len());
    for &part in &held.parts {
        let mut statement = connection.prepare_cached("SELECT id, model FROM budgets WHERE number = ?1")?;
        let budget: Option<(String, Option<String>)> =
            statement.query_row([part.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        // A budget that was removed meanwhile has no books.
        let Some((id, model)) = budget else { continue };
        let (spent, reserved) = sums_of(connection, part)?.unwrap_or_default();
        set_sums(connection, part, spent.plus(of(model.as_deref())), reserved.minus(held.amount))?;
        budgets.push(id);
    }
    Ok(budgets)
}

/// What charges come to under a budget of a model, or of all.
fn charged(charges: &[Charge], model: Option<&str>) -> Amount {
    charges
        .iter()
        .filter(|charge| model.is_none_or(|model| charge.models.iter().any(|name| name == model)))
        .fold(Amount::default(), |sum, charge| sum.plus(Amount { cost: charge.cost, tokens: charge.tokens }))
}

fn forfeit(
    connection: &Connection,
    appender: &mut Appender<'_>,
    held: &Held,
    reason: &str,
) -> Result<(), StorageError> {
    let budgets = charge(connection, held, |_| held.amount)?;
    let Amount { cost, tokens } = held.amount;
    let body = json!({ "reason": reason, "cost": cost, "tokens": tokens, "budgets": budgets });
    let event = NewEvent {
        id: Uuid::now_v7(),
        kind: FORFEITED.into(),
        version: 1,
        tenant: held.tenant.as_str().into(),
        interaction: Some(held.interaction),
        session: held.session.as_deref().map(Into::into),
        caller: held.caller.as_str().into(),
        at_ms: now_ms(),
        body: body.to_string().into_bytes(),
    };
    appender.append(&event)?;
    Ok(())
}

fn sums_of(connection: &Connection, (budget, start_ms): Part) -> Result<Option<(Amount, Amount)>, StorageError> {
    let mut statement = connection.prepare_cached(
        "SELECT spent_cost, spent_tokens, reserved_cost, reserved_tokens
         FROM budget_sums WHERE budget = ?1 AND period_start_ms = ?2",
    )?;
    Ok(statement.query_row((budget, start_ms), |row| amounts(row, 0)).optional()?)
}

fn amounts(row: &Row<'_>, column: usize) -> rusqlite::Result<(Amount, Amount)> {
    let spent = Amount { cost: row.get(column)?, tokens: row.get(column + 1)? };
    let reserved = Amount { cost: row.get(column + 2)?, tokens: row.get(column + 3)? };
    Ok((spent, reserved))
}

fn set_sums(
    connection: &Connection,
    (budget, start_ms): Part,
    spent: Amount,
    reserved: Amount,
) -> Result<(), StorageError> {
    let sums =
        (budget, start_ms, column(spent.cost), column(spent.tokens), column(reserved.cost), column(reserved.tokens));
    let updated = connection
        .prepare_cached(
            "UPDATE budget_sums SET spent_cost = ?3, spent_tokens = ?4, reserved_cost = ?5, reserved_tokens = ?6
             WHERE budget = ?1 AND period_start_ms = ?2",
        )?
        .execute(sums)?;
    if updated == 0 {
        connection.prepare_cached("INSERT INTO budget_sums VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(sums)?;
        forget_old(connection, budget)?;
    }
    Ok(())
}

/// Forgets the oldest periods of a budget, unless calls under way are counted in them.
fn forget_old(connection: &Connection, budget: i64) -> Result<(), StorageError> {
    connection
        .prepare_cached(
            "DELETE FROM budget_sums WHERE budget = ?1 AND reserved_cost = 0 AND reserved_tokens = 0
                 AND period_start_ms < (SELECT min(period_start_ms) FROM (
                     SELECT period_start_ms FROM budget_sums WHERE budget = ?1
                     ORDER BY period_start_ms DESC LIMIT ?2))",
        )?
        .execute((budget, PERIODS_KEPT))?;
    Ok(())
}

/// Makes a budget, or gives it other limits.
pub(super) fn put(connection: &Connection, budget: &Budget) -> Result<(), PutError> {
    let found = connection
        .prepare_cached(&format!("{BUDGET} WHERE id = ?1"))?
        .query_row([&budget.id], known_row)
        .optional()?
        .map(|known| known.budget);
    let Limits { cost, tokens } = budget.limits;
    if let Some(found) = found {
        if (&found.subject, &found.model, found.period) != (&budget.subject, &budget.model, budget.period) {
            return Err(StorageError::Exists { what: "budget", name: budget.id.clone() }.into());
        }
        connection
            .execute("UPDATE budgets SET cost_max = ?2, tokens_max = ?3 WHERE id = ?1", (&budget.id, cost, tokens))?;
        return Ok(());
    }
    let count: usize = connection.query_row("SELECT count(*) FROM budgets", [], |row| row.get(0))?;
    if count >= BUDGETS_MAX {
        return Err(PutError::TooMany { what: "budgets", limit: BUDGETS_MAX });
    }
    let subject = match &budget.subject {
        Subject::Key(id) => Some(id),
        Subject::Everyone => None,
    };
    connection.execute(
        "INSERT INTO budgets (id, subject, model, cost_max, tokens_max, period, created_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (&budget.id, subject, &budget.model, cost, tokens, budget.period.as_str(), now_ms()),
    )?;
    Ok(())
}

pub(super) fn remove(connection: &Connection, id: &str) -> Result<(), StorageError> {
    let removed = connection.execute("DELETE FROM budgets WHERE id = ?1", [id])?;
    if removed == 0 {
        return Err(StorageError::NotFound { what: "budget", name: id.to_owned() });
    }
    Ok(())
}

const BUDGET: &str = "SELECT number, id, subject, model, cost_max, tokens_max, period FROM budgets";

/// Every budget, by id.
pub(crate) fn known(connection: &Connection) -> Result<Vec<Known>, StorageError> {
    let mut statement = connection.prepare_cached(&format!("{BUDGET} ORDER BY id"))?;
    let rows = statement.query_map([], known_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn known_row(row: &Row<'_>) -> rusqlite::Result<Known> {
    let period: String = row.get(6)?;
    let budget = Budget {
        id: row.get(1)?,
        subject: row.get::<_, Option<String>>(2)?.map_or(Subject::Everyone, Subject::Key),
        model: row.get(3)?,
        limits: Limits { cost: row.get(4)?, tokens: row.get(5)? },
        period: Period::parse(&period).ok_or(rusqlite::Error::InvalidQuery)?,
    };
    Ok(Known { number: row.get(0)?, budget })
}

/// What stands in the books, by budget and time.
pub(super) fn sums(connection: &Connection) -> Result<Vec<Sums>, StorageError> {
    let mut statement = connection.prepare_cached(
        "SELECT b.id, s.period_start_ms, s.spent_cost, s.spent_tokens, s.reserved_cost, s.reserved_tokens
         FROM budget_sums s JOIN budgets b ON b.number = s.budget ORDER BY b.id, s.period_start_ms",
    )?;
    let rows = statement.query_map([], |row| {
        let (spent, reserved) = amounts(row, 2)?;
        Ok(Sums { budget: row.get(0)?, period_start_ms: row.get(1)?, spent, reserved })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What stands in the books of a budget for the period of a moment.
pub(super) fn sums_at(connection: &Connection, known: &Known, now_ms: i64) -> Result<Sums, StorageError> {
    let period_start_ms = known.budget.period.start_ms(now_ms);
    let (spent, reserved) = sums_of(connection, (known.number, period_start_ms))?.unwrap_or_default();
    Ok(Sums { budget: known.budget.id.clone(), period_start_ms, spent, reserved })
}

/// An amount as a column; SQLite has no larger number.
fn column(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
