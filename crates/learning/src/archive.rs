//! The archive of the log, as learning keeps it: what has become old leaves the log once it was folded, and a fold that
//! begins anew reads it from the archive.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use holdfast_storage::{
    LearningStore, StorageError,
    events::archive::{Archive, Imported, Manifest, Report, Retention},
};
use tokio_util::sync::CancellationToken;

use crate::{LearnError, Learning, interactions, now_ms, similar::blocking};

/// How often there is a look whether something is due, and how soon after the start the first one is.
const EVERY: Duration = Duration::from_secs(600);
const FIRST_AFTER: Duration = Duration::from_secs(60);

/// Where old events go, and when.
pub struct Keeping {
    /// Where.
    pub archive: Archive,
    /// When.
    pub retention: Retention,
}

/// What the keeper of the archive shows of itself.
pub(crate) struct Keeper {
    pub keeping: Keeping,
    /// Why nothing was archived the last time, until it is.
    failed: Mutex<Option<String>>,
}

/// What was moved to the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Events that the log has let go of.
    pub events: u64,
    /// Segments that were made.
    pub segments: u64,
}

impl Keeper {
    pub const fn new(keeping: Keeping) -> Self {
        Self { keeping, failed: Mutex::new(None) }
    }

    pub fn failure(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Learning {
    /// Moves to the archive what is due there, as far as it was folded.
    ///
    /// # Errors
    /// [`LearnError::Archive`]; the log has let go of nothing that the archive does not have.
    pub async fn archive_due(&self) -> Result<Moved, LearnError> {
        let Some(keeper) = self.keeper.clone() else { return Ok(Moved::default()) };
        let (log, store, shutdown) = (self.log.clone(), self.store.clone(), self.shutdown.clone());
        let moved = blocking(move || {
            let (mut moved, Keeping { archive, retention }) = (Moved::default(), &keeper.keeping);
            while !shutdown.is_cancelled() {
                let allowed = folded(&store)?;
                let Some(archived) = log.archive_oldest(archive, retention, allowed, now_ms())? else { break };
                moved.events += archived.events;
                moved.segments += u64::from(archived.segment.is_some());
                if archived.events == 0 && archived.segment.is_none() {
                    break;
                }
            }
            metrics::counter!("holdfast_events_archived_total").increment(moved.events);
            Ok(moved)
        });
        let done = moved.await.map_err(|_| StorageError::Closed)?;
        self.measure_archive();
        if let Some(keeper) = &self.keeper {
            let reason = done.as_ref().err().map(LearnError::to_string);
            *keeper.failed.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        }
        done
    }

    /// What is in the archive, and with `is_thorough` whether it is what it should be, which reads all of it.
    ///
    /// # Errors
    /// [`LearnError::Archive`] where the manifest cannot be read, or cannot be right.
    pub async fn archives(&self, is_thorough: bool) -> Result<(Manifest, Option<Report>), LearnError> {
        let Some(keeper) = self.keeper.clone() else { return Ok((Manifest::default(), None)) };
        let read = move || {
            let archive = &keeper.keeping.archive;
            let report = if is_thorough { Some(archive.verify()?) } else { None };
            Ok((archive.manifest()?, report))
        };
        blocking(read).await.map_err(|_| StorageError::Closed)?
    }

    /// Puts the events of the archive back into the log, those that it does not have.
    ///
    /// # Errors
    /// [`LearnError::Archive`]. Where the archive and the log do not belong together nothing is written.
    pub async fn import_archive(&self) -> Result<Imported, LearnError> {
        let Some(keeper) = self.keeper.clone() else { return Ok(Imported::default()) };
        let log = self.log.clone();
        blocking(move || Ok(log.import(&keeper.keeping.archive)?)).await.map_err(|_| StorageError::Closed)?
    }

    fn measure_archive(&self) {
        if let Some(keeper) = &self.keeper {
            metrics::gauge!("holdfast_archive_bytes").set(keeper.keeping.archive.size_bytes() as f64);
        }
    }

    /// Moves to the archive what becomes due, until shutdown.
    pub(crate) async fn keep_archive(self, shutdown: CancellationToken) {
        self.measure_archive();
        let mut pause = FIRST_AFTER;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
            pause = EVERY;
            match self.archive_due().await {
                Ok(Moved { events: 0, .. }) => {}
                Ok(Moved { events, segments }) => {
                    tracing::info!(events, segments, "old events were moved to the archive")
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "nothing was archived; it is tried again")
                }
            }
        }
    }
}

/// The last event that every stage has folded.
fn folded(store: &LearningStore) -> Result<u64, StorageError> {
    let checkpoints = store.checkpoints()?;
    Ok(checkpoints.iter().find(|(name, _)| name == interactions::STAGE).map_or(0, |(_, at)| at.position))
}
