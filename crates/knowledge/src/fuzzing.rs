//! What the fuzzer calls: the parsers of cursors, Markdown and HTML, with what must hold of every input.
//!
//! Exists in tests and for `cargo xtask fuzz` only. A broken promise is a panic, which is how a fuzzer hears of it.

use crate::{
    search::check_cursor,
    split::{ContentKind, SplitConfig, SplitError, TokenCounter, markdown_body_start, parse_bare, split},
};

/// What a page may grow by when it becomes Markdown: escapes double a character at most, and entities, markers and
/// indentation come on top.
const GROWTH_MAX: usize = 16;

/// A cursor: refused, or written again as it came.
pub fn cursor(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(again) = check_cursor(text) {
        assert_eq!(again, text, "a cursor that no search has given");
    }
}

/// A Markdown text.
pub fn markdown(input: &[u8]) {
    check(ContentKind::Markdown, input);
}

/// A page.
pub fn html(input: &[u8]) {
    check(ContentKind::Html, input);
}

/// Words are tokens, and long words several: as many tokens as a real tokenizer makes, without its files.
struct Words;

impl TokenCounter for Words {
    fn token_offsets(&self, text: &str) -> Result<Vec<(usize, usize)>, SplitError> {
        let mut offsets = Vec::new();
        let mut start = None;
        for (at, character) in text.char_indices().chain([(text.len(), ' ')]) {
            let ends = character.is_whitespace() || start.is_some_and(|start| at - start >= 6);
            if let Some(from) = start.filter(|_| ends) {
                offsets.push((from, at));
                start = None;
            }
            if start.is_none() && !character.is_whitespace() {
                start = Some(at);
            }
        }
        Ok(offsets)
    }
}

fn check(kind: ContentKind, input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let markdown_bytes = parse_bare(kind, text);
    assert!(markdown_bytes <= GROWTH_MAX * text.len() + 1_024, "{} bytes became {markdown_bytes}", text.len());
    let config = SplitConfig { target_tokens: 24, max_tokens: 32, overlap_tokens: 4, max_heading_tokens: 8 };
    let Ok(found) = split(kind, text, &Words, &config) else { return };

    let mut covered = markdown_body_start(&found.text);
    let (mut start, mut end) = (None, 0);
    for chunk in &found.chunks {
        let range = chunk.range.clone();
        assert!(start.is_none_or(|start| start < range.start) && end < range.end, "chunks are out of order: {range:?}");
        let piece = found.text.get(range.clone());
        assert!(piece.is_some_and(|piece| piece.trim() == piece && !piece.is_empty()), "no text at {range:?}");
        assert!(chunk.token_count <= config.max_tokens, "a chunk of {} tokens", chunk.token_count);
        let between = found.text.get(covered..range.start).unwrap_or_default();
        assert!(between.trim().is_empty(), "{between:?} is in no chunk");
        covered = covered.max(range.end);
        (start, end) = (Some(range.start), range.end);
    }
    let rest = found.text.get(covered..).unwrap_or_default();
    assert!(rest.trim().is_empty(), "{rest:?} is in no chunk");
}

#[cfg(test)]
mod tests {
    use holdfast_testkit::seeds::replay;

    #[test]
    fn what_the_fuzzer_begins_with_breaks_no_promise() {
        replay("cursor", super::cursor);
        replay("markdown", super::markdown);
        replay("html", super::html);
    }
}
