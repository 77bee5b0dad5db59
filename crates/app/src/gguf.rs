//! Files of language models, as far as they have to be looked at before somebody else runs them: the beginning of GGUF
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>).

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// What such a file begins with.
const MAGIC: [u8; 4] = *b"GGUF";
/// How much of a file is looked at. What it says of itself stands before its vocabulary, which has megabytes.
const LOOKED_AT_BYTES: u64 = 64 << 10;
/// What ends in this tells how many tokens the model reads; before it stands the name of the architecture.
const CONTEXT_LENGTH: &[u8] = b".context_length";
/// The types of values that matter here; 0 to 12 there are.
const UINT32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const UINT64: u32 = 10;

/// Whether a file is of the format, by its first bytes.
pub fn check(path: &Path) -> Result<(), String> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "names a file that is not there".to_owned(),
        kind => format!("names a file that cannot be read: {kind}"),
    };
    // Opening a pipe that nobody writes into would wait for ever.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err("names what is not a file".to_owned());
    }
    let mut magic = [0; MAGIC.len()];
    let mut file = File::open(path).map_err(unreadable)?;
    match file.read_exact(&mut magic) {
        Ok(()) if magic == MAGIC => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(unreadable(error)),
        _ => Err("names a file that is not GGUF: it does not begin with these letters".to_owned()),
    }
}

/// How many tokens the model of a file was made to read; nothing where the file does not say so at its beginning.
pub fn context_length(path: &Path) -> Option<u64> {
    let mut beginning = Vec::new();
    File::open(path).ok()?.take(LOOKED_AT_BYTES).read_to_end(&mut beginning).ok()?;
    context_length_in(&beginning)
}

fn context_length_in(beginning: &[u8]) -> Option<u64> {
    let mut rest = Rest(beginning.strip_prefix(&MAGIC)?);
    let (_version, _tensors, entries) = (rest.u32()?, rest.u64()?, rest.u64()?);
    // One that claims more than there is ends where the bytes do.
    for _ in 0..entries {
        let (name, kind) = (rest.string()?, rest.u32()?);
        let is_wanted = name.ends_with(CONTEXT_LENGTH);
        match kind {
            UINT32 if is_wanted => return rest.u32().map(u64::from),
            UINT64 if is_wanted => return rest.u64(),
            STRING => drop(rest.string()?),
            // Vocabularies are arrays, and stand after what is looked for.
            ARRAY => return None,
            other => drop(rest.bytes(size_of_kind(other)?)?),
        }
    }
    None
}

/// Bytes of a value of a type of fixed size.
fn size_of_kind(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// What has not been read yet. Numbers are little-endian.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, count: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.bytes(4)?.first_chunk()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.bytes(8)?.first_chunk()?))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.u64()?;
        self.bytes(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gguf_file_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            check(&path)
        };
        assert_eq!(check("good", b"GGUF\x03\0\0\0"), Ok(()));
        for (name, content) in [("zip", &b"PK\x03\x04"[..]), ("short", b"GGU"), ("empty", b""), ("ggml", b"ggjt1234")] {
            assert!(check(name, content).unwrap_err().contains("not GGUF"), "{name}");
        }
        assert!(super::check(folder.path()).unwrap_err().contains("not a file"));
        assert!(super::check(&folder.path().join("none")).unwrap_err().contains("not there"));
    }

    fn string(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }

    fn entry(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        [&string(name), &kind.to_le_bytes()[..], value].concat()
    }

    fn file(entries: &[Vec<u8>]) -> Vec<u8> {
        let head = [&MAGIC[..], &3_u32.to_le_bytes(), &7_u64.to_le_bytes(), &(entries.len() as u64).to_le_bytes()];
        [head.concat(), entries.concat()].concat()
    }

    #[test]
    fn what_a_model_reads_is_read_and_nothing_else_believed() {
        let length = entry("llama.context_length", UINT32, &4_096_u32.to_le_bytes());
        let name = entry("general.architecture", STRING, &string("llama"));
        let flag = entry("general.flag", 7, &[1]);
        let whole = file(&[name.clone(), flag, length.clone()]);
        assert_eq!(context_length_in(&whole), Some(4_096));
        let wide = entry("llama.context_length", UINT64, &(1_u64 << 33).to_le_bytes());
        assert_eq!(context_length_in(&file(&[wide])), Some(1 << 33));
        // Cut anywhere, it says nothing, and nothing breaks.
        for end in 0..whole.len() {
            assert_eq!(context_length_in(&whole[..end]), None, "{end}");
        }
        let endless = entry("general.name", STRING, &u64::MAX.to_le_bytes());
        assert_eq!(context_length_in(&file(&[endless, length.clone()])), None);
        let odd = entry("general.odd", 99, &[]);
        assert_eq!(context_length_in(&file(&[odd, length.clone()])), None);
        let words = entry("llama.context_length", STRING, &string("many"));
        assert_eq!(context_length_in(&file(&[words])), None);
    }
}
