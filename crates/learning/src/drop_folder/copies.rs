//! Copies: a file that was copied to another name before it was truncated must not be read twice.
//!
//! What can be known. A file is taken for a copy if its name is one that rotation gives (`x.jsonl.1` of `x.jsonl`), if the
//! file that it would be of is read under that name or was, if nothing was taken of it yet, and if what can be compared
//! is alike: both ends of all it has, as long as the other one is there, and both ends of what was taken of the other one,
//! once that is gone. A copy waits as long as its original is there. Then it is read on from where the original was.
//!
//! What cannot be known. A copy under another name, under its own (a file that was written anew and put in its place), in
//! another folder, or of a file of which nothing was read, is a file of its own. A copy that is shorter than what was taken
//! of an original that is gone is compared by its beginning alone. Files whose lines are all alike, without a time, a
//! number or an id, cannot be told apart from copies of each other.

use std::{collections::BTreeMap, fs::File, io, os::fd::OwnedFd};

use super::{
    folder::{self, Listing},
    look::{Ended, MISSING_LOOKS},
    names,
    reader::{Followed, Reader},
    record::{END_BYTES, Key, Record, born_ns, read_range},
};

/// What a file is beside others.
pub(super) enum Verdict {
    /// A file of its own.
    Own,
    /// A copy of one that is read itself.
    Waits(Key),
    /// A copy of one that is gone, to be read as that one would have been.
    Continues(Box<Record>, Key),
    /// Something changed while it was looked at.
    Unclear,
}

impl Reader {
    /// Finds out whether a file of which nothing was taken is a copy.
    pub(super) fn judge(
        &self,
        folder: &OwnedFd,
        listing: &Listing,
        ended: &BTreeMap<Key, Ended>,
        key: Key,
    ) -> io::Result<Verdict> {
        let Some(followed) = self.files.get(&key) else { return Ok(Verdict::Own) };
        if !followed.record.is_fresh() || followed.record.seen == 0 {
            return Ok(Verdict::Own);
        }
        let originals = self.originals(&followed.record, ended, key);
        if originals.is_empty() {
            return Ok(Verdict::Own);
        }
        let Some(file) = folder::open_file(folder, &followed.record.name, key)? else { return Ok(Verdict::Unclear) };
        for original in originals {
            let verdict = self.compare(folder, listing, ended, (&followed.record, &file), original)?;
            if !matches!(verdict, Verdict::Own) {
                return Ok(verdict);
            }
        }
        Ok(Verdict::Own)
    }

    /// The files that a file may be a copy of: the one that it was taken for a copy of before, or those that bear, or bore
    /// at the last look, the name that it would have had before it was rotated.
    fn originals(&self, record: &Record, ended: &BTreeMap<Key, Ended>, key: Key) -> Vec<Key> {
        if let Some(original) = record.copy_of.filter(|original| self.files.contains_key(original)) {
            return vec![original];
        }
        let Some(name) = names::unrotated(&record.name) else { return Vec::new() };
        let bears_it = |(other, followed): &(&Key, &Followed)| {
            let before = ended.get(other).map(|ended| &ended.record.name);
            let mut names = [Some(&followed.record.name), followed.former_name.as_ref(), before].into_iter().flatten();
            let is_seen = followed.record.seen > 0 || before.is_some();
            **other != key && is_seen && !followed.is_waiting() && names.any(|bears| *bears == name)
        };
        self.files.iter().filter(bears_it).map(|(other, _)| *other).collect()
    }

    fn compare(
        &self,
        folder: &OwnedFd,
        listing: &Listing,
        ended: &BTreeMap<Key, Ended>,
        (copy, file): (&Record, &File),
        original: Key,
    ) -> io::Result<Verdict> {
        if let Some(ended) = ended.get(&original) {
            let continued = continued(&ended.record, original, file, copy)?;
            return Ok(continued.map_or(Verdict::Own, |record| Verdict::Continues(Box::new(record), original)));
        }
        let Some(other) = self.files.get(&original) else { return Ok(Verdict::Own) };
        let Some(entry) = listing.files.get(&original) else {
            let is_gone = other.missing.is_some_and(|(_, looks)| looks >= MISSING_LOOKS);
            return Ok(match continued(&other.record, original, file, copy)? {
                None => Verdict::Own,
                // It may only be on its way from one name to another.
                Some(_) if !is_gone => Verdict::Waits(original),
                Some(record) => Verdict::Continues(Box::new(record), original),
            });
        };
        let Some(first) = folder::open_file(folder, &entry.name, original)? else { return Ok(Verdict::Unclear) };
        let is_alike = is_alike(&first, file)?;
        // What was compared is what it was taken for, if the original has not been begun anew meanwhile.
        let is_there = first.metadata()?.len() >= other.record.seen && other.record.ends(&first)?.is_some();
        Ok(match (is_there, is_alike) {
            (false, _) => Verdict::Unclear,
            (true, true) => Verdict::Waits(original),
            (true, false) => Verdict::Own,
        })
    }
}

/// Whether a file has, at both ends of all that it has, what the first one has there.
fn is_alike(first: &File, file: &File) -> io::Result<bool> {
    let size = file.metadata()?.len();
    let bytes = size.min(END_BYTES);
    for offset in [0, size - bytes] {
        if read_range(first, offset, bytes)? != read_range(file, offset, bytes)? {
            return Ok(false);
        }
    }
    Ok(first.metadata()?.len() >= size)
}

/// How a file is to be read that is a copy of one that is gone; nothing where it is none.
fn continued(gone: &Record, gone_key: Key, file: &File, copy: &Record) -> io::Result<Option<Record>> {
    let metadata = file.metadata()?;
    let size = metadata.len();
    let mut record = gone.clone();
    (record.name, record.born_ns, record.seen) = (copy.name.clone(), born_ns(&metadata), size);
    record.copy_of = None;
    if size >= gone.bytes_min() {
        return Ok(gone.ends(file)?.is_some().then_some(record));
    }
    // All that it has was taken of the original, which went on after it was copied: it begins as that one did, or was
    // compared with it while that was there.
    let is_copy = gone.position > 0
        && (copy.copy_of == Some(gone_key) || gone.begins(file)? || gone.has_first_line(gone_key, file)?);
    if !is_copy {
        return Ok(None);
    }
    record.move_to(file, size)?;
    Ok(Some(record))
}
