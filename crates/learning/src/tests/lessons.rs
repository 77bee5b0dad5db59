//! Failures with what solved them, patterns, and both on a shelf.

use std::sync::Mutex;

use holdfast_storage::learning::{KnownError, Pattern};

use super::*;
use crate::{
    Asked, Finding, Keeping, Lesson, Shelf, failures, lessons, patterns,
    similar::{self, Memory},
    worker::values,
};

/// Lessons as a knowledge base would have them.
#[derive(Default)]
struct Shelved {
    lessons: Mutex<BTreeMap<(String, String), Lesson>>,
    fails: Mutex<bool>,
}

impl Shelf for Shelved {
    fn rank_by(&self, _: Vec<(String, f32)>) {}

    fn find(&self, _: Caller, _: Asked) -> Finding<'_> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn keep(&self, tenant: String, lessons: Vec<Lesson>, remove: Vec<String>) -> Keeping<'_> {
        Box::pin(async move {
            if *self.fails.lock().unwrap() {
                return Err("the disk is full".to_owned());
            }
            let mut shelf = self.lessons.lock().unwrap();
            for id in remove {
                shelf.remove(&(tenant.clone(), id));
            }
            shelf.extend(lessons.into_iter().map(|lesson| ((tenant.clone(), lesson.id.clone()), lesson)));
            Ok(())
        })
    }

    fn settings(&self) -> String {
        String::new()
    }
}

/// Every stage until none has anything to do, as the worker runs them.
async fn derive(house: &House, shelf: &Shelved) -> Lease {
    house.log.flush().await.unwrap();
    let (store, log, lease) = (house.store.clone(), house.log.clone(), lease(&house.store).await);
    let (encode, memory): (Arc<dyn Encode>, _) = (Arc::new(ByWords), Arc::<Mutex<Memory>>::default());
    let held = lease.clone();
    tokio::task::spawn_blocking(move || {
        fold_all(&store, (&log, None), &held, 100, &|| false).unwrap();
        while failures::pass(&store, &held).unwrap() + values(&store, &held).unwrap() > 0 {}
    })
    .await
    .unwrap();
    while similar::pass(&house.store, &lease, &encode, &memory).await.unwrap() > 0 {}
    while patterns::vectors(&house.store, &lease, &encode).await.unwrap() > 0 {}
    let (store, held) = (house.store.clone(), lease.clone());
    tokio::task::spawn_blocking(move || {
        while values(&store, &held).unwrap() > 0 {}
        patterns::pass(&store, &held).unwrap();
        assert_eq!(patterns::pass(&store, &held).unwrap(), 0, "nothing has changed");
    })
    .await
    .unwrap();
    while lessons::pass(&house.store, &lease, shelf).await.unwrap() > 0 {}
    lease
}

fn told(id: u128, session: Option<&str>, body: Value) -> NewEvent {
    let mut event = event(INTERACTION_TOLD, Uuid::from_u128(id), NOON_MS + id.cast_signed() as i64, body);
    event.session = session.map(Into::into);
    event
}

fn outcome(id: u128, body: Value) -> NewEvent {
    event(OUTCOME_TOLD, Uuid::from_u128(id), NOON_MS + 1_000_000, body)
}

fn refused(port: u16) -> String {
    format!(
        "Traceback (most recent call last):\n  File \"/srv/app/{port}.py\", line {port}, in <module>\nConnectionRefusedError: [Errno 111] Connection refused: 127.0.0.1:{port}"
    )
}

fn errors(house: &House, tenant: Option<&str>) -> Vec<KnownError> {
    house.store.read(|fold| fold.known_errors(tenant, 0, 100)).unwrap()
}

fn found(house: &House) -> Vec<Pattern> {
    house.store.read(|fold| fold.patterns(None, 0, 100)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_counted_once_an_interaction_and_linked_to_what_solved_it() {
    let (house, shelf) = (House::new(), Shelved::default());
    house
        .append(vec![
            told(1, None, json!({ "question": "deploy", "error": refused(5432), "outcome": "failure" })),
            told(2, None, json!({ "question": refused(6379), "answer": "look at the logs" })),
            told(3, None, json!({ "question": "what is a flake", "answer": "a lock" })),
        ])
        .await;
    derive(&house, &shelf).await;
    let known = errors(&house, None);
    assert_eq!(known.len(), 1, "{known:#?}");
    assert_eq!((known[0].seen, known[0].solved_by, known[0].class.as_str()), (2, None, "ConnectionRefusedError"));
    assert_eq!((known[0].first_at_ms, known[0].last_at_ms), (NOON_MS + 1, NOON_MS + 2));
    // One that told of it and succeeded solved it, also when that is said later.
    house.append(vec![outcome(2, json!({ "outcome": "success" }))]).await;
    derive(&house, &shelf).await;
    assert_eq!(errors(&house, None)[0].solved_by, Some(Uuid::from_u128(2)));
    let lesson = shelf.lessons.lock().unwrap().values().next().cloned().unwrap();
    assert!(lesson.kind == "known_error" && lesson.text.contains("look at the logs"), "{lesson:?}");
    // What is said to have solved it counts more, and what is taken back does not.
    house
        .append(vec![
            outcome(1, json!({ "solved_by": Uuid::from_u128(3) })),
            outcome(2, json!({ "outcome": "withdrawn" })),
        ])
        .await;
    derive(&house, &shelf).await;
    assert_eq!(errors(&house, None)[0].solved_by, Some(Uuid::from_u128(3)));
    assert!(shelf.lessons.lock().unwrap().values().any(|lesson| lesson.text.contains("a lock")));
    assert_eq!(errors(&house, Some("somebody else")), []);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_of_a_session_that_succeeds_solves_what_failed_before() {
    let (house, shelf) = (House::new(), Shelved::default());
    house
        .append(vec![
            told(1, Some("s"), json!({ "question": "deploy", "error": refused(5432), "outcome": "failure" })),
            told(2, Some("t"), json!({ "question": "of another", "answer": "no", "outcome": "success" })),
            told(3, Some("s"), json!({ "question": "and now", "answer": "start the database", "outcome": "success" })),
            told(4, Some("s"), json!({ "question": "thanks", "answer": "gladly", "outcome": "success" })),
        ])
        .await;
    derive(&house, &shelf).await;
    assert_eq!(errors(&house, None)[0].solved_by, Some(Uuid::from_u128(3)));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_secret_is_not_in_lessons() {
    let (house, shelf) = (House::new(), Shelved::default());
    let secret = format!("{}_{}", "ghp", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let error = format!("error: push failed for anna.schmidt@firma.de with {secret}");
    house
        .append(vec![told(
            1,
            None,
            json!({ "question": error, "answer": format!("use {secret} no more"), "outcome": "success" }),
        )])
        .await;
    derive(&house, &shelf).await;
    let kept = format!("{:?} {:?}", shelf.lessons.lock().unwrap(), errors(&house, None));
    assert!(kept.contains("push failed") && kept.contains("no more"), "{kept}");
    assert!(!kept.contains(&secret) && !kept.contains("schmidt"), "{kept}");
    house.stop().await;
}

/// Questions of one subject with their answers, and how each went.
fn asked(from: u128, subject: &str, answer: &str, outcome: &str, count: u128) -> Vec<NewEvent> {
    let ask = |number: u128| {
        let question = format!("{subject} case {number}");
        told(from + number, None, json!({ "question": question, "answer": answer, "outcome": outcome }))
    };
    (0..count).map(ask).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_again_and_worked_is_a_pattern() {
    let (house, shelf) = (House::new(), Shelved::default());
    let subject = "how do I pin an input of my flake to one revision";
    let other = "why does the cursor vanish in a full screen terminal window";
    house.append(asked(100, subject, "name the revision in its URL", "success", 8)).await;
    house.append(asked(200, other, "reset the terminal once more", "success", 7)).await;
    house.append(asked(300, "unlike all else and", "nothing helped here", "failure", 7)).await;
    house.append(asked(400, "once only a question of its own", "yes", "success", 1)).await;
    derive(&house, &shelf).await;
    let patterns = found(&house);
    let seen: Vec<(u64, bool)> = patterns.iter().map(|pattern| (pattern.members, pattern.is_junk)).collect();
    assert_eq!(seen, [(8, false), (7, false)], "{patterns:#?}");
    assert!(patterns[0].problem.contains(subject) && patterns[0].approach.contains("revision"), "{patterns:#?}");
    let counts = house.store.read(|fold| fold.lesson_counts()).unwrap();
    assert_eq!((counts.patterns, counts.junk, counts.points, counts.alone, counts.shelved), (2, 0, 16, 1, 2));
    let id = patterns[0].id;
    // Others that join change what it is worth, not what it is called.
    house.append(asked(150, subject, "name the revision in its URL", "success", 3)).await;
    derive(&house, &shelf).await;
    let more = found(&house);
    assert!(more[0].id == id && more[0].members == 11 && more[0].value > patterns[0].value, "{more:#?}");
    // One that fails as often as it works is junk, and is not given to anybody any more.
    house.append(asked(600, other, "reset the terminal once more", "failure", 9)).await;
    derive(&house, &shelf).await;
    let (junk, kept) = (found(&house), shelf.lessons.lock().unwrap().clone());
    assert_eq!(junk.iter().filter(|pattern| pattern.is_junk && pattern.against == 9).count(), 1, "{junk:#?}");
    assert_eq!(kept.len(), 1, "{kept:#?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_nothing_is_heard_loses_worth() {
    let (house, shelf) = (House::new(), Shelved::default());
    let day = 86_400_000;
    house.append(asked(100, "how do I pin an input of my flake to one revision", "so", "success", 8)).await;
    derive(&house, &shelf).await;
    let before = found(&house)[0].value;
    let mut late = told(900, None, json!({ "question": "much later", "answer": "yes", "outcome": "success" }));
    late.at_ms = NOON_MS + 180 * day;
    house.append(vec![late]).await;
    derive(&house, &shelf).await;
    let after = found(&house)[0].value;
    assert!((after / before - 0.5).abs() < 0.01, "{before} {after}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shelf_that_fails_is_told_again() {
    let (house, shelf) = (House::new(), Shelved::default());
    *shelf.fails.lock().unwrap() = true;
    house.append(vec![told(1, None, json!({ "question": refused(80), "answer": "so", "outcome": "success" }))]).await;
    let (store, log, lease) = (house.store.clone(), house.log.clone(), lease(&house.store).await);
    let held = lease.clone();
    tokio::task::spawn_blocking(move || {
        fold_all(&store, (&log, None), &held, 100, &|| false).unwrap();
        failures::pass(&store, &held).unwrap()
    })
    .await
    .unwrap();
    let failed = lessons::pass(&house.store, &lease, &shelf).await;
    assert!(failed.is_err_and(|error| error.to_string().contains("disk is full")));
    *shelf.fails.lock().unwrap() = false;
    assert_eq!(lessons::pass(&house.store, &lease, &shelf).await.unwrap(), 1);
    assert_eq!(lessons::pass(&house.store, &lease, &shelf).await.unwrap(), 0);
    house.stop().await;
}
