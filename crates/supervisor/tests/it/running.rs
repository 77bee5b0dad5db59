//! Services that work: how they become ready, are asked, stopped, restarted and removed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast_resilience::health::{Report, Status};
use holdfast_supervisor::{AddError, Cause, NotReady, State};

use crate::rig::{Heard, Lifeline, PATIENCE, Rig, always, exists, is_known, never, pid, until};

#[tokio::test]
async fn it_is_ready_when_the_probe_and_then_the_trial_say_so() {
    let rig = Rig::new();
    let mut line = Lifeline::new(rig.folder.path());
    let mut spec = rig.spec("model", &format!("{} exec sleep 1000", line.held()));
    let (asked, tried) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    spec.ready = {
        let asked = Arc::clone(&asked);
        Arc::new(move || {
            let enough = asked.fetch_add(1, Ordering::SeqCst) >= 3;
            async move { if enough { Ok(()) } else { Err("loading".to_owned()) } }
        })
    };
    spec.trial = {
        let (asked, tried) = (Arc::clone(&asked), Arc::clone(&tried));
        Some(Arc::new(move || {
            assert!(asked.load(Ordering::SeqCst) >= 4, "tried before it was ready");
            let enough = tried.fetch_add(1, Ordering::SeqCst) >= 1;
            async move { if enough { Ok(()) } else { Err("no token".to_owned()) } }
        }))
    };
    let service = rig.supervisor.add(spec).unwrap();
    assert!(matches!(service.state(), State::Starting { attempt: 1, .. }));
    service.until_ready(PATIENCE).await.unwrap();
    assert_eq!((tried.load(Ordering::SeqCst), line.pid().await), (2, pid(&service)));
    let situation = service.situation();
    assert_eq!((situation.restarts, situation.failure, situation.health.status), (0, None, Status::Ready));
    let components = rig.supervisor.components();
    assert_eq!(components.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["service:model"]);
    rig.end().await;
    assert_eq!(line.next().await, Heard::Gone);
}

#[tokio::test]
async fn a_trial_comes_again_where_it_is_to() {
    let rig = Rig::new();
    let mut spec = rig.spec("s", "exec sleep 1000");
    let (told, mut tried) = tokio::sync::mpsc::channel(1_000);
    spec.trial = Some(Arc::new(move || {
        let told = told.clone();
        async move { told.send(Instant::now()).await.map_err(|error| error.to_string()) }
    }));
    spec.checks.trial_every = Some(Duration::from_millis(100));
    rig.supervisor.add(spec).unwrap();
    let mut moments = Vec::new();
    tried.recv_many(&mut moments, 1).await;
    while moments.len() < 4 {
        tried.recv_many(&mut moments, 1).await;
    }
    let pauses: Vec<_> = moments.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_millis(100)), "{pauses:?}");
    rig.end().await;
}

#[tokio::test]
async fn stopping_ends_one_that_ignores_the_polite_signal() {
    let rig = Rig::new();
    let mut line = Lifeline::new(rig.folder.path());
    let script = format!("trap '' TERM; {} touch armed; while :; do sleep 1000; done", line.held());
    let mut spec = rig.spec("stubborn", &script);
    spec.ready = exists(rig.path("armed"));
    spec.stop_grace = Duration::from_millis(300);
    let service = rig.supervisor.add(spec).unwrap();
    service.until_ready(PATIENCE).await.unwrap();
    let (process, began) = (line.pid().await, Instant::now());
    service.stop().await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300), "the grace was not given: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(matches!(service.state(), State::Stopped { .. }));
    assert!(!is_known(process), "a zombie is left");
    assert_eq!(line.next().await, Heard::Gone);
    assert!(rig.supervisor.components().is_empty(), "nobody misses what was stopped");
    rig.end().await;
}

#[tokio::test]
async fn stopping_lets_one_finish_that_heeds_the_polite_signal() {
    let rig = Rig::new();
    let script = "trap 'echo finished > done; exit 0' TERM; touch armed; while :; do sleep 0.01; done";
    let mut spec = rig.spec("polite", script);
    spec.ready = exists(rig.path("armed"));
    let service = rig.supervisor.add(spec).unwrap();
    service.until_ready(PATIENCE).await.unwrap();
    service.stop().await;
    assert_eq!(std::fs::read_to_string(rig.path("done")).unwrap(), "finished\n");
    rig.end().await;
}

#[tokio::test]
async fn what_it_has_started_ends_with_it() {
    let rig = Rig::new();
    let mut line = Lifeline::new(rig.folder.path());
    // The shell heeds the signal; what it leaves behind does not.
    let script = format!("{} (trap '' TERM; sleep 1000) & (trap '' TERM; sleep 1000) & touch armed; wait", line.held());
    let mut spec = rig.spec("family", &script);
    spec.ready = exists(rig.path("armed"));
    let service = rig.supervisor.add(spec).unwrap();
    service.until_ready(PATIENCE).await.unwrap();
    line.pid().await;
    service.stop().await;
    assert_eq!(line.next().await, Heard::Gone);
    rig.end().await;
}

#[tokio::test]
async fn a_restart_is_another_process_and_is_waited_for() {
    let rig = Rig::new();
    let mut line = Lifeline::new(rig.folder.path());
    let service = rig.supervisor.add(rig.spec("s", &format!("{} exec sleep 1000", line.held()))).unwrap();
    service.until_ready(PATIENCE).await.unwrap();
    let first = line.pid().await;
    for round in 1..=3 {
        service.restart();
        service.until_ready(PATIENCE).await.unwrap();
        assert_eq!(line.next().await, Heard::Gone);
        let next = line.pid().await;
        assert_eq!((pid(&service), service.situation().restarts), (next, round));
        assert_ne!(next, first);
    }
    assert_eq!(service.situation().failure, None, "being told is no failure");
    service.stop().await;
    let late = service.until_ready(PATIENCE).await.unwrap_err();
    assert_eq!(late, NotReady::Stopped { name: "s".to_owned() });
    service.restart();
    service.until_ready(PATIENCE).await.unwrap();
    rig.end().await;
    assert!(matches!(service.state(), State::Stopped { .. }));
    assert!(service.until_ready(PATIENCE).await.is_err(), "it waits for what is never going to be");
}

#[tokio::test]
async fn wishes_in_quick_succession_end_with_the_last() {
    let rig = Rig::new();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let service = rig.supervisor.add(rig.spec("s", "exec sleep 1000")).unwrap();
    for _ in 0..10 {
        for _ in 0..random.usize(..5) {
            match random.u32(..3) {
                0 => service.restart(),
                1 => {
                    // Given up at once; the wish stays.
                    let _ = tokio::time::timeout(Duration::ZERO, service.stop()).await;
                }
                _ => tokio::time::sleep(Duration::from_millis(random.u64(..5))).await,
            }
        }
        service.restart();
        service.until_ready(PATIENCE).await.unwrap();
        let process = pid(&service);
        tokio::time::timeout(PATIENCE, service.stop()).await.unwrap();
        assert!(matches!(service.state(), State::Stopped { .. }) && !is_known(process));
    }
    rig.end().await;
}

#[tokio::test]
async fn one_that_no_longer_works_is_ended_and_started_again() {
    let rig = Rig::new();
    let mut line = Lifeline::new(rig.folder.path());
    let mut spec = rig.spec("s", &format!("{} exec sleep 1000", line.held()));
    let (is_well, checks) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    spec.ready = {
        let (is_well, checks) = (Arc::clone(&is_well), Arc::clone(&checks));
        Arc::new(move || {
            let is_well = is_well.load(Ordering::SeqCst);
            checks.fetch_add(1, Ordering::SeqCst);
            async move { if is_well { Ok(()) } else { Err("it stares into the distance".to_owned()) } }
        })
    };
    spec.checks.failures_max = 4;
    spec.checks.every = Duration::from_millis(50);
    spec.without_it = Status::Down;
    let service = rig.supervisor.add(spec).unwrap();
    service.until_ready(PATIENCE).await.unwrap();
    let first = line.pid().await;
    is_well.store(false, Ordering::SeqCst);
    let before = checks.load(Ordering::SeqCst);
    let unwell = until(&service, |now| now.health.status == Status::Degraded).await;
    assert!(matches!(unwell.state, State::Ready { .. }), "one check that failed ends nothing");
    assert_eq!(unwell.health.reason.as_deref(), Some("a check failed: it stares into the distance"));
    let failed = until(&service, |now| now.failure.is_some()).await;
    let failure = failed.failure.unwrap();
    assert_eq!(failure.cause, Cause::Unwell { failures: 4, answer: "it stares into the distance".to_owned() });
    assert!(checks.load(Ordering::SeqCst) - before >= 4);
    is_well.store(true, Ordering::SeqCst);
    until(&service, |now| now.restarts > 0 && matches!(now.state, State::Ready { .. })).await;
    assert!(!is_known(first));
    assert_eq!(line.next().await, Heard::Gone);
    rig.end().await;
}

#[tokio::test]
async fn a_probe_that_never_answers_is_no_answer() {
    let rig = Rig::new();
    let mut spec = rig.spec("s", "exec sleep 1000");
    spec.ready = Arc::new(std::future::pending::<Result<(), String>>);
    spec.checks.answer_within = Duration::from_millis(20);
    spec.checks.start_within = Duration::from_millis(200);
    let service = rig.supervisor.add(spec).unwrap();
    let failed = until(&service, |now| now.failure.is_some()).await;
    let failure = failed.failure.unwrap();
    assert!(failure.to_string().ends_with("no answer within 0.02 s"), "{failure}");
    rig.end().await;
}

#[tokio::test]
async fn services_do_not_disturb_each_other() {
    let rig = Rig::new();
    let mut line = Lifeline::new(rig.folder.path());
    let good = rig.supervisor.add(rig.spec("good", &format!("{} exec sleep 1000", line.held()))).unwrap();
    let mut slow = rig.spec("slow", "trap '' TERM; touch armed; while :; do sleep 1000; done");
    slow.ready = exists(rig.path("armed"));
    slow.stop_grace = Duration::from_millis(200);
    let slow = rig.supervisor.add(slow).unwrap();
    let bad = rig.supervisor.add(rig.spec("bad", "exit 1")).unwrap();
    let mut late = rig.spec("late", "exec sleep 1000");
    late.ready = never();
    let late = rig.supervisor.add(late).unwrap();
    good.until_ready(PATIENCE).await.unwrap();
    slow.until_ready(PATIENCE).await.unwrap();
    crate::rig::until_failed(&bad, 5).await;
    assert!(matches!(late.state(), State::Starting { .. }));
    slow.stop().await;
    assert!(rig.supervisor.remove("bad").await);
    let names: Vec<_> = rig.supervisor.all().iter().map(|service| service.name().to_owned()).collect();
    assert_eq!(names, ["good", "late", "slow"]);
    let situation = good.situation();
    assert_eq!((pid(&good), situation.restarts), (line.pid().await, 0));
    rig.end().await;
    assert_eq!(line.next().await, Heard::Gone);
}

#[tokio::test]
async fn a_name_and_a_log_belong_to_one() {
    let rig = Rig::new();
    let spec = rig.spec("s", "exec sleep 1000");
    let first = rig.supervisor.add(spec.clone()).unwrap();
    assert_eq!(rig.supervisor.add(spec.clone()).unwrap_err(), AddError::Exists { name: "s".to_owned() });
    let mut other = rig.spec("other", "exec sleep 1000");
    other.log_file = spec.log_file.clone();
    assert_eq!(rig.supervisor.add(other).unwrap_err(), AddError::LogTaken { other: "s".to_owned() });
    first.until_ready(PATIENCE).await.unwrap();
    let process = pid(&first);
    assert!(rig.supervisor.remove("s").await);
    assert!(!is_known(process), "removing returns when it has ended");
    assert!(!rig.supervisor.remove("s").await && rig.supervisor.get("s").is_none());
    first.restart();
    assert!(first.until_ready(PATIENCE).await.is_err(), "what is removed stays so");
    rig.supervisor.add(spec.clone()).unwrap().until_ready(PATIENCE).await.unwrap();
    rig.end().await;
    assert_eq!(rig.supervisor.add(spec).unwrap_err(), AddError::Stopping);
}

#[tokio::test]
async fn what_a_starting_service_is_told_it_does_at_once() {
    let rig = Rig::new();
    let mut line = Lifeline::new(rig.folder.path());
    let mut spec = rig.spec("s", &format!("{} exec sleep 1000", line.held()));
    spec.ready = never();
    let service = rig.supervisor.add(spec).unwrap();
    line.pid().await;
    let late = service.until_ready(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(&late, NotReady::Late { situation, .. } if situation.state.as_str() == "starting"), "{late}");
    tokio::time::timeout(PATIENCE, service.stop()).await.unwrap();
    assert_eq!(line.next().await, Heard::Gone);
    rig.end().await;
}

#[tokio::test]
async fn a_handle_that_is_dropped_stops_nothing() {
    let rig = Rig::new();
    let mut line = Lifeline::new(rig.folder.path());
    let mut spec = rig.spec("s", &format!("{} exec sleep 1000", line.held()));
    spec.ready = always();
    drop(rig.supervisor.add(spec).unwrap());
    let process = line.pid().await;
    let again = rig.supervisor.get("s").unwrap();
    again.until_ready(PATIENCE).await.unwrap();
    assert_eq!(pid(&again), process);
    rig.end().await;
}
