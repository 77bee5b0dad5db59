//! What the fuzzer calls: the parser of filters, with what must hold of every input.
//!
//! Exists in tests and for `cargo xtask fuzz` only. A broken promise is a panic, which is how a fuzzer hears of it.

use serde_json::{Value, json};

use crate::Filter;

/// Longer than any message about a filter: what it repeats of the input is cut.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// A filter as it comes, and as JSON that parses: it is refused with a short message, or it means one thing.
pub fn filter(input: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(input) else { return };
    let filter = match Filter::parse(&value) {
        Ok(filter) => filter,
        Err(error) => {
            assert!(error.to_string().len() <= MESSAGE_BYTES_MAX, "a message of {} bytes", error.to_string().len());
            assert!(!error.hint().is_empty(), "a refusal without a way out");
            return;
        }
    };
    let canonical = filter.canonical();
    assert_eq!(canonical, filter.clone().canonical(), "one filter has two names");
    let twice = Filter::All(vec![filter.clone(), filter.clone()]);
    let opposite = Filter::Not(Box::new(filter.clone()));
    for attributes in attributes() {
        let holds = filter.matches(&attributes);
        assert_eq!(holds, twice.matches(&attributes), "said twice it means something else");
        assert_ne!(holds, opposite.matches(&attributes), "it holds together with its opposite");
    }
    // What parsed once parses again, whatever order its keys have.
    assert_eq!(Filter::parse(&value).map(|again| again.canonical()), Ok(canonical), "two parses differ");
}

fn attributes() -> [Value; 4] {
    [
        Value::Null,
        json!({}),
        json!({ "path": "docs/a.md", "title": "", "metadata": { "lang": "en", "n": 1, "ok": true, "tags": ["a", 2, null] } }),
        json!({ "metadata": { "a.b": { "c": [[{ "d": "x" }]] }, "lang": ["de", "en"], "n": -0.0 } }),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_fuzzer_begins_with_breaks_no_promise() {
        holdfast_testkit::seeds::replay("filter", super::filter);
    }
}
