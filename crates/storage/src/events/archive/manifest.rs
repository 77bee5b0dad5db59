//! The manifest: which segments an archive has, in order, and what each of them is.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
};

use serde::{Deserialize, Serialize};

use super::{
    fault::ArchiveError,
    folder::{Folder, Found, unfinished},
    steps::{Step, reached},
};

/// The manifest's name.
pub(super) const MANIFEST: &str = "manifest.json";
/// The newest format that this program knows.
const VERSION: u64 = 1;
/// What the manifest says it is of.
const FORMAT: &str = "holdfast-events";
/// Bytes that a manifest may have; a segment takes well under a thousand.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// Positions that an archive may have. A log that goes on behind it must not run out of them, nor of numbers that every
/// reader of JSON takes as they are.
const POSITION_MAX: u64 = 1 << 52;

const PREFIX: &str = "events-";
const SUFFIX: &str = ".jsonl.zst";

/// Which segments an archive has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// In the order of their positions, without gaps between them.
    segments: Vec<Segment>,
}

/// What the manifest says of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The name of its file: `events-`, its first and its last position, how often it was written, `.jsonl.zst`.
    pub name: String,
    /// The first position that it stands for.
    pub first_position: u64,
    /// The last position that it stands for; the next segment begins behind it.
    pub last_position: u64,
    /// Events that it has. They are fewer than its positions where some were erased.
    pub count: u64,
    /// When the earliest of them happened; Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub earliest_at_ms: Option<i64>,
    /// When the latest of them happened.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latest_at_ms: Option<i64>,
    /// Bytes of its lines.
    pub raw_bytes: u64,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// BLAKE3 of its lines, in hexadecimal digits.
    pub raw_blake3: String,
    /// BLAKE3 of its file.
    pub file_blake3: String,
    /// How many events of which kind it has: of the most frequent kinds, where there are very many.
    pub kinds: BTreeMap<String, u64>,
    /// Events of any other kind.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub other_kinds: u64,
    /// That events were erased.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub erased: Option<ErasedBefore>,
    /// When its file was made.
    pub created_at_ms: i64,
    /// BLAKE3 of the entry before this one; nothing in the first.
    pub previous: Option<String>,
}

/// That events were erased from a segment. Whose they were is said nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasedBefore {
    /// How many, in all.
    pub count: u64,
    /// When the last time was; Unix milliseconds.
    pub at_ms: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What every format of a manifest has.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u64,
}

/// A manifest as it is stored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(rename = "format")]
    _format: String,
    #[serde(rename = "version")]
    _version: u64,
    head: Option<String>,
    segments: Vec<Segment>,
}

impl Segment {
    /// What a segment's file is called.
    pub(super) fn name_of(first: u64, last: u64, generation: u32) -> String {
        format!("{PREFIX}{first:020}-{last:020}.{generation}{SUFFIX}")
    }

    /// How often it was written: 1, and once more for each time that something was erased from it.
    pub(super) fn generation(&self) -> u32 {
        parts(&self.name).map_or(0, |(_, _, generation)| generation)
    }

    /// What the next entry calls it by.
    fn blake3(&self) -> Result<String, ArchiveError> {
        let entry = serde_json::to_vec(self).map_err(|_| ArchiveError::manifest("an entry is no JSON"))?;
        Ok(blake3::hash(&entry).to_hex().to_string())
    }

    /// What cannot be right about it.
    fn objection(&self) -> Option<&'static str> {
        let hashes = [Some(&self.raw_blake3), Some(&self.file_blake3), self.previous.as_ref()];
        let positions = self.last_position.checked_sub(self.first_position).and_then(|rest| rest.checked_add(1));
        let once_had = self.count.checked_add(self.erased.map_or(0, |erased| erased.count));
        let of_kinds = self.kinds.values().try_fold(self.other_kinds, |sum, count| sum.checked_add(*count));
        // The name is made from the positions and compared, so that none leads out of the folder.
        if parts(&self.name).map(|(first, last, _)| (first, last)) != Some((self.first_position, self.last_position)) {
            Some("the name of a segment is not made from its positions")
        } else if self.first_position == 0 || self.last_position > POSITION_MAX {
            Some("a segment has positions that there are not")
        } else if positions.is_none_or(|positions| once_had.is_none_or(|once_had| once_had > positions)) {
            Some("a segment has more events than positions")
        } else if of_kinds != Some(self.count) {
            Some("a segment has other kinds of events than events")
        } else if self.earliest_at_ms.is_some() != (self.count > 0) || self.latest_at_ms.is_some() != (self.count > 0) {
            Some("a segment has events without times, or times without events")
        } else if !hashes.into_iter().flatten().all(|hash| is_hash(hash)) {
            Some("a hash is none")
        } else {
            None
        }
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// First and last position and generation of a segment's name; nothing where it is none.
pub(super) fn parts(name: &str) -> Option<(u64, u64, u32)> {
    let rest = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let (positions, generation) = rest.split_once('.')?;
    let (first, last) = positions.split_once('-')?;
    let found = (first.parse().ok()?, last.parse().ok()?, generation.parse().ok()?);
    // One number has one form: a sign or another count of zeros makes no name of ours.
    (Segment::name_of(found.0, found.1, found.2) == name && found.0 > 0 && found.2 > 0).then_some(found)
}

impl Manifest {
    /// The segments, in the order of their positions.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The first position that the archive stands for; nothing where it has no segment.
    pub fn first_position(&self) -> Option<u64> {
        self.segments.first().map(|segment| segment.first_position)
    }

    /// The last position that the archive stands for.
    pub fn last_position(&self) -> Option<u64> {
        self.segments.last().map(|segment| segment.last_position)
    }

    /// The first segment that has positions behind one, and its place.
    pub(super) fn after(&self, position: u64) -> Option<(usize, &Segment)> {
        let at = self.segments.partition_point(|segment| segment.last_position <= position);
        Some((at, self.segments.get(at)?))
    }

    /// Adds a segment at the end.
    pub(super) fn push(&mut self, segment: Segment) -> Result<(), ArchiveError> {
        self.segments.push(segment);
        self.chain(self.segments.len() - 1)
    }

    /// Puts a segment in the place of another, and every later one behind it.
    pub(super) fn replace(&mut self, at: usize, segment: Segment) -> Result<(), ArchiveError> {
        if let Some(place) = self.segments.get_mut(at) {
            *place = segment;
        }
        self.chain(at)
    }

    /// Has the entries from a place on name those before them.
    fn chain(&mut self, from: usize) -> Result<(), ArchiveError> {
        let mut previous = match from.checked_sub(1).and_then(|before| self.segments.get(before)) {
            Some(before) => Some(before.blake3()?),
            None => None,
        };
        for segment in self.segments.iter_mut().skip(from) {
            segment.previous = previous;
            previous = Some(segment.blake3()?);
        }
        Ok(())
    }

    /// Whether there is one.
    pub(super) fn is_there(folder: &Folder) -> Result<bool, ArchiveError> {
        Ok(!matches!(folder.open(MANIFEST)?, Found::Nothing))
    }

    /// Reads the manifest of a folder; an empty one where there is nothing at all.
    pub(super) fn load(folder: &Folder) -> Result<Self, ArchiveError> {
        match folder.open(MANIFEST)? {
            Found::File(file, size_bytes) if size_bytes <= MANIFEST_BYTES_MAX => {
                let mut bytes = Vec::new();
                // It may be replaced while it is read, but not by more than may be.
                file.take(MANIFEST_BYTES_MAX + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|error| folder.failed("read", MANIFEST, error))?;
                Self::parse(&bytes)
            }
            Found::File(..) => Err(ArchiveError::manifest("it is too large")),
            Found::Other => Err(ArchiveError::manifest("it is no plain file")),
            Found::Nothing if folder.names()?.iter().any(|name| parts(name).is_some()) => Err(ArchiveError::NoManifest),
            Found::Nothing => Ok(Self::default()),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let head: Head = serde_json::from_slice(bytes).map_err(|_| ArchiveError::manifest("it is none"))?;
        if head.format != FORMAT {
            return Err(ArchiveError::manifest("it is of something else"));
        }
        if head.version > VERSION {
            return Err(ArchiveError::Newer { found: head.version, known: VERSION });
        }
        let stored: Stored =
            serde_json::from_slice(bytes).map_err(|_| ArchiveError::manifest("it is not of the right form"))?;
        let mut previous: Option<&Segment> = None;
        for segment in &stored.segments {
            if let Some(objection) = segment.objection() {
                return Err(ArchiveError::manifest(objection));
            }
            if previous.is_some_and(|previous| previous.last_position + 1 != segment.first_position) {
                return Err(ArchiveError::manifest("a segment does not begin where the one before it ends"));
            }
            if previous.map(Segment::blake3).transpose()? != segment.previous {
                return Err(ArchiveError::manifest("an entry does not name the one before it"));
            }
            previous = Some(segment);
        }
        if previous.map(Segment::blake3).transpose()? != stored.head {
            return Err(ArchiveError::manifest("its last entry is not the one it had"));
        }
        Ok(Self { segments: stored.segments })
    }

    /// It as JSON, a segment on a line.
    fn to_json(&self) -> Result<Vec<u8>, ArchiveError> {
        let head = self.segments.last().map(Segment::blake3).transpose()?;
        let no_json = |_| ArchiveError::manifest("it cannot be told in JSON");
        let mut json = format!("{{\"format\":\"{FORMAT}\",\"version\":{VERSION},\"head\":").into_bytes();
        serde_json::to_writer(&mut json, &head).map_err(no_json)?;
        json.extend_from_slice(b",\"segments\":[");
        for (at, segment) in self.segments.iter().enumerate() {
            json.extend_from_slice(if at == 0 { b"\n" } else { b",\n" });
            serde_json::to_writer(&mut json, segment).map_err(no_json)?;
        }
        json.extend_from_slice(b"\n]}\n");
        Ok(json)
    }

    /// Puts it in the place of the folder's manifest. On disk, and read back, when it returns.
    pub(super) fn save(&self, folder: &Folder) -> Result<(), ArchiveError> {
        let json = self.to_json()?;
        if json.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(ArchiveError::manifest("it would be too large"));
        }
        let mut file = folder.begin(MANIFEST)?;
        let written = file.write_all(&json).map_err(|error| folder.failed("write", MANIFEST, error));
        if let Err(error) = written.and_then(|()| folder.sync_file(MANIFEST, &file)) {
            // What is left takes room from others.
            let _ = folder.remove(&unfinished(MANIFEST));
            return Err(error.into());
        }
        reached(Step::ManifestWritten);
        folder.finish(MANIFEST)?;
        if Self::load(folder)? != *self {
            return Err(ArchiveError::manifest("what was read is not what was written"));
        }
        Ok(())
    }
}
