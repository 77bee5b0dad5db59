//! What the knowledge base says of itself.

use anyhow::{Context, Result, ensure};
use holdfast_knowledge::Watch;

use crate::house::{House, PATIENCE};

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
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
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
    let told = async |wanted: &str| {
        let seen = async {
            loop {
                let report = house.knowledge.health();
                let part = report.components.into_iter().find(|part| part.name == "sources");
                if let Some(part) = part.filter(|part| part.status.as_str() == wanted) {
                    return part.reason.unwrap_or_default();
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.with_context(|| format!("sources never became {wanted}"))
    };
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
