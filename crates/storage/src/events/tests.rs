//! The event log as its callers see it, and what is left of it after a kill and a disk that fails.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::sync_channel,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinSet};

use super::*;

/// Tells the re-executed test binary where its log is; unset in an ordinary run.
pub(crate) const CHILD_DIRECTORY: &str = "HOLDFAST_TEST_EVENTS_DIRECTORY";

/// An event of its own; the same number gives the same one.
pub(crate) fn event(number: u64) -> NewEvent {
    NewEvent {
        id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(number)),
        kind: "thing_happened".into(),
        version: 1,
        tenant: "default".into(),
        interaction: None,
        session: None,
        caller: "key_1".into(),
        at_ms: i64::try_from(number).unwrap(),
        body: json!({ "number": number }).to_string().into_bytes(),
    }
}

fn open(folder: &Path) -> EventLog {
    EventLog::open_at(&folder.join("events.db")).unwrap()
}

/// Everything there is, after a look at the positions.
pub(crate) fn all(log: &EventLog) -> Vec<Event> {
    let (mut events, mut position) = (Vec::new(), 0);
    loop {
        let page = log.read_after(position, 1_000, &EventFilter::default()).unwrap();
        if page.events.is_empty() {
            break;
        }
        position = page.through;
        events.extend(page.events);
    }
    let positions = events.iter().map(|event| event.position);
    assert!(positions.eq(1..=events.len() as u64), "positions have gaps or are out of order");
    assert_eq!(events.iter().map(|event| event.id).collect::<HashSet<_>>().len(), events.len());
    assert_eq!(log.last_position(), events.len() as u64);
    events
}

fn number(event: &Event) -> u64 {
    serde_json::from_slice::<Value>(&event.body).unwrap()["number"].as_u64().unwrap()
}

/// Keeps the writer busy until the answer is dropped.
pub(crate) fn occupy(log: &EventLog) -> std::sync::mpsc::SyncSender<()> {
    let (free, freed) = sync_channel::<()>(1);
    let (begun, has_begun) = sync_channel(1);
    let database = log.inner.database.clone();
    std::thread::spawn(move || {
        database.write_blocking(move |_| {
            begun.send(()).unwrap();
            let _ = freed.recv();
            Ok(())
        })
    });
    has_begun.recv().unwrap();
    free
}

#[expect(clippy::disallowed_methods, reason = "the test's own child; killed or awaited by its maker")]
pub(crate) fn child(test: &str, directory: &Path, wrapper: &[&str]) -> Command {
    let test_binary = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(test_binary),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(test_binary);
            command
        }
    };
    command.args(["--exact", test, "--nocapture"]).env(CHILD_DIRECTORY, directory).stdout(Stdio::piped());
    command
}

#[expect(clippy::disallowed_methods, reason = "set by the parent test for its child alone")]
pub(crate) fn directory_given() -> Option<std::path::PathBuf> {
    std::env::var_os(CHILD_DIRECTORY).map(Into::into)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    for first in (0..2_000).step_by(500) {
        log.append((first..first + 500).map(event).collect()).await.unwrap();
    }
    assert_eq!(log.integrity().unwrap(), Vec::<String>::new());
    tokio::task::block_in_place(|| log.close());
    let path = folder.path().join("events.db");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8_192].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let log = open(folder.path());
    assert!(!log.integrity().unwrap().is_empty());
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_stand_in_the_order_in_which_they_were_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let mut positions = log.positions();
    for number in 0..1_000 {
        if number % 100 == 99 {
            assert_eq!(log.append(vec![event(number)]).await.unwrap(), [number + 1]);
            assert!(log.last_position() > number);
        } else {
            log.record(event(number)).unwrap();
        }
    }
    assert_eq!(log.append((1_000..1_010).map(event).collect()).await.unwrap(), (1_001..=1_010).collect::<Vec<_>>());
    assert!(log.append(Vec::new()).await.unwrap().is_empty());
    assert_eq!(*positions.wait_for(|position| *position == 1_010).await.unwrap(), 1_010);
    let events = all(&log);
    assert!(events.iter().map(number).eq(0..1_010));
    let first = &events[0];
    assert_eq!((first.id, &*first.kind, first.version, first.at_ms), (event(0).id, "thing_happened", 1, 0));
    assert_eq!((&*first.tenant, &*first.caller, &first.session), ("default", "key_1", &None));
    assert_eq!(log.queue().length, 0);
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_wanted_is_read_and_a_page_says_how_far_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let interaction = Uuid::now_v7();
    let events = (0..30).map(|number| NewEvent {
        kind: if number % 3 == 0 { "third".into() } else { "other".into() },
        tenant: if number < 20 { "a".into() } else { "b".into() },
        caller: if number % 2 == 0 { "key_even".into() } else { "key_odd".into() },
        session: (number % 5 == 0).then(|| "ses_1".into()),
        interaction: (number > 24).then_some(interaction),
        ..event(number)
    });
    log.append(events.collect()).await.unwrap();
    let check = |filter: &EventFilter, expected: &[u64]| {
        let page = log.read_after(0, 100, filter).unwrap();
        assert_eq!(page.events.iter().map(number).collect::<Vec<_>>(), expected, "{filter:?}");
        assert_eq!(page.through, 30, "{filter:?}");
        let page = log.read_before(None, 100, filter).unwrap();
        assert!(page.events.iter().rev().map(number).eq(expected.iter().copied()), "{filter:?} backwards");
        assert_eq!(page.through, 0, "{filter:?}");
    };
    let any = EventFilter::default;
    let named = |name: &str| Some(name.to_owned());
    check(&any(), &(0..30).collect::<Vec<_>>());
    check(
        &EventFilter { kinds: vec!["third".into(), "unknown".into()], ..any() },
        &[0, 3, 6, 9, 12, 15, 18, 21, 24, 27],
    );
    check(&EventFilter { kinds: vec!["unknown".into()], ..any() }, &[]);
    check(&EventFilter { tenant: named("b"), kinds: vec!["third".into()], ..any() }, &[21, 24, 27]);
    check(&EventFilter { session: named("ses_1"), caller: named("key_odd"), ..any() }, &[5, 15, 25]);
    check(&EventFilter { caller: named("key_even"), tenant: named("b"), ..any() }, &[20, 22, 24, 26, 28]);
    check(&EventFilter { caller: named("nobody"), ..any() }, &[]);

    let own = EventFilter { caller: named("key_odd"), ..any() };
    let found = log.of_interaction(interaction, &own).unwrap();
    assert_eq!(found.iter().map(number).collect::<Vec<_>>(), [25, 27, 29]);
    assert_eq!(log.of_interaction(interaction, &any()).unwrap().len(), 5);
    assert_eq!(log.of_interaction(Uuid::now_v7(), &any()).unwrap(), []);

    let page = log.read_after(3, 2, &own).unwrap();
    assert_eq!((page.events.iter().map(number).collect::<Vec<_>>(), page.through), (vec![3, 5], 6));
    let page = log.read_before(Some(6), 2, &own).unwrap();
    assert_eq!((page.events.iter().map(number).collect::<Vec<_>>(), page.through), (vec![3, 1], 2));
    assert_eq!(log.read_after(30, 2, &any()).unwrap(), EventPage { events: vec![], through: 30 });
    // A checkpoint of another log, or of one that was restored from an older copy, stays where it is.
    assert_eq!(log.read_after(90, 2, &any()).unwrap(), EventPage { events: vec![], through: 90 });
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_after_so_many_events_that_nobody_wants() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let count = SCAN_MAX as u64 + 5;
    for number in 0..count {
        log.record(event(number)).unwrap();
    }
    log.append(vec![NewEvent { kind: "rare".into(), ..event(count) }]).await.unwrap();
    let rare = EventFilter { kinds: vec!["rare".into()], ..EventFilter::default() };
    let first = log.read_after(0, 10, &rare).unwrap();
    assert_eq!((first.events.len(), first.through), (0, SCAN_MAX as u64));
    let second = log.read_after(first.through, 10, &rare).unwrap();
    assert_eq!((second.events.len(), second.through), (1, count + 1));
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_refused_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let long: Arc<str> = "x".repeat(NAME_BYTES_MAX + 1).into();
    let bad = [
        NewEvent { body: vec![b'x'; EVENT_BYTES_MAX + 1], ..event(1) },
        NewEvent { kind: "".into(), ..event(1) },
        NewEvent { kind: "Upper".into(), ..event(1) },
        NewEvent { kind: "with space".into(), ..event(1) },
        NewEvent { kind: "x".repeat(KIND_BYTES_MAX + 1).into(), ..event(1) },
        NewEvent { tenant: "".into(), ..event(1) },
        NewEvent { caller: Arc::clone(&long), ..event(1) },
        NewEvent { session: Some(long), ..event(1) },
    ];
    for (count, bad) in (1..).zip(bad) {
        assert!(matches!(log.record(bad.clone()), Err(NotRecorded::Bad(_))), "{:?}", bad.kind);
        assert!(matches!(log.append(vec![event(1), bad]).await, Err(AppendError::Bad(_))));
        assert_eq!(log.lost(), count);
    }
    let many = (0..=APPEND_EVENTS_MAX as u64).map(event).collect();
    assert!(matches!(log.append(many).await, Err(AppendError::TooMany { count: 1_001, .. })));
    let large = |number| NewEvent { body: vec![b'x'; EVENT_BYTES_MAX], ..event(number) };
    assert!(matches!(log.append((0..9).map(large).collect()).await, Err(AppendError::TooMany { count: 9, .. })));
    log.append((0..8).map(large).collect()).await.unwrap();
    assert_eq!(all(&log).len(), 8);
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_full_refuses_at_once_and_loses_only_what_it_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let busy = occupy(&log);
    let mut taken = 0;
    while log.record(event(taken)).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, QUEUED_EVENTS_MAX as u64);
    assert_eq!(log.record(event(taken)), Err(NotRecorded::Overflow));
    assert_eq!((log.lost(), log.queue().length, log.queue().limit), (2, QUEUED_EVENTS_MAX, QUEUED_EVENTS_MAX));
    drop(busy);
    log.flush().await.unwrap();
    assert_eq!((log.queue().length, log.last_position()), (0, taken));

    let busy = occupy(&log);
    let large = |number| NewEvent { body: vec![b'x'; EVENT_BYTES_MAX], ..event(number) };
    let fitting = QUEUED_BYTES_MAX / large(0).size_bytes();
    for number in 0..fitting as u64 {
        log.record(large(taken + number)).unwrap();
    }
    assert_eq!(log.record(large(0)), Err(NotRecorded::Overflow));
    drop(busy);
    log.flush().await.unwrap();
    assert_eq!(all(&log).len(), taken as usize + fitting);
    tokio::task::block_in_place(|| log.close());
}

#[test]
fn closing_commits_what_is_queued_and_nothing_comes_after() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    for number in 0..5_000 {
        log.record(event(number)).unwrap();
    }
    log.close();
    assert_eq!(log.record(event(5_000)), Err(NotRecorded::Closed));
    let runtime = Runtime::new().unwrap();
    let refused = runtime.block_on(log.append(vec![event(5_001)])).unwrap_err();
    assert!(matches!(refused, AppendError::Storage(StorageError::Closed)), "{refused}");
    assert!(matches!(runtime.block_on(log.flush()), Err(StorageError::Closed)));
    let again = open(folder.path());
    assert!(all(&again).iter().map(number).eq(0..5_000));
    again.close();
}

#[test]
fn letting_go_of_the_last_handle_commits_what_is_queued() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    for number in 0..300 {
        log.record(event(number)).unwrap();
    }
    let database = log.inner.database.clone();
    drop(log);
    let began = Instant::now();
    while database.read(rows::last_position).unwrap() < 300 {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
}

#[test]
fn nobody_waits_for_a_writer_that_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let runtime = Runtime::new().unwrap();
    runtime.block_on(log.append(vec![event(0)])).unwrap();
    let broken = log.inner.database.write_blocking::<()>(|_| panic!("a defect"));
    assert!(broken.is_err());
    log.record(event(1)).unwrap();
    assert!(matches!(runtime.block_on(log.flush()), Err(StorageError::Closed)));
    let refused = runtime.block_on(log.append(vec![event(2)])).unwrap_err();
    assert!(matches!(refused, AppendError::Storage(StorageError::Closed)), "{refused}");
    while log.failure().is_none_or(|failure| !failure.contains("recorder")) {
        std::thread::yield_now();
    }
    assert_eq!(log.record(event(3)), Err(NotRecorded::Closed));
    log.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_reverted_is_told_of_until_another_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.at_ms = 0
                  BEGIN SELECT RAISE(ABORT, 'no'); END";
    log.inner.database.write(move |connection| Ok(connection.execute_batch(refuse)?)).await.unwrap();
    assert!(log.append(vec![event(0)]).await.is_err());
    assert!(log.failure().is_some());
    // What comes while the failure is still being told fails with it.
    while log.append(vec![event(1)]).await.is_err() {}
    assert_eq!(log.failure(), None);
    tokio::task::block_in_place(|| log.close());
}

#[test]
fn a_disk_that_fails_loses_nothing_that_was_taken_and_is_used_again() {
    let directory = tempfile::tempdir().unwrap();
    // A file that may not grow answers as a full disk does, if its signal is ignored.
    let ignoring = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
    let output = child("events::tests::failing_disk_child", directory.path(), &ignoring).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("went on by itself"), "{said}");
    let log = open(directory.path());
    let numbers: Vec<_> = all(&log).iter().map(number).collect();
    // Those that were refused while the disk failed may be there or not.
    let taken: Vec<_> = numbers.iter().copied().filter(|number| *number < 10_000).collect();
    assert!(taken.iter().copied().eq(0..2_101), "{} of 2101", taken.len());
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
        log.append((0..100).map(event).collect()).await.unwrap();
        limit(Some(fs::metadata(directory.join("events.db-wal")).unwrap().len()));
        for number in 100..1_100 {
            log.record(event(number)).unwrap();
        }
        for number in 10_000..10_010 {
            let refused = log.append(vec![event(number)]).await.unwrap_err();
            assert!(matches!(&refused, AppendError::Storage(error) if error.is_transient()), "{refused:?}");
        }
        for number in 1_100..2_100 {
            log.record(event(number)).unwrap();
        }
        assert!(log.failure().is_some());
        assert!(log.probe().await.is_err());
        assert_eq!(log.queue().length, 2_000);
        assert_eq!(log.read_after(0, 1_000, &EventFilter::default()).unwrap().events.len(), 100);
        limit(None);
        log.flush().await.unwrap();
        assert_eq!((log.failure(), log.lost(), log.queue().length), (None, 0, 0));
        log.append(vec![event(2_100)]).await.unwrap();
    });
    println!("went on by itself");
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    const KILLS: usize = 20;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged: HashMap<u64, String> = HashMap::new();
    for kill in 0..KILLS {
        let mut process = child("events::tests::killed_child", directory.path(), &[]).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut left = random.usize(1..400);
        while left > 0 {
            left -= usize::from(acknowledge(&mut acknowledged, &lines.next().expect("it ended early").unwrap()));
        }
        for _ in 0..random.u32(0..3_000_000) {
            std::hint::spin_loop();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        for line in lines {
            acknowledge(&mut acknowledged, &line.unwrap());
        }
        let log = open(directory.path());
        let events = all(&log);
        for (position, id) in &acknowledged {
            let found = usize::try_from(*position).ok().and_then(|position| events.get(position - 1));
            assert_eq!(found.map(|event| event.id.to_string()).as_ref(), Some(id), "seed {seed}, kill {kill}");
        }
        in_order_of_each_task(&events);
        log.close();
    }
    assert!(acknowledged.len() > KILLS);
}

/// Notes an acknowledgement, if the line is a whole one.
fn acknowledge(acknowledged: &mut HashMap<u64, String>, line: &str) -> bool {
    let mut words = line.split(' ');
    let ["acknowledged", position, id, "."] = [(); 4].map(|()| words.next().unwrap_or_default()) else { return false };
    acknowledged.insert(position.parse().unwrap(), id.to_owned()).is_none()
}

/// What one task handed over stands in the order in which it did, whichever way it took.
fn in_order_of_each_task(events: &[Event]) {
    let mut last: HashMap<(i64, u64), u64> = HashMap::new();
    for event in events {
        let body: Value = serde_json::from_slice(&event.body).unwrap();
        let task = (event.at_ms, body["task"].as_u64().unwrap());
        let number = body["number"].as_u64().unwrap();
        // Nothing before the last one of a task is missing either.
        assert_eq!(last.insert(task, number).map_or(0, |last| last + 1), number, "{task:?}");
    }
}

#[test]
fn killed_child() {
    const TASKS: u64 = 8;
    let Some(directory) = directory_given() else { return };
    let log = open(&directory);
    // Which of the processes it is.
    let run = i64::try_from(log.last_position()).unwrap();
    Runtime::new().unwrap().block_on(async {
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let log = log.clone();
            tasks.spawn(async move {
                for number in 0.. {
                    let body = json!({ "task": task, "number": number }).to_string().into_bytes();
                    let event = NewEvent { id: Uuid::now_v7(), at_ms: run, body, ..event(0) };
                    if number % 3 == 0 {
                        log.record(event).unwrap();
                        continue;
                    }
                    let id = event.id;
                    let positions = log.append(vec![event]).await.unwrap();
                    // Ends with the kill, or where nobody listens any more.
                    let mut stdout = std::io::stdout().lock();
                    writeln!(stdout, "acknowledged {} {id} .", positions[0]).unwrap();
                    stdout.flush().unwrap();
                }
            });
        }
        tasks.join_next().await.unwrap().unwrap();
    });
}
