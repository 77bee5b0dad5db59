//! Segments as files: written once, and read line by line with bounded memory.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, Seek, Write},
};

use zstd::{
    stream::{read::Decoder, write::Encoder},
    zstd_safe::CParameter,
};

use super::{
    fault::{ArchiveError, SegmentFault},
    folder::{Folder, Found, unfinished},
    line::{self, LINE_BYTES_MAX, Line, Names},
    manifest::Segment,
    steps::{Step, reached},
};
use crate::{StorageError, events::Event};

/// Bytes of lines that are hashed and compressed at a time: BLAKE3 is at its best with many. In tests a line may be longer.
const BATCH_BYTES: usize = if cfg!(test) { 4 << 10 } else { 256 << 10 };
/// Kinds that the manifest names of one segment.
const KINDS_LISTED_MAX: usize = 256;
/// The largest window that is read: what `zstd` itself takes without being asked to, 128 MiB.
const WINDOW_LOG_MAX: u32 = 27;

/// How segments are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// How hard zstd tries.
    pub level: i32,
    /// The base-2 logarithm of how far back zstd looks, in bytes; who reads needs so much memory.
    pub window_log: u32,
    /// The shortest repetition that zstd looks for. Between the parts that come again, events have random ids, and what is
    /// short and equal in those is chance.
    pub match_bytes_min: u32,
    /// Bytes of lines after which a segment ends.
    pub raw_bytes: u64,
    /// Events after which it ends.
    pub events: u64,
}

impl Default for Shape {
    /// Measured in `docs/decisions/0030-event-archive.md`.
    fn default() -> Self {
        Self { level: 9, window_log: 24, match_bytes_min: 6, raw_bytes: 64 << 20, events: 1 << 17 }
    }
}

/// What was found of events on the way.
#[derive(Debug, Default)]
struct Tally {
    count: u64,
    times: Option<(i64, i64)>,
    kinds: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, kind: &str, at_ms: i64) {
        self.count += 1;
        let (earliest, latest) = self.times.unwrap_or((at_ms, at_ms));
        self.times = Some((earliest.min(at_ms), latest.max(at_ms)));
        match self.kinds.get_mut(kind) {
            Some(count) => *count += 1,
            None => drop(self.kinds.insert(kind.to_owned(), 1)),
        }
    }

    /// The kinds that are listed, and how many events are of others.
    fn listed(&self) -> (BTreeMap<String, u64>, u64) {
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        // Equally frequent ones stay in the order of their names.
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let others = kinds.iter().skip(KINDS_LISTED_MAX).map(|(_, count)| **count).sum();
        let listed = kinds.into_iter().take(KINDS_LISTED_MAX);
        (listed.map(|(kind, count)| (kind.clone(), *count)).collect(), others)
    }
}

/// A segment that is being written. Dropped before its end, it leaves nothing behind.
pub(super) struct Writer<'a> {
    folder: &'a Folder,
    name: String,
    /// Nothing once it has ended.
    encoder: Option<Encoder<'static, Hashed>>,
    /// Lines that are not compressed yet.
    lines: Vec<u8>,
    hasher: blake3::Hasher,
    raw_bytes: u64,
    tally: Tally,
}

impl<'a> Writer<'a> {
    /// Begins the segment that will have a name.
    pub fn begin(folder: &'a Folder, name: String, shape: Shape) -> Result<Self, StorageError> {
        let file = Hashed { file: folder.begin(&name)?, hasher: blake3::Hasher::new(), bytes: 0 };
        let failed = |error| folder.failed("compress", &name, error);
        let mut encoder = Encoder::new(file, shape.level).map_err(failed)?;
        let parameters = [
            CParameter::WindowLog(shape.window_log),
            CParameter::MinMatch(shape.match_bytes_min),
            CParameter::ChecksumFlag(true),
        ];
        for parameter in parameters {
            encoder.set_parameter(parameter).map_err(failed)?;
        }
        Ok(Self {
            folder,
            name,
            encoder: Some(encoder),
            lines: Vec::with_capacity(BATCH_BYTES + LINE_BYTES_MAX),
            hasher: blake3::Hasher::new(),
            raw_bytes: 0,
            tally: Tally::default(),
        })
    }

    /// Adds an event. They come in the order of their positions.
    pub fn add(&mut self, event: &Event) -> Result<(), ArchiveError> {
        line::write(event, &mut self.lines)
            .map_err(|_| StorageError::Unreadable { what: "an event that is to be archived" })?;
        self.tally.add(&event.kind, event.at_ms);
        self.compress_some()
    }

    /// Adds a line as it stood in another segment, without its end.
    pub fn add_line(&mut self, raw: &[u8], line: &Line<'_>) -> Result<(), ArchiveError> {
        self.lines.extend_from_slice(raw);
        self.lines.push(b'\n');
        self.tally.add(&line.kind, line.at_ms);
        self.compress_some()
    }

    fn compress_some(&mut self) -> Result<(), ArchiveError> {
        if self.lines.len() >= BATCH_BYTES {
            self.compress()?;
            reached(Step::SegmentBegun);
        }
        Ok(())
    }

    fn compress(&mut self) -> Result<(), StorageError> {
        self.hasher.update(&self.lines);
        self.raw_bytes += self.lines.len() as u64;
        if let Some(encoder) = &mut self.encoder {
            encoder.write_all(&self.lines).map_err(|error| self.folder.failed("write", &self.name, error))?;
        }
        self.lines.clear();
        Ok(())
    }

    /// Ends it, has it reach the disk, reads it back from there, and gives it its name.
    pub fn finish(mut self, first: u64, last: u64, created_at_ms: i64) -> Result<Segment, ArchiveError> {
        self.compress()?;
        let Some(encoder) = self.encoder.take() else { return Err(StorageError::Closed.into()) };
        let written = encoder.finish().map_err(|error| self.folder.failed("write", &self.name, error));
        let segment = written.map_err(ArchiveError::from).and_then(|file| {
            self.folder.sync_file(&self.name, &file.file)?;
            let segment = self.told(first, last, created_at_ms, &file);
            Lines::open_as(self.folder, &unfinished(&self.name), &segment)?.check()?;
            reached(Step::SegmentWritten);
            Ok(segment)
        });
        let named = segment.and_then(|segment| {
            self.folder.finish(&self.name)?;
            reached(Step::SegmentNamed);
            Ok(segment)
        });
        if named.is_err() {
            let _ = self.folder.remove(&unfinished(&self.name));
        }
        named
    }

    fn told(&self, first: u64, last: u64, created_at_ms: i64, file: &Hashed) -> Segment {
        let (kinds, other_kinds) = self.tally.listed();
        Segment {
            name: self.name.clone(),
            first_position: first,
            last_position: last,
            count: self.tally.count,
            earliest_at_ms: self.tally.times.map(|(earliest, _)| earliest),
            latest_at_ms: self.tally.times.map(|(_, latest)| latest),
            raw_bytes: self.raw_bytes,
            file_bytes: file.bytes,
            raw_blake3: self.hasher.finalize().to_hex().to_string(),
            file_blake3: file.hasher.finalize().to_hex().to_string(),
            kinds,
            other_kinds,
            erased: None,
            created_at_ms,
            previous: None,
        }
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if self.encoder.is_some() {
            // What stays all the same is removed by the next who writes.
            let _ = self.folder.remove(&unfinished(&self.name));
        }
    }
}

/// A file, with the hash of what is written to it.
struct Hashed {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The lines of a segment, in order. The file's hash is known to be right before the first, and everything else the
/// manifest says before the end: an end that is reached without an error is the end of what was written.
pub(super) struct Lines {
    segment: Segment,
    decoder: Decoder<'static, BufReader<File>>,
    buffer: Vec<u8>,
    /// What of the buffer is filled and was not given out,
    start: usize,
    end: usize,
    /// and how much of that has no end of a line.
    searched: usize,
    number: u64,
    last_position: u64,
    raw_bytes: u64,
    hasher: blake3::Hasher,
    tally: Tally,
}

impl Lines {
    /// Opens a segment.
    ///
    /// # Errors
    /// [`ArchiveError::Segment`] where its file is not the one that the manifest names.
    pub fn open(folder: &Folder, segment: &Segment) -> Result<Self, ArchiveError> {
        Self::open_as(folder, &segment.name, segment)
    }

    fn open_as(folder: &Folder, name: &str, segment: &Segment) -> Result<Self, ArchiveError> {
        let fault = |fault: SegmentFault| fault.of(&segment.name);
        let (mut file, found) = match folder.open(name)? {
            Found::File(file, size_bytes) => (file, size_bytes),
            Found::Other => return Err(fault(SegmentFault::NotAFile)),
            Found::Nothing => return Err(fault(SegmentFault::Missing)),
        };
        if found != segment.file_bytes {
            return Err(fault(SegmentFault::Size { expected: segment.file_bytes, found }));
        }
        let failed = |error| folder.failed("read", name, error);
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&mut file).map_err(failed)?;
        if *hasher.finalize().to_hex() != *segment.file_blake3 {
            return Err(fault(SegmentFault::FileHash));
        }
        file.rewind().map_err(failed)?;
        let mut decoder = Decoder::new(file).map_err(failed)?;
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(failed)?;
        Ok(Self {
            segment: segment.clone(),
            decoder,
            buffer: vec![0; BATCH_BYTES],
            start: 0,
            end: 0,
            searched: 0,
            number: 0,
            last_position: segment.first_position - 1,
            raw_bytes: 0,
            hasher: blake3::Hasher::new(),
            tally: Tally::default(),
        })
    }

    /// The segment.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The next line, without its end, and what it says; nothing after the last.
    pub fn next(&mut self) -> Result<Option<(&[u8], Line<'_>)>, ArchiveError> {
        let Some((start, end)) = self.next_bounds()? else {
            self.check_end().map_err(|what| SegmentFault::Lines { what }.of(&self.segment.name))?;
            return Ok(None);
        };
        self.number += 1;
        let Self { segment, buffer, number, last_position, tally, .. } = self;
        let raw = &buffer[start..end];
        let bad = |problem| SegmentFault::Line { number: *number, problem }.of(&segment.name);
        let line = Line::parse(raw).map_err(bad)?;
        line.check().map_err(bad)?;
        if line.position <= *last_position || line.position > segment.last_position {
            return Err(bad("its position is not one of those that may come"));
        }
        *last_position = line.position;
        tally.add(&line.kind, line.at_ms);
        Ok(Some((raw, line)))
    }

    /// The next event; nothing after the last.
    pub fn next_event(&mut self, names: &mut Names) -> Result<Option<Event>, ArchiveError> {
        match self.next()? {
            None => Ok(None),
            // What cannot be read was refused with the line.
            Some((_, line)) => match line.event(names) {
                Ok(event) => Ok(Some(event)),
                Err(problem) => {
                    let number = self.number;
                    Err(SegmentFault::Line { number, problem }.of(&self.segment.name))
                }
            },
        }
    }

    /// Goes to the end, which shows that nothing of it is damaged.
    pub fn check(mut self) -> Result<(), ArchiveError> {
        while self.next()?.is_some() {}
        Ok(())
    }

    /// Where in the buffer the next line is.
    fn next_bounds(&mut self) -> Result<Option<(usize, usize)>, ArchiveError> {
        loop {
            let unsearched = &self.buffer[self.start + self.searched..self.end];
            if let Some(length) = memchr::memchr(b'\n', unsearched) {
                let bounds = (self.start, self.start + self.searched + length);
                (self.start, self.searched) = (bounds.1 + 1, 0);
                return Ok(Some(bounds));
            }
            self.searched = self.end - self.start;
            if self.fill()? == 0 {
                let fault = SegmentFault::Lines { what: "the last line has no end" };
                return if self.searched == 0 { Ok(None) } else { Err(fault.of(&self.segment.name)) };
            }
        }
    }

    /// Reads on, and returns how many bytes came.
    fn fill(&mut self) -> Result<usize, ArchiveError> {
        let fault = |fault: SegmentFault| fault.of(&self.segment.name);
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.buffer.len() {
            if self.end > LINE_BYTES_MAX {
                let number = self.number + 1;
                return Err(fault(SegmentFault::Line { number, problem: "it is too long" }));
            }
            self.buffer.resize(self.end * 2, 0);
        }
        let read = match self.decoder.read(&mut self.buffer[self.end..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return self.fill(),
            // What the system says is about the disk, anything else about the bytes.
            Err(error) if error.raw_os_error().is_some() => {
                return Err(StorageError::File {
                    action: "read",
                    path: self.segment.name.clone().into(),
                    source: error,
                }
                .into());
            }
            Err(_) => return Err(fault(SegmentFault::Compression)),
        };
        self.hasher.update(&self.buffer[self.end..self.end + read]);
        self.raw_bytes += read as u64;
        // What is small compressed may be without end.
        if self.raw_bytes > self.segment.raw_bytes {
            return Err(fault(SegmentFault::Lines { what: "they are longer" }));
        }
        self.end += read;
        Ok(read)
    }

    /// Whether everything was there that the manifest speaks of.
    fn check_end(&self) -> Result<(), &'static str> {
        let Self { segment, tally, .. } = self;
        if self.raw_bytes != segment.raw_bytes {
            Err("they are shorter")
        } else if *self.hasher.finalize().to_hex() != *segment.raw_blake3 {
            Err("their hash is another")
        } else if tally.count != segment.count {
            Err("they are more or fewer")
        } else if tally.times.unzip() != (segment.earliest_at_ms, segment.latest_at_ms) {
            Err("they are of other times")
        } else if tally.listed() != (segment.kinds.clone(), segment.other_kinds) {
            Err("they are of other kinds")
        } else {
            Ok(())
        }
    }
}
