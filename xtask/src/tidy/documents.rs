//! Rules about Markdown: what it names exists, and the changelog can take an entry.
//!
//! Looks at links and at words in backticks, not at fenced examples. A path is checked when it begins with something the
//! repository has at its top or with a crate's folder. An item is checked when it is written with `::`; items of other
//! libraries are written with that library's name in front, and are not checked.

use std::collections::{BTreeMap, BTreeSet};

use crate::repository::TrackedFile;

use super::edges::Member;
use super::rust_text::{is_word, mask, words};
use super::{Finding, text_of};

const CHANGELOG: &str = "CHANGELOG.md";

/// Keywords whose next word is the name of an item.
const ITEM_KEYWORDS: [&str; 10] =
    ["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "union", "macro_rules"];

/// Findings in every Markdown file that is ours.
pub fn check(files: &[TrackedFile], members: &[Member]) -> Vec<Finding> {
    let map = Map::of(files, members);
    let mut findings = check_changelog(files);
    for file in files.iter().filter(|file| file.path.ends_with(".md") && !file.is_fixture()) {
        // The changelog speaks of what once was, too.
        if file.path == CHANGELOG {
            continue;
        }
        let Some(text) = file.text() else { continue };
        for mention in mentions(text) {
            if let Some(message) = map.objection(&file.path, &mention) {
                findings.push(Finding::new(&file.path, mention.line, message));
            }
        }
    }
    findings
}

fn check_changelog(files: &[TrackedFile]) -> Vec<Finding> {
    match text_of(files, CHANGELOG) {
        Ok(text) if text.lines().any(|line| matches!(line.trim(), "## Unreleased" | "## [Unreleased]")) => Vec::new(),
        Ok(_) => vec![Finding::new(CHANGELOG, 1, "no section `## Unreleased` for the next entry")],
        Err(error) => vec![Finding::new(CHANGELOG, 1, format!("{error:#}"))],
    }
}

/// Something a document points at.
#[derive(Debug, PartialEq, Eq)]
struct Mention {
    line: usize,
    target: Target,
}

#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// The address of a link.
    Link(String),
    /// The text of a code span.
    Code(String),
}

/// The links and code spans of a document, outside fenced blocks.
fn mentions(text: &str) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut fence: Option<&str> = None;
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let marker = ["```", "~~~"].into_iter().find(|marker| start.starts_with(marker));
        match (fence, marker) {
            (None, Some(marker)) => fence = Some(marker),
            (Some(open), Some(marker)) if open == marker => fence = None,
            (Some(_), _) => {}
            (None, None) => {
                let code = code_spans(line).map(Target::Code);
                let links = link_targets(line).map(Target::Link);
                found.extend(code.chain(links).map(|target| Mention { line: index + 1, target }));
            }
        }
    }
    found
}

fn code_spans(line: &str) -> impl Iterator<Item = String> {
    line.split('`').skip(1).step_by(2).map(str::trim).filter(|span| !span.is_empty()).map(str::to_owned)
}

fn link_targets(line: &str) -> impl Iterator<Item = String> {
    line.match_indices("](").filter_map(|(at, open)| {
        let rest = &line[at + open.len()..];
        let target = &rest[..rest.find([')', ' '])?];
        Some(target.to_owned())
    })
}

/// What exists: the paths of the repository and the items its crates define.
struct Map<'a> {
    paths: BTreeSet<&'a str>,
    folders: BTreeSet<&'a str>,
    crates: Vec<CrateItems<'a>>,
    libraries: BTreeSet<String>,
}

struct CrateItems<'a> {
    name: &'a str,
    import: String,
    /// Per source file: the names it defines.
    files: BTreeMap<&'a str, BTreeSet<String>>,
}

impl<'a> Map<'a> {
    fn of(files: &'a [TrackedFile], members: &'a [Member]) -> Self {
        let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let folders = paths.iter().flat_map(|path| path.match_indices('/').map(|(at, _)| &path[..at])).collect();
        let crates = members.iter().map(|member| CrateItems::of(member, files)).collect();
        let dependencies = members.iter().flat_map(|member| &member.dependencies);
        let mut libraries: BTreeSet<String> = dependencies.map(|found| found.package.replace('-', "_")).collect();
        libraries.extend(["std", "core", "alloc"].map(str::to_owned));
        Self { paths, folders, crates, libraries }
    }

    /// Why what a document points at is not there; none if it is, or if it is no matter of ours.
    fn objection(&self, document: &str, mention: &Mention) -> Option<String> {
        match &mention.target {
            Target::Link(target) => self.link_objection(document, target),
            Target::Code(code) if code.contains("::") => self.item_objection(code),
            Target::Code(code) => self.path_objection(document, code),
        }
    }

    fn link_objection(&self, document: &str, target: &str) -> Option<String> {
        let path = target.split('#').next().unwrap_or_default();
        if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
            return None;
        }
        let absent = !self.exists(&beside(document, path));
        absent.then(|| format!("the link leads to `{path}`, which does not exist"))
    }

    fn path_objection(&self, document: &str, code: &str) -> Option<String> {
        let path = code.trim_end_matches('/');
        let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
        // `NNNN` stands for a number still to be given.
        if !is_plain || path.contains("NNNN") {
            return None;
        }
        let Some((top, _)) = path.split_once('/') else {
            return self.document_objection(document, path);
        };
        let at_root = self.folders.contains(top);
        let in_crates = self.folders.contains(format!("crates/{top}").as_str());
        let found = self.exists(path) || self.exists(&format!("crates/{path}")) || self.exists(&beside(document, path));
        ((at_root || in_crates) && !found).then(|| format!("there is no `{path}`"))
    }

    /// A document of the house is written in capitals (`ARCHITECTURE.md`); any other bare name may be a user's file.
    fn document_objection(&self, document: &str, name: &str) -> Option<String> {
        let stem = name.strip_suffix(".md")?;
        let in_capitals =
            !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_uppercase() || b"_-".contains(&byte));
        let found = self.exists(name) || self.exists(&format!("docs/{name}")) || self.exists(&beside(document, name));
        (in_capitals && !found).then(|| format!("there is no `{name}`"))
    }

    fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty() || self.paths.contains(path) || self.folders.contains(path)
    }

    fn item_objection(&self, code: &str) -> Option<String> {
        let item = code.trim_end_matches("()").trim_end_matches('!');
        let segments: Vec<&str> = item.split("::").collect();
        if !segments.iter().all(|segment| is_name(segment)) {
            return None;
        }
        let (first, rest) = segments.split_first()?;
        let ours = self.crates.iter().find(|found| found.name == *first || found.import == *first);
        if let Some(named) = ours {
            // A crate's folder may bear the name of a module elsewhere (`server::config`): either reading will do.
            let found = named.defines(rest) || self.crates.iter().any(|other| other.defines(&segments));
            return (!found).then(|| format!("the crate `{first}` defines no `{}`", rest.join("::")));
        }
        if self.crates.iter().any(|found| found.defines(&segments)) {
            return None;
        }
        if self.libraries.contains(*first) {
            return None;
        }
        Some(format!(
            "nothing here defines `{item}` (an item of a library is written with the library's name in front)"
        ))
    }
}

impl<'a> CrateItems<'a> {
    fn of(member: &'a Member, files: &'a [TrackedFile]) -> Self {
        let folder = member.manifest.trim_end_matches("Cargo.toml");
        let sources = files.iter().filter(|file| file.path.starts_with(folder) && file.path.ends_with(".rs"));
        let named = sources.filter_map(|file| Some((file.path.as_str(), defined_names(&file.path, file.text()?))));
        Self { name: &member.name, import: member.package.replace('-', "_"), files: named.collect() }
    }

    /// Whether every segment is defined somewhere in this crate. With a module or type in front of it, that is a search
    /// of text and not a resolution: good enough to notice what was renamed or removed.
    fn defines(&self, segments: &[&str]) -> bool {
        segments.iter().all(|segment| self.files.values().any(|names| names.contains(*segment)))
    }
}

/// The names a source file defines: items, modules, fields and enum variants, and the module the file itself is.
fn defined_names(path: &str, source: &str) -> BTreeSet<String> {
    let masked = mask(source);
    let mut names = BTreeSet::new();
    let mut previous = "";
    for (_, word) in words(&masked) {
        if ITEM_KEYWORDS.contains(&previous) {
            names.insert(word.to_owned());
        }
        previous = word;
    }
    for line in masked.lines() {
        let line = line.trim_start().trim_start_matches("pub ");
        let length = line.bytes().take_while(|byte| is_word(*byte)).count();
        let follows = line[length..].trim_start().bytes().next();
        if length > 0 && matches!(follows, None | Some(b',' | b'(' | b'{' | b'=' | b':')) {
            names.insert(line[..length].to_owned());
        }
    }
    let module = path.trim_end_matches(".rs").trim_end_matches("/mod").rsplit('/').next();
    names.extend(module.map(str::to_owned));
    names
}

/// Whether a segment of a path could be an identifier.
fn is_name(segment: &str) -> bool {
    segment.bytes().all(is_word) && segment.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// A path as seen from the folder of a document, with `.` and `..` resolved.
fn beside(document: &str, path: &str) -> String {
    let mut parts: Vec<&str> = match path.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => document.split('/').collect(),
    };
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use crate::repository::file;
    use crate::tidy::edges::Dependency;

    use super::*;

    const SOURCE: &str = "//! Façade.\nmod fuse;\npub struct Knowledge { pool: u8 }\nimpl Knowledge { pub fn search(&self) {} }\npub enum Mode {\n    Hybrid,\n    Dense(u8),\n}\n// fn only_in_a_comment() {}\n";

    /// What tidy says about one Markdown file in a small repository.
    fn check_document(path: &str, content: &str) -> Vec<String> {
        let files = [
            file("CHANGELOG.md", "## Unreleased\n"),
            file("ARCHITECTURE.md", ""),
            file("crates/knowledge/Cargo.toml", ""),
            file("crates/knowledge/src/lib.rs", SOURCE),
            file("docs/decisions/0001-fusion.md", ""),
            file(path, content),
        ];
        let dependencies = vec![Dependency { package: "tokio-util".to_owned(), for_tests: false }];
        let member = Member {
            name: "knowledge".to_owned(),
            package: "holdfast-knowledge".to_owned(),
            manifest: "crates/knowledge/Cargo.toml".to_owned(),
            dependencies,
        };
        check(&files, &[member]).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn what_exists_may_be_named() {
        let fine = "`crates/knowledge/src/lib.rs` `knowledge/src/` `docs/decisions/NNNN-title.md` `ARCHITECTURE.md` `run/control.sock`\n\
                    [a](0001-fusion.md) [b](../../ARCHITECTURE.md#map) [c](https://example.org/x) [d](#here)\n\
                    `knowledge::Knowledge::search` `Knowledge::search()` `holdfast_knowledge::fuse` `Mode::Dense` `std::env::var` `tokio_util::task::TaskTracker`\n\
                    ```\n`crates/gone.rs` and `Gone::gone`\n```\n";
        assert_eq!(check_document("docs/decisions/0002-x.md", fine), [""; 0]);
    }

    #[test]
    fn a_path_that_does_not_exist_is_named_with_its_line() {
        let found = check_document("README.md", "fine\nsee `crates/knowledge/src/gone.rs`\n");
        assert_eq!(found, ["README.md:2: there is no `crates/knowledge/src/gone.rs`"]);
        assert_eq!(check_document("README.md", "see `knowledge/src/gone.rs`, `GONE.md`").len(), 2);
        assert_eq!(
            check_document("README.md", "see [it](docs/gone.md)"),
            ["README.md:1: the link leads to `docs/gone.md`, which does not exist"]
        );
    }

    #[test]
    fn an_item_that_does_not_exist_is_named() {
        for gone in [
            "knowledge::Knowledge::seek",
            "Knowledge::seek",
            "Gone::search",
            "knowledge::only_in_a_comment",
            "fuse::gone",
        ] {
            let found = check_document("README.md", &format!("calls `{gone}`"));
            assert_eq!(found.len(), 1, "{gone}: {found:?}");
        }
    }

    #[test]
    fn the_changelog_needs_a_place_for_the_next_entry() {
        let found = check_changelog(&[file(CHANGELOG, "# Changelog\n\n## 0.1.0\n")]);
        assert_eq!(found.len(), 1);
        assert_eq!(check_changelog(&[]).len(), 1);
    }
}
