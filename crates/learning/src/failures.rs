//! Which failures interactions tell of: found by what stays the same of them, counted, and linked to what solved them.

use std::collections::BTreeSet;

use holdfast_storage::{
    LearningStore,
    learning::{FailureTold, InteractionRow, Lease},
};

use crate::{
    fingerprint::{self, Fingerprint},
    redact::redact,
    similar::PassError,
};

/// Interactions that are looked at in one transaction.
const TOGETHER: usize = 200;
/// Failures that an interaction can tell of.
const FAILURES_MAX: usize = 4;
/// Bytes of a text that are looked at; failures stand at the end of what was pasted.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Looks for failures in the next interactions; how many that were.
pub(crate) fn pass(store: &LearningStore, lease: &Lease) -> Result<usize, PassError> {
    let rows = store.read(|fold| fold.failures_due(TOGETHER))?;
    let count = rows.len();
    if count == 0 {
        return Ok(0);
    }
    let told: Vec<(i64, Vec<FailureTold>)> = rows.iter().filter_map(|row| Some((row.number?, told_in(row)))).collect();
    store.derive(lease, move |fold| {
        let mut changed = BTreeSet::new();
        for (number, failures) in &told {
            changed.extend(fold.set_failures(*number, failures)?);
        }
        for (tenant, error) in changed {
            fold.recount_error(&tenant, &error)?;
        }
        Ok(())
    })?;
    Ok(count)
}

/// The failures that an interaction tells of: what went wrong in it, and what was asked about.
fn told_in(row: &InteractionRow) -> Vec<FailureTold> {
    let mut seen = BTreeSet::new();
    [row.error.as_deref(), row.question.as_deref()]
        .into_iter()
        .flatten()
        .flat_map(|text| fingerprint::find_all(end_of(text), FAILURES_MAX))
        .filter(|found| seen.insert(found.id.clone()))
        .take(FAILURES_MAX)
        .map(told)
        .collect()
}

fn told(found: Fingerprint) -> FailureTold {
    let Fingerprint { id, class, normal, excerpt } = found;
    FailureTold {
        error: id,
        class,
        normal: redact(&normal).text.into_owned(),
        excerpt: redact(&excerpt).text.into_owned(),
    }
}

fn end_of(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(TEXT_BYTES_MAX))..]
}
