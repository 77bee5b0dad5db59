//! The contract, damage, faults and housekeeping of the embedded index.

use std::{
    fmt,
    io::Write,
    sync::atomic::{AtomicBool, AtomicUsize},
};

use ::tantivy::directory::{
    AntiCallToken, DirectoryLock, FileHandle, Lock, RamDirectory, TerminatingWrite, WatchCallback, WatchHandle,
    WritePtr,
    error::{DeleteError, LockError},
};

use super::{
    super::contract::{Chunk, apply, chunk, entry, keys, lexical_contract},
    *,
};

fn open(dir: &Path) -> Box<dyn LexicalIndex> {
    Box::new(TantivyIndex::open(dir).unwrap())
}

lexical_contract!(open);

fn try_apply(index: &TantivyIndex, position: u64, removed: &[u64], added: &[Chunk]) -> Result<(), LexicalError> {
    let removed: Vec<ChunkKey> = removed.iter().copied().map(ChunkKey::new).collect();
    let added: Vec<LexicalEntry<'_>> = added.iter().map(entry).collect();
    index.apply(&LexicalChange { removed: &removed, added: &added, position })
}

/// An index with two segments and a deletion, and its files.
fn sample(dir: &Path) -> Vec<PathBuf> {
    let index = TantivyIndex::open(dir).unwrap();
    let chunks: Vec<Chunk> = (0..300).map(|n| chunk(n, &format!("alpha beta{n}"))).collect();
    apply(&index, 1, &[], &chunks[..200]);
    apply(&index, 2, &[3], &chunks[200..]);
    drop(index);
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.to_string_lossy().ends_with(".lock"))
        .collect();
    files.sort();
    assert!(files.len() > 8, "{files:?}");
    files
}

fn assert_damaged(dir: &Path, what: &str) {
    match TantivyIndex::open(dir) {
        Err(LexicalError::Damaged { .. }) => {}
        Err(other) => panic!("{what}: {other:?}"),
        Ok(_) => panic!("{what}: opened"),
    }
}

#[test]
fn damage_to_any_file_is_found_when_opening() {
    let dir = tempfile::tempdir().unwrap();
    let files = sample(dir.path());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let good = fs::read(&file).unwrap();
        // A list of files that lacks some is not damage; nor is a file nobody refers to.
        if name != ".managed.json" {
            fs::write(&file, &good[..good.len() / 2]).unwrap();
            assert_damaged(dir.path(), &format!("{name} cut in half"));
            fs::write(&file, []).unwrap();
            assert_damaged(dir.path(), &format!("{name} emptied"));
        }
        if name != ".managed.json" && name != "meta.json" {
            for at in [0, good.len() / 3, good.len() / 2, good.len() - 1] {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                fs::write(&file, &bad).unwrap();
                assert_damaged(dir.path(), &format!("{name} byte {at} of {}", good.len()));
            }
            fs::remove_file(&file).unwrap();
            assert_damaged(dir.path(), &format!("{name} gone"));
        }
        fs::write(&file, &good).unwrap();
        TantivyIndex::open(dir.path()).unwrap().verify().unwrap();
    }
}

#[test]
fn a_state_that_does_not_fit_its_segments_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let path = dir.path().join("meta.json");
    let meta = fs::read_to_string(&path).unwrap();
    for (good, bad) in [("\\\"chunks\\\":299", "\\\"chunks\\\":298"), ("\\\"position\\\":", "\\\"pos\\\":")] {
        assert!(meta.contains(good), "{meta}");
        fs::write(&path, meta.replace(good, bad)).unwrap();
        assert_damaged(dir.path(), bad);
    }
}

#[test]
fn an_index_made_by_other_rules_is_refused_and_recreated() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let path = dir.path().join("meta.json");
    let meta = fs::read_to_string(&path).unwrap();
    fs::write(&path, meta.replace(tokenizer::NAME, "holdfast_words_0")).unwrap();
    let error = TantivyIndex::open(dir.path()).err().unwrap();
    assert!(error.to_string().ends_with("it was made by another version"), "{error}");
    let index = TantivyIndex::recreate(dir.path()).unwrap();
    assert_eq!((index.position(), index.len()), (0, 0));
    apply(&index, 1, &[], &[chunk(1, "alpha")]);
    assert_eq!(index.len(), 1);
}

#[test]
fn what_a_crash_left_half_written_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    fs::write(dir.path().join(".tmpA1b2C3"), "half").unwrap();
    TantivyIndex::open(dir.path()).unwrap();
    assert!(!dir.path().join(".tmpA1b2C3").exists());
}

#[test]
fn a_directory_that_cannot_be_made_is_an_io_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = TantivyIndex::open(&file.join("index")).err().unwrap();
    assert!(matches!(error, LexicalError::Io { .. }), "{error:?}");
}

#[test]
fn many_small_changes_do_not_pile_up_segments() {
    let dir = tempfile::tempdir().unwrap();
    let index = Faulty::default().open(dir.path());
    for n in 0..120 {
        apply(&index, n + 1, &[], &[chunk(n % 50, &format!("alpha beta{n}"))]);
        assert!(index.segment_count() <= MAX_SEGMENTS, "{}", index.segment_count());
    }
    index.release_writer().unwrap();
    assert!(index.segment_count() <= MERGE_FACTOR as usize, "{}", index.segment_count());
    assert_eq!((index.len(), index.position()), (50, 120));
    index.verify().unwrap();
    // Writing goes on afterwards.
    apply(&index, 121, &[], &[chunk(99, "gamma")]);
    index.rest().unwrap();
    assert_eq!(index.len(), 51);
}

#[test]
fn sizes_decide_what_is_merged() {
    let plan = |sizes: &[(u64, u64)]| {
        let sizes: Vec<SegmentSize> = sizes
            .iter()
            .map(|(alive, deleted)| SegmentSize { id: SegmentId::generate_random(), alive: *alive, deleted: *deleted })
            .collect();
        let due = segments_to_merge(&sizes);
        sizes.iter().map(|size| due.contains(&size.id)).collect::<Vec<_>>()
    };
    assert_eq!(plan(&[(1, 0), (1, 0), (999, 0)]), [false; 3]);
    assert_eq!(plan(&[(1, 0), (1, 0), (999, 0), (5, 0), (9000, 0)]), [true, true, true, true, false]);
    assert_eq!(
        plan(&[(5000, 0), (6000, 0), (7000, 0), (8000, 0), (1, 0), (70_000, 0)]),
        [true, true, true, true, true, false]
    );
    assert_eq!(plan(&[(5000, 1600), (6000, 2000)]), [false, true]);
    assert_eq!(plan(&[]), [false; 0]);
}

/// A directory in memory whose operations fail from a given one on.
#[derive(Clone, Default)]
struct Faulty {
    inner: RamDirectory,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    armed: AtomicBool,
    /// Operations that still succeed while armed.
    left: AtomicUsize,
    /// Whether the operation after the failing one succeeds again.
    once: AtomicBool,
}

impl Faults {
    fn arm(&self, left: usize, once: bool) {
        self.left.store(left, Ordering::SeqCst);
        self.once.store(once, Ordering::SeqCst);
        self.armed.store(true, Ordering::SeqCst);
    }

    fn disarm(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    /// Whether the fault has been met.
    fn met(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    fn pass(&self) -> io::Result<()> {
        if !self.armed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            return Ok(());
        }
        if self.once.load(Ordering::SeqCst) {
            self.disarm();
        }
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

struct FaultyWriter {
    inner: WritePtr,
    faults: Arc<Faults>,
}

impl Write for FaultyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.faults.pass()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl TerminatingWrite for FaultyWriter {
    fn terminate_ref(&mut self, token: AntiCallToken) -> io::Result<()> {
        self.faults.pass()?;
        self.inner.terminate_ref(token)
    }
}

impl Directory for Faulty {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.inner.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.inner.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.inner.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let refused = |error| OpenWriteError::IoError { io_error: Arc::new(error), filepath: path.to_owned() };
        self.faults.pass().map_err(refused)?;
        let inner = self.inner.open_write(path)?;
        Ok(io::BufWriter::new(Box::new(FaultyWriter { inner, faults: self.faults.clone() })))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.inner.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.faults.pass()?;
        self.inner.atomic_write(path, bytes)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.faults.pass()?;
        self.inner.sync_directory()
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.inner.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> ::tantivy::Result<WatchHandle> {
        self.inner.watch(callback)
    }
}

impl Faulty {
    /// Opens what is in this directory, with `dir` standing for its place.
    fn open(&self, dir: &Path) -> TantivyIndex {
        TantivyIndex::open_in(dir, Box::new(self.clone())).unwrap()
    }
}

fn contents(index: &TantivyIndex) -> (u64, Vec<u64>, Vec<u64>) {
    let mut all: Vec<u64> = index.keys().unwrap().into_iter().map(ChunkKey::get).collect();
    all.sort_unstable();
    (index.position(), all, keys(&index.query("alpha gamma", 1000, None).unwrap()))
}

/// The disk fills up at every single operation of a change in turn. The change fails with a
/// coded error or succeeds; the index answers as before or as after; and once there is space
/// again, the same change succeeds.
#[test]
fn a_full_disk_at_any_moment_is_survived() {
    let first = [chunk(1, "alpha"), chunk(2, "alpha beta"), chunk(3, "beta")];
    let second = [chunk(2, "gamma"), chunk(4, "alpha gamma")];
    let dir = tempfile::tempdir().unwrap();
    let mut met = 0;
    for once in [true, false] {
        // A fault that stays is met more coarsely: what it adds is that cleaning up fails too.
        for operation in (0..).step_by(if once { 1 } else { 5 }) {
            let directory = Faulty::default();
            let (index, faults) = (directory.open(dir.path()), &directory.faults);
            try_apply(&index, 1, &[], &first).unwrap();
            let before = contents(&index);
            faults.arm(operation, once);
            let outcome = try_apply(&index, 2, &[1], &second);
            let was_met = faults.met();
            let answered = contents(&index);
            faults.disarm();
            match outcome {
                Ok(()) => assert_eq!(answered.0, 2),
                Err(LexicalError::Io { source, .. }) => {
                    assert_eq!(source.kind(), io::ErrorKind::StorageFull, "operation {operation}: {source:?}");
                    assert_eq!(answered, before, "operation {operation}");
                    met += 1;
                }
                Err(other) => panic!("operation {operation}: {other:?}"),
            }
            try_apply(&index, 2, &[1], &second).unwrap();
            assert_eq!(contents(&index), (2, vec![2, 3, 4], vec![4, 2]), "operation {operation}");
            drop(index);
            let reopened = directory.open(dir.path());
            assert_eq!(contents(&reopened), (2, vec![2, 3, 4], vec![4, 2]), "operation {operation}");
            if !was_met {
                break;
            }
        }
    }
    assert!(met > 20, "only {met} faults were met");
}

/// The process dies at every single operation of a change in turn: what is on disk opens, holds
/// the state before or after, and takes the change again.
#[test]
fn a_crash_at_any_moment_leaves_one_state_or_the_other() {
    let first = [chunk(1, "alpha"), chunk(2, "alpha beta"), chunk(3, "beta")];
    let second = [chunk(2, "gamma"), chunk(4, "alpha gamma")];
    let dir = tempfile::tempdir().unwrap();
    for operation in 0.. {
        let directory = Faulty::default();
        let (index, faults) = (directory.open(dir.path()), &directory.faults);
        try_apply(&index, 1, &[], &first).unwrap();
        faults.arm(operation, false);
        let _ = try_apply(&index, 2, &[1], &second);
        let was_met = faults.met();
        drop(index);
        faults.disarm();
        let reopened = directory.open(dir.path());
        match reopened.position() {
            1 => assert_eq!(contents(&reopened), (1, vec![1, 2, 3], vec![1, 2])),
            2 => assert_eq!(contents(&reopened), (2, vec![2, 3, 4], vec![4, 2])),
            other => panic!("operation {operation}: position {other}"),
        }
        try_apply(&reopened, 2, &[1], &second).unwrap();
        assert_eq!(contents(&reopened), (2, vec![2, 3, 4], vec![4, 2]));
        if !was_met {
            break;
        }
    }
}

/// A merge that meets a full disk costs nothing but the merge.
#[test]
fn a_failed_merge_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Faulty::default();
    let (index, faults) = (directory.open(dir.path()), &directory.faults);
    for n in 0..3 {
        try_apply(&index, n + 1, &[], &[chunk(n, "alpha")]).unwrap();
    }
    index.lock().merge.take().map(JoinHandle::join);
    let mut failures = 0;
    for n in 3..40 {
        // Enough operations for the commit, not for the merge that follows it.
        faults.arm(40 + n as usize, false);
        failures += u64::from(try_apply(&index, n + 1, &[], &[chunk(n, "alpha")]).is_err());
        let merge = index.lock().merge.take();
        merge.map(JoinHandle::join);
        faults.disarm();
        try_apply(&index, n + 1, &[], &[chunk(n, "alpha")]).unwrap();
    }
    index.release_writer().unwrap();
    assert_eq!(index.len(), 40);
    assert!(index.segment_count() <= MERGE_FACTOR as usize, "{}", index.segment_count());
    index.verify().unwrap();
    assert!(failures < 37, "no commit ever succeeded while armed");
}
