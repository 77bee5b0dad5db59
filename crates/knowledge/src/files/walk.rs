//! The walk over a tree: every file once, in the order of the names, in memory bounded by the largest directory.
//!
//! Does not read files. Symbolic links are resolved and then opened without them; hidden entries and what the
//! ignore rules name are passed over in silence, everything else that is not indexed is reported.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs, io,
    ops::ControlFlow,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStringExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    vec,
};

use rustix::fs::{AtFlags, Dir, FileType};

use super::{
    FileEntry, FileIdentity, FileLimits, FilesError, Found, Skip, SkipReason, Symlinks,
    ignored::Rules,
    open::{nanoseconds, open_directory, open_directory_beneath, open_root, reason_of},
};

/// Visits the files below `root`, or `root` itself where that is a file, until `visit` breaks.
///
/// A root that is a symbolic link is followed, and a root that is a file is visited whatever its name is: the
/// user named it. The order depends on the names only.
///
/// # Errors
/// When the root does not exist, cannot be read, or is a device or the like. What goes wrong below the root is
/// visited as [`Found::Skipped`].
pub fn walk(
    root: &Path,
    limits: &FileLimits,
    visit: &mut dyn FnMut(Found) -> ControlFlow<()>,
) -> Result<(), FilesError> {
    let failed = |source| FilesError::Root { path: root.to_owned(), source };
    let real_root = fs::canonicalize(root).map_err(failed)?;
    let metadata = fs::metadata(&real_root).map_err(failed)?;
    if metadata.is_dir() {
        let directory = open_root(&real_root).map_err(failed)?;
        let mut walker = Walker { root: real_root.into(), limits, visit, linked: HashSet::new(), frames: Vec::new() };
        let place = Place { relative: String::new(), real: PathBuf::new(), through_link: false };
        walker.enter(directory, place, None).map_err(failed)?;
        walker.run();
        return Ok(());
    }
    let (Some(parent), Some(name), true) = (real_root.parent(), real_root.file_name(), metadata.is_file()) else {
        return Err(FilesError::NotIndexable { path: root.to_owned() });
    };
    let found = match name.to_str() {
        None => Found::Skipped(Skip { path: real_root.clone(), reason: SkipReason::NameNotUtf8 }),
        Some(name) => admit(
            FileEntry {
                root: parent.into(),
                relative: name.to_owned(),
                real: name.into(),
                size: metadata.size(),
                modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
                identity: FileIdentity { device: metadata.dev(), inode: metadata.ino() },
            },
            limits,
        ),
    };
    // Nothing comes after the only file, so it does not matter whether the visitor wants more.
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = visit(found);
    Ok(())
}

/// A file that is small enough, or the report that it is not.
fn admit(entry: FileEntry, limits: &FileLimits) -> Found {
    let (size_bytes, limit_bytes) = (entry.size, limits.max_file_bytes);
    if size_bytes > limit_bytes {
        return Found::Skipped(Skip { path: entry.path(), reason: SkipReason::TooLarge { size_bytes, limit_bytes } });
    }
    Found::File(entry)
}

struct Walker<'a> {
    root: Arc<Path>,
    limits: &'a FileLimits,
    visit: &'a mut dyn FnMut(Found) -> ControlFlow<()>,
    /// Directories reached through symbolic links. Each is walked once that way, else a few links that point
    /// at each other's directories would make exponentially many paths.
    linked: HashSet<FileIdentity>,
    frames: Vec<Frame>,
}

/// A directory being walked.
struct Frame {
    directory: OwnedFd,
    place: Place,
    names: vec::IntoIter<OsString>,
    rules: Option<Rc<Rules>>,
}

/// Where a directory is.
struct Place {
    /// From the root, as found; empty for the root, else without a trailing slash.
    relative: String,
    /// From the root, without symbolic links.
    real: PathBuf,
    through_link: bool,
}

/// What an entry turned out to be.
enum Entry {
    File(FileEntry),
    Directory(OwnedFd, Place),
    Skip(SkipReason),
    Nothing,
}

impl Walker<'_> {
    fn run(&mut self) {
        while let Some(frame) = self.frames.last_mut() {
            let Some(name) = frame.names.next() else {
                self.frames.pop();
                continue;
            };
            if self.step(&name).is_break() {
                return;
            }
        }
    }

    fn step(&mut self, name: &OsString) -> ControlFlow<()> {
        let Some(frame) = self.frames.last() else { return ControlFlow::Break(()) };
        let path = self.root.join(&frame.place.relative).join(name);
        let reason = match self.look(frame, name) {
            Entry::Nothing => return ControlFlow::Continue(()),
            Entry::File(entry) => return (self.visit)(admit(entry, self.limits)),
            Entry::Directory(directory, place) => {
                let rules = frame.rules.clone();
                match self.enter_once(directory, place, rules) {
                    Ok(None) => return ControlFlow::Continue(()),
                    Ok(Some(reason)) => reason,
                    Err(error) => reason_of(&error),
                }
            }
            Entry::Skip(reason) => reason,
        };
        (self.visit)(Found::Skipped(Skip { path, reason }))
    }

    /// Finds out what an entry is, and opens it if it is a directory.
    fn look(&self, frame: &Frame, name: &OsString) -> Entry {
        let Some(text) = name.to_str() else {
            return if name.as_encoded_bytes().starts_with(b".") {
                Entry::Nothing
            } else {
                Entry::Skip(SkipReason::NameNotUtf8)
            };
        };
        if text.starts_with('.') {
            return Entry::Nothing;
        }
        let place = Place {
            relative: if frame.place.relative.is_empty() {
                text.to_owned()
            } else {
                format!("{}/{text}", frame.place.relative)
            },
            real: frame.place.real.join(text),
            through_link: frame.place.through_link,
        };
        let stat = match rustix::fs::statat(&frame.directory, text, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) => return Entry::Skip(reason_of(&error.into())),
        };
        let is_ignored =
            |is_directory| frame.rules.as_ref().is_some_and(|rules| rules.ignores(&place.relative, is_directory));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                // Git takes a link for a file; a pattern for directories is meant for what it leads to as well.
                if is_ignored(false) || is_ignored(true) { Entry::Nothing } else { self.resolve(place) }
            }
            FileType::Directory if is_ignored(true) => Entry::Nothing,
            FileType::Directory => match open_directory(&frame.directory, Path::new(text)) {
                Ok(directory) => Entry::Directory(directory, place),
                Err(error) => Entry::Skip(reason_of(&error)),
            },
            _ if is_ignored(false) => Entry::Nothing,
            FileType::RegularFile => Entry::File(FileEntry {
                root: Arc::clone(&self.root),
                relative: place.relative,
                real: place.real,
                size: number(stat.st_size),
                modified_ns: nanoseconds(number(stat.st_mtime), number(stat.st_mtime_nsec)),
                identity: FileIdentity { device: number(stat.st_dev), inode: number(stat.st_ino) },
            }),
            _ => Entry::Skip(SkipReason::NotRegular),
        }
    }

    /// Follows a symbolic link that ends inside the root.
    fn resolve(&self, place: Place) -> Entry {
        if self.limits.symlinks == Symlinks::Skip {
            return Entry::Skip(SkipReason::SymlinkSkipped);
        }
        let target = match fs::canonicalize(self.root.join(&place.real)) {
            Ok(target) => target,
            Err(error) => return Entry::Skip(reason_of_link(&error)),
        };
        let Ok(real) = target.strip_prefix(&self.root) else { return Entry::Skip(SkipReason::SymlinkOutside) };
        if real.components().any(|part| part.as_os_str() == ".git") {
            return Entry::Nothing;
        }
        let metadata = match fs::symlink_metadata(&target) {
            Ok(metadata) => metadata,
            Err(error) => return Entry::Skip(reason_of_link(&error)),
        };
        if metadata.is_file() {
            return Entry::File(FileEntry {
                root: Arc::clone(&self.root),
                relative: place.relative,
                real: real.to_owned(),
                size: metadata.size(),
                modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
                identity: FileIdentity { device: metadata.dev(), inode: metadata.ino() },
            });
        }
        if !metadata.is_dir() {
            return Entry::Skip(SkipReason::NotRegular);
        }
        if place.real.starts_with(real) {
            return Entry::Skip(SkipReason::SymlinkLoop);
        }
        match open_directory_beneath(&self.root, real) {
            Ok(directory) => Entry::Directory(directory, Place { real: real.to_owned(), through_link: true, ..place }),
            Err(error) => Entry::Skip(reason_of(&error)),
        }
    }

    /// Goes down into a directory unless it is too deep or was walked through another link.
    fn enter_once(
        &mut self,
        directory: OwnedFd,
        place: Place,
        rules: Option<Rc<Rules>>,
    ) -> io::Result<Option<SkipReason>> {
        let limit = self.limits.max_depth;
        if self.frames.len() > limit {
            return Ok(Some(SkipReason::TooDeep { limit }));
        }
        if place.through_link {
            let stat = rustix::fs::fstat(&directory)?;
            let identity = FileIdentity { device: number(stat.st_dev), inode: number(stat.st_ino) };
            if self.frames.iter().any(|frame| frame.place.real == place.real) {
                return Ok(Some(SkipReason::SymlinkLoop));
            }
            if !self.linked.insert(identity) {
                return Ok(Some(SkipReason::SymlinkRepeated));
            }
        }
        self.enter(directory, place, rules)?;
        Ok(None)
    }

    fn enter(&mut self, directory: OwnedFd, place: Place, rules: Option<Rc<Rules>>) -> io::Result<()> {
        let names = sorted_names(&directory)?.into_iter();
        let prefix_bytes = if place.relative.is_empty() { 0 } else { place.relative.len() + 1 };
        let rules = Rules::enter(rules, &directory, prefix_bytes);
        self.frames.push(Frame { directory, place, names, rules });
        Ok(())
    }
}

fn sorted_names(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn reason_of_link(error: &io::Error) -> SkipReason {
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return SkipReason::SymlinkLoop;
    }
    match error.kind() {
        io::ErrorKind::NotFound => SkipReason::SymlinkBroken,
        kind => SkipReason::Unreadable(kind),
    }
}

/// The fields of a `stat` have other integer types on other systems.
fn number<From: TryInto<Into>, Into: Default>(field: From) -> Into {
    field.try_into().unwrap_or_default()
}
