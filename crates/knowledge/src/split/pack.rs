//! Sections to chunks: small neighbours are merged, large sections are cut.
//!
//! Owns every decision about size. Does not find structure: an [`Outline`] brings it.
//!
//! Time is linear in the text: each cut looks at one window of bounded size and moves on by at least a quarter
//! of it, and sizes come from binary searches in the token index.

use std::ops::Range;

use super::{
    Chunk, SplitConfig, SplitError, TokenCounter,
    boundary::{Cut, Window},
    outline::{Breadcrumbs, Grain, NodeId, Outline, Section},
    tokens::TokenIndex,
};

/// A chunk has at most this many bytes a token. A word that the vocabulary does not know can be one token for a
/// megabyte; text in any language has far fewer bytes a token.
const MAX_BYTES_PER_TOKEN: usize = 16;

/// Splits `text` along `outline`.
pub(super) fn pack(
    text: &str,
    outline: &Outline,
    tokens: &TokenIndex,
    counter: &dyn TokenCounter,
    config: &SplitConfig,
) -> Result<Vec<Chunk>, SplitError> {
    let breadcrumbs = outline.measure(counter, config)?;
    let packer = Packer { text, outline, tokens, counter, config, breadcrumbs };
    let mut chunks = Vec::new();
    for group in packer.merge() {
        packer.cut_group(&group, &mut chunks)?;
    }
    Ok(chunks)
}

struct Packer<'a> {
    text: &'a str,
    outline: &'a Outline,
    tokens: &'a TokenIndex,
    counter: &'a dyn TokenCounter,
    config: &'a SplitConfig,
    breadcrumbs: Breadcrumbs<'a>,
}

/// One section, or several that are small.
struct Group {
    node: Option<NodeId>,
    /// The heading that the text of the group does not begin with.
    context: Option<NodeId>,
    range: Range<usize>,
    tokens: usize,
}

/// A heading as text with its size.
struct Label {
    text: String,
    tokens: usize,
}

impl Packer<'_> {
    fn merge(&self) -> Vec<Group> {
        let sections = &self.outline.sections;
        let mut groups: Vec<Group> = Vec::new();
        for (position, section) in sections.iter().enumerate() {
            let range = self.trimmed(section.range.clone());
            if range.is_empty() {
                continue;
            }
            let next = self.group_of(section, range);
            let introduces = sections.get(position + 1).is_some_and(|after| {
                after.node != next.node && self.outline.common(after.node, next.node) == next.node
            });
            match groups.last_mut() {
                Some(current) if self.joins(current, &next, introduces) => self.join(current, &next),
                _ => groups.push(next),
            }
        }
        groups
    }

    fn group_of(&self, section: &Section, range: Range<usize>) -> Group {
        let context = if section.states_heading { self.outline.parent(section.node) } else { section.node };
        Group { node: section.node, context, tokens: self.tokens.count(&range), range }
    }

    /// Whether `next` is merged into `current`: they are under one parent, one of them is too small to stand
    /// alone, and together they are no larger than a chunk should be. A section that introduces its own
    /// subsections rather goes with them than with what is before it. A bare heading always goes with what it is
    /// the heading of, even if that has to be cut for it: alone it would be found and say nothing.
    fn joins(&self, current: &Group, next: &Group, introduces: bool) -> bool {
        if !self.text[next.range.clone()].contains(char::is_alphanumeric) {
            return true;
        }
        let common = self.outline.common(current.node, next.node);
        if common == current.node && current.tokens < self.stub_tokens() {
            return true;
        }
        // What is small takes the heading of a parent gladly; what is not would lose its own for a crumb.
        let is_crumb_after_subsection =
            common == self.outline.parent(next.node) && current.tokens < self.small_tokens();
        let under_one_parent =
            common == current.node || common == self.outline.parent(current.node) || is_crumb_after_subsection;
        let smaller = current.tokens.min(next.tokens);
        let limit = if smaller < self.stub_tokens() {
            self.config.max_tokens.saturating_sub(self.config.max_heading_tokens)
        } else {
            self.config.target_tokens
        };
        let goes_forward = introduces && common != current.node;
        under_one_parent && !goes_forward && smaller < self.small_tokens() && current.tokens + next.tokens <= limit
    }

    fn join(&self, current: &mut Group, next: &Group) {
        let has_words = self.text[next.range.clone()].contains(char::is_alphanumeric);
        if has_words {
            let common = self.outline.common(current.node, next.node);
            let is_bare_heading = current.tokens < self.stub_tokens() && common == current.node;
            current.node = if is_bare_heading { next.node } else { common };
            current.context = self.outline.common(current.context, common);
        }
        current.range.end = next.range.end;
        current.tokens = self.tokens.count(&current.range);
    }

    /// A section below this size does not stand alone where it has neighbours.
    fn small_tokens(&self) -> usize {
        self.config.target_tokens / 4
    }

    /// A section below this size is hardly more than a heading.
    fn stub_tokens(&self) -> usize {
        self.config.target_tokens / 16
    }

    fn label(&self, node: Option<NodeId>) -> Label {
        Label { text: self.breadcrumbs.text(node), tokens: self.breadcrumbs.tokens(node) }
    }

    /// Emits the chunks of a group: itself where it fits, else pieces of about equal size.
    fn cut_group(&self, group: &Group, chunks: &mut Vec<Chunk>) -> Result<(), SplitError> {
        let heading = self.breadcrumbs.text(group.node);
        let mut context = self.label(group.context);
        if !heading.starts_with(&context.text) {
            // The heading had to drop its outer end, and with it what the context says.
            context = self.label(None);
        }
        let start = group.range.start;
        let mut piece = Piece { start, fresh_from: start, broken: self.is_inside_word(start) };
        while piece.fresh_from < group.range.end {
            let cut = self.next_cut(&piece, group.range.end, &context)?;
            let range = self.trimmed(piece.start..cut.at);
            if !range.is_empty() {
                let token_count = cut.tokens + context.tokens;
                chunks.push(Chunk { heading: heading.clone(), context: context.text.clone(), range, token_count });
                context = self.label(group.node);
            }
            let fresh_from = self.skip_blank(cut.at, group.range.end);
            let start = if cut.clean || cut.broken { fresh_from } else { self.overlap_start(&piece, fresh_from) };
            piece = Piece { start, fresh_from, broken: cut.broken };
        }
        Ok(())
    }

    /// Where the piece that begins at `piece.start` ends.
    fn next_cut(&self, piece: &Piece, end: usize, context: &Label) -> Result<PieceEnd, SplitError> {
        let room = self.config.max_tokens - context.tokens;
        let max_bytes = self.config.max_tokens * MAX_BYTES_PER_TOKEN;
        let rest = piece.start..end;
        let rest_tokens = self.tokens.count(&rest);
        if rest_tokens <= room && rest.len() <= max_bytes && !piece.broken && !self.is_inside_word(end) {
            return Ok(PieceEnd { at: end, clean: true, broken: false, tokens: rest_tokens });
        }
        let byte_limit = self.text.floor_char_boundary(piece.start + max_bytes);
        let limit = self.tokens.end_for(piece.start, room).min(byte_limit).min(end);
        let limit = self.text.floor_char_boundary(limit).max(self.text.ceil_char_boundary(piece.fresh_from + 1));
        if limit >= end {
            return self.verified_cut(piece, end, room);
        }
        let pieces = rest_tokens.div_ceil(self.config.target_tokens.min(room).max(1)).max(1);
        let ideal = self.tokens.end_for(piece.start, rest_tokens.div_ceil(pieces)).min(limit);
        match self.choose(piece, limit, ideal, room) {
            Some(cut) if !piece.broken => {
                let tokens = self.tokens.count(&(piece.start..cut.at));
                Ok(PieceEnd { at: cut.at, clean: cut.clean, broken: false, tokens })
            }
            cut => self.verified_cut(piece, cut.map_or(limit, |cut| cut.at), room),
        }
    }

    /// A good cut up to `limit`, in the upper part of the window if possible.
    fn choose(&self, piece: &Piece, limit: usize, ideal: usize, room: usize) -> Option<Cut> {
        let atoms = self.atoms_between(piece.start, limit);
        if let Some(atom) = atoms.last().filter(|atom| atom.start > piece.start && limit < atom.end) {
            let before = self.tokens.count(&(piece.fresh_from..atom.start));
            if before >= self.small_tokens() / 2 && self.tokens.count(atom) <= room {
                return Some(Cut { at: atom.start, clean: true });
            }
        }
        let window = |from: usize| Window {
            text: self.text,
            start: piece.start,
            search: from..limit,
            ideal,
            grain: self.outline.grain,
            atoms,
        };
        let fresh = piece.fresh_from + 1;
        let half = (piece.start + (ideal - piece.start) / 2).max(fresh);
        window(half).best().or_else(|| window(fresh).best())
    }

    /// A cut that may go through a word. The parts of a word can be more tokens than the word, so they are
    /// tokenised by themselves, and the piece is halved until it fits.
    fn verified_cut(&self, piece: &Piece, at: usize, room: usize) -> Result<PieceEnd, SplitError> {
        let mut at = at;
        loop {
            let tokens = self.counter.token_offsets(&self.text[piece.start..at])?.len();
            let shorter = self.text.floor_char_boundary(piece.start + (at - piece.start) / 2);
            if tokens <= room || shorter <= piece.fresh_from {
                return Ok(PieceEnd { at, clean: true, broken: self.is_inside_word(at), tokens });
            }
            at = shorter;
        }
    }

    /// Whether a cut there goes through a word, as it does where a language sees an item begin in the middle of one.
    fn is_inside_word(&self, at: usize) -> bool {
        let is_space = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_whitespace);
        let bytes = self.text.as_bytes();
        !is_space(bytes.get(at)) && !is_space(at.checked_sub(1).and_then(|before| bytes.get(before)))
    }

    /// Where the piece after a cut at `fresh_from` begins, so that it repeats the end of `piece`.
    fn overlap_start(&self, piece: &Piece, fresh_from: usize) -> usize {
        // An eighth of the window at most: a piece must always get further than it repeats.
        let overlap_tokens = self.config.overlap_tokens.min(self.config.max_tokens / 8);
        if self.outline.grain != Grain::Prose || overlap_tokens == 0 {
            return fresh_from;
        }
        let from = self.tokens.start_for(fresh_from, overlap_tokens).max(piece.fresh_from + 1);
        if from >= fresh_from || fresh_from - from > overlap_tokens * MAX_BYTES_PER_TOKEN {
            return fresh_from;
        }
        let window = Window {
            text: self.text,
            start: piece.start,
            search: from..fresh_from - 1,
            ideal: from,
            grain: self.outline.grain,
            atoms: &[],
        };
        window.earliest_sentence().unwrap_or(fresh_from)
    }

    fn atoms_between(&self, start: usize, end: usize) -> &[Range<usize>] {
        let atoms = &self.outline.atoms;
        let first = atoms.partition_point(|atom| atom.end <= start);
        let past = atoms.partition_point(|atom| atom.start < end);
        atoms.get(first..past).unwrap_or_default()
    }

    fn trimmed(&self, range: Range<usize>) -> Range<usize> {
        let text = &self.text[range.clone()];
        let start = range.start + (text.len() - text.trim_start().len());
        start..(start + text.trim().len())
    }

    fn skip_blank(&self, from: usize, end: usize) -> usize {
        let rest = &self.text[from..end];
        end - rest.trim_start().len()
    }
}

/// The piece of a group that is being cut off.
struct Piece {
    start: usize,
    /// What is before this was in the last piece already.
    fresh_from: usize,
    /// Whether the piece begins inside a word.
    broken: bool,
}

struct PieceEnd {
    at: usize,
    clean: bool,
    broken: bool,
    tokens: usize,
}
