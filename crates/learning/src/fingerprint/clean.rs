//! Text as a person would see it: without colours, cursor movements and characters that show nothing.
//!
//! What is left has the ends of a long text only, and its lines end in `\n`.

use memchr::{memchr, memmem, memrchr};

/// Bytes that are looked at from the beginning of a text, and again from its end.
pub const END_BYTES_MAX: usize = 64 << 10;

/// The ends of a text, readable.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len().min(2 * END_BYTES_MAX) + 1);
    for part in ends(text) {
        scrub(part, &mut cleaned);
        cleaned.push('\n');
    }
    cleaned
}

/// The text, or its first and last bytes in whole lines where it is longer.
fn ends(text: &str) -> [&str; 2] {
    if text.len() <= 2 * END_BYTES_MAX {
        return [text, ""];
    }
    let first = &text[..text.floor_char_boundary(END_BYTES_MAX)];
    let last = &text[text.ceil_char_boundary(text.len() - END_BYTES_MAX)..];
    // A line of which a part is missing would be another error than the whole line.
    let first = memrchr(b'\n', first.as_bytes()).map_or(first, |end| &first[..end]);
    let last = memchr(b'\n', last.as_bytes()).map_or(last, |end| &last[end + 1..]);
    [first, last]
}

fn scrub(text: &str, cleaned: &mut String) {
    // Copied from a page that shows colours, a text may have lost the escape characters and kept the rest of them.
    let has_orphans = memmem::find(text.as_bytes(), b"[0m").is_some();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let sequence = match character {
            '\u{1b}' => escape_bytes(rest),
            '\u{9b}' => character.len_utf8() + control_bytes(&rest[character.len_utf8()..]),
            '[' if has_orphans => orphan_bytes(rest),
            _ => 0,
        };
        if sequence > 0 {
            rest = &rest[sequence..];
            continue;
        }
        rest = &rest[character.len_utf8()..];
        match character {
            // A line that a progress bar wrote anew is a line of its own.
            '\r' if rest.starts_with('\n') => {}
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => cleaned.push('\n'),
            '\t' => cleaned.push_str("    "),
            '\u{8}' => {
                if !cleaned.ends_with('\n') {
                    cleaned.pop();
                }
            }
            _ if character.is_control() || is_invisible(character) => {}
            _ if character.is_whitespace() => cleaned.push(' '),
            _ => cleaned.push(character),
        }
    }
}

/// Bytes of what begins with an escape character, which stands in front; ECMA-48, and OSC as terminals have it.
fn escape_bytes(text: &str) -> usize {
    let after = &text[1..];
    match after.as_bytes().first() {
        Some(b'[') => 2 + control_bytes(&after[1..]),
        Some(b']' | b'P' | b'^' | b'_') => {
            // Never more than a line: an end that is missing must not swallow the text.
            const BYTES_MAX: usize = 1 << 10;
            let after = &after.as_bytes()[..after.len().min(BYTES_MAX)];
            let line = memchr(b'\n', after).unwrap_or(after.len());
            let bell = memchr(7, &after[..line]).map(|at| at + 1);
            let terminator = memmem::find(&after[..line], b"\x1b\\").map(|at| at + 2);
            1 + bell.into_iter().chain(terminator).min().unwrap_or(1)
        }
        Some(byte) if byte.is_ascii() && !byte.is_ascii_control() => 2,
        _ => 1,
    }
}

/// Bytes of a control sequence after its introducer.
fn control_bytes(text: &str) -> usize {
    let parameters = text.bytes().take_while(|byte| (0x20..0x40).contains(byte)).count();
    let has_final = text.as_bytes().get(parameters).is_some_and(|byte| (0x40..0x7f).contains(byte));
    parameters + usize::from(has_final)
}

/// Bytes of a colour that lost its escape character; 0 where it is none.
fn orphan_bytes(text: &str) -> usize {
    const BYTES_MAX: usize = 16;
    let inner = text[1..].bytes().take(BYTES_MAX).take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    if inner > 0 && text.as_bytes().get(1 + inner) == Some(&b'm') { inner + 2 } else { 0 }
}

/// Characters that show nothing: joiners, marks of direction, variation selectors, tags.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{180b}'..='\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_does_not_show_is_gone() {
        let check = |text: &str, expected: &str| assert_eq!(clean(text).trim_end_matches('\n'), expected, "{text:?}");
        check("\u{1b}[31;1merror\u{1b}[0m: no", "error: no");
        check("\u{1b}]8;;https://example.com\u{7}here\u{1b}]8;;\u{1b}\\ x", "here x");
        check("\u{9b}31mred\u{9b}0m", "red");
        check("[31mred[0m", "red");
        check("rate(x[5m])", "rate(x[5m])");
        check("a\r\nb\rc", "a\nb\nc");
        check("o\u{8}over", "over");
        check("a\u{200b}b\u{202e}c\u{feff}", "abc");
        check("\u{1b}]never ends\nnext", "never ends\nnext");
        check("a\u{0}\u{a0}b", "a b");
        check("\u{1b}", "");
        check("\u{1b}[", "");
        check("\u{1b}ä", "ä");
    }

    #[test]
    fn of_a_long_text_the_ends_are_left() {
        let text = format!("first\n{}\nlast", "ä line\n".repeat(60_000));
        let cleaned = clean(&text);
        assert!(cleaned.starts_with("first\n") && cleaned.ends_with("last\n"));
        assert!(cleaned.len() <= 2 * END_BYTES_MAX + 2, "{}", cleaned.len());
        assert!(cleaned.lines().all(|line| matches!(line, "first" | "last" | "ä line" | "")));
        assert!(clean(&"ß".repeat(1 << 20)).len() <= 2 * END_BYTES_MAX + 8);
    }
}
