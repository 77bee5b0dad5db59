//! Errors as programs tell them to programs: an object of JSON with a message, a code or a status.
//!
//! Objects are not parsed but walked through: what is cut off or wrapped by a log is read as far as it goes. Keys which
//! are not known are passed over, so that ids and times of a request do not matter.

use std::ops::Range;

use super::{Found, Line, Spare, Weight, line, traces};
use crate::fingerprint::words;

/// Lines over which an object may stretch.
const OBJECT_LINES_MAX: usize = 200;
/// Bytes of an object that are read.
const OBJECT_BYTES_MAX: usize = 32 << 10;
/// Members that are looked at.
const MEMBERS_MAX: usize = 256;
/// Bytes of a value that are kept.
const VALUE_BYTES_MAX: usize = 16 << 10;

/// An object that begins in a line and tells of an error.
pub(super) fn find(lines: &[Line<'_>], at: usize, spare: &mut Spare) -> Option<Found> {
    let text = lines[at].text;
    let start = text.find('{').filter(|start| {
        let rest = text[start + 1..].trim_start();
        rest.is_empty() || rest.starts_with('"')
    })?;
    let (object, taken) = object(lines, at, start, spare)?;
    let members = members(&object);
    let found = judged(&members, at..at + taken)?;
    Some(found)
}

/// The text of an object, and how many lines it takes.
fn object(lines: &[Line<'_>], at: usize, start: usize, spare: &mut Spare) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut depth = 0_usize;
    let mut in_string = false;
    for (taken, line) in lines[at..].iter().take(OBJECT_LINES_MAX).enumerate() {
        let part = if taken == 0 { &line.text[start..] } else { line.text };
        if spare.json_bytes < part.len() || text.len() > OBJECT_BYTES_MAX {
            return None;
        }
        spare.json_bytes -= part.len();
        let mut was_backslash = false;
        for (offset, byte) in part.bytes().enumerate() {
            match byte {
                b'"' if !was_backslash => in_string = !in_string,
                b'{' if !in_string => depth += 1,
                b'}' if !in_string => depth = depth.saturating_sub(1),
                _ => {}
            }
            was_backslash = byte == b'\\' && !was_backslash;
            if depth == 0 {
                text.push_str(&part[..offset + 1]);
                return Some((text, taken + 1));
            }
        }
        text.push_str(part);
        text.push('\n');
        // No string goes over the end of a line.
        in_string = false;
    }
    // Without an end only one line is taken: what follows may be anything.
    let first = text.lines().next()?.to_owned();
    (first.len() > 1).then_some((first, 1))
}

/// The value of a key, where it is a string.
pub(super) fn value(object: &str, key: &str) -> Option<String> {
    let object = &object[..object.floor_char_boundary(OBJECT_BYTES_MAX)];
    members(object).into_iter().find(|member| member.is_string && member.key == key).map(|member| member.value)
}

/// Stands for the value of a key that has members of its own.
const NESTED: &str = "{";

/// A key with its value.
struct Member {
    key: String,
    value: String,
    is_string: bool,
}

/// The members of an object and of those within it, in order, one list of them all.
fn members(object: &str) -> Vec<Member> {
    let mut members = Vec::new();
    let mut rest = object;
    while let Some(open) = rest.find('"') {
        if members.len() >= MEMBERS_MAX {
            break;
        }
        let Some((key, after)) = string(&rest[open..]) else { break };
        rest = after;
        let Some(value) = after.trim_start().strip_prefix(':').map(str::trim_start) else { continue };
        if value.starts_with('"') {
            let Some((text, after)) = string(value) else { break };
            members.push(Member { key: key.to_ascii_lowercase(), value: text, is_string: true });
            rest = after;
        } else if let Some(inner) = value.strip_prefix(['{', '[']) {
            // What is in it comes next; that it is there, and not empty, says something of its own.
            if !inner.trim_start().starts_with(['}', ']']) {
                members.push(Member { key: key.to_ascii_lowercase(), value: NESTED.to_owned(), is_string: false });
            }
        } else {
            let end = value.find([',', '}', ']', '\n']).unwrap_or(value.len());
            let scalar = value[..end].trim().to_owned();
            members.push(Member { key: key.to_ascii_lowercase(), value: scalar, is_string: false });
            rest = &value[end..];
        }
    }
    members
}

/// A string without its escapes, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                'r' | 'b' | 'f' => {}
                't' => value.push(' '),
                // What has a number is not a letter of an error's message that matters.
                'u' => value.push('\u{fffd}'),
                other => value.push(other),
            },
            _ if value.len() < VALUE_BYTES_MAX => value.push(character),
            _ => {}
        }
    }
    None
}

/// Keys under which a message stands, the best first.
const MESSAGES: &[&str] = &[
    "message",
    "error_description",
    "detail",
    "msg",
    "errormessage",
    "error_message",
    "reason",
    "title",
    "error",
    "err",
    "description",
];

/// Whether members tell of an error, and of which.
fn judged(members: &[Member], lines: Range<usize>) -> Option<Found> {
    let level = first(members, &["level", "severity", "lvl", "loglevel"]).map(str::to_ascii_lowercase);
    let is_level =
        level.as_deref().is_some_and(|level| matches!(level, "error" | "fatal" | "critical" | "err" | "50" | "60"));
    if level.is_some() && !is_level {
        return None;
    }
    let trace =
        first(members, &["stack", "stacktrace", "stack_trace", "exc_info", "exception", "traceback", "err", "error"]);
    if let Some(found) = trace.and_then(|trace| traced(trace, &lines)) {
        return Some(found);
    }
    let status = members.iter().filter(|member| is_status_key(&member.key)).find_map(http_status);
    let code = members.iter().find(|member| is_code(member)).map(|member| member.value.as_str());
    let message = first(members, MESSAGES).unwrap_or_default();
    let has_error = members.iter().any(|member| is_error_key(&member.key) && is_said(member));
    // Many objects have a type and a message; that of an error speaks of trouble.
    let is_trouble = code.is_some_and(tells_of_trouble) && !message.is_empty();
    if !(is_level || status.is_some() || has_error || is_trouble) {
        return None;
    }
    // A line of a log with a message of its own and the error beside it is about both.
    let beside = first(members, &["error", "err"]).filter(|beside| *beside != message && is_level);
    let class = status.map(|status| format!("HTTP {status}")).or_else(|| code.map(str::to_owned));
    let code = code.filter(|code| Some(*code) != class.as_deref());
    let parts = [code, Some(message), beside].into_iter().flatten();
    let parts: Vec<&str> = parts.filter_map(|part| part.lines().next()).filter(|part| !part.is_empty()).collect();
    let whole = parts.join(": ");
    if whole.is_empty() && class.is_none() {
        return None;
    }
    let class = class.or_else(|| line::class_of(&whole).map(str::to_owned));
    Some(Found::new(class.as_deref().unwrap_or("error"), &whole, Weight::Named, lines))
}

/// What the first of some keys says that says anything.
fn first<'m>(members: &'m [Member], keys: &[&str]) -> Option<&'m str> {
    let of =
        |key: &&str| members.iter().find(|member| member.key == **key && is_said(member) && member.value != NESTED);
    keys.iter().find_map(of).map(|member| member.value.as_str())
}

/// Whether a code is one of errors: `rate_limit_exceeded`, `NOT_FOUND`.
fn tells_of_trouble(code: &str) -> bool {
    let words = code.to_ascii_lowercase().replace(['_', '-', '.'], " ");
    words::TROUBLE
        .iter()
        .chain(&["limit", "quota", "unavailable", "unauthenticated", "conflict"])
        .any(|phrase| words.contains(phrase))
}

/// Whether a member says anything.
fn is_said(member: &Member) -> bool {
    !matches!(member.value.as_str(), "" | "null" | "false" | "none" | "None" | "0")
}

fn is_status_key(key: &str) -> bool {
    matches!(key, "status" | "statuscode" | "status_code" | "code" | "http_status" | "httpstatus")
}

fn is_error_key(key: &str) -> bool {
    matches!(
        key,
        "error"
            | "err"
            | "error_description"
            | "errormessage"
            | "error_message"
            | "errors"
            | "error_code"
            | "errorcode"
            | "exception"
    )
}

fn http_status(member: &Member) -> Option<u16> {
    member.value.parse().ok().filter(|status| (400..600).contains(status))
}

/// Whether a member is a code of letters, as `rate_limit_exceeded` and `NOT_FOUND` are.
fn is_code(member: &Member) -> bool {
    let is_key = matches!(member.key.as_str(), "code" | "error_code" | "errorcode" | "type" | "status" | "error");
    let value = member.value.as_str();
    let is_word = (3..=64).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        && value.bytes().any(|byte| byte.is_ascii_alphabetic());
    is_key && member.is_string && is_word && !matches!(value, "error" | "about" | "object" | "invalid")
}

/// A trace within a value.
fn traced(value: &str, lines: &Range<usize>) -> Option<Found> {
    if !value.contains('\n') {
        return None;
    }
    let cleaned: Vec<Line<'_>> = value.lines().map(Line::new).collect();
    let found = (0..cleaned.len().min(OBJECT_LINES_MAX)).find_map(|at| {
        traces::python(&cleaned, at).or_else(|| traces::stack(&cleaned, at)).or_else(|| traces::rust(&cleaned, at))
    })?;
    Some(Found { lines: lines.clone(), ..found })
}
