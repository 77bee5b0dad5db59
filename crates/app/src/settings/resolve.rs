//! From values to settings: types, bounds and clashes.
//!
//! Each setting is read once, by its key. A value that cannot be used is noted and replaced by its default, so that one
//! run finds everything that is wrong.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use figment::value::Value;
use holdfast_embedding::{ModelSource, Precision};
use holdfast_knowledge::Watch;
use holdfast_server::{LimitsConfig, ProxyHeader, Rate};
use serde::de::DeserializeOwned;

use super::{Layers, LogFormat, LogSettings, Problem, Problems, Settings};

/// 1 GiB: no limit of ours is sensibly above it.
const GIBIBYTE: u64 = 1 << 30;
/// More than any machine this is for has.
const THREADS_MAX: u64 = 1024;

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
    let mut reader = Reader { layers, problems: Vec::new(), read: Vec::new() };
    let settings = reader.settings();
    match settings {
        Some(settings) if reader.problems.is_empty() => Ok(settings),
        _ => Err(Problems(reader.problems)),
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
        let listen = self.get("server.listen", &loopback);
        let server = self.server();
        let models = self.models();
        let kept_embeddings_bytes = self.number("models.cache_disk_bytes", 0..=1024 * GIBIBYTE);
        let knowledge = self.knowledge();
        let log = self.log();
        Some(Settings {
            listen: listen?,
            server: server?,
            models: models?,
            kept_embeddings_bytes: kept_embeddings_bytes?,
            knowledge: knowledge?,
            log: log?,
        })
    }

    fn server(&mut self) -> Option<holdfast_server::Config> {
        let max_body_bytes = self.number("server.max_body_bytes", 1024..=GIBIBYTE);
        let request_timeout_s = self.number("server.request_timeout_s", 1..=3600);
        let max_concurrent_requests = self.number("server.max_concurrent_requests", 1..=65_536);
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
            limits: limits?,
            allowed_hosts: allowed_hosts?,
            allowed_origins: allowed_origins?,
            trusted_proxies: trusted_proxies?,
            proxy_header: proxy_header?,
            ..holdfast_server::Config::default()
        })
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
        Some(holdfast_embedding::Config {
            default_model: default_model?,
            sources: sources?,
            hub_endpoint: hub_endpoint?,
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
            const WORDS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
            // A number would do for the parser, but says nothing to a reader.
            let level = WORDS.contains(&word.as_str()).then(|| word.parse::<tracing::Level>().ok()).flatten();
            level.ok_or_else(|| one_of(&word, &WORDS))
        });
        let format = self.get("log.format", &|word: String| match word.as_str() {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(one_of(&word, &["text", "json"])),
        });
        Some(LogSettings { level: level?, format: format? })
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
        let value = self.layers.value(key).or_else(|| self.layers.default_value(key));
        let wrong = match value.as_ref().map(|value| checked(value, check)) {
            Some(Ok(value)) => return Some(value),
            Some(Err(wrong)) => wrong,
            None => Wrong::new("is missing", "this is a defect of the program; please report it"),
        };
        self.problem(key, wrong);
        checked(&self.layers.default_value(key)?, check).ok()
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

fn checked<T: DeserializeOwned, U>(value: &Value, check: Check<'_, T, U>) -> Result<U, Wrong> {
    match value.deserialize::<T>() {
        Ok(typed) => check(typed),
        Err(error) => Err(Wrong::new(error.kind.to_string(), "docs/CONFIG.md shows what it may be")),
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

/// An address that only this machine can reach.
fn loopback(text: String) -> Result<SocketAddr, Wrong> {
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address: SocketAddr =
        named.as_deref().unwrap_or(&text).parse().map_err(|_| {
            Wrong::new(format!("is {text:?}"), "give an address and a port, for example 127.0.0.1:8088")
        })?;
    let loopback = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    if loopback {
        return Ok(address);
    }
    Err(Wrong::new(
        format!("is {address}, which other machines can reach; that needs TLS, which this version does not have"),
        "listen on 127.0.0.1 and let a reverse proxy with TLS stand in front",
    ))
}

fn web_address(text: String) -> Result<String, Wrong> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(Wrong::new(format!("is {text:?}"), "give an address that begins with https:// or http://")),
    }
}

/// A list, or words with commas between them as an environment variable has.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Words {
    List(Vec<String>),
    Line(String),
}

fn model_sources(words: Words) -> Result<Vec<ModelSource>, Wrong> {
    each(words, model_source)
}

/// What each of some words stands for. An empty line has none.
fn each<T>(words: Words, read: impl Fn(&str) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
    match words {
        Words::List(words) => words.iter().map(|word| read(word)).collect(),
        Words::Line(line) if line.trim().is_empty() => Ok(Vec::new()),
        Words::Line(line) => line.split(',').map(|word| read(word.trim())).collect(),
    }
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
    let path = match folder.strip_prefix("~/") {
        Some(below) => std::env::home_dir().map(|home| home.join(below)),
        None => Some(PathBuf::from(folder)),
    };
    match path {
        Some(path) if path.is_absolute() => Ok(ModelSource::Folder(path)),
        _ => Err(Wrong::new(format!("names the folder {folder:?}"), "give an absolute path")),
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
        from_text(text, &Flags::default()).and_then(|layers| layers.settings()).unwrap_err().0
    }

    fn check(text: &str, key: &str, what: &str, remedy: &str) {
        let problems = problems(text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].key.as_deref(), Some(key));
        assert!(problems[0].what.contains(what), "{problems:?}");
        assert!(problems[0].remedy.contains(remedy), "{problems:?}");
        assert!(matches!(problems[0].origin, Origin::File(_)));
    }

    #[test]
    fn the_defaults_can_be_used_and_each_is_read() {
        let layers = from_text("", &Flags::default()).unwrap();
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
        let settings = from_text("", &Flags::default()).unwrap().settings().unwrap();
        let (server, models) = (holdfast_server::Config::default(), holdfast_embedding::Config::default());
        let knowledge = holdfast_knowledge::Config::default();
        assert_eq!(settings.server.max_body_bytes, server.max_body_bytes);
        assert_eq!(settings.server.request_timeout, server.request_timeout);
        assert_eq!(settings.server.max_concurrent_requests, server.max_concurrent_requests);
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
        check("[server]\nlisten = '0.0.0.0:80'", "server.listen", "needs TLS", "reverse proxy");
        check("[server]\nlisten = 8088", "server.listen", "invalid type", "CONFIG.md");
        check("[server]\nlistn = 'x'", "server.listn", "is not a setting", "did you mean server.listen?");
        check("server = 3", "server", "is a section", "config show");
        check("[server.listen]\nport = 1", "server.listen.port", "is not a setting", "server.listen");
        check("[server]\nrequest_timeout_s = -1", "server.request_timeout_s", "is -1", "from 1 to 3600");
        check("[models]\nsources = ['ftp']", "models.sources", "\"ftp\"", "pip");
        check("[models]\nsources = ['folder:x']", "models.sources", "\"x\"", "absolute");
        check("[models]\nprecision = 'int4'", "models.precision", "\"int4\"", "f32");
        check("[models]\nhub_endpoint = 'x'", "models.hub_endpoint", "\"x\"", "https://");
        check("[server]\nallowed_hosts = ['a:1']", "server.allowed_hosts", "\"a:1\"", "without port");
        check("[server]\nallowed_origins = ['*']", "server.allowed_origins", "\"*\"", "https://");
        check("[server]\nallowed_origins = ['null']", "server.allowed_origins", "\"null\"", "https://");
        check("[server]\nallowed_origins = ['https://a/']", "server.allowed_origins", "https://a/", "https://");
        check("[server]\ntrusted_proxies = ['proxy']", "server.trusted_proxies", "\"proxy\"", "10.0.0.0/8");
        check("[server]\nproxy_header = 'via'", "server.proxy_header", "\"via\"", "forwarded");
        check("[limits]\nkey_requests_burst = 0", "limits.key_requests_burst", "is 0", "from 1");
        check("[limits]\nenabled = 'no'", "limits.enabled", "invalid type", "CONFIG.md");
        check("[log]\nlevel = 'loud'", "log.level", "\"loud\"", "error, warn");
        check("[knowledge]\nchunk_overlap_tokens = 150", "knowledge.chunk_overlap_tokens", "half", "lower");
        check("[knowledge]\nchunk_target_tokens = 300", "knowledge.chunk_target_tokens", "254", "raise");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let found = problems("[server]\nlisten = 'x'\nmax_body_bytes = 0\n[log]\nlevel = 1\nformat = 'xml'");
        assert_eq!(found.len(), 4, "{found:?}");
    }

    #[test]
    fn a_file_that_is_not_toml_is_told_with_its_line() {
        let found = problems("[server\n");
        assert!(found[0].what.contains("line 1"), "{found:?}");
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let flags = Flags { listen: Some("[::1]:9".into()), log_format: None };
        let layers = from_text("[server]\nlisten = '127.0.0.1:1'", &flags).unwrap();
        assert_eq!(layers.settings().unwrap().listen.to_string(), "[::1]:9");
        assert_eq!(layers.origin("server.listen"), Origin::Flag("--listen"));
        assert_eq!(layers.origin("log.level"), Origin::Default);
    }

    #[test]
    fn proxies_may_be_addresses_or_ranges() {
        let layers = from_text("[server]\ntrusted_proxies = '10.0.0.5, fd00::/8'", &Flags::default()).unwrap();
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
