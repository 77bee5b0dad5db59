//! `holdfast config`: what is set, by whom, and whether it can be used.

use anyhow::Result;
use figment::value::Value;
use serde_json::json;

use super::Session;
use crate::{
    arguments::Config,
    output::count,
    settings::{Layers, Origin, reference},
};

/// Shows or checks the settings.
pub fn run(session: &Session, action: Config) -> Result<()> {
    match action {
        Config::Show { origin } => show(session, origin),
        Config::Check => check(session),
        Config::Reference => Ok(session.output.line(reference::markdown().trim_end())?),
    }
}

fn show(session: &Session, with_origin: bool) -> Result<()> {
    let entries = Layers::read(&session.place, &session.flags)?.entries();
    let setting = |(key, value, origin): &(String, Value, Origin)| {
        let mut setting = json!({ "key": key, "value": value });
        if with_origin {
            setting["origin"] = json!(origin.to_string());
        }
        setting
    };
    let settings: Vec<_> = entries.iter().map(setting).collect();
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

fn check(session: &Session) -> Result<()> {
    let layers = Layers::read(&session.place, &session.flags)?;
    layers.settings()?;
    let entries = layers.entries();
    let set = entries.iter().filter(|(_, _, origin)| *origin != Origin::Default).count();
    session.output.value(&json!({ "ok": true, "settings": entries.len(), "set": set }), |_| {
        format!("the settings can be used: {}, {set} of them set by you", count(entries.len() as u64, "setting"))
    })?;
    Ok(())
}
