//! HTML to Markdown: headings, lists, tables and code keep their form, everything else becomes text.
//!
//! One pass over the tags, without a tree: a browser's tree construction is quadratic on hostile pages and as
//! deep as their nesting. What the reader of a page does not read (scripts, styles, navigation) is left out.
//! Text that would be Markdown by accident is escaped where it would make a heading or a code block.

mod entities;
mod tags;
mod writer;

use self::{
    tags::{Tag, Token, Tokens},
    writer::Writer,
};

/// A page as Markdown.
pub(super) struct Page {
    /// The content of `<title>`.
    pub(super) title: Option<String>,
    pub(super) text: String,
}

/// Converts a page. White space is collapsed as a browser would.
pub(super) fn to_markdown(html: &str) -> Page {
    let mut converter = Converter::new(true);
    converter.run(html);
    if converter.hidden.is_some() {
        // An element that is left out and never ends would hide the rest of the page.
        converter = Converter::new(false);
        converter.run(html);
    }
    Page { title: converter.title, text: converter.writer.finish() }
}

/// Elements whose content nobody reads. Those with raw text are dropped by the tokenizer.
const HIDDEN: [&str; 6] = ["nav", "template", "svg", "math", "object", "noscript"];

struct Converter {
    writer: Writer,
    title: Option<String>,
    hides: bool,
    /// The element whose content is being left out, and how often it is nested in itself.
    hidden: Option<(String, usize)>,
    /// For each open list, the number of the next item, or `None` when it is not numbered.
    lists: Vec<Option<usize>>,
}

impl Converter {
    fn new(hides: bool) -> Self {
        Self { writer: Writer::default(), title: None, hides, hidden: None, lists: Vec::new() }
    }

    fn run(&mut self, html: &str) {
        for token in Tokens::new(html) {
            match token {
                Token::Title(title) => {
                    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
                    self.title = self.title.take().or(Some(title).filter(|title| !title.is_empty()));
                }
                Token::Start(tag) => self.start(&tag),
                Token::End(name) => self.end(&name),
                Token::Text(text) if self.hidden.is_none() => self.writer.text(&text),
                Token::Text(_) => {}
            }
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        let name = tag.name.as_str();
        if let Some((hidden, depth)) = &mut self.hidden {
            *depth += usize::from(hidden == name && !tag.is_self_closing);
            return;
        }
        if self.hides && HIDDEN.contains(&name) {
            if !tag.is_self_closing {
                self.hidden = Some((name.to_owned(), 1));
            }
            return;
        }
        match name {
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.writer.start_heading(usize::from(name.as_bytes()[1] - b'0'))
            }
            "pre" => self.writer.start_code(tag.attribute("class").as_deref().and_then(language_of)),
            "code" | "kbd" | "samp" | "tt" => {
                self.writer.hint_language(tag.attribute("class").as_deref().and_then(language_of));
                self.writer.code_mark();
            }
            "br" => self.writer.line(),
            "img" => self.writer.text(&tag.attribute("alt").unwrap_or_default()),
            "ul" | "menu" | "ol" => {
                self.writer.paragraph();
                self.lists.push((name == "ol").then_some(1));
            }
            "li" => self.item(),
            "table" => self.writer.start_table(),
            "tr" => self.writer.start_row(),
            "td" | "th" => self.writer.cell(),
            name if is_paragraph(name) => self.writer.paragraph(),
            name if is_line(name) => self.writer.line(),
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        if let Some((hidden, depth)) = &mut self.hidden {
            *depth -= usize::from(hidden == name);
            // Navigation that is never closed ends with what it is in.
            if *depth == 0 || (hidden == "nav" && matches!(name, "header" | "body" | "aside")) {
                self.hidden = None;
            }
            return;
        }
        match name {
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => self.writer.end_heading(),
            "pre" => self.writer.end_code(),
            "code" | "kbd" | "samp" | "tt" => self.writer.code_mark(),
            "ul" | "menu" | "ol" => {
                self.lists.pop();
                self.writer.paragraph();
            }
            "li" => self.writer.line(),
            "table" => self.writer.end_table(),
            "tr" => self.writer.end_row(),
            "td" | "th" => {}
            name if is_paragraph(name) => self.writer.paragraph(),
            name if is_line(name) => self.writer.line(),
            _ => {}
        }
    }

    fn item(&mut self) {
        let depth = self.lists.len().saturating_sub(1);
        match self.lists.last_mut() {
            Some(Some(number)) => {
                self.writer.item(depth, &format!("{number}. "));
                *number = number.saturating_add(1);
            }
            _ => self.writer.item(depth, "- "),
        }
    }
}

fn is_paragraph(name: &str) -> bool {
    matches!(
        name,
        "p" | "div"
            | "section"
            | "article"
            | "main"
            | "header"
            | "footer"
            | "aside"
            | "blockquote"
            | "figure"
            | "hr"
            | "dl"
            | "form"
            | "fieldset"
            | "details"
            | "address"
            | "body"
            | "head"
            | "html"
            | "caption"
    )
}

fn is_line(name: &str) -> bool {
    matches!(
        name,
        "dt" | "dd" | "figcaption" | "summary" | "option" | "legend" | "label" | "button" | "thead" | "tbody" | "tfoot"
    )
}

/// The language of `class="highlight language-rust"`.
fn language_of(class: &str) -> Option<String> {
    let name =
        class.split_whitespace().find_map(|word| word.strip_prefix("language-").or(word.strip_prefix("lang-")))?;
    let is_name = name.len() <= 20 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-#".contains(&byte));
    is_name.then(|| name.to_owned())
}
