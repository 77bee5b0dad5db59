//! `holdfast doctor`: what is wrong with what is stored, and putting it right.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use super::Session;
use crate::{arguments, output::clean_line, transport::Request};

/// Looks, and repairs if it may. Fails where something is left that is wrong.
pub async fn run(session: &Session, arguments: arguments::Doctor) -> Result<ExitCode> {
    let output = session.output;
    session
        .with_program(async |transport| {
            let answer = transport.send(Request::post("/api/v1/doctor", json!({ "fix": arguments.fix }))).await?;
            output.value(&answer, text)?;
            let is_left = findings(&answer).iter().any(|finding| finding["fixed"] != true);
            Ok(if is_left { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        })
        .await
}

fn findings(answer: &Value) -> &[Value] {
    answer["findings"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(answer: &Value) -> String {
    let findings = findings(answer);
    if findings.is_empty() {
        return "nothing is wrong".to_owned();
    }
    let mut lines: Vec<String> = findings
        .iter()
        .map(|finding| {
            let state = if finding["fixed"] == true { "fixed" } else { "found" };
            let word = |name: &str| clean_line(finding[name].as_str().unwrap_or_default());
            format!("{state}: {} ({})", word("detail"), word("code"))
        })
        .collect();
    if findings.iter().any(|finding| finding["fixed"] != true) {
        lines.push("`holdfast doctor --fix` puts right what can be".to_owned());
    }
    lines.join("\n")
}
