//! A data directory of its own for each test, the program run in it, and a server that is watched and always ended.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use holdfast_testkit::tiny_model;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);
/// The name the tiny model goes by here.
pub const MODEL: &str = "tiny";

/// A data directory, settings that use the tiny model, and a folder of documents.
pub struct Home {
    folder: TempDir,
}

impl Home {
    /// Everything there but the model.
    pub fn bare() -> Result<Self> {
        let home = Self { folder: tempfile::tempdir()? };
        // What is logged on the way depends on what is faster: only what goes wrong is told.
        let models = format!("[models]\ndefault = '{MODEL}'\nsources = []\nthreads = 1\n");
        fs::write(home.settings(), format!("{models}[log]\nlevel = 'warn'\n"))?;
        fs::create_dir(home.docs())?;
        Ok(home)
    }

    /// With the model, as `models pull` puts it there.
    pub fn new() -> Result<Self> {
        Self::with_model(tiny_model::write)
    }

    /// The same for a server that others take for a remote model: it reads the texts that they try it with.
    pub fn remote() -> Result<Self> {
        Self::with_model(tiny_model::write_wide)
    }

    fn with_model(write: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let home = Self::bare()?;
        let model = home.path("model");
        write(&model)?;
        let model = model.to_str().context("a path that is not UTF-8")?;
        home.succeed(&["models", "pull", MODEL, "--from", model])?;
        Ok(home)
    }

    /// With the model and a few documents.
    pub fn with_documents() -> Result<Self> {
        let home = Self::new()?;
        home.document("pinning.md", "# Pinning\n\nA flake lock pins the version of every input.\n")?;
        home.document("garden.md", "# Garden\n\nFlowers grow in spring when the rain is warm.\n")?;
        home.document("server.md", "# Server\n\nThe option services.nginx.enable starts a web server.\n")?;
        Ok(home)
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    pub fn docs(&self) -> PathBuf {
        self.path("docs")
    }

    pub fn settings(&self) -> PathBuf {
        self.path("settings.toml")
    }

    pub fn document(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.docs().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// The program, with nothing of this machine's settings in its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", "/usr/bin:/bin")
            .current_dir(self.folder.path())
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--config")
            .arg(self.settings())
            .args(arguments);
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        finished(self.command(arguments))
    }

    /// Runs the program, which is to succeed, and gives what it printed.
    pub fn succeed(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {}\n{}", output.status, told(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs the program with `--json`, which is to succeed, and gives the object it printed.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let printed = self.succeed(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&printed).with_context(|| format!("{arguments:?} printed {printed}"))
    }

    /// Exit code, standard output and standard error, in a form that is the same everywhere.
    pub fn transcript(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.told(&self.run(arguments)?))
    }

    /// The same of a process that has ended.
    pub fn told(&self, output: &Output) -> String {
        let code = output.status.code().map_or("signal".to_owned(), |code| code.to_string());
        let text = format!("exit {code}\n-- stdout\n{}-- stderr\n{}", told(&output.stdout), told(&output.stderr));
        text.replace(&*self.folder.path().to_string_lossy(), "[home]")
    }

    /// Starts a server on a free port, and waits until it listens.
    pub fn up(&self, arguments: &[&str]) -> Result<Server> {
        Server::start_logging_to(
            self.command(&[&["up", "--listen", "127.0.0.1:0", "--json"], arguments].concat()),
            Stdio::inherit(),
        )
    }

    /// The same of a command of one's own, with its standard error where one likes.
    pub fn up_as(&self, command: Command, stderr: Stdio) -> Result<Server> {
        Server::start_logging_to(command, stderr)
    }

    /// What is to be written in the settings file besides what a test needs.
    pub fn set(&self, settings: &str) -> Result<()> {
        let models = format!("[models]\ndefault = '{MODEL}'\nsources = []\nthreads = 1\n");
        // In one step: a server that reads it sees the one or the other.
        let next = self.path("settings.next");
        fs::write(&next, format!("{settings}\n{models}"))?;
        Ok(fs::rename(next, self.settings())?)
    }

    /// The lines of the log file, oldest first.
    pub fn log(&self) -> Result<Vec<Value>> {
        let path = self.data_dir().join("logs/holdfast.log");
        let text = if path.exists() { fs::read_to_string(path)? } else { String::new() };
        text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))).collect()
    }

    /// Starts a server by a command of its own, and waits until it listens.
    pub fn server(&self, command: Command) -> Result<Server> {
        Server::start(command)
    }

    /// Starts a server that indexes the documents, and waits until it has.
    pub fn up_with_documents(&self) -> Result<Server> {
        let mut server = self.up(&["docs"])?;
        server.event("indexed")?;
        Ok(server)
    }

    /// The process that holds the data directory, or was the last to.
    pub fn holder(&self) -> Result<Pid> {
        let text = fs::read_to_string(self.data_dir().join("run/lock"))?;
        Pid::from_raw(text.trim().parse()?).context("no process has the number 0")
    }
}

impl Drop for Home {
    /// A server that `mcp` started is nobody's child, and would outlive the test.
    fn drop(&mut self) {
        if fs::exists(self.data_dir().join("run/control.sock")).unwrap_or(false)
            && let Ok(pid) = self.holder()
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn told(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for a process to end, and ends it when that takes too long.
pub fn finished(mut command: Command) -> Result<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    wait_with_output(child)
}

/// The same of one that was started before.
pub fn wait_with_output(child: Child) -> Result<Output> {
    let pid = Pid::from_child(&child);
    let (done, is_done) = sync_channel::<()>(1);
    let watchdog = thread::spawn(move || {
        if is_done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let output = child.wait_with_output();
    drop(done);
    watchdog.join().map_err(|_| anyhow!("the watchdog panicked"))?;
    Ok(output?)
}

/// A server in its own process, and the events it prints.
pub struct Server {
    child: Child,
    events: Receiver<Value>,
    /// What it said when it began to listen.
    pub listening: Value,
}

impl Server {
    pub fn start(command: Command) -> Result<Self> {
        Self::start_logging_to(command, Stdio::inherit())
    }

    /// The same of one whose log goes elsewhere.
    pub fn start_logging_to(mut command: Command, log: impl Into<Stdio>) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let stdout = child.stdout.take().context("no output to read")?;
        let (sender, events) = sync_channel(10_000);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let mut server = Self { child, events, listening: Value::Null };
        server.listening = server.event("listening")?;
        Ok(server)
    }

    /// Waits for an event of that name, past any progress.
    pub fn event(&mut self, name: &str) -> Result<Value> {
        loop {
            let event = self.events.recv_timeout(PATIENCE).with_context(|| format!("no event {name:?} came"))?;
            match event["event"].as_str() {
                Some(found) if found == name => return Ok(event),
                Some("progress") => {}
                _ => bail!("{event} came instead of {name:?}"),
            }
        }
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> Result<&str> {
        self.listening["url"].as_str().and_then(|url| url.strip_prefix("http://")).context("no address")
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Stops it with a signal, and gives the code it ended with.
    pub fn stop(mut self, signal: Signal) -> Result<Option<i32>> {
        self.signal(signal)?;
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("the server did not end")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again and again until there is something to see.
pub fn until<T>(what: &str, look: impl Fn() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("{what}: it never came to that")
}

/// Sends a request over a socket of its own, and gives status and body.
pub fn http(address: &str, request: &str) -> Result<(u16, String)> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.replace('\n', "\r\n").as_bytes())?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the headers")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// Whether a file is closed to everybody but its owner.
pub fn is_private(path: &Path) -> Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::symlink_metadata(path)?.permissions().mode() & 0o077 == 0)
}
