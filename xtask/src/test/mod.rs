//! `cargo xtask test`: every test there is, in stages; the first that fails ends it.
//!
//! Owns the order of the stages and what the tests are told about this machine. What must be there beforehand is the
//! matter of [`needs`]. Tests learn by environment variable where things lie:
//!
//! | variable | what it names |
//! |---|---|
//! | `HOLDFAST_TEST_BINARY` | the built `holdfast` program |
//! | `HOLDFAST_TEST_MODELS` | the folder with the embedding model's files, as `models/` of a data directory |
//! | `HOLDFAST_TEST_PYTHON` | the interpreter whose environment has the MCP client |
//! | `HOLDFAST_FUZZ_SECONDS` | how long the API is fuzzed, where it is not the usual short time |

mod needs;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::python::Environment;
use crate::repository::Repository;
use crate::shell;

/// What pytest exits with when its filter leaves no test.
const PYTEST_FOUND_NOTHING: i32 = 5;

/// Clients in Python that can live in one environment.
struct Clients {
    name: &'static str,
    requirements: &'static str,
    /// What pytest is told.
    tests: &'static [&'static str],
}

/// All of them. The first is the one that Rust tests borrow, too.
const CLIENTS: [Clients; 4] = [
    Clients {
        name: "Python clients",
        requirements: "tests/requirements.txt",
        tests: &[
            "tests/clients",
            "--ignore=tests/clients/embeddings",
            "--ignore=tests/clients/models",
            "--ignore=tests/clients/aider",
        ],
    },
    Clients {
        name: "Python clients for embeddings",
        requirements: "tests/clients/embeddings/requirements.txt",
        tests: &["tests/clients/embeddings"],
    },
    Clients {
        name: "Python clients for language models",
        requirements: "tests/clients/models/requirements.txt",
        tests: &["tests/clients/models"],
    },
    Clients { name: "aider", requirements: "tests/clients/aider/requirements.txt", tests: &["tests/clients/aider"] },
];

/// What `cargo xtask test` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Fetch what is missing: system packages, Python packages, the embedding model
    #[arg(long)]
    install: bool,
    /// Run only the tests whose name contains this
    #[arg(long, value_name = "FILTER")]
    only: Option<String>,
}

/// What `cargo xtask fuzz-api` can be told.
#[derive(clap::Args)]
pub struct FuzzOptions {
    /// Fetch what is missing, as `cargo xtask test --install` does
    #[arg(long)]
    install: bool,
    /// How long, with a key and again without one
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
}

/// Where the things lie that tests are told about.
struct Places {
    root: PathBuf,
    binary: PathBuf,
    data_directory: PathBuf,
    /// One for each of [`CLIENTS`].
    environments: [Environment; CLIENTS.len()],
}

impl Places {
    fn of(repository: &Repository) -> Result<Self> {
        Ok(Self {
            root: repository.root.clone(),
            binary: repository.target_folder()?.join("debug/holdfast"),
            data_directory: shell::cache_folder()?.join("test-data"),
            environments: [
                Environment::of(repository, CLIENTS[0].requirements)?,
                Environment::of(repository, CLIENTS[1].requirements)?,
                Environment::of(repository, CLIENTS[2].requirements)?,
                Environment::of(repository, CLIENTS[3].requirements)?,
            ],
        })
    }

    fn models(&self) -> PathBuf {
        self.data_directory.join("models")
    }

    /// A command in the clone that is told where everything lies.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = shell::command(program.as_ref());
        command
            .current_dir(&self.root)
            .env("HOLDFAST_TEST_BINARY", &self.binary)
            .env("HOLDFAST_TEST_MODELS", self.models())
            .env("HOLDFAST_TEST_PYTHON", self.environments[0].python());
        command
    }
}

/// Runs every test, or those the filter leaves.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let places = Places::of(repository)?;
    needs::ensure_tools(&places, options.install)?;
    build(&places)?;
    needs::ensure_model(&places, options.install)?;
    test_rust(&places, options.only.as_deref())?;
    test_clients(&places, options.only.as_deref())?;
    shell::say("xtask test: every stage passed");
    Ok(())
}

/// Runs the tests that fuzz the API, and nothing else, for so long; what schemathesis reports is shown.
pub fn fuzz_api(repository: &Repository, options: &FuzzOptions) -> Result<()> {
    let places = Places::of(repository)?;
    needs::ensure_tools(&places, options.install)?;
    build(&places)?;
    needs::ensure_model(&places, options.install)?;
    stage("schemathesis");
    let mut pytest = places.command(places.environments[0].python());
    pytest
        .args(["-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "tests/clients/test_description.py", "-k"])
        .arg("schemathesis")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOLDFAST_FUZZ_SECONDS", options.seconds.to_string());
    shell::run(&mut pytest)
}

/// Builds the program and all tests before the first test runs: the model is fetched by the program itself.
fn build(places: &Places) -> Result<()> {
    stage("build");
    // This builds the program too, for the integration tests that start it. Building it by a command of its own would ask
    // for fewer features of tokio than the tests do, and so build everything above tokio a second time.
    shell::run(places.command("cargo").args(["test", "--workspace", "--no-run"]))?;
    if !places.binary.is_file() {
        bail!("the build made no {}", places.binary.display());
    }
    Ok(())
}

fn test_rust(places: &Places, only: Option<&str>) -> Result<()> {
    stage("Rust tests and documentation examples");
    shell::run(places.command("cargo").args(["test", "--workspace"]).args(only))
}

fn test_clients(places: &Places, only: Option<&str>) -> Result<()> {
    for (clients, environment) in CLIENTS.iter().zip(&places.environments) {
        stage(clients.name);
        pytest(places, environment, clients.tests, only)?;
    }
    Ok(())
}

fn pytest(places: &Places, environment: &Environment, tests: &[&str], only: Option<&str>) -> Result<()> {
    let mut pytest = places.command(environment.python());
    pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).args(tests).env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(filter) = only {
        pytest.args(["-k", filter]);
    }
    let status = pytest.status().context("failed to start pytest")?;
    // With a filter, all the tests it names may be in Rust.
    let found_nothing = only.is_some() && status.code() == Some(PYTEST_FOUND_NOTHING);
    if !status.success() && !found_nothing {
        bail!("the Python clients failed: {status}");
    }
    Ok(())
}

fn stage(name: &str) {
    shell::say(&format!("\n--- {name}"));
}
