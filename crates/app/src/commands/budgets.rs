//! `holdfast budgets`: what may be spent on language models.

use anyhow::Result;
use serde_json::{Value, json};

use super::Session;
use crate::{
    arguments::Budgets,
    output::table,
    transport::{Request, encode},
};

/// Sets, lists or removes budgets.
pub async fn run(session: &Session, action: Budgets) -> Result<()> {
    let output = session.output;
    session
        .with_program(async |transport| {
            match &action {
                Budgets::Set { key, model, money, tokens, period } => {
                    let body = json!({ "key": key, "model": model, "cost": money, "tokens": tokens, "period": period });
                    let budget = transport.send(Request::post("/api/v1/budgets", body)).await?;
                    output.value(&budget, |budget| rows(&json!({ "budgets": [budget] })))?;
                }
                Budgets::List => {
                    let answer = transport.send(Request::get("/api/v1/budgets")).await?;
                    output.value(&answer, rows)?;
                }
                Budgets::Remove { id } => {
                    transport.send(Request::delete(format!("/api/v1/budgets/{}", encode(id)))).await?;
                    output.value(&json!({ "id": id, "removed": true }), |_| format!("removed {id}"))?;
                }
            }
            Ok(())
        })
        .await
}

fn rows(answer: &Value) -> String {
    let budgets = answer["budgets"].as_array().map(Vec::as_slice).unwrap_or_default();
    if budgets.is_empty() {
        return "none".to_owned();
    }
    let row = |budget: &Value| {
        let word = |field: &str, otherwise: &str| budget[field].as_str().unwrap_or(otherwise).to_owned();
        let spent = |field: &str, unit: &str| match &budget[field] {
            Value::Null => "-".to_owned(),
            most => format!("{unit}{} of {unit}{most}", budget["spent"][field]),
        };
        let reserved = budget["reserved"]["tokens"].as_u64().unwrap_or(0);
        vec![
            word("id", "-"),
            word("key", "everybody"),
            word("model", "all models"),
            word("period", "-"),
            spent("cost", "$"),
            spent("tokens", ""),
            if reserved > 0 { reserved.to_string() } else { "-".to_owned() },
            word("resets_at", "never"),
        ]
    };
    let rows: Vec<Vec<String>> = budgets.iter().map(row).collect();
    table(&["ID", "WHOSE", "ON", "PER", "MONEY", "TOKENS", "RESERVED TOKENS", "BEGINS ANEW"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_reads_well() {
        let budget = json!({
            "id": "b1", "key": null, "model": "openai", "period": "month", "cost": 20.0, "tokens": null,
            "spent": { "cost": 3.25, "tokens": 9000 }, "reserved": { "cost": 0.1, "tokens": 500 },
            "resets_at": "2026-02-01T00:00:00.000Z",
        });
        insta::assert_snapshot!(rows(&json!({ "budgets": [budget] })), @r"
        ID  WHOSE      ON      PER    MONEY           TOKENS  RESERVED TOKENS  BEGINS ANEW
        b1  everybody  openai  month  $3.25 of $20.0  -       500              2026-02-01T00:00:00.000Z
        ");
        assert_eq!(rows(&json!({ "budgets": [] })), "none");
    }
}
