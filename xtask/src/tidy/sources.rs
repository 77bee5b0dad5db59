//! Rules about the shape of Rust sources: every module says what it is, and nothing grows beyond what one can read.
//!
//! Test code is exempt from the sizes (a table of cases may be long) and whole test files from the header.

use crate::repository::TrackedFile;

use super::Finding;
use super::rust_text::{functions, mask, without_tests};

/// Lines of non-test code a file may have.
const FILE_LINES_MAX: usize = 800;
/// Lines a non-test function may have, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 100;

/// Findings in every Rust source that is ours.
pub fn check(files: &[TrackedFile]) -> Vec<Finding> {
    let sources = files.iter().filter(|file| file.path.ends_with(".rs") && !file.is_fixture() && !file.is_test_code());
    sources
        .filter_map(|file| Some((file, file.text()?)))
        .flat_map(|(file, text)| check_source(&file.path, text))
        .collect()
}

fn check_source(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(Finding::new(
            path,
            1,
            "the first line is no `//!` header saying what the module owns and does not do",
        ));
    }
    let code = without_tests(&mask(text));
    // Blank lines and comments are lines too, but those of a test module are not ours to count.
    let masked_lines = text.lines().count() - test_lines(text, &code);
    if masked_lines > FILE_LINES_MAX {
        let message = format!("{masked_lines} lines of non-test code; a file has at most {FILE_LINES_MAX}: split it");
        findings.push(Finding::new(path, 1, message));
    }
    for function in functions(&code) {
        if function.lines > FUNCTION_LINES_MAX {
            let message = format!(
                "function `{}` has {} lines; at most {FUNCTION_LINES_MAX}: move its steps out",
                function.name, function.lines
            );
            findings.push(Finding::new(path, function.line, message));
        }
    }
    findings
}

/// Lines that hold code in the whole masked source and none once tests are blanked out.
fn test_lines(text: &str, code: &str) -> usize {
    let masked = mask(text);
    let is_test = |(all, kept): (&str, &str)| !all.trim().is_empty() && kept.trim().is_empty();
    masked.lines().zip(code.lines()).filter(|pair| is_test(*pair)).count()
}

#[cfg(test)]
mod tests {
    use crate::repository::file;

    use super::*;

    fn messages(path: &str, content: &str) -> Vec<String> {
        check(&[file(path, content)]).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_module_without_a_header_is_named() {
        let found = messages("crates/app/src/main.rs", "fn main() {}\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("crates/app/src/main.rs:1: "), "{found:?}");
        assert!(messages("crates/app/tests/it.rs", "fn main() {}\n").is_empty());
        assert!(messages("tests/fixtures/docs/x.rs", "fn main() {}\n").is_empty());
    }

    #[test]
    fn a_function_over_the_limit_is_named_at_its_line() {
        let long = format!("//! Header.\n\nfn long() {{\n{}}}\n", "    step();\n".repeat(99));
        let found = messages("crates/app/src/a.rs", &long);
        assert_eq!(found, ["crates/app/src/a.rs:3: function `long` has 101 lines; at most 100: move its steps out"]);
        let fits = format!("//! Header.\n\nfn fits() {{\n{}}}\n", "    step();\n".repeat(98));
        assert!(messages("crates/app/src/a.rs", &fits).is_empty());
    }

    #[test]
    fn a_file_over_the_limit_is_named_and_its_tests_do_not_count() {
        let body = "const A: u8 = 1;\n".repeat(FILE_LINES_MAX);
        let found = messages("crates/app/src/a.rs", &format!("//! Header.\n{body}"));
        assert_eq!(found.len(), 1, "{found:?}");
        let tests = format!("//! Header.\n#[cfg(test)]\nmod tests {{\n    fn long() {{\n{body}    }}\n}}\n");
        assert!(messages("crates/app/src/a.rs", &tests).is_empty());
    }
}
