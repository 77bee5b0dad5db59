//! Putting rows into the graph, on a thread that lives while there is something to do.
//!
//! Woken by a change that leaves more than [`GraphOptions::pending_rows`] rows outside the graph,
//! or more removed rows inside than it should carry, or too few rows for a graph at all; ends by
//! itself when none of these holds, and at the next row when the index is dropped. Removed rows
//! go by building a second graph beside the first and swapping it in.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use super::{GraphOptions, engine::Engine};
use crate::vectors::{
    VectorError,
    bits::Bits,
    persist::Files,
    table::{Snapshot, Table},
};

/// How many rows enter the graph while searches wait: about half a millisecond.
const ROWS_A_TURN: usize = 4;

/// A graph is replaced when more than one in this many of its rows is removed, and more than
/// [`GraphOptions::removed_rows`].
const REMOVED_SHARE: usize = 4;

/// An index's state, shared with its building thread.
pub(super) struct Shared {
    pub table: Table,
    pub files: Files,
    pub options: GraphOptions,
    graphs: RwLock<Graphs>,
    /// Held by whoever changes the graphs or keeps them from changing for long. A change waits
    /// here and not at `graphs`, where it would make searches wait behind it.
    turn: Mutex<()>,
    /// Searches that wait for the building thread to let go of the graphs.
    waiting: AtomicUsize,
    stopping: AtomicBool,
    builder: Mutex<Builder>,
    built: Condvar,
}

/// The graph that is searched, and the one that will replace it.
#[derive(Default)]
pub(super) struct Graphs {
    pub current: Option<Graph>,
    pub next: Option<Graph>,
}

/// A graph and a number that changes whenever it does.
pub(super) struct Graph {
    pub engine: Engine,
    pub version: u64,
}

#[derive(Default)]
struct Builder {
    running: bool,
    thread: Option<JoinHandle<()>>,
    /// The engine failed once; searches scan from then on.
    failed: bool,
}

impl Shared {
    pub(super) fn new(table: Table, files: Files, options: GraphOptions, engine: Option<Engine>) -> Self {
        let current = engine.map(|engine| Graph { engine, version: next_version() });
        if let Some(graph) = &current {
            files.graph_adopted(graph.version);
        }
        Self {
            table,
            files,
            options,
            graphs: RwLock::new(Graphs { current, next: None }),
            turn: Mutex::default(),
            waiting: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            builder: Mutex::default(),
            built: Condvar::new(),
        }
    }

    /// The graphs, standing still.
    pub(super) fn graphs(&self) -> RwLockReadGuard<'_, Graphs> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // What a panic could leave half-made is inside the engine, which does not unwind.
        let graphs = self.graphs.read().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        graphs
    }

    /// Reads the graphs for a longer time; searches go on meanwhile.
    pub(super) fn hold_still<R>(&self, read: impl FnOnce(&Graphs) -> R) -> R {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        read(&self.graphs())
    }

    /// Changes the graphs, after every search that waits has had its turn.
    fn change<R>(&self, change: impl FnOnce(&mut Graphs) -> R) -> R {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        while self.waiting.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        change(&mut self.graphs.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Blocks until no building thread runs.
    pub(super) fn wait_until_built(&self) {
        let mut builder = self.lock_builder();
        while builder.running {
            builder = self.built.wait(builder).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the building thread, if one runs, within a row's time.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let thread = self.lock_builder().thread.take();
        // A panic in there was reported by its hook; the index is going away.
        thread.map(JoinHandle::join);
    }

    fn lock_builder(&self) -> MutexGuard<'_, Builder> {
        self.builder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the graphs need to be right for the rows.
    fn task(&self) -> Task {
        let graphs = self.graphs();
        let snapshot = self.table.snapshot();
        let rows = snapshot.live_count;
        let Some(current) = &graphs.current else {
            return if rows >= self.options.min_rows { Task::Create } else { Task::Nothing };
        };
        // Half as many, so that an index about that large does not build graphs and drop them.
        if rows < self.options.min_rows / 2 {
            return Task::Drop;
        }
        let target = graphs.next.as_ref().unwrap_or(current);
        let pending = outside(&snapshot, target.engine.members());
        if graphs.next.is_some() {
            return Task::Extend(pending);
        }
        let removed = current.engine.count() - (rows - pending.len());
        if removed > self.options.removed_rows.max(current.engine.count() / REMOVED_SHARE) {
            Task::Replace
        } else if pending.len() > self.options.pending_rows {
            Task::Extend(pending)
        } else {
            Task::Nothing
        }
    }
}

/// What there is to do next.
enum Task {
    Nothing,
    /// There are enough rows for a graph.
    Create,
    /// These slots are not in the graph under construction.
    Extend(Vec<u32>),
    /// The graph carries too many removed rows.
    Replace,
    /// There are too few rows for a graph.
    Drop,
}

/// Starts a building thread if there is work and none runs.
pub(super) fn start_if_needed(shared: &Arc<Shared>) {
    let mut builder = shared.lock_builder();
    if builder.running || builder.failed || matches!(shared.task(), Task::Nothing) {
        return;
    }
    if let Some(ended) = builder.thread.take() {
        // It has said that it runs no more, so this does not wait.
        ended.join().ok();
    }
    let for_thread = Arc::clone(shared);
    let spawned = std::thread::Builder::new().name("vector-graph".into()).spawn(move || run(&for_thread));
    match spawned {
        Ok(thread) => {
            builder.running = true;
            builder.thread = Some(thread);
        }
        // Searches scan meanwhile; the next change tries again.
        Err(error) => tracing::warn!(%error, "could not start a thread to build a vector graph"),
    }
}

fn run(shared: &Shared) {
    loop {
        let mut builder = shared.lock_builder();
        // Looked at under the lock, so that a change either is seen here or starts a new thread.
        let task = shared.task();
        if matches!(task, Task::Nothing) || shared.stopping.load(Ordering::Relaxed) {
            builder.running = false;
            shared.built.notify_all();
            return;
        }
        drop(builder);
        if let Err(error) = perform(shared, task) {
            tracing::error!(%error, "a vector graph failed; searches scan instead");
            drop_graphs(shared);
            let mut builder = shared.lock_builder();
            builder.failed = true;
            builder.running = false;
            shared.built.notify_all();
            return;
        }
    }
}

fn perform(shared: &Shared, task: Task) -> Result<(), VectorError> {
    match task {
        Task::Nothing => {}
        Task::Create => {
            let graph = Graph::new(&shared.options)?;
            shared.change(|graphs| graphs.current = Some(graph));
        }
        Task::Replace => {
            let graph = Graph::new(&shared.options)?;
            shared.change(|graphs| graphs.next = Some(graph));
        }
        Task::Extend(pending) => {
            extend(shared, &pending)?;
            swap_if_complete(shared);
        }
        Task::Drop => drop_graphs(shared),
    }
    Ok(())
}

fn extend(shared: &Shared, pending: &[u32]) -> Result<(), VectorError> {
    for turn in pending.chunks(ROWS_A_TURN) {
        if shared.stopping.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (snapshot, claimed) = shared.table.claim(turn);
        shared.change(|graphs| {
            let Some(graph) = graphs.next.as_mut().or(graphs.current.as_mut()) else {
                return Ok(());
            };
            graph.version = next_version();
            claimed.iter().try_for_each(|slot| graph.engine.add(&snapshot, *slot))
        })?;
    }
    Ok(())
}

/// Puts the second graph in the first one's place once it has every row.
fn swap_if_complete(shared: &Shared) {
    let former = shared.change(|graphs| {
        let next = graphs.next.take_if(|next| outside(&shared.table.snapshot(), next.engine.members()).is_empty())?;
        shared.table.release(next.engine.members().clone());
        graphs.current.replace(next)
    });
    // Freed here, where no search waits for it.
    drop(former);
}

fn drop_graphs(shared: &Shared) {
    let former = shared.change(|graphs| {
        shared.table.release(Bits::default());
        std::mem::take(graphs)
    });
    drop(former);
}

/// The live slots that are not members.
fn outside(snapshot: &Snapshot, members: &Bits) -> Vec<u32> {
    let words = snapshot.live.words().iter().enumerate();
    let pending = words.map(|(block, word)| word & !members.word(block));
    Bits::from_words(pending.collect()).iter().collect()
}

impl Graph {
    fn new(options: &GraphOptions) -> Result<Self, VectorError> {
        Ok(Self { engine: Engine::new(options)?, version: next_version() })
    }
}

fn next_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
