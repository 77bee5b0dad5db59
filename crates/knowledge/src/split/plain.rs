//! Text without structure: one section, under its first line where that line reads as a title.
//!
//! Does not look for sentences or paragraphs; the packer cuts at those.

use super::outline::{Grain, Outline};

/// A longer first line is the beginning of the text rather than its title.
const MAX_TITLE_BYTES: usize = 200;

pub(super) fn outline(text: &str) -> Outline {
    let mut outline = Outline::new(Grain::Prose);
    let node = title(text).map(|title| {
        outline.title = Some(title.to_owned());
        outline.add_node(None, title)
    });
    outline.add_section(node, 0..text.len(), true);
    outline
}

/// The first line, when an empty line sets it off from the rest, or when it is a short line of words above a
/// much longer one.
fn title(text: &str) -> Option<&str> {
    let mut lines = text.trim_start().lines();
    let first = lines.next()?.trim();
    let second = lines.next()?.trim();
    let has_words = first.chars().any(char::is_alphabetic);
    let set_off = second.is_empty() || second.len() > 2 * first.len();
    let follows = second.len() + lines.next().map_or(0, str::len) > 0;
    (has_words && set_off && follows && first.len() <= MAX_TITLE_BYTES).then_some(first)
}
