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
    catalog::{ASK_AGAIN, Api, CannotRun, Catalog, Entry, ModelSettings, ProviderSettings, location, price_of},
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
    /// Puts a provider on record, or another one of the same name in its place.
    pub async fn add_provider(&self, settings: ProviderSettings) -> Result<ProviderReport, TurnError> {
        settings.check()?;
        let _changing = self.shared.changing.lock().await;
        if let (Some(run), Some(runner)) = (&settings.run, &self.shared.runner) {
            let invalid = |CannotRun { field, problem }| TurnError::Invalid { field: field.to_owned(), problem };
            runner.check(run).await.map_err(invalid)?;
        }
        let entry = self.build(settings.clone(), record::now_ms()).await?;
        let endpoint = serde_json::json!({ "url": settings.url, "run": settings.run });
        let record = ProviderRecord {
            name: settings.name.clone(),
            api: match settings.api {
                Api::OpenAi => ProviderApi::OpenAi,
                Api::Anthropic => ProviderApi::Anthropic,
            },
            endpoint: endpoint.to_string(),
            key_file: settings.key_file.as_ref().map(|path| path.display().to_string()),
            settings: serde_json::to_string(&settings).unwrap_or_default(),
            created_at_ms: entry.created_at_ms,
        };
        let record = self.shared.storage.put_provider(record).await?;
        self.put(Arc::new(Entry { created_at_ms: record.created_at_ms, ..entry }));
        self.watch(&settings.name);
        if settings.models.is_empty() {
            // One that begins to run has nothing to tell yet.
            if settings.run.is_none() {
                self.ask_for_models(&settings.name).await;
            }
            self.follow(settings.name.clone());
        }
        self.provider(&settings.name).ok_or(TurnError::UnknownModel { model: settings.name })
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
        let _changing = self.shared.changing.lock().await;
        let was = match self.shared.storage.remove_provider(name.to_owned()).await {
            Ok(()) => true,
            Err(StorageError::NotFound { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        let catalog = self.shared.catalog.load();
        let left = catalog.entries.iter().filter(|entry| entry.settings.name != name).cloned().collect();
        self.shared.catalog.store(Arc::new(catalog.with(left)));
        if let Some(runner) = &self.shared.runner {
            runner.stop(name).await;
        }
        Ok(was)
    }

    /// Waits until a provider that runs here takes requests; others are taken to. Nothing is said of why it does not: whoever
    /// asks it then is told.
    async fn until_running(&self, entry: &Entry) {
        if let (Some(_), Some(runner)) = (&entry.settings.run, &self.shared.runner)
            && let Err(reason) = runner.until_ready(&entry.settings.name).await
        {
            tracing::debug!(provider = entry.settings.name, reason, "the server of a model does not run: {reason}");
        }
    }

    /// Asks a provider's first model, or the one that is named, for a token or a few. One that begins to run here is waited
    /// for.
    pub async fn test_provider(&self, name: &str, model: Option<&str>) -> Result<TestReport, TurnError> {
        let entry = self.entry(name).ok_or_else(|| TurnError::UnknownModel { model: name.to_owned() })?;
        // Whether it came to that is told by what it answers.
        let _in_time = tokio::time::timeout(RUNNING_WITHIN, self.until_running(&entry)).await;
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
        let ask = Ask {
            request: Arc::new(request),
            deadlines: Deadlines { total: TRIAL_WITHIN, ..self.shared.config.deadlines },
            trace: Vec::new(),
            continued: None,
        };
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
                    self.put(Arc::new(entry));
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
        let stopped = match (&entry.settings.run, &self.shared.runner) {
            (Some(_), Some(runner)) => runner.state(&entry.settings.name).err(),
            _ => None,
        };
        ProviderReport {
            settings: entry.settings.clone(),
            models: models.collect(),
            trouble: stopped.or_else(|| entry.trouble.clone()),
            created_at_ms: entry.created_at_ms,
        }
    }

    /// Makes what speaks to a provider, and its models as far as they are known.
    async fn build(&self, settings: ProviderSettings, created_at_ms: i64) -> Result<Entry, TurnError> {
        let url = match (&settings.run, &self.shared.runner) {
            (Some(run), Some(runner)) => runner
                .start(&settings.name, run)
                .await
                .map_err(|problem| TurnError::Invalid { field: "gguf".to_owned(), problem })?,
            (Some(_), None) => {
                let problem = "cannot be run by this process".to_owned();
                return Err(TurnError::Invalid { field: "gguf".to_owned(), problem });
            }
            (None, _) => settings.url.clone().unwrap_or_default(),
        };
        let endpoint = Endpoint {
            key: settings.key_file.as_deref().map(read_key).transpose()?,
            ca_file: settings.ca_file.clone(),
            ..Endpoint::new(&settings.name, url)
        };
        let connected: Result<Arc<dyn Provider>, EndpointError> = match settings.api {
            Api::OpenAi => OpenAi::new(&endpoint).map(|provider| Arc::new(provider) as _),
            Api::Anthropic => Anthropic::new(&endpoint).map(|provider| Arc::new(provider) as _),
        };
        let provider = connected.map_err(|error| {
            let field = match &error {
                EndpointError::Url { .. } | EndpointError::Tls(_) => "url",
                EndpointError::Key => "key_file",
                EndpointError::CaFile { .. } => "ca_file",
            };
            TurnError::Invalid { field: field.to_owned(), problem: format!("cannot be used: {error}") }
        })?;
        let models = settings.models.iter().map(|model| self.model(&settings, &provider, model)).collect();
        Ok(Entry { settings, provider, models, created_at_ms, trouble: None })
    }

    fn model(&self, of: &ProviderSettings, provider: &Arc<dyn Provider>, model: &ModelSettings) -> Model {
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
            context_tokens: model.context_tokens,
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
    fn put(&self, entry: Arc<Entry>) {
        let catalog = self.shared.catalog.load();
        let mut entries = catalog.entries.clone();
        match entries.iter_mut().find(|other| other.settings.name == entry.settings.name) {
            Some(other) => *other = entry,
            None => entries.push(entry),
        }
        self.shared.catalog.store(Arc::new(Catalog::with(&catalog, entries)));
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
                        let model = self.model(&entry.settings, &entry.provider, &settings);
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
        // Another one may have been put in its place meanwhile.
        if self.entry(name).is_some_and(|now| Arc::ptr_eq(&now.provider, &entry.provider)) {
            self.put(Arc::new(Entry {
                settings: entry.settings.clone(),
                provider: Arc::clone(&entry.provider),
                models,
                created_at_ms: entry.created_at_ms,
                trouble,
            }));
        }
        is_told
    }

    /// Asks a provider for its models until it tells them, and now and then from then on.
    fn follow(&self, name: String) {
        let coordinator = self.clone();
        let shutdown: CancellationToken = self.shared.shutdown.clone();
        let provider = self.entry(&name).map(|entry| Arc::clone(&entry.provider));
        self.shared.tasks.spawn(async move {
            loop {
                if let Some(entry) = coordinator.entry(&name) {
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = coordinator.until_running(&entry) => {}
                    }
                }
                let is_told = coordinator.ask_for_models(&name).await;
                let pause = if is_told { LIST_EVERY } else { ASK_AGAIN };
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                let now = coordinator.entry(&name).map(|entry| Arc::clone(&entry.provider));
                let is_same = match (&now, &provider) {
                    (Some(now), Some(then)) => Arc::ptr_eq(now, then),
                    _ => false,
                };
                if !is_same {
                    return;
                }
            }
        });
    }
}
