//! Settings: what they are, where each comes from, and whether they can be used.
//!
//! The only module that reads settings files and the environment. It turns them into the `Config` of each component,
//! which knows nothing of files and variables. It does not create anything.

mod resolve;

mod layers;

mod file;

mod profile;

mod secret;

pub mod live;

pub mod reference;

pub mod environment;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use holdfast_knowledge::Watch;
use holdfast_server::tls::Files;

pub use layers::Layers;
pub use profile::Profile;
pub use secret::{Input, SECRETS, Source as SecretSource};
use tracing::level_filters::LevelFilter;

use crate::hint::Hint;

/// The annotated defaults: the first layer, the file of a first run, and the reference.
pub const DEFAULTS: &str = include_str!("../../../../config/default.toml");

/// The name of the settings file in the data directory.
pub const FILE_NAME: &str = "holdfast.toml";

/// Everything that can be set, checked.
#[derive(Debug)]
pub struct Settings {
    /// Where HTTP is spoken without encryption; off loopback only to redirect.
    pub listen: SocketAddr,
    /// Where HTTPS is spoken.
    pub listen_tls: Option<SocketAddr>,
    /// Where the metrics are had without a key; on loopback.
    pub metrics_listen: Option<SocketAddr>,
    /// The operator's certificate and key; nothing for those of `holdfast tls init`.
    pub tls: Option<Files>,
    /// Limits of the server.
    pub server: holdfast_server::Config,
    /// Models, their sources and threads.
    pub models: holdfast_embedding::Config,
    /// Bytes of embeddings that are kept on disk; 0 keeps none.
    pub kept_embeddings_bytes: u64,
    /// Splitting, files and caches.
    pub knowledge: holdfast_knowledge::Config,
    /// Language models: policies, aliases, prices, deadlines.
    pub turns: holdfast_coordinator::Config,
    /// Whether servers of language models on this machine are looked for while none is on record.
    pub discover_providers: bool,
    /// How long events stay in the log.
    pub events: holdfast_storage::events::archive::Retention,
    /// What becomes of models that are run here; no setting, but what this process is for.
    pub local_models: LocalModels,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Where traces and logs go.
    pub otlp: OtlpSettings,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The least important lines that are written.
    pub level: tracing::Level,
    /// The same for single modules.
    pub levels: Vec<(String, LevelFilter)>,
    /// The form of lines on standard error.
    pub format: LogFormat,
    /// What is kept in `logs/` of the data directory; nothing where no file is written.
    pub file: Option<LogFileLimits>,
}

/// What log files may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFileLimits {
    /// The most bytes of one file; then the next is begun.
    pub max_file_bytes: u64,
    /// The most files that are kept besides the one being written.
    pub max_files: u64,
    /// How long they are kept.
    pub max_age: Duration,
    /// The most bytes of all together.
    pub max_total_bytes: u64,
}

/// Where traces and logs go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OtlpSettings {
    /// The root of the collector's HTTP interface, such as `http://127.0.0.1:4318`; nothing keeps traces to ourselves.
    pub endpoint: Option<String>,
    /// Of the traces that begin here, the share that is kept, from 0 to 1. Those that began elsewhere are kept where they
    /// were kept there.
    pub trace_ratio: f64,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Where the program's files lie, by flags or by the platform's custom.
#[derive(Clone, Debug)]
pub struct Place {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The settings file, and whether it was asked for by name.
    pub file: SettingsFile,
}

/// Which settings file is read.
#[derive(Clone, Debug)]
pub enum SettingsFile {
    /// The one in the data directory, if it is there.
    Usual(PathBuf),
    /// The one named by a flag; it must be there.
    Named(PathBuf),
}

impl SettingsFile {
    /// Its path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Usual(path) | Self::Named(path) => path,
        }
    }
}

/// Settings given as flags.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--profile`
    pub profile: Option<Profile>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--listen-tls`
    pub listen_tls: Option<String>,
    /// `--log-format`
    pub log_format: Option<LogFormat>,
    /// Whether standard input may have a secret.
    pub input: Input,
}

/// What becomes of the models that are run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalModels {
    /// They run as long as this process does.
    Run,
    /// They are left alone: nobody will ask them anything.
    LeftAlone,
}

impl Settings {
    /// The same for a program that lives for one command, which is over before anything could change.
    pub fn for_one_command(self) -> Self {
        Self { local_models: LocalModels::LeftAlone, ..self.for_one_question() }
    }

    /// The same for a command that asks language models.
    pub fn for_one_question(mut self) -> Self {
        self.knowledge.watch = Watch::WhenAsked;
        self
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The built-in defaults.
    Default,
    /// What the profile has instead.
    Profile(Profile),
    /// A settings file, and the line in it where one can be named.
    File {
        /// Its path.
        path: PathBuf,
        /// Counted from 1.
        line: Option<usize>,
    },
    /// The environment variable of that name.
    Environment(String),
    /// The flag of that name.
    Flag(&'static str),
}

impl Origin {
    /// The place of the layer among the layers, and of the value in its file.
    fn place(&self) -> (u8, usize) {
        match self {
            Self::Default => (0, 0),
            Self::Profile(_) => (1, 0),
            Self::File { line, .. } => (2, line.unwrap_or_default()),
            Self::Environment(_) => (3, 0),
            Self::Flag(_) => (4, 0),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Profile(profile) => write!(f, "profile {profile}"),
            Self::File { path, line: None } => write!(f, "file {}", path.display()),
            Self::File { path, line: Some(line) } => write!(f, "file {}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The setting, or nothing where a whole file is meant.
    pub key: Option<String>,
    /// Where its value comes from.
    #[serde(serialize_with = "as_sentence")]
    pub origin: Origin,
    /// What is wrong, as the rest of a sentence.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// How many problems are told; a file that is something else altogether has thousands.
const SHOWN_MAX: usize = 100;

/// Everything that is wrong with the settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("a setting cannot be used")?,
            count => write!(f, "{count} settings cannot be used")?,
        }
        for Problem { key, origin, what, remedy } in self.shown() {
            match key {
                Some(key) => write!(f, "\n  {key} ({origin}) {what}")?,
                None => write!(f, "\n  {origin} {what}")?,
            }
            write!(f, "\n    hint: {remedy}")?;
        }
        match self.0.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl Problems {
    /// As many of them as are told.
    pub fn shown(&self) -> &[Problem] {
        &self.0[..self.0.len().min(SHOWN_MAX)]
    }
}

fn as_sentence<S: serde::Serializer>(origin: &Origin, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(origin)
}

/// A path as settings write it: absolute, or below the home folder.
fn absolute(text: &str) -> Option<PathBuf> {
    let path = match text.strip_prefix("~/") {
        Some(below) => std::env::home_dir()?.join(below),
        None => PathBuf::from(text),
    };
    path.is_absolute().then_some(path)
}

impl Hint for Problems {
    /// Each problem has its own.
    fn hint(&self) -> Option<String> {
        None
    }
}
