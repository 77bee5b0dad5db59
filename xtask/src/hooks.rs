//! `cargo xtask hooks`: makes git run `scripts/pre-commit` before each commit.
//!
//! The installed hook only calls the script of the working tree, so that it never goes stale. A hook that somebody else
//! put there is left alone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::repository::Repository;
use crate::shell;

const HOOK: &str = "#!/bin/sh\nexec \"$(git rev-parse --show-toplevel)/scripts/pre-commit\" \"$@\"\n";

/// Installs the hook into the clone.
pub fn install(repository: &Repository) -> Result<()> {
    let git = |arguments: &[&str]| shell::output(shell::command("git").current_dir(&repository.root).args(arguments));
    let folder = repository.root.join(git(&["rev-parse", "--git-path", "hooks"])?.trim());
    let hook = folder.join("pre-commit");
    write_hook(&folder, &hook)?;
    shell::say(&format!("installed {}", hook.display()));
    Ok(())
}

fn write_hook(folder: &Path, hook: &Path) -> Result<()> {
    if hook.exists() {
        let present = fs::read_to_string(hook).with_context(|| format!("failed to read {}", hook.display()))?;
        if present != HOOK {
            bail!("{} is another hook\nhint: let it call scripts/pre-commit, or remove it", hook.display());
        }
    }
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    fs::write(hook, HOOK).with_context(|| format!("failed to write {}", hook.display()))?;
    fs::set_permissions(hook, Permissions::from_mode(0o755))
        .with_context(|| format!("failed to make {} executable", hook.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_is_written_twice_alike_and_never_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let hook = folder.path().join("pre-commit");
        write_hook(folder.path(), &hook).unwrap();
        write_hook(folder.path(), &hook).unwrap();
        assert_eq!(fs::metadata(&hook).unwrap().permissions().mode() & 0o777, 0o755);
        fs::write(&hook, "#!/bin/sh\nmine\n").unwrap();
        assert!(write_hook(folder.path(), &hook).is_err());
        assert_eq!(fs::read_to_string(&hook).unwrap(), "#!/bin/sh\nmine\n");
    }
}
