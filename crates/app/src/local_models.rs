//! Language models that are run here: a server for each, started, watched and ended by the supervisor.
//!
//! Owns which program runs a model's file and how to tell that it works. A server is known by `GET /health`, which every
//! usual one answers besides its work: llama.cpp's and vLLM's say whether the model is loaded, and that of Python answers
//! at all when it is. `/v1/models` would not do for that: Python's server stops the answer under way when it is asked. Once,
//! when it starts, it is tried as clients will use it: its models and one token.
//!
//! Nothing loops here; the supervisor's tasks do.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use holdfast_coordinator::{CannotRun, RunSettings, Runner};
use holdfast_supervisor::{NotReady, Spec, State, Supervisor, ports};
use serde_json::{Value, json};

use crate::settings::environment;

/// What a file of this format begins with (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>).
const MAGIC: [u8; 4] = *b"GGUF";
/// Where servers listen.
const HOST: &str = "127.0.0.1";
/// What runs models, where nothing else is said: llama.cpp's own server,
const LLAMA_SERVER: &str = "llama-server";
/// with these arguments,
const LLAMA_SERVER_ARGUMENTS: [&str; 8] =
    ["-m", "{gguf}", "--alias", "{model}", "--host", "{host}", "--port", "{port}"];
/// or that of the Python package,
const PYTHON: &str = "python3";
/// with these.
const PYTHON_ARGUMENTS: [&str; 10] =
    ["-m", "llama_cpp.server", "--model", "{gguf}", "--model_alias", "{model}", "--host", "{host}", "--port", "{port}"];
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
    /// Why servers were not started, by their providers.
    troubles: Mutex<BTreeMap<String, String>>,
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
    /// Models run by a supervisor; left alone where there is none. Logs lie in that folder.
    ///
    /// # Errors
    /// Where there can be no HTTP client.
    pub fn new(supervisor: Option<Supervisor>, logs: PathBuf) -> reqwest::Result<Self> {
        // A proxy has no business between two processes of one machine.
        let client = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(1)).build()?;
        Ok(Self { inner: Arc::new(Inner { supervisor, logs, client, troubles: Mutex::default() }) })
    }

    async fn launch(&self, name: &str, settings: &RunSettings) -> Result<String, String> {
        let Some(supervisor) = &self.inner.supervisor else {
            // Nobody asks it: `state` says that it does not run.
            return Ok(url(1));
        };
        let service = service(name);
        supervisor.remove(&service).await;
        self.note(name, None);
        let port = ports::free().map_err(|error| format!("cannot be given a port: {}", error.kind()))?;
        let command = match command_line(settings).await {
            Some(command) => command.filled(&settings.gguf, port),
            None => {
                self.note(name, Some(format!("it is not run: its command {INSTALL}")));
                return Ok(url(port));
            }
        };
        let logs = &self.inner.logs;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(logs);
        made.map_err(|error| format!("cannot be run: {} cannot be made: {error}", logs.display()))?;
        let spec = self.spec(service, command, port);
        supervisor.add(spec).map_err(|error| format!("cannot be run: {error}"))?;
        Ok(url(port))
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

    fn note(&self, name: &str, trouble: Option<String>) {
        let mut troubles = self.inner.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(trouble) => drop(troubles.insert(name.to_owned(), trouble)),
            None => drop(troubles.remove(name)),
        }
    }

    fn trouble(&self, name: &str) -> Option<String> {
        self.inner.troubles.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

impl Runner for LocalModels {
    fn check<'a>(&'a self, settings: &'a RunSettings) -> BoxFuture<'a, Result<(), CannotRun>> {
        Box::pin(async move {
            let gguf = settings.gguf.clone();
            let looked = tokio::task::spawn_blocking(move || check_file(&gguf)).await;
            let found = looked.unwrap_or_else(|_| Err("could not be looked at".to_owned()));
            found.map_err(|problem| CannotRun { field: "gguf", problem })?;
            match (command_line(settings).await, settings.command.first()) {
                (None, _) => Err(CannotRun { field: "command", problem: INSTALL.to_owned() }),
                (Some(_), Some(program)) if !is_there(program) => {
                    let problem = format!("names {program}, which is not a program here: give its path, or install it");
                    Err(CannotRun { field: "command", problem })
                }
                (Some(_), _) => Ok(()),
            }
        })
    }

    fn start<'a>(&'a self, name: &'a str, settings: &'a RunSettings) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(self.launch(name, settings))
    }

    fn until_ready<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
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
            self.note(name, None);
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
            None => Err(self.trouble(name).unwrap_or_else(|| "it is not run".to_owned())),
        }
    }
}

fn service(provider: &str) -> String {
    format!("model-{provider}")
}

fn url(port: u16) -> String {
    format!("http://{HOST}:{port}/v1")
}

/// What runs a model, with its places still to be filled; nothing where none of the usual programs is there.
async fn command_line(settings: &RunSettings) -> Option<CommandLine> {
    let words = |program: &str, arguments: &[&str]| CommandLine {
        program: program.to_owned(),
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
    };
    if let Some((program, arguments)) = settings.command.split_first() {
        return Some(CommandLine { program: program.clone(), arguments: arguments.to_vec() });
    }
    if is_there(LLAMA_SERVER) {
        return Some(words(LLAMA_SERVER, &LLAMA_SERVER_ARGUMENTS));
    }
    if !is_there(PYTHON) {
        return None;
    }
    let has_server = tokio::task::spawn_blocking(python_has_server).await.unwrap_or(false);
    has_server.then(|| words(PYTHON, &PYTHON_ARGUMENTS))
}

impl CommandLine {
    /// With everything in its place.
    fn filled(self, gguf: &Path, port: u16) -> Self {
        let (file, port) = (gguf.to_string_lossy(), port.to_string());
        let model = gguf.file_stem().unwrap_or_default().to_string_lossy();
        let places = [("{gguf}", file.as_ref()), ("{model}", model.as_ref()), ("{host}", HOST), ("{port}", &port)];
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

/// Whether a file is of the format that these servers read, by its first bytes.
fn check_file(path: &Path) -> Result<(), String> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "names a file that is not there".to_owned(),
        kind => format!("names a file that cannot be read: {kind}"),
    };
    // Opening a pipe that nobody writes into would wait for ever.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err("names what is not a file".to_owned());
    }
    let mut magic = [0; MAGIC.len()];
    let mut file = File::open(path).map_err(unreadable)?;
    match file.read_exact(&mut magic) {
        Ok(()) if magic == MAGIC => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(unreadable(error)),
        _ => Err("names a file that is not GGUF: it does not begin with these letters".to_owned()),
    }
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

/// Whether Python has that server, with all that it needs. Blocks while it tries.
fn python_has_server() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a trial that this function owns and ends in time, not a service")]
    let mut command = std::process::Command::new(PYTHON);
    command.args(["-c", PYTHON_TRIAL]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let began = Instant::now();
    while began.elapsed() < PYTHON_TRIAL_WITHIN {
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
            arguments: words(&["-m", "{gguf}", "--port={port}", "{host}:{port}", "{model}", "{other}", "{", "a{port"]),
        };
        let filled = command.filled(Path::new("/models/{port}.v1.gguf"), 81);
        let expected =
            ["-m", "/models/{port}.v1.gguf", "--port=81", "127.0.0.1:81", "{port}.v1", "{other}", "{", "a{port"];
        assert_eq!(filled.arguments, expected);
    }

    #[test]
    fn only_a_gguf_file_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            check_file(&path)
        };
        assert_eq!(check("good", b"GGUF\x03\0\0\0"), Ok(()));
        for (name, content) in [("zip", &b"PK\x03\x04"[..]), ("short", b"GGU"), ("empty", b""), ("ggml", b"ggjt1234")] {
            assert!(check(name, content).unwrap_err().contains("not GGUF"), "{name}");
        }
        assert!(check_file(folder.path()).unwrap_err().contains("not a file"));
        assert!(check_file(&folder.path().join("none")).unwrap_err().contains("not there"));
    }

    #[test]
    fn a_program_is_found_by_its_path_or_its_name() {
        assert!(is_there("/bin/sh") && is_there("sh"));
        assert!(!is_there("/etc/passwd") && !is_there("no-such-program") && !is_there("/no/such"));
    }

    #[tokio::test]
    async fn what_is_left_alone_is_not_started() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let models = LocalModels::new(None, "/nowhere".into()).unwrap();
        let settings = RunSettings { gguf: "/m.gguf".into(), command: vec!["false".into()] };
        models.start("local", &settings).await.unwrap();
        assert!(models.state("local").unwrap_err().contains("not run for this command"));
        assert!(models.until_ready("local").await.is_err());
        models.stop("local").await;
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_is_refused_at_once() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let models = LocalModels::new(None, "/nowhere".into()).unwrap();
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
