//! Building our own crates with extra flags of the compiler, and nothing else.
//!
//! Flags in `RUSTFLAGS` hold for every dependency too, and would build all of them a second time. Cargo lets a program
//! stand before the compiler for members of the workspace alone, and keeps what it makes apart from the ordinary build:
//! so dependencies are shared, and only our crates are compiled again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::repository::Repository;

/// Writes a program for `RUSTC_WORKSPACE_WRAPPER` that adds these flags, and gives its path.
pub fn wrapper(repository: &Repository, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let folder = repository.target_folder()?.join("wrappers");
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let path = folder.join(name);
    let script = script(flags);
    // The path is part of what cargo remembers; a file that did not change need not be written again.
    if fs::read_to_string(&path).is_ok_and(|there| there == script) {
        return Ok(path);
    }
    fs::write(&path, script).with_context(|| format!("failed to write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("failed to make {} a program", path.display()))?;
    Ok(path)
}

fn script(flags: &[&str]) -> String {
    // The first argument is the compiler. Flags come last: of two that contradict each other the later wins.
    format!("#!/bin/sh\nexec \"$@\" {}\n", flags.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_is_called_with_the_flags_behind() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("wrapper");
        fs::write(&program, script(&["-Ca=b", "-Cc"])).unwrap();
        let told = crate::shell::output(crate::shell::command("sh").arg(&program).args(["echo", "x y"])).unwrap();
        assert_eq!(told, "x y -Ca=b -Cc\n");
    }
}
