//! Just enough of Rust's lexis to find items and blocks in a source text.
//!
//! Owns the difference between code and what only looks like it (comments, strings, character literals). It does not
//! parse: a full parser would add minutes to a cold build for the few questions tidy asks.

/// The source with the inside of comments, strings and character literals replaced by spaces. Line breaks stay, so that
/// positions and line numbers are those of the original; every byte keeps its place.
pub fn mask(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut masked = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = end_of_opaque(bytes, at);
        if end > at {
            for byte in &mut masked[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
            at = end;
        } else if is_word(bytes[at]) {
            at = end_of_word(bytes, at);
        } else {
            at += 1;
        }
    }
    // Multi-byte characters are masked whole or kept whole, so this is lossless.
    String::from_utf8_lossy(&masked).into_owned()
}

/// Where the comment, string or character literal that starts at `at` ends; `at` itself if none starts there.
fn end_of_opaque(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return end_of_block_comment(bytes, at);
    }
    if let Some(end) = end_of_raw_string(bytes, at) {
        return end;
    }
    match rest {
        [b'"', ..] => end_of_quoted(bytes, at + 1, b'"'),
        [b'b' | b'c', b'"', ..] => end_of_quoted(bytes, at + 2, b'"'),
        [b'\'', b'\\', ..] => end_of_quoted(bytes, at + 1, b'\''),
        // `'x'` is a character, `'name` a lifetime; a character may take four bytes.
        [b'\'', ..] => (2..=5)
            .find(|length| rest.get(*length) == Some(&b'\'') && is_one_character(&rest[1..*length]))
            .map_or(at, |length| at + length + 1),
        _ => at,
    }
}

fn is_one_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().count() == 1)
}

fn end_of_block_comment(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn end_of_quoted(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let prefix = [&b"br"[..], b"cr", b"r"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let hashes = rest[prefix.len()..].iter().take_while(|byte| **byte == b'#').count();
    let open = prefix.len() + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let closing: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &rest[open + 1..];
    let length = body.windows(closing.len()).position(|window| window == closing).unwrap_or(body.len());
    Some((at + open + 1 + length + closing.len()).min(bytes.len()))
}

/// Whether a byte may stand in an identifier.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn end_of_word(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| is_word(**byte)).count()
}

/// The words of a masked source with the byte where each starts.
pub fn words(masked: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = masked.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() && !is_word(bytes[at]) {
            at += 1;
        }
        let start = at;
        at = end_of_word(bytes, at);
        (start < at).then(|| (start, &masked[start..at]))
    })
}

/// The line of a byte position, counted from 1.
pub fn line_of(text: &str, position: usize) -> usize {
    1 + text.as_bytes()[..position].iter().filter(|byte| **byte == b'\n').count()
}

/// The byte after the `}` that closes the `{` at `open`, in a masked source.
pub fn end_of_block(masked: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in masked.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return offset + 1;
                }
            }
            _ => {}
        }
    }
    masked.len()
}

/// The masked source with every item under `#[cfg(test)]` blanked out too.
pub fn without_tests(masked: &str) -> String {
    let mut bytes = masked.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = masked[from..].find("#[cfg(test)]") {
        let start = from + found;
        let brace = masked[start..].find('{').map(|offset| start + offset);
        let semicolon = masked[start..].find(';').map(|offset| start + offset);
        let end = match (brace, semicolon) {
            (Some(open), Some(stop)) if stop < open => stop + 1,
            (Some(open), _) => end_of_block(masked, open),
            (None, Some(stop)) => stop + 1,
            (None, None) => masked.len(),
        };
        for byte in &mut bytes[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A function with a body.
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// Line of `fn`, counted from 1.
    pub line: usize,
    /// Lines from `fn` to the closing brace, both included.
    pub lines: usize,
}

/// The functions with a body in a masked source, nested ones included.
pub fn functions(masked: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    let mut words = words(masked).peekable();
    while let Some((start, word)) = words.next() {
        if word != "fn" {
            continue;
        }
        // `fn(u8) -> u8` is a type: its next word is not right behind the keyword.
        let Some((name_start, name)) = words.peek().copied() else {
            break;
        };
        if !masked[start + 2..name_start].trim().is_empty() {
            continue;
        }
        if let Some(open) = body_of(masked, name_start) {
            let end = end_of_block(masked, open);
            let line = line_of(masked, start);
            found.push(Function { name, line, lines: line_of(masked, end - 1) - line + 1 });
        }
    }
    found
}

/// Where the body of the function whose name starts at `from` opens; none for a declaration that ends in `;`.
fn body_of(masked: &str, from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (offset, byte) in masked.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => return None,
            b'{' if depth == 0 => return Some(offset),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_looks_like_code_is_masked() {
        let source = "let a = \"{ fn x\"; // fn y {\nlet b = r#\"\"}\"#; /* { /* } */ fn z */ let c = '{'; let d: &'a u8 = b\"}\";";
        let masked = mask(source);
        assert_eq!(masked.len(), source.len());
        assert_eq!(masked.matches('\n').count(), 1);
        assert!(!masked.contains('{') && !masked.contains('}') && !masked.contains("fn"), "{masked}");
        assert!(masked.contains("let d: &'a u8"), "{masked}");
    }

    #[test]
    fn escaped_quotes_do_not_end_a_literal() {
        let masked = mask(r#"let a = "\"{"; let b = '\''; let c = '\u{1F600}'; let d = 'é'; {}"#);
        assert_eq!(masked.matches('{').count(), 1, "{masked}");
    }

    #[test]
    fn functions_are_measured_to_their_closing_brace() {
        let source = "fn short() {}\ntrait T { fn declared(&self, f: fn(u8) -> [u8; 2]); }\nfn long(a: [u8; 3])\nwhere u8: Copy,\n{\n    if a { b }\n}\n";
        let found = functions(source);
        let seen: Vec<_> = found.iter().map(|function| (function.name, function.line, function.lines)).collect();
        assert_eq!(seen, [("short", 1, 1), ("long", 3, 5)]);
    }

    #[test]
    fn test_modules_are_blanked_and_the_rest_kept() {
        let source = "fn kept() {}\n#[cfg(test)]\nmod tests {\n    fn gone() {}\n}\n#[cfg(test)]\nuse gone::too;\nfn kept_too() {}\n";
        let code = without_tests(source);
        assert!(!code.contains("gone"), "{code}");
        assert!(code.contains("kept()") && code.contains("kept_too"), "{code}");
        assert_eq!(code.matches('\n').count(), source.matches('\n').count());
    }
}
