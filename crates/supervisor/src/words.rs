//! What comes from elsewhere, made fit for a log line: bounded, and without what moves a cursor.

/// The most characters of something that stands within a sentence.
const SHORT_CHARS_MAX: usize = 200;

/// One line, cut where it is long.
pub(crate) fn short(text: &str) -> String {
    let plain = plain(text).replace('\n', " ");
    let mut characters = plain.trim().chars();
    let mut short: String = characters.by_ref().take(SHORT_CHARS_MAX).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

/// Without control characters other than the ends of lines, and without the sequences that colour a terminal
/// (ECMA-48, section 5.4).
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' && characters.next_if_eq(&'[').is_some() {
            // Parameters, up to and with the final byte.
            while characters.next().is_some_and(|parameter| !('\u{40}'..='\u{7e}').contains(&parameter)) {}
        } else if character == '\n' || !character.is_control() {
            plain.push(character);
        } else if character == '\t' {
            plain.push(' ');
        }
    }
    plain
}

/// The last lines of an output, within a bound of bytes.
pub(crate) fn last_lines(output: &[u8], lines_max: usize, bytes_max: usize) -> String {
    let end = &output[output.len().saturating_sub(bytes_max)..];
    let plain = plain(&String::from_utf8_lossy(end));
    let mut lines: Vec<&str> = plain.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    if end.len() < output.len() && lines.len() > 1 {
        // The first is half a line.
        lines.remove(0);
    }
    lines[lines.len().saturating_sub(lines_max)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_is_left() {
        assert_eq!(plain("a\u{1b}[1;31mred\u{1b}[0m\tb\r\u{7}\nc"), "ared b\nc");
        assert_eq!(plain("\u{1b}[unfinished"), "nfinished");
        assert_eq!(plain("\u{1b}[31"), "");
        assert_eq!(plain("\u{1b}"), "");
    }

    #[test]
    fn the_last_lines_are_whole() {
        assert_eq!(last_lines(b"one\ntwo\n\nthree\n", 2, 100), "two\nthree");
        assert_eq!(last_lines(b"one\ntwo\nthree", 9, 8), "three");
        assert_eq!(last_lines(b"0123456789", 9, 4), "6789");
        assert_eq!(last_lines(b"\xff\xfe", 9, 4), "\u{fffd}\u{fffd}");
        assert_eq!(last_lines(b"", 9, 4), "");
    }

    #[test]
    fn what_is_long_is_cut_between_characters() {
        let cut = short(&"ä".repeat(1_000));
        assert_eq!(cut.chars().count(), SHORT_CHARS_MAX + 1);
        assert!(cut.ends_with('…'));
    }
}
