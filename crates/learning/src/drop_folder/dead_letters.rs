//! Lines that are no events, kept for people: `dead-letters/NAME.jsonl` in the folder itself, with why, and from where.
//!
//! A letter is on the disk before the mark moves past its line, so that none is lost; and it is known by its file and
//! offset, so that a line that has to be read again makes no second one. What was written by a process that ended before
//! its mark moved is found in the files. They are never read as input, since nothing in a folder within the folder is.
//!
//! All of it is bounded: one file by rotation (`NAME.jsonl.1`, once), all files together by giving up the oldest.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::File,
    io::{self, Write},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{
    names,
    record::{Digest, read_range},
};
use crate::line::Bad;

/// The folder of the letters.
pub(super) const FOLDER: &str = "dead-letters";
/// Bytes of a name that are kept: with a hash and what rotation adds, no file system refuses it.
const NAME_BYTES_MAX: usize = 180;
/// Bytes that are kept of a line that is too long to be an event.
pub(super) const CUT_BYTES: usize = 4 << 10;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes of one file, after which it is rotated.
    pub file_bytes_max: u64,
    /// Bytes of all of them.
    pub bytes_max: u64,
}

/// A line that is no event.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub bad: Bad,
    /// What its file was called.
    pub file: String,
    pub file_id: Digest,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has, its end not counted.
    pub bytes: u64,
    /// The line, or its beginning.
    pub line: Vec<u8>,
    /// The hash of the line where only its beginning is kept.
    pub hash: Option<blake3::Hash>,
}

/// A letter as it is written.
#[derive(Serialize)]
struct Written<'a> {
    at_ms: i64,
    reason: &'static str,
    detail: &'a str,
    file: &'a str,
    file_id: String,
    offset: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<&'a str>,
    /// Where the line is no text, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    line_hex: Option<String>,
    /// Of the whole line (BLAKE3), where only its beginning is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

/// What a letter is known by.
#[derive(Deserialize)]
struct Known {
    file_id: Digest,
    offset: u64,
}

impl Letter {
    fn encode(&self, at_ms: i64) -> io::Result<Vec<u8>> {
        // A cut may have gone through a character.
        let text = match std::str::from_utf8(&self.line) {
            Ok(text) => Some(text),
            Err(error) if self.hash.is_some() && error.error_len().is_none() => {
                std::str::from_utf8(&self.line[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        let written = Written {
            at_ms,
            reason: self.bad.reason.as_str(),
            detail: &self.bad.detail,
            file: &self.file,
            file_id: self.file_id.to_string(),
            offset: self.offset,
            bytes: self.bytes,
            line: text,
            line_hex: text.is_none().then(|| hexadecimal(&self.line)),
            hash: self.hash.map(|hash| hash.to_hex().to_string()),
        };
        let mut line = serde_json::to_vec(&written)?;
        line.push(b'\n');
        Ok(line)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The letters of a folder.
#[derive(Debug)]
pub(super) struct DeadLetters {
    bounds: Bounds,
    /// The letters whose line may be read again, by their files' ids.
    written: HashMap<Digest, BTreeSet<u64>>,
    /// The files of letters that were looked through.
    looked_through: HashSet<String>,
}

impl DeadLetters {
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, written: HashMap::new(), looked_through: HashSet::new() }
    }

    /// Writes the letters of one file and has them on the disk, but for those that are there already. `taken` is up to
    /// where the files are read durably, by their ids: what is before cannot come again.
    pub fn write(
        &mut self,
        folder: &OwnedFd,
        letters: &[Letter],
        taken: impl FnOnce() -> HashMap<Digest, u64>,
        now_ms: i64,
    ) -> io::Result<()> {
        let Some(first) = letters.first() else { return Ok(()) };
        let name = letters_name(&first.file);
        let directory = open_directory(folder)?;
        if !self.looked_through.contains(&name) {
            self.look_through(&directory, &name, &taken())?;
            self.looked_through.insert(name.clone());
        }
        let is_new = |letter: &&Letter| {
            self.written.get(&letter.file_id).is_none_or(|offsets| !offsets.contains(&letter.offset))
        };
        let new: Vec<&Letter> = letters.iter().filter(is_new).collect();
        let mut bytes = Vec::new();
        for letter in &new {
            bytes.extend(letter.encode(now_ms)?);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.append(&directory, &name, &bytes)?;
        for letter in new {
            self.written.entry(letter.file_id).or_default().insert(letter.offset);
        }
        Ok(())
    }

    /// A file is read durably up to a position; letters before it cannot come again.
    pub fn taken(&mut self, file_id: Digest, position: u64) {
        if let Some(offsets) = self.written.get_mut(&file_id) {
            *offsets = offsets.split_off(&position);
            if offsets.is_empty() {
                self.written.remove(&file_id);
            }
        }
    }

    fn append(&self, directory: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = open_letters(directory, name)?;
        let mut size = file.metadata()?.len();
        if size > 0 && size + bytes.len() as u64 > self.bounds.file_bytes_max {
            rustix::fs::renameat(directory, name, directory, rotated(name))?;
            file = open_letters(directory, name)?;
            size = 0;
        }
        if size == 0 {
            rustix::fs::fsync(directory)?;
        }
        self.make_room(directory, name, bytes.len() as u64)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half a letter would spoil the next one. Where that fails too, it is cut off when the file is looked through.
            let _ = file.set_len(size);
        }
        written
    }

    /// Gives up the oldest letters where all of them are too many.
    fn make_room(&self, directory: &OwnedFd, name: &str, wanted: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let stat = match rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                files.push((stat.st_mtime, entry.file_name().to_owned(), size));
            }
        }
        files.sort_unstable();
        let mut bytes = files.iter().map(|(_, _, size)| size).sum::<u64>().saturating_add(wanted);
        for (_, file, size) in files {
            if bytes <= self.bounds.bytes_max {
                break;
            }
            if file.as_bytes() != name.as_bytes() && rustix::fs::unlinkat(directory, &file, AtFlags::empty()).is_ok() {
                bytes -= size;
            }
        }
        Ok(())
    }

    /// Finds the letters that were written before a mark moved past their lines, and cuts off what is half a letter.
    fn look_through(&mut self, directory: &OwnedFd, name: &str, taken: &HashMap<Digest, u64>) -> io::Result<()> {
        let current = open_letters(directory, name)?;
        let size = current.metadata()?.len();
        let bytes = read_range(&current, 0, size)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < bytes.len() {
            current.set_len(whole as u64)?;
            current.sync_data()?;
        }
        self.find(&bytes[..whole], taken);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(directory, rotated(name), flags, Mode::empty()) {
            Ok(former) => {
                let former = File::from(former);
                let metadata = former.metadata()?;
                if metadata.is_file() {
                    self.find(&read_range(&former, 0, metadata.len())?, taken);
                }
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn find(&mut self, bytes: &[u8], taken: &HashMap<Digest, u64>) {
        for line in bytes.split(|byte| *byte == b'\n') {
            let Ok(known) = serde_json::from_slice::<Known>(line) else { continue };
            if taken.get(&known.file_id).is_none_or(|position| known.offset >= *position) {
                self.written.entry(known.file_id).or_default().insert(known.offset);
            }
        }
    }
}

/// What the letters of a file are called: those of all its rotations stand together.
fn letters_name(file: &str) -> String {
    let name = names::unrotated(file).unwrap_or_else(|| file.to_owned());
    if name.len() <= NAME_BYTES_MAX && name.ends_with(".jsonl") {
        return name;
    }
    let cut = name.floor_char_boundary(NAME_BYTES_MAX);
    format!("{}-{}.jsonl", &name[..cut], Digest::of(&[name.as_bytes()]))
}

fn rotated(name: &str) -> String {
    format!("{name}.1")
}

/// Opens the folder of the letters, which is made where it is not there.
fn open_directory(folder: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, FOLDER, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            match rustix::fs::mkdirat(folder, FOLDER, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            rustix::fs::fsync(folder)?;
            Ok(rustix::fs::openat(folder, FOLDER, flags, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}

/// Opens a file of letters to be read and written at its end.
fn open_letters(directory: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
    let metadata = file.metadata()?;
    // Another name of a file elsewhere is not written to.
    if metadata.is_file() && metadata.nlink() == 1 {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{FOLDER}/{name} is no file of its own")))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use serde_json::Value;

    use super::*;
    use crate::{drop_folder::folder, line::Reason};

    const BOUNDS: Bounds = Bounds { file_bytes_max: 10_000, bytes_max: 50_000 };

    fn letter(file: &str, offset: u64, line: &[u8]) -> Letter {
        Letter {
            bad: Bad::new(Reason::NotJson, "expected value"),
            file: file.into(),
            file_id: Digest::of(&[b"one"]),
            offset,
            bytes: line.len() as u64,
            line: line.to_vec(),
            hash: None,
        }
    }

    fn write(letters: &mut DeadLetters, at: &Path, these: &[Letter], taken: u64) -> io::Result<()> {
        letters.write(&folder::open(at).unwrap(), these, || HashMap::from([(Digest::of(&[b"one"]), taken)]), 5)
    }

    fn read(at: &Path, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(at.join(FOLDER).join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_letter_says_why_and_from_where_and_has_the_line() {
        let at = tempfile::tempdir().unwrap();
        let mut letters = DeadLetters::new(BOUNDS);
        let cut =
            Letter { hash: Some(blake3::hash(b"x")), ..letter("x.jsonl", 9, "ab\u{e9}".split_at(2).0.as_bytes()) };
        let half = Letter { line: "ab\u{e9}".as_bytes()[..3].to_vec(), offset: 10, ..cut.clone() };
        let these =
            [letter("x.jsonl.1", 0, "\u{0} \u{1f980} \"".as_bytes()), letter("x.jsonl.1", 5, b"\xff\x00"), cut, half];
        write(&mut letters, at.path(), &these, 0).unwrap();
        let read = read(at.path(), "x.jsonl");
        assert_eq!(read[0]["line"], "\u{0} \u{1f980} \"");
        assert_eq!(read[0]["reason"], "not_json");
        assert_eq!((&read[0]["file"], &read[0]["at_ms"]), (&"x.jsonl.1".into(), &5.into()));
        assert_eq!((&read[1]["line_hex"], &read[1]["offset"]), (&"ff00".into(), &5.into()));
        assert!(read[1].get("line").is_none() && read[0].get("hash").is_none());
        assert_eq!((&read[2]["line"], &read[3]["line"]), (&"ab".into(), &"ab".into()));
        assert_eq!(read[2]["hash"], blake3::hash(b"x").to_hex().to_string());
    }

    #[test]
    fn a_line_that_is_read_again_makes_no_second_letter() {
        let at = tempfile::tempdir().unwrap();
        let mut letters = DeadLetters::new(BOUNDS);
        let these = [letter("x.jsonl", 0, b"a"), letter("x.jsonl", 2, b"b")];
        write(&mut letters, at.path(), &these[..1], 0).unwrap();
        write(&mut letters, at.path(), &these, 0).unwrap();
        // Another process, which finds half a letter of its predecessor.
        let path = at.path().join(FOLDER).join("x.jsonl");
        let mut text = fs::read(&path).unwrap();
        text.extend(b"{\"at_ms\":5,\"rea");
        fs::write(&path, text).unwrap();
        let mut letters = DeadLetters::new(BOUNDS);
        write(&mut letters, at.path(), &these, 0).unwrap();
        write(&mut letters, at.path(), &[letter("x.jsonl", 4, b"c")], 0).unwrap();
        let offsets: Vec<_> = read(at.path(), "x.jsonl").iter().map(|letter| letter["offset"].clone()).collect();
        assert_eq!(offsets, [0, 2, 4]);
        // What is behind the mark is not remembered.
        let one = Digest::of(&[b"one"]);
        letters.taken(one, 3);
        assert_eq!(letters.written[&one], [4].into());
        letters.taken(one, 5);
        assert!(letters.written.is_empty());
        let mut letters = DeadLetters::new(BOUNDS);
        write(&mut letters, at.path(), &[letter("x.jsonl", 6, b"d")], 4).unwrap();
        assert_eq!(letters.written[&one], [4, 6].into());
    }

    #[test]
    fn letters_are_bounded_and_the_oldest_go() {
        let at = tempfile::tempdir().unwrap();
        let mut letters = DeadLetters::new(BOUNDS);
        let mut sum = 0;
        for number in 0..400 {
            let name = format!("{}.jsonl", number / 40);
            write(&mut letters, at.path(), &[letter(&name, number, &[b'x'; 900])], 0).unwrap();
            let sizes =
                fs::read_dir(at.path().join(FOLDER)).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
            let sizes: Vec<_> = sizes.collect();
            assert!(sizes.iter().all(|size| *size <= BOUNDS.file_bytes_max));
            sum = sizes.iter().sum();
            assert!(sum <= BOUNDS.bytes_max, "{sum}");
        }
        assert!(sum > BOUNDS.bytes_max / 2);
        assert_eq!(read(at.path(), "9.jsonl").last().unwrap()["offset"], 399);
        assert!(!at.path().join(FOLDER).join("0.jsonl").exists());
        // A letter that is larger than a file may be has one of its own.
        write(&mut letters, at.path(), &[letter("9.jsonl", 500, &[b'x'; 20_000])], 0).unwrap();
        assert_eq!(read(at.path(), "9.jsonl").len(), 1);
    }

    #[test]
    fn nothing_is_written_outside() {
        let at = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), at.path().join(FOLDER)).unwrap();
        let mut letters = DeadLetters::new(BOUNDS);
        let these = [letter("x.jsonl", 0, b"a")];
        write(&mut letters, at.path(), &these, 0).unwrap_err();
        fs::remove_file(at.path().join(FOLDER)).unwrap();
        fs::create_dir(at.path().join(FOLDER)).unwrap();
        let victim = outside.path().join("victim");
        fs::write(&victim, "as it was").unwrap();
        let path = at.path().join(FOLDER).join("x.jsonl");
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        write(&mut letters, at.path(), &these, 0).unwrap_err();
        fs::remove_file(&path).unwrap();
        fs::hard_link(&victim, &path).unwrap();
        write(&mut letters, at.path(), &these, 0).unwrap_err();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "as it was");
        fs::remove_file(&path).unwrap();
        write(&mut letters, at.path(), &these, 0).unwrap();
        assert_eq!(read(at.path(), "x.jsonl").len(), 1);
    }

    #[test]
    fn any_name_makes_a_name_of_letters() {
        let long = format!("{}.jsonl", "\u{e9}".repeat(120));
        for name in [long.as_str(), "renamed.old", "x.jsonl", "x.jsonl.7"] {
            let letters = letters_name(name);
            assert!(letters.ends_with(".jsonl") && letters.len() <= 230, "{letters}");
            assert_eq!(letters_name(name), letters);
        }
        assert_ne!(letters_name("renamed.old"), letters_name("renamed.older"));
    }
}
