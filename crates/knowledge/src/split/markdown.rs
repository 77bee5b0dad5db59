//! Markdown to an outline: sections by headings, code blocks and tables as ranges to keep whole.
//!
//! Reads CommonMark with tables and heading attributes, and tolerates MyST: `(label)=` lines before a heading
//! belong to it, `{role}` markers are not part of a heading's label, directives are text. Does not render.

use std::ops::Range;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::outline::{Grain, NodeId, Outline};

/// Front matter is looked for in this much of a text.
const MAX_FRONT_MATTER_BYTES: usize = 64 * 1024;

/// The outline of a Markdown text, or `None` when it nests deeper than any document does.
pub(super) fn outline(text: &str) -> Option<Outline> {
    let front = FrontMatter::find(text);
    let body_start = front.as_ref().map_or(0, |front| front.end);
    let structure = Structure::read(text, body_start)?;

    let mut outline = Outline::new(Grain::Prose);
    outline.atoms = structure.atoms;
    let first_heading =
        structure.headings.iter().find(|heading| heading.level == 1).map(|heading| heading.label.clone());
    let front_title = front.and_then(|front| front.title);
    let mut open: Vec<(usize, NodeId)> = Vec::new();
    // Front matter's title stands above headings that do not begin with one of their own.
    if let (Some(title), None) = (&front_title, &first_heading) {
        let node = outline.add_node(None, title);
        open.push((0, node));
    }
    outline.title = front_title.or(first_heading);
    add_sections(&mut outline, text, body_start, &structure.headings, open);
    Some(outline)
}

/// Where the text begins that is not front matter.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn body_start(text: &str) -> usize {
    FrontMatter::find(text).map_or(0, |front| front.end)
}

fn add_sections(
    outline: &mut Outline,
    text: &str,
    body_start: usize,
    headings: &[Heading],
    mut open: Vec<(usize, NodeId)>,
) {
    let mut section = (open.last().map(|&(_, node)| node), body_start, false);
    for heading in headings {
        let start = with_anchors(text, section.1, heading.start);
        outline.add_section(section.0, section.1..start, section.2);
        open.retain(|&(level, _)| level < heading.level);
        let node = outline.add_node(open.last().map(|&(_, node)| node), &heading.label);
        open.push((heading.level, node));
        section = (Some(node), start, true);
    }
    outline.add_section(section.0, section.1..text.len(), section.2);
}

struct Heading {
    level: usize,
    label: String,
    start: usize,
}

/// What the parser says about a text.
struct Structure {
    headings: Vec<Heading>,
    atoms: Vec<Range<usize>>,
}

/// No document nests block quotes and lists this deep; a text that does has no structure worth having.
const MAX_CONTAINERS: usize = 100;

impl Structure {
    fn read(text: &str, body_start: usize) -> Option<Self> {
        let options = Options::ENABLE_TABLES | Options::ENABLE_HEADING_ATTRIBUTES;
        let body = &text[body_start..];
        let mut structure = Self { headings: Vec::new(), atoms: Vec::new() };
        let mut containers = 0_usize;
        let mut heading: Option<Label> = None;
        for (event, range) in Parser::new_ext(body, options).into_offset_iter() {
            let start = body_start + range.start;
            match event {
                Event::Start(Tag::BlockQuote(_) | Tag::List(_) | Tag::Item | Tag::FootnoteDefinition(_)) => {
                    containers += 1
                }
                Event::End(TagEnd::BlockQuote(_) | TagEnd::List(_) | TagEnd::Item | TagEnd::FootnoteDefinition) => {
                    containers = containers.saturating_sub(1);
                }
                Event::Start(Tag::CodeBlock(_) | Tag::Table(_)) => structure.atoms.push(start..body_start + range.end),
                Event::Start(Tag::Heading { level, .. }) if containers == 0 => heading = Some(Label::new(level, start)),
                Event::End(TagEnd::Heading(_)) => {
                    if let Some(label) = heading.take() {
                        structure.headings.push(label.finish(text, body_start + range.end));
                    }
                }
                event => {
                    if let Some(label) = &mut heading {
                        label.take(&event);
                    }
                }
            }
            if containers > MAX_CONTAINERS {
                return None;
            }
        }
        Some(structure)
    }
}

/// A heading being read.
struct Label {
    level: usize,
    start: usize,
    text: String,
}

impl Label {
    fn new(level: HeadingLevel, start: usize) -> Self {
        Self { level: level as usize, start, text: String::new() }
    }

    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Text(text) => self.text.push_str(text),
            Event::Code(text) => {
                self.drop_role();
                self.text.push_str(text);
            }
            Event::SoftBreak | Event::HardBreak => self.text.push(' '),
            _ => {}
        }
    }

    /// Removes the `{command}` of MyST's ``{command}`home-manager` ``.
    fn drop_role(&mut self) {
        let Some(open) = self.text.rfind('{') else { return };
        let role = &self.text[open + 1..];
        if let Some(name) = role.strip_suffix('}')
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.'))
        {
            self.text.truncate(open);
        }
    }

    /// A heading without text of its own, such as one that only links, is called by its source.
    fn finish(self, source: &str, end: usize) -> Heading {
        let mut label = self.text.trim().to_owned();
        if label.is_empty() {
            let raw = source.get(self.start..end).unwrap_or_default();
            label = raw
                .trim_matches(|c: char| c.is_whitespace() || matches!(c, '#' | '=' | '-' | '[' | ']' | '(' | ')'))
                .to_owned();
        }
        Heading { level: self.level, label, start: self.start }
    }
}

/// The beginning of the heading at `start` together with the MyST anchors, `(label)=`, in the lines before it.
fn with_anchors(text: &str, floor: usize, start: usize) -> usize {
    let mut first = start;
    loop {
        let before = text[floor..first].trim_end();
        let line_start = floor + before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..floor + before.len()].trim();
        let is_anchor = line.len() < 200
            && line
                .strip_prefix('(')
                .and_then(|rest| rest.strip_suffix(")="))
                .is_some_and(|name| !name.contains(['(', ')']));
        if !is_anchor {
            return first;
        }
        first = line_start;
    }
}

/// YAML between `---` lines or TOML between `+++` lines at the beginning of a text.
struct FrontMatter {
    title: Option<String>,
    /// The first byte after it.
    end: usize,
}

impl FrontMatter {
    fn find(text: &str) -> Option<Self> {
        let fence = if text.starts_with("---") {
            "---"
        } else if text.starts_with("+++") {
            "+++"
        } else {
            return None;
        };
        let mut position = 0;
        let mut title = None;
        let mut entries = 0;
        for line in text[..text.floor_char_boundary(MAX_FRONT_MATTER_BYTES)].split_inclusive('\n') {
            let start = position;
            position += line.len();
            let content = line.trim_end();
            if start == 0 {
                if content != fence {
                    return None;
                }
            } else if content == fence || (fence == "---" && content == "...") {
                return (entries > 0).then_some(Self { title, end: position });
            } else if let Some((key, value)) = content.split_once(if fence == "---" { ':' } else { '=' }) {
                entries += 1;
                if key.trim() == "title" {
                    title = unquoted(value);
                }
            } else if entries == 0 && !content.trim().is_empty() && !content.starts_with('#') {
                return None;
            }
        }
        None
    }
}

fn unquoted(value: &str) -> Option<String> {
    let value = value.trim().trim_matches(['"', '\'']).trim();
    (!value.is_empty()).then(|| value.to_owned())
}
