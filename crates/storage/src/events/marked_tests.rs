//! Marks and batches with keys, as their callers see them, and what is left of them after a kill and a disk that fails.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;

use super::{
    tests::{all, child, directory_given, event, occupy},
    *,
};

fn open(folder: &Path) -> EventLog {
    EventLog::open_at(&folder.join("events.db")).unwrap()
}

fn close(log: &EventLog) {
    tokio::task::block_in_place(|| log.close());
}

fn mark(name: &str, before: Before, value: Option<u64>) -> Mark {
    Mark { name: name.into(), before, value: value.map(|value| value.to_le_bytes().to_vec()) }
}

fn is(value: u64) -> Before {
    Before::Value(value.to_le_bytes().to_vec())
}

/// The value of the mark that the tests count with; 0 where there is none.
fn counted(log: &EventLog) -> u64 {
    let marks = log.marks("count").unwrap();
    marks.first().map_or(0, |(_, value)| u64::from_le_bytes(value.as_slice().try_into().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_marks_are_there_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let both = vec![mark("a", Before::Absent, Some(1)), mark("b", Before::Absent, Some(2))];
    assert_eq!(log.append_marked(vec![event(0), event(1)], both).await.unwrap(), [1, 2]);
    let value = |value: u64| value.to_le_bytes().to_vec();
    assert_eq!(log.marks("").unwrap(), [("a".into(), value(1)), ("b".into(), value(2))]);

    // One of two that is not what it should be refuses everything.
    for (unmet, moved) in [(mark("b", Before::Absent, Some(9)), "b"), (mark("c", is(2), Some(9)), "c")] {
        let refused = log.append_marked(vec![event(2)], vec![mark("a", is(1), Some(9)), unmet]).await.unwrap_err();
        assert!(matches!(&refused, AppendError::Moved { name } if name == moved), "{refused}");
    }
    assert_eq!((log.last_position(), log.marks("a").unwrap()), (2, vec![("a".into(), value(1))]));

    // Marks alone, one of them removed, and one that is set whatever it was.
    let alone = vec![mark("a", is(1), None), Mark::new("b", value(3))];
    assert_eq!(log.append_marked(Vec::new(), alone).await.unwrap(), [0; 0]);
    assert_eq!(log.marks("").unwrap(), [("b".into(), value(3))]);
    assert_eq!(log.append_marked(Vec::new(), Vec::new()).await.unwrap(), [0; 0]);
    assert_eq!(log.append_marked(vec![event(3)], Vec::new()).await.unwrap(), [3]);
    assert_eq!(all(&log).len(), 3);
    close(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_are_found_by_how_their_names_begin_whatever_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let names = ["a%", "a%b", "a_", "ab", "a\u{10ffff}", "a\u{10ffff}z", "b", "\u{1f980}/1", "\u{1f980}/2", "x\0y"];
    let marks = names.iter().map(|name| Mark::new(*name, name.as_bytes())).collect();
    log.append_marked(Vec::new(), marks).await.unwrap();
    for prefix in ["", "a", "a%", "a_", "a\u{10ffff}", "\u{1f980}/", "x\0", "zz"] {
        let mut expected: Vec<_> = names.iter().filter(|name| name.starts_with(prefix)).copied().collect();
        expected.sort_unstable();
        let found = log.marks(prefix).unwrap();
        assert!(found.iter().map(|(name, _)| name).eq(&expected), "{prefix:?}: {found:?}");
    }
    close(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_beside_events_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let bad = [
        vec![Mark::new("", vec![1])],
        vec![Mark::new("x".repeat(MARK_NAME_BYTES_MAX + 1), vec![1])],
        vec![Mark::new("x", vec![1; MARK_BYTES_MAX + 1])],
        vec![Mark::new("x", vec![1]), Mark::new("x", vec![2])],
        (0..=MARKS_MAX).map(|number| Mark::new(number.to_string(), vec![1])).collect(),
    ];
    for bad in bad {
        let refused = log.append_marked(vec![event(0)], bad).await.unwrap_err();
        assert!(matches!(refused, AppendError::BadMark { .. }), "{refused}");
    }
    let many = (0..=APPEND_EVENTS_MAX as u64).map(event).collect();
    let refused = log.append_marked(many, vec![Mark::new("x", vec![1])]).await.unwrap_err();
    assert!(matches!(refused, AppendError::TooMany { .. }), "{refused}");
    for (caller, key) in [("", "k"), ("c", ""), ("c", &*"k".repeat(ONCE_KEY_BYTES_MAX + 1))] {
        let refused = log.append_once(caller, key, [0; 32], vec![event(0)], 0).await.unwrap_err();
        assert!(matches!(refused, AppendError::BadKey), "{refused}");
    }
    assert_eq!((log.last_position(), log.marks("").unwrap().len()), (0, 0));
    // As much as there may be of everything.
    let marks = (0..MARKS_MAX).map(|number| Mark::new(format!("{number:0512}"), vec![1; MARK_BYTES_MAX])).collect();
    log.append_marked((0..APPEND_EVENTS_MAX as u64).map(event).collect(), marks).await.unwrap();
    assert_eq!((log.last_position(), log.marks("").unwrap().len()), (1_000, MARKS_MAX));
    close(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_key_is_written_once_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let batch = |from: u64| (from..from + 3).map(event).collect::<Vec<_>>();
    let first = log.append_once("c", "k", [1; 32], batch(0), 1_000).await.unwrap();
    assert_eq!(first, Appended { positions: 1..4, is_repeat: false });
    let again = log.append_once("c", "k", [1; 32], batch(0), 2_000).await.unwrap();
    assert_eq!(again, Appended { positions: 1..4, is_repeat: true });
    let other = log.append_once("c", "k", [2; 32], batch(10), 2_000).await.unwrap_err();
    assert!(matches!(other, AppendError::KeyReused), "{other}");
    assert_eq!(log.last_position(), 3);
    // Keys are their callers' own.
    assert_eq!(log.append_once("d", "k", [2; 32], batch(10), 2_000).await.unwrap().positions, 4..7);
    let last = 1_000 + ONCE_KEPT_MS;
    assert!(log.append_once("c", "k", [1; 32], batch(0), last - 1).await.unwrap().is_repeat);
    let later = log.append_once("c", "k", [2; 32], batch(20), last).await.unwrap();
    assert_eq!(later, Appended { positions: 7..10, is_repeat: false });
    // A clock that went back does not make the same batch another one.
    assert!(log.append_once("c", "k", [2; 32], batch(20), i64::MIN).await.unwrap().is_repeat);
    let nothing = log.append_once("c", "none", [0; 32], Vec::new(), last).await.unwrap();
    assert!(nothing.positions.is_empty() && !nothing.is_repeat);
    assert!(log.append_once("c", "none", [0; 32], Vec::new(), last).await.unwrap().is_repeat);
    close(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_former_days_are_forgotten_a_few_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let kept = || {
        let count = |connection: &rusqlite::Connection| {
            Ok(connection.query_row("SELECT count(*) FROM appended_once", [], |row| row.get::<_, u64>(0))?)
        };
        log.inner.database.read(count).unwrap()
    };
    for number in 0..200 {
        log.append_once("c", &number.to_string(), [0; 32], Vec::new(), 0).await.unwrap();
    }
    assert_eq!(kept(), 200);
    for (number, left) in [(200, 137), (201, 74), (202, 11), (203, 4), (204, 5)] {
        log.append_once("c", &number.to_string(), [0; 32], Vec::new(), ONCE_KEPT_MS).await.unwrap();
        assert_eq!(kept(), left);
    }
    close(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_in_many_hands_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    // All of them wait for the same commit.
    let busy = occupy(&log);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..32_u64 {
        let log = log.clone();
        tasks.spawn(async move { log.append_once("c", "k", [0; 32], vec![event(number)], 0).await.unwrap() });
    }
    drop(busy);
    let appended = tasks.join_all().await;
    assert!(appended.iter().all(|appended| appended.positions == (1..2)), "{appended:?}");
    assert_eq!(appended.iter().filter(|appended| !appended.is_repeat).count(), 1);
    assert_eq!(all(&log).len(), 1);
    close(&log);
}

/// The answer to an append that is given up never comes, and the append may be written all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_was_given_up_is_not_written_a_second_time() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let busy = occupy(&log);
    let step = || log.append_marked(vec![event(0)], vec![mark("count", Before::Absent, Some(1))]);
    let mut given_up = Box::pin(step());
    assert!(futures::poll!(&mut given_up).is_pending());
    drop(given_up);
    assert_eq!(counted(&log), 0);
    let again = step();
    drop(busy);
    let refused = again.await.unwrap_err();
    assert!(matches!(refused, AppendError::Moved { .. }), "{refused}");
    assert_eq!((counted(&log), all(&log).len()), (1, 1));
    close(&log);
}

/// One step of a writer that counts its events in a mark.
async fn step(log: &EventLog, at: u64) -> Result<(), AppendError> {
    let before = if at == 0 { Before::Absent } else { is(at) };
    log.append_marked(vec![event(at)], vec![mark("count", before, Some(at + 1))]).await.map(drop)
}

#[test]
fn a_disk_that_fails_writes_what_is_marked_once() {
    let directory = tempfile::tempdir().unwrap();
    let ignoring = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
    let output = child("events::marked_tests::failing_disk_child", directory.path(), &ignoring).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("went on from its mark"), "{said}");
    let log = open(directory.path());
    let events = all(&log);
    assert_eq!((counted(&log), events.len()), (120, 240));
    log.close();
}

#[test]
fn failing_disk_child() {
    let Some(directory) = directory_given() else { return };
    let limit = |bytes| {
        let maximum = getrlimit(Resource::Fsize).maximum;
        setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).unwrap();
    };
    let log = open(&directory);
    Runtime::new().unwrap().block_on(async {
        let mut failures = 0;
        // Full from where the log of the database ends now, or in the middle of the next commit.
        let fill = |more: u64| limit(Some(fs::metadata(directory.join("events.db-wal")).unwrap().len() + more));
        for at in 0..120 {
            if at % 50 == 17 {
                fill(at * 30);
            }
            while counted(&log) == at {
                if let Err(error) = step(&log, at).await {
                    assert!(matches!(&error, AppendError::Storage(error) if error.is_transient()), "{error:?}");
                    failures += 1;
                    limit(None);
                }
            }
            assert_eq!(counted(&log), at + 1);
            limit(None);
            if at % 50 == 9 {
                fill(at * 30);
            }
            let key = format!("key {at}");
            let once = || log.append_once("c", &key, [0; 32], vec![event(10_000 + at)], 0);
            while let Err(error) = once().await {
                assert!(matches!(&error, AppendError::Storage(error) if error.is_transient()), "{error:?}");
                failures += 1;
                limit(None);
            }
            limit(None);
            assert!(once().await.unwrap().is_repeat);
        }
        assert!(failures > 0, "the disk never failed");
    });
    println!("went on from its mark");
}

#[test]
fn a_kill_at_any_moment_leaves_a_mark_and_its_events_in_step() {
    const KILLS: usize = 20;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut reached = 0;
    for kill in 0..KILLS {
        let mut process = child("events::marked_tests::killed_child", directory.path(), &[]).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        let mut left = random.usize(1..300);
        while left > 0 {
            let line = lines.next().expect("it ended early").unwrap();
            let Some(at) = line.strip_prefix("at ").and_then(|at| at.strip_suffix(" .")) else { continue };
            acknowledged = at.parse().unwrap();
            left -= 1;
        }
        for _ in 0..random.u32(0..3_000_000) {
            std::hint::spin_loop();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let log = open(directory.path());
        let count = counted(&log);
        assert!(count >= acknowledged && acknowledged > reached, "seed {seed}, kill {kill}");
        let events = all(&log);
        // Steps in their order, each once; after each the batch of its key, but perhaps the last.
        let steps = events.iter().filter(|event| event.at_ms < 1_000_000).map(|event| event.at_ms.cast_unsigned());
        assert!(steps.eq(0..count), "seed {seed}, kill {kill}");
        let keyed = events.iter().filter(|event| event.at_ms >= 1_000_000).map(|event| event.at_ms - 1_000_000);
        let keyed: Vec<_> = keyed.map(i64::cast_unsigned).collect();
        assert!(keyed.len() as u64 >= count - 1, "seed {seed}, kill {kill}");
        assert!(keyed.iter().copied().eq(0..keyed.len() as u64), "seed {seed}, kill {kill}");
        reached = count;
        log.close();
    }
}

#[test]
fn killed_child() {
    let Some(directory) = directory_given() else { return };
    let log = open(&directory);
    Runtime::new().unwrap().block_on(async {
        // What the process before may have left undone, and may have done without hearing of it.
        let first = counted(&log);
        for at in first.saturating_sub(1).. {
            if at >= first {
                step(&log, at).await.unwrap();
            }
            let events = vec![event(1_000_000 + at)];
            log.append_once("c", &format!("key {at}"), [0; 32], events, 0).await.unwrap();
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "at {} .", at + 1).unwrap();
            stdout.flush().unwrap();
        }
    });
}
