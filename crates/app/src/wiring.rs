//! The one place that sees every part and puts them together, from settings to listeners.
//!
//! Read it from top to bottom: each part is built from the ones above it. They stop in the reverse order, the server
//! first, so that a request that was accepted finds everything it needs until it is answered; storage last.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use holdfast_coordinator::Coordinator;
use holdfast_embedding::{Keeper, Models};
use holdfast_knowledge::Knowledge;
use holdfast_learning::{DropFolder, Learning, Settings as FolderSettings, archive::Keeping};
use holdfast_resilience::health::Report;
use holdfast_server::{
    Observation, Parts, Server,
    tls::{
        Tls, TlsError,
        authority::{Authority, own_names},
    },
};
use holdfast_storage::{
    DataDirectory, EventLog, LearningStore, Storage, StorageError,
    datasets::Datasets,
    events::archive::Archive,
    kept::{Kept, KeptKey},
};
use holdfast_supervisor::Supervisor;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::{
    control,
    event_health::EventHealth,
    first_run,
    hint::{Advice, Hint},
    learned::{ByDefaultModel, InKnowledge},
    local_models::LocalModels,
    log_health::LogHealth,
    otlp,
    reload::Reloader,
    settings::{self, Place, Settings, environment},
    shutdown::Stage,
};

/// Longer than the server gives the requests it has accepted.
const SERVER_PATIENCE: Duration = Duration::from_secs(25);
/// What turns leave behind is in the hands of storage when they end; longer than a session takes to be written.
const TURNS_PATIENCE: Duration = Duration::from_secs(5);
/// A transaction of what is derived takes half a second; one that is cut off is derived again.
const LEARNING_PATIENCE: Duration = Duration::from_secs(5);
/// Longer than a server of models may take to end after being asked to.
const LOCAL_MODELS_PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for a batch of documents to be embedded and written.
const KNOWLEDGE_PATIENCE: Duration = Duration::from_secs(20);
const MODELS_PATIENCE: Duration = Duration::from_secs(10);
/// More than connections, index files and the rest together come to.
const OPEN_FILES: u64 = 65_536;

/// Where the logs of models that are run here lie, in the data directory.
const LOGS: &str = "logs";

/// A data directory that this process holds, set up for use.
pub struct Holding {
    directory: DataDirectory,
    /// Whether it was set up just now.
    pub is_new: bool,
}

impl Holding {
    /// Takes a data directory, and writes the settings file of a first run.
    pub fn take(place: &Place) -> Result<Self, StorageError> {
        let directory = DataDirectory::take(&place.data_dir)?;
        let is_new = first_run::write_settings(&place.data_dir)?;
        Ok(Self { directory, is_new })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        self.directory.root()
    }

    /// The file of the record of turns, and of what was spent.
    pub fn events(&self) -> PathBuf {
        self.directory.events()
    }

    /// The file of what is derived from that.
    pub fn learned(&self) -> PathBuf {
        self.directory.learning()
    }

    /// The database file in it.
    pub fn database(&self) -> PathBuf {
        self.directory.database()
    }
}

/// Everything but the listeners.
pub struct Program {
    /// The way in: requests of the owner, and of the network.
    pub server: Server,
    /// The knowledge base, which may be busy.
    pub knowledge: Knowledge,
    /// Who answers turns; on a first run nobody does.
    pub coordinator: Coordinator,
    /// The models, of which one may be waited for.
    pub models: Models,
    /// The keys are made here on a first run.
    pub storage: Storage,
    events: EventLog,
    learned: LearningStore,
    stages: [Stage; 6],
    holding: Holding,
}

/// Embeddings on disk.
#[derive(Debug)]
struct OnDisk(Kept);

impl Keeper for OnDisk {
    fn get(&self, keys: &[KeptKey]) -> Vec<Option<Vec<u8>>> {
        self.0.get(keys)
    }

    fn put(&self, key: KeptKey, value: Vec<u8>) {
        self.0.put(key, value);
    }
}

fn keeper(holding: &Holding, bytes: u64) -> Result<Option<Arc<dyn Keeper>>> {
    if bytes == 0 {
        metrics::gauge!("holdfast_embedding_cache_disk_bytes").set(0.0);
        return Ok(None);
    }
    let kept = Kept::open(&holding.directory.kept_embeddings(), bytes)?;
    Ok(Some(Arc::new(OnDisk(kept))))
}

impl Program {
    /// Builds every part, and starts what runs by itself. Returns before the model is loaded.
    pub async fn build(holding: Holding, settings: Settings) -> Result<Self> {
        install_tls_provider();
        allow_open_files();
        holdfast_server::metrics::install()?;
        metrics::gauge!("holdfast_build_info", "version" => env!("CARGO_PKG_VERSION"), "rustc" => env!("HOLDFAST_RUSTC"))
            .set(1.0);
        let stages = [
            Stage::new("the server", SERVER_PATIENCE),
            Stage::new("the turns", TURNS_PATIENCE),
            Stage::new("learning", LEARNING_PATIENCE),
            Stage::new("the language models run here", LOCAL_MODELS_PATIENCE),
            Stage::new("the knowledge base", KNOWLEDGE_PATIENCE),
            Stage::new("the embedding models", MODELS_PATIENCE),
        ];
        let [for_server, for_turns, for_learning, for_local_models, for_knowledge, for_models] = &stages;

        let storage = open_storage(&holding).await?;
        let events = open_events(&holding).await?;
        let (learned, datasets) = open_learned(&holding).await?;

        let models_config = holdfast_embedding::Config {
            models_dir: holding.directory.models(),
            keeper: keeper(&holding, settings.kept_embeddings_bytes)?,
            propagate: Some(otlp::traces()),
            ..settings.models
        };
        let models = Models::start(models_config, for_models.stop.clone(), for_models.tasks.clone());

        let knowledge = Knowledge::start(
            settings.knowledge,
            storage.clone(),
            models.clone(),
            for_knowledge.stop.clone(),
            for_knowledge.tasks.clone(),
        )
        .await?;

        let logs = holding.root().join(LOGS);
        let supervisor = supervisor(settings.local_models, for_local_models)?;
        let (tasks, stop) = (for_local_models.tasks.clone(), for_local_models.stop.clone());
        let local_models = LocalModels::new(supervisor.clone(), logs, tasks, stop)?;
        let coordinator = Coordinator::start(holdfast_coordinator::Parts {
            config: settings.turns,
            knowledge: knowledge.clone(),
            storage: storage.clone(),
            log: events.clone(),
            ledger: events.ledger(),
            runner: Some(Arc::new(local_models)),
            shutdown: for_turns.stop.clone(),
            tasks: for_turns.tasks.clone(),
        })
        .await?;

        let folder = DropFolder::new(holding.directory.drop_folder(), events.clone(), FolderSettings::default());
        let learning = Learning::start(holdfast_learning::Parts {
            store: learned.clone(),
            log: events.clone(),
            datasets,
            encode: Some(Arc::new(ByDefaultModel(models.clone()))),
            shelf: Some(Arc::new(InKnowledge(knowledge.clone()))),
            drop_folder: Some(folder),
            keeping: Some(Keeping { archive: Archive::of(&holding.directory), retention: settings.events.clone() }),
            shutdown: for_learning.stop.clone(),
            tasks: for_learning.tasks.clone(),
        });

        for_turns.tasks.spawn(EventHealth::measure(events.clone(), for_turns.stop.clone()));
        let mut reports: Vec<Arc<dyn Report>> = vec![
            otlp::traces(),
            Arc::new(LogHealth),
            Arc::new(EventHealth::of(events.clone())),
            Arc::new(coordinator.clone()),
            Arc::new(learning.clone()),
        ];
        if let Some(supervisor) = supervisor {
            reports.push(Arc::new(supervisor));
        }
        let server = Server::build(Parts {
            config: settings.server,
            knowledge: knowledge.clone(),
            coordinator: coordinator.clone(),
            learning: learning.clone(),
            storage: storage.clone(),
            models: models.clone(),
            version: env!("CARGO_PKG_VERSION"),
            shutdown: for_server.stop.clone(),
            tasks: for_server.tasks.clone(),
            observation: Observation { reports, tracing: Some(otlp::traces()) },
        })?;

        Ok(Self { server, knowledge, coordinator, models, storage, events, learned, stages, holding })
    }

    /// The data directory, and whether this is its first run.
    pub fn holding(&self) -> &Holding {
        &self.holding
    }

    /// Serves on the listeners until stopped.
    pub fn serve(&self, listeners: Listeners) {
        let Listeners { network, encrypted, metrics, control } = listeners;
        let tasks = &self.stages[0].tasks;
        let redirect = encrypted.as_ref().map(|(door, tls)| (door.address.port(), tls.clone()));
        if let Some(Bound { listener, address }) = network {
            let server = self.server.clone();
            // What is off loopback got here only in order to redirect.
            let redirect = redirect.filter(|_| !address.ip().is_loopback());
            tasks.spawn(async move {
                match redirect {
                    Some((port, tls)) => server.serve_redirect(listener, tls, port).await,
                    None => server.serve(listener).await,
                }
            });
        }
        if let Some((Bound { listener, .. }, tls)) = encrypted {
            let server = self.server.clone();
            tasks.spawn(async move { server.serve_tls(listener, tls).await });
        }
        if let Some(Bound { listener, .. }) = metrics {
            let server = self.server.clone();
            tasks.spawn(async move { server.serve_metrics(listener).await });
        }
        let server = self.server.clone();
        tasks.spawn(async move { server.serve_control(control).await });
    }

    /// Reads the settings again whenever there is reason to, until stopped. A terminal that goes ends the program.
    pub fn follow_settings(&self, reloader: Reloader, end: CancellationToken) {
        let stage = &self.stages[0];
        stage.tasks.spawn(reloader.run(stage.stop.clone(), end));
    }

    /// Stops every part, in the reverse order of their start. Storage comes to rest last.
    pub async fn stop(self) {
        for stage in &self.stages {
            stage.end().await;
        }
        control::unbind(self.holding.root());
        let (events, learned, storage) = (self.events, self.learned, self.storage);
        // Syncing an index takes as long as the disk takes.
        let close = move || {
            learned.close();
            events.close();
            storage.close();
        };
        if let Err(error) = tokio::task::spawn_blocking(close).await {
            tracing::error!(%error, "storage did not close: {error}");
        }
    }
}

/// The open doors.
pub struct Listeners {
    /// HTTP without encryption; nothing for a server that is there for one user's agents only and found its port taken.
    network: Option<Bound>,
    /// HTTPS.
    encrypted: Option<(Bound, Tls)>,
    /// The metrics alone.
    metrics: Option<Bound>,
    control: UnixListener,
}

/// A port that is listened on.
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// Where to listen.
pub struct Ports {
    /// HTTP without encryption.
    pub listen: SocketAddr,
    /// HTTPS, and with what certificate.
    pub encrypted: Option<(SocketAddr, Tls)>,
    /// The metrics alone.
    pub metrics: Option<SocketAddr>,
}

/// Other machines could reach the server, and there is no key that would tell who may.
#[derive(Debug, thiserror::Error)]
#[error("other machines can reach {address}, and there is no key that lets anybody in")]
pub struct WithoutKeys {
    address: SocketAddr,
}

impl Hint for WithoutKeys {
    fn hint(&self) -> Option<String> {
        Some("make one with `holdfast keys create NAME`, then start again".to_owned())
    }
}

/// What a taken port means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The start fails.
    Required,
    /// The control socket has to do.
    IfFree,
}

impl Listeners {
    /// Opens all of them.
    pub async fn bind(ports: Ports, network: Network, data_dir: &Path) -> Result<Self> {
        let bound = Bound::at(ports.listen, network, "--listen").await?;
        let encrypted = match ports.encrypted {
            Some((address, tls)) => Bound::at(address, network, "--listen-tls").await?.map(|bound| (bound, tls)),
            None => None,
        };
        let metrics = match ports.metrics {
            Some(address) => Bound::at(address, network, "telemetry.metrics_listen").await?,
            None => None,
        };
        let control = control::bind(data_dir).context("failed to open the control socket")?;
        Ok(Self { network: bound, encrypted, metrics, control })
    }

    /// Where the metrics are had without a key.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|bound| bound.address)
    }

    /// Where HTTP is spoken without encryption.
    pub fn address(&self) -> Option<SocketAddr> {
        self.network.as_ref().map(|bound| bound.address)
    }

    /// Where HTTPS is spoken, and the certificate.
    pub fn encrypted(&self) -> Option<(SocketAddr, &Tls)> {
        self.encrypted.as_ref().map(|(bound, tls)| (bound.address, tls))
    }

    /// Keeps the doors shut that other machines could come through while nobody has a key: an address off loopback is for
    /// those with a key, and where there is none, something is not as it was meant.
    pub fn check_keys(&mut self, storage: &Storage, network: Network) -> Result<()> {
        let addresses = self.address().into_iter().chain(self.encrypted().map(|(address, _)| address));
        let Some(address) = addresses.into_iter().find(|address| !address.ip().is_loopback()) else { return Ok(()) };
        if storage.has_valid_key()? {
            return Ok(());
        }
        let refused = WithoutKeys { address };
        if network == Network::Required {
            return Err(refused.into());
        }
        tracing::warn!(%address, "{refused}; only the control socket is served");
        (self.network, self.encrypted) = (None, None);
        Ok(())
    }
}

impl Bound {
    async fn at(address: SocketAddr, network: Network, flag: &str) -> Result<Option<Self>> {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr()?;
                Ok(Some(Self { listener, address }))
            }
            Err(error) if network == Network::IfFree => {
                tracing::warn!(%error, %address, "{address} is not free; it is not served");
                Ok(None)
            }
            Err(error) => Err(taken(address, flag, error)),
        }
    }
}

/// The certificate that the HTTPS listener serves with, where there is to be one.
pub fn certificate(settings: &Settings, data_dir: &Path) -> Result<Option<(SocketAddr, Tls)>, TlsError> {
    let Some(address) = settings.listen_tls else { return Ok(None) };
    let files = settings.tls.clone().unwrap_or_else(|| Authority::at(data_dir.join("tls")).files());
    let mut names = own_names();
    if !address.ip().is_unspecified() {
        names.insert(0, address.ip().to_string());
    }
    Ok(Some((address, Tls::load(files, names)?)))
}

/// Lets this process have as many files open as the system allows it: each connection is one, and most systems give
/// no more than 1024 to a process that does not ask.
fn allow_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit of open files stays as it is: {error}");
        }
    }
}

fn taken(address: SocketAddr, flag: &str, error: std::io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => {
            let ip = if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() };
            format!("stop what listens there, or give another port: {flag} {ip}:0 takes a free one")
        }
        ErrorKind::PermissionDenied => {
            format!("ports below 1024 are for the administrator; give another with {flag}")
        }
        _ => format!("give an address of this machine with {flag}"),
    };
    anyhow::Error::new(error).context(Advice::new(format!("failed to listen on {address}"), remedy))
}

/// Opening reads and may migrate the database, which takes as long as the disk takes.
async fn open_storage(holding: &Holding) -> Result<Storage> {
    let (database, indexes) = (holding.directory.database(), holding.directory.index());
    let opened = tokio::task::spawn_blocking(move || Storage::open_at(&database, &indexes)).await;
    Ok(opened.context("opening the database panicked; the log has the place")??)
}

/// The same of what happened. What is missing in the log is told by its health, and its budgets by whoever asks.
async fn open_events(holding: &Holding) -> Result<EventLog> {
    let path = holding.directory.events();
    let opened = tokio::task::spawn_blocking(move || EventLog::open_at(&path)).await;
    Ok(opened.context("opening the event log panicked; the log has the place")??)
}

/// The same of what is derived from that, and the folder of datasets. What fails later is told by its health.
async fn open_learned(holding: &Holding) -> Result<(LearningStore, Datasets)> {
    let (path, datasets) = (holding.directory.learning(), holding.directory.datasets());
    let open = move || Ok::<_, StorageError>((LearningStore::open_at(&path)?, Datasets::open(&datasets)?));
    let opened = tokio::task::spawn_blocking(open).await;
    Ok(opened.context("opening what was learned panicked; the log has the place")??)
}

/// What starts processes, where this process asks language models; and the folder for what they write.
fn supervisor(models: settings::LocalModels, stage: &Stage) -> Result<Option<Supervisor>> {
    if models == settings::LocalModels::LeftAlone {
        return Ok(None);
    }
    let config = holdfast_supervisor::Config { environment: environment::whole(), ..Default::default() };
    let supervisor = Supervisor::start(config, stage.tasks.clone(), stage.stop.clone());
    Ok(Some(supervisor.context("failed to start the thread that starts processes")?))
}

/// TLS towards model hubs and providers. Fails only where one is installed already, which is as good.
fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
