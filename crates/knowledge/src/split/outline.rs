//! The structure of a text: sections in reading order, each under a path of headings.
//!
//! Owns the tree of headings and their size in tokens. Does not find them (that is each splitter's work) and
//! does not decide chunks (that is the packer's).

use std::ops::Range;

use super::{SplitConfig, SplitError, TokenCounter};

/// Deeper headings than this are put under the heading at this depth.
pub(super) const MAX_DEPTH: usize = 64;
/// A label is cut to this many bytes before it is measured.
const MAX_LABEL_BYTES: usize = 400;

/// A heading in an outline.
pub(super) type NodeId = usize;

/// What is between headings.
#[derive(Debug)]
pub(super) struct Section {
    /// The innermost heading the section is under.
    pub(super) node: Option<NodeId>,
    /// Bytes of the text. Sections are ascending and disjoint.
    pub(super) range: Range<usize>,
    /// Whether the section's text begins with the heading itself, as a Markdown section or a function does.
    pub(super) states_heading: bool,
}

/// Where a section may be cut when it is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grain {
    /// At paragraphs, list items and sentences.
    Prose,
    /// At lines, best at blank ones and little indentation.
    Code,
    /// At lines.
    Rows,
}

#[derive(Debug)]
struct Node {
    parent: Option<NodeId>,
    depth: usize,
    label: String,
}

/// The sections of a text and the headings they are under.
#[derive(Debug)]
pub(super) struct Outline {
    pub(super) title: Option<String>,
    pub(super) sections: Vec<Section>,
    pub(super) grain: Grain,
    /// Ranges that are kept whole where they fit: code blocks, tables, records of several lines.
    pub(super) atoms: Vec<Range<usize>>,
    separator: &'static str,
    nodes: Vec<Node>,
}

impl Outline {
    pub(super) fn new(grain: Grain) -> Self {
        Self { title: None, sections: Vec::new(), grain, atoms: Vec::new(), separator: " › ", nodes: Vec::new() }
    }

    /// An outline whose labels bring their own separators.
    pub(super) fn unseparated(grain: Grain) -> Self {
        Self { separator: "", ..Self::new(grain) }
    }

    /// Adds a heading under `parent`. White space in the label is collapsed.
    pub(super) fn add_node(&mut self, parent: Option<NodeId>, label: &str) -> NodeId {
        let mut parent = parent;
        let mut depth = parent.map_or(0, |parent| self.nodes[parent].depth + 1);
        if depth >= MAX_DEPTH {
            parent = parent.and_then(|parent| self.nodes[parent].parent);
            depth = MAX_DEPTH - 1;
        }
        self.nodes.push(Node { parent, depth, label: tidy_label(label) });
        self.nodes.len() - 1
    }

    /// Adds a section that ends where the next one begins or where the text ends.
    pub(super) fn add_section(&mut self, node: Option<NodeId>, range: Range<usize>, states_heading: bool) {
        if range.start < range.end {
            self.sections.push(Section { node, range, states_heading });
        }
    }

    pub(super) fn parent(&self, node: Option<NodeId>) -> Option<NodeId> {
        node.and_then(|node| self.nodes[node].parent)
    }

    /// The innermost heading both are under; a heading is under itself.
    pub(super) fn common(&self, left: Option<NodeId>, right: Option<NodeId>) -> Option<NodeId> {
        let (mut left, mut right) = (left?, right?);
        while left != right {
            if self.nodes[left].depth >= self.nodes[right].depth {
                left = self.nodes[left].parent?;
            } else {
                right = self.nodes[right].parent?;
            }
        }
        Some(left)
    }

    /// Measures the labels, all in one tokenisation.
    pub(super) fn measure(
        &self,
        counter: &dyn TokenCounter,
        config: &SplitConfig,
    ) -> Result<Breadcrumbs<'_>, SplitError> {
        let mut joined = String::from(self.separator);
        let mut ends = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            joined.push('\n');
            joined.push_str(&node.label);
            ends.push(joined.len());
        }
        let index = super::TokenIndex::build(&joined, counter)?;
        let mut start = self.separator.len();
        let separator_tokens = index.count(&(0..start));
        let mut labels = Vec::with_capacity(ends.len());
        for end in ends {
            let fits = index.end_for(start, config.max_heading_tokens).min(end);
            let text = joined.get(start..joined.floor_char_boundary(fits)).unwrap_or_default().trim();
            labels.push((text.to_owned(), index.count(&(start..fits))));
            start = end;
        }
        let max_tokens = config.max_heading_tokens;
        Ok(Breadcrumbs { outline: self, labels, separator_tokens, max_tokens })
    }
}

/// The headings of an outline as text, with their size.
pub(super) struct Breadcrumbs<'a> {
    outline: &'a Outline,
    labels: Vec<(String, usize)>,
    separator_tokens: usize,
    max_tokens: usize,
}

impl Breadcrumbs<'_> {
    /// Tokens of [`Self::text`].
    pub(super) fn tokens(&self, node: Option<NodeId>) -> usize {
        self.path(node).1
    }

    /// The path to a heading, outermost first, as much of its inner end as the limit allows.
    pub(super) fn text(&self, node: Option<NodeId>) -> String {
        let (mut path, _) = self.path(node);
        path.reverse();
        path.join(self.outline.separator)
    }

    fn path(&self, mut node: Option<NodeId>) -> (Vec<&str>, usize) {
        let mut path = Vec::new();
        let mut total = 0;
        while let Some(id) = node {
            let (label, tokens) = &self.labels[id];
            if !label.is_empty() {
                let more = tokens + if path.is_empty() { 0 } else { self.separator_tokens };
                if total + more > self.max_tokens {
                    break;
                }
                total += more;
                path.push(label.as_str());
            }
            node = self.outline.nodes[id].parent;
        }
        (path, total)
    }
}

fn tidy_label(label: &str) -> String {
    let mut tidy = String::new();
    for word in label.split_whitespace() {
        if !tidy.is_empty() {
            tidy.push(' ');
        }
        tidy.push_str(word);
        if tidy.len() > MAX_LABEL_BYTES {
            tidy.truncate(tidy.floor_char_boundary(MAX_LABEL_BYTES));
            break;
        }
    }
    tidy
}
