//! Bodies that are too large to be stored, cut so that they are not.

use serde_json::{Map, Value, json};

use super::EVENT_BYTES_MAX;
use crate::ledger::Ending;

/// Characters that are kept of a text that is longer.
const TEXT_CHARS_KEPT: usize = 1_024;
/// Members that are kept of a list that is longer.
const LIST_KEPT: usize = 64;

/// A body with what is long in it cut, and its numbers as they were. Where that is not enough, or it is no JSON, one that
/// only says what was charged.
pub(super) fn to_fit(body: &[u8], ending: &Ending) -> Vec<u8> {
    let cut = serde_json::from_slice(body).map(|body| marked(shortened(body)).to_string().into_bytes()).ok();
    cut.filter(|cut| cut.len() <= EVENT_BYTES_MAX).unwrap_or_else(|| {
        let charges = match ending {
            Ending::Charged(charges) => charges.as_slice(),
            Ending::Forfeited(_) => &[],
        };
        let sum = |of: fn(&crate::ledger::Charge) -> u64| charges.iter().map(of).fold(0, u64::saturating_add);
        let told = json!({ "cost": sum(|charge| charge.cost), "tokens": sum(|charge| charge.tokens) });
        marked(told).to_string().into_bytes()
    })
}

fn marked(mut body: Value) -> Value {
    if let Value::Object(fields) = &mut body {
        fields.insert("is_cut".to_owned(), Value::from(true));
    }
    body
}

fn shortened(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() > TEXT_CHARS_KEPT => {
            Value::String(text.chars().take(TEXT_CHARS_KEPT).collect())
        }
        Value::Array(members) => members.into_iter().take(LIST_KEPT).map(shortened).collect(),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, shortened(value))).collect::<Map<_, _>>())
        }
        other => other,
    }
}
