//! A message without what changes from one time to the next: numbers, ids, times, paths, addresses, people, values.
//!
//! What is taken out leaves a placeholder that says what it was. What is left is what the failure is about: the names of
//! what is missing (a module, a command, a column), codes and statuses. Whether something in quotes is such a name or a
//! value is told by the words around it ([`quote`]); what a word without quotes is, by its form ([`token`]).

mod quote;
mod token;

use super::{prefix, words};

/// Bytes of a normalised message; more of it would tell the same failure apart by what it happened to.
pub(super) const NORMAL_BYTES_MAX: usize = 300;
/// Bytes of a message that are looked at.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// What is done with what stands in quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Names stay where the words around them say that they are names.
    ByWords,
    /// Everything in quotes stays, but for ids and folders: the message names what is missing.
    Kept,
    /// Nothing in quotes stays: they are names of variables, which whoever wrote the program chose.
    Dropped,
}

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    Number,
    Id,
    Time,
    Address,
    Network,
    Path,
    Mail,
    User,
    Temporary,
    Value,
}

impl Hole {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Number => "<n>",
            Self::Id => "<id>",
            Self::Time => "<time>",
            Self::Address => "<address>",
            Self::Network => "<ip>",
            Self::Path => "<path>",
            Self::Mail => "<mail>",
            Self::User => "<user>",
            Self::Temporary => "<tmp>",
            Self::Value => "…",
        }
    }

    const ALL: [Self; 10] = [
        Self::Number,
        Self::Id,
        Self::Time,
        Self::Address,
        Self::Network,
        Self::Path,
        Self::Mail,
        Self::User,
        Self::Temporary,
        Self::Value,
    ];

    /// Several of these in a row are one: a list of numbers, a date in parts.
    const fn joins(self) -> bool {
        matches!(self, Self::Number | Self::Time | Self::Network)
    }
}

/// The normal form of a message, as people see it.
pub(super) fn normal(message: &str, names: Names) -> String {
    let message = &message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)];
    let mut writer = Writer { out: String::new(), names, joint: None, was_name: false, is_nested: false };
    writer.write(without_advice(without_position(message)));
    let out = writer.out.trim().trim_end_matches([':', ',', ';', '.', ' ']);
    if out.len() <= NORMAL_BYTES_MAX {
        return out.to_owned();
    }
    format!("{}…", &out[..out.floor_char_boundary(NORMAL_BYTES_MAX)])
}

/// A message without where it happened, as some add it at the end.
fn without_position(message: &str) -> &str {
    let end = message
        .find(" (@INC contains")
        .or_else(|| message.rfind(": file ").filter(|at| message[*at..].contains(", line ")));
    let message = &message[..end.unwrap_or(message.len())];
    let bare = message.trim_end().trim_end_matches(|c: char| c.is_ascii_digit());
    bare.strip_suffix(" at character ").unwrap_or(message)
}

/// A message without the sentences that say what to do: some versions of a program have them.
fn without_advice(message: &str) -> &str {
    /// Bytes that what is left has at least; less says nothing.
    const BYTES_MIN: usize = 12;
    let mut from = 0;
    while let Some(found) = message[from..].find(['.', '?', '!']) {
        let end = from + found + 1;
        let next = message[end..].trim_start();
        let is_sentence = next.len() < message[end..].len() && end > BYTES_MIN;
        let begins = |start: &&str| next.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start));
        if is_sentence && words::ADVICE.iter().any(begins) {
            return &message[..end];
        }
        from = end;
    }
    message
}

/// What two normal forms have in common where they differ in nothing that matters: in letters' case, in which mark a
/// quote has, and in what a placeholder stood for.
pub(super) fn folded(normal: &str) -> String {
    const MARK: char = '\u{1}';
    let mut text = normal.to_lowercase();
    for hole in Hole::ALL {
        text = text.replace(hole.as_str(), "\u{1}");
    }
    text.retain(|character| !matches!(character, '\'' | '"' | '`'));
    let mut folded = String::with_capacity(text.len());
    let mut was_hole = false;
    for word in text.split_whitespace() {
        let is_hole = word.starts_with(MARK);
        // `1 second` and `2 seconds`, `1.5 GiB` and `20 MiB`.
        if was_hole && is_unit(word) {
            continue;
        }
        let word = if was_hole && word.len() > 3 { word.trim_end_matches('s') } else { word };
        let word = match word {
            "errors" => "error",
            "arguments" => "argument",
            "warnings" => "warning",
            _ => word,
        };
        folded.push_str(word);
        folded.push(' ');
        was_hole = is_hole;
    }
    folded
}

/// Whether a word says what a number before it counts.
fn is_unit(word: &str) -> bool {
    const UNITS: [&str; 17] = [
        "b", "byte", "kb", "mb", "gb", "tb", "kib", "mib", "gib", "tib", "ms", "s", "sec", "second", "min", "minute",
        "hour",
    ];
    let bare = word.trim_end_matches([',', ';', ')', '.']);
    UNITS.contains(&bare) || bare.strip_suffix('s').is_some_and(|one| UNITS.contains(&one))
}

/// Writes a message anew, without what changes.
struct Writer {
    out: String,
    names: Names,
    /// Where the last placeholder ended, if further ones may join it.
    joint: Option<usize>,
    /// The last quote was a name, so that one joined to it by a comma or `and` is, too.
    was_name: bool,
    /// It writes what stood in quotes.
    is_nested: bool,
}

impl Writer {
    fn write(&mut self, message: &str) {
        let mut rest = message;
        while let Some(character) = rest.chars().next() {
            let taken = self.piece(character, rest);
            rest = &rest[taken..];
        }
    }

    /// Writes what the rest begins with, and says how many bytes that was.
    fn piece(&mut self, character: char, rest: &str) -> usize {
        if character.is_whitespace() {
            if !self.out.ends_with(' ') {
                self.out.push(' ');
            }
            return character.len_utf8();
        }
        if let Some(quote) = quote::quoted(rest, self.last_char()) {
            self.quote(&quote, &rest[quote.bytes..]);
            return quote.bytes;
        }
        if let Some((written, bytes)) = token::url(rest) {
            self.out.push_str(&written);
            return bytes;
        }
        if let Some(bytes) = token::network_bytes(rest, self.last_char()) {
            self.hole(Hole::Network);
            return bytes;
        }
        if let Some(bytes) = token::path_bytes(rest, self.last_char()) {
            let position = token::position_bytes(&rest[bytes..]);
            self.path(if position > 0 { "" } else { &rest[..bytes] });
            return bytes + position;
        }
        if character.is_alphanumeric() || character == '_' {
            return self.token(rest);
        }
        // The sign of a number goes with it.
        let is_sign = matches!(character, '-' | '+') && rest[1..].starts_with(|c: char| c.is_ascii_digit());
        if !(is_sign && self.last_char().is_none_or(|last| !last.is_alphanumeric())) {
            self.out.push(character);
        }
        character.len_utf8()
    }

    fn token(&mut self, rest: &str) -> usize {
        let bytes = if rest.starts_with(|c: char| c.is_ascii_digit())
            && let Some(time) = prefix::time_bytes(rest)
        {
            self.hole(Hole::Time);
            return time;
        } else {
            token::token_bytes(rest)
        };
        let (token, after) = (&rest[..bytes], &rest[bytes..]);
        if token::is_file_with_position(token, after) {
            self.path("");
            return bytes + token::position_bytes(after);
        }
        if self.is_user(token, after) {
            self.hole(Hole::User);
            return bytes;
        }
        if token::is_of_date(token, after, self.joint == Some(self.out.trim_end().len())) {
            self.hole(Hole::Time);
            return bytes;
        }
        let before = self.last_word();
        match token::classify(token, &before, after) {
            token::Kind::Word => self.out.push_str(token),
            token::Kind::Written(written) => self.out.push_str(&written),
            token::Kind::Path => self.path(token),
            token::Kind::Hole(hole) => {
                self.hole(hole);
                return bytes + usize::from(after.starts_with('%'));
            }
        }
        bytes
    }

    fn quote(&mut self, quote: &quote::Quote<'_>, after: &str) {
        let before = self.last_word();
        let kind = quote.kind(&before, after, self.names, self.was_name);
        self.was_name = matches!(kind, quote::Kind::Name);
        self.out.push('\'');
        match kind {
            quote::Kind::Name => self.out.push_str(&quote::name(quote.inner)),
            quote::Kind::Path => self.path(quote.inner),
            quote::Kind::Value => self.out.push_str(Hole::Value.as_str()),
            // Nested once: what is quoted within a quote is a value.
            quote::Kind::Sentence if self.is_nested => self.out.push_str(Hole::Value.as_str()),
            quote::Kind::Sentence => {
                self.is_nested = true;
                self.write(quote.inner);
                self.is_nested = false;
            }
        }
        self.out.push('\'');
        self.joint = None;
    }

    /// A path: of a place in a file nothing stays, since it says where and not what.
    fn path(&mut self, path: &str) {
        self.out.push_str(Hole::Path.as_str());
        if let Some(name) = token::known_file(path) {
            self.out.push('/');
            self.out.push_str(&name);
        }
        self.joint = None;
    }

    fn hole(&mut self, hole: Hole) {
        if hole.joins()
            && let Some(joint) = self.joint
            && self.out[joint..].chars().all(|c| " ,:;/.-–×xT".contains(c))
            && self.out.len() - joint <= 4
        {
            self.out.truncate(joint);
            return;
        }
        self.out.push_str(hole.as_str());
        self.joint = hole.joins().then_some(self.out.len());
    }

    /// Whether it is the name of an account, by the word before it.
    fn is_user(&self, token: &str, after: &str) -> bool {
        let before = self.last_word();
        let is_direct = self.out.ends_with([' ', '=']) || self.out.ends_with(": ");
        words::has(words::USERS, before.trim_end_matches(['=', ':']))
            && is_direct
            && before != "role"
            && !words::has(words::NO_USERS, &token.to_ascii_lowercase())
            && !after.starts_with('(')
    }

    fn last_char(&self) -> Option<char> {
        self.out.chars().next_back()
    }

    /// The last word that was written, in small letters, with the mark that follows it.
    fn last_word(&self) -> String {
        const BYTES_MAX: usize = 40;
        let tail = &self.out[self.out.ceil_char_boundary(self.out.len().saturating_sub(BYTES_MAX))..];
        let tail = tail.trim_end();
        let word = tail.trim_end_matches(['=', ':', '(', '[', ',', '"', '\'']);
        let start = word.rfind(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(0, |at| {
            let width = word[at..].chars().next().map_or(1, char::len_utf8);
            at + width
        });
        tail[start..].to_ascii_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expected: &str) {
        assert_eq!(normal(message, Names::ByWords), expected, "{message}");
    }

    #[test]
    fn what_changes_is_taken_out() {
        check("connect ECONNREFUSED 127.0.0.1:5432", "connect ECONNREFUSED <ip>");
        check("listen EADDRINUSE: address already in use :::3000", "listen EADDRINUSE: address already in use <ip>");
        check("job 7d4b9c6f5a1b took 1m30s of 20 seconds", "job <id> took <n> of <n> seconds");
        check("id 550e8400-e29b-41d4-a716-446655440000 is gone", "id <id> is gone");
        check("object at 0x7f3a2b1c9d00", "object at <address>");
        check("cannot open /data/alice/app/data.csv:12:3", "cannot open <path>");
        check("cannot open C:\\Program Files\\x\\data.csv", "cannot open <path>");
        check("no /srv/app/package.json", "no <path>/package.json");
        check(
            "GET https://api.example.com/v1/users/123?token=abc failed",
            "GET https://api.example.com/v1/users/<id> failed",
        );
        check("mail alice@example.com bounced", "mail <mail> bounced");
        check("invalid user bob from 10.0.0.1 port 22", "invalid user <user> from <ip> port <n>");
        check("at 2026-01-02T15:04:05Z and Jan  2 15:04:05 2026", "at <time> and <time>");
        check("on Mon, 02 Jan 2026 15:04:05 GMT", "on <time>");
        check("shape [3, 4, 5]", "shape [<n>]");
        check("worker12 of test_case_5", "worker<n> of test_case_<n>");
        check("84% of -5", "<n> of <n>");
        check("/tmp/tmpab12cd9x/a and tmpab12cd9x", "<path> and <tmp>");
    }

    #[test]
    fn what_the_failure_is_about_stays() {
        check("No module named 'foo.bar'", "No module named 'foo.bar'");
        check("HTTP 404 at status code 503 with exit status 2", "HTTP 404 at status code 503 with exit status 2");
        check("[Errno 2] nope (os error 13)", "[Errno 2] nope (os error 13)");
        check("expected u32, found i64 of x86_64", "expected u32, found i64 of x86_64");
        check("'int' and 'str'", "'int' and 'str'");
        check("bad value: 'abc def'", "bad value: '…'");
        check("ORA-00942 and TS2304", "ORA-00942 and TS2304");
        check("libssl.so.1.1: cannot open", "libssl.so.1.1: cannot open");
        check("isn't it", "isn't it");
        check("status 200 OK 300", "status 200 OK <n>");
        check("a/b and application/json", "a/b and application/json");
    }

    #[test]
    fn hostile_text_is_borne() {
        let quotes = "'\"`“‘".repeat(900);
        for text in [
            "",
            "'",
            "''",
            "\\",
            "://",
            "http://",
            "0x",
            "[::]",
            "C:\\",
            "~/",
            "ß∂ƒ©",
            "\u{0}",
            "e\u{301}'\u{301}'",
            &quotes,
        ] {
            let once = normal(text, Names::ByWords);
            assert!(once.len() <= NORMAL_BYTES_MAX + '…'.len_utf8(), "{text:?}");
        }
        let long = normal(&"word ß ".repeat(1_000), Names::Kept);
        assert!(long.len() <= NORMAL_BYTES_MAX + '…'.len_utf8() && long.ends_with('…'));
    }

    #[test]
    fn folded_forms_know_no_case_no_marks_and_no_kinds_of_holes() {
        assert_eq!(folded("No <n> seconds 'x'"), folded("no <time> second \"X\""));
        assert_ne!(folded("no 'x'"), folded("no 'y'"));
    }
}
