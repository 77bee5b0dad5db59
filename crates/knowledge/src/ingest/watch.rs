//! Notices changes of sources' files and asks for a reconciliation.
//!
//! One task owns the operating system's watcher. It is woken by events, which it gathers for a
//! moment, and by a timer: what the system did not tell (a network file system, an exhausted
//! watch limit) is found by a look at sizes and times. It ends when the knowledge base shuts
//! down.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use holdfast_storage::{Grants, Storage, StorageError, sources::Source};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Scope, Sources};

/// Paths noticed and not yet looked at; when there are more, everything is looked at.
const NOTICED_MAX: usize = 4_096;
/// How long events are gathered: an editor writes a file in several steps.
const GATHER: Duration = Duration::from_millis(300);
/// How often sizes and times are compared without having been told of anything.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// The handle to the watching task; cloning is shallow.
#[derive(Clone)]
pub(crate) struct Watcher {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    sources_changed: Notify,
    /// Sources that the operating system does not watch, with the reason.
    unwatched: Mutex<BTreeMap<i64, String>>,
}

/// What can wake the task.
enum Wake {
    Shutdown,
    SourcesChanged,
    Timer,
    Noticed(Noticed),
}

/// Something the operating system told.
enum Noticed {
    Paths(Vec<PathBuf>),
    /// Events were lost: anything may have changed.
    Overflow,
}

struct Task {
    shared: Arc<Shared>,
    storage: Storage,
    sources: Sources,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<i64, Watched>,
}

/// A source that is kept in step.
struct Watched {
    source: Source,
    /// What the system was told to watch; absent where it refused.
    directory: Option<PathBuf>,
}

impl Watcher {
    pub(crate) fn start(storage: Storage, sources: Sources, shutdown: CancellationToken, tasks: &TaskTracker) -> Self {
        let shared = Arc::<Shared>::default();
        let (tell, noticed) = mpsc::channel(NOTICED_MAX);
        let watcher = RecommendedWatcher::new(
            move |event| {
                if let Some(told) = translate(event) {
                    // A full channel means thousands of paths wait: the timer's look finds the
                    // rest, and sooner, since the task looks at everything when it was full.
                    let _ = tell.try_send(told);
                }
            },
            notify::Config::default().with_follow_symlinks(false),
        );
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "the system does not watch files; looking every minute");
                None
            }
        };
        let task = Task { shared: Arc::clone(&shared), storage, sources, watcher, watched: BTreeMap::new() };
        tasks.spawn(task.run(noticed, shutdown));
        Self { shared }
    }

    /// Tells that sources were added or removed, or that what they failed for may be gone.
    pub(crate) fn sources_changed(&self) {
        self.shared.sources_changed.notify_one();
    }

    /// Why changes are noticed late, if so.
    pub(crate) fn trouble(&self) -> Option<String> {
        let unwatched = self.shared.unwatched.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = unwatched.values().next()?;
        Some(format!(
            "{} of the sources are looked at every {} s only: {reason}",
            unwatched.len(),
            LOOK_INTERVAL.as_secs()
        ))
    }
}

impl Task {
    async fn run(mut self, mut noticed: mpsc::Receiver<Noticed>, shutdown: CancellationToken) {
        self.refresh();
        let mut timer = tokio::time::interval(LOOK_INTERVAL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        timer.reset();
        loop {
            let wake = tokio::select! {
                () = shutdown.cancelled() => Wake::Shutdown,
                () = self.shared.sources_changed.notified() => Wake::SourcesChanged,
                _ = timer.tick() => Wake::Timer,
                Some(told) = noticed.recv() => Wake::Noticed(told),
            };
            match wake {
                Wake::Shutdown => return,
                Wake::SourcesChanged => {
                    self.refresh();
                    // What changed may be what they failed for.
                    self.look(|source| source.last_error.is_some());
                }
                Wake::Timer => {
                    self.refresh();
                    self.look(|_| true);
                }
                Wake::Noticed(told) => self.gather(told, &mut noticed).await,
            }
        }
    }

    /// Watches new sources, forgets removed ones, tries again where the system refused.
    fn refresh(&mut self) {
        let sources = match self.storage.sources(&Grants::All) {
            Ok(sources) => sources,
            Err(error) => {
                warn("failed to list the sources to watch", &error);
                return;
            }
        };
        let wanted: BTreeSet<i64> = sources.iter().map(|source| source.id).collect();
        let gone: Vec<i64> = self.watched.keys().filter(|id| !wanted.contains(id)).copied().collect();
        for id in gone {
            self.unwatch(id);
        }
        for source in sources {
            match self.watched.get_mut(&source.id) {
                Some(watched) if watched.directory.is_some() => watched.source = source,
                _ => self.watch(source),
            }
        }
    }

    fn watch(&mut self, source: Source) {
        let (directory, mode) = place(&source);
        let outcome = match &mut self.watcher {
            Some(watcher) => watcher.watch(&directory, mode).map_err(|error| error.to_string()),
            None => Err("the system does not watch files".to_owned()),
        };
        let mut unwatched = self.shared.unwatched.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = match outcome {
            Ok(()) => {
                unwatched.remove(&source.id);
                Some(directory)
            }
            Err(reason) => {
                if unwatched.insert(source.id, reason.clone()).is_none() {
                    tracing::warn!(reason, source = source.public_id, "a source is not watched");
                }
                None
            }
        };
        self.watched.insert(source.id, Watched { source, directory });
    }

    fn unwatch(&mut self, id: i64) {
        let Some(Watched { directory, .. }) = self.watched.remove(&id) else { return };
        self.shared.unwatched.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let Some(directory) = directory else { return };
        // Two files of one folder share its watch.
        let shared = self.watched.values().any(|other| other.directory.as_ref() == Some(&directory));
        if !shared
            && let Some(watcher) = &mut self.watcher
            && let Err(error) = watcher.unwatch(&directory)
        {
            tracing::debug!(%error, "a folder was not watched any more");
        }
    }

    /// Collects what is told for a moment, then asks for what it concerns.
    async fn gather(&mut self, first: Noticed, noticed: &mut mpsc::Receiver<Noticed>) {
        tokio::time::sleep(GATHER).await;
        let mut paths = BTreeSet::new();
        let mut overflow = false;
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(told) = next {
            match told {
                Noticed::Paths(told) => paths.extend(told),
                Noticed::Overflow => overflow = true,
            }
            taken += 1;
            next = noticed.try_recv().ok();
        }
        if overflow || taken >= NOTICED_MAX {
            self.look(|_| true);
        }
        for watched in self.watched.values() {
            let root = Path::new(&watched.source.root);
            let below: BTreeSet<PathBuf> = paths.iter().filter(|path| path.starts_with(root)).cloned().collect();
            if !below.is_empty() {
                self.sources.follow(&watched.source, Scope::Changed(below));
            }
        }
    }

    /// Asks for a look at the sizes and times of everything in these sources.
    fn look(&self, at: impl Fn(&Source) -> bool) {
        for watched in self.watched.values().filter(|watched| at(&watched.source)) {
            self.sources.follow(&watched.source, Scope::Changed(BTreeSet::new()));
        }
    }
}

/// What to watch for a source: an editor replaces a file by another of the same name, which a
/// watch on the file itself does not outlive, so its folder is watched.
fn place(source: &Source) -> (PathBuf, RecursiveMode) {
    let root = PathBuf::from(&source.root);
    match root.parent() {
        Some(parent) if root.is_file() => (parent.to_owned(), RecursiveMode::NonRecursive),
        _ => (root, RecursiveMode::Recursive),
    }
}

fn translate(event: notify::Result<Event>) -> Option<Noticed> {
    match event {
        Ok(event) if event.need_rescan() => Some(Noticed::Overflow),
        Ok(event) => match event.kind {
            // Being looked at changes nothing, and reading a file is such a look.
            EventKind::Access(_) => None,
            _ => Some(Noticed::Paths(event.paths)),
        },
        Err(error) => {
            tracing::debug!(%error, "the system's watcher complained");
            Some(Noticed::Overflow)
        }
    }
}

fn warn(message: &'static str, error: &StorageError) {
    tracing::warn!(error = error as &dyn std::error::Error, "{message}");
}
