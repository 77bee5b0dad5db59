//! The command line: which commands and flags there are. Does nothing but describe and parse.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::{
    commands::{bench::payload::Arrivals, db::Db, learn::Learn},
    settings::{LogFormat, Profile},
};

/// A private knowledge base for people and their agents, and one door to language models: index folders, search them and ask
/// about them from the shell, over HTTP and MCP.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    /// What applies to every command.
    #[command(flatten)]
    pub common: Common,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Where everything is kept [default: the platform's data folder + /holdfast]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Common options")]
    pub data_dir: Option<PathBuf>,

    /// The settings file [default: holdfast.toml in the data directory]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Common options")]
    pub config: Option<PathBuf>,

    /// Values for a kind of use, instead of the defaults
    #[arg(long, global = true, value_name = "PROFILE", help_heading = "Common options")]
    pub profile: Option<Profile>,

    /// Where the HTTP API listens: a loopback address and a port, 0 for a free one
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = "Common options")]
    pub listen: Option<String>,

    /// Where the HTTPS API listens, for other machines too: an address, and a port if it is not to be 8443
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = "Common options")]
    pub listen_tls: Option<String>,

    /// The form of log lines
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Common options")]
    pub log_format: Option<LogFormat>,

    /// Print JSON: the same shapes as the HTTP API
    #[arg(long, global = true, help_heading = "Common options")]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the server in the foreground, and index these folders and files
    Up(Up),
    /// Index folders and files, and follow them from then on
    Add(Add),
    /// Search
    Search(Search),
    /// Ask a language model, with passages of your documents to answer from
    Ask(Ask),
    /// List, show and remove documents
    #[command(subcommand)]
    Documents(Documents),
    /// List, create, show, remove and re-embed collections
    #[command(subcommand)]
    Collections(Collections),
    /// List, show, sync and remove the folders and files that are followed
    #[command(subcommand)]
    Sources(Sources),
    /// List and show indexing jobs
    #[command(subcommand)]
    Jobs(Jobs),
    /// Show how everything is
    Status,
    /// Create, list, rotate and revoke API keys
    #[command(subcommand)]
    Keys(Keys),
    /// Fetch, list and verify embedding models
    #[command(subcommand)]
    Models(Models),
    /// Add, list, try and remove servers of language models
    #[command(subcommand)]
    Providers(Providers),
    /// Set, list and remove what may be spent on language models
    #[command(subcommand)]
    Budgets(Budgets),
    /// List, show and remove conversations that are remembered
    #[command(subcommand)]
    Sessions(Sessions),
    /// List what language models were asked, and say why each turn went as it did
    #[command(subcommand)]
    Interactions(Interactions),
    /// Show what was learned, and say how interactions went
    #[command(subcommand)]
    Learn(Learn),
    /// Check what is stored, and put right what can be
    Doctor(Doctor),
    /// Show and change the version of the database's schema; no server may be running
    #[command(subcommand)]
    Db(Db),
    /// Show and check the settings
    #[command(subcommand)]
    Config(Config),
    /// Print the reference of all metrics
    #[command(hide = true)]
    Metrics,
    /// Make, show and renew the certificate for HTTPS
    #[command(subcommand)]
    Tls(Tls),
    /// Print the description of the HTTP API, as OpenAPI 3.1
    Openapi,
    /// Speak MCP on standard input and output, for an agent that starts this command
    Mcp,
    /// Measure what a server bears
    #[command(subcommand)]
    Bench(Bench),
    /// Print a script that completes this command line
    Completions {
        /// The shell it is for
        shell: clap_complete::Shell,
    },
}

/// `holdfast up`
#[derive(Debug, Args)]
pub struct Up {
    /// Folders and files to index and follow
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,

    /// The collection they go to
    #[arg(long, short, default_value = "default")]
    pub collection: String,

    /// Serve the control socket without a terminal, and end after so many idle seconds; how `mcp` starts a server
    #[arg(long, hide = true, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "300")]
    pub idle_exit: Option<u64>,
}

/// `holdfast add`
#[derive(Debug, Args)]
pub struct Add {
    /// Folders and files to index and follow
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,

    /// The collection they go to
    #[arg(long, short, default_value = "default")]
    pub collection: String,

    /// Return as soon as the server has taken the work on
    #[arg(long)]
    pub no_wait: bool,
}

/// `holdfast search`
#[derive(Debug, Args)]
pub struct Search {
    /// What to look for: a question, words, an identifier
    #[arg(allow_hyphen_values = true)]
    pub query: String,

    /// Where to look; may be repeated [default: the collection named default]
    #[arg(long, short)]
    pub collection: Vec<String>,

    /// By meaning, by words, or both
    #[arg(long, value_enum, default_value_t = Mode::Hybrid)]
    pub mode: Mode,

    /// How many results, 1 to 100
    #[arg(long, short = 'n', default_value_t = 10, allow_negative_numbers = true)]
    pub limit: i64,

    /// Only documents for which this holds, as JSON: {"field":"metadata.lang","eq":"en"}
    #[arg(long, value_name = "JSON")]
    pub filter: Option<String>,

    /// Single chunks, or the best chunk of each document
    #[arg(long, value_enum, default_value_t = Group::Chunk)]
    pub group: Group,

    /// Only results at least so similar; with --mode dense
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true)]
    pub min_score: Option<f32>,

    /// Where the page before ended
    #[arg(long)]
    pub cursor: Option<String>,

    /// Say how each result got its place
    #[arg(long)]
    pub explain: bool,
}

/// `holdfast ask`
#[derive(Debug, Args)]
pub struct Ask {
    /// The question
    #[arg(allow_hyphen_values = true)]
    pub query: String,

    /// Who is to answer: a model, a provider, an alias, auto, local or remote
    #[arg(long, short, default_value = "auto")]
    pub model: String,

    /// Where to look for passages; may be repeated [default: the collection named default]
    #[arg(long, short)]
    pub collection: Vec<String>,

    /// Ask the question alone, without passages
    #[arg(long, conflicts_with_all = ["collection", "budget_tokens"])]
    pub no_context: bool,

    /// The conversation it belongs to; a new one begins under a name that there is none of
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,

    /// Tokens that passages may take [default: 1500]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub budget_tokens: Option<i64>,
}

/// By what to search.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Mode {
    /// By meaning and by words
    Hybrid,
    /// By meaning
    Dense,
    /// By words
    Lexical,
}

/// What a result is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Group {
    /// A chunk
    Chunk,
    /// A document
    Document,
}

/// One page of a list.
#[derive(Debug, Args)]
pub struct Paging {
    /// How many at most
    #[arg(long, short = 'n', default_value_t = 100)]
    pub limit: usize,

    /// Where the page before ended
    #[arg(long)]
    pub cursor: Option<String>,
}

/// `holdfast documents`
#[derive(Debug, Subcommand)]
pub enum Documents {
    /// List the documents of a collection
    List {
        /// The collection
        #[arg(long, short, default_value = "default")]
        collection: String,
        /// Only those of this source
        #[arg(long)]
        source: Option<String>,
        /// Which part of the list.
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a document with its text
    Show {
        /// Its id
        id: String,
        /// The collection
        #[arg(long, short, default_value = "default")]
        collection: String,
    },
    /// Remove a document
    Remove {
        /// Its id
        id: String,
        /// The collection
        #[arg(long, short, default_value = "default")]
        collection: String,
    },
}

/// `holdfast collections`
#[derive(Debug, Subcommand)]
pub enum Collections {
    /// List the collections
    List,
    /// Create a collection
    Create {
        /// Its name
        name: String,
        /// The model its texts are embedded with [default: models.default of the settings]
        #[arg(long)]
        model: Option<String>,
    },
    /// Show a collection
    Show {
        /// Its name
        name: String,
    },
    /// Remove a collection with all that is in it
    Remove {
        /// Its name
        name: String,
    },
    /// Embed everything in a collection with another model, and change over when that is done
    Reembed {
        /// Its name
        name: String,
        /// The model
        #[arg(long)]
        model: String,
        /// Return as soon as the server has taken the work on
        #[arg(long)]
        no_wait: bool,
    },
}

/// `holdfast sources`
#[derive(Debug, Subcommand)]
pub enum Sources {
    /// List the sources
    List,
    /// Show a source
    Show {
        /// Its id
        id: String,
    },
    /// Stop following a source, and remove its documents
    Remove {
        /// Its id
        id: String,
    },
    /// Look for changes now
    Sync {
        /// Its id
        id: String,
        /// Return as soon as the server has taken the work on
        #[arg(long)]
        no_wait: bool,
    },
    /// List files that were not indexed, and why
    Skipped {
        /// Its id
        id: String,
        /// Which part of the list.
        #[command(flatten)]
        paging: Paging,
    },
}

/// `holdfast jobs`
#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// List jobs, newest first
    List {
        /// Which part of the list.
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a job
    Show {
        /// Its id
        id: String,
    },
}

/// `holdfast keys`
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Create a key, and print it this once
    Create {
        /// What to call it
        #[arg(default_value = "cli")]
        name: String,
        /// What it is for; may be given several times [default: admin, which may do everything]
        #[arg(long = "role", value_name = "ROLE", value_parser = ["admin", "operator", "editor", "reader", "agent", "metrics"])]
        roles: Vec<String>,
        /// A collection that it may see; may be given several times [default: all]
        #[arg(long = "collection", value_name = "NAME")]
        collections: Vec<String>,
        /// A language model, provider or alias that it may ask; may be given several times [default: all]
        #[arg(long = "model", value_name = "NAME")]
        models: Vec<String>,
        /// An address or a range that it may be used from; may be given several times [default: anywhere]
        #[arg(long = "address", value_name = "RANGE")]
        addresses: Vec<String>,
        /// How long it may be used, such as 12h or 90d [default: until it is revoked]
        #[arg(long = "expires", value_name = "TIME", value_parser = duration)]
        expires_in_s: Option<u64>,
    },
    /// List the keys
    List,
    /// Give a key another secret, and print it this once
    Rotate {
        /// Its id
        id: String,
        /// How long the former secret is taken besides, such as 0s, 12h or 7d
        #[arg(long = "grace", value_name = "TIME", default_value = "1d", value_parser = duration)]
        grace_s: u64,
    },
    /// Revoke a key from now on
    Revoke {
        /// Its id
        id: String,
    },
}

/// Seconds, of a number and its unit.
fn duration(text: &str) -> Result<u64, String> {
    let expected = || "give a number and a unit, such as 30s, 15m, 12h, 90d or 52w".to_owned();
    let unit = match text.chars().last().ok_or_else(expected)? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(expected()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| expected())?;
    number.checked_mul(unit).ok_or_else(expected)
}

/// `holdfast models`
#[derive(Debug, Subcommand)]
pub enum Models {
    /// Fetch what is missing or damaged of a model
    Pull {
        /// Its name [default: models.default of the settings]
        name: Option<String>,
        /// Take it from this folder, instead of the sources in the settings
        #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
        from: Option<PathBuf>,
    },
    /// List the models of which there is something here
    List,
    /// Use a model that another server runs, after asking it for some texts' vectors
    Connect {
        /// What it is called here
        name: String,
        /// The root of that server's interface, such as http://127.0.0.1:11434/v1
        #[arg(long)]
        url: String,
        /// The interface: openai (POST URL/embeddings) or tei (POST URL/embed)
        #[arg(long, default_value = "openai")]
        api: String,
        /// What it is called there [default: its name here]
        #[arg(long)]
        model: Option<String>,
        /// A file with the key, read whenever the model is loaded
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        key_file: Option<PathBuf>,
        /// Tokens of a text that it reads
        #[arg(long, default_value_t = 512)]
        window: u32,
        /// Put before a query's text
        #[arg(long, default_value = "")]
        query_prefix: String,
        /// Put before a document's text
        #[arg(long, default_value = "")]
        document_prefix: String,
    },
    /// Compare the files of a model with their hashes
    Verify {
        /// Its name [default: models.default of the settings]
        name: Option<String>,
    },
}

/// `holdfast providers`
#[derive(Debug, Subcommand)]
pub enum Providers {
    /// Add a server of language models, or put another one of the same name in its place
    Add(Box<AddProvider>),
    /// List the providers and their models
    List,
    /// Ask a provider for a few tokens
    Test {
        /// Its name
        name: String,
        /// The model, as the provider calls it [default: its first]
        #[arg(long)]
        model: Option<String>,
    },
    /// Remove a provider
    Remove {
        /// Its name
        name: String,
    },
}

/// `holdfast providers add`
#[derive(Debug, Args)]
pub struct AddProvider {
    /// What it is called here
    pub name: String,

    /// The interface: openai (chat completions) or anthropic (messages)
    #[arg(long, default_value = "openai", value_parser = ["openai", "anthropic"])]
    pub api: String,

    /// The root of that interface, such as http://127.0.0.1:11434/v1 [default: that of OpenAI, or of Anthropic]
    #[arg(long, conflicts_with = "gguf")]
    pub url: Option<String>,

    /// A file with the key, which nobody else can read
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key_file: Option<PathBuf>,

    /// A certificate authority beyond the usual ones, a PEM file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "gguf")]
    pub ca_file: Option<PathBuf>,

    /// A model, as the provider calls it; may be repeated [default: it is asked which it has]
    #[arg(long = "model", value_name = "MODEL")]
    pub models: Vec<String>,

    /// Where it counts as being [default: found out from the address]
    #[arg(long, value_parser = ["local", "remote"])]
    pub location: Option<String>,

    /// Requests to it at once [default: 1 for a model that is run here, else llm.provider_concurrency of the settings]
    #[arg(long, value_name = "N")]
    pub concurrency: Option<u32>,

    /// A model's file, which is run here from now on
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub gguf: Option<PathBuf>,

    /// What each model can do, as far as it is not taken to.
    #[command(flatten)]
    pub abilities: Abilities,

    /// Do not wait until the model that is run answers
    #[arg(long, requires = "gguf")]
    pub no_wait: bool,

    /// What runs the file, to the end of the line: {gguf}, {model}, {host}, {port} and {context} are put in
    /// [default: llama-server, or llama_cpp.server of Python]
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true, requires = "gguf")]
    pub command: Vec<String>,
}

/// What models can do.
#[derive(Debug, Args)]
#[group(id = "abilities", multiple = true)]
pub struct Abilities {
    /// Tokens of question and answer together
    #[arg(long, value_name = "N")]
    pub context_tokens: Option<u64>,

    /// Tokens of an answer at most
    #[arg(long, value_name = "N")]
    pub max_output_tokens: Option<u64>,

    /// The models look at pictures [default: those that run elsewhere do]
    #[arg(long, overrides_with = "no_images")]
    pub images: bool,

    /// The models look at no pictures
    #[arg(long)]
    pub no_images: bool,

    /// The models call no tools
    #[arg(long)]
    pub no_tools: bool,

    /// The models can go on from a given text
    #[arg(long)]
    pub continues: bool,
}

/// `holdfast budgets`
#[derive(Debug, Subcommand)]
pub enum Budgets {
    /// Set what may be spent, in money, in tokens or both
    Set {
        /// Whose: the id of a key [default: everybody's together]
        #[arg(long, value_name = "ID")]
        key: Option<String>,
        /// On which model, provider or alias [default: on all together]
        #[arg(long)]
        model: Option<String>,
        /// Dollars
        #[arg(long, value_name = "DOLLARS", required_unless_present = "tokens")]
        money: Option<f64>,
        /// Tokens, asked and answered
        #[arg(long, value_name = "N")]
        tokens: Option<u64>,
        /// In what time, by the calendar in UTC
        #[arg(long = "per", default_value = "month", value_parser = ["day", "month", "total"])]
        period: String,
    },
    /// List the budgets, and what was spent
    List,
    /// Remove a budget
    Remove {
        /// Its id
        id: String,
    },
}

/// `holdfast sessions`
#[derive(Debug, Subcommand)]
pub enum Sessions {
    /// List the sessions, newest first
    List {
        /// Which part of the list.
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a session with what was said
    Show {
        /// Its id
        id: String,
    },
    /// Forget a session
    Remove {
        /// Its id
        id: String,
    },
}

/// `holdfast interactions`
#[derive(Debug, Subcommand)]
pub enum Interactions {
    /// List turns that are over, newest first
    List {
        /// Which part of the list.
        #[command(flatten)]
        paging: Paging,
    },
    /// Say why a turn went as it did
    Why {
        /// Its id
        id: String,
    },
}

/// `holdfast doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Put right what can be
    #[arg(long)]
    pub fix: bool,
}

/// `holdfast config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Show every setting and its value
    Show {
        /// Say where each value comes from
        #[arg(long)]
        origin: bool,
    },
    /// Check the settings
    Check,
    /// Print the reference of all settings
    #[command(hide = true)]
    Reference,
}

/// `holdfast bench`
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Send requests at a rate that does not depend on the answers, and say how long they took and what failed
    Load(Load),
}

/// `holdfast bench load`
#[derive(Debug, Args)]
pub struct Load {
    /// The server, as http://127.0.0.1:8088 [default: the one in the data directory, by its control socket]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,

    /// A file with the key, - for standard input [default: HOLDFAST_KEY in the environment]; with --url
    #[arg(long, value_name = "FILE", requires = "url", value_hint = ValueHint::FilePath)]
    pub key_file: Option<PathBuf>,

    /// How many may wait for an answer at a time
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub users: u32,

    /// Requests a second [default: one for each user every two seconds]
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,

    /// For how long, in seconds; of each rate, with --sweep
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub duration: f64,

    /// How requests are spread over time
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub arrivals: Arrivals,

    /// How often each kind of request is sent: health, embed, search, add, fetch
    #[arg(long, value_name = "KIND=WEIGHT,…", default_value = "health=58,embed=25,search=17")]
    pub mix: String,

    /// The collection that is searched and added to; it is made if it is not there, and left there
    #[arg(long, short, default_value = "bench-load")]
    pub collection: String,

    /// How many documents to store in it before the clock starts
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub documents: u32,

    /// Decides texts, kinds and times: the same seed sends the same
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Raise the rate until the server no longer bears it
    #[arg(long)]
    pub sweep: bool,

    /// The highest 95th percentile at a rate that is borne, in milliseconds; with --sweep
    #[arg(long, value_name = "MS", default_value_t = 50.0)]
    pub max_p95_ms: f64,
}

/// `holdfast tls`
#[derive(Debug, Subcommand)]
pub enum Tls {
    /// Make a certificate authority that can sign for this host only, and a certificate for the server
    Init {
        /// Another name or address that clients use; may be repeated
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,
        /// Put a new authority in the place of one that is there; clients have to trust it anew
        #[arg(long)]
        new_authority: bool,
    },
    /// Show the authority and the certificate
    Show,
    /// Make a new certificate for the server; one that runs takes it up by itself
    Renew {
        /// Another name or address that it is to have; may be repeated
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_table_of_commands_has_them_all() {
        let page = include_str!("../../../README.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let program = Arguments::command();
        for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            let of_it = |row: &&&str| row.split(['`', ' ', '|', '\\']).any(|word| word == name);
            assert!(rows.iter().any(|row| of_it(&row)), "README.md has no row for `{name}`");
        }
    }

    #[test]
    fn what_is_said_of_keys_names_all_that_can_be_done_with_them() {
        let program = Arguments::command();
        let keys = program.find_subcommand("keys").unwrap();
        let told = keys.get_about().unwrap().to_string().to_lowercase();
        for action in keys.get_subcommands() {
            assert!(told.contains(action.get_name()), "{told:?} lacks {}", action.get_name());
        }
    }
}
