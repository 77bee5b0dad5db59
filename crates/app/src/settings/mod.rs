//! Settings: what they are, where each comes from, and whether they can be used.
//!
//! The only module that reads settings files and the environment. It turns them into the `Config` of each component,
//! which knows nothing of files and variables. It does not create anything.

mod resolve;

mod layers;

pub mod reference;

pub mod environment;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use holdfast_knowledge::Watch;
use holdfast_server::tls::Files;

pub use layers::Layers;

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
    /// What is logged, and how.
    pub log: LogSettings,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The least important lines that are written.
    pub level: tracing::Level,
    /// Their form.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
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
    /// `--listen`
    pub listen: Option<String>,
    /// `--listen-tls`
    pub listen_tls: Option<String>,
    /// `--log-format`
    pub log_format: Option<LogFormat>,
}

impl Settings {
    /// Reads every layer and checks every setting.
    ///
    /// # Errors
    /// [`Problems`] with everything that is wrong, not only the first.
    pub fn load(place: &Place, flags: &Flags) -> Result<Self, Problems> {
        Layers::read(place, flags)?.settings()
    }

    /// The same for a program that lives for one command, which is over before anything could change.
    pub fn for_one_command(mut self) -> Self {
        self.knowledge.watch = Watch::WhenAsked;
        self
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The built-in defaults.
    Default,
    /// A settings file.
    File(PathBuf),
    /// The environment variable of that name.
    Environment(String),
    /// The flag of that name.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, or nothing where a whole file is meant.
    pub key: Option<String>,
    /// Where its value comes from.
    pub origin: Origin,
    /// What is wrong, as the rest of a sentence.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

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
        for Problem { key, origin, what, remedy } in &self.0 {
            match key {
                Some(key) => write!(f, "\n  {key} ({origin}) {what}")?,
                None => write!(f, "\n  {origin} {what}")?,
            }
            write!(f, "\n    hint: {remedy}")?;
        }
        Ok(())
    }
}

impl Hint for Problems {
    /// Each problem has its own.
    fn hint(&self) -> Option<String> {
        None
    }
}
