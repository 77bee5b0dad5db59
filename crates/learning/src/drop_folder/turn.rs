//! One turn of one file: what follows its position is read, made into events and letters, and its position moved.
//!
//! No lock is taken. Whoever holds an exclusive lock for long would stop the reader, and a reader that holds a shared one
//! stops every writer; and a lock alone says nothing of what happened between two looks. Instead, what was read is
//! believed only if afterwards the file still has at both ends what was taken of it before: an append leaves it there,
//! and a truncation takes all of it away, so that nothing of two lives of a file is ever taken for one.

use std::{fs::File, io};

use super::{
    dead_letters::Letter,
    folder,
    long_line::{self, LongLine, Scan},
    reader::{Batch, Followed, Reader, Turn},
    record::{Digest, END_BYTES, Ends, Key, read_at},
};
use crate::line::{self, Bad, LINE_BYTES_MAX};

/// Bytes that are read at a time.
const READ_BYTES: usize = 512 << 10;

/// What a piece of a file is made of.
struct Piece {
    /// Where the last line ends that was looked at.
    taken: usize,
    letters: Vec<Letter>,
    /// How many events the batch had, and where in the piece the line began, when the first letter came.
    before_letters: (usize, usize),
}

impl Reader {
    pub(super) fn turn(&mut self, key: Key, batch: &mut Batch, now_ms: i64) -> io::Result<Turn> {
        let (Some(folder), Some(followed)) = (&self.folder, self.files.get_mut(&key)) else { return Ok(Turn::Done) };
        let Some(file) = folder::open_file(folder, &followed.record.name, key)? else { return Ok(Turn::Again) };
        let size = file.metadata()?.len();
        if size < followed.record.bytes_min() {
            return Ok(Turn::Again);
        }
        if followed.long.is_some() {
            return self.long_turn(key, &file, size, batch, now_ms);
        }
        let unread = size - followed.record.position;
        let length = read(&file, followed.record.position, unread, &mut self.buffer)?;
        batch.note_read(length as u64);
        let Some(ends) = believed(&file, followed, &self.buffer[..length])? else { return Ok(Turn::Again) };
        let Some(last) = memchr::memrchr(b'\n', &self.buffer[..length]) else {
            if length <= LINE_BYTES_MAX {
                followed.is_drained = true;
                return Ok(Turn::Done);
            }
            followed.long = Some(LongLine::new(followed.record.position, &self.buffer[..length]));
            return Ok(Turn::More);
        };
        let first_line = memchr::memchr(b'\n', &self.buffer[..length]).unwrap_or(last);
        let id = followed.record.identify(key, &self.buffer[..first_line]);
        let events_before = batch.events.len();
        let mut piece = self.take_lines(key, id, last + 1, batch, now_ms);
        let written = self.post(&piece.letters, now_ms);
        if written.is_err() {
            let (events, begin) = piece.before_letters;
            batch.cut(events);
            (piece.taken, piece.letters) = (begin, Vec::new());
        }
        batch.taken.events += (batch.events.len() - events_before) as u64;
        batch.taken.dead_letters += piece.letters.len() as u64;
        let Some(followed) = self.files.get_mut(&key) else { return Ok(Turn::Done) };
        if piece.taken > 0 {
            followed.record.advance(&ends, &self.buffer[..piece.taken]);
            followed.record.seen = followed.record.seen.max(size);
            batch.touch(key);
        }
        written?;
        followed.is_drained = piece.taken == last + 1 && length as u64 == unread;
        // No further than the last look saw: a file that grows faster than it is read would never let a pass end.
        let is_done = followed.is_drained || followed.record.position >= followed.until;
        Ok(if is_done { Turn::Done } else { Turn::More })
    }

    /// Makes events and letters of the lines of what was read, as long as the batch has room.
    fn take_lines(&mut self, key: Key, id: Digest, end: usize, batch: &mut Batch, now_ms: i64) -> Piece {
        let mut piece = Piece { taken: 0, letters: Vec::new(), before_letters: (0, 0) };
        let Some(followed) = self.files.get(&key) else { return piece };
        let position = followed.record.position;
        for at in memchr::memchr_iter(b'\n', &self.buffer[..end]) {
            if !batch.has_room() {
                break;
            }
            let begin = piece.taken;
            let line = &self.buffer[begin..at];
            let offset = position + begin as u64;
            match line::event(line, &self.rules, now_ms, || id.event_id(offset)) {
                Ok(None) => {}
                Ok(Some(event)) => {
                    if !batch.fits(&event) {
                        break;
                    }
                    batch.add(event);
                }
                Err(bad) => {
                    if piece.letters.is_empty() {
                        piece.before_letters = (batch.events.len(), begin);
                    }
                    piece.letters.push(letter(followed, id, offset, line, bad));
                    batch.add_letter();
                }
            }
            piece.taken = at + 1;
        }
        piece
    }

    /// Has letters on the disk.
    fn post(&mut self, letters: &[Letter], now_ms: i64) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let files = &self.files;
        self.dead_letters.write(folder, letters, || Self::durable(files), now_ms)
    }

    /// Goes on with a line that is too long to be an event, until its end is found.
    fn long_turn(&mut self, key: Key, file: &File, size: u64, batch: &mut Batch, now_ms: i64) -> io::Result<Turn> {
        let Some(followed) = self.files.get_mut(&key) else { return Ok(Turn::Done) };
        let Some(mut long) = followed.long.take() else { return Ok(Turn::More) };
        let scan = long.scan(file, size, &mut self.buffer)?;
        batch.note_read(long_line::TURN_BYTES);
        if !long.begins(file)? || followed.record.ends(file)?.is_none() {
            return Ok(Turn::Again);
        }
        let end = match scan {
            Scan::End(end) => end,
            Scan::More | Scan::Waits => {
                followed.long = Some(long);
                followed.is_drained = scan == Scan::Waits;
                return Ok(if followed.is_drained { Turn::Done } else { Turn::More });
            }
        };
        let id = followed.record.identify(key, long.head());
        let bad = Bad::new(line::Reason::TooLong, format_args!("a line has at most {LINE_BYTES_MAX} bytes"));
        let mut letter = letter(followed, id, long.begin(), long.head(), bad);
        (letter.bytes, letter.hash) = (end - long.begin(), Some(long.hash()));
        self.post(std::slice::from_ref(&letter), now_ms)?;
        batch.add_letter();
        batch.taken.dead_letters += 1;
        let Some(followed) = self.files.get_mut(&key) else { return Ok(Turn::Done) };
        followed.record.move_to(file, end + 1)?;
        followed.record.seen = followed.record.seen.max(size);
        batch.touch(key);
        Ok(Turn::More)
    }
}

/// Reads what follows a position: at first as much as is read at a time, and where no line ends in it, enough to know that
/// the line is too long.
fn read(file: &File, position: u64, unread: u64, buffer: &mut Vec<u8>) -> io::Result<usize> {
    buffer.resize(LINE_BYTES_MAX + 1, 0);
    let unread = usize::try_from(unread).unwrap_or(usize::MAX);
    let length = read_at(file, position, &mut buffer[..unread.min(READ_BYTES)])?;
    if length < READ_BYTES || memchr::memchr(b'\n', &buffer[..length]).is_some() {
        return Ok(length);
    }
    let end = unread.min(LINE_BYTES_MAX + 1);
    Ok(length + read_at(file, position + length as u64, &mut buffer[length..end])?)
}

/// The ends of what was taken before, if what was read is of the same file as they are.
fn believed(file: &File, followed: &Followed, piece: &[u8]) -> io::Result<Option<Ends>> {
    // Where nothing was taken, the beginning of what was read stands for it.
    let begin = &piece[..piece.len().min(usize::try_from(END_BYTES).unwrap_or(usize::MAX))];
    let mut again = vec![0; begin.len()];
    let read = read_at(file, followed.record.position, &mut again)?;
    if read < again.len() || again != begin {
        return Ok(None);
    }
    followed.record.ends(file)
}

fn letter(followed: &Followed, file_id: Digest, offset: u64, line: &[u8], bad: Bad) -> Letter {
    Letter {
        bad,
        file: followed.record.name.clone(),
        file_id,
        offset,
        bytes: line.len() as u64,
        line: line.to_vec(),
        hash: None,
    }
}
