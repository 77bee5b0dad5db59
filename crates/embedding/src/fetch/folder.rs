//! A local folder as a source.
//!
//! Copies the files that are asked for; does not decide which.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::{Failure, Pull};
use crate::{
    error::EmbedError,
    manifest::ModelFile,
    store::{check_file, create_private},
};

/// Copies files from a folder laid out like the model's own.
pub(super) fn copy(pull: &Pull<'_>, folder: &Path, files: &[ModelFile]) -> Result<(), Failure> {
    for file in files {
        let source = folder.join(&file.path);
        // Told apart here, because a copy could only say that what arrived is wrong. It will not get better by itself.
        match check_file(&source, file) {
            Ok(()) => {}
            Err(EmbedError::CorruptFile { reason, .. }) => {
                return Err(Failure::Permanent(format!("{}: {reason}", file.path)));
            }
            Err(error) => return Err(Failure::Permanent(format!("{}: {}", file.path, with_source(&error)))),
        }
        let partial = pull.store.partial(pull.name, file)?;
        let mut from = File::open(&source).map_err(|error| gone(file, &error))?.take(file.size_bytes);
        let mut to = create_private(&partial).map_err(EmbedError::io("create", &partial))?;
        io::copy(&mut from, &mut to).map_err(EmbedError::io("copy", &partial))?;
        pull.install(file)?;
    }
    Ok(())
}

fn gone(file: &ModelFile, error: &io::Error) -> Failure {
    Failure::Permanent(format!("{}: {error}", file.path))
}

fn with_source(error: &EmbedError) -> String {
    match error {
        EmbedError::Io { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}
