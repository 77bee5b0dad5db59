//! A coordinator in a temporary directory, with the providers that a test gives it.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use futures::StreamExt;
use holdfast_coordinator::{
    Alias, Api, CacheUse, Completed, Config, Coordinator, ModelSettings, Parts, ProviderSettings, Runner, Turn,
    TurnError, TurnEvent,
};
use holdfast_embedding::{ModelSource, Models};
use holdfast_knowledge::Knowledge;
use holdfast_llm::{Deadlines, Delta, Message, Original, Part, Request, Role, Shape};
use holdfast_storage::{
    Caller, Storage,
    events::{Event, EventFilter, EventLog},
    keys::{Authentication, KeyTerms},
};
use serde_json::json;
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const TINY: &str = "tiny";
/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What a provider may take for each step.
pub const STEP: Duration = Duration::from_millis(400);

pub struct House {
    pub coordinator: Coordinator,
    pub knowledge: Knowledge,
    pub log: EventLog,
    pub caller: Caller,
    storage: Storage,
    stop: CancellationToken,
    tasks: TaskTracker,
    _folder: TempDir,
}

/// What came of a stream.
#[derive(Debug, Default)]
pub struct Heard {
    pub text: String,
    pub models: Vec<String>,
    pub failed: Option<String>,
    pub is_ended: bool,
}

pub fn config() -> Config {
    let deadlines = Deadlines { connect: STEP, first_byte: STEP, gap: STEP, total: Duration::from_secs(10) };
    let continuing = Alias { of: Vec::new(), policy: None, continues: true };
    Config { deadlines, aliases: BTreeMap::from([("steady".to_owned(), continuing)]), ..Config::default() }
}

impl House {
    pub async fn new() -> Result<House> {
        House::with(config()).await
    }

    pub async fn with(config: Config) -> Result<House> {
        House::running(config, None).await
    }

    /// With somebody who runs servers of models.
    pub async fn running(config: Config, runner: Option<Arc<dyn Runner>>) -> Result<House> {
        let folder = tempfile::tempdir()?;
        holdfast_testkit::tiny_model::write(&folder.path().join("source").join(TINY))?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let embedding = holdfast_embedding::Config {
            models_dir: folder.path().join("models"),
            default_model: TINY.to_owned(),
            sources: Vec::new(),
            threads: 1,
            ..holdfast_embedding::Config::default()
        };
        let models = Models::start(embedding, stop.clone(), tasks.clone());
        let source = ModelSource::Folder(folder.path().join("source").join(TINY));
        models.pull(TINY, Some(source), |_| {}).await?;
        models.get(TINY)?.ready().await?;
        let indexes = folder.path().join("index");
        fs::create_dir_all(&indexes)?;
        let storage = Storage::open_at(&folder.path().join("holdfast.db"), &indexes)?;
        let log = EventLog::open_at(&folder.path().join("events.db"))?;
        let knowledge = Knowledge::start(
            holdfast_knowledge::Config::default(),
            storage.clone(),
            models,
            stop.clone(),
            tasks.clone(),
        )
        .await?;
        let coordinator = Coordinator::start(Parts {
            config,
            knowledge: knowledge.clone(),
            storage: storage.clone(),
            log: log.clone(),
            ledger: log.ledger(),
            runner,
            shutdown: stop.clone(),
            tasks: tasks.clone(),
        })
        .await?;
        let caller = Caller::owner();
        Ok(House { coordinator, knowledge, log, caller, storage, stop, tasks, _folder: folder })
    }

    /// Adds a provider of one model that speaks OpenAI's shape.
    pub async fn add(&self, name: &str, url: &str) -> Result<()> {
        self.add_as(provider(name, url)).await
    }

    pub async fn add_as(&self, settings: ProviderSettings) -> Result<()> {
        self.coordinator.add_provider(settings).await?;
        Ok(())
    }

    pub async fn complete(&self, turn: Turn) -> Result<Completed, TurnError> {
        self.coordinator.complete(&self.caller, turn).await
    }

    /// A whole answer's text.
    pub async fn text(&self, turn: Turn) -> Result<String, TurnError> {
        Ok(text(&self.complete(turn).await?))
    }

    /// Streams a turn to its end.
    pub async fn hear(&self, turn: Turn) -> Result<Heard, TurnError> {
        let mut streaming = self.coordinator.stream(&self.caller, turn).await?;
        let mut heard = Heard { models: vec![streaming.about.model.clone()], ..Heard::default() };
        while let Some(event) = streaming.events.next().await {
            match event {
                TurnEvent::Piece(piece) => {
                    for delta in piece.deltas {
                        match delta {
                            Delta::Text(text) => heard.text.push_str(&text),
                            Delta::End => heard.is_ended = true,
                            _ => {}
                        }
                    }
                }
                TurnEvent::Continued { model } => heard.models.push(model),
                TurnEvent::Failed(error) => heard.failed = Some(word(&error)),
            }
        }
        Ok(heard)
    }

    /// Somebody with a key of those terms.
    pub async fn key(&self, terms: KeyTerms) -> Result<Caller> {
        let (_, secret) = self.storage.create_key(&self.caller, terms).await?;
        match self.storage.authenticate(secret.reveal(), None)? {
            Authentication::Granted(caller) => Ok(caller),
            other => anyhow::bail!("{other:?}"),
        }
    }

    /// The settings of every provider that is on record.
    pub fn providers_on_record(&self) -> Result<Vec<String>> {
        Ok(self.storage.providers()?.into_iter().map(|record| record.settings).collect())
    }

    /// Everything on record, once it is.
    pub async fn events(&self) -> Result<Vec<Event>> {
        self.log.flush().await?;
        Ok(self.log.read_after(0, 10_000, &EventFilter::default())?.events)
    }

    pub async fn close(self) -> Result<()> {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.context("something did not stop")?;
        tokio::task::block_in_place(|| {
            self.log.close();
            self.storage.close();
        });
        Ok(())
    }
}

pub fn provider(name: &str, url: &str) -> ProviderSettings {
    ProviderSettings {
        name: name.to_owned(),
        api: Api::OpenAi,
        url: Some(url.to_owned()),
        key_file: None,
        ca_file: None,
        location: None,
        models: vec![ModelSettings { name: "mock".to_owned(), continues: Some(true), ..ModelSettings::default() }],
        run: None,
        concurrency: None,
        by_key: false,
    }
}

/// A question to a model, as a client of OpenAI's interface asks it.
pub fn turn(model: &str, question: &str) -> Turn {
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": question }] });
    let request = Request {
        messages: vec![Message::text(Role::User, question)],
        original: body.as_object().cloned().map(|body| Original { shape: Shape::OpenAi, body }),
        ..Request::default()
    };
    Turn {
        model: model.to_owned(),
        request,
        session: None,
        augmentation: None,
        cache: CacheUse::default(),
        request_id: "test".to_owned(),
        trace: Vec::new(),
    }
}

pub fn text(completed: &Completed) -> String {
    let texts = completed.answer.parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// What went wrong, in a word.
pub fn word(error: &TurnError) -> String {
    match error {
        TurnError::Failed { last, .. } => last.kind.as_str().to_owned(),
        TurnError::BudgetExceeded { .. } => "budget_exceeded".to_owned(),
        other => format!("{other:?}").split([' ', '{', '(']).next().unwrap_or_default().to_owned(),
    }
}
