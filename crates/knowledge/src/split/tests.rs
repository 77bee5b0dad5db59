//! The promises of [`super::split`], on every kind of content.

use std::{path::Path, time::Duration};

use proptest::prelude::*;

use super::*;

mod structure;

/// Words of at most eight letters and single punctuation marks, roughly as WordPiece cuts; a word of more than
/// a hundred letters is one token, as it is there.
pub(crate) struct WordCounter;

impl TokenCounter for WordCounter {
    fn token_offsets(&self, text: &str) -> Result<Vec<(usize, usize)>, SplitError> {
        let mut offsets = Vec::new();
        let mut rest = text.char_indices().peekable();
        while let Some((start, c)) = rest.next() {
            if !c.is_alphanumeric() {
                if !c.is_whitespace() && !c.is_control() {
                    offsets.push((start, start + c.len_utf8()));
                }
                continue;
            }
            let mut letters = vec![start];
            while let Some((at, _)) = rest.next_if(|(_, c)| c.is_alphanumeric()) {
                letters.push(at);
            }
            let end = rest.peek().map_or(text.len(), |(at, _)| *at);
            letters.push(end);
            let step = if letters.len() > 101 { letters.len() } else { 8 };
            let parts = letters[..letters.len() - 1].chunks(step);
            let starts: Vec<usize> = parts.map(|part| part[0]).collect();
            offsets.extend(starts.iter().copied().zip(starts.iter().copied().skip(1).chain([end])));
        }
        Ok(offsets)
    }
}

const KINDS: [ContentKind; 12] = [
    ContentKind::Markdown,
    ContentKind::Html,
    ContentKind::Json,
    ContentKind::Csv,
    ContentKind::Plain,
    ContentKind::Code(Language::Rust),
    ContentKind::Code(Language::Python),
    ContentKind::Code(Language::JavaScript),
    ContentKind::Code(Language::TypeScript),
    ContentKind::Code(Language::Tsx),
    ContentKind::Code(Language::Nix),
    ContentKind::Code(Language::Bash),
];

fn small() -> SplitConfig {
    SplitConfig { target_tokens: 24, max_tokens: 32, overlap_tokens: 6, max_heading_tokens: 8 }
}

/// Splits, checks every promise, and gives back the split.
pub(crate) fn check(kind: ContentKind, text: &str, config: &SplitConfig) -> Split {
    let split = split(kind, text, &WordCounter, config).unwrap();
    let mut covered = vec![false; split.text.len()];
    let mut last = (None, 0);
    for chunk in &split.chunks {
        let part = split.text.get(chunk.range.clone()).unwrap();
        assert_eq!(part, part.trim(), "{kind:?}: chunks have no white space around them");
        assert!(!part.is_empty(), "{kind:?}: no chunk is empty");
        assert!(last.0 < Some(chunk.range.start) && last.1 < chunk.range.end, "{kind:?}: chunks ascend");
        last = (Some(chunk.range.start), chunk.range.end);
        covered[chunk.range.clone()].fill(true);
        assert!(chunk.heading.ends_with(&chunk.context) || chunk.heading.starts_with(&chunk.context), "{chunk:?}");
        let exact = WordCounter.token_offsets(&split.embedding_text(chunk)).unwrap().len();
        assert!(exact <= config.max_tokens, "{kind:?}: {exact} tokens in {chunk:?}");
        assert_eq!(exact, chunk.token_count, "{kind:?}: {chunk:?} {part:?}");
    }
    let body =
        if matches!(kind, ContentKind::Markdown | ContentKind::Html) { markdown::body_start(&split.text) } else { 0 };
    for (at, c) in split.text[body..].char_indices() {
        assert!(c.is_whitespace() || covered[body + at], "{kind:?}: {c:?} at {at} is in no chunk of {:?}", split.text);
    }
    split
}

fn kinds() -> impl Strategy<Value = ContentKind> {
    prop::sample::select(KINDS.to_vec())
}

/// Text made of what the splitters look for.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Zé日]{1,12}",
        1 => "[a-z]{90,130}",
        3 => Just(" ".to_owned()),
        2 => Just("\n".to_owned()),
        1 => Just("\n\n".to_owned()),
        2 => prop::sample::select(vec![
            "# ", "## ", "### ", "---\n", "===\n", "```\n", "~~~", "- ", "> ", "| a | b |\n|---|---|\n", "(ref)=\n", ":::{note}\n",
            "title: x\n", "{#id}", ". ", "! ", "。", "fn f() {", "}", "impl A for B {", "def f(x):\n    ", "class C:\n  ",
            "function g() {", "const x = () => {", "{ a = 1; }", "let x = 1; in ", "\"", "'", "''", "\\", "{\"a\":", "[1,2,", "]",
            ",", ";", ":", "<div>", "</div>", "<h2>", "</h2>", "<pre>", "<script>", "<nav>", "<td>", "<!--", "-->", "&amp;", "<<EOF\n",
            "\u{0}", "\u{a0}", "\u{2028}", "\u{feff}", "🦀", "e\u{301}", "\r\n", "\t", "/* ", " */", "// x\n",
        ]).prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_promise_holds_on_any_text(kind in kinds(), text in pieces()) {
        check(kind, &text, &small());
    }

    #[test]
    fn every_promise_holds_on_any_string(kind in kinds(), text in ".{0,300}") {
        check(kind, &text, &small());
    }

    #[test]
    fn the_same_text_gives_the_same_chunks(kind in kinds(), text in pieces()) {
        let first = split(kind, &text, &WordCounter, &small()).unwrap();
        prop_assert_eq!(first, split(kind, &text, &WordCounter, &small()).unwrap());
    }
}

#[test]
fn blank_text_has_no_chunks() {
    for kind in KINDS {
        for text in ["", " ", "\n\n\t\r\n", "\u{a0}\u{3000}"] {
            assert!(check(kind, text, &small()).chunks.is_empty(), "{kind:?} {text:?}");
        }
    }
}

/// Enough for anything linear, optimised or not, and far from enough for anything quadratic.
const LIMIT: Duration = Duration::from_secs(3);

#[test]
fn hostile_texts_cost_no_more_than_others() {
    for kind in KINDS {
        // Code is parsed within a budget of operations, which makes size less interesting and time longer.
        let size = if matches!(kind, ContentKind::Code(_)) { 1 << 12 } else { 1 << 17 };
        for text in hostile_texts(size) {
            check_cost(kind, &text);
        }
    }
}

#[test]
fn nesting_deeper_than_a_stack_is_walked() {
    for kind in KINDS {
        for (open, close) in [("(", ")"), ("[", "]"), ("{\"a\":", "}"), ("<div>", "</div>"), ("> ", "")] {
            check_cost(kind, &nested(open, close, 1 << 18));
        }
    }
}

fn check_cost(kind: ContentKind, text: &str) {
    let config = SplitConfig::default();
    let started = cpu_time();
    let split = split(kind, text, &WordCounter, &config).unwrap();
    let took = cpu_time() - started;
    let start: String = text.chars().take(12).collect();
    assert!(took < LIMIT, "{kind:?} took {took:?} on {start:?}…");
    assert!(split.chunks.iter().all(|chunk| chunk.token_count <= config.max_tokens), "{kind:?} on {start:?}…");
}

fn nested(open: &str, close: &str, size: usize) -> String {
    let depth = size / (open.len() + close.len());
    open.repeat(depth) + &close.repeat(depth)
}

/// Texts that make parsers slow, each of about `size` bytes.
fn hostile_texts(size: usize) -> Vec<String> {
    let deep = |open: &str, close: &str| nested(open, close, size);
    vec![
        "a".repeat(size),
        "#".repeat(size),
        "[".repeat(size),
        "> ".repeat(size / 2),
        "* ".repeat(size / 2),
        "1. ".repeat(size / 3),
        "`".repeat(size),
        "<".repeat(size),
        "&".repeat(size),
        "\\".repeat(size),
        "\"".repeat(size),
        "\n".repeat(size),
        "\u{0}".repeat(size),
        "日".repeat(size / 3),
        "e\u{301}\u{302}".repeat(size / 5),
        "a ".repeat(size / 2),
        "- a\n".repeat(size / 4),
        ">\n".repeat(size / 2),
        "[a](".repeat(size / 4),
        "![[]()".repeat(size / 6),
        "*a_ ".repeat(size / 4),
        "<a ".repeat(size / 3),
        "<!--".repeat(size / 4),
        "<div>".repeat(size / 5),
        "<table><td>".repeat(size / 11),
        "<b><p>".repeat(size / 6),
        "<nav>".repeat(size / 5),
        "<ul><li>".repeat(size / 8),
        "| a ".repeat(size / 4) + "\n" + &"|---".repeat(size / 8),
        "# a\n".repeat(size / 4),
        "# a\n## b\n### c\n#### d\n##### e\n###### f\n".repeat(size / 40),
        "(ref)=\n".repeat(size / 7),
        "---\n".to_owned() + &"a: b\n".repeat(size / 5),
        deep("{\"a\":", "}"),
        deep("[", "]"),
        deep("(", ")"),
        deep("{", "}"),
        deep("if x:\n", ""),
        deep("fn f() { ", "}"),
        deep("let a = ", ";"),
        deep("<<A\n", ""),
        deep("''${", "}''"),
        (0..64).map(|depth| " ".repeat(depth) + "if x:\n").collect::<String>().repeat(size / 2_048),
        (0..size.isqrt()).map(|depth| "  ".repeat(depth) + "- a\n").collect(),
        format!("[{}0]", "1,".repeat(size / 2)),
        "a,".repeat(size / 2),
        "a,b\n\"".to_owned() + &"x\n".repeat(size / 2),
    ]
}

/// Time this thread has computed: a busy machine does not make a splitter slow.
fn cpu_time() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_configuration_without_room_for_text_is_refused() {
    let config = SplitConfig { max_tokens: 60, max_heading_tokens: 40, ..SplitConfig::default() };
    assert!(matches!(split(ContentKind::Plain, "a", &WordCounter, &config), Err(SplitError::Config { .. })));
}

#[test]
fn a_tokenizer_that_fails_is_reported() {
    struct Failing;
    impl TokenCounter for Failing {
        fn token_offsets(&self, text: &str) -> Result<Vec<(usize, usize)>, SplitError> {
            Err(SplitError::Tokenize { text_bytes: text.len(), source: "broken".into() })
        }
    }
    let error = split(ContentKind::Plain, "some text", &Failing, &SplitConfig::default()).unwrap_err();
    assert_eq!(error.to_string(), "the tokenizer failed on a text of 9 bytes");
}

#[test]
fn kinds_are_told_by_name_then_type_then_beginning() {
    let detect =
        |path: Option<&str>, media: Option<&str>, text: &str| ContentKind::detect(path.map(Path::new), media, text);
    assert_eq!(detect(Some("a/README.MD"), Some("text/html"), ""), ContentKind::Markdown);
    assert_eq!(detect(Some("flake.nix"), None, ""), ContentKind::Code(Language::Nix));
    assert_eq!(detect(Some("notes"), Some("application/ld+json; charset=utf-8"), ""), ContentKind::Json);
    assert_eq!(detect(Some("run"), None, "#!/usr/bin/env -S python3.12 -u\n"), ContentKind::Code(Language::Python));
    assert_eq!(detect(Some("run"), None, "#!/bin/sh\n"), ContentKind::Code(Language::Bash));
    assert_eq!(detect(None, None, "  <!DOCTYPE html><p>"), ContentKind::Html);
    assert_eq!(detect(None, None, "words\n\n## Heading\n"), ContentKind::Markdown);
    assert_eq!(detect(Some("Makefile"), None, "# Comment\nall:\n"), ContentKind::Plain);
    assert_eq!(detect(None, Some("text/plain"), "# not a heading"), ContentKind::Plain);
    for kind in KINDS {
        assert_eq!(detect(None, Some(kind.media_type()), ""), kind, "a media type is understood where it is given");
    }
}
