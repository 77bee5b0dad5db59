//! Where in a text something tells of a failure, and what of it is the message.
//!
//! Lines are looked at one after another. What takes several lines is tried first ([`traces`], [`tools`], [`compilers`],
//! [`json`]), then what one line says ([`line`]). Every search that looks ahead has a bound, so that the time stays linear.

mod compilers;
mod json;
mod line;
mod tools;
mod traces;

use std::ops::Range;

use super::{
    normal::Names,
    prefix::{Level, Line},
    words,
};

/// How much something that was found says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// Only that something else failed.
    Consequence,
    /// It is marked as an error.
    Marked,
    /// It names a class, a code or a cause.
    Named,
    /// It is a trace or a compiler's diagnosis.
    Traced,
}

/// Something that tells of a failure.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub class: String,
    pub message: String,
    pub names: Names,
    pub weight: Weight,
    /// The lines it takes.
    pub lines: Range<usize>,
}

impl Found {
    fn new(class: &str, message: &str, weight: Weight, lines: Range<usize>) -> Self {
        let (class, message) = (class.trim(), message.trim());
        // A class that is cut off says nothing.
        let class = if class.is_empty() { "error" } else { class };
        Self { class: class.to_owned(), message: message.to_owned(), names: Names::ByWords, weight, lines }
    }

    fn with(mut self, names: Names) -> Self {
        self.names = names;
        self
    }
}

/// What the search has left to spend on objects of JSON, which are looked at as a whole and may lie within each other.
struct Spare {
    json_bytes: usize,
}

/// Everything in the text that tells of a failure, in order.
pub(super) fn find(lines: &[Line<'_>]) -> Vec<Found> {
    let bytes: usize = lines.iter().map(|line| line.whole.len()).sum();
    let mut spare = Spare { json_bytes: 4 * bytes };
    let mut found = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let next =
            if lines[at].is_blank() { None } else { block(lines, at, &mut spare).or_else(|| line::find(lines, at)) };
        at = match next {
            Some(next) => {
                let end = next.lines.end.max(at + 1);
                found.push(next);
                end
            }
            None => at + 1,
        };
    }
    found
}

/// What takes several lines.
fn block(lines: &[Line<'_>], at: usize, spare: &mut Spare) -> Option<Found> {
    let traced = traces::python(lines, at)
        .or_else(|| traces::stack(lines, at))
        .or_else(|| traces::rust(lines, at))
        .or_else(|| traces::go(lines, at));
    if traced.is_some() {
        return traced;
    }
    if lines[at].level == Level::Fine || lines[at].is_source {
        return None;
    }
    compilers::find(lines, at).or_else(|| tools::find(lines, at)).or_else(|| json::find(lines, at, spare))
}

/// The class of an error and its message: `TypeError: x is not a function`, `java.io.IOException: no`.
struct Classed<'a> {
    /// The class without its module.
    class: &'a str,
    message: &'a str,
    /// Where it begins.
    start: usize,
}

/// The first class in a text that a message follows.
fn classed(text: &str) -> Option<Classed<'_>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let is_start = is_identifier(bytes[at]) && (at == 0 || !is_of_path(bytes[at - 1]));
        if !is_start {
            at += 1;
            continue;
        }
        let length = bytes[at..].iter().take_while(|byte| is_of_path(**byte)).count();
        // A dot at the end, or a colon, ends the name.
        let name = text[at..at + length].trim_end_matches(['.', ':']);
        if words::is_error_class(name)
            && !is_in_code(&text[..at])
            && let Some((class, message)) = message_of(text, at, name)
        {
            return Some(Classed { class, message, start: at });
        }
        at += length.max(1);
    }
    None
}

/// What follows a class: `: message`, ` [CODE]: message`, or nothing where the text has nothing else.
fn message_of<'a>(text: &'a str, at: usize, name: &'a str) -> Option<(&'a str, &'a str)> {
    let class = name.rsplit(['.', ':', '$', '\\']).next().unwrap_or(name);
    let rest = &text[at + name.len()..];
    // Node writes codes in brackets, and they say more than the class.
    let (class, rest) = match rest.strip_prefix(" [").and_then(|rest| rest.split_once(']')) {
        Some((code, rest)) if code.starts_with("ERR_") && rest.starts_with(':') => (code, rest),
        _ => (class, rest),
    };
    if let Some(message) = rest.strip_prefix(':')
        && (message.is_empty() || message.starts_with([' ', '"', '\'']))
    {
        return (at == 0 || !message.trim().is_empty()).then_some((class, message.trim()));
    }
    let is_all = at == 0 && rest.trim().is_empty() && class != "Error" && class != "Exception";
    is_all.then_some((class, ""))
}

/// Whether the text before a class says that it is source code: `except`, `throw new`, `raise`.
fn is_in_code(before: &str) -> bool {
    let before = before.trim_end();
    let word = before.rsplit(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    (words::has(words::CODE_BEFORE_CLASS, word) && before.ends_with(word))
        || before.ends_with(['(', '|', '=', '<']) && !before.ends_with("Caused by (") && !before.ends_with("> (")
}

const fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

const fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$' | b':' | b'\\')
}

/// A class that says nothing is replaced by the errno that its message names.
fn refined<'a>(class: &'a str, message: &'a str) -> &'a str {
    match class {
        "Error" | "Exception" | "AggregateError" => errno(message).unwrap_or(class),
        "ClientError" => code_of_aws(message).unwrap_or(class),
        "ResponseError" => code_of_redis(message).unwrap_or(class),
        _ => class,
    }
}

/// What stands in quotes in the message of a class: where nothing else does, it is what is missing.
fn names_of(class: &str) -> Names {
    match class {
        "KeyError" | "TemplateNotFound" | "NoSuchBucket" => Names::Kept,
        _ => Names::ByWords,
    }
}

/// `WRONGTYPE Operation against a key …`.
fn code_of_redis(message: &str) -> Option<&str> {
    message.split(' ').next().filter(|word| words::has(words::OF_REDIS, word))
}

/// `An error occurred (AccessDenied) when calling …`.
fn code_of_aws(message: &str) -> Option<&str> {
    let (code, rest) = message.split_once("An error occurred (")?.1.split_once(')')?;
    (rest.starts_with(" when calling") && !code.contains(' ')).then_some(code)
}

/// The first name of an errno in a text, as a word of its own.
fn errno(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').find(|word| word.len() > 2 && words::is_errno(word))
}

/// Whether a text begins with another, whatever the letters' case.
fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
}
