//! Sources: folders and files that are kept in step, and what their last scan saw.

use rusqlite::{Connection, OptionalExtension, Row};

use crate::{Grants, Storage, caller::GRANTED, documents, error::StorageError, now_ms};

/// A folder or file whose documents follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The row.
    pub id: i64,
    /// Its id, as users see it.
    pub public_id: String,
    /// The collection its documents go to.
    pub collection_id: i64,
    /// The collection's name.
    pub collection: String,
    /// The absolute path of the folder or file.
    pub root: String,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// When a scan last came to its end; Unix milliseconds.
    pub scanned_at_ms: Option<i64>,
    /// Why the last scan failed, if it did.
    pub last_error: Option<String>,
    /// Files that are documents.
    pub files: u64,
    /// Files that were skipped.
    pub skipped: u64,
}

/// A file of a source, as a scan saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path; absolute.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// When it was last modified, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// BLAKE3 of its bytes; absent where it could not be read.
    pub content_hash: Option<[u8; 32]>,
    /// Why it is no document.
    pub problem: Option<FileProblem>,
}

/// Why a file was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// A stable word.
    pub code: String,
    /// A sentence.
    pub detail: String,
}

/// A file as it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedFile {
    /// The file.
    pub file: SourceFile,
    /// The row of its document.
    pub document: Option<i64>,
}

impl Storage {
    /// Records a source; one of that root is returned as it is.
    pub async fn add_source(&self, collection_id: i64, root: String) -> Result<Source, StorageError> {
        self.database
            .write(move |connection| {
                connection.execute(
                    "INSERT INTO sources (public_id, collection_id, root, created_at_ms)
                     VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                    (source_id(collection_id, &root), collection_id, &root, now_ms()),
                )?;
                Ok(connection.query_row(
                    &format!("{SOURCE} WHERE s.collection_id = ?1 AND s.root = ?2"),
                    (collection_id, &root),
                    source_row,
                )?)
            })
            .await
    }

    /// Every source of a collection that is granted, in the order they were added.
    pub fn sources(&self, grants: &Grants) -> Result<Vec<Source>, StorageError> {
        self.database.read_snapshot(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SOURCE} WHERE {GRANTED} ORDER BY s.id"))?;
            let rows = statement.query_map([grants.parameter()], source_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// How many sources failed at their last scan, and how many there are.
    pub fn failing_sources(&self) -> Result<(u64, u64), StorageError> {
        self.database.read(|connection| {
            let counts = "SELECT count(last_error), count(*) FROM sources";
            let all = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            Ok(connection.prepare_cached(counts)?.query_row([], all)?)
        })
    }

    /// The source of that id.
    pub fn source(&self, grants: &Grants, public_id: &str) -> Result<Source, StorageError> {
        self.database.read_snapshot(|connection| {
            connection
                .prepare_cached(&format!("{SOURCE} WHERE {GRANTED} AND s.public_id = ?2"))?
                .query_row((grants.parameter(), public_id), source_row)
                .optional()?
                .ok_or_else(|| StorageError::NotFound { what: "source", name: public_id.to_owned() })
        })
    }

    /// Forgets a source and removes the documents it brought.
    pub async fn remove_source(&self, source_id: i64) -> Result<u64, StorageError> {
        let removed = self
            .database
            .write(move |connection| {
                let rows: Vec<i64> = connection
                    .prepare_cached("SELECT id FROM documents WHERE source_id = ?1")?
                    .query_map([source_id], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                let mut removed = 0;
                for row in rows {
                    removed += u64::from(documents::remove(connection, row)?);
                }
                connection.execute("DELETE FROM sources WHERE id = ?1", [source_id])?;
                Ok(removed)
            })
            .await?;
        self.projections.outbox_grew();
        Ok(removed)
    }

    /// Moves everything a source brought to another one and forgets it: a folder that now covers
    /// it takes over.
    pub async fn absorb_source(&self, from: i64, into: i64) -> Result<(), StorageError> {
        self.database
            .write(move |connection| {
                connection.execute("UPDATE documents SET source_id = ?2 WHERE source_id = ?1", (from, into))?;
                connection
                    .execute("UPDATE OR IGNORE source_files SET source_id = ?2 WHERE source_id = ?1", (from, into))?;
                connection.execute("DELETE FROM sources WHERE id = ?1", [from])?;
                Ok(())
            })
            .await
    }

    /// Notes that a file has new times and the same content.
    pub async fn touch_file(&self, source_id: i64, path: String, modified_ns: i64) -> Result<(), StorageError> {
        self.database
            .write(move |connection| {
                connection
                    .prepare_cached(
                        "UPDATE source_files SET modified_ns = ?3
                         WHERE source_id = ?1 AND path = ?2",
                    )?
                    .execute((source_id, path, modified_ns))?;
                Ok(())
            })
            .await
    }

    /// The end of a scan, with its failure if it had one.
    pub async fn source_scanned(&self, source_id: i64, error: Option<String>) -> Result<(), StorageError> {
        self.database
            .write(move |connection| {
                connection.execute(
                    "UPDATE sources SET scanned_at_ms = ?2, last_error = ?3 WHERE id = ?1",
                    (source_id, now_ms(), error),
                )?;
                Ok(())
            })
            .await
    }

    /// What is on record of a file.
    pub fn recorded_file(&self, source_id: i64, path: &str) -> Result<Option<RecordedFile>, StorageError> {
        self.database.read(|connection| {
            Ok(connection
                .prepare_cached(&format!("{FILE} WHERE source_id = ?1 AND path = ?2"))?
                .query_row((source_id, path), file_row)
                .optional()?)
        })
    }

    /// The files on record, in path order, after `after`.
    pub fn recorded_files(&self, source_id: i64, after: &str, limit: usize) -> Result<Vec<RecordedFile>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection
                .prepare_cached(&format!("{FILE} WHERE source_id = ?1 AND path > ?2 ORDER BY path LIMIT ?3"))?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map((source_id, after, limit), file_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The files of a source that were skipped, in path order, after `after`.
    pub fn skipped_files(&self, source_id: i64, after: &str, limit: usize) -> Result<Vec<SourceFile>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "{FILE} WHERE source_id = ?1 AND path > ?2 AND problem IS NOT NULL
                 ORDER BY path LIMIT ?3"
            ))?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map((source_id, after, limit), file_row)?;
            Ok(rows.map(|row| row.map(|recorded| recorded.file)).collect::<Result<_, _>>()?)
        })
    }

    /// Records files that are no documents; a document one of them was before is removed.
    pub async fn skip_files(&self, source_id: i64, files: Vec<SourceFile>) -> Result<(), StorageError> {
        self.database
            .write(move |connection| {
                for file in &files {
                    if let Some(document) = document_of(connection, source_id, &file.path)? {
                        documents::remove(connection, document)?;
                    }
                    record_file(connection, source_id, file, None)?;
                }
                Ok(())
            })
            .await?;
        self.projections.outbox_grew();
        Ok(())
    }

    /// Forgets files that are gone, with their documents. Answers how many documents went.
    pub async fn forget_files(&self, source_id: i64, paths: Vec<String>) -> Result<u64, StorageError> {
        let removed = self
            .database
            .write(move |connection| {
                let mut removed = 0;
                for path in &paths {
                    if let Some(document) = document_of(connection, source_id, path)? {
                        removed += u64::from(documents::remove(connection, document)?);
                    }
                    connection
                        .prepare_cached("DELETE FROM source_files WHERE source_id = ?1 AND path = ?2")?
                        .execute((source_id, path))?;
                }
                Ok(removed)
            })
            .await?;
        self.projections.outbox_grew();
        Ok(removed)
    }
}

/// Derived, so that the same folder in the same collection has the same id everywhere.
fn source_id(collection_id: i64, root: &str) -> String {
    let name = format!("holdfast source {collection_id} {root}");
    let hash = blake3::hash(name.as_bytes()).to_hex();
    format!("src_{}", &hash[..20])
}

const SOURCE: &str = "SELECT s.id, s.public_id, s.collection_id, c.name, s.root, s.created_at_ms,
        s.scanned_at_ms, s.last_error,
        (SELECT count(*) FROM source_files f WHERE f.source_id = s.id AND f.problem IS NULL),
        (SELECT count(*) FROM source_files f WHERE f.source_id = s.id AND f.problem IS NOT NULL)
    FROM sources s JOIN collections c ON c.id = s.collection_id";

fn source_row(row: &Row<'_>) -> rusqlite::Result<Source> {
    Ok(Source {
        id: row.get(0)?,
        public_id: row.get(1)?,
        collection_id: row.get(2)?,
        collection: row.get(3)?,
        root: row.get(4)?,
        created_at_ms: row.get(5)?,
        scanned_at_ms: row.get(6)?,
        last_error: row.get(7)?,
        files: row.get(8)?,
        skipped: row.get(9)?,
    })
}

const FILE: &str = "SELECT path, size_bytes, modified_ns, content_hash, document_id, problem, detail
    FROM source_files";

fn file_row(row: &Row<'_>) -> rusqlite::Result<RecordedFile> {
    let problem: Option<String> = row.get(5)?;
    let detail: Option<String> = row.get(6)?;
    Ok(RecordedFile {
        file: SourceFile {
            path: row.get(0)?,
            size_bytes: row.get(1)?,
            modified_ns: row.get(2)?,
            content_hash: row.get(3)?,
            problem: problem.map(|code| FileProblem { code, detail: detail.unwrap_or_default() }),
        },
        document: row.get(4)?,
    })
}

fn document_of(connection: &Connection, source_id: i64, path: &str) -> Result<Option<i64>, StorageError> {
    Ok(connection
        .prepare_cached("SELECT document_id FROM source_files WHERE source_id = ?1 AND path = ?2")?
        .query_row((source_id, path), |row| row.get(0))
        .optional()?
        .flatten())
}

pub(crate) fn record_file(
    connection: &Connection,
    source_id: i64,
    file: &SourceFile,
    document: Option<i64>,
) -> Result<(), StorageError> {
    let (code, detail) = match &file.problem {
        Some(problem) => (Some(&problem.code), Some(&problem.detail)),
        None => (None, None),
    };
    connection
        .prepare_cached(
            "INSERT INTO source_files
                 (source_id, path, size_bytes, modified_ns, content_hash, document_id, problem,
                  detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET size_bytes = excluded.size_bytes,
                 modified_ns = excluded.modified_ns, content_hash = excluded.content_hash,
                 document_id = excluded.document_id, problem = excluded.problem,
                 detail = excluded.detail",
        )?
        .execute((
            source_id,
            &file.path,
            file.size_bytes,
            file.modified_ns,
            file.content_hash.as_ref().map(<[u8; 32]>::as_slice),
            document,
            code,
            detail,
        ))?;
    Ok(())
}
