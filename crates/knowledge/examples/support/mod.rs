//! What the measuring programs share: a knowledge base in a folder, and the judged data.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use holdfast_embedding::{Models, Precision};
use holdfast_knowledge::{Config, Knowledge, Watch};
use holdfast_storage::{Caller, Storage, jobs::JobState};
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a batch may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running knowledge base.
pub struct House {
    pub knowledge: Knowledge,
    pub storage: Storage,
    pub models: Models,
    pub caller: Caller,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl House {
    /// Opens what lies in `state` for the model's embedding space, or an empty one.
    pub async fn open(models: &Path, state: &Path, precision: Precision) -> Result<House> {
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();
        let embedding = holdfast_embedding::Config { models_dir: models.into(), precision, ..Default::default() };
        let models = Models::start(embedding, shutdown.clone(), tasks.clone());
        let embedder = models.get(models.default_model())?;
        embedder.ready().await?;
        let state = state.join(&embedder.space()?.fingerprint()[..16]);
        fs::create_dir_all(state.join("db"))?;
        let storage = Storage::open_at(&state.join("db/holdfast.db"), &state.join("index"))?;
        let config = Config { watch: Watch::No, ..Config::default() };
        let knowledge =
            Knowledge::start(config, storage.clone(), models.clone(), shutdown.clone(), tasks.clone()).await?;
        Ok(House { knowledge, storage, models, caller: Caller::owner(), shutdown, tasks })
    }

    pub async fn close(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        tokio::task::block_in_place(|| self.storage.close());
    }

    /// Waits until a job has succeeded.
    pub async fn finished(&self, job: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let job = self.knowledge.job(&self.caller, job).await?.job;
            if job.state.is_final() {
                ensure!(job.state == JobState::Done && job.progress.failed == 0, "indexing failed: {job:?}");
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "indexing did not end within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The objects of a file with one a line.
pub fn json_lines(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// A text field of an object.
pub fn field(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
