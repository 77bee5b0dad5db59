//! Services end with whoever supervises them, however that ends.

#![expect(clippy::disallowed_methods, reason = "the test's own child, killed and awaited below")]

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::rig::{Heard, Lifeline, PATIENCE, PROGRAM, Rig, exists, pid};

/// What is promised of a service whose supervisor was killed.
const DIES_WITHIN: Duration = Duration::from_secs(1);

#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
fn middle(folder: &std::path::Path, script: &str, readiness: &str) -> Child {
    Command::new(PROGRAM).arg(folder).args([script, readiness]).stdin(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn the_death_of_the_supervising_process_is_that_of_its_services() {
    for readiness in ["ready", "never"] {
        for script in ["exec sleep 1000", "trap '' TERM HUP INT; while :; do :; done"] {
            let folder = tempfile::tempdir().unwrap();
            let mut line = Lifeline::new(folder.path());
            let mut middle = middle(folder.path(), &format!("{}{script}", line.held()), readiness);
            line.pid().await;
            let killed_at = Instant::now();
            middle.kill().unwrap();
            assert_eq!(line.next_within(DIES_WITHIN).await, Heard::Gone, "{script}, {readiness}");
            println!("{script}, {readiness}: gone after {:?}", killed_at.elapsed());
            middle.wait().unwrap();
        }
    }
}

#[tokio::test]
async fn killed_at_any_moment_of_a_start_it_leaves_nobody_behind() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let mut line = Lifeline::new(folder.path());
        let mut middle = middle(folder.path(), &format!("{} exec sleep 1000", line.held()), "ready");
        // Moments from before it begins to after it has; there is no event to wait for in between.
        let moment = Duration::from_micros(random.u64(..30_000));
        tokio::time::sleep(moment).await;
        middle.kill().unwrap();
        middle.wait().unwrap();
        // Whoever holds the line lets go of it; where nobody ever did, this one is heard of.
        drop(std::fs::OpenOptions::new().write(true).open(folder.path().join("lifeline")).unwrap());
        loop {
            if line.next_within(DIES_WITHIN).await == Heard::Gone {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_thread_that_adds_a_service_may_end() {
    let rig = Arc::new(Rig::new());
    let mut line = Lifeline::new(rig.folder.path());
    let spec = rig.spec("s", &format!("{} exec sleep 1000", line.held()));
    let (added, runtime) = (Arc::clone(&rig), tokio::runtime::Handle::current());
    let add = move || {
        let _inside = runtime.enter();
        added.supervisor.add(spec).unwrap()
    };
    let service = tokio::task::spawn_blocking(|| thread::spawn(add).join().unwrap()).await.unwrap();
    service.until_ready(PATIENCE).await.unwrap();
    assert_eq!((line.pid().await, service.situation().restarts), (pid(&service), 0));
    // Another start after it: had the death of a thread been that of the service, it would have ended by then.
    let second = rig.supervisor.add(rig.spec("second", "exec sleep 1000")).unwrap();
    second.until_ready(PATIENCE).await.unwrap();
    assert_eq!(service.state().as_str(), "ready");
    Arc::into_inner(rig).unwrap().end().await;
    assert_eq!(line.next().await, Heard::Gone);
}

#[test]
fn a_runtime_that_is_dropped_takes_its_services_with_it() {
    let outer = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut line = Lifeline::new(folder.path());
    let inner = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let rig = inner.block_on(async {
        let rig = Rig::new();
        let mut spec = rig.spec("s", &format!("{} touch armed; exec sleep 1000", line.held()));
        spec.ready = exists(rig.path("armed"));
        rig.supervisor.add(spec).unwrap().until_ready(PATIENCE).await.unwrap();
        rig
    });
    inner.shutdown_background();
    outer.block_on(async {
        line.pid().await;
        assert_eq!(line.next_within(DIES_WITHIN).await, Heard::Gone);
    });
    drop(rig);
}

#[tokio::test]
async fn the_hidden_argument_is_of_no_use_by_hand() {
    let output = tokio::task::spawn_blocking(|| {
        let by_hand = |arguments: &[&str]| Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap();
        // A parent that it does not have: it must not run anything.
        [by_hand(&["__child"]), by_hand(&["__child", "1", "/", "/bin/echo", "it ran"])]
    });
    let [incomplete, orphan] = output.await.unwrap();
    assert_eq!((incomplete.status.code(), orphan.status.code()), (Some(2), Some(125)));
    assert!(String::from_utf8_lossy(&incomplete.stderr).contains("no use in it by hand"));
    assert!(orphan.stdout.is_empty());
}
