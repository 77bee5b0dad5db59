//! `holdfast up`: the server in the foreground, from its first sign of life to its last.
//!
//! Runs until a signal, a listener that fails, or, for a server that `mcp` started, a while without use. The second
//! signal ends it at once, in whatever state.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use holdfast_storage::{DataDirectory, StorageError, keys::Secret};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Session;
use crate::{
    arguments,
    commands::add,
    first_run::{self, Noticed},
    hint::Advice,
    output::{Form, count, say},
    progress,
    reload::{Reloader, Started},
    settings::SettingsFile,
    shutdown::Signals,
    telemetry::{self, Reader},
    transport::Transport,
    wiring::{Holding, Listeners, Network, Ports, Program, certificate},
};

/// What a shell reports for a process that Ctrl-C ended: 128 and the signal's number.
const INTERRUPTED: u8 = 130;
/// How often an unwatched server looks whether it is needed.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// Serves until told to stop.
pub async fn run(session: &Session, arguments: arguments::Up) -> Result<ExitCode> {
    let mut signals = Signals::take().context("failed to listen for signals")?;
    let stop = CancellationToken::new();
    let serving = Box::pin(serve(session, &arguments, &stop));
    tokio::pin!(serving);
    tokio::select! {
        result = &mut serving => return result.map(|()| ExitCode::SUCCESS),
        () = signals.next() => stop.cancel(),
    }
    tokio::select! {
        result = &mut serving => result.map(|()| ExitCode::SUCCESS),
        () = signals.next() => {
            say("ending at once");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

async fn serve(session: &Session, arguments: &arguments::Up, stop: &CancellationToken) -> Result<()> {
    let layers = session.layers();
    let settings = layers.settings()?;
    let reader = if arguments.idle_exit.is_some() { Reader::LaterOperator } else { Reader::Operator };
    let log = telemetry::start(&settings.log, &settings.otlp, reader)?;
    let paths = add::absolute(&arguments.paths)?;
    if arguments.idle_exit.is_some() {
        leave_the_terminal();
    }
    let holding = match Holding::take(&session.place) {
        // The server that has it does what this one is for.
        Err(StorageError::InUse { .. }) if arguments.idle_exit.is_some() => return Ok(()),
        Err(error @ StorageError::InUse { .. }) => {
            let remedy = "hand it more with `holdfast add PATH…`, stop it, or give another --data-dir";
            return Err(anyhow::Error::new(error).context(Advice::new("a server runs here already", remedy)));
        }
        holding => holding?,
    };
    log.write_files(&settings.log, holding.root());
    let hub_token = settings.models.hub_token.clone();
    let ports = Ports {
        listen: settings.listen,
        encrypted: certificate(&settings, &session.place.data_dir)?,
        metrics: settings.metrics_listen,
    };
    let discover = settings.discover_providers;
    let program = Box::pin(Program::build(holding, settings)).await?;
    log.register_metrics();
    let reloader = Reloader::new(session, Started { layers, hub_token }, program.server.clone(), log.clone())
        .context("failed to listen for SIGHUP")?;
    program.follow_settings(reloader, stop.clone());
    let opened = open(session, arguments, &program, ports, discover).await;

    let transport = Transport::InProcess(Box::new(program));
    let result = match opened {
        Ok(()) => until_stopped(session, arguments, &transport, &paths, stop).await,
        Err(error) => Err(error),
    };
    if session.output.form() == Form::Text && result.is_ok() {
        say("stopping");
    }
    transport.close().await;
    log.end_files();
    result?;
    if session.output.form() == Form::Json {
        session.output.json(&json!({ "event": "stopped" }))?;
    }
    Ok(())
}

/// Opens the doors, and says where they are.
async fn open(
    session: &Session,
    arguments: &arguments::Up,
    program: &Program,
    ports: Ports,
    discover: bool,
) -> Result<()> {
    let is_unwatched = arguments.idle_exit.is_some();
    let network = if is_unwatched { Network::IfFree } else { Network::Required };
    let mut listeners = Listeners::bind(ports, network, program.holding().root()).await?;
    // Made when nothing can go wrong any more, and where somebody reads it: it is shown once.
    let admin_key = if is_unwatched { None } else { first_run::admin_key(&program.storage).await? };
    listeners.check_keys(&program.storage, network)?;
    let urls = Urls::of(&listeners);
    program.serve(listeners);
    announce(session, program, &urls, admin_key.as_ref().map(Secret::reveal))?;
    if discover && !is_unwatched && program.coordinator.providers().is_empty() {
        offer(&first_run::notice_providers().await);
    }
    Ok(())
}

/// Says how servers of language models that were found can be put to use.
fn offer(found: &[Noticed]) {
    for Noticed { name, url, models } in found {
        let models = count(*models as u64, "model");
        say(&format!("{name} runs here, with {models}; to use it: holdfast providers add {name} --url {url}"));
    }
}

/// Indexes what is to be indexed, and then waits for the end.
async fn until_stopped(
    session: &Session,
    arguments: &arguments::Up,
    transport: &Transport,
    paths: &[PathBuf],
    stop: &CancellationToken,
) -> Result<()> {
    let working = async {
        if !paths.is_empty() {
            index(session, &arguments.collection, transport, paths).await?;
        }
        match (arguments.idle_exit, transport.program()) {
            (Some(seconds), Some(program)) => until_idle(program, Duration::from_secs(seconds)).await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        result = working => result,
        () = stop.cancelled() => Ok(()),
    }
}

/// Where the server can be reached.
struct Urls {
    /// Without encryption.
    plain: Option<String>,
    /// With it.
    encrypted: Option<String>,
    /// Where it says that it is to be reached elsewhere.
    redirect: Option<String>,
    /// Where the metrics are had without a key.
    metrics: Option<String>,
}

impl Urls {
    fn of(listeners: &Listeners) -> Self {
        let encrypted = listeners.encrypted().map(|(address, tls)| {
            // An address that stands for all of them is none that a client could use.
            let certificate = tls.certificate();
            let is_loopback = |name: &str| name.parse().map_or(name == "localhost", |ip: IpAddr| ip.is_loopback());
            let name = certificate.names.iter().find(|name| address.ip().is_unspecified() && !is_loopback(name));
            name.map_or_else(
                || format!("https://{address}"),
                |name| format!("https://{}:{}", host(name), address.port()),
            )
        });
        let (plain, redirect): (Vec<_>, Vec<_>) =
            listeners.address().into_iter().partition(|address| address.ip().is_loopback());
        let url = |addresses: Vec<SocketAddr>| addresses.first().map(|address| format!("http://{address}"));
        let metrics = listeners.metrics().map(|address| format!("http://{address}/metrics"));
        Self { plain: url(plain), encrypted, redirect: url(redirect), metrics }
    }
}

/// A host as it stands in a URL.
fn host(name: &str) -> String {
    if name.contains(':') { format!("[{name}]") } else { name.to_owned() }
}

/// Says where the server can be reached.
fn announce(session: &Session, program: &Program, urls: &Urls, admin_key: Option<&str>) -> Result<()> {
    let data_dir = program.holding().root();
    if session.output.form() == Form::Json {
        let mut event = json!({
            "event": "listening",
            "url": urls.plain.as_ref().or(urls.encrypted.as_ref()),
            "tls_url": urls.encrypted,
            "redirect_url": urls.redirect,
            "metrics_url": urls.metrics,
            "control_socket": DataDirectory::control_socket(data_dir),
            "version": env!("CARGO_PKG_VERSION"),
        });
        if let Some(key) = admin_key {
            event["admin_key"] = Value::from(key);
        }
        session.output.json(&event)?;
        return Ok(());
    }
    say(&format!("holdfast {}, data in {}", env!("CARGO_PKG_VERSION"), data_dir.display()));
    if program.holding().is_new && matches!(session.place.file, SettingsFile::Usual(_)) {
        say(&format!("settings to edit: {}", session.place.file.path().display()));
    }
    for url in urls.plain.iter().chain(&urls.encrypted) {
        say(&format!("listening on {url}"));
    }
    if let Some(url) = &urls.redirect {
        say(&format!("redirecting from {url}"));
    }
    if let Some(url) = &urls.metrics {
        say(&format!("metrics at {url}, for anybody on this machine"));
    }
    if let Some(key) = admin_key {
        say(&format!("admin key, shown this once: {key}"));
    }
    Ok(())
}

/// Adds the paths as sources, and shows how far they are until all is in.
async fn index(session: &Session, collection: &str, transport: &Transport, paths: &[PathBuf]) -> Result<()> {
    let added = add::sources(transport, collection, paths).await?;
    let outcome = match progress::follow(transport, &added.jobs, session.output).await {
        Ok(outcome) => outcome,
        // That nobody can see how far it is ends no server.
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "lost sight of the progress; indexing goes on");
            return Ok(());
        }
    };
    let chunks = add::chunks(transport, collection).await;
    if session.output.form() == Form::Json {
        session.output.json(&json!({
            "event": "indexed",
            "job_id": added.jobs.first(),
            "job_ids": added.jobs,
            "documents": outcome.counts.done,
            "chunks": chunks,
            "skipped": outcome.counts.skipped,
            "failed": outcome.counts.failed,
            "seconds": (outcome.took.as_secs_f64() * 1_000.0).round() / 1_000.0,
        }))?;
        return Ok(());
    }
    for line in add::summary(&outcome, &added.sources) {
        say(&line);
    }
    say("following changes; Ctrl-C stops");
    Ok(())
}

/// Returns when nobody has been connected and nothing has been done for that long.
async fn until_idle(program: &Program, patience: Duration) -> Result<()> {
    loop {
        tokio::time::sleep(IDLE_CHECK.min(patience)).await;
        let server = &program.server;
        let is_idle = server.active_connections() == 0 && server.last_activity().elapsed() >= patience;
        if is_idle && !program.knowledge.is_busy() {
            tracing::info!(
                idle_s = patience.as_secs(),
                "nobody was here for {}; ending",
                count(patience.as_secs(), "second")
            );
            return Ok(());
        }
    }
}

/// Gives the process a session of its own, so that neither Ctrl-C nor the end of the terminal that it was started from
/// reaches it.
fn leave_the_terminal() {
    if let Err(error) = rustix::process::setsid() {
        // It leads its process group already: somebody gave it a terminal of its own.
        tracing::debug!(%error, "kept the session this was started in: {error}");
    }
}
