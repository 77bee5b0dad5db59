//! The tags and texts of an HTML page in order.
//!
//! Follows the tokenizer of the WHATWG standard where it matters for text: raw-text elements, quoted attributes,
//! comments and their unfinished forms. Looks at every byte a bounded number of times.

use std::borrow::Cow;

use super::entities::decode;

pub(super) enum Token<'a> {
    Start(Tag<'a>),
    End(String),
    Text(Cow<'a, str>),
    /// The content of `<title>`.
    Title(Cow<'a, str>),
}

pub(super) struct Tag<'a> {
    pub(super) name: String,
    pub(super) is_self_closing: bool,
    attributes: &'a str,
}

impl Tag<'_> {
    /// The value of an attribute, decoded.
    pub(super) fn attribute(&self, wanted: &str) -> Option<String> {
        let mut rest = self.attributes;
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
            if rest.is_empty() {
                return None;
            }
            let name_end =
                rest.find(|c: char| c.is_ascii_whitespace() || c == '=' || c == '/').unwrap_or(rest.len()).max(1);
            let name_end = rest.ceil_char_boundary(name_end);
            let (name, after) = rest.split_at(name_end);
            let after = after.trim_ascii_start();
            let (value, after) = match after.strip_prefix('=') {
                Some(after) => attribute_value(after.trim_ascii_start()),
                None => ("", after),
            };
            if name.eq_ignore_ascii_case(wanted) {
                return Some(decode(value).into_owned());
            }
            rest = after;
        }
    }
}

fn attribute_value(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            return inner.split_once(quote).unwrap_or((inner, ""));
        }
    }
    text.split_at(text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len()))
}

pub(super) struct Tokens<'a> {
    html: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(html: &'a str) -> Self {
        Self { html, at: 0 }
    }

    /// Passes over `<!-- … -->`, `<!doctype …>`, `<?…>` and `</ …>`.
    fn skip_declaration(&mut self) {
        let rest = &self.html[self.at..];
        let (opener, end) = if rest.starts_with("<!--") {
            (4, "-->")
        } else if rest.starts_with("<![CDATA[") {
            (9, "]]>")
        } else {
            (2, ">")
        };
        let content = rest.get(opener..).unwrap_or_default();
        self.at += content.find(end).map_or(rest.len(), |found| opener + found + end.len());
    }

    /// Reads the tag at the present position; `None` when it never ends.
    fn tag(&mut self) -> Option<Token<'a>> {
        let rest = &self.html[self.at..];
        let is_end = rest.starts_with("</");
        let name_start = if is_end { 2 } else { 1 };
        let length = tag_end(rest)?;
        let inner = &rest[name_start..length - 1];
        let name_end = inner.find(|c: char| c.is_ascii_whitespace() || c == '/').unwrap_or(inner.len());
        let name = inner[..name_end].to_ascii_lowercase();
        self.at += length;
        if is_end {
            return Some(Token::End(name));
        }
        let attributes = &inner[name_end..];
        let is_self_closing = attributes.ends_with('/');
        Some(Token::Start(Tag { name, is_self_closing, attributes }))
    }

    /// Takes the text of an element that contains no tags, up to its end tag.
    fn raw_text(&mut self, name: &str) -> &'a str {
        let rest = &self.html[self.at..];
        let end = find_end_tag(rest, name).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn after_start(&mut self, tag: Tag<'a>) -> Option<Token<'a>> {
        match tag.name.as_str() {
            "script" | "style" | "iframe" | "noembed" | "noframes" | "canvas" => {
                self.raw_text(&tag.name);
                None
            }
            "title" => Some(Token::Title(decode(self.raw_text("title")))),
            "textarea" | "xmp" => {
                let text = self.raw_text(&tag.name);
                Some(Token::Text(decode(text)))
            }
            _ => Some(Token::Start(tag)),
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = self.html.get(self.at..).filter(|rest| !rest.is_empty())?;
            match rest.as_bytes() {
                [b'<', b'a'..=b'z' | b'A'..=b'Z', ..] | [b'<', b'/', b'a'..=b'z' | b'A'..=b'Z', ..] => match self.tag()
                {
                    Some(Token::Start(tag)) => {
                        if let Some(token) = self.after_start(tag) {
                            return Some(token);
                        }
                    }
                    Some(token) => return Some(token),
                    None => {
                        // A tag that never ends: the rest is text rather than lost.
                        self.at = self.html.len();
                        return Some(Token::Text(decode(rest)));
                    }
                },
                [b'<', b'!' | b'?' | b'/', ..] => self.skip_declaration(),
                _ => {
                    let length =
                        rest[first_char(rest)..].find('<').map_or(rest.len(), |found| found + first_char(rest));
                    self.at += length;
                    return Some(Token::Text(decode(&rest[..length])));
                }
            }
        }
    }
}

fn first_char(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

/// The length of the tag `text` begins with, its `>` included. A quoted value may contain one.
fn tag_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut before_value = false;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') if before_value => quote = Some(byte),
            (None, b'=') => before_value = true,
            (None, _) if !byte.is_ascii_whitespace() => before_value = false,
            _ => {}
        }
    }
    None
}

/// Where `</name` begins, in any case.
fn find_end_tag(text: &str, name: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(found) = text[from..].find("</") {
        let at = from + found;
        let after = at + 2;
        let matches =
            bytes.get(after..after + name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()));
        let ends = bytes.get(after + name.len()).is_none_or(|byte| !byte.is_ascii_alphanumeric());
        if matches && ends {
            return Some(at);
        }
        from = after;
    }
    None
}
