//! `holdfast config`: what is set, by whom, and whether it can be used.

use std::process::ExitCode;

use anyhow::Result;
use holdfast_embedding::secret_file;
use serde_json::{Value, json};

use super::Session;
use crate::{
    arguments::Config,
    output::{Form, count},
    settings::{Layers, Origin, Problems, SECRETS, SecretSource, reference},
};

/// Shows or checks the settings.
pub fn run(session: &Session, action: Config) -> Result<ExitCode> {
    match action {
        Config::Show { origin } => show(session, origin)?,
        Config::Check => return check(session),
        Config::Reference => session.output.line(reference::markdown().trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(session: &Session, with_origin: bool) -> Result<()> {
    let layers = session.layers();
    if !layers.problems().is_empty() {
        return Err(Problems(layers.problems().to_vec()).into());
    }
    let setting = |(key, value, origin): &(String, toml::Value, Origin)| {
        let mut setting = json!({ "key": key, "value": value });
        if with_origin {
            setting["origin"] = json!(origin.to_string());
        }
        setting
    };
    let settings: Vec<_> = layers.entries().iter().map(setting).collect();
    session.output.value(&json!({ "settings": settings }), |answer| {
        let lines = answer["settings"].as_array().into_iter().flatten().map(|setting| {
            let key = setting["key"].as_str().unwrap_or_default();
            let origin = setting["origin"].as_str().map(|origin| format!("  # {origin}")).unwrap_or_default();
            format!("{key} = {}{origin}", setting["value"])
        });
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(())
}

/// Says what would be used, or everything that is wrong. A program that asks is answered in one form either way.
fn check(session: &Session) -> Result<ExitCode> {
    let layers = session.layers();
    match layers.settings() {
        Ok(_) => {}
        Err(problems) if session.output.form() == Form::Json => {
            session.output.json(&json!({ "ok": false, "count": problems.0.len(), "problems": problems.shown() }))?;
            return Ok(ExitCode::FAILURE);
        }
        Err(problems) => return Err(problems.into()),
    }
    let entries = layers.entries();
    let set = entries.iter().filter(|(_, _, origin)| !matches!(origin, Origin::Default | Origin::Profile(_))).count();
    let file = layers.file_was_there().then(|| session.place.file.path().display().to_string());
    let answer = json!({
        "ok": true,
        "profile": layers.profile().as_str(),
        "file": file,
        "settings": entries.len(),
        "set": set,
        "secrets": secrets(&layers),
    });
    session.output.value(&answer, |answer| {
        let mut lines = vec![
            format!("the settings can be used: {}, {set} of them set by you", count(entries.len() as u64, "setting")),
            format!("profile {}", layers.profile()),
            file.map_or_else(|| "no settings file".to_owned(), |file| format!("file {file}")),
        ];
        let secrets = answer["secrets"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        lines.extend(secrets.map(|secret| format!("secret {} from {}", text(&secret["key"]), text(&secret["origin"]))));
        lines.join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Where each secret that is set comes from.
fn secrets(layers: &Layers) -> Vec<Value> {
    let origin = |key: &str| {
        if layers.secret(key).is_some() {
            return Some(layers.origin(key).to_string());
        }
        let named = layers.value(&format!("{key}_file"))?;
        Some(match SecretSource::of(named.as_str()?).ok()?? {
            SecretSource::StandardInput => "standard input, which is read at the start".to_owned(),
            SecretSource::File(path) => match secret_file::mode(&path) {
                Ok(mode) => format!("file {}, mode {mode:04o}", path.display()),
                Err(error) => format!("file {}: {error}", path.display()),
            },
        })
    };
    SECRETS.iter().filter_map(|key| Some(json!({ "key": key, "origin": origin(key)? }))).collect()
}
