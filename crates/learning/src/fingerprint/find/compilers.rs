//! Diagnoses of compilers, linkers and type checkers, each with a code or a place in a file.

use super::{Found, Level, Line, Names, Weight, starts_with};
use crate::fingerprint::words;

/// Lines below a diagnosis in which it says more.
const DETAIL_LINES_MAX: usize = 14;
/// Codes of rustc whose names in backticks are variables: moves, borrows, lifetimes of locals.
const OF_VARIABLES: &[&str] = &[
    "E0373", "E0381", "E0382", "E0384", "E0499", "E0501", "E0502", "E0503", "E0505", "E0506", "E0507", "E0515",
    "E0521", "E0594", "E0596", "E0597", "E0712", "E0713", "E0716",
];

/// A diagnosis that begins in a line.
pub(super) fn find(lines: &[Line<'_>], at: usize) -> Option<Found> {
    let said = lines[at].said();
    if said.len() > 4_096 {
        return None;
    }
    rustc(lines, at, said)
        .or_else(|| linker(lines, at, said))
        .or_else(|| placed(lines, at, said))
        .or_else(|| coded(at, said))
}

/// `error[E0308]: mismatched types`, with the types from the label below where the message names none.
fn rustc(lines: &[Line<'_>], at: usize, said: &str) -> Option<Found> {
    let start = said.find("error[").filter(|start| *start == 0 || said[..*start].ends_with([' ', '`']))?;
    let (code, message) = said[start + "error[".len()..].split_once("]: ")?;
    let is_code = code.len() == 5 && code.starts_with('E') && code[1..].bytes().all(|byte| byte.is_ascii_digit());
    if !is_code {
        return None;
    }
    let end = at + 1 + details(lines, at).count();
    let label = if code == "E0308" { expected_and_found(lines, at) } else { None };
    let message = label.map_or_else(|| message.to_owned(), |label| format!("{message}: {label}"));
    let names = if words::has(OF_VARIABLES, code) { Names::Dropped } else { Names::ByWords };
    Some(Found::new(code, &message, Weight::Traced, at..end).with(names))
}

/// The lines below a diagnosis that belong to it: indented, or source beside numbers.
fn details<'l>(lines: &'l [Line<'l>], at: usize) -> impl Iterator<Item = &'l Line<'l>> {
    let after = &lines[at + 1..lines.len().min(at + 1 + DETAIL_LINES_MAX)];
    after.iter().take_while(|line| {
        !line.whole.trim().is_empty() && (line.is_source || line.whole.starts_with([' ', '|', '.', '>']))
    })
}

/// ``expected `u32`, found `&str` `` of a label.
fn expected_and_found(lines: &[Line<'_>], at: usize) -> Option<String> {
    details(lines, at).find_map(|line| {
        let start = line.whole.find("expected ")?;
        let label = &line.whole[start..];
        label.contains("found ").then(|| label.trim().to_owned())
    })
}

/// `undefined reference to`, `cannot find -lfoo`, and what linkers of other systems say.
fn linker(lines: &[Line<'_>], at: usize, said: &str) -> Option<Found> {
    const CLASS: &str = "undefined reference";
    let found = |message: &str, end: usize| Found::new(CLASS, message, Weight::Traced, at..end).with(Names::Kept);
    if let Some(start) = said.find("undefined reference to ") {
        return Some(found(&said[start..], at + 1));
    }
    if let Some(start) = said.find("unresolved external symbol ") {
        let symbol = &said[start..];
        let symbol = symbol.find(" referenced in").map_or(symbol, |end| &symbol[..end]);
        return Some(found(symbol, at + 1));
    }
    if said.starts_with("Undefined symbols for architecture") {
        let next = lines.get(at + 1)?.said();
        let symbol = next.split(", referenced").next().unwrap_or(next);
        return Some(found(&format!("undefined reference to {symbol}"), at + 2));
    }
    let library = said.find("cannot find -l").or_else(|| said.find("library not found for -l"))?;
    let name = said[library..].split("-l").nth(1)?.split([':', ' ']).next()?;
    Some(Found::new("library", &format!("cannot find library {name}"), Weight::Traced, at..at + 1).with(Names::Kept))
}

/// `main.c:12:5: error: …`, `src/a.ts(3,5): error TS2304: …`, `./main.go:10:2: undefined: foo`.
fn placed(lines: &[Line<'_>], at: usize, said: &str) -> Option<Found> {
    // Kotlin marks a line as an error before the place, which is an address.
    if let Some(rest) = said.strip_prefix("e: ") {
        let (_, message) = place(rest.strip_prefix("file://").unwrap_or(rest))?;
        return Some(Found::new("error", message, Weight::Traced, at..at + 1).with(Names::Kept));
    }
    let (place, rest) = place(said)?;
    let rest = rest.trim_start_matches([':', '-', ' ']);
    let marks = ["fatal error: ", "error: "];
    let message = match marks.iter().find(|mark| starts_with(rest, mark)) {
        Some(mark) => &rest[mark.len()..],
        None if rest.starts_with("fatal error ") || rest.starts_with("error ") => return coded(at, rest),
        // Go says nothing of errors: a place and what is wrong there.
        None if place.ends_with(".go") && !rest.is_empty() && lines[at].level == Level::Unsaid => rest,
        None => return ruby(at, rest),
    };
    if message.trim().is_empty() {
        return None;
    }
    let symbol = symbol(lines, at);
    let whole = symbol.map_or_else(|| message.to_owned(), |symbol| format!("{message} {symbol}"));
    let (code, whole) = bracketed_code(&whole);
    // GHC has nothing but the code there, and the message below.
    let below = lines.get(at + 1).filter(|_| whole.trim().is_empty()).map(|next| next.said());
    let whole = quoted_header(below.unwrap_or(whole));
    let end = at + 1 + usize::from(below.is_some());
    // Compilers quote names and types, never values.
    Some(Found::new(code.unwrap_or("error"), &whole, Weight::Traced, at..end).with(Names::Kept))
}

/// The header in quotes, so that it stays: `openssl/ssl.h: No such file or directory`.
fn quoted_header(message: &str) -> String {
    match message.split_once(": No such file") {
        Some((header, rest)) if !header.contains([' ', '\'', '"', '‘']) => {
            format!("header '{header}': No such file{rest}")
        }
        _ => message.to_owned(),
    }
}

/// mypy writes the code at the end, `… [attr-defined]`, and GHC instead of the message, `[GHC-88464]`.
fn bracketed_code(message: &str) -> (Option<&str>, &str) {
    let trimmed = message.trim_end();
    let Some(open) = trimmed.strip_suffix(']').and_then(|rest| rest.rfind('[')) else {
        return (None, message);
    };
    let code = &trimmed[open + 1..trimmed.len() - 1];
    let is_word = code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let is_code = code.len() > 3 && (is_word || code.starts_with("GHC-"));
    if is_code { (Some(code), &message[..open]) } else { (None, message) }
}

/// `a.rb:3:in 'load': undefined method 'x' for nil (NoMethodError)`.
fn ruby(at: usize, rest: &str) -> Option<Found> {
    let rest = rest.strip_prefix("in ")?;
    let (_, message) = rest.split_once(": ")?;
    let (message, class) = message.strip_suffix(')')?.rsplit_once(" (")?;
    words::is_error_class(class).then(|| Found::new(class, message, Weight::Traced, at..at + 1))
}

/// javac names what it cannot find below: `symbol:   variable foo`.
fn symbol(lines: &[Line<'_>], at: usize) -> Option<String> {
    const LINES_MAX: usize = 5;
    let after = &lines[at + 1..lines.len().min(at + 1 + LINES_MAX)];
    after.iter().find_map(|line| line.said().strip_prefix("symbol:").map(|symbol| symbol.trim().to_owned()))
}

/// A file with a line at the beginning, and what follows.
fn place(said: &str) -> Option<(&str, &str)> {
    const PLACE_BYTES_MAX: usize = 300;
    let head = &said[..said.floor_char_boundary(PLACE_BYTES_MAX.min(said.len()))];
    for (at, character) in head.char_indices() {
        let is_mark = matches!(character, ':' | '(');
        let rest = &said[at + character.len_utf8()..];
        if !is_mark || !rest.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let file = &said[..at];
        let is_file = file.rsplit(['/', '\\']).next().is_some_and(|name| name.contains('.') && !name.contains(' '));
        if !is_file {
            return None;
        }
        let position = rest.bytes().take_while(|byte| byte.is_ascii_digit() || b":,)-".contains(byte)).count();
        let after = &rest[position..];
        return after.starts_with([' ', 'i']).then_some((file, after.trim_start()));
    }
    None
}

/// `error TS2304: …`, `fatal error LNK1120: …`, `error: …` with a code of another tool.
fn coded(at: usize, said: &str) -> Option<Found> {
    let start = said.find("error ").filter(|start| *start == 0 || said[..*start].ends_with([' ', ':', ')']))?;
    let (code, message) = said[start + "error ".len()..].split_once(": ")?;
    let letters = code.bytes().take_while(u8::is_ascii_uppercase).count();
    let is_code = (1..=6).contains(&letters)
        && (3..=6).contains(&(code.len() - letters))
        && code[letters..].bytes().all(|byte| byte.is_ascii_digit());
    // MSBuild adds the project.
    let message =
        message.strip_suffix("proj]").and_then(|rest| rest.rsplit_once(" [")).map_or(message, |(message, _)| message);
    is_code.then(|| Found::new(code, message, Weight::Traced, at..at + 1).with(Names::Kept))
}
