//! `holdfast jobs`: accepted work and how far it is.

use anyhow::Result;

use super::{Session, lists};
use crate::{
    arguments::Jobs,
    transport::{Request, encode},
};

const COLUMNS: [(&str, &str); 7] = [
    ("ID", "id"),
    ("KIND", "kind"),
    ("STATE", "state"),
    ("DONE", "progress.done"),
    ("TOTAL", "progress.total"),
    ("FAILED", "progress.failed"),
    ("CREATED", "created_at"),
];
const FIELDS: [&str; 13] = [
    "id",
    "kind",
    "state",
    "collection",
    "source",
    "progress.total",
    "progress.done",
    "progress.skipped",
    "progress.failed",
    "error.code",
    "error.detail",
    "created_at",
    "finished_at",
];

/// Lists or shows jobs.
pub async fn run(session: &Session, action: Jobs) -> Result<()> {
    let output = session.output;
    session
        .with_program(async |transport| {
            match &action {
                Jobs::List { paging } => {
                    let answer = transport.send(lists::page("/api/v1/jobs", paging)).await?;
                    output.value(&answer, |answer| lists::table(answer, "jobs", &COLUMNS))?;
                }
                Jobs::Show { id } => {
                    let answer = transport.send(Request::get(format!("/api/v1/jobs/{}", encode(id)))).await?;
                    output.value(&answer, |job| lists::fields(job, &FIELDS))?;
                }
            }
            Ok(())
        })
        .await
}
