//! Where words go: data to standard output, talk to standard error.
//!
//! Owns the two forms of data, lines for people and JSON for programs, and keeps talk and log lines from tearing a
//! progress bar. What comes from documents is stripped of control characters before it reaches a terminal.

use std::{
    io::{self, IsTerminal, Write},
    sync::LazyLock,
};

use indicatif::MultiProgress;
use serde_json::Value;

use crate::settings::environment;

/// The progress bars on standard error; everything else that is written there steps around them.
pub static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// How data is printed.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    form: Form,
    /// Whether words may be set in bold type.
    styled: bool,
}

/// The form of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Lines for people.
    Text,
    /// JSON for programs.
    Json,
}

impl Output {
    /// Output in a form; styled where it goes to a terminal whose owner has nothing against it.
    pub fn new(form: Form) -> Self {
        let styled = form == Form::Text && io::stdout().is_terminal() && !environment::no_color();
        Self { form, styled }
    }

    /// The form.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Prints a line of data.
    pub fn line(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()
    }

    /// Prints data as it is.
    pub fn raw(&self, data: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(data)?;
        stdout.flush()
    }

    /// Prints a JSON value in one line.
    pub fn json(&self, value: &Value) -> io::Result<()> {
        self.line(&value.to_string())
    }

    /// Prints the value as it is where JSON is wanted, and what `text` makes of it otherwise.
    pub fn value(&self, value: &Value, text: impl FnOnce(&Value) -> String) -> io::Result<()> {
        match self.form {
            Form::Json => self.json(value),
            Form::Text => self.line(text(value).trim_end()),
        }
    }

    /// The text, made to stand out.
    pub fn strong(&self, text: &str) -> String {
        self.styled_with("\x1b[1m", text)
    }

    /// The text, made to stand back.
    pub fn faint(&self, text: &str) -> String {
        self.styled_with("\x1b[2m", text)
    }

    fn styled_with(&self, code: &str, text: &str) -> String {
        if self.styled && !text.is_empty() { format!("{code}{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The text with every word of the query in it made to stand out.
    pub fn emphasise(&self, text: &str, query: &str) -> String {
        if !self.styled {
            return text.to_owned();
        }
        let words = words_of(query);
        let mut emphasised = String::with_capacity(text.len() + 64);
        let mut rest = text;
        while let Some(at) = rest.find(char::is_alphanumeric) {
            let end = rest[at..].find(|c: char| !c.is_alphanumeric()).map_or(rest.len(), |length| at + length);
            let word = &rest[at..end];
            emphasised.push_str(&rest[..at]);
            let lower = word.to_lowercase();
            let is_match = words.iter().any(|wanted| alike(&lower, wanted));
            emphasised.push_str(&if is_match { self.strong(word) } else { word.to_owned() });
            rest = &rest[end..];
        }
        emphasised.push_str(rest);
        emphasised
    }
}

/// The words of a query that are worth showing: not the short ones, which are everywhere.
fn words_of(query: &str) -> Vec<String> {
    query.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() > 2).map(str::to_lowercase).collect()
}

/// Whether two words are forms of one, as far as a shared beginning tells.
fn alike(one: &str, other: &str) -> bool {
    let shorter = one.len().min(other.len());
    one == other || (shorter >= 4 && (one.starts_with(other) || other.starts_with(one)))
}

/// Writes a line to standard error, above any progress bar.
pub fn say(text: &str) {
    // Where nobody can hear, there is nothing to be done about it.
    BARS.suspend(|| drop(writeln!(io::stderr().lock(), "{text}")));
}

/// Text from outside, made fit for a terminal: no control characters, which could forge what is on the screen.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// The same in one line.
pub fn clean_line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Rows under a header, in columns as wide as their widest cell. The last column is not padded.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut lines: Vec<Vec<String>> = vec![header.iter().map(|cell| (*cell).to_owned()).collect()];
    lines.extend(rows.iter().map(|row| row.iter().map(|cell| clean_line(cell)).collect()));
    let width_of = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width_of).collect();
    let padded = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(padded).collect::<Vec<_>>().join("\n")
}

/// A number of things, with the word for them.
pub fn count(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// A number of bytes, for people.
pub fn bytes(number: u64) -> String {
    indicatif::DecimalBytes(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_query_stand_out_in_their_forms() {
        let output = Output { form: Form::Text, styled: true };
        assert_eq!(
            output.emphasise("Pinning nixpkgs, now", "how to pin nixpkgs"),
            "Pinning \x1b[1mnixpkgs\x1b[0m, now"
        );
        assert_eq!(output.emphasise("two channels", "channel"), "two \x1b[1mchannels\x1b[0m");
        let plain = Output { form: Form::Text, styled: false };
        assert_eq!(plain.emphasise("two channels", "channel"), "two channels");
    }

    #[test]
    fn a_document_cannot_write_on_the_screen() {
        assert_eq!(clean("a\x1b[2Jb\r"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(clean_line("a\n  b\tc"), "a b c");
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["long".into(), "2".into()]];
        assert_eq!(table(&["name", "n"], &rows), "name  n\na     1\nlong  2");
    }
}
