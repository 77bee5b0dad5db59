//! What leaves the log, when, and what the log says afterwards.

use super::*;
use crate::{events::tests::all, sql::migrate};

const DAY_MS: u64 = 86_400_000;

#[test]
fn an_empty_log_and_one_event_stay_as_they_are() {
    let house = House::new();
    assert_eq!(archive_all(&house.log, &house.archive), 0);
    assert_eq!((house.log.first_position().unwrap(), house.log.last_position()), (1, 0));
    assert_eq!(house.archive.verify().unwrap().segments, 0);
    assert_eq!(append(&house.log, 0..1), [1]);
    assert_eq!(archive_all(&house.log, &house.archive), 0);
    assert_eq!(all(&house.log).len(), 1);
    // With a second one, the first may go.
    append(&house.log, 1..2);
    assert_eq!(archive_all(&house.log, &house.archive), 1);
    let segment = house.segment(0);
    assert_eq!((segment.count, segment.first_position, segment.last_position), (1, 1, 1));
    assert!(house.archive.verify().unwrap().is_whole());
}

#[test]
fn whoever_asks_for_what_is_archived_is_told_so() {
    let house = House::archived(301);
    let read = |position| house.log.read_after(position, 10, &EventFilter::default());
    for position in [0, 1, 150, 299] {
        let refused = read(position).unwrap_err();
        assert!(
            matches!(refused, StorageError::Archived { position: after, first_position: 301 } if after == position),
            "{refused:?}"
        );
        // Also where what is wanted is nowhere.
        let nobody = EventFilter { caller: Some("nobody".into()), ..EventFilter::default() };
        assert!(matches!(house.log.read_after(position, 10, &nobody), Err(StorageError::Archived { .. })));
    }
    let page = read(300).unwrap();
    assert_eq!((page.events.len(), page.through), (1, 301));
    assert_eq!((read(301).unwrap().events.len(), read(u64::MAX).unwrap().through), (0, u64::MAX));
    let newest = house.log.read_before(None, 10, &EventFilter::default()).unwrap();
    assert_eq!((newest.events.len(), newest.through, house.log.first_position().unwrap()), (1, 0, 301));
}

#[test]
fn no_further_than_allowed_and_not_without_a_limit() {
    let house = House::new();
    append(&house.log, 0..500);
    let unlimited = Retention::default();
    assert_eq!(house.log.archive_oldest(&house.archive, &unlimited, u64::MAX, LATER_MS).unwrap(), None);
    assert!(!house.path("manifest.json").exists());
    let once = |allowed| house.log.archive_oldest(&house.archive, &everything(), allowed, LATER_MS).unwrap();
    assert_eq!(once(0), None);
    let archived = once(42).unwrap();
    assert_eq!((archived.events, archived.through), (42, 42));
    assert_eq!(once(42), None);
    assert_eq!(once(43).unwrap().segment.unwrap().first_position, 43);
    let archived = once(1_000).unwrap();
    assert_eq!((archived.events, archived.through), (100, 143), "a segment at a time");
    assert_eq!(house.log.first_position().unwrap(), 144);
    // What came back goes only as far as is allowed, too.
    assert_eq!(house.log.import(&house.archive).unwrap().events, 143);
    assert_eq!(once(0), None);
    assert_eq!(once(20).unwrap().events, 20);
    assert_eq!(house.log.first_position().unwrap(), 21);
    assert_eq!(in_both(&house.log, &house.archive).len(), 500);
}

#[test]
fn by_age_old_events_go_whatever_single_ones_say_of_themselves() {
    let house = House::new();
    let day = i64::try_from(DAY_MS).unwrap();
    let times = (0..2_000).map(|number: i64| match number {
        // One from the future, one from long ago, and a time zone that was wrong for a while.
        700 => i64::MAX,
        1_500..1_503 => i64::MIN,
        900..940 => number * day / 100 + 30 * day,
        _ => number * day / 100,
    });
    let events: Vec<NewEvent> = (0..).zip(times).map(|(number, at_ms)| NewEvent { at_ms, ..varied(number) }).collect();
    for some in events.chunks(500) {
        Runtime::new().unwrap().block_on(house.log.append(some.to_vec())).unwrap();
    }
    let retention = Retention { age_ms: Some(5 * DAY_MS), ..everything() };
    let mut events = 0;
    while let Some(archived) = house.log.archive_oldest(&house.archive, &retention, u64::MAX, 20 * day).unwrap() {
        events += archived.events;
    }
    // A hundred a day: those of fifteen days, but for half a hundred that wait for their neighbours.
    assert!((1_445..=1_500).contains(&events), "{events}");
    let newest = in_archive(&house.archive).into_values().filter(|event| event.at_ms > 15 * day).count();
    assert_eq!(newest, 41);
    let nothing = Retention { age_ms: Some(u64::MAX), ..everything() };
    assert_eq!(house.log.archive_oldest(&house.archive, &nothing, u64::MAX, i64::MAX).unwrap(), None);
}

#[test]
fn by_size_as_many_go_as_make_room_and_the_room_is_used_again() {
    let house = House::new();
    let large = |number: u64| NewEvent { body: json!("x".repeat(900)).to_string().into_bytes(), ..varied(number) };
    let append = |numbers: std::ops::Range<u64>| {
        let events: Vec<NewEvent> = numbers.map(large).collect();
        for some in events.chunks(500) {
            Runtime::new().unwrap().block_on(house.log.append(some.to_vec())).unwrap();
        }
    };
    append(0..5_000);
    let used = house.log.used_bytes().unwrap();
    let once = |size_bytes| {
        let retention = Retention { age_ms: None, size_bytes: Some(size_bytes), events_min: 1 };
        house.log.archive_oldest(&house.archive, &retention, u64::MAX, LATER_MS).unwrap()
    };
    assert_eq!(once(used), None);
    let limit = used * 3 / 4;
    while once(limit).is_some() {}
    let left = house.log.used_bytes().unwrap();
    assert!(left <= limit && left > limit * 7 / 10, "{left} of {limit}");
    let gone = house.log.first_position().unwrap() - 1;
    assert!((1_000..2_000).contains(&gone), "{gone}");
    let pages = |log: &EventLog| {
        log.inner.database.read(|c| Ok(c.query_row("PRAGMA page_count", [], |row| row.get::<_, u64>(0))?))
    };
    let before = pages(&house.log).unwrap();
    append(5_000..6_000);
    assert_eq!(pages(&house.log).unwrap(), before, "the file grew although there was room in it");
}

#[test]
fn a_few_events_wait_for_company_but_not_for_ever() {
    let house = House::new();
    let retention = Retention { events_min: 50, ..everything() };
    let once = |now_ms| house.log.archive_oldest(&house.archive, &retention, u64::MAX, now_ms).unwrap();
    append(&house.log, 0..11);
    assert_eq!(once(LATER_MS).unwrap().events, 10, "there was no segment before");
    append(&house.log, 11..60);
    let day = i64::try_from(DAY_MS).unwrap();
    assert_eq!((once(LATER_MS), once(LATER_MS + day - 1)), (None, None));
    append(&house.log, 60..61);
    assert_eq!(once(LATER_MS).unwrap().events, 50);
    append(&house.log, 61..62);
    assert_eq!(once(LATER_MS + day).unwrap().events, 1);
}

#[test]
fn no_position_is_given_again_and_the_log_says_the_same_after_a_start() {
    let house = House::archived(301);
    house.log.close();
    let (log, archive) = open(house.folder.path(), 100);
    assert_eq!((log.last_position(), log.first_position().unwrap()), (301, 301));
    assert_eq!(append(&log, 301..303), [302, 303]);
    // Also where the newest event went as well, which nobody here does.
    let gone = rows::Positions { first: 302, last: 303 };
    log.inner.database.write_blocking(move |connection| rows::let_go(connection, gone, 10)).unwrap();
    assert_eq!(append(&log, 303..305), [304, 305]);
    let all = rows::Positions { first: 1, last: 305 };
    log.inner.database.write_blocking(move |connection| rows::let_go(connection, all, 1_000)).unwrap();
    assert_eq!(in_log(&log).len(), 0);
    log.close();
    let (log, _) = open(house.folder.path(), 100);
    assert_eq!((log.last_position(), log.first_position().unwrap()), (305, 306));
    assert_eq!(
        (log.read_after(305, 9, &EventFilter::default()).unwrap().through, append(&log, 305..306)),
        (305, vec![306])
    );
    assert_eq!(archive.manifest().unwrap().last_position(), Some(300));
    // The archive does not know of 301 to 305.
    append(&log, 306..400);
    let refused = log.archive_oldest(&archive, &everything(), u64::MAX, LATER_MS).unwrap_err();
    assert!(matches!(refused, ArchiveError::Apart { archive_last: 300, log_first: 306 }), "{refused:?}");
    log.close();
}

#[test]
fn an_older_copy_of_the_log_is_told_from_the_log_that_was_archived() {
    let house = House::new();
    append(&house.log, 0..200);
    house.log.close();
    let copies = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for copy in &copies {
        std::fs::copy(house.folder.path().join("events.db"), copy.path().join("events.db")).unwrap();
    }
    let (log, archive) = open(house.folder.path(), 100);
    append(&log, 200..401);
    archive_all(&log, &archive);
    log.close();
    // The copy ends before the archive does.
    let (older, _) = open(copies[0].path(), 100);
    let once = |log: &EventLog| log.archive_oldest(&archive, &everything(), u64::MAX, LATER_MS);
    let refused = once(&older).unwrap_err();
    assert!(matches!(refused, ArchiveError::OtherLog { archive_last: 400, log_last: 200 }), "{refused:?}");
    // It went on with other events.
    append(&older, 1_000..1_300);
    assert_eq!(once(&older).unwrap().unwrap().events, 100, "the same events, so they may go");
    assert_eq!(once(&older).unwrap().unwrap().events, 100);
    let refused = once(&older).unwrap_err();
    assert!(matches!(refused, ArchiveError::Taken { position: 201 }), "{refused:?}");
    assert_eq!(in_log(&older).len(), 300);
    older.close();
    // It went on with the same ones.
    let (older, _) = open(copies[1].path(), 100);
    append(&older, 200..450);
    let whole = in_log(&older);
    assert_eq!(archive_all(&older, &archive), 449);
    assert_eq!(in_both(&older, &archive), whole);
    older.close();
}

#[test]
fn names_of_sessions_go_with_their_last_event_and_others_stay() {
    let house = House::new();
    let of = |number: u64, session: &str| NewEvent { session: Some(session.into()), ..event(number) };
    let given = vec![
        of(0, "ses_gone"),
        of(1, "ses_there"),
        // Words that mean something else, too.
        of(2, "thing_happened"),
        of(3, "default"),
        of(4, "key_1"),
        of(5, "ses_later_a_caller"),
        of(6, "ses_there"),
        NewEvent { caller: "ses_later_a_caller".into(), ..of(7, "ses_there") },
    ];
    Runtime::new().unwrap().block_on(house.log.append(given)).unwrap();
    let names = || {
        house.log.inner.database.read(|connection| {
            let mut statement = connection.prepare("SELECT name FROM names ORDER BY name")?;
            let names: Result<Vec<String>, _> = statement.query_map([], |row| row.get(0))?.collect();
            Ok(names?)
        })
    };
    let whole = in_log(&house.log);
    let kept = ["default", "key_1", "ses_later_a_caller", "ses_there", "thing_happened"];
    assert_eq!(archive_all(&house.log, &house.archive), 7);
    assert_eq!(names().unwrap(), kept);
    assert_eq!(in_both(&house.log, &house.archive), whole);
    assert_eq!(house.log.import(&house.archive).unwrap().events, 7);
    assert_eq!(in_log(&house.log), whole);
    assert_eq!(names().unwrap().len(), kept.len() + 1);
}

#[test]
fn a_log_of_the_former_schema_keeps_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.db");
    migrate::EVENTS.bring_to(&path, 1).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "INSERT INTO names VALUES (1, 'kind'), (2, 'ses_1');
             INSERT INTO events VALUES (1, x'00000000000000000000000000000001', 1, 1, 1, 1, 2, NULL, 5, x'31'),
                                       (2, x'00000000000000000000000000000002', 2, 1, 1, 1, NULL, NULL, 6, x'32');",
        )
        .unwrap();
    drop(connection);
    let (log, archive) = open(folder.path(), 100);
    let whole = in_log(&log);
    assert_eq!(archive_all(&log, &archive), 1);
    assert_eq!((in_both(&log, &archive), whole.len()), (whole, 2));
    assert_eq!(append(&log, 0..1), [3]);
    log.close();
}

#[test]
fn much_room_is_given_back_and_a_file_that_cannot_is_used_again() {
    for is_of_a_former_version in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.db");
        if is_of_a_former_version {
            let mut connection = rusqlite::Connection::open(&path).unwrap();
            migrate::EVENTS.up(&mut connection, 1).unwrap();
        }
        let (log, archive) = open(folder.path(), 2_000);
        let large = |number: u64| NewEvent { body: vec![b'x'; 10_000], ..varied(number) };
        let runtime = Runtime::new().unwrap();
        for first in (0..5_000).step_by(500) {
            runtime.block_on(log.append((first..first + 500).map(large).collect())).unwrap();
        }
        let whole = in_log(&log);
        assert_eq!(archive_all(&log, &archive), 4_999);
        assert_eq!(in_both(&log, &archive), whole);
        assert_eq!(log.integrity().unwrap(), Vec::<String>::new());
        assert!(log.used_bytes().unwrap() < 1 << 20);
        log.close();
        let size_bytes = std::fs::metadata(&path).unwrap().len();
        // What the next events take up stays.
        let expected = if is_of_a_former_version { 40 << 20..90 << 20 } else { 10 << 20..20 << 20 };
        assert!(expected.contains(&size_bytes), "{size_bytes}");
    }
}
