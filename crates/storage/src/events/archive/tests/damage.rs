//! Segments and manifests that somebody, or a disk, has changed.

use std::{fs, os::unix::fs::symlink};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use super::*;

/// What the archive says of itself after a change: the fault of its only damaged segment.
fn fault(house: &House) -> SegmentFault {
    let report = house.archive.verify().unwrap();
    assert!(!report.is_whole());
    let [refused] = report.damaged.as_slice() else { panic!("{report:?}") };
    assert_eq!(refused.segment, house.segment(1).name);
    refused.fault.clone()
}

/// Whether reading, importing and erasing leave a damaged segment alone, and use the others.
fn assert_is_left_alone(house: &House, what: &str) {
    let events: Vec<_> = house.archive.read(ArchiveFilter::default()).collect();
    assert!(matches!(events.last(), Some(Err(ArchiveError::Segment { .. }))), "{what}");
    assert_eq!(events.iter().filter(|event| event.is_ok()).count(), 100, "{what}");
    let report = house.archive.verify().unwrap();
    let imported = house.log.import(&house.archive).unwrap();
    assert_eq!((imported.events, &imported.refused), (200, &report.damaged), "{what}");
    // What is still missing is told of, and what is there can be read.
    assert_eq!(house.log.first_position().unwrap(), 201, "{what}");
    let there: Vec<u64> = readable(&house.log).iter().map(|event| event.position).collect();
    assert!(there.iter().copied().eq((1..=100).chain(201..=301)), "{what}: {there:?}");
    let manifest = house.archive.manifest().unwrap();
    let erased = house.archive.erase(LATER_MS, |event| event.position == 150).unwrap();
    assert_eq!((erased.events, &erased.refused), (0, &report.damaged), "{what}");
    assert_eq!(house.archive.manifest().unwrap(), manifest, "{what}");
}

#[test]
fn a_segment_that_was_changed_is_found_and_refused_as_a_whole() {
    type Change = fn(&Path);
    type IsExpected = fn(&SegmentFault) -> bool;
    let changes: [(&str, Change, IsExpected); 8] = [
        ("gone", |path| fs::remove_file(path).unwrap(), |fault| *fault == SegmentFault::Missing),
        ("cut", |path| cut(path, 10), |fault| matches!(fault, SegmentFault::Size { .. })),
        ("empty", |path| fs::write(path, b"").unwrap(), |fault| matches!(fault, SegmentFault::Size { .. })),
        ("longer", |path| lengthen(path), |fault| matches!(fault, SegmentFault::Size { .. })),
        ("one bit", |path| flip(path, 1, 2), |fault| *fault == SegmentFault::FileHash),
        ("last byte", |path| flip(path, 1, 1), |fault| *fault == SegmentFault::FileHash),
        (
            "a link",
            |path| {
                let aside = path.with_extension("aside");
                fs::rename(path, &aside).unwrap();
                symlink(aside, path).unwrap();
            },
            |fault| *fault == SegmentFault::NotAFile,
        ),
        (
            "a pipe",
            |path| {
                fs::remove_file(path).unwrap();
                mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            },
            |fault| *fault == SegmentFault::NotAFile,
        ),
    ];
    for (what, change, is_expected) in changes {
        let house = House::archived(301);
        change(&house.path(&house.segment(1).name));
        let fault = fault(&house);
        assert!(is_expected(&fault), "{what}: {fault:?}");
        assert_is_left_alone(&house, what);
    }
}

fn cut(path: &Path, bytes: usize) {
    let content = fs::read(path).unwrap();
    fs::write(path, &content[..content.len() - bytes]).unwrap();
}

fn lengthen(path: &Path) {
    let content = fs::read(path).unwrap();
    fs::write(path, [content.as_slice(), b"\0"].concat()).unwrap();
}

fn flip(path: &Path, numerator: usize, denominator: usize) {
    let mut content = fs::read(path).unwrap();
    let at = (content.len() * numerator / denominator).min(content.len() - 1);
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}

#[test]
fn exchanged_segments_are_found() {
    let house = House::archived(301);
    let (first, second) = (house.path(&house.segment(0).name), house.path(&house.segment(1).name));
    let aside = house.path("aside");
    fs::rename(&first, &aside).unwrap();
    fs::rename(&second, &first).unwrap();
    fs::rename(&aside, &second).unwrap();
    let report = house.archive.verify().unwrap();
    assert_eq!(report.damaged.len(), 2);
    let imported = house.log.import(&house.archive).unwrap();
    assert_eq!((imported.events, imported.refused.len()), (100, 2));
}

/// Changes the manifest as JSON, and says what is then said of it.
fn with_manifest(change: impl Fn(&mut Value)) -> ArchiveError {
    let house = House::archived(301);
    let path = house.path("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(&path, manifest.to_string()).unwrap();
    let error = house.archive.verify().unwrap_err();
    assert_eq!(house.archive.read(ArchiveFilter::default()).next().unwrap().unwrap_err().code(), error.code());
    assert_eq!(house.log.import(&house.archive).unwrap_err().code(), error.code());
    assert_eq!(house.archive.erase(LATER_MS, |_| true).unwrap_err().code(), error.code());
    append(&house.log, 400..500);
    let refused = house.log.archive_oldest(&house.archive, &everything(), u64::MAX, LATER_MS).unwrap_err();
    assert_eq!(refused.code(), error.code());
    assert_eq!(in_log(&house.log).len(), 101);
    error
}

#[test]
fn a_manifest_that_was_changed_is_refused() {
    let changes: [fn(&mut Value); 17] = [
        |manifest| manifest["segments"][0]["erased"] = serde_json::json!({ "count": u64::MAX, "at_ms": 1 }),
        // Told anew with other space it would still be right, so something has to differ.
        |manifest| manifest["segments"].as_array_mut().unwrap().swap(0, 1),
        |manifest| drop(manifest["segments"].as_array_mut().unwrap().remove(1)),
        |manifest| drop(manifest["segments"].as_array_mut().unwrap().pop()),
        |manifest| drop(manifest["segments"].as_array_mut().unwrap().remove(0)),
        |manifest| manifest["segments"][1]["file_blake3"] = "0".repeat(64).into(),
        |manifest| manifest["segments"][1]["previous"] = Value::Null,
        |manifest| manifest["segments"][1]["count"] = 99.into(),
        |manifest| manifest["segments"][2]["created_at_ms"] = 1.into(),
        |manifest| manifest["segments"][0]["unknown"] = 1.into(),
        |manifest| manifest["segments"][0]["last_position"] = u64::MAX.into(),
        |manifest| manifest["segments"][0]["first_position"] = 0.into(),
        |manifest| manifest["segments"][0]["raw_bytes"] = (-1).into(),
        |manifest| manifest["head"] = Value::Null,
        |manifest| manifest["format"] = "something".into(),
        |manifest| manifest["version"] = "1".into(),
        |manifest| *manifest = Value::Array(Vec::new()),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let error = with_manifest(change);
        assert!(matches!(error, ArchiveError::Manifest { .. }), "{number}: {error:?}");
    }
}

#[test]
fn a_newer_manifest_is_refused_whatever_else_it_has() {
    let error = with_manifest(|manifest| {
        manifest["version"] = 2.into();
        manifest["segments"] = "elsewhere".into();
        manifest["new"] = true.into();
    });
    assert!(matches!(error, ArchiveError::Newer { found: 2, known: 1 }), "{error:?}");
    assert_eq!(error.to_string(), "the archive has format 2, this program knows 1");
}

#[test]
fn no_name_in_a_manifest_leads_anywhere_else() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    let outside = secret.path().to_str().unwrap();
    let first = "00000000000000000001";
    let names = [
        "../events.db".to_owned(),
        outside.to_owned(),
        String::new(),
        "..".to_owned(),
        "lock".to_owned(),
        "manifest.json".to_owned(),
        format!("events-{first}-{first}.1.jsonl.zst"),
        format!("../archive/events-{first}-00000000000000000100.1.jsonl.zst"),
        format!("events-{first}-00000000000000000100.1.jsonl.zst/../../x"),
        format!("events-{first}-00000000000000000100.0.jsonl.zst"),
        format!("events-{first}-00000000000000000100.01.jsonl.zst"),
        format!("events-{first}-00000000000000000100.+1.jsonl.zst"),
        "events-1-100.1.jsonl.zst".to_owned(),
        format!("events-{first}-00000000000000000100.1.jsonl.zst\0"),
        format!("events-{first}-00000000000000000100.1.jsonl.zst.tmp"),
    ];
    for name in names {
        let house = House::archived(301);
        let mut segments = house.archive.manifest().unwrap().segments().to_vec();
        segments[0].name.clone_from(&name);
        // The chain is made right again, as whoever changes a name on purpose does.
        let mut manifest = Manifest::default();
        for segment in segments {
            manifest.push(segment).unwrap();
        }
        let refused = manifest.save(&house.archive.folder).unwrap_err();
        assert!(
            matches!(&refused, ArchiveError::Manifest { problem } if problem.contains("name")),
            "{name}: {refused:?}"
        );
        assert!(matches!(house.archive.verify(), Err(ArchiveError::Manifest { .. })), "{name}");
        assert!(matches!(house.log.import(&house.archive), Err(ArchiveError::Manifest { .. })), "{name}");
    }
}

/// An archive whose manifest is right about hashes and whatever else can be seen from outside, and whose lines are these.
fn forged(lines: &[u8], change: impl Fn(&mut Segment)) -> House {
    let house = House::archived(301);
    let mut segments = house.archive.manifest().unwrap().segments().to_vec();
    let file = zstd::encode_all(lines, 1).unwrap();
    fs::write(house.path(&segments[1].name), &file).unwrap();
    let segment = &mut segments[1];
    segment.file_bytes = file.len() as u64;
    segment.file_blake3 = blake3::hash(&file).to_hex().to_string();
    segment.raw_bytes = lines.len() as u64;
    segment.raw_blake3 = blake3::hash(lines).to_hex().to_string();
    change(segment);
    let mut manifest = Manifest::default();
    for segment in segments {
        manifest.push(segment).unwrap();
    }
    manifest.save(&house.archive.folder).unwrap();
    house
}

#[test]
fn lines_that_are_not_what_the_manifest_says_are_refused_also_where_their_hash_is_right() {
    let right = {
        let house = House::archived(301);
        zstd::decode_all(fs::File::open(house.path(&house.segment(1).name)).unwrap()).unwrap()
    };
    let lines: Vec<&[u8]> = right.split_inclusive(|byte| *byte == b'\n').collect();
    let line_of = |position: u64| {
        let line = format!(
            r#"{{"position":{position},"id":"00000000-0000-0000-0000-000000000001","kind":"turn_started","version":1,"tenant":"t","caller":"c","at_ms":150,"body":1}}"#
        );
        [line.as_bytes(), b"\n"].concat()
    };
    let with = |at: usize, line: &[u8]| {
        let mut lines = lines.clone();
        lines[at] = line;
        lines.concat()
    };
    assert!(forged(&right, |_| {}).archive.verify().unwrap().is_whole());
    let cases: [(&str, Vec<u8>); 11] = [
        ("nothing", Vec::new()),
        ("one fewer", lines[1..].concat()),
        (
            "the order of two",
            [lines[1], lines[0]].into_iter().chain(lines[2..].iter().copied()).collect::<Vec<_>>().concat(),
        ),
        ("one twice", with(1, lines[0])),
        ("a position of another segment", with(0, &line_of(1))),
        ("a position that there is not", with(99, &line_of(u64::MAX))),
        ("no end", right[..right.len() - 1].to_vec()),
        ("an empty line", with(3, b"\n")),
        ("no JSON", with(3, b"{\"position\":104\n")),
        (
            "invalid UTF-8",
            with(3, &line_of(104).iter().map(|byte| if *byte == b't' { 0xff } else { *byte }).collect::<Vec<_>>()),
        ),
        ("another field", with(3, &[&line_of(104)[..line_of(104).len() - 2], b",\"x\":1}\n"].concat())),
    ];
    for (what, lines) in cases {
        let house = forged(&lines, |_| {});
        let fault = fault(&house);
        assert!(matches!(fault, SegmentFault::Lines { .. } | SegmentFault::Line { .. }), "{what}: {fault:?}");
        assert_eq!(fault.code(), "archive_segment_unreadable");
        let imported = house.log.import(&house.archive).unwrap();
        assert_eq!((imported.events, imported.refused.len()), (200, 1), "{what}");
    }
    let other = forged(&right, |segment| segment.earliest_at_ms = Some(7));
    assert!(matches!(fault(&other), SegmentFault::Lines { .. }));
    let other = forged(&right, |segment| {
        let some = segment.kinds.remove("turn_started").unwrap();
        segment.kinds.insert("turn_begun".into(), some);
    });
    assert!(matches!(fault(&other), SegmentFault::Lines { .. }));
}

#[test]
fn what_is_small_and_unpacks_without_end_is_refused_early() {
    let zeros = vec![b'0'; 256 << 20];
    let endless = forged(&zeros, |_| {});
    assert!(matches!(fault(&endless), SegmentFault::Line { number: 1, problem: "it is too long" }));
    let longer = forged(&zeros, |segment| segment.raw_bytes = 1_000);
    assert!(matches!(fault(&longer), SegmentFault::Lines { what: "they are longer" }));
    let none = forged(&[], |_| {});
    fs::write(none.path(&none.segment(1).name), vec![0x55; none.segment(1).file_bytes as usize]).unwrap();
    assert_eq!(fault(&none), SegmentFault::FileHash);
    // Right by its hash, and no zstd at all.
    let house = House::archived(301);
    let mut segments = house.archive.manifest().unwrap().segments().to_vec();
    fs::write(house.path(&segments[1].name), [0x55; 64]).unwrap();
    (segments[1].file_bytes, segments[1].file_blake3) = (64, blake3::hash(&[0x55; 64]).to_hex().to_string());
    let mut manifest = Manifest::default();
    segments.into_iter().for_each(|segment| manifest.push(segment).unwrap());
    manifest.save(&house.archive.folder).unwrap();
    assert_eq!(fault(&house), SegmentFault::Compression);
}

#[test]
fn events_that_no_log_takes_are_not_imported() {
    let lines = [101, 102].map(|position| {
        format!(
            "{{\"position\":{position},\"id\":\"00000000-0000-0000-0000-000000000001\",\"kind\":\"Not a word\",\"version\":1,\"tenant\":\"\",\"caller\":\"c\",\"at_ms\":5,\"body\":1}}\n"
        )
    });
    let house = forged(lines.concat().as_bytes(), |segment| {
        (segment.count, segment.earliest_at_ms, segment.latest_at_ms) = (2, Some(5), Some(5));
        segment.kinds = [("Not a word".to_owned(), 2)].into();
    });
    assert!(house.archive.verify().unwrap().is_whole());
    let refused = house.log.import(&house.archive).unwrap_err();
    assert!(matches!(refused, ArchiveError::Unstorable { position: 101 }), "{refused:?}");
    assert_eq!(in_log(&house.log).len(), 1);
}

#[test]
fn an_archive_whose_manifest_is_lost_is_not_begun_anew() {
    let house = House::archived(301);
    fs::rename(house.path("manifest.json"), house.path("aside")).unwrap();
    append(&house.log, 400..500);
    let once = || house.log.archive_oldest(&house.archive, &everything(), u64::MAX, LATER_MS);
    for error in
        [once().unwrap_err(), house.archive.verify().unwrap_err(), house.log.import(&house.archive).unwrap_err()]
    {
        assert!(matches!(error, ArchiveError::NoManifest), "{error:?}");
        assert!(error.hint().is_some());
    }
    assert_eq!(house.archive.folder.names().unwrap().len(), 5, "nothing was removed");
    // An older one, put back, does not know of a segment whose events are nowhere else.
    let aside = house.path("aside");
    let whole = house.archive.manifest();
    assert!(whole.is_err());
    fs::rename(&aside, house.path("manifest.json")).unwrap();
    let segments = house.archive.manifest().unwrap().segments().to_vec();
    let mut older = Manifest::default();
    older.push(segments[0].clone()).unwrap();
    older.save(&house.archive.folder).unwrap();
    let refused = once().unwrap_err();
    assert!(matches!(&refused, ArchiveError::Unlisted { segment } if *segment == segments[1].name), "{refused:?}");
    assert_eq!(house.archive.verify().unwrap().unlisted.len(), 2);
    assert!(house.path(&segments[2].name).exists());
    assert_eq!(in_log(&house.log).len(), 101);
}

#[test]
fn only_one_writes() {
    let house = House::archived(301);
    append(&house.log, 400..500);
    let lock = house.archive.folder.lock().unwrap();
    let refused = house.log.archive_oldest(&house.archive, &everything(), u64::MAX, LATER_MS).unwrap_err();
    assert!(matches!(refused, ArchiveError::Busy), "{refused:?}");
    assert!(matches!(house.archive.erase(LATER_MS, |_| true), Err(ArchiveError::Busy)));
    assert_eq!(in_archive(&house.archive).len(), 300, "who reads does not wait");
    drop(lock);
    assert_eq!(archive_all(&house.log, &house.archive), 100);
}
