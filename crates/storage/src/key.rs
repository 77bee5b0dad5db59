//! The one name a chunk has everywhere: in SQL, in the vector index, in the lexical index and
//! in an answer.

use std::{fmt, str::FromStr};

/// A chunk's identity: 63 bits derived from its content, so that the same input gives the same
/// keys on every machine.
///
/// 63 and not 64, because SQLite's row ids are signed and a negative one reads like a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkKey(u64);

impl ChunkKey {
    /// The largest key there is.
    pub const MAX: u64 = (1 << 63) - 1;

    /// A key from 63 bits; the top bit is dropped.
    pub const fn new(bits: u64) -> Self {
        Self(bits & Self::MAX)
    }

    /// The key as the unsigned number the indexes store.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ChunkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for ChunkKey {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self::new)
    }
}

/// A chunk and how well it matched; larger is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Which chunk.
    pub key: ChunkKey,
    /// Cosine similarity from a vector index, BM25 from a lexical one. Never comparable between
    /// the two, nor between two collections' lexical indexes.
    pub score: f32,
}
