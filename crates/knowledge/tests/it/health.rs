//! What the knowledge base says of itself.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use holdfast_embedding::Keeper;
use holdfast_knowledge::{Mode, PutDocuments, SearchRequest, Watch};
use serde_json::Value;

use crate::house::{House, PATIENCE, document, request};

/// What the design promises, with room for a busy machine: a break is told within five seconds.
const WITHIN: Duration = Duration::from_secs(5);

/// Vectors kept on a disk that can stop answering.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<(Mutex<bool>, Condvar)>);

impl Disk {
    fn hang(&self, is_hanging: bool) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = is_hanging;
        self.0.1.notify_all();
    }
}

impl Keeper for Disk {
    fn get(&self, keys: &[[u8; 32]]) -> Vec<Option<Vec<u8>>> {
        let hanging = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(hanging, |hanging| *hanging).unwrap_or_else(PoisonError::into_inner));
        vec![None; keys.len()]
    }

    fn put(&self, _: [u8; 32], _: Vec<u8>) {}
}

/// Waits for a part to have a status, and gives its reason.
async fn becomes(house: &House, name: &str, status: &str) -> Result<String> {
    let seen = async {
        loop {
            let report = house.knowledge.health();
            let part = report.components.into_iter().find(|part| part.name == name);
            if let Some(part) = part.filter(|part| part.status.as_str() == status) {
                return part.reason.unwrap_or_default();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(2 * WITHIN, seen).await.with_context(|| format!("{name} never became {status}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_is_tried_before_it_is_called_ready() -> Result<()> {
    let house = House::new(Watch::No).await?;
    house.write("a.md", "# A\n\nSome words.")?;
    house.index().await?;
    let ready = async {
        loop {
            let report = house.knowledge.health();
            let waiting: Vec<_> = report.components.iter().filter(|part| part.status.as_str() != "ready").collect();
            if waiting.is_empty() {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let report = tokio::time::timeout(PATIENCE, ready).await.context("not every part became ready")?;
    let names: Vec<&str> = report.components.iter().map(|part| part.name.as_str()).collect();
    ensure!(names == ["embedding", "database", "disk", "vectors", "lexical", "ingest", "sources", "jobs"], "{names:?}");
    ensure!(report.stale.is_none());
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_be_read_is_told_and_so_is_its_return() -> Result<()> {
    let house = House::new(Watch::No).await?;
    house.write("a.md", "# A\n\nSome words.")?;
    let source = house.index().await?;
    let root = house.path("").canonicalize()?;
    let away = root.with_file_name("away");
    let told = async |wanted: &str| becomes(&house, "sources", wanted).await;
    told("ready").await?;
    std::fs::rename(&root, &away)?;
    let job = house.knowledge.sync_source(&house.caller, &source).await?;
    ensure!(house.finished(&job).await.is_err());
    let reason = told("degraded").await?;
    // It is told to whoever asks: that there is trouble, but neither where nor with what.
    ensure!(reason.starts_with("1 of 1 sources failed") && !reason.contains("default"), "{reason}");
    ensure!(!reason.contains(&*root.to_string_lossy()), "{reason}");
    std::fs::rename(&away, &root)?;
    let job = house.knowledge.sync_source(&house.caller, &source).await?;
    house.finished(&job).await?;
    told("ready").await?;
    house.close().await
}

/// A query waits for a disk that hangs, and with it whoever comes after: the model does not answer, though it would.
#[tokio::test(flavor = "multi_thread")]
async fn an_embedding_that_hangs_is_told_and_so_is_its_end() -> Result<()> {
    let disk = Disk::default();
    let keeper = Arc::new(disk.clone());
    let house = House::with(Watch::No, |embedding, _| embedding.keeper = Some(keeper)).await?;
    // Where there is nothing to find, nothing is embedded.
    house.put(vec![document("there", "Some words.", Value::Null)]).await?;
    becomes(&house, "embedding", "ready").await?;
    disk.hang(true);
    let asked = SearchRequest { mode: Mode::Dense, ..request("words") };
    let (hanging, watching) = (house.search(asked), async {
        let late = becomes(&house, "embedding", "degraded").await;
        let later = becomes(&house, "embedding", "down").await;
        disk.hang(false);
        ensure!(late? == "it has not answered for 2 s");
        ensure!(later? == "it has not answered for 4 s");
        becomes(&house, "embedding", "ready").await
    });
    let (answered, watched) = tokio::join!(hanging, watching);
    watched?;
    ensure!(answered?.degraded.is_none(), "the query was answered all the same");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_are_stuck_are_told_and_so_is_their_end() -> Result<()> {
    let disk = Disk::default();
    let keeper = Arc::new(disk.clone());
    let house = House::with(Watch::No, |embedding, config| {
        embedding.keeper = Some(keeper);
        config.stuck_after = Duration::from_secs(1);
    })
    .await?;
    becomes(&house, "ingest", "ready").await?;
    disk.hang(true);
    let documents = vec![document("late", "Some words.", Value::Null)];
    let put = PutDocuments { collection: "default".to_owned(), documents, wait: None, idempotency: None };
    let job = house.knowledge.put_documents(&house.caller, put).await?.job.id;
    let reason = becomes(&house, "ingest", "degraded").await?;
    ensure!(reason.starts_with("documents are under way, and none was finished for "), "{reason}");
    disk.hang(false);
    becomes(&house, "ingest", "ready").await?;
    house.finished(&job).await?;
    house.close().await
}
