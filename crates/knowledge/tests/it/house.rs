//! A knowledge base in a temporary directory, with a folder of files to index.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use holdfast_embedding::{FetchLimits, ModelSource, Models, Precision};
use holdfast_knowledge::{
    Config, DocumentPage, Explain, Group, Knowledge, Learned, Mode, NewDocument, PutDocuments, SearchRequest,
    SearchResponse, Watch,
};
use holdfast_storage::{Caller, Storage, documents::Document, jobs::JobState};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The default model.
pub const TINY: &str = "tiny";
/// One with other weights.
pub const OTHER: &str = "other";
/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct House {
    pub knowledge: Knowledge,
    pub storage: Storage,
    pub caller: Caller,
    folder: TempDir,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl House {
    pub async fn new(watch: Watch) -> Result<House> {
        House::with(watch, |_, _| {}).await
    }

    /// As [`House::new`], with something set otherwise.
    pub async fn with(
        watch: Watch,
        change: impl FnOnce(&mut holdfast_embedding::Config, &mut Config),
    ) -> Result<House> {
        let folder = tempfile::tempdir()?;
        fs::create_dir_all(folder.path().join("files"))?;
        for (name, seed) in [(TINY, 1), (OTHER, 2)] {
            holdfast_testkit::tiny_model::write_seeded(&folder.path().join("source").join(name), seed)?;
        }
        House::open(folder, watch, Precision::Int8, change).await
    }

    async fn open(
        folder: TempDir,
        watch: Watch,
        precision: Precision,
        change: impl FnOnce(&mut holdfast_embedding::Config, &mut Config),
    ) -> Result<House> {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let mut embedding = holdfast_embedding::Config {
            models_dir: folder.path().join("models"),
            default_model: TINY.to_owned(),
            sources: Vec::new(),
            threads: 1,
            precision,
            fetch: FetchLimits { backoff_min: PATIENCE, backoff_max: PATIENCE, ..FetchLimits::default() },
            ..holdfast_embedding::Config::default()
        };
        let mut config = Config { watch, ..Config::default() };
        change(&mut embedding, &mut config);
        let models = Models::start(embedding, stop.clone(), tasks.clone());
        for name in [TINY, OTHER] {
            let source = ModelSource::Folder(folder.path().join("source").join(name));
            models.pull(name, Some(source), |_| {}).await?;
            models.get(name)?.ready().await?;
        }
        let indexes = folder.path().join("index");
        fs::create_dir_all(&indexes)?;
        let storage = Storage::open_at(&folder.path().join("holdfast.db"), &indexes)?;
        let knowledge = Knowledge::start(config, storage.clone(), models, stop.clone(), tasks.clone()).await?;
        Ok(House { knowledge, storage, caller: Caller::owner(), folder, stop, tasks })
    }

    /// Stops everything and opens it again.
    pub async fn restart(self, watch: Watch) -> Result<House> {
        self.restart_in(Precision::Int8, watch).await
    }

    /// As [`House::restart`], with the encoder's arithmetic named.
    pub async fn restart_in(self, precision: Precision, watch: Watch) -> Result<House> {
        House::open(self.end().await?, watch, precision, |_, _| {}).await
    }

    pub async fn close(self) -> Result<()> {
        self.end().await?.close()?;
        Ok(())
    }

    async fn end(self) -> Result<TempDir> {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.context("something did not stop")?;
        tokio::task::block_in_place(|| self.storage.close());
        Ok(self.folder)
    }

    /// A file's place.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(path, content)?;
        Ok(())
    }

    /// Indexes the folder and waits until it is in; the source's id.
    pub async fn index(&self) -> Result<String> {
        let added = self.knowledge.add_source(&self.caller, "default", &self.path("")).await?;
        self.finished(&added.job_id).await?;
        Ok(added.source.public_id)
    }

    pub async fn put(&self, documents: Vec<NewDocument>) -> Result<()> {
        let request =
            PutDocuments { collection: "default".to_owned(), documents, wait: Some(PATIENCE), idempotency: None };
        let report = self.knowledge.put_documents(&self.caller, request).await?;
        ensure!(report.job.state == JobState::Done && report.job.progress.failed == 0, "{report:?}");
        Ok(())
    }

    /// Waits until a job has succeeded.
    pub async fn finished(&self, job: &str) -> Result<()> {
        let ended = async {
            loop {
                let job = self.knowledge.job(&self.caller, job).await?.job;
                if job.state.is_final() {
                    ensure!(job.state == JobState::Done, "{job:?}");
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await?
    }

    pub async fn documents(&self) -> Result<Vec<Document>> {
        let page = DocumentPage { collection: "default".to_owned(), source: None, cursor: None, limit: 1_000 };
        Ok(self.knowledge.documents(&self.caller, page).await?.items)
    }

    pub async fn search(&self, request: SearchRequest) -> Result<SearchResponse> {
        Ok(self.knowledge.search(&self.caller, request).await?)
    }

    /// Titles of what is found by words.
    pub async fn found(&self, query: &str) -> Result<Vec<String>> {
        let answer = self.search(SearchRequest { mode: Mode::Lexical, ..request(query) }).await?;
        Ok(answer.results.into_iter().map(|result| result.title).collect())
    }

    /// Waits until a search by words finds exactly these titles.
    pub async fn until_found(&self, query: &str, titles: &[&str]) -> Result<()> {
        let seen = async {
            loop {
                let mut found = self.found(query).await?;
                found.sort();
                if found == titles {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.with_context(|| format!("{query:?} never found {titles:?}"))?
    }
}

pub fn request(query: &str) -> SearchRequest {
    SearchRequest {
        query: query.to_owned(),
        collections: Vec::new(),
        mode: Mode::Hybrid,
        limit: 10,
        cursor: None,
        group: Group::Chunk,
        filter: None,
        min_score: None,
        explain: Explain::No,
        learned: Learned::default(),
    }
}

pub fn document(id: &str, content: &str, metadata: Value) -> NewDocument {
    NewDocument { id: Some(id.to_owned()), content: content.to_owned(), metadata, ..NewDocument::default() }
}
