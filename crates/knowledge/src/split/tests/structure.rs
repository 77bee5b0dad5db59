//! What headings, sections and cuts look like, kind by kind.

use super::*;

/// Each chunk as its heading and how it begins and ends.
fn shape(kind: ContentKind, text: &str, config: &SplitConfig) -> Vec<(String, String)> {
    let split = check(kind, text, config);
    split.chunks.iter().map(|chunk| (chunk.heading.clone(), split.chunk_text(chunk).to_owned())).collect()
}

fn headings(kind: ContentKind, text: &str, config: &SplitConfig) -> Vec<String> {
    shape(kind, text, config).into_iter().map(|(heading, _)| heading).collect()
}

fn words(count: usize) -> String {
    (0..count).map(|n| format!("w{n} ")).collect::<String>().trim_end().to_owned() + "."
}

#[test]
fn markdown_sections_stand_under_their_breadcrumbs() {
    let text = format!(
        "---\ntitle: \"Front\"\ntags: [a]\n---\n# Outer `code` {{#outer}}\n\n{w}\n\n(anchor)=\n## Inner\n\n{w}\n\nSetext\n======\n\n{w}\n",
        w = words(14)
    );
    let split = check(ContentKind::Markdown, &text, &small());
    assert_eq!(split.title.as_deref(), Some("Front"));
    let got: Vec<_> = split.chunks.iter().map(|chunk| (chunk.heading.as_str(), chunk.context.as_str())).collect();
    assert_eq!(got, [("Outer code", ""), ("Outer code › Inner", "Outer code"), ("Setext", "")]);
    assert!(split.chunk_text(&split.chunks[1]).starts_with("(anchor)=\n## Inner"));
    assert!(!split.chunks.iter().any(|chunk| split.chunk_text(chunk).contains("tags")), "front matter is no text");
}

#[test]
fn front_matter_gives_a_page_without_first_heading_its_name() {
    let text = "+++\ntitle = 'From TOML'\n+++\nwords\n\n## Part\n\nmore";
    let split = check(ContentKind::Markdown, text, &small());
    assert_eq!(split.title.as_deref(), Some("From TOML"));
    assert_eq!(split.chunks[0].heading, "From TOML");
}

#[test]
fn a_rule_at_the_beginning_is_no_front_matter() {
    let split = check(ContentKind::Markdown, "---\nwords here\n---\nmore", &small());
    assert!(split.chunk_text(&split.chunks[0]).contains("words here"));
}

#[test]
fn small_sections_are_merged_under_their_parent_only() {
    let text = "# A\n\n## B\n\nx y.\n\n## C\n\nz.\n\n# D\n\n## E\n\nq.";
    assert_eq!(headings(ContentKind::Markdown, text, &SplitConfig::default()), ["A", "D › E"]);
}

#[test]
fn a_bare_heading_is_no_chunk_of_its_own() {
    let text = format!("# Title\n\n## Large\n\n{}\n\n## Larger\n\n{}", words(110), words(400));
    let got = shape(ContentKind::Markdown, &text, &SplitConfig::default());
    assert!(got[0].0 == "Title › Large" && got[0].1.starts_with("# Title\n\n## Large\n\nw0"), "{got:?}");
}

#[test]
fn a_heading_in_a_quote_or_list_is_text() {
    let text = format!("# A\n\n{w}\n\n> # quoted\n\n- # listed\n\n{w}", w = words(9));
    assert!(headings(ContentKind::Markdown, &text, &small()).iter().all(|heading| heading == "A"));
}

#[test]
fn code_blocks_stay_whole_where_they_fit() {
    let code = "```nix\na\n\nb\n\nc\n\nd\n\ne\n\nf\n```";
    let text = format!("# A\n\n{}\n\n{code}\n\n{}", words(12), words(12));
    assert!(shape(ContentKind::Markdown, &text, &small()).iter().any(|(_, text)| text.contains(code)));
}

#[test]
fn myst_roles_are_not_part_of_a_heading() {
    let got = headings(ContentKind::Markdown, "# {command}`nix build` and {ref}`x`\n\nwords", &small());
    assert_eq!(got, ["nix build and x"]);
}

#[test]
fn long_prose_is_cut_at_sentences_and_overlaps() {
    let sentence = "Some seven words are in this sentence. ";
    let split =
        check(ContentKind::Plain, &sentence.repeat(12), &SplitConfig { overlap_tokens: 8, max_tokens: 64, ..small() });
    assert!(split.chunks.len() > 1);
    for chunk in &split.chunks {
        assert!(split.chunk_text(chunk).starts_with("Some") && split.chunk_text(chunk).ends_with('.'));
    }
    for pair in split.chunks.windows(2) {
        assert!(pair[1].range.start < pair[0].range.end, "neighbours overlap");
    }
}

#[test]
fn paragraphs_are_better_cuts_than_sentences() {
    let paragraph = words(10);
    let text = [paragraph.as_str(); 6].join("\n\n");
    for (_, text) in shape(ContentKind::Plain, &text, &small()) {
        assert!(text.split("\n\n").all(|part| part == paragraph), "{text}");
    }
}

#[test]
fn a_plain_title_is_the_heading_of_what_follows() {
    let text = format!("The Title Line\n\n{}", words(80));
    let split = check(ContentKind::Plain, &text, &small());
    assert_eq!(split.title.as_deref(), Some("The Title Line"));
    assert_eq!(split.chunks[0].context, "", "the first chunk begins with it");
    assert!(split.chunks[1..].iter().all(|chunk| chunk.context == "The Title Line"));
}

#[test]
fn an_endless_word_is_cut_hard() {
    let split = check(ContentKind::Plain, &"x".repeat(5_000), &small());
    assert!(split.chunks.len() > 5);
    let ends: Vec<_> = split.chunks.iter().map(|chunk| chunk.range.end).collect();
    let starts: Vec<_> = split.chunks.iter().skip(1).map(|chunk| chunk.range.start).collect();
    assert_eq!(starts, ends[..ends.len() - 1], "without gap or overlap");
}

#[test]
fn rust_items_are_found_with_what_documents_them() {
    let body = (0..6).map(|n| format!("        call_{n}(self.value);\n")).collect::<String>();
    let text = format!(
        "//! Header.\n\nuse std::fmt;\n\nstruct Foo<T> {{\n    value: T,\n}}\n\nimpl<T> fmt::Display for Foo<T> {{\n    \
         /// Documents bar.\n    #[inline]\n    fn bar(&self) {{\n{body}    }}\n\n    fn baz(&self) {{\n{body}    }}\n}}\n"
    );
    let config = SplitConfig { target_tokens: 60, max_tokens: 80, max_heading_tokens: 20, overlap_tokens: 0 };
    let got = shape(ContentKind::Code(Language::Rust), &text, &config);
    let labels: Vec<_> = got.iter().map(|(heading, _)| heading.as_str()).collect();
    let owner = "impl fmt::Display for Foo<T>";
    assert!(labels.contains(&format!("{owner} › fn bar").as_str()), "{labels:?}");
    assert_eq!(labels.last().unwrap(), &format!("{owner} › fn baz"));
    let bar = got.iter().find(|(heading, _)| heading.ends_with("fn bar")).unwrap();
    assert!(bar.1.contains("/// Documents bar."));
    assert!(got.last().unwrap().1.ends_with("}\n}"), "the last brace is no chunk of its own");
}

#[test]
fn an_item_that_begins_inside_a_word_is_counted_as_it_is_cut() {
    // Names of Nix have no accents, so that one begins in the middle of this word.
    let text = "{#id}日\néAéaéaAAA===\n日éa A### # <<EOF\nlet x = 1; in ";
    let split = check(ContentKind::Code(Language::Nix), text, &small());
    let begins_inside = |chunk: &Chunk| text[..chunk.range.start].ends_with(char::is_alphanumeric);
    assert!(split.chunks.iter().any(begins_inside), "{:?}", split.chunks);
}

#[test]
fn every_language_names_its_items() {
    let cases = [
        (
            Language::Python,
            "@cached\ndef first(a):\n    return BODY\n\nclass Second:\n    def third(self):\n        return BODY\n",
            vec!["def first", "class Second › def third"],
        ),
        (
            Language::JavaScript,
            "export function first() { return BODY }\nclass Second { third() { return BODY } }\n",
            vec!["function first", "class Second › third()"],
        ),
        (
            Language::TypeScript,
            "export const first = (a: string): number => BODY;\ninterface Second { third: string }\n",
            vec!["const first", "interface Second"],
        ),
        (Language::Tsx, "export default function First() { return <div>{BODY}</div> }\n", vec!["function First"]),
        (
            Language::Nix,
            "{ config, ... }: {\n  services.nginx = {\n    enable = BODY;\n    other = BODY;\n  };\n}\n",
            vec!["services.nginx › enable"],
        ),
        (Language::Bash, "first() {\n  echo BODY\n}\nfunction second {\n  echo BODY\n}\n", vec!["first()", "second()"]),
    ];
    let config = SplitConfig { target_tokens: 22, max_tokens: 60, max_heading_tokens: 20, overlap_tokens: 0 };
    for (language, code, expected) in cases {
        let separator = if matches!(language, Language::Bash) { " " } else { " + " };
        let body = (0..10).map(|n| format!("v{n}")).collect::<Vec<_>>().join(separator);
        let got = headings(ContentKind::Code(language), &code.replace("BODY", &body), &config);
        for heading in expected {
            assert!(got.iter().any(|got| got == heading), "{language:?}: {heading} is not in {got:?}");
        }
    }
}

#[test]
fn json_is_split_by_path() {
    let words = words(120);
    let text = format!(
        "{{\"title\": \"T\", \"users\": [{{\"name\": \"{words}\"}}, {{\"name\": \"{words}\", \"a key\": \"{words}\"}}], \"n\": 1}}"
    );
    let split = check(ContentKind::Json, &text, &SplitConfig::default());
    assert_eq!(split.title.as_deref(), Some("T"));
    let got: Vec<_> = split.chunks.iter().map(|chunk| chunk.heading.as_str()).collect();
    for heading in ["users[0]", "users[1].name", "users[1][\"a key\"]"] {
        assert!(got.contains(&heading), "{heading} is not in {got:?}");
    }
}

#[test]
fn json_lines_are_entries_by_number() {
    let line = format!("{{\"text\": \"{}\"}}\n", words(80));
    let got = headings(ContentKind::Json, &line.repeat(3), &SplitConfig::default());
    assert_eq!(got, ["[0]", "[1]", "[2]"]);
}

#[test]
fn neighbours_too_small_for_a_path_share_one() {
    let got = headings(ContentKind::Json, &format!("{{\"a\": [{}0]}}", "10, ".repeat(2_000)), &SplitConfig::default());
    assert!(got.len() > 5 && got.iter().all(|heading| heading == "a"), "{got:?}");
}

#[test]
fn what_is_not_json_is_plain_text() {
    for text in [
        "{",
        "[1,]",
        "{\"a\" 1}",
        "{\"a\":1}}",
        "[1 2]",
        "nul",
        "\"open",
        "{a: 1}",
        "[1}",
        "// c\n{}",
        "{\"a\":\"\n\"}",
    ] {
        assert!(json::outline(text, &TokenIndex::build(text, &WordCounter).unwrap(), 10).is_none(), "{text}");
    }
    for text in ["{}", "[]", "1", "[1, -2.5e3, true, null, \"\\\"\"]", "{\"a\": {\"b\": []}}\n{}\n", " \"x\" "] {
        assert!(json::outline(text, &TokenIndex::build(text, &WordCounter).unwrap(), 10).is_some(), "{text}");
    }
}

#[test]
fn table_rows_stand_under_their_columns() {
    let rows: String = (0..20).map(|n| format!("{n};name {n};\"two\nlines {n}\"\n")).collect();
    let got = shape(ContentKind::Csv, &format!("id;name;note\n{rows}"), &small());
    assert!(got.len() > 3);
    for (heading, text) in &got[1..] {
        assert_eq!(heading, "id, name, note");
        assert!(text.ends_with('"') && text.starts_with(|c: char| c.is_ascii_digit()), "records are whole: {text}");
    }
}

#[test]
fn html_becomes_markdown() {
    let page = "<!doctype html><html><head><title> A &amp;\n page </title><style>x{}</style><script>if (a<b) {}</script></head>\
        <body><nav><a href=/>Home</a></nav><h1>Top <em>one</em></h1><p>Some&nbsp;text<br>with <code>a &lt; b</code>.</p>\
        <ul><li>one<li>two<ol><li>nested</ol></ul><pre><code class=\"language-rust\">fn a() {\n    b()\n}</code></pre>\
        <table><tr><th>k<th>v<tr><td><p>1</p><td>2</table><p># not a heading</p>&copy; caf&eacute; &#x1F980; &unknown; &amp</body>";
    let split = check(ContentKind::Html, page, &SplitConfig::default());
    assert_eq!(split.title.as_deref(), Some("A & page"));
    let expected = "# Top one\n\nSome text\nwith `a < b`.\n\n- one\n- two\n\n  1. nested\n\n```rust\nfn a() {\n    b()\n}\n```\n\n\
        | k | v |\n|---|---|\n| 1 | 2 |\n\n\\# not a heading\n\n© café 🦀 &unknown; &";
    assert_eq!(split.text, expected);
    assert_eq!(split.chunks[0].heading, "Top one");
}

#[test]
fn html_that_is_never_closed_loses_no_text() {
    let cases = [
        ("<nav>menu<p>text", "text"),
        ("text <a href=\"x", "text"),
        ("<h1>text", "# text"),
        ("<pre>text", "```\ntext\n```"),
        ("<table><tr><td>text", "text"),
        ("a < b & c <3 text", "a < b & c <3 text"),
    ];
    for (page, expected) in cases {
        let got = html::to_markdown(page).text;
        assert!(got.contains(expected), "{page:?} became {got:?}");
    }
}
