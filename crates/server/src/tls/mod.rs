//! What the TLS listener proves itself with: the certificate and its key, exchanged while running when the files change.
//!
//! [`Tls::watch`] looks at the files every few seconds and ends at shutdown. Files that cannot be used are refused, what
//! was in use stays, and health, metrics and log say so. A connection keeps what it began with. How the files come to be
//! is the matter of [`authority`] or of the operator.

pub mod authority;

mod certificate;

mod code;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, SystemTime},
};

use holdfast_resilience::health::{Component, Since, Status};
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{NoServerSessionStorage, ResolvesServerCert},
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};
use tokio_util::sync::CancellationToken;

pub use self::{
    certificate::{Certificate, TlsError},
    code::TlsCode,
};

/// The protocols in ALPN, as IANA has registered them.
pub(crate) const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// So long before its end a certificate is one to be replaced.
pub const EXPIRES_SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// So long before, with urgency.
const EXPIRES_VERY_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How often the files are looked at. A look costs two system calls.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the log is reminded of a certificate that ends soon.
const REMIND_EVERY: Duration = DAY;

/// Where certificate and key lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate for this server and those between it and the authority, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

/// A certificate in use; cloning is shallow.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    files: Files,
    /// By which names and addresses this server is reached, as far as it knows.
    names: Vec<String>,
    /// How the files looked when they were first read.
    first_look: Look,
    state: RwLock<State>,
}

struct State {
    config: Arc<ServerConfig>,
    certificate: Arc<Certificate>,
    /// Why what lies in the files now is not in use.
    refused: Option<&'static str>,
    since: Since,
}

/// What the system says of the files; another answer means that one of them changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look([Option<Trait>; 2]);

/// What tells a file from the one it was.
type Trait = (u64, u64, i64, i64, u64);

/// Something that does not keep a certificate from being used, and should be mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// Its stable name.
    pub code: &'static str,
    /// What it is.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Tls {
    /// Reads and checks the files, for a server that is reached by these names and addresses.
    ///
    /// # Errors
    ///
    /// [`TlsError`] for files that cannot be served with.
    pub fn load(files: Files, names: Vec<String>) -> Result<Self, TlsError> {
        // Before they are read, so that no change goes unseen between that and the watch.
        let (now, first_look) = (SystemTime::now(), Look::at(&files));
        let (config, certificate) = read(&files, now)?;
        let state = State { config, certificate, refused: None, since: Since::new(now) };
        Ok(Self { shared: Arc::new(Shared { files, names, first_look, state: RwLock::new(state) }) })
    }

    /// What new connections are served with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state().config)
    }

    /// The certificate in use.
    pub fn certificate(&self) -> Arc<Certificate> {
        Arc::clone(&self.state().certificate)
    }

    /// Whether the certificate in use has a name: of a host, or an address.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.state().certificate.has_name(name)
    }

    /// What should be mended.
    pub fn concerns(&self) -> Vec<Concern> {
        let certificate = self.certificate();
        let age = certificate.age(SystemTime::now()).map(|age| age.concern(&certificate));
        age.into_iter().chain(self.lasting_concerns(&certificate)).collect()
    }

    /// What should be mended, and does not come with time.
    fn lasting_concerns(&self, certificate: &Certificate) -> Vec<Concern> {
        let (mut concerns, names) = (Vec::new(), &self.shared.names);
        if !names.iter().any(|name| certificate.has_name(name)) {
            let (own, its) = (names.join(", "), certificate.names.join(", "));
            concerns.push(Concern {
                code: TlsCode::CertificateNames.as_str(),
                what: format!("the certificate is for {its}, and this host is known to itself as {own}"),
                remedy: "nothing, if clients use a name of the certificate; else get one that has the name they use, or add it with `holdfast tls renew --name NAME`"
                    .to_owned(),
            });
        }
        if let Some(mode) = certificate::mode_for_group(&self.shared.files.key) {
            concerns.push(Concern {
                code: TlsCode::KeyGroupReadable.as_str(),
                what: format!(
                    "the group of {} may read the private key (mode {mode:o})",
                    self.shared.files.key.display()
                ),
                remedy: "chmod 600 it, unless that group is there for this".to_owned(),
            });
        }
        concerns
    }

    /// Reads the files again, and serves with them from now on if they can be used; whether that changed anything.
    ///
    /// # Errors
    ///
    /// [`TlsError`] for files that cannot be served with; what was in use stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let read = read(&self.shared.files, SystemTime::now());
        let mut state = self.state_mut();
        match read {
            Ok((config, certificate)) => {
                let is_new = certificate.fingerprint != state.certificate.fingerprint;
                // The same one again changes nothing, and sessions can still be taken up.
                if is_new {
                    state.config = config;
                    state.certificate = certificate;
                }
                state.refused = None;
                Ok(is_new)
            }
            Err(error) => {
                state.refused = Some(error.code());
                Err(error)
            }
        }
    }

    /// How the certificate is, as health has it.
    pub fn component(&self, now: SystemTime) -> Component {
        let mut state = self.state_mut();
        let (status, reason) = match (state.certificate.age(now), state.refused) {
            (Some(age @ Age::Expired), _) => (Status::Down, Some(age.reason(&state.certificate))),
            (_, Some(code)) => (Status::Degraded, Some(format!("the changed certificate files were refused: {code}"))),
            (Some(age), None) => (Status::Degraded, Some(age.reason(&state.certificate))),
            (None, None) => (Status::Ready, None),
        };
        state.since.observe(status, reason, now);
        state.since.component("tls")
    }

    /// Follows the files until shutdown. Tells the log what should be mended, at first and of each certificate that is new,
    /// and reminds it of one that ends.
    pub(crate) async fn watch(self, shutdown: CancellationToken) {
        let mut known = self.shared.first_look.clone();
        let mut seen = known.clone();
        let mut reminder = Reminder::default();
        self.tell_concerns();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.cancelled() => return,
            }
            let now = Look::at(&self.shared.files);
            // Two files are written one after the other: they are read once both have come to rest.
            let (came_to_rest, changed) = (now == seen, now != known);
            if came_to_rest && changed {
                known = now.clone();
                let tls = self.clone();
                // Reading takes as long as the disk takes.
                if let Ok(result) = tokio::task::spawn_blocking(move || tls.reload()).await {
                    self.tell_reload(result);
                }
                reminder = Reminder::default();
            }
            seen = now;
            self.remind(&mut reminder);
            // So that it is known since when it is as it is, whenever somebody asks.
            self.component(SystemTime::now());
        }
    }

    fn tell_reload(&self, result: Result<bool, TlsError>) {
        let outcome = match &result {
            Ok(true) => "changed",
            Ok(false) => "unchanged",
            Err(_) => "refused",
        };
        metrics::counter!("holdfast_tls_reloads_total", "outcome" => outcome).increment(1);
        match result {
            Ok(true) => {
                let certificate = self.certificate();
                let (subject, until) = (&certificate.subject, certificate.valid_until());
                tracing::info!(subject, until, "serving with a new certificate of {subject}, valid until {until}");
                self.tell_concerns();
            }
            Ok(false) => tracing::debug!("the certificate files changed and say the same"),
            Err(error) => {
                let (code, hint) = (error.code(), error.hint());
                tracing::error!(
                    code,
                    hint,
                    "the changed certificate files cannot be used, the certificate before them stays: {error}; {hint}"
                );
            }
        }
    }

    fn tell_concerns(&self) {
        self.lasting_concerns(&self.certificate()).iter().for_each(Concern::tell);
    }

    /// Says that the certificate ends soon, when it is time to.
    fn remind(&self, reminder: &mut Reminder) {
        let certificate = self.certificate();
        let Some(age) = reminder.due(certificate.age(SystemTime::now())) else { return };
        let Concern { code, what, remedy } = age.concern(&certificate);
        match age {
            Age::ExpiresSoon | Age::NotYetValid => tracing::warn!(code, hint = remedy, "{what}; {remedy}"),
            Age::ExpiresVerySoon | Age::Expired => tracing::error!(code, hint = remedy, "{what}; {remedy}"),
        }
    }

    /// Sets the gauge of when the certificate in use ends.
    pub(crate) fn measure(&self) {
        let end = self.state().certificate.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        metrics::gauge!("holdfast_tls_certificate_expiry_timestamp_seconds").set(end.as_secs_f64());
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        // Nothing panics while holding the lock.
        self.shared.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.shared.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Concern {
    fn tell(&self) {
        let Self { code, what, remedy } = self;
        tracing::warn!(code, hint = remedy, "{what}; {remedy}");
    }
}

impl Look {
    fn at(files: &Files) -> Self {
        let of = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
        };
        Self([of(&files.certificate), of(&files.key)])
    }
}

/// Where a certificate stands in the time it is valid for, if that is worth a word. In the order in which it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    NotYetValid,
    ExpiresSoon,
    ExpiresVerySoon,
    Expired,
}

/// What the log was told last of the certificate's end, and when.
#[derive(Default)]
struct Reminder(Option<(Age, tokio::time::Instant)>);

impl Reminder {
    /// What the log is to be told now: when something begins, and once a day from then on.
    fn due(&mut self, age: Option<Age>) -> Option<Age> {
        let is_told = self.0.is_some_and(|(told, at)| Some(told) == age && at.elapsed() < REMIND_EVERY);
        if is_told {
            return None;
        }
        self.0 = age.map(|age| (age, tokio::time::Instant::now()));
        age
    }
}

impl Age {
    /// In a few words, for anybody.
    fn reason(self, certificate: &Certificate) -> String {
        let (from, until) = (certificate.valid_from(), certificate.valid_until());
        match self {
            Self::NotYetValid => format!("the certificate is valid only from {from} on"),
            Self::ExpiresSoon | Self::ExpiresVerySoon => format!("the certificate ends at {until}"),
            Self::Expired => format!("the certificate ended at {until}"),
        }
    }

    fn concern(self, certificate: &Certificate) -> Concern {
        let (code, remedy) = match self {
            Self::NotYetValid => (TlsCode::CertificateNotYetValid, "look at this machine's clock, or wait"),
            Self::ExpiresSoon => {
                (TlsCode::CertificateExpiresSoon, "put a new one in its place, or run `holdfast tls renew`")
            }
            Self::ExpiresVerySoon => {
                (TlsCode::CertificateExpiresVerySoon, "put a new one in its place now, or run `holdfast tls renew`")
            }
            Self::Expired => (TlsCode::CertificateExpired, "put a new one in its place, or run `holdfast tls renew`"),
        };
        Concern { code: code.as_str(), what: self.reason(certificate), remedy: remedy.to_owned() }
    }
}

impl Certificate {
    fn age(&self, now: SystemTime) -> Option<Age> {
        let left = self.not_after.duration_since(now).unwrap_or_default();
        if left.is_zero() {
            Some(Age::Expired)
        } else if now < self.not_before {
            Some(Age::NotYetValid)
        } else if left < EXPIRES_VERY_SOON {
            Some(Age::ExpiresVerySoon)
        } else {
            (left < EXPIRES_SOON).then_some(Age::ExpiresSoon)
        }
    }
}

fn read(files: &Files, now: SystemTime) -> Result<(Arc<ServerConfig>, Arc<Certificate>), TlsError> {
    let (certified, certificate) = certificate::read(files)?;
    if certificate.age(now) == Some(Age::Expired) {
        let ended_at = certificate.valid_until();
        return Err(TlsError::Expired { path: files.certificate.clone(), ended_at });
    }
    let config = server_config(Arc::new(SingleCertAndKey::from(certified)))?;
    Ok((Arc::new(config), Arc::new(certificate)))
}

/// TLS 1.3 and 1.2 with the library's own choice of ciphers, all of them with forward secrecy and authenticated
/// encryption. Renegotiation and compression do not exist in it, and early data, which could be replayed, is off.
fn server_config(certificate: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, TlsError> {
    let library = |error: rustls::Error| TlsError::Library { reason: error.to_string() };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(library)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.ignore_client_order = true;
    config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
    // Sessions are kept by the client, under keys that change every six hours and are forgotten with the certificate.
    config.ticketer = ring::Ticketer::new().map_err(library)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_log_is_told_when_it_begins_and_once_a_day() {
        let (mut reminder, second) = (Reminder::default(), Duration::from_secs(1));
        let (soon, very_soon) = (Some(Age::ExpiresSoon), Some(Age::ExpiresVerySoon));
        assert_eq!(reminder.due(None), None);
        assert_eq!(reminder.due(soon), soon);
        tokio::time::advance(DAY - second).await;
        assert_eq!(reminder.due(soon), None);
        tokio::time::advance(second).await;
        assert_eq!(reminder.due(soon), soon);
        assert_eq!(reminder.due(soon), None);
        assert_eq!(reminder.due(very_soon), very_soon, "at once, where it is another matter");
        assert_eq!(reminder.due(very_soon), None);
        assert_eq!(reminder.due(None), None);
        assert_eq!(reminder.due(very_soon), very_soon, "it began anew");
    }
}
