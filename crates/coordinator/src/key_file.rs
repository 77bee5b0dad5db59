//! Reads the key of a provider from its file: one that nobody else on the machine can read.

use std::{fs::File, io::Read, os::unix::fs::PermissionsExt, path::Path};

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::TurnError;

/// The longest key that is read.
const KEY_BYTES_MAX: u64 = 16 << 10;
/// Others on the machine.
const OTHERS: u32 = 0o077;

/// Reads a key. Space around it does not count.
pub(crate) fn read(path: &Path) -> Result<SecretString, TurnError> {
    let invalid = |problem: String| TurnError::Invalid { field: "key_file".to_owned(), problem };
    if !path.is_absolute() {
        return Err(invalid("must be an absolute path".to_owned()));
    }
    let mut file = File::open(path).map_err(|error| invalid(format!("cannot be opened: {}", error.kind())))?;
    let metadata = file.metadata().map_err(|error| invalid(format!("cannot be read: {}", error.kind())))?;
    if !metadata.is_file() {
        return Err(invalid("is not a file".to_owned()));
    }
    if metadata.permissions().mode() & OTHERS != 0 {
        return Err(invalid("can be read by others on this machine; say `chmod 600` to it".to_owned()));
    }
    let mut text = Zeroizing::new(String::new());
    let read = file.by_ref().take(KEY_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| invalid(format!("cannot be read: {}", error.kind())))?;
    let key = text.trim();
    if key.is_empty() || text.len() as u64 > KEY_BYTES_MAX {
        return Err(invalid(format!("must have a key of 1 to {KEY_BYTES_MAX} bytes in it")));
    }
    Ok(SecretString::from(key))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "  sk-secret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&path).unwrap().expose_secret(), "sk-secret");
        fs::write(&path, " \n").unwrap();
        assert!(read(&path).is_err());
        assert!(read(Path::new("key")).is_err() && read(folder.path()).is_err() && read(&folder.path().join("x")).is_err());
    }
}
