//! A process that derives is killed at random moments, again and again, while events flow into its log. What it derived in
//! the end is what an undisturbed one derives.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::*;

/// Where a child finds its files; set by the test for its child alone.
const CHILD_DIRECTORY: &str = "HOLDFAST_TEST_LEARNING_CHILD";
/// Set to `full`, the test kills as often, and has as many events, as the figures in `docs/BENCHMARKS.md` say.
const SCALE: &str = "HOLDFAST_SCALE";
const SEED: u64 = 11;
/// Events that the child appends at a time.
const TOGETHER: usize = 50;

struct Size {
    events: usize,
    kills: usize,
}

#[expect(clippy::disallowed_methods, reason = "how large the test is, by whoever runs it")]
fn size() -> Size {
    match std::env::var(SCALE).as_deref() {
        Ok("full") => Size { events: 50_000, kills: 300 },
        _ => Size { events: 3_000, kills: 12 },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_derived_survives_kills_at_any_moment() {
    let size = size();
    if let Some(directory) = directory_given() {
        return flow(&directory, size.events).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let (disturbed, quiet) = (folder.path().join("disturbed"), folder.path().join("quiet"));
    for directory in [&disturbed, &quiet] {
        std::fs::create_dir(directory).unwrap();
    }
    let mut random = fastrand::Rng::new();
    let seed = random.get_seed();
    let (mut killed, mut whole_ms) = (0, 0);
    // The first run says how long one takes; it is thrown away with what it made.
    let began = Instant::now();
    assert!(child(&quiet).wait().unwrap().success());
    whole_ms += u64::try_from(began.elapsed().as_millis()).unwrap();
    let mut moment_max = (whole_ms * 2 / size.kills as u64).max(40);
    while killed < size.kills {
        let mut process = child(&disturbed);
        std::thread::sleep(Duration::from_millis(random.u64(1..=moment_max)));
        if process.try_wait().unwrap().is_some() {
            // It came to its end before it was killed, which does not count. Everything has flowed: from now on it is killed
            // while it starts.
            moment_max = (moment_max / 2).max(5);
            continue;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        killed += 1;
    }
    assert!(child(&disturbed).wait().unwrap().success(), "seed {seed}");
    let [one, other] = [&disturbed, &quiet].map(|directory| {
        let store = LearningStore::open_at(&directory.join("learning.db")).unwrap();
        (derived(&store), store.checkpoints().unwrap(), vectors(&store))
    });
    assert_eq!(one.1, other.1, "seed {seed}: the stages are elsewhere");
    assert_eq!(one.2, other.2, "seed {seed}: other vectors");
    assert!(
        one.0 == other.0,
        "seed {seed}: {killed} kills changed what was derived: {}",
        first_difference(&one.0, &other.0)
    );
    assert!(one.0.lines().count() > size.events / 8);
}

/// Appends what the log lacks of a known flow of events while everything derives, and waits for the end.
async fn flow(directory: &Path, events: usize) {
    let log = EventLog::open_at(&directory.join("events.db")).unwrap();
    let store = LearningStore::open_at(&directory.join("learning.db")).unwrap();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let learning = Learning::start(Parts {
        store,
        log: log.clone(),
        datasets: Datasets::open(&directory.join("datasets")).unwrap(),
        encode: Some(Arc::new(ByWords)),
        shelf: None,
        drop_folder: None,
        keeping: None,
        shutdown: stop.clone(),
        tasks: tasks.clone(),
    });
    let all = happenings(SEED, events * 5 / 8);
    let there = usize::try_from(log.last_position()).unwrap();
    for chunk in all[there.min(all.len())..].chunks(TOGETHER) {
        log.append(chunk.to_vec()).await.unwrap();
    }
    learning.caught_up().await.unwrap();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

fn vectors(store: &LearningStore) -> Vec<(i64, Vec<u8>)> {
    store.read(|fold| fold.vectors("words", 0, usize::MAX >> 1)).unwrap()
}

fn first_difference(one: &str, other: &str) -> String {
    let lines = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    lines.map_or_else(|| "one is longer".to_owned(), |(one, other)| format!("\n{one}\n{other}"))
}

#[expect(clippy::disallowed_methods, reason = "the test's own child; killed or awaited by its maker")]
fn child(directory: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::kills::what_is_derived_survives_kills_at_any_moment", "--nocapture"])
        .env(CHILD_DIRECTORY, directory)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[expect(clippy::disallowed_methods, reason = "set by the parent test for its child alone")]
fn directory_given() -> Option<std::path::PathBuf> {
    std::env::var_os(CHILD_DIRECTORY).map(Into::into)
}
