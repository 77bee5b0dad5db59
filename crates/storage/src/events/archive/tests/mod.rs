//! The archive as its callers see it, and what is left of log and archive after a kill, a full disk and a hostile hand.

mod crash;
mod damage;
mod erasing;
mod importing;
mod retaining;
mod round_trip;
pub(super) mod steps;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::{
    EventLog, StorageError,
    events::{
        Event, EventFilter, NewEvent, rows as event_rows,
        tests::{child, directory_given, event},
    },
};

/// Later than anything happens.
const LATER_MS: i64 = 1_000_000_000_000;

/// A log and its archive.
struct House {
    folder: TempDir,
    log: EventLog,
    archive: Archive,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (log, archive) = open(folder.path(), 100);
        Self { folder, log, archive }
    }

    /// With so many events, of which all but the newest are archived.
    fn archived(events: u64) -> Self {
        let house = Self::new();
        append(&house.log, 0..events);
        archive_all(&house.log, &house.archive);
        house
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("archive").join(name)
    }

    fn segment(&self, at: usize) -> Segment {
        self.archive.manifest().unwrap().segments()[at].clone()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.log.close();
    }
}

/// The log and the archive of a folder, with segments of so many events.
fn open(folder: &Path, events: u64) -> (EventLog, Archive) {
    let log = EventLog::open_at(&folder.join("events.db")).unwrap();
    (log, small(&folder.join("archive"), events))
}

fn small(folder: &Path, events: u64) -> Archive {
    let shape = Shape { events, level: 1, ..Shape::default() };
    Archive { shape, ..Archive::at(folder) }
}

/// An event of its own, one of many kinds of them; the same number gives the same one.
fn varied(number: u64) -> NewEvent {
    let body: Vec<u8> = match number % 10 {
        0 => b"null".to_vec(),
        1 => b"{\n  \"pretty\": [1,\r\n 2]\n}".to_vec(),
        2 => b" {} ".to_vec(),
        3 => vec![0xff, 0x00, 0x0a, 0xfe],
        4 => Vec::new(),
        5 => b"\"ends in a quote\\\"\"".to_vec(),
        6 => b"[1e999,-0.0,18446744073709551616,{\"a\":1,\"a\":2}]".to_vec(),
        7 => "{\"\u{202e}\u{0}\u{1f9ff}\":\"\\ud800 \u{2028}\"}".into(),
        8 => b"not json".to_vec(),
        _ => json!({ "number": number, "text": "a sentence, and again a sentence".repeat(3) }).to_string().into_bytes(),
    };
    NewEvent {
        kind: if number.is_multiple_of(3) { "turn_started".into() } else { "turn_finished".into() },
        interaction: (!number.is_multiple_of(7)).then(|| uuid::Uuid::from_u128(u128::from(number / 2))),
        session: (!number.is_multiple_of(5)).then(|| Arc::from(format!("ses_{} \"\\\u{1f}\u{7f}", number / 20))),
        caller: format!("key_{}", number % 4).into(),
        body,
        ..event(number)
    }
}

/// Whether an event on record is the one of a number.
fn is_of(event: &Event, number: u64) -> bool {
    let wanted = varied(number);
    (event.id, &*event.kind, event.version, &*event.tenant, event.interaction)
        == (wanted.id, &*wanted.kind, wanted.version, &*wanted.tenant, wanted.interaction)
        && (&event.session, &event.caller, event.at_ms, &event.body)
            == (&wanted.session, &wanted.caller, wanted.at_ms, &wanted.body)
}

fn append(log: &EventLog, numbers: std::ops::Range<u64>) -> Vec<u64> {
    let runtime = Runtime::new().unwrap();
    let numbers: Vec<u64> = numbers.collect();
    let append = |numbers: &[u64]| runtime.block_on(log.append(numbers.iter().map(|n| varied(*n)).collect())).unwrap();
    numbers.chunks(500).flat_map(append).collect()
}

fn everything() -> Retention {
    Retention { age_ms: Some(0), size_bytes: None, events_min: 1 }
}

/// Archives until nothing is due, and returns how many events the log let go of.
fn archive_all(log: &EventLog, archive: &Archive) -> u64 {
    let mut events = 0;
    while let Some(archived) = log.archive_oldest(archive, &everything(), u64::MAX, LATER_MS).unwrap() {
        events += archived.events;
    }
    events
}

/// What the log has, by position; whatever it says of what it has not.
fn in_log(log: &EventLog) -> BTreeMap<u64, Event> {
    let rows = log.inner.database.read(|connection| event_rows::between(connection, 1, u64::MAX, usize::MAX));
    rows.unwrap().into_iter().map(|event| (event.position, event)).collect()
}

/// What the archive has, by position.
fn in_archive(archive: &Archive) -> BTreeMap<u64, Event> {
    let events: Vec<Event> = archive.read(ArchiveFilter::default()).map(Result::unwrap).collect();
    assert!(events.is_sorted_by_key(|event| event.position));
    events.into_iter().map(|event| (event.position, event)).collect()
}

/// What log and archive have; what both have is the same, and everything is whole.
fn in_both(log: &EventLog, archive: &Archive) -> BTreeMap<u64, Event> {
    let mut events = in_archive(archive);
    for (position, event) in in_log(log) {
        let there = events.entry(position).or_insert_with(|| event.clone());
        assert_eq!(*there, event);
    }
    let report = archive.verify().unwrap();
    assert!(report.is_whole(), "{report:?}");
    events
}

/// Everything that can be read from a position on, as a consumer does that does not mind what was archived.
fn readable(log: &EventLog) -> Vec<Event> {
    let (mut events, mut position) = (Vec::new(), 0);
    loop {
        match log.read_after(position, 7, &EventFilter::default()) {
            Err(StorageError::Archived { position: after, first_position }) => {
                assert_eq!(after, position);
                assert!(first_position > position + 1);
                position = first_position - 1;
            }
            page => {
                let page = page.unwrap();
                if page.events.is_empty() && page.through == position {
                    return events;
                }
                position = page.through;
                events.extend(page.events);
            }
        }
    }
}
