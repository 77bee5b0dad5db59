//! What must not leave with a dataset: secrets and personal data, found in a text and replaced in it.
//!
//! Each kind has a detector that looks at a text by itself and decides by the bytes of what it looks at and by a bounded
//! piece of text on either side, never by what other detectors found. Two things follow. Time grows linearly with the
//! text, whatever is in it. And redacting twice changes nothing: what stands in the place of a finding is a *wall*, past
//! which nobody looks and at which nothing begins or ends, so whatever could be found in a redacted text had the same
//! surroundings in the original, and was found there.
//!
//! What is left as it is, on purpose:
//! - stand-ins for secrets: `<your password>`, `${TOKEN}`, `xxxx`, `sk-...`, `changeme`, the documented examples of
//!   issuers (`…EXAMPLE`), and `user:password@` in URLs, which are the same for everybody;
//! - addresses that are the same for everybody: loopback, unspecified, broadcast and masks, link-local, multicast,
//!   documentation and benchmark ranges, the networks and usual gateways of the private ranges, public resolvers. Other
//!   private addresses tell how somebody's network is built, and are replaced;
//! - `git@` of a forge, and the shared accounts in paths (`ubuntu` below `/home`, `C:\Users\Public`);
//! - letters that merely look like those of a secret (homoglyphs), and what is written to evade: words for digits, text
//!   in pictures. Whoever hides their own secret from this module has it exported.
//!
//! Pure: no input or output, no clock, no state but what a [`Redactor`] carries through the texts of one row.

mod kind;
mod surroundings;
mod value;

mod issued;
mod private_key;

mod assigned;
mod command;
mod header;
mod judge;
mod literal;
mod name;
mod url;

mod email;
mod home;
mod number;

mod repeat;

#[cfg(test)]
pub(crate) mod tests;

use std::{borrow::Cow, collections::HashMap, ops::Range};

pub use self::kind::Kind;
use self::repeat::Repeats;

/// Something that must not leave, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Its bytes in the text; whole characters.
    pub range: Range<usize>,
}

/// A text without what was found in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted<'a> {
    /// The text, with `[kind:number]` in the place of each finding.
    pub text: Cow<'a, str>,
    /// What was found, in the order of the original text, with ranges of that text.
    pub findings: Vec<Finding>,
}

/// What must not leave of a text, in the order of the text, not overlapping and never empty.
///
/// A secret that is told by its surroundings, such as a password, is also found where it stands in the same text without
/// them. Texts that belong together have [`redact_row`] for that.
pub fn find(text: &str) -> Vec<Finding> {
    let findings = detect(text);
    let mut repeats = Repeats::default();
    repeats.learn(text, &findings);
    repeats.add(text, findings)
}

/// A text without what must not leave. What has the same value has the same number.
pub fn redact(text: &str) -> Redacted<'_> {
    Redactor::new().redact(text)
}

/// Texts that belong together, such as the messages of a conversation, in their order.
///
/// Numbers are those of the row, and a secret that one text gives away is replaced in all of them.
pub fn redact_row<'a>(texts: &[&'a str]) -> Vec<Redacted<'a>> {
    let mut redactor = Redactor::new();
    let found: Vec<Vec<Finding>> = texts.iter().map(|text| redactor.learn(text)).collect();
    texts.iter().zip(found).map(|(text, findings)| redactor.replace(text, findings)).collect()
}

/// Carries the numbers of values, and the secrets that have been seen, through the texts of one row.
///
/// It keeps secrets in memory: it should not outlive its row. [`redact_row`] is for a row that is known as a whole; here
/// a secret is not replaced in texts that came before the one that gives it away, unless they were
/// [learnt](Self::learn) first.
#[derive(Default)]
pub struct Redactor {
    /// By a hash, so that personal data is not kept.
    numbers: HashMap<blake3::Hash, usize>,
    last: HashMap<Kind, usize>,
    repeats: Repeats,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("values", &self.numbers.len()).finish_non_exhaustive()
    }
}

impl Redactor {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sees a text without redacting it: its secrets are found in the texts that come after. The findings are those of
    /// the text by itself.
    pub fn learn(&mut self, text: &str) -> Vec<Finding> {
        let findings = detect(text);
        self.repeats.learn(text, &findings);
        // A text that was redacted elsewhere has numbers of its own, which must not come to mean something else.
        for placeholder in surroundings::placeholders(text) {
            let last = self.last.entry(placeholder.kind).or_default();
            *last = placeholder.number.max(*last);
        }
        findings
    }

    /// A text of the row without what must not leave.
    pub fn redact<'a>(&mut self, text: &'a str) -> Redacted<'a> {
        let findings = self.learn(text);
        self.replace(text, findings)
    }

    fn replace<'a>(&mut self, text: &'a str, findings: Vec<Finding>) -> Redacted<'a> {
        let findings = self.repeats.add(text, findings);
        if findings.is_empty() {
            return Redacted { text: Cow::Borrowed(text), findings };
        }
        let mut replaced = String::with_capacity(text.len());
        let mut from = 0;
        for Finding { kind, range } in &findings {
            replaced.push_str(&text[from..range.start]);
            let number = self.number(*kind, &text[range.clone()]);
            replaced.push_str(&surroundings::placeholder(*kind, number));
            from = range.end;
        }
        replaced.push_str(&text[from..]);
        Redacted { text: Cow::Owned(replaced), findings }
    }

    /// The number of a value: the one it had, or the next.
    fn number(&mut self, kind: Kind, value: &str) -> usize {
        let mut hasher = blake3::Hasher::new();
        hasher.update(kind.as_str().as_bytes()).update(&[0]).update(canonical(kind, value).as_bytes());
        let last = self.last.entry(kind).or_default();
        *self.numbers.entry(hasher.finalize()).or_insert_with(|| {
            *last += 1;
            *last
        })
    }
}

/// A value as it compares with others: the same number is written with and without spaces.
fn canonical(kind: Kind, value: &str) -> Cow<'_, str> {
    match kind {
        Kind::CardNumber | Kind::Iban | Kind::SocialSecurityNumber | Kind::PhoneNumber => {
            Cow::Owned(value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect())
        }
        Kind::Email => Cow::Owned(value.replace("%40", "@").to_lowercase()),
        _ => Cow::Borrowed(value),
    }
}

/// What all detectors find in a text by itself.
fn detect(text: &str) -> Vec<Finding> {
    let text = &*surroundings::walled(text);
    let mut found = Vec::new();
    private_key::find(text, &mut found);
    issued::find(text, &mut found);
    assigned::find(text, &mut found);
    header::find(text, &mut found);
    command::find(text, &mut found);
    url::find(text, &mut found);
    email::find(text, &mut found);
    home::find(text, &mut found);
    number::find(text, &mut found);
    merged(found)
}

/// Findings in order, those that overlap made one. Leaving the rest of the weaker one would leave a piece of it in the
/// text, and something there to be found the next time.
fn merged(mut found: Vec<Finding>) -> Vec<Finding> {
    found.sort_unstable_by_key(|finding| (finding.range.start, finding.range.end, finding.kind));
    let mut kept: Vec<Finding> = Vec::with_capacity(found.len());
    for finding in found {
        match kept.last_mut() {
            Some(last) if finding.range.start < last.range.end => {
                last.range.end = last.range.end.max(finding.range.end);
                last.kind = last.kind.min(finding.kind);
            }
            _ => kept.push(finding),
        }
    }
    kept
}
