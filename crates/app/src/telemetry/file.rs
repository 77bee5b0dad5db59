//! Log files of a data directory: one that is written, and older ones that are kept for a while.
//!
//! `holdfast.log` is written. When it is full it becomes `holdfast.log.1`, which becomes `holdfast.log.2`, and so on: numbers
//! stay in order whatever the clock does. What is too old, too many or too much is deleted. A disk that is full and a
//! folder that is gone cost lines and nothing else; they are told once, and what is written goes on as soon as it can.
//! A file that somebody moved away is begun anew, and a folder that is gone is made again, also while nobody logs. Whoever
//! writes here has a thread for it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;

use super::outlet::Sink;
use crate::settings::LogFileLimits;

/// The file that is written.
const NAME: &str = "holdfast.log";
/// How long a folder that cannot be written to is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A disk with less room than this is as good as full: it is what is written in two pieces.
const ROOM_BYTES: u64 = 64 << 10;
/// The largest number a file can have; the settings allow fewer.
const NUMBER_MAX: u64 = 10_000;

/// What a server keeps that has no other log, where the settings want no files.
pub const USUAL: LogFileLimits = LogFileLimits {
    max_file_bytes: 8 << 20,
    max_files: 1,
    max_age: Duration::from_secs(30 * 24 * 60 * 60),
    max_total_bytes: 16 << 20,
};

/// Limits that change while files are written.
#[derive(Clone)]
pub struct SharedLimits(Arc<ArcSwap<LogFileLimits>>);

impl SharedLimits {
    /// These, until others are set.
    pub fn new(limits: LogFileLimits) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(limits)))
    }

    /// Others from now on.
    pub fn set(&self, limits: LogFileLimits) {
        self.0.store(Arc::new(limits));
    }

    fn get(&self) -> LogFileLimits {
        **self.0.load()
    }
}

/// The files.
pub struct LogFile {
    folder: PathBuf,
    limits: SharedLimits,
    open: Option<Open>,
    /// Bytes of the older files, at the last look.
    kept_bytes: u64,
    /// Since when nothing can be written.
    failing: Option<Failing>,
}

struct Open {
    file: File,
    bytes: u64,
    /// Which file it is, whatever its path is by now.
    identity: (u64, u64),
}

struct Failing {
    tried_at: Instant,
    kind: ErrorKind,
}

impl Sink for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Some(failing) = &self.failing
            && failing.tried_at.elapsed() < RETRY_AFTER
        {
            return Err(failing.kind.into());
        }
        let written = self.try_write(lines);
        self.note(&written);
        written
    }

    fn check(&mut self) -> io::Result<()> {
        let checked = self.open_again_where_needed().and_then(|()| match &self.open {
            Some(open) => has_room(&open.file),
            None => Err(ErrorKind::NotFound.into()),
        });
        self.note(&checked);
        let open_bytes = self.open.as_ref().map_or(0, |open| open.bytes);
        metrics::gauge!("holdfast_log_files_bytes").set((self.kept_bytes + open_bytes) as f64);
        checked
    }

    fn look_after(&mut self) {
        self.sweep();
    }
}

/// Whether the disk that a file lies on has room for some lines.
///
/// # Errors
/// [`ErrorKind::StorageFull`] where it has not.
pub fn has_room(file: impl AsFd) -> io::Result<()> {
    let disk = rustix::fs::fstatvfs(file)?;
    // What is no disk tells 0 of everything.
    if disk.f_blocks > 0 && disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_BYTES {
        return Err(ErrorKind::StorageFull.into());
    }
    Ok(())
}

impl LogFile {
    /// Files in this folder, which is made when the first line comes.
    pub fn new(folder: PathBuf, limits: SharedLimits) -> Self {
        Self { folder, limits, open: None, kept_bytes: 0, failing: None }
    }

    fn try_write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.open_again_where_needed()?;
        let is_full = |open: &Open, limits: LogFileLimits| {
            open.bytes > 0 && open.bytes + lines.len() as u64 > limits.max_file_bytes
        };
        if self.open.as_ref().is_some_and(|open| is_full(open, self.limits.get())) {
            self.rotate()?;
            self.open_again_where_needed()?;
        }
        let Some(open) = &mut self.open else { return Err(ErrorKind::NotFound.into()) };
        match open.file.write_all(lines) {
            Ok(()) => {
                open.bytes += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a line would spoil the next. Where even that fails, the file is given up below.
                let _ = open.file.set_len(open.bytes);
                self.open = None;
                Err(error)
            }
        }
    }

    /// Opens the file, unless the one that is open is still the one of that name.
    fn open_again_where_needed(&mut self) -> io::Result<()> {
        let path = self.folder.join(NAME);
        let there = fs::symlink_metadata(&path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if self.open.as_ref().is_some_and(|open| there == Some(open.identity)) {
            return Ok(());
        }
        self.open = None;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(no_link).open(&path)?;
        let metadata = file.metadata()?;
        self.open = Some(Open { file, bytes: metadata.len(), identity: (metadata.dev(), metadata.ino()) });
        self.sweep();
        Ok(())
    }

    /// Gives every file the next number, beginning with the last.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        let mut numbers: Vec<u64> = self.kept().into_iter().map(|kept| kept.number).collect();
        numbers.sort_unstable();
        // Only those before the first gap have to move.
        let moving = (1..).zip(&numbers).take_while(|(expected, number)| expected == *number).count() as u64;
        for number in (1..=moving).rev() {
            fs::rename(self.numbered(number), self.numbered(number + 1))?;
        }
        fs::rename(self.folder.join(NAME), self.numbered(1))
    }

    fn numbered(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{NAME}.{number}"))
    }

    /// Deletes what is too old, too many or too much. What cannot be deleted is tried again the next time.
    fn sweep(&mut self) {
        let limits = self.limits.get();
        self.kept_bytes = 0;
        let mut kept = self.kept();
        kept.sort_unstable_by_key(|kept| kept.number);
        let mut total_bytes = self.open.as_ref().map_or(0, |open| open.bytes.max(limits.max_file_bytes));
        for (place, file) in (1..).zip(kept) {
            total_bytes += file.bytes;
            // A time in the future says nothing: the clock was set back.
            let is_old = file.modified.elapsed().is_ok_and(|age| age > limits.max_age);
            if is_old || place > limits.max_files || total_bytes > limits.max_total_bytes {
                let _ = fs::remove_file(self.numbered(file.number));
            } else {
                self.kept_bytes += file.bytes;
            }
        }
    }

    /// The files with numbers.
    fn kept(&self) -> Vec<Kept> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let kept = |entry: fs::DirEntry| {
            let number = number_of(Path::new(&entry.file_name()))?;
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some(Kept { number, bytes: metadata.len(), modified: metadata.modified().ok()? })
        };
        entries.filter_map(Result::ok).filter_map(kept).collect()
    }

    /// Tells when it begins to fail, and when it is over.
    fn note(&mut self, written: &io::Result<()>) {
        let folder = self.folder.display();
        match (written, self.failing.take()) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => {
                tracing::warn!(target: super::ABOUT_THE_LOG, "log files in {folder} are written again");
            }
            (Err(error), was_failing) => {
                self.failing = Some(Failing { tried_at: Instant::now(), kind: error.kind() });
                if was_failing.is_none() {
                    tracing::warn!(
                        target: super::ABOUT_THE_LOG,
                        %error,
                        "log files in {folder} cannot be written: {error}; lines are dropped until they can"
                    );
                }
            }
        }
    }
}

struct Kept {
    number: u64,
    bytes: u64,
    modified: SystemTime,
}

fn number_of(name: &Path) -> Option<u64> {
    let digits = name.to_str()?.strip_prefix(NAME)?.strip_prefix('.')?;
    let number = digits.parse().ok()?;
    // Another writing of a number is another's file.
    ((1..=NUMBER_MAX).contains(&number) && number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const LIMITS: LogFileLimits = LogFileLimits {
        max_file_bytes: 100,
        max_files: 3,
        max_age: Duration::from_secs(1_000),
        max_total_bytes: 10_000,
    };

    struct Rig {
        folder: tempfile::TempDir,
        limits: SharedLimits,
        log: LogFile,
    }

    fn rig(limits: LogFileLimits) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let limits = SharedLimits::new(limits);
        let log = LogFile::new(folder.path().join("logs"), limits.clone());
        Rig { folder, limits, log }
    }

    impl Rig {
        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join("logs").join(name)
        }

        /// A line of forty bytes, with a number in it.
        fn write(&mut self, number: u32) -> io::Result<()> {
            self.log.write(format!("{number:039}\n").as_bytes())
        }

        /// The numbers in each file.
        fn files(&self) -> BTreeMap<String, Vec<u32>> {
            let entries = fs::read_dir(self.path("")).unwrap().map(Result::unwrap);
            let numbers = |path: PathBuf| {
                let text = fs::read_to_string(path).unwrap();
                text.lines().map(|line| line.parse().unwrap()).collect()
            };
            entries.map(|entry| (entry.file_name().into_string().unwrap(), numbers(entry.path()))).collect()
        }

        /// As if time had passed since it failed.
        fn wait(&mut self) {
            if let Some(failing) = &mut self.log.failing {
                failing.tried_at = Instant::now().checked_sub(RETRY_AFTER).unwrap();
            }
        }
    }

    fn expected(files: &[(&str, &[u32])]) -> BTreeMap<String, Vec<u32>> {
        files.iter().map(|(name, numbers)| ((*name).to_owned(), numbers.to_vec())).collect()
    }

    #[test]
    fn a_full_file_gets_a_number_and_the_oldest_goes() {
        let mut rig = rig(LIMITS);
        for number in 0..11 {
            rig.write(number).unwrap();
        }
        let files = rig.files();
        let kept: [(&str, &[u32]); 4] = [
            ("holdfast.log", &[10]),
            ("holdfast.log.1", &[8, 9]),
            ("holdfast.log.2", &[6, 7]),
            ("holdfast.log.3", &[4, 5]),
        ];
        assert_eq!(files, expected(&kept));
        use std::os::unix::fs::PermissionsExt;
        let mode = |name| fs::metadata(rig.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("holdfast.log"), mode("holdfast.log.3")), (0o700, 0o600, 0o600));
    }

    #[test]
    fn a_line_longer_than_a_file_is_written_all_the_same() {
        let mut rig = rig(LIMITS);
        rig.log.write(format!("{:0300}\n", 1).as_bytes()).unwrap();
        rig.write(2).unwrap();
        assert_eq!(rig.files(), expected(&[("holdfast.log", &[2]), ("holdfast.log.1", &[1])]));
    }

    #[test]
    fn a_start_goes_on_where_the_last_one_ended() {
        let mut rig = rig(LIMITS);
        rig.write(1).unwrap();
        rig.log = LogFile::new(rig.path(""), rig.limits.clone());
        for number in 2..4 {
            rig.write(number).unwrap();
        }
        assert_eq!(rig.files(), expected(&[("holdfast.log", &[3]), ("holdfast.log.1", &[1, 2])]));
    }

    #[test]
    fn all_together_have_a_bound_that_can_change() {
        let mut rig = rig(LogFileLimits { max_files: 1_000, max_total_bytes: 400, ..LIMITS });
        for number in 0..40 {
            rig.write(number).unwrap();
            let total: u64 =
                fs::read_dir(rig.path("")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
            assert!(total <= 400, "{total}");
        }
        assert_eq!(rig.files().len(), 4, "the one that is written is counted as full");
        rig.limits.set(LogFileLimits { max_files: 1, ..LIMITS });
        rig.log.look_after();
        assert_eq!(rig.files().len(), 2);
    }

    #[test]
    fn what_is_old_goes_and_a_clock_set_back_deletes_nothing() {
        let mut rig = rig(LIMITS);
        for number in 0..7 {
            rig.write(number).unwrap();
        }
        let set = |number: u32, time| {
            let file = File::options().append(true).open(rig.path(&format!("holdfast.log.{number}"))).unwrap();
            file.set_modified(time).unwrap();
        };
        set(1, SystemTime::now() + Duration::from_secs(100_000));
        set(2, SystemTime::now() - Duration::from_secs(999));
        set(3, SystemTime::now() - Duration::from_secs(1_001));
        rig.log.look_after();
        let names: Vec<_> = rig.files().into_keys().collect();
        assert_eq!(names, ["holdfast.log", "holdfast.log.1", "holdfast.log.2"]);
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let mut rig = rig(LogFileLimits { max_files: 0, ..LIMITS });
        rig.write(0).unwrap();
        let others = ["holdfast.log.gz", "holdfast.log.01", "holdfast.log.1.gz", "server.log", "holdfast.log.99999"];
        for name in others {
            fs::write(rig.path(name), "1\n").unwrap();
        }
        for number in 1..10 {
            rig.write(number).unwrap();
        }
        assert!(others.iter().all(|name| rig.path(name).exists()));
        assert_eq!(rig.files().len(), others.len() + 1);
    }

    #[test]
    fn a_folder_that_is_removed_is_made_again() {
        let mut rig = rig(LIMITS);
        rig.write(1).unwrap();
        fs::remove_dir_all(rig.path("")).unwrap();
        rig.write(2).unwrap();
        assert_eq!(rig.files(), expected(&[("holdfast.log", &[2])]));
    }

    #[test]
    fn a_file_that_is_moved_away_is_begun_anew() {
        let mut rig = rig(LIMITS);
        rig.write(1).unwrap();
        fs::rename(rig.path("holdfast.log"), rig.path("moved")).unwrap();
        rig.write(2).unwrap();
        assert_eq!(rig.files(), expected(&[("holdfast.log", &[2]), ("moved", &[1])]));
    }

    #[test]
    fn where_nothing_can_be_written_lines_are_lost_until_it_can() {
        let mut rig = rig(LIMITS);
        fs::write(rig.folder.path().join("logs"), "in the way").unwrap();
        assert!(rig.write(1).is_err());
        fs::remove_file(rig.folder.path().join("logs")).unwrap();
        assert!(rig.write(2).is_err(), "it is not tried with every line");
        rig.wait();
        rig.write(3).unwrap();
        assert_eq!(rig.files(), expected(&[("holdfast.log", &[3])]));
    }

    #[test]
    fn what_is_wrong_with_the_folder_is_found_without_a_line() {
        let mut rig = rig(LIMITS);
        rig.log.check().unwrap();
        assert_eq!(rig.files(), expected(&[("holdfast.log", &[])]), "the folder is made");
        fs::remove_dir_all(rig.path("")).unwrap();
        fs::write(rig.folder.path().join("logs"), "in the way").unwrap();
        assert!(rig.log.check().is_err());
        fs::remove_file(rig.folder.path().join("logs")).unwrap();
        rig.log.check().unwrap();
        rig.write(1).unwrap();
        assert_eq!(rig.files(), expected(&[("holdfast.log", &[1])]));
    }

    #[test]
    fn a_link_is_not_followed() {
        let mut rig = rig(LIMITS);
        let elsewhere = rig.folder.path().join("elsewhere");
        fs::create_dir(rig.path("")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, rig.path("holdfast.log")).unwrap();
        assert!(rig.write(1).is_err());
        assert!(!elsewhere.exists());
    }
}
