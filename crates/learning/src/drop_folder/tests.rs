//! The folder as its writers and its reader's owner see it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, MetadataExt, symlink},
    time::Instant,
};

use holdfast_storage::events::{Event, EventFilter, Mark};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::line;

/// A folder beside a log.
pub(super) struct House {
    directory: TempDir,
    pub log: EventLog,
    pub folder: DropFolder,
}

fn settings() -> Settings {
    Settings { reserved_kinds: vec!["turn_*".into(), "outcome".into()], ..Settings::default() }
}

impl House {
    fn new() -> Self {
        Self::with(settings())
    }

    pub fn with(settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = EventLog::open_at(&directory.path().join("events.db")).unwrap();
        let path = directory.path().join("drop");
        fs::create_dir(&path).unwrap();
        let folder = DropFolder::new(path, log.clone(), settings);
        Self { directory, log, folder }
    }

    /// As after a start of the program.
    pub fn restart(&mut self) {
        self.folder = DropFolder::new(self.path(""), self.log.clone(), (*self.folder.inner.settings).clone());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("drop").join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        self.open(name).write_all(content.as_ref()).unwrap();
    }

    fn open(&self, name: &str) -> File {
        OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap()
    }

    fn truncate(&self, name: &str) {
        OpenOptions::new().write(true).truncate(true).open(self.path(name)).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
    }

    pub async fn pass(&self) -> Taken {
        self.folder.pass().await.unwrap()
    }

    pub fn events(&self) -> Vec<Event> {
        let (mut events, mut position) = (Vec::new(), 0);
        loop {
            let page = self.log.read_after(position, 1_000, &EventFilter::default()).unwrap();
            if page.events.is_empty() {
                return events;
            }
            position = page.through;
            events.extend(page.events);
        }
    }

    /// The numbers of the lines that were taken, in the order in which they were.
    pub fn numbers(&self) -> Vec<u64> {
        let events = self.events();
        let lines = events.iter().filter(|event| &*event.kind != GAP_FOUND);
        lines.map(|event| body(event)["number"].as_u64().unwrap()).collect()
    }

    /// The gaps that were told of: read up to, seen, bytes, why.
    pub fn gaps(&self) -> Vec<(u64, u64, u64, String)> {
        let events = self.events();
        let gaps = events.iter().filter(|event| &*event.kind == GAP_FOUND).map(body);
        let number = |gap: &Value, field: &str| gap[field].as_u64().unwrap();
        gaps.map(|gap| {
            let cause = gap["cause"].as_str().unwrap().to_owned();
            (number(&gap, "read_to"), number(&gap, "seen"), number(&gap, "bytes"), cause)
        })
        .collect()
    }

    pub fn letters(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path("dead-letters").join(name)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let log = self.log.clone();
        std::thread::spawn(move || log.close()).join().unwrap();
    }
}

fn body(event: &Event) -> Value {
    serde_json::from_slice(&event.body).unwrap()
}

/// A line with a number, and no other like it.
pub(super) fn line(number: u64) -> String {
    format!("{{\"number\":{number:09},\"kind\":\"thing_done\"}}\n").replace(":0", ":1")
}

fn lines(numbers: std::ops::Range<u64>) -> String {
    numbers.map(line).collect()
}

/// What [`line`] makes of a number.
fn numbered(numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    numbers.into_iter().map(|number| number + 100_000_000).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_becomes_an_event() {
    let house = House::new();
    let (id, interaction) = (Uuid::from_u128(7), Uuid::from_u128(8));
    let full = json!({
        "kind": "tool_run", "id": id, "at": "2026-01-02T03:04:05.678+01:00", "tenant": "t", "interaction": interaction,
        "session": "s", "source": "editor", "version": 3, "body": { "b": 1, "a": [null, "\u{1f980}"] },
    });
    let flat = json!({ "kind": "flat", "x": 1, "caller": "c", "at": -5, "y": { "z": [] }, "session": null });
    house.write("a.jsonl", format!("{full}\r\n\n \t\n{flat}\n{{\"kind\":\"bare\"}}\n"));
    let before = reader::now_ms();
    assert_eq!(house.pass().await.events, 3);
    let events = house.events();
    let [full, flat, bare] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((full.id, full.interaction, full.version, full.at_ms), (id, Some(interaction), 3, 1_767_319_445_678));
    assert_eq!((&*full.kind, &*full.tenant, &*full.caller), ("tool_run", "t", "editor"));
    assert_eq!(full.session.as_deref(), Some("s"));
    assert_eq!(full.body, "{\"b\":1,\"a\":[null,\"\u{1f980}\"]}".as_bytes());
    assert_eq!(flat.body, br#"{"x":1,"y":{"z":[]}}"#);
    assert_eq!((&*flat.caller, &*flat.tenant, flat.at_ms, flat.version), ("c", "default", -5, 1));
    assert_eq!((bare.body.as_slice(), &*bare.caller, &bare.session), (b"{}".as_slice(), "drop_folder", &None));
    assert!((before..=reader::now_ms()).contains(&bare.at_ms));
    assert_eq!((flat.id.get_version_num(), bare.id.get_version_num()), (8, 8));
    assert_ne!(flat.id, bare.id);
    let status = house.folder.status();
    assert_eq!((status.files, status.bytes_unread, status.taken.events, status.last_error), (1, 0, 3, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_again_makes_the_same_events() {
    let mut house = House::new();
    house.write("a.jsonl", lines(0..5));
    house.pass().await;
    let first: Vec<_> = house.events().iter().map(|event| event.id).collect();
    let marks = house.log.marks("drop/").unwrap();
    let removed = marks.iter().map(|(name, _)| Mark { value: None, ..Mark::new(name.clone(), Vec::new()) });
    house.log.append_marked(Vec::new(), removed.collect()).await.unwrap();
    house.rename("a.jsonl", "a.jsonl.1");
    house.write("a.jsonl.1", lines(5..6));
    house.restart();
    house.pass().await;
    let again: Vec<_> = house.events().iter().skip(5).map(|event| event.id).collect();
    assert_eq!((&again[..5], again.len()), (first.as_slice(), 6));
    // A file that begins alike is another one all the same.
    house.write("b.jsonl", lines(0..1));
    house.pass().await;
    assert!(!again.contains(&house.events().last().unwrap().id));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_line_waits_for_its_end() {
    let mut house = House::new();
    let all = lines(0..3);
    let mut taken = 0;
    for (at, byte) in all.bytes().enumerate() {
        house.write("a.jsonl", [byte]);
        if at % 5 == 0 {
            house.restart();
        }
        let events = house.pass().await.events;
        assert_eq!(events, u64::from(byte == b'\n'), "byte {at}");
        taken += events;
        let whole = all[..=at].rfind('\n').map_or(0, |end| end + 1);
        assert_eq!(house.folder.status().bytes_unread, (at + 1 - whole) as u64);
    }
    assert_eq!((taken, house.numbers()), (3, numbered(0..3)));
    assert_eq!((house.gaps(), house.letters("a.jsonl")), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_fits_is_taken_in_order_and_once() {
    let mut house = House::new();
    for (name, numbers) in [("a.jsonl", 0..2_500), ("b.jsonl", 10_000..12_345), ("c.jsonl.3", 20_000..20_001)] {
        house.write(name, lines(numbers));
    }
    // Some large ones, more than the log takes at once.
    let large = |number: u64| json!({ "kind": "large", "number": number, "text": "x".repeat(900_000) });
    house.write("d.jsonl", (30_000..30_020).map(|number| format!("{}\n", large(number))).collect::<String>());
    assert_eq!(house.pass().await.events, 2_500 + 2_345 + 1 + 20);
    house.restart();
    assert_eq!(house.pass().await, Taken::default());
    let numbers = house.numbers();
    let of = |range: std::ops::Range<u64>| numbers.iter().copied().filter(move |number| range.contains(number));
    assert!(of(100_000_000..100_002_500).eq(numbered(0..2_500)));
    assert!(of(100_010_000..100_012_345).eq(numbered(10_000..12_345)));
    assert!(of(30_000..30_020).eq(30_000..30_020));
    assert_eq!(numbers.len(), 2_500 + 2_345 + 1 + 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_file_is_followed_while_writers_hold_it_open() {
    let mut house = House::new();
    let mut old = house.open("a.jsonl");
    old.write_all(lines(0..2).as_bytes()).unwrap();
    house.pass().await;
    house.rename("a.jsonl", "a.jsonl.1");
    house.write("a.jsonl", lines(10..11));
    old.write_all(lines(2..3).as_bytes()).unwrap();
    assert_eq!(house.pass().await.events, 2);
    // Under any name, as long as it is in the folder.
    house.rename("a.jsonl.1", "old.backup");
    house.restart();
    old.write_all(lines(3..4).as_bytes()).unwrap();
    assert_eq!(house.pass().await.events, 1);
    // One that was never read under a name that is read is not read at all.
    house.write("other.backup", lines(50..51));
    house.pass().await;
    house.rename("a.jsonl", "old.backup");
    house.write("old.backup", lines(11..12));
    assert_eq!(house.pass().await.events, 1);
    let mut numbers = house.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, numbered([0, 1, 2, 3, 10, 11]));
    assert_eq!(house.gaps(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_is_a_gap_of_what_was_seen_and_not_taken() {
    let house = House::new();
    house.write("a.jsonl", lines(0..2) + "half");
    house.pass().await;
    let read_to = lines(0..2).len() as u64;
    house.truncate("a.jsonl");
    let taken = house.pass().await;
    assert_eq!((taken.gaps, taken.gap_bytes, taken.begun_anew), (1, 4, 1));
    assert_eq!(house.gaps(), [(read_to, read_to + 4, 4, "truncated".to_owned())]);
    assert_eq!(house.pass().await, Taken::default());

    // What is longer again when it is looked at, with nothing missing that was seen.
    house.write("a.jsonl", lines(2..4));
    house.pass().await;
    house.truncate("a.jsonl");
    house.write("a.jsonl", lines(4..50));
    let taken = house.pass().await;
    assert_eq!((taken.events, taken.gaps, taken.begun_anew), (46, 0, 1));

    // As long as before, to the byte.
    house.truncate("a.jsonl");
    house.write("a.jsonl", lines(50..96));
    let taken = house.pass().await;
    assert_eq!((taken.events, taken.gaps, taken.begun_anew), (46, 0, 1));
    assert_eq!(house.numbers(), numbered(0..96));
    let status = house.folder.status();
    assert_eq!((status.taken.gap_bytes, status.taken.begun_anew, status.bytes_unread), (4, 3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_line_that_its_writer_takes_back_is_a_gap_and_nothing_else_is_lost() {
    let house = House::new();
    house.write("a.jsonl", lines(0..2));
    house.write("a.jsonl", &line(2)[..20]);
    house.pass().await;
    house.open("a.jsonl").set_len(lines(0..2).len() as u64).unwrap();
    house.write("a.jsonl", &line(3)[..7]);
    house.pass().await;
    let size = lines(0..2).len() as u64;
    assert_eq!(house.gaps(), [(size, size + 20, 13, "truncated".to_owned())]);
    house.write("a.jsonl", &line(3)[7..]);
    house.pass().await;
    assert_eq!(house.numbers(), numbered([0, 1, 3]));
    assert_eq!(house.folder.status().taken.begun_anew, 0);
}

/// Makes the log refuse an event, and has it accept everything again.
fn refuse(house: &House, kind: Option<&str>) {
    let connection = rusqlite::Connection::open(house.directory.path().join("events.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection.execute_batch("DROP TRIGGER IF EXISTS refuse").unwrap();
    if let Some(kind) = kind {
        let trigger = format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON names WHEN NEW.name = '{kind}' BEGIN SELECT RAISE(ABORT, 'no'); END"
        );
        connection.execute_batch(&trigger).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_and_could_not_be_written_is_counted_to_the_byte() {
    let mut house = House::new();
    house.write("a.jsonl", lines(0..2));
    house.pass().await;
    refuse(&house, Some("refused"));
    let refused = "{\"kind\":\"refused\",\"number\":1}\n".repeat(2_000);
    house.write("a.jsonl", lines(2..3) + &refused);
    house.write("b.jsonl", "not JSON\n".to_owned() + &lines(7..8) + &refused);
    for _ in 0..3 {
        let failed = house.folder.pass().await.unwrap_err();
        assert!(matches!(failed, FolderError::Append(_)), "{failed}");
        assert!(house.folder.status().last_error.is_some_and(|error| error.contains("append")));
    }
    assert_eq!((house.numbers(), house.letters("b.jsonl").len()), (numbered(0..2), 1));
    let read_to = lines(0..2).len() as u64;
    let seen = lines(0..3).len() as u64 + refused.len() as u64;
    house.truncate("a.jsonl");
    house.write("a.jsonl", lines(3..4));
    refuse(&house, None);
    house.pass().await;
    assert_eq!(house.gaps(), [(read_to, seen, seen - read_to, "truncated".to_owned())]);
    // The letter was written with the batch that failed first, and is none of a later one.
    assert_eq!((house.letters("b.jsonl").len(), house.folder.status().taken.dead_letters), (1, 1));
    assert_eq!(house.folder.status().taken.events, 2 + 1 + 1 + 2_000);
    house.restart();
    assert_eq!(house.pass().await, Taken::default());
    assert_eq!(house.folder.status().taken.gap_bytes, seen - read_to);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_is_a_gap_and_its_mark_goes() {
    let house = House::with(Settings { forget_after: Duration::ZERO, ..settings() });
    house.write("a.jsonl", lines(0..2) + "half");
    house.write("b.jsonl", lines(10..11));
    house.write("fresh.jsonl", "h");
    house.pass().await;
    assert_eq!(house.folder.files().unwrap().len(), 2);
    for name in ["a.jsonl", "b.jsonl", "fresh.jsonl"] {
        fs::remove_file(house.path(name)).unwrap();
    }
    house.pass().await;
    // It might be on its way from one name to another.
    assert_eq!((house.gaps(), house.folder.files().unwrap().len()), (vec![], 2));
    house.pass().await;
    let read_to = lines(0..2).len() as u64;
    let deleted = |read_to, bytes| (read_to, read_to + bytes, bytes, "deleted".to_owned());
    let mut gaps = house.gaps();
    gaps.sort_unstable();
    assert_eq!(gaps, [deleted(0, 1), deleted(read_to, 4)]);
    assert_eq!((house.folder.files().unwrap().len(), house.folder.status().files), (0, 0));
    // A folder that is gone says nothing of its files.
    house.write("c.jsonl", lines(20..21));
    house.pass().await;
    fs::rename(house.path(""), house.directory.path().join("away")).unwrap();
    for _ in 0..3 {
        let failed = house.folder.pass().await.unwrap_err();
        assert!(matches!(failed, FolderError::Folder { .. }), "{failed}");
    }
    fs::rename(house.directory.path().join("away"), house.path("")).unwrap();
    house.write("c.jsonl", lines(21..22));
    assert_eq!(house.pass().await.events, 1);
    assert_eq!((house.numbers(), house.gaps().len()), (numbered([0, 1, 10, 20, 21]), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_comes_back_in_time_is_read_on() {
    let house = House::new();
    house.write("a.jsonl", lines(0..2));
    house.pass().await;
    let away = house.directory.path().join("a.away");
    fs::rename(house.path("a.jsonl"), &away).unwrap();
    for _ in 0..4 {
        assert_eq!(house.pass().await, Taken::default());
    }
    assert_eq!(house.folder.status().files, 0);
    fs::rename(&away, house.path("a.jsonl.1")).unwrap();
    house.write("a.jsonl.1", lines(2..3));
    house.pass().await;
    assert_eq!((house.numbers(), house.gaps()), (numbered(0..3), vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inode_that_is_given_out_again_is_another_file() {
    let house = House::with(Settings { forget_after: Duration::ZERO, ..settings() });
    let inode = |name: &str| fs::metadata(house.path(name)).unwrap().ino();
    let mut given_again = 0;
    for round in 0..20 {
        house.write("a.jsonl", lines(round * 10..round * 10 + 5));
        let before = inode("a.jsonl");
        assert_eq!(house.pass().await.events, 5, "round {round}");
        fs::remove_file(house.path("a.jsonl")).unwrap();
        house.write("a.jsonl", lines(round * 10 + 5..round * 10 + 10));
        given_again += u32::from(inode("a.jsonl") == before);
        assert_eq!(house.pass().await.events, 5, "round {round}");
        fs::remove_file(house.path("a.jsonl")).unwrap();
    }
    println!("an inode was given out again {given_again} times of 20");
    assert_eq!(house.numbers(), numbered(0..200));
    assert_eq!(house.gaps(), []);
}

/// Where all lines are alike, only the time at which a file was made tells it from the one whose inode it got.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_made_later_is_another_one_whatever_is_in_it() {
    let house = House::with(Settings { forget_after: Duration::ZERO, ..settings() });
    for round in 0..20 {
        house.write("a.jsonl", line(1).repeat(20));
        let made = fs::metadata(house.path("a.jsonl")).unwrap().created();
        made.expect("this file system does not know when a file was made: give the tests another TMPDIR");
        assert_eq!(house.pass().await.events, 20, "round {round}");
        fs::remove_file(house.path("a.jsonl")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_got_another_number_is_the_same() {
    let mut house = House::new();
    house.write("a.jsonl", lines(0..3));
    house.pass().await;
    let prefix = house.folder.inner.settings.mark_prefix();
    let marks = house.log.marks(&prefix).unwrap();
    let (name, value) = marks.iter().find(|(name, _)| !name.ends_with("totals")).unwrap();
    let (_, inode) = name.rsplit_once('/').unwrap();
    let moved = vec![
        Mark { value: None, ..Mark::new(name.clone(), Vec::new()) },
        Mark::new(format!("{prefix}fedcba/{inode}"), value.clone()),
    ];
    house.log.append_marked(Vec::new(), moved).await.unwrap();
    house.restart();
    house.write("a.jsonl", lines(3..4));
    assert_eq!(house.pass().await.events, 1);
    assert_eq!((house.numbers(), house.folder.files().unwrap().len()), (numbered(0..4), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_of_the_folder_is_not_read() {
    let house = House::new();
    let outside = house.directory.path().join("outside.jsonl");
    fs::write(&outside, lines(0..1)).unwrap();
    symlink(&outside, house.path("link.jsonl")).unwrap();
    fs::create_dir(house.path("in.jsonl")).unwrap();
    house.write("in.jsonl/a.jsonl", lines(1..2));
    house.write("a.jsonl.gz", lines(2..3));
    house.write(".a.jsonl", lines(3..4));
    house.write("b.jsonl", "");
    let fifo = house.path("fifo.jsonl");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    house.write("c.jsonl", lines(10..11));
    house.pass().await;
    // A file that is known and whose place a link takes.
    house.rename("c.jsonl", ".hidden");
    symlink(&outside, house.path("c.jsonl")).unwrap();
    house.write(".hidden", lines(11..12));
    house.pass().await;
    assert_eq!(house.numbers(), numbered([10, 11]));
    assert_eq!((house.folder.status().passed_over, house.folder.status().files), (4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_files_than_may_be() {
    let house = House::with(Settings { files_max: 3, forget_after: Duration::ZERO, ..settings() });
    for number in 0..5 {
        house.write(&format!("{number}.jsonl"), line(number));
    }
    assert_eq!(house.pass().await.events, 3);
    assert_eq!((house.folder.status().files, house.folder.status().left_out), (3, 2));
    let followed = house.folder.files().unwrap();
    house.write(&followed[0].name, line(7));
    assert_eq!(house.pass().await.events, 1);
    for file in followed {
        fs::remove_file(house.path(&file.name)).unwrap();
    }
    house.pass().await;
    house.pass().await;
    let mut numbers = house.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, numbered([0, 1, 2, 3, 4, 7]));
    assert_eq!(house.folder.status().left_out, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_no_events_become_letters_and_the_rest_is_taken() {
    let house = House::new();
    let bad: [(&[u8], &str); 8] = [
        (b"no JSON", "not_json"),
        (b"{\"kind\":\"x\"", "not_json"),
        (b"{\"kind\":\"x\",\"a\":\"\xff\"}", "not_utf8"),
        (b"\0\0\0{\"kind\":\"x\"}", "not_json"),
        (b"[1]", "bad_field"),
        (b"{\"body\":{}}", "bad_field"),
        (b"{\"kind\":\"turn_finished\"}", "reserved_kind"),
        (b"{\"kind\":\"With Space\"}", "bad_event"),
    ];
    let mut content = Vec::new();
    let mut offsets = Vec::new();
    for (number, (line_of, _)) in (0..).zip(bad) {
        content.extend(line(number).as_bytes());
        offsets.push(content.len() as u64);
        content.extend(line_of);
        content.push(b'\n');
    }
    house.write("a.jsonl", &content);
    let taken = house.pass().await;
    assert_eq!((taken.events, taken.dead_letters), (8, 8));
    assert_eq!(house.numbers(), numbered(0..8));
    let letters = house.letters("a.jsonl");
    assert_eq!(letters.len(), 8);
    for ((letter, (line_of, reason)), offset) in letters.iter().zip(bad).zip(offsets) {
        assert_eq!((letter["reason"].as_str(), letter["offset"].as_u64()), (Some(reason), Some(offset)));
        assert_eq!(letter["bytes"].as_u64(), Some(line_of.len() as u64));
        if let Ok(text) = std::str::from_utf8(line_of) {
            assert_eq!(letter["line"], text);
        }
    }
    // The letters are no input.
    assert_eq!(house.pass().await, Taken::default());
    assert_eq!(house.folder.status().files, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_does_not_move_past_a_line_whose_letter_cannot_be_written() {
    let house = House::new();
    house.write("dead-letters", "a file in the way");
    house.write("a.jsonl", lines(0..2) + "bad\n" + &lines(2..3));
    house.write("b.jsonl", "bad\n".to_owned() + &lines(10..11));
    house.write("c.jsonl", lines(20..21));
    let failed = house.folder.pass().await.unwrap_err();
    assert!(matches!(failed, FolderError::File(_)), "{failed}");
    let mut numbers = house.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, numbered([0, 1, 20]));
    assert!(house.folder.status().last_error.is_some());
    fs::remove_file(house.path("dead-letters")).unwrap();
    house.pass().await;
    assert_eq!(house.numbers().len(), 5);
    assert_eq!((house.letters("a.jsonl").len(), house.letters("b.jsonl").len()), (1, 1));
    assert_eq!((house.folder.status().last_error, house.folder.status().taken.dead_letters), (None, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_may_have_a_mebibyte_and_a_longer_one_is_cut_and_hashed() {
    let mut house = House::new();
    let sized = |bytes: usize| {
        let empty = json!({ "kind": "large", "number": 1, "t": "" }).to_string().len();
        json!({ "kind": "large", "number": 1, "t": "x".repeat(bytes - empty) }).to_string()
    };
    let fits = sized(line::LINE_BYTES_MAX);
    let (more, much) = (sized(line::LINE_BYTES_MAX + 1), sized(10 << 20));
    house.write("a.jsonl", format!("{fits}\n{more}\n{}{much}\n{}", line(0), line(1)));
    let taken = house.pass().await;
    assert_eq!((taken.events, taken.dead_letters), (3, 2));
    for (letter, whole) in house.letters("a.jsonl").iter().zip([more, much]) {
        assert_eq!((letter["reason"].as_str(), letter["bytes"].as_u64()), (Some("too_long"), Some(whole.len() as u64)));
        assert_eq!(letter["hash"], blake3::hash(whole.as_bytes()).to_hex().to_string());
        assert!(whole.starts_with(letter["line"].as_str().unwrap()));
    }
    // One that comes in pieces, with a start of the program between them.
    let long = sized(3 << 20);
    for piece in long.as_bytes().chunks(700_000) {
        house.write("a.jsonl", piece);
        assert_eq!(house.pass().await, Taken::default());
    }
    house.restart();
    assert_eq!(house.pass().await, Taken::default());
    house.write("a.jsonl", "\n".to_owned() + &line(2));
    let taken = house.pass().await;
    assert_eq!((taken.events, taken.dead_letters), (1, 1));
    assert_eq!(house.letters("a.jsonl")[2]["hash"], blake3::hash(long.as_bytes()).to_hex().to_string());
    // One that is cut off before it ends.
    house.write("a.jsonl", sized(2 << 20));
    house.pass().await;
    house.truncate("a.jsonl");
    house.write("a.jsonl", lines(3..4));
    let taken = house.pass().await;
    assert_eq!((taken.events, taken.gap_bytes), (1, 2 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_hole_of_a_tebibyte_holds_nobody_up() {
    let house = House::new();
    house.open("hole.jsonl").set_len(1 << 40).unwrap();
    house.write("a.jsonl", lines(0..3));
    let began = Instant::now();
    assert_eq!(house.pass().await.events, 3);
    house.write("hole.jsonl", "\n".to_owned() + &line(3));
    let taken = house.pass().await;
    assert_eq!((taken.events, taken.dead_letters), (1, 1));
    assert!(began.elapsed() < Duration::from_secs(30), "it was read");
    assert_eq!(house.letters("hole.jsonl")[0]["bytes"].as_u64(), Some(1 << 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_read_on_from_where_its_original_was() {
    let mut house = House::new();
    house.write("a.jsonl", lines(0..3));
    house.pass().await;
    // Copied with lines that were not read, and half a line; seen before the original is truncated, and after.
    for (round, is_seen_between) in [(1, false), (2, true), (3, false), (4, true)] {
        let from = round * 100;
        house.write("a.jsonl", lines(from..from + 3) + "{\"ha");
        if round > 2 {
            house.pass().await;
        }
        let copy = format!("a.jsonl.{round}");
        house.copy("a.jsonl", &copy);
        if is_seen_between {
            house.pass().await;
            assert_eq!(house.folder.status().copies_waiting, 1);
            house.restart();
            house.pass().await;
        }
        house.truncate("a.jsonl");
        house.write("a.jsonl", lines(from + 10..from + 12));
        house.pass().await;
        assert_eq!((house.folder.status().copies_waiting, house.gaps()), (0, vec![]), "round {round}");
        // Whoever held the copy open may go on.
        house.write(&copy, "lf\":1,\"kind\":\"x\",\"number\":7}\n");
        house.pass().await;
    }
    let mut expected = numbered(0..3);
    for from in [100, 200, 300, 400] {
        expected.extend(numbered([from, from + 1, from + 2, from + 10, from + 11]));
        expected.push(7);
    }
    let mut numbers = house.numbers();
    numbers.sort_unstable();
    expected.sort_unstable();
    assert_eq!(numbers, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_original_that_went_on_only_what_stands_nowhere_is_a_gap() {
    let house = House::new();
    house.write("a.jsonl", lines(0..3));
    house.pass().await;
    house.copy("a.jsonl", "a.jsonl.1");
    let copied = lines(0..3).len() as u64;
    // Read after it was copied, so that the copy has nothing new.
    house.write("a.jsonl", lines(3..20));
    house.pass().await;
    house.truncate("a.jsonl");
    house.pass().await;
    assert_eq!((house.gaps(), house.numbers()), (vec![], numbered(0..20)));
    // Half a line when it was copied, more of it when it was seen last.
    house.write("a.jsonl", lines(20..23) + "12345");
    house.pass().await;
    house.copy("a.jsonl", "a.jsonl.2");
    house.write("a.jsonl", "6789");
    house.pass().await;
    house.truncate("a.jsonl");
    house.pass().await;
    assert_eq!(house.gaps(), [(copied, copied + 9, 4, "truncated".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_for_keeps_is_not_read_whatever_becomes_of_its_original() {
    let mut house = House::with(Settings { forget_after: Duration::ZERO, ..settings() });
    house.write("a.jsonl", lines(0..30));
    house.pass().await;
    house.copy("a.jsonl", "a.jsonl.1");
    house.write("a.jsonl", lines(30..40));
    house.pass().await;
    house.rename("a.jsonl", "a.jsonl.2");
    house.write("a.jsonl", lines(40..50));
    house.restart();
    house.pass().await;
    assert_eq!((house.numbers(), house.folder.status().copies_waiting), (numbered(0..50), 1));
    fs::remove_file(house.path("a.jsonl.2")).unwrap();
    for _ in 0..4 {
        house.pass().await;
    }
    assert_eq!((house.numbers(), house.gaps(), house.folder.status().copies_waiting), (numbered(0..50), vec![], 0));
    // Renamed within the same look as it is copied.
    house.copy("a.jsonl", "a.jsonl.3");
    house.rename("a.jsonl", "a.jsonl.4");
    house.pass().await;
    assert_eq!(house.numbers(), numbered(0..50));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_only_look_like_copies_are_read() {
    let house = House::new();
    let same = line(1).repeat(20);
    // Workers that begin alike, and a file under a rotated name that differs.
    house.write("worker-1.jsonl", &same);
    house.pass().await;
    house.write("worker-2.jsonl", &same);
    house.write("worker-3.jsonl", &same);
    house.write("worker-1.jsonl.1", same.clone() + &line(2));
    house.write("other.jsonl.1", &same);
    assert_eq!(house.pass().await.events, 81);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_readers_of_one_folder_take_each_line_once() {
    let house = House::new();
    let other = DropFolder::new(house.path(""), house.log.clone(), settings());
    for round in 0..10 {
        house.write("a.jsonl", lines(round * 1_500..(round + 1) * 1_500));
        // Whoever is late finds the mark moved, and begins again from there.
        let (first, second) = tokio::join!(house.folder.pass(), other.pass());
        for failed in [first, second].into_iter().filter_map(Result::err) {
            assert!(matches!(failed, FolderError::Append(AppendError::Moved { .. })), "{failed}");
        }
        house.pass().await;
    }
    assert_eq!(house.numbers(), numbered(0..15_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_is_dropped_takes_no_line_twice_and_leaves_none() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let house = House::new();
    for round in 0..30 {
        house.write("a.jsonl", lines(round * 2_000..(round + 1) * 2_000));
        let polls = random.usize(1..12);
        let mut pass = Box::pin(house.folder.pass());
        for _ in 0..polls {
            if futures_poll(&mut pass).await {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(pass);
    }
    while let Err(failed) = house.folder.pass().await {
        assert!(matches!(failed, FolderError::Append(AppendError::Moved { .. })), "{failed}");
    }
    house.pass().await;
    assert_eq!(house.numbers(), numbered(0..60_000), "seed {seed}");
}

/// Polls a future once; whether it is done.
async fn futures_poll(future: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_ready()))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_task_reads_what_comes_and_ends_when_it_is_told() {
    let house = House::with(Settings { interval: Duration::from_millis(1), ..settings() });
    let shutdown = CancellationToken::new();
    let (folder, token) = (house.folder.clone(), shutdown.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { folder.run(token).await });
    let mut positions = house.log.positions();
    for number in 0..20 {
        house.write("a.jsonl", line(number));
        positions.wait_for(|position| *position > number).await.unwrap();
    }
    shutdown.cancel();
    tasks.join_next().await.unwrap().unwrap();
    assert_eq!(house.numbers(), numbered(0..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_cannot_be_read_stops_the_reader() {
    let mut house = House::new();
    house.write("a.jsonl", lines(0..2));
    house.pass().await;
    let (name, _) = house.log.marks("drop/default/").unwrap().remove(0);
    house.log.append_marked(Vec::new(), vec![Mark::new(name.clone(), b"{}".to_vec())]).await.unwrap();
    house.restart();
    let failed = house.folder.pass().await.unwrap_err();
    assert!(matches!(&failed, FolderError::Mark { name: found } if *found == name), "{failed}");
    assert_eq!(house.numbers().len(), 2);
}

/// A file that is truncated and written anew while it is read: no line is ever made of two.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_truncated_while_it_is_read_is_never_mixed() {
    let seed = fastrand::u64(..);
    let house = House::with(Settings { interval: Duration::ZERO, ..settings() });
    let path = house.path("a.jsonl");
    let writer = std::thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(seed);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
        for life in 0..300_u64 {
            file.set_len(0).unwrap();
            let mut at = 0;
            for number in 0..random.u64(1..400) {
                // Each life with lines of a length of its own, so that they end where others do not.
                let text = "x".repeat(life as usize % 61 + number as usize % 7);
                let line = json!({ "life": life, "kind": "thing_done", "number": number, "again": life, "text": text });
                let line = format!("{line}\n");
                file.write_all_at(line.as_bytes(), at).unwrap();
                at += line.len() as u64;
            }
        }
    });
    while !writer.is_finished() {
        let _ = house.folder.pass().await;
    }
    writer.join().unwrap();
    house.pass().await;
    let mut next = std::collections::HashMap::new();
    for event in house.events().iter().filter(|event| &*event.kind != GAP_FOUND) {
        let body = body(event);
        assert_eq!(body["life"], body["again"], "seed {seed}");
        // What was taken of a life is its beginning, each line once.
        let expected = next.entry(body["life"].as_u64().unwrap()).or_insert(0);
        assert_eq!(body["number"].as_u64(), Some(*expected), "seed {seed}");
        *expected += 1;
    }
    assert_eq!(house.letters("a.jsonl"), Vec::<Value>::new(), "seed {seed}");
}
