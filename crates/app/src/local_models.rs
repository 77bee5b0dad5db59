//! Language models that are run here: a server for each, started, watched and ended by the supervisor.
//!
//! Owns which program runs a model's file and how to tell that it works. A server is known by `GET /health`, which every
//! usual one answers besides its work: llama.cpp's and vLLM's say whether the model is loaded, and that of Python answers
//! at all when it is. `/v1/models` would not do for that: Python's server stops the answer under way when it is asked. Once,
//! when it starts, it is tried as clients will use it: its models and one token.
//!
//! The supervisor's tasks keep them running. One loops here for each server whose program has to be looked for with a
//! trial, which takes seconds: it ends when it found one, when nobody wants the server any more, and with the program.

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use holdfast_coordinator::{CannotRun, RunSettings, Runner, Served};
use holdfast_supervisor::{NotReady, Restart, Spec, State, Supervisor, ports};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{gguf, settings::environment};

/// Where servers listen.
const HOST: &str = "127.0.0.1";
/// What runs models, where nothing else is said: llama.cpp's own server,
const LLAMA_SERVER: &str = "llama-server";
/// with these arguments,
const LLAMA_SERVER_ARGUMENTS: [&str; 10] =
    ["-m", "{gguf}", "--alias", "{model}", "--host", "{host}", "--port", "{port}", "-c", "{context}"];
/// or that of the Python package,
const PYTHON: &str = "python3";
/// with these.
const PYTHON_ARGUMENTS: [&str; 12] = [
    "-m",
    "llama_cpp.server",
    "--model",
    "{gguf}",
    "--model_alias",
    "{model}",
    "--host",
    "{host}",
    "--port",
    "{port}",
    "--n_ctx",
    "{context}",
];
/// Tokens that a model is run to read at most, where it can read more: they take memory, whether used or not.
const CONTEXT_TOKENS_MAX: u64 = 8_192;
/// The same where its file does not say what it can read.
const CONTEXT_TOKENS_UNKNOWN: u64 = 4_096;
/// The place for that in a command.
const CONTEXT: &str = "{context}";
/// What Python imports to show that the server of that package is there, and all that it needs.
const PYTHON_TRIAL: &str = "import llama_cpp.server.app";
/// How long that may take: it loads the library, from a cold disk.
const PYTHON_TRIAL_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked whether that has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a server is waited for at a time; whoever waits does so again.
const WAIT: Duration = Duration::from_secs(3_600);
/// What to do where nothing runs models.
const INSTALL: &str = "names no program, and neither llama-server is in PATH nor llama_cpp.server in Python: install llama.cpp \
                       (https://github.com/ggml-org/llama.cpp), or run pip install 'llama-cpp-python[server]', or name \
                       another program with --command";

/// The models that are run here.
#[derive(Clone)]
pub struct LocalModels {
    inner: Arc<Inner>,
}

struct Inner {
    /// Nothing where models are left alone.
    supervisor: Option<Supervisor>,
    logs: PathBuf,
    client: reqwest::Client,
    /// Searches for what runs a server, by its provider.
    searches: Mutex<BTreeMap<String, Arc<Search>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A search for what runs a server.
struct Search {
    given_up: CancellationToken,
    standing: watch::Sender<Standing>,
}

/// How far a search is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It was not found out yet whether there is anything.
    Looking,
    /// There was nothing; it is looked for again.
    Missing,
    /// Something was found, or nobody wants it any more.
    Over,
}

impl std::fmt::Debug for LocalModels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalModels").finish_non_exhaustive()
    }
}

/// A program and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CommandLine {
    program: String,
    arguments: Vec<String>,
}

impl LocalModels {
    /// Models run by a supervisor; left alone where there is none. Logs lie in that folder. Searches for what runs them
    /// belong to `tasks` and end when `stop` is cancelled.
    ///
    /// # Errors
    /// Where there can be no HTTP client.
    pub fn new(
        supervisor: Option<Supervisor>,
        logs: PathBuf,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> reqwest::Result<Self> {
        // A proxy has no business between two processes of one machine.
        let client = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(1)).build()?;
        let inner = Inner { supervisor, logs, client, searches: Mutex::default(), tasks, stop };
        Ok(Self { inner: Arc::new(inner) })
    }

    async fn launch(&self, name: &str, settings: &RunSettings) -> Result<Served, String> {
        let context = context_tokens(&settings.gguf).await;
        // What the command of somebody else makes of it is not known.
        let is_told = settings.command.is_empty() || settings.command.iter().any(|word| word.contains(CONTEXT));
        let served = |port| Served { url: url(port), context_tokens: is_told.then_some(context) };
        let Some(supervisor) = &self.inner.supervisor else {
            // Nobody asks it: `state` says that it does not run.
            return Ok(served(1));
        };
        let port = ports::free().map_err(|error| format!("cannot be given a port: {}", error.kind()))?;
        let logs = &self.inner.logs;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(logs);
        made.map_err(|error| format!("cannot be run: {} cannot be made: {error}", logs.display()))?;
        self.give_up(name);
        supervisor.remove(&service(name)).await;
        match at_hand(settings) {
            Some(command) => {
                let spec = self.spec(service(name), command.filled(&settings.gguf, port, context), port);
                supervisor.add(spec).map_err(|error| format!("cannot be run: {error}"))?;
            }
            // It takes seconds, and this may be one of several when the program starts.
            None => self.seek(name.to_owned(), settings.clone(), port, context),
        }
        Ok(served(port))
    }

    /// Looks for what runs a server until there is something, and has it run.
    fn seek(&self, name: String, settings: RunSettings, port: u16, context: u64) {
        let (standing, given_up) = (watch::Sender::new(Standing::Looking), self.inner.stop.child_token());
        let search = Arc::new(Search { given_up, standing });
        self.searches().insert(name.clone(), Arc::clone(&search));
        let models = self.clone();
        self.inner.tasks.spawn(async move {
            let looking = models.look(&name, &settings, &search);
            let found = tokio::select! {
                () = search.given_up.cancelled() => None,
                command = looking => Some(command),
            };
            if let Some(command) = found {
                models.found(&name, &search, command.filled(&settings.gguf, port, context), port);
            }
            search.standing.send_replace(Standing::Over);
        });
    }

    async fn look(&self, name: &str, settings: &RunSettings, search: &Search) -> CommandLine {
        let Restart { first, longest, .. } = Restart::default();
        let mut pause = first;
        loop {
            if let Some(command) = command_line(settings, &search.given_up).await {
                return command;
            }
            if search.standing.send_replace(Standing::Missing) == Standing::Looking {
                let longest_s = longest.as_secs();
                tracing::warn!(
                    provider = name,
                    "the model of {name} is not run, since nothing that runs it is there; it is looked for again, every \
                     {longest_s} s at the least often"
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Runs what was found, unless the server was stopped or replaced meanwhile.
    fn found(&self, name: &str, search: &Arc<Search>, command: CommandLine, port: u16) {
        let Some(supervisor) = &self.inner.supervisor else { return };
        let mut searches = self.searches();
        if searches.get(name).is_none_or(|now| !Arc::ptr_eq(now, search)) {
            return;
        }
        searches.remove(name);
        if let Err(error) = supervisor.add(self.spec(service(name), command, port)) {
            tracing::error!(%error, provider = name, "the model of {name} cannot be run: {error}");
        }
    }

    fn give_up(&self, name: &str) {
        if let Some(search) = self.searches().remove(name) {
            search.given_up.cancel();
        }
    }

    fn searches(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Search>>> {
        // Nothing panics while holding the lock.
        self.inner.searches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is known whether there is something that runs a server.
    async fn looked(&self, name: &str) {
        let search = self.searches().get(name).cloned();
        if let Some(search) = search {
            // The sender is in there.
            let _ = search.standing.subscribe().wait_for(|standing| *standing != Standing::Looking).await;
        }
    }

    fn spec(&self, service: String, command: CommandLine, port: u16) -> Spec {
        let log_file = self.inner.logs.join(format!("{service}.log"));
        let root = format!("http://{HOST}:{port}");
        let (client, health) = (self.inner.client.clone(), format!("{root}/health"));
        let ready = move || is_up(client.clone(), health.clone());
        let client = self.inner.client.clone();
        let trial = move || gives_a_token(client.clone(), format!("{root}/v1"));
        Spec {
            arguments: command.arguments,
            port: Some(port),
            trial: Some(Arc::new(trial)),
            ..Spec::new(service, command.program.into(), log_file, Arc::new(ready))
        }
    }
}

impl Runner for LocalModels {
    fn check<'a>(&'a self, settings: &'a RunSettings) -> BoxFuture<'a, Result<(), CannotRun>> {
        Box::pin(async move {
            let gguf = settings.gguf.clone();
            let looked = tokio::task::spawn_blocking(move || gguf::check(&gguf)).await;
            let found = looked.unwrap_or_else(|_| Err("could not be looked at".to_owned()));
            found.map_err(|problem| CannotRun { field: "gguf", problem })?;
            match (command_line(settings, &self.inner.stop).await, settings.command.first()) {
                (None, _) => Err(CannotRun { field: "command", problem: INSTALL.to_owned() }),
                (Some(_), Some(program)) if !is_there(program) => {
                    let problem = format!("names {program}, which is not a program here: give its path, or install it");
                    Err(CannotRun { field: "command", problem })
                }
                (Some(_), _) => Ok(()),
            }
        })
    }

    fn start<'a>(&'a self, name: &'a str, settings: &'a RunSettings) -> BoxFuture<'a, Result<Served, String>> {
        Box::pin(self.launch(name, settings))
    }

    fn until_ready<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            self.looked(name).await;
            let supervised = self.inner.supervisor.as_ref().and_then(|supervisor| supervisor.get(&service(name)));
            let Some(supervised) = supervised else { return self.state(name) };
            loop {
                match supervised.until_ready(WAIT).await {
                    Ok(()) => return Ok(()),
                    Err(NotReady::Late { .. }) => {}
                    Err(error @ NotReady::Stopped { .. }) => return Err(error.to_string()),
                }
            }
        })
    }

    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.give_up(name);
            if let Some(supervisor) = &self.inner.supervisor {
                supervisor.remove(&service(name)).await;
            }
        })
    }

    fn state(&self, name: &str) -> Result<(), String> {
        let Some(supervisor) = &self.inner.supervisor else { return Err("it is not run for this command".to_owned()) };
        match supervisor.get(&service(name)) {
            Some(supervised) => match supervised.state() {
                State::Ready { .. } => Ok(()),
                state => {
                    Err(supervised.situation().health.reason.unwrap_or_else(|| format!("it is {}", state.as_str())))
                }
            },
            None => Err(match self.searches().get(name).map(|search| *search.standing.borrow()) {
                Some(Standing::Looking) => "what runs it is being looked for".to_owned(),
                Some(Standing::Missing) => format!("it is not run: its command {INSTALL}"),
                Some(Standing::Over) | None => "it is not run".to_owned(),
            }),
        }
    }
}

/// How many tokens a model is run to read.
async fn context_tokens(gguf: &Path) -> u64 {
    let gguf = gguf.to_owned();
    let read = tokio::task::spawn_blocking(move || gguf::context_length(&gguf)).await.ok().flatten();
    read.map_or(CONTEXT_TOKENS_UNKNOWN, |read| read.clamp(1, CONTEXT_TOKENS_MAX))
}

fn service(provider: &str) -> String {
    format!("model-{provider}")
}

fn url(port: u16) -> String {
    format!("http://{HOST}:{port}/v1")
}

/// What runs a model, with its places still to be filled, where that can be told at once.
fn at_hand(settings: &RunSettings) -> Option<CommandLine> {
    if let Some((program, arguments)) = settings.command.split_first() {
        return Some(CommandLine { program: program.clone(), arguments: arguments.to_vec() });
    }
    is_there(LLAMA_SERVER).then(|| CommandLine::of(LLAMA_SERVER, &LLAMA_SERVER_ARGUMENTS))
}

/// The same with a trial; nothing where none of the usual programs is there.
async fn command_line(settings: &RunSettings, stop: &CancellationToken) -> Option<CommandLine> {
    if let Some(command) = at_hand(settings) {
        return Some(command);
    }
    if !is_there(PYTHON) {
        return None;
    }
    let stop = stop.clone();
    let has_server = tokio::task::spawn_blocking(move || python_has_server(&stop)).await.unwrap_or(false);
    has_server.then(|| CommandLine::of(PYTHON, &PYTHON_ARGUMENTS))
}

impl CommandLine {
    fn of(program: &str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        Self { program: program.to_owned(), arguments }
    }

    /// With everything in its place.
    fn filled(self, gguf: &Path, port: u16, context: u64) -> Self {
        let (file, port, context) = (gguf.to_string_lossy(), port.to_string(), context.to_string());
        let model = gguf.file_stem().unwrap_or_default().to_string_lossy();
        let places = [
            ("{gguf}", file.as_ref()),
            ("{model}", model.as_ref()),
            ("{host}", HOST),
            ("{port}", &port),
            (CONTEXT, &context),
        ];
        Self { program: self.program, arguments: self.arguments.iter().map(|word| fill(word, &places)).collect() }
    }
}

/// What is put into a place is not looked at again: a file may be called `{port}`.
fn fill(word: &str, places: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        match places.iter().find(|(place, _)| rest.starts_with(place)) {
            Some((place, value)) => {
                filled.push_str(value);
                rest = &rest[place.len()..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// Whether there is such a program: a path, or a name that `PATH` has.
fn is_there(program: &str) -> bool {
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return is_program(Path::new(program));
    }
    let path = environment::variable("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_program(&folder.join(program)))
}

/// Whether Python has that server, with all that it needs. Blocks while it tries, until nobody wants to know any more.
fn python_has_server(stop: &CancellationToken) -> bool {
    #[expect(clippy::disallowed_methods, reason = "a trial that this function owns and ends in time, not a service")]
    let mut command = std::process::Command::new(PYTHON);
    command.args(["-c", PYTHON_TRIAL]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let began = Instant::now();
    while began.elapsed() < PYTHON_TRIAL_WITHIN && !stop.is_cancelled() {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(LOOK_EVERY),
            Err(_) => break,
        }
    }
    // It may have ended at this moment; either way nobody is left behind.
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// Whether a server answers, and does not say that it is not ready.
async fn is_up(client: reqwest::Client, health: String) -> Result<(), String> {
    let response = client.get(health).send().await.map_err(|error| refused(&error))?;
    if response.status().is_server_error() {
        return Err(format!("it answers {}", response.status().as_u16()));
    }
    Ok(())
}

/// Asks a server as clients will: for its models, and the first of them for one token.
async fn gives_a_token(client: reqwest::Client, root: String) -> Result<(), String> {
    let models = answer(client.get(format!("{root}/models"))).await?;
    let Some(model) = models["data"][0]["id"].as_str() else { return Err("it lists no model".to_owned()) };
    let asked = json!({
        "model": model, "max_tokens": 1, "temperature": 0,
        "messages": [{ "role": "user", "content": "Say yes." }],
    });
    let said = answer(client.post(format!("{root}/chat/completions")).json(&asked)).await?;
    if said["choices"][0].is_object() { Ok(()) } else { Err("it gives no answer".to_owned()) }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Value, String> {
    let response = request.send().await.map_err(|error| refused(&error))?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("it answers {}", status.as_u16()));
    }
    response.json().await.map_err(|_| "its answer is not JSON".to_owned())
}

/// Why there was no answer, without an address.
fn refused(error: &reqwest::Error) -> String {
    let reason = if error.is_connect() {
        "it takes no connections"
    } else if error.is_timeout() {
        "it does not answer"
    } else {
        "its answer broke off"
    };
    reason.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_and_what_is_put_there_is_left_alone() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let command = CommandLine {
            program: "serve".into(),
            arguments: words(&[
                "-m",
                "{gguf}",
                "--port={port}",
                "{host}:{port}",
                "{model}",
                "{other}",
                "{",
                "a{port",
                "{context}",
            ]),
        };
        let filled = command.filled(Path::new("/models/{port}.v1.gguf"), 81, 512);
        let expected =
            ["-m", "/models/{port}.v1.gguf", "--port=81", "127.0.0.1:81", "{port}.v1", "{other}", "{", "a{port", "512"];
        assert_eq!(filled.arguments, expected);
    }

    #[test]
    fn a_program_is_found_by_its_path_or_its_name() {
        assert!(is_there("/bin/sh") && is_there("sh"));
        assert!(!is_there("/etc/passwd") && !is_there("no-such-program") && !is_there("/no/such"));
    }

    fn left_alone() -> LocalModels {
        LocalModels::new(None, "/nowhere".into(), TaskTracker::new(), CancellationToken::new()).unwrap()
    }

    #[tokio::test]
    async fn what_is_left_alone_is_not_started() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let models = left_alone();
        let settings = RunSettings { gguf: "/m.gguf".into(), command: vec!["false".into()] };
        models.start("local", &settings).await.unwrap();
        assert!(models.state("local").unwrap_err().contains("not run for this command"));
        assert!(models.until_ready("local").await.is_err());
        models.stop("local").await;
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_is_refused_at_once() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let models = left_alone();
        let folder = tempfile::tempdir().unwrap();
        let gguf = folder.path().join("m.gguf");
        std::fs::write(&gguf, "GGUF").unwrap();
        let settings = |program: &str| RunSettings { gguf: gguf.clone(), command: vec![program.to_owned()] };
        assert_eq!(models.check(&settings("sh")).await, Ok(()));
        assert_eq!(models.check(&settings("no-such-program")).await.unwrap_err().field, "command");
        std::fs::write(&gguf, "nonsense").unwrap();
        assert_eq!(models.check(&settings("sh")).await.unwrap_err().field, "gguf");
    }
}
