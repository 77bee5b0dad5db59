//! The archive of the event log: what is in it, moving there what is due, and putting it back.

use axum::{Json, extract::State};
use holdfast_learning::archive::Moved;
use holdfast_storage::events::archive::{Imported, Refused, Segment};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Server,
    error::{Failure, public},
    input::{Authenticated, Params},
    timestamp,
};

/// How closely the archive is looked at.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArchiveParams {
    /// Whether all of it is read and compared with its hashes
    #[serde(default)]
    verify: bool,
}

/// A file of the archive.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ArchiveSegment")]
pub(crate) struct SegmentAnswer {
    /// The name of its file: JSON lines, compressed by zstd
    name: String,
    first_position: u64,
    last_position: u64,
    events: u64,
    /// Events that were erased from it
    erased: u64,
    /// Bytes of its lines, and of its file
    raw_bytes: u64,
    file_bytes: u64,
    /// BLAKE3 of its file
    blake3: String,
    #[schemars(extend("format" = "date-time"))]
    archived_at: String,
    /// What is wrong with it; null where nothing is, or where that was not looked for
    damage: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Archive")]
pub(crate) struct ArchiveAnswer {
    segments: Vec<SegmentAnswer>,
    /// Whether each hash, line and count was compared
    verified: bool,
}

/// What was moved to the archive.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EventsArchived")]
pub(crate) struct MovedAnswer {
    events: u64,
    segments: u64,
}

/// What was put back into the log.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EventsImported")]
pub(crate) struct ImportedAnswer {
    events: u64,
    /// Events that were there
    present: u64,
    /// Files that are damaged, of which nothing was put back
    damaged: Vec<String>,
}

pub(crate) async fn show(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
    Params(ArchiveParams { verify }): Params<ArchiveParams>,
) -> Result<Json<ArchiveAnswer>, Failure> {
    let (manifest, report) = server.learning().archives(verify).await?;
    let damaged = report.as_ref().map(|report| report.damaged.as_slice()).unwrap_or_default();
    let segments = manifest.segments().iter().map(|segment| answer(segment, damaged)).collect();
    Ok(Json(ArchiveAnswer { segments, verified: report.is_some() }))
}

pub(crate) async fn archive(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
) -> Result<Json<MovedAnswer>, Failure> {
    let Moved { events, segments } = server.learning().archive_due().await?;
    Ok(Json(MovedAnswer { events, segments }))
}

pub(crate) async fn import(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
) -> Result<Json<ImportedAnswer>, Failure> {
    let Imported { events, present, refused } = server.learning().import_archive().await?;
    let damaged = refused.into_iter().map(|refused| refused.segment).collect();
    Ok(Json(ImportedAnswer { events, present, damaged }))
}

fn answer(segment: &Segment, damaged: &[Refused]) -> SegmentAnswer {
    let damage = damaged.iter().find(|refused| refused.segment == segment.name);
    SegmentAnswer {
        name: segment.name.clone(),
        first_position: segment.first_position,
        last_position: segment.last_position,
        events: segment.count,
        erased: segment.erased.map_or(0, |erased| erased.count),
        raw_bytes: segment.raw_bytes,
        file_bytes: segment.file_bytes,
        blake3: segment.file_blake3.clone(),
        archived_at: timestamp::from_ms(segment.created_at_ms),
        damage: damage.map(|refused| public(&refused.fault.to_string()).into_owned()),
    }
}
