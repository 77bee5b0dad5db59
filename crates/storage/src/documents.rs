//! Documents, their texts, chunks and vectors: written together, read apart.
//!
//! A write compares what it brings with what is there. Chunks are named by their content, so a
//! document that changed in one paragraph adds and removes only the chunks that differ, and the
//! indexes are told of nothing else.

use std::{collections::HashSet, time::Duration};

use half::f16;
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;

use crate::{
    ChunkKey, Storage,
    error::StorageError,
    jobs::{self, JobItem, JobItemResult},
    now_ms, outbox,
    sources::{self, SourceFile},
};

/// What was embedded, hashed: equal texts share one vector.
pub type EmbedHash = [u8; 16];

/// A document as it is stored, without its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The row.
    pub id: i64,
    /// Its id in the collection, as users see it.
    pub public_id: String,
    /// The name of its collection.
    pub collection: String,
    /// The source that brought it.
    pub source: Option<String>,
    /// That source's row.
    pub source_row: Option<i64>,
    /// Where it lies.
    pub path: Option<String>,
    /// What it is called.
    pub title: String,
    /// Its media type.
    pub content_type: String,
    /// BLAKE3 of what it was made from.
    pub content_hash: [u8; 32],
    /// Counts the changes, from 1.
    pub revision: i64,
    /// A JSON object.
    pub metadata: Value,
    /// Bytes of its text.
    pub size_bytes: u64,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds.
    pub updated_at_ms: i64,
}

/// A document to be stored in a generation, split and embedded.
#[derive(Clone, Debug)]
pub struct DocumentWrite {
    /// The generation its chunks were made for.
    pub generation_id: i64,
    /// The collection.
    pub collection_id: i64,
    /// Its id in the collection.
    pub public_id: String,
    /// The source that brought it.
    pub source_id: Option<i64>,
    /// Where it lies.
    pub path: Option<String>,
    /// What it is called.
    pub title: String,
    /// Its media type.
    pub content_type: String,
    /// BLAKE3 of what it was made from.
    pub content_hash: [u8; 32],
    /// A JSON object.
    pub metadata: Value,
    /// The text its chunks are ranges of.
    pub text: String,
    /// In the order they stand in the text.
    pub chunks: Vec<ChunkWrite>,
    /// Vectors not stored yet; every chunk's vector is here or already in the space.
    pub vectors: Vec<(EmbedHash, Vec<f16>)>,
    /// The revision the chunks were made from, where they were made from what is stored; another
    /// one in the meantime makes the write [`StorageError::Superseded`].
    pub made_from: Option<i64>,
    /// The file it came from.
    pub file: Option<SourceFile>,
    /// The accepted item it fulfils.
    pub job_item: Option<JobItem>,
}

/// A chunk to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkWrite {
    /// Its name.
    pub key: ChunkKey,
    /// First byte in the document's text.
    pub start_byte: usize,
    /// One past the last.
    pub end_byte: usize,
    /// Tokens of the chunk, without its heading.
    pub token_count: usize,
    /// The headings it stands under.
    pub heading: String,
    /// What was embedded for it.
    pub embed_hash: EmbedHash,
}

/// What became of a document that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its revision now.
    pub revision: i64,
    /// How many chunks it has.
    pub chunks: usize,
    /// Whether anything changed.
    pub change: Change,
    /// The outbox position to wait for before it can be found; 0 where nothing changed.
    pub position: u64,
}

/// How a write compares with what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There was no such document.
    Created,
    /// It replaces a former revision.
    Updated,
    /// It is what was there.
    Unchanged,
}

/// A chunk together with what an answer shows of its document.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The chunk.
    pub key: ChunkKey,
    /// The document's row.
    pub document_row: i64,
    /// The document's id.
    pub document_id: String,
    /// The document's title.
    pub title: String,
    /// Where the document lies.
    pub path: Option<String>,
    /// The document's media type.
    pub content_type: String,
    /// The source that brought the document.
    pub source: Option<String>,
    /// The document's metadata.
    pub metadata: Value,
    /// The headings above the chunk.
    pub heading: String,
    /// The chunk's text.
    pub text: String,
    /// The chunk's place in its document.
    pub ordinal: i64,
}

impl Hit {
    /// The object that filters see.
    pub fn attributes(&self) -> Value {
        attributes(AttributeParts {
            metadata: self.metadata.clone(),
            path: self.path.as_deref(),
            title: &self.title,
            content_type: &self.content_type,
            source: self.source.as_deref(),
            document_id: &self.document_id,
        })
    }
}

/// What [`attributes`] is made of.
pub(crate) struct AttributeParts<'a> {
    pub metadata: Value,
    pub path: Option<&'a str>,
    pub title: &'a str,
    pub content_type: &'a str,
    pub source: Option<&'a str>,
    pub document_id: &'a str,
}

/// The object that filters see: absent parts are absent, not null.
pub(crate) fn attributes(parts: AttributeParts<'_>) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("metadata".into(), parts.metadata);
    object.insert("title".into(), parts.title.into());
    object.insert("content_type".into(), parts.content_type.into());
    object.insert("document_id".into(), parts.document_id.into());
    if let Some(path) = parts.path {
        object.insert("path".into(), path.into());
    }
    if let Some(source) = parts.source {
        object.insert("source_id".into(), source.into());
    }
    Value::Object(object)
}

/// A page of documents.
#[derive(Clone, Debug, Default)]
pub struct DocumentQuery {
    /// Only this collection.
    pub collection_id: i64,
    /// Only documents of this source.
    pub source_id: Option<i64>,
    /// Only rows after this one.
    pub after: i64,
    /// At most so many.
    pub limit: usize,
}

impl Storage {
    /// Stores documents, each on its own: all of a document or nothing of it. The results stand
    /// in the order of `batch`, and those that are `Ok` are durable.
    pub async fn write_documents(
        &self,
        batch: Vec<DocumentWrite>,
    ) -> Result<Vec<Result<Written, StorageError>>, StorageError> {
        let mut pending = Vec::with_capacity(batch.len());
        for document in batch {
            // One queued write a document: the writer commits those waiting together, and a
            // failing one does not take the rest with it.
            let write = self.database.write(move |connection| store(connection, &document));
            pending.push(write);
        }
        let results = futures_join(pending).await;
        self.projections.outbox_grew();
        Ok(results)
    }

    /// Takes documents out by row. Their rows remain as tombstones; texts and chunks go at once.
    pub async fn remove_documents(&self, rows: Vec<i64>) -> Result<u64, StorageError> {
        let removed = self
            .database
            .write(move |connection| {
                let mut removed = 0;
                for row in rows {
                    removed += u64::from(remove(connection, row)?);
                }
                Ok(removed)
            })
            .await?;
        self.projections.outbox_grew();
        Ok(removed)
    }

    /// The live document of that id.
    pub fn document(&self, collection_id: i64, public_id: &str) -> Result<Document, StorageError> {
        self.database.read(|connection| {
            connection
                .prepare_cached(&format!(
                    "{DOCUMENT} WHERE d.collection_id = ?1 AND d.public_id = ?2
                       AND d.deleted_at_ms IS NULL"
                ))?
                .query_row((collection_id, public_id), document_row)
                .optional()?
                .ok_or_else(|| StorageError::NotFound { what: "document", name: public_id.to_owned() })
        })
    }

    /// The live document in that row.
    pub fn document_by_row(&self, row: i64) -> Result<Option<Document>, StorageError> {
        self.database.read(|connection| {
            Ok(connection
                .prepare_cached(&format!("{DOCUMENT} WHERE d.id = ?1 AND d.deleted_at_ms IS NULL"))?
                .query_row([row], document_row)
                .optional()?)
        })
    }

    /// The document's whole text.
    pub fn document_text(&self, row: i64) -> Result<String, StorageError> {
        self.database.read(|connection| {
            let bytes: Vec<u8> = connection
                .prepare_cached("SELECT text FROM document_texts WHERE document_id = ?1")?
                .query_row([row], |row| row.get(0))
                .optional()?
                .ok_or_else(|| StorageError::NotFound { what: "document text", name: row.to_string() })?;
            String::from_utf8(bytes).map_err(|_| StorageError::Unreadable { what: "a document's text" })
        })
    }

    /// How many chunks the document has in the generation.
    pub fn chunk_count(&self, generation_id: i64, row: i64) -> Result<u64, StorageError> {
        self.database.read(|connection| {
            Ok(connection
                .prepare_cached("SELECT count(*) FROM chunks WHERE generation_id = ?1 AND document_id = ?2")?
                .query_row((generation_id, row), |row| row.get(0))?)
        })
    }

    /// Live documents in row order.
    pub fn documents(&self, query: &DocumentQuery) -> Result<Vec<Document>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "{DOCUMENT} WHERE d.collection_id = ?1 AND d.deleted_at_ms IS NULL
                   AND (?2 IS NULL OR d.source_id = ?2) AND d.id > ?3
                 ORDER BY d.id LIMIT ?4"
            ))?;
            let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
            let rows = statement.query_map((query.collection_id, query.source_id, query.after, limit), document_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// A chunk with what an answer shows, if it is live in the generation.
    pub fn hit(&self, generation_id: i64, key: ChunkKey) -> Result<Option<Hit>, StorageError> {
        self.database.read_snapshot(|connection| hit(connection, generation_id, key))
    }

    /// The row of the document that a chunk belongs to, if it is live in the generation.
    pub fn document_of_chunk(&self, generation_id: i64, key: ChunkKey) -> Result<Option<i64>, StorageError> {
        self.database.read(|connection| {
            Ok(connection
                .prepare_cached("SELECT document_id FROM chunks WHERE generation_id = ?1 AND key = ?2")?
                .query_row((generation_id, key_column(key)), |row| row.get(0))
                .optional()?)
        })
    }

    /// The chunks that a generation has of documents of its collection, with the documents' ids.
    pub fn chunks_of_documents(
        &self,
        generation_id: i64,
        ids: &[&str],
    ) -> Result<Vec<(String, ChunkKey)>, StorageError> {
        let ids = serde_json::Value::from_iter(ids.iter().copied()).to_string();
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT d.public_id, c.key
                 FROM json_each(?2) wanted
                 JOIN generations g ON g.id = ?1
                 JOIN documents d ON d.collection_id = g.collection_id AND d.public_id = wanted.value
                 JOIN chunks c ON c.generation_id = g.id AND c.document_id = d.id",
            )?;
            let rows = statement.query_map((generation_id, ids), |row| {
                Ok((row.get(0)?, ChunkKey::new(row.get::<_, i64>(1)?.cast_unsigned())))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Those of `hashes` whose vector the space has already.
    pub fn stored_vectors(&self, space_id: i64, hashes: &[EmbedHash]) -> Result<HashSet<EmbedHash>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM vectors WHERE space_id = ?1 AND embed_hash = ?2)")?;
            let mut stored = HashSet::new();
            for hash in hashes {
                if statement.query_row((space_id, hash.as_slice()), |row| row.get::<_, bool>(0))? {
                    stored.insert(*hash);
                }
            }
            Ok(stored)
        })
    }

    /// Takes out vectors that no chunk refers to any more, at most `limit` at a time. They are
    /// kept for a while on purpose: a file moved in two steps finds its vectors again.
    pub async fn sweep_vectors(&self, limit: usize) -> Result<usize, StorageError> {
        self.database
            .write(move |connection| {
                Ok(connection.execute(
                    "DELETE FROM vectors WHERE (space_id, embed_hash) IN (
                         SELECT v.space_id, v.embed_hash FROM vectors v
                         WHERE NOT EXISTS (
                             SELECT 1 FROM chunks c JOIN generations g ON g.id = c.generation_id
                             WHERE c.embed_hash = v.embed_hash AND g.space_id = v.space_id)
                         LIMIT ?1)",
                    [i64::try_from(limit).unwrap_or(i64::MAX)],
                )?)
            })
            .await
    }

    /// Forgets tombstones older than `kept`.
    pub async fn sweep_tombstones(&self, kept: Duration) -> Result<usize, StorageError> {
        let kept_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        let before_ms = now_ms().saturating_sub(kept_ms);
        self.database
            .write(move |connection| {
                Ok(connection.execute("DELETE FROM documents WHERE deleted_at_ms < ?1", [before_ms])?)
            })
            .await
    }
}

async fn futures_join<T>(writes: Vec<impl Future<Output = Result<T, StorageError>>>) -> Vec<Result<T, StorageError>> {
    futures::future::join_all(writes).await
}

const DOCUMENT: &str = "SELECT d.id, d.public_id, c.name, s.public_id, d.path, d.title,
        d.content_type, d.content_hash, d.revision, d.metadata, d.size_bytes, d.created_at_ms,
        d.updated_at_ms, d.source_id
    FROM documents d
    JOIN collections c ON c.id = d.collection_id
    LEFT JOIN sources s ON s.id = d.source_id";

fn document_row(row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document {
        id: row.get(0)?,
        public_id: row.get(1)?,
        collection: row.get(2)?,
        source: row.get(3)?,
        path: row.get(4)?,
        title: row.get(5)?,
        content_type: row.get(6)?,
        content_hash: row.get(7)?,
        revision: row.get(8)?,
        metadata: metadata_column(row, 9)?,
        size_bytes: row.get(10)?,
        created_at_ms: row.get(11)?,
        updated_at_ms: row.get(12)?,
        source_row: row.get(13)?,
    })
}

pub(crate) fn metadata_column(row: &Row<'_>, index: usize) -> rusqlite::Result<Value> {
    let text: String = row.get(index)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, error.into()))
}

/// SQLite's integers are signed; keys have 63 bits, so this never wraps.
pub(crate) fn key_column(key: ChunkKey) -> i64 {
    key.get().cast_signed()
}

fn hit(connection: &Connection, generation_id: i64, key: ChunkKey) -> Result<Option<Hit>, StorageError> {
    let row = connection
        .prepare_cached(
            "SELECT d.id, d.public_id, d.title, d.path, d.content_type, s.public_id, d.metadata,
                    c.heading, c.ordinal, c.start_byte, c.end_byte
             FROM chunks c
             JOIN documents d ON d.id = c.document_id
             LEFT JOIN sources s ON s.id = d.source_id
             WHERE c.generation_id = ?1 AND c.key = ?2 AND d.deleted_at_ms IS NULL",
        )?
        .query_row((generation_id, key_column(key)), |row| {
            let range: (usize, usize) = (row.get(9)?, row.get(10)?);
            let hit = Hit {
                key,
                document_row: row.get(0)?,
                document_id: row.get(1)?,
                title: row.get(2)?,
                path: row.get(3)?,
                content_type: row.get(4)?,
                source: row.get(5)?,
                metadata: metadata_column(row, 6)?,
                heading: row.get(7)?,
                ordinal: row.get(8)?,
                text: String::new(),
            };
            Ok((hit, range))
        })
        .optional()?;
    let Some((mut hit, range)) = row else { return Ok(None) };
    hit.text = slice(connection, hit.document_row, range)?;
    Ok(Some(hit))
}

/// Bytes `range` of a document's text, read in place.
pub(crate) fn slice(
    connection: &Connection,
    document: i64,
    (start, end): (usize, usize),
) -> Result<String, StorageError> {
    const UNREADABLE: StorageError = StorageError::Unreadable { what: "a chunk's text" };
    let blob = connection.blob_open("main", "document_texts", "text", document, true)?;
    let mut bytes = vec![0; end.checked_sub(start).ok_or(UNREADABLE)?];
    blob.read_at_exact(&mut bytes, start)?;
    String::from_utf8(bytes).map_err(|_| UNREADABLE)
}

fn store(connection: &Connection, write: &DocumentWrite) -> Result<Written, StorageError> {
    let generation = live_generation(connection, write)?;
    let former = former(connection, write)?;
    if let Some(expected) = write.made_from {
        let current = former.as_ref().filter(|f| !f.deleted).map(|f| f.revision);
        if current != Some(expected) {
            return Err(StorageError::Superseded);
        }
    }
    let metadata = write.metadata.to_string();
    let chunks = write.chunks.len();
    let same = former.as_ref().is_some_and(|former| former.same_content(write, &metadata));
    let held = match &former {
        Some(former) => held_keys(connection, write.generation_id, former.id)?,
        None => HashSet::new(),
    };
    let wanted: HashSet<ChunkKey> = write.chunks.iter().map(|chunk| chunk.key).collect();
    let written = match former {
        Some(former) if same && held == wanted && former.generation_is_current => {
            adopt(connection, write, former.id)?;
            finish(connection, write, former.id, former.revision)?;
            return Ok(Written { revision: former.revision, chunks, change: Change::Unchanged, position: 0 });
        }
        Some(former) => {
            // A re-embedding brings other chunks of the same content: the revision stays.
            let revision = if same { former.revision } else { former.revision + 1 };
            update(connection, write, former.id, revision, &metadata)?;
            let change = if former.deleted { Change::Created } else { Change::Updated };
            (former.id, revision, change)
        }
        None => (insert(connection, write, &metadata)?, 1, Change::Created),
    };
    let (document, revision, change) = written;
    store_vectors(connection, generation, &write.vectors)?;
    store_text(connection, document, &write.text)?;
    store_chunks(connection, write, document)?;
    require_vectors(connection, write.generation_id, document, generation)?;
    if !same {
        // Another generation's chunks are ranges of the text that was just replaced.
        remove_other_chunks(connection, document, write.generation_id)?;
    }
    connection
        .prepare_cached(
            "INSERT INTO generation_documents (generation_id, document_id, revision)
             VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET revision = excluded.revision",
        )?
        .execute((write.generation_id, document, revision))?;
    let change_of_keys = outbox::KeyChange {
        removed: held.difference(&wanted).copied().collect(),
        added: wanted.difference(&held).copied().collect(),
        refreshed: if same { Vec::new() } else { wanted.intersection(&held).copied().collect() },
    };
    let position = outbox::append(connection, write.generation_id, change_of_keys)?;
    finish(connection, write, document, revision)?;
    Ok(Written { revision, chunks, change, position })
}

/// What is there under the id that a write brings.
struct Former {
    id: i64,
    revision: i64,
    deleted: bool,
    generation_is_current: bool,
    content_hash: [u8; 32],
    title: String,
    path: Option<String>,
    content_type: String,
    metadata: String,
}

impl Former {
    fn same_content(&self, write: &DocumentWrite, metadata: &str) -> bool {
        !self.deleted
            && self.content_hash == write.content_hash
            && self.title == write.title
            && self.path == write.path
            && self.content_type == write.content_type
            && self.metadata == metadata
    }
}

fn former(connection: &Connection, write: &DocumentWrite) -> Result<Option<Former>, StorageError> {
    Ok(connection
        .prepare_cached(
            "SELECT d.id, d.revision, d.deleted_at_ms IS NOT NULL, g.revision IS d.revision,
                    d.content_hash, d.title, d.path, d.content_type, d.metadata
             FROM documents d
             LEFT JOIN generation_documents g ON g.generation_id = ?3 AND g.document_id = d.id
             WHERE d.collection_id = ?1 AND d.public_id = ?2",
        )?
        .query_row((write.collection_id, &write.public_id, write.generation_id), |row| {
            Ok(Former {
                id: row.get(0)?,
                revision: row.get(1)?,
                deleted: row.get(2)?,
                generation_is_current: row.get(3)?,
                content_hash: row.get(4)?,
                title: row.get(5)?,
                path: row.get(6)?,
                content_type: row.get(7)?,
                metadata: row.get(8)?,
            })
        })
        .optional()?)
}

/// The generation's space, if the generation is still there.
fn live_generation(connection: &Connection, write: &DocumentWrite) -> Result<i64, StorageError> {
    connection
        .prepare_cached(
            "SELECT space_id FROM generations
             WHERE id = ?1 AND collection_id = ?2",
        )?
        .query_row((write.generation_id, write.collection_id), |row| row.get(0))
        .optional()?
        .ok_or(StorageError::Superseded)
}

fn held_keys(connection: &Connection, generation_id: i64, document: i64) -> Result<HashSet<ChunkKey>, StorageError> {
    let mut statement =
        connection.prepare_cached("SELECT key FROM chunks WHERE generation_id = ?1 AND document_id = ?2")?;
    let rows = statement.query_map((generation_id, document), |row| row.get::<_, i64>(0))?;
    Ok(rows.map(|key| key.map(|key| ChunkKey::new(key.cast_unsigned()))).collect::<Result<_, _>>()?)
}

fn insert(connection: &Connection, write: &DocumentWrite, metadata: &str) -> Result<i64, StorageError> {
    connection
        .prepare_cached(
            "INSERT INTO documents (public_id, collection_id, source_id, path, title,
                 content_type, content_hash, revision, metadata, size_bytes, created_at_ms,
                 updated_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?9, ?10, ?10)",
        )?
        .execute((
            &write.public_id,
            write.collection_id,
            write.source_id,
            &write.path,
            &write.title,
            &write.content_type,
            write.content_hash.as_slice(),
            metadata,
            write.text.len(),
            now_ms(),
        ))?;
    Ok(connection.last_insert_rowid())
}

fn update(
    connection: &Connection,
    write: &DocumentWrite,
    document: i64,
    revision: i64,
    metadata: &str,
) -> Result<(), StorageError> {
    connection
        .prepare_cached(
            "UPDATE documents SET source_id = ?2, path = ?3, title = ?4, content_type = ?5,
                 content_hash = ?6, revision = ?7, metadata = ?8, size_bytes = ?9,
                 updated_at_ms = ?10, deleted_at_ms = NULL
             WHERE id = ?1",
        )?
        .execute((
            document,
            write.source_id,
            &write.path,
            &write.title,
            &write.content_type,
            write.content_hash.as_slice(),
            revision,
            metadata,
            write.text.len(),
            now_ms(),
        ))?;
    Ok(())
}

/// An unchanged document may have come by another way than before.
fn adopt(connection: &Connection, write: &DocumentWrite, document: i64) -> Result<(), StorageError> {
    connection
        .prepare_cached("UPDATE documents SET source_id = ?2 WHERE id = ?1 AND source_id IS NOT ?2")?
        .execute((document, write.source_id))?;
    Ok(())
}

fn store_vectors(
    connection: &Connection,
    space_id: i64,
    vectors: &[(EmbedHash, Vec<f16>)],
) -> Result<(), StorageError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO vectors (space_id, embed_hash, vector) VALUES (?1, ?2, ?3)
         ON CONFLICT DO NOTHING",
    )?;
    for (hash, vector) in vectors {
        statement.execute((space_id, hash.as_slice(), bytemuck::cast_slice::<f16, u8>(vector)))?;
    }
    Ok(())
}

fn store_text(connection: &Connection, document: i64, text: &str) -> Result<(), StorageError> {
    connection
        .prepare_cached(
            "INSERT INTO document_texts (document_id, text) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET text = excluded.text",
        )?
        .execute((document, text.as_bytes()))?;
    Ok(())
}

fn store_chunks(connection: &Connection, write: &DocumentWrite, document: i64) -> Result<(), StorageError> {
    connection.prepare_cached(REMOVE_CHUNKS)?.execute((write.generation_id, document))?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO chunks (generation_id, key, document_id, ordinal, start_byte, end_byte,
             token_count, heading, embed_hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for (ordinal, chunk) in write.chunks.iter().enumerate() {
        statement.execute((
            write.generation_id,
            key_column(chunk.key),
            document,
            ordinal,
            chunk.start_byte,
            chunk.end_byte,
            chunk.token_count,
            &chunk.heading,
            chunk.embed_hash.as_slice(),
        ))?;
    }
    Ok(())
}

/// A chunk without a vector could be found by words only, and nobody would know why. A vector
/// that was there when the document was prepared may have been swept since.
fn require_vectors(
    connection: &Connection,
    generation_id: i64,
    document: i64,
    space_id: i64,
) -> Result<(), StorageError> {
    let lacking: bool =
        connection.prepare_cached(LACKS_VECTORS)?.query_row((generation_id, document, space_id), |row| row.get(0))?;
    if lacking { Err(StorageError::Superseded) } else { Ok(()) }
}

// Left to itself, SQLite walks over every chunk of the generation for either of these two.
const REMOVE_CHUNKS: &str =
    "DELETE FROM chunks INDEXED BY chunks_by_document WHERE generation_id = ?1 AND document_id = ?2";

const LACKS_VECTORS: &str = "SELECT EXISTS (
    SELECT 1 FROM chunks c INDEXED BY chunks_by_document
    WHERE c.generation_id = ?1 AND c.document_id = ?2 AND NOT EXISTS (
        SELECT 1 FROM vectors v WHERE v.space_id = ?3 AND v.embed_hash = c.embed_hash))";

const GENERATIONS_OF: &str = "SELECT generation_id FROM generation_documents WHERE document_id = ?1";

fn remove_other_chunks(connection: &Connection, document: i64, generation_id: i64) -> Result<(), StorageError> {
    for other in generations_of(connection, document)? {
        if other != generation_id {
            remove_chunks(connection, other, document)?;
        }
    }
    Ok(())
}

fn generations_of(connection: &Connection, document: i64) -> Result<Vec<i64>, StorageError> {
    let mut statement = connection.prepare_cached(GENERATIONS_OF)?;
    let rows = statement.query_map([document], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Takes a document's chunks out of one generation and tells its indexes.
fn remove_chunks(connection: &Connection, generation_id: i64, document: i64) -> Result<(), StorageError> {
    let removed = held_keys(connection, generation_id, document)?.into_iter().collect();
    connection.prepare_cached(REMOVE_CHUNKS)?.execute((generation_id, document))?;
    connection
        .prepare_cached("DELETE FROM generation_documents WHERE generation_id = ?1 AND document_id = ?2")?
        .execute((generation_id, document))?;
    outbox::append(connection, generation_id, outbox::KeyChange { removed, ..Default::default() })?;
    Ok(())
}

/// Makes a tombstone of a live document; false where it is none.
pub(crate) fn remove(connection: &Connection, document: i64) -> Result<bool, StorageError> {
    let marked = connection
        .prepare_cached(
            "UPDATE documents SET deleted_at_ms = ?2, updated_at_ms = ?2, source_id = NULL,
                 revision = revision + 1
             WHERE id = ?1 AND deleted_at_ms IS NULL",
        )?
        .execute((document, now_ms()))?;
    if marked == 0 {
        return Ok(false);
    }
    for generation_id in generations_of(connection, document)? {
        remove_chunks(connection, generation_id, document)?;
    }
    connection.prepare_cached("DELETE FROM document_texts WHERE document_id = ?1")?.execute([document])?;
    Ok(true)
}

/// The records that say where the document came from, in the same transaction.
fn finish(connection: &Connection, write: &DocumentWrite, document: i64, revision: i64) -> Result<(), StorageError> {
    if let (Some(source_id), Some(file)) = (write.source_id, &write.file) {
        sources::record_file(connection, source_id, file, Some(document))?;
    }
    if let Some(item) = &write.job_item {
        let result =
            JobItemResult::Indexed { document_id: write.public_id.clone(), revision, chunks: write.chunks.len() };
        jobs::settle_item(connection, item, &result)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::migrate;

    /// What every write asks must not take longer the more there is.
    #[test]
    fn writing_looks_up_and_does_not_scan() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate::MAIN.up(&mut connection, migrate::newest()).unwrap();
        for (statement, index) in [
            (REMOVE_CHUNKS, "chunks_by_document"),
            (LACKS_VECTORS, "chunks_by_document"),
            (GENERATIONS_OF, "generation_documents_by_document"),
        ] {
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let count = plan.parameter_count();
            let steps: Vec<String> = plan
                .query_map(rusqlite::params_from_iter(std::iter::repeat_n(1, count)), |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert!(steps.iter().any(|step| step.contains(&format!("INDEX {index} (document_id=?"))), "{steps:?}");
        }
    }
}
