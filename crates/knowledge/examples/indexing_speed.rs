//! Measures indexing without the embedding.
//!
//! `indexing_speed DATA MODELS STATE [ROUNDS]` writes SciFact's abstracts as one file each, indexes them once so that
//! all their vectors are in the database, and then indexes the same files into new collections. Nothing is embedded
//! there, as every text's vector is known; everything else is done: walking, reading, splitting, naming, writing,
//! both indexes. Prints documents a second of every round, to the moment when the last document can be found.
#![expect(clippy::print_stdout, reason = "a command line tool talks on its streams")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use holdfast_embedding::Precision;
use holdfast_knowledge::KnowledgeError;
use serde_json::json;

use support::House;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, models, state, rounds @ ..] = &arguments[..] else {
        anyhow::bail!("usage: indexing_speed DATA MODELS STATE [ROUNDS]");
    };
    let rounds: usize = rounds.first().map_or(Ok(5), |text| text.parse())?;
    let state = Path::new(state);
    let files = state.join("files");
    let documents = write_files(&Path::new(data).join("scifact/corpus.jsonl"), &files)?;
    let house = House::open(Path::new(models), state, Precision::Int8).await?;
    if house.knowledge.collection(&house.caller, "embedded").await.is_err() {
        index(&house, "embedded", &files, documents).await?;
    }
    for round in 0..rounds {
        let name = format!("replayed-{round}");
        match house.knowledge.remove_collection(&house.caller, &name).await {
            Ok(()) | Err(KnowledgeError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let took = index(&house, &name, &files, documents).await?;
        let rate = documents as f64 / took.as_secs_f64();
        println!(
            "{}",
            json!({"model": house.models.default_model(), "round": round, "documents": documents, "seconds": took.as_secs_f64(), "documents_per_second": rate.round()})
        );
        house.knowledge.remove_collection(&house.caller, &name).await?;
    }
    house.close().await;
    Ok(())
}

/// The time until every file can be found.
async fn index(house: &House, collection: &str, files: &Path, documents: usize) -> Result<Duration> {
    house.knowledge.create_collection(&house.caller, collection, None).await?;
    let began = Instant::now();
    let added = house.knowledge.add_source(&house.caller, collection, files).await?;
    house.finished(&added.job_id).await?;
    let (_, _, generation) = house.storage.active_generation(&holdfast_storage::Grants::All, collection)?;
    let generation = generation.map_or(0, |generation| generation.id);
    ensure!(house.storage.projections().wait_current(generation, Duration::from_secs(600)).await?, "not found in time");
    let took = began.elapsed();
    let held = house.knowledge.collection(&house.caller, collection).await?.documents;
    ensure!(held == documents as u64, "{held} of {documents} documents are in");
    Ok(took)
}

fn write_files(corpus: &Path, folder: &Path) -> Result<usize> {
    let lines = support::json_lines(corpus)?;
    fs::create_dir_all(folder)?;
    for line in &lines {
        let path: PathBuf = folder.join(format!("{}.txt", support::field(line, "_id")));
        let text = format!("{}\n\n{}\n", support::field(line, "title"), support::field(line, "text"));
        if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            fs::write(path, text)?;
        }
    }
    Ok(lines.len())
}
