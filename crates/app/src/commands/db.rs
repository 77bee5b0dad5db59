//! `holdfast db`: the version of the database's schema, and changing it by hand.
//!
//! A server brings the schema up by itself; going down is for returning to an older version of the program. Nobody else
//! may have the database open: the lock of the data directory sees to that.

use anyhow::{Result, anyhow};
use holdfast_storage::migrate;
use serde_json::json;

use super::Session;
use crate::{arguments::Db, hint::Advice, telemetry::Reader, wiring::Holding};

/// Shows or changes the version of the schema.
pub async fn run(session: &Session, action: Db) -> Result<()> {
    session.settings(Reader::User)?;
    // What a command that is ending still holds is free in a moment; a server's is not, and is named.
    let holding = Holding::take(&session.place)?;
    let database = holding.database();
    let newest = migrate::newest();
    let before = migrate::version_of(&database)?;
    let target = match action {
        Db::Status => before,
        Db::Up { to } => wanted(to.unwrap_or(newest), before..=newest, "up")?,
        Db::Down { to } => wanted(to, 0..=before, "down")?,
    };
    if target != before {
        let file = database.clone();
        tokio::task::spawn_blocking(move || migrate::bring_to(&file, target)).await??;
    }
    let version = migrate::version_of(&database)?;
    session.output.value(&json!({ "version": version, "before": before, "newest": newest }), |_| {
        let change = if version == before { String::new() } else { format!(", was {before}") };
        format!("schema version {version}{change}; this program knows {newest}")
    })?;
    Ok(())
}

fn wanted(target: u32, possible: std::ops::RangeInclusive<u32>, direction: &str) -> Result<u32> {
    if possible.contains(&target) {
        return Ok(target);
    }
    let remedy = format!("give a version from {} to {}", possible.start(), possible.end());
    Err(anyhow!(Advice::new(format!("version {target} is not {direction} from here"), remedy)))
}
