//! What a service writes: into a file with a bound, and its end in memory.
//!
//! The output of one run is copied by one task, which is woken by the pipe and ends with it; where a process that left the
//! service's group keeps the pipe open, it is ended. A file that cannot be written to costs what was to be written, and
//! never holds the service up.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{io::AsyncReadExt, net::unix::pipe, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    spec::{LOG_BYTES_MIN, Spec},
    words,
};

/// What is kept in memory.
const TAIL_BYTES_MAX: usize = 16 << 10;
/// What is read from a service at once: all that a pipe holds.
const READ_BYTES_MAX: usize = LOG_BYTES_MIN as usize;
/// How long the output of a process that has ended may take to come to its end.
const DRAINED_WITHIN: Duration = Duration::from_millis(500);
/// What counts as last words.
const LAST_WORDS_LINES_MAX: usize = 8;
const LAST_WORDS_BYTES_MAX: usize = 1 << 10;

/// The end of a service's output, over all its runs; cloning is shallow.
#[derive(Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<Bytes>>);

#[derive(Default)]
struct Bytes {
    kept: VecDeque<u8>,
    /// All that ever came.
    total: u64,
}

impl Tail {
    fn append(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        inner.total += bytes.len() as u64;
        inner.kept.extend(bytes);
        let too_many = inner.kept.len().saturating_sub(TAIL_BYTES_MAX);
        inner.kept.drain(..too_many);
    }

    /// The last bytes, as text.
    pub(crate) fn text(&self, bytes_max: usize) -> String {
        let mut inner = self.lock();
        let kept = inner.kept.make_contiguous();
        String::from_utf8_lossy(&kept[kept.len().saturating_sub(bytes_max)..]).into_owned()
    }

    fn total(&self) -> u64 {
        self.lock().total
    }

    /// The last lines of what came after a point.
    fn last_words(&self, since: u64) -> String {
        let mut inner = self.lock();
        let new = usize::try_from(inner.total.saturating_sub(since)).unwrap_or(usize::MAX);
        let kept = inner.kept.make_contiguous();
        let new = &kept[kept.len().saturating_sub(new)..];
        words::last_lines(new, LAST_WORDS_LINES_MAX, LAST_WORDS_BYTES_MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Bytes> {
        // Nothing panics while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The copying of one run's output.
pub(crate) struct Copying {
    task: JoinHandle<()>,
    cut: CancellationToken,
    tail: Tail,
    /// Where this run's output begins.
    since: u64,
}

impl Copying {
    pub(crate) fn start(output: pipe::Receiver, spec: &Spec, tail: &Tail, tasks: &TaskTracker) -> Self {
        let (tail, cut, since) = (tail.clone(), CancellationToken::new(), tail.total());
        let file = LogFile::new(spec);
        let task = tasks.spawn(copy(output, file, tail.clone(), cut.clone()));
        Self { task, cut, tail, since }
    }

    /// Waits for what the process has written before it ended, and gives its last words.
    pub(crate) async fn finish(mut self) -> String {
        if tokio::time::timeout(DRAINED_WITHIN, &mut self.task).await.is_err() {
            self.cut.cancel();
            // It panics nowhere, and only the end of the runtime aborts it.
            let _ = self.task.await;
        }
        self.tail.last_words(self.since)
    }
}

async fn copy(mut output: pipe::Receiver, mut file: LogFile, tail: Tail, cut: CancellationToken) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut bytes = format!("--- started at {} s (Unix time)\n", now.as_secs()).into_bytes();
    loop {
        // A disk may take its time; the runtime's threads have other things to do.
        let written = tokio::task::spawn_blocking(move || {
            file.append(&bytes);
            (file, bytes)
        });
        let Ok(back) = written.await else { return };
        (file, bytes) = back;
        bytes.resize(READ_BYTES_MAX, 0);
        let read = tokio::select! {
            biased;
            () = cut.cancelled() => return,
            read = output.read(&mut bytes) => read,
        };
        match read {
            Ok(length) if length > 0 => bytes.truncate(length),
            _ => return,
        }
        tail.append(&bytes);
    }
}

/// The file of one service.
struct LogFile {
    service: String,
    path: PathBuf,
    bytes_max: u64,
    open: Option<(File, u64)>,
    is_failing: bool,
}

impl LogFile {
    fn new(spec: &Spec) -> Self {
        let (service, path) = (spec.name.clone(), spec.log_file.clone());
        Self { service, path, bytes_max: spec.log_bytes_max, open: None, is_failing: false }
    }

    fn append(&mut self, bytes: &[u8]) {
        let written = self.try_append(bytes);
        match &written {
            Err(error) if !self.is_failing => tracing::warn!(
                service = self.service,
                error = %error.kind(),
                "the log of the service {} cannot be written; its output is lost: {}",
                self.service,
                error.kind()
            ),
            Ok(()) if self.is_failing => {
                tracing::info!(service = self.service, "the log of the service {} is written again", self.service);
            }
            _ => {}
        }
        self.is_failing = written.is_err();
        if self.is_failing {
            self.open = None;
        }
    }

    fn try_append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        if size > 0 && size + bytes.len() as u64 > self.bytes_max {
            fs::rename(&self.path, Spec::older_log(&self.path))?;
            (file, size) = self.open()?;
        }
        file.write_all(bytes)?;
        self.open = Some((file, size + bytes.len() as u64));
        Ok(())
    }

    fn open(&self) -> io::Result<(File, u64)> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        // One that was there may have had another.
        file.set_permissions(Permissions::from_mode(0o600))?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_file(folder: &tempfile::TempDir) -> LogFile {
        let path = folder.path().join("s.log");
        LogFile { service: "s".into(), path, bytes_max: 1_000, open: None, is_failing: false }
    }

    #[test]
    fn the_tail_is_bounded_and_knows_whose_words_are_whose() {
        let tail = Tail::default();
        tail.append(b"first run\n");
        let second = tail.total();
        assert_eq!(tail.last_words(second), "");
        tail.append(b"second run\n");
        assert_eq!(tail.last_words(second), "second run");
        assert_eq!(tail.text(4), "run\n");
        tail.append(&vec![b'x'; 100_000]);
        assert_eq!(tail.lock().kept.len(), TAIL_BYTES_MAX);
        assert_eq!(tail.last_words(second).len(), LAST_WORDS_BYTES_MAX);
        assert_eq!(tail.text(usize::MAX).len(), TAIL_BYTES_MAX);
    }

    #[test]
    fn a_full_file_becomes_the_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log_file(&folder);
        for line in 0..1_000 {
            log.append(format!("line {line:04}\n").as_bytes());
        }
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        let (older, newer) = (read(Spec::older_log(&log.path)), read(log.path.clone()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(older.len() <= 1_000 && newer.len() <= 1_000, "{} and {} bytes", older.len(), newer.len());
        let both = older + &newer;
        let kept: Vec<&str> = both.lines().collect();
        let expected: Vec<String> = (1_000 - kept.len()..1_000).map(|line| format!("line {line:04}")).collect();
        assert_eq!(kept, expected, "what is kept are the last lines without a gap");
    }

    #[test]
    fn a_file_is_for_its_owner_only_and_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log_file(&folder);
        fs::write(&log.path, "before\n").unwrap();
        fs::set_permissions(&log.path, Permissions::from_mode(0o644)).unwrap();
        log.append(b"after\n");
        assert_eq!(fs::read_to_string(&log.path).unwrap(), "before\nafter\n");
        assert_eq!(fs::metadata(&log.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_folder_that_is_gone_costs_lines_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log_file(&folder);
        log.path = folder.path().join("gone/s.log");
        log.append(b"lost\n");
        assert!(log.is_failing);
        fs::create_dir(folder.path().join("gone")).unwrap();
        log.append(b"kept\n");
        assert!(!log.is_failing);
        assert_eq!(fs::read_to_string(&log.path).unwrap(), "kept\n");
    }
}
