//! What is read from the environment besides settings. Nothing else in the program looks at it.

use std::path::PathBuf;

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

/// The names of all variables that begin with [`PREFIX`].
pub fn our_names() -> Vec<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the place the lint points to")]
    let variables = std::env::vars_os();
    variables.filter_map(|(name, _)| name.into_string().ok()).filter(|name| name.starts_with(PREFIX)).collect()
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
