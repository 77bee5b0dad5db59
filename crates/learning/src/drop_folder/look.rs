//! A look at the folder: which files are there, which are still what they were, and which of them have lines to be taken.
//!
//! Files are told apart by what was taken of them (see [`super::record`]), not by name: a rename changes nothing. What is
//! found to be another file under a known inode was begun anew, and what was seen and not taken of it before is a gap,
//! unless it stands in a copy (see [`super::copies`]).

use std::{collections::BTreeMap, fs::File, io, os::fd::OwnedFd};

use tokio::time::Instant;

use super::{
    copies::Verdict,
    folder::{self, Entry, Listing},
    reader::{Cause, Followed, Gap, Notice, Reader, Then},
    record::{Key, Record, born_ns},
};

/// Looks after which a file that is not in the listing is gone: one that is renamed while the folder is listed may be in
/// neither place.
pub(super) const MISSING_LOOKS: u32 = 2;

/// A file that is no more, though its inode is that of another now.
#[derive(Debug)]
pub(super) struct Ended {
    pub record: Record,
    cause: Cause,
    /// How much of it stands in a copy.
    pub covered: u64,
}

impl Reader {
    /// Looks at the folder and lines up the files that have lines.
    pub fn look(&mut self, now: Instant) -> io::Result<()> {
        self.is_again = false;
        self.queue.clear();
        let folder = folder::open(&self.path)?;
        let mut listing = self.list(&folder)?;
        let mut ended = self.check(&folder, &listing);
        if !ended.is_empty() {
            // Whoever copies a file before truncating it has made the copy by now, perhaps after the listing.
            listing = self.list(&folder)?;
        }
        self.place(&listing, now);
        self.meet(&folder, &listing, &mut ended);
        for (key, ended) in ended {
            let bytes = ended.record.seen.saturating_sub(ended.record.position.max(ended.covered));
            let bytes = if ended.record.copy_of.is_some() { 0 } else { bytes };
            let gap = Gap::of(key, &ended.record, bytes, ended.cause);
            self.notices.push_back(Notice { key, gap, then: Then::BeginAnew });
        }
        self.forget(now);
        self.line_up(&listing);
        (self.passed_over, self.left_out) = (listing.passed_over, listing.left_out);
        self.folder = Some(folder);
        Ok(())
    }

    fn list(&self, folder: &OwnedFd) -> io::Result<Listing> {
        let inodes = self.inodes();
        folder::list(folder, self.settings.files_max, |inode| inodes.contains(&inode))
    }

    /// Looks at the known files that may have changed, and finds those that were begun anew.
    fn check(&mut self, folder: &OwnedFd, listing: &Listing) -> BTreeMap<Key, Ended> {
        let mut ended = BTreeMap::new();
        for (key, entry) in &listing.files {
            let Some(followed) = self.files.get_mut(key) else { continue };
            if followed.stamp.is_some_and(|stamp| stamp.still_holds(entry.stamp)) {
                continue;
            }
            followed.is_blocked = false;
            match check_one(folder, *key, entry, followed) {
                Ok(Checked::Same) => {}
                Ok(Checked::Shortened(bytes)) => {
                    let gap = Gap::of(*key, &followed.record, bytes, Cause::Truncated);
                    self.notices.push_back(Notice { key: *key, gap, then: Then::Store });
                }
                Ok(Checked::Ended(found)) => {
                    ended.insert(*key, found);
                }
                Ok(Checked::Moved) => {
                    (followed.is_blocked, followed.stamp) = (true, None);
                    self.is_again = true;
                }
                Err(error) => {
                    (followed.is_blocked, followed.stamp) = (true, None);
                    self.note_trouble(*key, &error);
                }
            }
        }
        ended
    }

    /// Notes where the known files are.
    fn place(&mut self, listing: &Listing, now: Instant) {
        for (key, followed) in &mut self.files {
            followed.former_name = None;
            if let Some(entry) = listing.files.get(key) {
                followed.missing = None;
                if followed.record.name != entry.name {
                    let former = std::mem::replace(&mut followed.record.name, entry.name.clone());
                    followed.former_name = Some(former);
                }
            } else {
                let (_, looks) = followed.missing.get_or_insert((now, 0));
                *looks = looks.saturating_add(1);
            }
        }
    }

    /// Takes up the files that are not known, and finds out which of those nothing was taken of are copies.
    fn meet(&mut self, folder: &OwnedFd, listing: &Listing, ended: &mut BTreeMap<Key, Ended>) {
        for (key, entry) in &listing.files {
            let met = match self.files.get(key) {
                Some(_) => Ok(true),
                None => self.take_up(folder, listing, *key, entry),
            };
            let judged = match met {
                Ok(true) => self.judge(folder, listing, ended, *key),
                Ok(false) => {
                    self.is_again = true;
                    continue;
                }
                Err(error) => Err(error),
            };
            match judged {
                Ok(verdict) => self.settle(*key, verdict, ended),
                Err(error) => {
                    if let Some(followed) = self.files.get_mut(key) {
                        (followed.is_blocked, followed.stamp) = (true, None);
                    }
                    self.trouble = Some(format!("{:?}: {error}", entry.name));
                }
            }
        }
    }

    /// Takes up a file that is not known, if it is still there.
    fn take_up(&mut self, folder: &OwnedFd, listing: &Listing, key: Key, entry: &Entry) -> io::Result<bool> {
        let Some(file) = folder::open_file(folder, &entry.name, key)? else { return Ok(false) };
        let followed = match self.under_another_device(listing, key, &file)? {
            // What has come since is found by the next look, as for any file that is known.
            Some(followed) => {
                self.is_again = true;
                followed
            }
            None => {
                let mut followed = Followed::new(Record::fresh(&entry.name, &file, 0)?);
                followed.stamp = Some(entry.stamp);
                followed
            }
        };
        self.files.insert(key, followed);
        Ok(true)
    }

    /// The same file as it was known before: numbers of devices may change when a machine starts.
    fn under_another_device(&mut self, listing: &Listing, key: Key, file: &File) -> io::Result<Option<Followed>> {
        let born = born_ns(&file.metadata()?);
        let is_candidate = |(other, followed): &(&Key, &Followed)| {
            other.inode == key.inode
                && !listing.files.contains_key(other)
                && followed.record.position > 0
                && born.is_some()
                && followed.record.born_ns == born
        };
        let candidates: Vec<Key> = self.files.iter().filter(is_candidate).map(|(other, _)| *other).collect();
        for other in candidates {
            let Some(followed) = self.files.get(&other) else { continue };
            if followed.record.ends(file)?.is_none() {
                continue;
            }
            let Some((followed, then)) = self.remove(other) else { continue };
            self.notices.push_back(Notice { key: other, gap: None, then });
            self.notices.push_back(Notice { key, gap: None, then: Then::Store });
            return Ok(Some(Followed::new(followed.record)));
        }
        Ok(None)
    }

    /// Acts on what was found out about a file.
    fn settle(&mut self, key: Key, verdict: Verdict, ended: &mut BTreeMap<Key, Ended>) {
        let Some(followed) = self.files.get_mut(&key) else { return };
        match verdict {
            Verdict::Own => followed.record.copy_of = None,
            Verdict::Unclear => {
                (followed.is_blocked, followed.stamp) = (true, None);
                self.is_again = true;
            }
            Verdict::Waits(original) => {
                if followed.record.copy_of.replace(original) != Some(original) {
                    self.notices.push_back(Notice { key, gap: None, then: Then::Store });
                }
            }
            Verdict::Continues(record, original) => {
                let size = record.seen;
                followed.record = *record;
                followed.is_drained = false;
                self.notices.push_back(Notice { key, gap: None, then: Then::Store });
                if let Some(ended) = ended.get_mut(&original) {
                    ended.covered = ended.covered.max(size);
                } else if let Some(original) = self.files.get_mut(&original) {
                    original.covered = original.covered.max(size);
                }
            }
        }
    }

    /// Forgets files that are gone for long, or for longest where they are too many.
    fn forget(&mut self, now: Instant) {
        let gone = |followed: &Followed| followed.missing.filter(|(_, looks)| *looks >= MISSING_LOOKS);
        let mut missing: Vec<_> =
            self.files.iter().filter_map(|(key, followed)| Some((gone(followed)?.0, *key))).collect();
        missing.sort_unstable();
        let too_many = missing.len().saturating_sub(self.settings.files_max);
        for (number, (since, key)) in missing.into_iter().enumerate() {
            if number >= too_many && now.saturating_duration_since(since) < self.settings.forget_after {
                continue;
            }
            let Some((followed, then)) = self.remove(key) else { continue };
            let gap = Gap::of(key, &followed.record, followed.bytes_missing(), Cause::Deleted);
            self.notices.push_back(Notice { key, gap, then });
        }
    }

    fn line_up(&mut self, listing: &Listing) {
        for key in listing.files.keys() {
            let Some(followed) = self.files.get_mut(key) else { continue };
            let is_ready = !followed.is_blocked && !followed.is_waiting() && !followed.is_drained;
            if is_ready && followed.record.unread() > 0 {
                followed.until = followed.record.seen;
                self.queue.push_back(*key);
            }
        }
    }
}

/// What a known file turned out to be.
enum Checked {
    Same,
    /// So many bytes that were seen and not taken were cut off; what was taken is there.
    Shortened(u64),
    Ended(Ended),
    /// Its name means another file by now, or none.
    Moved,
}

fn check_one(folder: &OwnedFd, key: Key, entry: &Entry, followed: &mut Followed) -> io::Result<Checked> {
    let Some(file) = folder::open_file(folder, &entry.name, key)? else { return Ok(Checked::Moved) };
    let metadata = file.metadata()?;
    let size = metadata.len();
    let record = &mut followed.record;
    let is_reborn = born_ns(&metadata).zip(record.born_ns).is_some_and(|(now, before)| now != before);
    followed.stamp = Some(entry.stamp);
    followed.is_drained = false;
    if !is_reborn && size >= record.bytes_min() && record.ends(&file)?.is_some() {
        let cut_off = if record.copy_of.is_some() { 0 } else { record.seen.saturating_sub(size) };
        if cut_off > 0 {
            followed.long = None;
            return Ok(Checked::Shortened(cut_off));
        }
        record.glimpse(&file, size)?;
        return Ok(Checked::Same);
    }
    let fresh = Record::fresh(&entry.name, &file, record.generation.wrapping_add(1))?;
    let cause = if is_reborn { Cause::Replaced } else { Cause::Truncated };
    let ended = Ended { record: std::mem::replace(record, fresh), cause, covered: 0 };
    followed.long = None;
    Ok(Checked::Ended(ended))
}
