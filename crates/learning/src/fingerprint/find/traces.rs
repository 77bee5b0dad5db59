//! Traces: of Python, of what writes `at …` for each frame (Java, JavaScript, .NET), of Rust and of Go.
//!
//! Where one exception led to another, the cause counts that the text calls the cause: the last one of Python's chain, as
//! that is what the program ended with, and the innermost "Caused by" of Java, which is where it began.

use super::{Classed, Found, Level, Line, Weight, classed, names_of, refined, starts_with};
use crate::fingerprint::words;

const HEADER: &str = "Traceback (most recent call last)";
/// Lines that one trace may have; what is beyond them is another one.
const TRACE_LINES_MAX: usize = 1_000;
/// Lines between the message and the first frame: messages of several lines.
const MESSAGE_LINES_MAX: usize = 8;

/// A traceback of Python, with those that follow it in a chain.
pub(super) fn python(lines: &[Line<'_>], at: usize) -> Option<Found> {
    if !lines[at].text.contains(HEADER) {
        return None;
    }
    let mut found: Option<Found> = None;
    let mut header = at;
    loop {
        let (end, one) = one_traceback(lines, header);
        match one {
            Some((class, message)) => {
                found = Some(Found::new(&class, &message, Weight::Traced, at..end).with(names_of(&class)))
            }
            // Cut off before it says what happened; what was before it in the chain still counts.
            None => return found,
        }
        match next_in_chain(lines, end) {
            Some(next) => header = next,
            None => return found,
        }
    }
}

/// Where a traceback ends, and what it says.
fn one_traceback(lines: &[Line<'_>], header: usize) -> (usize, Option<(String, String)>) {
    let is_plain = lines[header].said().starts_with("Traceback");
    let indent = if is_plain { lines[header].indent() } else { 0 };
    let mut function = None;
    let mut at = header + 1;
    let last = lines.len().min(header + TRACE_LINES_MAX);
    while at < last && (lines[at].is_blank() || lines[at].indent() > indent) {
        function = function_of_frame(lines[at].said()).or(function);
        at += 1;
    }
    let Some(line) = lines.get(at).filter(|_| at < last) else { return (at, None) };
    let said = line.said();
    let class_bytes = said.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(byte)).count();
    let (name, rest) = said.split_at(class_bytes);
    let message = match rest.strip_prefix(':') {
        Some(message) => message.trim(),
        None if rest.is_empty() => "",
        None => return (at, None),
    };
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return (at, None);
    }
    let class = name.rsplit('.').next().unwrap_or(name);
    // The message may begin in the next line.
    let continues = rest.starts_with(':') && message.is_empty();
    let next = lines.get(at + 1).filter(|next| continues && !next.is_blank() && next.indent() > indent);
    let message = next.map_or(message, |next| next.said());
    let message = match (message, function) {
        ("", Some(function)) => format!("{class} in {function}"),
        _ => message.to_owned(),
    };
    (at + 1 + usize::from(next.is_some()), Some((class.to_owned(), message)))
}

/// The function of a frame: `File "a.py", line 3, in load`.
fn function_of_frame(said: &str) -> Option<String> {
    let rest = said.strip_prefix("File \"")?;
    let (_, function) = rest.split_once(", in ")?;
    let function = function.trim();
    (!function.starts_with('<') && !function.is_empty()).then(|| function.to_owned())
}

/// The header of the traceback that this one led to.
fn next_in_chain(lines: &[Line<'_>], end: usize) -> Option<usize> {
    /// Lines between two tracebacks of a chain.
    const LINES_MAX: usize = 8;
    let after = &lines[end.min(lines.len())..lines.len().min(end + LINES_MAX)];
    let mut is_chained = false;
    for (at, line) in after.iter().enumerate() {
        let said = line.said();
        is_chained |= said.starts_with("During handling of the above exception")
            || said.starts_with("The above exception was the direct cause");
        if said.contains(HEADER) {
            return is_chained.then_some(end + at);
        }
    }
    None
}

/// A message with frames below it, each of which begins with `at`.
pub(super) fn stack(lines: &[Line<'_>], at: usize) -> Option<Found> {
    let said = lines[at].said();
    let head = head_of_stack(said)?;
    let first_frame = (at + 1..lines.len().min(at + 1 + MESSAGE_LINES_MAX)).find(|at| is_frame(lines[*at].said()))?;
    // Another error between is that of the frames.
    if (at + 1..first_frame).any(|at| lines[at].is_blank() || head_of_stack(lines[at].said()).is_some()) {
        return None;
    }
    let indent = lines[at].indent();
    let mut class = refined(head.class, head.message).to_owned();
    let mut message = head.message.to_owned();
    let mut end = first_frame;
    let mut inner = innermost_frame(lines[first_frame].said());
    let last = lines.len().min(at + TRACE_LINES_MAX);
    while end < last {
        let line = &lines[end];
        let said = line.said();
        match cause(said) {
            // A cause of something suppressed stands further in.
            Some(cause) if line.indent() <= indent || !said.starts_with("Caused by:") => {
                class = refined(cause.class, cause.message).to_owned();
                message = cause.message.to_owned();
                inner = lines.get(end + 1).and_then(|next| innermost_frame(next.said()));
            }
            Some(_) => {}
            None if is_of_stack(said) || line.indent() > indent => {}
            None => break,
        }
        end += 1;
    }
    if message.is_empty() {
        message = inner.map_or_else(|| class.clone(), |frame| format!("{class} in {frame}"));
    }
    Some(Found::new(&class, &message, Weight::Traced, at..end))
}

/// The class and the message that a stack begins with.
fn head_of_stack(said: &str) -> Option<Classed<'_>> {
    if is_frame(said) || said.len() > 4_096 {
        return None;
    }
    if let Some(found) = classed(said) {
        return Some(found);
    }
    // `Exception in thread "main" com.example.Broken`: without a message, and a class of any name.
    let rest = said.strip_prefix("Exception in thread ").and_then(|rest| rest.split_once("\" "));
    let rest = rest.map(|(_, rest)| rest).or_else(|| said.strip_prefix("Unhandled exception. "))?;
    let (name, message) = rest.split_once(": ").unwrap_or((rest, ""));
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._$".contains(&byte));
    let class = name.rsplit(['.', '$']).next().unwrap_or(name);
    is_name.then_some(Classed { class, message, start: 0 })
}

/// `Caused by: …` of Java, `---> …` of .NET, `[cause]: …` of Node.
fn cause(said: &str) -> Option<Classed<'_>> {
    let rest = ["Caused by: ", "---> ", "[cause]: ", "cause: "].iter().find_map(|mark| said.strip_prefix(*mark))?;
    if let Some(found) = classed(rest) {
        return Some(found);
    }
    let (name, message) = rest.split_once(": ").unwrap_or((rest, ""));
    let is_name = name.contains('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._$".contains(&byte));
    is_name.then(|| Classed { class: name.rsplit(['.', '$']).next().unwrap_or(name), message, start: 0 })
}

fn is_frame(said: &str) -> bool {
    said.strip_prefix("at ").is_some_and(|rest| rest.contains(['(', ':', '.', '<']) && !rest.ends_with('?'))
}

fn is_of_stack(said: &str) -> bool {
    const STARTS: [&str; 6] = ["... ", "Suppressed:", "--- End", "Caused by:", "---> ", "[cause]"];
    is_frame(said) || matches!(said, "}" | "}," | "]" | "],") || STARTS.iter().any(|start| said.starts_with(start))
}

/// The method of a frame: `com.example.Shop.load`.
fn innermost_frame(said: &str) -> Option<String> {
    let rest = said.strip_prefix("at ")?;
    let name = rest.split(['(', ' ']).next()?.trim();
    let is_name = !name.is_empty() && !name.contains(['/', '\\', ':']);
    is_name.then(|| name.to_owned())
}

/// `thread 'main' panicked at src/main.rs:3:5:` with the message below, or within as it was before Rust 1.73.
pub(super) fn rust(lines: &[Line<'_>], at: usize) -> Option<Found> {
    let said = lines[at].said();
    let start = said.find("panicked at ")?;
    let rest = &said[start + "panicked at ".len()..];
    let (message, mut end) = match rest.strip_prefix('\'') {
        Some(quoted) => {
            let close = quoted.rfind("', ").or_else(|| quoted.rfind('\''))?;
            (quoted[..close].to_owned(), at + 1)
        }
        None if rest.ends_with(':') => {
            let next = lines.get(at + 1).filter(|next| !next.is_blank());
            (next.map(|next| next.said().to_owned()).unwrap_or_default(), at + 1 + usize::from(next.is_some()))
        }
        // `panicked at src/main.rs:3:5: message` on one line.
        None => (rest.split_once(": ").map(|(_, message)| message.to_owned())?, at + 1),
    };
    while end < lines.len().min(at + TRACE_LINES_MAX) && is_of_panic(lines[end].said()) {
        end += 1;
    }
    Some(Found::new("panicked", &message, Weight::Traced, at..end))
}

fn is_of_panic(said: &str) -> bool {
    said.starts_with("note: ")
        || said.starts_with("stack backtrace:")
        || said.starts_with("at ")
        || said.starts_with("left: ")
        || said.starts_with("right: ")
        || said.split_once(": ").is_some_and(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `panic: …` of Go with its goroutines, or `fatal error: …` with them.
pub(super) fn go(lines: &[Line<'_>], at: usize) -> Option<Found> {
    /// Lines from the message to the first goroutine.
    const LINES_MAX: usize = 8;
    let said = lines[at].said();
    let message = said.strip_prefix("panic: ").or_else(|| said.strip_prefix("fatal error: "))?;
    let ahead = &lines[at + 1..lines.len().min(at + 1 + LINES_MAX)];
    let goroutine = ahead.iter().position(|line| line.said().starts_with("goroutine "))?;
    let mut end = at + 1 + goroutine;
    while end < lines.len().min(at + TRACE_LINES_MAX) && is_of_goroutine(&lines[end]) {
        end += 1;
    }
    let message = message.trim_end_matches("[recovered]").trim();
    // Repanicked: the value is told twice, the second time with its type.
    let message = message.split(" [recovered]").next().unwrap_or(message);
    Some(Found::new("panic", message, Weight::Traced, at..end))
}

fn is_of_goroutine(line: &Line<'_>) -> bool {
    let said = line.said();
    line.is_blank()
        || line.indent() > 0
        || said.starts_with("goroutine ")
        || said.starts_with("created by ")
        || said.starts_with("exit status ")
        || (said.ends_with(')') && said.contains('('))
}

/// One line that names a class: `ValueError: no`, `Uncaught TypeError: x`, a final line of a trace without the trace.
pub(super) fn one_line(line: &Line<'_>, text: &str, at: usize) -> Option<Found> {
    let found = classed(text)?;
    let before = text[..found.start].trim();
    let weight = if line.level == Level::Warning { Weight::Marked } else { Weight::Named };
    let class = refined(found.class, found.message);
    // `Error: …` alone is how every program begins; it is a class where nothing but its like stands before.
    let is_plain = matches!(found.class, "Error" | "Exception" | "Failure");
    let is_bare =
        before.is_empty() || starts_with(before, "uncaught") || starts_with(before, "unhandled") || before == "[";
    if is_plain && !is_bare {
        return None;
    }
    let class = if is_plain && class == found.class { "error" } else { class };
    let message = match before.chars().next_back() {
        // In a person's sentence: what is in backticks or quotes is the message.
        Some(mark @ ('`' | '"' | '\'')) => {
            found.message.split(mark).next().filter(|_| mark == '`').unwrap_or(found.message)
        }
        _ => found.message,
    };
    Some(Found::new(class, message, weight, at..at + 1).with(names_of(class)))
}

/// The message of a person's sentence ends where the person goes on.
pub(super) fn without_prose(message: &str) -> &str {
    let lower = message.to_ascii_lowercase();
    let end = words::PROSE_ENDS.iter().filter_map(|end| lower.find(end)).min().unwrap_or(message.len());
    message[..end].trim_end_matches(['?', '.', ',', '!', ' ', '"', '`'])
}
