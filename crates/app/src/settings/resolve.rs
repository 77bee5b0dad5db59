//! From values to settings: types, bounds and clashes.
//!
//! Each setting is read once, by its key. A value that cannot be used is noted and replaced by its default, so that one
//! run finds everything that is wrong.

mod llm;

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use holdfast_embedding::{ModelSource, Precision};
use holdfast_knowledge::Watch;
use holdfast_server::{LimitsConfig, ProxyHeader, Rate, tls::Files};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use toml::Value;
use tracing::level_filters::LevelFilter;

use super::{
    Layers, LocalModels, LogFileLimits, LogFormat, LogSettings, OtlpSettings, Problem, Problems, Profile, SecretSource,
    Settings, absolute, environment,
};

/// 1 GiB: no limit of ours is sensibly above it.
const GIBIBYTE: u64 = 1 << 30;
/// More than any machine this is for has.
const THREADS_MAX: u64 = 1024;

/// The words for how important a line is.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// More modules than there are.
const MODULE_LEVELS_MAX: usize = 100;
/// The usual port of HTTPS for those who are not the administrator.
const TLS_PORT: u16 = 8443;

/// What a value must be, in words, and what it becomes.
type Check<'a, T, U> = &'a dyn Fn(T) -> Result<U, Wrong>;

/// Why a value cannot be used.
struct Wrong {
    what: String,
    remedy: String,
}

impl Wrong {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

/// Checks every value of the layers.
pub fn resolve(layers: &Layers) -> Result<Settings, Problems> {
    let mut reader = Reader { layers, problems: layers.problems().to_vec(), read: Vec::new() };
    let settings = reader.settings();
    match settings {
        Some(settings) if reader.problems.is_empty() => Ok(settings),
        _ => {
            // In the order in which somebody comes upon them: a file from its beginning.
            reader.problems.sort_by_key(|problem| problem.origin.place());
            Err(Problems(reader.problems))
        }
    }
}

struct Reader<'a> {
    layers: &'a Layers,
    problems: Vec<Problem>,
    /// Which keys were read; a test compares them with the keys there are.
    read: Vec<&'static str>,
}

impl Reader<'_> {
    /// Nothing only where a default could not be used either, which is then among the problems.
    fn settings(&mut self) -> Option<Settings> {
        self.profile();
        let listen = self.get("server.listen", &address);
        let listen_tls = self.get("server.listen_tls", &tls_address);
        self.listeners(listen, listen_tls.flatten());
        let tls = self.tls();
        let server = self.server();
        let is_open = [listen, listen_tls.flatten()].into_iter().flatten().any(|address| !address.ip().is_loopback());
        let is_unlimited = server.as_ref().is_some_and(|server| !server.limits.enabled);
        self.clash("limits.enabled", is_open && is_unlimited, || {
            Wrong::new("is false, and other machines can reach the server", "switch limits off on loopback only")
        });
        let models = self.models();
        let kept_embeddings_bytes = self.number("models.cache_disk_bytes", 0..=1024 * GIBIBYTE);
        let knowledge = self.knowledge();
        let turns = self.turns();
        let discover_providers = self.discover_providers();
        let events = self.events();
        let log = self.log();
        let otlp = self.otlp();
        let metrics_listen = self.get("telemetry.metrics_listen", &metrics_address);
        Some(Settings {
            listen: listen?,
            listen_tls: listen_tls?,
            metrics_listen: metrics_listen?,
            tls: tls?,
            server: server?,
            models: models?,
            kept_embeddings_bytes: kept_embeddings_bytes?,
            knowledge: knowledge?,
            turns: turns?,
            discover_providers: discover_providers?,
            events: events?,
            local_models: LocalModels::Run,
            log: log?,
            otlp: otlp?,
        })
    }

    /// What other machines can reach is encrypted, or says where that is.
    fn listeners(&mut self, listen: Option<SocketAddr>, listen_tls: Option<SocketAddr>) {
        let redirects = self.get("server.redirect_http", &Ok::<bool, Wrong>) == Some(true);
        self.clash("server.redirect_http", redirects && listen_tls.is_none(), || {
            Wrong::new(
                "is true, but there is nowhere to redirect to",
                "set server.listen_tls, for example to 0.0.0.0:8443",
            )
        });
        let Some(listen) = listen else { return };
        self.clash("server.listen", !listen.ip().is_loopback() && !redirects, || {
            Wrong::new(
                format!("is {listen}, which other machines can reach without encryption"),
                "listen on 127.0.0.1 here and set server.listen_tls for other machines; with server.redirect_http = true this address only sends them there",
            )
        });
        self.clash("server.listen_tls", listen_tls == Some(listen) && listen.port() != 0, || {
            Wrong::new(format!("is {listen}, the same as server.listen"), "give it another port, for example 8443")
        });
    }

    fn tls(&mut self) -> Option<Option<Files>> {
        let certificate = self.get("tls.certificate_file", &optional_file)?;
        let key = self.get("tls.key_file", &optional_file)?;
        self.clash("tls.certificate_file", certificate.is_some() && key.is_none(), || {
            Wrong::new("names a certificate without its key", "name the key with tls.key_file")
        });
        self.clash("tls.key_file", certificate.is_none() && key.is_some(), || {
            Wrong::new("names a key without its certificate", "name the certificate with tls.certificate_file")
        });
        Some(certificate.zip(key).map(|(certificate, key)| Files { certificate, key }))
    }

    fn server(&mut self) -> Option<holdfast_server::Config> {
        let max_body_bytes = self.number("server.max_body_bytes", 1024..=GIBIBYTE);
        let request_timeout_s = self.number("server.request_timeout_s", 1..=3600);
        let max_concurrent_requests = self.number("server.max_concurrent_requests", 1..=65_536);
        let max_connections = self.number("server.max_connections", 16..=65_536);
        let client_timeout_s = self.number("server.client_timeout_s", 1..=600);
        self.room_for_probes(max_connections, max_concurrent_requests);
        let client_timeout = Duration::from_secs(client_timeout_s?);
        let limits = self.limits();
        let allowed_hosts = self.get("server.allowed_hosts", &|words| each(words, host_name));
        let allowed_origins = self.get("server.allowed_origins", &|words| each(words, origin));
        let trusted_proxies = self.get("server.trusted_proxies", &|words| each(words, address_range));
        let proxy_header = self.get("server.proxy_header", &|word: String| match word.as_str() {
            "x-forwarded-for" => Ok(ProxyHeader::XForwardedFor),
            "forwarded" => Ok(ProxyHeader::Forwarded),
            _ => Err(one_of(&word, &["x-forwarded-for", "forwarded"])),
        });
        Some(holdfast_server::Config {
            max_body_bytes: size(max_body_bytes?),
            request_timeout: Duration::from_secs(request_timeout_s?),
            max_concurrent_requests: size(max_concurrent_requests?),
            max_connections: size(max_connections?),
            header_timeout: client_timeout,
            body_timeout: client_timeout,
            stall_timeout: client_timeout,
            limits: limits?,
            allowed_hosts: allowed_hosts?,
            allowed_origins: allowed_origins?,
            trusted_proxies: trusted_proxies?,
            proxy_header: proxy_header?,
            ..holdfast_server::Config::default()
        })
    }

    /// What is being worked on never gives way, so a probe would find every connection taken.
    fn room_for_probes(&mut self, connections: Option<u64>, requests: Option<u64>) {
        let Some((connections, requests)) = connections.zip(requests) else { return };
        self.clash("server.max_connections", connections <= requests, || {
            Wrong::new(
                format!("is {connections}, no more than server.max_concurrent_requests, {requests}: a health probe would find every connection taken"),
                format!("give {} or more, or lower server.max_concurrent_requests", requests + 1),
            )
        });
    }

    fn limits(&mut self) -> Option<LimitsConfig> {
        let enabled = self.get("limits.enabled", &Ok::<bool, Wrong>);
        let key_requests = self.rate("limits.key_requests_per_second", "limits.key_requests_burst");
        let address_requests = self.rate("limits.address_requests_per_second", "limits.address_requests_burst");
        let key_texts = self.rate("limits.key_texts_per_second", "limits.key_texts_burst");
        let address_texts = self.rate("limits.address_texts_per_second", "limits.address_texts_burst");
        let key_concurrent_requests = self.number("limits.key_concurrent_requests", 1..=65_536);
        let failed_keys_per_minute = self.number("limits.failed_keys_per_minute", 1..=1_000_000);
        Some(LimitsConfig {
            enabled: enabled?,
            key_requests: key_requests?,
            address_requests: address_requests?,
            key_texts: key_texts?,
            address_texts: address_texts?,
            key_concurrent_requests: size(key_concurrent_requests?),
            failed_keys_per_minute: u32::try_from(failed_keys_per_minute?).ok()?,
        })
    }

    fn rate(&mut self, per_second: &'static str, burst: &'static str) -> Option<Rate> {
        let per_second = self.number(per_second, 1..=1_000_000_000);
        let burst = self.number(burst, 1..=1_000_000_000_000);
        Some(Rate { per_second: u32::try_from(per_second?).ok()?, burst: burst? })
    }

    fn models(&mut self) -> Option<holdfast_embedding::Config> {
        let default_model = self.get("models.default", &not_empty);
        let sources = self.get("models.sources", &model_sources);
        let hub_endpoint = self.get("models.hub_endpoint", &web_address);
        let precision = self.get("models.precision", &precision);
        let threads = self.number("models.threads", 0..=THREADS_MAX);
        let batch_tokens = self.number("models.batch_tokens", 0..=1 << 20);
        let deadline_s = self.number("models.deadline_s", 1..=3600);
        let max_queued_texts = self.number("models.max_queued_texts", 1..=1 << 20);
        let cache_bytes = self.number("models.cache_bytes", 0..=64 * GIBIBYTE);
        let max_memory_mb = self.number("models.max_memory_mb", 0..=1 << 20);
        let hub_token = self.secret("models.hub_token", "models.hub_token_file");
        if let Some(endpoint) = &hub_endpoint {
            self.clash("models.hub_endpoint", hub_token.is_some() && !is_safe_for_secrets(endpoint), || {
                Wrong::new("would be sent the token where others can read it on the way", "use https://")
            });
        }
        Some(holdfast_embedding::Config {
            default_model: default_model?,
            sources: sources?,
            hub_endpoint: hub_endpoint?,
            hub_token,
            precision: precision?,
            threads: size(threads?),
            batch_tokens: size(batch_tokens?),
            deadline: Duration::from_secs(deadline_s?),
            max_queued_texts: size(max_queued_texts?),
            cache_bytes: cache_bytes?,
            max_memory_bytes: max_memory_mb? * 1_000_000,
            ..holdfast_embedding::Config::default()
        })
    }

    fn knowledge(&mut self) -> Option<holdfast_knowledge::Config> {
        let max_file_bytes = self.number("knowledge.max_file_bytes", 1..=GIBIBYTE);
        let watch = self.get("knowledge.watch", &Ok::<bool, Wrong>);
        let target_tokens = self.number("knowledge.chunk_target_tokens", 16..=8192);
        let max_tokens = self.number("knowledge.chunk_max_tokens", 16..=8192);
        let overlap_tokens = self.number("knowledge.chunk_overlap_tokens", 0..=4096);
        let cache_bytes = self.number("knowledge.search_cache_bytes", 0..=64 * GIBIBYTE);
        let (target_tokens, max_tokens, overlap_tokens) = (target_tokens?, max_tokens?, overlap_tokens?);
        self.clash("knowledge.chunk_target_tokens", target_tokens > max_tokens, || {
            Wrong::new(
                format!("is {target_tokens}, more than knowledge.chunk_max_tokens, {max_tokens}"),
                "lower it, or raise knowledge.chunk_max_tokens",
            )
        });
        self.clash("knowledge.chunk_overlap_tokens", overlap_tokens * 2 > target_tokens, || {
            Wrong::new(
                format!("is {overlap_tokens}, more than half of knowledge.chunk_target_tokens, {target_tokens}"),
                "lower it, or raise knowledge.chunk_target_tokens",
            )
        });
        let mut config = holdfast_knowledge::Config::default();
        config.files.max_file_bytes = max_file_bytes?;
        config.watch = if watch? { Watch::Yes } else { Watch::No };
        config.split.target_tokens = size(target_tokens);
        config.split.max_tokens = size(max_tokens);
        config.split.overlap_tokens = size(overlap_tokens);
        config.search_cache_bytes = cache_bytes?;
        Some(config)
    }

    fn log(&mut self) -> Option<LogSettings> {
        let level = self.get("log.level", &|word: String| {
            // A number would do for the parser, but says nothing to a reader.
            let level = LEVELS.contains(&word.as_str()).then(|| word.parse::<tracing::Level>().ok()).flatten();
            level.ok_or_else(|| one_of(&word, &LEVELS))
        });
        let levels = self.get("log.levels", &module_levels);
        let format = self.get("log.format", &|word: String| match word.as_str() {
            "auto" => Ok(LogFormat::Auto),
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(one_of(&word, &["auto", "text", "json"])),
        });
        let is_written = self.get("log.file", &Ok::<bool, Wrong>);
        let max_file_bytes = self.number("log.max_file_bytes", 65_536..=GIBIBYTE);
        let max_files = self.number("log.max_files", 0..=1_000);
        let max_age_days = self.number("log.max_age_days", 1..=3_650);
        let max_total_bytes = self.number("log.max_total_bytes", 65_536..=1024 * GIBIBYTE);
        let (max_file_bytes, max_total_bytes) = (max_file_bytes?, max_total_bytes?);
        self.clash("log.max_total_bytes", max_total_bytes < max_file_bytes, || {
            Wrong::new(
                format!("is {max_total_bytes}, less than log.max_file_bytes, {max_file_bytes}"),
                "raise it, or lower log.max_file_bytes",
            )
        });
        let limits = LogFileLimits {
            max_file_bytes,
            max_files: max_files?,
            max_age: Duration::from_secs(max_age_days? * 24 * 60 * 60),
            max_total_bytes,
        };
        Some(LogSettings { level: level?, levels: levels?, format: format?, file: is_written?.then_some(limits) })
    }

    /// Only looked at: the layers have chosen the one that counts.
    fn profile(&mut self) {
        self.get("profile", &|word: String| {
            Profile::from_word(&word).ok_or_else(|| one_of(&word, &Profile::ALL.map(Profile::as_str)))
        });
    }

    /// A secret from the environment, or from where a setting says.
    fn secret(&mut self, key: &'static str, file_key: &'static str) -> Option<SecretString> {
        let source = self
            .get(file_key, &|text: String| SecretSource::of(&text).map_err(|(what, remedy)| Wrong { what, remedy }))?;
        let Some(source) = source else { return self.layers.secret(key).cloned() };
        self.clash(file_key, self.layers.secret(key).is_some(), || {
            Wrong::new(format!("is set, and {} is too", environment::name_of(key)), "remove one of the two")
        });
        match source.read(self.layers.input()) {
            Ok(secret) => secret,
            Err((what, remedy)) => {
                self.problem(file_key, Wrong { what, remedy });
                None
            }
        }
    }

    fn otlp(&mut self) -> Option<OtlpSettings> {
        let endpoint = self.get("telemetry.otlp_endpoint", &|text: String| match text.as_str() {
            "" => Ok(None),
            _ => web_address(text).map(Some),
        });
        let trace_ratio = self.get("telemetry.trace_ratio", &|ratio: f64| {
            let is_one = (0.0..=1.0).contains(&ratio);
            is_one.then_some(ratio).ok_or_else(|| Wrong::new(format!("is {ratio}"), "give a number from 0 to 1"))
        });
        Some(OtlpSettings { endpoint: endpoint?, trace_ratio: trace_ratio? })
    }

    /// A whole number within bounds.
    fn number(&mut self, key: &'static str, bounds: RangeInclusive<u64>) -> Option<u64> {
        self.get(key, &|value: i64| match u64::try_from(value) {
            Ok(number) if bounds.contains(&number) => Ok(number),
            _ => {
                let remedy = format!("give a whole number from {} to {}", bounds.start(), bounds.end());
                Err(Wrong::new(format!("is {value}"), remedy))
            }
        })
    }

    /// A value as it should be. Where it is not, that is noted and the default taken.
    fn get<T: DeserializeOwned, U>(&mut self, key: &'static str, check: Check<'_, T, U>) -> Option<U> {
        self.read.push(key);
        let (value, default) = (self.layers.value(key), self.layers.default_value(key));
        let wrong = match value.zip(default.as_ref()).map(|(value, default)| checked(&value, default, check)) {
            Some(Ok(value)) => return Some(value),
            Some(Err(wrong)) => wrong,
            None => Wrong::new("is missing", "this is a defect of the program; please report it"),
        };
        self.problem(key, wrong);
        let default = default?;
        checked(&default, &default, check).ok()
    }

    fn clash(&mut self, key: &'static str, clashes: bool, wrong: impl FnOnce() -> Wrong) {
        if clashes {
            self.problem(key, wrong());
        }
    }

    fn problem(&mut self, key: &str, wrong: Wrong) {
        let Wrong { what, remedy } = wrong;
        self.problems.push(Problem { key: Some(key.to_owned()), origin: self.layers.origin(key), what, remedy });
    }
}

/// A value of the kind that its default has, checked.
fn checked<T: DeserializeOwned, U>(value: &Value, default: &Value, check: Check<'_, T, U>) -> Result<U, Wrong> {
    // A whole number is a number, and words with commas between them are a list.
    let is_meant =
        matches!((value, default), (Value::Integer(_), Value::Float(_)) | (Value::String(_), Value::Array(_)));
    if !is_meant && !value.same_type(default) {
        let (is, belongs) = (kind(value), kind(default));
        return Err(Wrong::new(
            format!("is {is} where {belongs} belongs"),
            format!("give {belongs}, for example {default}"),
        ));
    }
    match value.clone().try_into::<T>() {
        Ok(typed) => check(typed),
        Err(error) => Err(Wrong::new(error.message().to_owned(), "docs/CONFIG.md shows what it may be")),
    }
}

/// What a value is, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// Configured limits fit the machine's word; what does not is cut off at its end.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn one_of(word: &str, words: &[&str]) -> Wrong {
    Wrong::new(format!("is {word:?}"), format!("give one of {}", words.join(", ")))
}

fn not_empty(text: String) -> Result<String, Wrong> {
    if text.trim().is_empty() {
        return Err(Wrong::new("is empty", "give a name; `holdfast models list` shows some"));
    }
    Ok(text)
}

/// The arithmetic of the encoder.
fn precision(word: String) -> Result<Precision, Wrong> {
    match word.as_str() {
        "int8" => Ok(Precision::Int8),
        "f32" => Ok(Precision::F32),
        _ => Err(Wrong::new(format!("is {word:?}"), "use \"int8\" or \"f32\"")),
    }
}

/// An address and a port.
fn address(text: String) -> Result<SocketAddr, Wrong> {
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    named
        .as_deref()
        .unwrap_or(&text)
        .parse()
        .map_err(|_| Wrong::new(format!("is {text:?}"), "give an address and a port, for example 127.0.0.1:8088"))
}

/// The same, or nothing; without a port it is the usual one.
fn tls_address(text: String) -> Result<Option<SocketAddr>, Wrong> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Some((address, TLS_PORT).into()));
    }
    let remedy = "give an address and a port, for example 0.0.0.0:8443";
    address(text).map(Some).map_err(|wrong| Wrong::new(wrong.what, remedy))
}

/// An address of this machine alone, or nothing.
fn metrics_address(text: String) -> Result<Option<SocketAddr>, Wrong> {
    if text.is_empty() {
        return Ok(None);
    }
    let remedy = "give an address of loopback and a port, for example 127.0.0.1:9464; for other machines there is /metrics, with a key";
    match address(text) {
        Ok(address) if address.ip().is_loopback() => Ok(Some(address)),
        Ok(address) => Err(Wrong::new(format!("is {address}, which other machines can reach without a key"), remedy)),
        Err(wrong) => Err(Wrong::new(wrong.what, remedy)),
    }
}

/// A file, or nothing.
fn optional_file(text: String) -> Result<Option<PathBuf>, Wrong> {
    if text.is_empty() {
        return Ok(None);
    }
    match absolute(&text) {
        Some(path) => Ok(Some(path)),
        None => Err(Wrong::new(format!("names the file {text:?}"), "give an absolute path")),
    }
}

fn web_address(text: String) -> Result<String, Wrong> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    if rest.and_then(|rest| rest.split('/').next()).is_some_and(|authority| authority.contains('@')) {
        // It is not repeated: what stands before the @ is likely a password.
        return Err(Wrong::new("has a name or password in it", "leave it out; models.hub_token_file can name a token"));
    }
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(Wrong::new(format!("is {text:?}"), "give an address that begins with https:// or http://")),
    }
}

/// Whether nobody on the way can read what is sent there.
fn is_safe_for_secrets(address: &str) -> bool {
    let Some(rest) = address.strip_prefix("http://") else { return true };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// `MODULE=LEVEL` each.
fn module_levels(words: Words) -> Result<Vec<(String, LevelFilter)>, Wrong> {
    let words = words.into_list();
    if words.len() > MODULE_LEVELS_MAX {
        return Err(Wrong::new(format!("has {} entries", words.len()), format!("give at most {MODULE_LEVELS_MAX}")));
    }
    words.iter().map(|word| module_level(word)).collect()
}

fn module_level(word: &str) -> Result<(String, LevelFilter), Wrong> {
    let is_module =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte));
    let (module, level) = match word.split_once('=') {
        Some((module, level)) if is_module(module.trim()) => (module.trim(), level.trim()),
        _ => {
            let remedy = "give MODULE=LEVEL, for example holdfast_storage=debug; the log shows modules as `target`";
            return Err(Wrong::new(format!("has {word:?}"), remedy));
        }
    };
    match level {
        "off" => Ok((module.to_owned(), LevelFilter::OFF)),
        level => {
            let parsed = LEVELS.contains(&level).then(|| level.parse().ok()).flatten();
            let wrong = || Wrong::new(format!("has {word:?}"), format!("give one of {}, off", LEVELS.join(", ")));
            parsed.map(|level| (module.to_owned(), level)).ok_or_else(wrong)
        }
    }
}

/// A list, or words with commas between them as an environment variable has.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Words {
    List(Vec<String>),
    Line(String),
}

impl Words {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::List(words) => words,
            Self::Line(line) if line.trim().is_empty() => Vec::new(),
            Self::Line(line) => line.split(',').map(|word| word.trim().to_owned()).collect(),
        }
    }
}

fn model_sources(words: Words) -> Result<Vec<ModelSource>, Wrong> {
    each(words, model_source)
}

/// What each of some words stands for. An empty line has none.
fn each<T>(words: Words, read: impl Fn(&str) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
    words.into_list().iter().map(|word| read(word)).collect()
}

/// A host's name as browsers send it.
fn host_name(word: &str) -> Result<String, Wrong> {
    let is_name = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if is_name && (1..=253).contains(&word.len()) {
        return Ok(word.trim_end_matches('.').to_ascii_lowercase());
    }
    Err(Wrong::new(format!("has {word:?}"), "give names without port or wildcard, for example \"kb.example.org\""))
}

/// Where pages come from, as browsers send it: a scheme, a name, and the port if it is not the usual one.
fn origin(word: &str) -> Result<String, Wrong> {
    match word.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && !rest.is_empty() && !rest.contains(['/', '*', '?', '#', ' ']) => {
            Ok(word.to_ascii_lowercase())
        }
        _ => Err(Wrong::new(format!("has {word:?}"), "give origins, for example \"https://app.example.org\"")),
    }
}

/// One address, or a range.
fn address_range<T: std::str::FromStr + From<IpAddr>>(word: &str) -> Result<T, Wrong> {
    let single = || word.parse::<IpAddr>().ok().map(T::from);
    word.parse().ok().or_else(single).ok_or_else(|| {
        Wrong::new(format!("has {word:?}"), "give addresses or ranges, for example \"10.0.0.5\" or \"10.0.0.0/8\"")
    })
}

/// One source of model files, as settings and flags write it.
fn model_source(word: &str) -> Result<ModelSource, Wrong> {
    if let Some(folder) = word.strip_prefix("folder:") {
        return folder_source(folder);
    }
    match word {
        "hub" => Ok(ModelSource::Hub),
        "pip" => Ok(ModelSource::PythonPackage),
        _ => Err(one_of(word, &["hub", "pip", "folder:PATH"])),
    }
}

fn folder_source(folder: &str) -> Result<ModelSource, Wrong> {
    match absolute(folder) {
        Some(path) => Ok(ModelSource::Folder(path)),
        None => Err(Wrong::new(format!("names the folder {folder:?}"), "give an absolute path")),
    }
}

impl Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::layers::from_text, *};
    use crate::settings::{Flags, Origin};

    fn problems(text: &str) -> Vec<Problem> {
        from_text(text, &Flags::default()).settings().unwrap_err().0
    }

    pub(super) fn check(text: &str, key: &str, what: &str, remedy: &str) {
        let problems = problems(text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].key.as_deref(), Some(key));
        assert!(problems[0].what.contains(what), "{problems:?}");
        assert!(problems[0].remedy.contains(remedy), "{problems:?}");
        assert!(matches!(problems[0].origin, Origin::File { .. }));
    }

    #[test]
    fn the_defaults_can_be_used_and_each_is_read() {
        let layers = from_text("", &Flags::default());
        let mut reader = Reader { layers: &layers, problems: Vec::new(), read: Vec::new() };
        assert!(reader.settings().is_some());
        assert_eq!(reader.problems, []);
        let mut read = reader.read;
        read.sort_unstable();
        let there: Vec<_> = layers.entries().into_iter().map(|(key, ..)| key).collect();
        assert_eq!(read, there);
    }

    #[test]
    fn a_default_here_is_the_components_own() {
        let settings = from_text("", &Flags::default()).settings().unwrap();
        let (server, models) = (holdfast_server::Config::default(), holdfast_embedding::Config::default());
        let knowledge = holdfast_knowledge::Config::default();
        assert_eq!(settings.server.max_body_bytes, server.max_body_bytes);
        assert_eq!(settings.server.request_timeout, server.request_timeout);
        assert_eq!(settings.server.max_concurrent_requests, server.max_concurrent_requests);
        assert_eq!(settings.server.max_connections, server.max_connections);
        assert_eq!(settings.server.header_timeout, server.header_timeout);
        assert_eq!(settings.server.body_timeout, server.body_timeout);
        assert_eq!(settings.server.stall_timeout, server.stall_timeout);
        assert_eq!(settings.server.limits, server.limits);
        assert_eq!(settings.server.allowed_hosts, server.allowed_hosts);
        assert_eq!(settings.server.allowed_origins, server.allowed_origins);
        assert_eq!(settings.server.trusted_proxies, server.trusted_proxies);
        assert_eq!(settings.server.proxy_header, server.proxy_header);
        assert_eq!(settings.models.default_model, models.default_model);
        assert_eq!(settings.models.sources, models.sources);
        assert_eq!(settings.models.precision, models.precision);
        assert_eq!(settings.models.batch_tokens, models.batch_tokens);
        assert_eq!(settings.models.deadline, models.deadline);
        assert_eq!(settings.models.max_queued_texts, models.max_queued_texts);
        assert_eq!(settings.models.cache_bytes, models.cache_bytes);
        assert_eq!(settings.models.max_memory_bytes, models.max_memory_bytes);
        assert_eq!(settings.models.hub_endpoint, models.hub_endpoint);
        assert_eq!(settings.knowledge.files, knowledge.files);
        assert_eq!(settings.knowledge.split, knowledge.split);
        assert_eq!(settings.knowledge.watch, knowledge.watch);
        assert_eq!(settings.knowledge.search_cache_bytes, knowledge.search_cache_bytes);
    }

    #[test]
    fn each_kind_of_mistake_is_told_with_its_remedy() {
        check("[server]\nlisten = 'x'", "server.listen", "is \"x\"", "127.0.0.1:8088");
        check("[server]\nlisten = '0.0.0.0:80'", "server.listen", "without encryption", "server.listen_tls");
        check("[server]\nlisten_tls = 'x'", "server.listen_tls", "is \"x\"", "0.0.0.0:8443");
        check("[server]\nlisten_tls = '127.0.0.1:8088'", "server.listen_tls", "the same", "another port");
        check(
            "[server]\nlisten_tls = '0.0.0.0:1'\n[limits]\nenabled = false",
            "limits.enabled",
            "other machines",
            "loopback",
        );
        check("[server]\nredirect_http = true", "server.redirect_http", "nowhere", "server.listen_tls");
        check("[server]\nmax_connections = 256", "server.max_connections", "every connection taken", "257 or more");
        check("[server]\nclient_timeout_s = 0", "server.client_timeout_s", "is 0", "from 1 to 600");
        check("[tls]\ncertificate_file = 'a.pem'", "tls.certificate_file", "\"a.pem\"", "absolute");
        check("[tls]\ncertificate_file = '/a.pem'", "tls.certificate_file", "without its key", "tls.key_file");
        check("[tls]\nkey_file = '/a.pem'", "tls.key_file", "without its certificate", "tls.certificate_file");
        check("[server]\nlisten = 8088", "server.listen", "is a whole number where text belongs", "127.0.0.1:8088");
        check(
            "[server]\nmax_body_bytes = '1'",
            "server.max_body_bytes",
            "is text where",
            "a whole number, for example 16777216",
        );
        check("[models]\nsources = [1]", "models.sources", "did not match", "CONFIG.md");
        check("[server]\nlistn = 'x'", "server.listn", "is not a setting", "did you mean server.listen?");
        check("server = 3", "server", "is a section", "config show");
        check("[server.listen]\nport = 1", "server.listen.port", "is not a setting", "server.listen");
        check("[server]\nrequest_timeout_s = -1", "server.request_timeout_s", "is -1", "from 1 to 3600");
        check("[models]\nsources = ['ftp']", "models.sources", "\"ftp\"", "pip");
        check("[models]\nsources = ['folder:x']", "models.sources", "\"x\"", "absolute");
        check("[models]\nprecision = 'int4'", "models.precision", "\"int4\"", "f32");
        check("[models]\nhub_endpoint = 'x'", "models.hub_endpoint", "\"x\"", "https://");
        check("[models]\nhub_endpoint = 'https://me:pw@x'", "models.hub_endpoint", "password in it", "hub_token_file");
        check("[models]\nhub_token_file = 'x'", "models.hub_token_file", "\"x\"", "absolute path");
        check("[models]\nhub_token_file = '/no/such'", "models.hub_token_file", "cannot be read", "can read");
        check("profile = 'test'", "profile", "\"test\"", "dev, staging, prod");
        check("[log]\nlevels = ['x']", "log.levels", "\"x\"", "MODULE=LEVEL");
        check("[log]\nlevels = ['x=loud']", "log.levels", "x=loud", "error, warn");
        check("[log]\nmax_file_bytes = 1", "log.max_file_bytes", "is 1", "65536");
        check("[log]\nmax_total_bytes = 65536", "log.max_total_bytes", "less than", "lower");
        check("[telemetry]\notlp_endpoint = 'x'", "telemetry.otlp_endpoint", "\"x\"", "https://");
        check("[telemetry]\nmetrics_listen = '0.0.0.0:9'", "telemetry.metrics_listen", "without a key", "127.0.0.1");
        check("[telemetry]\nmetrics_listen = 'x'", "telemetry.metrics_listen", "is \"x\"", "127.0.0.1:9464");
        check("[telemetry]\ntrace_ratio = 1.5", "telemetry.trace_ratio", "is 1.5", "from 0 to 1");
        check("[server]\nallowed_hosts = ['a:1']", "server.allowed_hosts", "\"a:1\"", "without port");
        check("[server]\nallowed_origins = ['*']", "server.allowed_origins", "\"*\"", "https://");
        check("[server]\nallowed_origins = ['null']", "server.allowed_origins", "\"null\"", "https://");
        check("[server]\nallowed_origins = ['https://a/']", "server.allowed_origins", "https://a/", "https://");
        check("[server]\ntrusted_proxies = ['proxy']", "server.trusted_proxies", "\"proxy\"", "10.0.0.0/8");
        check("[server]\nproxy_header = 'via'", "server.proxy_header", "\"via\"", "forwarded");
        check("[limits]\nkey_requests_burst = 0", "limits.key_requests_burst", "is 0", "from 1");
        check("[log]\nlevel = 'loud'", "log.level", "\"loud\"", "error, warn");
        check("[knowledge]\nchunk_overlap_tokens = 150", "knowledge.chunk_overlap_tokens", "half", "lower");
        check("[knowledge]\nchunk_target_tokens = 300", "knowledge.chunk_target_tokens", "254", "raise");
    }

    #[test]
    fn there_is_a_connection_left_for_a_probe() {
        let found = problems("[server]\nmax_concurrent_requests = 1024");
        assert!(found.len() == 1 && found[0].key.as_deref() == Some("server.max_connections"), "{found:?}");
        from_text("[server]\nmax_connections = 65", &Flags::default()).settings().unwrap_err();
        let both = "[server]\nmax_connections = 65\nmax_concurrent_requests = 64";
        from_text(both, &Flags::default()).settings().unwrap();
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let found = problems("[server]\nlisten = 'x'\nmax_body_bytes = 0\n[log]\nlevel = 1\nformat = 'xml'");
        assert_eq!(found.len(), 4, "{found:?}");
    }

    #[test]
    fn a_file_that_is_not_toml_is_told_with_its_line() {
        let found = problems("[server\n");
        assert!(found[0].origin.to_string().ends_with("holdfast.toml:1"), "{found:?}");
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let (listen, listen_tls) = (Some("[::1]:9".into()), Some("0.0.0.0".into()));
        let flags = Flags { listen, listen_tls, ..Flags::default() };
        let layers = from_text("[server]\nlisten = '127.0.0.1:1'", &flags);
        let settings = layers.settings().unwrap();
        assert_eq!(settings.listen.to_string(), "[::1]:9");
        assert_eq!(settings.listen_tls.map(|address| address.to_string()).as_deref(), Some("0.0.0.0:8443"));
        assert_eq!(layers.origin("server.listen"), Origin::Flag("--listen"));
        assert_eq!(layers.origin("server.listen_tls"), Origin::Flag("--listen-tls"));
        assert_eq!(layers.origin("log.level"), Origin::Default);
    }

    #[test]
    fn a_token_is_sent_to_nobody_on_the_way() {
        for (address, is_safe) in [
            ("https://mirror", true),
            ("http://127.0.0.1:8080/x", true),
            ("http://[::1]:8080", true),
            ("http://localhost", true),
            ("http://mirror:8080", false),
            ("http://127.0.0.1.evil", false),
            ("http://localhost.evil/127.0.0.1", false),
        ] {
            assert_eq!(is_safe_for_secrets(address), is_safe, "{address}");
        }
    }

    #[test]
    fn levels_of_modules_are_words() {
        let levels = |line: &str| module_levels(Words::Line(line.into())).map_err(|wrong| wrong.to_string());
        let expected = vec![("a::b".to_owned(), LevelFilter::DEBUG), ("c".to_owned(), LevelFilter::OFF)];
        assert_eq!(levels("a::b=debug, c = off"), Ok(expected));
        assert!(levels("a=5").is_err() && levels("a b=info").is_err() && levels("=info").is_err());
    }

    #[test]
    fn proxies_may_be_addresses_or_ranges() {
        let layers = from_text("[server]\ntrusted_proxies = '10.0.0.5, fd00::/8'", &Flags::default());
        let server = layers.settings().unwrap().server;
        let ranges: Vec<_> = server.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(ranges, ["10.0.0.5/32", "fd00::/8"]);
    }

    #[test]
    fn sources_may_be_words_with_commas() {
        let sources = model_sources(Words::Line("folder:/a, hub".into())).map_err(|wrong| wrong.to_string());
        assert_eq!(sources, Ok(vec![ModelSource::Folder("/a".into()), ModelSource::Hub]));
    }
}
