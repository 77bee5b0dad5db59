//! `holdfast db`: the versions of the databases' schemas, and changing them by hand: that of documents, that of the record
//! of turns, and that of what is learned from it.
//!
//! A server brings the schemas up by itself; going down is for returning to an older version of the program. Nobody else
//! may have the databases open: the lock of the data directory sees to that.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use holdfast_storage::migrate::{self, Schema};
use serde_json::{Value, json};

use super::Session;
use crate::{hint::Advice, telemetry::Reader, wiring::Holding};

/// `holdfast db`
#[derive(Debug, Subcommand)]
pub enum Db {
    /// Show the versions of the schemas
    Status,
    /// Bring the schemas up
    Up {
        /// To this version, and the schema of documents alone [default: the newest, and all]
        #[arg(long)]
        to: Option<u32>,
        /// Of these alone.
        #[command(flatten)]
        which: Database,
    },
    /// Bring the schema of documents down, with the data that only the newer one has
    Down {
        /// To this version
        #[arg(long)]
        to: u32,
        /// Of these instead.
        #[command(flatten)]
        which: Database,
    },
}

/// A database other than that of documents.
#[derive(Clone, Copy, Debug, Args)]
pub struct Database {
    /// The schema of the record of turns
    #[arg(long, conflicts_with = "learning")]
    events: bool,
    /// The schema of what is learned from it
    #[arg(long)]
    learning: bool,
}

/// A database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// That of documents.
    Documents,
    /// That of the record of turns.
    Events,
    /// That of what is learned from it.
    Learning,
}

impl Database {
    /// Whether that one is meant.
    pub fn is(self, which: Which) -> bool {
        let meant = match self {
            Self { events: true, .. } => Which::Events,
            Self { learning: true, .. } => Which::Learning,
            _ => Which::Documents,
        };
        meant == which
    }

    /// The same, where all are meant if none is named.
    pub fn is_none_or(self, which: Which) -> bool {
        (!self.events && !self.learning) || self.is(which)
    }
}

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
    let all = [
        (&migrate::MAIN, holding.database(), Which::Documents),
        (&migrate::EVENTS, holding.events(), Which::Events),
        (&migrate::LEARNING, holding.learned(), Which::Learning),
    ];
    let mut changes = Vec::new();
    for (schema, file, this) in all {
        let (before, newest) = (schema.version_of(&file)?, schema.newest());
        let target = match action {
            Db::Up { to: None, which } if which.is_none_or(this) => wanted(newest, before..=newest, "up")?,
            Db::Up { to: Some(to), which } if which.is(this) => wanted(to, before..=newest, "up")?,
            Db::Down { to, which } if which.is(this) => wanted(to, 0..=before, "down")?,
            _ => before,
        };
        changes.push(Change { schema, file, before, target });
    }
    let mut told = Vec::new();
    for change in changes {
        told.push(change.make().await?);
    }
    let [mut value, events, learning]: [Value; 3] = told.try_into().unwrap_or_default();
    value["events"] = events;
    value["learning"] = learning;
    session.output.value(&value, |value| {
        let (events, learning) = (text(&value["events"]), text(&value["learning"]));
        format!("{}\nrecord of turns: {events}\nwhat is learned: {learning}", text(value))
    })?;
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
