//! What is read from the environment. Nothing else in the program looks at it.

use std::{ffi::OsString, path::PathBuf};

use toml::Value;

/// The model hub's address, where the hub's own variable names one.
pub const HUB_ENDPOINT: &str = "HF_ENDPOINT";

/// The prefix of a setting in the environment.
pub const PREFIX: &str = "HOLDFAST_";

/// The value of a variable that is set and not empty.
pub fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the place the lint points to")]
    let value = std::env::var(name);
    value.ok().filter(|value| !value.is_empty())
}

/// The whole environment, for those who choose from it what their services get.
pub fn whole() -> Vec<(OsString, OsString)> {
    #[expect(clippy::disallowed_methods, reason = "this is the place the lint points to")]
    let variables = std::env::vars_os();
    variables.collect()
}

/// All variables that begin with [`PREFIX`], in the order of their names.
pub fn ours() -> Vec<(String, OsString)> {
    #[expect(clippy::disallowed_methods, reason = "this is the place the lint points to")]
    let variables = std::env::vars_os();
    let named = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let mut ours: Vec<_> = named.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    ours.sort();
    ours
}

/// The variable of a setting.
pub fn name_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// The setting of a variable, if it is one.
///
/// Only names with two underscores are settings, and the few that stand outside of any section: others may be meant for
/// something else.
pub fn key_of(name: &str, outside: &[&str]) -> Option<String> {
    let key = name.strip_prefix(PREFIX)?.to_lowercase();
    (key.contains("__") || outside.contains(&key.as_str())).then(|| key.replace("__", "."))
}

/// What a variable says, as the kind of value that its setting has. What is of no such kind stays text, for whoever
/// checks it to say so.
pub fn value(text: &str, like: &Value) -> Value {
    let trimmed = text.trim();
    let read = match like {
        Value::Integer(_) => trimmed.replace('_', "").parse().ok().map(Value::Integer),
        Value::Float(_) => trimmed.parse().ok().map(Value::Float),
        Value::Boolean(_) => trimmed.parse().ok().map(Value::Boolean),
        Value::Array(_) => Some(list(trimmed)),
        Value::Table(_) => as_toml(trimmed),
        _ => None,
    };
    read.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn as_toml(text: &str) -> Option<Value> {
    toml::from_str::<toml::Table>(&format!("value = {text}")).ok()?.remove("value")
}

/// A list as TOML has it, or words with commas between them.
fn list(text: &str) -> Value {
    if text.starts_with('[')
        && let Some(list) = as_toml(text)
    {
        return list;
    }
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    Value::Array(words.map(|word| Value::String(word.to_owned())).collect())
}

/// The data directory where none is given: the platform's folder for such things, and `holdfast` in it.
///
/// Nothing where the machine does not say where this person's home is.
pub fn data_directory() -> Option<PathBuf> {
    let folder = if cfg!(target_os = "macos") {
        std::env::home_dir()?.join("Library/Application Support")
    } else {
        match variable("XDG_DATA_HOME").map(PathBuf::from) {
            // The XDG base directory specification: a relative path is invalid and ignored.
            Some(folder) if folder.is_absolute() => folder,
            _ => std::env::home_dir()?.join(".local/share"),
        }
    };
    Some(folder.join("holdfast"))
}

/// Whether this person asked for output without colours and bold type (<https://no-color.org>).
pub fn no_color() -> bool {
    variable("NO_COLOR").is_some() || variable("TERM").is_some_and(|term| term == "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_read_as_its_setting_is() {
        let check = |text: &str, like: Value, expected: &str| assert_eq!(value(text, &like).to_string(), expected);
        check("10_000", Value::Integer(0), "10000");
        check("many", Value::Integer(0), "\"many\"");
        check("0.5", Value::Float(0.0), "0.5");
        check("true", Value::Boolean(false), "true");
        check("yes", Value::Boolean(false), "\"yes\"");
        check("123", Value::String(String::new()), "\"123\"");
        check("hub, folder:/a ,", Value::Array(Vec::new()), "[\"hub\", \"folder:/a\"]");
        check("['hub']", Value::Array(Vec::new()), "[\"hub\"]");
        check("", Value::Array(Vec::new()), "[]");
        check("{ a.b = 1 }", Value::Table(toml::Table::new()), "{ a = { b = 1 } }");
        check("a=1", Value::Table(toml::Table::new()), "\"a=1\"");
    }

    #[test]
    fn names_and_keys_are_each_others() {
        assert_eq!(name_of("server.max_body_bytes"), "HOLDFAST_SERVER__MAX_BODY_BYTES");
        assert_eq!(key_of("HOLDFAST_SERVER__MAX_BODY_BYTES", &[]).as_deref(), Some("server.max_body_bytes"));
        assert_eq!(key_of("HOLDFAST_PROFILE", &["profile"]).as_deref(), Some("profile"));
        assert_eq!(key_of("HOLDFAST_TEST_BINARY", &["profile"]), None);
    }
}
