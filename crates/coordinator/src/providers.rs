//! Providers: put on record, listed, tried, removed; and the models that each has.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_embedding::secret_file;
use holdfast_llm::{
    Anthropic, Ask, Deadlines, Endpoint, EndpointError, Message, Model, OpenAi, Part, Price, Provider, Request, Role,
    Sampling, Spec, Tried,
    model::{Ability, Settings},
};
use holdfast_storage::{
    StorageError,
    providers::{ProviderApi, ProviderRecord},
};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::{
    Coordinator, TurnError,
    catalog::{ASK_AGAIN, Api, CannotRun, Entry, ModelSettings, ProviderSettings, location, price_of},
    record,
};

/// How long a provider may take to list its models.
const LIST_WITHIN: Duration = Duration::from_secs(10);
/// How often a provider that told its models is asked again.
const LIST_EVERY: Duration = Duration::from_secs(10 * 60);
/// How long a trial waits for a server that begins to run here, which reads gigabytes first.
const RUNNING_WITHIN: Duration = Duration::from_secs(300);
/// How long a trial may take: a large model is read from the disk first.
const TRIAL_WITHIN: Duration = Duration::from_secs(60);
/// An address that nothing is asked at.
const NOWHERE: &str = "http://127.0.0.1:1/v1";

fn read_key(path: &Path) -> Result<SecretString, TurnError> {
    secret_file::read(path).map_err(|error| {
        let problem = format!("{error}; {}", error.hint());
        TurnError::Invalid { field: "key_file".to_owned(), problem }
    })
}

/// A provider, for people.
#[derive(Clone, Debug)]
pub struct ProviderReport {
    /// What was put on record.
    pub settings: ProviderSettings,
    /// Its models, as clients call them, with their breakers and prices.
    pub models: Vec<ModelReport>,
    /// Why it has no models, or does not run.
    pub trouble: Option<String>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// A model, for people.
#[derive(Clone, Debug)]
pub struct ModelReport {
    /// What clients call it.
    pub name: String,
    /// Its breaker, in a word.
    pub breaker: &'static str,
    /// What its tokens cost.
    pub price: Option<Price>,
    /// Tokens of question and answer together.
    pub context_tokens: Option<u64>,
}

/// What came of a trial.
#[derive(Clone, Debug)]
pub struct TestReport {
    /// The model that was tried.
    pub model: String,
    /// From having asked to the answer.
    pub duration: Duration,
    /// What it said, at most some tokens.
    pub answer: String,
}

impl Coordinator {
    /// Puts a provider on record, or another one of the same name in its place. Where it cannot be, the one that was there
    /// stays.
    pub async fn add_provider(&self, settings: ProviderSettings) -> Result<ProviderReport, TurnError> {
        settings.check()?;
        let coordinator = self.clone();
        self.to_the_end(async move {
            coordinator.exchange(&settings).await?;
            if settings.models.is_empty() {
                // One that begins to run has nothing to tell yet.
                if settings.run.is_none() {
                    coordinator.ask_for_models(&settings.name).await;
                }
                coordinator.follow(settings.name.clone());
            }
            coordinator.provider(&settings.name).ok_or(TurnError::UnknownModel { model: settings.name })
        })
        .await
    }

    /// Puts a provider into its place: on record, into the catalog, and its server among those that run. What could be
    /// wrong with it is found before anything changes.
    async fn exchange(&self, settings: &ProviderSettings) -> Result<(), TurnError> {
        let _changing = self.shared.changing.lock().await;
        let before = self.entry(&settings.name);
        if settings.by_key && before.as_ref().is_some_and(|before| !before.settings.by_key) {
            let problem =
                "is that of a provider which was added on this machine: replace it there, by `holdfast providers add`";
            return Err(TurnError::Invalid { field: "name".to_owned(), problem: problem.to_owned() });
        }
        if let (Some(run), Some(runner)) = (&settings.run, &self.shared.runner) {
            let invalid = |CannotRun { field, problem }| TurnError::Invalid { field: field.to_owned(), problem };
            runner.check(run).await.map_err(invalid)?;
        }
        let endpoint = self.endpoint(settings)?;
        connect(settings, &endpoint)?;
        let record = self.shared.storage.put_provider(recorded(settings, record::now_ms())).await?;
        let entry = match self.establish(settings.clone(), endpoint, record.created_at_ms).await {
            Ok(entry) => entry,
            Err(error) => {
                self.put_back(&settings.name, before.as_deref()).await;
                return Err(error);
            }
        };
        self.put(&Arc::new(entry));
        self.watch(&settings.name);
        if settings.run.is_none() && before.is_some_and(|before| before.settings.run.is_some()) {
            self.stop(&settings.name).await;
        }
        Ok(())
    }

    /// Has the record say again what it said before.
    async fn put_back(&self, name: &str, before: Option<&Entry>) {
        let storage = &self.shared.storage;
        let put: Result<(), TurnError> = match before {
            Some(before) => {
                let record = recorded(&before.settings, before.created_at_ms);
                storage.put_provider(record).await.map(drop).map_err(TurnError::from)
            }
            None => storage.remove_provider(name.to_owned()).await.map_err(TurnError::from),
        };
        if let Err(error) = put {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, provider = name, "the record of the provider {name} could not be put back");
        }
    }

    async fn stop(&self, name: &str) {
        if let Some(runner) = &self.shared.runner {
            runner.stop(name).await;
        }
    }

    /// Has a change run to its end, whether or not whoever asked for it stays: half of one would leave a server that
    /// belongs to nobody.
    async fn to_the_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, TurnError>> + Send + 'static,
    ) -> Result<T, TurnError> {
        self.shared.tasks.spawn(change).await.map_err(|_| TurnError::Storage(StorageError::Closed))?
    }

    /// Every provider.
    pub fn providers(&self) -> Vec<ProviderReport> {
        self.shared.catalog.load().entries.iter().map(|entry| self.report(entry)).collect()
    }

    /// One provider.
    pub fn provider(&self, name: &str) -> Option<ProviderReport> {
        self.entry(name).map(|entry| self.report(&entry))
    }

    /// Takes a provider off the record. Calls that are under way go on. Whether there was one.
    pub async fn remove_provider(&self, name: &str) -> Result<bool, TurnError> {
        let (coordinator, name) = (self.clone(), name.to_owned());
        self.to_the_end(async move { coordinator.take_off(&name).await }).await
    }

    async fn take_off(&self, name: &str) -> Result<bool, TurnError> {
        let _changing = self.shared.changing.lock().await;
        let was = match self.shared.storage.remove_provider(name.to_owned()).await {
            Ok(()) => true,
            Err(StorageError::NotFound { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        self.shared.catalog.rcu(|catalog| {
            catalog.with(catalog.entries.iter().filter(|entry| entry.settings.name != name).cloned().collect())
        });
        self.stop(name).await;
        Ok(was)
    }

    /// Waits until a provider that runs here takes requests, or else tells why it does not; others are taken to.
    async fn until_running(&self, entry: &Entry) -> Result<(), String> {
        let (Some(_), Some(runner)) = (&entry.settings.run, &self.shared.runner) else { return Ok(()) };
        let running = runner.until_ready(&entry.settings.name).await;
        if let Err(reason) = &running {
            tracing::debug!(provider = entry.settings.name, reason, "the server of a model does not run: {reason}");
        }
        running
    }

    /// Why the server of a provider takes no requests, where it is run here and does not.
    pub(crate) fn unavailable_reason(&self, provider: &str) -> Option<String> {
        let entry = self.entry(provider)?;
        self.shared.catalog.load().trouble(&entry)
    }

    /// Asks a provider's first model, or the one that is named, for a token or a few. One that begins to run here is waited
    /// for.
    pub async fn test_provider(&self, name: &str, model: Option<&str>) -> Result<TestReport, TurnError> {
        let entry = self.entry(name).ok_or_else(|| TurnError::UnknownModel { model: name.to_owned() })?;
        let _in_time = tokio::time::timeout(RUNNING_WITHIN, self.until_running(&entry)).await;
        if let Some(reason) = self.unavailable_reason(name) {
            let last = holdfast_llm::CallError::new(holdfast_llm::ErrorKind::Refused, reason);
            return Err(TurnError::Failed { last, attempts: 0 });
        }
        if entry.models.is_empty() {
            self.ask_for_models(name).await;
        }
        let entry = self.entry(name).unwrap_or(entry);
        let is_asked = |candidate: &&Model| model.is_none_or(|model| candidate.spec().upstream == model);
        let Some(model) = entry.models.iter().find(is_asked) else {
            return match (model, self.report(&entry).trouble) {
                (Some(model), _) => Err(TurnError::UnknownModel { model: model.to_owned() }),
                (None, trouble) => {
                    let reason = trouble.unwrap_or_else(|| "it has no models".to_owned());
                    let last = holdfast_llm::CallError::new(holdfast_llm::ErrorKind::Refused, reason);
                    Err(TurnError::Failed { last, attempts: 1 })
                }
            };
        };
        let began = Instant::now();
        let request = Request {
            messages: vec![Message::text(Role::User, "Say yes.")],
            sampling: Sampling { max_tokens: Some(8), ..Sampling::default() },
            ..Request::default()
        };
        let deadlines = Deadlines { total: TRIAL_WITHIN, ..self.shared.config.deadlines };
        let ask = Ask::new(Arc::new(request), deadlines);
        let Tried { outcome, attempts, .. } = model.complete(&ask).await;
        let answer = outcome.map_err(|last| TurnError::Failed { last, attempts: attempts.len() })?;
        let texts = answer.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        });
        let answer = texts.collect::<String>().chars().take(200).collect();
        Ok(TestReport { model: model.spec().name.clone(), duration: began.elapsed(), answer })
    }

    /// Takes up every provider on record.
    pub(crate) async fn take_up(&self) -> Result<(), TurnError> {
        let storage = self.shared.storage.clone();
        let records = crate::session::blocking(move || storage.providers()).await??;
        let _changing = self.shared.changing.lock().await;
        for record in records {
            let settings: ProviderSettings = match serde_json::from_str(&record.settings) {
                Ok(settings) => settings,
                Err(error) => {
                    tracing::error!(%error, provider = record.name, "the record of the provider {} cannot be read; it is left out", record.name);
                    continue;
                }
            };
            let name = settings.name.clone();
            let asks = settings.models.is_empty();
            match self.build(settings, record.created_at_ms).await {
                Ok(entry) => {
                    self.put(&Arc::new(entry));
                    self.watch(&name);
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, provider = name, "the provider {name} cannot be used; it is left out");
                    continue;
                }
            }
            if asks {
                self.follow(name);
            }
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        self.shared.catalog.load().entries.iter().find(|entry| entry.settings.name == name).cloned()
    }

    fn report(&self, entry: &Entry) -> ProviderReport {
        let models = entry.models.iter().map(|model| ModelReport {
            name: model.spec().name.clone(),
            breaker: model.standing(Instant::now()).breaker.as_str(),
            price: model.spec().price,
            context_tokens: model.spec().context_tokens,
        });
        let stopped = self.shared.catalog.load().trouble(entry);
        ProviderReport {
            settings: entry.settings.clone(),
            models: models.collect(),
            trouble: stopped.or_else(|| entry.trouble.clone()),
            created_at_ms: entry.created_at_ms,
        }
    }

    /// Makes what speaks to a provider on record.
    async fn build(&self, settings: ProviderSettings, created_at_ms: i64) -> Result<Entry, TurnError> {
        let endpoint = self.endpoint(&settings)?;
        self.establish(settings, endpoint, created_at_ms).await
    }

    /// What there is to know of a provider before its server runs: until then, the address of one that is run here leads
    /// nowhere.
    fn endpoint(&self, settings: &ProviderSettings) -> Result<Endpoint, TurnError> {
        let url = match (&settings.run, &self.shared.runner) {
            (Some(_), None) => {
                let problem = "cannot be run by this process".to_owned();
                return Err(TurnError::Invalid { field: "gguf".to_owned(), problem });
            }
            (Some(_), Some(_)) => NOWHERE.to_owned(),
            (None, _) => settings.url.clone().unwrap_or_default(),
        };
        Ok(Endpoint {
            key: settings.key_file.as_deref().map(read_key).transpose()?,
            ca_file: settings.ca_file.clone(),
            ..Endpoint::new(&settings.name, url)
        })
    }

    /// Has the server of a provider run, where it is run here, and makes what speaks to it, with its models as far as they
    /// are known.
    async fn establish(
        &self,
        settings: ProviderSettings,
        mut endpoint: Endpoint,
        created_at_ms: i64,
    ) -> Result<Entry, TurnError> {
        let mut reads = None;
        if let (Some(run), Some(runner)) = (&settings.run, &self.shared.runner) {
            let invalid = |problem| TurnError::Invalid { field: "gguf".to_owned(), problem };
            let served = runner.start(&settings.name, run).await.map_err(invalid)?;
            (endpoint.url, reads) = (served.url, served.context_tokens);
        }
        let provider = match connect(&settings, &endpoint) {
            Ok(provider) => provider,
            Err(error) => {
                self.stop(&settings.name).await;
                return Err(error);
            }
        };
        let models = settings.models.iter().map(|model| self.model(&settings, &provider, model, reads)).collect();
        Ok(Entry { settings, provider, models, created_at_ms, reads, trouble: None })
    }

    /// `reads` are the tokens that a server run here reads, whatever its model could.
    fn model(
        &self,
        of: &ProviderSettings,
        provider: &Arc<dyn Provider>,
        model: &ModelSettings,
        reads: Option<u64>,
    ) -> Model {
        let config = &self.shared.config;
        let place = location(of);
        let is_remote = place == holdfast_llm::Location::Remote;
        let able = |given: Option<bool>, usual: bool| {
            if given.unwrap_or(usual) { Ability::Able } else { Ability::Unable }
        };
        let spec = Spec {
            name: format!("{}/{}", of.name, model.name),
            provider: of.name.clone(),
            upstream: model.name.clone(),
            location: place,
            context_tokens: model.context_tokens.into_iter().chain(reads).min(),
            max_output_tokens: model.max_output_tokens,
            tools: able(model.tools, true),
            images: able(model.images, is_remote),
            formats: able(model.formats, true),
            continues: able(model.continues, false),
            price: price_of(&config.prices, &of.name, &model.name),
        };
        // Python's server of llama.cpp breaks off an answer when it is asked for another, and a processor gains nothing by
        // two at a time: whoever runs more than that says so.
        let usual = if of.run.is_some() { 1 } else { config.concurrency };
        let settings = Settings {
            concurrent_max: of.concurrency.unwrap_or(usual),
            waiting_max: config.waiting,
            ..Settings::default()
        };
        Model::new(spec, Arc::clone(provider), settings)
    }

    /// Has every model of a provider looked after: one that could not be reached is asked again as soon as it can be. Ends
    /// when the model is gone, or the program.
    fn watch(&self, name: &str) {
        let Some(entry) = self.entry(name) else { return };
        for model in &entry.models {
            self.watch_model(model.clone());
        }
    }

    fn watch_model(&self, model: Model) {
        let (coordinator, shutdown) = (self.clone(), self.shared.shutdown.clone());
        self.shared.tasks.spawn(async move {
            let gone = coordinator.until_gone(&model);
            tokio::select! {
                () = model.watch() => {}
                () = gone => {}
                () = shutdown.cancelled() => {}
            }
        });
    }

    /// Returns when the catalog no longer has a model.
    async fn until_gone(&self, model: &Model) {
        loop {
            tokio::time::sleep(ASK_AGAIN).await;
            let catalog = self.shared.catalog.load();
            let mut models = catalog.entries.iter().flat_map(|entry| &entry.models);
            if !models.any(|other| Arc::ptr_eq(other.provider(), model.provider()) && other.spec() == model.spec()) {
                return;
            }
        }
    }

    /// Puts an entry into the catalog, in the place of one of the same name.
    fn put(&self, entry: &Arc<Entry>) {
        self.shared.catalog.rcu(|catalog| {
            let mut entries = catalog.entries.clone();
            match entries.iter_mut().find(|other| other.settings.name == entry.settings.name) {
                Some(other) => *other = Arc::clone(entry),
                None => entries.push(Arc::clone(entry)),
            }
            catalog.with(entries)
        });
    }

    /// Puts in what a provider told of itself, unless it was removed meanwhile, or another one put in its place.
    fn told(&self, entry: &Arc<Entry>) {
        self.shared.catalog.rcu(|catalog| {
            let mut entries = catalog.entries.clone();
            let is_it = |other: &&mut Arc<Entry>| Arc::ptr_eq(&other.provider, &entry.provider);
            match entries.iter_mut().find(is_it) {
                Some(other) => *other = Arc::clone(entry),
                None => return Arc::clone(catalog),
            }
            Arc::new(catalog.with(entries))
        });
    }

    /// Asks a provider which models it has. Those that are known keep their breakers.
    async fn ask_for_models(&self, name: &str) -> bool {
        let Some(entry) = self.entry(name) else { return false };
        let deadlines = Deadlines { total: LIST_WITHIN, first_byte: LIST_WITHIN, ..self.shared.config.deadlines };
        let (models, trouble) = match entry.provider.models(&deadlines).await {
            Ok(listed) => {
                let models = listed.into_iter().map(|listed| {
                    let known = entry.models.iter().find(|model| model.spec().upstream == listed.name);
                    known.cloned().unwrap_or_else(|| {
                        // Looked after from here on.
                        let settings = ModelSettings {
                            name: listed.name,
                            context_tokens: listed.context_tokens,
                            ..ModelSettings::default()
                        };
                        let model = self.model(&entry.settings, &entry.provider, &settings, entry.reads);
                        self.watch_model(model.clone());
                        model
                    })
                });
                (models.collect(), None)
            }
            Err(error) => {
                tracing::debug!(
                    provider = name,
                    words = error.words,
                    "the provider {name} did not tell its models: {error}"
                );
                (entry.models.clone(), Some(format!("it did not tell its models: {}", error.reason)))
            }
        };
        let is_told = trouble.is_none();
        self.told(&Arc::new(Entry {
            settings: entry.settings.clone(),
            provider: Arc::clone(&entry.provider),
            models,
            created_at_ms: entry.created_at_ms,
            reads: entry.reads,
            trouble,
        }));
        is_told
    }

    /// Asks a provider for its models until it tells them, and now and then from then on. One that is run here is asked no
    /// more when it told: it has the model of its file, and Python's server of llama.cpp breaks off an answer when it is
    /// asked.
    fn follow(&self, name: String) {
        let Some(entry) = self.entry(&name) else { return };
        let (coordinator, shutdown): (_, CancellationToken) = (self.clone(), self.shared.shutdown.clone());
        self.shared.tasks.spawn(async move {
            loop {
                let running = tokio::select! {
                    () = shutdown.cancelled() => return,
                    running = coordinator.until_running(&entry) => running,
                };
                let now = coordinator.entry(&name);
                if now.is_none_or(|now| !Arc::ptr_eq(&now.provider, &entry.provider)) {
                    return;
                }
                let pause = match running.is_ok() && coordinator.ask_for_models(&name).await {
                    true if entry.settings.run.is_some() => return,
                    true => LIST_EVERY,
                    false => ASK_AGAIN,
                };
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }
}

/// What speaks to a provider.
fn connect(settings: &ProviderSettings, endpoint: &Endpoint) -> Result<Arc<dyn Provider>, TurnError> {
    let connected: Result<Arc<dyn Provider>, EndpointError> = match settings.api {
        Api::OpenAi => OpenAi::new(endpoint).map(|provider| Arc::new(provider) as _),
        Api::Anthropic => Anthropic::new(endpoint).map(|provider| Arc::new(provider) as _),
    };
    connected.map_err(|error| {
        let field = match &error {
            EndpointError::Url { .. } | EndpointError::Tls(_) => "url",
            EndpointError::Key => "key_file",
            EndpointError::CaFile { .. } => "ca_file",
        };
        TurnError::Invalid { field: field.to_owned(), problem: format!("cannot be used: {error}") }
    })
}

fn recorded(settings: &ProviderSettings, created_at_ms: i64) -> ProviderRecord {
    let endpoint = serde_json::json!({ "url": settings.url, "run": settings.run });
    ProviderRecord {
        name: settings.name.clone(),
        api: match settings.api {
            Api::OpenAi => ProviderApi::OpenAi,
            Api::Anthropic => ProviderApi::Anthropic,
        },
        endpoint: endpoint.to_string(),
        key_file: settings.key_file.as_ref().map(|path| path.display().to_string()),
        settings: serde_json::to_string(settings).unwrap_or_default(),
        created_at_ms,
    }
}
