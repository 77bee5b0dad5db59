//! What tools say in several lines: npm, Nix, CMake, pip, systemd.

use super::{Found, Line, Names, Weight, json, starts_with};
use crate::fingerprint::{prefix::Level, words};

/// Lines that one tool's report may have.
const REPORT_LINES_MAX: usize = 120;

pub(super) fn find(lines: &[Line<'_>], at: usize) -> Option<Found> {
    npm(lines, at)
        .or_else(|| nix(lines, at))
        .or_else(|| cmake(lines, at))
        .or_else(|| distribution(lines, at))
        .or_else(|| systemd(lines, at))
        .or_else(|| ansible(lines, at))
        .or_else(|| php(lines, at))
        .or_else(|| test(lines, at))
}

/// `npm ERR! code E404` and what follows: the code, and the first line that is a sentence.
fn npm(lines: &[Line<'_>], at: usize) -> Option<Found> {
    let mut code = None;
    let mut message: Option<&str> = None;
    let mut end = at;
    while let Some(rest) = lines.get(end).and_then(|line| of_npm(line.said())) {
        if end - at >= REPORT_LINES_MAX {
            break;
        }
        end += 1;
        if let Some(named) = rest.strip_prefix("code ") {
            code = code.or_else(|| named.split_whitespace().next());
            continue;
        }
        const KEYS: [&str; 12] = [
            "syscall ",
            "path ",
            "errno ",
            "dest ",
            "cwd ",
            "signal ",
            "command ",
            "node ",
            "npm ",
            "file ",
            "A complete",
            "type ",
        ];
        if rest.is_empty() || KEYS.iter().any(|key| rest.starts_with(key)) {
            continue;
        }
        // Lines of one report begin with its code.
        let said = code.map_or(rest, |code| without_start(rest, code.trim_start_matches('E')));
        let said = code.map_or(said, |code| without_start(said, code)).trim_start_matches([':', ' ']);
        let is_better = said.contains("is not in") || said.contains("Missing script");
        if !said.is_empty() && (message.is_none() || is_better) {
            message = Some(said);
        }
    }
    if end == at {
        return None;
    }
    let class = code.filter(|code| words::is_errno(code) || code.starts_with('E'));
    let message = message.or(code)?;
    let weight = if class.is_some_and(|class| class != "ELIFECYCLE") { Weight::Named } else { Weight::Marked };
    let names = if message.contains(" - GET ") { Names::Kept } else { Names::ByWords };
    Some(Found::new(class.unwrap_or("npm"), &without_address(message), weight, at..end).with(names))
}

fn of_npm(said: &str) -> Option<&str> {
    ["npm ERR!", "npm error"].iter().find_map(|start| said.strip_prefix(start)).map(str::trim)
}

fn without_start<'a>(text: &'a str, start: &str) -> &'a str {
    if starts_with(text, start) { text[start.len()..].trim_start() } else { text }
}

/// A registry's answer names the package in its address, of which nothing would be left.
fn without_address(message: &str) -> String {
    let Some((before, address)) = message.split_once(" - GET ") else { return message.to_owned() };
    let package = address.split([' ', '?']).next().and_then(|address| address.split("://").nth(1));
    let package = package.and_then(|address| address.split_once('/')).map(|(_, package)| package.replace("%2f", "/"));
    format!("{before}: package '{}'", package.unwrap_or_default().trim_end_matches('/'))
}

/// Nix puts what it was doing first, and the error last, indented as a block of its own.
fn nix(lines: &[Line<'_>], at: usize) -> Option<Found> {
    let said = lines[at].said();
    if said == "error:" {
        let after = &lines[at + 1..lines.len().min(at + 1 + REPORT_LINES_MAX)];
        let length = after.iter().take_while(|line| line.is_blank() || line.indent() > 0).count();
        let is_trace = after[..length].iter().any(|line| line.said().starts_with('…'));
        let last = after[..length].iter().rev().find_map(|line| line.said().strip_prefix("error: "));
        let message = match last {
            Some(message) => message,
            None if is_trace => return None,
            // A message on the line below, as several tools have it.
            None => after[..length].iter().find(|line| !line.is_blank())?.said(),
        };
        return Some(Found::new("error", message, Weight::Named, at..at + 1 + length));
    }
    let rest = said.strip_prefix("error: ")?;
    let is_build =
        rest.starts_with("builder for '") || rest.starts_with("Cannot build '") || rest.starts_with("build of '");
    let is_hash = rest.starts_with("hash mismatch in fixed-output derivation");
    (is_build || is_hash).then(|| Found::new("error", rest, Weight::Named, at..at + 1))
}

/// `CMake Error at CMakeLists.txt:12 (find_package):`, and the message below.
fn cmake(lines: &[Line<'_>], at: usize) -> Option<Found> {
    let rest = lines[at].said().strip_prefix("CMake Error")?;
    if !rest.ends_with(':') {
        let (_, message) = rest.split_once(": ")?;
        return Some(Found::new("CMake Error", message, Weight::Named, at..at + 1));
    }
    let after = &lines[at + 1..lines.len().min(at + 1 + REPORT_LINES_MAX)];
    let length = after.iter().take_while(|line| line.is_blank() || line.indent() > 0).count();
    let message: Vec<&str> = after[..length]
        .iter()
        .map(Line::said)
        .skip_while(|said| said.is_empty())
        .take_while(|said| !said.is_empty())
        .collect();
    Some(Found::new("CMake Error", &message.join(" "), Weight::Named, at..at + 1 + length).with(Names::Kept))
}

/// pip says first that no version fits, then that nothing was found; either names the package.
fn distribution(lines: &[Line<'_>], at: usize) -> Option<Found> {
    const STARTS: [&str; 2] =
        ["Could not find a version that satisfies the requirement ", "No matching distribution found for "];
    let said = lines[at].said();
    let said = said.strip_prefix("ERROR: ").unwrap_or(said);
    let rest = STARTS.iter().find_map(|start| said.strip_prefix(*start))?;
    let is_end = |c: char| c.is_whitespace() || matches!(c, '=' | '<' | '>' | '~' | '!' | '[' | ';' | '(');
    let name = rest.split(is_end).next()?;
    let follows = lines.get(at + 1).is_some_and(|next| next.said().contains(STARTS[1]));
    let message = format!("No matching distribution found for '{name}'");
    Some(Found::new("error", &message, Weight::Named, at..at + 1 + usize::from(follows)).with(Names::Kept))
}

/// How a unit ended: its status says why, the line after it only that it did.
fn systemd(lines: &[Line<'_>], at: usize) -> Option<Found> {
    let said = lines[at].said();
    let (unit, rest) = said.split_once(": ").unwrap_or(("", said));
    const UNITS: [&str; 5] = [".service", ".mount", ".socket", ".timer", ".scope"];
    if !UNITS.iter().any(|ending| unit.ends_with(ending)) || unit.contains(' ') {
        return job(at, said);
    }
    let status = rest.split("status=").nth(1).map(|status| status.split([' ', ',', ')']).next().unwrap_or(status));
    let is_end = rest.starts_with("Main process exited") || rest.starts_with("Control process exited");
    if let Some(status) = status.filter(|_| is_end) {
        if matches!(status, "0/SUCCESS") {
            return None;
        }
        // 1 is what every program says; 200 and above are systemd's own words for what it could not do.
        let weight = if status.len() > 3 && status.starts_with('2') { Weight::Named } else { Weight::Marked };
        let class = format!("exit status {}", status.split('/').next().unwrap_or(status));
        return Some(Found::new(&class, &format!("unit '{unit}': {rest}"), weight, at..at + 1));
    }
    let is_marked = lines[at].level == Level::Error || rest.starts_with("Start request repeated too quickly");
    let is_result = rest.starts_with("Failed with result");
    let weight = if is_result { Weight::Consequence } else { Weight::Marked };
    (is_marked || is_result || starts_with(rest, "failed"))
        .then(|| Found::new("error", &format!("unit '{unit}': {rest}"), weight, at..at + 1))
}

/// `Job for nginx.service failed because …`, `Failed to start nginx.service`.
fn job(at: usize, said: &str) -> Option<Found> {
    let rest = said.strip_prefix("Job for ")?;
    let (unit, why) = rest.split_once(' ')?;
    why.starts_with("failed").then(|| Found::new("error", &format!("unit '{unit}' {why}"), Weight::Marked, at..at + 1))
}

/// `fatal: [host]: FAILED! => {"msg": "…"}`: what Ansible says of a host.
fn ansible(lines: &[Line<'_>], at: usize) -> Option<Found> {
    let (_, rest) = lines[at].said().strip_prefix("fatal: [")?.split_once("]: ")?;
    let (word, object) = rest.split_once(" => ")?;
    let message = json::value(object, "msg").or_else(|| json::value(object, "stderr"))?;
    let message = format!("{}: {}", word.trim_end_matches('!'), message.lines().next().unwrap_or_default());
    Some(Found::new("ansible", &message, Weight::Named, at..at + 1))
}

/// `PHP Warning:  Undefined variable $x in /a.php on line 3`.
fn php(lines: &[Line<'_>], at: usize) -> Option<Found> {
    let (kind, message) = lines[at].said().strip_prefix("PHP ")?.split_once(": ")?;
    if !matches!(kind, "Warning" | "Fatal error" | "Parse error" | "Notice" | "Deprecated")
        || message.contains("Uncaught ")
    {
        return None;
    }
    let message = message.rsplit_once(" in ").map_or(message, |(message, _)| message);
    Some(Found::new(&format!("PHP {kind}"), message, Weight::Marked, at..at + 1))
}

/// A test that failed, by its name: of Go, Rust, Jest, pytest.
fn test(lines: &[Line<'_>], at: usize) -> Option<Found> {
    let said = lines[at].said();
    let name = if let Some(rest) = said.strip_prefix("--- FAIL: ") {
        rest.split(" (").next()?
    } else if let Some(rest) = said.strip_prefix("test ") {
        rest.strip_suffix(" ... FAILED")?
    } else if let Some(rest) = said.strip_prefix("● ") {
        rest.contains(" › ").then_some(rest)?
    } else {
        let rest = said.strip_prefix("FAILED ")?;
        rest.contains("::").then(|| rest.split(" - ").next())??.rsplit("::").next().filter(|_| !rest.contains(" - "))?
    };
    Some(Found::new("test", &format!("test '{name}' failed"), Weight::Marked, at..at + 1).with(Names::Kept))
}
