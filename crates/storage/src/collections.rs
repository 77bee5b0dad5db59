//! Collections, their generations and their embedding spaces.
//!
//! A collection is created without a generation: the first document that comes with vectors
//! fixes its embedding space. From then on, vectors of another space are refused.

use rusqlite::{Connection, OptionalExtension, Row};

use crate::{Grants, Storage, caller::GRANTED, error::StorageError, now_ms, outbox};

/// A named set of documents that is searched as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Collection {
    /// The row.
    pub id: i64,
    /// Its name; unique.
    pub name: String,
    /// The model that new vectors are made with.
    pub model: String,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// The generation that search reads; none before the first document.
    pub active: Option<Generation>,
    /// The generation that re-embedding is building.
    pub building: Option<Generation>,
    /// Live documents.
    pub documents: u64,
    /// Chunks of the active generation.
    pub chunks: u64,
}

/// One whole set of chunks and vectors of a collection, in one embedding space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The row, which also names the index directories.
    pub id: i64,
    /// The collection.
    pub collection_id: i64,
    /// The embedding space.
    pub space: Space,
}

/// An embedding space as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// The row.
    pub id: i64,
    /// The hash of everything that decides what a vector means.
    pub fingerprint: String,
    /// The model's name.
    pub model: String,
    /// Components a vector has.
    pub dimensions: usize,
}

/// An embedding space as it is offered.
#[derive(Clone, Debug)]
pub struct NewSpace {
    /// The hash of everything that decides what a vector means.
    pub fingerprint: String,
    /// The model's name.
    pub model: String,
    /// Components a vector has.
    pub dimensions: usize,
    /// All parts of the space, as JSON, for people.
    pub description: String,
}

/// Which generation to make for a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerationState {
    /// The one search reads.
    Active,
    /// One beside it, to be swapped in when whole.
    Building,
}

impl GenerationState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Building => "building",
        }
    }
}

impl Storage {
    /// Makes a collection; an existing one of that name is an error.
    pub async fn create_collection(&self, name: String, model: String) -> Result<Collection, StorageError> {
        self.database
            .write(move |connection| {
                if find(connection, &Grants::All, &name)?.is_some() {
                    return Err(StorageError::Exists { what: "collection", name });
                }
                connection.execute("INSERT INTO collection_numbers DEFAULT VALUES", [])?;
                let id = connection.last_insert_rowid();
                connection.execute("DELETE FROM collection_numbers", [])?;
                connection.execute(
                    "INSERT INTO collections (id, name, model, created_at_ms) VALUES (?1, ?2, ?3, ?4)",
                    (id, &name, &model, now_ms()),
                )?;
                required(connection, &Grants::All, &name)
            })
            .await
    }

    /// Every collection that is granted, by name.
    pub fn collections(&self, grants: &Grants) -> Result<Vec<Collection>, StorageError> {
        self.database.read_snapshot(|connection| {
            let names: Vec<String> = connection
                .prepare_cached(&format!("SELECT c.name FROM collections c WHERE {GRANTED} ORDER BY c.name"))?
                .query_map([grants.parameter()], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            names.iter().map(|name| required(connection, grants, name)).collect()
        })
    }

    /// The names of those that hold what was learned of interactions; cheap enough to ask at every search.
    pub fn learned_collections(&self, grants: &Grants, limit: usize) -> Result<Vec<String>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT c.name FROM collections c WHERE {GRANTED} AND c.name GLOB 'learned.*' ORDER BY c.name LIMIT ?2"
            ))?;
            let names = statement.query_map((grants.parameter(), limit), |row| row.get(0))?;
            Ok(names.collect::<Result<_, _>>()?)
        })
    }

    /// The collection of that name.
    pub fn collection(&self, grants: &Grants, name: &str) -> Result<Collection, StorageError> {
        self.database.read_snapshot(|connection| required(connection, grants, name))
    }

    /// The generation that search reads, and the model that goes with it; cheap enough to ask
    /// at every search.
    pub fn active_generation(
        &self,
        grants: &Grants,
        collection: &str,
    ) -> Result<(i64, String, Option<Generation>), StorageError> {
        self.database.read(|connection| {
            let row: Option<(i64, String)> = connection
                .prepare_cached(&format!("SELECT c.id, c.model FROM collections c WHERE {GRANTED} AND c.name = ?2"))?
                .query_row((grants.parameter(), collection), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let (id, model) =
                row.ok_or_else(|| StorageError::NotFound { what: "collection", name: collection.to_owned() })?;
            Ok((id, model, generation(connection, id, GenerationState::Active)?))
        })
    }

    /// Removes a collection with everything in it.
    pub async fn remove_collection(&self, grants: &Grants, name: String) -> Result<(), StorageError> {
        let granted = grants.parameter();
        self.database
            .write(move |connection| {
                let delete = format!("DELETE FROM collections AS c WHERE {GRANTED} AND c.name = ?2");
                let removed = connection.execute(&delete, (granted, &name))?;
                if removed == 0 {
                    return Err(StorageError::NotFound { what: "collection", name });
                }
                outbox::forget_removed_generations(connection)
            })
            .await?;
        self.projections.generations_changed();
        Ok(())
    }

    /// The collection's generation of that state, made in `space` where there is none.
    ///
    /// # Errors
    /// [`StorageError::OtherSpace`] where there is one in another space.
    pub async fn ensure_generation(
        &self,
        collection_id: i64,
        state: GenerationState,
        space: NewSpace,
    ) -> Result<Generation, StorageError> {
        let present = self.database.read(|connection| generation(connection, collection_id, state))?;
        if let Some(present) = present
            && present.space.fingerprint == space.fingerprint
        {
            return Ok(present);
        }
        let made = self
            .database
            .write(move |connection| {
                if let Some(found) = generation(connection, collection_id, state)? {
                    if found.space.fingerprint == space.fingerprint {
                        return Ok(found);
                    }
                    return Err(StorageError::OtherSpace { held: found.space.model, offered: space.model });
                }
                let space_id = intern_space(connection, &space)?;
                connection.execute(
                    "INSERT INTO generations (collection_id, space_id, state, created_at_ms)
                     VALUES (?1, ?2, ?3, ?4)",
                    (collection_id, space_id, state.as_str(), now_ms()),
                )?;
                generation(connection, collection_id, state)?.ok_or(StorageError::Superseded)
            })
            .await?;
        self.projections.generations_changed();
        Ok(made)
    }

    /// Throws away a generation that was being built.
    pub async fn abandon_building(&self, collection_id: i64) -> Result<(), StorageError> {
        self.database
            .write(move |connection| {
                connection.execute(
                    "DELETE FROM generations WHERE collection_id = ?1 AND state = 'building'",
                    [collection_id],
                )?;
                Ok(())
            })
            .await?;
        self.projections.generations_changed();
        Ok(())
    }

    /// Swaps the built generation in, if it holds the current revision of every live document.
    /// Answers how many documents it still lacks; 0 means that it is now the active one.
    pub async fn activate_building(&self, collection_id: i64, model: String) -> Result<u64, StorageError> {
        let lacking = self
            .database
            .write(move |connection| {
                let Some(built) = generation(connection, collection_id, GenerationState::Building)? else {
                    return Err(StorageError::NotFound {
                        what: "generation being built for collection",
                        name: collection_id.to_string(),
                    });
                };
                let lacking = lacking(connection, collection_id, built.id)?;
                if lacking > 0 {
                    return Ok(lacking);
                }
                // The foreign keys take the old generation's chunks with it.
                connection.execute(
                    "DELETE FROM generations WHERE collection_id = ?1 AND state = 'active'",
                    [collection_id],
                )?;
                connection.execute("UPDATE generations SET state = 'active' WHERE id = ?1", [built.id])?;
                connection.execute("UPDATE collections SET model = ?2 WHERE id = ?1", (collection_id, &model))?;
                outbox::forget_removed_generations(connection)?;
                Ok(0)
            })
            .await?;
        self.projections.generations_changed();
        Ok(lacking)
    }

    /// Documents of the collection whose current revision the generation lacks.
    pub fn documents_lacking(&self, generation: &Generation, limit: usize) -> Result<Vec<i64>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT d.id FROM documents d
                 LEFT JOIN generation_documents g
                   ON g.generation_id = ?2 AND g.document_id = d.id
                 WHERE d.collection_id = ?1 AND d.deleted_at_ms IS NULL
                   AND g.revision IS NOT d.revision
                 ORDER BY d.id LIMIT ?3",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map((generation.collection_id, generation.id, limit), |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

fn lacking(connection: &Connection, collection_id: i64, generation_id: i64) -> Result<u64, StorageError> {
    Ok(connection.query_row(
        "SELECT count(*) FROM documents d
         LEFT JOIN generation_documents g ON g.generation_id = ?2 AND g.document_id = d.id
         WHERE d.collection_id = ?1 AND d.deleted_at_ms IS NULL AND g.revision IS NOT d.revision",
        (collection_id, generation_id),
        |row| row.get(0),
    )?)
}

fn required(connection: &Connection, grants: &Grants, name: &str) -> Result<Collection, StorageError> {
    find(connection, grants, name)?.ok_or_else(|| StorageError::NotFound { what: "collection", name: name.to_owned() })
}

fn find(connection: &Connection, grants: &Grants, name: &str) -> Result<Option<Collection>, StorageError> {
    let row = connection
        .prepare_cached(&format!(
            "SELECT c.id, c.name, c.model, c.created_at_ms FROM collections c WHERE {GRANTED} AND c.name = ?2"
        ))?
        .query_row((grants.parameter(), name), |row| {
            Ok(Collection {
                id: row.get(0)?,
                name: row.get(1)?,
                model: row.get(2)?,
                created_at_ms: row.get(3)?,
                active: None,
                building: None,
                documents: 0,
                chunks: 0,
            })
        })
        .optional()?;
    let Some(mut collection) = row else { return Ok(None) };
    collection.active = generation(connection, collection.id, GenerationState::Active)?;
    collection.building = generation(connection, collection.id, GenerationState::Building)?;
    collection.documents = connection
        .prepare_cached("SELECT count(*) FROM documents WHERE collection_id = ?1 AND deleted_at_ms IS NULL")?
        .query_row([collection.id], |row| row.get(0))?;
    if let Some(active) = &collection.active {
        collection.chunks = connection
            .prepare_cached("SELECT count(*) FROM chunks WHERE generation_id = ?1")?
            .query_row([active.id], |row| row.get(0))?;
    }
    Ok(Some(collection))
}

const GENERATION: &str = "SELECT g.id, g.collection_id, s.id, s.fingerprint, s.model, s.dimensions
    FROM generations g JOIN embedding_spaces s ON s.id = g.space_id";

fn generation(
    connection: &Connection,
    collection_id: i64,
    state: GenerationState,
) -> Result<Option<Generation>, StorageError> {
    Ok(connection
        .prepare_cached(&format!("{GENERATION} WHERE g.collection_id = ?1 AND g.state = ?2"))?
        .query_row((collection_id, state.as_str()), generation_row)
        .optional()?)
}

/// Every generation that has indexes: the active and the ones being built.
pub(crate) fn generations(connection: &Connection) -> Result<Vec<Generation>, StorageError> {
    let mut statement = connection.prepare_cached(&format!("{GENERATION} ORDER BY g.id"))?;
    let rows = statement.query_map([], generation_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn generation_row(row: &Row<'_>) -> rusqlite::Result<Generation> {
    Ok(Generation {
        id: row.get(0)?,
        collection_id: row.get(1)?,
        space: Space { id: row.get(2)?, fingerprint: row.get(3)?, model: row.get(4)?, dimensions: row.get(5)? },
    })
}

fn intern_space(connection: &Connection, space: &NewSpace) -> Result<i64, StorageError> {
    connection.execute(
        "INSERT INTO embedding_spaces (fingerprint, model, dimensions, description)
         VALUES (?1, ?2, ?3, ?4) ON CONFLICT (fingerprint) DO NOTHING",
        (&space.fingerprint, &space.model, space.dimensions, &space.description),
    )?;
    Ok(connection
        .query_row("SELECT id FROM embedding_spaces WHERE fingerprint = ?1", [&space.fingerprint], |row| row.get(0))?)
}
