//! Embeds sets of texts again and again, as it is told on standard input, for comparison with another engine in turns.
//!
//! `embed_rounds MODEL_FOLDER f32|int8`. A line is a command in JSON, answered by a line of JSON:
//!
//! - `{"texts": [...]}` remembers texts and says how many tokens they have;
//! - `{"all": true}` embeds them all, says the seconds it took and where the time went;
//! - `{"alone": N}` embeds the first one N times, one request at a time, and says each one's milliseconds.

use std::{
    io::{self, BufRead, Write},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use holdfast_embedding::{Config, Embedder, ModelSource, Models, Priority, Purpose, Request, Reuse, measure};
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Texts in one request.
const REQUEST_TEXTS: usize = 256;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, precision] = &arguments[..] else {
        bail!("usage: embed_rounds MODEL_FOLDER f32|int8");
    };
    let precision = serde_json::from_value(precision.as_str().into()).context("a precision is f32 or int8")?;
    let directory = tempfile::tempdir()?;
    let config = Config {
        models_dir: directory.path().to_owned(),
        default_model: "measured".to_owned(),
        precision,
        ..Config::default()
    };
    let models = Models::start(config, CancellationToken::new(), TaskTracker::new());
    models.pull("measured", Some(ModelSource::Folder(PathBuf::from(model))), |_| {}).await?;
    let embedder = models.get("measured")?;
    embedder.ready().await?;

    let mut texts = Vec::new();
    for line in io::stdin().lock().lines() {
        let mut command: Value = serde_json::from_str(&line?)?;
        let answer = if let Some(given) = command.get_mut("texts") {
            texts = serde_json::from_value(given.take())?;
            json!({"tokens": count(&embedder, &texts)?})
        } else if command.get("all").is_some() {
            all(&embedder, &texts).await?
        } else {
            let repeats = command["alone"].as_u64().context("no such command")?;
            alone(&embedder, &texts[..1], repeats).await?
        };
        let mut output = io::stdout().lock();
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn count(embedder: &Embedder, texts: &[String]) -> Result<usize> {
    let tokenizer = embedder.tokenizer()?;
    let room = tokenizer.window() - 2;
    texts.iter().map(|text| Ok(tokenizer.count(text)?.min(room) + 2)).sum()
}

/// A request that is computed, whatever is known already: some texts of a set are equal.
fn anew(texts: &[String], purpose: Purpose, priority: Priority) -> Request {
    Request { reuse: Reuse::No, ..Request::of(texts.to_vec(), purpose, priority) }
}

async fn all(embedder: &Embedder, texts: &[String]) -> Result<Value> {
    let before = measure::stages();
    let started = Instant::now();
    let requests =
        texts.chunks(REQUEST_TEXTS).map(|texts| embedder.answer(anew(texts, Purpose::Document, Priority::Bulk)));
    futures::future::try_join_all(requests).await?;
    let seconds = started.elapsed().as_secs_f64();
    let stages: serde_json::Map<String, Value> = before
        .iter()
        .zip(measure::stages())
        .map(|((name, before), (_, after))| ((*name).to_owned(), (after - *before).as_secs_f64().into()))
        .collect();
    Ok(json!({"seconds": seconds, "stages": stages, "vnni_peak": measure::vnni_peak()}))
}

async fn alone(embedder: &Embedder, text: &[String], repeats: u64) -> Result<Value> {
    let mut milliseconds = Vec::new();
    for _ in 0..repeats {
        let started = Instant::now();
        embedder.answer(anew(text, Purpose::Query, Priority::Interactive)).await?;
        milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(json!({"milliseconds": milliseconds}))
}
