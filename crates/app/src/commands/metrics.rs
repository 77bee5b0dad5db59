//! `holdfast metrics`: the reference of everything `GET /metrics` tells.

use anyhow::Result;
use holdfast_server::metrics::table;

use super::Session;

/// Prints it, as `docs/METRICS.md` has it.
pub fn run(session: &Session) -> Result<()> {
    Ok(session.output.value(&table::json(), |_| table::markdown().trim_end().to_owned())?)
}
