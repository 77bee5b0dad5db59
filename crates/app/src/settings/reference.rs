//! What the annotated defaults say about each setting, for the file of a first run and for docs/CONFIG.md.
//!
//! Works on the text, because comments are what it is about. The text is our own and checked by tests.

use std::fmt::Write;

use super::{DEFAULTS, FILE_NAME};

/// The defaults with every value commented out. Section headers stay: a value taken into use lands where it belongs.
pub fn commented_out() -> String {
    let mut text = String::with_capacity(DEFAULTS.len() + 256);
    for line in DEFAULTS.lines() {
        if !line.is_empty() && !line.starts_with(['#', '[']) {
            text.push('#');
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The reference of all settings, as Markdown.
pub fn markdown() -> String {
    let mut text = format!(
        "# Settings\n\n\
         <!-- Written by `holdfast config reference`; edit config/default.toml instead. -->\n\n\
         A setting comes from the first of these that has it:\n\n\
         1. a flag (`--listen`, `--log-format`);\n\
         2. the environment: `HOLDFAST_SECTION__KEY`, for example `HOLDFAST_SERVER__LISTEN`;\n\
         3. `{FILE_NAME}` in the data directory, or the file given with `--config`;\n\
         4. the default.\n\n\
         A key that is not listed here, or a value that cannot be used, refuses to start; everything that is wrong is\n\
         told at once. `holdfast config show --origin` tells what is in force and where it comes from,\n\
         `holdfast config check` whether it can be used.\n"
    );
    let mut section = "";
    let mut remark = String::new();
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
            remark.clear();
            // Writing to a string cannot fail.
            let _ = write!(text, "\n## `[{name}]`\n");
        } else if let Some(sentence) = line.strip_prefix('#') {
            remark.push_str(sentence.trim());
            remark.push('\n');
        } else if let Some((key, value)) = line.split_once(" = ") {
            let variable = format!("HOLDFAST_{}__{}", section.to_uppercase(), key.to_uppercase());
            let _ = write!(text, "\n### `{section}.{key}`\n\n{remark}\nDefault `{value}`, environment `{variable}`.\n");
            remark.clear();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Flags, layers::from_text};

    #[test]
    fn the_file_of_a_first_run_changes_nothing() {
        let layers = from_text(&commented_out(), &Flags::default()).unwrap();
        assert!(layers.entries().iter().all(|(_, _, origin)| *origin == crate::settings::Origin::Default));
    }

    #[test]
    fn a_value_taken_into_use_lands_in_its_section() {
        let text = commented_out().replace("#level = \"info\"", "level = \"debug\"");
        let settings = from_text(&text, &Flags::default()).unwrap().settings().unwrap();
        assert_eq!(settings.log.level, tracing::Level::DEBUG);
    }

    #[test]
    fn the_reference_in_the_repository_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIG.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == markdown(), "docs/CONFIG.md is old: run `cargo run -- config reference > docs/CONFIG.md`");
    }
}
