//! `holdfast add`: folders and files become sources, and are indexed while one watches.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use holdfast_embedding::{ModelState, Models};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::Session;
use crate::{
    arguments,
    hint::Advice,
    output::{BARS, Form, Output, clean_line, count, say},
    progress::{self, Outcome},
    transport::{Request, Transport, encode},
};

/// Sources that were added, and the jobs that bring them in.
pub struct Added {
    /// As the API shows them.
    pub sources: Vec<Value>,
    /// Ids, each once.
    pub jobs: Vec<String>,
}

/// Adds the paths, and waits until all is in.
pub async fn run(session: &Session, arguments: arguments::Add) -> Result<()> {
    let paths = absolute(&arguments.paths)?;
    let output = session.output;
    session
        .with_program(async |transport| {
            let added = sources(transport, &arguments.collection, &paths).await?;
            // In this process the work ends with the command.
            if arguments.no_wait && transport.program().is_none() {
                output.value(&json!({ "sources": added.sources }), |_| {
                    format!(
                        "being indexed: {}; `holdfast jobs list` shows how far",
                        count(added.jobs.len() as u64, "job")
                    )
                })?;
                return Ok(());
            }
            let outcome = finish(transport, &added.jobs, output).await?;
            output.value(&json!({ "sources": added.sources, "jobs": outcome.jobs }), |_| {
                summary(&outcome, &added.sources).join("\n")
            })?;
            Ok(())
        })
        .await
}

/// The paths as the server will know them. One that does not exist is refused before anything begins.
pub fn absolute(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    paths.iter().map(|path| existing(path)).collect()
}

fn existing(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    match absolute.symlink_metadata() {
        Ok(_) => Ok(absolute),
        Err(error) => {
            let what = format!("there is nothing to index at {}", path.display());
            Err(anyhow::Error::new(error).context(Advice::new(what, "give folders and files that exist")))
        }
    }
}

/// Adds each path as a source.
pub async fn sources(transport: &Transport, collection: &str, paths: &[PathBuf]) -> Result<Added> {
    let mut added = Added { sources: Vec::new(), jobs: Vec::new() };
    for path in paths {
        let Some(path) = path.to_str() else {
            bail!(Advice::new(
                format!("{} is not UTF-8", path.display()),
                "rename it; paths are shown and sent as text"
            ));
        };
        let body = json!({ "collection": collection, "path": path });
        let answer = transport.send(Request::post("/api/v1/sources", body)).await?;
        if let Some(job) = answer["job_id"].as_str()
            && !added.jobs.iter().any(|known| known == job)
        {
            added.jobs.push(job.to_owned());
        }
        added.sources.push(answer);
    }
    Ok(added)
}

/// Waits for jobs that need the model, with something to look at meanwhile.
///
/// # Errors
/// Where a job failed as a whole, or the model can not be had and nobody else would try again.
pub async fn finish(transport: &Transport, jobs: &[String], output: Output) -> Result<Outcome> {
    if let Some(program) = transport.program() {
        await_model(&program.models, program.models.default_model()).await?;
    }
    // Only `up` has progress among its data.
    let quiet = Output::new(Form::Text);
    let outcome = progress::follow(transport, jobs, if output.form() == Form::Json { quiet } else { output }).await?;
    if let Some((code, detail)) = outcome.failure() {
        bail!("{detail} ({code})");
    }
    Ok(outcome)
}

/// Waits until a model answers, or the first time it could not be had.
pub async fn await_model(models: &Models, name: &str) -> Result<()> {
    let embedder = models.get(name)?;
    let mut state = embedder.watch();
    let spinner = BARS.add(ProgressBar::new_spinner());
    let mut said = false;
    let result = loop {
        let now = state.borrow_and_update().clone();
        match now {
            ModelState::Ready => break Ok(()),
            ModelState::Failed { reason, hint, .. } => {
                let what = format!("the embedding model {name} is not to be had: {reason}");
                break Err(match hint {
                    Some(hint) => Advice::new(what, hint).into(),
                    None => anyhow::anyhow!(what),
                });
            }
            ModelState::Fetching { .. } if spinner.is_hidden() && !said => {
                said = true;
                say(&format!("fetching the embedding model {name}"));
            }
            ModelState::Fetching { .. } | ModelState::Loading => {
                spinner.set_message(format!("the embedding model {name}: {now}"));
                spinner.tick();
            }
        }
        if state.changed().await.is_err() {
            break Err(anyhow::anyhow!("the embedding models have ended"));
        }
    };
    spinner.finish_and_clear();
    result
}

/// How many chunks a collection has, if that is to be had.
pub async fn chunks(transport: &Transport, collection: &str) -> Option<u64> {
    let target = format!("/api/v1/collections/{}", encode(collection));
    transport.send(Request::get(target)).await.ok()?["chunks"].as_u64()
}

/// What came of it, in a few lines.
pub fn summary(outcome: &Outcome, sources: &[Value]) -> Vec<String> {
    let counts = outcome.counts;
    let mut lines = vec![format!("{} in {:.1} s", count(counts.done, "document"), outcome.took.as_secs_f64())];
    if counts.failed > 0 {
        lines.push(format!("{} failed; `holdfast jobs list` says why", counts.failed));
    }
    if counts.skipped > 0 {
        let ids: Vec<String> =
            sources.iter().filter_map(|added| Some(clean_line(added["source"]["id"].as_str()?))).collect();
        let id = ids.first().map_or("ID", String::as_str);
        lines.push(format!("{} skipped; `holdfast sources skipped {id}` says which and why", counts.skipped));
    }
    lines
}
