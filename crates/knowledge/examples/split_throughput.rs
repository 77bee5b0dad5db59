//! Measures how fast texts are read and split, and what the chunks are like.
//!
//! `split_throughput MODELS PATH…` reads the files below each path with the tokenizer of the default model in
//! `MODELS`. A `.jsonl` file is read as one document a line, made of its `title` and `text`. Prints what was
//! skipped, documents and megabytes a second on one core and on all, and the sizes of the chunks.
#![expect(clippy::print_stdout, reason = "a command line tool talks on its streams")]

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Instant,
};

use anyhow::{Context, Result};
use holdfast_embedding::{Models, Tokens};
use holdfast_knowledge::{
    files::{self, FileLimits, Found},
    split::{self, ContentKind, Split, SplitConfig, SplitError, TokenCounter},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

struct Counter(Arc<Tokens>);

impl TokenCounter for Counter {
    fn token_offsets(&self, text: &str) -> Result<Vec<(usize, usize)>, SplitError> {
        self.0.offsets(text).map_err(|source| SplitError::Tokenize { text_bytes: text.len(), source: source.into() })
    }
}

struct Document {
    path: PathBuf,
    text: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [models, paths @ ..] = &arguments[..] else { anyhow::bail!("usage: split_throughput MODELS PATH…") };
    let config = holdfast_embedding::Config { models_dir: models.clone(), ..Default::default() };
    let models = Models::start(config, CancellationToken::new(), TaskTracker::new());
    let embedder = models.get(models.default_model())?;
    embedder.ready().await?;
    let counter = Counter(embedder.tokenizer()?);

    let started = Instant::now();
    let mut documents = Vec::new();
    for path in paths {
        load(path, &mut documents)?;
    }
    let bytes: usize = documents.iter().map(|document| document.text.len()).sum();
    println!("{} documents, {bytes} bytes, read in {:.2?}", documents.len(), started.elapsed());
    let splits = measure(1, &documents, &counter)?;
    measure(thread::available_parallelism()?.get(), &documents, &counter)?;
    describe(&splits);
    Ok(())
}

fn load(path: &Path, documents: &mut Vec<Document>) -> Result<()> {
    if path.extension().is_some_and(|extension| extension == "jsonl") {
        for line in fs::read_to_string(path)?.lines() {
            let record: serde_json::Value = serde_json::from_str(line)?;
            let field = |name: &str| record[name].as_str().with_context(|| format!("a line without {name}"));
            let text = format!("{}\n\n{}", field("title")?, field("text")?);
            documents.push(Document { path: "line.txt".into(), text });
        }
        return Ok(());
    }
    let limits = FileLimits::default();
    files::walk(path, &limits, &mut |found| {
        let skipped = match found {
            Found::Skipped(skip) => (skip.path, skip.reason),
            Found::File(entry) => match files::read(&entry, &limits) {
                Ok(file) => {
                    documents.push(Document { path: entry.path(), text: file.text });
                    return ControlFlow::Continue(());
                }
                Err(reason) => (entry.path(), reason),
            },
        };
        println!("skipped {}: {}", skipped.0.display(), skipped.1);
        ControlFlow::Continue(())
    })?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a rate to print")]
fn measure(threads: usize, documents: &[Document], counter: &Counter) -> Result<Vec<Split>> {
    let config = SplitConfig::default();
    let split_one = |document: &Document| {
        let kind = ContentKind::detect(Some(&document.path), None, &document.text);
        split::split(kind, &document.text, counter, &config)
    };
    let started = Instant::now();
    let splits = thread::scope(|scope| {
        let parts = documents.chunks(documents.len().div_ceil(threads).max(1));
        let running: Vec<_> = parts.map(|part| scope.spawn(move || part.iter().map(split_one).collect())).collect();
        let mut all: Vec<Split> = Vec::new();
        for part in running {
            let part: Result<Vec<Split>, SplitError> = part.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            all.extend(part?);
        }
        anyhow::Ok(all)
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes: usize = documents.iter().map(|document| document.text.len()).sum();
    let rate = documents.len() as f64 / seconds;
    println!("{threads} thread(s): {rate:.0} documents/s, {:.2} MB/s", bytes as f64 / seconds / 1e6);
    Ok(splits)
}

fn describe(splits: &[Split]) {
    let mut sizes: Vec<usize> = splits.iter().flat_map(|split| &split.chunks).map(|chunk| chunk.token_count).collect();
    sizes.sort_unstable();
    let at = |percent: usize| sizes.get((sizes.len().saturating_sub(1)) * percent / 100).copied().unwrap_or(0);
    let single = splits.iter().filter(|split| split.chunks.len() == 1).count();
    println!("{} chunks, {single} documents are one chunk", sizes.len());
    println!("tokens a chunk: p5 {}, p50 {}, p95 {}, max {}", at(5), at(50), at(95), at(100));
}
