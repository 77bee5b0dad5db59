//! Secrets among the settings: by file, environment or standard input, never in a settings file, never printed.
//!
//! A secret `section.name` has a setting `section.name_file` beside it, which is an ordinary one: a path, or `-` for
//! standard input. The secret itself can come from the environment only.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use holdfast_embedding::secret_file;
use secrecy::SecretString;

/// The settings that are secrets.
pub const SECRETS: [&str; 1] = ["models.hub_token"];

/// What stands for standard input where a path is asked for.
const STANDARD_INPUT: &str = "-";

/// What is shown of a secret that is set.
pub const HIDDEN: &str = "(secret)";

/// What standard input is to this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// It may have a secret.
    Secret,
    /// It belongs to something else, or is not to be waited for.
    #[default]
    NotOurs,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file that only its owner can read.
    File(PathBuf),
    /// Standard input, to its end.
    StandardInput,
}

/// Why there is no secret: what is wrong, and what to do.
pub type Refused = (String, String);

impl Source {
    /// What a `*_file` setting says; nothing where it is empty.
    ///
    /// # Errors
    /// [`Refused`] for a path that depends on where the program was started.
    pub fn of(text: &str) -> Result<Option<Self>, Refused> {
        if text.is_empty() {
            return Ok(None);
        }
        if text == STANDARD_INPUT {
            return Ok(Some(Self::StandardInput));
        }
        match super::absolute(text) {
            Some(path) => Ok(Some(Self::File(path))),
            None => Err((format!("names the file {text:?}"), "give an absolute path, or - for standard input".into())),
        }
    }

    /// The secret. Nothing for one on standard input that is not ours.
    ///
    /// # Errors
    /// [`Refused`] where there is none, or where others could read it.
    pub fn read(&self, input: Input) -> Result<Option<SecretString>, Refused> {
        match (self, input) {
            (Self::File(path), _) => read_file(path).map(Some),
            (Self::StandardInput, Input::Secret) => read_standard_input().map(Some),
            (Self::StandardInput, Input::NotOurs) => Ok(None),
        }
    }
}

fn read_file(path: &Path) -> Result<SecretString, Refused> {
    secret_file::read(path).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
        (format!("names {}, which {error}{cause}", path.display()), error.hint().to_owned())
    })
}

/// Read once: it is at its end then, and settings are read again while the program runs.
fn read_standard_input() -> Result<SecretString, Refused> {
    static READ: OnceLock<Result<SecretString, Refused>> = OnceLock::new();
    READ.get_or_init(|| {
        let refused = |what: String| (what, "pipe the secret into this command, or name a file".to_owned());
        let input = io::stdin();
        if input.is_terminal() {
            return Err(refused("is to be read from standard input, which is a terminal".into()));
        }
        secret_file::from_reader(input.lock()).map_err(|error| refused(format!("on standard input {error}")))
    })
    .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_path_or_standard_input() {
        assert_eq!(Source::of(""), Ok(None));
        assert_eq!(Source::of("-"), Ok(Some(Source::StandardInput)));
        assert_eq!(Source::of("/run/secrets/x"), Ok(Some(Source::File("/run/secrets/x".into()))));
        assert!(Source::of("x").unwrap_err().1.contains("absolute"));
    }

    #[test]
    fn standard_input_of_somebody_else_is_left_alone() {
        assert!(Source::StandardInput.read(Input::NotOurs).unwrap().is_none());
    }

    #[test]
    fn what_is_refused_names_the_file_and_not_its_content() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "hf_secret").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let (what, remedy) = Source::File(path.clone()).read(Input::NotOurs).unwrap_err();
        assert!(what.contains("mode 0640") && what.contains("token") && !what.contains("hf_secret"), "{what}");
        assert!(remedy.contains("chmod 600"), "{remedy}");
        std::fs::remove_file(&path).unwrap();
        assert!(Source::File(path).read(Input::NotOurs).unwrap_err().0.contains("No such file"));
    }
}
