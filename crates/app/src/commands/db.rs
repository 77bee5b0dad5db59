//! `holdfast db`: the versions of the databases' schemas, and changing them by hand: that of documents, and that of the
//! record of turns.
//!
//! A server brings the schemas up by itself; going down is for returning to an older version of the program. Nobody else
//! may have the databases open: the lock of the data directory sees to that.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use holdfast_storage::migrate::{self, Schema};
use serde_json::{Value, json};

use super::Session;
use crate::{arguments::Db, hint::Advice, telemetry::Reader, wiring::Holding};

/// A database, and what is to become of it.
struct Change {
    schema: &'static Schema,
    file: PathBuf,
    before: u32,
    target: u32,
}

/// Shows or changes the versions of the schemas.
pub async fn run(session: &Session, action: Db) -> Result<()> {
    session.settings(Reader::User)?;
    // What a command that is ending still holds is free in a moment; a server's is not, and is named.
    let holding = Holding::take(&session.place)?;
    let both = [(&migrate::MAIN, holding.database(), false), (&migrate::EVENTS, holding.events(), true)];
    let mut changes = Vec::new();
    for (schema, file, is_events) in both {
        let (before, newest) = (schema.version_of(&file)?, schema.newest());
        let target = match action {
            Db::Up { to: None, events } if is_events || !events => wanted(newest, before..=newest, "up")?,
            Db::Up { to: Some(to), events } if is_events == events => wanted(to, before..=newest, "up")?,
            Db::Down { to, events } if is_events == events => wanted(to, 0..=before, "down")?,
            _ => before,
        };
        changes.push(Change { schema, file, before, target });
    }
    let mut told = Vec::new();
    for change in changes {
        told.push(change.make().await?);
    }
    let [mut value, events]: [Value; 2] = told.try_into().unwrap_or_default();
    value["events"] = events;
    session.output.value(&value, |value| format!("{}\nrecord of turns: {}", text(value), text(&value["events"])))?;
    Ok(())
}

impl Change {
    async fn make(self) -> Result<Value> {
        let Self { schema, file, before, target } = self;
        if target != before {
            let file = file.clone();
            tokio::task::spawn_blocking(move || schema.bring_to(&file, target)).await??;
        }
        Ok(json!({ "version": schema.version_of(&file)?, "before": before, "newest": schema.newest() }))
    }
}

fn text(of: &Value) -> String {
    let Value::Object(of) = of else { return String::new() };
    let number = |name: &str| of.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (version, before, newest) = (number("version"), number("before"), number("newest"));
    let change = if version == before { String::new() } else { format!(", was {before}") };
    format!("schema version {version}{change}; this program knows {newest}")
}

fn wanted(target: u32, possible: std::ops::RangeInclusive<u32>, direction: &str) -> Result<u32> {
    if possible.contains(&target) {
        return Ok(target);
    }
    let remedy = format!("give a version from {} to {}", possible.start(), possible.end());
    Err(anyhow!(Advice::new(format!("version {target} is not {direction} from here"), remedy)))
}
