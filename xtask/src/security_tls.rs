//! `cargo xtask security-tls`: what two independent judges say of the HTTPS listener.
//!
//! Starts the program on loopback with a certificate of its own authority, and lets `sslscan` and `testssl.sh` look at
//! protocols, ciphers and their order, renegotiation, compression and the known weaknesses. Fails on whatever is weak.
//! What is accepted all the same is a list with its reasons, in [`ACCEPTED`].

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::repository::Repository;
use crate::shell;

/// What `security-tls` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Judge this program instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// The judges, and the Debian packages that have them.
const TOOLS: [(&str, &str); 3] = [("sslscan", "sslscan"), ("testssl", "testssl.sh"), ("hexdump", "bsdextrautils")];

/// Findings of testssl.sh that are none here, by the beginning of their names.
const ACCEPTED: [(&str, &str); 4] = [
    (
        "cert_revocation",
        "an authority on one machine has no place to publish revocations; `tls init --new-authority` replaces it",
    ),
    ("HSTS", "a host that is also reached over HTTP on loopback by the same name must not be pinned to HTTPS"),
    ("engine_problem", "about the judge: its OpenSSL knows no GOST"),
    (
        "sessionresumption_ticket",
        "about the judge: its probe does not get through; the tests of the server resume sessions",
    ),
];

/// What sslscan has to say, and must not say.
const DEMANDED: [&str; 6] = [
    "TLSv1.0   disabled",
    "TLSv1.1   disabled",
    "TLSv1.2   enabled",
    "TLSv1.3   enabled",
    "Session renegotiation not supported",
    "Preferred TLSv1.2  256 bits  ECDHE-ECDSA-AES256-GCM-SHA384",
];
const REFUSED: [&str; 9] = [" RC4", " DES", "3DES", " NULL", "-CBC", "CBC-SHA", " MD5", "anon", " EXP"];

/// Builds the program and has it judged.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    for (tool, package) in TOOLS {
        ensure!(shell::find_program(tool).is_some(), "`{tool}` is missing\nhint: apt-get install {package}");
    }
    let program = match &options.binary {
        Some(binary) => binary.clone(),
        None => build(repository)?,
    };
    let folder = repository.target_folder()?.join("security-tls");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let data = folder.join("data");
    shell::run(shell::command(&program).arg("--data-dir").arg(&data).args(["tls", "init"]).stdout(Stdio::null()))?;
    let server = Listening::start(&program, &data)?;
    let mut findings = sslscan(&server.address)?;
    findings.extend(testssl(&server.address, &data.join("tls/ca.pem"), &folder.join("testssl.json"))?);
    drop(server);
    std::fs::remove_dir_all(&folder)?;
    if findings.is_empty() {
        shell::say("xtask security-tls: nothing weak");
        return Ok(());
    }
    bail!("{} finding(s):\n  {}", findings.len(), findings.join("\n  "))
}

fn build(repository: &Repository) -> Result<PathBuf> {
    let mut build = shell::command("cargo");
    shell::run(build.current_dir(&repository.root).args(["build", "--workspace", "--bins"]))?;
    Ok(repository.target_folder()?.join("debug/holdfast"))
}

/// The program while it is judged.
struct Listening {
    process: Child,
    address: String,
}

impl Listening {
    fn start(program: &Path, data: &Path) -> Result<Self> {
        let mut command = shell::command(program);
        command.arg("--data-dir").arg(data).args(["up", "--json", "--listen", "127.0.0.1:0"]);
        command.args(["--listen-tls", "127.0.0.1:0"]).env("HOLDFAST_LOG__LEVEL", "error");
        // No model is needed to agree on encryption.
        command.env("HOLDFAST_MODELS__SOURCES", "folder:/nonexistent").stdout(Stdio::piped());
        let mut process = command.spawn().context("failed to start the program")?;
        let output = process.stdout.take().context("no output to read")?;
        let mut server = Self { process, address: String::new() };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line).with_context(|| format!("the program said {line:?}"))?;
        let url = said["tls_url"].as_str().context("it does not listen with TLS")?;
        // The judges want a name, as clients use one.
        server.address = url.replace("https://127.0.0.1", "localhost");
        Ok(server)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn sslscan(address: &str) -> Result<Vec<String>> {
    let told = shell::output(shell::command("sslscan").args(["--no-colour", address]))?;
    Ok(judge_sslscan(&told))
}

fn judge_sslscan(told: &str) -> Vec<String> {
    let missing = DEMANDED.iter().filter(|line| !told.contains(**line)).map(|line| format!("sslscan: not {line:?}"));
    let ciphers = told.lines().filter(|line| line.starts_with("Preferred") || line.starts_with("Accepted"));
    let weak = ciphers.clone().filter(|line| REFUSED.iter().any(|word| line.contains(word)));
    let none = ciphers.clone().next().is_none().then(|| "sslscan: it agreed on no cipher".to_owned());
    missing.chain(weak.map(|line| format!("sslscan: weak: {line}"))).chain(none).collect()
}

fn testssl(address: &str, authority: &Path, report: &Path) -> Result<Vec<String>> {
    let mut testssl = shell::command("testssl");
    testssl.args(["--quiet", "--color", "0", "--severity", "LOW", "--nodns", "none", "--warnings", "off"]);
    testssl.arg("--add-ca").arg(authority).arg("--jsonfile").arg(report).arg(address).stdout(Stdio::null());
    // Its exit code counts findings, those that are accepted included.
    testssl.status().context("failed to start testssl")?;
    let text = std::fs::read_to_string(report).context("testssl.sh wrote no report")?;
    judge_testssl(&serde_json::from_str(&text).context("testssl.sh wrote no JSON")?)
}

fn judge_testssl(report: &Value) -> Result<Vec<String>> {
    let entries = report.as_array().context("the report is no list")?;
    let word = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let is_harmless = |severity: &str| ["OK", "INFO", "DEBUG"].contains(&severity);
    let is_accepted = |id: &str| ACCEPTED.iter().any(|(name, _)| id.starts_with(name));
    Ok(entries
        .iter()
        .filter(|entry| !is_harmless(&word(entry, "severity")) && !is_accepted(&word(entry, "id")))
        .map(|entry| {
            format!("testssl.sh: {} {}: {}", word(entry, "severity"), word(entry, "id"), word(entry, "finding"))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_weak_or_missing_is_found() {
        let good = format!("{}\nAccepted  TLSv1.3  256 bits  TLS_AES_256_GCM_SHA384\n", DEMANDED.join("\n"));
        assert_eq!(judge_sslscan(&good), Vec::<String>::new());
        let weak = format!("{good}Accepted  TLSv1.2  256 bits  ECDHE-RSA-AES256-CBC-SHA\n");
        assert_eq!(judge_sslscan(&weak).len(), 1);
        assert_eq!(judge_sslscan("").len(), DEMANDED.len() + 1);
    }

    #[test]
    fn only_what_is_accepted_is_passed_over() {
        let entry = |id: &str, severity: &str| json!({ "id": id, "severity": severity, "finding": "x" });
        let report = json!([entry("cert_revocation", "HIGH"), entry("BREACH", "OK"), entry("RC4", "HIGH")]);
        assert_eq!(judge_testssl(&report).unwrap(), ["testssl.sh: HIGH RC4: x"]);
        assert!(judge_testssl(&json!({})).is_err());
    }
}
