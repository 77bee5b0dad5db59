//! The knowledge base and the language models as others see them: HTTP API and MCP, with one authentication, one error table, one admission gate.
//!
//! This crate has the only wire types. It does not know SQL, settings files, the environment, model files or how to
//! spawn a process; it converts requests into façade calls and their results into answers. A request passes the door
//! (`edge`) and the gate (`gate`), where it is looked at whom it is meant for (`site`) and whether it is let in (`access`, `limits`), is found in the route table (`routes`), is read by an extractor (`input`) and handled in `api`, `embeddings`, `chat` or `mcp`;
//! what fails becomes a coded answer in `error`, in the shape its clients parse (`face`). What all of them take and answer
//! is described by `description`.

mod listen;

pub mod tls;

mod edge;

mod routes;

mod gate;

mod site;

mod shield;

mod access;

mod forwarded;

mod outward;

mod limits;

mod tally;

mod input;

mod distinct;

mod error;

mod face;

mod api;

mod embeddings;

mod chat;

mod mcp;

mod health;

pub mod metrics;

mod description;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

mod timestamp;

mod money;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use axum::{Router, http::Method};
use holdfast_coordinator::Coordinator;
use holdfast_embedding::Models;
use holdfast_knowledge::{HealthReport, Knowledge};
use holdfast_learning::Learning;
use holdfast_resilience::{
    admission::Admission,
    budget::Budget,
    health::{Component, Queue, Report, Since, Status},
};
use holdfast_storage::{Scope, Storage};
use ipnet::IpNet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    forwarded::ProxyHeader,
    limits::{LimitsConfig, Rate},
};
use limits::Limits;
use routes::Entry;

/// Requests about single tokens, their vectors or their texts, at a time; an answer can have 70 MB.
const WHOLE_TEXTS_REQUESTS: usize = 4;

/// The limits of the server. All of them hold for every caller.
///
/// They can change while the server runs ([`Server::reconfigure`]): whoever needs one asks for it when it is needed and
/// keeps it no longer than for one request. What a connection takes from here holds for the connection.
#[derive(Clone, Debug)]
pub struct Config {
    /// The most bytes a request's body may have; more is answered 413.
    pub max_body_bytes: usize,
    /// The most bytes that the bodies of all requests may take at a time, as they came and as they were read, where that
    /// is enough for two of the largest; more is answered 503.
    pub max_bodies_bytes: usize,
    /// How deep arrays and objects of a body may nest.
    pub max_json_depth: usize,
    /// The most bytes of a request's line and headers together, at least 8 192; more is answered 431. What comes in
    /// one piece is read whole before it is measured, up to about twice as much.
    pub max_header_bytes: usize,
    /// The most documents one request may bring.
    pub max_documents: usize,
    /// How long a client may take to send a request's headers, also when it is silent between two requests.
    pub header_timeout: Duration,
    /// How long a body may stand still; one that comes at less than 1 KiB a second uses this up by and by, and is
    /// then answered 408.
    pub body_timeout: Duration,
    /// How long a connection may stand still on which nothing is being worked on: silent, or slow to read an answer.
    pub stall_timeout: Duration,
    /// How long the two sides may take to agree on encryption.
    pub handshake_timeout: Duration,
    /// How long a request may take in all, its body included; then it is answered 504.
    pub request_timeout: Duration,
    /// The same for repairing, verifying and fetching.
    pub long_request_timeout: Duration,
    /// How long a request that stores documents waits for them to be findable; then it is answered 202.
    pub document_wait: Duration,
    /// Requests that are worked on at once; more are answered 503. Probes do not count.
    pub max_concurrent_requests: usize,
    /// Connections open at once on one listener. One more closes the longest idle one, of the network address that has
    /// most of them.
    pub max_connections: usize,
    /// Of them, those that are still agreeing on encryption.
    pub max_handshakes: usize,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// MCP sessions open at once over the control socket.
    pub max_mcp_sessions: usize,
    /// How long shutdown waits for requests that were accepted.
    pub shutdown_grace: Duration,
    /// What each key and each address may have done.
    pub limits: LimitsConfig,
    /// Proxies that are believed where a request comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// Where they say so.
    pub proxy_header: ProxyHeader,
    /// Names, besides `localhost`, by which the server may be called; any other may be a DNS rebinding attack.
    pub allowed_hosts: Vec<String>,
    /// Pages, besides the server's own, that may call it from a browser: `https://app.example`.
    pub allowed_origins: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body_bytes: 16 << 20,
            max_bodies_bytes: 512 << 20,
            max_json_depth: 64,
            max_header_bytes: 64 << 10,
            max_documents: 1_000,
            header_timeout: Duration::from_secs(20),
            body_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(20),
            handshake_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            long_request_timeout: Duration::from_secs(30 * 60),
            document_wait: Duration::from_secs(30),
            max_concurrent_requests: 256,
            max_connections: 1_024,
            max_handshakes: 128,
            max_streams: 100,
            max_mcp_sessions: 64,
            shutdown_grace: Duration::from_secs(20),
            limits: LimitsConfig::default(),
            trusted_proxies: Vec::new(),
            proxy_header: ProxyHeader::default(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
        }
    }
}

impl Config {
    fn bodies_bytes(&self) -> usize {
        self.max_bodies_bytes.max(self.max_body_bytes.saturating_mul(2))
    }
}

/// What a server is built from.
pub struct Parts {
    /// Its limits.
    pub config: Config,
    /// The façade it presents.
    pub knowledge: Knowledge,
    /// Who has language models answer.
    pub coordinator: Coordinator,
    /// What was learned.
    pub learning: Learning,
    /// Where keys are.
    pub storage: Storage,
    /// The embedding models.
    pub models: Models,
    /// The program's version.
    pub version: &'static str,
    /// Ends the listeners and everything started here.
    pub shutdown: CancellationToken,
    /// Counts everything started here.
    pub tasks: TaskTracker,
    /// Who else is to be told of, or told.
    pub observation: Observation,
}

/// What a server tells that is not its own, and who keeps traces.
#[derive(Clone, Default)]
pub struct Observation {
    /// Parts outside of the knowledge base: their health and their queues are told with its own.
    pub reports: Vec<Arc<dyn Report>>,
    /// Who keeps traces, if anybody does.
    pub tracing: Option<Arc<dyn Tracing>>,
}

/// Keeps traces, and knows how they go on beyond this process.
pub trait Tracing: Send + Sync {
    /// Makes the span of a request part of the trace that `traceparent` and `tracestate` name (W3C Trace Context), or the
    /// first of a new one. Gives the trace's id where the span is kept.
    fn join(&self, span: &tracing::Span, traceparent: Option<&str>, tracestate: Option<&str>) -> Option<String>;
}

/// Why a server could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A limit makes no sense.
    #[error("{setting} must be {expected}")]
    Config {
        /// The field of [`Config`].
        setting: &'static str,
        /// What it has to be.
        expected: &'static str,
    },

    /// The process has another metrics recorder already.
    #[error("the metrics recorder could not be installed: {reason}")]
    Metrics {
        /// Why not.
        reason: String,
    },
}

/// The server; cloning is shallow.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

/// A route, for those who list or test them.
#[derive(Clone, Debug)]
pub struct RouteInfo {
    /// Its template, as `/api/v1/jobs/{id}`.
    pub path: &'static str,
    /// Its methods, and the scope that each asks for.
    pub methods: Vec<(Method, Option<Scope>)>,
    /// Whether it answers without a key.
    pub open: bool,
    /// Whether it exists at the control socket only.
    pub owner_only: bool,
}

/// The description of the API, as OpenAPI 3.1 and readable.
pub fn openapi() -> String {
    description::text()
}

struct Shared {
    config: ArcSwap<Config>,
    /// How the last reload of the settings went.
    settings: Mutex<Since>,
    knowledge: Knowledge,
    coordinator: Coordinator,
    learning: Learning,
    storage: Storage,
    models: Models,
    version: &'static str,
    shutdown: CancellationToken,
    /// Cancelled when the grace of shutdown is over: what still runs is cut off.
    cut_off: CancellationToken,
    tasks: TaskTracker,
    observation: Observation,
    admission: Admission,
    bodies: Budget,
    limits: Limits,
    mcp_sessions: Admission,
    mcp_calls: Admission,
    /// Requests about single tokens, whose answers are large.
    whole_texts: Admission,
    /// Bytes that are there of each model being pulled by a request.
    pulls: Mutex<BTreeMap<String, u64>>,
    started: Instant,
    activity: Activity,
    /// The certificate that is served with, once it is.
    tls: OnceLock<tls::Tls>,
}

/// Connections, and when there last was one.
struct Activity {
    open: AtomicUsize,
    last: Mutex<Instant>,
}

/// Counts a connection for as long as it lives.
struct OpenConnection {
    shared: Arc<Shared>,
}

impl Server {
    /// Puts a server together. Nothing listens yet; to be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ServerError::Config`] for a limit that makes no sense.
    pub fn build(parts: Parts) -> Result<Self, ServerError> {
        let Parts { config, knowledge, coordinator, learning, storage, models, version, shutdown, tasks, observation } =
            parts;
        config.check()?;
        let shared = Shared {
            admission: Admission::new(config.max_concurrent_requests),
            bodies: Budget::new(config.bodies_bytes()),
            limits: Limits::new(&config.limits),
            mcp_sessions: Admission::new(config.max_mcp_sessions),
            mcp_calls: Admission::new(config.max_concurrent_requests),
            whole_texts: Admission::new(WHOLE_TEXTS_REQUESTS),
            pulls: Mutex::default(),
            config: ArcSwap::from_pointee(config),
            settings: Mutex::new(Since::new(SystemTime::now())),
            knowledge,
            coordinator,
            learning,
            storage,
            models,
            version,
            shutdown,
            cut_off: CancellationToken::new(),
            tasks,
            observation,
            started: Instant::now(),
            activity: Activity { open: AtomicUsize::new(0), last: Mutex::new(Instant::now()) },
            tls: OnceLock::new(),
        };
        let server = Self { shared: Arc::new(shared) };
        server.tasks().spawn(metrics::upkeep(server.shutdown().clone()));
        server.tasks().spawn(access::upkeep(server.clone(), server.shutdown().clone()));
        Ok(server)
    }

    /// The routes for everybody: all but those of [`Server::routes`] that are open need a key.
    pub fn network(&self) -> Router {
        routes::router(self, Entry::Network)
    }

    /// The routes for the owner of the data directory: whoever gets here needs no key.
    pub fn owner(&self) -> Router {
        routes::router(self, Entry::Owner)
    }

    /// Every route there is, as its template, the methods it has, and who may use it.
    pub fn routes() -> impl Iterator<Item = RouteInfo> {
        routes::ROUTES.iter().map(|route| RouteInfo {
            path: route.path,
            methods: route.methods.iter().map(|(verb, scope)| (verb.method(), *scope)).collect(),
            open: routes::WITHOUT_KEY.contains(&route.path),
            owner_only: route.audience == routes::Audience::OwnerOnly,
        })
    }

    /// Has other limits from now on: requests that come in from here on meet them, all together or none of them.
    ///
    /// # Errors
    ///
    /// [`ServerError::Config`] for a limit that makes no sense; then the limits stay as they were.
    pub fn reconfigure(&self, config: Config) -> Result<(), ServerError> {
        config.check()?;
        self.shared.admission.resize(config.max_concurrent_requests);
        self.shared.mcp_calls.resize(config.max_concurrent_requests);
        self.shared.mcp_sessions.resize(config.max_mcp_sessions);
        self.shared.bodies.resize(config.bodies_bytes());
        self.shared.limits.reconfigure(&config.limits);
        self.shared.config.store(Arc::new(config));
        Ok(())
    }

    /// Notes how the last reload of the settings went: nothing where they are in force, or else in a few words why not.
    /// Anybody may read these.
    pub fn note_reload(&self, failed: Option<String>) {
        let status = if failed.is_some() { Status::Degraded } else { Status::Ready };
        let mut settings = self.shared.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.observe(status, failed, SystemTime::now());
    }

    /// The settings as a part of the whole: degraded while those in the file are not those in force.
    pub fn settings_component(&self) -> Component {
        self.shared.settings.lock().unwrap_or_else(PoisonError::into_inner).component("settings")
    }

    /// Connections open now, MCP sessions over the control socket included.
    pub fn active_connections(&self) -> usize {
        self.shared.activity.open.load(Ordering::SeqCst)
    }

    /// When a connection last began or ended.
    pub fn last_activity(&self) -> Instant {
        *self.shared.activity.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the certificate is that the TLS listener serves with; nothing where there is no such listener.
    pub fn tls_component(&self) -> Option<Component> {
        self.tls().map(|tls| tls.component(SystemTime::now()))
    }

    /// Whether the certificate that the TLS listener serves with has this name.
    fn is_certified(&self, name: &str) -> bool {
        self.tls().is_some_and(|tls| tls.has_name(name))
    }

    /// What the TLS listener serves with, where there is one.
    fn tls(&self) -> Option<&tls::Tls> {
        self.shared.tls.get()
    }

    /// Serves with a certificate from now on: looks whether its files change, and tells how it is.
    fn watch_tls(&self, tls: &tls::Tls) {
        let watched = self.shared.tls.get_or_init(|| tls.clone()).clone();
        self.tasks().spawn(watched.watch(self.shutdown().clone()));
    }

    fn connection(&self) -> OpenConnection {
        self.shared.activity.open.fetch_add(1, Ordering::SeqCst);
        self.shared.activity.touch();
        OpenConnection { shared: Arc::clone(&self.shared) }
    }

    fn config(&self) -> Arc<Config> {
        self.shared.config.load_full()
    }

    fn knowledge(&self) -> &Knowledge {
        &self.shared.knowledge
    }

    fn coordinator(&self) -> &Coordinator {
        &self.shared.coordinator
    }

    fn learning(&self) -> &Learning {
        &self.shared.learning
    }

    fn storage(&self) -> &Storage {
        &self.shared.storage
    }

    fn models(&self) -> &Models {
        &self.shared.models
    }

    fn version(&self) -> &'static str {
        self.shared.version
    }

    fn shutdown(&self) -> &CancellationToken {
        &self.shared.shutdown
    }

    fn cut_off(&self) -> &CancellationToken {
        &self.shared.cut_off
    }

    fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }

    fn admission(&self) -> &Admission {
        &self.shared.admission
    }

    fn bodies(&self) -> &Budget {
        &self.shared.bodies
    }

    fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    fn mcp_sessions(&self) -> &Admission {
        &self.shared.mcp_sessions
    }

    fn mcp_calls(&self) -> &Admission {
        &self.shared.mcp_calls
    }

    fn whole_texts(&self) -> &Admission {
        &self.shared.whole_texts
    }

    fn pulls(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.shared.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tracing(&self) -> Option<&dyn Tracing> {
        self.shared.observation.tracing.as_deref()
    }

    /// How every part is: the knowledge base's, the settings, and those that tell of themselves.
    fn health(&self) -> HealthReport {
        let mut report = health::told(self.knowledge().health());
        report.components.push(self.settings_component());
        report.components.extend(self.tls_component());
        report.components.extend(self.shared.observation.reports.iter().flat_map(|part| part.components()));
        report
    }

    /// Every place where work waits or is inside, with its bound.
    fn queues(&self) -> Vec<Queue> {
        let rooms = [
            ("http_requests", self.admission()),
            ("mcp_sessions", self.mcp_sessions()),
            ("mcp_calls", self.mcp_calls()),
            ("whole_texts", self.whole_texts()),
        ];
        let room =
            |(name, room): (&'static str, &Admission)| Queue { name, length: room.in_use(), limit: room.capacity() };
        let bodies = Queue { name: "http_body_bytes", length: self.bodies().in_use(), limit: self.bodies().size() };
        let others = self.shared.observation.reports.iter().flat_map(|part| part.queues());
        rooms.map(room).into_iter().chain([bodies]).chain(self.knowledge().queues()).chain(others).collect()
    }

    fn uptime(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Runs something that blocks where that harms nobody.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, error::Failure> {
        let server = self.clone();
        tokio::task::spawn_blocking(move || work(&server))
            .await
            .map_err(|error| error::Failure::new(error::Code::Internal, error::SOMETHING_WENT_WRONG).cause(error))
    }
}

impl Config {
    fn check(&self) -> Result<(), ServerError> {
        let positive = [
            ("max_body_bytes", self.max_body_bytes),
            ("max_json_depth", self.max_json_depth),
            ("max_documents", self.max_documents),
            ("max_concurrent_requests", self.max_concurrent_requests),
            ("max_connections", self.max_connections),
            ("max_handshakes", self.max_handshakes),
            ("max_streams", self.max_streams as usize),
            ("max_mcp_sessions", self.max_mcp_sessions),
        ];
        for (setting, value) in positive {
            if value == 0 {
                return Err(ServerError::Config { setting, expected: "at least 1" });
            }
        }
        if self.max_json_depth > 120 {
            // The parser itself gives up at 128.
            return Err(ServerError::Config { setting: "max_json_depth", expected: "at most 120" });
        }
        if self.max_header_bytes < 8_192 {
            return Err(ServerError::Config { setting: "max_header_bytes", expected: "at least 8192" });
        }
        self.limits.check()
    }
}

impl Activity {
    fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.shared.activity.touch();
        self.shared.activity.open.fetch_sub(1, Ordering::SeqCst);
    }
}
