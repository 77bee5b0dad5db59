//! A secret that lies in a file: how it is read, and which files are refused.
//!
//! One way for every such file, whoever names it: the settings or a remote model. What was read is wiped from memory
//! when it is dropped and never printed. The file is not watched here.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use secrecy::SecretString;
use zeroize::Zeroizing;

/// The longest secret, in bytes: keys and tokens have some hundred.
pub const SECRET_BYTES_MAX: usize = 8 << 10;
/// What a file's mode may not have: anything for its group or for others.
const LOOSE: u32 = 0o077;

/// Why there is no secret in a file. No path and nothing of its content is told.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It is not there, or not for us.
    #[error("cannot be read")]
    Unreadable(#[source] io::Error),

    /// It is a folder, a socket or the like.
    #[error("is not a file")]
    NotAFile,

    /// Others on this machine can read or change it.
    #[error("has mode {mode:04o}: others on this machine can get at it")]
    Loose {
        /// Its permission bits.
        mode: u32,
    },

    /// There is nothing in it.
    #[error("is empty")]
    Empty,

    /// It has more than any secret.
    #[error("has more than {SECRET_BYTES_MAX} bytes")]
    TooLong,

    /// It has something that is neither text nor white space around it.
    #[error("has something other than one line of printable text")]
    NotText,
}

impl SecretFileError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "give an absolute path of a file that this user can read",
            Self::NotAFile => "give a file",
            Self::Loose { .. } => "run `chmod 600` on it (Kubernetes: `defaultMode: 0400` on the volume)",
            Self::Empty => "write the secret into it",
            Self::TooLong | Self::NotText => "write the secret into it, and nothing else",
        }
    }
}

/// The secret in a file, without the white space around it.
///
/// # Errors
///
/// [`SecretFileError`] for a file that has none, and for one that others can read.
pub fn read(path: &Path) -> Result<SecretString, SecretFileError> {
    // Opening a pipe would wait for somebody to write to it.
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path);
    let file = opened.map_err(SecretFileError::Unreadable)?;
    // Of what was opened, not of what the path may mean by now.
    let metadata = file.metadata().map_err(SecretFileError::Unreadable)?;
    if !metadata.is_file() {
        return Err(SecretFileError::NotAFile);
    }
    let mode = metadata.mode() & 0o7777;
    if mode & LOOSE != 0 {
        return Err(SecretFileError::Loose { mode });
    }
    from_reader(file)
}

/// The secret that a reader has, to its end.
///
/// # Errors
///
/// As [`read`], but for modes.
pub fn from_reader(reader: impl Read) -> Result<SecretString, SecretFileError> {
    // As large as it can get: a buffer that grows leaves what it had behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 1));
    let limit = SECRET_BYTES_MAX as u64 + 1;
    reader.take(limit).read_to_end(&mut bytes).map_err(SecretFileError::Unreadable)?;
    if bytes.len() > SECRET_BYTES_MAX {
        return Err(SecretFileError::TooLong);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretFileError::NotText)?.trim();
    if text.is_empty() {
        return Err(SecretFileError::Empty);
    }
    if text.chars().any(char::is_control) {
        return Err(SecretFileError::NotText);
    }
    Ok(SecretString::from(text))
}

/// The permission bits of a file, for those who tell about it.
///
/// # Errors
///
/// Where the file cannot be looked at.
pub fn mode(path: &Path) -> io::Result<u32> {
    Ok(File::open(path)?.metadata()?.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt,
    };

    use secrecy::ExposeSecret;

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_private_file_gives_its_line() {
        for mode in [0o600, 0o400, 0o700] {
            let (_folder, path) = file(b"  sk-1\n", mode);
            assert_eq!(read(&path).unwrap().expose_secret(), "sk-1");
        }
    }

    #[test]
    fn what_others_can_get_at_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o666, 0o620, 0o601] {
            let (_folder, path) = file(b"sk-1", mode);
            let refused = read(&path).unwrap_err();
            assert!(matches!(refused, SecretFileError::Loose { mode: told } if told == mode), "{refused}");
            assert!(refused.hint().contains("chmod 600"));
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_without_repeating_it() {
        let check = |content: &[u8], expected: &str| {
            let (_folder, path) = file(content, 0o600);
            let told = format!("{0} {0:?}", read(&path).unwrap_err());
            assert!(told.contains(expected) && !told.contains("sk-"), "{told}");
        };
        check(b" \n", "is empty");
        check(b"sk-1\nsk-2", "one line");
        check(b"sk-\xff", "one line");
        check(&b"sk-".repeat(4_000), "more than");
        let (folder, _path) = file(b"", 0o600);
        assert!(matches!(read(folder.path()), Err(SecretFileError::NotAFile)));
        assert!(matches!(read(&folder.path().join("none")), Err(SecretFileError::Unreadable(_))));
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        assert!(matches!(read(&path), Err(SecretFileError::NotAFile)));
    }

    #[test]
    fn it_does_not_print() {
        let secret = from_reader(&b"sk-1"[..]).unwrap();
        assert!(!format!("{secret:?}").contains("sk-1"));
    }
}
