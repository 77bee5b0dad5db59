//! Processes that end in the middle, and disks that take no more.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{steps::END_AT, *};

const KILLS: usize = 30;
/// What a child archives at a time.
const SEGMENT: u64 = 700;

/// After whatever end: every event is somewhere, what is in both places is the same, and going on leaves each in one.
fn assert_nothing_is_missing(folder: &Path, acknowledged: &HashMap<u64, u64>, what: &str) {
    let (log, archive) = open(folder, SEGMENT);
    let before = in_both(&log, &archive);
    for (position, number) in acknowledged {
        assert!(before.get(position).is_some_and(|event| is_of(event, *number)), "{what}: position {position}");
    }
    let last = log.last_position();
    assert!(before.keys().copied().eq(1..=last), "{what}: positions are missing");
    archive_all(&log, &archive);
    let (archived, logged) = (in_archive(&archive), in_log(&log));
    assert!(archived.keys().all(|position| !logged.contains_key(position)), "{what}: events are in both places");
    assert_eq!(in_both(&log, &archive), before, "{what}");
    assert_eq!(log.first_position().unwrap(), last, "{what}");
    let names = archive.folder.names().unwrap();
    let segments = archive.manifest().unwrap().segments().len();
    assert_eq!(names.len(), segments + 2, "{what}: besides segments, the manifest and the lock there is {names:?}");
    log.close();
}

fn ended(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

#[test]
fn an_end_at_any_step_leaves_every_event_somewhere_and_the_next_run_goes_on() {
    let steps = [
        "SegmentBegun:1",
        "SegmentWritten:1",
        "SegmentNamed:1",
        "ManifestWritten:1",
        "ManifestWritten:2",
        "ManifestNamed:1",
        "RowsRemoved:1",
        "SegmentBegun:5",
        "SegmentWritten:2",
        "SegmentNamed:2",
        "ManifestWritten:3",
        "ManifestNamed:2",
        "RowsRemoved:3",
    ];
    for step in steps {
        let folder = tempfile::tempdir().unwrap();
        let (log, archive) = open(folder.path(), SEGMENT);
        let positions = append(&log, 0..2_000);
        // Something to begin with in some cases: an archive that exists is not made anew.
        if step.ends_with('1') {
            let once = log.archive_oldest(&archive, &everything(), 300, LATER_MS).unwrap();
            assert_eq!(once.map(|archived| archived.events), Some(300));
        }
        log.close();
        drop(log);
        let mut process = child("events::archive::tests::crash::archiving_child", folder.path(), &[]);
        let status = process.env(END_AT, step).output().unwrap().status;
        assert!(ended(status), "{step}: the child did not end there: {status}");
        let acknowledged = positions.into_iter().zip(0..).collect();
        assert_nothing_is_missing(folder.path(), &acknowledged, step);
    }
}

#[test]
fn archiving_child() {
    let Some(folder) = directory_given() else { return };
    let (log, archive) = open(&folder, SEGMENT);
    archive_all(&log, &archive);
    log.close();
}

#[test]
fn a_kill_at_any_moment_leaves_every_event_somewhere_and_the_next_run_goes_on() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: HashMap<u64, u64> = HashMap::new();
    for kill in 0..KILLS {
        let mut process = child("events::archive::tests::crash::busy_child", folder.path(), &[]).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut note = |line: &str| {
            let mut words = line.split(' ');
            let ["acknowledged", position, number, "."] = [(); 4].map(|()| words.next().unwrap_or_default()) else {
                return false;
            };
            acknowledged.insert(position.parse().unwrap(), number.parse().unwrap()).is_none()
        };
        let mut left = random.usize(1..2_000);
        while left > 0 {
            left -= usize::from(note(&lines.next().expect("it ended early").unwrap()));
        }
        for _ in 0..random.u32(0..20_000_000) {
            std::hint::spin_loop();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        for line in lines {
            note(&line.unwrap());
        }
        let what = format!("seed {seed}, kill {kill}");
        if random.bool() {
            assert_nothing_is_missing(folder.path(), &acknowledged, &what);
        } else {
            // The next child goes on with what is there.
            let (log, archive) = open(folder.path(), SEGMENT);
            let before = in_both(&log, &archive);
            assert!(before.keys().copied().eq(1..=log.last_position()), "{what}");
            log.close();
        }
    }
    assert_nothing_is_missing(folder.path(), &acknowledged, &format!("seed {seed}"));
    assert!(acknowledged.len() > KILLS);
}

#[test]
fn busy_child() {
    let Some(folder) = directory_given() else { return };
    let (log, archive) = open(&folder, SEGMENT);
    let archiving = {
        let (log, archive) = (log.clone(), archive.clone());
        std::thread::spawn(move || {
            loop {
                let archived = log.archive_oldest(&archive, &everything(), u64::MAX, LATER_MS).unwrap();
                assert!(archived.is_none_or(|archived| archived.through > 0));
            }
        })
    };
    let runtime = Runtime::new().unwrap();
    let mut number = log.last_position();
    // Ends with the kill, or where nobody listens any more.
    while !archiving.is_finished() {
        let events = (number..number + 100).map(varied).collect();
        let positions = runtime.block_on(log.append(events)).unwrap();
        let mut stdout = std::io::stdout().lock();
        for position in positions {
            writeln!(stdout, "acknowledged {position} {number} .").unwrap();
            number += 1;
        }
        stdout.flush().unwrap();
    }
    archiving.join().unwrap();
}

#[test]
fn an_end_while_events_are_erased_or_imported_is_made_good_by_doing_it_again() {
    for step in [
        "SegmentBegun:1",
        "SegmentWritten:1",
        "SegmentNamed:1",
        "ManifestWritten:1",
        "SegmentReplaced:1",
        "SegmentWritten:3",
        "SegmentReplaced:2",
    ] {
        let house = House::archived(2_001);
        let before = in_archive(&house.archive);
        let mut process = child("events::archive::tests::crash::erasing_child", house.folder.path(), &[]);
        let status = process.env(END_AT, step).output().unwrap().status;
        assert!(ended(status), "{step}: {status}");
        let kept = |event: &Event| &*event.caller != "key_2";
        let middle = in_both(&house.log, &house.archive);
        assert!(before.values().filter(|event| kept(event)).all(|event| middle.get(&event.position) == Some(event)));
        let erased = house.archive.erase(LATER_MS, |event| !kept(event)).unwrap();
        assert!(erased.refused.is_empty());
        let after = in_archive(&house.archive);
        assert!(after.values().eq(before.values().filter(|event| kept(event))), "{step}");
        assert_eq!(house.archive.verify().unwrap().unlisted, Vec::<String>::new(), "{step}");
    }
    for step in ["RowsImported:1", "RowsImported:3", "RowsImported:5"] {
        let house = House::archived(2_001);
        let other = tempfile::tempdir().unwrap();
        let mut process = child("events::archive::tests::crash::importing_child", other.path(), &[]);
        process.env("HOLDFAST_TEST_ARCHIVE", house.folder.path().join("archive"));
        let status = process.env(END_AT, step).output().unwrap().status;
        assert!(ended(status), "{step}: {status}");
        let (log, _) = open(other.path(), 100);
        assert_eq!(log.last_position(), 2_000, "{step}");
        let imported = log.import(&house.archive).unwrap();
        assert!(imported.present > 0 && imported.events > 0, "{step}: {imported:?}");
        assert_eq!(in_log(&log), in_archive(&house.archive), "{step}");
        assert_eq!((log.first_position().unwrap(), append(&log, 0..1)), (1, vec![2_001]));
        log.close();
    }
}

#[test]
fn erasing_child() {
    let Some(folder) = directory_given() else { return };
    let archive = small(&folder.join("archive"), 100);
    assert!(archive.erase(LATER_MS, |event| &*event.caller == "key_2").unwrap().events > 0);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "set by the parent test for its child alone")]
fn importing_child() {
    let Some(folder) = directory_given() else { return };
    let archive = Archive::at(std::env::var_os("HOLDFAST_TEST_ARCHIVE").unwrap());
    let (log, _) = open(&folder, 100);
    assert!(log.import(&archive).unwrap().events > 0);
}

#[test]
fn a_full_disk_leaves_log_and_archive_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    // A file that may not grow answers as a full disk does, if its signal is ignored.
    let ignoring = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
    let output = child("events::archive::tests::crash::full_disk_child", folder.path(), &ignoring).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("went on by itself"), "{said}");
    let acknowledged = (1..=3_000).zip(0..).collect();
    assert_nothing_is_missing(folder.path(), &acknowledged, "after a full disk");
}

#[test]
fn full_disk_child() {
    let Some(folder) = directory_given() else { return };
    let limit = |bytes| {
        let maximum = getrlimit(Resource::Fsize).maximum;
        setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).unwrap();
    };
    let (log, archive) = open(&folder, SEGMENT);
    append(&log, 0..3_000);
    let before = in_log(&log);
    let once = || log.archive_oldest(&archive, &everything(), u64::MAX, LATER_MS);
    // Not even a manifest; not even a small segment; a segment and no longer a manifest.
    for bytes in [0, 1_000] {
        limit(Some(bytes));
        let error = once().unwrap_err();
        assert!(matches!(&error, ArchiveError::Storage(StorageError::File { .. })), "{error:?}");
        assert_eq!(error.code(), "storage");
        limit(None);
        assert_eq!(in_log(&log), before);
        assert_eq!((archive.manifest().unwrap(), log.first_position().unwrap()), (Manifest::default(), 1));
        assert!(archive.folder.names().unwrap().iter().all(|name| name == "lock" || name == "manifest.json"));
    }
    // The archive can be written, the database's own log cannot grow.
    limit(Some(fs::metadata(folder.join("events.db-wal")).unwrap().len().min(200_000)));
    let mut failed = None;
    for _ in 0..20 {
        failed = failed.or_else(|| once().err());
    }
    let error = failed.expect("the database could be written all the same");
    assert!(matches!(&error, ArchiveError::Storage(error) if error.is_transient()), "{error:?}");
    assert_eq!(in_both(&log, &archive), before);
    limit(None);
    while once().unwrap().is_some() {}
    assert_eq!((in_both(&log, &archive), log.first_position().unwrap()), (before, 3_000));
    println!("went on by itself");
    log.close();
}
