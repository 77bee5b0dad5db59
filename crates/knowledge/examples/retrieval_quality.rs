//! Measures how well search finds what it should, on judged data.
//!
//! `retrieval_quality DATA MODELS STATE f32|int8 [LISTS]` indexes SciFact and CoSQA from `DATA` with the
//! model in `MODELS`, keeping the index in `STATE` so that a second run only searches, and
//! prints nDCG@10 and MRR@100 by mode with paired bootstrap intervals of hybrid against each
//! part. With `LISTS`, the best documents of either list with both scores are written there as JSON lines, for
//! trying fusions out.
#![expect(clippy::print_stdout, reason = "a command line tool talks on its streams")]

#[path = "support/fill.rs"]
mod fill;
mod support;

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result};
use holdfast_embedding::{Priority, Purpose};
use holdfast_knowledge::{Explain, Group, Learned, Mode, NewDocument, SearchRequest};
use holdfast_storage::ChunkKey;
use serde_json::{Value, json};

use support::{House, field, json_lines};

/// A judged collection.
struct Set {
    name: &'static str,
    documents: Vec<NewDocument>,
    queries: Vec<(String, String)>,
    /// Relevant document ids by query id.
    relevant: HashMap<String, Vec<String>>,
}

/// What each mode found for each query: ids, best first.
type Runs = BTreeMap<&'static str, Vec<Vec<String>>>;

const MODES: [(&str, Mode); 3] = [("lexical", Mode::Lexical), ("dense", Mode::Dense), ("hybrid", Mode::Hybrid)];
/// Of either list.
const DUMPED: usize = 200;
const RESAMPLES: usize = 10_000;
const SEED: u64 = 20_261_120;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, models, state, precision, lists @ ..] = &arguments[..] else {
        anyhow::bail!("usage: retrieval_quality DATA MODELS STATE f32|int8 [LISTS]");
    };
    let precision = serde_json::from_value(precision.as_str().into()).context("a precision is f32 or int8")?;
    let house = House::open(Path::new(models), Path::new(state), precision).await?;
    let mut dump = lists.first().map(|path| File::create(path).map(BufWriter::new)).transpose()?;
    for set in [scifact(Path::new(data))?, cosqa(Path::new(data))?] {
        fill::fill(&house, set.name, &set.documents).await?;
        let runs = search(&house, &set, dump.as_mut()).await?;
        report(&set, &runs);
    }
    house.close().await;
    Ok(())
}

async fn search(house: &House, set: &Set, mut dump: Option<&mut BufWriter<File>>) -> Result<Runs> {
    let mut runs = Runs::new();
    for (id, query) in &set.queries {
        for (name, mode) in MODES {
            let response = house
                .knowledge
                .search(
                    &house.caller,
                    SearchRequest {
                        query: query.clone(),
                        collections: vec![set.name.to_owned()],
                        mode,
                        limit: 100,
                        cursor: None,
                        group: Group::Document,
                        filter: None,
                        min_score: None,
                        explain: Explain::No,
                        learned: Learned::default(),
                    },
                )
                .await?;
            anyhow::ensure!(response.degraded.is_none(), "degraded: {:?}", response.degraded);
            let ids = response.results.into_iter().map(|result| result.document_id).collect();
            runs.entry(name).or_default().push(ids);
        }
        if let Some(dump) = dump.as_deref_mut() {
            let relevant = &set.relevant[id];
            let scores = scores(house, set, query).await?;
            let line = json!({"set": set.name, "query": id, "relevant": relevant, "scores": scores});
            writeln!(dump, "{line}")?;
        }
    }
    Ok(runs)
}

/// Document and both its scores, for the best of either list.
async fn scores(house: &House, set: &Set, query: &str) -> Result<Vec<Value>> {
    let (_, _, generation) = house.storage.active_generation(&holdfast_storage::Grants::All, set.name)?;
    let generation = generation.context("an empty collection")?.id;
    let indexes = house.storage.projections().indexes(generation).context("no indexes")?;
    let embedder = house.models.get(house.models.default_model())?;
    let vectors = embedder.embed(vec![query.to_owned()], Purpose::Query, Priority::Interactive).await?;
    let everything = indexes.vectors().len();
    let lists =
        [indexes.vectors().nearest(&vectors[0], everything, None)?, indexes.lexical().query(query, everything, None)?];
    let mut joined: HashMap<ChunkKey, [f32; 2]> = HashMap::new();
    for scored in lists.iter().flat_map(|list| list.iter().take(DUMPED)) {
        joined.insert(scored.key, [0.0; 2]);
    }
    for (side, list) in lists.iter().enumerate() {
        for scored in list {
            if let Some(scores) = joined.get_mut(&scored.key) {
                scores[side] = scored.score;
            }
        }
    }
    joined
        .into_iter()
        .map(|(key, [dense, lexical])| {
            let hit = house.storage.hit(generation, key)?.context("a chunk without a document")?;
            Ok(json!([hit.document_id, dense, lexical]))
        })
        .collect()
}

fn report(set: &Set, runs: &Runs) {
    let measured = |measure: fn(&[String], &[String]) -> f64| -> BTreeMap<&str, Vec<f64>> {
        runs.iter()
            .map(|(mode, found)| {
                let values =
                    set.queries.iter().zip(found).map(|((id, _), found)| measure(found, &set.relevant[id])).collect();
                (*mode, values)
            })
            .collect()
    };
    for (name, measure) in [("nDCG@10", ndcg_10 as fn(&[String], &[String]) -> f64), ("MRR@100", mrr_100)] {
        let values = measured(measure);
        for (mode, values) in &values {
            println!("{} {name} {mode}: {:.4}", set.name, mean(values));
        }
        for part in ["lexical", "dense"] {
            let gains: Vec<f64> = values["hybrid"].iter().zip(&values[part]).map(|(a, b)| a - b).collect();
            let (low, high) = bootstrap(&gains);
            println!(
                "{} {name} hybrid - {part}: {:+.4}, 95 % interval [{low:+.4}, {high:+.4}]",
                set.name,
                mean(&gains)
            );
        }
    }
}

/// Järvelin and Kekäläinen 2002, with binary gains.
fn ndcg_10(found: &[String], relevant: &[String]) -> f64 {
    let discount = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
    let gained: f64 =
        found.iter().take(10).enumerate().filter(|(_, id)| relevant.contains(id)).map(|(rank, _)| discount(rank)).sum();
    gained / (0..relevant.len().min(10)).map(discount).sum::<f64>()
}

fn mrr_100(found: &[String], relevant: &[String]) -> f64 {
    let rank = found.iter().take(100).position(|id| relevant.contains(id));
    rank.map_or(0.0, |rank| 1.0 / (rank + 1) as f64)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The 2.5th and 97.5th percentile of the mean over resampled queries.
fn bootstrap(gains: &[f64]) -> (f64, f64) {
    let mut random = SEED;
    let mut next = move || {
        // xorshift64* (Vigna 2016); good enough to pick queries, and the same everywhere.
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    };
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn = (0..gains.len()).map(|_| gains[(next() % gains.len() as u64) as usize]);
            drawn.sum::<f64>() / gains.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    (means[RESAMPLES / 40], means[RESAMPLES - RESAMPLES / 40])
}

fn scifact(data: &Path) -> Result<Set> {
    let folder = data.join("scifact");
    let documents = json_lines(&folder.join("corpus.jsonl"))?
        .iter()
        .map(|line| NewDocument {
            id: Some(field(line, "_id")),
            title: Some(field(line, "title")),
            content: field(line, "text"),
            content_type: Some("text/plain".into()),
            ..NewDocument::default()
        })
        .collect();
    let mut relevant: HashMap<String, Vec<String>> = HashMap::new();
    for line in fs::read_to_string(folder.join("qrels.tsv"))?.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        if let [query, document, score] = fields[..]
            && score != "0"
        {
            relevant.entry(query.to_owned()).or_default().push(document.to_owned());
        }
    }
    let queries = json_lines(&folder.join("queries.jsonl"))?
        .iter()
        .map(|line| (field(line, "_id"), field(line, "text")))
        .filter(|(id, _)| relevant.contains_key(id))
        .collect();
    Ok(Set { name: "scifact", documents, queries, relevant })
}

fn cosqa(data: &Path) -> Result<Set> {
    let folder = data.join("cosqa");
    let codes: HashMap<String, u64> = serde_json::from_str(&fs::read_to_string(folder.join("code_idx_map.txt"))?)?;
    let mut documents: Vec<NewDocument> = codes
        .into_iter()
        .map(|(code, id)| NewDocument {
            id: Some(id.to_string()),
            content: code,
            content_type: Some("text/x-python".into()),
            ..NewDocument::default()
        })
        .collect();
    documents.sort_by_key(|document| document.id.clone());
    let judged: Vec<Value> = serde_json::from_str(&fs::read_to_string(folder.join("cosqa-retrieval-dev-500.json"))?)?;
    let mut queries = Vec::new();
    let mut relevant = HashMap::new();
    for line in &judged {
        let id = line["idx"].as_str().context("a query without an id")?.to_owned();
        queries.push((id.clone(), line["doc"].as_str().context("a query without a text")?.to_owned()));
        relevant.insert(id, vec![line["retrieval_idx"].to_string()]);
    }
    Ok(Set { name: "cosqa", documents, queries, relevant })
}
