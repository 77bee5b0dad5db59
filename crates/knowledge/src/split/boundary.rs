//! Where a text that is too large for one chunk is cut.
//!
//! Looks at one window of the text and picks a position; does not know tokens or chunks.

use std::ops::Range;

use super::outline::Grain;

/// A place to cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    /// The first byte after the cut, never white space.
    pub(super) at: usize,
    /// Whether what follows begins a new thought: a paragraph or a row, and not the rest of one.
    pub(super) clean: bool,
}

/// How far off its ideal position a cut may be before the next lower kind of boundary is better there: a cut as
/// far off as the whole distance loses this much of the scores in `score_of`.
const DISTANCE_WEIGHT: f32 = 3.0;
/// What a cut inside a code block or table loses.
const ATOM_PENALTY: f32 = 4.0;

/// What to search.
pub(super) struct Window<'a> {
    pub(super) text: &'a str,
    /// Where the piece begins.
    pub(super) start: usize,
    /// The positions that may be chosen, the last one included.
    pub(super) search: Range<usize>,
    /// The position that would be best for size alone.
    pub(super) ideal: usize,
    pub(super) grain: Grain,
    /// Ranges better not cut, ascending, those that touch the window.
    pub(super) atoms: &'a [Range<usize>],
}

impl Window<'_> {
    /// The best place between two words; `None` when there is none.
    pub(super) fn best(&self) -> Option<Cut> {
        let mut best: Option<(f32, Cut)> = None;
        let mut atoms = self.atoms.iter().peekable();
        for at in self.candidates() {
            while atoms.next_if(|atom| atom.end <= at).is_some() {}
            let (mut score, clean) = score_of(self.text, at, self.grain);
            if atoms.peek().is_some_and(|atom| atom.start < at) {
                score -= ATOM_PENALTY;
            }
            score -= DISTANCE_WEIGHT * self.distance(at);
            if best.is_none_or(|(top, _)| score >= top) {
                best = Some((score, Cut { at, clean }));
            }
        }
        best.map(|(_, cut)| cut)
    }

    /// The earliest sentence or line in the window, or else the earliest word.
    pub(super) fn earliest_sentence(&self) -> Option<usize> {
        let mut first_word = None;
        for at in self.candidates() {
            if score_of(self.text, at, self.grain).0 > 1.0 {
                return Some(at);
            }
            first_word = first_word.or(Some(at));
        }
        first_word
    }

    #[expect(clippy::cast_precision_loss, reason = "a chunk has some thousand bytes")]
    fn distance(&self, at: usize) -> f32 {
        let length = self.ideal.saturating_sub(self.start).max(1);
        at.abs_diff(self.ideal) as f32 / length as f32
    }

    /// Beginnings of words, and ends of sentences in scripts that put no space there.
    fn candidates(&self) -> impl Iterator<Item = usize> {
        let bytes = self.text.as_bytes();
        let from = self.search.start.max(1);
        (from..self.search.end.saturating_add(1).min(bytes.len())).filter(move |&at| {
            let (before, here) = (bytes[at - 1], bytes[at]);
            (before.is_ascii_whitespace() && !here.is_ascii_whitespace())
                || (before >= 0x80 && ends_wide_sentence(&bytes[..at]) && self.text.is_char_boundary(at))
        })
    }
}

/// How good a cut before `at` is, and whether it is clean.
fn score_of(text: &str, at: usize, grain: Grain) -> (f32, bool) {
    let before = text[..at].trim_ascii_end();
    let gap = &text.as_bytes()[before.len()..at];
    let newlines = gap.iter().filter(|&&byte| byte == b'\n').count();
    let rest = &text.as_bytes()[at..];
    match grain {
        Grain::Rows => (if newlines > 0 { 4.0 } else { 0.0 }, newlines > 0),
        Grain::Code if newlines == 0 => (0.0, false),
        Grain::Code => (code_line_score(gap, newlines, rest), newlines > 1),
        Grain::Prose => prose_score(before.as_bytes(), newlines, rest),
    }
}

fn prose_score(before: &[u8], newlines: usize, rest: &[u8]) -> (f32, bool) {
    if newlines > 1 {
        return (4.0, true);
    }
    if newlines == 1 && begins_block(rest) {
        return (3.0, true);
    }
    let sentence = ends_sentence(before, rest);
    match (newlines, sentence) {
        (1, true) => (2.8, false),
        (_, true) => (2.5, false),
        (1, false) => (1.5, false),
        _ => (0.0, false),
    }
}

/// A line is a better beginning the less it is indented and when a blank line is before it; a line that closes
/// or continues what is before it is a bad one.
#[expect(clippy::cast_precision_loss, reason = "at most 16")]
fn code_line_score(gap: &[u8], newlines: usize, rest: &[u8]) -> f32 {
    let indent: usize = gap
        .iter()
        .rev()
        .take_while(|&&byte| byte != b'\n')
        .take(16)
        .map(|&byte| if byte == b'\t' { 4 } else { 1 })
        .sum();
    let mut score = 2.0 - indent.min(16) as f32 / 10.0;
    if newlines > 1 {
        score += 1.5;
    }
    let continues = [&b"}"[..], b")", b"]", b"else", b"elif", b"except", b"finally", b"fi", b"done", b"in\n", b"then"];
    if continues.iter().any(|word| rest.starts_with(word)) {
        score -= 1.5;
    }
    score
}

/// A list item, heading, table row, quote or directive.
fn begins_block(rest: &[u8]) -> bool {
    match rest {
        [b'-' | b'*' | b'+' | b'>' | b'|', b' ', ..] | [b'#', ..] | [b':', b':', b':', ..] | [b'`', b'`', b'`', ..] => {
            true
        }
        [digit, ..] if digit.is_ascii_digit() => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            digits < 4 && matches!(rest.get(digits..), Some([b'.' | b')', b' ', ..]))
        }
        _ => false,
    }
}

/// Whether `before` ends a sentence that `rest` does not continue.
fn ends_sentence(before: &[u8], rest: &[u8]) -> bool {
    if ends_wide_sentence(before) {
        return true;
    }
    let closers =
        before.iter().rev().take(3).take_while(|byte| matches!(byte, b'"' | b'\'' | b')' | b']' | b'*' | b'_')).count();
    let end = before.len() - closers;
    let terminated = matches!(before[..end].last(), Some(b'.' | b'!' | b'?'));
    terminated && !ends_initial(&before[..end]) && !rest.first().is_some_and(u8::is_ascii_lowercase)
}

/// `J.` and `e.g.` end no sentence.
fn ends_initial(before: &[u8]) -> bool {
    match before {
        [.., boundary, letter, b'.'] => letter.is_ascii_alphabetic() && matches!(boundary, b' ' | b'.' | b'(' | b'\n'),
        _ => false,
    }
}

/// Ideographic and full-width full stops, question and exclamation marks.
fn ends_wide_sentence(before: &[u8]) -> bool {
    before.ends_with("。".as_bytes())
        || before.ends_with("！".as_bytes())
        || before.ends_with("？".as_bytes())
        || before.ends_with("．".as_bytes())
}
