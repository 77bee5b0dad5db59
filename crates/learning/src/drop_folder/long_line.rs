//! A line that is too long to be an event. It is read once to its end, with a hash of it and its beginning kept and nothing
//! else, however long it is, over as many turns as that takes.
//!
//! Holes of a sparse file are passed over and no part of the hash: a file can claim to have more zeros than could be read
//! in a year.

use std::{fs::File, io, os::fd::AsFd};

use rustix::{fs::SeekFrom, io::Errno};

use super::{
    dead_letters::CUT_BYTES,
    record::{read_at, read_range},
};

/// Bytes that are read in one turn.
pub(super) const TURN_BYTES: u64 = 8 << 20;

#[derive(Debug)]
pub(super) struct LongLine {
    begin: u64,
    /// Up to where it was looked at.
    scanned: u64,
    hasher: Box<blake3::Hasher>,
    head: Vec<u8>,
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// There is more to be read.
    More,
    /// There is nothing more to be read, and the line has no end.
    Waits,
    /// Where its end is.
    End(u64),
}

impl LongLine {
    /// A line that begins somewhere, of which a piece was read in which it does not end.
    pub fn new(begin: u64, piece: &[u8]) -> Self {
        let mut hasher = Box::new(blake3::Hasher::new());
        hasher.update(piece);
        let head = piece[..piece.len().min(CUT_BYTES)].to_vec();
        Self { begin, scanned: begin + piece.len() as u64, hasher, head }
    }

    pub fn begin(&self) -> u64 {
        self.begin
    }

    pub fn head(&self) -> &[u8] {
        &self.head
    }

    pub fn hash(&self) -> blake3::Hash {
        self.hasher.finalize()
    }

    /// Whether the file still has its beginning.
    pub fn begins(&self, file: &File) -> io::Result<bool> {
        Ok(read_range(file, self.begin, self.head.len() as u64)? == self.head)
    }

    /// Looks for its end in what follows.
    pub fn scan(&mut self, file: &File, size: u64, buffer: &mut Vec<u8>) -> io::Result<Scan> {
        let until = self.scanned.saturating_add(TURN_BYTES);
        buffer.resize(buffer.len().max(1 << 20), 0);
        while self.scanned < until {
            self.skip_hole(file, size)?;
            let left = usize::try_from(size.saturating_sub(self.scanned)).unwrap_or(usize::MAX);
            let wanted = left.min(buffer.len());
            let read = read_at(file, self.scanned, &mut buffer[..wanted])?;
            if read == 0 {
                return Ok(Scan::Waits);
            }
            let end = memchr::memchr(b'\n', &buffer[..read]);
            self.hasher.update(&buffer[..end.unwrap_or(read)]);
            if let Some(end) = end {
                return Ok(Scan::End(self.scanned + end as u64));
            }
            self.scanned += read as u64;
        }
        Ok(Scan::More)
    }

    fn skip_hole(&mut self, file: &File, size: u64) -> io::Result<()> {
        if self.scanned >= size {
            return Ok(());
        }
        match rustix::fs::seek(file.as_fd(), SeekFrom::Data(self.scanned)) {
            Ok(data) => self.scanned = data.max(self.scanned),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => self.scanned = size,
            // A file system that knows of no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Seek, SeekFrom, Write},
        time::Instant,
    };

    use super::*;

    fn scanned(long: &mut LongLine, file: &File) -> Scan {
        let size = file.metadata().unwrap().len();
        loop {
            match long.scan(file, size, &mut Vec::new()).unwrap() {
                Scan::More => {}
                other => return other,
            }
        }
    }

    #[test]
    fn a_long_line_is_hashed_whole_and_its_beginning_kept() {
        let mut file = tempfile::tempfile().unwrap();
        let line: Vec<u8> = (0..10 << 20).map(|at: u32| b'a' + (at % 23) as u8).collect();
        file.write_all(b"x\n").unwrap();
        file.write_all(&line).unwrap();
        let mut long = LongLine::new(2, &line[..1_000_000]);
        assert_eq!(scanned(&mut long, &file), Scan::Waits);
        // Looking for holes moves where the handle writes.
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"end\nmore\n").unwrap();
        assert_eq!(scanned(&mut long, &file), Scan::End(2 + (10 << 20) + 3));
        assert_eq!(long.hash(), blake3::hash(&[line.as_slice(), b"end"].concat()));
        assert_eq!(long.head(), &line[..CUT_BYTES]);
        assert!(long.begins(&file).unwrap());
        file.seek(SeekFrom::Start(100)).unwrap();
        file.write_all(b"!").unwrap();
        assert!(!long.begins(&file).unwrap());
    }

    #[test]
    fn a_hole_as_large_as_can_be_takes_no_time() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        let began = Instant::now();
        let mut long = LongLine::new(0, &[0; 2_000]);
        assert_eq!(scanned(&mut long, &file), Scan::Waits);
        file.seek(SeekFrom::Start(1 << 40)).unwrap();
        file.write_all(b"end\n").unwrap();
        assert_eq!(scanned(&mut long, &file), Scan::End((1 << 40) + 3));
        // Reading it would take minutes.
        assert!(began.elapsed().as_secs() < 20);
    }
}
