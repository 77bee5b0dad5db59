//! JSON to an outline: values by their path.
//!
//! Reads the text once, without recursion and without building values, and keeps only what lies in containers
//! too large for a chunk, so deep or large JSON costs no more than other text. One value, or several in a row
//! as in JSON Lines. Does not decode strings: paths show keys as they are written.

use std::ops::Range;

use super::{
    outline::{Grain, MAX_DEPTH, NodeId, Outline},
    tokens::TokenIndex,
};

/// Neighbours that are together smaller than this are one entry without a path of its own. A large array of
/// numbers would otherwise have millions.
const RUN_BYTES: usize = 256;
/// A longer string is no title.
const MAX_TITLE_BYTES: usize = 200;

/// The outline of a JSON text, or `None` where it is not JSON.
pub(super) fn outline(text: &str, tokens: &TokenIndex, target_tokens: usize) -> Option<Outline> {
    let mut reader = Reader { text, at: 0, tokens, target_tokens, levels: Vec::new(), title: None };
    let values = reader.read()?;
    let mut outline = Outline::unseparated(Grain::Prose);
    outline.title = reader.title.and_then(|range| text.get(range)).map(str::to_owned);
    add_sections(&mut outline, text, values);
    Some(outline)
}

/// Part of the text with its place in the container around it.
struct Entry {
    range: Range<usize>,
    place: Place,
    /// What is in it, when it is too large for a chunk.
    children: Vec<Entry>,
}

enum Place {
    /// A document of its own, or several small entries.
    Unnamed,
    Index(usize),
    /// The bytes of the key without its quotes.
    Key(Range<usize>),
}

/// A container being read.
struct Level {
    start: usize,
    is_object: bool,
    next_index: usize,
    /// The key that was read last.
    key: Option<Range<usize>>,
    entries: Vec<Entry>,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    tokens: &'a TokenIndex,
    target_tokens: usize,
    levels: Vec<Level>,
    title: Option<Range<usize>>,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    /// A value, or the end of an array that has none.
    ValueOrClose,
    Value,
    /// A key, or the end of an object that has none.
    KeyOrClose,
    Key,
    CommaOrClose,
}

impl Reader<'_> {
    /// The values of the text, `None` when it is not JSON.
    fn read(&mut self) -> Option<Vec<Entry>> {
        let mut top = Level { start: 0, is_object: false, next_index: 0, key: None, entries: Vec::new() };
        let mut expect = Expect::Value;
        loop {
            let Some(byte) = self.next_byte() else {
                return (self.levels.is_empty() && expect == Expect::Value && top.next_index > 0)
                    .then_some(top.entries);
            };
            expect = match (expect, byte) {
                (Expect::Value | Expect::ValueOrClose, b'{' | b'[') => self.open(byte),
                (Expect::Value | Expect::ValueOrClose, _) if !matches!(byte, b']' | b'}' | b',' | b':') => {
                    let start = self.at;
                    self.scalar()?;
                    self.close_value(&mut top, start..self.at, Vec::new())
                }
                (Expect::Key | Expect::KeyOrClose, b'"') => self.key()?,
                (Expect::CommaOrClose, b',') => {
                    self.at += 1;
                    if self.levels.last()?.is_object { Expect::Key } else { Expect::Value }
                }
                (Expect::CommaOrClose | Expect::ValueOrClose | Expect::KeyOrClose, b']' | b'}') => {
                    let level = self.levels.pop().filter(|level| level.is_object == (byte == b'}'))?;
                    self.at += 1;
                    let range = level.start..self.at;
                    // Deeper structure is not kept: it would make no useful path, and dropping it would recurse.
                    let is_kept = self.levels.len() < MAX_DEPTH && self.is_large(&range);
                    let children = if is_kept { level.entries } else { Vec::new() };
                    self.close_value(&mut top, range, children)
                }
                _ => return None,
            };
        }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn open(&mut self, byte: u8) -> Expect {
        let is_object = byte == b'{';
        self.levels.push(Level { start: self.at, is_object, next_index: 0, key: None, entries: Vec::new() });
        self.at += 1;
        if is_object { Expect::KeyOrClose } else { Expect::ValueOrClose }
    }

    fn key(&mut self) -> Option<Expect> {
        let start = self.at;
        self.string()?;
        self.levels.last_mut()?.key = Some(start + 1..self.at - 1);
        (self.next_byte()? == b':').then(|| {
            self.at += 1;
            Expect::Value
        })
    }

    fn scalar(&mut self) -> Option<()> {
        if self.text.as_bytes().get(self.at) == Some(&b'"') {
            return self.string();
        }
        let rest = &self.text.as_bytes()[self.at..];
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
        let word = &rest[..length];
        let is_number = word.iter().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte));
        self.at += length;
        (length > 0 && (is_number || matches!(word, b"true" | b"false" | b"null"))).then_some(())
    }

    fn string(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            match bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                0..=0x1f => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    /// Puts a value into its container and says what may follow.
    fn close_value(&mut self, top: &mut Level, range: Range<usize>, children: Vec<Entry>) -> Expect {
        let depth = self.levels.len();
        let level = self.levels.last_mut().unwrap_or(top);
        let index = level.next_index;
        level.next_index += 1;
        let (place, start) = match level.key.take() {
            Some(key) => {
                if depth == 1 && &self.text[key.clone()] == "title" && self.text[range.clone()].starts_with('"') {
                    let title = range.start + 1..range.end - 1;
                    self.title =
                        self.title.take().or(Some(title).filter(|title| (1..MAX_TITLE_BYTES).contains(&title.len())));
                }
                let start = key.start - 1;
                (Place::Key(key), start)
            }
            None => (Place::Index(index), range.start),
        };
        level.add(Entry { range: start..range.end, place, children });
        if depth == 0 { Expect::Value } else { Expect::CommaOrClose }
    }

    fn is_large(&self, range: &Range<usize>) -> bool {
        range.len() > self.target_tokens && self.tokens.count(range) > self.target_tokens
    }
}

impl Level {
    fn add(&mut self, entry: Entry) {
        if let Some(last) = self.entries.last_mut()
            && last.children.is_empty()
            && entry.children.is_empty()
            && entry.range.end - last.range.start <= RUN_BYTES
        {
            last.range.end = entry.range.end;
            last.place = Place::Unnamed;
            return;
        }
        self.entries.push(entry);
    }
}

/// Turns the entries into sections, each up to where the next one begins.
fn add_sections(outline: &mut Outline, text: &str, values: Vec<Entry>) {
    let is_single = values.len() == 1;
    let mut marks: Vec<(usize, Option<NodeId>)> = vec![(0, None)];
    let mut pending = vec![(None, values.into_iter())];
    while let Some((parent, entries)) = pending.last_mut() {
        let parent = *parent;
        let Some(entry) = entries.next() else {
            pending.pop();
            continue;
        };
        let is_root = pending.len() == 1 && is_single;
        let node = match &entry.place {
            Place::Unnamed => parent,
            Place::Index(_) if is_root => parent,
            Place::Index(index) => Some(outline.add_node(parent, &format!("[{index}]"))),
            Place::Key(key) => Some(outline.add_node(parent, &key_label(&text[key.clone()], parent.is_none()))),
        };
        marks.push((entry.range.start, node));
        pending.push((node, entry.children.into_iter()));
    }
    let ends: Vec<usize> = marks.iter().skip(1).map(|mark| mark.0).chain([text.len()]).collect();
    for ((start, node), end) in marks.into_iter().zip(ends) {
        outline.add_section(node, start..end, false);
    }
}

fn key_label(key: &str, is_first: bool) -> String {
    let is_word = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    match (is_word, is_first) {
        (true, true) => key.to_owned(),
        (true, false) => format!(".{key}"),
        (false, _) => format!("[\"{key}\"]"),
    }
}
