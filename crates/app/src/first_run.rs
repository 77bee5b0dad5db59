//! What a first run leaves behind: a settings file to edit, and an admin key to use.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::Result;
use holdfast_storage::{
    Caller, Role, Storage, StorageError,
    keys::{KeyTerms, Secret},
};

use crate::settings::{FILE_NAME, reference};

/// What the first key is called.
pub const ADMIN: &str = "admin";

/// Writes the annotated settings, all commented out, unless there is a file already. Tells whether it did.
pub fn write_settings(data_dir: &Path) -> Result<bool, StorageError> {
    let path = data_dir.join(FILE_NAME);
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = match created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => Err(error),
        Ok(mut file) => file.write_all(reference::commented_out().as_bytes()),
    };
    written.map_err(|source| StorageError::File { action: "write", path, source })?;
    Ok(true)
}

/// Makes the admin key where there has never been a key.
pub async fn admin_key(storage: &Storage) -> Result<Option<Secret>> {
    let owner = Caller::owner();
    if !storage.keys(&owner)?.is_empty() {
        return Ok(None);
    }
    let (_, secret) = storage.create_key(&owner, KeyTerms::of(ADMIN, Role::Admin)).await?;
    Ok(Some(secret))
}
