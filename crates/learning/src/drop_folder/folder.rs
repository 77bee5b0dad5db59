//! The folder as it is right now: which files there are, and opening them without leaving it.
//!
//! A file is opened relative to the folder and never through a symbolic link, and opening never waits: what is a link, a
//! FIFO, a device or a folder is passed over. Folders within it are not looked into.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags},
    io::Errno,
};

use super::{names, record::Key};

/// How old the last change of a file has to be for an unchanged time to mean an unchanged file: clocks of file systems
/// move in steps, and of two changes within one step only the first shows.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// A file as the listing has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    pub stamp: Stamp,
}

/// What tells one state of a file from another, without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub size: u64,
    changed_ns: i64,
    /// Whether the same stamp later means that nothing has changed.
    pub is_settled: bool,
}

impl Stamp {
    /// Whether a file that has another stamp now is as it was.
    pub fn still_holds(self, now: Self) -> bool {
        self.is_settled && self.size == now.size && self.changed_ns == now.changed_ns
    }
}

/// What is in the folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub files: BTreeMap<Key, Entry>,
    /// Names that would be read, of what is no file or has no name in UTF-8.
    pub passed_over: usize,
    /// Files that are one too many.
    pub left_out: usize,
}

/// Opens the folder; it may itself be named by a link.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Lists the files that are read, and those that are known whatever they are called now. Of the others there are so many
/// at most that all together are `files_max`.
pub(super) fn list(folder: &OwnedFd, files_max: usize, is_known: impl Fn(u64) -> bool) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut strangers = BTreeMap::new();
    let now = SystemTime::now();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            let ending = entry.file_name().to_bytes().ends_with(b".jsonl");
            listing.passed_over += usize::from(ending);
            continue;
        };
        let is_known = is_known(entry.ino());
        if !is_known && !names::is_read(name) {
            continue;
        }
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It was renamed or removed since.
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            listing.passed_over += usize::from(names::is_read(name));
            continue;
        }
        let key = Key { device: number(stat.st_dev), inode: number(stat.st_ino) };
        let changed_ns = number::<_, i64>(stat.st_ctime).saturating_mul(1_000_000_000);
        let changed_ns = changed_ns.saturating_add(number(stat.st_ctime_nsec));
        let stamp = Stamp { size: number(stat.st_size), changed_ns, is_settled: is_settled(changed_ns, now) };
        let found = Entry { name: name.to_owned(), stamp };
        let into = if is_known { &mut listing.files } else { &mut strangers };
        if into.len() < files_max || into.contains_key(&key) {
            // Several names of one file are one file, under the one that is read.
            into.entry(key).and_modify(|known: &mut Entry| prefer(known, &found)).or_insert(found);
        } else {
            listing.left_out += 1;
        }
    }
    for (key, entry) in strangers {
        if listing.files.len() < files_max || listing.files.contains_key(&key) {
            listing.files.entry(key).or_insert(entry);
        } else {
            listing.left_out += 1;
        }
    }
    Ok(listing)
}

/// Keeps the name of a file that tells most: one that is read, its own rather than a rotated one, the first of several.
fn prefer(known: &mut Entry, found: &Entry) {
    let rank = |entry: &Entry| (!names::is_read(&entry.name), names::unrotated(&entry.name).is_some());
    if (rank(found), &found.name) < (rank(known), &known.name) {
        *known = found.clone();
    }
}

fn is_settled(changed_ns: i64, now: SystemTime) -> bool {
    let now_ns = now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
    let settled_after = i64::try_from(SETTLED_AFTER.as_nanos()).unwrap_or(i64::MAX);
    now_ns.saturating_sub(changed_ns) > settled_after
}

/// A number of the system's, which has another type on each.
fn number<From, To: TryFrom<From> + Default>(from: From) -> To {
    To::try_from(from).unwrap_or_default()
}

/// Opens a file of the listing; nothing where that name means another one by now, or none.
pub(super) fn open_file(folder: &OwnedFd, name: &str, key: Key) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // Links are refused with the second, sockets with the third.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    Ok((metadata.is_file() && Key::of(&metadata) == key).then_some(file))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    };

    use rustix::fs::{CWD, mkfifoat};

    use super::*;

    fn names_of(listing: &Listing) -> Vec<&str> {
        let mut names: Vec<_> = listing.files.values().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn only_files_are_listed_and_opened_and_nothing_waits() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a.jsonl"), "").unwrap();
        fs::write(at("a.jsonl.1"), "").unwrap();
        fs::write(at("other.txt"), "").unwrap();
        fs::create_dir(at("folder.jsonl")).unwrap();
        fs::write(at("folder.jsonl/in.jsonl"), "").unwrap();
        symlink(at("a.jsonl"), at("link.jsonl")).unwrap();
        symlink("nowhere", at("broken.jsonl")).unwrap();
        mkfifoat(CWD, at("fifo.jsonl"), Mode::from_raw_mode(0o600)).unwrap();
        let _socket = UnixListener::bind(at("socket.jsonl")).unwrap();
        fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"\xff.jsonl")), "").unwrap();
        let opened = open(folder.path()).unwrap();
        let listing = list(&opened, 10, |_| false).unwrap();
        assert_eq!(names_of(&listing), ["a.jsonl", "a.jsonl.1"]);
        assert_eq!((listing.passed_over, listing.left_out), (6, 0));
        let (key, _) = listing.files.first_key_value().unwrap();
        for name in ["link.jsonl", "broken.jsonl", "fifo.jsonl", "socket.jsonl", "folder.jsonl", "gone.jsonl"] {
            assert!(open_file(&opened, name, *key).unwrap().is_none(), "{name}");
        }
        let own = listing.files.iter().filter(|(key, entry)| open_file(&opened, &entry.name, **key).unwrap().is_some());
        assert_eq!(own.count(), 2);
        assert!(open(&at("gone")).is_err());
        assert!(open(&at("a.jsonl")).is_err());
    }

    #[test]
    fn known_files_come_first_and_several_names_are_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for number in 0..5 {
            fs::write(at(&format!("{number}.jsonl")), "").unwrap();
        }
        fs::rename(at("4.jsonl"), at("renamed.old")).unwrap();
        fs::hard_link(at("3.jsonl"), at("3.jsonl.1")).unwrap();
        fs::hard_link(at("3.jsonl"), at("0-3.txt")).unwrap();
        let opened = open(folder.path()).unwrap();
        let inode = |name: &str| Key::of(&fs::metadata(at(name)).unwrap()).inode;
        let known = [inode("renamed.old"), inode("3.jsonl")];
        let listing = list(&opened, 3, |inode| known.contains(&inode)).unwrap();
        let names = names_of(&listing);
        assert!(names.contains(&"renamed.old") && names.contains(&"3.jsonl") && names.len() == 3, "{names:?}");
        assert_eq!(listing.left_out, 2);
    }

    #[test]
    fn a_change_that_is_fresh_may_hide_another() {
        let now = UNIX_EPOCH + Duration::from_secs(100);
        assert!(is_settled(97_000_000_000, now));
        assert!(!is_settled(99_000_000_000, now));
        assert!(!is_settled(200_000_000_000, now), "a clock that runs ahead");
        assert!(is_settled(i64::MIN, now));
    }
}
