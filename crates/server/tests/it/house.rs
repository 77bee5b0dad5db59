//! A server with everything behind it, in a temporary directory, and ways to ask it things.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, Once, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Method, Request, header},
};
use futures::future::BoxFuture;
use holdfast_coordinator::{CannotRun, Coordinator, RunSettings, Runner, Served};
use holdfast_embedding::{FetchLimits, ModelSource, ModelState, Models};
use holdfast_knowledge::{Knowledge, Watch};
use holdfast_learning::{Asked, Finding, Keeping, Learning, Lesson, Shelf};
use holdfast_server::{Config, Observation, Parts, Server};
use holdfast_storage::{Caller, EventLog, LearningStore, Role, Storage, datasets::Datasets, keys::KeyTerms};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::description;

/// The name of the tiny model.
pub const TINY: &str = "tiny";
/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a search of an evaluation finds here.
struct Found;

impl Shelf for Found {
    fn rank_by(&self, _boosts: Vec<(String, f32)>) {}

    fn find(&self, _caller: Caller, _asked: Asked) -> Finding<'_> {
        Box::pin(async { Ok(vec!["doc_7b".to_owned()]) })
    }

    fn keep(&self, _: String, _: Vec<Lesson>, _: Vec<String>) -> Keeping<'_> {
        Box::pin(async { Ok(()) })
    }

    fn settings(&self) -> String {
        "a test".to_owned()
    }
}

pub struct House {
    pub server: Server,
    pub storage: Storage,
    pub coordinator: Coordinator,
    pub learning: Learning,
    pub key: String,
    pub shutdown: CancellationToken,
    folder: TempDir,
    stop: CancellationToken,
    tasks: TaskTracker,
    router: Router,
    events: EventLog,
}

/// Runs nothing, and knows two files that could not be run.
#[derive(Debug)]
struct RunsNothing;

impl Runner for RunsNothing {
    fn check<'a>(&'a self, settings: &'a RunSettings) -> BoxFuture<'a, Result<(), CannotRun>> {
        let refused = |field, problem: &str| Err(CannotRun { field, problem: problem.to_owned() });
        Box::pin(std::future::ready(match settings.gguf.to_str() {
            Some("/text.gguf") => refused("gguf", "names a file that is not GGUF"),
            Some("/orphan.gguf") => refused("command", "names no program, and none is installed"),
            _ => Ok(()),
        }))
    }

    fn start<'a>(&'a self, _: &'a str, _: &'a RunSettings) -> BoxFuture<'a, Result<Served, String>> {
        Box::pin(std::future::ready(Ok(Served { url: "http://127.0.0.1:1/v1".to_owned(), context_tokens: None })))
    }

    fn until_ready<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(std::future::ready(self.state(name)))
    }

    fn stop<'a>(&'a self, _: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    fn state(&self, _: &str) -> Result<(), String> {
        Err("nothing is run here".to_owned())
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl House {
    /// With the tiny model, loaded.
    pub async fn new() -> Result<Self> {
        Self::with(Config::default()).await
    }

    /// With the tiny model and other limits.
    pub async fn with(config: Config) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let source = folder.path().join("source");
        holdfast_testkit::tiny_model::write(&source)?;
        Self::build(config, folder, async |models| {
            models.pull(TINY, Some(ModelSource::Folder(source)), |_| {}).await?;
            models.get(TINY)?.ready().await?;
            Ok(())
        })
        .await
    }

    /// What the probe says once every part has been tried and found well.
    pub async fn until_ready(&self) -> Result<Value> {
        let ready = async {
            loop {
                let reply = self.get("/health/ready").await?;
                if reply.status == 200 {
                    return reply.json();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await?
    }

    /// The same house again, whose model has lost its weights in between.
    pub async fn again_without_model(self) -> Result<Self> {
        let folder = self.close_keeping().await?;
        std::fs::remove_file(folder.path().join("models").join(TINY).join("model.safetensors"))?;
        Self::build(Config::default(), folder, async |models| {
            let mut states = models.get(TINY)?.watch();
            states.wait_for(|state| matches!(state, ModelState::Failed { .. })).await?;
            Ok(())
        })
        .await
    }

    async fn build(config: Config, folder: TempDir, prepare: impl AsyncFnOnce(&Models) -> Result<()>) -> Result<Self> {
        holdfast_server::metrics::install()?;
        keep_log();
        let (shutdown, stop, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let embedding = holdfast_embedding::Config {
            models_dir: folder.path().join("models"),
            default_model: TINY.to_owned(),
            sources: Vec::new(),
            threads: 1,
            fetch: FetchLimits { backoff_min: PATIENCE, backoff_max: PATIENCE, ..FetchLimits::default() },
            ..holdfast_embedding::Config::default()
        };
        let models = Models::start(embedding, stop.clone(), tasks.clone());
        prepare(&models).await?;
        let indexes = folder.path().join("index");
        std::fs::create_dir_all(&indexes)?;
        let storage = Storage::open_at(&folder.path().join("knowledge.sqlite"), &indexes)?;
        let knowledge = Knowledge::start(
            holdfast_knowledge::Config { watch: Watch::No, ..holdfast_knowledge::Config::default() },
            storage.clone(),
            models.clone(),
            stop.clone(),
            tasks.clone(),
        )
        .await?;
        let events = EventLog::open_at(&folder.path().join("events.sqlite"))?;
        let coordinator = Coordinator::start(holdfast_coordinator::Parts {
            config: holdfast_coordinator::Config::default(),
            knowledge: knowledge.clone(),
            storage: storage.clone(),
            log: events.clone(),
            ledger: events.ledger(),
            runner: Some(Arc::new(RunsNothing)),
            shutdown: stop.clone(),
            tasks: tasks.clone(),
        })
        .await?;
        let learning = Learning::start(holdfast_learning::Parts {
            store: LearningStore::open_at(&folder.path().join("learning.sqlite"))?,
            log: events.clone(),
            datasets: Datasets::open(&folder.path().join("datasets"))?,
            encode: None,
            shelf: Some(Arc::new(Found)),
            drop_folder: None,
            keeping: None,
            shutdown: stop.clone(),
            tasks: tasks.clone(),
        });
        let (_, secret) = storage.create_key(&Caller::owner(), KeyTerms::of("test", Role::Admin)).await?;
        let server = Server::build(Parts {
            config,
            knowledge,
            coordinator: coordinator.clone(),
            learning: learning.clone(),
            storage: storage.clone(),
            models,
            version: "1.2.3",
            shutdown: shutdown.clone(),
            tasks: tasks.clone(),
            observation: Observation::default(),
        })?;
        let (key, router) = (secret.reveal().to_owned(), server.network());
        Ok(Self { server, storage, coordinator, learning, key, shutdown, folder, stop, tasks, router, events })
    }

    /// Waits until learning has derived all that is on record; an error where that never comes.
    pub async fn caught_up(&self) -> Result<()> {
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, self.learning.caught_up()).await.context("learning does not catch up")??;
        Ok(())
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A request with the key.
    pub fn request(&self, method: Method, target: &str) -> axum::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
    }

    /// The secret of another key.
    pub async fn key_with(&self, terms: KeyTerms) -> Result<String> {
        let (_, secret) = self.storage.create_key(&Caller::owner(), terms).await?;
        Ok(secret.reveal().to_owned())
    }

    pub async fn send(&self, request: Request<Body>) -> Result<Reply> {
        ask(self.router.clone(), request).await
    }

    pub async fn get(&self, target: &str) -> Result<Reply> {
        self.send(self.request(Method::GET, target).body(Body::empty())?).await
    }

    pub async fn delete(&self, target: &str) -> Result<Reply> {
        self.send(self.request(Method::DELETE, target).body(Body::empty())?).await
    }

    pub async fn post(&self, target: &str, body: Value) -> Result<Reply> {
        self.post_text(target, body.to_string()).await
    }

    pub async fn post_text(&self, target: &str, body: impl Into<Body>) -> Result<Reply> {
        let request = self.request(Method::POST, target).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(body.into())?).await
    }

    pub async fn search(&self, body: Value) -> Result<Value> {
        self.post("/api/v1/search", body).await?.expect(200)
    }

    /// Stores three short documents in the default collection.
    pub async fn furnish(&self) -> Result<()> {
        let stored = self.post(
            "/api/v1/documents",
            json!({ "documents": [
                { "id": "flake", "path": "nix/flake.md", "content": "# Flakes\n\nA flake lock pins every package.",
                  "metadata": { "lang": "nix" } },
                { "id": "garden", "path": "garden.md", "content": "# Garden\n\nFlowers grow in the rain." },
                { "id": "rollback", "path": "nix/rollback.md", "content": "# Rollback\n\nSwitch to an older system.",
                  "metadata": { "lang": "nix" } },
            ]}),
        );
        let stored = stored.await?.expect(200)?;
        for document in stored["documents"].as_array().context("no documents")? {
            ensure!(document["status"] == "indexed", "{stored}");
        }
        Ok(())
    }

    /// Stops everything and waits for it.
    pub async fn close(self) -> Result<()> {
        self.close_keeping().await.map(drop)
    }

    async fn close_keeping(self) -> Result<TempDir> {
        self.shutdown.cancel();
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.context("something did not stop")?;
        let (events, storage) = (self.events, self.storage);
        let close = move || {
            events.close();
            storage.close();
        };
        tokio::task::spawn_blocking(close).await?;
        Ok(self.folder)
    }
}

/// Sends a request through a router, with the `Host` that every client sends.
pub async fn ask(router: Router, mut request: Request<Body>) -> Result<Reply> {
    request.headers_mut().entry(header::HOST).or_insert(header::HeaderValue::from_static("localhost"));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = tokio::time::timeout(PATIENCE, router.oneshot(request)).await??;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let reply = Reply { status: parts.status.as_u16(), headers: parts.headers, body };
    // Whatever a test is about, the answer has to be one that the description has.
    description::check(&method, &path, &reply)?;
    Ok(reply)
}

impl Reply {
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {:?}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body of an answer that has to have a status.
    pub fn expect(&self, status: u16) -> Result<Value> {
        ensure!(self.status == status, "{} instead of {status}: {}", self.status, self.text());
        self.json()
    }

    /// Checks that this is a whole problem document, and gives it.
    pub fn problem(&self, status: u16, code: &str) -> Result<Value> {
        ensure!(self.status == status, "{} instead of {status} {code}: {}", self.status, self.text());
        ensure!(self.header("content-type") == Some("application/problem+json"), "{:?}", self.headers);
        let problem = self.json()?;
        ensure!(problem["code"] == code, "not {code}: {problem}");
        ensure!(problem["status"] == status, "{problem}");
        ensure!(problem["type"] == format!("urn:holdfast:error:{code}"), "{problem}");
        for member in ["title", "detail", "error_id"] {
            ensure!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "no {member}: {problem}");
        }
        Ok(problem)
    }

    /// Checks that this is a failure in the shape of its route's API.
    pub fn failure(&self, path: &str, status: u16, code: &str) -> Result<()> {
        let error = match path {
            _ if path.starts_with("/v1/") => self.json()?["error"].take(),
            "/embed" | "/embed_all" | "/similarity" | "/tokenize" | "/info" => self.json()?,
            "/mcp" => self.json()?["error"]["data"].take(),
            _ => return self.problem(status, code).map(|_| ()),
        };
        ensure!(self.status == status && error["code"] == code, "{} instead of {status} {code}: {error}", self.status);
        ensure!(self.header("content-type") == Some("application/json"), "{:?}", self.headers);
        ensure!(error["error_id"].as_str().is_some_and(|id| !id.is_empty()), "{error}");
        let told = [&error["message"], &error["error"], &error["detail"]];
        ensure!(told.iter().any(|text| text.as_str().is_some_and(|text| !text.is_empty())), "{error}");
        Ok(())
    }
}

/// Everything our crates logged in this process, a JSON object a line.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn keep_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let ours = "holdfast_server=trace,holdfast_knowledge=trace,holdfast_storage=trace,holdfast_embedding=trace";
        tracing_subscriber::fmt().json().with_env_filter(ours).with_writer(|| Log).init();
    });
}

/// The log's lines that hold a text.
pub fn logged(text: &str) -> Vec<String> {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&log).lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}
