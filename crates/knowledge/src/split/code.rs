//! Source code to an outline: items by syntax, each under the items it is in.
//!
//! Owns which syntax nodes count as items and what they are called. Does not understand the code, and does not
//! need it to be correct: a parser that gives up leaves a text that is cut at lines.

use std::{
    borrow::Cow,
    cell::Cell,
    ops::{ControlFlow, Range},
};

use tree_sitter::{Node, ParseOptions, ParseState, Parser, Tree, TreeCursor};

use super::{
    Language,
    outline::{Grain, NodeId, Outline},
    tokens::TokenIndex,
};

/// A larger file is generated or data, and its syntax tree would be some twenty times its size.
const MAX_PARSED_BYTES: usize = 512 * 1024;
/// What a parser may do before it has to give up, so that hostile text costs no more than other text. Counted
/// and not timed: a file is split alike on a busy machine.
struct Budget {
    /// Reports of progress, one for a hundred operations.
    reports: Cell<usize>,
    /// Parts of the text read by the lexer. A scanner that looks far ahead, again and again, reads many.
    reads: Cell<usize>,
}

/// The parser gets the text in parts of this size.
const PART_BYTES: usize = 4096;

impl Budget {
    /// More than written code takes, which is a report for each 85 to 200 bytes and few parts read twice. After
    /// a syntax error an operation may try every symbol of the grammar, up to 200 µs a report.
    fn for_text(bytes: usize) -> Self {
        Self { reports: Cell::new(300 + bytes / 50), reads: Cell::new(500 + 16 * bytes / PART_BYTES) }
    }

    /// Whether there is any left after taking one.
    fn take(counter: &Cell<usize>) -> bool {
        counter.set(counter.get().saturating_sub(1));
        counter.get() > 0
    }
}

/// The outline of a text in `language`. Items larger than `target_tokens` are searched for smaller ones.
pub(super) fn outline(text: &str, language: Language, tokens: &TokenIndex, target_tokens: usize) -> Option<Outline> {
    let mut outline = Outline::new(Grain::Code);
    match parse(text, language) {
        Some(tree) => {
            let mut walk = Walk { text, language, tokens, target_tokens, outline, marks: vec![(0, None, false)] };
            walk.run(&mut tree.walk());
            outline = walk.finish();
        }
        None => outline.add_section(None, 0..text.len(), false),
    }
    Some(outline)
}

fn parse(text: &str, language: Language) -> Option<Tree> {
    if text.len() > MAX_PARSED_BYTES {
        return None;
    }
    let mut parser = Parser::new();
    parser.set_language(&grammar(language)).ok()?;
    let source = parseable(text, language);
    let budget = Budget::for_text(source.len());
    let mut progress = |_: &ParseState| {
        let goes_on = Budget::take(&budget.reports) && budget.reads.get() > 0;
        if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    // Out of budget, the text seems to end, which also stops a scanner that never reports.
    let mut read = |at: usize, _| match Budget::take(&budget.reads) {
        true => source.get(at..source.len().min(at + PART_BYTES)).unwrap_or_default(),
        false => &[],
    };
    let tree = parser.parse_with_options(&mut read, None, Some(ParseOptions::new().progress_callback(&mut progress)));
    tree.filter(|_| budget.reads.get() > 0)
}

/// The bytes the parser is given, of the same length as the text. The scanner of the Bash grammar (0.25) calls
/// `isdigit` on whole code points, which reads outside of a table and can end the process; it sees a letter in
/// place of every byte above ASCII. Names are taken from the text itself.
fn parseable(text: &str, language: Language) -> Cow<'_, [u8]> {
    if language != Language::Bash || text.is_ascii() {
        return Cow::Borrowed(text.as_bytes());
    }
    Cow::Owned(text.bytes().map(|byte| if byte.is_ascii() { byte } else { b'x' }).collect())
}

fn grammar(language: Language) -> tree_sitter::Language {
    match language {
        Language::Rust => tree_sitter_rust::LANGUAGE.into(),
        Language::Python => tree_sitter_python::LANGUAGE.into(),
        Language::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
        Language::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
        Language::Tsx => tree_sitter_typescript::LANGUAGE_TSX.into(),
        Language::Nix => tree_sitter_nix::LANGUAGE.into(),
        Language::Bash => tree_sitter_bash::LANGUAGE.into(),
    }
}

/// A walk over the parts of a syntax tree that are too large for one chunk.
struct Walk<'a> {
    text: &'a str,
    language: Language,
    tokens: &'a TokenIndex,
    target_tokens: usize,
    outline: Outline,
    /// From where on the text is under which item, and whether it begins with the item itself.
    marks: Vec<(usize, Option<NodeId>, bool)>,
}

/// A syntax node whose children are being visited.
struct Level {
    /// The item the children are in.
    item: Option<NodeId>,
    /// Whether the node only wraps an item and has its name: an export, a decorated definition.
    wraps: bool,
    /// Where the comments and attributes before the next child begin.
    lead: Option<usize>,
}

impl Walk<'_> {
    /// Visits the tree without recursion: hostile text nests deeper than a stack.
    fn run(&mut self, cursor: &mut TreeCursor<'_>) {
        let mut levels = vec![Level { item: None, wraps: false, lead: None }];
        if !cursor.goto_first_child() {
            return;
        }
        loop {
            let descend = levels.last_mut().and_then(|level| self.visit(cursor.node(), level));
            if let Some(level) = descend
                && cursor.goto_first_child()
            {
                levels.push(level);
                continue;
            }
            while !cursor.goto_next_sibling() {
                levels.pop();
                if levels.is_empty() || !cursor.goto_parent() {
                    return;
                }
                self.leave(cursor.node(), levels.last());
            }
        }
    }

    /// Notes an item, and says how to go on with its children where it is too large.
    fn visit(&mut self, node: Node<'_>, level: &mut Level) -> Option<Level> {
        let range = node.byte_range();
        if is_lead(node.kind()) {
            level.lead = level.lead.or(Some(range.start));
            return None;
        }
        let lead = level.lead.take().filter(|&lead| !self.has_blank_line(&(lead..range.start)));
        let is_large = range.len() > self.target_tokens && self.tokens.count(&range) > self.target_tokens;
        let label = if level.wraps { None } else { self.label(node) };
        let Some(label) = label else {
            return is_large.then_some(Level { item: level.item, wraps: false, lead: None });
        };
        let item = self.outline.add_node(level.item, &label);
        self.mark(lead.unwrap_or(range.start), Some(item), true);
        if is_large {
            return Some(Level { item: Some(item), wraps: is_wrapper(node.kind()), lead: None });
        }
        self.mark(range.end, level.item, false);
        None
    }

    fn leave(&mut self, node: Node<'_>, level: Option<&Level>) {
        let item = level.and_then(|level| level.item);
        if self.marks.last().is_some_and(|&(_, current, _)| current != item) {
            self.mark(node.end_byte(), item, false);
        }
    }

    fn mark(&mut self, at: usize, item: Option<NodeId>, states_heading: bool) {
        let at = self.text.floor_char_boundary(at);
        self.marks.push((at.max(self.marks.last().map_or(0, |mark| mark.0)), item, states_heading));
    }

    fn has_blank_line(&self, range: &Range<usize>) -> bool {
        let gap = self.text.get(range.clone()).unwrap_or_default();
        gap.trim_end_matches([' ', '\t']).ends_with("\n\n")
    }

    fn label(&self, node: Node<'_>) -> Option<String> {
        label(node, self.language, self.text.as_bytes())
    }

    fn finish(mut self) -> Outline {
        let ends = self.marks.iter().skip(1).map(|mark| mark.0).chain([self.text.len()]);
        for (&(start, item, states_heading), end) in self.marks.iter().zip(ends) {
            self.outline.add_section(item, start..end, states_heading);
        }
        self.outline
    }
}

/// Comments and attributes belong to the item after them.
fn is_lead(kind: &str) -> bool {
    matches!(kind, "line_comment" | "block_comment" | "comment" | "attribute_item" | "decorator")
}

fn is_wrapper(kind: &str) -> bool {
    matches!(kind, "decorated_definition" | "export_statement")
}

/// What an item is called, or `None` where the node is no item.
fn label(node: Node<'_>, language: Language, text: &[u8]) -> Option<String> {
    let name = |node: Node<'_>, field: &str| {
        node.child_by_field_name(field).and_then(|child| child.utf8_text(text).ok()).map(str::to_owned)
    };
    let named = |keyword: &str| name(node, "name").map(|name| format!("{keyword} {name}"));
    match (language, node.kind()) {
        (Language::Rust, "impl_item") => {
            let subject = name(node, "type")?;
            Some(match name(node, "trait") {
                Some(implemented) => format!("impl {implemented} for {subject}"),
                None => format!("impl {subject}"),
            })
        }
        (Language::Rust, kind) => named(rust_keyword(kind)?),
        (Language::Python, "function_definition") => named("def"),
        (Language::Python, "class_definition") => named("class"),
        (Language::Python, "decorated_definition") => label(node.child_by_field_name("definition")?, language, text),
        (Language::Nix, "binding") => name(node, "attrpath"),
        (Language::Bash, "function_definition") => name(node, "name").map(|name| format!("{name}()")),
        (Language::JavaScript | Language::TypeScript | Language::Tsx, kind) => match kind {
            "export_statement" => label(node.child_by_field_name("declaration")?, language, text),
            "method_definition" => name(node, "name").map(|name| format!("{name}()")),
            "lexical_declaration" | "variable_declaration" => {
                let declarator = node.named_child(0).filter(|child| child.kind() == "variable_declarator")?;
                name(declarator, "name").map(|name| format!("const {name}"))
            }
            "expression_statement" => assigned_function(node, text),
            kind => named(script_keyword(kind)?),
        },
        _ => None,
    }
}

fn rust_keyword(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "function_item" | "function_signature_item" => "fn",
        "struct_item" => "struct",
        "enum_item" => "enum",
        "union_item" => "union",
        "trait_item" => "trait",
        "mod_item" => "mod",
        "macro_definition" => "macro",
        "const_item" => "const",
        "static_item" => "static",
        "type_item" => "type",
        _ => return None,
    })
}

fn script_keyword(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "function_declaration" | "generator_function_declaration" => "function",
        "class_declaration" | "abstract_class_declaration" => "class",
        "interface_declaration" => "interface",
        "type_alias_declaration" => "type",
        "enum_declaration" => "enum",
        "internal_module" | "module" => "namespace",
        _ => return None,
    })
}

/// `exports.name = function …` is how older scripts define functions.
fn assigned_function(node: Node<'_>, text: &[u8]) -> Option<String> {
    let assignment = node.named_child(0).filter(|child| child.kind() == "assignment_expression")?;
    let value = assignment.child_by_field_name("right")?;
    let defines = matches!(value.kind(), "function_expression" | "arrow_function" | "class" | "generator_function");
    let target = assignment.child_by_field_name("left")?.utf8_text(text).ok()?;
    defines.then(|| target.to_owned())
}
