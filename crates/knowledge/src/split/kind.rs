//! What kind of content a text is.
//!
//! Owns the table of extensions and media types. Does not read files; a shebang or a document type is looked
//! for at the beginning of the text only.

use std::path::Path;

/// How a text is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContentKind {
    /// CommonMark and its relatives.
    Markdown,
    /// HTML and XHTML.
    Html,
    /// Source code in a language whose syntax is known here.
    Code(Language),
    /// JSON, JSON with one value a line included.
    Json,
    /// Comma-, semicolon- or tab-separated values with a header line.
    Csv,
    /// Everything else.
    Plain,
}

/// A programming language whose syntax is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// Rust.
    Rust,
    /// Python 3.
    Python,
    /// JavaScript, JSX included.
    JavaScript,
    /// TypeScript.
    TypeScript,
    /// TypeScript with JSX.
    Tsx,
    /// The Nix expression language.
    Nix,
    /// Bash, and POSIX shell read as Bash.
    Bash,
}

impl ContentKind {
    /// Tells the kind by the file's extension, else by the media type, else by how the text begins.
    pub fn detect(path: Option<&Path>, content_type: Option<&str>, text: &str) -> Self {
        path.and_then(of_path)
            .or_else(|| content_type.and_then(of_media_type))
            .unwrap_or_else(|| of_text(text, path.is_none() && content_type.is_none()))
    }

    /// The media type documents of this kind are given, without parameters.
    pub fn media_type(&self) -> &'static str {
        match self {
            Self::Markdown => "text/markdown",
            Self::Html => "text/html",
            Self::Json => "application/json",
            Self::Csv => "text/csv",
            Self::Plain => "text/plain",
            Self::Code(Language::Rust) => "text/x-rust",
            Self::Code(Language::Python) => "text/x-python",
            Self::Code(Language::JavaScript) => "text/javascript",
            Self::Code(Language::TypeScript) => "text/x-typescript",
            Self::Code(Language::Tsx) => "text/x-tsx",
            Self::Code(Language::Nix) => "text/x-nix",
            Self::Code(Language::Bash) => "text/x-shellscript",
        }
    }
}

fn of_path(path: &Path) -> Option<ContentKind> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    let kind = match extension.as_str() {
        "md" | "markdown" | "mdx" | "mkd" | "mdown" => ContentKind::Markdown,
        "html" | "htm" | "xhtml" => ContentKind::Html,
        "json" | "jsonl" | "ndjson" | "geojson" | "ipynb" | "webmanifest" => ContentKind::Json,
        "csv" | "tsv" | "tab" => ContentKind::Csv,
        "rs" => ContentKind::Code(Language::Rust),
        "py" | "pyi" | "pyw" => ContentKind::Code(Language::Python),
        "js" | "mjs" | "cjs" | "jsx" => ContentKind::Code(Language::JavaScript),
        "ts" | "mts" | "cts" => ContentKind::Code(Language::TypeScript),
        "tsx" => ContentKind::Code(Language::Tsx),
        "nix" => ContentKind::Code(Language::Nix),
        "sh" | "bash" | "bats" | "ebuild" => ContentKind::Code(Language::Bash),
        "txt" | "text" | "log" | "rst" | "adoc" | "org" | "tex" => ContentKind::Plain,
        _ => return None,
    };
    Some(kind)
}

fn of_media_type(content_type: &str) -> Option<ContentKind> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let kind = match essence.as_str() {
        "text/markdown" | "text/x-markdown" => ContentKind::Markdown,
        "text/html" | "application/xhtml+xml" => ContentKind::Html,
        "text/csv" | "text/tab-separated-values" => ContentKind::Csv,
        "application/json" | "text/json" | "application/x-ndjson" | "application/jsonl" => ContentKind::Json,
        "text/x-rust" | "text/rust" => ContentKind::Code(Language::Rust),
        "text/x-python" | "application/x-python" => ContentKind::Code(Language::Python),
        "text/javascript" | "application/javascript" => ContentKind::Code(Language::JavaScript),
        "text/x-typescript" | "application/typescript" | "text/typescript" => ContentKind::Code(Language::TypeScript),
        "text/x-tsx" => ContentKind::Code(Language::Tsx),
        "text/x-nix" => ContentKind::Code(Language::Nix),
        "text/x-shellscript" | "application/x-sh" | "text/x-sh" => ContentKind::Code(Language::Bash),
        other if other.ends_with("+json") => ContentKind::Json,
        "text/plain" => ContentKind::Plain,
        _ => return None,
    };
    Some(kind)
}

/// A text that came without name or type, as through an API, may be Markdown; a file without a known extension
/// is taken for Markdown by nothing but its name.
fn of_text(text: &str, is_anonymous: bool) -> ContentKind {
    let first_line = text.trim_start().lines().next().unwrap_or_default();
    if let Some(language) = first_line.strip_prefix("#!").and_then(of_shebang) {
        return ContentKind::Code(language);
    }
    let lower = first_line.get(..first_line.floor_char_boundary(20)).unwrap_or_default().to_ascii_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return ContentKind::Html;
    }
    let has_heading = || text.lines().take(400).any(is_atx_heading);
    if is_anonymous && has_heading() { ContentKind::Markdown } else { ContentKind::Plain }
}

/// The language of `#!/usr/bin/env -S python3 -u` and the like.
fn of_shebang(command: &str) -> Option<Language> {
    let program = command
        .split_whitespace()
        .map(|word| word.rsplit('/').next().unwrap_or(word))
        .find(|word| *word != "env" && !word.starts_with('-') && !word.contains('='))?;
    match program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.') {
        "python" | "pypy" => Some(Language::Python),
        "bash" | "sh" | "dash" | "zsh" | "ksh" => Some(Language::Bash),
        "node" | "deno" | "bun" => Some(Language::JavaScript),
        _ => None,
    }
}

fn is_atx_heading(line: &str) -> bool {
    let level = line.bytes().take_while(|&byte| byte == b'#').count();
    (1..=6).contains(&level) && line[level..].starts_with(' ')
}
