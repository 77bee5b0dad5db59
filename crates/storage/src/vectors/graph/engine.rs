//! One HNSW graph (Malkov and Yashunin, 2016) in the USearch engine.
//!
//! The graph holds no vectors. What USearch takes for a vector is eight bytes, the number of the
//! slot whose row is to be measured, so that rows lie in memory once and the exact scan and the
//! graph score them with the same bits. Which snapshot the rows come from, and the query, are
//! in a thread-local for the time of a call, because the metric is called from C++ with nothing
//! but two tokens.
//!
//! Equal rows share a node: one leads, the others are its twins. Thousands of equal rows would
//! otherwise fill each other's neighbour lists and cut the graph in pieces.
//!
//! Does not lock: `add` needs exclusive access, because USearch's searches read neighbour lists
//! without a lock. Never removes: a removed row stays as a waypoint until the graph is replaced.

use std::{
    cell::{Cell, RefCell},
    collections::hash_map::Entry,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use half::f16;

use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::{
    super::{
        VectorError,
        bits::Bits,
        kernel::{TOKEN_BYTES, kernel, measure_by_token},
        table::{KeyMap, Snapshot, same_bits},
    },
    GraphOptions,
};

/// The token that stands for the query. No slot has this number.
const QUERY: u64 = u64::MAX;

/// How many searches walk one graph at a time. USearch keeps working memory for each; more than
/// there are cores would only wait in another place.
const WALKERS: usize = 16;

/// The fewest nodes room is made for.
const CAPACITY_MIN: usize = 1024;

/// A graph over some of a table's slots.
pub(super) struct Engine {
    index: Index,
    members: Bits,
    count: usize,
    /// The slot that leads, by the hash of its row.
    leaders: KeyMap<u32>,
    /// The slots whose rows equal a leader's.
    twins: KeyMap<Vec<u32>>,
    walkers: Permits,
}

/// What a walk came to.
pub(super) enum Walk {
    /// The slots found, each with its score.
    Found(Vec<(u32, f32)>),
    /// The filter rejected more nodes than the walk was allowed to look at.
    TooManyRejected,
}

impl Engine {
    /// A graph over nothing.
    pub(super) fn new(options: &GraphOptions) -> Result<Self, VectorError> {
        let mut index = new_index(options, CAPACITY_MIN)?;
        install_metric(&mut index)?;
        Ok(Self::around(index))
    }

    /// A graph over `members` of the snapshot from the bytes that [`Engine::save`] made; the
    /// caller has verified that they are the very same.
    pub(super) fn load(
        options: &GraphOptions,
        bytes: &[u8],
        members: Bits,
        snapshot: &Snapshot,
    ) -> Result<Self, VectorError> {
        let mut index = new_index(options, CAPACITY_MIN)?;
        index.load_from_buffer(bytes).map_err(engine_error)?;
        install_metric(&mut index)?;
        let mut engine = Self::around(index);
        let (nodes, twins): (Vec<u32>, Vec<u32>) =
            members.iter().partition(|slot| engine.index.contains(u64::from(*slot)));
        let disagreement = || VectorError::Engine("the graph and the rows disagree".into());
        if nodes.len() != engine.index.size() {
            return Err(disagreement());
        }
        for slot in nodes {
            let row = snapshot.row(slot).ok_or_else(disagreement)?;
            engine.leaders.entry(hash(row)).or_insert(slot);
        }
        for slot in twins {
            let leader = engine.leader_of(snapshot, slot).ok_or_else(disagreement)?;
            engine.twins.entry(u64::from(leader)).or_default().push(slot);
        }
        engine.count = members.count();
        engine.members = members;
        Ok(engine)
    }

    fn around(index: Index) -> Self {
        Self {
            index,
            members: Bits::default(),
            count: 0,
            leaders: KeyMap::default(),
            twins: KeyMap::default(),
            walkers: Permits::new(WALKERS),
        }
    }

    /// The slots in the graph, dead ones included.
    pub(super) fn members(&self) -> &Bits {
        &self.members
    }

    /// How many slots are in the graph, dead ones included.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Puts a slot of the snapshot into the graph.
    pub(super) fn add(&mut self, snapshot: &Arc<Snapshot>, slot: u32) -> Result<(), VectorError> {
        if self.members.contains(slot) {
            return Ok(());
        }
        match self.leader_of(snapshot, slot) {
            Some(leader) => self.twins.entry(u64::from(leader)).or_default().push(slot),
            None => self.add_node(snapshot, slot)?,
        }
        self.members.insert(slot);
        self.count += 1;
        Ok(())
    }

    fn add_node(&mut self, snapshot: &Arc<Snapshot>, slot: u32) -> Result<(), VectorError> {
        let nodes = self.index.size();
        if nodes == self.index.capacity() {
            // Doubling would leave up to half of it empty; the copies are of pointers only.
            reserve(&self.index, nodes + nodes / 4 + CAPACITY_MIN)?;
        }
        let token = u64::from(slot).to_le_bytes();
        in_scope(snapshot, Vec::new(), || self.index.add(u64::from(slot), &token)).map_err(engine_error)?;
        // On a collision of hashes the first stays; the others have nodes and never twins.
        if let Some(row) = snapshot.row(slot)
            && let Entry::Vacant(place) = self.leaders.entry(hash(row))
        {
            place.insert(slot);
        }
        Ok(())
    }

    /// The node whose row equals the slot's.
    fn leader_of(&self, snapshot: &Snapshot, slot: u32) -> Option<u32> {
        let row = snapshot.row(slot)?;
        let leader = *self.leaders.get(&hash(row))?;
        same_bits(snapshot.row(leader)?, row).then_some(leader)
    }

    fn twins_of(&self, leader: u32) -> &[u32] {
        self.twins.get(&u64::from(leader)).map_or(&[], Vec::as_slice)
    }

    /// Walks towards the query to about the nearest `breadth` rows that have a slot `keep`
    /// accepts; those slots are the result. At most `rejections` other rows are looked at.
    pub(super) fn walk(
        &self,
        snapshot: &Arc<Snapshot>,
        query: Vec<f32>,
        breadth: usize,
        rejections: usize,
        keep: impl Fn(u32) -> bool,
    ) -> Result<Walk, VectorError> {
        let _permit = self.walkers.acquire();
        let left = Cell::new(rejections);
        // With none left everything is accepted, which ends the walk soon.
        let filter = |key: u64| {
            let slot = key as u32;
            left.get() == 0 || keep(slot) || self.twins_of(slot).iter().any(|twin| keep(*twin)) || {
                left.set(left.get() - 1);
                false
            }
        };
        let token = QUERY.to_le_bytes();
        let matches =
            in_scope(snapshot, query, || self.index.filtered_search(&token, breadth, filter)).map_err(engine_error)?;
        if left.get() == 0 {
            return Ok(Walk::TooManyRejected);
        }
        let mut found = Vec::with_capacity(matches.keys.len());
        for (key, distance) in matches.keys.iter().zip(&matches.distances) {
            let leader = *key as u32;
            let slots = std::iter::once(&leader).chain(self.twins_of(leader));
            found.extend(slots.filter(|slot| keep(**slot)).map(|slot| (*slot, -distance)));
        }
        Ok(Walk::Found(found))
    }

    /// The graph's bytes.
    pub(super) fn save(&self) -> Result<Vec<u8>, VectorError> {
        let mut bytes = vec![0; self.index.serialized_length()];
        self.index.save_to_buffer(&mut bytes).map_err(engine_error)?;
        Ok(bytes)
    }

    /// Bytes held, without the rows.
    pub(super) fn memory_bytes(&self) -> usize {
        let twins: usize = self.twins.values().map(|twins| twins.capacity() * 4 + 40).sum();
        self.index.memory_usage() + self.members.words().len() * 8 + self.leaders.capacity() * 17 + twins
    }
}

fn new_index(options: &GraphOptions, capacity: usize) -> Result<Index, VectorError> {
    let index = Index::new(&IndexOptions {
        dimensions: TOKEN_BYTES,
        metric: MetricKind::IP,
        quantization: ScalarKind::U8,
        connectivity: options.connectivity,
        expansion_add: options.expansion_add,
        expansion_search: options.expansion_search,
        multi: false,
    })
    .map_err(engine_error)?;
    reserve(&index, capacity)?;
    Ok(index)
}

fn reserve(index: &Index, capacity: usize) -> Result<(), VectorError> {
    index.reserve_capacity_and_threads(capacity, WALKERS).map_err(engine_error)
}

fn install_metric(index: &mut Index) -> Result<(), VectorError> {
    measure_by_token(index, distance).map_err(|_| VectorError::Engine("the graph's nodes have another layout".into()))
}

fn engine_error(error: impl std::fmt::Display) -> VectorError {
    VectorError::Engine(error.to_string())
}

/// Mixes a row's bits, eight bytes at a time. Only finds candidates for being equal.
fn hash(row: &[f16]) -> u64 {
    let mut mixed = row.len() as u64;
    let (words, rest) = bytemuck::cast_slice::<f16, u8>(row).as_chunks::<8>();
    let rest = rest.iter().map(|byte| u64::from(*byte));
    for word in words.iter().map(|word| u64::from_le_bytes(*word)).chain(rest) {
        // An odd constant from the fractional digits of pi, and a rotation that brings the high
        // bits back down.
        mixed = (mixed ^ word).wrapping_mul(0x517c_c1b7_2722_0a95).rotate_left(23);
    }
    mixed
}

/// What the tokens of the running call mean.
struct Scope {
    snapshot: Option<Arc<Snapshot>>,
    query: Vec<f32>,
}

thread_local! {
    static SCOPE: RefCell<Scope> = const {
        RefCell::new(Scope { snapshot: None, query: Vec::new() })
    };
}

fn in_scope<R>(snapshot: &Arc<Snapshot>, query: Vec<f32>, call: impl FnOnce() -> R) -> R {
    SCOPE.set(Scope { snapshot: Some(Arc::clone(snapshot)), query });
    let result = call();
    // A snapshot kept here would keep rows alive for as long as the thread idles.
    SCOPE.set(Scope { snapshot: None, query: Vec::new() });
    result
}

/// The distance USearch sees: the negative similarity, because only the order matters and the
/// score comes back from it without rounding.
fn distance(left: u64, right: u64) -> f32 {
    SCOPE
        .try_with(|scope| scope.try_borrow().ok().and_then(|scope| scope.similarity(left, right)))
        .ok()
        .flatten()
        // A slot that this snapshot does not have yet: as far away as can be.
        .map_or(f32::MAX, |similarity| -similarity)
}

impl Scope {
    #[inline]
    fn similarity(&self, left: u64, right: u64) -> Option<f32> {
        let snapshot = self.snapshot.as_deref()?;
        let right = snapshot.row(right as u32)?;
        Some(if left == QUERY {
            (kernel().dot)(&self.query, right)
        } else {
            (kernel().dot_rows)(snapshot.row(left as u32)?, right)
        })
    }
}

/// A counting semaphore for threads.
struct Permits {
    free: Mutex<usize>,
    returned: Condvar,
}

impl Permits {
    fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), returned: Condvar::new() }
    }

    fn acquire(&self) -> Permit<'_> {
        let mut free = self.lock();
        while *free == 0 {
            free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Permit(self)
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Permit<'a>(&'a Permits);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.lock() += 1;
        self.0.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::{
        ChunkKey,
        vectors::{VectorChange, table::Table},
    };

    #[test]
    fn a_walk_gives_up_after_so_many_rejections() {
        let table = Table::new(Snapshot::empty(2), Bits::default()).unwrap();
        let rows: Vec<_> = (1..=200u16).map(|x| [f16::ONE, f16::from_f32(f32::from(x))]).collect();
        let added: Vec<_> = (1..).map(ChunkKey::new).zip(rows.iter().map(|row| &row[..])).collect();
        table.apply(&VectorChange { removed: &[], added: &added, position: 1 }).unwrap();
        let mut engine = Engine::new(&GraphOptions::default()).unwrap();
        for slot in 0..200 {
            engine.add(&table.snapshot(), slot).unwrap();
        }
        let asked = Cell::new(0);
        let nothing = |_| {
            asked.set(asked.get() + 1);
            false
        };
        let walk = engine.walk(&table.snapshot(), vec![1.0, 0.0], 10, 50, nothing).unwrap();
        assert!(matches!(walk, Walk::TooManyRejected));
        assert_eq!(asked.get(), 50);
    }

    #[test]
    fn more_walks_at_once_than_the_engine_has_room_for_wait_their_turn() {
        let table = Table::new(Snapshot::empty(4), Bits::default()).unwrap();
        let row = [1.0, 2.0, 3.0, 4.0].map(f16::from_f32);
        table.apply(&VectorChange { removed: &[], added: &[(ChunkKey::new(1), &row)], position: 1 }).unwrap();
        let snapshot = table.snapshot();
        let mut engine = Engine::new(&GraphOptions::default()).unwrap();
        engine.add(&snapshot, 0).unwrap();
        // Every walk stays inside until as many as have room are there.
        let crowd = Barrier::new(WALKERS);
        std::thread::scope(|scope| {
            for _ in 0..3 * WALKERS {
                scope.spawn(|| {
                    let first = Cell::new(true);
                    let keep = |_| {
                        if first.replace(false) {
                            crowd.wait();
                        }
                        true
                    };
                    let walk = engine.walk(&snapshot, vec![0.5; 4], 1, 10, keep).unwrap();
                    assert!(matches!(walk, Walk::Found(found) if found == [(0, 5.0)]));
                });
            }
        });
    }
}
