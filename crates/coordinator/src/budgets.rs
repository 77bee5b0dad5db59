//! Budgets: set, listed with what was spent, removed. The books themselves are storage's.

use holdfast_storage::{
    StorageError,
    ledger::{Amount, Budget, Limits, Period, Subject},
};

use crate::{Coordinator, TurnError, record, session::blocking};

/// What may be spent from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBudget {
    /// Whose spending counts: that of the key of this id, or of `owner`; everybody's where absent.
    pub key: Option<String>,
    /// Spending on what counts: a model, a provider or an alias; on everything where absent.
    pub model: Option<String>,
    /// How much.
    pub limits: Limits,
    /// In which time.
    pub period: Period,
}

/// A budget, and what stands in its books for the period that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetReport {
    /// The budget.
    pub budget: Budget,
    /// What was spent.
    pub spent: Amount,
    /// What is set aside for calls under way.
    pub reserved: Amount,
    /// When it begins anew; Unix milliseconds. Nothing where it never does.
    pub resets_at_ms: Option<i64>,
}

impl Coordinator {
    /// Sets a budget. One for the same spending in the same time gets these limits instead; what was spent stays spent.
    ///
    /// # Errors
    /// [`TurnError::TooMany`], and [`TurnError::Invalid`] where a part makes no sense.
    pub async fn set_budget(&self, new: NewBudget) -> Result<BudgetReport, TurnError> {
        let NewBudget { key, model, limits, period } = new;
        let id = id(key.as_deref(), model.as_deref(), period);
        let subject = key.map_or(Subject::Everyone, Subject::Key);
        self.shared.ledger.put_budget(Budget { id: id.clone(), subject, model, limits, period }).await?;
        let found = self.list_budgets().await?.into_iter().find(|report| report.budget.id == id);
        // Somebody may have removed it at once.
        found.ok_or_else(|| StorageError::NotFound { what: "budget", name: id }.into())
    }

    /// Every budget, by id.
    ///
    /// # Errors
    /// [`TurnError::Storage`].
    pub async fn list_budgets(&self) -> Result<Vec<BudgetReport>, TurnError> {
        self.written_down().await?;
        let ledger = self.shared.ledger.clone();
        let now_ms = record::now_ms();
        let read = move || ledger.sums_at(now_ms).map(|sums| (ledger.budgets(), sums));
        let (budgets, sums) = blocking(read).await??;
        let report = |budget: Budget| {
            let sums = sums.iter().find(|sums| sums.budget == budget.id);
            let (spent, reserved) = sums.map(|sums| (sums.spent, sums.reserved)).unwrap_or_default();
            BudgetReport { spent, reserved, resets_at_ms: budget.period.end_ms(now_ms), budget }
        };
        Ok(budgets.into_iter().map(report).collect())
    }

    /// Removes a budget with its books. Calls under way are no longer counted under it.
    ///
    /// # Errors
    /// [`TurnError::Storage`], also where there is none of that id.
    pub async fn remove_budget(&self, id: String) -> Result<(), TurnError> {
        Ok(self.shared.ledger.remove_budget(id).await?)
    }
}

/// What a budget is called: the same for the same spending in the same time, so that setting it again changes it.
fn id(key: Option<&str>, model: Option<&str>, period: Period) -> String {
    // No two of these are the same text: neither ids of keys nor names of models have a zero byte.
    let part = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), |text| format!("+{text}"));
    let of = format!("{}\0{}\0{}", part(key), part(model), period.as_str());
    format!("bud_{}", &blake3::hash(of.as_bytes()).to_hex()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_called_by_what_it_counts() {
        let all = [
            id(None, None, Period::Day),
            id(None, None, Period::Month),
            id(Some("-"), None, Period::Day),
            id(None, Some("-"), Period::Day),
            id(Some("a"), Some("b"), Period::Day),
            id(Some("b"), Some("a"), Period::Day),
            id(Some(""), None, Period::Day),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other != one), "{one}");
        }
        assert_eq!(id(Some("a"), None, Period::Total), id(Some("a"), None, Period::Total));
    }
}
