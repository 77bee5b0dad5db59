//! What a value looks like: drawn at random, chosen by a person, or standing in for one.

/// Bits of Shannon entropy a character has at least where it was drawn. Words and rows of one letter have less.
const DRAWN_BITS_MIN: f64 = 2.8;
/// What stands in for a value, wherever in it this is.
const STAND_INS: [&str; 17] = [
    "your",
    "example",
    "placeholder",
    "changeme",
    "change-me",
    "change_me",
    "redacted",
    "replace",
    "insert",
    "dummy",
    "sample",
    "goes-here",
    "goes_here",
    "****",
    "....",
    "…",
    "••",
];
/// What encloses the name of a variable, wherever in a value it is.
const TEMPLATES: [(&str, &str); 7] =
    [("${", "}"), ("{{", "}}"), ("{}", ""), ("$(", ")"), ("%(", ")s"), ("#{", "}"), ("<%", "%>")];
/// What a reference to a secret kept elsewhere begins with.
const REFERENCES: [&str; 17] = [
    "op://",
    "vault:",
    "arn:",
    "secrets.",
    "env.",
    "env:",
    "file:",
    "process.env",
    "os.environ",
    "ref+",
    "enc[",
    "!secret",
    "!vault",
    "!ref",
    "!sub",
    "!env",
    "keyring:",
];
/// What stands in for a value, or for none, as a whole: words of code, forms and manuals, and names of accounts that are
/// the same everywhere.
const WORDS: [&str; 95] = [
    "a",
    "abc",
    "abc123",
    "abcd",
    "abcdef",
    "admin",
    "any",
    "api-key",
    "api_key",
    "apikey",
    "array",
    "auth",
    "bar",
    "basic",
    "bearer",
    "bool",
    "boolean",
    "byte",
    "bytes",
    "char",
    "const",
    "credential",
    "credentials",
    "data",
    "default",
    "disabled",
    "empty",
    "enabled",
    "encrypted",
    "env",
    "expired",
    "false",
    "field",
    "file",
    "foo",
    "foobar",
    "guest",
    "hash",
    "hashed",
    "hidden",
    "input",
    "int",
    "invalid",
    "key",
    "local",
    "login",
    "masked",
    "me",
    "missing",
    "mypassword",
    "mysecret",
    "mytoken",
    "n/a",
    "name",
    "new",
    "nil",
    "no",
    "none",
    "null",
    "number",
    "object",
    "old",
    "optional",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "prompt",
    "pw",
    "pwd",
    "required",
    "root",
    "same",
    "secret",
    "some",
    "something",
    "stdin",
    "str",
    "string",
    "tbd",
    "test",
    "testing",
    "text",
    "todo",
    "token",
    "true",
    "type",
    "undefined",
    "unknown",
    "user",
    "user:password",
    "username",
    "value",
    "void",
    "yes",
];

/// What the characters of a value are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Makeup {
    pub(super) lower: usize,
    pub(super) upper: usize,
    pub(super) digits: usize,
    /// Anything else.
    pub(super) others: usize,
    /// How often a letter of one case or a digit stands beside one of another class.
    pub(super) changes: usize,
}

impl Makeup {
    pub(super) fn of(value: &str) -> Self {
        let mut makeup = Self::default();
        let mut previous = 0;
        for byte in value.bytes() {
            let (class, count) = match byte {
                b'a'..=b'z' => (1, &mut makeup.lower),
                b'A'..=b'Z' => (2, &mut makeup.upper),
                b'0'..=b'9' => (3, &mut makeup.digits),
                _ => (0, &mut makeup.others),
            };
            *count += 1;
            makeup.changes += usize::from(class != previous && class != 0 && previous != 0);
            previous = class;
        }
        makeup
    }

    pub(super) fn letters(self) -> usize {
        self.lower + self.upper
    }
}

/// Whether a value was drawn at random, by its looks: enough entropy, and letters and digits mixed more than names and
/// versions mix them. It is asked of what already stands where a secret does.
pub(super) fn is_drawn(value: &str) -> bool {
    if entropy(value.as_bytes()) < DRAWN_BITS_MIN || is_stand_in(value) {
        return false;
    }
    let makeup = Makeup::of(value);
    let is_mixed = makeup.digits > 0 && makeup.letters() > 0 && makeup.changes >= 3;
    // A manager of passwords may draw signs and no digit.
    let signs = value.bytes().filter(|byte| b"!@#$%^&*()+~?{}[]<>;".contains(byte)).count();
    let is_of_signs = signs > 2 && makeup.letters() > 3 && value.len() >= 12 && !value.contains("()");
    // Base64 may do without digits; its case changes more often than that of names.
    let is_of_letters =
        makeup.lower > 0 && makeup.upper > 2 && value.len() >= 16 && makeup.changes * 5 >= makeup.letters() * 2;
    is_mixed || is_of_letters || is_of_signs
}

/// Whether a value stands in for one: a blank to fill in, a variable, a word that means no value.
pub(super) fn is_stand_in(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    STAND_INS.iter().any(|part| has_word(value, &lower, part))
        || TEMPLATES.iter().any(|(open, close)| lower.find(open).is_some_and(|at| lower[at..].contains(close)))
        || REFERENCES.iter().any(|prefix| lower.starts_with(prefix))
        || WORDS.binary_search_by(|word| (*word).cmp(&lower)).is_ok()
        || has_blank(value)
        || is_crossed_out(&lower)
        || (value.len() < 8 && value.contains("%s"))
        || is_of_one_character(value)
        || is_variable(value)
        || is_row(&lower)
}

/// Whether a word stands in a value as it is written: what is drawn has any word in changing case sooner or later.
fn has_word(value: &str, lower: &str, word: &str) -> bool {
    lower.match_indices(word).any(|(at, _)| {
        let written = &value[at..at + word.len()];
        let rest = written.trim_start_matches(|c: char| c.is_ascii_uppercase());
        rest.is_empty() || written.len() - rest.len() <= 1 && !rest.contains(|c: char| c.is_ascii_uppercase())
    })
}

/// Whether a part of a value is filled in by something else: `{user}-{id}`, `<id>`.
fn has_blank(value: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
    };
    [('{', '}'), ('<', '>')].into_iter().any(|(open, close)| {
        value
            .split(open)
            .skip(1)
            .any(|rest| rest.split_once(close).is_some_and(|(name, _)| name.len() > 1 && is_name(name)))
    })
}

/// Whether a third of a value is the letter that stands for any, four of them in a row.
fn is_crossed_out(lower: &str) -> bool {
    lower.contains("xxxx") && lower.matches('x').count() * 3 >= lower.len()
}

/// Bits a character, by the frequencies in the text itself (Shannon 1948).
pub(super) fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let length = bytes.len() as f64;
    let share = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / length);
    share.map(|share| -share * share.log2()).sum()
}

/// `xxxx`, `****`, `000000`; a row with a few other characters, such as the prefix of an issuer, is none.
fn is_of_one_character(value: &str) -> bool {
    let mut characters = value.chars();
    let first = characters.next();
    characters.all(|c| Some(c) == first)
}

/// `abcdefgh`, `12345678`, `ABCDEF1234567890`: characters in the order of the alphabet or of the keyboard's digits.
fn is_row(lower: &str) -> bool {
    let bytes = lower.as_bytes();
    let follows = |pair: &[u8]| pair[1] == pair[0].wrapping_add(1) || (pair[0], pair[1]) == (b'9', b'0');
    let steps = bytes.windows(2).filter(|pair| follows(pair)).count();
    bytes.len() >= 12 && steps * 10 >= (bytes.len() - 1) * 8
}

/// Whether a value as a whole is a variable, or a blank to be filled in.
fn is_variable(value: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':'))
    };
    let between = |open: &str, close: &str| value.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    if ["<", "[", "("].into_iter().any(|open| value.starts_with(open)) && value.ends_with(['>', ']', ')']) {
        return true;
    }
    if between("{", "}").or_else(|| between("%", "%")).or_else(|| between("@", "@")).is_some_and(is_name) {
        return true;
    }
    if let Some(name) = value.strip_prefix('$') {
        // `$TOKEN` and `$token`; `$ecret7` was chosen by somebody.
        let is_lower = name.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b':' | b'.'));
        let is_upper = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        return (is_lower || is_upper || name.contains("->")) && !name.is_empty();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_order() {
        assert!(WORDS.is_sorted(), "the search is binary");
    }
}
