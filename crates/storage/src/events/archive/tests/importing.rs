//! Events that come back.

use super::*;

#[test]
fn what_was_archived_comes_back_to_where_it_was_and_twice_is_as_once() {
    let house = House::archived(1_234);
    let whole = in_both(&house.log, &house.archive);
    assert_eq!((house.log.first_position().unwrap(), in_log(&house.log).len()), (1_234, 1));
    let imported = house.log.import(&house.archive).unwrap();
    assert_eq!((imported.events, imported.present, imported.refused.len()), (1_233, 0, 0));
    assert_eq!((in_log(&house.log), house.log.first_position().unwrap()), (whole.clone(), 1));
    assert_eq!(readable(&house.log), whole.values().cloned().collect::<Vec<_>>());
    let again = house.log.import(&house.archive).unwrap();
    assert_eq!((again.events, again.present), (0, 1_233));
    assert_eq!(in_log(&house.log), whole);
    // It is found by whatever it was found by.
    let session = EventFilter { session: whole[&2].session.as_deref().map(Into::into), ..EventFilter::default() };
    assert_eq!(house.log.read_after(0, 1_000, &session).unwrap().events.len(), 16);
    let interaction = whole[&3].interaction.unwrap();
    assert_eq!(house.log.of_interaction(interaction, &EventFilter::default()).unwrap().len(), 2);
    assert_eq!(append(&house.log, 5_000..5_001), [1_235]);
    // And it goes again, without a new segment for it.
    let segments = house.archive.manifest().unwrap().segments().len();
    let all = in_log(&house.log);
    assert_eq!(archive_all(&house.log, &house.archive), 1_234);
    assert_eq!(house.archive.manifest().unwrap().segments().len(), segments + 1);
    assert_eq!(in_both(&house.log, &house.archive), all);
}

#[test]
fn an_empty_log_takes_an_archive_and_goes_on_behind_it() {
    let house = House::archived(777);
    let other = House::new();
    let mut positions = other.log.positions();
    let imported = other.log.import(&house.archive).unwrap();
    assert_eq!((imported.events, imported.refused.len()), (776, 0));
    assert_eq!(in_log(&other.log), in_archive(&house.archive));
    assert_eq!((*positions.borrow_and_update(), other.log.last_position()), (776, 776));
    assert_eq!(append(&other.log, 9_000..9_003), [777, 778, 779]);
    assert_eq!((readable(&other.log).len(), other.log.first_position().unwrap()), (779, 1));
    // It can be archived there, too.
    assert_eq!(archive_all(&other.log, &other.archive), 778);
    assert_eq!(in_archive(&other.archive).len(), 778);
    assert!(
        in_archive(&house.archive).into_iter().all(|(position, event)| in_archive(&other.archive)[&position] == event)
    );
}

#[test]
fn an_archive_that_begins_late_leaves_room_before_it() {
    let house = House::archived(301);
    let late = House::new();
    // As where the archive was begun anew in another folder.
    append(&house.log, 301..601);
    archive_all(&house.log, &late.archive);
    assert_eq!(late.archive.manifest().unwrap().first_position(), Some(301));
    let other = House::new();
    assert_eq!(other.log.import(&late.archive).unwrap().events, 300);
    assert_eq!(other.log.first_position().unwrap(), 301);
    let refused = other.log.read_after(0, 10, &EventFilter::default()).unwrap_err();
    assert!(matches!(refused, StorageError::Archived { position: 0, first_position: 301 }), "{refused:?}");
    assert_eq!(other.log.import(&house.archive).unwrap().events, 300);
    assert_eq!((other.log.first_position().unwrap(), in_log(&other.log).len()), (1, 600));
}

#[test]
fn an_archive_of_another_log_changes_nothing() {
    let house = House::archived(301);
    let other = House::new();
    append(&other.log, 5_000..5_010);
    let before = in_log(&other.log);
    let refused = other.log.import(&house.archive).unwrap_err();
    assert!(matches!(refused, ArchiveError::Taken { position: 1 }), "{refused:?}");
    // The same events so far, and then none: those behind the end were never let go of.
    let same = House::new();
    append(&same.log, 0..150);
    let refused = same.log.import(&house.archive).unwrap_err();
    assert!(matches!(refused, ArchiveError::Outside { position: 151 }), "{refused:?}");
    assert_eq!((in_log(&other.log), in_log(&same.log).len()), (before, 150));
    assert_eq!((other.log.first_position().unwrap(), other.log.last_position()), (1, 10));
}

#[test]
fn where_the_newest_segment_is_damaged_its_positions_are_not_given_again() {
    let house = House::archived(301);
    std::fs::remove_file(house.path(&house.segment(2).name)).unwrap();
    let other = House::new();
    let imported = other.log.import(&house.archive).unwrap();
    assert_eq!((imported.events, imported.refused.len()), (200, 1));
    assert_eq!((other.log.last_position(), other.log.first_position().unwrap()), (300, 301));
    assert_eq!(append(&other.log, 0..1), [301]);
    assert_eq!(readable(&other.log).len(), 201);
    other.log.close();
    let (log, _) = open(other.folder.path(), 100);
    assert_eq!((log.last_position(), append(&log, 1..2)), (301, vec![302]));
    log.close();
}

#[test]
fn nothing_of_an_archive_that_is_damaged_everywhere_reaches_an_empty_log() {
    let house = House::archived(301);
    for at in 0..3 {
        std::fs::write(house.path(&house.segment(at).name), b"x").unwrap();
    }
    let other = House::new();
    let imported = other.log.import(&house.archive).unwrap();
    assert_eq!((imported.events, imported.refused.len(), other.log.last_position()), (0, 3, 0));
    assert_eq!(append(&other.log, 0..1), [1]);
}

#[test]
fn a_log_that_was_lost_is_begun_with_what_its_archive_has() {
    let house = House::archived(301);
    house.log.close();
    for file in ["events.db", "events.db-wal", "events.db-shm"] {
        let _ = std::fs::remove_file(house.folder.path().join(file));
    }
    let (log, archive) = open(house.folder.path(), 100);
    let once = || log.archive_oldest(&archive, &everything(), u64::MAX, LATER_MS);
    assert!(matches!(once(), Err(ArchiveError::OtherLog { archive_last: 300, log_last: 0 })));
    assert_eq!(log.import(&archive).unwrap().events, 300);
    assert_eq!(archive_all(&log, &archive), 299);
    assert_eq!((in_both(&log, &archive).len(), append(&log, 301..303)), (300, vec![301, 302]));
    assert_eq!((archive_all(&log, &archive), archive.verify().unwrap().events), (2, 301));
    log.close();
}
