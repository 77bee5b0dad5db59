//! Who derives: one worker at a time.
//!
//! A holder raises a number, its beat. Whoever wants the lease watches the beat by a steady clock of its own and takes over
//! when it stood still for as long as the watcher deems enough, so that no two clocks have to agree and none may jump. Taking
//! over raises the epoch, and a transaction of an older epoch is refused: a holder that was merely asleep learns so the
//! first time it wants to write.

use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::LearningStore;
use crate::error::StorageError;

/// The right to derive, as long as nobody took over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    holder: Uuid,
    epoch: u64,
}

/// What a watcher sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseState {
    holder: Uuid,
    epoch: u64,
    beat: u64,
}

impl Lease {
    pub(super) fn is_held(&self, connection: &Connection) -> Result<bool, StorageError> {
        Ok(state(connection)?.is_some_and(|found| found.holder == self.holder && found.epoch == self.epoch))
    }
}

impl LearningStore {
    /// The lease as it is; nothing where nobody ever held it.
    pub fn lease(&self) -> Result<Option<LeaseState>, StorageError> {
        self.database.read(state)
    }

    /// Takes the lease if it is as `seen` still, which is that nobody has it, or that its holder's beat stands.
    ///
    /// # Errors
    /// [`StorageError`] of the database; somebody who was faster is not an error.
    pub async fn take_lease(&self, holder: Uuid, seen: Option<LeaseState>) -> Result<Option<Lease>, StorageError> {
        self.database
            .write(move |connection| {
                if state(connection)? != seen {
                    return Ok(None);
                }
                let epoch = seen.map_or(1, |seen| seen.epoch + 1);
                connection.execute(
                    "INSERT INTO lease (one, holder, epoch, beat) VALUES (1, ?1, ?2, 0)
                     ON CONFLICT (one) DO UPDATE SET holder = ?1, epoch = ?2, beat = 0",
                    (holder.as_bytes().as_slice(), epoch),
                )?;
                Ok(Some(Lease { holder, epoch }))
            })
            .await
    }

    /// Shows that the holder lives. False where somebody took over.
    pub async fn beat(&self, lease: &Lease) -> Result<bool, StorageError> {
        let lease = lease.clone();
        self.database
            .write(move |connection| {
                let beaten = connection.execute(
                    "UPDATE lease SET beat = beat + 1 WHERE holder = ?1 AND epoch = ?2",
                    (lease.holder.as_bytes().as_slice(), lease.epoch),
                )?;
                Ok(beaten == 1)
            })
            .await
    }
}

fn state(connection: &Connection) -> Result<Option<LeaseState>, StorageError> {
    let mut statement = connection.prepare_cached("SELECT holder, epoch, beat FROM lease")?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(LeaseState { holder: Uuid::from_bytes(row.get(0)?), epoch: row.get(1)?, beat: row.get(2)? })
    };
    Ok(statement.query_row([], read).optional()?)
}
