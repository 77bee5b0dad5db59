//! How many tokens a range of a text has, from one tokenisation of the text.
//!
//! Owns the [`TokenCounter`] seam and the index over its offsets. Does not know any tokenizer.

use std::ops::Range;

use super::SplitError;

/// A tokenizer, seen as something that says where the tokens of a text lie.
pub trait TokenCounter: Send + Sync {
    /// Byte ranges of the tokens of `text`, ascending, without special tokens and without truncation.
    ///
    /// # Errors
    /// [`SplitError::Tokenize`] when the tokenizer refuses the text.
    fn token_offsets(&self, text: &str) -> Result<Vec<(usize, usize)>, SplitError>;
}

/// A text is handed to the tokenizer in parts of this size, cut at white space: a tokenizer keeps some hundred
/// bytes a token while it works, which would be a gigabyte for a large file.
const PART_BYTES: usize = 64 * 1024;

/// The tokens of one text.
pub(super) struct TokenIndex {
    starts: Vec<u32>,
    ends: Vec<u32>,
    text_bytes: usize,
}

impl TokenIndex {
    pub(super) fn build(text: &str, counter: &dyn TokenCounter) -> Result<Self, SplitError> {
        let limit_bytes = u32::MAX as usize;
        if text.len() >= limit_bytes {
            return Err(SplitError::TooLong { text_bytes: text.len(), limit_bytes });
        }
        let mut index = Self { starts: Vec::new(), ends: Vec::new(), text_bytes: text.len() };
        let mut from = 0;
        while from < text.len() {
            let to = part_end(text, from);
            index.append(from, to, counter.token_offsets(&text[from..to])?);
            from = to;
        }
        Ok(index)
    }

    /// Takes offsets relative to `base`, clamped and made ascending whatever the tokenizer says, so that the
    /// searches below can rely on it.
    fn append(&mut self, base: usize, limit: usize, offsets: Vec<(usize, usize)>) {
        self.starts.reserve(offsets.len());
        self.ends.reserve(offsets.len());
        for (start, end) in offsets {
            let floor_start = self.starts.last().copied().unwrap_or(0);
            let floor_end = self.ends.last().copied().unwrap_or(0);
            let start = to_u32((base + start).min(limit)).max(floor_start);
            let end = to_u32((base + end).min(limit)).max(floor_end);
            if start < end {
                self.starts.push(start);
                self.ends.push(end);
            }
        }
    }

    /// Tokens that lie in `range`, wholly or in part.
    pub(super) fn count(&self, range: &Range<usize>) -> usize {
        let first = self.first_ending_after(range.start);
        let past = self.starts.partition_point(|&start| (start as usize) < range.end);
        past.saturating_sub(first)
    }

    /// The furthest position to which a range from `start` has at most `tokens` tokens.
    pub(super) fn end_for(&self, start: usize, tokens: usize) -> usize {
        let past = self.first_ending_after(start).saturating_add(tokens);
        self.starts.get(past).map_or(self.text_bytes, |&start| start as usize)
    }

    /// The earliest position from which a range to `end` has at most `tokens` tokens.
    pub(super) fn start_for(&self, end: usize, tokens: usize) -> usize {
        let past = self.starts.partition_point(|&start| (start as usize) < end);
        match past.checked_sub(tokens) {
            Some(first) => self.starts.get(first).map_or(end, |&start| start as usize),
            None => 0,
        }
    }

    fn first_ending_after(&self, position: usize) -> usize {
        self.ends.partition_point(|&end| end as usize <= position)
    }
}

fn to_u32(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// Where the part that begins at `from` ends: after the last white space of its second half, so that no word is
/// cut, or at a character boundary when there is none.
fn part_end(text: &str, from: usize) -> usize {
    let limit = from + PART_BYTES;
    if limit >= text.len() {
        return text.len();
    }
    let half = from + PART_BYTES / 2;
    match text.as_bytes()[half..limit].iter().rposition(u8::is_ascii_whitespace) {
        Some(at) => half + at + 1,
        None => text.floor_char_boundary(limit),
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::split::tests::WordCounter;

    #[test]
    fn counts_and_positions_agree_with_the_offsets() {
        let text = "one two  three, four";
        let index = TokenIndex::build(text, &WordCounter).unwrap();
        assert_eq!(index.count(&(0..text.len())), 5);
        assert_eq!(index.count(&(3..9)), 1, "white space has no tokens");
        assert_eq!(index.count(&(1..2)), 1, "a part of a token counts");
        assert_eq!(index.count(&(4..4)), 0);
        assert_eq!(index.end_for(0, 2), 9, "up to the third token");
        assert_eq!(index.end_for(0, 99), text.len());
        assert_eq!(index.start_for(text.len(), 2), 14, "from the comma");
        assert_eq!(index.start_for(7, 99), 0);
    }

    #[test]
    fn parts_do_not_change_the_tokens() {
        let text = "alpha beta. ".repeat(3 * PART_BYTES / 12);
        let whole = WordCounter.token_offsets(&text).unwrap();
        let index = TokenIndex::build(&text, &WordCounter).unwrap();
        let parts: Vec<_> = index.starts.iter().zip(&index.ends).map(|(&s, &e)| (s as usize, e as usize)).collect();
        assert_eq!(parts, whole);
    }

    #[test]
    fn offsets_that_make_no_sense_are_made_to() {
        struct Broken;
        impl TokenCounter for Broken {
            fn token_offsets(&self, _text: &str) -> Result<Vec<(usize, usize)>, SplitError> {
                Ok(vec![(0, 0), (4, 9), (2, 3), (5, 5), (7, 4_000)])
            }
        }
        let index = TokenIndex::build("0123456789", &Broken).unwrap();
        assert!(index.starts.is_sorted() && index.ends.is_sorted());
        assert!(index.ends.iter().all(|&end| end <= 10));
    }
}
