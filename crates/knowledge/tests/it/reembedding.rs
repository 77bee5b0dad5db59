//! A collection moves to another model as a whole, or not at all.

use anyhow::{Context, Result, ensure};
use holdfast_embedding::Precision;
use holdfast_knowledge::{KnowledgeError, Mode, SearchRequest, Watch};
use serde_json::json;

use crate::house::{House, OTHER, TINY, document, request};

async fn furnished() -> Result<House> {
    let house = House::new(Watch::No).await?;
    house.write("file.md", "# A file\n\nIt tells of harbours.")?;
    house.index().await?;
    house.put((0..40).map(|n| document(&format!("d{n}"), &format!("harbour number {n}"), json!({}))).collect()).await?;
    Ok(house)
}

async fn moved(house: &House) -> Result<()> {
    let collection = house.knowledge.collection(&house.caller, "default").await?;
    ensure!(collection.model == OTHER && collection.building.is_none(), "{collection:?}");
    ensure!(collection.documents == 41 && collection.chunks == 41, "{collection:?}");
    let answer = house.search(SearchRequest { mode: Mode::Dense, limit: 50, ..request("harbour") }).await?;
    ensure!(answer.results.len() == 41, "{} are found", answer.results.len());
    let findings = house.knowledge.doctor(&house.caller, holdfast_knowledge::Fix::No).await?;
    ensure!(findings.is_empty(), "{findings:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_model_answers_once_everything_is_over() -> Result<()> {
    let house = furnished().await?;
    let before = house.knowledge.collection(&house.caller, "default").await?;
    ensure!(before.model == TINY);
    let job = house.knowledge.reembed(&house.caller, "default", OTHER).await?;
    house.finished(&job).await?;
    moved(&house).await?;
    let after = house.knowledge.collection(&house.caller, "default").await?;
    ensure!(after.space != before.space, "the space is the old one");
    // What comes later goes where the rest is.
    house.put(vec![document("later", "a late harbour", json!({}))]).await?;
    house.put(vec![document("d0", "harbour number nought", json!({}))]).await?;
    ensure!(house.found("nought").await?.len() == 1);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_midst_goes_on() -> Result<()> {
    let house = furnished().await?;
    house.knowledge.reembed(&house.caller, "default", OTHER).await?;
    let mut house = house.restart(Watch::No).await?;
    for _ in 0..600 {
        let collection = house.knowledge.collection(&house.caller, "default").await?;
        if collection.model == OTHER && !house.knowledge.is_busy() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    moved(&house).await?;
    house = house.restart(Watch::No).await?;
    moved(&house).await?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_precision_is_another_space_until_the_collection_is_brought_over() -> Result<()> {
    let house = furnished().await?.restart_in(Precision::F32, Watch::No).await?;
    let hybrid = || house.search(request("harbour"));
    let refused = hybrid().await.err().context("vectors of two precisions were compared")?;
    let refused = refused.downcast::<KnowledgeError>()?;
    ensure!(matches!(refused, KnowledgeError::OtherSpace { .. }), "{refused:?}");
    let hint = refused.hint().context("no way out")?;
    ensure!(hint.contains("models.precision"), "{hint}");
    ensure!(hint.contains("holdfast collections reembed default --model tiny"), "{hint}");
    let lexical = house.search(SearchRequest { mode: Mode::Lexical, ..request("harbour") }).await?;
    ensure!(!lexical.results.is_empty(), "words need no vectors");
    let job = house.knowledge.reembed(&house.caller, "default", TINY).await?;
    house.finished(&job).await?;
    ensure!(!hybrid().await?.results.is_empty());
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_nobody_knows_is_refused() -> Result<()> {
    let house = furnished().await?;
    let refused = house.knowledge.reembed(&house.caller, "default", "unheard-of").await;
    ensure!(matches!(refused, Err(KnowledgeError::NotFound { .. } | KnowledgeError::Embedding(_))), "{refused:?}");
    let refused = house.knowledge.reembed(&house.caller, "nowhere", OTHER).await;
    ensure!(refused.is_err());
    let collection = house.knowledge.collection(&house.caller, "default").await?;
    ensure!(collection.building.is_none());
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_of_two_models_are_searched_together() -> Result<()> {
    let house = furnished().await?;
    house.knowledge.create_collection(&house.caller, "second", Some(OTHER)).await?;
    let put = holdfast_knowledge::PutDocuments {
        collection: "second".to_owned(),
        documents: vec![document("there", "a harbour elsewhere", json!({}))],
        wait: Some(crate::house::PATIENCE),
        idempotency: None,
    };
    house.knowledge.put_documents(&house.caller, put).await?;
    let both = vec!["default".to_owned(), "second".to_owned()];
    let answer = house.search(SearchRequest { collections: both, ..request("harbour") }).await?;
    let second = answer.results.iter().find(|result| result.collection == "second");
    second.context("the second collection is not among the results")?;
    house.close().await
}
