//! Brings a database to the schema this program knows, and back.
//!
//! A migration is a pair of SQL files named `NNNN_name.{up,down}.sql`. Each is applied in one
//! transaction together with the row that records it. A database that holds a migration this
//! program does not know, or knows otherwise, is refused before anything is written.
//!
//! Each database has a [`Schema`] of its own. What stands here as a plain function is about the main one.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::StorageError;

/// One step of the schema.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its place in the order, from 1 without gaps.
    pub version: u32,
    /// Its name, for people.
    pub name: &'static str,
    up: &'static str,
    down: &'static str,
}

macro_rules! migration {
    ($folder:literal, $version:literal, $name:literal) => {
        Migration {
            version: $version,
            name: $name,
            up: include_str!(concat!("../../migrations/", $folder, "/", $name, ".up.sql")),
            down: include_str!(concat!("../../migrations/", $folder, "/", $name, ".down.sql")),
        }
    };
}

/// What a database is brought to.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// What the database is called in the log and in metrics.
    pub name: &'static str,
    /// Every migration there is, in order.
    pub migrations: &'static [Migration],
    /// Whether a file that is made for it can give back room that is no longer used, which makes writing 3 % dearer.
    pub gives_back: bool,
}

/// The main database: what people store, and what they set.
pub const MAIN: Schema = Schema {
    name: "main",
    migrations: &[
        migration!("sqlite", 1, "0001_knowledge"),
        migration!("sqlite", 2, "0002_job_model"),
        migration!("sqlite", 3, "0003_by_document"),
        migration!("sqlite", 4, "0004_grants"),
        migration!("sqlite", 5, "0005_sessions"),
        migration!("sqlite", 6, "0006_providers"),
        migration!("sqlite", 7, "0007_model_grants"),
    ],
    gives_back: false,
};

/// The database of the event log and of what is spent.
pub const EVENTS: Schema = Schema {
    name: "events",
    migrations: &[
        migration!("sqlite-events", 1, "0001_events"),
        migration!("sqlite-events", 2, "0002_marks"),
        migration!("sqlite-events", 3, "0003_archive"),
    ],
    gives_back: true,
};

/// The database of what is derived from the event log.
pub const LEARNING: Schema =
    Schema { name: "learning", migrations: &[migration!("sqlite-learning", 1, "0001_learning")], gives_back: false };

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version       INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL,
    checksum      TEXT    NOT NULL,
    applied_at_ms INTEGER NOT NULL
) STRICT";

impl Migration {
    /// What the migration's text hashes to; an edited migration is another migration.
    fn checksum(&self) -> String {
        blake3::hash(self.up.as_bytes()).to_hex().to_string()
    }
}

impl Schema {
    /// The newest version this program knows.
    pub fn newest(&self) -> u32 {
        self.migrations.last().map_or(0, |migration| migration.version)
    }

    /// Refuses a database from a newer or another program, without writing to it.
    pub fn check(&self, connection: &Connection) -> Result<(), StorageError> {
        for (version, name, checksum) in applied(connection)? {
            let Some(known) = self.migrations.iter().find(|m| m.version == version) else {
                return Err(StorageError::Newer { found: version, known: self.newest() });
            };
            if known.checksum() != checksum {
                return Err(StorageError::ForeignSchema { version, name });
            }
        }
        Ok(())
    }

    /// Applies what is missing, up to and including `target`.
    pub fn up(&self, connection: &mut Connection, target: u32) -> Result<(), StorageError> {
        self.check(connection)?;
        let reached = version(connection)?;
        for migration in self.migrations.iter().filter(|m| m.version > reached && m.version <= target) {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(LEDGER)?;
            transaction.execute_batch(migration.up)?;
            transaction.execute(
                "INSERT INTO schema_migrations (version, name, checksum, applied_at_ms)
                 VALUES (?1, ?2, ?3, ?4)",
                (migration.version, migration.name, migration.checksum(), crate::now_ms()),
            )?;
            transaction.commit()?;
            self.log(migration, "migrated the database up");
        }
        Ok(())
    }

    /// Reverts everything above `target`, newest first.
    pub fn down(&self, connection: &mut Connection, target: u32) -> Result<(), StorageError> {
        self.check(connection)?;
        let reached = version(connection)?;
        let to_revert = |m: &&Migration| m.version <= reached && m.version > target;
        for migration in self.migrations.iter().rev().filter(to_revert) {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(migration.down)?;
            transaction.execute("DELETE FROM schema_migrations WHERE version = ?1", [migration.version])?;
            transaction.commit()?;
            self.log(migration, "migrated the database down");
        }
        Ok(())
    }

    /// The newest migration of a database file; 0 where there is no file. Writes nothing.
    pub fn version_of(&self, path: &Path) -> Result<u32, StorageError> {
        if !path.exists() {
            return Ok(0);
        }
        let connection = super::open_reader(path)?;
        self.check(&connection)?;
        version(&connection)
    }

    /// Brings a database file, which nobody else may have open, up or down to a migration.
    pub fn bring_to(&self, path: &Path, target: u32) -> Result<(), StorageError> {
        if path.exists() {
            self.check(&super::open_reader(path)?)?;
        }
        let mut connection = super::open_writer(path, self)?;
        self.up(&mut connection, target)?;
        self.down(&mut connection, target)
    }

    fn log(&self, migration: &Migration, what: &str) {
        tracing::info!(database = self.name, version = migration.version, name = migration.name, "{what}");
    }
}

/// The newest version of the main database that this program knows.
pub fn newest() -> u32 {
    MAIN.newest()
}

/// [`Schema::version_of`] the main database.
pub fn version_of(path: &Path) -> Result<u32, StorageError> {
    MAIN.version_of(path)
}

/// [`Schema::bring_to`] for the main database.
pub fn bring_to(path: &Path, target: u32) -> Result<(), StorageError> {
    MAIN.bring_to(path, target)
}

/// The newest migration the database has; 0 for an empty one.
pub fn version(connection: &Connection) -> Result<u32, StorageError> {
    Ok(applied(connection)?.last().map_or(0, |(version, _, _)| *version))
}

fn applied(connection: &Connection) -> Result<Vec<(u32, String, String)>, StorageError> {
    let has_ledger: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'schema_migrations')",
        [],
        |row| row.get(0),
    )?;
    if !has_ledger {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT version, name, checksum FROM schema_migrations ORDER BY version")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema as SQL text, without what SQLite makes by itself.
    fn schema(connection: &Connection) -> Vec<String> {
        let mut statement = connection
            .prepare(
                "SELECT sql FROM sqlite_schema
                 WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' AND name <> 'schema_migrations'
                 ORDER BY name",
            )
            .unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn versions_count_from_one_without_gaps() {
        for schema in [MAIN, EVENTS, LEARNING] {
            for (index, migration) in schema.migrations.iter().enumerate() {
                assert_eq!(migration.version as usize, index + 1);
                assert!(migration.name.starts_with(&format!("{:04}_", migration.version)));
            }
        }
    }

    #[test]
    fn every_version_goes_down_to_every_other_and_up_again() {
        for of in [MAIN, EVENTS, LEARNING] {
            for from in 1..=of.newest() {
                for to in 0..from {
                    goes_down_and_up_again(of, from, to);
                }
            }
        }
    }

    fn goes_down_and_up_again(of: Schema, from: u32, to: u32) {
        let mut connection = Connection::open_in_memory().unwrap();
        of.up(&mut connection, to).unwrap();
        let before = schema(&connection);
        of.up(&mut connection, from).unwrap();
        let above = schema(&connection);
        of.down(&mut connection, to).unwrap();
        assert_eq!(schema(&connection), before, "{}: {from} down to {to}", of.name);
        assert_eq!(version(&connection).unwrap(), to);
        of.up(&mut connection, from).unwrap();
        assert_eq!(schema(&connection), above, "{}: {to} up to {from} again", of.name);
    }

    #[test]
    fn keys_of_the_first_version_may_do_everything_and_go_back_as_they_came() {
        let mut connection = Connection::open_in_memory().unwrap();
        MAIN.up(&mut connection, 3).unwrap();
        connection.execute("INSERT INTO api_keys VALUES ('key_1', 'old', x'01', 7, NULL)", []).unwrap();
        MAIN.up(&mut connection, 4).unwrap();
        let key = "SELECT k.roles, k.collections IS NULL, s.secret_hash, k.created_at_ms
             FROM api_keys k JOIN api_key_secrets s ON s.key_id = k.id";
        let row: (String, bool, Vec<u8>, i64) =
            connection.query_row(key, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
        assert_eq!(row, (r#"["admin"]"#.to_owned(), true, vec![1], 7));
        // One that may do less has no place in the former version, where it would do everything.
        let narrow = "INSERT INTO api_keys (id, name, roles, created_at_ms) VALUES ('key_2', 'new', '[\"reader\"]', 8);
             INSERT INTO api_key_secrets (secret_hash, key_id, created_at_ms) VALUES (x'02', 'key_2', 8)";
        connection.execute_batch(narrow).unwrap();
        MAIN.down(&mut connection, 3).unwrap();
        let left: Vec<String> = connection
            .prepare("SELECT id FROM api_keys WHERE secret_hash = x'01' OR id = 'key_2'")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(left, ["key_1"]);
    }

    #[test]
    fn a_newer_database_is_refused_and_untouched() {
        let mut connection = Connection::open_in_memory().unwrap();
        MAIN.up(&mut connection, newest()).unwrap();
        connection.execute("INSERT INTO schema_migrations VALUES (9999, 'later', 'x', 0)", []).unwrap();
        let changes = connection.total_changes();
        let refused = MAIN.up(&mut connection, newest()).unwrap_err();
        assert!(matches!(refused, StorageError::Newer { found: 9999, .. }), "{refused}");
        assert_eq!(connection.total_changes(), changes);
    }

    #[test]
    fn an_edited_migration_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        MAIN.up(&mut connection, newest()).unwrap();
        connection.execute("UPDATE schema_migrations SET checksum = 'other'", []).unwrap();
        let refused = MAIN.check(&connection).unwrap_err();
        assert!(matches!(refused, StorageError::ForeignSchema { version: 1, .. }), "{refused}");
    }
}
