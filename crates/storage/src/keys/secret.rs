//! What a key looks like: `hf_`, 43 random characters, and 6 that check them. Recognisable to people and to scanners for
//! secrets; a mistyped or cut one can be told from one that is unknown without asking anybody.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::StorageError;

/// What every key begins with.
const PREFIX: &str = "hf_";
/// 62 to the power of 43 is just above 2 to the power of 256.
const RANDOM_CHARS: usize = 43;
/// As many as it takes for 32 bits.
const CHECK_CHARS: usize = 6;
/// The digits of base 62.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Random bytes from here on would favour the first digits.
const FAIR_BELOW: u8 = 248;

/// A key's secret; printed only on purpose, and wiped from memory when it is dropped.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text to give to its owner, once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// At least 256 random bits from the operating system.
    pub(super) fn generate() -> Result<Self, StorageError> {
        // As large as it gets: growing would leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + RANDOM_CHARS + CHECK_CHARS));
        text.push_str(PREFIX);
        let mut bytes = Zeroizing::new([0; 64]);
        while text.len() < PREFIX.len() + RANDOM_CHARS {
            let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
                .map_err(|error| crate::error::file_error("read", "the system's randomness")(error.into()))?;
            let missing = PREFIX.len() + RANDOM_CHARS - text.len();
            text.extend(bytes[..filled].iter().filter(|byte| **byte < FAIR_BELOW).take(missing).map(|b| digit(*b)));
        }
        let check = check(&text);
        text.push_str(&check);
        Ok(Self(text))
    }

    /// A hash without salt or stretching is enough for 256 random bits, and what is looked up is the hash, so timing
    /// tells nothing of the secret. Keys of the first version, which were written in hexadecimal, hash the same way.
    pub(super) fn hash(text: &str) -> blake3::Hash {
        blake3::Hash::from_bytes(blake3::derive_key("holdfast api key 2026", text.as_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whether a text has the form of a key, its check included.
pub fn is_well_formed(text: &str) -> bool {
    let Some(body) = text.strip_prefix(PREFIX) else { return false };
    if body.len() != RANDOM_CHARS + CHECK_CHARS || !body.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    let (random, checked) = text.split_at(PREFIX.len() + RANDOM_CHARS);
    check(random) == checked
}

/// CRC-32 (ISO-HDLC) of the text in base 62, the most significant digit first.
fn check(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECK_CHARS];
    for place in digits.iter_mut().rev() {
        *place = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

fn digit(byte: u8) -> char {
    char::from(DIGITS[usize::from(byte % 62)])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_recognisable_and_never_the_same() {
        let keys: HashSet<String> = (0..1_000).map(|_| Secret::generate().unwrap().reveal().to_owned()).collect();
        assert_eq!(keys.len(), 1_000);
        for key in &keys {
            assert!(key.len() == 52 && is_well_formed(key), "{key}");
        }
        let used: HashSet<u8> = keys.iter().flat_map(|key| key.bytes().skip(PREFIX.len())).collect();
        assert_eq!(used.len(), 62, "every digit occurs");
    }

    #[test]
    fn a_secret_is_wiped_and_was_never_moved() {
        fn is_wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        let Secret(text) = Secret::generate().unwrap();
        is_wiped(&text);
        assert_eq!((text.len(), text.capacity()), (52, 52), "it has grown, and left copies behind");
    }

    #[test]
    fn a_mistyped_or_cut_key_is_noticed() {
        let key = Secret::generate().unwrap().reveal().to_owned();
        for at in PREFIX.len()..key.len() {
            let mut bytes = key.clone().into_bytes();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            assert!(!is_well_formed(&String::from_utf8(bytes).unwrap()), "place {at}");
            assert!(!is_well_formed(&key[..at]));
        }
        for wrong in ["", "hf_", &key[1..], &format!("{key}0"), &key.to_lowercase(), "hf_é"] {
            assert!(!is_well_formed(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_check_is_the_one_that_is_documented() {
        // CRC-32 of this text is 0xCBF43926, which is 3 421 780 262.
        assert_eq!(check("123456789"), "3jZRME");
        assert_eq!(u64::from(crc32fast::hash(b"123456789")), 3_421_780_262);
    }
}
