//! Bytes to text, or the verdict that they are none.
//!
//! In this order: a byte order mark decides; else valid UTF-8; else UTF-16 told by where its zero bytes are; else
//! Windows-1252 where the bytes above ASCII are letters in words or usual punctuation and nothing speaks for
//! damaged UTF-8. A guess that is wrong puts garbage into an index, so what is not clear is `Undecodable`.

use encoding_rs::{UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::SkipReason;

/// How a text was encoded in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8, ASCII included.
    Utf8,
    /// UTF-16, least significant byte first.
    Utf16Le,
    /// UTF-16, most significant byte first.
    Utf16Be,
    /// Windows-1252, ISO 8859-1 included.
    Windows1252,
}

impl Encoding {
    /// The name in the WHATWG Encoding Standard, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Utf16Le => "utf-16le",
            Self::Utf16Be => "utf-16be",
            Self::Windows1252 => "windows-1252",
        }
    }
}

/// How formats begin that contain text, or might for their first kilobytes.
const MAGIC: &[&[u8]] = &[
    b"%PDF-",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"\x28\xb5\x2f\xfd",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"\x7fELF",
    b"!<arch>\n",
    b"SQLite format 3\0",
    b"OggS",
    b"fLaC",
    b"ID3",
    b"wOFF",
    b"wOF2",
    b"\xca\xfe\xba\xbe",
    b"\0asm",
];

/// How much of a text is looked at for the pattern of UTF-16.
const SAMPLE_BYTES: usize = 4096;
/// Of all bytes, at most one in this many may be above ASCII in Windows-1252 text.
const MAX_HIGH_SHARE: usize = 4;
/// Of all characters, at most one in this many may be a control character.
const MAX_CONTROL_SHARE: usize = 50;

/// Whether the first bytes of a file already tell that it is not text.
pub(super) fn is_binary_head(head: &[u8]) -> bool {
    MAGIC.iter().any(|magic| head.starts_with(magic)) || (head.contains(&0) && utf16_of(head).is_none())
}

/// Decodes a whole file.
pub(super) fn decode(bytes: &[u8]) -> Result<(String, Encoding), SkipReason> {
    if let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        let text = std::str::from_utf8(rest).map_err(|_| SkipReason::Undecodable)?;
        return checked(text.to_owned(), Encoding::Utf8);
    }
    if let Some(encoding) = utf16_of(bytes) {
        return decode_utf16(bytes, encoding);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => checked(text.to_owned(), Encoding::Utf8),
        Err(_) if bytes.contains(&0) => Err(SkipReason::Binary),
        Err(_) => decode_windows_1252(bytes),
    }
}

fn decode_utf16(bytes: &[u8], encoding: Encoding) -> Result<(String, Encoding), SkipReason> {
    let decoder = if encoding == Encoding::Utf16Le { UTF_16LE } else { UTF_16BE };
    let (text, had_errors) = decoder.decode_with_bom_removal(bytes);
    if had_errors || bytes.len() % 2 == 1 {
        return Err(SkipReason::Undecodable);
    }
    checked(text.into_owned(), encoding)
}

/// UTF-16 by its byte order mark, or by zeros in nearly every other byte, as text in Latin script has them.
fn utf16_of(bytes: &[u8]) -> Option<Encoding> {
    match bytes {
        // The mark of UTF-32, which nobody writes files in.
        [0xff, 0xfe, 0, 0, ..] => return None,
        [0xff, 0xfe, ..] => return Some(Encoding::Utf16Le),
        [0xfe, 0xff, ..] => return Some(Encoding::Utf16Be),
        _ => {}
    }
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES) & !1];
    let zeros = |odd: usize| sample.iter().skip(odd).step_by(2).filter(|&&byte| byte == 0).count();
    let (even, odd, units) = (zeros(0), zeros(1), sample.len() / 2);
    let nearly_all = |count: usize| units >= 4 && count * 10 >= units * 7;
    let nearly_none = |count: usize| count * 50 <= units;
    if nearly_all(odd) && nearly_none(even) {
        Some(Encoding::Utf16Le)
    } else if nearly_all(even) && nearly_none(odd) {
        Some(Encoding::Utf16Be)
    } else {
        None
    }
}

/// Refuses text that is mostly not for reading.
fn checked(text: String, encoding: Encoding) -> Result<(String, Encoding), SkipReason> {
    let controls = text.bytes().filter(|&byte| is_control(byte)).count();
    if text.as_bytes().contains(&0) || controls * MAX_CONTROL_SHARE > text.len() {
        return Err(SkipReason::Binary);
    }
    Ok((text, encoding))
}

/// Control characters that text does not have: all but tab, line and page breaks, escape, and DOS's end of file.
fn is_control(byte: u8) -> bool {
    matches!(byte, 0..=7 | 14..=25 | 28..=31 | 127)
}

fn decode_windows_1252(bytes: &[u8]) -> Result<(String, Encoding), SkipReason> {
    let (text, _) = WINDOWS_1252.decode_without_bom_handling(bytes);
    let characters: Vec<char> = text.chars().collect();
    let high = characters.iter().filter(|c| !c.is_ascii()).count();
    let plausible = (0..characters.len()).all(|at| is_plausible(&characters, at));
    if !plausible || high * MAX_HIGH_SHARE > characters.len() || looks_like_damaged_utf8(bytes) {
        return Err(SkipReason::Undecodable);
    }
    checked(text.into_owned(), Encoding::Windows1252)
}

/// Whether a character is one that western European text has at such a place.
fn is_plausible(characters: &[char], at: usize) -> bool {
    let c = characters[at];
    if c.is_ascii() {
        return true;
    }
    let neighbour = |at: Option<usize>| at.and_then(|at| characters.get(at)).is_some_and(|c| c.is_alphabetic());
    if "àèéòóìùÀÈÉ".contains(c) || "–—‘’“”„‚…«»‹›€£¥§°©®™·•¿¡ºª²³¹½¼¾µ±\u{a0}\u{ad}×".contains(c)
    {
        return true;
    }
    let is_letter = "áâãäåæçêëíîïñôõöøœúûüýßšžÁÂÃÄÅÆÇÊËÌÍÎÏÑÒÓÔÕÖØŒÙÚÛÜÝŠŽŸ".contains(c);
    is_letter && (neighbour(at.checked_sub(1)) || neighbour(at.checked_add(1)))
}

/// Whether some of the bytes above ASCII are whole UTF-8 sequences: then the rest is damage, and reading all as
/// Windows-1252 would spoil what is sound.
fn looks_like_damaged_utf8(bytes: &[u8]) -> bool {
    bytes.utf8_chunks().any(|chunk| !chunk.valid().is_ascii())
}
