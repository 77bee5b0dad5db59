//! The rows of an index in memory: immutable chunks of vectors, and which key lies where.
//!
//! Owns the slots: a row keeps its slot for life, a removed row's slot is used again once nothing
//! refers to it. A search works on a [`Snapshot`], which costs one reference count and never
//! waits for a change; a change copies the chunks it touches and swaps a new snapshot in. Does
//! not score, and does not touch the disk.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use half::f16;

use super::{
    AllowedSet, VectorChange, VectorError,
    allowed::Resolved,
    bits::Bits,
    kernel::{BLOCK_ROWS, RowBuffer, kernel},
};
use crate::ChunkKey;

/// How large a chunk is: as much as a huge page holds.
const CHUNK_BYTES: usize = 2 << 20;

/// How many blocks a chunk has at most, however short the rows.
const CHUNK_BLOCKS_MAX: usize = 64;

/// Some blocks of rows and their keys.
#[derive(Clone, Default)]
pub(super) struct Chunk {
    /// The keys, in slot order.
    pub keys: Vec<u64>,
    /// The vectors, one after another.
    pub rows: RowBuffer,
}

/// Everything a search looks at, as it was at one position.
#[derive(Clone, Default)]
pub(super) struct Snapshot {
    /// How long each row is.
    pub dimensions: usize,
    /// All rows, in slot order; every chunk but the last is full.
    pub chunks: Vec<Arc<Chunk>>,
    /// The slots whose rows count.
    pub live: Arc<Bits>,
    /// How many those are.
    pub live_count: usize,
    /// The position this is the state at.
    pub position: u64,
    /// Differs between any two snapshots of any two tables in this process.
    pub version: u64,
}

impl Snapshot {
    /// Nothing, of rows that long.
    pub(super) fn empty(dimensions: usize) -> Self {
        Self { dimensions, ..Self::default() }
    }

    /// How many rows a full chunk has: whole blocks of them.
    #[inline]
    pub(super) fn chunk_rows(&self) -> usize {
        let block_bytes = (self.dimensions * BLOCK_ROWS * size_of::<f16>()).max(1);
        (CHUNK_BYTES / block_bytes).clamp(1, CHUNK_BLOCKS_MAX) * BLOCK_ROWS
    }

    /// The vector in a slot, if the slot was ever used.
    #[inline]
    pub(super) fn row(&self, slot: u32) -> Option<&[f16]> {
        let (chunk, at) = self.place_of(slot);
        let rows = self.chunks.get(chunk)?.rows.as_slice();
        rows.get(at * self.dimensions..(at + 1) * self.dimensions)
    }

    /// The key in a slot, if the slot was ever used.
    pub(super) fn key(&self, slot: u32) -> Option<ChunkKey> {
        let (chunk, at) = self.place_of(slot);
        self.chunks.get(chunk)?.keys.get(at).copied().map(ChunkKey::new)
    }

    /// How many slots were ever used.
    pub(super) fn slots(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * self.chunk_rows();
        full + self.chunks.last().map_or(0, |chunk| chunk.keys.len())
    }

    /// How many blocks those are, the last perhaps not full.
    pub(super) fn blocks(&self) -> usize {
        self.slots().div_ceil(BLOCK_ROWS)
    }

    /// The keys and the vectors of a block that is there.
    pub(super) fn block(&self, block: usize) -> (&[u64], &[f16]) {
        let blocks = self.chunk_rows() / BLOCK_ROWS;
        let Some(chunk) = self.chunks.get(block / blocks) else {
            return (&[], &[]);
        };
        let first = block % blocks * BLOCK_ROWS;
        let end = chunk.keys.len().min(first + BLOCK_ROWS);
        (&chunk.keys[first..end], &chunk.rows.as_slice()[first * self.dimensions..end * self.dimensions])
    }

    fn place_of(&self, slot: u32) -> (usize, usize) {
        let rows = self.chunk_rows();
        (slot as usize / rows, slot as usize % rows)
    }

    /// The live keys with their slots, in slot order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (ChunkKey, u32)> + '_ {
        self.live.iter().filter_map(|slot| Some((self.key(slot)?, slot)))
    }

    /// See [`super::VectorIndex::digest`].
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut entries: Vec<_> = self.entries().collect();
        entries.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for (key, slot) in entries {
            hasher.update(&key.get().to_le_bytes());
            hasher.update(bytemuck::cast_slice(self.row(slot).unwrap_or_default()));
        }
        *hasher.finalize().as_bytes()
    }

    fn place(&mut self, slot: u32, key: ChunkKey, row: &[f16]) {
        let (chunk, at) = self.place_of(slot);
        let most = self.chunk_rows() * self.dimensions;
        if chunk == self.chunks.len() {
            self.chunks.push(Arc::default());
        }
        let chunk = Arc::make_mut(&mut self.chunks[chunk]);
        if at == chunk.keys.len() {
            chunk.keys.push(key.get());
            chunk.rows.extend(row, most);
        } else {
            chunk.keys[at] = key.get();
            chunk.rows.as_mut_slice()[at * self.dimensions..][..self.dimensions].copy_from_slice(row);
        }
    }
}

/// Where each live key lies.
pub(super) type SlotMap = KeyMap<u32>;

/// A map from keys or from what is as well mixed.
pub(super) type KeyMap<V> = HashMap<u64, V, BuildHasherDefault<KeyHasher>>;

/// One multiplication: keys are content hashes already, and only need their high bits mixed in.
#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        // 2^64 divided by the golden ratio: Fibonacci hashing (Knuth, volume 3, section 6.4).
        let product = u128::from(key) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

/// The rows of one index.
pub(super) struct Table {
    state: RwLock<State>,
    /// One change at a time; what only changes need to know.
    writer: Mutex<Writer>,
}

struct State {
    snapshot: Arc<Snapshot>,
    slots: SlotMap,
}

struct Writer {
    /// Used slots that nothing refers to any more; the lowest first, so that a change touches
    /// few chunks.
    free: BTreeSet<u32>,
    /// The slots a graph refers to; dead ones among them are not used again before
    /// [`Table::release`].
    retained: Bits,
}

impl Table {
    /// A table that starts with what a checkpoint held. `retained` are the slots that a graph
    /// refers to, dead or not.
    ///
    /// # Errors
    /// A description of what is wrong when two live rows have one key.
    pub(super) fn new(mut snapshot: Snapshot, retained: Bits) -> Result<Self, String> {
        let mut slots = SlotMap::default();
        slots.reserve(snapshot.live_count);
        for (key, slot) in snapshot.entries() {
            if slots.insert(key.get(), slot).is_some() {
                return Err(format!("key {key} occurs twice"));
            }
        }
        snapshot.live_count = slots.len();
        snapshot.version = next_version();
        tracing::debug!(rows = slots.len(), instructions = kernel().name, "vectors in memory");
        let writer = Writer { free: unreferenced(&snapshot, &retained), retained };
        Ok(Self { state: RwLock::new(State { snapshot: Arc::new(snapshot), slots }), writer: Mutex::new(writer) })
    }

    /// What is visible now.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.read().snapshot)
    }

    /// What is visible now, and where in it the allowed keys lie.
    pub(super) fn view(&self, allowed: Option<&AllowedSet>) -> (Arc<Snapshot>, Option<Arc<Resolved>>) {
        let state = self.read();
        let resolved = allowed.map(|set| set.resolve(state.snapshot.version, &state.slots));
        (Arc::clone(&state.snapshot), resolved)
    }

    /// Applies a change and makes it visible.
    pub(super) fn apply(&self, change: &VectorChange<'_>) -> Result<(), VectorError> {
        let mut writer = self.lock_writer();
        let before = self.snapshot();
        for (_, row) in change.added {
            check_row(row, before.dimensions)?;
        }
        let mut next = (*before).clone();
        next.position = next.position.max(change.position);
        let edits = self.edit(&mut next, &mut writer, change)?;
        if !edits.is_empty() {
            next.version = next_version();
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for (key, slot) in edits {
            match slot {
                Some(slot) => state.slots.insert(key, slot),
                None => state.slots.remove(&key),
            };
        }
        next.live_count = state.slots.len();
        let former = std::mem::replace(&mut state.snapshot, Arc::new(next));
        drop(state);
        // Freeing a large snapshot takes a while; nobody should wait for it.
        drop(former);
        Ok(())
    }

    /// Keeps those of `slots` that are live from being used again, because a graph is about to
    /// refer to them. The result is those, and a snapshot that they are live in.
    pub(super) fn claim(&self, slots: &[u32]) -> (Arc<Snapshot>, Vec<u32>) {
        let mut writer = self.lock_writer();
        let snapshot = self.snapshot();
        let live = |slot: &&u32| snapshot.live.contains(**slot);
        let claimed: Vec<u32> = slots.iter().filter(live).copied().collect();
        for slot in &claimed {
            writer.retained.insert(*slot);
        }
        (snapshot, claimed)
    }

    /// Lets go of every slot that `retained` does not have: no graph refers to it any more.
    pub(super) fn release(&self, retained: Bits) {
        let mut writer = self.lock_writer();
        writer.free = unreferenced(&self.snapshot(), &retained);
        writer.retained = retained;
    }

    /// Bytes held: rows, keys, bitmap and map.
    pub(super) fn memory_bytes(&self) -> usize {
        let state = self.read();
        let chunks = state.snapshot.chunks.iter();
        let chunks: usize =
            chunks.map(|chunk| chunk.rows.allocated_bytes() + chunk.keys.capacity() * size_of::<u64>()).sum();
        // A map entry is 16 bytes and a byte of control.
        chunks + state.snapshot.live.words().len() * 8 + state.slots.capacity() * 17
    }

    /// Works out the next snapshot; the result is what becomes of each key touched.
    fn edit(
        &self,
        next: &mut Snapshot,
        writer: &mut Writer,
        change: &VectorChange<'_>,
    ) -> Result<Vec<(u64, Option<u32>)>, VectorError> {
        let added = last_of_each(change.added);
        let state = self.read();
        let mut edits = Vec::with_capacity(added.len() + change.removed.len());
        let mut dead = Vec::new();
        let replaced: HashSet<u64, BuildHasherDefault<KeyHasher>> = added.iter().map(|(key, _)| key.get()).collect();
        for key in change.removed {
            if let Some(slot) = state.slots.get(&key.get())
                && !replaced.contains(&key.get())
            {
                dead.push(*slot);
                edits.push((key.get(), None));
            }
        }
        let mut used = next.slots();
        let mut live = (*next.live).clone();
        for (key, row) in added {
            let former = state.slots.get(&key.get()).copied();
            if former.and_then(|slot| next.row(slot)).is_some_and(|former| same_bits(former, row)) {
                continue;
            }
            dead.extend(former);
            let slot = match writer.free.pop_first() {
                Some(slot) => slot,
                None => {
                    used += 1;
                    u32::try_from(used - 1).map_err(|_| VectorError::Engine("more than 2^32 rows".into()))?
                }
            };
            next.place(slot, key, row);
            live.insert(slot);
            edits.push((key.get(), Some(slot)));
        }
        for slot in dead {
            live.remove(slot);
            if !writer.retained.contains(slot) {
                writer.free.insert(slot);
            }
        }
        if !edits.is_empty() {
            next.live = Arc::new(live);
        }
        Ok(edits)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        // The lock is only ever held over swaps and lookups that cannot leave a half-made state.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether two vectors are the same bytes; `==` would call a zero and a negative zero equal.
pub(super) fn same_bits(left: &[f16], right: &[f16]) -> bool {
    bytemuck::cast_slice::<f16, u16>(left) == bytemuck::cast_slice::<f16, u16>(right)
}

/// Scales a query to length one.
///
/// # Errors
/// [`VectorError::WrongDimensions`], [`VectorError::NotFinite`] or [`VectorError::Zero`].
pub(super) fn check_query(query: &[f32], dimensions: usize) -> Result<Vec<f32>, VectorError> {
    check_length(query.len(), dimensions)?;
    if !query.iter().all(|x| x.is_finite()) {
        return Err(VectorError::NotFinite);
    }
    // In f64, in which the square of no f32 overflows or vanishes.
    let square: f64 = query.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    if square == 0.0 {
        return Err(VectorError::Zero);
    }
    let scale = square.sqrt().recip();
    Ok(query.iter().map(|x| (f64::from(*x) * scale) as f32).collect())
}

fn check_row(row: &[f16], dimensions: usize) -> Result<(), VectorError> {
    check_length(row.len(), dimensions)?;
    if !row.iter().all(|x| x.is_finite()) {
        return Err(VectorError::NotFinite);
    }
    if row.iter().all(|x| x.to_bits() & 0x7fff == 0) {
        return Err(VectorError::Zero);
    }
    Ok(())
}

fn check_length(got: usize, expected: usize) -> Result<(), VectorError> {
    if got == expected { Ok(()) } else { Err(VectorError::WrongDimensions { expected, got }) }
}

/// Each key once, with its last vector, in the order of first appearance.
fn last_of_each<'a>(added: &[(ChunkKey, &'a [f16])]) -> Vec<(ChunkKey, &'a [f16])> {
    let mut places = SlotMap::default();
    let mut unique: Vec<(ChunkKey, &[f16])> = Vec::with_capacity(added.len());
    for (key, row) in added {
        // Fits: a change of 2^32 vectors would be a terabyte.
        let place = *places.entry(key.get()).or_insert(unique.len() as u32) as usize;
        match unique.get_mut(place) {
            Some(entry) => entry.1 = row,
            None => unique.push((*key, row)),
        }
    }
    unique
}

/// Used slots that are neither live nor referred to by a graph.
fn unreferenced(snapshot: &Snapshot, retained: &Bits) -> BTreeSet<u32> {
    let slots = u32::try_from(snapshot.slots()).unwrap_or(u32::MAX);
    (0..slots).filter(|slot| !snapshot.live.contains(*slot) && !retained.contains(*slot)).collect()
}

fn next_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
