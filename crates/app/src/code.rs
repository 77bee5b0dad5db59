//! What programs know a command's failure by, where no server told it.

use std::io;

use holdfast_server::tls::{TlsError, authority::AuthorityError};
use holdfast_storage::StorageError;

use crate::{settings::Problems, wiring::WithoutKeys};

holdfast_resilience::words! {
    /// The stable name of a failure of this program's own. Those about TLS are of the server's
    /// [`TlsCode`](holdfast_server::tls::TlsCode).
    pub enum CommandCode {
        /// Another process has the data directory.
        DataDirectoryInUse = "data_directory_in_use",
        /// A newer version wrote the database.
        DatabaseNewer = "database_newer",
        /// The database is not ours.
        DatabaseForeign = "database_foreign",
        /// What is stored cannot be read as what it should be.
        StorageDamaged = "storage_damaged",
        /// The disk or its file system failed.
        StorageUnavailable = "storage_unavailable",
        /// There is no space left.
        StorageFull = "storage_full",
        /// The data directory cannot be written.
        StorageReadOnly = "storage_read_only",
        /// Settings cannot be used.
        SettingsInvalid = "settings_invalid",
        /// Other machines could reach the server, and nobody has a key.
        ListenerWithoutKeys = "listener_without_keys",
        /// Anything else.
        CommandFailed = "command_failed",
    }
}

/// The word for a failure.
pub fn of(error: &anyhow::Error) -> &'static str {
    if let Some(error) = error.downcast_ref::<TlsError>() {
        return error.code();
    }
    if let Some(error) = error.downcast_ref::<AuthorityError>() {
        return error.code();
    }
    own(error).as_str()
}

fn own(error: &anyhow::Error) -> CommandCode {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
    if error.is::<Problems>() {
        return CommandCode::SettingsInvalid;
    }
    if error.is::<WithoutKeys>() {
        return CommandCode::ListenerWithoutKeys;
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<StorageError>()) {
        Some(StorageError::InUse { .. }) => CommandCode::DataDirectoryInUse,
        Some(StorageError::Newer { .. }) => CommandCode::DatabaseNewer,
        Some(StorageError::ForeignSchema { .. }) => CommandCode::DatabaseForeign,
        Some(StorageError::Damaged(_)) => CommandCode::StorageDamaged,
        Some(StorageError::Device(_)) => CommandCode::StorageUnavailable,
        Some(StorageError::Full(_)) => CommandCode::StorageFull,
        Some(StorageError::ReadOnly(_)) => CommandCode::StorageReadOnly,
        Some(StorageError::File { source, .. }) => match source.kind() {
            StorageFull => CommandCode::StorageFull,
            PermissionDenied | ReadOnlyFilesystem => CommandCode::StorageReadOnly,
            _ => CommandCode::StorageUnavailable,
        },
        _ => CommandCode::CommandFailed,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use holdfast_knowledge::{FindingCode, TroubleCode};
    use holdfast_server::tls::TlsCode;

    use super::*;

    /// The page that users and operators look codes up in.
    const PAGE: &str = include_str!("../../../docs/ERRORS.md");

    /// The codes in the tables below a heading. A row has what a code means, what the user does and what the operator does.
    fn rows(heading: &str) -> BTreeSet<&'static str> {
        let section = PAGE.split("\n## ").find(|section| section.starts_with(heading));
        let section = section.unwrap_or_else(|| panic!("docs/ERRORS.md has no section {heading}"));
        let mut codes = BTreeSet::new();
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let [code, meaning, user, operator] = cells.as_slice() else { panic!("not four cells: {row}") };
            for cell in [meaning, user, operator] {
                assert!(cell.contains(char::is_alphabetic), "an empty cell: {row}");
            }
            let code = code.trim_matches('`');
            assert!(codes.insert(code), "{code} has two rows in {heading}");
        }
        codes
    }

    fn check(headings: &[&str], codes: impl IntoIterator<Item = &'static str>) {
        let written: BTreeSet<_> = headings.iter().flat_map(|heading| rows(heading)).collect();
        let there: BTreeSet<_> = codes.into_iter().collect();
        let (lacking, surplus): (Vec<_>, Vec<_>) =
            (there.difference(&written).collect(), written.difference(&there).collect());
        assert!(lacking.is_empty() && surplus.is_empty(), "{headings:?} lacks {lacking:?} and invents {surplus:?}");
    }

    #[test]
    fn every_code_has_its_row_and_every_row_its_code() {
        let commands = CommandCode::ALL.iter().map(|code| code.as_str());
        let tls = TlsCode::ALL.iter().map(|code| code.as_str());
        check(&["Codes of commands", "Codes of the certificate in the log"], commands.chain(tls));
        let troubles = TroubleCode::ALL.iter().map(|code| code.as_str());
        check(&["Codes of single documents, files and jobs"], troubles);
        check(&["What `holdfast doctor` finds"], FindingCode::ALL.iter().map(|code| code.as_str()));
    }

    #[test]
    fn a_failure_has_the_code_of_what_caused_it() {
        let full = StorageError::File { action: "open", path: "x".into(), source: io::ErrorKind::StorageFull.into() };
        assert_eq!(of(&anyhow::Error::new(full).context("failed to open")), "storage_full");
        let name = AuthorityError::Name { name: "?".to_owned() };
        assert_eq!(of(&anyhow::Error::new(name)), "tls_name_invalid");
        assert_eq!(of(&anyhow::anyhow!("anything else")), "command_failed");
    }
}
