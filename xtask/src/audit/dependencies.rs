//! What the program is made of: cargo-deny over licences, bans and sources, and over advisories where their database
//! can be had.
//!
//! Owns how cargo-deny is found, fetched and asked. What is allowed stands in `deny.toml`. An advisory that is ignored
//! there is a finding here, so that ignoring it needs an owner and a date.

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::repository::Repository;
use crate::shell;

use super::{Finding, Outcome, Report};

/// The version that is installed; a newer one on the machine will do.
const CARGO_DENY: &str = "cargo-deny@0.20.2";
/// Seconds the database of advisories may take to arrive.
const FETCH_SECONDS: &str = "60";
const CONFIGURATION: &str = "deny.toml";
const UNREACHABLE: &str = "the advisory database could not be reached";

/// Runs the checks of cargo-deny.
pub fn check(repository: &Repository, install: bool, report: &mut Report) -> Result<()> {
    ensure_tool(install)?;
    for (name, rule) in [("licenses", "licences"), ("bans", "bans"), ("sources", "sources")] {
        let found = deny(repository, name)?;
        report.add(rule, Outcome::Checked("cargo deny".to_owned()), found);
    }
    let text = std::fs::read_to_string(repository.root.join(CONFIGURATION))
        .with_context(|| format!("failed to read {CONFIGURATION}"))?;
    let mut found = ignored_advisories(&text)?;
    let outcome = if fetch_advisories(repository) {
        found.extend(deny(repository, "advisories")?);
        Outcome::Checked("cargo deny, with the database as of now".to_owned())
    } else {
        Outcome::NotChecked(UNREACHABLE.to_owned())
    };
    report.add("advisories", outcome, found);
    Ok(())
}

fn ensure_tool(install: bool) -> Result<()> {
    let is_there = || shell::succeeds(shell::command("cargo").args(["deny", "--version"]));
    if is_there() {
        return Ok(());
    }
    if !install {
        bail!(
            "cargo-deny is missing\nhint: cargo xtask security-audit --install, or cargo install {CARGO_DENY} --locked"
        );
    }
    shell::say(&format!("installing {CARGO_DENY}"));
    // It is no part of this workspace: its build shares nothing with ours but the place.
    shell::run(shell::command("cargo").args(["install", CARGO_DENY, "--locked"]))?;
    if !is_there() {
        bail!("cargo-deny is installed and cannot be run\nhint: put cargo's bin folder on PATH");
    }
    Ok(())
}

/// One check. What cargo-deny says is its finding; it names the crate and the rule itself.
fn deny(repository: &Repository, check: &str) -> Result<Vec<Finding>> {
    let mut command = shell::command("cargo");
    command.current_dir(&repository.root).args(["deny", "--format", "json", "--log-level", "error"]);
    // The database of advisories was fetched before; nothing else needs the network once the crates are there.
    command.args((check == "advisories").then_some("--offline"));
    let output = command.args(["check", check]).output().context("failed to start cargo deny")?;
    let told = String::from_utf8_lossy(&output.stderr);
    let found = findings_of(check, &told);
    if output.status.success() != found.is_empty() {
        bail!("cargo deny check {check} ended with {} and said what is not understood:\n{told}", output.status);
    }
    Ok(found)
}

/// The errors among the lines of JSON that cargo-deny writes.
fn findings_of(check: &str, told: &str) -> Vec<Finding> {
    let rule = match check {
        "licenses" => "dependency.licence",
        "bans" => "dependency.ban",
        "sources" => "dependency.source",
        _ => "dependency.advisory",
    };
    let lines = told.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let errors = lines.filter(|line| line["type"] == "diagnostic" && line["fields"]["severity"] == "error");
    errors
        .map(|line| {
            let fields = &line["fields"];
            let krate = &fields["graphs"][0]["Krate"];
            let name = krate["name"].as_str().unwrap_or("workspace");
            let code = fields["advisory"]["id"].as_str().or_else(|| fields["code"].as_str()).unwrap_or("unknown");
            let message = fields["message"].as_str().unwrap_or("cargo deny gives no message");
            let remedy = format!("see `cargo deny check {check}`; replace or upgrade the crate");
            Finding::new(rule, format!("{name}#{code}"), message, remedy)
        })
        .collect()
}

fn fetch_advisories(repository: &Repository) -> bool {
    let mut fetch = shell::command("timeout");
    fetch.current_dir(&repository.root).args([FETCH_SECONDS, "cargo", "deny", "fetch", "db"]);
    shell::succeeds(&mut fetch)
}

/// Advisories that `deny.toml` passes over.
fn ignored_advisories(text: &str) -> Result<Vec<Finding>> {
    let table: Table = text.parse().with_context(|| format!("{CONFIGURATION} is not TOML"))?;
    let ignored = table.get("advisories").and_then(|section| section.get("ignore")).and_then(Value::as_array);
    let found = ignored.into_iter().flatten().map(|entry| {
        let id = entry.as_str().or_else(|| entry.get("id")?.as_str()).or_else(|| entry.get("crate")?.as_str());
        let remedy = "upgrade the crate and remove the entry, or excuse it with an owner and a date";
        let place = format!("{CONFIGURATION}#{}", id.unwrap_or("unknown"));
        Finding::new("dependency.ignored-advisory", place, "an advisory is passed over", remedy)
    });
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_cargo_deny_is_a_finding_and_a_warning_is_none() {
        let line = |severity: &str| {
            format!(
                r#"{{"type":"diagnostic","fields":{{"code":"banned","message":"crate 'openssl-sys' is banned","severity":"{severity}","graphs":[{{"Krate":{{"name":"openssl-sys","version":"1"}}}}]}}}}"#
            )
        };
        let found = findings_of("bans", &format!("{}\n{}\nnot json\n", line("error"), line("warning")));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].id(), "dependency.ban@openssl-sys#banned");
    }

    #[test]
    fn an_ignored_advisory_needs_an_exception() {
        let found = ignored_advisories("[advisories]\nignore = ['RUSTSEC-2020-0001', { id = 'RUSTSEC-2020-0002' }]\n");
        let ids: Vec<_> = found.unwrap().iter().map(Finding::id).collect();
        assert_eq!(
            ids,
            [
                "dependency.ignored-advisory@deny.toml#RUSTSEC-2020-0001",
                "dependency.ignored-advisory@deny.toml#RUSTSEC-2020-0002"
            ]
        );
        assert!(ignored_advisories("[licenses]\nallow = ['MIT']\n").unwrap().is_empty());
    }
}
