//! The encoder against its references: how far our vectors are from those of others for the same texts.
//!
//! Two comparisons, each by cosine: stored vectors of text-embeddings-inference (the data set `embedding-goldens`), and
//! sentence-transformers on a thousand made texts, which `bench/encoder_reference.py` makes and judges. Our side is
//! `crates/embedding/examples/embed_lines.rs`. Does not measure speed, though that example tells it in passing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::python::Environment;
use crate::repository::Repository;
use crate::shell;

/// The lowest cosine that counts as the same vector.
const COSINE_MIN: f64 = 0.9999;

const REFERENCE: &str = "bench/encoder_reference.py";

/// Stored vectors and the texts they belong to, from the tests of text-embeddings-inference that made them. Its other two
/// files hold the vector of the first token, which this model does not use.
const GOLDENS: [(&str, &[&str]); 4] = [
    ("test_bert__bert_single.snap", &["What is Deep Learning?"]),
    ("test_bert__bert_batch.snap", &["What is Deep Learning?", "Deep Learning is...", "What is Deep Learning?"]),
    // Cut to 128 dimensions.
    ("mrl_single.snap", &["test"]),
    ("mrl_batch.snap", &["test", "test", "test"]),
];

/// What `bench encoder` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// The model's folder; by default the one that `cargo xtask test --install` fetched
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// Install sentence-transformers (several gigabytes) if it is not there
    #[arg(long)]
    install: bool,
}

/// Runs both comparisons and prints one line of JSON for each.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let goldens = super::data_folder(repository)?.join("embedding-goldens");
    let environment = Environment::of(repository, "bench/requirements.txt")?;
    if options.install && !environment.is_ready() {
        environment.install()?;
    }
    if !environment.is_ready() {
        bail!("sentence-transformers is missing\nhint: cargo xtask bench encoder --install");
    }
    let encoder = Encoder::build(repository, options.model.clone())?;
    compare_goldens(&encoder, &goldens)?;
    compare_reference(repository, &encoder, &environment)
}

/// Our side: a built program that turns a file of texts into a file of vectors.
struct Encoder {
    program: PathBuf,
    model: PathBuf,
    folder: PathBuf,
}

impl Encoder {
    fn build(repository: &Repository, model: Option<PathBuf>) -> Result<Self> {
        let model = match model {
            Some(folder) => folder,
            None => shell::cache_folder()?.join("test-data/models/all-MiniLM-L6-v2"),
        };
        if !model.join("model.safetensors").is_file() {
            bail!("there is no model in {}\nhint: cargo xtask test --install", model.display());
        }
        let mut build = shell::command("cargo");
        build.current_dir(&repository.root);
        shell::run(build.args(["build", "--release", "--workspace", "--example", "embed_lines"]))?;
        let program = repository.target_folder()?.join("release/examples/embed_lines");
        let folder = shell::cache_folder()?.join("bench/encoder");
        fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        Ok(Self { program, model, folder })
    }

    /// Embeds what `texts.jsonl` in the working folder holds into `vectors.jsonl`.
    fn embed(&self) -> Result<()> {
        let mut program = shell::command(&self.program);
        shell::run(
            program
                .arg(&self.model)
                .arg("f32")
                .args([self.folder.join("texts.jsonl"), self.folder.join("vectors.jsonl")]),
        )
    }
}

fn compare_goldens(encoder: &Encoder, folder: &Path) -> Result<()> {
    let texts: Vec<&str> = GOLDENS.iter().flat_map(|(_, texts)| *texts).copied().collect();
    let lines = texts.iter().map(|text| serde_json::Value::from(*text).to_string() + "\n");
    let place = encoder.folder.join("texts.jsonl");
    fs::write(&place, lines.collect::<String>()).with_context(|| format!("failed to write {}", place.display()))?;
    encoder.embed()?;
    let vectors = encoder.folder.join("vectors.jsonl");
    let ours = fs::read_to_string(&vectors).with_context(|| format!("failed to read {}", vectors.display()))?;
    let ours: Vec<Vec<f64>> = ours.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;

    let mut theirs = Vec::new();
    for (name, texts) in GOLDENS {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let rows = rows_of_snapshot(&text).with_context(|| format!("failed to understand {}", path.display()))?;
        if rows.len() != texts.len() {
            bail!("{} has {} vectors where {} were expected", path.display(), rows.len(), texts.len());
        }
        theirs.extend(rows);
    }
    if ours.len() != theirs.len() {
        bail!("{} vectors for {} texts", ours.len(), theirs.len());
    }
    let cosines: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| cosine(ours, theirs)).collect();
    let minimum = cosines.iter().copied().fold(f64::INFINITY, f64::min);
    super::print(&serde_json::json!({ "goldens": theirs.len(), "minimum": minimum }));
    // Each one is looked at: `f64::min` passes over what is no number.
    if !cosines.iter().all(|cosine| *cosine >= COSINE_MIN) {
        bail!("the lowest cosine to the stored vectors is {minimum}, and none may be below {COSINE_MIN}");
    }
    Ok(())
}

fn compare_reference(repository: &Repository, encoder: &Encoder, environment: &Environment) -> Result<()> {
    let script = |step: &str| {
        let mut command = shell::command(environment.python());
        // The model is a folder on this machine; nothing is to be looked up anywhere.
        command.current_dir(&repository.root).env("HF_HUB_OFFLINE", "1").args([REFERENCE, step]).arg(&encoder.folder);
        command
    };
    shell::run(&mut script("texts"))?;
    encoder.embed()?;
    shell::run(script("reference").arg(&encoder.model))?;
    shell::run(script("compare").args(["--minimum", &COSINE_MIN.to_string()]))
}

/// The vectors in a snapshot file: YAML, a list of lists of numbers below a heading.
fn rows_of_snapshot(text: &str) -> Result<Vec<Vec<f64>>> {
    let body = text.splitn(3, "---\n").nth(2).context("no heading between lines of dashes")?;
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for line in body.lines().filter(|line| !line.trim().is_empty()) {
        let number = match line.strip_prefix("- - ") {
            Some(first) => {
                rows.push(Vec::new());
                first
            }
            None => line.strip_prefix("  - ").with_context(|| format!("unexpected line {line:?}"))?,
        };
        let row = rows.last_mut().context("a number before the first vector")?;
        row.push(number.trim().parse().with_context(|| format!("{number:?} is no number"))?);
    }
    Ok(rows)
}

/// The cosine of two vectors over the dimensions that both have.
fn cosine(left: &[f64], right: &[f64]) -> f64 {
    let shared = left.len().min(right.len());
    let (left, right) = (&left[..shared], &right[..shared]);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_vector_by_vector() {
        let text = "---\nsource: a\n---\n- - 0.5\n  - -1.5e-3\n- - 2\n  - 3\n";
        assert_eq!(rows_of_snapshot(text).unwrap(), [[0.5, -0.0015], [2.0, 3.0]]);
        for broken in ["- - 0.5\n", "---\n---\n  - 0.5\n", "---\n---\n- - half\n"] {
            assert!(rows_of_snapshot(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn cosine_looks_at_the_dimensions_both_have() {
        assert!((cosine(&[1.0, 0.0, 9.0], &[2.0, 0.0]) - 1.0).abs() < 1e-12);
        assert!(cosine(&[1.0, 0.0], &[0.0, 1.0]).abs() < 1e-12);
        assert!(cosine(&[0.0], &[0.0]).is_nan());
    }
}
