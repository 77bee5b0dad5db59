//! One turn: what it needs to know, which model answers it, what becomes of failures, and the record of it all.
//!
//! This crate does not know about HTTP or MCP, nor how a policy is learned. It takes and gives plain data and the
//! vocabulary of `llm`.

mod augment;
mod budgets;
mod cache;
mod catalog;
mod count;
mod doctor;
mod health;
mod interactions;
mod providers;
pub mod record;
mod requests;
mod route;
mod run;
mod session;
mod sessions;
mod turn;
mod why;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use holdfast_knowledge::Knowledge;
use holdfast_llm::{Deadlines, Price};
use holdfast_storage::{Caller, Storage, events::EventLog, ledger::Ledger};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use augment::{BUDGET_TOKENS_MAX, PASSAGES_MAX};
pub use budgets::{BudgetReport, NewBudget};
pub use cache::CacheMode;
pub use catalog::{
    AUTO, Alias, Api, CannotRun, LOCAL, ModelSettings, Place, PolicyName, ProviderSettings, REMOTE, RunSettings,
    Runner, Served, is_name,
};
pub use interactions::{InteractionPage, InteractionSummary};
pub use providers::{ModelReport, ProviderReport, TestReport};
pub use record::TextPolicy;
pub use requests::*;
pub use sessions::SaidInSession;
pub use why::Why;

use cache::AnswerCache;
use catalog::{Catalog, Policies};
use session::Busy;

/// How turns are to go.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which model comes first where nothing else is said.
    pub policy: PolicyName,
    /// What the policy `rules` goes by.
    pub rules: holdfast_routing::Rules,
    /// Words that stand for models, besides `auto`, `local` and `remote`.
    pub aliases: BTreeMap<String, Alias>,
    /// What tokens cost, by `provider/model` or by model.
    pub prices: BTreeMap<String, Price>,
    /// How long the steps of a turn may take.
    pub deadlines: Deadlines,
    /// Requests that a provider has at once, where its own settings say nothing,
    pub concurrency: usize,
    /// and requests that wait for a place there.
    pub waiting: usize,
    /// Texts in the record.
    pub texts: TextPolicy,
    /// For which requests answers are kept.
    pub cache: CacheMode,
    /// Bytes that kept answers may take.
    pub cache_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: PolicyName::LocalFirst,
            rules: holdfast_routing::Rules::default(),
            aliases: BTreeMap::new(),
            prices: BTreeMap::new(),
            deadlines: Deadlines {
                connect: Duration::from_secs(5),
                // A model on a processor reads a long prompt for minutes before it says its first word.
                first_byte: Duration::from_secs(120),
                gap: Duration::from_secs(60),
                total: Duration::from_secs(600),
            },
            concurrency: 64,
            waiting: 256,
            texts: TextPolicy::Full,
            cache: CacheMode::WhenAsked,
            cache_bytes: 32 << 20,
        }
    }
}

/// What a coordinator is built from.
pub struct Parts {
    /// How turns are to go.
    pub config: Config,
    /// What is looked up in.
    pub knowledge: Knowledge,
    /// Sessions and providers.
    pub storage: Storage,
    /// What happened.
    pub log: EventLog,
    /// What may be spent.
    pub ledger: Ledger,
    /// Who runs servers of models, if anybody does.
    pub runner: Option<Arc<dyn Runner>>,
    /// Ends everything started here.
    pub shutdown: CancellationToken,
    /// Counts everything started here.
    pub tasks: TaskTracker,
}

/// The handle to turns; cloning is shallow.
#[derive(Clone)]
pub struct Coordinator {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    knowledge: Knowledge,
    storage: Storage,
    log: EventLog,
    ledger: Ledger,
    turns: record::Turns,
    runner: Option<Arc<dyn Runner>>,
    catalog: ArcSwap<Catalog>,
    /// Held while the catalog is exchanged.
    changing: tokio::sync::Mutex<()>,
    cache: AnswerCache,
    busy: Busy,
    /// Sessions that a summary is being made of.
    summarising: Busy,
    health: health::Watch,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Coordinator {
    /// Takes up the providers on record. Returns before any of them was asked.
    pub async fn start(parts: Parts) -> Result<Self, TurnError> {
        let Parts { config, knowledge, storage, log, ledger, runner, shutdown, tasks } = parts;
        let aliases = Arc::new(config.aliases.clone());
        let policies = Arc::new(Policies::new(config.policy, config.rules.clone()));
        let shared = Shared {
            cache: AnswerCache::new(config.cache, config.cache_bytes),
            catalog: ArcSwap::from_pointee(Catalog::new(aliases, policies, runner.clone())),
            changing: tokio::sync::Mutex::new(()),
            turns: record::Turns::new(),
            busy: Busy::default(),
            summarising: Busy::default(),
            health: health::Watch::default(),
            config,
            knowledge,
            storage,
            log,
            ledger,
            runner,
            shutdown,
            tasks,
        };
        let coordinator = Self { shared: Arc::new(shared) };
        coordinator.take_up().await?;
        let housekeeping = coordinator.clone().housekeeping();
        coordinator.shared.tasks.spawn(housekeeping);
        // Reading the vocabulary takes a fifth of a second, which the first turn would wait for.
        coordinator.shared.tasks.spawn_blocking(holdfast_llm::tokens::warm);
        Ok(coordinator)
    }

    /// What the caller can ask for.
    pub fn models(&self, caller: &Caller) -> Vec<ModelInfo> {
        self.shared.catalog.load().infos(caller)
    }

    /// Finds passages for a query, within a budget of tokens.
    pub async fn augment(&self, caller: &Caller, query: &str, asked: Augmentation) -> Result<Augmented, TurnError> {
        augment::augment(&self.shared.knowledge, caller, query, &asked, &Default::default()).await
    }

    /// Bytes that kept answers take, about.
    pub fn cache_bytes(&self) -> u64 {
        self.shared.cache.bytes()
    }

    /// Waits until what happened before is in the log and in the books, so that whoever was answered finds it there. Not
    /// for long: while the disk fails, what was read before can be read.
    async fn written_down(&self) -> Result<(), TurnError> {
        const PATIENCE: Duration = Duration::from_secs(1);
        match tokio::time::timeout(PATIENCE, self.shared.log.flush()).await {
            Ok(flushed) => Ok(flushed?),
            Err(_) => Ok(()),
        }
    }

    /// Removes what has expired: woken by a timer, ends with the coordinator.
    async fn housekeeping(self) {
        const INTERVAL: Duration = Duration::from_secs(10 * 60);
        let mut timer = tokio::time::interval(INTERVAL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.shared.shutdown.cancelled() => return,
                _ = timer.tick() => {}
            }
            if let Err(error) = self.shared.storage.remove_expired_sessions(record::now_ms()).await {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "failed to remove sessions that have expired; trying again later");
            }
        }
    }
}
