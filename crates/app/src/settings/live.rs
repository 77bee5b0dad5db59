//! Which settings take effect while the program runs, and which at its next start.

use std::collections::BTreeSet;

use super::Layers;

/// Settings that take effect when the file is read again; a name that ends in a dot stands for all below it.
const LIVE: [&str; 12] = [
    "profile",
    "log.",
    "limits.",
    "server.allowed_hosts",
    "server.allowed_origins",
    "server.client_timeout_s",
    "server.max_body_bytes",
    "server.max_concurrent_requests",
    "server.max_connections",
    "server.proxy_header",
    "server.request_timeout_s",
    "server.trusted_proxies",
];

/// Whether a change of this setting takes effect while the program runs.
pub fn is_live(key: &str) -> bool {
    LIVE.iter().any(|live| *live == key || (live.ends_with('.') && key.starts_with(live)))
}

/// The settings that differ between two readings, in the order of their keys.
pub fn differences(one: &Layers, other: &Layers) -> Vec<String> {
    let differs = |key: &&str| one.shown(key) != other.shown(key);
    let keys: BTreeSet<&str> = one.keys().chain(other.keys()).collect();
    keys.into_iter().filter(differs).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use toml::Value;

    use super::*;
    use crate::settings::{Flags, layers::from_text};

    /// Another value than the default, as a settings file has it.
    fn another(key: &str, default: &Value) -> String {
        match (key, default) {
            ("server.listen" | "server.listen_tls", _) => "'127.0.0.1:1'".to_owned(),
            ("server.proxy_header", _) => "'forwarded'".to_owned(),
            ("server.allowed_hosts", _) => "['kb.example']".to_owned(),
            ("server.allowed_origins", _) => "['https://kb.example']".to_owned(),
            ("server.trusted_proxies", _) => "['10.0.0.0/8']".to_owned(),
            (_, Value::Integer(number)) => (number + 1).to_string(),
            (_, Value::Boolean(is_so)) => (!is_so).to_string(),
            _ => panic!("{key} has no other value here: give it one"),
        }
    }

    /// The server takes all of its limits over at a reload (`Server::reconfigure`), so what changes them is live, and what
    /// does not waits for the next start.
    #[test]
    fn what_the_server_takes_over_is_called_live_and_nothing_else_of_it() {
        let defaults = from_text("", &Flags::default());
        let limits = |text: &str| format!("{:?}", from_text(text, &Flags::default()).settings().unwrap().server);
        let before = limits("");
        for (key, default, _) in defaults.entries() {
            let Some((section @ ("server" | "limits"), name)) = key.split_once('.') else { continue };
            let more = if key == "server.redirect_http" { "listen_tls = '127.0.0.1:2'\n" } else { "" };
            let changed = limits(&format!("[{section}]\n{more}{name} = {}", another(&key, &default)));
            assert_eq!(changed != before, is_live(&key), "{key}");
        }
    }

    #[test]
    fn each_live_setting_is_one_there_is() {
        let layers = from_text("", &Flags::default());
        for live in LIVE {
            assert!(layers.keys().any(|key| key == live || (live.ends_with('.') && key.starts_with(live))), "{live}");
        }
    }

    #[test]
    fn what_changed_is_found_whatever_layer_it_comes_from() {
        let (one, other) = ("", "profile = 'prod'\n[models]\nthreads = 3\n[log]\nlevel = 'info'");
        let [one, other] = [one, other].map(|text| from_text(text, &Flags::default()));
        let changed = differences(&one, &other);
        let expected = ["log.format", "log.max_total_bytes", "models.deadline_s", "models.threads", "profile"];
        assert!(expected.iter().all(|key| changed.iter().any(|changed| changed == key)), "{changed:?}");
        assert!(!changed.iter().any(|key| key == "log.level"), "it has the same value as before");
        let (live, at_start): (Vec<_>, Vec<_>) = changed.into_iter().partition(|key| is_live(key));
        assert!(live.iter().any(|key| key == "log.format"));
        assert_eq!(at_start, ["models.deadline_s", "models.threads", "telemetry.trace_ratio"]);
    }
}
