//! The file of rows, byte by byte.
//!
//! Owns the layout and its checks; does not know where the file lies or when it counts.
//!
//! Little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `HOLDVEC` and a zero |
//! | 4, 4 | format version; dimensions |
//! | 8, 8 | position; slots |
//! | 4, 4 | length of the fingerprint; 1 if there is a graph |
//! | 8, 8, 32 | the graph's generation, length, BLAKE3 |
//! | … | the fingerprint, UTF-8 |
//! | 8 each 64 slots | live slots, as a bitmap |
//! | 8 each 64 slots | the slots the graph refers to, if there is one |
//! | 8 each slot | keys |
//! | 2 × dimensions each slot | vectors, f16 |
//! | 32 | BLAKE3 of everything before |

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    sync::Arc,
};

use half::f16;

use crate::vectors::{
    bits::Bits,
    kernel::{BLOCK_ROWS, RowBuffer},
    table::{Chunk, Snapshot},
};

pub(super) const MAGIC: [u8; 8] = *b"HOLDVEC\0";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 88;
const HASH_BYTES: usize = 32;

const _: () = assert!(cfg!(target_endian = "little"), "vectors are written as they lie in memory");

/// A graph's file, as the file of rows names it.
#[derive(Clone)]
pub(super) struct GraphEntry {
    /// The slots it refers to.
    pub members: Bits,
    /// What it is named by.
    pub generation: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its BLAKE3.
    pub hash: [u8; HASH_BYTES],
}

/// Writes the file of rows.
pub(super) fn write_rows(
    sink: &mut Sink,
    snapshot: &Snapshot,
    fingerprint: &str,
    graph: Option<&GraphEntry>,
) -> io::Result<()> {
    let slots = snapshot.slots();
    sink.write_all(&MAGIC)?;
    sink.write_all(&FORMAT.to_le_bytes())?;
    sink.write_all(&narrow(snapshot.dimensions)?.to_le_bytes())?;
    sink.write_all(&snapshot.position.to_le_bytes())?;
    sink.write_all(&(slots as u64).to_le_bytes())?;
    sink.write_all(&narrow(fingerprint.len())?.to_le_bytes())?;
    sink.write_all(&u32::from(graph.is_some()).to_le_bytes())?;
    sink.write_all(&graph.map_or(0, |graph| graph.generation).to_le_bytes())?;
    sink.write_all(&graph.map_or(0, |graph| graph.length).to_le_bytes())?;
    sink.write_all(&graph.map_or([0; HASH_BYTES], |graph| graph.hash))?;
    sink.write_all(fingerprint.as_bytes())?;
    let blocks = slots.div_ceil(BLOCK_ROWS);
    for block in 0..blocks {
        sink.write_all(&snapshot.live.word(block).to_le_bytes())?;
    }
    if let Some(graph) = graph {
        for block in 0..blocks {
            sink.write_all(&graph.members.word(block).to_le_bytes())?;
        }
    }
    for chunk in &snapshot.chunks {
        sink.write_all(bytemuck::cast_slice(&chunk.keys))?;
    }
    let nothing = vec![0; snapshot.dimensions * size_of::<f16>()];
    for at in 0..blocks {
        // A removed vector stays only where the graph still walks through it.
        let kept = snapshot.live.word(at) | graph.map_or(0, |graph| graph.members.word(at));
        let (_, rows) = snapshot.block(at);
        for (row, vector) in rows.chunks_exact(snapshot.dimensions).enumerate() {
            let kept = kept >> row & 1 == 1;
            sink.write_all(if kept { bytemuck::cast_slice(vector) } else { &nothing })?;
        }
    }
    let hash = sink.hash();
    sink.write_all(&hash)
}

/// Why the file of rows cannot be taken up.
pub(super) enum ReadError {
    /// The system could not read it.
    Io(io::Error),
    /// It is not what was written, or not what is wanted.
    Damaged(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads the file of rows, which is `size` bytes long.
pub(super) fn read_rows(
    source: &mut Source,
    size: u64,
    dimensions: usize,
    fingerprint: &str,
) -> Result<(Snapshot, Option<GraphEntry>), ReadError> {
    let damaged = |what: String| Err(ReadError::Damaged(what));
    let header = Header::read(source)?;
    // The length follows from the header, so that a flipped bit in it is found before it is
    // believed in an allocation.
    if header.file_bytes() != Some(size) {
        return damaged(format!("its {size} bytes are not what its header says"));
    }
    if header.dimensions as usize != dimensions {
        let found = header.dimensions;
        return damaged(format!("it holds vectors of {found} dimensions, not {dimensions}"));
    }
    let mut found = vec![0; header.fingerprint_bytes as usize];
    source.read_exact(&mut found)?;
    if found != fingerprint.as_bytes() {
        let found = String::from_utf8_lossy(&found).into_owned();
        return damaged(format!("it was written for the embedding space {found:?}, not {fingerprint:?}"));
    }
    let slots = header.slots as usize;
    let blocks = slots.div_ceil(BLOCK_ROWS);
    let live = Bits::from_words(source.read_words(blocks)?);
    let members = match header.has_graph {
        true => Some(Bits::from_words(source.read_words(blocks)?)),
        false => None,
    };
    let keys = source.read_words(slots)?;
    let mut snapshot = Snapshot::empty(dimensions);
    let chunk_rows = snapshot.chunk_rows();
    for keys in keys.chunks(chunk_rows) {
        let rows = source.read_rows(keys.len() * dimensions)?;
        snapshot.chunks.push(Arc::new(Chunk { keys: keys.to_vec(), rows }));
    }
    let hash = source.hash();
    let mut recorded = [0; HASH_BYTES];
    source.read_exact(&mut recorded)?;
    if recorded != hash {
        return damaged("its checksum is wrong".into());
    }
    if [Some(&live), members.as_ref()].into_iter().flatten().any(|bits| bits.iter().any(|slot| slot as usize >= slots))
    {
        return damaged("it refers to rows it does not hold".into());
    }
    snapshot.position = header.position;
    snapshot.live_count = live.count();
    snapshot.live = Arc::new(live);
    let graph = members.map(|members| GraphEntry {
        members,
        generation: header.graph_generation,
        length: header.graph_length,
        hash: header.graph_hash,
    });
    Ok((snapshot, graph))
}

/// The fixed part.
struct Header {
    dimensions: u32,
    position: u64,
    slots: u64,
    fingerprint_bytes: u32,
    has_graph: bool,
    graph_generation: u64,
    graph_length: u64,
    graph_hash: [u8; HASH_BYTES],
}

impl Header {
    fn read(source: &mut Source) -> Result<Self, ReadError> {
        if source.read_array::<8>()? != MAGIC {
            return Err(ReadError::Damaged("it does not begin as a vector index".into()));
        }
        let format = source.read_u32()?;
        if format != FORMAT {
            return Err(ReadError::Damaged(format!("its format {format} is not {FORMAT}")));
        }
        Ok(Self {
            dimensions: source.read_u32()?,
            position: source.read_u64()?,
            slots: source.read_u64()?,
            fingerprint_bytes: source.read_u32()?,
            has_graph: source.read_u32()? != 0,
            graph_generation: source.read_u64()?,
            graph_length: source.read_u64()?,
            graph_hash: source.read_array()?,
        })
    }

    /// How long the file must be; none if no file can be that long.
    fn file_bytes(&self) -> Option<u64> {
        let bitmaps = 8 * (1 + u64::from(self.has_graph)) * self.slots.div_ceil(BLOCK_ROWS as u64);
        let row = 8 + u64::from(self.dimensions) * size_of::<f16>() as u64;
        let rows = row.checked_mul(u64::from(u32::try_from(self.slots).ok()?))?;
        let fixed = HEADER_BYTES as u64 + u64::from(self.fingerprint_bytes) + HASH_BYTES as u64;
        rows.checked_add(bitmaps)?.checked_add(fixed)
    }
}

/// A file being written, and the hash of what went into it.
pub(super) struct Sink {
    out: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl Sink {
    /// Begins with the file as it is.
    pub(super) fn new(file: File) -> Self {
        Self { out: BufWriter::with_capacity(1 << 18, file), hasher: blake3::Hasher::new() }
    }

    fn hash(&self) -> [u8; HASH_BYTES] {
        *self.hasher.finalize().as_bytes()
    }

    /// Makes what was written durable.
    pub(super) fn finish(self) -> io::Result<()> {
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file being read, and the hash of what came out of it.
pub(super) struct Source {
    input: BufReader<File>,
    hasher: blake3::Hasher,
}

impl Source {
    /// Begins with the file as it is.
    pub(super) fn new(file: File) -> Self {
        Self { input: BufReader::with_capacity(1 << 18, file), hasher: blake3::Hasher::new() }
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.input.read_exact(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn read_array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn read_u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.read_array()?))
    }

    fn read_u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.read_array()?))
    }

    fn read_words(&mut self, count: usize) -> io::Result<Vec<u64>> {
        let mut words = vec![0; count];
        self.read_exact(bytemuck::cast_slice_mut(&mut words))?;
        Ok(words)
    }

    fn read_rows(&mut self, halves: usize) -> io::Result<RowBuffer> {
        let mut rows = RowBuffer::zeroed(halves);
        self.read_exact(bytemuck::cast_slice_mut(rows.as_mut_slice()))?;
        Ok(rows)
    }

    fn hash(&self) -> [u8; HASH_BYTES] {
        *self.hasher.finalize().as_bytes()
    }
}

fn narrow(number: usize) -> io::Result<u32> {
    u32::try_from(number).map_err(io::Error::other)
}
