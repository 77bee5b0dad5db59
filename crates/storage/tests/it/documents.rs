//! Documents: what a write changes, and what it leaves alone.

use holdfast_storage::{
    StorageError,
    collections::GenerationState,
    documents::{Change, DocumentQuery},
};

use crate::{Bench, key, space};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_found_by_words_and_by_meaning() {
    let bench = Bench::new().await;
    let written =
        bench.storage.write_documents(vec![bench.document("a", &["alpha", "beta"])]).await.unwrap().remove(0).unwrap();
    assert_eq!((written.revision, written.chunks, written.change), (1, 2, Change::Created));
    bench.settle().await;
    assert_eq!(bench.find("alpha"), (vec![key("a", "alpha")], Some(key("a", "alpha"))));
    let hit = bench.storage.hit(bench.generation.id, key("a", "beta")).unwrap().unwrap();
    assert_eq!((hit.text.as_str(), hit.document_id.as_str(), hit.ordinal), ("beta", "a", 1));
    bench.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_replaces_only_what_differs_and_a_repetition_nothing() {
    let bench = Bench::new().await;
    let first = bench.document("a", &["alpha", "beta"]);
    bench.storage.write_documents(vec![first.clone()]).await.unwrap().remove(0).unwrap();
    let again = bench.storage.write_documents(vec![first]).await.unwrap().remove(0).unwrap();
    assert_eq!((again.revision, again.change, again.position), (1, Change::Unchanged, 0));
    let changed = bench.document("a", &["beta", "gamma"]);
    let changed = bench.storage.write_documents(vec![changed]).await.unwrap().remove(0).unwrap();
    assert_eq!((changed.revision, changed.change), (2, Change::Updated));
    bench.settle().await;
    assert_eq!(bench.find("alpha"), (vec![], None));
    assert_eq!(bench.find("beta").0, [key("a", "beta")]);
    assert_eq!(bench.find("gamma").1, Some(key("a", "gamma")));
    bench.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn new_metadata_reaches_the_filters_of_chunks_that_stay() {
    let bench = Bench::new().await;
    let mut document = bench.document("a", &["alpha"]);
    bench.storage.write_documents(vec![document.clone()]).await.unwrap().remove(0).unwrap();
    document.metadata = serde_json::json!({"lang": "de"});
    bench.storage.write_documents(vec![document]).await.unwrap().remove(0).unwrap();
    bench.settle().await;
    let filter = holdfast_storage::Filter::parse(&serde_json::json!({"field": "metadata.lang", "eq": "de"})).unwrap();
    let indexes = bench.storage.projections().indexes(bench.generation.id).unwrap();
    assert_eq!(indexes.lexical().matching(&filter).unwrap(), [key("a", "alpha")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_document_is_gone_and_can_come_back() {
    let bench = Bench::new().await;
    let document = bench.document("a", &["alpha"]);
    bench.storage.write_documents(vec![document.clone()]).await.unwrap().remove(0).unwrap();
    let row = bench.storage.document(bench.collection, "a").unwrap().id;
    assert_eq!(bench.storage.remove_documents(vec![row, row]).await.unwrap(), 1);
    let missing = bench.storage.document(bench.collection, "a").unwrap_err();
    assert!(matches!(missing, StorageError::NotFound { .. }), "{missing}");
    bench.settle().await;
    assert_eq!(bench.find("alpha"), (vec![], None));
    bench.assert_consistent();
    let back = bench.storage.write_documents(vec![document]).await.unwrap().remove(0).unwrap();
    assert_eq!((back.revision, back.change), (3, Change::Created));
    bench.settle().await;
    assert_eq!(bench.find("alpha").0, [key("a", "alpha")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_document_does_not_take_the_others_with_it() {
    let bench = Bench::new().await;
    let mut stale = bench.document("stale", &["alpha"]);
    stale.generation_id += 1_000;
    let mut unbacked = bench.document("unbacked", &["delta"]);
    unbacked.vectors.clear();
    let batch = vec![bench.document("a", &["alpha"]), stale, unbacked, bench.document("b", &["beta"])];
    let results = bench.storage.write_documents(batch).await.unwrap();
    let kept: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(kept, [true, false, false, true]);
    for refused in [&results[1], &results[2]] {
        assert!(matches!(refused, Err(StorageError::Superseded)), "{refused:?}");
    }
    let query = DocumentQuery { collection_id: bench.collection, limit: 10, ..Default::default() };
    let ids: Vec<String> = bench.storage.documents(&query).unwrap().into_iter().map(|d| d.public_id).collect();
    assert_eq!(ids, ["a", "b"]);
    bench.settle().await;
    bench.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_made_from_an_older_revision_is_refused() {
    let bench = Bench::new().await;
    bench.storage.write_documents(vec![bench.document("a", &["alpha"])]).await.unwrap();
    bench.storage.write_documents(vec![bench.document("a", &["beta"])]).await.unwrap();
    let mut late = bench.document("a", &["alpha"]);
    late.made_from = Some(1);
    let refused = bench.storage.write_documents(vec![late]).await.unwrap().remove(0).unwrap_err();
    assert!(matches!(refused, StorageError::Superseded), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_space_is_refused_and_a_new_generation_is_swapped_in_whole() {
    let bench = Bench::new().await;
    bench.storage.write_documents(vec![bench.document("a", &["alpha"])]).await.unwrap();
    bench.storage.write_documents(vec![bench.document("b", &["beta"])]).await.unwrap();
    let refused =
        bench.storage.ensure_generation(bench.collection, GenerationState::Active, space("model-b")).await.unwrap_err();
    assert!(matches!(refused, StorageError::OtherSpace { .. }), "{refused}");
    let building =
        bench.storage.ensure_generation(bench.collection, GenerationState::Building, space("model-b")).await.unwrap();
    let swap = || bench.storage.activate_building(bench.collection, "model-b".into());
    assert_eq!(swap().await.unwrap(), 2);
    for (id, word) in [("a", "alpha"), ("b", "beta")] {
        let mut write = bench.document(id, &[word]);
        write.generation_id = building.id;
        write.made_from = Some(1);
        bench.storage.write_documents(vec![write]).await.unwrap().remove(0).unwrap();
    }
    // A change in the generation in use makes the document lacking again.
    bench.storage.write_documents(vec![bench.document("b", &["gamma"])]).await.unwrap();
    assert_eq!(swap().await.unwrap(), 1);
    let mut write = bench.document("b", &["gamma"]);
    write.generation_id = building.id;
    write.made_from = Some(2);
    bench.storage.write_documents(vec![write]).await.unwrap().remove(0).unwrap();
    assert_eq!(swap().await.unwrap(), 0);
    let (_, model, active) = bench.storage.active_generation(&holdfast_storage::Grants::All, "notes").unwrap();
    assert_eq!((model.as_str(), active.unwrap().id), ("model-b", building.id));
    assert!(bench.storage.projections().indexes(bench.generation.id).is_none());
    let projections = bench.storage.projections();
    assert!(projections.wait_current(building.id, std::time::Duration::from_secs(20)).await.unwrap());
    bench.assert_consistent();
    let former = bench.folder.path().join(format!("index/g{}", bench.generation.id));
    let bench = bench.reopen(|_| {}).await;
    assert!(!former.exists());
    bench.assert_consistent();
}
