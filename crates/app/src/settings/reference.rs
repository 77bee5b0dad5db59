//! What the annotated defaults say about each setting, for the file of a first run and for docs/CONFIG.md.
//!
//! Works on the text, because comments are what it is about. The text is our own and checked by tests.

use std::fmt::Write;

use super::{DEFAULTS, FILE_NAME, Profile, environment, file, live};

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
         1. a flag (`--profile`, `--listen`, `--listen-tls`, `--log-format`);\n\
         2. the environment: `HOLDFAST_SECTION__KEY`, for example `HOLDFAST_SERVER__LISTEN`;\n\
         3. `{FILE_NAME}` in the data directory, or the file given with `--config`;\n\
         4. the profile;\n\
         5. the default.\n\n\
         A key that is not listed here, or a value that cannot be used, refuses to start; everything that is wrong is\n\
         told at once, each with its place and what to do. `holdfast config show --origin` tells what is in force and\n\
         where it comes from, `holdfast config check` whether it can be used: it exits with 0 or 1, and with `--json`\n\
         lists what is wrong for programs.\n\n\
         A running server reads its settings again when the file changes, and at SIGHUP. What says so below takes effect\n\
         at once; for the rest the log names what waits for the next start. A file with anything wrong in it changes\n\
         nothing: the log says what is wrong, and `settings` is degraded in `holdfast status` until it is put right.\n\n\
         A secret comes by a file that only its owner can read (`*_file`; `-` is standard input, for `holdfast up`), or by\n\
         the environment. It is refused in a settings file, and nothing prints it.\n"
    );
    profiles(&mut text);
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
            let name = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            let variable = environment::name_of(&name);
            let when = if live::is_live(&name) { " Takes effect while the server runs." } else { "" };
            let _ = write!(text, "\n### `{name}`\n\n{remark}\nDefault `{value}`, environment `{variable}`.{when}\n");
            remark.clear();
        } else {
            remark.clear();
        }
    }
    text
}

/// What each profile has instead of the defaults.
fn profiles(text: &mut String) {
    text.push_str(
        "\n## Profiles\n\nA profile is a set of values for a kind of use: `--profile`, `HOLDFAST_PROFILE` or `profile` in \
         the settings file names one.\nIts files are in `config/profiles/`.\n",
    );
    for profile in Profile::ALL {
        let lines: Vec<&str> = profile.text().lines().take_while(|line| line.starts_with('#')).collect();
        if lines.is_empty() {
            continue;
        }
        let purpose = lines.iter().map(|line| line.trim_start_matches('#').trim()).collect::<Vec<_>>().join("\n");
        // Writing to a string cannot fail.
        let _ = write!(text, "\n### `{profile}`\n\n{purpose}\n\n| setting | value |\n|---|---|\n");
        let mut values = file::parse(profile.text()).values;
        values.sort_by_key(|line| line.line);
        for line in values {
            let _ = writeln!(text, "| `{}` | `{}` |", line.key, line.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Flags, layers::from_text};

    #[test]
    fn the_file_of_a_first_run_changes_nothing() {
        let layers = from_text(&commented_out(), &Flags::default());
        assert!(layers.entries().iter().all(|(_, _, origin)| *origin == crate::settings::Origin::Default));
    }

    #[test]
    fn a_value_taken_into_use_lands_in_its_section() {
        let text = commented_out().replace("#level = \"info\"", "level = \"debug\"");
        let settings = from_text(&text, &Flags::default()).settings().unwrap();
        assert_eq!(settings.log.level, tracing::Level::DEBUG);
    }

    #[test]
    fn the_reference_in_the_repository_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIG.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == markdown(), "docs/CONFIG.md is old: run `cargo run -- config reference > docs/CONFIG.md`");
    }
}
