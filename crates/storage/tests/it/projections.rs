//! Indexes follow SQL, and are rebuilt from it when they are lost, damaged or ahead.

use std::fs;

use crate::{Bench, key};

const WORDS: [&str; 6] = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"];

async fn filled() -> Bench {
    let bench = Bench::new().await;
    let batch = WORDS.iter().map(|word| bench.document(word, &[word])).collect();
    for result in bench.storage.write_documents(batch).await.unwrap() {
        result.unwrap();
    }
    bench.settle().await;
    bench
}

async fn assert_whole(bench: &Bench) {
    bench.settle().await;
    bench.assert_consistent();
    for word in WORDS {
        assert_eq!(bench.find(word), (vec![key(word, word)], Some(key(word, word))), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_everything() {
    let bench = filled().await.reopen(|_| {}).await;
    assert_whole(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_rebuilt_also_when_its_outbox_is_trimmed() {
    // Closing writes the vectors out and trims the outbox, so only SQL's rows are left.
    let bench = filled().await.reopen(|_| {}).await;
    for lost in ["vectors", "lexical"] {
        let generation = bench.generation.id;
        let path = move |folder: &std::path::Path| folder.join(format!("index/g{generation}/{lost}"));
        let bench = filled().await;
        let bench = bench.reopen(move |folder| fs::remove_dir_all(path(folder)).unwrap()).await;
        assert_whole(&bench).await;
    }
    assert_whole(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_noticed_and_the_index_rebuilt() {
    for index in ["vectors", "lexical"] {
        let bench = filled().await;
        let generation = bench.generation.id;
        let bench = bench
            .reopen(move |folder| {
                let folder = folder.join(format!("index/g{generation}/{index}"));
                for entry in fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_file() {
                        fs::write(&path, b"not what it was").unwrap();
                    }
                }
            })
            .await;
        assert_whole(&bench).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_from_the_future_of_its_database_is_rebuilt() {
    let bench = filled().await;
    let copy = tempfile::tempdir().unwrap();
    let saved = copy.path().join("holdfast.db");
    let to = saved.clone();
    let bench = bench
        .reopen(move |folder| {
            fs::copy(folder.join("db/holdfast.db"), &to).unwrap();
        })
        .await;
    bench.storage.write_documents(vec![bench.document("late", &["late"])]).await.unwrap();
    bench.settle().await;
    let bench = bench
        .reopen(move |folder| {
            // An older copy of the database comes back; the indexes know more than it does.
            for suffix in ["", "-wal", "-shm"] {
                let path = folder.join(format!("db/holdfast.db{suffix}"));
                if path.exists() {
                    fs::remove_file(path).unwrap();
                }
            }
            fs::copy(&saved, folder.join("db/holdfast.db")).unwrap();
        })
        .await;
    // Their positions are ahead of the database's, so there is no position to wait for.
    for _ in 0..500 {
        if bench.storage.projections().compare().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_whole(&bench).await;
    assert_eq!(bench.find("late").0, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_by_hand_brings_a_differing_index_back() {
    let bench = filled().await;
    for index in ["vectors", "lexical"] {
        bench.storage.projections().rebuild(bench.generation.id, index).unwrap();
        // An index that was thrown away is at position 0 until it is whole again.
        assert_whole(&bench).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_collection_leaves_no_index_behind() {
    let bench = filled().await;
    let path = bench.folder.path().join(format!("index/g{}", bench.generation.id));
    assert!(path.exists());
    bench.storage.remove_collection(&holdfast_storage::Grants::All, "notes".into()).await.unwrap();
    assert!(bench.storage.projections().indexes(bench.generation.id).is_none());
    let bench = bench.reopen(|_| {}).await;
    assert!(!path.exists());
    bench.assert_consistent();
}
