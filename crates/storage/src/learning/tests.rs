//! Checkpoints, leases and rows.

use tempfile::TempDir;
use uuid::Uuid;

use super::*;

const STAGE: &str = "test";

fn store() -> (TempDir, LearningStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = LearningStore::open_at(&folder.path().join("learning.db")).unwrap();
    (folder, store)
}

async fn lease(store: &LearningStore) -> Lease {
    let seen = store.lease().unwrap();
    store.take_lease(Uuid::now_v7(), seen).await.unwrap().unwrap()
}

fn evidence(event: u128) -> Evidence {
    Evidence {
        event: Uuid::from_u128(event),
        interaction: Uuid::from_u128(1),
        position: 1,
        at_ms: 0,
        word: "note".into(),
        feedback: None,
        source: None,
        note: None,
    }
}

/// Folds up to a position, with one piece of evidence for each time.
fn fold(store: &LearningStore, lease: &Lease, from: &Checkpoint, through: u64) -> Result<Checkpoint, LearningError> {
    store.fold(lease, STAGE, from, move |fold| {
        fold.add_evidence(&evidence(u128::from(through)))?;
        Ok(Step { through, folded: 1, ..Step::default() })
    })
}

fn count(store: &LearningStore) -> usize {
    store.read(|fold| fold.evidence(Uuid::from_u128(1))).unwrap().len()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_and_what_was_derived_stand_or_fall_together() {
    let (folder, store) = store();
    let held = lease(&store).await;
    let (inner, path) = (store.clone(), folder.path().join("learning.db"));
    blocking(move || {
        let start = inner.checkpoint(STAGE, 1).unwrap();
        let reached = fold(&inner, &held, &start, 10).unwrap();
        assert_eq!((reached.position, reached.folded), (10, 1));
        let failed = inner.fold(&held, STAGE, &reached, |fold| {
            fold.add_evidence(&evidence(99))?;
            Err(StorageError::Unreadable { what: "a test" })
        });
        assert!(matches!(failed, Err(LearningError::Storage(StorageError::Unreadable { .. }))), "{failed:?}");
        assert_eq!((count(&inner), inner.checkpoint(STAGE, 1).unwrap()), (1, reached.clone()));
        // From where it is not: what came in between would be missing, or there twice.
        let moved = fold(&inner, &held, &start, 20);
        assert!(matches!(moved, Err(LearningError::Moved { found: 10, expected: 0, .. })), "{moved:?}");
        assert_eq!(count(&inner), 1);
        inner.close();
        let again = LearningStore::open_at(&path).unwrap();
        assert_eq!(again.checkpoint(STAGE, 1).unwrap(), reached);
        assert_eq!(again.lease().unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_form_starts_over_and_a_newer_one_is_refused() {
    let (_folder, store) = store();
    let held = lease(&store).await;
    blocking(move || {
        fold(&store, &held, &store.checkpoint(STAGE, 2).unwrap(), 10).unwrap();
        let older = store.checkpoint(STAGE, 1);
        assert!(matches!(older, Err(LearningError::Newer { found: 2, known: 1, .. })), "{older:?}");
        let newer = store.checkpoint(STAGE, 3).unwrap();
        assert_eq!((newer.position, newer.version), (0, 3));
        assert_eq!(fold(&store, &held, &newer, 4).unwrap().position, 4);
        assert_eq!(store.checkpoints().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_holds_the_lease_until_somebody_who_saw_it_stand_still_takes_over() {
    let (_folder, store) = store();
    let first = lease(&store).await;
    let seen = store.lease().unwrap();
    assert!(store.beat(&first).await.unwrap());
    // What was seen is not so any more.
    assert_eq!(store.take_lease(Uuid::now_v7(), seen).await.unwrap(), None);
    assert_eq!(store.take_lease(Uuid::now_v7(), None).await.unwrap(), None);
    let second = lease(&store).await;
    assert!(!store.beat(&first).await.unwrap() && store.beat(&second).await.unwrap());
    blocking(move || {
        let start = store.checkpoint(STAGE, 1).unwrap();
        assert!(matches!(fold(&store, &first, &start, 1), Err(LearningError::LeaseLost)));
        assert!(matches!(store.derive(&first, |_| Ok(())), Err(LearningError::LeaseLost)));
        fold(&store, &second, &start, 1).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interaction_is_stored_whole_and_found_again() {
    let (_folder, store) = store();
    let held = lease(&store).await;
    let row = InteractionRow {
        id: Uuid::from_u128(7),
        tenant: "t".into(),
        caller: "c".into(),
        session: Some("s".into()),
        at_ms: -5,
        position: 3,
        asked_position: Some(4),
        answered_position: Some(5),
        origin: Some("turn".into()),
        model: Some("m".into()),
        system: Some("be".into()),
        before: Some("[]".into()),
        question: Some("q\0\u{1f980}".into()),
        answer: Some("a".into()),
        is_cut: true,
        question_hash: Some(i64::MIN),
        answer_hash: Some(i64::MAX),
        ended: Some("answered".into()),
        error: Some("e".into()),
        consent: Some(false),
        consent_at_ms: Some(7),
        licence: Some("MIT".into()),
        context: Some("[]".into()),
        outcome: Some("partial".into()),
        outcome_at_ms: Some(8),
        solved_by: Some(Uuid::from_u128(7)),
        solved_by_at_ms: Some(10),
        feedback: Some(-0.25),
        feedback_at_ms: Some(9),
        weak_weight: 1.5,
        weak_good: 0.5,
        nearest: Some(0.75),
        nearest_id: Some(Uuid::from_u128(6)),
        similar: Some(3),
        value: Some(0.5),
        stale: Stale { vector: true, value: false, failures: true },
        ..InteractionRow::default()
    };
    blocking(move || {
        let stored = row.clone();
        let number = store.derive(&held, move |fold| fold.put_interaction(&stored)).unwrap();
        let found = store.read(|fold| fold.interaction(row.id)).unwrap();
        assert_eq!(found, Some(InteractionRow { number: Some(number), ..row.clone() }));
        let again = InteractionRow { number: Some(number), value: None, ..row.clone() };
        let stored = again.clone();
        assert_eq!(store.derive(&held, move |fold| fold.put_interaction(&stored)).unwrap(), number);
        assert_eq!(store.read(|fold| fold.vectors_due(10)).unwrap(), [again]);
        assert_eq!(store.read(|fold| fold.values_due(10)).unwrap(), []);
        assert_eq!(store.read(|fold| fold.last_asked("c", i64::MIN)).unwrap(), Some(row.id));
        assert_eq!(store.read(|fold| fold.last_asked("d", i64::MIN)).unwrap(), None);
        assert_eq!(
            store.read(|fold| fold.counts()).unwrap(),
            Counts { interactions: 1, vectors_due: 1, values_due: 0, failures_due: 1 }
        );
    })
    .await;
}
