//! How far a file is read, as it stands in its mark, and how it is known to be the same file still.
//!
//! A device and an inode do not make a file: the inode of one that was removed is given to the next, and one that was
//! truncated is another though nothing about it changed. What makes it the same is that what was taken of it is still
//! there. Its beginning and the bytes before the position stand for that: 256 of each, as hashes.

use std::{
    fmt,
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes at the beginning, and before the position, that tell whether a file is still the same.
pub(super) const END_BYTES: u64 = 256;
/// The form of what stands in a mark.
const FORM: u8 = 1;

/// Which file it is by the word of the file system, which gives numbers out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Key {
    pub device: u64,
    pub inode: u64,
}

impl Key {
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// As it ends the name of a mark.
    pub fn suffix(self) -> String {
        format!("{:x}/{:x}", self.device, self.inode)
    }

    pub fn from_suffix(suffix: &str) -> Option<Self> {
        let (device, inode) = suffix.split_once('/')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(Self { device: number(device)?, inode: number(inode)? })
    }
}

/// The first half of a BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Digest([u8; 16]);

impl Digest {
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        let mut half = [0; 16];
        half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(half)
    }

    /// The id of an event that has none, which begins at an offset of the file that this stands for.
    pub fn event_id(self, offset: u64) -> Uuid {
        Self::of(&[b"event", &self.0, &offset.to_le_bytes()]).uuid()
    }

    /// A UUID of this program's own making (version 8 of RFC 9562).
    pub fn uuid(self) -> Uuid {
        uuid::Builder::from_custom_bytes(self.0).into_uuid()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(|number| Self(number.to_be_bytes()))
    }
}

/// How far a file is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    form: u8,
    /// What it was called last.
    pub name: String,
    /// When it was made, where the file system knows: in nanoseconds since 1970.
    pub born_ns: Option<i64>,
    /// How often it was begun anew under its inode.
    pub generation: u32,
    /// What the ids of its events are made of, once its first line is complete.
    pub id: Option<Digest>,
    /// Up to where its lines are taken: the beginning of a line.
    pub position: u64,
    /// How large it was the last time that it was known to be the same.
    pub seen: u64,
    /// How many bytes of its beginning the hash is of.
    head_bytes: u64,
    head: Digest,
    /// Of the bytes before the position.
    tail: Digest,
    /// It is a copy of another one, of which nothing is taken before that one ends.
    pub copy_of: Option<Key>,
}

/// The bytes at both ends of what was taken.
#[derive(Debug)]
pub(super) struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Record {
    /// Of a file of which nothing was taken.
    pub fn fresh(name: &str, file: &File, generation: u32) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let mut record = Self {
            form: FORM,
            name: name.to_owned(),
            born_ns: born_ns(&metadata),
            generation,
            id: None,
            position: 0,
            seen: 0,
            head_bytes: 0,
            head: Digest::of(&[]),
            tail: Digest::of(&[]),
            copy_of: None,
        };
        record.glimpse(file, metadata.len())?;
        Ok(record)
    }

    /// Whether nothing was taken.
    pub fn is_fresh(&self) -> bool {
        self.position == 0 && self.id.is_none()
    }

    /// Notes a size, and how a file begins of which nothing was taken.
    pub fn glimpse(&mut self, file: &File, size: u64) -> io::Result<()> {
        if self.position == 0 && self.head_bytes < END_BYTES {
            let head = read_range(file, 0, size.min(END_BYTES))?;
            self.head_bytes = head.len() as u64;
            self.head = Digest::of(&[&head]);
        }
        self.seen = size;
        Ok(())
    }

    /// Bytes that were seen and are not taken.
    pub fn unread(&self) -> u64 {
        self.seen.saturating_sub(self.position)
    }

    /// Bytes that a file has at least that is still the same.
    pub fn bytes_min(&self) -> u64 {
        self.position.max(self.head_bytes)
    }

    /// Whether a file began as this one does.
    pub fn begins(&self, file: &File) -> io::Result<bool> {
        let head = read_range(file, 0, self.head_bytes)?;
        Ok(head.len() as u64 == self.head_bytes && Digest::of(&[&head]) == self.head)
    }

    /// The ends of what was taken, where they still are what they were: then the file is the same, and all that was read
    /// of it before this look was too.
    pub fn ends(&self, file: &File) -> io::Result<Option<Ends>> {
        let head = read_range(file, 0, self.head_bytes)?;
        let tail_bytes = self.position.min(END_BYTES);
        let tail = read_range(file, self.position - tail_bytes, tail_bytes)?;
        let is_whole = head.len() as u64 == self.head_bytes && tail.len() as u64 == tail_bytes;
        let is_same = is_whole && Digest::of(&[&head]) == self.head && Digest::of(&[&tail]) == self.tail;
        Ok(is_same.then_some(Ends { head, tail }))
    }

    /// Takes what follows the position.
    pub fn advance(&mut self, ends: &Ends, taken: &[u8]) {
        let cut = usize::try_from(END_BYTES).unwrap_or(usize::MAX);
        if self.position < END_BYTES && !taken.is_empty() {
            // As long as the position is within the head, the head ends there.
            let before = if self.position == 0 { &[] } else { ends.head.as_slice() };
            let more = &taken[..taken.len().min(cut - before.len())];
            self.head_bytes = (before.len() + more.len()) as u64;
            self.head = Digest::of(&[before, more]);
        }
        let more = &taken[taken.len().saturating_sub(cut)..];
        let before = &ends.tail[ends.tail.len().saturating_sub(cut - more.len())..];
        self.tail = Digest::of(&[before, more]);
        self.position += taken.len() as u64;
    }

    /// Moves on to a position, with the ends as the file has them.
    pub fn move_to(&mut self, file: &File, position: u64) -> io::Result<()> {
        let bytes = position.min(END_BYTES);
        let (head, tail) = (read_range(file, 0, bytes)?, read_range(file, position - bytes, bytes)?);
        self.position = position;
        self.head_bytes = head.len() as u64;
        self.head = Digest::of(&[&head]);
        self.tail = Digest::of(&[&tail]);
        Ok(())
    }

    /// Whether the first line of a file is the one that this was identified by, where that can be told.
    pub fn has_first_line(&self, key: Key, file: &File) -> io::Result<bool> {
        let begin = read_range(file, 0, END_BYTES + 1)?;
        let line = begin.iter().position(|byte| *byte == b'\n').map_or(begin.as_slice(), |end| &begin[..end]);
        Ok(self.id == Some(self.id_by(key, line)))
    }

    /// Gives a file what the ids of its events are made of. Its first line alone does not do: programs that start say the
    /// same every time.
    pub fn identify(&mut self, key: Key, first_line: &[u8]) -> Digest {
        let id = self.id_by(key, first_line);
        *self.id.get_or_insert(id)
    }

    fn id_by(&self, key: Key, first_line: &[u8]) -> Digest {
        let begin = &first_line[..first_line.len().min(usize::try_from(END_BYTES).unwrap_or(usize::MAX))];
        let born_ns = self.born_ns.unwrap_or_default().to_le_bytes();
        Digest::of(&[b"file", &key.inode.to_le_bytes(), &born_ns, &self.generation.to_le_bytes(), begin])
    }

    pub fn encode(&self) -> Vec<u8> {
        // Made of texts and numbers: there is nothing that could fail, and what is empty is found out when it is read.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Nothing where it was written in another form.
    pub fn decode(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok().filter(|record: &Self| record.form == FORM && record.is_sound())
    }

    fn is_sound(&self) -> bool {
        self.head_bytes <= END_BYTES && (self.position == 0 || self.head_bytes == self.position.min(END_BYTES))
    }
}

/// When a file was made, where that is known.
pub(super) fn born_ns(metadata: &Metadata) -> Option<i64> {
    let since = metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok()
}

/// Reads so many bytes from an offset on, or as many as there are.
pub(super) fn read_range(file: &File, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    let read = read_at(file, offset, &mut buffer)?;
    buffer.truncate(read);
    Ok(buffer)
}

/// Fills a buffer from an offset on, or as much of it as there is.
pub(super) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const KEY: Key = Key { device: 2, inode: 0xfe };

    fn file_with(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn a_file_is_the_same_as_long_as_what_was_taken_of_it_is_there() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            let content: Vec<u8> = (0..random.usize(1..1_500)).map(|_| random.u8(..)).collect();
            let file = file_with(&content);
            let mut record = Record::fresh("x.jsonl", &file, 0).unwrap();
            while record.unread() > 0 {
                let from = record.position as usize;
                let to = from + random.usize(1..=(content.len() - from).min(700));
                let ends = record.ends(&file).unwrap().unwrap();
                record.advance(&ends, &content[from..to]);
                assert_eq!(record.position as usize, to, "seed {seed}");
            }
            assert!(record.ends(&file).unwrap().is_some(), "seed {seed}");
            let mut moved = Record::fresh("x.jsonl", &file, 0).unwrap();
            moved.move_to(&file, content.len() as u64).unwrap();
            assert_eq!(moved, record, "seed {seed}: one step or many");
            assert_eq!(Record::decode(&record.encode()), Some(record.clone()), "seed {seed}");
            // A byte that changed at either end, and one that is missing.
            for at in
                [random.usize(..content.len().min(256)), content.len() - 1 - random.usize(..content.len().min(256))]
            {
                let mut other = content.clone();
                other[at] ^= 1;
                assert!(record.ends(&file_with(&other)).unwrap().is_none(), "seed {seed}, {at}");
            }
            assert!(record.ends(&file_with(&content[1..])).unwrap().is_none(), "seed {seed}");
            assert!(record.ends(&file_with(&content[..content.len() - 1])).unwrap().is_none(), "seed {seed}");
            let longer = [content.as_slice(), b"more"].concat();
            assert!(record.ends(&file_with(&longer)).unwrap().is_some(), "seed {seed}");
        }
    }

    #[test]
    fn ids_differ_by_inode_birth_generation_and_first_line_and_are_of_version_8() {
        let file = file_with(b"a\n");
        let id = |change: &dyn Fn(&mut Record), inode, line: &[u8]| {
            let mut record = Record::fresh("x.jsonl", &file, 0).unwrap();
            change(&mut record);
            record.identify(Key { inode, ..KEY }, line)
        };
        let plain = id(&|_| {}, 1, b"a");
        assert_eq!(plain, id(&|record| record.name = "y.jsonl".into(), 1, b"a"));
        let others = [
            id(&|_| {}, 2, b"a"),
            id(&|_| {}, 1, b"b"),
            id(&|record| record.generation = 1, 1, b"a"),
            id(&|record| record.born_ns = Some(7), 1, b"a"),
        ];
        assert!(others.iter().all(|other| *other != plain));
        assert_eq!(id(&|_| {}, 1, &[b'a'; 256]), id(&|_| {}, 1, &[b'a'; 300]));
        assert_eq!(plain.uuid().get_version_num(), 8);
    }

    #[test]
    fn what_stands_in_a_mark_is_checked() {
        assert_eq!(Key::from_suffix(&KEY.suffix()), Some(KEY));
        for bad in ["", "1", "1/", "/1", "g/1", "1/2/3", "1/11111111111111111"] {
            assert_eq!(Key::from_suffix(bad), None, "{bad}");
        }
        let record = Record::fresh("x.jsonl", &file_with(b""), 0).unwrap();
        let value = String::from_utf8(record.encode()).unwrap();
        for (from, to) in [("\"form\":1", "\"form\":2"), ("\"position\":0", "\"position\":9"), ("{", "")] {
            assert_eq!(Record::decode(value.replacen(from, to, 1).as_bytes()), None, "{to}");
        }
        // With every part as long as it can be, and a name that needs six bytes for each.
        let longest = Record {
            name: "\u{1}".repeat(255),
            born_ns: Some(i64::MIN),
            generation: u32::MAX,
            position: u64::MAX,
            seen: u64::MAX,
            copy_of: Some(Key { device: u64::MAX, inode: u64::MAX }),
            ..record
        };
        assert!(longest.encode().len() <= holdfast_storage::events::MARK_BYTES_MAX);
    }
}
