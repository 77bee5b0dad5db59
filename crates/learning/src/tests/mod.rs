//! The stages over a real log and a real store.

mod kills;
mod lessons;

use std::{collections::BTreeMap, future::Future, path::Path, pin::Pin, sync::Arc};

use holdfast_storage::{
    Caller, EventLog, LearningStore,
    datasets::Datasets,
    events::{
        NewEvent,
        archive::{Archive, Retention},
    },
    learning::{InteractionFilter, InteractionRow, LearningError, Lease, Stale},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    Encode, Encoded, LearnError, Learning, NotEncoded, Parts,
    interactions::{self, given},
    told::{INTERACTION_TOLD, OUTCOME_TOLD, OutcomeTold, OutcomeWord, Signal, Told},
    worker::fold_all,
};

/// One moment, so that nothing depends on when a test runs.
const NOON_MS: i64 = 1_790_000_000_000;
const MINUTE_MS: i64 = 60_000;

/// A vector of which words there are: texts with the same words are equal, and those with others are not.
struct ByWords;

impl Encode for ByWords {
    fn encode(&self, texts: Vec<String>) -> Pin<Box<dyn Future<Output = Result<Encoded, NotEncoded>> + Send + '_>> {
        let vectors = texts.iter().map(|text| words(text)).collect();
        Box::pin(async move { Ok(Encoded { space: "words".to_owned(), vectors }) })
    }
}

fn words(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0_f32; 512];
    for word in text.split_whitespace() {
        for pair in blake3::hash(word.as_bytes()).as_bytes().chunks_exact(2) {
            vector[usize::from(u16::from_be_bytes([pair[0], pair[1]]) % 512)] += 1.0;
        }
    }
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-9);
    vector.iter().map(|value| value / length).collect()
}

struct House {
    folder: TempDir,
    log: EventLog,
    store: LearningStore,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::open_at(&folder.path().join("events.db")).unwrap();
        let store = LearningStore::open_at(&folder.path().join("learning.db")).unwrap();
        Self { folder, log, store, stop: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn learning(&self) -> Learning {
        Learning::start(Parts {
            store: self.store.clone(),
            log: self.log.clone(),
            datasets: Datasets::open(&self.path("datasets")).unwrap(),
            encode: Some(Arc::new(ByWords)),
            shelf: None,
            drop_folder: None,
            keeping: None,
            shutdown: self.stop.clone(),
            tasks: self.tasks.clone(),
        })
    }

    async fn append(&self, events: Vec<NewEvent>) {
        self.log.append(events).await.unwrap();
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// An event of the owner's about an interaction.
fn event(kind: &'static str, interaction: Uuid, at_ms: i64, body: Value) -> NewEvent {
    NewEvent {
        id: Uuid::now_v7(),
        kind: kind.into(),
        version: 1,
        tenant: "owner".into(),
        interaction: Some(interaction),
        session: None,
        caller: "owner".into(),
        at_ms,
        body: body.to_string().into_bytes(),
    }
}

/// A turn as the coordinator records it, with fields that nobody here knows.
fn turn(id: Uuid, at_ms: i64, messages: Value, answer: &str, outcome: &str) -> Vec<NewEvent> {
    let started = json!({
        "request_id": "r", "asked": "auto", "policy": "local-first", "messages": messages, "input_tokens": 3,
        "candidates": [], "cache": "off",
        "context": { "budget_tokens": 100, "tokens": 10, "refused": [], "taken": [
            { "chunk_id": "c1", "document_id": "d1", "collection": "default", "score": 0.5 },
            { "chunk_id": "c2", "document_id": "d1", "collection": "default", "score": 0.4 },
            { "chunk_id": "c3", "document_id": "d2", "collection": "default", "score": 0.3 },
        ] },
    });
    let finished = json!({
        "outcome": outcome, "model": "local/m", "usage": {}, "duration_ms": 1.0, "answer": answer,
        "attempts": [{ "model": "local/m", "started_ms": 0.0, "duration_ms": 1.0, "outcome": "ok", "reason": "it broke" }],
    });
    vec![event("turn_started", id, at_ms, started), event("turn_finished", id, at_ms + 1, finished)]
}

fn asks(question: &str) -> Value {
    json!([{ "role": "system", "text": "be brief" }, { "role": "user", "text": question }])
}

async fn row(learning: &Learning, id: Uuid) -> InteractionRow {
    learning.caught_up().await.unwrap();
    learning.known(&Caller::owner(), id).await.unwrap().row
}

#[tokio::test]
async fn a_turn_becomes_an_interaction_with_a_value() {
    let house = House::new();
    let learning = house.learning();
    let id = Uuid::now_v7();
    house.append(turn(id, NOON_MS, asks("how do I pin it"), "like so", "answered")).await;
    let row = row(&learning, id).await;
    assert_eq!(row.question.as_deref(), Some("how do I pin it"));
    assert_eq!(row.answer.as_deref(), Some("like so"));
    assert_eq!(row.system.as_deref(), Some("be brief"));
    assert_eq!(
        (row.model.as_deref(), row.ended.as_deref(), row.error.as_deref()),
        (Some("local/m"), Some("answered"), None)
    );
    assert_eq!((row.similar, row.nearest, row.stale), (Some(0), Some(0.0), Stale::default()));
    assert_eq!(row.before, None);
    // Neutral feedback, novel, and two words of three hundred.
    let expected = 0.2 * 0.5 + 0.1 + 0.1 * 0.5 * 2.0 / 300.0;
    assert!((row.value.unwrap() - expected).abs() < 1e-9, "{row:?}");
    house.stop().await;
}

#[tokio::test]
async fn an_outcome_may_be_late_twice_corrected_and_out_of_order() {
    let house = House::new();
    let learning = house.learning();
    let id = Uuid::now_v7();
    house.append(turn(id, NOON_MS, asks("a question"), "an answer", "answered")).await;
    let outcome = |word: &str, at_ms| event(OUTCOME_TOLD, id, at_ms, json!({ "outcome": word }));
    let first = outcome("failure", NOON_MS + 5 * MINUTE_MS);
    house.append(vec![first.clone(), first]).await;
    assert_eq!(row(&learning, id).await.outcome.as_deref(), Some("failure"));
    // Said earlier, told later.
    house.append(vec![outcome("success", NOON_MS + MINUTE_MS)]).await;
    assert_eq!(row(&learning, id).await.outcome.as_deref(), Some("failure"));
    house.append(vec![outcome("partial", NOON_MS + 9 * MINUTE_MS)]).await;
    assert_eq!(row(&learning, id).await.outcome.as_deref(), Some("partial"));
    house.append(vec![event(OUTCOME_TOLD, id, NOON_MS, json!({ "feedback": 1.0 }))]).await;
    let now = row(&learning, id).await;
    assert_eq!((now.outcome.as_deref(), now.feedback), (Some("partial"), Some(1.0)));
    house.append(vec![outcome("withdrawn", NOON_MS + 10 * MINUTE_MS)]).await;
    assert_eq!(row(&learning, id).await.outcome, None);
    let evidence = learning.known(&Caller::owner(), id).await.unwrap().evidence;
    let said: Vec<&str> = evidence.iter().map(|evidence| evidence.word.as_str()).collect();
    assert_eq!(said, ["failure", "success", "partial", "note", "withdrawn"]);
    house.stop().await;
}

#[tokio::test]
async fn what_was_said_before_the_interaction_was_told_counts() {
    let house = House::new();
    let learning = house.learning();
    let id = Uuid::now_v7();
    house.append(vec![event(OUTCOME_TOLD, id, NOON_MS, json!({ "outcome": "success", "useful": ["d2", "d9"] }))]).await;
    assert_eq!(row(&learning, id).await.question, None);
    house.append(turn(id, NOON_MS, asks("late"), "answer", "answered")).await;
    let row = row(&learning, id).await;
    assert_eq!((row.outcome.as_deref(), row.question.as_deref()), (Some("success"), Some("late")));
    let given: Vec<(String, bool)> = given(&row).into_iter().map(|given| (given.document, given.is_useful)).collect();
    assert_eq!(given, [("d1".to_owned(), false), ("d2".to_owned(), true)]);
    let shown = house.store.read(|fold| fold.shown()).unwrap();
    let shown: Vec<_> = shown.iter().map(|s| (s.document.as_str(), s.rank, s.shown, s.useful)).collect();
    assert_eq!(shown, [("d1", 0, 1, 0.0), ("d2", 1, 1, 1.0)]);
    house.stop().await;
}

#[tokio::test]
async fn what_happens_next_is_weak_evidence() {
    let house = House::new();
    let learning = house.learning();
    let [asked, again, at_once, complaint, left, failed] = std::array::from_fn(|_| Uuid::now_v7());
    house.append(turn(asked, NOON_MS, asks("how"), "try this", "answered")).await;
    // A program that repeats itself says nothing; a person that asks again a minute later does.
    house.append(turn(at_once, NOON_MS + 5, asks("how"), "try that", "answered")).await;
    house.append(turn(again, NOON_MS + MINUTE_MS, asks("how"), "try what", "answered")).await;
    let said = json!([
        { "role": "user", "text": "how" }, { "role": "assistant", "text": "try this" },
        { "role": "user", "text": "That didn\u{2019}t work: still nothing" },
    ]);
    house.append(turn(complaint, NOON_MS + 2 * MINUTE_MS, said, "sorry", "answered")).await;
    house.append(turn(left, NOON_MS, asks("slow"), "", "abandoned")).await;
    house.append(turn(failed, NOON_MS, asks("broken"), "", "failed")).await;
    learning.caught_up().await.unwrap();
    let words = async |id| {
        let known = learning.known(&Caller::owner(), id).await.unwrap();
        known.evidence.into_iter().map(|evidence| evidence.word).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(words(asked).await, "not_working");
    assert_eq!(words(at_once).await, "regenerated");
    assert_eq!(words(again).await, "");
    assert_eq!(words(left).await, "abandoned");
    assert_eq!(words(failed).await, "no_answer");
    assert_eq!(row(&learning, failed).await.error.as_deref(), Some("it broke"));
    assert!(row(&learning, complaint).await.before.unwrap().contains("try this"));
    house.stop().await;
}

#[tokio::test]
async fn similar_questions_make_each_other_reusable_and_the_later_ones_less_novel() {
    let house = House::new();
    let learning = house.learning();
    let ids: Vec<Uuid> = (0..4).map(|_| Uuid::now_v7()).collect();
    for (id, question) in ids.iter().zip([
        "pin the inputs of a flake",
        "pin the inputs of a flake please",
        "bake bread",
        "pin the inputs of a flake",
    ]) {
        let told = Told { question: question.to_owned(), ..Told::default() };
        assert_eq!(learning.tell(&Caller::owner(), Some(*id), None, None, &told).await.unwrap(), *id);
    }
    let rows = [
        row(&learning, ids[0]).await,
        row(&learning, ids[1]).await,
        row(&learning, ids[2]).await,
        row(&learning, ids[3]).await,
    ];
    assert_eq!(rows.each_ref().map(|row| row.similar), [Some(2), Some(2), Some(0), Some(2)]);
    assert_eq!(rows[3].nearest, Some(1.0));
    assert_eq!(rows[3].nearest_id, Some(ids[0]));
    assert!(rows[1].nearest.unwrap() > 0.85 && rows[2].nearest.unwrap() < 0.5, "{rows:?}");
    house.stop().await;
}

#[tokio::test]
async fn unknown_kinds_and_versions_are_kept_skipped_and_counted() {
    let house = House::new();
    let learning = house.learning();
    let id = Uuid::now_v7();
    let mut newer = event("turn_started", id, NOON_MS, json!({ "form": "unheard of" }));
    newer.version = 2;
    let mut unreadable = event("turn_finished", id, NOON_MS, json!({}));
    unreadable.body = b"{\"outcome\": 5".to_vec();
    house.append(vec![newer, event("invented", id, NOON_MS, json!([1])), unreadable]).await;
    learning.caught_up().await.unwrap();
    let stats = learning.stats().await.unwrap();
    let (name, at) = &stats.checkpoints[0];
    assert_eq!((name.as_str(), at.position, at.folded, at.skipped, at.unreadable), ("interactions", 3, 0, 2, 1));
    let kinds: Vec<_> = stats.kinds.iter().map(|kind| (kind.kind.as_str(), kind.version, kind.is_known)).collect();
    assert_eq!(kinds, [("invented", 1, false), ("turn_finished", 1, true), ("turn_started", 2, false)]);
    house.stop().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_reason() {
    let house = House::new();
    let learning = house.learning();
    let owner = Caller::owner();
    let unknown = learning.outcome(&owner, Uuid::now_v7(), None, &success()).await;
    assert!(matches!(unknown, Err(LearnError::NotFound)), "{unknown:?}");
    let told = Told { question: "q".into(), ..Told::default() };
    let id = learning.tell(&owner, None, None, None, &told).await.unwrap();
    // The same again changes nothing; another under its id is refused.
    assert_eq!(learning.tell(&owner, Some(id), None, None, &told).await.unwrap(), id);
    let other = Told { question: "other".into(), ..Told::default() };
    assert!(matches!(learning.tell(&owner, Some(id), None, None, &other).await, Err(LearnError::Exists)));
    let bad = |told: OutcomeTold, at_ms| {
        let learning = learning.clone();
        async move {
            match learning.outcome(&Caller::owner(), id, at_ms, &told).await {
                Err(LearnError::Bad(bad)) => bad.field,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(bad(OutcomeTold { feedback: Some(7.0), ..OutcomeTold::default() }, None).await, "feedback");
    assert_eq!(bad(OutcomeTold::default(), None).await, "outcome");
    assert_eq!(bad(success(), Some(i64::MAX)).await, "at_ms");
    assert_eq!(bad(success(), Some(-1)).await, "at_ms");
    assert_eq!(house.log.last_position(), 1);
    house.stop().await;
}

fn success() -> OutcomeTold {
    OutcomeTold { outcome: Some(OutcomeWord::Success), ..OutcomeTold::default() }
}

/// Everything that is derived, as text.
fn derived(store: &LearningStore) -> String {
    let all = InteractionFilter::default();
    store
        .read(|fold| {
            let mut text = String::new();
            for row in fold.interactions(&all, usize::MAX >> 1)? {
                text.push_str(&format!("{row:?} {:?}\n", fold.evidence(row.id)?));
            }
            text.push_str(&format!("{:?}\n{:?}", fold.shown()?, fold.kinds()?));
            Ok(text)
        })
        .unwrap()
}

/// A log in which everything happens, by a seed.
fn happenings(seed: u64, count: usize) -> Vec<NewEvent> {
    let mut random = fastrand::Rng::with_seed(seed);
    let ids: Vec<Uuid> = (0..count / 3).map(|_| Uuid::from_u128(random.u128(..))).collect();
    let mut events = Vec::new();
    for number in 0..count {
        let id = ids[random.usize(..ids.len())];
        let at_ms = NOON_MS + number as i64 * 7_000 - random.i64(0..60_000);
        let question = format!("question {}", random.u8(0..12));
        let answer = format!("answer {}", random.u8(0..12));
        match random.u8(0..8) {
            0..3 => {
                let outcome = ["answered", "abandoned", "failed"][random.usize(0..3)];
                events.extend(turn(id, at_ms, asks(&question), &answer, outcome));
            }
            3 => events.push(event(
                INTERACTION_TOLD,
                id,
                at_ms,
                json!({ "question": question, "context": ["d7", "d1"] }),
            )),
            4 => {
                let said = json!([
                    { "role": "user", "text": question }, { "role": "assistant", "text": answer },
                    { "role": "user", "text": "same error" },
                ]);
                events.extend(turn(id, at_ms, said, "hm", "answered"));
            }
            5 => {
                let signal = Signal::ALL[random.usize(..Signal::ALL.len())].as_str();
                events.push(event(OUTCOME_TOLD, id, at_ms, json!({ "signal": signal, "useful": ["d2"] })));
            }
            6 => {
                let outcome = OutcomeWord::ALL[random.usize(..4)].as_str();
                let told = json!({ "outcome": outcome, "feedback": random.f64(), "useful": ["d1"] });
                let told = event(OUTCOME_TOLD, id, at_ms, told);
                events.extend([told.clone(), told]);
            }
            _ => events.push(event("invented", id, at_ms, json!({}))),
        }
    }
    // Ids by the seed, too; of events that came twice, both have one.
    let mut known: BTreeMap<Uuid, Uuid> = BTreeMap::new();
    for event in &mut events {
        event.id = *known.entry(event.id).or_insert_with(|| Uuid::from_u128(random.u128(..)));
    }
    events
}

async fn lease(store: &LearningStore) -> Lease {
    let seen = store.lease().unwrap();
    store.take_lease(Uuid::now_v7(), seen).await.unwrap().unwrap()
}

fn open(path: &Path) -> LearningStore {
    LearningStore::open_at(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_derived_does_not_depend_on_how_the_log_was_cut() {
    let house = House::new();
    for chunk in happenings(5, 600).chunks(500) {
        house.append(chunk.to_vec()).await;
    }
    let mut all = BTreeMap::new();
    for batch in [1, 7, 100, 5_000] {
        let store = open(&house.path(&format!("{batch}.db")));
        let (lease, log, folded) = (lease(&store).await, house.log.clone(), store.clone());
        let fold = move || fold_all(&folded, (&log, None), &lease, batch, &|| false);
        let count = tokio::task::spawn_blocking(fold).await.unwrap().unwrap();
        assert_eq!(count as u64, house.log.last_position());
        all.insert(batch, derived(&store));
    }
    let whole = &all[&5_000];
    assert!(whole.contains("regenerated") && whole.contains("not_working") && whole.contains("withdrawn"));
    for (batch, derived) in &all {
        assert!(derived == whole, "batches of {batch} derive something else");
    }
    house.stop().await;
}

/// What is old goes to the archive once it was folded; whoever folds from the beginning reads it there.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_archived_is_derived_from_as_well() {
    let house = House::new();
    for chunk in happenings(6, 900).chunks(100) {
        house.append(chunk.to_vec()).await;
    }
    let archive = Archive::at(house.path("archive"));
    let retention = Retention { size_bytes: Some(1), events_min: 1, ..Retention::default() };
    let (store, log, held) = (house.store.clone(), house.log.clone(), lease(&house.store).await);
    let expected = tokio::task::spawn_blocking(move || {
        // Nothing that was not folded may go.
        assert_eq!(log.archive_oldest(&archive, &retention, 0, NOON_MS).unwrap(), None);
        fold_all(&store, (&log, Some(&archive)), &held, 100, &|| false).unwrap();
        while log.archive_oldest(&archive, &retention, log.last_position(), NOON_MS).unwrap().is_some() {}
        let first = log.first_position().unwrap();
        assert_eq!(first, log.last_position(), "all but the newest is archived");
        assert!(archive.verify().unwrap().is_whole());
        (derived(&store), archive, log)
    });
    let (expected, archive, log) = expected.await.unwrap();
    for batch in [1, 7, 100, 5_000] {
        let store = open(&house.path(&format!("anew-{batch}.db")));
        let (held, log, archive, folded) = (lease(&store).await, log.clone(), archive.clone(), store.clone());
        let anew = move || fold_all(&folded, (&log, Some(&archive)), &held, batch, &|| false);
        tokio::task::spawn_blocking(anew).await.unwrap().unwrap();
        assert!(derived(&store) == expected, "batches of {batch} derive something else from the archive");
    }
    // Without the archive it is said that something is missing.
    let (store, folded) = (open(&house.path("none.db")), house.log.clone());
    let held = lease(&store).await;
    let none = tokio::task::spawn_blocking(move || fold_all(&store, (&folded, None), &held, 100, &|| false));
    assert!(none.await.unwrap().is_err_and(|error| error.to_string().contains("archived")));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_the_lease_derives_nothing_more() {
    let house = House::new();
    house.append(happenings(6, 30)).await;
    let first = lease(&house.store).await;
    let second = lease(&house.store).await;
    let (store, log) = (house.store.clone(), house.log.clone());
    let folded = tokio::task::spawn_blocking(move || {
        let lost = fold_all(&store, (&log, None), &first, 100, &|| false);
        assert!(matches!(lost, Err(crate::similar::PassError::Learning(LearningError::LeaseLost))), "{lost:?}");
        assert_eq!(store.checkpoints().unwrap(), []);
        fold_all(&store, (&log, None), &second, 100, &|| false)
    });
    assert_eq!(folded.await.unwrap().unwrap() as u64, house.log.last_position());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_workers_one_derives_and_the_other_waits() {
    let house = House::new();
    let [one, other] = [house.learning(), house.learning()];
    house.append(happenings(7, 60)).await;
    one.caught_up().await.unwrap();
    let roles = [one.status().role, other.status().role];
    assert!(roles[0] != roles[1], "{roles:?}");
    let stats = one.stats().await.unwrap();
    assert_eq!(stats.checkpoints[0].1.position, house.log.last_position());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_program_derived_is_left_alone() {
    let house = House::new();
    let lease = lease(&house.store).await;
    let store = house.store.clone();
    let newer = tokio::task::spawn_blocking(move || {
        let from = store.checkpoint(interactions::STAGE, 99).unwrap();
        store.fold(&lease, interactions::STAGE, &from, |_| Ok(holdfast_storage::learning::Step::default())).unwrap();
        store.checkpoint(interactions::STAGE, interactions::VERSION)
    });
    let newer = newer.await.unwrap();
    assert!(matches!(newer, Err(LearningError::Newer { found: 99, .. })), "{newer:?}");
    house.stop().await;
}
