//! A provider's own words, made fit for a log: short, on one line, and without anything that could let somebody in.
//!
//! Providers repeat keys, whole or in part, when they refuse them, and some repeat the request's headers. What could be a
//! key is replaced; that a long identifier goes with it is the price.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// What is told of a provider's own words.
const WORDS_CHARS_MAX: usize = 200;
/// What of them is looked at. Anything that could be cut here is cut long before it is told.
const LOOKED_AT_BYTES_MAX: usize = 4 << 10;
/// A piece of our own key that long says too much of it.
const PIECE_BYTES_MIN: usize = 8;
/// What keys of known providers begin with.
const PREFIXES: [&str; 15] = [
    "sk-",
    "sk_",
    "pk-",
    "pk_",
    "rk_",
    "xai-",
    "gsk_",
    "hf_",
    "ghp_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "AIza",
    "AKIA",
    "eyJ",
];
/// What a key follows, whatever it looks like.
const ANNOUNCED_BY: [&str; 8] =
    ["bearer", "basic", "x-api-key", "api-key", "api_key", "apikey", "authorization", "token"];
/// Random text of that length has as many guesses as a password that nobody guesses.
const RANDOM_BYTES_MIN: usize = 20;
/// Bits a character, by Shannon's measure; English and identifiers of words have less over such lengths.
const RANDOM_BITS_MIN: f64 = 3.2;
const IN_PLACE: &str = "[redacted]";

/// Knows our own key.
#[derive(Clone)]
pub(crate) struct Redactor {
    /// Shared, so that no stream has a copy of its own.
    key: Option<Arc<SecretString>>,
}

impl Redactor {
    pub(crate) fn new(key: Option<SecretString>) -> Self {
        Self { key: key.map(Arc::new) }
    }

    /// Words that can be logged; nothing where there are none.
    pub(crate) fn clean(&self, words: &str) -> Option<String> {
        let words = &words[..words.floor_char_boundary(LOOKED_AT_BYTES_MAX)];
        let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let words = match &self.key {
            Some(key) => without_pieces(&words, key.expose_secret()),
            None => words,
        };
        let words = without_keys(words.trim());
        let cut: String = words.chars().take(WORDS_CHARS_MAX).collect();
        (!cut.is_empty()).then_some(cut)
    }
}

/// Replaces every piece of the key, however its letters are written.
fn without_pieces(words: &str, key: &str) -> String {
    let (text, key) = (words.as_bytes(), key.as_bytes());
    let shortest = PIECE_BYTES_MIN.min(key.len()).max(1);
    let same = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
    let mut kept = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let longest = (0..key.len()).map(|from| same(&text[at..], &key[from..])).max().unwrap_or(0);
        if longest >= shortest {
            kept.extend_from_slice(IN_PLACE.as_bytes());
            at += longest;
        } else {
            kept.push(text[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Replaces what looks like a key, or stands where one does.
fn without_keys(words: &str) -> String {
    let mut told = String::with_capacity(words.len());
    let mut is_announced = false;
    let mut rest = words;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_of_token(c)).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        if is_key(token) || (is_announced && token.len() >= PIECE_BYTES_MIN && !is_plain(token)) {
            told.push_str(IN_PLACE);
        } else {
            told.push_str(token);
        }
        if !token.is_empty() {
            let name = token.trim_matches(['.', '-', '=']);
            is_announced = ANNOUNCED_BY.iter().any(|word| name.eq_ignore_ascii_case(word))
                || (is_announced && is_plain(token) && token.len() < PIECE_BYTES_MIN);
        }
        let gap = after.find(is_of_token).unwrap_or(after.len());
        let (gap, after) = after.split_at(gap);
        told.push_str(gap);
        rest = after;
    }
    told
}

/// Letters alone, as words are.
fn is_plain(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_lowercase())
        || token.bytes().skip(1).all(|byte| byte.is_ascii_lowercase()) && token.bytes().all(|b| b.is_ascii_alphabetic())
}

/// What keys consist of: base64 of both kinds, dots between parts, and the stars that some put in the place of others.
fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '/' | '=' | '*' | '~')
}

fn is_key(token: &str) -> bool {
    let begins = |prefix: &&str| token.len() > prefix.len() + 4 && token.starts_with(*prefix);
    PREFIXES.iter().any(begins) || is_random(token)
}

/// Whether it is long, of several kinds of characters, and no row of words.
fn is_random(token: &str) -> bool {
    let longest = token.split(['-', '_', '.', '/']).max_by_key(|part| part.len()).unwrap_or_default();
    let has = |kind: fn(&u8) -> bool, text: &str| text.as_bytes().iter().any(kind);
    let is_mixed = |text: &str| has(u8::is_ascii_digit, text) && has(u8::is_ascii_alphabetic, text);
    let is_long = |text: &str| text.len() >= RANDOM_BYTES_MIN && bits(text) >= RANDOM_BITS_MIN;
    (is_mixed(longest) && is_long(longest))
        // Case that changes within a word, as base64 has it.
        || (is_long(longest) && has(u8::is_ascii_lowercase, longest) && longest.bytes().filter(u8::is_ascii_uppercase).count() > 4)
        // A UUID, which some providers have for keys.
        || (is_mixed(token) && token.len() >= 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'))
}

/// Shannon's entropy of the characters, in bits for each.
fn bits(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let length = text.len() as f64;
    let share = |count: &u32| f64::from(*count) / length;
    counts.iter().filter(|count| **count > 0).map(|count| -share(count) * share(count).log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(words: &str) -> String {
        Redactor::new(Some(SecretString::from("local-secret-for-tests"))).clean(words).unwrap_or_default()
    }

    #[test]
    fn what_could_be_a_key_is_replaced() {
        let check = |words: &str, expected: &str| assert_eq!(clean(words), expected, "{words}");
        check("Incorrect API key provided: sk-proj-abcd1234.", "Incorrect API key provided: [redacted]");
        check("Incorrect API key provided: sk-12345***********wxyz. See", "Incorrect API key provided: [redacted] See");
        check("invalid key hf_abcdefghij, sorry", "invalid key [redacted], sorry");
        check("got {\"authorization\": \"Bearer hunter22hunter\"}", "got {\"authorization\": \"Bearer [redacted]\"}");
        check("header x-api-key: Abcd_1234 is wrong", "header x-api-key: [redacted] is wrong");
        check("key 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b is unknown", "key [redacted] is unknown");
        check("key 123e4567-e89b-12d3-a456-426614174000", "key [redacted]");
        // In pieces, so that whoever looks for secrets in this file finds none.
        let signed = ["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", "dozjgNryP4J3jVmNHl0w5N"];
        check(&signed.join("."), "[redacted]");
        check("token QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "token [redacted]");
    }

    #[test]
    fn our_own_key_is_replaced_wherever_it_is_and_in_pieces() {
        let check = |words: &str, expected: &str| assert_eq!(clean(words), expected, "{words}");
        check("you sent local-secret-for-tests!", "you sent [redacted]!");
        check("URL /v1?key=local-secret-for-tests&x", "URL /v1?key=[redacted]&x");
        check("LOCAL-SECRET-FOR-TESTS", "[redacted]");
        check("begins with local-secret…", "begins with [redacted]…");
        check("ends in for-tests", "ends in [redacted]");
        check("local tests secret", "local tests secret");
        assert_eq!(Redactor::new(Some("ab".to_owned().into())).clean("an ab").unwrap(), "an [redacted]");
    }

    #[test]
    fn other_words_stay() {
        for words in [
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 10000 tokens.",
            "The model `claude-3-5-sonnet-20241022` does not exist or you do not have access to it.",
            "Unrecognized request argument supplied: max_completion_tokens",
            "model \"qwen2.5-coder:32b-instruct-q4_K_M\" not found, try pulling it first",
            "messages.3.content.0.tool_result.tool_use_id: Field required",
            "Authorization failed: the token is not valid",
            "https://platform.openai.com/docs/guides/error-codes/api-errors.",
            "Löffel: größer",
        ] {
            assert_eq!(clean(words), words);
        }
    }

    #[test]
    fn it_is_one_short_line() {
        assert_eq!(clean("a\r\nb\u{1b}[31m\u{9b}c"), "a  b [31m c");
        assert_eq!(clean(&"x ".repeat(10_000)).chars().count(), 200);
        assert_eq!(Redactor::new(None).clean(" \n "), None);
        // Cut within the key, it would not be known any more.
        let words = format!("{} local-secret-for-tests", "ß".repeat(190));
        assert!(!clean(&words).contains("local-"), "{}", clean(&words));
    }
}
