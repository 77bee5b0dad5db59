//! Rules about what must not be in the repository: large files, paths of one machine, open ends without an issue.

use crate::repository::TrackedFile;

use super::Finding;
use super::rust_text::is_word;

/// Bytes a tracked file may have.
const FILE_BYTES_MAX: usize = 1 << 20;

/// What a path into one machine starts with. Each is written in two halves so that this file does not hold it.
const MACHINE_FOLDERS: [&str; 3] = [concat!("/ro", "ot"), concat!("/ho", "me"), concat!("/wo", "rk")];

/// Words for an open end; each needs the number of the issue that closes it.
const OPEN_ENDS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Fixtures that the `.gitignore` beside them hides from git. A test that they are not indexed would pass without them.
const FORCED_FIXTURES: [&str; 2] =
    ["tests/fixtures/docs/drafts/unfinished-voice-control.md", "tests/fixtures/docs/operations/tided.log"];

/// Findings in every tracked file.
pub fn check(files: &[TrackedFile]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = files.iter().flat_map(check_file).collect();
    for fixture in FORCED_FIXTURES {
        if !files.iter().any(|file| file.path == fixture) {
            findings.push(Finding::new(fixture, 1, "not tracked: run `git add --force` on it"));
        }
    }
    findings
}

fn check_file(file: &TrackedFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file.bytes.len() > FILE_BYTES_MAX {
        let message = format!("{} bytes; a tracked file has at most {FILE_BYTES_MAX}", file.bytes.len());
        findings.push(Finding::new(&file.path, 1, message));
    }
    let Some(text) = file.text() else {
        return findings;
    };
    for (index, line) in text.lines().enumerate() {
        if let Some(folder) = machine_path(line) {
            let message = format!("a path below `{folder}` exists on one machine only; use a relative path or `~`");
            findings.push(Finding::new(&file.path, index + 1, message));
        }
        if let Some(word) = open_end(line).filter(|_| !file.is_fixture()) {
            findings.push(Finding::new(
                &file.path,
                index + 1,
                format!("`{word}` names no issue: write `{word} #12: …`"),
            ));
        }
    }
    findings
}

/// The machine folder that a path in the line starts with: not in the middle of a longer path or address.
fn machine_path(line: &str) -> Option<&'static str> {
    let bytes = line.as_bytes();
    MACHINE_FOLDERS.into_iter().find(|folder| {
        line.match_indices(folder).any(|(at, _)| {
            let starts_a_path = at == 0 || !(is_word(bytes[at - 1]) || b"./-~}$)>*".contains(&bytes[at - 1]));
            let after = &bytes[at + folder.len()..];
            starts_a_path && after.first() == Some(&b'/') && after.get(1).is_some_and(|next| is_word(*next))
        })
    })
}

fn open_end(line: &str) -> Option<&'static str> {
    OPEN_ENDS.into_iter().find(|word| {
        line.match_indices(word).any(|(at, _)| {
            let before = line.as_bytes()[..at].last().is_none_or(|byte| !is_word(*byte));
            let after = &line[at + word.len()..];
            // In backticks it is the word that is spoken of.
            let spoken_of = line[..at].ends_with('`');
            before && !spoken_of && !after.bytes().next().is_some_and(is_word) && !names_an_issue(after)
        })
    })
}

fn names_an_issue(text: &str) -> bool {
    text.match_indices('#').any(|(at, _)| text[at + 1..].bytes().next().is_some_and(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use crate::repository::file;

    use super::*;

    fn lines(path: &str, content: &str) -> Vec<usize> {
        check_file(&file(path, content)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_file_over_one_mebibyte_is_refused() {
        assert_eq!(lines("data.bin", &"a".repeat(FILE_BYTES_MAX + 1)), [1]);
        assert!(lines("data.bin", &"a".repeat(FILE_BYTES_MAX)).is_empty());
    }

    #[test]
    fn a_path_of_one_machine_is_refused_where_it_starts() {
        for folder in MACHINE_FOLDERS {
            assert_eq!(lines("README.md", &format!("fine\nsee {folder}/someone/x\n")), [2], "{folder}");
            assert_eq!(lines("a.sh", &format!("cp \"{folder}/a\" b")), [1], "{folder}");
            assert!(
                lines("a.md", &format!("https://example.org{folder}/page and ~{folder}/x and {folder}s/x")).is_empty()
            );
        }
    }

    #[test]
    fn an_open_end_needs_an_issue() {
        for word in OPEN_ENDS {
            assert_eq!(lines("src/a.rs", &format!("// {word}: later\n")), [1], "{word}");
            assert!(
                lines("src/a.rs", &format!("// {word} #12: later\nlet {word}_ITEMS = 1; // a `{word}` is spoken of\n"))
                    .is_empty()
            );
        }
    }

    #[test]
    fn a_fixture_that_git_would_leave_out_is_missed() {
        let [first, second] = FORCED_FIXTURES;
        assert!(check(&[file(first, ""), file(second, "")]).is_empty());
        assert_eq!(check(&[file(second, "")])[0].file, first);
    }
}
