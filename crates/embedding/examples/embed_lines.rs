//! Embeds texts from a file, for comparison with another implementation.
//!
//! `embed_lines MODEL_FOLDER f32|int8 TEXTS VECTORS`: TEXTS has one JSON string a line, VECTORS gets one JSON array a line. What
//! is measured on the way is said on stderr.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
    time::Instant,
};

use anyhow::Context;
use holdfast_embedding::{Config, ModelSource, Models, Priority, Purpose};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Texts in one request.
const REQUEST_TEXTS: usize = 256;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, precision, texts, vectors] = &arguments[..] else {
        anyhow::bail!("usage: embed_lines MODEL_FOLDER f32|int8 TEXTS VECTORS");
    };
    let precision = serde_json::from_value(precision.as_str().into()).context("a precision is f32 or int8")?;
    let texts = read_texts(Path::new(texts))?;
    let directory = tempfile::tempdir()?;
    let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
    let config = Config {
        models_dir: directory.path().to_owned(),
        default_model: "compared".to_owned(),
        precision,
        ..Config::default()
    };
    let models = Models::start(config, shutdown.clone(), tasks.clone());
    models.pull("compared", Some(ModelSource::Folder(model.into())), |_| {}).await?;
    let embedder = models.get("compared")?;
    embedder.ready().await?;

    let tokenizer = embedder.tokenizer()?;
    let room = tokenizer.window() - 2;
    let tokens = texts.iter().map(|text| Ok(tokenizer.count(text)?.min(room) + 2)).sum::<anyhow::Result<usize>>()?;
    let mut output = BufWriter::new(File::create(vectors)?);
    let mut seconds = 0.0;
    for request in texts.chunks(REQUEST_TEXTS) {
        let started = Instant::now();
        let answer = embedder.embed(request.to_vec(), Purpose::Document, Priority::Bulk).await?;
        seconds += started.elapsed().as_secs_f64();
        for vector in answer {
            serde_json::to_writer(&mut output, &vector)?;
            output.write_all(b"\n")?;
        }
    }
    output.flush()?;
    writeln!(
        std::io::stderr(),
        "{} texts, {tokens} tokens in {seconds:.2} s: {:.0} tokens/s",
        texts.len(),
        tokens as f64 / seconds
    )?;
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(())
}

fn read_texts(path: &Path) -> anyhow::Result<Vec<String>> {
    let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    BufReader::new(file)
        .lines()
        .enumerate()
        .map(|(number, line)| {
            serde_json::from_str(&line?).with_context(|| format!("line {} is not a JSON string", number + 1))
        })
        .collect()
}
