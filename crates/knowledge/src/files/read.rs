//! Reading one file: bounded, whole, and in one state.
//!
//! Does not walk and does not retry later; what cannot be read now is a reason to skip.

use std::{fs::File, io::Read};

use super::{
    FileEntry, FileIdentity, FileLimits, SkipReason,
    decode::{self, Encoding},
    open::{Stamp, open_regular_beneath, reason_of},
};

/// How often a file that changes during the read is read.
const ATTEMPTS: usize = 3;
/// What is read before a file is judged binary, so that a large one is not read for nothing.
const HEAD_BYTES: u64 = 8 * 1024;

/// What a file said, and the state it was in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFile {
    /// The decoded text without byte order mark; empty for an empty file.
    pub text: String,
    /// BLAKE3 of the bytes as they are in the file.
    pub hash: [u8; 32],
    /// How the text was encoded.
    pub encoding: Encoding,
    /// Size in bytes.
    pub size: u64,
    /// Modification time in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Which file it was.
    pub identity: FileIdentity,
}

/// Reads and decodes a file that a walk found.
///
/// # Errors
/// The reason to skip it: it is gone, too large, not a regular file any more, binary, undecodable, unreadable, or
/// changes all the time.
pub fn read(entry: &FileEntry, limits: &FileLimits) -> Result<ReadFile, SkipReason> {
    for _ in 0..ATTEMPTS {
        let (file, before) = open_regular_beneath(&entry.root, &entry.real)?;
        let bytes = read_bytes(&file, before, limits.max_file_bytes)?;
        let after = Stamp::of(&file)?;
        if before != after || bytes.len() as u64 != after.size {
            continue;
        }
        let (text, encoding) = decode::decode(&bytes)?;
        return Ok(ReadFile {
            text,
            hash: *blake3::hash(&bytes).as_bytes(),
            encoding,
            size: after.size,
            modified_ns: after.modified_ns,
            identity: after.identity,
        });
    }
    Err(SkipReason::ChangedWhileRead)
}

fn read_bytes(file: &File, stamp: Stamp, limit_bytes: u64) -> Result<Vec<u8>, SkipReason> {
    let too_large = |size_bytes| SkipReason::TooLarge { size_bytes, limit_bytes };
    if stamp.size > limit_bytes {
        return Err(too_large(stamp.size));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stamp.size).unwrap_or(0).saturating_add(1));
    let unreadable = |error: std::io::Error| reason_of(&error);
    file.take(HEAD_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    if decode::is_binary_head(&bytes) {
        return Err(SkipReason::Binary);
    }
    // One byte more than allowed tells a file that grows from one that just fits.
    let rest = limit_bytes.saturating_add(1).saturating_sub(bytes.len() as u64);
    file.take(rest).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}
