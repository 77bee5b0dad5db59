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
use holdfast_embedding::{Keeper, Models};
use holdfast_knowledge::Knowledge;
use holdfast_server::{Observation, Parts, Server};
use holdfast_storage::{
    DataDirectory, Storage, StorageError,
    kept::{Kept, KeptKey},
};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::{
    control, first_run,
    hint::Advice,
    log_health::LogHealth,
    otlp,
    reload::Reloader,
    settings::{Place, Settings},
    shutdown::Stage,
};

/// Longer than the server gives the requests it has accepted.
const SERVER_PATIENCE: Duration = Duration::from_secs(25);
/// Long enough for a batch of documents to be embedded and written.
const KNOWLEDGE_PATIENCE: Duration = Duration::from_secs(20);
const MODELS_PATIENCE: Duration = Duration::from_secs(10);

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
    /// The models, of which one may be waited for.
    pub models: Models,
    /// The keys are made here on a first run.
    pub storage: Storage,
    stages: [Stage; 3],
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
        return Ok(None);
    }
    let kept = Kept::open(&holding.directory.kept_embeddings(), bytes)?;
    Ok(Some(Arc::new(OnDisk(kept))))
}

impl Program {
    /// Builds every part, and starts what runs by itself. Returns before the model is loaded.
    pub async fn build(holding: Holding, settings: Settings) -> Result<Self> {
        install_tls_provider();
        holdfast_server::metrics::install()?;
        metrics::gauge!("holdfast_build_info", "version" => env!("CARGO_PKG_VERSION"), "rustc" => env!("HOLDFAST_RUSTC"))
            .set(1.0);
        let stages = [
            Stage::new("the server", SERVER_PATIENCE),
            Stage::new("the knowledge base", KNOWLEDGE_PATIENCE),
            Stage::new("the embedding models", MODELS_PATIENCE),
        ];
        let [for_server, for_knowledge, for_models] = &stages;

        let storage = open_storage(&holding).await?;

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

        let server = Server::build(Parts {
            config: settings.server,
            knowledge: knowledge.clone(),
            storage: storage.clone(),
            models: models.clone(),
            version: env!("CARGO_PKG_VERSION"),
            shutdown: for_server.stop.clone(),
            tasks: for_server.tasks.clone(),
            observation: Observation {
                reports: vec![otlp::traces(), Arc::new(LogHealth)],
                tracing: Some(otlp::traces()),
            },
        })?;

        Ok(Self { server, knowledge, models, storage, stages, holding })
    }

    /// The data directory, and whether this is its first run.
    pub fn holding(&self) -> &Holding {
        &self.holding
    }

    /// Serves on the listeners until stopped. A listener that fails by itself stops the program through `failed`.
    pub fn serve(&self, listeners: Listeners, failed: CancellationToken) {
        let Listeners { network, control, .. } = listeners;
        let tasks = &self.stages[0].tasks;
        if let Some(network) = network {
            let (server, failed) = (self.server.clone(), failed.clone());
            tasks.spawn(async move { report(server.serve(network).await, "HTTP", &failed) });
        }
        let server = self.server.clone();
        tasks.spawn(async move { report(server.serve_control(control).await, "control", &failed) });
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
        let storage = self.storage;
        // Syncing an index takes as long as the disk takes.
        if let Err(error) = tokio::task::spawn_blocking(move || storage.close()).await {
            tracing::error!(%error, "storage did not close: {error}");
        }
    }
}

fn report(ended: std::io::Result<()>, listener: &str, failed: &CancellationToken) {
    if let Err(error) = ended {
        tracing::error!(%error, listener, "the {listener} listener failed: {error}");
        failed.cancel();
    }
}

/// The open doors.
pub struct Listeners {
    network: Option<TcpListener>,
    /// Where the HTTP API listens; nothing for a server that is there for one user's agents only and found its port taken.
    pub address: Option<SocketAddr>,
    control: UnixListener,
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
    /// Opens both.
    pub async fn bind(address: SocketAddr, network: Network, data_dir: &Path) -> Result<Self> {
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => Some(listener),
            Err(error) if network == Network::IfFree => {
                tracing::warn!(%error, %address, "{address} is not free; only the control socket is served");
                None
            }
            Err(error) => return Err(taken(address, error)),
        };
        let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let control = control::bind(data_dir).context("failed to open the control socket")?;
        Ok(Self { network: listener, address, control })
    }
}

fn taken(address: SocketAddr, error: std::io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => "stop what listens there, or give another port: --listen 127.0.0.1:0 takes a free one",
        ErrorKind::PermissionDenied => "ports below 1024 are for the administrator; give another with --listen",
        _ => "give an address of this machine with --listen",
    };
    anyhow::Error::new(error).context(Advice::new(format!("failed to listen on {address}"), remedy))
}

/// Opening reads and may migrate the database, which takes as long as the disk takes.
async fn open_storage(holding: &Holding) -> Result<Storage> {
    let (database, indexes) = (holding.directory.database(), holding.directory.index());
    let opened = tokio::task::spawn_blocking(move || Storage::open_at(&database, &indexes)).await;
    Ok(opened.context("opening the database panicked; the log has the place")??)
}

/// TLS towards model hubs. Fails only where one is installed already, which is as good.
fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
