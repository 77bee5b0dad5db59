//! What a request costs before and after its handler: authentication, limits, ids, metrics and the log.
//!
//! `gate_cost gate|bare REQUESTS` sends requests through a router in this process, one after the other, and prints how
//! much processor time they took: through the whole server with a key, or to a bare route that answers the same bytes.
//! What the server's handler does beyond that counts as cost of the gate, so the difference is an upper bound. Counters
//! of instructions are read from outside, by `cargo xtask bench overhead`.

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use axum::{
    Router,
    body::Body,
    http::{Request, header},
    routing::get,
};
use holdfast_coordinator::Coordinator;
use holdfast_embedding::{ModelSource, Models};
use holdfast_knowledge::{Knowledge, Watch};
use holdfast_learning::Learning;
use holdfast_server::{Config, LimitsConfig, Observation, Parts, Rate, Server};
use holdfast_storage::{Caller, EventLog, LearningStore, Role, Storage, datasets::Datasets, keys::KeyTerms};
use http_body_util::BodyExt;
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// A cheap route that needs a key: what is known of the model, as JSON.
const ROUTE: &str = "/info";
const MODEL: &str = "tiny";
/// Before the clock starts.
const WARM_UP: usize = 1_000;
/// How long stopping may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, requests] = arguments.as_slice() else { bail!("usage: gate_cost gate|bare REQUESTS") };
    let requests: usize = requests.parse().context("REQUESTS is a number")?;
    // Lines are made and dropped: what is written where is not the gate's cost.
    tracing_subscriber::fmt().json().with_env_filter("info").with_writer(std::io::sink).init();
    let folder = tempfile::tempdir()?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (server, storage, key) = build(folder.path(), &stop, &tasks).await?;
    let gated = server.network();
    let bytes = ask(&gated, &key).await?;
    let router = match mode.as_str() {
        "gate" => gated,
        "bare" => {
            let answer = move || async move { ([(header::CONTENT_TYPE, "application/json")], bytes) };
            Router::new().route(ROUTE, get(answer))
        }
        other => bail!("{other:?} is neither gate nor bare"),
    };
    for _ in 0..WARM_UP {
        ask(&router, &key).await?;
    }
    let before = cpu()?;
    for _ in 0..requests {
        ask(&router, &key).await?;
    }
    let spent = cpu()? - before;
    println(&json!({ "mode": mode, "requests": requests, "cpu_us": spent.as_secs_f64() * 1e6 / requests as f64 }));
    drop(router);
    stop.cancel();
    tasks.close();
    tokio::time::timeout(PATIENCE, tasks.wait()).await.context("something did not stop")?;
    tokio::task::spawn_blocking(move || storage.close()).await?;
    Ok(())
}

async fn build(
    folder: &std::path::Path,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(Server, Storage, String)> {
    holdfast_server::metrics::install()?;
    let source = folder.join("source");
    holdfast_testkit::tiny_model::write(&source)?;
    let embedding = holdfast_embedding::Config {
        models_dir: folder.join("models"),
        default_model: MODEL.to_owned(),
        sources: Vec::new(),
        threads: 1,
        ..holdfast_embedding::Config::default()
    };
    let models = Models::start(embedding, stop.clone(), tasks.clone());
    models.pull(MODEL, Some(ModelSource::Folder(source)), |_| {}).await?;
    models.get(MODEL)?.ready().await?;
    let indexes = folder.join("index");
    fs::create_dir_all(&indexes)?;
    let storage = Storage::open_at(&folder.join("knowledge.sqlite"), &indexes)?;
    let config = holdfast_knowledge::Config { watch: Watch::No, ..holdfast_knowledge::Config::default() };
    let knowledge = Knowledge::start(config, storage.clone(), models.clone(), stop.clone(), tasks.clone()).await?;
    let log = EventLog::open_at(&folder.join("events.sqlite"))?;
    let coordinator = Coordinator::start(holdfast_coordinator::Parts {
        config: holdfast_coordinator::Config::default(),
        knowledge: knowledge.clone(),
        storage: storage.clone(),
        ledger: log.ledger(),
        log: log.clone(),
        runner: None,
        shutdown: stop.clone(),
        tasks: tasks.clone(),
    })
    .await?;
    let learning = Learning::start(holdfast_learning::Parts {
        store: LearningStore::open_at(&folder.join("learning.sqlite"))?,
        log,
        datasets: Datasets::open(&folder.join("datasets"))?,
        encode: None,
        shelf: None,
        drop_folder: None,
        keeping: None,
        shutdown: stop.clone(),
        tasks: tasks.clone(),
    });
    let (_, secret) = storage.create_key(&Caller::owner(), KeyTerms::of("gate_cost", Role::Admin)).await?;
    let server = Server::build(Parts {
        config: Config { limits: limits(), ..Config::default() },
        knowledge,
        coordinator,
        learning,
        storage: storage.clone(),
        models,
        version: "0.0.0",
        shutdown: stop.clone(),
        tasks: tasks.clone(),
        observation: Observation::default(),
    })?;
    Ok((server, storage, secret.reveal().to_owned()))
}

async fn ask(router: &Router, key: &str) -> Result<axum::body::Bytes> {
    let request = Request::get(ROUTE)
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .body(Body::empty())?;
    let response = router.clone().oneshot(request).await?;
    ensure!(response.status().is_success(), "answered {}", response.status());
    Ok(response.into_body().collect().await?.to_bytes())
}

/// What this thread has run so far: the first field of proc(5)'s `schedstat`, in nanoseconds. The runtime has no other.
fn cpu() -> Result<Duration> {
    let text =
        fs::read_to_string("/proc/thread-self/schedstat").context("this system does not tell a thread's time")?;
    let nanoseconds = text.split_whitespace().next().context("no time")?.parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}

#[expect(clippy::print_stdout, reason = "a figure is what this makes")]
fn println(figure: &serde_json::Value) {
    println!("{figure}");
}

/// The limits in force, and none that is met: one client that does nothing else would meet the usual ones.
fn limits() -> LimitsConfig {
    let rate = Rate { per_second: 1_000_000, burst: 10_000_000 };
    LimitsConfig { key_requests: rate, address_requests: rate, ..LimitsConfig::default() }
}
