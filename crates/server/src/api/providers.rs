//! `/api/v1/providers`: servers of language models put on record, listed, tried and removed.
//!
//! What lies on this machine (key files, models, programs) can be named by its owner alone, at the control socket, and so
//! can addresses that only this machine reaches.

use std::path::PathBuf;

use axum::{Json, extract::State, http::StatusCode};
use holdfast_coordinator::{
    Api, ModelReport, ModelSettings, Place, ProviderReport, ProviderSettings, RunSettings, TestReport, TurnError,
};
use holdfast_llm::Price;
use holdfast_storage::Caller;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Server, description,
    error::{Code, Failure, public},
    input::{Authenticated, Body, Segment, at_most, one_of, within},
    money, outward, timestamp,
};

/// The words for interfaces.
pub(crate) const APIS: [(&str, Api); 2] = [("openai", Api::OpenAi), ("anthropic", Api::Anthropic)];
/// The words for where a provider counts as being.
const PLACES: [(&str, Place); 2] = [("local", Place::Local), ("remote", Place::Remote)];
/// Models that may be named.
const MODELS_MAX: usize = 1_000;
/// The longest name of a model, in bytes.
const MODEL_BYTES_MAX: usize = 256;
/// More tokens than any model reads or writes.
const TOKENS_MAX: usize = 1_000_000_000;
/// Requests to a provider at once.
const CONCURRENCY_MAX: usize = 4_096;
/// Words of a command, and their length in bytes.
const WORDS_MAX: usize = 256;
const WORD_BYTES_MAX: usize = 4_096;
/// A provider's name; `holdfast_coordinator::is_name` reads the same.
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";

/// A server that has language models.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewProvider")]
pub(crate) struct NewBody {
    /// What it is called here; one of the same name is replaced
    #[schemars(regex(pattern = NAME))]
    name: String,
    /// Which interface it has; OpenAI's where absent
    #[schemars(extend("enum" = description::words(&APIS)))]
    api: Option<String>,
    /// The root of that interface, as `https://host/v1`; the maker's own where absent
    #[schemars(regex(pattern = "^https?://[^\\s]+$"))]
    url: Option<String>,
    /// A file with its key; the owner of the data directory alone can name one
    key_file: Option<PathBuf>,
    /// A certificate authority beyond the usual ones, a PEM file; the owner of the data directory alone can name one
    ca_file: Option<PathBuf>,
    /// Where it counts as being; found out from the address where absent
    #[schemars(extend("enum" = description::words(&PLACES)))]
    location: Option<String>,
    /// Its models; it is asked for them where absent
    #[schemars(length(max = MODELS_MAX))]
    #[serde(default)]
    models: Vec<ModelBody>,
    /// A model's file that is to be run; the owner of the data directory alone can name one
    gguf: Option<PathBuf>,
    /// What runs it, with `{gguf}`, `{model}`, `{host}`, `{port}` and `{context}` in their places; a usual program where absent
    #[schemars(length(max = WORDS_MAX))]
    command: Option<Vec<String>>,
    /// Requests to it at once; `llm.provider_concurrency` of the settings where absent
    #[schemars(range(min = 1, max = CONCURRENCY_MAX))]
    concurrency: Option<i64>,
}

/// One model of a provider.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewProviderModel")]
pub(crate) struct ModelBody {
    /// What the provider calls it
    #[schemars(length(min = 1, max = MODEL_BYTES_MAX))]
    name: String,
    /// Tokens of question and answer together
    #[schemars(range(min = 1, max = TOKENS_MAX))]
    context_tokens: Option<i64>,
    /// Tokens of an answer at most
    #[schemars(range(min = 1, max = TOKENS_MAX))]
    max_output_tokens: Option<i64>,
    /// Whether it can call tools; it is taken to where absent
    tools: Option<bool>,
    /// Whether it can look at pictures; one that runs elsewhere is taken to where absent
    images: Option<bool>,
    /// Whether it can keep to a form; it is taken to where absent
    formats: Option<bool>,
    /// Whether it can go on from a given text; it is taken not to where absent
    continues: Option<bool>,
}

/// What to try.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ProviderTrial")]
pub(crate) struct TestBody {
    /// The model, as the provider calls it; its first where absent
    #[schemars(length(min = 1, max = MODEL_BYTES_MAX))]
    model: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProviderList")]
pub(crate) struct ListAnswer {
    providers: Vec<ProviderAnswer>,
    next_cursor: Option<String>,
}

/// A provider.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Provider")]
pub(crate) struct ProviderAnswer {
    name: String,
    #[schemars(extend("enum" = ["openai", "anthropic"]))]
    api: &'static str,
    /// Null for a model that is run here
    url: Option<String>,
    #[schemars(extend("enum" = ["local", "remote"]))]
    location: &'static str,
    /// Whether it is sent a key
    has_key: bool,
    /// The models that can be asked, as clients call them
    models: Vec<ModelAnswer>,
    /// Why it has no models, or does not run
    trouble: Option<String>,
    /// Whether its server is run here
    runs_here: bool,
    concurrency: Option<usize>,
    /// What lies on this machine; null for all but its owner
    files: Option<FilesAnswer>,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
}

/// What of a provider lies on this machine.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProviderFiles")]
pub(crate) struct FilesAnswer {
    key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    gguf: Option<PathBuf>,
    /// Empty for a usual program
    command: Vec<String>,
}

/// A model that can be asked.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProviderModel")]
pub(crate) struct ModelAnswer {
    /// What clients call it
    name: String,
    /// What its breaker lets through
    #[schemars(extend("enum" = ["closed", "half_open", "open"]))]
    breaker: &'static str,
    context_tokens: Option<u64>,
    /// Dollars for a million tokens; null where `llm.prices` of the settings has none
    price: Option<PriceAnswer>,
}

/// Dollars for a million tokens.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Price")]
pub(crate) struct PriceAnswer {
    input: f64,
    output: f64,
    /// Null where it is that of input
    cached_input: Option<f64>,
    /// Null where it is that of input
    cache_write: Option<f64>,
}

/// What came of a trial.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProviderTested")]
pub(crate) struct TestAnswer {
    /// The model that answered, as clients call it
    model: String,
    took_ms: f64,
    /// What it said
    answer: String,
}

pub(crate) async fn list(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
) -> Result<Json<ListAnswer>, Failure> {
    let mut reports = server.coordinator().providers();
    reports.sort_unstable_by(|a, b| a.settings.name.cmp(&b.settings.name));
    // There are few: they are one page.
    let providers = reports.into_iter().map(|report| ProviderAnswer::of(report, &caller)).collect();
    Ok(Json(ListAnswer { providers, next_cursor: None }))
}

pub(crate) async fn add(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    body: Body<NewBody>,
) -> Result<(StatusCode, Json<ProviderAnswer>), Failure> {
    let settings = ProviderSettings { by_key: !caller.is_owner(), ..body.value.settings()? };
    check_reach(&caller, &settings).await?;
    let name = settings.name.clone();
    let report = server.coordinator().add_provider(settings).await.map_err(refused)?;
    tracing::info!(provider = name, caller = caller.id(), "put the provider {name} on record");
    Ok((StatusCode::CREATED, Json(ProviderAnswer::of(report, &caller))))
}

pub(crate) async fn show(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(name): Segment,
) -> Result<Json<ProviderAnswer>, Failure> {
    let report = server.coordinator().provider(&name).ok_or_else(|| absent(&name))?;
    Ok(Json(ProviderAnswer::of(report, &caller)))
}

pub(crate) async fn remove(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(name): Segment,
) -> Result<StatusCode, Failure> {
    let report = server.coordinator().provider(&name);
    if !caller.is_owner() && report.is_some_and(|report| !report.settings.by_key) {
        return Err(Failure::new(
            Code::Forbidden,
            "it was added on this machine: remove it there, by `holdfast providers remove`",
        ));
    }
    if !server.coordinator().remove_provider(&name).await? {
        return Err(absent(&name));
    }
    tracing::info!(provider = name, caller = caller.id(), "took the provider {name} off the record");
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn test(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
    Segment(name): Segment,
    body: Body<TestBody>,
) -> Result<Json<TestAnswer>, Failure> {
    if server.coordinator().provider(&name).is_none() {
        return Err(absent(&name));
    }
    let TestReport { model, duration, answer } =
        server.coordinator().test_provider(&name, body.value.model.as_deref()).await?;
    Ok(Json(TestAnswer { model, took_ms: duration.as_micros() as f64 / 1_000.0, answer }))
}

fn absent(name: &str) -> Failure {
    Failure::new(Code::ProviderNotFound, format!("there is no provider {name:?}"))
}

/// What cannot be run here has codes of its own: what to do about it is another matter than about a field.
fn refused(error: TurnError) -> Failure {
    match error {
        TurnError::Invalid { field, problem } if field == "gguf" => {
            Failure::new(Code::ModelFileUnusable, format!("gguf {problem}")).at("gguf")
        }
        TurnError::Invalid { field, problem } if field == "command" => {
            Failure::new(Code::ModelServerMissing, format!("command {problem}")).at("command")
        }
        error => error.into(),
    }
}

/// Refuses what a key could have this machine read, run or call.
async fn check_reach(caller: &Caller, settings: &ProviderSettings) -> Result<(), Failure> {
    if caller.is_owner() {
        return Ok(());
    }
    let named = [
        ("key_file", settings.key_file.is_some()),
        ("ca_file", settings.ca_file.is_some()),
        ("gguf", settings.run.is_some()),
    ];
    if let Some((field, _)) = named.into_iter().find(|(_, is_named)| *is_named) {
        return Err(Failure::field(field, "can be named on this machine only, by `holdfast providers add`"));
    }
    if settings.location == Some(Place::Local) {
        // What is asked of `local` is not to leave this network.
        return Err(Failure::field("location", "can be local on this machine only, by `holdfast providers add`"));
    }
    if !outward::is_outward(settings.url.as_deref().unwrap_or_default()).await {
        // The answer, or its absence, would tell of machines that only this one can reach.
        return Err(Failure::field(
            "url",
            format_args!("{}: add that on this machine, by `holdfast providers add`", outward::PROBLEM),
        ));
    }
    Ok(())
}

impl NewBody {
    fn settings(self) -> Result<ProviderSettings, Failure> {
        let api = one_of("api", self.api.as_deref(), Api::OpenAi, &APIS)?;
        let location =
            self.location.as_deref().map(|word| one_of("location", Some(word), Place::Local, &PLACES)).transpose()?;
        at_most("models", &self.models, MODELS_MAX)?;
        let models =
            self.models.into_iter().enumerate().map(|(at, model)| model.settings(at)).collect::<Result<_, _>>()?;
        for (field, path) in [("key_file", &self.key_file), ("ca_file", &self.ca_file), ("gguf", &self.gguf)] {
            if path.as_ref().is_some_and(|path| !path.is_absolute()) {
                return Err(Failure::field(field, "must be an absolute path"));
            }
        }
        let run = run(self.gguf, self.command)?;
        let url = match (self.url, &run) {
            (None, None) => Some(makers_own(api).to_owned()),
            (url, _) => url,
        };
        let concurrency =
            self.concurrency.map(|given| within("concurrency", Some(given), 1, 1..=CONCURRENCY_MAX)).transpose()?;
        Ok(ProviderSettings {
            name: self.name,
            api,
            url,
            key_file: self.key_file,
            ca_file: self.ca_file,
            location,
            models,
            run,
            concurrency,
            by_key: false,
        })
    }
}

/// Where the makers of the interfaces have theirs.
fn makers_own(api: Api) -> &'static str {
    match api {
        Api::OpenAi => "https://api.openai.com/v1",
        Api::Anthropic => "https://api.anthropic.com",
    }
}

fn run(gguf: Option<PathBuf>, command: Option<Vec<String>>) -> Result<Option<RunSettings>, Failure> {
    let command = match (&gguf, command) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(Failure::field("command", "needs a model's file to run, in gguf")),
        (Some(_), command) => command.unwrap_or_default(),
    };
    at_most("command", &command, WORDS_MAX)?;
    if command.iter().any(|word| word.len() > WORD_BYTES_MAX || word.contains('\0')) {
        return Err(Failure::field(
            "command",
            format_args!("has a word of more than {WORD_BYTES_MAX} bytes, or with NUL"),
        ));
    }
    Ok(gguf.map(|gguf| RunSettings { gguf, command }))
}

impl ModelBody {
    fn settings(self, at: usize) -> Result<ModelSettings, Failure> {
        let tokens = |field: &'static str, given: Option<i64>| {
            let number = given.map(|given| within(field, Some(given), 1, 1..=TOKENS_MAX)).transpose();
            number.map_err(|wrong| wrong.at(format!("models[{at}].{field}")))
        };
        let max_output_tokens = tokens("max_output_tokens", self.max_output_tokens)?;
        Ok(ModelSettings {
            context_tokens: tokens("context_tokens", self.context_tokens)?.map(|number| number as u64),
            max_output_tokens: max_output_tokens.and_then(|number| u32::try_from(number).ok()),
            name: self.name,
            tools: self.tools,
            images: self.images,
            formats: self.formats,
            continues: self.continues,
        })
    }
}

impl ProviderAnswer {
    fn of(report: ProviderReport, caller: &Caller) -> Self {
        let ProviderReport { settings, models, trouble, created_at_ms } = report;
        let word = |words: &[(&'static str, Place)], place: Place| {
            words.iter().find(|(_, known)| *known == place).map_or("", |(word, _)| *word)
        };
        let trouble = if caller.is_owner() { trouble } else { trouble.map(|reason| public(&reason).into_owned()) };
        Self {
            api: APIS.iter().find(|(_, api)| *api == settings.api).map_or("", |(word, _)| *word),
            location: word(&PLACES, settings.place()),
            has_key: settings.key_file.is_some(),
            models: models.into_iter().map(ModelAnswer::from).collect(),
            trouble,
            runs_here: settings.run.is_some(),
            concurrency: settings.concurrency,
            created_at: timestamp::from_ms(created_at_ms),
            name: settings.name,
            url: settings.url,
            files: caller.is_owner().then(|| {
                let (gguf, command) = settings.run.map(|run| (run.gguf, run.command)).unzip();
                FilesAnswer {
                    key_file: settings.key_file,
                    ca_file: settings.ca_file,
                    gguf,
                    command: command.unwrap_or_default(),
                }
            }),
        }
    }
}

impl From<ModelReport> for ModelAnswer {
    fn from(model: ModelReport) -> Self {
        let ModelReport { name, breaker, price, context_tokens } = model;
        Self { name, breaker, context_tokens, price: price.map(PriceAnswer::from) }
    }
}

impl From<Price> for PriceAnswer {
    fn from(price: Price) -> Self {
        Self {
            input: money::dollars(price.input),
            output: money::dollars(price.output),
            cached_input: price.cached_input.map(money::dollars),
            cache_write: price.cache_write.map(money::dollars),
        }
    }
}
