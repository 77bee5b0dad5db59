//! Measures the encoder through its queue, as the program uses it.
//!
//! `encoder_speed MODEL_FOLDER` prints the median and the best time of a request of one text of 16 tokens, 8 of 128, 32
//! of 32, and 64 of 256, about the length of an abstract.

use std::{
    fmt::Write as _,
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use holdfast_embedding::{Config, Embedder, ModelSource, Models, Priority, Purpose};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: encoder_speed MODEL_FOLDER f32|int8";
    let model = arguments.next().map(PathBuf::from).context(usage)?;
    let precision = serde_json::from_value(arguments.next().context(usage)?.into()).context(usage)?;
    let directory = tempfile::tempdir()?;
    let config = Config {
        models_dir: directory.path().to_owned(),
        default_model: "measured".to_owned(),
        precision,
        ..Config::default()
    };
    let models = Models::start(config, CancellationToken::new(), TaskTracker::new());
    models.pull("measured", Some(ModelSource::Folder(model)), |_| {}).await?;
    let embedder = models.get("measured")?;
    embedder.ready().await?;

    let mut report = String::new();
    for (texts, tokens, repeats) in [(1, 16, 200), (8, 128, 40), (32, 32, 40), (64, 256, 10)] {
        let (median, best) = request_time(&embedder, texts, tokens, repeats).await?;
        let rate = |time: Duration| (texts * tokens) as f64 / time.as_secs_f64();
        writeln!(
            report,
            "{texts:>5} x {tokens:>3} tokens  median {:>9.2} ms {:>6.0} tokens/s  best {:>9.2} ms {:>6.0} tokens/s",
            median.as_secs_f64() * 1e3,
            rate(median),
            best.as_secs_f64() * 1e3,
            rate(best)
        )?;
    }
    std::io::stdout().write_all(report.as_bytes())?;
    Ok(())
}

/// Median and minimum over some repetitions, after one to warm up. On a machine with other work the minimum tells more.
async fn request_time(
    embedder: &Embedder,
    texts: usize,
    tokens: usize,
    repeats: usize,
) -> anyhow::Result<(Duration, Duration)> {
    // Each of these words is one token of every BERT vocabulary in English.
    let words = ["water", "science", "house", "music", "river", "market", "paper", "light"];
    let text = |number: usize| {
        let words: Vec<&str> = (0..tokens - 2).map(|at| words[(number * 7 + at * 3) % words.len()]).collect();
        words.join(" ")
    };
    let request: Vec<String> = (0..texts).map(text).collect();
    let counted = embedder.tokenizer()?.count(&request[0])? + 2;
    anyhow::ensure!(counted == tokens, "a text has {counted} tokens instead of {tokens}");
    let mut times = Vec::new();
    for _ in 0..=repeats {
        let started = Instant::now();
        embedder.embed(request.clone(), Purpose::Document, Priority::Bulk).await?;
        times.push(started.elapsed());
    }
    times.remove(0);
    times.sort_unstable();
    Ok((times[times.len() / 2], times[0]))
}
