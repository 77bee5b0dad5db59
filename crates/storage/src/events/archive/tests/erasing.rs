//! Events of somebody who wants to be forgotten.

use std::fs;

use super::*;

fn everything_in(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        all.extend(zstd::decode_all(content.as_slice()).unwrap_or(content));
    }
    all
}

fn has(haystack: &[u8], needle: &str) -> bool {
    memchr::memmem::find(haystack, needle.as_bytes()).is_some()
}

#[test]
fn what_is_erased_is_gone_and_the_rest_is_as_it_was() {
    let house = House::archived(1_001);
    let before = in_archive(&house.archive);
    let session = before[&502].session.clone().unwrap();
    let folder = house.folder.path().join("archive");
    let told = serde_json::to_string(&*session).unwrap();
    assert!(has(&everything_in(&folder), &told));
    let others: Vec<Segment> = house.archive.manifest().unwrap().segments().to_vec();
    let erased = house.archive.erase(LATER_MS, |event| event.session.as_ref() == Some(&session)).unwrap();
    assert_eq!((erased.events, erased.segments, erased.refused.len()), (16, 1, 0));
    let kept = before.values().filter(|event| event.session.as_ref() != Some(&session));
    assert!(in_archive(&house.archive).values().eq(kept));
    let all = everything_in(&folder);
    assert!(!has(&all, &told) && !has(&all, &before[&502].id.to_string()));
    let manifest = house.archive.manifest().unwrap();
    let rewritten = &manifest.segments()[5];
    assert_eq!(rewritten.erased, Some(ErasedBefore { count: 16, at_ms: LATER_MS }));
    assert_eq!((rewritten.count, rewritten.generation(), rewritten.first_position), (84, 2, 501));
    for (at, (before, after)) in others.iter().zip(manifest.segments()).enumerate() {
        assert!(at == 5 || before.file_blake3 == after.file_blake3);
        // Entries behind the changed one hang from another.
        assert_eq!(at > 5, before.previous != after.previous, "{at}");
    }
    let report = house.archive.verify().unwrap();
    assert!(report.is_whole() && report.unlisted.is_empty() && report.erased == 16 && report.events == 984);
    // Once more, and something else.
    let none = house.archive.erase(LATER_MS, |event| event.session.as_ref() == Some(&session)).unwrap();
    assert_eq!(none, Erased::default());
    let interaction = before[&560].interaction;
    assert!(house.archive.erase(LATER_MS + 1, |event| event.interaction == interaction).unwrap().events > 0);
    assert!(house.segment(5).erased.is_some_and(|erased| erased.count > 16 && erased.at_ms == LATER_MS + 1));
    // The archive goes on, and what was erased does not come back.
    append(&house.log, 2_000..2_100);
    assert_eq!(archive_all(&house.log, &house.archive), 100);
    let imported = house.log.import(&house.archive).unwrap();
    assert_eq!(imported.events, house.archive.verify().unwrap().events);
    assert!(in_log(&house.log).values().all(|event| event.session.as_ref() != Some(&session)));
    assert_eq!(house.log.first_position().unwrap(), 1);
    readable(&house.log);
}

#[test]
fn an_archive_of_which_everything_was_erased_stands_for_its_positions() {
    let house = House::archived(251);
    let erased = house.archive.erase(LATER_MS, |_| true).unwrap();
    assert_eq!((erased.events, erased.segments), (250, 3));
    let report = house.archive.verify().unwrap();
    assert!(report.is_whole());
    assert_eq!((report.events, report.erased, report.last_position), (0, 250, Some(250)));
    assert_eq!(house.archive.read(ArchiveFilter::default()).count(), 0);
    append(&house.log, 300..400);
    archive_all(&house.log, &house.archive);
    assert_eq!(in_both(&house.log, &house.archive).keys().copied().min(), Some(251));
    // Imported elsewhere, no position of it is given again.
    let erased = house.archive.erase(LATER_MS, |_| true).unwrap();
    assert_eq!(erased.events, 100);
    let other = House::new();
    assert_eq!(other.log.import(&house.archive).unwrap().events, 0);
    assert_eq!(other.log.last_position(), 350);
    assert_eq!(append(&other.log, 0..2), [351, 352]);
    assert_eq!(readable(&other.log).len(), 2);
}

#[test]
fn what_does_not_exist_has_nothing_to_erase_and_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::at(folder.path().join("archive"));
    assert_eq!(archive.erase(LATER_MS, |_| true).unwrap(), Erased::default());
    assert_eq!(archive.verify().unwrap(), verify::Report::default());
    assert_eq!(archive.read(ArchiveFilter::default()).count(), 0);
    assert_eq!(archive.size_bytes(), 0);
    assert!(!folder.path().join("archive").exists());
}

#[test]
fn whoever_reads_while_something_is_erased_gets_the_rest() {
    let house = House::archived(501);
    let mut events = house.archive.read(ArchiveFilter::default());
    let first: Vec<u64> = events.by_ref().take(150).map(|event| event.unwrap().position).collect();
    assert!(house.archive.erase(LATER_MS, |event| event.position.is_multiple_of(2)).unwrap().events == 250);
    let rest: Vec<u64> = events.map(|event| event.unwrap().position).collect();
    // The segment that was open is read as it was.
    assert!(first.into_iter().chain(rest).eq((1..=200).chain((201..=500).filter(|position| position % 2 == 1))));
}

#[test]
fn events_erased_from_the_archive_are_let_go_of_where_the_log_still_has_them() {
    let house = House::archived(301);
    assert_eq!(house.log.import(&house.archive).unwrap().events, 300);
    let erased = house.archive.erase(LATER_MS, |event| event.position.is_multiple_of(3)).unwrap();
    assert_eq!(erased.events, 100);
    assert_eq!(archive_all(&house.log, &house.archive), 300);
    assert_eq!(in_both(&house.log, &house.archive).len(), 201);
}
