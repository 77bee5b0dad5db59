//! Names of people in the paths of their home directories, below `/home`, `/Users` and `C:\Users`.

use std::{ops::Range, sync::LazyLock};

use regex::bytes::Regex;

use super::{
    Finding, Kind,
    surroundings::{WALL, begins, pattern},
    value::is_stand_in,
};

/// Bytes that a name may have.
const NAME_BYTES_MAX: usize = 64;
/// The folder that homes are in.
static HOMES: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"/home/|/Users/|\\{1,8}[Uu]sers\\{1,8}|\\{1,8}Documents and Settings\\{1,8}"));
/// What may stand before it and is of the path.
static ROOT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?:[A-Za-z]:|/(?:export|var|usr|data|mnt|nfs|srv|volume[0-9]|Volumes/[A-Za-z0-9_-]{1,32})|(?:/mnt|/cygdrive)?/[a-z]|/System/Volumes/Data|file://|[A-Za-z0-9-]:|wsl\$?(?:/|\\{1,8})[A-Za-z0-9.-]{1,32})\z",
    )
});
/// Accounts that are the same on many machines, words that stand for one, and folders that are none.
const SHARED: [&str; 58] = [
    "about",
    "admin",
    "administrator",
    "agent",
    "airflow",
    "all users",
    "app",
    "appuser",
    "azureuser",
    "build",
    "builder",
    "centos",
    "circleci",
    "coder",
    "container",
    "core",
    "debian",
    "default",
    "default user",
    "dev",
    "developer",
    "ec2-user",
    "fedora",
    "git",
    "github",
    "gitlab-runner",
    "gitpod",
    "guest",
    "index",
    "jenkins",
    "jovyan",
    "kali",
    "lib",
    "linux",
    "linuxbrew",
    "me",
    "name",
    "nix",
    "nobody",
    "node",
    "nonroot",
    "opc",
    "page",
    "pi",
    "postgres",
    "public",
    "root",
    "runner",
    "runneradmin",
    "shared",
    "someone",
    "steam",
    "travis",
    "ubuntu",
    "usr",
    "vagrant",
    "vscode",
    "www-data",
];

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    for homes in HOMES.find_iter(bytes) {
        let before = &bytes[homes.start().saturating_sub(48)..homes.start()];
        // In the middle of another path it is a page of a site, or a folder of that name.
        let is_at_root = begins(bytes, homes.start())
            && !before.ends_with(b".")
            && !before.ends_with(b"/")
            && !before.ends_with(b"_");
        if !(is_at_root || ROOT.is_match(before)) {
            continue;
        }
        if let Some(range) = name_at(text, homes.end(), bytes[homes.start()] == b'\\') {
            found.push(Finding { kind: Kind::UserName, range });
        }
    }
}

fn name_at(text: &str, start: usize, is_windows: bool) -> Option<Range<usize>> {
    let window = &text[start..text.floor_char_boundary(text.len().min(start + NAME_BYTES_MAX))];
    let is_of_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut len = window.find(|c: char| !is_of_name(c)).unwrap_or(window.len());
    // A name may have a space where the path goes on behind it.
    if is_windows && window[len..].starts_with(' ') {
        let whole = window.find(|c: char| !is_of_name(c) && c != ' ').unwrap_or(window.len());
        if text.as_bytes().get(start + whole) == Some(&WALL) {
            return None;
        }
        let is_path = window[whole..].starts_with('\\') && window[..whole].split(' ').count() <= 3;
        len = if is_path { whole } else { len };
    }
    if text.as_bytes().get(start + len) == Some(&WALL) {
        return None;
    }
    let name = window[..len].trim_end_matches(['.', '-']);
    let lower = name.to_lowercase();
    let is_name =
        name.starts_with(char::is_alphabetic) && !is_stand_in(name) && SHARED.binary_search(&lower.as_str()).is_err();
    // `index.html` below `/home` is a page.
    let is_file = lower.ends_with(".html") || lower.ends_with(".htm") || lower.ends_with(".php");
    (is_name && !is_file).then_some(start..start + name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        for pattern in [&*HOMES, &*ROOT] {
            assert!(!pattern.as_str().is_empty());
        }
    }

    #[test]
    fn accounts_are_in_order() {
        assert!(SHARED.is_sorted(), "the search is binary");
    }
}
