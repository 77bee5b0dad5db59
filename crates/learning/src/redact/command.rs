//! Passwords in the options of commands that have no telling name: `curl -u me:…`, `mysql -p…`, `sshpass -p …`.

use std::sync::LazyLock;

use memchr::memmem;
use regex::bytes::Regex;

use super::{
    Finding, Kind,
    literal::literal_at,
    surroundings::{line_before, pattern},
    value::{is_drawn, is_stand_in},
};

/// Bytes of a line before an option in which its command stands.
const COMMAND_BYTES_MAX: usize = 160;
/// Bytes that such a password has at least.
const PASSWORD_BYTES_MIN: usize = 5;

/// A user's name and a colon behind the option that names them.
static USER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"\A-(?:u|user|-user|-proxy-user)(?:[ \t]{1,4}|=)\\{0,4}["']?([A-Za-z0-9._@+!#%~-]{0,64})["']?:"#)
});
/// Commands that take a password with `-p`, and those that need it in one word with the option.
static COMMAND: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?:\b(mysql|mysqldump|mysqladmin|mariadb|mariadb-dump)\b|\b(?:sshpass|mongo|mongosh|mongodump|ldapsearch|redis-cli|docker login|podman login|registry login|az login)\b)[^\n;|&]*\z",
    )
});

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    for at in memmem::find_iter(bytes, b"-u") {
        // `-u` is also within `--user`.
        let at = if at > 0 && bytes[at - 1] == b'-' { at - 1 } else { at };
        let is_option = at.checked_sub(1).is_some_and(|before| bytes[before].is_ascii_whitespace());
        if is_option {
            found.extend(after_user(text, at));
        }
    }
    for (option, is_joined) in [(&b" -p"[..], true), (b" -p ", false), (b" -a ", false), (b" -w ", false)] {
        for at in memmem::find_iter(bytes, option) {
            let command = COMMAND.captures(line_before(text, at, COMMAND_BYTES_MAX).as_bytes());
            if command.is_some_and(|command| command.get(1).is_some() == is_joined) {
                found.extend(password_at(text, at + option.len()));
            }
        }
    }
}

/// The password behind a user's name, or the name where it is the secret and the password is left out: what has tokens
/// in the place of users asks for that.
fn after_user(text: &str, option: usize) -> Option<Finding> {
    let bytes = text.as_bytes();
    let user = USER.captures(&bytes[option..bytes.len().min(option + 96)])?;
    let (start, name) = (option + user.get(0)?.end(), user.get(1)?.range());
    let name = option + name.start..option + name.end;
    let is_end = |at: usize| bytes.get(at).is_none_or(u8::is_ascii_whitespace);
    let is_alone = is_end(start) || (matches!(bytes.get(start), Some(b'"' | b'\'')) && is_end(start + 1));
    let is_token = is_alone && is_drawn(&text[name.clone()]);
    password_at(text, start).or_else(|| is_token.then_some(Finding { kind: Kind::Password, range: name }))
}

/// The password that begins there. It ends where the argument does; a mark before it was opened before the name.
fn password_at(text: &str, at: usize) -> Option<Finding> {
    let literal = literal_at(text, at)?;
    let range = literal.range;
    let value = &text[range.clone()];
    let is_number = value.len() < 8 && value.bytes().all(|byte| byte.is_ascii_digit());
    let is_path = value.starts_with(['/', '-', '(', '{']) || value.starts_with("./") || value.contains("://");
    let is_password = value.len() >= PASSWORD_BYTES_MIN && !is_number && !is_path && !is_stand_in(value);
    (is_password && !literal.is_cut).then_some(Finding { kind: Kind::Password, range })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        for pattern in [&*USER, &*COMMAND] {
            assert!(!pattern.as_str().is_empty());
        }
    }
}
