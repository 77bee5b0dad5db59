//! Accepted documents: once, durably, and each with its own end.

use holdfast_storage::{
    Grants, StorageError,
    jobs::{Handover, Idempotency, JobItem, JobState},
};

use crate::Bench;

fn accepted(payload: &str) -> Handover {
    Handover::Accepted(payload.to_owned())
}

fn request(key: &str, body: &str) -> Option<Idempotency> {
    Some(Idempotency {
        caller: "someone".into(),
        route: "POST /api/v1/documents",
        key: key.to_owned(),
        body_hash: *blake3::hash(body.as_bytes()).as_bytes(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_again_is_the_same_job_and_another_is_refused() {
    let bench = Bench::new().await;
    let accept = |payload: &str, idempotency| {
        bench.storage.accept_documents(bench.collection, vec![Handover::Accepted(payload.to_owned())], idempotency)
    };
    let first = accept("x", request("k", "x")).await.unwrap();
    assert_eq!(accept("x", request("k", "x")).await.unwrap(), first);
    assert_eq!(bench.storage.waiting_documents(10).unwrap().len(), 1);
    let refused = accept("y", request("k", "y")).await.unwrap_err();
    assert!(matches!(refused, StorageError::KeyReused), "{refused}");
    assert_ne!(accept("y", request("l", "y")).await.unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_done_with_its_last_document_and_a_second_end_changes_nothing() {
    let bench = Bench::new().await;
    let payloads = vec![accepted("one"), accepted("two")];
    let job = bench.storage.accept_documents(bench.collection, payloads, None).await.unwrap();
    let item = |ordinal| JobItem { job_id: job.clone(), ordinal };
    let mut write = bench.document("a", &["alpha"]);
    write.job_item = Some(item(0));
    bench.storage.write_documents(vec![write]).await.unwrap().remove(0).unwrap();
    assert_eq!(bench.storage.job(&Grants::All, &job).unwrap().state, JobState::Running);
    for _ in 0..2 {
        bench.storage.refuse_item(item(1), "bad".into(), "it is bad".into()).await.unwrap();
    }
    let done = bench.storage.job(&Grants::All, &job).unwrap();
    assert_eq!(done.state, JobState::Done);
    assert_eq!((done.progress.done, done.progress.failed, done.progress.total), (1, 1, 2));
    let items = bench.storage.job_items(&job).unwrap();
    assert_eq!(items[0].document_id.as_deref(), Some("a"));
    assert_eq!(items[1].error, Some(("bad".into(), "it is bad".into())));
    assert_eq!(bench.storage.waiting_documents(10).unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_waits_across_a_restart() {
    let bench = Bench::new().await;
    let job = bench.storage.accept_documents(bench.collection, vec![accepted("one")], None).await.unwrap();
    let bench = bench.reopen(|_| {}).await;
    bench.storage.close_interrupted_jobs("interrupted").await.unwrap();
    let waiting = bench.storage.waiting_documents(10).unwrap();
    assert_eq!((waiting.len(), waiting[0].payload.as_str()), (1, "one"));
    assert_eq!(bench.storage.job(&Grants::All, &job).unwrap().state, JobState::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_at_once_does_not_hold_up_the_rest() {
    let bench = Bench::new().await;
    let refused = || Handover::Refused { code: "bad".into(), detail: "it is bad".into() };
    let documents = vec![refused(), accepted("one"), refused()];
    let job = bench.storage.accept_documents(bench.collection, documents, None).await.unwrap();
    let waiting = bench.storage.waiting_documents(10).unwrap();
    assert_eq!((waiting.len(), waiting[0].item.ordinal), (1, 1));
    let mut write = bench.document("a", &["alpha"]);
    write.job_item = Some(waiting[0].item.clone());
    bench.storage.write_documents(vec![write]).await.unwrap().remove(0).unwrap();
    let done = bench.storage.job(&Grants::All, &job).unwrap();
    assert_eq!((done.state, done.progress.done, done.progress.failed), (JobState::Done, 1, 2));
    let states: Vec<String> = bench.storage.job_items(&job).unwrap().into_iter().map(|item| item.status).collect();
    assert_eq!(states, ["refused", "indexed", "refused"]);
}
