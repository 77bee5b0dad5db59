//! All services of this program: adding, finding and removing them.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use holdfast_resilience::health::{Component, Report};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backoff::Backoff,
    launch::Launcher,
    log::Tail,
    orders::{Aim, Orders, Wish},
    service::Service,
    situation::Board,
    spec::{Spec, SpecError},
    supervised::Supervised,
};

/// The variables of our environment that services get, too: where programs, files and libraries are, and which language
/// and time people have. Everything else, such as secrets, they get only from their specification.
pub const PASSED_ON: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    // Without it this program itself may not start where libraries lie in unusual places.
    "LD_LIBRARY_PATH",
    "XDG_RUNTIME_DIR",
];

/// What all services have in common.
#[derive(Clone)]
pub struct Config {
    /// This program, whose `main` begins with [`crate::child::run_if_asked`].
    pub own_program: PathBuf,
    /// Our environment; services get of it what [`PASSED_ON`] names.
    pub environment: Vec<(OsString, OsString)>,
}

impl Default for Config {
    /// The file that this process runs, even where another has taken its place by now; and no environment.
    fn default() -> Self {
        Self { own_program: "/proc/self/exe".into(), environment: Vec::new() }
    }
}

/// Keeps services running; cloning is shallow.
#[derive(Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

struct Inner {
    launcher: Launcher,
    tasks: TaskTracker,
    stop: CancellationToken,
    services: Mutex<BTreeMap<String, Supervised>>,
}

/// Why a service was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// It could never work.
    #[error(transparent)]
    Spec(#[from] SpecError),

    /// There is one of its name.
    #[error("there is a service {name:?} already")]
    Exists {
        /// The name.
        name: String,
    },

    /// Another one writes into its log.
    #[error("the service {other:?} writes into the same log file")]
    LogTaken {
        /// The name of that one.
        other: String,
    },

    /// The program is ending.
    #[error("services are being ended")]
    Stopping,
}

impl Supervisor {
    /// A supervisor without services. Its tasks belong to `tasks` and end, processes included, when `stop` is cancelled;
    /// they take as long for that as the longest `stop_grace`, and about a second.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(config: Config, tasks: TaskTracker, stop: CancellationToken) -> io::Result<Self> {
        let Config { own_program, mut environment } = config;
        environment.retain(|(name, _)| PASSED_ON.iter().any(|passed_on| name == passed_on));
        let launcher = Launcher::start(own_program, environment)?;
        Ok(Self { inner: Arc::new(Inner { launcher, tasks, stop, services: Mutex::default() }) })
    }

    /// Keeps a service running from now on. Returns at once; must be called within a runtime.
    ///
    /// # Errors
    /// [`AddError`], and then nothing was started.
    pub fn add(&self, spec: Spec) -> Result<Supervised, AddError> {
        spec.check()?;
        let mut services = self.services();
        if self.inner.stop.is_cancelled() {
            return Err(AddError::Stopping);
        }
        if services.contains_key(&spec.name) {
            return Err(AddError::Exists { name: spec.name });
        }
        if let Some(other) = services.values().find(|other| other.log_file() == spec.log_file) {
            return Err(AddError::LogTaken { other: other.name().to_owned() });
        }
        let supervised = self.supervise(spec);
        services.insert(supervised.name().to_owned(), supervised.clone());
        Ok(supervised)
    }

    fn supervise(&self, spec: Spec) -> Supervised {
        let wishes = watch::Sender::new(Wish { number: 0, aim: Aim::Up });
        let (board, tail) = (Board::new(&spec), Tail::default());
        let orders = Orders::new(wishes.subscribe(), self.inner.stop.clone());
        let (name, log_file) = (spec.name.clone(), spec.log_file.as_path().into());
        let supervised = Supervised::new(name, log_file, tail.clone(), wishes, board.subscribe());
        let backoff = Backoff::new(spec.restart, fastrand::Rng::new());
        let (launcher, tasks) = (self.inner.launcher.clone(), self.inner.tasks.clone());
        let service = Service { spec, launcher, orders, board, backoff, tail, tasks, has_run: false };
        self.inner.tasks.spawn(service.run());
        supervised
    }

    /// The service of this name.
    pub fn get(&self, name: &str) -> Option<Supervised> {
        self.services().get(name).cloned()
    }

    /// All services, by name.
    pub fn all(&self) -> Vec<Supervised> {
        self.services().values().cloned().collect()
    }

    /// Ends a service and forgets it; tells whether there was one. Its name is taken until it has ended.
    pub async fn remove(&self, name: &str) -> bool {
        let Some(service) = self.get(name) else { return false };
        service.remove().await;
        let mut services = self.services();
        // Somebody else may have removed it meanwhile, and added another.
        if services.get(name).is_some_and(|now| now.is(&service)) {
            services.remove(name);
        }
        true
    }

    fn services(&self) -> MutexGuard<'_, BTreeMap<String, Supervised>> {
        // Nothing panics while holding the lock.
        self.inner.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report for Supervisor {
    /// One part a service. Whoever stopped a service does not miss it.
    fn components(&self) -> Vec<Component> {
        let services = self.services();
        let wanted = services.values().filter(|service| service.is_wanted());
        wanted.map(|service| service.situation().health).collect()
    }
}
