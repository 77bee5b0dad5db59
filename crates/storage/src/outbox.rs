//! The outbox: what a transaction changed, for the indexes to apply.
//!
//! A row is written in the transaction of the change it tells of, so an index that has applied
//! every row agrees with SQL. Rows name chunks; their texts and vectors are read when applied,
//! so a chunk that is gone by then is simply not added.

use std::collections::{BTreeSet, HashSet};

use half::f16;
use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;

use crate::{
    ChunkKey,
    collections::Generation,
    documents::{AttributeParts, attributes, key_column, metadata_column, slice},
    error::StorageError,
    sql::Database,
};

/// What a transaction changed in one generation.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyChange {
    /// Chunks that are gone.
    pub removed: Vec<ChunkKey>,
    /// Chunks that are new.
    pub added: Vec<ChunkKey>,
    /// Chunks that stay, of a document whose attributes changed.
    pub refreshed: Vec<ChunkKey>,
}

/// Several rows folded into one step.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Chunks to take out.
    pub removed: Vec<ChunkKey>,
    /// Chunks to put in.
    pub added: Vec<ChunkKey>,
    /// Chunks to put in again.
    pub refreshed: Vec<ChunkKey>,
    /// The last position folded in.
    pub position: u64,
}

/// A chunk's words and attributes, owned.
pub(crate) struct Words {
    pub key: ChunkKey,
    pub title: String,
    pub heading: String,
    pub path: String,
    pub text: String,
    pub attributes: Value,
}

/// Notes a change; its position, or 0 where nothing changed.
pub(crate) fn append(connection: &Connection, generation_id: i64, change: KeyChange) -> Result<u64, StorageError> {
    if change.removed.is_empty() && change.added.is_empty() && change.refreshed.is_empty() {
        return Ok(0);
    }
    connection
        .prepare_cached(
            "INSERT INTO outbox (generation_id, removed, added, refreshed)
             VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute((generation_id, pack(change.removed), pack(change.added), pack(change.refreshed)))?;
    Ok(connection.last_insert_rowid().cast_unsigned())
}

/// Drops the rows of generations that are no more.
pub(crate) fn forget_removed_generations(connection: &Connection) -> Result<(), StorageError> {
    connection.execute("DELETE FROM outbox WHERE generation_id NOT IN (SELECT id FROM generations)", [])?;
    Ok(())
}

/// Drops the rows of a generation that every index has applied durably.
pub(crate) fn trim(database: &Database, generation_id: i64, through: u64) -> Result<usize, StorageError> {
    database.write_blocking(move |connection| {
        let through = through.cast_signed();
        let trimmed = connection
            .execute("DELETE FROM outbox WHERE generation_id = ?1 AND position <= ?2", (generation_id, through))?;
        connection.execute(
            "UPDATE generations SET trimmed_through = max(trimmed_through, ?2)
                 WHERE id = ?1",
            (generation_id, through),
        )?;
        Ok(trimmed)
    })
}

/// Where a generation's outbox begins and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Rows up to here are gone.
    pub trimmed_through: u64,
    /// The last position ever given, in any generation: no index can be further.
    pub last: u64,
}

/// See [`Extent`].
pub(crate) fn extent(database: &Database, generation_id: i64) -> Result<Extent, StorageError> {
    database.read_snapshot(|connection| {
        let trimmed: Option<i64> = connection
            .prepare_cached("SELECT trimmed_through FROM generations WHERE id = ?1")?
            .query_row([generation_id], |row| row.get(0))
            .optional()?;
        let last: Option<i64> = connection
            .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(Extent { trimmed_through: trimmed.unwrap_or(0).cast_unsigned(), last: last.unwrap_or(0).cast_unsigned() })
    })
}

/// The newest position of a generation, trimmed or not; 0 where nothing was ever written.
pub(crate) fn newest(database: &Database, generation_id: i64) -> Result<u64, StorageError> {
    database.read(|connection| {
        let newest: Option<i64> = connection
            .prepare_cached(
                "SELECT max(trimmed_through,
                     coalesce((SELECT max(position) FROM outbox WHERE generation_id = ?1), 0))
                 FROM generations WHERE id = ?1",
            )?
            .query_row([generation_id], |row| row.get(0))
            .optional()?;
        Ok(newest.unwrap_or(0).cast_unsigned())
    })
}

/// Rows of a generation after `position`.
pub(crate) fn backlog(database: &Database, generation_id: i64, position: u64) -> Result<u64, StorageError> {
    database.read(|connection| {
        Ok(connection
            .prepare_cached("SELECT count(*) FROM outbox WHERE generation_id = ?1 AND position > ?2")?
            .query_row((generation_id, position.cast_signed()), |row| row.get(0))?)
    })
}

/// Folds the rows after `position` into one step of at most about `chunks_max` chunks.
pub(crate) fn next_step(
    database: &Database,
    generation_id: i64,
    position: u64,
    chunks_max: usize,
) -> Result<Option<Step>, StorageError> {
    database.read(|connection| {
        let mut statement = connection.prepare_cached(
            "SELECT position, removed, added, refreshed FROM outbox
             WHERE generation_id = ?1 AND position > ?2 ORDER BY position",
        )?;
        let mut rows = statement.query((generation_id, position.cast_signed()))?;
        let mut folding = Folding::default();
        while folding.len() < chunks_max
            && let Some(row) = rows.next()?
        {
            let position: i64 = row.get(0)?;
            folding.position = position.cast_unsigned();
            folding.fold(
                unpack(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?),
                unpack(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?),
                unpack(row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?),
            );
        }
        Ok(folding.finish())
    })
}

/// Sets, so that a chunk that came and went in one step is only taken out. Ordered, so that the
/// same rows always give the same indexes.
#[derive(Default)]
struct Folding {
    removed: BTreeSet<ChunkKey>,
    added: BTreeSet<ChunkKey>,
    refreshed: BTreeSet<ChunkKey>,
    position: u64,
}

impl Folding {
    fn len(&self) -> usize {
        self.removed.len() + self.added.len() + self.refreshed.len()
    }

    fn fold(
        &mut self,
        removed: impl Iterator<Item = ChunkKey>,
        added: impl Iterator<Item = ChunkKey>,
        refreshed: impl Iterator<Item = ChunkKey>,
    ) {
        for key in removed {
            self.added.remove(&key);
            self.refreshed.remove(&key);
            self.removed.insert(key);
        }
        for key in added {
            self.added.insert(key);
        }
        self.refreshed.extend(refreshed);
    }

    fn finish(self) -> Option<Step> {
        let refreshed = self.refreshed.difference(&self.added).copied().collect();
        (self.position > 0).then(|| Step {
            removed: self.removed.into_iter().collect(),
            added: self.added.into_iter().collect(),
            refreshed,
            position: self.position,
        })
    }
}

/// The vectors of those of `keys` that are still there.
pub(crate) fn vectors(
    database: &Database,
    generation: &Generation,
    keys: &[ChunkKey],
) -> Result<Vec<(ChunkKey, Vec<f16>)>, StorageError> {
    database.read_snapshot(|connection| {
        let mut statement = connection.prepare_cached(
            "SELECT v.vector FROM chunks c
             JOIN vectors v ON v.space_id = ?3 AND v.embed_hash = c.embed_hash
             WHERE c.generation_id = ?1 AND c.key = ?2",
        )?;
        let mut vectors = Vec::with_capacity(keys.len());
        for &key in keys {
            let mut rows = statement.query((generation.id, key_column(key), generation.space.id))?;
            if let Some(row) = rows.next()? {
                let bytes = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
                vectors.push((key, bytemuck::pod_collect_to_vec(bytes)));
            }
        }
        Ok(vectors)
    })
}

/// The words of those of `keys` that are still there.
pub(crate) fn words(
    database: &Database,
    generation: &Generation,
    keys: &[ChunkKey],
) -> Result<Vec<Words>, StorageError> {
    database.read_snapshot(|connection| {
        let mut words = Vec::with_capacity(keys.len());
        for &key in keys {
            words.extend(words_of(connection, generation.id, key)?);
        }
        Ok(words)
    })
}

fn words_of(connection: &Connection, generation_id: i64, key: ChunkKey) -> Result<Option<Words>, StorageError> {
    let mut statement = connection.prepare_cached(
        "SELECT d.id, d.public_id, d.title, d.path, d.content_type, s.public_id, d.metadata,
                c.heading, c.start_byte, c.end_byte
         FROM chunks c
         JOIN documents d ON d.id = c.document_id
         LEFT JOIN sources s ON s.id = d.source_id
         WHERE c.generation_id = ?1 AND c.key = ?2",
    )?;
    let mut rows = statement.query((generation_id, key_column(key)))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let title: String = row.get(2)?;
    let path: Option<String> = row.get(3)?;
    let document_id: String = row.get(1)?;
    let content_type: String = row.get(4)?;
    let source: Option<String> = row.get(5)?;
    let attributes = attributes(AttributeParts {
        metadata: metadata_column(row, 6)?,
        path: path.as_deref(),
        title: &title,
        content_type: &content_type,
        source: source.as_deref(),
        document_id: &document_id,
    });
    let text = slice(connection, row.get(0)?, (row.get(8)?, row.get(9)?))?;
    let heading = row.get(7)?;
    let path = path.unwrap_or_default();
    Ok(Some(Words { key, title, heading, path, text, attributes }))
}

/// Every chunk of a generation, after `after`, in key order; for rebuilding and comparing.
pub(crate) fn keys(
    database: &Database,
    generation_id: i64,
    after: Option<ChunkKey>,
    limit: usize,
) -> Result<Vec<ChunkKey>, StorageError> {
    database.read(|connection| {
        let mut statement = connection
            .prepare_cached("SELECT key FROM chunks WHERE generation_id = ?1 AND key > ?2 ORDER BY key LIMIT ?3")?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows =
            statement.query_map((generation_id, after.map_or(-1, key_column), limit), |row| row.get::<_, i64>(0))?;
        Ok(rows.map(|key| key.map(|key| ChunkKey::new(key.cast_unsigned()))).collect::<Result<_, _>>()?)
    })
}

/// All keys of a generation, as a set.
pub(crate) fn all_keys(database: &Database, generation_id: i64) -> Result<HashSet<ChunkKey>, StorageError> {
    Ok(keys(database, generation_id, None, usize::MAX)?.into_iter().collect())
}

fn pack(mut keys: Vec<ChunkKey>) -> Vec<u8> {
    keys.sort_unstable();
    keys.into_iter().flat_map(|key| key.get().to_le_bytes()).collect()
}

fn unpack(bytes: &[u8]) -> impl Iterator<Item = ChunkKey> {
    bytes.as_chunks().0.iter().map(|chunk| ChunkKey::new(u64::from_le_bytes(*chunk)))
}
