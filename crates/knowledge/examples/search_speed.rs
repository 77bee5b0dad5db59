//! Measures search over 100 000 chunks, in process, with given query vectors and without caches.
//!
//! `search_speed DATA MODELS STATE` indexes sentences of SciFact, CoSQA's functions and windows of nix-docs, each a
//! document, and pairs of sentences until there are 100 000; kept in `STATE` for the next time. Then every query of
//! both sets is asked: by both lists, by meaning, by words, and with filters of several selectivities. Prints
//! percentiles of the time, and how many of the ten truly nearest the search by meaning found. What is truly nearest
//! comes from a scan of every vector.
#![expect(clippy::print_stdout, reason = "a command line tool talks on its streams")]

#[path = "support/fill.rs"]
mod fill;
mod support;

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use holdfast_embedding::{Precision, Priority, Purpose};
use holdfast_knowledge::{Explain, Group, Learned, Mode, NewDocument, SearchRequest};
use holdfast_storage::{Filter, projection::Indexes, vectors::AllowedSet};
use serde_json::{Value, json};

use support::{House, field, json_lines};

const CHUNKS: usize = 100_000;
const COLLECTION: &str = "chunks";
const LIMIT: usize = 10;
const WORDS_PER_WINDOW: usize = 100;

struct Query {
    text: String,
    vector: Vec<f32>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, models, state] = &arguments[..] else {
        anyhow::bail!("usage: search_speed DATA MODELS STATE");
    };
    let data = Path::new(data);
    let house = House::open(Path::new(models), Path::new(state), Precision::Int8).await?;
    fill::fill(&house, COLLECTION, &documents(texts(data)?)).await?;
    let (_, _, generation) = house.storage.active_generation(&holdfast_storage::Grants::All, COLLECTION)?;
    let generation = generation.context("the collection is empty")?.id;
    house.storage.projections().wait_current(generation, Duration::from_secs(600)).await?;
    let indexes = house.storage.projections().indexes(generation).context("there are no indexes")?;
    tokio::task::block_in_place(|| indexes.vectors().settle());
    let chunks = indexes.vectors().len();
    ensure!(chunks >= CHUNKS, "only {chunks} chunks are indexed");
    println!("{}", json!({"chunks": chunks}));
    let queries = queries(&house, data).await?;
    tokio::task::block_in_place(|| measure(&house, &indexes, &queries))?;
    house.close().await;
    Ok(())
}

fn measure(house: &House, indexes: &Indexes, queries: &[Query]) -> Result<()> {
    for mode in [Mode::Hybrid, Mode::Dense, Mode::Lexical] {
        // The first round brings everything into memory, as it is in a running server.
        percentiles(house, queries, mode, None)?;
        let times = percentiles(house, queries, mode, None)?;
        println!("{}", json!({"mode": format!("{mode:?}").to_lowercase(), "milliseconds": times}));
    }
    let filters = [
        ("none", None),
        ("50 %", Some(json!({"field": "metadata.thousandth", "lt": 500}))),
        ("5 %", Some(json!({"field": "metadata.thousandth", "lt": 50}))),
        ("0.1 %", Some(json!({"field": "metadata.thousandth", "lt": 1}))),
        ("50 %, the first half", Some(json!({"field": "metadata.number", "lt": CHUNKS / 2}))),
    ];
    for (name, filter) in filters {
        let filter = filter.map(|filter| Filter::parse(&filter)).transpose()?;
        let hybrid = percentiles(house, queries, Mode::Hybrid, filter.as_ref())?;
        let dense = percentiles(house, queries, Mode::Dense, filter.as_ref())?;
        let recall = recall(house, indexes, queries, filter.as_ref())?;
        println!(
            "{}",
            json!({"filter": name, "dense_recall_at_10": recall, "hybrid_milliseconds": hybrid, "dense_milliseconds": dense})
        );
    }
    Ok(())
}

fn request(query: &Query, mode: Mode, filter: Option<&Filter>) -> SearchRequest {
    SearchRequest {
        query: query.text.clone(),
        collections: vec![COLLECTION.to_owned()],
        mode,
        limit: LIMIT,
        cursor: None,
        group: Group::Chunk,
        filter: filter.cloned(),
        min_score: None,
        explain: Explain::No,
        learned: Learned::default(),
    }
}

fn percentiles(house: &House, queries: &[Query], mode: Mode, filter: Option<&Filter>) -> Result<Value> {
    let mut times = Vec::with_capacity(queries.len());
    for query in queries {
        let request = request(query, mode, filter);
        let vector = query.vector.clone();
        let began = Instant::now();
        let answer = house.knowledge.search_with_vector(&house.caller, request, vector)?;
        times.push(began.elapsed());
        ensure!(!answer.results.is_empty() || mode == Mode::Lexical, "nothing found for {:?}", query.text);
    }
    times.sort();
    let at = |share: f64| (times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e6).round() / 1e3;
    Ok(json!({"p50": at(0.50), "p99": at(0.99)}))
}

/// The share of the ten nearest that dense search finds. One as near as the tenth counts, as many texts are equal.
fn recall(house: &House, indexes: &Indexes, queries: &[Query], filter: Option<&Filter>) -> Result<f64> {
    let vectors = indexes.vectors();
    let allowed = filter.map(|filter| indexes.lexical().matching(filter)).transpose()?.map(AllowedSet::new);
    let mut found = 0;
    for query in queries {
        // Asked for everything, the index scans everything.
        let mut truth = vectors.nearest(&query.vector, vectors.len(), allowed.as_ref())?;
        truth.truncate(LIMIT);
        let scores: HashMap<_, _> = truth.iter().map(|scored| (scored.key, scored.score)).collect();
        let least = truth.last().map_or(f32::INFINITY, |scored| scored.score);
        let answer = house.knowledge.search_with_vector(
            &house.caller,
            request(query, Mode::Dense, filter),
            query.vector.clone(),
        )?;
        found += answer
            .results
            .iter()
            .filter(|result| scores.contains_key(&result.chunk_id) || result.score >= least)
            .count();
    }
    Ok((found as f64 / (queries.len() * LIMIT) as f64 * 1e4).round() / 1e4)
}

/// The claims of SciFact and the questions of CoSQA.
async fn queries(house: &House, data: &Path) -> Result<Vec<Query>> {
    let claims = json_lines(&data.join("scifact/queries.jsonl"))?;
    let questions: Vec<Value> =
        serde_json::from_str(&fs::read_to_string(data.join("cosqa/cosqa-retrieval-dev-500.json"))?)?;
    let texts: Vec<String> =
        claims.iter().map(|line| field(line, "text")).chain(questions.iter().map(|line| field(line, "doc"))).collect();
    let embedder = house.models.get(house.models.default_model())?;
    let mut queries = Vec::with_capacity(texts.len());
    for batch in texts.chunks(64) {
        let vectors = embedder.embed(batch.to_vec(), Purpose::Query, Priority::Interactive).await?;
        queries.extend(batch.iter().cloned().zip(vectors).map(|(text, vector)| Query { text, vector }));
    }
    Ok(queries)
}

/// 100 000 different texts.
fn texts(data: &Path) -> Result<Vec<String>> {
    let mut sentences: Vec<Vec<String>> = Vec::new();
    for line in json_lines(&data.join("scifact/corpus.jsonl"))? {
        let text = format!("{}. {}", field(&line, "title"), field(&line, "text"));
        sentences.push(text.split_inclusive(". ").map(|sentence| sentence.trim().to_owned()).collect());
    }
    let codes: HashMap<String, u64> = serde_json::from_str(&fs::read_to_string(data.join("cosqa/code_idx_map.txt"))?)?;
    let mut codes: Vec<(u64, String)> = codes.into_iter().map(|(code, id)| (id, code)).collect();
    codes.sort();
    let mut windows = Vec::new();
    for file in markdown_files(&data.join("nix-docs"))? {
        let text = fs::read_to_string(&file)?;
        let words: Vec<&str> = text.split_whitespace().collect();
        windows.extend(words.windows(WORDS_PER_WINDOW).step_by(WORDS_PER_WINDOW / 2).map(|window| window.join(" ")));
    }
    let pairs = sentences.iter().flat_map(|of_one| of_one.windows(2).map(|pair| pair.join(" ")));
    let singles = sentences.iter().flatten().cloned();
    let all = singles.chain(codes.into_iter().map(|(_, code)| code)).chain(windows).chain(pairs);
    let mut seen = HashSet::new();
    let texts: Vec<String> = all.filter(|text| text.len() > 20 && seen.insert(text.clone())).take(CHUNKS).collect();
    ensure!(texts.len() == CHUNKS, "the data makes only {} texts", texts.len());
    Ok(texts)
}

fn markdown_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Each text as a document of one chunk, with numbers to filter by.
fn documents(texts: Vec<String>) -> Vec<NewDocument> {
    texts
        .into_iter()
        .enumerate()
        .map(|(number, content)| NewDocument {
            id: Some(format!("text-{number}")),
            // A multiplicative hash spreads each filter's texts over all kinds.
            metadata: json!({"number": number, "thousandth": number.wrapping_mul(2_654_435_761) % 1_000}),
            content,
            content_type: Some("text/plain".into()),
            ..NewDocument::default()
        })
        .collect()
}
