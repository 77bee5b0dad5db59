//! `holdfast mcp`: an agent's standard input and output, carried to the server and back.
//!
//! The server speaks MCP; this only copies bytes, so nothing but what it says reaches standard output. Where no server
//! runs, one is started that ends when nobody has used it for a while. Any number of these commands may start one at
//! once: the lock of the data directory decides whose stays, and the others find it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use axum::http::{StatusCode, header};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, task::JoinSet, time::Instant};

use super::Session;
use crate::{control, hint::Advice, settings::SettingsFile, telemetry::Reader};

/// How long a server may take from its start to its first answer: it may have to replay and to migrate.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How often the socket is tried meanwhile.
const RETRY: Duration = Duration::from_millis(50);
/// How long a server that was there first may need to answer before another is started.
const WINNER_PATIENCE: Duration = Duration::from_secs(5);
/// What the server is asked to speak.
const PROTOCOL: &str = "holdfast-mcp";
/// What servers before have left there is not kept beyond this.
const SERVER_LOG_BYTES_MAX: u64 = 256 << 10;
/// How much of the log of a server that did not start is shown.
const LOG_TAIL_BYTES: u64 = 2_000;

/// Carries bytes until either side is done.
pub async fn run(session: &Session) -> Result<()> {
    session.settings(Reader::User)?;
    let mut drivers = JoinSet::new();
    let stream = reach(session, &mut drivers).await?;
    copy(stream).await.context("the connection to the server was lost")
}

/// Copies both ways. The end of the input is passed on, and then what the server still has to say is waited for.
async fn copy(stream: Upgraded) -> io::Result<()> {
    let (mut from_server, mut to_server) = tokio::io::split(TokioIo::new(stream));
    let (mut input, mut output) = (tokio::io::stdin(), tokio::io::stdout());
    let up = async {
        tokio::io::copy(&mut input, &mut to_server).await?;
        to_server.shutdown().await?;
        // The other direction decides when all is said.
        std::future::pending::<io::Result<()>>().await
    };
    let down = async {
        tokio::io::copy(&mut from_server, &mut output).await?;
        output.flush().await
    };
    tokio::select! {
        result = up => result,
        result = down => result,
    }
}

/// Connects to the server, and starts one where none is. One that is just ending is tried again until it has ended.
async fn reach(session: &Session, drivers: &mut JoinSet<()>) -> Result<Upgraded> {
    let deadline = Instant::now() + START_PATIENCE;
    let data_dir = &session.place.data_dir;
    let mut started = None;
    loop {
        let error = match upgrade(data_dir, drivers).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(error.context("no server answered"));
        }
        started = match started {
            None => Some(Started::spawn(session)?),
            Some(started) => started.still_worth_waiting_for()?,
        };
        tokio::time::sleep(RETRY).await;
    }
}

/// Asks the server to speak MCP on the connection itself (RFC 9110, section 7.8).
async fn upgrade(data_dir: &Path, drivers: &mut JoinSet<()>) -> Result<Upgraded> {
    let stream = control::connect(data_dir).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    drivers.spawn(async move {
        // What ends the connection is seen by whoever reads from it.
        let _ = connection.with_upgrades().await;
    });
    let request = hyper::Request::get("/mcp/stdio")
        .header(header::HOST, "localhost")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, PROTOCOL)
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        bail!("the server answered {} instead of speaking MCP", response.status());
    }
    Ok(hyper::upgrade::on(response).await?)
}

/// A server that was started by this command.
struct Started {
    child: Child,
    log: PathBuf,
    /// Where this server's lines begin.
    log_start: u64,
    ended_at: Option<Instant>,
}

impl Started {
    fn spawn(session: &Session) -> Result<Self> {
        let (log, file) = open_log(&session.place.data_dir)?;
        let log_start = file.metadata()?.len();
        let program = std::env::current_exe().context("failed to find this program")?;
        #[expect(
            clippy::disallowed_methods,
            reason = "a server that outlives the agent it was started for is this program again, which has its own lock, \
                      end and log; there is no supervisor to hand it to"
        )]
        let mut command = std::process::Command::new(program);
        command.arg("--data-dir").arg(&session.place.data_dir);
        if let SettingsFile::Named(path) = &session.place.file {
            command.arg("--config").arg(std::path::absolute(path)?);
        }
        if let Some(listen) = &session.flags.listen {
            command.arg("--listen").arg(listen);
        }
        if let Some(profile) = session.flags.profile {
            command.args(["--profile", profile.as_str()]);
        }
        // It takes a session of its own as soon as it runs, so that Ctrl-C here does not reach it.
        command.args(["up", "--idle-exit"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.current_dir("/").spawn().context("failed to start a server")?;
        Ok(Self { child, log, log_start, ended_at: None })
    }

    /// Gives itself back while there is something to wait for. One that found the place taken ends in peace, and the
    /// other is given a while to answer; then another is to be started.
    fn still_worth_waiting_for(mut self) -> Result<Option<Self>> {
        let Some(status) = self.child.try_wait().context("failed to look after the server")? else {
            return Ok(Some(self));
        };
        if !status.success() {
            let what = format!("the server that was started ended ({status}): {}", self.last_words());
            return Err(Advice::new(what, format!("its log is {}", self.log.display())).into());
        }
        let ended_at = *self.ended_at.get_or_insert_with(Instant::now);
        Ok((ended_at.elapsed() < WINNER_PATIENCE).then_some(self))
    }

    fn last_words(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(&self.log)?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.log_start.max(end.saturating_sub(LOG_TAIL_BYTES))))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        read().unwrap_or_else(|error| format!("its log cannot be read: {error}"))
    }
}

/// What servers that nobody watches have to say before they can write a log, and of the log itself.
fn open_log(data_dir: &Path) -> Result<(PathBuf, File)> {
    let folder = data_dir.join("logs");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    let path = folder.join("server.log");
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("failed to open {}", path.display()))?;
    if file.metadata()?.len() > SERVER_LOG_BYTES_MAX {
        file.set_len(0)?;
    }
    Ok((path, file))
}
