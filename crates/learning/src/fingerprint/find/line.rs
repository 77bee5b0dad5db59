//! What one line says of a failure: a command that is not there, a class, a code, a status, a phrase, or a mark.

use super::{Found, Level, Line, Names, Weight, code_of_aws, code_of_redis, errno, starts_with, traces};
use crate::fingerprint::words::{self, Seen};

/// Bytes of a line that are looked at.
const LINE_BYTES_MAX: usize = 8 << 10;
/// Pieces in backticks of a person's sentence that are looked at.
const PIECES_MAX: usize = 8;
/// Numbers of a line that are tried as a status.
const STATUSES_MAX: usize = 16;

/// What a line says.
pub(super) fn find(lines: &[Line<'_>], at: usize) -> Option<Found> {
    let line = &lines[at];
    let said = line.said();
    let said = &said[..said.floor_char_boundary(LINE_BYTES_MAX)];
    if line.is_source || line.level == Level::Fine || is_frame(said) {
        return None;
    }
    // What a log marks is not what a person says.
    if line.level == Level::Unsaid && is_prose(said) {
        return told(line, said, at);
    }
    let lower = said.to_ascii_lowercase();
    let seen = Seen::new(&lower);
    if is_all_well(&lower, &seen) {
        return None;
    }
    if seen.has_consequence()
        && let Some(found) = consequence(said, &lower, at)
    {
        return Some(found);
    }
    cause(line, said, &lower, &seen, at).or_else(|| {
        if line.level == Level::Warning || is_code(said) { None } else { marked(line, said, &lower, &seen, at) }
    })
}

/// What names a class, a code or a cause.
fn cause(line: &Line<'_>, said: &str, lower: &str, seen: &Seen, at: usize) -> Option<Found> {
    not_a_command(said, lower, at)
        .or_else(|| curl(said, at))
        .or_else(|| numbered(said, at))
        .or_else(|| traces::one_line(line, said, at))
        .or_else(|| if is_code(said) { None } else { phrased(line, said, lower, seen, at) })
        .or_else(|| status(said, lower, at))
}

/// What a person's sentence quotes: a piece in backticks, or a class with its message.
fn told(line: &Line<'_>, said: &str, at: usize) -> Option<Found> {
    for piece in said.split('`').skip(1).step_by(2).take(PIECES_MAX) {
        let piece = piece.trim();
        if piece.split_whitespace().nth(1).is_none() {
            continue;
        }
        let quoted = Line { whole: line.whole, text: piece, level: Level::Unsaid, is_source: false };
        let lower = piece.to_ascii_lowercase();
        let seen = Seen::new(&lower);
        let found = cause(&quoted, piece, &lower, &seen, at).or_else(|| marked(&quoted, piece, &lower, &seen, at));
        let diagnosed = super::compilers::find(std::slice::from_ref(&quoted), 0);
        if let Some(found) = diagnosed.or(found) {
            return Some(Found { lines: at..at + 1, ..found });
        }
    }
    let found = traces::one_line(line, said, at)?;
    let message = traces::without_prose(&found.message).to_owned();
    Some(Found { message, ..found })
}

/// Whether a person speaks: asks, or tells.
fn is_prose(said: &str) -> bool {
    // No program says so of itself.
    if [" I ", " I'm ", " my ", " I've "].iter().any(|words| said.contains(words)) {
        return true;
    }
    let word = said.split([' ', ',', '!', ':']).next().unwrap_or_default();
    if word.len() == said.len() || word.len() > 12 {
        return false;
    }
    let lower = word.to_ascii_lowercase().replace('’', "'");
    let next = said[word.len()..].trim_start_matches([' ', ',', '!', ':']);
    // `could not open`, `after compiling`: programs begin so, too, but not with a person.
    let is_program =
        starts_with(next, "not ") && matches!(lower.as_str(), "could" | "did" | "is" | "are" | "does" | "do");
    words::has(words::PROSE, &lower) && !is_program && !said[word.len()..].starts_with(':')
}

/// A frame of a trace without its head.
fn is_frame(said: &str) -> bool {
    (said.starts_with("at ") && said.ends_with(')')) || said.starts_with("File \"")
}

/// What looks like an error and says that there is none.
fn is_all_well(lower: &str, seen: &Seen) -> bool {
    // `10 errors` has `0 errors` in it.
    let is_whole = |at: usize| !lower[..at].ends_with(|c: char| c.is_ascii_digit());
    let is_some = seen.all_well().any(|phrase| lower.find(phrase).is_some_and(is_whole));
    is_some && !lower.contains(" failed;") && !lower.contains("fatal")
}

/// Whether it is source code, in which errors are spoken of and do not happen.
fn is_code(said: &str) -> bool {
    let is_statement = said.ends_with([';', '{']) && said.contains(['(', '=']);
    is_statement
        || words::OF_CODE.iter().any(|start| said.starts_with(start))
        || said.starts_with("$ ")
        || said.starts_with("# ")
}

/// What only says that something before it failed.
fn consequence(said: &str, lower: &str, at: usize) -> Option<Found> {
    if lower.contains("calledprocesserror") {
        return None;
    }
    let exit = ["exit code ", "exit code: ", "exit status ", "exit status: ", "exited with code ", "error ", "code: "]
        .iter()
        .find_map(|phrase| {
            let rest = &lower[lower.rfind(phrase)? + phrase.len()..];
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            (1..=3).contains(&digits).then(|| &rest[..digits])
        });
    if exit == Some("0") {
        return None;
    }
    let class = exit.map_or_else(|| "error".to_owned(), |exit| format!("exit status {exit}"));
    Some(Found::new(&class, said, Weight::Consequence, at..at + 1))
}

/// A command that a shell does not find, whichever shell it is: they say the same.
fn not_a_command(said: &str, lower: &str, at: usize) -> Option<Found> {
    let name = command_after(said, lower).or_else(|| command_before(said, lower))?;
    let name = name.trim_matches(['\'', '"', '`', '‘', '’', ' ', ':']);
    if name.is_empty() || name.contains(' ') || name.len() > 200 {
        return None;
    }
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let message = format!("command not found: '{name}'");
    Some(Found::new("command not found", &message, Weight::Named, at..at + 1).with(Names::Kept))
}

/// `zsh: command not found: foo`, `fish: Unknown command: foo`, `exec: "foo": executable file not found in $PATH`.
fn command_after<'a>(said: &'a str, lower: &str) -> Option<&'a str> {
    for phrase in ["command not found: ", "unknown command: ", "the term '"] {
        if let Some(start) = lower.find(phrase) {
            let rest = &said[start + phrase.len()..];
            let is_term = phrase.starts_with("the") && !lower.contains("is not recognized");
            return (!is_term).then(|| rest.split(['\'', ' ']).next()).flatten();
        }
    }
    let start = lower.find("exec: \"").filter(|_| lower.contains("executable file not found"))?;
    said[start + "exec: \"".len()..].split('"').next()
}

/// `bash: foo: command not found`, `sh: 1: foo: not found`, `'foo' is not recognized as an internal or external command`.
fn command_before<'a>(said: &'a str, lower: &str) -> Option<&'a str> {
    if let Some(end) = lower.find(" is not recognized as an internal") {
        return said[..end].rsplit(['\'', ' ']).find(|word| !word.is_empty());
    }
    if let Some(end) = lower.find(": command not found") {
        return said[..end].rsplit([' ', ':']).next();
    }
    // dash says no more than this, and always its own name and the line.
    let end = lower.strip_suffix(": not found")?.len();
    let parts: Vec<&str> = said[..end].split(": ").collect();
    let is_shell = parts.len() >= 3
        && parts[parts.len() - 2].trim_start_matches("line ").bytes().all(|byte| byte.is_ascii_digit());
    is_shell.then(|| parts[parts.len() - 1])
}

/// `curl: (7) Failed to connect …`.
fn curl(said: &str, at: usize) -> Option<Found> {
    let rest = said.strip_prefix("curl: (")?;
    let (number, message) = rest.split_once(") ")?;
    let is_number = !number.is_empty() && number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_digit());
    // How long it tried is no part of it.
    is_number.then(|| Found::new(&format!("curl ({number})"), message, Weight::Named, at..at + 1))
}

/// Codes of databases, of gRPC, of TLS libraries and of browsers.
fn numbered(said: &str, at: usize) -> Option<Found> {
    let named = |class: &str, message: &str| Some(Found::new(class, message, Weight::Named, at..at + 1));
    if let Some(code) = code_of_aws(said).filter(|_| said.starts_with("An error occurred")) {
        return named(code, said);
    }
    // Kubernetes says why in a word: `Error from server (NotFound): pods "web" not found`.
    if let Some((reason, message)) = said.strip_prefix("Error from server (").and_then(|rest| rest.split_once("): ")) {
        return named(reason, message);
    }
    // Elixir puts the class in parentheses.
    if let Some((class, message)) = said.strip_prefix("** (").and_then(|rest| rest.split_once(") ")) {
        return named(class.rsplit('.').next().unwrap_or(class), message);
    }
    if let Some(rest) = said.strip_prefix("ERROR ") {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        // `ERROR 1146 (42S02) at line 3: …`
        if (3..=5).contains(&digits)
            && let Some((_, message)) = rest[digits..].split_once(": ")
        {
            return named(&format!("ERROR {}", &rest[..digits]), message);
        }
    }
    if let Some(start) = said.find("SQLSTATE[") {
        let (code, message) = said[start + "SQLSTATE[".len()..].split_once(']')?;
        return named(&format!("SQLSTATE {code}"), message.trim_start_matches([':', ' ']));
    }
    if let Some(start) = said.find("code = ")
        && let Some((code, message)) = said[start + "code = ".len()..].split_once(" desc = ")
        && !code.contains(' ')
    {
        return named(code, message);
    }
    let word = |word: &&str| {
        let is_constant = word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        is_constant
            && word.len() > 5
            && (word.starts_with("ERR_") || word.starts_with("SQLITE_") || word.starts_with("SSL_ERROR_"))
    };
    let mut words = said.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
    if let Some(code) = words.clone().find(word) {
        return named(code, said);
    }
    let oracle = words.find(|word| {
        word.strip_prefix("ORA-")
            .is_some_and(|number| number.len() == 5 && number.bytes().all(|byte| byte.is_ascii_digit()))
    })?;
    let start = said.find(oracle)?;
    named(oracle, said[start + oracle.len()..].trim_start_matches([':', ' ']))
}

/// The name of an errno, or a phrase that says what went wrong.
fn phrased(line: &Line<'_>, said: &str, lower: &str, seen: &Seen, at: usize) -> Option<Found> {
    let (class, start) = match errno(said).filter(|_| said.contains(' ')) {
        Some(class) => (class, 0),
        None => phrase(lower, seen)?,
    };
    let (said, lower) = (&said[start..], &lower[start..]);
    let weight = if line.level == Level::Warning { Weight::Marked } else { Weight::Named };
    let message = without_mark(said, lower).unwrap_or(said);
    let names = if class == "shared object" { Names::Kept } else { Names::ByWords };
    Some(Found::new(class, message, weight, at..at + 1).with(names))
}

/// The class of the first phrase that a text has, and where its message begins.
fn phrase(lower: &str, seen: &Seen) -> Option<(&'static str, usize)> {
    let (phrase, class) = seen.phrase()?;
    let start = if words::BEGIN_AT_PHRASE.contains(class) { lower.find(phrase)? } else { 0 };
    Some((class, start))
}

/// The class that a message's own words give it.
pub(super) fn class_of(message: &str) -> Option<&str> {
    errno(message).or_else(|| Seen::new(&message.to_ascii_lowercase()).phrase().map(|(_, class)| *class))
}

/// `HTTP/1.1 502 Bad Gateway`, `status code 503`, `404 Not Found`.
fn status(said: &str, lower: &str, at: usize) -> Option<Found> {
    let bytes = lower.as_bytes();
    let (mut from, mut tried) = (0, 0);
    while let Some(found) = lower[from..].find(['4', '5'])
        && tried < STATUSES_MAX
    {
        let start = from + found;
        from = start + 1;
        let is_word =
            start == 0 || !(bytes[start - 1].is_ascii_alphanumeric() || matches!(bytes[start - 1], b'.' | b'_' | b'/'));
        let code = &bytes[start..bytes.len().min(start + 3)];
        let ends = bytes.get(start + 3).is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'.')
            || bytes.get(start + 3) == Some(&b'.') && bytes.get(start + 4).is_none_or(|byte| !byte.is_ascii_digit());
        if !is_word || code.len() < 3 || !code.iter().all(u8::is_ascii_digit) || !ends {
            continue;
        }
        tried += 1;
        let (before, after) =
            (lower[..start].trim_end_matches([' ', ':', '=', '(', '"']), lower[start + 3..].trim_start());
        let is_answer = [
            "http/1.1",
            "http/1.0",
            "http/2",
            "http",
            "status code",
            "status",
            "statuscode",
            "http error",
            "responded with",
        ]
        .iter()
        .any(|word| before.ends_with(word));
        let has_reason = words::HTTP_REASONS.iter().any(|reason| after.starts_with(reason));
        // A line of an access log tells of an error only where it is the server's own.
        let is_access = lower[..start].contains(" http/") && lower[..start].ends_with("\" ");
        if is_access && code[0] != b'5' {
            return None;
        }
        // A sentence may speak of statuses: what is short, or tells of trouble, is an answer.
        let is_told = before.contains("http/")
            || said.split_whitespace().nth(6).is_none()
            || ["fail", "error", "return", "respon", "got ", "receiv", "unexpected"]
                .iter()
                .any(|word| lower.contains(word));
        if (is_answer && is_told) || has_reason {
            let class = format!("HTTP {}", &lower[start..start + 3]);
            let message = if is_access || before.contains("http/") { class.as_str() } else { said };
            return Some(Found::new(&class, message, Weight::Named, at..at + 1));
        }
    }
    None
}

/// What is marked as an error, by its level, by a word in front, or by how it begins.
fn marked(line: &Line<'_>, said: &str, lower: &str, seen: &Seen, at: usize) -> Option<Found> {
    let found = |message: &str| {
        let has_words = message.chars().filter(|character| character.is_alphabetic()).count() >= 3;
        let class = code_of_redis(message).unwrap_or("error");
        has_words.then(|| Found::new(class, message, Weight::Marked, at..at + 1))
    };
    if let Some(message) = without_mark(said, lower) {
        return found(message);
    }
    if line.level == Level::Error {
        return found(said);
    }
    let is_question = said.ends_with('?');
    // `error Couldn't find package` tells of one, and `error codes are words` of none.
    let marks = ["error ", "fatal ", "failure "];
    let rest = marks.iter().find(|mark| lower.starts_with(**mark)).map(|mark| &said[mark.len()..]);
    let is_told = rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_lowercase()));
    let starts = is_told || words::BEGINNINGS.iter().any(|start| lower.starts_with(start));
    let starts = starts && said.split_whitespace().nth(2).is_some();
    if !is_question && (starts || seen.is_marked()) { found(said) } else { None }
}

/// What follows `error:` and the like.
fn without_mark<'a>(said: &'a str, lower: &str) -> Option<&'a str> {
    if let Some(rest) = said.strip_prefix("E: ") {
        return Some(rest);
    }
    if let Some(mark) = words::MARKS.iter().find(|mark| lower.starts_with(**mark)) {
        let rest = said[mark.len()..].trim();
        // `error: fatal: …`
        let inner = words::MARKS[..4]
            .iter()
            .find(|mark| starts_with(rest, mark))
            .map_or(rest, |mark| rest[mark.len()..].trim());
        return (!inner.is_empty()).then_some(inner);
    }
    let at = [": error: ", ": fatal: ", ": fatal error: ", " error: "]
        .iter()
        .filter_map(|mark| lower.find(mark).map(|at| at + mark.len()))
        .min()?;
    // A long sentence before it is what is told, and the mark a part of it.
    const BEFORE_BYTES_MAX: usize = 80;
    (at <= BEFORE_BYTES_MAX && !said[at..].trim().is_empty()).then(|| said[at..].trim())
}
