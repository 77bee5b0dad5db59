//! What logs put in front of a line: times, hosts, processes, levels, names of loggers, containers and quotes.
//!
//! The same error has to be the same whoever logged it, so that this is taken off; how bad the logger thought it was is
//! kept. White space after the prefix stays, since traces are told by their indentation.

use super::words;

/// Prefixes that one line may have; a line of nothing but them is not worth more.
const PREFIXES_MAX: usize = 12;
/// Bytes that a prefix in brackets may have.
const BRACKET_BYTES_MAX: usize = 80;
/// Words after a time among which the level stands.
const WORDS_BEFORE_LEVEL_MAX: usize = 7;

/// How bad a line is by its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// It does not say.
    Unsaid,
    /// Nothing is wrong: debug, information.
    Fine,
    /// A warning.
    Warning,
    /// An error, or worse.
    Error,
}

/// A line of a cleaned text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// All of it.
    pub whole: &'a str,
    /// What follows the prefix, with its indentation.
    pub text: &'a str,
    /// What the prefix says.
    pub level: Level,
    /// It shows source code beside its number, as compilers do.
    pub is_source: bool,
}

impl<'a> Line<'a> {
    pub(super) fn new(whole: &'a str) -> Self {
        let mut line = Self { whole, text: whole, level: Level::Unsaid, is_source: false };
        let mut is_log = false;
        for _ in 0..PREFIXES_MAX {
            let Some(prefix) = next_prefix(line.text, is_log) else { break };
            line.text = &line.text[prefix.bytes..];
            is_log |= prefix.is_log;
            line.is_source |= prefix.is_source;
            if prefix.level != Level::Unsaid {
                line.level = prefix.level;
            }
        }
        line
    }

    /// What follows the prefix, without white space around it.
    pub(super) fn said(&self) -> &'a str {
        self.text.trim()
    }

    /// How far it is indented.
    pub(super) fn indent(&self) -> usize {
        self.text.len() - self.text.trim_start().len()
    }

    pub(super) fn is_blank(&self) -> bool {
        self.said().is_empty()
    }
}

#[derive(Clone, Copy)]
struct Prefix {
    bytes: usize,
    level: Level,
    /// Only logs have it, so that names may follow which mean nothing elsewhere.
    is_log: bool,
    is_source: bool,
}

impl Prefix {
    const fn new(bytes: usize) -> Self {
        Self { bytes, level: Level::Unsaid, is_log: false, is_source: false }
    }

    const fn of_log(bytes: usize) -> Self {
        Self { bytes, level: Level::Unsaid, is_log: true, is_source: false }
    }
}

fn next_prefix(text: &str, is_log: bool) -> Option<Prefix> {
    let start = text.trim_start();
    let margin = text.len() - start.len();
    let found = match *start.as_bytes().first()? {
        b'>' | b'|' => beside(start, 1),
        b'[' | b'(' | b'<' => bracketed(start, is_log),
        b'#' => start.starts_with("##[error]").then_some(Prefix { level: Level::Error, ..Prefix::of_log(9) }),
        b':' => annotation(start),
        b'-' if is_log => start.strip_prefix("- ").map(|_| Prefix::of_log(2)),
        byte if byte.is_ascii_digit() => timed(start).or_else(|| numbered(start)).or_else(|| process_number(start)),
        byte if byte.is_ascii_alphabetic() => named(start, is_log),
        0xe2 => start.starts_with(['│', '┃', '╷', '╵', '║', '▲']).then(|| beside(start, '│'.len_utf8())).flatten(),
        _ => None,
    }?;
    Some(Prefix { bytes: margin + found.bytes, ..found })
}

/// A bar or a mark of a quote with the space after it.
fn beside(start: &str, mark: usize) -> Option<Prefix> {
    let rest = &start[mark..];
    (rest.is_empty() || rest.starts_with(' ')).then(|| Prefix::new(mark + usize::from(!rest.is_empty())))
}

/// `::error file=a.rs,line=1::message`, as workflows of GitHub annotate.
fn annotation(start: &str) -> Option<Prefix> {
    let rest = start.strip_prefix("::error")?;
    let end = rest.find("::")?;
    Some(Prefix { level: Level::Error, ..Prefix::of_log("::error".len() + end + 2) })
}

/// ` 12 | let x = …`: source code in a compiler's words.
fn numbered(start: &str) -> Option<Prefix> {
    let digits = digits(start);
    let bar = start[digits..].trim_start();
    let is_source = digits <= 6 && bar.starts_with('|');
    is_source.then(|| Prefix { is_source: true, ..Prefix::new(start.len() - bar.len() + 1) })
}

/// `812 --- `, as Spring puts the process before the thread, and `123#123: *45 ` of nginx.
fn process_number(start: &str) -> Option<Prefix> {
    let count = digits(start);
    if start[count..].starts_with(" --- ") {
        return Some(Prefix::of_log(count + " --- ".len()));
    }
    let thread = start[count..].strip_prefix('#').map(digits).filter(|digits| *digits > 0)?;
    let mut bytes = count + 1 + thread;
    bytes += start[bytes..].strip_prefix(": ").map(|_| 2)?;
    if let Some(connection) = start[bytes..].strip_prefix('*').map(digits)
        && start[bytes + 1 + connection..].starts_with(' ')
    {
        bytes += connection + 2;
    }
    Some(Prefix::of_log(bytes))
}

/// A time, and after it in a log a level among few words, or who wrote it.
fn timed(start: &str) -> Option<Prefix> {
    let time = time_bytes(start)?;
    let rest = &start[time..];
    let ends = rest.is_empty() || rest.starts_with([' ', ':', '|', ']']);
    if !ends {
        return None;
    }
    let after = time + usize::from(!rest.is_empty());
    Some(with_header(start, after))
}

/// What a log writes after the time: `host unit[pid]: `, or names and a level.
fn with_header(start: &str, after: usize) -> Prefix {
    let rest = &start[after..];
    if let Some(bytes) = host_and_process(rest) {
        return Prefix::of_log(after + bytes);
    }
    if let Some((bytes, level)) = words_and_level(rest) {
        return Prefix { level, ..Prefix::of_log(after + bytes) };
    }
    Prefix::of_log(after)
}

/// `host process[12]: ` of syslog and the journal, with the one space after it.
fn host_and_process(text: &str) -> Option<usize> {
    let (host, rest) = text.trim_start().split_once(' ')?;
    let margin = text.len() - text.trim_start().len();
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let process = process_bytes(rest).or_else(|| rest.starts_with("kernel: ").then_some("kernel: ".len()))?;
    is_host.then_some(margin + host.len() + 1 + process)
}

/// `process[12]: `; but not where the kernel says of a process that it crashed.
fn process_bytes(text: &str) -> Option<usize> {
    const NAME_BYTES_MAX: usize = 64;
    let open = text.bytes().take(NAME_BYTES_MAX).position(|byte| byte == b'[' || byte == b' ')?;
    let number = text[open..].strip_prefix('[')?;
    let count = digits(number);
    let crashed = number[count..].starts_with("]: segfault");
    let ends = !crashed && number[count..].starts_with("]: ") || number[count..] == *"]:";
    // `SQLSTATE[23000]: ` is what is said.
    let is_name = text[..open].bytes().any(|byte| byte.is_ascii_lowercase());
    (is_name && count > 0 && ends).then(|| (open + 1 + count + 3).min(text.len()))
}

/// `[main] 1234 --- ERROR `: a level among the words that follow a time.
fn words_and_level(text: &str) -> Option<(usize, Level)> {
    let mut at = 0;
    for _ in 0..WORDS_BEFORE_LEVEL_MAX {
        at += text[at..].len() - text[at..].trim_start().len();
        let word = text[at..].split(' ').next().unwrap_or_default();
        let bare = word.trim_matches(['[', ']', '(', ')', '|', ':', '-', '<', '>']);
        if let Some(level) = level_of(bare)
            && (bare.bytes().all(|byte| byte.is_ascii_uppercase()) || bare.len() < word.len())
        {
            let bytes = at + word.len();
            // `level:` in small letters, alone, is how the message itself begins.
            let is_message = word.ends_with(':') && bare.bytes().all(|byte| byte.is_ascii_lowercase());
            return (!is_message).then(|| (bytes + spaces(&text[bytes..]), level));
        }
        // A colon ends the names: what follows is the message.
        if word.is_empty() || (word.ends_with(':') && !word.ends_with("]:")) {
            return None;
        }
        at += word.len();
    }
    None
}

/// `[12:00:01]`, `[error]`, `[ 12.345]`, and where a log is known, `[main]`.
fn bracketed(start: &str, is_log: bool) -> Option<Prefix> {
    let close = match start.as_bytes()[0] {
        b'[' => ']',
        b'(' => ')',
        _ => '>',
    };
    let bytes = start.len().min(BRACKET_BYTES_MAX);
    let end = start[..start.floor_char_boundary(bytes)].find(close)?;
    let inner = start[1..end].trim();
    let after = end + 1;
    let after = after + usize::from(start[after..].starts_with(':'));
    let after = after + usize::from(start[after..].starts_with(' '));
    if let Some(level) = level_of(inner) {
        return Some(Prefix { level, ..Prefix::of_log(after + spaces(&start[after..])) });
    }
    if close == '>' {
        return (digits(inner) == inner.len() && !inner.is_empty()).then(|| Prefix::of_log(after));
    }
    if time_bytes(inner).is_some() {
        return Some(with_header(start, after));
    }
    let is_number = inner.bytes().all(|byte| byte.is_ascii_digit() || b". /%#".contains(&byte)) && !inner.is_empty();
    let is_thread = is_log && close == ']' && !inner.starts_with("Err");
    // A number in parentheses belongs to what is said, as in `(28000)`.
    ((is_number && close == ']') || is_thread).then(|| Prefix::of_log(after))
}

/// A prefix that begins with a letter.
fn named(start: &str, is_log: bool) -> Option<Prefix> {
    levelled(start)
        .or_else(|| structured(start))
        .or_else(|| klog(start))
        .or_else(|| month_time(start))
        .or_else(|| process_bytes(start).map(Prefix::of_log))
        .or_else(|| start.starts_with("kernel: ").then(|| Prefix::of_log("kernel: ".len())))
        .or_else(|| program_and_level(start))
        .or_else(|| composed(start))
        .or_else(|| pytest(start))
        .or_else(|| if is_log { logger(start) } else { None })
}

/// `ERROR message`, `ERROR: message`, `ERROR:root:message`, `ERROR - message`.
fn levelled(start: &str) -> Option<Prefix> {
    let word = start.bytes().take_while(u8::is_ascii_uppercase).count();
    let level = level_of(&start[..word])?;
    let rest = &start[word..];
    let is_python = rest.starts_with(':') && !rest.starts_with(": ") && rest[1..].find(':').is_some_and(|end| end < 64);
    if is_python {
        let name = rest[1..].find(':').unwrap_or(0);
        return Some(Prefix { level, ..Prefix::of_log(word + 1 + name + 1) });
    }
    let mark = rest.bytes().take_while(|byte| b" :-|".contains(byte)).count();
    // `ERROR 1146 (42S02)` is MySQL's, with its number.
    let is_code = rest[mark..].starts_with(|c: char| c.is_ascii_digit()) && mark == 1;
    (mark > 0 && !is_code).then(|| Prefix { level, ..Prefix::of_log(word + mark) })
}

/// `level=error msg="…"`: what is said follows `msg=`.
fn structured(start: &str) -> Option<Prefix> {
    const KEYS: [&str; 4] = ["time=", "ts=", "level=", "lvl="];
    KEYS.iter().any(|key| start.starts_with(key)).then_some(())?;
    let value = |key: &str| start.find(key).map(|at| at + key.len());
    let level_at = value("level=").or_else(|| value("lvl="))?;
    let word = start[level_at..].trim_start_matches('"');
    let length = word.bytes().take_while(u8::is_ascii_alphabetic).count();
    let message = value(" msg=").or_else(|| value(" message="))?;
    let message = message + usize::from(start[message..].starts_with('"'));
    Some(Prefix { level: level_of(&word[..length])?, ..Prefix::of_log(message) })
}

/// `E0102 15:04:05.000000    1234 file.go:12] message`, as Kubernetes logs.
fn klog(start: &str) -> Option<Prefix> {
    let level = match start.as_bytes() {
        [b'I', b'0' | b'1', ..] => Level::Fine,
        [b'W', b'0' | b'1', ..] => Level::Warning,
        [b'E' | b'F', b'0' | b'1', ..] => Level::Error,
        _ => return None,
    };
    let time = start.get(5..)?.strip_prefix(' ').and_then(clock_bytes)?;
    let head = &start[..start.floor_char_boundary(start.len().min(160))];
    let end = head.get(6 + time..)?.find("] ")?;
    (digits(&start[1..]) == 4).then(|| Prefix { level, ..Prefix::of_log(6 + time + end + 2) })
}

/// `Jan  2 15:04:05`, with a weekday before it or a year after it.
fn month_time(start: &str) -> Option<Prefix> {
    let time = month_bytes(start)?;
    let rest = &start[time..];
    (rest.is_empty() || rest.starts_with([' ', ':'])).then(|| with_header(start, time + usize::from(!rest.is_empty())))
}

/// `nginx: [emerg] `.
fn program_and_level(start: &str) -> Option<Prefix> {
    let name = start.bytes().take(32).take_while(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)).count();
    let (word, _) = start[name..].strip_prefix(": [")?.split_once("] ")?;
    let level = level_of(word)?;
    Some(Prefix { level, ..Prefix::of_log(name + ": [".len() + word.len() + "] ".len()) })
}

/// `service-1  | message`, as Compose shows logs of several containers.
fn composed(start: &str) -> Option<Prefix> {
    let name = start.bytes().take(64).take_while(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte)).count();
    let bar = start[name..].trim_start_matches(' ');
    let is_composed = bar.starts_with("| ") && start[..name].bytes().any(|byte| b"-_.0123456789".contains(&byte));
    is_composed.then(|| Prefix::of_log(start.len() - bar.len() + 2))
}

/// `E   AssertionError: …`, as pytest marks what went wrong.
fn pytest(start: &str) -> Option<Prefix> {
    let rest = start.strip_prefix("E   ")?;
    Some(Prefix { level: Level::Error, ..Prefix::of_log(4 + spaces(rest)) })
}

/// `com.example.Service : `, `app::module: `: who wrote a line of a log.
fn logger(start: &str) -> Option<Prefix> {
    let name =
        start.bytes().take(96).take_while(|byte| byte.is_ascii_alphanumeric() || b"._:$-/".contains(byte)).count();
    let name = start[..name].trim_end_matches(':');
    let rest = &start[name.len()..];
    let mark = [" : ", " - ", ": "].iter().find(|mark| rest.starts_with(**mark))?;
    let is_dotted = name.contains('.') || name.contains("::");
    let is_name = (is_dotted && !words::is_error_class(name)) || (*mark == " - " && !name.is_empty());
    // Laravel ends the name with the level.
    let level = name.rsplit('.').next().and_then(level_of).unwrap_or(Level::Unsaid);
    is_name.then(|| Prefix { level, ..Prefix::of_log(name.len() + mark.len()) })
}

/// The level that a word names.
fn level_of(word: &str) -> Option<Level> {
    const FINE: [&str; 8] = ["TRACE", "DEBUG", "INFO", "NOTICE", "VERBOSE", "NOTE", "INF", "LOG"];
    const WARNING: [&str; 2] = ["WARN", "WARNING"];
    const ERROR: [&str; 11] =
        ["ERROR", "ERR", "FATAL", "CRITICAL", "CRIT", "SEVERE", "ALERT", "EMERG", "EMERGENCY", "PANIC", "FAILED"];
    let is = |words: &[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
    if is(&FINE) {
        Some(Level::Fine)
    } else if is(&WARNING) {
        Some(Level::Warning)
    } else {
        is(&ERROR).then_some(Level::Error)
    }
}

/// Bytes of a time at the beginning: a date of ISO 8601 or of web servers, with or without the hour, or the hour alone.
pub(super) fn time_bytes(text: &str) -> Option<usize> {
    if let Some(bytes) = month_bytes(text) {
        return Some(bytes);
    }
    let date = date_bytes(text);
    match date {
        None => clock_bytes(text),
        Some(date) => {
            let clock = text[date..].strip_prefix(['T', ' ', ':', '_']).and_then(clock_bytes);
            Some(clock.map_or(date, |clock| date + 1 + clock))
        }
    }
}

/// `2026-01-02`, `2026/01/02`, `02/Jan/2026`, `02-01-2026`.
fn date_bytes(text: &str) -> Option<usize> {
    let first = digits(text);
    let separator = *text.as_bytes().get(first)?;
    if !b"-/.".contains(&separator) || !matches!(first, 2 | 4) {
        return None;
    }
    let middle = &text[first + 1..];
    let second = if words::is_month(middle.get(..3)?) { 3 } else { digits(middle) };
    let last = middle.get(second..)?.strip_prefix(char::from(separator))?;
    let third = digits(last);
    let is_date = matches!(second, 2 | 3) && matches!((first, third), (4, 2) | (2, 4));
    is_date.then_some(first + 1 + second + 1 + third)
}

/// `15:04:05`, with fractions, a zone, AM or PM.
fn clock_bytes(text: &str) -> Option<usize> {
    let mut at = digits(text);
    if !matches!(at, 1 | 2) {
        return None;
    }
    for _ in 0..2 {
        let part = text[at..].strip_prefix(':')?;
        if digits(part) != 2 {
            return None;
        }
        at += 3;
    }
    if let Some(fraction) = text[at..].strip_prefix(['.', ','])
        && digits(fraction) > 0
    {
        at += 1 + digits(fraction);
    }
    Some(at + zone_bytes(&text[at..]))
}

/// `Z`, `+01:00`, ` +0100`, ` PM`, ` UTC`.
fn zone_bytes(text: &str) -> usize {
    let space = spaces(text).min(1);
    let zone = &text[space..];
    for word in ["UTC", "GMT", "CET", "CEST", "AM", "PM"] {
        if zone.starts_with(word) && !zone[word.len()..].starts_with(|c: char| c.is_alphanumeric()) {
            return space + word.len();
        }
    }
    if zone.starts_with('Z') && space == 0 {
        return 1;
    }
    let Some(offset) = zone.strip_prefix(['+', '-']) else { return 0 };
    match (digits(offset), offset.as_bytes().get(2)) {
        (4, _) => space + 5,
        (2, Some(b':')) if digits(&offset[3..]) == 2 => space + 6,
        (2, _) if space == 0 => 3,
        _ => 0,
    }
}

/// `Fri Jan  2 15:04:05 2026`, `Jan 02 15:04:05`.
fn month_bytes(text: &str) -> Option<usize> {
    let weekday = match text.get(..3) {
        Some(word) if words::is_weekday(word) => 3 + text[3..].bytes().take_while(|byte| b", ".contains(byte)).count(),
        _ => 0,
    };
    let month = text[weekday..].get(..3)?;
    if !words::is_month(month) {
        return None;
    }
    let mut at = weekday + 3;
    at += spaces(&text[at..]);
    let day = digits(&text[at..]);
    if !matches!(day, 1 | 2) {
        return None;
    }
    at += day;
    let clock = clock_bytes(text[at..].strip_prefix(' ')?)?;
    at += 1 + clock;
    let year = text[at..].strip_prefix(' ').map(digits);
    Some(if year == Some(4) { at + 5 } else { at })
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn spaces(text: &str) -> usize {
    text.bytes().take_while(|byte| *byte == b' ').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_logs_put_in_front_is_taken_off() {
        let check = |whole: &str, level: Level, text: &str| {
            let line = Line::new(whole);
            assert_eq!((line.level, line.text), (level, text), "{whole}");
        };
        check("2026-01-02T15:04:05.123Z ERROR my_crate::db: pool closed", Level::Error, "pool closed");
        check("2026-01-02 15:04:05,123 - app.worker - ERROR - it broke", Level::Error, "it broke");
        check("2026-01-02 15:04:05.123 ERROR 12 --- [main] c.e.Shop : it broke", Level::Error, "it broke");
        check("15:04:05.123 [http-1] ERROR com.example.Shop - it broke", Level::Error, "it broke");
        check("[2026-01-02 15:04:05] production.ERROR: it broke", Level::Error, "it broke");
        check("Jan  2 15:04:05 web1 nginx[812]: it broke", Level::Unsaid, "it broke");
        check("Jan 02 15:04:05 web1 python3[1]:   File \"a.py\", line 3", Level::Unsaid, "  File \"a.py\", line 3");
        check("2026-01-02T15:04:05+01:00 web1 kernel: [12.34] it broke", Level::Unsaid, "it broke");
        check("ERROR:root:it broke", Level::Error, "it broke");
        check("ERROR: it broke", Level::Error, "it broke");
        check("FATAL:  role \"x\" does not exist", Level::Error, "role \"x\" does not exist");
        check("ERROR 1146 (42S02) at line 1: no", Level::Unsaid, "ERROR 1146 (42S02) at line 1: no");
        check("E0102 15:04:05.000000    1234 file.go:12] it broke", Level::Error, "it broke");
        check("web-1  | it broke", Level::Unsaid, "it broke");
        check("│ Error: it broke", Level::Unsaid, "Error: it broke");
        check("> error: it broke", Level::Unsaid, "error: it broke");
        check("##[error]it broke", Level::Error, "it broke");
        check("::error file=a.rs,line=3::it broke", Level::Error, "it broke");
        check("time=\"2026-01-02\" level=error msg=\"it broke\"", Level::Error, "it broke\"");
        check("2026/01/02 15:04:05 [error] 12#12: *3 it broke", Level::Error, "it broke");
        check("E   AssertionError: assert 1 == 2", Level::Error, "AssertionError: assert 1 == 2");
        check("<3>it broke", Level::Unsaid, "it broke");
        check("[INFO] all is well", Level::Fine, "all is well");
        check("ERROR java.lang.RuntimeException: no", Level::Error, "java.lang.RuntimeException: no");
        check("error: it broke", Level::Unsaid, "error: it broke");
        check("    at com.example.A.b(A.java:3)", Level::Unsaid, "    at com.example.A.b(A.java:3)");
        check("2026-01-02 it broke", Level::Unsaid, "it broke");
        check("", Level::Unsaid, "");
        check("12 | let x = 1;", Level::Unsaid, " let x = 1;");
        check("[", Level::Unsaid, "[");
        check("ä: ö", Level::Unsaid, "ä: ö");
    }
}
