//! A settings file: whether it can be read, and everything that is in it, with the line of each value.
//!
//! A mistake in the text does not hide the next one: the parser goes on behind it. What a key means is not known here,
//! and no value is ever repeated in what is told: it may be a secret in the wrong place.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    ops::Range,
    path::Path,
};

use toml::{
    Spanned, Value,
    de::{DeTable, DeValue},
};

/// The most bytes a settings file may have; one with every setting and its explanation has a fiftieth of that.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a settings file says.
#[derive(Debug, Default)]
pub struct Contents {
    /// Its values.
    pub values: Vec<Line>,
    /// What is wrong with the text itself.
    pub faults: Vec<Fault>,
}

/// A value and where it stands.
#[derive(Debug)]
pub struct Line {
    /// Its dotted key.
    pub key: String,
    /// The value; an empty table for a section without anything in it.
    pub value: Value,
    /// Its line, from 1.
    pub line: usize,
}

/// A mistake in the text.
#[derive(Debug)]
pub struct Fault {
    /// The key, where it is one that stands there twice.
    pub key: Option<String>,
    /// Its line, from 1, where it has one.
    pub line: Option<usize>,
    /// What is wrong, as the rest of a sentence.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Fault {
    fn whole(what: impl Into<String>, remedy: &'static str) -> Self {
        Self { key: None, line: None, what: what.into(), remedy }
    }
}

/// The text of a settings file.
///
/// # Errors
/// Nothing where there is none, and what is wrong with it where it cannot be used.
pub fn text(path: &Path) -> Result<String, Option<Fault>> {
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    // Opening a folder succeeds; only reading it does not.
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Some(Fault::whole("is a folder", "give the file in it, or another, with --config")));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let what = format!("has more than {FILE_BYTES_MAX} bytes");
        return Err(Some(Fault::whole(what, "give a settings file with --config; docs/CONFIG.md shows one")));
    }
    if bytes.contains(&0) {
        return Err(Some(Fault::whole("is no text: it has zero bytes", "give a settings file with --config")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count();
        let what = "is not UTF-8 from this line on";
        Some(Fault { line: Some(line), ..Fault::whole(what, "save it as UTF-8, or give another file with --config") })
    })
}

fn unreadable(error: &io::Error) -> Option<Fault> {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => None,
        _ => Some(Fault::whole(
            format!("cannot be read: {error}"),
            "make it readable for this user, or give another file with --config",
        )),
    }
}

/// Everything in a text, and everything that is wrong with it.
pub fn parse(text: &str) -> Contents {
    parse_with(text, &|_| false)
}

/// The same, where `is_open` says of some tables that whoever writes them names what is in them: each of their entries is
/// one value, whatever there is below it.
pub fn parse_with(text: &str, is_open: &dyn Fn(&str) -> bool) -> Contents {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut contents = Contents::default();
    collect(&Source { text, is_open }, table.get_ref(), "", &mut contents);
    let mut lines_at_fault = Vec::new();
    for error in errors {
        let line = error.span().map(|span| line_at(text, span.start));
        // What comes of one mistake is one problem, however often the parser stumbles over it.
        if line.is_some() && lines_at_fault.contains(&line) {
            continue;
        }
        lines_at_fault.push(line);
        contents.faults.push(fault(text, error.message(), error.span(), line));
    }
    contents.faults.sort_by_key(|fault| fault.line);
    let broken_header = |line: usize| line.checked_sub(1).and_then(|at| text.lines().nth(at)).is_some_and(is_header);
    let without_section: Vec<Range<usize>> = lines_at_fault
        .iter()
        .flatten()
        .filter(|line| broken_header(**line))
        .map(|line| *line..next_header(text, *line))
        .collect();
    // A value on a broken line, or below a broken header, is not what was meant.
    contents.values.retain(|value| {
        !lines_at_fault.contains(&Some(value.line)) && !without_section.iter().any(|range| range.contains(&value.line))
    });
    contents
}

fn fault(text: &str, message: &str, span: Option<Range<usize>>, line: Option<usize>) -> Fault {
    if message == "duplicate key" {
        let named = span.and_then(|span| text.get(span)).map(|key| key.trim().to_owned());
        let key = named.zip(line).map(|(key, line)| match section_of(text, line) {
            Some(section) if !is_header(text.lines().nth(line - 1).unwrap_or_default()) => format!("{section}.{key}"),
            _ => key,
        });
        return Fault { key, line, what: "stands there twice".to_owned(), remedy: "remove one of the two" };
    }
    let message = message.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    Fault {
        key: None,
        line,
        what: format!("is not TOML: {message}"),
        remedy: "correct it there; docs/CONFIG.md shows every setting",
    }
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

/// The line of the next section after this one.
fn next_header(text: &str, line: usize) -> usize {
    let below = text.lines().enumerate().skip(line).find(|(_, text)| is_header(text));
    below.map_or(usize::MAX, |(index, _)| index + 1)
}

/// The name of the section that a line stands in.
fn section_of(text: &str, line: usize) -> Option<&str> {
    let above: Vec<&str> = text.lines().take(line.saturating_sub(1)).collect();
    let header = above.into_iter().rev().find(|line| is_header(line))?.trim();
    Some(header.strip_prefix('[')?.split(']').next()?.trim())
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// A text, and which of its tables are open.
struct Source<'a> {
    text: &'a str,
    is_open: &'a dyn Fn(&str) -> bool,
}

/// The name of an entry of an open table as TOML writes it in a dotted key: it may have dots itself.
pub fn quoted(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.bytes().all(is_bare) {
        return name.to_owned();
    }
    // A value would be written on several lines where a name may not be.
    let entry = toml::Table::from_iter([(name.to_owned(), Value::from(0))]).to_string();
    entry.trim_end().trim_end_matches(" = 0").to_owned()
}

/// What [`quoted`] was given.
pub fn unquoted(written: &str) -> String {
    let read = || toml::from_str::<toml::Table>(&format!("{written} = 0")).ok()?.into_iter().next();
    read().map_or_else(|| written.to_owned(), |(name, _)| name)
}

/// Takes up every value below a table under its dotted key.
fn collect(source: &Source<'_>, table: &DeTable<'_>, above: &str, contents: &mut Contents) {
    let has_open_names = (source.is_open)(above);
    for (name, value) in table {
        let name_text: &str = name.get_ref();
        let name_text = if has_open_names { quoted(name_text) } else { name_text.to_owned() };
        let key = if above.is_empty() { name_text } else { format!("{above}.{name_text}") };
        let line = line_at(source.text, name.span().start);
        match value.get_ref() {
            DeValue::Table(inner) if inner.is_empty() => {
                contents.values.push(Line { key, value: Value::Table(toml::Table::new()), line });
            }
            DeValue::Table(inner) if !has_open_names => collect(source, inner, &key, contents),
            _ => match converted(value) {
                Some(value) => contents.values.push(Line { key, value, line }),
                None => contents.faults.push(Fault {
                    key: Some(key),
                    line: Some(line),
                    what: "is a number too large for any setting".to_owned(),
                    remedy: "docs/CONFIG.md shows what it may be",
                }),
            },
        }
    }
}

/// The same value, without the text it was read from.
fn converted(value: &Spanned<DeValue<'_>>) -> Option<Value> {
    Some(match value.get_ref() {
        DeValue::String(text) => Value::String(text.clone().into_owned()),
        DeValue::Integer(number) => Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()?),
        DeValue::Float(number) => Value::Float(number.as_str().parse().ok()?),
        DeValue::Boolean(yes) => Value::Boolean(*yes),
        DeValue::Datetime(time) => Value::Datetime(*time),
        DeValue::Array(values) => Value::Array(values.iter().map(converted).collect::<Option<_>>()?),
        DeValue::Table(values) => {
            let entries = values.iter().map(|(key, value)| Some((key.get_ref().to_string(), converted(value)?)));
            Value::Table(entries.collect::<Option<_>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn told(text: &str) -> Vec<(Option<usize>, Option<String>, String)> {
        parse(text).faults.into_iter().map(|fault| (fault.line, fault.key, fault.what)).collect()
    }

    #[test]
    fn every_value_has_its_line() {
        let contents = parse("# a remark\n[server]\nlisten = 'x'\n\n[log]\nlevels = ['a=b',\n 'c=d']\n[empty]\n");
        let lines: Vec<_> = contents.values.iter().map(|line| (line.key.as_str(), line.line)).collect();
        assert_eq!(lines, [("empty", 8), ("log.levels", 6), ("server.listen", 3)]);
        assert!(contents.faults.is_empty());
    }

    #[test]
    fn what_is_in_an_open_table_has_names_of_its_own() {
        let text = "[a.b.one]\nx.y = 1\n[a.b.'t.wo']\nz = { w = 2 }\n[a.c]\nd = 3\n";
        let contents = parse_with(text, &|key| key == "a.b");
        let values: Vec<_> =
            contents.values.iter().map(|it| (it.key.as_str(), it.value.to_string(), it.line)).collect();
        let expected = [
            ("a.b.one", "{ x = { y = 1 } }".to_owned(), 1),
            ("a.b.\"t.wo\"", "{ z = { w = 2 } }".to_owned(), 3),
            ("a.c.d", "3".to_owned(), 6),
        ];
        assert_eq!(values, expected);
        for name in ["one", "t.wo", "provider/model:1", "a \"b\" 'c'", "", "ü"] {
            assert_eq!(unquoted(&quoted(name)), name);
        }
    }

    #[test]
    fn one_mistake_does_not_hide_the_next() {
        let text = "[server]\nlisten = \nmax_body_bytes = 1 2\nlisten_ = 'x'\nlisten_ = 'y'\n[log\nlevel = 'info'\n\
                    [models]\nthreads = zero\n[knowledge]\nwatch = 'yes\n[log.\nformat = 'json'\n";
        let faults = told(text);
        let lines: Vec<_> = faults.iter().filter_map(|(line, ..)| *line).collect();
        assert_eq!(lines, [2, 3, 5, 6, 9, 11, 12], "{faults:?}");
        assert_eq!(faults[2].1.as_deref(), Some("server.listen_"));
        let values: Vec<_> = parse(text).values.into_iter().map(|line| line.key).collect();
        assert_eq!(values, ["server.listen_"], "what stands on a broken line or below a broken header is no value");
    }

    #[test]
    fn no_value_is_repeated() {
        for text in ["a = sk-1", "a = 'sk-1", "a = \"sk-1", "a = 'x' sk-1", "sk-1", "a = [sk-1", "a = {sk-1"] {
            let faults = told(text);
            assert!(!faults.is_empty() && !format!("{faults:?}").contains("sk-1"), "{text}: {faults:?}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_told_for_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let check = |content: &[u8], expected: &str| {
            let path = folder.path().join("file");
            std::fs::write(&path, content).unwrap();
            let fault = text(&path).unwrap_err().unwrap();
            assert!(fault.what.contains(expected), "{fault:?}");
        };
        check(&vec![b'#'; 2 << 20], "more than 1048576 bytes");
        check(b"\x7fELF\0\0", "zero bytes");
        check(b"a = 1\nb = '\xff'", "not UTF-8");
        assert!(text(folder.path()).unwrap_err().unwrap().what.contains("folder"));
        assert!(text(&folder.path().join("none")).unwrap_err().is_none());
        assert!(text(Path::new("/dev/null")).is_ok_and(|text| text.is_empty()));
    }

    #[test]
    fn a_file_of_somebody_else_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        let can_read_all = rustix::process::geteuid().is_root();
        assert_eq!(text(&path).is_ok(), can_read_all);
    }

    #[test]
    fn what_nests_without_end_is_a_mistake_like_others() {
        assert!(!told(&format!("a = {}", "[".repeat(100_000))).is_empty());
        assert!(!told(&format!("{}x = 1", "a.".repeat(10_000))).is_empty());
    }

    #[test]
    fn numbers_are_read_as_written() {
        let values = parse("a = 0x10\nb = 1_000\nc = -5\nd = 99999999999999999999\ne = 0.5\n");
        let numbers: Vec<_> = values.values.iter().map(|line| line.value.to_string()).collect();
        assert_eq!(numbers, ["16", "1000", "-5", "0.5"]);
        assert_eq!(values.faults.len(), 1);
        assert_eq!(values.faults[0].key.as_deref(), Some("d"));
    }
}
