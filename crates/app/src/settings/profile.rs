//! Profiles: sets of values for a kind of use, between the defaults and the settings file.
//!
//! Each is a file under `config/profiles/` in the repository, built in. It has nothing but what differs from the
//! defaults, each with its reason.

use std::fmt;

/// Which kind of use the settings are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// The defaults as they are: one person on one machine.
    #[default]
    None,
    /// Somebody works on it or with it.
    Dev,
    /// A rehearsal of `prod`.
    Staging,
    /// Others depend on it.
    Prod,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Dev, Self::Staging, Self::Prod];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Dev => "dev",
            Self::Staging => "staging",
            Self::Prod => "prod",
        }
    }

    /// The one of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == word)
    }

    /// What differs from the defaults, as an annotated settings file.
    pub const fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Dev => include_str!("../../../../config/profiles/dev.toml"),
            Self::Staging => include_str!("../../../../config/profiles/staging.toml"),
            Self::Prod => include_str!("../../../../config/profiles/prod.toml"),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{DEFAULTS, Flags, Origin, file, layers::from_text};

    #[test]
    fn a_profile_has_nothing_but_differences_that_can_be_used() {
        let defaults = file::parse(DEFAULTS).values;
        for profile in Profile::ALL {
            let contents = file::parse(profile.text());
            assert!(contents.faults.is_empty(), "{profile}: {:?}", contents.faults);
            assert_eq!(contents.values.is_empty(), profile == Profile::None);
            for line in &contents.values {
                let default = defaults.iter().find(|default| default.key == line.key);
                let default = default.unwrap_or_else(|| panic!("{profile}: {} is no setting", line.key));
                assert_ne!(default.value, line.value, "{profile}: {} is the default", line.key);
            }
            let layers = from_text("", &Flags { profile: Some(profile), ..Flags::default() });
            layers.settings().unwrap();
            for line in contents.values {
                assert_eq!(layers.origin(&line.key), Origin::Profile(profile));
                assert_eq!(layers.value(&line.key), Some(line.value));
            }
        }
    }

    #[test]
    fn every_value_of_a_profile_has_its_reason() {
        for profile in Profile::ALL {
            let lines: Vec<&str> = profile.text().lines().collect();
            for (at, line) in lines.iter().enumerate() {
                assert!(!line.contains(" = ") || lines[at - 1].starts_with('#'), "{profile}: {line}");
            }
        }
    }

    #[test]
    fn the_file_and_the_environment_win_over_a_profile() {
        let layers = from_text("profile = 'prod'\n[log]\nformat = 'text'", &Flags::default());
        assert_eq!(layers.profile(), Profile::Prod);
        assert!(matches!(layers.origin("log.format"), Origin::File { line: Some(3), .. }));
        assert_eq!(layers.origin("server.request_timeout_s"), Origin::Profile(Profile::Prod));
        let dev = from_text("profile = 'prod'", &Flags { profile: Some(Profile::Dev), ..Flags::default() });
        assert_eq!((dev.profile(), dev.origin("profile")), (Profile::Dev, Origin::Flag("--profile")));
    }
}
