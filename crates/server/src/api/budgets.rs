//! `/api/v1/budgets`: what may be spent on language models.

use axum::{Json, extract::State, http::StatusCode};
use holdfast_coordinator::{BudgetReport, NewBudget};
use holdfast_storage::ledger::{Amount, Limits, Period, Subject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Server, description,
    error::Failure,
    input::{Authenticated, Body, Segment, one_of},
    money, timestamp,
};

/// The longest id of a key and name of a model, in bytes.
const KEY_BYTES_MAX: usize = 128;
const MODEL_BYTES_MAX: usize = 256;
/// The most tokens of a budget: what a number of JSON tells apart everywhere (2⁵³, RFC 8259 section 6).
const TOKENS_MAX: i64 = 1 << 53;
/// The words for periods.
const PERIODS: [(&str, Period); 3] = [("day", Period::Day), ("month", Period::Month), ("total", Period::Total)];

/// What may be spent. One for the same key, model and period gets these limits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewBudget")]
pub(crate) struct SetBody {
    /// Whose spending counts: the id of a key, or `owner` for what needs no key; everybody's together where absent
    #[schemars(length(min = 1, max = KEY_BYTES_MAX), regex(pattern = description::NO_CONTROL))]
    key: Option<String>,
    /// On what: a model, a provider or an alias; everything where absent
    #[schemars(length(min = 1, max = MODEL_BYTES_MAX), regex(pattern = description::NO_CONTROL))]
    model: Option<String>,
    /// Dollars, with at most six decimals; money is not counted where absent
    #[schemars(range(min = 0, max = money::DOLLARS_MAX))]
    cost: Option<f64>,
    /// Tokens, asked and answered; not counted where absent
    #[schemars(range(min = 0, max = TOKENS_MAX))]
    tokens: Option<i64>,
    /// In which time, by the calendar in UTC; a month where absent
    #[schemars(extend("enum" = description::words(&PERIODS)))]
    period: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BudgetList")]
pub(crate) struct ListAnswer {
    budgets: Vec<BudgetAnswer>,
    next_cursor: Option<String>,
}

/// A budget, and what was spent of it in the period that it is in.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Budget")]
pub(crate) struct BudgetAnswer {
    id: String,
    /// Whose spending counts; null for everybody's together
    key: Option<String>,
    /// On what; null for everything
    model: Option<String>,
    /// Dollars; null where money is not counted
    cost: Option<f64>,
    /// Tokens, asked and answered; null where they are not counted
    tokens: Option<u64>,
    #[schemars(extend("enum" = ["day", "month", "total"]))]
    period: &'static str,
    spent: AmountAnswer,
    /// What is set aside for calls under way
    reserved: AmountAnswer,
    /// When it begins anew; null where it never does
    #[schemars(extend("format" = "date-time"))]
    resets_at: Option<String>,
}

/// Money and tokens.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Amount")]
pub(crate) struct AmountAnswer {
    /// Dollars
    cost: f64,
    /// Asked and answered
    tokens: u64,
}

pub(crate) async fn list(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
) -> Result<Json<ListAnswer>, Failure> {
    let budgets = server.coordinator().list_budgets().await?;
    // There are few: they are one page.
    Ok(Json(ListAnswer { budgets: budgets.into_iter().map(BudgetAnswer::from).collect(), next_cursor: None }))
}

pub(crate) async fn set(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    body: Body<SetBody>,
) -> Result<(StatusCode, Json<BudgetAnswer>), Failure> {
    let report = server.coordinator().set_budget(body.value.budget()?).await?;
    let id = &report.budget.id;
    tracing::info!(budget = id, caller = caller.id(), "set the budget {id}");
    Ok((StatusCode::CREATED, Json(report.into())))
}

pub(crate) async fn remove(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<StatusCode, Failure> {
    server.coordinator().remove_budget(id.clone()).await?;
    tracing::info!(budget = id, caller = caller.id(), "removed the budget {id}");
    Ok(StatusCode::NO_CONTENT)
}

impl SetBody {
    fn budget(self) -> Result<NewBudget, Failure> {
        for (field, text, most) in [("key", &self.key, KEY_BYTES_MAX), ("model", &self.model, MODEL_BYTES_MAX)] {
            let is_name = |text: &String| (1..=most).contains(&text.len()) && !text.chars().any(char::is_control);
            if text.as_ref().is_some_and(|text| !is_name(text)) {
                return Err(Failure::field(field, format_args!("must be 1 to {most} printable characters")));
            }
        }
        let cost = self.cost.map(|dollars| money::millionths(dollars).ok_or_else(no_amount)).transpose()?;
        let tokens = self.tokens.map(tokens).transpose()?;
        if cost.is_none() && tokens.is_none() {
            return Err(Failure::field("cost", "or tokens must be there"));
        }
        Ok(NewBudget {
            key: self.key,
            model: self.model,
            limits: Limits { cost, tokens },
            period: one_of("period", self.period.as_deref(), Period::Month, &PERIODS)?,
        })
    }
}

fn no_amount() -> Failure {
    let most = money::DOLLARS_MAX;
    Failure::field("cost", format_args!("must be 0 to {most} dollars with at most six decimals"))
}

fn tokens(given: i64) -> Result<u64, Failure> {
    let number = u64::try_from(given).ok().filter(|_| given <= TOKENS_MAX);
    number.ok_or_else(|| Failure::field("tokens", format_args!("must be 0 to {TOKENS_MAX}")))
}

impl From<BudgetReport> for BudgetAnswer {
    fn from(report: BudgetReport) -> Self {
        let BudgetReport { budget, spent, reserved, resets_at_ms } = report;
        Self {
            id: budget.id,
            key: match budget.subject {
                Subject::Key(id) => Some(id),
                Subject::Everyone => None,
            },
            model: budget.model,
            cost: budget.limits.cost.map(money::dollars),
            tokens: budget.limits.tokens,
            period: budget.period.as_str(),
            spent: spent.into(),
            reserved: reserved.into(),
            resets_at: resets_at_ms.map(timestamp::from_ms),
        }
    }
}

impl From<Amount> for AmountAnswer {
    fn from(amount: Amount) -> Self {
        Self { cost: money::dollars(amount.cost), tokens: amount.tokens }
    }
}
