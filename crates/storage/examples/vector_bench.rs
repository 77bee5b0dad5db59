//! Measures the vector indexes: build time, latency, recall against the exact scan, memory.
//!
//! ```text
//! cargo run --release -p holdfast-storage --example vector_bench -- FILE DIMENSIONS [f32|f16]
//! cargo run --release -p holdfast-storage --example vector_bench -- clustered DIMENSIONS ROWS
//! ```
//!
//! `FILE` holds nothing but rows, little-endian, one after another, normalised. The last thousand
//! of a shuffled order are queries and are not indexed. Filters allow rows by chance, or a run of
//! neighbours in the file, which is what a filter on a path or a source comes to.
//!
//! `clustered` makes vectors where there are none yet: centres are drawn in 32 dimensions, one for
//! every fifty rows, rows scatter around them, and a random linear map with a little noise takes
//! them to the dimensions asked for. Sentence embeddings, too, spread over far fewer dimensions
//! than they have numbers. Not a substitute for real ones where recall is judged.
//!
//! `ef=N`, `efc=N` and `m=N` after the rest change the graph's options.

#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::{
    error::Error,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use half::f16;
use holdfast_storage::{
    ChunkKey,
    vectors::{AllowedSet, ExactIndex, GraphOptions, UsearchIndex, VectorChange, VectorIndex},
};

const QUERIES: usize = 1000;
const LIMIT: usize = 10;
const BATCH: usize = 1000;
const SEED: u64 = 1;

type Rows = Vec<(ChunkKey, Vec<f32>)>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (settings, plain): (Vec<_>, Vec<_>) = arguments.iter().partition(|text| text.contains('='));
    let [source, dimensions, rest @ ..] = plain.as_slice() else {
        return Err("usage: vector_bench FILE|clustered DIMENSIONS [f32|f16|ROWS] [ef=N]".into());
    };
    let dimensions: usize = dimensions.parse()?;
    let rest = rest.first().map(|text| text.as_str());
    let rows = match (source.as_str(), rest) {
        ("clustered", rows) => clustered(dimensions, rows.unwrap_or("100000").parse()?),
        (path, Some("f16")) => {
            read(Path::new(path), dimensions, 2, |bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32())?
        }
        (path, _) => {
            read(Path::new(path), dimensions, 4, |bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))?
        }
    };
    let mut options = GraphOptions::default();
    for setting in settings {
        match setting.split_once('=') {
            Some(("ef", value)) => options.expansion_search = value.parse()?,
            Some(("efc", value)) => options.expansion_add = value.parse()?,
            Some(("m", value)) => options.connectivity = value.parse()?,
            _ => return Err(format!("unknown setting {setting}").into()),
        }
    }
    measure(rows, dimensions, options)
}

fn measure(mut rows: Rows, dimensions: usize, options: GraphOptions) -> Result<(), Box<dyn Error>> {
    let indexed = rows.len().checked_sub(QUERIES).ok_or("fewer rows than queries")?;
    fastrand::Rng::with_seed(SEED).shuffle(&mut rows);
    let queries: Vec<Vec<f32>> = rows.split_off(indexed).into_iter().map(|(_, row)| row).collect();
    rows.sort_by_key(|(key, _)| *key);
    let halves: Vec<(ChunkKey, Vec<f16>)> =
        rows.iter().map(|(key, row)| (*key, row.iter().map(|x| f16::from_f32(*x)).collect())).collect();
    drop(rows);
    println!("{indexed} rows × {dimensions}, {options:?}");

    let scratch = std::env::temp_dir().join(format!("vector-bench-{}", std::process::id()));
    let exact = ExactIndex::open(&scratch.join("exact"), dimensions, "bench")?;
    let graph = UsearchIndex::open_with(&scratch.join("graph"), dimensions, "bench", options.clone())?;
    fill("exact", &exact, &halves)?;
    let start = Instant::now();
    fill("graph", &graph, &halves)?;
    during_building(&graph, &queries)?;
    graph.settle();
    println!("graph built in {:.1?}, {} rows in it", start.elapsed(), graph.graph_rows());
    println!("memory: exact {} MB, graph {} MB", megabytes(&exact), megabytes(&graph));

    compare("all", &exact, &graph, &queries, None)?;
    let mut random = fastrand::Rng::with_seed(SEED);
    for share in [0.5, 0.2, 0.1, 0.05, 0.001] {
        let by_chance = halves.iter().filter(|_| random.f64() < share).map(|(key, _)| *key);
        let allowed: AllowedSet = by_chance.collect();
        compare(&format!("{share} by chance"), &exact, &graph, &queries, Some(&allowed))?;
        let length = (indexed as f64 * share) as usize;
        let first = random.usize(0..indexed - length);
        let run = halves[first..first + length].iter().map(|(key, _)| *key);
        let allowed: AllowedSet = run.collect();
        compare(&format!("{share} in a run"), &exact, &graph, &queries, Some(&allowed))?;
    }

    for (name, index) in [("exact", &exact as &dyn VectorIndex), ("graph", &graph)] {
        let start = Instant::now();
        index.checkpoint()?;
        println!("{name}: checkpoint in {:.0?}", start.elapsed());
    }
    let start = Instant::now();
    let again = UsearchIndex::open_with(&scratch.join("graph"), dimensions, "bench", options)?;
    println!("graph: opened in {:.0?}, {} rows in the graph", start.elapsed(), again.graph_rows());
    if again.digest() != exact.digest() {
        return Err("the two indexes differ".into());
    }
    drop((exact, graph, again));
    fs::remove_dir_all(&scratch)?;
    Ok(())
}

fn fill(name: &str, index: &dyn VectorIndex, rows: &[(ChunkKey, Vec<f16>)]) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    for (batch, position) in rows.chunks(BATCH).zip(1..) {
        let added: Vec<_> = batch.iter().map(|(key, row)| (*key, row.as_slice())).collect();
        let step = Instant::now();
        index.apply(&VectorChange { removed: &[], added: &added, position })?;
        longest = longest.max(step.elapsed());
    }
    let took = start.elapsed();
    println!("{name}: applied in {took:.1?}, the longest change of {BATCH} in {longest:.1?}");
    Ok(())
}

fn during_building(index: &UsearchIndex, queries: &[Vec<f32>]) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::new();
    for query in queries {
        let start = Instant::now();
        index.nearest(query, LIMIT, None)?;
        times.push(start.elapsed());
    }
    println!("while the graph is being built: {}", percentiles(times));
    Ok(())
}

fn compare(
    name: &str,
    exact: &ExactIndex,
    graph: &UsearchIndex,
    queries: &[Vec<f32>],
    allowed: Option<&AllowedSet>,
) -> Result<(), Box<dyn Error>> {
    let (mut by_scan, mut by_graph) = (Vec::new(), Vec::new());
    let (mut found, mut wanted) = (0, 0);
    // Once before measuring: the set finds its places, the rows come into the caches.
    graph.nearest(&queries[0], LIMIT, allowed)?;
    exact.nearest(&queries[0], LIMIT, allowed)?;
    for query in queries {
        let start = Instant::now();
        let approximate = graph.nearest(query, LIMIT, allowed)?;
        by_graph.push(start.elapsed());
        let start = Instant::now();
        let oracle = exact.nearest(query, LIMIT, allowed)?;
        by_scan.push(start.elapsed());
        // By score, so that of equal vectors any will do.
        let worst = oracle.last().map_or(f32::MAX, |scored| scored.score);
        found += approximate.iter().filter(|scored| scored.score >= worst).count();
        wanted += oracle.len();
    }
    let recall = found as f64 / f64::from(u32::try_from(wanted)?);
    println!("{name:16} recall@{LIMIT} {recall:.4}  graph {}  exact {}", percentiles(by_graph), percentiles(by_scan));
    Ok(())
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| times[(times.len() * share / 1000).min(times.len() - 1)];
    format!("p50 {:.3?} p99 {:.3?} max {:.3?}", at(500), at(990), at(1000))
}

fn megabytes(index: &dyn VectorIndex) -> usize {
    index.memory_bytes() >> 20
}

fn read(path: &Path, dimensions: usize, width: usize, decode: impl Fn(&[u8]) -> f32) -> Result<Rows, Box<dyn Error>> {
    let bytes = fs::read(path)?;
    let rows = bytes.chunks_exact(dimensions * width);
    let rows = rows.map(|row| row.chunks_exact(width).map(&decode).collect());
    Ok((0..).map(ChunkKey::new).zip(rows).collect())
}

fn clustered(dimensions: usize, count: usize) -> Rows {
    const LATENT: usize = 32;
    let mut random = fastrand::Rng::with_seed(SEED);
    // The sum of four uniform numbers is normal enough.
    let mut normal = move || (0..4).map(|_| random.f32() - 0.5).sum::<f32>() * 1.7;
    let map: Vec<f32> = (0..LATENT * dimensions).map(|_| normal()).collect();
    let centres: Vec<[f32; LATENT]> = (0..count.div_ceil(50)).map(|_| std::array::from_fn(|_| normal())).collect();
    let mut row = |at: usize| {
        let latent: [f32; LATENT] = std::array::from_fn(|i| centres[at / 50 % centres.len()][i] + 0.7 * normal());
        let raw: Vec<f32> = map
            .chunks_exact(LATENT)
            .map(|map| map.iter().zip(latent).map(|(a, b)| a * b).sum::<f32>() + normal())
            .collect();
        let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
        raw.iter().map(|x| x / norm).collect()
    };
    (0..count + QUERIES).map(|at| (ChunkKey::new(at as u64), row(at))).collect()
}
