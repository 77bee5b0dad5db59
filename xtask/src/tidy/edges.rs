//! Rules about who may depend on whom.
//!
//! Owns the comparison of what cargo says with the crate table in ARCHITECTURE.md, and the short list of libraries that
//! only certain crates may use. The table is read, not repeated: a new edge is a change of the document.

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::repository::{Repository, TrackedFile};

use super::{Finding, text_of};

/// Where the crate table stands.
const ARCHITECTURE: &str = "ARCHITECTURE.md";
/// How the table's header begins.
const TABLE_HEADER: [&str; 2] = ["crate", "may depend on"];
/// What every crate may use, named in no row.
const USED_BY_ALL: &str = "resilience";
/// What every crate may use for its tests, and none otherwise.
const USED_BY_TESTS: &str = "testkit";
/// Crates that are tools and parts of no other crate.
const TOOLS: [&str; 2] = ["testkit", "xtask"];

/// Libraries that stand for a part of the world only some crates may know, with the crates that do. Tests are exempt:
/// they look at a crate from outside.
const LIBRARY_OWNERS: &[(&str, &[&str])] = &[
    // Every persisted byte goes through storage.
    ("rusqlite", &["storage"]),
    ("sqlx", &["storage"]),
    ("tantivy", &["storage"]),
    ("usearch", &["storage"]),
    // Only embedding turns text into vectors.
    ("tokenizers", &["embedding"]),
    ("safetensors", &["embedding"]),
    // Only knowledge reads the formats and watches the folders of documents.
    ("pulldown-cmark", &["knowledge"]),
    ("tree-sitter", &["knowledge"]),
    ("ignore", &["knowledge"]),
    ("notify", &["knowledge"]),
    // Wire shapes are the server's; app hands its router to a listener.
    ("axum", &["server", "app"]),
    ("rmcp", &["server"]),
    ("schemars", &["server"]),
    // Settings, environment and command line are the program's.
    ("figment", &["app"]),
    ("clap", &["app", "xtask"]),
];

/// A workspace member and what its manifest asks for.
pub struct Member {
    /// The name of its folder, which is how documents call it.
    pub name: String,
    /// The package name, as it stands in `use` with underscores.
    pub package: String,
    /// Its manifest, below the root.
    pub manifest: String,
    /// Direct dependencies of every kind.
    pub dependencies: Vec<Dependency>,
}

/// One line of a manifest.
pub struct Dependency {
    /// Package name.
    pub package: String,
    /// Whether only tests, examples and benchmarks get it.
    pub for_tests: bool,
}

/// Asks cargo for the workspace members and their direct dependencies.
pub fn members(repository: &Repository) -> Result<Vec<Member>> {
    let manifest = repository.root.join("Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().context("cargo metadata failed")?;
    metadata.packages.iter().map(|package| member(repository, package)).collect()
}

fn member(repository: &Repository, package: &cargo_metadata::Package) -> Result<Member> {
    let manifest = package.manifest_path.as_std_path();
    let folder = manifest.parent().and_then(|folder| folder.file_name()).context("a manifest lies in no folder")?;
    let relative = manifest.strip_prefix(&repository.root).unwrap_or(manifest);
    let dependencies = package.dependencies.iter().map(|dependency| Dependency {
        package: dependency.name.clone(),
        for_tests: dependency.kind == DependencyKind::Development,
    });
    Ok(Member {
        name: folder.to_string_lossy().into_owned(),
        package: package.name.to_string(),
        manifest: relative.to_string_lossy().into_owned(),
        dependencies: dependencies.collect(),
    })
}

/// One row of the crate table.
struct Row {
    name: String,
    line: usize,
    allowed: Vec<String>,
}

/// Findings in the manifests, measured against the table in ARCHITECTURE.md.
pub fn check(files: &[TrackedFile], members: &[Member]) -> Vec<Finding> {
    let mut findings = check_libraries(members);
    let rows = match text_of(files, ARCHITECTURE).map(rows_of_table) {
        Ok(rows) if !rows.is_empty() => rows,
        Ok(_) => {
            let message = format!("no table whose header begins `| {} | {} |`", TABLE_HEADER[0], TABLE_HEADER[1]);
            findings.push(Finding::new(ARCHITECTURE, 1, message));
            return findings;
        }
        Err(error) => {
            findings.push(Finding::new(
                ARCHITECTURE,
                1,
                format!("{error:#}; it holds the table of allowed crate edges"),
            ));
            return findings;
        }
    };
    for row in rows.iter().filter(|row| !members.iter().any(|member| member.name == row.name)) {
        findings.push(Finding::new(
            ARCHITECTURE,
            row.line,
            format!("the table names the crate `{}`, which does not exist", row.name),
        ));
    }
    for member in members {
        findings.extend(check_member(member, members, &rows));
    }
    findings
}

fn check_member(member: &Member, members: &[Member], rows: &[Row]) -> Vec<Finding> {
    let row = rows.iter().find(|row| row.name == member.name);
    if row.is_none() && !TOOLS.contains(&member.name.as_str()) {
        let message = format!("the crate `{}` has no row in the table of {ARCHITECTURE}", member.name);
        return vec![Finding::new(&member.manifest, 1, message)];
    }
    let allowed = row.map(|row| row.allowed.as_slice()).unwrap_or_default();
    let mut findings = Vec::new();
    for dependency in &member.dependencies {
        let Some(target) = members.iter().find(|other| other.package == dependency.package) else {
            continue;
        };
        let permitted = target.name == USED_BY_ALL
            || allowed.contains(&target.name)
            || (target.name == USED_BY_TESTS && dependency.for_tests)
            // A crate's own tests may ask for itself with other features.
            || (target.name == member.name && dependency.for_tests);
        if !permitted {
            let message =
                format!("`{}` may not depend on `{}` (see the table in {ARCHITECTURE})", member.name, target.name);
            findings.push(Finding::new(&member.manifest, 1, message));
        }
    }
    findings
}

fn check_libraries(members: &[Member]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in members {
        for dependency in member.dependencies.iter().filter(|dependency| !dependency.for_tests) {
            let owners = LIBRARY_OWNERS.iter().find(|(library, _)| *library == dependency.package);
            let Some((library, owners)) = owners else {
                continue;
            };
            if !owners.contains(&member.name.as_str()) {
                let message = format!("`{}` may not use `{library}`: only {} may", member.name, owners.join(" and "));
                findings.push(Finding::new(&member.manifest, 1, message));
            }
        }
    }
    findings
}

/// The rows of the crate table. A cell lists crates; `—` is none, `all` and `all of the above` are the rows before it.
fn rows_of_table(text: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut lines = text.lines().enumerate().skip_while(|(_, line)| !is_header(line)).skip(2);
    while let Some((index, line)) = lines.next().filter(|(_, line)| line.starts_with('|')) {
        let cells = cells(line);
        let [name, allowed, ..] = cells.as_slice() else {
            continue;
        };
        let allowed = match allowed.as_str() {
            "all" | "all of the above" => rows.iter().map(|row| row.name.clone()).collect(),
            list => list.split(',').map(plain).filter(|entry| !entry.is_empty() && entry != "—").collect(),
        };
        rows.push(Row { name: name.clone(), line: index + 1, allowed });
    }
    rows
}

fn is_header(line: &str) -> bool {
    let cells = cells(line);
    cells.len() >= TABLE_HEADER.len() && cells.iter().zip(TABLE_HEADER).all(|(cell, expected)| cell == expected)
}

fn cells(line: &str) -> Vec<String> {
    line.trim().trim_matches('|').split('|').map(plain).collect()
}

/// A cell's text without the decoration of Markdown.
fn plain(cell: &str) -> String {
    cell.replace(['`', '*'], "").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use crate::repository::file;

    use super::*;

    const TABLE: &str = "# Map\n\n| crate | may depend on | may not know |\n|---|---|---|\n| `resilience` | — | us |\n| storage | — | HTTP |\n| knowledge | storage | HTTP |\n| server | all of the above | SQL |\n\nText.\n";

    fn crate_named(name: &str, dependencies: &[&str]) -> Member {
        let dependencies = dependencies.iter().map(|entry| Dependency {
            package: entry.trim_start_matches("test:").to_owned(),
            for_tests: entry.starts_with("test:"),
        });
        Member {
            name: name.to_owned(),
            package: format!("holdfast-{name}"),
            manifest: format!("crates/{name}/Cargo.toml"),
            dependencies: dependencies.collect(),
        }
    }

    fn workspace() -> Vec<Member> {
        vec![
            crate_named("resilience", &["tokio"]),
            crate_named("storage", &["holdfast-resilience", "rusqlite"]),
            crate_named("knowledge", &["holdfast-storage", "test:holdfast-testkit", "test:rusqlite"]),
            crate_named("server", &["holdfast-knowledge", "holdfast-storage", "axum"]),
            crate_named("testkit", &["tempfile"]),
        ]
    }

    fn messages(table: &str, members: &[Member]) -> Vec<String> {
        check(&[file(ARCHITECTURE, table)], members).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn the_allowed_edges_pass() {
        assert_eq!(messages(TABLE, &workspace()), [""; 0]);
    }

    #[test]
    fn an_edge_that_the_table_lacks_is_refused() {
        let mut members = workspace();
        members[1] = crate_named("storage", &["holdfast-knowledge"]);
        let found = messages(TABLE, &members);
        assert_eq!(
            found,
            ["crates/storage/Cargo.toml:1: `storage` may not depend on `knowledge` (see the table in ARCHITECTURE.md)"]
        );
        members[1] = crate_named("storage", &["test:holdfast-knowledge"]);
        assert_eq!(messages(TABLE, &members).len(), 1, "an edge for tests is an edge");
    }

    #[test]
    fn testkit_is_for_tests_only() {
        let mut members = workspace();
        members[2] = crate_named("knowledge", &["holdfast-testkit"]);
        assert_eq!(messages(TABLE, &members).len(), 1);
    }

    #[test]
    fn a_library_outside_its_crate_is_refused() {
        for (member, library) in [("knowledge", "rusqlite"), ("storage", "axum"), ("server", "clap")] {
            let mut members = workspace();
            let place = members.iter().position(|other| other.name == member).unwrap();
            members[place] = crate_named(member, &[library]);
            let found = messages(TABLE, &members);
            assert!(found.len() == 1 && found[0].contains(library), "{found:?}");
        }
    }

    #[test]
    fn table_and_workspace_name_the_same_crates() {
        let without_row = TABLE.replace("| knowledge | storage | HTTP |\n", "");
        assert!(messages(&without_row, &workspace()).iter().any(|found| found.contains("has no row")));
        let with_ghost = TABLE.replace("\n\nText", "\n| ghost | — | all |\n\nText");
        assert_eq!(
            messages(&with_ghost, &workspace()),
            ["ARCHITECTURE.md:9: the table names the crate `ghost`, which does not exist"]
        );
    }

    #[test]
    fn a_missing_table_is_not_an_empty_one() {
        assert!(messages("# Map\n", &workspace())[0].contains("no table"));
        assert!(check(&[], &workspace())[0].message.contains("ARCHITECTURE.md is missing"));
    }
}
