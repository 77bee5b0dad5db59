//! A folder into which other programs write events, one JSON object a line, and what reads it into the event log.
//!
//! **A line** is `{"kind": …, "body": {…}}`, with `id` (a UUID), `at` (RFC 3339 or Unix milliseconds), `tenant`,
//! `interaction` (a UUID), `session`, `caller` or `source`, and `version` where there is something to say. Fields that are
//! not known become part of the body. A line without an id has one made of its file and its place in it, so that reading it
//! again would make the same event. Blank lines say nothing.
//!
//! **Files** are those directly in the folder that are called `*.jsonl` or as rotation calls them, and those that were read
//! before whatever they are called now: symbolic links, FIFOs, devices and folders are not followed. A file is known
//! by its device and inode, and by what was taken of it, so that a rename changes nothing and an inode that is given out
//! again is another file. Where it is read to stands in a mark that changes in the transaction of its events, so that each
//! complete line is taken exactly once, whenever this program is killed. The last line waits for its end.
//!
//! **Writers** append whole lines; several to one file do so under an exclusive `flock`, as does whoever truncates it.
//! The reader takes no lock, and need not: what it read is believed only if what was taken before is in the file
//! still afterwards. A file system that shows what was not written yet (NFS among several machines) is no place for
//! such a folder.
//!
//! **What is lost is told.** A file that has been truncated, or is gone for long, may have had lines that were not read.
//! [`GAP_FOUND`] tells, in the transaction of the new mark, of exactly the bytes that the reader had seen there and not
//! taken. What was written after its last look and gone before the next was seen by nobody, and is never guessed: so a gap
//! is how much is missing at least, and a rotation that loses nothing renames, or copies, instead of truncating. What a file
//! was seen to have is remembered with its mark; a process that is killed takes with it what it had seen since.
//!
//! **Lines that are no events** go to `dead-letters/NAME.jsonl` with their reason, durably before the mark moves past them.
//!
//! Nothing watches the folder: a look at it costs a listing, and finds what a watch would have to tell, on every file
//! system and without a limit of its own. The task looks again after [`Settings::interval`], later while something fails,
//! and ends with the token it is given, after the batch under way.

mod copies;
mod dead_letters;
mod folder;
mod long_line;
mod look;
#[cfg(test)]
mod model_tests;
mod names;
mod reader;
mod record;
#[cfg(test)]
mod tests;
mod turn;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use holdfast_storage::{EventLog, StorageError, events::AppendError};
use metrics::{Counter, Gauge, counter, gauge};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::reader::{Batch, Figures, Reader};
use crate::line::RESERVED_KINDS;

/// The kind of the event that tells of bytes that can never be read.
pub const GAP_FOUND: &str = "gap_found";
/// Looks of one pass: each finds what changed during the one before.
const LOOKS_MAX: usize = 8;
/// The shortest and the longest pause after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What is known of a folder before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What its marks are found by: two folders that are read into one log have different names, and a folder that moves
    /// keeps its own.
    pub name: String,
    /// Whose an event is that does not say.
    pub tenant: String,
    /// Who told it, where it does not say; also who tells of gaps.
    pub caller: String,
    /// Kinds that no line may have, since this program tells of them itself; one that ends in `*` is how such kinds begin.
    pub reserved_kinds: Vec<String>,
    /// How long after a look the next one comes.
    pub interval: Duration,
    /// How long a file has to be gone to be forgotten, and what was not read of it to be a gap. A file that comes back
    /// later is read from its beginning: longer than a disk may be away.
    pub forget_after: Duration,
    /// Files that are followed; further ones wait until others are gone.
    pub files_max: usize,
    /// Bytes of one file of dead letters, after which it is rotated.
    pub dead_letter_file_bytes_max: u64,
    /// Bytes of all dead letters.
    pub dead_letters_bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            tenant: "default".to_owned(),
            caller: "drop_folder".to_owned(),
            reserved_kinds: RESERVED_KINDS.map(str::to_owned).to_vec(),
            interval: Duration::from_millis(250),
            forget_after: Duration::from_secs(24 * 60 * 60),
            files_max: 10_000,
            dead_letter_file_bytes_max: 8 << 20,
            dead_letters_bytes_max: 256 << 20,
        }
    }
}

impl Settings {
    fn mark_prefix(&self) -> String {
        format!("drop/{}/", self.name)
    }
}

/// What was taken of a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Lines that became events.
    pub events: u64,
    /// Lines that are no events.
    pub dead_letters: u64,
    /// Gaps that were told of.
    pub gaps: u64,
    /// Bytes that were seen and could never be read.
    pub gap_bytes: u64,
    /// Times that a file was truncated below what was read of it, or its inode given to another.
    pub begun_anew: u64,
}

impl Taken {
    fn add(&mut self, more: &Self) {
        self.events += more.events;
        self.dead_letters += more.dead_letters;
        self.gaps += more.gaps;
        self.gap_bytes += more.gap_bytes;
        self.begun_anew += more.begun_anew;
    }

    fn encode(&self) -> Vec<u8> {
        // Nothing but numbers, which cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// How it is with a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderStatus {
    /// Files that are followed and there.
    pub files: usize,
    /// Bytes in them that were seen and are not taken.
    pub bytes_unread: u64,
    /// Copies that are not read as long as their originals are.
    pub copies_waiting: usize,
    /// Links, FIFOs and the like, and files whose name is not UTF-8.
    pub passed_over: usize,
    /// Files that are not followed, since as many are as may be.
    pub left_out: usize,
    /// What was taken since the folder was first read.
    pub taken: Taken,
    /// What went wrong last, until a pass goes right.
    pub last_error: Option<String>,
}

/// How far a file is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedFile {
    /// What it was called last.
    pub name: String,
    /// Its device, by the word of the file system.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Up to where its lines are taken.
    pub position: u64,
    /// How large it was when its mark was made.
    pub seen: u64,
    /// It is a copy of another one, and waits for that one to end.
    pub is_copy: bool,
}

/// Why a pass did not get to its end. What it took until then is taken.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder cannot be looked at.
    #[error("failed to list the drop folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },

    /// One of its files, or its dead letters, cannot be read or written. The others were read.
    #[error("failed to read a file of the drop folder: {0}")]
    File(String),

    /// The event log did not take a batch.
    #[error("failed to append what a drop folder has")]
    Append(#[from] AppendError),

    /// The marks cannot be read.
    #[error("failed to look up how far a drop folder is read")]
    Storage(#[from] StorageError),

    /// A mark is not in a form that is known here. Without it lines would be read twice.
    #[error("the mark {name:?} of a drop folder cannot be read")]
    Mark {
        /// Its name.
        name: String,
    },

    /// The reader broke off, which is a defect.
    #[error("the reader of a drop folder broke off")]
    Broken,
}

/// A folder of events; cloning is shallow.
#[derive(Clone)]
pub struct DropFolder {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    log: EventLog,
    settings: Arc<Settings>,
    /// One pass at a time. Nothing while a pass has it, and after one that was dropped: then the marks are read again.
    reader: tokio::sync::Mutex<Option<Box<Reader>>>,
    status: Mutex<FolderStatus>,
    meters: Meters,
}

impl DropFolder {
    /// A folder that is read into a log. Nothing is looked at yet; the folder need not be there.
    pub fn new(path: impl Into<PathBuf>, log: EventLog, settings: Settings) -> Self {
        let inner = Inner {
            path: path.into(),
            log,
            settings: Arc::new(settings),
            reader: tokio::sync::Mutex::default(),
            status: Mutex::default(),
            meters: Meters::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Reads the folder until it is told to end.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut failed: Option<String> = None;
        let mut pause = self.inner.settings.interval;
        while !shutdown.is_cancelled() {
            match self.pass_until(Some(&shutdown)).await {
                Ok(_) => {
                    if failed.take().is_some() {
                        tracing::info!(folder = %self.inner.path.display(), "the drop folder can be read again");
                    }
                    pause = self.inner.settings.interval;
                }
                Err(error) => {
                    let told = error.to_string();
                    if failed.as_ref() != Some(&told) {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            folder = %self.inner.path.display(),
                            "failed to read the drop folder; it is tried again"
                        );
                        failed = Some(told);
                    }
                    // One file that cannot be read is no reason to read the others late.
                    if !matches!(error, FolderError::File(_)) {
                        pause = pause.saturating_mul(2).clamp(PAUSE_MIN, PAUSE_MAX).max(self.inner.settings.interval);
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Reads once all that there is, and returns what was taken of it.
    ///
    /// # Errors
    /// [`FolderError`]; what was taken before is taken, and the next pass goes on from there.
    pub async fn pass(&self) -> Result<Taken, FolderError> {
        self.pass_until(None).await
    }

    /// How it is with the folder, as of the last batch.
    pub fn status(&self) -> FolderStatus {
        self.inner.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How far its files are read, durably. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`FolderError::Storage`].
    pub fn files(&self) -> Result<Vec<FollowedFile>, FolderError> {
        let prefix = self.inner.settings.mark_prefix();
        Ok(reader::followed_files(self.inner.log.marks(&prefix)?, &prefix))
    }

    async fn pass_until(&self, shutdown: Option<&CancellationToken>) -> Result<Taken, FolderError> {
        let mut slot = self.inner.reader.lock().await;
        let reader = slot
            .take()
            .unwrap_or_else(|| Box::new(Reader::new(self.inner.path.clone(), Arc::clone(&self.inner.settings))));
        let mut pass = Pass { folder: self, reader: Some(reader), taken: Taken::default() };
        let mut outcome = pass.run(shutdown).await;
        if let Some(mut reader) = pass.reader {
            // What was left undone is found again; what was given out and not written is not known.
            reader.is_stale |= outcome.is_err() || shutdown.is_some_and(CancellationToken::is_cancelled);
            if let (Ok(()), Some(trouble)) = (&outcome, reader.trouble.take()) {
                outcome = Err(FolderError::File(trouble));
                reader.is_stale = false;
            }
            self.note(&reader.figures(), outcome.as_ref().err());
            *slot = Some(reader);
        } else {
            self.note_error(&FolderError::Broken);
        }
        outcome.map(|()| pass.taken)
    }

    fn note(&self, figures: &Figures, error: Option<&FolderError>) {
        self.inner.meters.files.set(figures.files as f64);
        self.inner.meters.bytes_unread.set(figures.bytes_unread as f64);
        let mut status = self.inner.status.lock().unwrap_or_else(PoisonError::into_inner);
        *status = FolderStatus {
            files: figures.files,
            bytes_unread: figures.bytes_unread,
            copies_waiting: figures.copies_waiting,
            passed_over: figures.passed_over,
            left_out: figures.left_out,
            taken: status.taken,
            last_error: error.map(told),
        };
    }

    fn note_error(&self, error: &FolderError) {
        self.inner.status.lock().unwrap_or_else(PoisonError::into_inner).last_error = Some(told(error));
    }
}

/// A failure with what it comes from, for people.
fn told(error: &FolderError) -> String {
    let mut told = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        told = format!("{told}: {cause}");
        source = cause.source();
    }
    told
}

/// One pass over the folder.
struct Pass<'a> {
    folder: &'a DropFolder,
    /// Nothing while another thread has it.
    reader: Option<Box<Reader>>,
    taken: Taken,
}

impl Pass<'_> {
    async fn run(&mut self, shutdown: Option<&CancellationToken>) -> Result<(), FolderError> {
        let log = self.folder.inner.log.clone();
        let totals = self.with_reader(move |reader| up_to_date(reader, &log)).await??;
        self.folder.inner.status.lock().unwrap_or_else(PoisonError::into_inner).taken = totals;
        for _ in 0..LOOKS_MAX {
            let now = Instant::now();
            let looked = self.with_reader(move |reader| reader.look(now).map(|()| reader.batch())).await?;
            let first =
                looked.map_err(|source| FolderError::Folder { path: self.folder.inner.path.clone(), source })?;
            self.drain(first, shutdown).await?;
            let is_over = shutdown.is_some_and(CancellationToken::is_cancelled);
            if is_over || !self.reader.as_ref().is_some_and(|reader| reader.is_again) {
                break;
            }
        }
        Ok(())
    }

    /// Appends one batch after another; each next one is read while the one before is written.
    async fn drain(&mut self, first: Option<Batch>, shutdown: Option<&CancellationToken>) -> Result<(), FolderError> {
        let mut next = first;
        while let Some(Batch { events, marks, taken, positions, .. }) = next {
            let log = self.folder.inner.log.clone();
            let append = log.append_marked(events, marks);
            let (appended, following) = tokio::join!(append, self.with_reader(|reader| reader.batch()));
            next = following?;
            appended?;
            self.taken.add(&taken);
            self.folder.inner.meters.took(&taken);
            if let Some(reader) = &mut self.reader {
                reader.committed(&positions);
                let mut status = self.folder.inner.status.lock().unwrap_or_else(PoisonError::into_inner);
                status.taken.add(&taken);
                status.bytes_unread = reader.figures().bytes_unread;
            }
            if shutdown.is_some_and(CancellationToken::is_cancelled) {
                break;
            }
        }
        Ok(())
    }

    /// Does something with the reader on a thread that may block.
    async fn with_reader<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Reader) -> T + Send + 'static,
    ) -> Result<T, FolderError> {
        let mut reader = self.reader.take().ok_or(FolderError::Broken)?;
        let worked = tokio::task::spawn_blocking(move || {
            let done = work(&mut reader);
            (reader, done)
        });
        let (reader, done) = worked.await.map_err(|_| FolderError::Broken)?;
        self.reader = Some(reader);
        Ok(done)
    }
}

/// Sees to it that a reader knows what the marks say, and returns the sums.
fn up_to_date(reader: &mut Reader, log: &EventLog) -> Result<Taken, FolderError> {
    reader.trouble = None;
    if reader.is_stale {
        let marks = log.marks(&reader.settings.mark_prefix())?;
        reader.load(marks).map_err(|name| FolderError::Mark { name })?;
    }
    Ok(*reader.totals())
}

/// What is counted.
struct Meters {
    events: Counter,
    dead_letters: Counter,
    gap_bytes: Counter,
    begun_anew: Counter,
    files: Gauge,
    bytes_unread: Gauge,
}

impl Meters {
    fn new() -> Self {
        Self {
            events: counter!("holdfast_drop_folder_events_total"),
            dead_letters: counter!("holdfast_drop_folder_dead_letters_total"),
            gap_bytes: counter!("holdfast_drop_folder_gap_bytes_total"),
            begun_anew: counter!("holdfast_drop_folder_begun_anew_total"),
            files: gauge!("holdfast_drop_folder_files"),
            bytes_unread: gauge!("holdfast_drop_folder_unread_bytes"),
        }
    }

    fn took(&self, taken: &Taken) {
        self.events.increment(taken.events);
        self.dead_letters.increment(taken.dead_letters);
        self.gap_bytes.increment(taken.gap_bytes);
        self.begun_anew.increment(taken.begun_anew);
    }
}
