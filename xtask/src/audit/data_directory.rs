//! Rules about a data directory: everything in it is its owner's alone, and its settings can be trusted.
//!
//! Only looks: names, modes and owners, and the settings file. No database or key is opened.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Finding, settings};

/// The settings file in it.
const SETTINGS: &str = "holdfast.toml";
/// How deep its folders may lie; it is made by the program, which does not nest them.
const DEPTH_MAX: usize = 32;

/// Findings in a data directory, and how many entries it has.
pub fn check(folder: &Path) -> Result<(Vec<Finding>, usize)> {
    if !folder.is_dir() {
        bail!("{} is no folder\nhint: --data-dir names the data directory of a server", folder.display());
    }
    let owner = fs::metadata(folder).with_context(|| format!("failed to look at {}", folder.display()))?.uid();
    let mut walk = Walk { root: folder, owner, findings: Vec::new(), count: 0 };
    walk.enter(folder, 0)?;
    let file = folder.join(SETTINGS);
    if let Ok(text) = fs::read_to_string(&file) {
        walk.findings.extend(settings::check_text(&file.to_string_lossy(), &text));
    }
    Ok((walk.findings, walk.count))
}

struct Walk<'a> {
    root: &'a Path,
    owner: u32,
    findings: Vec<Finding>,
    count: usize,
}

impl Walk<'_> {
    fn enter(&mut self, path: &Path, depth: usize) -> Result<()> {
        let metadata = fs::symlink_metadata(path).with_context(|| format!("failed to look at {}", path.display()))?;
        self.count += 1;
        let place = path.to_string_lossy().into_owned();
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let inside = fs::canonicalize(path)
                .is_ok_and(|to| fs::canonicalize(self.root).is_ok_and(|root| to.starts_with(root)));
            if !inside {
                let remedy = "put the file itself there: what a link leads to may be anybody's";
                self.findings.push(Finding::new("data.link", place, "leads out of the data directory", remedy));
            }
            return Ok(());
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            let wanted = if kind.is_dir() { "0700" } else { "0600" };
            let message = format!("is open to others (mode {mode:04o})");
            self.findings.push(Finding::new("data.mode", place.clone(), message, format!("chmod {wanted} {place}")));
        }
        if metadata.uid() != self.owner {
            let message = format!("belongs to user {}, the directory to user {}", metadata.uid(), self.owner);
            self.findings.push(Finding::new(
                "data.owner",
                place.clone(),
                message,
                format!("chown it to {}", self.owner),
            ));
        }
        if kind.is_dir() {
            if depth == DEPTH_MAX {
                bail!("{place} lies deeper than a data directory has folders");
            }
            let mut inner: Vec<_> = fs::read_dir(path)
                .with_context(|| format!("failed to read {place}"))?
                .collect::<std::io::Result<_>>()
                .with_context(|| format!("failed to read {place}"))?;
            inner.sort_by_key(fs::DirEntry::path);
            for entry in inner {
                self.enter(&entry.path(), depth + 1)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn directory() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        chmod(folder.path(), 0o700);
        fs::create_dir(folder.path().join("tls")).unwrap();
        chmod(&folder.path().join("tls"), 0o700);
        fs::write(folder.path().join("tls/server.key"), "x").unwrap();
        chmod(&folder.path().join("tls/server.key"), 0o600);
        folder
    }

    fn rules(folder: &Path) -> Vec<&'static str> {
        check(folder).unwrap().0.iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn what_is_its_owners_alone_is_well() {
        let folder = directory();
        assert_eq!(check(folder.path()).unwrap(), (vec![], 3));
        symlink("tls/server.key", folder.path().join("inside")).unwrap();
        assert!(rules(folder.path()).is_empty());
    }

    #[test]
    fn a_key_that_others_can_read_is_found_and_so_is_its_folder() {
        let folder = directory();
        chmod(&folder.path().join("tls/server.key"), 0o640);
        assert_eq!(rules(folder.path()), ["data.mode"]);
        chmod(&folder.path().join("tls"), 0o755);
        let found = check(folder.path()).unwrap().0;
        assert!(found[0].remedy.starts_with("chmod 0700"), "{found:?}");
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_link_that_leads_out_is_found() {
        let folder = directory();
        symlink("/etc/passwd", folder.path().join("tls/extra")).unwrap();
        assert_eq!(rules(folder.path()), ["data.link"]);
    }

    #[test]
    fn its_settings_are_looked_at() {
        let folder = directory();
        let file = folder.path().join(SETTINGS);
        fs::write(&file, "[limits]\nenabled = false\n").unwrap();
        chmod(&file, 0o600);
        assert_eq!(rules(folder.path()), ["settings.limits-off"]);
        assert!(check(&folder.path().join("gone")).is_err());
    }
}
