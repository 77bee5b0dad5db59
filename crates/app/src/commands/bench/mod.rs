//! `holdfast bench`: what a server can bear, measured from outside.

mod load;

pub mod payload;

mod client;

mod report;

mod histogram;

use anyhow::Result;

use super::Session;
use crate::arguments::Bench;

/// Runs one benchmark.
pub async fn run(session: &Session, action: Bench) -> Result<()> {
    match action {
        Bench::Load(arguments) => Box::pin(load::run(session, &arguments)).await,
    }
}
