//! Reading the settings again while the program runs.
//!
//! A task is woken by a timer, to see whether the settings file or one with a secret has changed, and by SIGHUP; it ends
//! at shutdown. Files are looked at instead of watched: that finds a change whichever way it was made, over a network
//! and through the links of a Kubernetes volume too, and costs some system calls a second. What changed is taken over
//! all together or not at all.

use std::{
    fs,
    io::{self, IsTerminal},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use holdfast_server::Server;
use secrecy::{ExposeSecret, SecretString};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    commands::Session,
    output::count,
    settings::{Flags, Layers, Origin, Place, Problem, Problems, SECRETS, SecretSource, Settings, live},
    telemetry::Log,
};

/// How often files are looked at. One is read when it has looked the same twice: it may be half written.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the program was started with.
pub struct Started {
    /// The settings.
    pub layers: Layers,
    /// The secret among them.
    pub hub_token: Option<SecretString>,
}

/// Reads the settings again, and hands them on.
pub struct Reloader {
    place: Place,
    flags: Flags,
    server: Server,
    log: Log,
    /// What the program was started with, of what does not change while it runs, and what it has now of the rest.
    in_force: Layers,
    hub_token_at_start: Option<SecretString>,
    hang_up: Signal,
    has_terminal: bool,
    files: Vec<PathBuf>,
    looks: Looks,
    /// What was last said to wait for the next start.
    waiting: Vec<String>,
}

/// What wakes the task.
enum Wake {
    /// SIGHUP.
    HangUp,
    /// The timer.
    Timer,
    /// Shutdown.
    Stop,
}

/// What files look like from outside: which it is, how long, when it was changed.
type Look = Vec<Option<(u64, u64, u64, i64, i64)>>;

struct Looks {
    read: Look,
    last: Look,
}

impl Looks {
    fn new(files: &[PathBuf]) -> Self {
        let look = look(files);
        Self { read: look.clone(), last: look }
    }

    /// Whether there is something to read that looks finished, now that files look so.
    fn has_changed(&mut self, now: Look) -> bool {
        let is_settled = now == self.last;
        self.last = now;
        if is_settled && self.last != self.read {
            self.read.clone_from(&self.last);
            return true;
        }
        false
    }
}

fn look(files: &[PathBuf]) -> Look {
    let one = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
    };
    files.iter().map(one).collect()
}

impl Reloader {
    /// Takes the signal; from here on it no longer ends the process by itself.
    pub fn new(session: &Session, started: Started, server: Server, log: Log) -> io::Result<Self> {
        let (place, flags) = (session.place.clone(), session.flags.clone());
        let Started { layers: in_force, hub_token } = started;
        let files = files(&place, &in_force);
        Ok(Self {
            hub_token_at_start: hub_token,
            hang_up: signal(SignalKind::hangup())?,
            has_terminal: has_terminal(),
            looks: Looks::new(&files),
            files,
            waiting: Vec::new(),
            place,
            flags,
            server,
            log,
            in_force,
        })
    }

    /// Reads the settings whenever there is reason to, until `stop`. Ends the program through `end` where its terminal
    /// has gone.
    pub async fn run(mut self, stop: CancellationToken, end: CancellationToken) {
        loop {
            let wake = tokio::select! {
                () = stop.cancelled() => Wake::Stop,
                _ = self.hang_up.recv() => Wake::HangUp,
                () = tokio::time::sleep(LOOK_EVERY) => Wake::Timer,
            };
            match wake {
                Wake::Stop => return,
                Wake::HangUp if self.has_terminal && !has_terminal() => {
                    tracing::info!("the terminal has gone; ending");
                    end.cancel();
                    return;
                }
                Wake::HangUp => self.reload().await,
                Wake::Timer => self.look().await,
            }
        }
    }

    async fn look(&mut self) {
        let files = self.files.clone();
        // A network file system may take its time.
        let Ok(now) = tokio::task::spawn_blocking(move || look(&files)).await else { return };
        if self.looks.has_changed(now) {
            self.reload().await;
        }
    }

    async fn reload(&mut self) {
        let (place, flags) = (self.place.clone(), self.flags.clone());
        let read = move || {
            let layers = Layers::read(&place, &flags);
            let settings = layers.settings();
            (layers, settings)
        };
        // Whoever panics says so in the log, and the settings stay.
        let Ok((layers, settings)) = tokio::task::spawn_blocking(read).await else { return };
        let taken = settings.and_then(|settings| self.take(&layers, settings));
        match taken {
            Ok(changed) => {
                self.server.note_reload(None);
                tracing::info!("the settings were read again: {}", told(&changed));
            }
            Err(problems) => self.refuse(&problems),
        }
    }

    /// Takes the settings over, and gives the names of what changed and is in force now.
    fn take(&mut self, layers: &Layers, settings: Settings) -> Result<Vec<String>, Problems> {
        if self.in_force.file_was_there() && !layers.file_was_there() {
            return Err(Problems(vec![Problem {
                key: None,
                origin: Origin::File { path: self.place.file.path().to_owned(), line: None },
                what: "has gone".to_owned(),
                remedy: "put it back; an empty file stands for the defaults".to_owned(),
            }]));
        }
        self.server.reconfigure(settings.server.clone()).map_err(|error| {
            Problems(vec![Problem {
                key: None,
                origin: Origin::File { path: self.place.file.path().to_owned(), line: None },
                what: format!("has limits that the server refuses: {error}"),
                remedy: "docs/CONFIG.md shows what they may be".to_owned(),
            }])
        })?;
        self.log.reconfigure(&settings.log, &self.place.data_dir);
        let (changed, mut waiting): (Vec<_>, Vec<_>) =
            live::differences(&self.in_force, layers).into_iter().partition(|key| live::is_live(key));
        let exposed = |token: &Option<SecretString>| token.as_ref().map(|token| token.expose_secret().to_owned());
        if exposed(&self.hub_token_at_start).map(Zeroizing::new)
            != exposed(&settings.models.hub_token).map(Zeroizing::new)
        {
            waiting.push("models.hub_token".to_owned());
        }
        if waiting != self.waiting && !waiting.is_empty() {
            let settings = waiting.join(", ");
            tracing::warn!(settings, "what changed of {settings} takes effect at the next start");
        }
        self.waiting = waiting;
        self.in_force.take_over(layers, live::is_live);
        let files = files(&self.place, layers);
        if files != self.files {
            self.looks = Looks::new(&files);
            self.files = files;
        }
        Ok(changed)
    }

    /// Keeps the settings as they are, and says what is wrong with the new ones.
    fn refuse(&self, problems: &Problems) {
        for Problem { key, origin, what, remedy } in problems.shown() {
            let key = key.as_deref().unwrap_or_default();
            let subject = if key.is_empty() { origin.to_string() } else { format!("{key} ({origin})") };
            tracing::warn!(key, %origin, hint = remedy, "{subject} {what}");
        }
        let found = count(problems.0.len() as u64, "problem");
        tracing::error!("the settings were not taken over: {found}; those from before stay in force");
        self.server.note_reload(Some(format!("the settings file has {found}; the settings from before are in force")));
    }
}

/// Whether any of the standard streams is a terminal; one that was closed no longer is.
fn has_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

fn told(changed: &[String]) -> String {
    if changed.is_empty() { "nothing changed".to_owned() } else { format!("{} in force", changed.join(", ")) }
}

/// The settings file, and the files with secrets that it names.
fn files(place: &Place, layers: &Layers) -> Vec<PathBuf> {
    let named = |key: &str| {
        let value = layers.value(&format!("{key}_file"))?;
        match SecretSource::of(value.as_str()?).ok()?? {
            SecretSource::File(path) => Some(path),
            SecretSource::StandardInput => None,
        }
    };
    let file: &Path = place.file.path();
    std::iter::once(file.to_owned()).chain(SECRETS.into_iter().filter_map(named)).collect()
}
