//! Text to chunks: what kind of content a text is, where its sections lie, and how they are packed into
//! ranges that fit an embedding window.
//!
//! Every splitter here turns a text into an [`Outline`]: sections in reading order, each under a path of
//! headings. One packer then merges the small sections, cuts the large ones, and yields [`Chunk`]s. The text
//! is tokenised once; every later question about size is answered from the token offsets.
//!
//! This module does no I/O, keeps no state and spawns nothing. It does not know which tokenizer is used, what
//! a document is, or where the text came from. It treats every text as hostile: time and memory grow linearly
//! with the text, nothing recurses with its nesting, and a failing parser costs structure, never the text.

mod boundary;
mod code;
mod html;
mod json;
mod kind;
mod markdown;
mod outline;
mod pack;
mod plain;
mod table;
mod tokens;

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
};

pub use self::{
    kind::{ContentKind, Language},
    tokens::TokenCounter,
};
use self::{outline::Outline, tokens::TokenIndex};

/// How large chunks are. Sizes are in tokens of the embedding model, without its special tokens.
///
/// The defaults are for all-MiniLM-L6-v2, whose window is 256 tokens of which two are special.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitConfig {
    /// The size a cut aims at. A section that fits into `max_tokens` as a whole is not cut at all.
    pub target_tokens: usize,
    /// The size no chunk exceeds, its context (see [`Chunk::context`]) included.
    pub max_tokens: usize,
    /// How much of the end of a piece of prose the next piece repeats, at most, when a paragraph is cut.
    pub overlap_tokens: usize,
    /// The size a breadcrumb may have. What is over is dropped from its outer end.
    pub max_heading_tokens: usize,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self { target_tokens: 200, max_tokens: 254, overlap_tokens: 32, max_heading_tokens: 48 }
    }
}

/// A text and the chunks it was split into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The title the text gives itself: its first top-level heading, front matter or `<title>`.
    pub title: Option<String>,
    /// The text all ranges refer to. It is the given text, except for HTML, where it is the Markdown made of it.
    pub text: String,
    /// The chunks in reading order: starts and ends both strictly ascend.
    pub chunks: Vec<Chunk>,
}

/// A piece of a text that is embedded and found as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where the chunk stands, outermost first: `Installing › On macOS`, `impl Pool › fn get`, `users[3].name`.
    /// Empty where the text has no structure.
    pub heading: String,
    /// The part of the heading that the chunk's own text does not already begin with. It belongs in front of
    /// the text when the chunk is embedded; [`Split::embedding_text`] puts it there.
    pub context: String,
    /// Bytes of [`Split::text`], on character boundaries, without surrounding white space.
    pub range: Range<usize>,
    /// Tokens of context and text together, at most [`SplitConfig::max_tokens`].
    pub token_count: usize,
}

impl Split {
    /// The text of a chunk of this split.
    pub fn chunk_text(&self, chunk: &Chunk) -> &str {
        self.text.get(chunk.range.clone()).unwrap_or_default()
    }

    /// What is embedded for a chunk: its context on a line of its own, then its text.
    pub fn embedding_text(&self, chunk: &Chunk) -> String {
        let text = self.chunk_text(chunk);
        if chunk.context.is_empty() { text.to_owned() } else { format!("{}\n{text}", chunk.context) }
    }
}

/// Why a text could not be split. The content of a text is never a reason.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// The tokenizer refused a text.
    #[error("the tokenizer failed on a text of {text_bytes} bytes")]
    Tokenize {
        /// Size of the part that was being tokenised.
        text_bytes: usize,
        /// What the tokenizer said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Offsets are kept in 32 bits.
    #[error("a text of {text_bytes} bytes is longer than the {limit_bytes} that can be split")]
    TooLong {
        /// Size of the text.
        text_bytes: usize,
        /// The largest size.
        limit_bytes: usize,
    },
    /// The configuration leaves no room for text.
    #[error("max_tokens {max_tokens} must be at least twice max_heading_tokens {max_heading_tokens}, and 8")]
    Config {
        /// [`SplitConfig::max_tokens`].
        max_tokens: usize,
        /// [`SplitConfig::max_heading_tokens`].
        max_heading_tokens: usize,
    },
}

/// Splits `text`, read as `kind`, into chunks of the sizes in `config`, measured by `counter`.
///
/// Text that is not what its kind promises (invalid JSON, code that does not parse) is split as plain text.
/// Every byte that is not white space is in some chunk, except a Markdown document's front matter. The same
/// input gives the same chunks.
///
/// # Errors
/// When the tokenizer fails, the text is 4 GiB or longer, or the configuration leaves no room for text.
pub fn split(
    kind: ContentKind,
    text: &str,
    counter: &dyn TokenCounter,
    config: &SplitConfig,
) -> Result<Split, SplitError> {
    if config.max_tokens < 8 || config.max_tokens < 2 * config.max_heading_tokens {
        let SplitConfig { max_tokens, max_heading_tokens, .. } = *config;
        return Err(SplitError::Config { max_tokens, max_heading_tokens });
    }
    let page = (kind == ContentKind::Html).then(|| html::to_markdown(text));
    let (text, page_title) = match page {
        Some(page) => (page.text, page.title),
        None => (text.to_owned(), None),
    };
    let tokens = TokenIndex::build(&text, counter)?;
    let outline = outline_of(kind, &text, &tokens, config);
    let title = page_title.or_else(|| outline.title.clone());
    let chunks = pack::pack(&text, &outline, &tokens, counter, config)?;
    Ok(Split { title, text, chunks })
}

/// Finds the sections of a text. A parser that panics costs the structure, not the text.
fn outline_of(kind: ContentKind, text: &str, tokens: &TokenIndex, config: &SplitConfig) -> Outline {
    let structured = catch_unwind(AssertUnwindSafe(|| match kind {
        ContentKind::Markdown | ContentKind::Html => markdown::outline(text),
        ContentKind::Code(language) => code::outline(text, language, tokens, config.target_tokens),
        ContentKind::Json => json::outline(text, tokens, config.target_tokens),
        ContentKind::Csv => table::outline(text),
        ContentKind::Plain => None,
    }));
    match structured {
        Ok(Some(outline)) => outline,
        Ok(None) => plain::outline(text),
        Err(_) => {
            tracing::warn!(
                kind = kind.media_type(),
                text_bytes = text.len(),
                "a parser panicked; splitting as plain text"
            );
            plain::outline(text)
        }
    }
}

/// For the fuzzer: where front matter ends.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn markdown_body_start(text: &str) -> usize {
    markdown::body_start(text)
}

/// For the fuzzer: the parsers of Markdown and HTML without the net that catches their panics.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn parse_bare(kind: ContentKind, text: &str) -> usize {
    let page = (kind == ContentKind::Html).then(|| html::to_markdown(text).text);
    let text = page.as_deref().unwrap_or(text);
    let _outline = markdown::outline(text);
    text.len()
}

#[cfg(test)]
mod tests;
