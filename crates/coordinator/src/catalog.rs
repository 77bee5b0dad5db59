//! Which models there are: providers on record, the models of each, aliases, and who may be asked right now.
//!
//! The catalog is a snapshot behind a pointer. It is made anew when a provider is added or removed, and what did not change
//! keeps its breakers and queues. Two tasks keep it true: one asks a provider that names no models which it has, woken
//! when it is added and by a timer until it told; one follows the model that a [`Runner`] runs. Both end with the
//! provider, or with the program.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use holdfast_llm::{Location, Model, Price, Provider, Shape};
use holdfast_routing::Policy;
use holdfast_storage::{Caller, Grants};
use serde::{Deserialize, Serialize};

use crate::{ModelInfo, TurnError};

/// What every model can be asked for by.
pub const AUTO: &str = "auto";
/// Only models that run here.
pub const LOCAL: &str = "local";
/// Only models that run elsewhere.
pub const REMOTE: &str = "remote";
/// The words that stand for several models; no provider or model is called so.
pub const RESERVED: [&str; 2] = [AUTO, REMOTE];

/// A provider, as it is put on record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// What it is called here.
    pub name: String,
    /// The interface that it speaks.
    pub api: Api,
    /// The root of it, such as `https://api.openai.com/v1`; absent for a model that runs itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub url: Option<String>,
    /// A file with the key, that nobody else on the machine can read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key_file: Option<PathBuf>,
    /// A certificate authority beyond the usual ones, PEM.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ca_file: Option<PathBuf>,
    /// Where it counts as being; found out from the address where absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub location: Option<Place>,
    /// Its models; asked for where empty.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub models: Vec<ModelSettings>,
    /// What to run for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<RunSettings>,
    /// Requests to it at once.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub concurrency: Option<usize>,
    /// Whether it was added with a key, over the network, and not on this machine: with a key, nothing but such a one is
    /// replaced or removed.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub by_key: bool,
}

/// The interface that a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// OpenAI's chat completions.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
}

impl From<Api> for Shape {
    fn from(api: Api) -> Self {
        match api {
            Api::OpenAi => Self::OpenAi,
            Api::Anthropic => Self::Anthropic,
        }
    }
}

/// Where a provider counts as being.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// On this machine, or in the same private network.
    Local,
    /// Elsewhere.
    Remote,
}

/// A model of a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// Its name there.
    pub name: String,
    /// Tokens of question and answer together.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub context_tokens: Option<u64>,
    /// Tokens of an answer at most.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_output_tokens: Option<u32>,
    /// Whether it can call tools; it is taken to where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tools: Option<bool>,
    /// Whether it can look at pictures; one that runs elsewhere is taken to where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub images: Option<bool>,
    /// Whether it can keep to a form; it is taken to where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub formats: Option<bool>,
    /// Whether it can go on from a given text; it is taken not to where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub continues: Option<bool>,
}

/// A server to be run for a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSettings {
    /// The model's file.
    pub gguf: PathBuf,
    /// The program and its arguments, in which `{gguf}`, `{host}` and `{port}` stand for what they say, and `{model}` for the
    /// file's name without its ending. Empty for whichever of the usual programs is there.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub command: Vec<String>,
}

/// Why a server cannot be run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CannotRun {
    /// What of [`RunSettings`] is to blame: `gguf` or `command`.
    pub field: &'static str,
    /// What is wrong with it, continuing the sentence.
    pub problem: String,
}

/// Runs servers of models. The program's business; here it is only asked.
pub trait Runner: Send + Sync + fmt::Debug {
    /// Refuses what could not be run here. Asked before a provider is put on record, and no longer: a file can come and go.
    fn check<'a>(&'a self, settings: &'a RunSettings) -> BoxFuture<'a, Result<(), CannotRun>>;

    /// Has a server run from now on, in the place of the one of that name. It need not be ready.
    ///
    /// # Errors
    /// Why it cannot be; then the one of that name runs on.
    fn start<'a>(&'a self, name: &'a str, settings: &'a RunSettings) -> BoxFuture<'a, Result<Served, String>>;

    /// Waits until it takes requests.
    ///
    /// # Errors
    /// Why it never will: it was stopped, or is not run here.
    fn until_ready<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), String>>;

    /// Has it run no longer.
    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()>;

    /// Whether it takes requests, or else why not.
    fn state(&self, name: &str) -> Result<(), String>;
}

/// A server that is run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its address, such as `http://127.0.0.1:40123/v1`.
    pub url: String,
    /// Tokens that it reads, where it was told so.
    pub context_tokens: Option<u64>,
}

/// What an alias stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alias {
    /// Models, providers, or other words: `local`, `remote`. All where empty.
    pub of: Vec<String>,
    /// The policy, where it is not the usual one.
    pub policy: Option<PolicyName>,
    /// Whether another model may go on where one stopped in the middle.
    pub continues: bool,
}

/// The policies there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyName {
    /// What runs here first.
    #[default]
    LocalFirst,
    /// What runs elsewhere first.
    RemoteFirst,
    /// What costs least first.
    Cheapest,
    /// What the rules of the settings say.
    Rules,
}

impl PolicyName {
    /// Every word for one.
    pub const ALL: [(&'static str, Self); 4] = [
        ("local-first", Self::LocalFirst),
        ("remote-first", Self::RemoteFirst),
        ("cheapest", Self::Cheapest),
        ("rules", Self::Rules),
    ];

    /// The word users write.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, policy)| *policy == self).map_or("", |(word, _)| word)
    }
}

/// A provider that is there.
pub(crate) struct Entry {
    pub(crate) settings: ProviderSettings,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) models: Vec<Model>,
    pub(crate) created_at_ms: i64,
    /// Tokens that the server which is run for it reads.
    pub(crate) reads: Option<u64>,
    /// Why it has no models yet.
    pub(crate) trouble: Option<String>,
}

/// Everything there is, as it is now.
pub(crate) struct Catalog {
    pub(crate) entries: Vec<Arc<Entry>>,
    aliases: Arc<BTreeMap<String, Alias>>,
    policies: Arc<Policies>,
    runner: Option<Arc<dyn Runner>>,
}

/// One of each policy.
pub(crate) struct Policies {
    usual: PolicyName,
    all: BTreeMap<&'static str, Arc<dyn Policy>>,
}

/// Who could answer what was asked for.
pub(crate) struct Choice {
    pub(crate) asked: String,
    pub(crate) models: Vec<Chosen>,
    pub(crate) policy: Arc<dyn Policy>,
    pub(crate) policy_name: String,
    /// Whether the policy looks at the number of tokens.
    pub(crate) by_rules: bool,
    pub(crate) continues: bool,
}

/// A model that could answer.
pub(crate) struct Chosen {
    pub(crate) model: Model,
    /// Whether the server that has it runs.
    pub(crate) is_available: bool,
    /// Whether whoever asks may use it.
    pub(crate) is_granted: bool,
}

impl Policies {
    pub(crate) fn new(usual: PolicyName, rules: holdfast_routing::Rules) -> Self {
        let mut all: BTreeMap<&'static str, Arc<dyn Policy>> = BTreeMap::new();
        all.insert(PolicyName::LocalFirst.as_str(), Arc::new(holdfast_routing::LocalFirst));
        all.insert(PolicyName::RemoteFirst.as_str(), Arc::new(holdfast_routing::RemoteFirst));
        all.insert(PolicyName::Cheapest.as_str(), Arc::new(holdfast_routing::Cheapest));
        all.insert(PolicyName::Rules.as_str(), Arc::new(rules));
        Self { usual, all }
    }

    fn get(&self, name: Option<PolicyName>) -> (Arc<dyn Policy>, String) {
        let name = name.unwrap_or(self.usual).as_str();
        let policy = self.all.get(name).cloned().unwrap_or_else(|| Arc::new(holdfast_routing::LocalFirst));
        (policy, name.to_owned())
    }
}

impl Catalog {
    pub(crate) fn new(
        aliases: Arc<BTreeMap<String, Alias>>,
        policies: Arc<Policies>,
        runner: Option<Arc<dyn Runner>>,
    ) -> Self {
        Self { entries: Vec::new(), aliases, policies, runner }
    }

    /// The same with other providers.
    pub(crate) fn with(&self, entries: Vec<Arc<Entry>>) -> Self {
        Self {
            entries,
            aliases: Arc::clone(&self.aliases),
            policies: Arc::clone(&self.policies),
            runner: self.runner.clone(),
        }
    }

    fn chosen(&self, caller: &Caller, entry: &Entry, model: &Model) -> Chosen {
        Chosen {
            model: model.clone(),
            is_available: self.trouble(entry).is_none(),
            is_granted: self.is_granted(caller, entry, model),
        }
    }

    /// Whether a caller may ask a model: one of the words that their key has stands for it.
    fn is_granted(&self, caller: &Caller, entry: &Entry, model: &Model) -> bool {
        match caller.models() {
            Grants::All | Grants::AllBut(_) => true,
            Grants::Only(words) => words.iter().any(|word| match self.aliases.get(word) {
                Some(alias) => is_among(entry, model, &alias.of),
                None => is_called(entry, model, word),
            }),
        }
    }

    /// Why the server of a provider takes no requests, where it is run here and does not.
    pub(crate) fn trouble(&self, entry: &Entry) -> Option<String> {
        match (&entry.settings.run, &self.runner) {
            (Some(_), Some(runner)) => runner.state(&entry.settings.name).err(),
            (Some(_), None) => Some("it is not run by this process".to_owned()),
            (None, _) => None,
        }
    }

    fn all(&self) -> impl Iterator<Item = (&Entry, &Model)> {
        self.entries.iter().flat_map(|entry| entry.models.iter().map(move |model| (entry.as_ref(), model)))
    }

    /// The models that a name stands for. One that the caller may not ask is there under an alias only, for the record;
    /// by its own name it is unknown to them.
    pub(crate) fn choose(&self, caller: &Caller, asked: &str) -> Result<Choice, TurnError> {
        if self.entries.is_empty() {
            return Err(TurnError::NoProvider);
        }
        let (names, policy, continues) = match self.aliases.get(asked) {
            Some(alias) => (alias.of.clone(), alias.policy, alias.continues),
            None if asked == AUTO || asked.is_empty() => (Vec::new(), None, false),
            None => (vec![asked.to_owned()], None, false),
        };
        let is_word = self.aliases.contains_key(asked) || [AUTO, LOCAL, REMOTE, ""].contains(&asked);
        let meant = self.all().filter(|(entry, model)| is_among(entry, model, &names));
        let models: Vec<Chosen> = meant.map(|(entry, model)| self.chosen(caller, entry, model)).collect();
        if !models.is_empty() && models.iter().all(|chosen| !chosen.is_granted) {
            if is_word {
                return Err(TurnError::NotGranted { asked: asked.to_owned() });
            }
            return Err(TurnError::UnknownModel { model: asked.to_owned() });
        }
        if models.is_empty() {
            // A provider that is there and has not told its models yet is another matter than a name that nobody has.
            if let Some(entry) = self.waiting(caller, &names) {
                let name = &entry.settings.name;
                let reason = match self.trouble(entry) {
                    Some(trouble) => format!("the model of {name} does not run: {trouble}"),
                    None => format!("the provider {name} has not told its models yet"),
                };
                let last = holdfast_llm::CallError::new(holdfast_llm::ErrorKind::Refused, reason);
                return Err(TurnError::Failed { last, attempts: 0 });
            }
            return Err(TurnError::UnknownModel { model: asked.to_owned() });
        }
        let (policy, policy_name) = self.policies.get(policy);
        let by_rules = policy_name == PolicyName::Rules.as_str();
        Ok(Choice { asked: asked.to_owned(), models, policy, policy_name, by_rules, continues })
    }

    /// A provider that has not told its models yet, and may have what is asked for.
    fn waiting(&self, caller: &Caller, names: &[String]) -> Option<&Arc<Entry>> {
        let may_have = |entry: &Entry, name: &str| match name {
            AUTO => true,
            LOCAL => location(&entry.settings) == Location::Local,
            REMOTE => location(&entry.settings) == Location::Remote,
            name => name == entry.settings.name || name.strip_prefix(&format!("{}/", entry.settings.name)).is_some(),
        };
        let concerns = |entry: &&Arc<Entry>| {
            let is_meant = names.is_empty() || names.iter().any(|name| may_have(entry, name));
            is_meant
                && match caller.models() {
                    Grants::All | Grants::AllBut(_) => true,
                    Grants::Only(words) => words.iter().any(|word| may_have(entry, word)),
                }
        };
        self.entries.iter().filter(|entry| entry.models.is_empty()).find(concerns)
    }

    /// What a caller can ask for: words first, then models.
    pub(crate) fn infos(&self, caller: &Caller) -> Vec<ModelInfo> {
        let is_limited = *caller.models() != Grants::All;
        let granted: Vec<_> = self.all().filter(|(entry, model)| self.is_granted(caller, entry, model)).collect();
        if self.entries.is_empty() || is_limited && granted.is_empty() {
            return Vec::new();
        }
        let word = |name: &str| ModelInfo { name: name.to_owned(), provider: None, context_tokens: None, created_s: 0 };
        let mut words = vec![word(AUTO)];
        let has = |place| {
            let mut entries = self.entries.iter();
            let is_there = |entry: &Entry| location(&entry.settings) == place;
            // A provider that has not told its models yet counts for whoever may ask whatever it will have.
            if is_limited {
                granted.iter().any(|(entry, _)| is_there(entry))
            } else {
                entries.any(|entry| is_there(entry))
            }
        };
        words.extend(has(Location::Local).then(|| word(LOCAL)));
        words.extend(has(Location::Remote).then(|| word(REMOTE)));
        // An alias may give one of these words another meaning.
        let others = self.aliases.iter().filter(|(name, alias)| {
            let is_for_them = !is_limited || granted.iter().any(|(entry, model)| is_among(entry, model, &alias.of));
            is_for_them && ![AUTO, LOCAL, REMOTE].contains(&name.as_str())
        });
        words.extend(others.map(|(name, _)| word(name)));
        let models = granted.into_iter().map(|(entry, model)| ModelInfo {
            name: model.spec().name.clone(),
            provider: Some(entry.settings.name.clone()),
            context_tokens: model.spec().context_tokens,
            created_s: entry.created_at_ms / 1_000,
        });
        words.into_iter().chain(models).collect()
    }
}

/// Whether a model is among those that names stand for; where there are no names, all are.
fn is_among(entry: &Entry, model: &Model, names: &[String]) -> bool {
    names.is_empty() || names.iter().any(|name| is_called(entry, model, name))
}

/// Whether a name means this model: where it is, or `provider/model`, the model's own name, or its provider's. The words
/// come first, so that what is asked of `local` stays here whatever a provider elsewhere calls itself or its models.
fn is_called(entry: &Entry, model: &Model, name: &str) -> bool {
    let spec = model.spec();
    match name {
        AUTO => true,
        LOCAL => spec.location == Location::Local,
        REMOTE => spec.location == Location::Remote,
        _ => spec.name == name || spec.upstream == name || entry.settings.name == name,
    }
}

/// Where a provider counts as being: by its own word, or by its address.
pub(crate) fn location(settings: &ProviderSettings) -> Location {
    match settings.location {
        Some(Place::Local) => Location::Local,
        Some(Place::Remote) => Location::Remote,
        None if settings.run.is_some() => Location::Local,
        None if settings.url.as_deref().is_some_and(is_near) => Location::Local,
        None => Location::Remote,
    }
}

/// Whether an address is on this machine or in a private network, by what is written.
fn is_near(url: &str) -> bool {
    let host = host_of(url);
    if host == "localhost" || host.ends_with(".localhost") || host.ends_with(".local") {
        return true;
    }
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(std::net::IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(std::net::IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => false,
    }
}

fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.starts_with('[') {
        true => host.split_inclusive(']').next().unwrap_or_default(),
        false => host.split(':').next().unwrap_or_default(),
    }
}

/// Whether a provider or an alias can be called so.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && name.as_bytes()[0].is_ascii_alphanumeric()
}

impl ProviderSettings {
    /// Where it counts as being: by its own word, or by its address.
    pub fn place(&self) -> Place {
        match location(self) {
            Location::Local => Place::Local,
            Location::Remote => Place::Remote,
        }
    }

    /// What is wrong with it, if anything.
    pub fn check(&self) -> Result<(), TurnError> {
        let invalid = |field: &str, problem: &str| {
            Err(TurnError::Invalid { field: field.to_owned(), problem: problem.to_owned() })
        };
        if !is_name(&self.name) {
            return invalid(
                "name",
                "must be 1 to 64 of the characters A-Z, a-z, 0-9, -, _ and ., and begin with one of the first",
            );
        }
        if RESERVED.contains(&self.name.as_str()) {
            return invalid("name", "stands for several models");
        }
        match (&self.url, &self.run) {
            (None, None) => return invalid("url", "is needed, or a model's file to run"),
            (Some(_), Some(_)) => return invalid("url", "is chosen by itself for a model that runs here"),
            _ => {}
        }
        if let Some(url) = &self.url {
            let is_web = url.starts_with("http://") || url.starts_with("https://");
            if !is_web || host_of(url).is_empty() || url.contains(char::is_whitespace) {
                return invalid("url", "must begin with http:// or https:// and name a host");
            }
            if url.contains('@') {
                return invalid("url", "must not have a user or password in it; put the key into a file");
            }
            if url.starts_with("http://") && self.key_file.is_some() && !is_near(url) {
                return invalid("url", "would be sent the key where others can read it on the way; use https://");
            }
        }
        if self.models.len() > 1_000 {
            return invalid("models", "must be at most 1000");
        }
        if self.models.iter().any(|model| model.name.is_empty() || model.name.len() > 256) {
            return invalid("models", "must each have a name of 1 to 256 bytes");
        }
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.run.is_some() && !(self.name.len() <= 50 && self.name.bytes().all(is_plain)) {
            return invalid("name", "must be 1 to 50 of a-z, 0-9 and - for a model that runs here");
        }
        if self.run.as_ref().is_some_and(|run| run.command.first().is_some_and(String::is_empty)) {
            return invalid("command", "must name a program");
        }
        if self.concurrency.is_some_and(|places| !(1..=4_096).contains(&places)) {
            return invalid("concurrency", "must be 1 to 4096");
        }
        Ok(())
    }
}

/// The price of a model by its name, or by its provider's and its name.
pub(crate) fn price_of(prices: &BTreeMap<String, Price>, provider: &str, model: &str) -> Option<Price> {
    prices.get(&format!("{provider}/{model}")).or_else(|| prices.get(model)).copied()
}

/// How long a provider that did not tell its models is left alone.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> ProviderSettings {
        ProviderSettings {
            name: "p".into(),
            api: Api::OpenAi,
            url: Some(url.into()),
            key_file: None,
            ca_file: None,
            location: None,
            models: Vec::new(),
            run: None,
            concurrency: None,
            by_key: false,
        }
    }

    #[test]
    fn what_is_near_counts_as_local() {
        for near in [
            "http://127.0.0.1:11434/v1",
            "http://localhost:8080",
            "http://[::1]:8080/v1",
            "http://192.168.1.7:8000/v1",
            "http://box.local/v1",
        ] {
            assert_eq!(location(&settings(near)), Location::Local, "{near}");
        }
        for far in ["https://api.openai.com/v1", "https://127.0.0.1.example.org/v1", "https://8.8.8.8/v1"] {
            assert_eq!(location(&settings(far)), Location::Remote, "{far}");
        }
        let said = ProviderSettings { location: Some(Place::Remote), ..settings("http://127.0.0.1:1/v1") };
        assert_eq!(location(&said), Location::Remote);
    }

    #[test]
    fn what_could_never_work_is_refused() {
        let problem = |settings: ProviderSettings| match settings.check() {
            Err(TurnError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert!(settings("http://127.0.0.1:1/v1").check().is_ok());
        assert_eq!(problem(ProviderSettings { name: "a b".into(), ..settings("http://x/v1") }), "name");
        assert_eq!(problem(ProviderSettings { name: "auto".into(), ..settings("http://x/v1") }), "name");
        for bad in ["ftp://x", "http://", "x", "https://user:pass@x/v1", "http://a b/"] {
            assert_eq!(problem(settings(bad)), "url", "{bad}");
        }
        let key_file = Some(PathBuf::from("/k"));
        assert_eq!(
            problem(ProviderSettings { key_file: key_file.clone(), ..settings("http://example.org/v1") }),
            "url"
        );
        assert!(ProviderSettings { key_file, ..settings("http://127.0.0.1:1/v1") }.check().is_ok());
        assert_eq!(problem(ProviderSettings { url: None, ..settings("x") }), "url");
    }
}
