//! Rules about settings: listeners on loopback or behind TLS, limits on, nothing allowed to everybody, no secret inline.
//!
//! Owns which files are settings: the defaults that the program carries, and every other TOML file below `config/` and
//! `deploy/`. What a setting may be at all is for the program to check; here is asked whether one should trust it.

use std::net::{IpAddr, SocketAddr};

use toml::{Table, Value};

use crate::repository::TrackedFile;

use super::Finding;

/// Where settings lie in the repository.
const FOLDERS: [&str; 2] = ["config/", "deploy/"];
/// What is written in the place of anybody.
const ANYBODY: [&str; 4] = ["*", "0.0.0.0/0", "::/0", "null"];
/// Keys that name whom something is allowed to.
const ALLOWANCES: [&str; 5] = ["allowed_hosts", "allowed_origins", "cors_origins", "trusted_proxies", "proxies"];
/// Endings of keys whose value is a secret. With `_file` behind, it is the name of a file and none.
const SECRETS: [&str; 6] = ["password", "passphrase", "secret", "token", "api_key", "private_key"];
/// Beginnings of keys that switch protection off.
const UNSAFE_SWITCHES: [&str; 3] = ["insecure", "allow_insecure", "disable_"];

/// Findings in every file of settings, and how many files there are.
pub fn check(files: &[TrackedFile]) -> (Vec<Finding>, usize) {
    let is_settings = |file: &&TrackedFile| {
        file.path.ends_with(".toml") && FOLDERS.iter().any(|folder| file.path.starts_with(folder))
    };
    let mut findings = Vec::new();
    let mut count = 0;
    for file in files.iter().filter(is_settings) {
        count += 1;
        findings.extend(check_text(&file.path, file.text().unwrap_or_default()));
    }
    (findings, count)
}

/// Findings in one file.
pub fn check_text(path: &str, text: &str) -> Vec<Finding> {
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            let remedy = "correct it; `holdfast config check` tells the place";
            return vec![Finding::new("settings.unreadable", path, format!("is not TOML: {error}"), remedy)];
        }
    };
    let mut findings = Vec::new();
    walk(&Value::Table(table), "", &mut |key, value| findings.extend(check_value(path, key, value)));
    findings
}

/// Every value that is no table, under its dotted key.
fn walk(value: &Value, key: &str, found: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Table(table) => {
            for (name, inner) in table {
                let below = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                walk(inner, &below, found);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_table) => {
            list.iter().for_each(|inner| walk(inner, key, found));
        }
        _ => found(key, value),
    }
}

fn check_value(path: &str, key: &str, value: &Value) -> Option<Finding> {
    let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
    let finding =
        |rule, message: String, remedy: &str| Some(Finding::new(rule, format!("{path}#{key}"), message, remedy));
    if let Some(address) = value.as_str().filter(|_| is_listener(key, name))
        && !is_private(address)
    {
        let message = format!("listens on {address} without TLS");
        return finding("settings.open-listener", message, "listen on 127.0.0.1, or set server.listen_tls");
    }
    if (name == "enabled" && key.ends_with("limits.enabled")) && value.as_bool() == Some(false) {
        return finding(
            "settings.limits-off",
            "limits are off".to_owned(),
            "leave limits on; raise the one in the way",
        );
    }
    if ALLOWANCES.contains(&name) {
        let texts = value.as_array().map_or_else(|| vec![value], |list| list.iter().collect());
        if let Some(anybody) = texts.iter().filter_map(|text| text.as_str()).find(|text| ANYBODY.contains(text)) {
            let message = format!("lets in {anybody:?}, which is anybody");
            return finding("settings.open-allowance", message, "name those who are meant");
        }
    }
    if UNSAFE_SWITCHES.iter().any(|switch| name.starts_with(switch)) && value.as_bool() == Some(true) {
        return finding("settings.unsafe-switch", "switches protection off".to_owned(), "leave it off");
    }
    let text = value.as_str()?;
    if (SECRETS.iter().any(|secret| name.ends_with(secret)) && !text.is_empty()) || has_password(text) {
        return finding(
            "settings.inline-secret",
            "holds a secret in plain text".to_owned(),
            "give it by file: the same key with `_file`, and the name of a file of mode 0600",
        );
    }
    None
}

/// Whether a key says where to listen without TLS.
fn is_listener(key: &str, name: &str) -> bool {
    let listens = name == "listen" || name.starts_with("listen_") || name.ends_with("_listen") || name == "bind";
    listens && !name.contains("tls") && !key.starts_with("tls.")
}

/// Whether only this machine can reach an address; an empty one is no listener.
pub fn is_private(address: &str) -> bool {
    let host = match address.parse::<SocketAddr>() {
        Ok(address) => return address.ip().is_loopback(),
        Err(_) => address.rsplit_once(':').map_or(address, |(host, _)| host),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    address.is_empty() || bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether an address carries a password, as in `https://user:password@host`.
pub fn has_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return false };
    user.split_once(':').is_some_and(|(_, password)| !password.is_empty() && !password.starts_with(['$', '<', '{']))
}

#[cfg(test)]
mod tests {
    use crate::repository::file;

    use super::*;

    fn rules(text: &str) -> Vec<&'static str> {
        check_text("config/x.toml", text).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_listener_off_loopback_needs_tls() {
        for open in ["0.0.0.0:8088", "[::]:8088", "192.168.1.2:80", "example.org:80"] {
            assert_eq!(rules(&format!("[server]\nlisten = '{open}'\n")), ["settings.open-listener"], "{open}");
            assert_eq!(rules(&format!("[metrics]\nlisten = '{open}'\n")), ["settings.open-listener"], "{open}");
            assert!(rules(&format!("[server]\nlisten_tls = '{open}'\n")).is_empty(), "{open}");
        }
        for closed in ["127.0.0.1:8088", "[::1]:0", "localhost:1", ""] {
            assert!(rules(&format!("[server]\nlisten = '{closed}'\n")).is_empty(), "{closed}");
        }
    }

    #[test]
    fn limits_stay_on() {
        assert_eq!(rules("[limits]\nenabled = false\n"), ["settings.limits-off"]);
        assert!(rules("[limits]\nenabled = true\n[cache]\nenabled = false\n").is_empty());
    }

    #[test]
    fn nothing_is_allowed_to_anybody() {
        assert_eq!(rules("[server]\nallowed_origins = ['https://a.example', '*']\n"), ["settings.open-allowance"]);
        assert_eq!(rules("[limits]\ntrusted_proxies = ['0.0.0.0/0']\n"), ["settings.open-allowance"]);
        assert!(rules("[server]\nallowed_origins = ['https://a.example']\ntrusted_proxies = []\n").is_empty());
    }

    #[test]
    fn a_switch_that_takes_protection_away_stays_off() {
        assert_eq!(rules("[server]\nallow_insecure_listener = true\n"), ["settings.unsafe-switch"]);
        assert!(rules("[server]\nallow_insecure_listener = false\n").is_empty());
    }

    #[test]
    fn a_secret_stands_in_a_file_of_its_own() {
        assert_eq!(rules("[hub]\ntoken = 'abc'\n"), ["settings.inline-secret"]);
        assert_eq!(rules("[hub]\nurl = 'https://me:hunter2@example.org/x'\n"), ["settings.inline-secret"]);
        assert!(rules("[hub]\ntoken = ''\ntoken_file = 'secrets/hub'\nurl = 'https://example.org/a@b:c'\n").is_empty());
        assert!(rules("[models]\nmax_tokens = 3\n").is_empty());
    }

    #[test]
    fn every_file_of_settings_is_read_and_no_other() {
        let bad = "[limits]\nenabled = false\n";
        let files = [file("config/default.toml", ""), file("config/dev.toml", bad), file("crates/a/x.toml", bad)];
        let (found, count) = check(&files);
        assert_eq!((found.len(), count), (1, 2));
        assert_eq!(rules("[limits"), ["settings.unreadable"]);
    }
}
