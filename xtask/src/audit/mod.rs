//! `cargo xtask security-audit`: what a reader of the repository would look for before trusting it.
//!
//! Owns the list of checks, the shape of a finding and how the result is told. Each rule is a function from text (or
//! modes) to findings, so that its test is a bad example and a good one. What is found and known is excused by
//! [`exceptions`], and only until its date. Nothing here repairs anything, and nothing of the product is started.

mod data_directory;
mod dependencies;
mod deploy;
mod exceptions;
mod files;
mod settings;

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::repository::Repository;
use crate::shell;

/// What `cargo xtask security-audit` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Fetch cargo-deny if it is not there
    #[arg(long)]
    install: bool,
    /// Look at the modes and the settings of this data directory too
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The rule, such as `settings.inline-secret`.
    pub rule: &'static str,
    /// A path below the root, with what in it is meant after a `#`: `config/default.toml#server.listen`.
    pub place: String,
    /// The line, where a file has lines, counted from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What would put it right.
    pub remedy: String,
}

impl Finding {
    fn new(
        rule: &'static str,
        place: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { rule, place: place.into(), line: None, message: message.into(), remedy: remedy.into() }
    }

    fn at(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    /// What an exception names. It has no line number, which would change with every edit above it.
    fn id(&self) -> String {
        format!("{}@{}", self.rule, self.place)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.id())?;
        if let Some(line) = self.line {
            write!(formatter, " (line {line})")?;
        }
        write!(formatter, ": {}\n  remedy: {}", self.message, self.remedy)
    }
}

/// How one check ended.
enum Outcome {
    /// It looked at everything it is about; what it found is among the findings.
    Checked(String),
    /// It could not look, for this reason. That is no failure, and is said.
    NotChecked(String),
}

/// One check and how it ended.
struct Check {
    name: &'static str,
    outcome: Outcome,
}

/// Everything that came out.
#[derive(Default)]
struct Report {
    checks: Vec<Check>,
    findings: Vec<Finding>,
    excused: Vec<Finding>,
}

impl Report {
    fn add(&mut self, name: &'static str, outcome: Outcome, findings: Vec<Finding>) {
        self.checks.push(Check { name, outcome });
        self.findings.extend(findings);
    }

    fn to_json(&self) -> Value {
        let finding = |finding: &Finding| {
            json!({
                "id": finding.id(), "rule": finding.rule, "place": finding.place, "line": finding.line,
                "message": finding.message, "remedy": finding.remedy,
            })
        };
        let check = |check: &Check| match &check.outcome {
            Outcome::Checked(what) => json!({ "name": check.name, "status": "checked", "detail": what }),
            Outcome::NotChecked(why) => json!({ "name": check.name, "status": "not_checked", "detail": why }),
        };
        json!({
            "ok": self.findings.is_empty(),
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "excused": self.excused.iter().map(finding).collect::<Vec<_>>(),
        })
    }

    fn tell(&self) {
        for check in &self.checks {
            match &check.outcome {
                Outcome::Checked(what) => shell::say(&format!("{}: {what}", check.name)),
                Outcome::NotChecked(why) => shell::say(&format!("{}: not checked: {why}", check.name)),
            }
        }
        for finding in &self.excused {
            shell::say(&format!("excused until its date: {}", finding.id()));
        }
        for finding in &self.findings {
            shell::say(&format!("finding: {finding}"));
        }
    }
}

/// Runs every check, tells what came out, and fails when a finding is left that nothing excuses.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let files = repository.files()?;
    let mut report = Report::default();
    dependencies::check(repository, options.install, &mut report)?;
    let (found, count) = settings::check(&files);
    report.add("settings", Outcome::Checked(format!("{count} file(s)")), found);
    let (found, count) = deploy::check(&files);
    report.add("deployment", Outcome::Checked(format!("{count} file(s)")), found);
    report.add("repository", Outcome::Checked(format!("{} files", files.len())), files::check(&files));
    report.add(
        "file modes",
        Outcome::Checked(format!("{} files", files.len())),
        files::check_modes(repository, &files)?,
    );
    if let Some(folder) = &options.data_dir {
        let (found, count) = data_directory::check(folder)?;
        report.add("data directory", Outcome::Checked(format!("{count} entries of {}", folder.display())), found);
    }
    let excuses = exceptions::read(&files)?;
    report.excused = excuses.apply(&mut report.findings, &exceptions::today());
    report.findings.sort();

    if options.json {
        print(&report.to_json());
    } else {
        report.tell();
    }
    let left_out = report.checks.iter().filter(|check| matches!(check.outcome, Outcome::NotChecked(_))).count();
    if !report.findings.is_empty() {
        bail!("the security audit has {} finding(s)", report.findings.len());
    }
    shell::say(&match left_out {
        0 => "security-audit: nothing to say".to_owned(),
        left_out => format!("security-audit: nothing to say; {left_out} check(s) could not be made, see above"),
    });
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result is the data of this command")]
fn print(value: &Value) {
    println!("{value:#}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_its_rule_its_place_and_the_way_out() {
        let finding = Finding::new("a.rule", "a/file#key", "is wrong", "make it right").at(3);
        assert_eq!(finding.to_string(), "a.rule@a/file#key (line 3): is wrong\n  remedy: make it right");
    }

    #[test]
    fn what_was_not_checked_is_in_the_report_and_no_finding() {
        let mut report = Report::default();
        report.add("advisories", Outcome::NotChecked("no network".to_owned()), Vec::new());
        let told = report.to_json();
        assert_eq!(told["ok"], true);
        assert_eq!(told["checks"][0], json!({ "name": "advisories", "status": "not_checked", "detail": "no network" }));
    }
}
