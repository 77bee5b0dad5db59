//! What is known of all files of a folder, and what is taken of them next: a batch of events with the marks that go with it.
//!
//! A reader runs ahead of what is durable by one batch: what it knows of a file is how it will be when the batch it gave
//! out last is written. Where that fails, everything is begun again from the marks.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use holdfast_storage::events::{APPEND_BYTES_MAX, APPEND_EVENTS_MAX, Before, MARKS_MAX, Mark, NewEvent};
use serde_json::json;
use tokio::time::Instant;

use super::{
    FollowedFile, GAP_FOUND, Settings, Taken,
    dead_letters::{Bounds, DeadLetters},
    folder::Stamp,
    long_line::LongLine,
    record::{Digest, Key, Record},
};
use crate::line::Rules;

/// Bytes that are read for one batch: lines that are there do not wait for a line that has no end.
const READ_BYTES_MAX: u64 = 32 << 20;

/// A file that is read, or was.
#[derive(Debug)]
pub(super) struct Followed {
    pub record: Record,
    /// What its mark is, once the batches that were given out are written.
    stored: Option<Vec<u8>>,
    /// Up to where it is read durably.
    durable: u64,
    /// How the listing had it when it was last known to be the same.
    pub stamp: Option<Stamp>,
    /// Its lines are taken up to where it was last seen; what follows, if anything, is half a line.
    pub is_drained: bool,
    /// Up to where it is read before the next look.
    pub until: u64,
    /// It cannot be opened or judged in this look.
    pub is_blocked: bool,
    /// A line of it that is too long, as far as it was looked at.
    pub long: Option<LongLine>,
    /// Since when it is not in the folder, and for how many looks.
    pub missing: Option<(Instant, u32)>,
    /// How much of it stands in a copy that is read.
    pub covered: u64,
    /// What it was called at the look before, where that was something else.
    pub former_name: Option<String>,
}

impl Followed {
    pub fn new(record: Record) -> Self {
        Self {
            record,
            stored: None,
            durable: 0,
            stamp: None,
            is_drained: false,
            until: 0,
            is_blocked: false,
            long: None,
            missing: None,
            covered: 0,
            former_name: None,
        }
    }

    /// It is a copy of a file that is read itself.
    pub fn is_waiting(&self) -> bool {
        self.record.copy_of.is_some()
    }

    /// Bytes that were seen in it and stand nowhere else, and are not taken.
    pub fn bytes_missing(&self) -> u64 {
        if self.is_waiting() { 0 } else { self.record.seen.saturating_sub(self.record.position.max(self.covered)) }
    }
}

/// Why bytes that were seen can never be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The file was cut off, or begun anew.
    Truncated,
    /// Its inode is that of another file.
    Replaced,
    /// It is gone.
    Deleted,
}

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Replaced => "replaced",
            Self::Deleted => "deleted",
        }
    }
}

/// Bytes that were seen and can never be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    file: String,
    inode: u64,
    generation: u32,
    /// Up to where the file was taken.
    read_to: u64,
    /// How large it was the last time it was looked at.
    seen: u64,
    bytes: u64,
    cause: Cause,
}

impl Gap {
    /// Nothing where nothing is missing.
    pub fn of(key: Key, record: &Record, bytes: u64, cause: Cause) -> Option<Self> {
        (bytes > 0).then(|| Self {
            file: record.name.clone(),
            inode: key.inode,
            generation: record.generation,
            read_to: record.position,
            seen: record.seen,
            bytes,
            cause,
        })
    }

    fn event(&self, rules: &Rules, now_ms: i64) -> NewEvent {
        let numbers = [self.inode, u64::from(self.generation), self.read_to, self.seen, self.bytes];
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let body = json!({
            "file": self.file,
            "inode": self.inode,
            "read_to": self.read_to,
            "seen": self.seen,
            "bytes": self.bytes,
            "cause": self.cause.as_str(),
        });
        NewEvent {
            id: Digest::of(&[b"gap", &numbers, &now_ms.to_le_bytes()]).uuid(),
            kind: Cow::Borrowed(GAP_FOUND),
            version: 1,
            tenant: Arc::clone(&rules.tenant),
            interaction: None,
            session: None,
            caller: Arc::clone(&rules.caller),
            at_ms: now_ms,
            body: body.to_string().into_bytes(),
        }
    }
}

/// Something to be stored that is not lines.
#[derive(Debug)]
pub(super) struct Notice {
    pub key: Key,
    pub gap: Option<Gap>,
    pub then: Then,
}

/// What becomes of the mark of a file.
#[derive(Debug)]
pub(super) enum Then {
    /// It is what is known of the file now.
    Store,
    /// The same, of a file that was begun anew.
    BeginAnew,
    /// It goes; what it was last.
    Remove(Option<Vec<u8>>),
}

/// What is written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub events: Vec<NewEvent>,
    pub marks: Vec<Mark>,
    /// What is taken with it.
    pub taken: Taken,
    /// Up to where files are read once it is durable.
    pub positions: Vec<(Key, Option<Digest>, u64)>,
    /// Lines that were looked at, whether events or letters.
    lines: usize,
    bytes: usize,
    /// Bytes that were read for it, whatever came of them.
    read_bytes: u64,
    touched: BTreeSet<Key>,
    is_full: bool,
}

impl Batch {
    pub fn has_room(&self) -> bool {
        // The sums have a mark too.
        !self.is_full
            && self.lines < APPEND_EVENTS_MAX
            && self.read_bytes < READ_BYTES_MAX
            && self.touched.len() + self.marks.len() + 1 < MARKS_MAX
    }

    /// Notes what was read.
    pub fn note_read(&mut self, bytes: u64) {
        self.read_bytes += bytes;
    }

    /// Whether there is room for an event; where there is none, the batch is full.
    pub fn fits(&mut self, event: &NewEvent) -> bool {
        self.is_full |= self.bytes + event.body.len() > APPEND_BYTES_MAX;
        !self.is_full
    }

    /// Takes a line that is an event.
    pub fn add(&mut self, event: NewEvent) {
        self.bytes += event.body.len();
        self.lines += 1;
        self.events.push(event);
    }

    /// Takes a line that is none.
    pub fn add_letter(&mut self) {
        self.lines += 1;
    }

    /// Gives back the events behind the first of them.
    pub fn cut(&mut self, events: usize) {
        let cut = self.events.split_off(events.min(self.events.len()));
        self.bytes -= cut.iter().map(|event| event.body.len()).sum::<usize>();
    }

    pub fn touch(&mut self, key: Key) {
        self.touched.insert(key);
    }
}

/// How it is with a folder's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub files: usize,
    pub bytes_unread: u64,
    pub copies_waiting: usize,
    pub passed_over: usize,
    pub left_out: usize,
}

pub(super) struct Reader {
    pub(super) path: PathBuf,
    pub(super) settings: Arc<Settings>,
    pub(super) rules: Rules,
    pub(super) files: BTreeMap<Key, Followed>,
    pub(super) dead_letters: DeadLetters,
    totals: Taken,
    totals_stored: Option<Vec<u8>>,
    pub(super) folder: Option<OwnedFd>,
    pub(super) notices: VecDeque<Notice>,
    /// Files that have lines, in the order in which they have their turns.
    pub(super) queue: VecDeque<Key>,
    pub(super) buffer: Vec<u8>,
    /// Something changed while it was looked at: another look finds more.
    pub(super) is_again: bool,
    /// What went wrong with one of the files in this pass.
    pub(super) trouble: Option<String>,
    pub(super) passed_over: usize,
    pub(super) left_out: usize,
    /// What is known here is not what the marks are.
    pub(super) is_stale: bool,
}

impl Reader {
    pub fn new(path: PathBuf, settings: Arc<Settings>) -> Self {
        let rules = Rules {
            tenant: Arc::from(settings.tenant.as_str()),
            caller: Arc::from(settings.caller.as_str()),
            is_known_whose: false,
            // Longer than a clock is off that somebody sets right.
            ahead_max_ms: 24 * 60 * 60 * 1_000,
            reserved_kinds: settings.reserved_kinds.clone(),
        };
        let bounds =
            Bounds { file_bytes_max: settings.dead_letter_file_bytes_max, bytes_max: settings.dead_letters_bytes_max };
        Self {
            path,
            settings,
            rules,
            files: BTreeMap::new(),
            dead_letters: DeadLetters::new(bounds),
            totals: Taken::default(),
            totals_stored: None,
            folder: None,
            notices: VecDeque::new(),
            queue: VecDeque::new(),
            buffer: Vec::new(),
            is_again: false,
            trouble: None,
            passed_over: 0,
            left_out: 0,
            is_stale: true,
        }
    }

    /// Knows what the marks say, and nothing else that would contradict them.
    ///
    /// # Errors
    /// The name of a mark that cannot be read: to go on without it would be to read its file once more.
    pub fn load(&mut self, marks: Vec<(String, Vec<u8>)>) -> Result<(), String> {
        let prefix = self.settings.mark_prefix();
        let mut before = std::mem::take(&mut self.files);
        (self.totals, self.totals_stored) = (Taken::default(), None);
        self.notices.clear();
        self.queue.clear();
        for (name, value) in marks {
            let suffix = name.strip_prefix(&prefix).unwrap_or_default();
            if suffix == TOTALS {
                self.totals = serde_json::from_slice(&value).map_err(|_| name.clone())?;
                self.totals_stored = Some(value);
                continue;
            }
            let (Some(key), Some(record)) = (Key::from_suffix(suffix), Record::decode(&value)) else {
                return Err(name);
            };
            let mut followed = Followed::new(record);
            if let Some(before) = before.remove(&key) {
                followed.missing = before.missing;
                // What it was seen to have is still true, if it is the file that the mark means.
                if before.record.generation == followed.record.generation && !before.is_waiting() {
                    followed.record.seen = followed.record.seen.max(before.record.seen);
                }
            }
            followed.durable = followed.record.position;
            followed.stored = Some(value);
            self.files.insert(key, followed);
        }
        self.is_stale = false;
        Ok(())
    }

    /// What is taken next, with its letters written; nothing once all is taken that the last look saw. It is empty where
    /// much was read that came to nothing yet.
    pub fn batch(&mut self) -> Option<Batch> {
        let batch = self.gather();
        let is_over = self.queue.is_empty() && self.notices.is_empty();
        (!batch.events.is_empty() || !batch.marks.is_empty() || !is_over).then_some(batch)
    }

    fn gather(&mut self) -> Batch {
        let mut batch = Batch::default();
        let now_ms = now_ms();
        while batch.has_room()
            && let Some(notice) = self.notices.pop_front()
        {
            self.tell(notice, &mut batch, now_ms);
        }
        while batch.has_room()
            && let Some(key) = self.queue.pop_front()
        {
            match self.turn(key, &mut batch, now_ms) {
                Ok(Turn::More) => self.queue.push_back(key),
                Ok(Turn::Done) => {}
                Ok(Turn::Again) => self.is_again = true,
                Err(error) => self.note_trouble(key, &error),
            }
        }
        self.finish(batch)
    }

    pub(super) fn note_trouble(&mut self, key: Key, error: &io::Error) {
        let name = self.files.get(&key).map_or("a file", |followed| followed.record.name.as_str());
        self.trouble = Some(format!("{name:?}: {error}"));
    }

    fn tell(&mut self, notice: Notice, batch: &mut Batch, now_ms: i64) {
        if let Some(gap) = notice.gap {
            tracing::warn!(
                file = gap.file,
                bytes = gap.bytes,
                cause = gap.cause.as_str(),
                "lines of a drop folder were gone before they were read"
            );
            batch.taken.gaps += 1;
            batch.taken.gap_bytes += gap.bytes;
            batch.lines += 1;
            batch.events.push(gap.event(&self.rules, now_ms));
        }
        match notice.then {
            Then::Store => batch.touch(notice.key),
            Then::BeginAnew => {
                batch.taken.begun_anew += 1;
                batch.touch(notice.key);
            }
            Then::Remove(None) => {}
            Then::Remove(Some(stored)) => {
                let name = self.mark_name(notice.key);
                batch.marks.push(Mark { name, before: Before::Value(stored), value: None });
            }
        }
    }

    fn mark_name(&self, key: Key) -> String {
        self.settings.mark_prefix() + &key.suffix()
    }

    /// Gives the batch its marks.
    fn finish(&mut self, mut batch: Batch) -> Batch {
        for key in std::mem::take(&mut batch.touched) {
            let name = self.mark_name(key);
            let Some(followed) = self.files.get_mut(&key) else { continue };
            let value = followed.record.encode();
            batch.positions.push((key, followed.record.id, followed.record.position));
            if followed.stored.as_ref() != Some(&value) {
                let before = before(followed.stored.replace(value.clone()));
                batch.marks.push(Mark { name, before, value: Some(value) });
            }
        }
        if batch.taken != Taken::default() {
            self.totals.add(&batch.taken);
            let value = self.totals.encode();
            let before = before(self.totals_stored.replace(value.clone()));
            batch.marks.push(Mark { name: self.settings.mark_prefix() + TOTALS, before, value: Some(value) });
        }
        batch
    }

    /// A batch is durable.
    pub fn committed(&mut self, positions: &[(Key, Option<Digest>, u64)]) {
        for (key, id, position) in positions {
            if let Some(followed) = self.files.get_mut(key) {
                followed.durable = *position;
            }
            if let Some(id) = id {
                self.dead_letters.taken(*id, *position);
            }
        }
    }

    /// Up to where files are read durably, by the ids that their letters bear.
    pub(super) fn durable(files: &BTreeMap<Key, Followed>) -> HashMap<Digest, u64> {
        files.values().filter_map(|followed| Some((followed.record.id?, followed.durable))).collect()
    }

    /// What was taken since the folder was first read.
    pub fn totals(&self) -> &Taken {
        &self.totals
    }

    pub fn figures(&self) -> Figures {
        let present = || self.files.values().filter(|followed| followed.missing.is_none());
        Figures {
            files: present().count(),
            bytes_unread: present().filter(|file| !file.is_waiting()).map(|file| file.record.unread()).sum(),
            copies_waiting: present().filter(|file| file.is_waiting()).count(),
            passed_over: self.passed_over,
            left_out: self.left_out,
        }
    }

    /// The inodes that are known.
    pub(super) fn inodes(&self) -> HashSet<u64> {
        self.files.keys().map(|key| key.inode).collect()
    }

    /// Forgets a file, and what its mark is to be removed by.
    pub(super) fn remove(&mut self, key: Key) -> Option<(Followed, Then)> {
        let mut followed = self.files.remove(&key)?;
        if let Some(id) = followed.record.id {
            self.dead_letters.taken(id, u64::MAX);
        }
        let then = Then::Remove(followed.stored.take());
        Some((followed, then))
    }
}

/// What a turn of a file came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has more lines.
    More,
    /// It has none that the last look saw.
    Done,
    /// It is not the file that the last look saw.
    Again,
}

/// How the name of the mark ends that has the sums.
pub(super) const TOTALS: &str = "totals";

fn before(stored: Option<Vec<u8>>) -> Before {
    stored.map_or(Before::Absent, Before::Value)
}

/// Files as their marks have them.
pub(super) fn followed_files(marks: Vec<(String, Vec<u8>)>, prefix: &str) -> Vec<FollowedFile> {
    let file = |(name, value): (String, Vec<u8>)| {
        let key = Key::from_suffix(name.strip_prefix(prefix)?)?;
        let record = Record::decode(&value)?;
        Some(FollowedFile {
            name: record.name,
            device: key.device,
            inode: key.inode,
            position: record.position,
            seen: record.seen,
            is_copy: record.copy_of.is_some(),
        })
    };
    marks.into_iter().filter_map(file).collect()
}

/// Unix milliseconds by the system's clock.
pub(super) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
