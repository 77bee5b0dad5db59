//! Services that do not work: what is told of it, and when they are tried again.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast_resilience::health::{Report, Status};
use holdfast_supervisor::{Cause, Failure, Jitter, State, ports};

use crate::rig::{Heard, Lifeline, PATIENCE, Rig, is_known, never, until, until_failed};

/// Adds a service, removes it, and returns its first failure.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
async fn failure(rig: &Rig, spec: holdfast_supervisor::Spec) -> Failure {
    let service = rig.supervisor.add(spec).unwrap();
    let failure = until(&service, |now| now.failure.is_some()).await.failure.unwrap();
    rig.supervisor.remove(service.name()).await;
    Failure::clone(&failure)
}

#[tokio::test]
async fn one_that_ends_at_once_is_told_with_its_code_and_last_words() {
    let rig = Rig::new();
    let mut spec = rig.spec("s", "echo loading; printf 'error: \\033[31mno such model\\033[0m\\n' >&2; exit 3");
    spec.ready = never();
    let failure = failure(&rig, spec).await;
    assert_eq!(failure.cause.to_string(), "it ended with code 3 before it was ready");
    assert!(failure.last_words.ends_with("loading\nerror: no such model"), "{failure}");
    rig.end().await;
}

#[tokio::test]
async fn one_that_is_killed_is_told_with_the_signal() {
    let rig = Rig::new();
    let mut spec = rig.spec("s", "kill -SEGV $$");
    spec.ready = never();
    let failure = failure(&rig, spec).await;
    assert_eq!(failure.cause.to_string(), "it ended by SIGSEGV: it has a defect before it was ready");
    rig.end().await;
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let rig = Rig::new();
    let plain = rig.path("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let lost = rig.path("lost");
    fs::write(&lost, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&lost, fs::Permissions::from_mode(0o755)).unwrap();
    let cases: [(PathBuf, &str); 5] = [
        ("/no/such/program".into(), "it does not exist, or what its first line names does not"),
        ("no-such-program-in-path".into(), "it does not exist, or what its first line names does not"),
        (lost, "it does not exist, or what its first line names does not"),
        (plain, "it is not an executable file, or not for this user"),
        (rig.folder.path().into(), "it is not an executable file, or not for this user"),
    ];
    for (program, what) in cases {
        let mut spec = rig.spec("s", "");
        spec.program = program.clone();
        let failure = failure(&rig, spec).await;
        assert_eq!(failure.cause, Cause::NotStarted { what: what.to_owned() }, "{program:?}");
        assert_eq!(failure.cause.to_string(), format!("its program cannot be started: {what}"));
    }
    let mut spec = rig.spec("s", "exit 0");
    spec.working_directory = rig.path("gone");
    let failure = failure(&rig, spec).await;
    assert!(failure.to_string().contains("working directory cannot be entered"), "{failure}");
    rig.end().await;
}

#[tokio::test]
async fn one_that_never_becomes_its_program_can_be_stopped_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let mut lifeline = Lifeline::new(folder.path());
    let program = folder.path().join("program");
    fs::write(&program, format!("#!/bin/sh\n{}exec sleep 1000\n", lifeline.held())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let rig = Rig::through(program);
    let service = rig.supervisor.add(rig.spec("s", "")).unwrap();
    lifeline.pid().await;
    // Sooner than it is given up.
    tokio::time::timeout(Duration::from_secs(8), service.stop()).await.unwrap();
    assert_eq!(lifeline.next().await, Heard::Gone);
    assert!(matches!(service.state(), State::Stopped { .. }));
    rig.end().await;
}

#[tokio::test]
async fn pauses_grow_and_begin_anew_after_a_while_of_health() {
    let rig = Rig::new();
    let is_good = Arc::new(AtomicBool::new(false));
    let mut spec = rig.spec("s", "test -e good && exec sleep 1000; exit 1");
    spec.restart.first = Duration::from_millis(20);
    spec.restart.healthy_after = Duration::from_millis(100);
    spec.ready = {
        let is_good = Arc::clone(&is_good);
        Arc::new(move || {
            let is_good = is_good.load(Ordering::SeqCst);
            async move { if is_good { Ok(()) } else { Err("no".to_owned()) } }
        })
    };
    let (service, began) = (rig.supervisor.add(spec).unwrap(), Instant::now());
    let failed = until_failed(&service, 4).await;
    let State::BackingOff { pause, attempt, .. } = failed.state else { unreachable!() };
    assert_eq!(pause, Duration::from_millis(20) * 2_u32.pow(attempt - 1));
    let waited = Duration::from_millis(20 + 40 + 80);
    assert!(began.elapsed() >= waited, "it did not wait: {:?}", began.elapsed());
    assert_eq!(failed.restarts, u64::from(attempt) - 1);
    is_good.store(true, Ordering::SeqCst);
    fs::write(rig.path("good"), "").unwrap();
    let ready = until(&service, |now| matches!(now.state, State::Ready { .. })).await;
    assert!(ready.failure.is_some(), "what was is still told");
    let healthy = until(&service, |now| now.failure.is_none()).await;
    let State::Ready { since, pid } = healthy.state else { panic!("{healthy:?}") };
    assert!(since.elapsed().unwrap() >= Duration::from_millis(100));
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid as i32).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    let failed = until(&service, |now| now.failure.is_some()).await;
    assert!(matches!(failed.state, State::BackingOff { attempt: 1, pause, .. } if pause == Duration::from_millis(20)));
    let reason = failed.health.reason.unwrap();
    assert_eq!(
        reason,
        "it ended by SIGKILL: somebody ended it, often the system for want of memory; it is started again"
    );
    rig.end().await;
}

#[tokio::test]
async fn one_that_fails_soon_after_it_was_ready_waits_longer_each_time() {
    let rig = Rig::new();
    let mut spec = rig.spec("s", "sleep 0.05; exit 7");
    spec.restart.jitter = Jitter::Full;
    let service = rig.supervisor.add(spec).unwrap();
    let failed = until_failed(&service, 3).await;
    assert_eq!(failed.failure.unwrap().cause.to_string(), "it ended with code 7");
    rig.end().await;
}

#[tokio::test]
async fn one_that_is_never_ready_is_ended_at_the_deadline_and_tried_again() {
    let rig = Rig::new();
    let mut line = Lifeline::new(rig.folder.path());
    let mut spec = rig.spec("s", &format!("{} echo still loading; exec sleep 1000", line.held()));
    spec.ready = never();
    spec.checks.start_within = Duration::from_millis(300);
    spec.without_it = Status::Down;
    let (service, began) = (rig.supervisor.add(spec).unwrap(), Instant::now());
    let first = line.pid().await;
    let failed = until_failed(&service, 1).await;
    assert!(began.elapsed() >= Duration::from_millis(300));
    let failure = failed.failure.unwrap();
    let cause = Cause::NotReady { within: Duration::from_millis(300), answer: "not yet".to_owned() };
    assert_eq!(failure.cause, cause);
    assert!(failure.last_words.ends_with("still loading"), "{failure}");
    assert!(!is_known(first));
    let [component] = rig.supervisor.components().try_into().unwrap();
    assert_eq!(component.status, Status::Down);
    assert_eq!(line.next().await, Heard::Gone);
    let second = line.pid().await;
    assert_ne!(second, first);
    rig.end().await;
    assert_eq!(line.next().await, Heard::Gone);
}

#[tokio::test]
async fn a_port_that_another_program_has_is_waited_for() {
    let rig = Rig::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut spec = rig.spec("s", "echo ran >> ran; exec sleep 1000");
    spec.port = Some(port);
    let service = rig.supervisor.add(spec).unwrap();
    let failed = until_failed(&service, 2).await;
    let reason = failed.health.reason.unwrap();
    assert_eq!(reason, format!("port {port} of this machine is taken by another program; it is started again"));
    assert!(!rig.path("ran").exists(), "the other program would have answered the probe");
    drop(taken);
    service.until_ready(PATIENCE).await.unwrap();
    rig.end().await;
    assert!(ports::check(port).is_ok());
}

#[tokio::test]
async fn a_restart_does_not_wait_for_the_pause() {
    let rig = Rig::new();
    let mut spec = rig.spec("s", "test -e good && exec sleep 1000; exit 1");
    (spec.restart.first, spec.restart.longest) = (Duration::from_secs(1_000), Duration::from_secs(1_000));
    spec.ready = crate::rig::exists(rig.path("good"));
    let service = rig.supervisor.add(spec).unwrap();
    until_failed(&service, 1).await;
    fs::write(rig.path("good"), "").unwrap();
    service.restart();
    service.until_ready(PATIENCE).await.unwrap();
    rig.end().await;
}

#[tokio::test]
async fn a_pause_ends_with_the_supervisor() {
    let rig = Rig::new();
    let mut spec = rig.spec("s", "exit 1");
    (spec.restart.first, spec.restart.longest) = (Duration::from_secs(1_000), Duration::from_secs(1_000));
    spec.ready = never();
    let service = rig.supervisor.add(spec).unwrap();
    until_failed(&service, 1).await;
    rig.end().await;
    assert!(matches!(service.state(), State::Stopped { .. }));
}

#[tokio::test]
async fn what_a_crashed_service_leaves_behind_is_ended_before_the_next_start() {
    let rig = Rig::new();
    let mut line = Lifeline::new(rig.folder.path());
    let mut spec = rig.spec("s", &format!("{} sleep 1000 & exit 1", line.held()));
    spec.ready = never();
    let service = rig.supervisor.add(spec).unwrap();
    for _ in 0..3 {
        let process = line.pid().await;
        assert_eq!(line.next().await, Heard::Gone);
        assert!(!is_known(process) || matches!(service.state(), State::Stopping { .. }));
    }
    rig.end().await;
}

#[tokio::test]
async fn a_probe_that_panics_leaves_no_process_behind() {
    let rig = Rig::new();
    let mut line = Lifeline::new(rig.folder.path());
    let mut spec = rig.spec("s", &format!("{} touch armed; exec sleep 1000", line.held()));
    let armed = rig.path("armed");
    spec.ready = Arc::new(move || {
        let is_armed = armed.exists();
        async move {
            assert!(!is_armed, "a defect in a probe");
            Err("not yet".to_owned())
        }
    });
    let service = rig.supervisor.add(spec).unwrap();
    line.pid().await;
    assert_eq!(line.next().await, Heard::Gone);
    assert!(service.until_ready(PATIENCE).await.is_err());
    assert!(matches!(service.state(), State::Stopped { .. }));
    let [component] = rig.supervisor.components().try_into().unwrap();
    assert_ne!(component.status, Status::Ready, "it is missed");
    rig.end().await;
}
