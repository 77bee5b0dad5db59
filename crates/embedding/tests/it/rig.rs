//! What every test needs: a models directory of its own, and a running component that is shut down properly.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use holdfast_embedding::{Config, Embedder, FetchLimits, ModelSource, Models, Precision};
use holdfast_testkit::tiny_model;
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The name the tiny model has in tests.
pub const TINY: &str = "tiny";

/// Long enough for anything a test waits for; a test that reaches it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Rig {
    pub directory: TempDir,
    pub models: Models,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Rig {
    /// Starts a component without sources on an empty directory, after a change to its settings.
    pub fn start(change: impl FnOnce(&mut Config)) -> anyhow::Result<Rig> {
        Rig::start_in(tempfile::tempdir()?, change)
    }

    /// The same on a given directory.
    pub fn start_in(directory: TempDir, change: impl FnOnce(&mut Config)) -> anyhow::Result<Rig> {
        let mut config = Config {
            models_dir: directory.path().join("models"),
            default_model: TINY.to_owned(),
            sources: Vec::new(),
            known_models: Vec::new(),
            threads: 2,
            fetch: quick(),
            ..Config::default()
        };
        change(&mut config);
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let models = Models::start(config, shutdown.clone(), tasks.clone());
        Ok(Rig { directory, models, shutdown, tasks })
    }

    /// A component with the tiny model, after a change to the folder it is imported from.
    pub async fn with_tiny(change: impl FnOnce(&PathBuf) -> anyhow::Result<()>) -> anyhow::Result<(Rig, Embedder)> {
        Rig::with_tiny_in(Precision::Int8, change).await
    }

    /// As [`Rig::with_tiny`], with the arithmetic named.
    pub async fn with_tiny_in(
        precision: Precision,
        change: impl FnOnce(&PathBuf) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Rig, Embedder)> {
        let rig = Rig::start(|config| config.precision = precision)?;
        let folder = rig.directory.path().join("source");
        tiny_model::write(&folder)?;
        change(&folder)?;
        rig.models.pull(TINY, Some(ModelSource::Folder(folder)), |_| {}).await?;
        let embedder = rig.models.get(TINY)?;
        within("the model to be ready", embedder.ready()).await??;
        Ok((rig, embedder))
    }

    /// Where a file of a model lies.
    pub fn file(&self, model: &str, path: &str) -> PathBuf {
        self.directory.path().join("models").join(model).join(path)
    }

    /// Shuts the component down and waits until everything it started has ended.
    pub async fn stop(self) -> anyhow::Result<TempDir> {
        self.shutdown.cancel();
        self.tasks.close();
        within("everything to end", self.tasks.wait()).await?;
        Ok(self.directory)
    }

    pub fn shutdown(&self) {
        self.shutdown.cancel();
    }
}

/// Three quick attempts.
pub fn quick() -> FetchLimits {
    FetchLimits {
        attempts: 3,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(5),
        attempt_deadline: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(10),
    }
}

/// Waits for something that must come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, future).await.with_context(|| format!("waited in vain for {what}"))
}
