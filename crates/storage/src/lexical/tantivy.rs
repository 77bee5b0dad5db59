//! The embedded lexical index: one tantivy index in one directory.
//!
//! Owns the files, the one writer, and the snapshot that queries read. How text becomes terms,
//! how terms become scores and how filters become rows is next door. Nothing here runs by
//! itself: every step is somebody's call. The one thing that happens in the background is a
//! merge of segments, started by [`LexicalIndex::apply`] and awaited by the next call that needs
//! it, by [`TantivyIndex::release_writer`] or by dropping the index.
//!
//! A commit is one rename of `meta.json`, which carries the applied position, so that visible,
//! durable and "up to here" cannot disagree. tantivy syncs each file and the directory before
//! that rename but not after it; without the sync added here a power loss could take a commit
//! back.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use ::tantivy::{
    Directory, DocSet, Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, SegmentReader, TERMINATED,
    TantivyDocument, TantivyError, Term,
    columnar::ColumnValues,
    directory::{
        MmapDirectory,
        error::{OpenDirectoryError, OpenReadError, OpenWriteError},
    },
    fieldnorm::FieldNormReader,
    index::{InvertedIndexReader, SegmentComponent, SegmentId},
    indexer::{IndexWriterOptions, NoMergePolicy},
    schema::{FAST, Field, INDEXED, IndexRecordOption, OwnedValue, Schema, TextFieldIndexing, TextOptions},
};

use super::{
    LexicalChange, LexicalEntry, LexicalError, LexicalIndex, attributes,
    attributes::Rows,
    score,
    tokenizer::{self, WordTokenizer},
};
use crate::{ChunkKey, Filter, Scored};

/// What the writer may buffer before it writes a segment.
const WRITER_BYTES: usize = 32 << 20;
/// Up to this size every byte is checked against its checksum when an index is opened, which
/// takes 0.1 s a gigabyte from the page cache. Above, `doctor` does it.
const CHECKED_AT_OPEN_BYTES: u64 = 512 << 20;
/// How often the title counts. By measurement, like the rest of the scoring.
const TITLE_TIMES: usize = 2;
/// Segments of like size before they are merged; also the factor between sizes.
const MERGE_FACTOR: u64 = 4;
/// Segments up to this many chunks count as the same size.
const SMALL_SEGMENT_ROWS: u64 = 1000;
/// From this many segments on, `apply` waits for the running merge instead of adding to them.
const MAX_SEGMENTS: usize = 24;
/// Filters remembered with each segment, a bit for each of its chunks.
const CACHED_FILTERS: usize = 8;

/// BM25 in process, one directory an index.
pub struct TantivyIndex {
    dir: PathBuf,
    index: Index,
    fields: Fields,
    reader: IndexReader,
    snapshot: RwLock<Arc<Snapshot>>,
    position: AtomicU64,
    writing: Mutex<Writing>,
}

#[derive(Clone, Copy)]
struct Fields {
    key: Field,
    words: Field,
    attributes: Field,
}

/// Everything that only the one who writes may touch.
#[derive(Default)]
struct Writing {
    writer: Option<IndexWriter>,
    merge: Option<JoinHandle<()>>,
    /// A commit may have happened that the snapshot does not show.
    stale: bool,
}

impl TantivyIndex {
    /// Opens the index in `dir`. A directory that is missing or holds no index becomes an empty
    /// one at position 0.
    ///
    /// # Errors
    /// [`LexicalError::Damaged`] when files are missing, do not match their checksums, or were
    /// made by other rules; [`Self::recreate`] is the remedy.
    pub fn open(dir: &Path) -> Result<Self, LexicalError> {
        // tantivy answers some kinds of corruption with a panic instead of an error.
        catch_unwind(AssertUnwindSafe(|| Self::open_unguarded(dir))).unwrap_or_else(|_| {
            Err(LexicalError::Damaged { dir: dir.to_owned(), reason: "it cannot be read".to_owned() })
        })
    }

    /// Deletes whatever is in `dir` and opens an empty index there, at position 0.
    ///
    /// # Errors
    /// When the directory cannot be deleted or written.
    pub fn recreate(dir: &Path) -> Result<Self, LexicalError> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(dir, "delete the old index", error)),
            _ => Self::open(dir),
        }
    }

    fn open_unguarded(dir: &Path) -> Result<Self, LexicalError> {
        prepare_directory(dir).map_err(|error| io_error(dir, "prepare its directory", error))?;
        let directory = MmapDirectory::open(dir).map_err(|error| engine_error(dir, "open", error.into()))?;
        Self::open_in(dir, Box::new(directory))
    }

    /// Opens the index that `directory` gives access to, which lies in `dir`.
    fn open_in(dir: &Path, directory: Box<dyn Directory>) -> Result<Self, LexicalError> {
        let failed = |error| engine_error(dir, "open", error);
        let (schema, fields) = schema();
        let index = if Index::exists(&*directory).map_err(|error| failed(error.into()))? {
            Index::open(directory).map_err(failed)?
        } else {
            Index::create(directory, schema.clone(), IndexSettings::default()).map_err(failed)?
        };
        if index.schema() != schema {
            return Err(damaged(dir, "it was made by another version"));
        }
        index.tokenizers().register(tokenizer::NAME, WordTokenizer::default());
        let state = State::read(dir, &index)?;
        if disk_bytes(dir) <= CHECKED_AT_OPEN_BYTES {
            check_files(dir, &index)?;
        }
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(failed)?;
        let snapshot = Snapshot::take(&reader, fields, &HashMap::new()).map_err(failed)?;
        state.check(dir, &snapshot)?;
        Ok(Self {
            dir: dir.to_owned(),
            index,
            fields,
            reader,
            snapshot: RwLock::new(Arc::new(snapshot)),
            position: AtomicU64::new(state.position),
            writing: Mutex::default(),
        })
    }

    fn look_at_files(&self) -> Result<(), LexicalError> {
        let metas = self.index.load_metas().map_err(|_| damaged(&self.dir, "its list of files cannot be read"))?;
        let terms = metas.segments.iter().map(|segment| segment.relative_path(SegmentComponent::Terms));
        match terms.into_iter().find(|file| !self.dir.join(file).is_file()) {
            Some(_) => Err(damaged(&self.dir, "one of its files is missing")),
            None => Ok(()),
        }
    }

    /// Checks every file against its checksum and that no chunk is there twice.
    ///
    /// # Errors
    /// [`LexicalError::Damaged`] naming what is wrong.
    pub fn verify(&self) -> Result<(), LexicalError> {
        let _writing = self.lock();
        check_files(&self.dir, &self.index)?;
        let mut keys = self.keys()?;
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        if keys.len() != count {
            return Err(damaged(&self.dir, "a chunk is in it twice"));
        }
        Ok(())
    }

    /// Finishes merging and frees the writer's threads and memory; the next change makes them
    /// anew. For when there is nothing to write for a while.
    ///
    /// # Errors
    /// When the merged state cannot be read; the index keeps answering from the former one.
    pub fn release_writer(&self) -> Result<(), LexicalError> {
        let mut writing = self.lock();
        while let Some(merge) = writing.merge.take() {
            self.await_merge(merge);
            self.refresh(&mut writing)?;
            self.start_merge(&mut writing);
        }
        self.discard_writer(&mut writing);
        Ok(())
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.dir)
    }

    /// How many segments queries have to look through.
    pub fn segment_count(&self) -> usize {
        self.snapshot().segments.len()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, action: &'static str) -> impl Fn(TantivyError) -> LexicalError {
        let dir = self.dir.clone();
        move |error| engine_error(&dir, action, error)
    }

    /// Writes a change and makes it durable. It becomes visible by [`Self::refresh`].
    fn commit(&self, writing: &mut Writing, change: &LexicalChange<'_>) -> Result<(), LexicalError> {
        let snapshot = self.snapshot();
        let writer = self.writer(writing)?;
        let mut last = HashMap::with_capacity(change.added.len());
        for (index, entry) in change.added.iter().enumerate() {
            last.insert(entry.key, index);
        }
        let gone: HashSet<ChunkKey> = change.removed.iter().copied().chain(last.keys().copied()).collect();
        let mut chunks = snapshot.chunks + last.len();
        for key in gone {
            // Deleting makes tantivy reopen every segment at commit, so only what is there.
            let term = Term::from_field_u64(self.fields.key, key.get());
            if snapshot.contains(&term).map_err(self.failed("look up a chunk"))? {
                writer.delete_term(term);
                chunks -= 1;
            }
        }
        for (index, entry) in change.added.iter().enumerate() {
            if last.get(&entry.key) == Some(&index)
                && let Err(error) = writer.add_document(self.document(entry))
            {
                // The queue only says that its worker is gone; joining it says why.
                let cause = writer.commit().err().unwrap_or(error);
                return Err(engine_error(&self.dir, "write chunks", cause));
            }
        }
        let mut commit = writer.prepare_commit().map_err(self.failed("write chunks"))?;
        commit.set_payload(&State { position: change.position, chunks }.to_payload());
        commit.commit().map_err(self.failed("commit"))?;
        sync_directory(&self.dir).map_err(|error| io_error(&self.dir, "commit", error))
    }

    fn writer<'w>(&self, writing: &'w mut Writing) -> Result<&'w mut IndexWriter, LexicalError> {
        let writer = match writing.writer.take() {
            Some(writer) => writer,
            None => self.new_writer()?,
        };
        Ok(writing.writer.insert(writer))
    }

    fn new_writer(&self) -> Result<IndexWriter, LexicalError> {
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(WRITER_BYTES)
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        let writer: IndexWriter = self.index.writer_with_options(options).map_err(self.failed("start writing"))?;
        writer.set_merge_policy(Box::new(NoMergePolicy));
        // What a failed writer left behind takes space that may be what is missing. When this
        // fails too, the commit will say so.
        let _ = writer.garbage_collect_files().wait();
        Ok(writer)
    }

    fn document(&self, entry: &LexicalEntry<'_>) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        document.add_u64(self.fields.key, entry.key.get());
        for text in std::iter::repeat_n(entry.title, TITLE_TIMES).chain([entry.heading, entry.path, entry.text]) {
            if !text.is_empty() {
                document.add_text(self.fields.words, text);
            }
        }
        let columns = OwnedValue::Object(attributes::columns_of(entry.attributes));
        document.add_field_value(self.fields.attributes, &columns);
        document
    }

    /// Shows the last commit to queries.
    fn refresh(&self, writing: &mut Writing) -> Result<(), LexicalError> {
        let failed = self.failed("read what was written");
        self.reader.reload().map_err(&failed)?;
        let parts = self.snapshot().parts();
        let snapshot = Snapshot::take(&self.reader, self.fields, &parts).map_err(&failed)?;
        let state = State::read(&self.dir, &self.index)?;
        state.check(&self.dir, &snapshot)?;
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        self.position.store(state.position, Ordering::Release);
        writing.stale = false;
        Ok(())
    }

    /// Starts the merge that is due, if one is and none runs.
    fn start_merge(&self, writing: &mut Writing) {
        let due = segments_to_merge(&self.snapshot().sizes());
        if due.is_empty() || writing.merge.is_some() {
            return;
        }
        let Some(writer) = &mut writing.writer else { return };
        let merging = writer.merge(&due);
        let dir = self.dir.clone();
        let waiting = std::thread::Builder::new().name("lexical-merge".into()).spawn(move || {
            if let Err(error) = merging.wait() {
                // Nothing is lost: the segments stay, and the next change tries again.
                tracing::warn!(dir = %dir.display(), %error, "could not merge segments of a lexical index");
            }
        });
        match waiting {
            Ok(merge) => writing.merge = Some(merge),
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "no thread to await a merge");
            }
        }
    }

    fn await_merge(&self, merge: JoinHandle<()>) {
        if merge.join().is_err() {
            tracing::warn!(dir = %self.dir.display(), "the thread that awaited a merge panicked");
        }
    }

    /// Takes note of a merge that has ended, and waits for one that must end first.
    fn collect_merge(&self, writing: &mut Writing) {
        let crowded = self.snapshot().segments.len() >= MAX_SEGMENTS;
        if let Some(merge) = writing.merge.take_if(|merge| crowded || merge.is_finished()) {
            self.await_merge(merge);
            writing.stale = true;
        }
    }

    /// Ends the writer and whatever it was doing. Two writers must never run at once, and a
    /// merge keeps its writer's machinery alive, so the merge is awaited first.
    fn discard_writer(&self, writing: &mut Writing) {
        if let Some(merge) = writing.merge.take() {
            self.await_merge(merge);
        }
        writing.writer = None;
    }

    /// The rows of each segment that pass `filter`.
    fn filter_rows(&self, snapshot: &Snapshot, filter: &Filter) -> Result<Vec<Arc<Rows>>, LexicalError> {
        let name: Arc<str> = filter.canonical().into();
        snapshot
            .segments
            .iter()
            .map(|segment| segment.filter_rows(&name, filter))
            .collect::<::tantivy::Result<_>>()
            .map_err(self.failed("filter"))
    }
}

impl LexicalIndex for TantivyIndex {
    fn examine(&self) -> Result<(), LexicalError> {
        // A merge that ends in between takes files away that were named a moment ago; then the second look is right.
        self.look_at_files().or_else(|_| self.look_at_files())
    }

    fn apply(&self, change: &LexicalChange<'_>) -> Result<(), LexicalError> {
        let mut writing = self.lock();
        self.collect_merge(&mut writing);
        if writing.stale {
            self.refresh(&mut writing)?;
        }
        writing.stale = true;
        if let Err(error) = self.commit(&mut writing, change) {
            self.discard_writer(&mut writing);
            return Err(error);
        }
        self.refresh(&mut writing)?;
        self.start_merge(&mut writing);
        Ok(())
    }

    fn query(&self, text: &str, limit: usize, filter: Option<&Filter>) -> Result<Vec<Scored>, LexicalError> {
        let snapshot = self.snapshot();
        let rows = filter.map(|filter| self.filter_rows(&snapshot, filter)).transpose()?;
        score::search(&snapshot, text, limit, rows.as_deref()).map_err(self.failed("search"))
    }

    fn scores(&self, text: &str, keys: &[ChunkKey]) -> Result<Vec<Scored>, LexicalError> {
        let snapshot = self.snapshot();
        let mut rows = Vec::with_capacity(snapshot.segments.len());
        for segment in &snapshot.segments {
            rows.push(segment.rows_of(keys, self.fields.key).map_err(self.failed("look up chunks"))?);
        }
        score::scores(&snapshot, text, &rows).map_err(self.failed("search"))
    }

    fn matching(&self, filter: &Filter) -> Result<Vec<ChunkKey>, LexicalError> {
        let snapshot = self.snapshot();
        let rows = self.filter_rows(&snapshot, filter)?;
        Ok(score::keys(&snapshot, Some(&rows)))
    }

    fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    fn len(&self) -> usize {
        self.snapshot().chunks
    }

    fn keys(&self) -> Result<Vec<ChunkKey>, LexicalError> {
        Ok(score::keys(&self.snapshot(), None))
    }

    fn rest(&self) -> Result<(), LexicalError> {
        self.release_writer()
    }
}

impl Drop for TantivyIndex {
    fn drop(&mut self) {
        let mut writing = std::mem::take(&mut *self.lock());
        self.discard_writer(&mut writing);
    }
}

/// What queries read: the segments of one commit.
pub(super) struct Snapshot {
    segments: Vec<Segment>,
    chunks: usize,
    /// The lengths of all chunks together, each as its length code says.
    tokens: u64,
}

/// One segment, opened for scoring and filtering.
pub(super) struct Segment {
    pub(super) reader: SegmentReader,
    pub(super) words: Arc<InvertedIndexReader>,
    /// The length code of each row.
    pub(super) lengths: Arc<[u8]>,
    keys: Arc<dyn ColumnValues<u64>>,
    key_terms: Arc<InvertedIndexReader>,
    filters: Arc<FilterCache>,
}

/// Filters evaluated lately. Rows of a segment never change (deletion only hides them), so an
/// entry stays true as long as the segment lives.
type FilterCache = Mutex<Vec<(Arc<str>, Arc<Rows>)>>;

/// What a segment keeps from one snapshot to the next.
#[derive(Clone)]
struct Parts {
    lengths: Arc<[u8]>,
    filters: Arc<FilterCache>,
}

impl Snapshot {
    fn take(reader: &IndexReader, fields: Fields, known: &HashMap<SegmentId, Parts>) -> ::tantivy::Result<Self> {
        let searcher = reader.searcher();
        let mut taken = Self { segments: Vec::new(), chunks: 0, tokens: 0 };
        for reader in searcher.segment_readers() {
            let words = reader.inverted_index(fields.words)?;
            let parts = match known.get(&reader.segment_id()) {
                Some(parts) => parts.clone(),
                None => {
                    let lengths = reader.get_fieldnorms_reader(fields.words)?;
                    Parts {
                        lengths: (0..reader.max_doc()).map(|row| lengths.fieldnorm_id(row)).collect(),
                        filters: Arc::default(),
                    }
                }
            };
            let alive = reader.doc_ids_alive().filter_map(|row| parts.lengths.get(row as usize));
            taken.tokens += alive.map(|code| u64::from(FieldNormReader::id_to_fieldnorm(*code))).sum::<u64>();
            taken.chunks += reader.num_docs() as usize;
            taken.segments.push(Segment {
                keys: reader.fast_fields().u64("key")?.values,
                key_terms: reader.inverted_index(fields.key)?,
                reader: reader.clone(),
                words,
                lengths: parts.lengths,
                filters: parts.filters,
            });
        }
        Ok(taken)
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How many chunks there are.
    pub(super) fn chunks(&self) -> usize {
        self.chunks
    }

    /// Terms a chunk has on average. Counted here, because tantivy's own count includes what is
    /// deleted, and then equal indexes would score differently by their history.
    pub(super) fn average_length(&self) -> f32 {
        (self.tokens as f64 / self.chunks.max(1) as f64).max(1.0) as f32
    }

    fn parts(&self) -> HashMap<SegmentId, Parts> {
        let parts = |segment: &Segment| Parts { lengths: segment.lengths.clone(), filters: segment.filters.clone() };
        self.segments.iter().map(|segment| (segment.reader.segment_id(), parts(segment))).collect()
    }

    fn sizes(&self) -> Vec<SegmentSize> {
        let size = |segment: &Segment| SegmentSize {
            id: segment.reader.segment_id(),
            alive: u64::from(segment.reader.num_docs()),
            deleted: u64::from(segment.reader.num_deleted_docs()),
        };
        self.segments.iter().map(size).collect()
    }

    fn contains(&self, key: &Term) -> ::tantivy::Result<bool> {
        for segment in &self.segments {
            if segment.row(key)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Segment {
    pub(super) fn key(&self, row: u32) -> ChunkKey {
        ChunkKey::new(self.keys.get_val(row))
    }

    /// The row of the chunk with this key, unless it is deleted or not here.
    fn row(&self, key: &Term) -> ::tantivy::Result<Option<u32>> {
        let Some(mut rows) = self.key_terms.read_postings(key, IndexRecordOption::Basic)? else { return Ok(None) };
        while rows.doc() != TERMINATED {
            if !self.reader.is_deleted(rows.doc()) {
                return Ok(Some(rows.doc()));
            }
            rows.advance();
        }
        Ok(None)
    }

    /// The rows of those of `keys` that are here, ascending.
    fn rows_of(&self, keys: &[ChunkKey], field: Field) -> ::tantivy::Result<Vec<u32>> {
        let mut rows = Vec::new();
        for key in keys {
            rows.extend(self.row(&Term::from_field_u64(field, key.get()))?);
        }
        rows.sort_unstable();
        rows.dedup();
        Ok(rows)
    }

    fn filter_rows(&self, name: &Arc<str>, filter: &Filter) -> ::tantivy::Result<Arc<Rows>> {
        let cached = |filters: &[(Arc<str>, Arc<Rows>)]| filters.iter().position(|(known, _)| known == name);
        {
            let mut filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(index) = cached(&filters) {
                // Used last, dropped last.
                let entry = filters.remove(index);
                let rows = entry.1.clone();
                filters.push(entry);
                return Ok(rows);
            }
        }
        let rows = Arc::new(attributes::matching_rows(&self.reader, filter)?);
        let mut filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        if cached(&filters).is_none() {
            if filters.len() >= CACHED_FILTERS {
                filters.remove(0);
            }
            filters.push((name.clone(), rows.clone()));
        }
        Ok(rows)
    }
}

struct SegmentSize {
    id: SegmentId,
    alive: u64,
    deleted: u64,
}

/// Which segments to merge into one: the smallest size of which there are enough, with
/// everything smaller; else one that is a quarter deleted.
fn segments_to_merge(sizes: &[SegmentSize]) -> Vec<SegmentId> {
    let level = |size: &SegmentSize| (size.alive / SMALL_SEGMENT_ROWS).max(1).ilog(MERGE_FACTOR);
    let ids_up_to =
        |most: u32| -> Vec<SegmentId> { sizes.iter().filter(|size| level(size) <= most).map(|size| size.id).collect() };
    let mut counts: HashMap<u32, u64> = HashMap::new();
    for size in sizes {
        *counts.entry(level(size)).or_default() += 1;
    }
    let crowded = counts.iter().filter(|(_, count)| **count >= MERGE_FACTOR).map(|(level, _)| *level);
    if let Some(level) = crowded.min() {
        return ids_up_to(level);
    }
    let hollow = sizes.iter().find(|size| size.deleted > 0 && size.deleted * 3 >= size.alive);
    hollow.map(|size| vec![size.id]).unwrap_or_default()
}

/// The schema; the tokenizer's name in it makes other rules another schema.
fn schema() -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let key = builder.add_u64_field("key", INDEXED | FAST);
    let words = TextFieldIndexing::default()
        .set_tokenizer(tokenizer::NAME)
        .set_index_option(IndexRecordOption::WithFreqs)
        .set_fieldnorms(true);
    let words = builder.add_text_field("words", TextOptions::default().set_indexing_options(words));
    let attributes = builder.add_json_field(attributes::FIELD, FAST);
    (builder.build(), Fields { key, words, attributes })
}

/// Makes the directory if need be, durably, and clears away what a crash left half-written.
fn prepare_directory(dir: &Path) -> io::Result<()> {
    if !dir.is_dir() {
        fs::create_dir_all(dir)?;
        if let Some(parent) = dir.parent() {
            sync_directory(parent)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(".tmp") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok());
    sizes.filter(fs::Metadata::is_file).map(|metadata| metadata.len()).sum()
}

/// What a commit says about itself, in its payload.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct State {
    /// How far in the outbox it is.
    position: u64,
    /// How many chunks there must be. `meta.json` has no checksum; this stands in for one.
    chunks: usize,
}

impl State {
    fn read(dir: &Path, index: &Index) -> Result<Self, LexicalError> {
        let metas = index.load_metas().map_err(|error| engine_error(dir, "read its state", error))?;
        match metas.payload {
            // Created, and nothing committed yet.
            None => Ok(Self::default()),
            Some(payload) => serde_json::from_str(&payload).map_err(|_| damaged(dir, "it does not say how far it is")),
        }
    }

    fn to_payload(&self) -> String {
        format!("{{\"position\":{},\"chunks\":{}}}", self.position, self.chunks)
    }

    fn check(&self, dir: &Path, snapshot: &Snapshot) -> Result<(), LexicalError> {
        if self.chunks == snapshot.chunks {
            return Ok(());
        }
        let reason = format!("it has {} chunks instead of {}", snapshot.chunks, self.chunks);
        Err(damaged(dir, &reason))
    }
}

fn check_files(dir: &Path, index: &Index) -> Result<(), LexicalError> {
    let broken = index.validate_checksum().map_err(|error| engine_error(dir, "check its files", error))?;
    match broken.iter().min() {
        None => Ok(()),
        Some(file) => Err(damaged(dir, &format!("{} is not what was written", file.display()))),
    }
}

fn damaged(dir: &Path, reason: &str) -> LexicalError {
    LexicalError::Damaged { dir: dir.to_owned(), reason: reason.to_owned() }
}

fn io_error(dir: &Path, action: &'static str, source: io::Error) -> LexicalError {
    LexicalError::Io { dir: dir.to_owned(), action, source }
}

/// Sorts an engine's error into: rebuild, try again, or a defect.
fn engine_error(dir: &Path, action: &'static str, error: TantivyError) -> LexicalError {
    let io = |error: Arc<io::Error>| io_error(dir, action, shared_io_error(&error));
    match error {
        TantivyError::IoError(error)
        | TantivyError::OpenReadError(OpenReadError::IoError { io_error: error, .. })
        | TantivyError::OpenWriteError(OpenWriteError::IoError { io_error: error, .. })
        | TantivyError::OpenDirectoryError(OpenDirectoryError::IoError { io_error: error, .. })
        | TantivyError::OpenDirectoryError(OpenDirectoryError::FailedToCreateTempDir(error))
        | TantivyError::LockFailure(::tantivy::directory::error::LockError::IoError(error), _)
            if !is_short_file(&error) =>
        {
            io(error)
        }
        TantivyError::IoError(_)
        | TantivyError::OpenReadError(_)
        | TantivyError::DataCorruption(_)
        | TantivyError::IncompatibleIndex(_)
        | TantivyError::DeserializeError(_) => damaged(dir, &error.to_string()),
        // The engine turns some failed writes into text.
        TantivyError::InternalError(reason) => io_error(dir, action, as_io_error(reason)),
        other => LexicalError::Engine { dir: dir.to_owned(), action, reason: other.to_string() },
    }
}

fn shared_io_error(error: &Arc<io::Error>) -> io::Error {
    match error.kind() {
        // The dictionary's builder wraps the reason in an error of its own that does not show it.
        io::ErrorKind::Other => as_io_error(format!("{error:?}")),
        kind => io::Error::new(kind, error.clone()),
    }
}

/// An error of which only the words are left.
fn as_io_error(reason: String) -> io::Error {
    let full = io::ErrorKind::StorageFull;
    let signs = [full.to_string(), format!("{full:?}"), "No space left".to_owned()];
    let is_full = signs.iter().any(|sign| reason.contains(sign));
    io::Error::new(if is_full { full } else { io::ErrorKind::Other }, reason)
}

/// A file that ends too soon, or whose bytes make no sense, does not get better by waiting.
fn is_short_file(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
}

#[cfg(test)]
mod tests;
