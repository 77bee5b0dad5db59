//! The control socket: where it lies, how it is opened by the server and found by commands.
//!
//! It lies in a directory that only its owner may enter, and is itself closed to others; the server checks who is at the
//! other end besides. A socket file whose server is gone says nothing: the lock of the data directory decides.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use holdfast_storage::DataDirectory;
use tokio::net::{UnixListener, UnixStream};

/// The longest path a socket can have: `sun_path` has 108 bytes on Linux and 104 on macOS, the last one NUL.
const PATH_BYTES_MAX: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// Opens the socket for the holder of the data directory, in the place of one that a killed server left.
pub fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    let path = DataDirectory::control_socket(data_dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let short = ShortPath::of(&path)?;
    let listener = UnixListener::bind(&short.path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Removes the socket, when its server stops.
pub fn unbind(data_dir: &Path) {
    let path = DataDirectory::control_socket(data_dir);
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "failed to remove {}: {error}", path.display());
    }
}

/// Reaches the server that holds the data directory, if one listens.
pub async fn connect(data_dir: &Path) -> io::Result<UnixStream> {
    let short = ShortPath::of(&DataDirectory::control_socket(data_dir))?;
    UnixStream::connect(&short.path).await
}

/// A way to name the socket that is not too long for the system.
struct ShortPath {
    path: PathBuf,
    /// The directory that `path` goes through.
    _directory: Option<rustix::fd::OwnedFd>,
}

impl ShortPath {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= PATH_BYTES_MAX {
            return Ok(Self { path: path.to_owned(), _directory: None });
        }
        Self::through_directory(path)
    }

    /// Linux names open directories in `/proc`, so that their own path does not count.
    #[cfg(target_os = "linux")]
    fn through_directory(path: &Path) -> io::Result<Self> {
        use rustix::{
            fd::AsRawFd,
            fs::{Mode, OFlags},
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidFilename.into());
        };
        let directory = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _directory: Some(directory) })
    }

    #[cfg(not(target_os = "linux"))]
    fn through_directory(path: &Path) -> io::Result<Self> {
        let text = format!("{} is longer than the {PATH_BYTES_MAX} bytes a socket's path may have", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidFilename, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(data_dir: &Path) {
        fs::create_dir_all(data_dir.join("run")).unwrap();
        assert!(connect(data_dir).await.is_err());
        let first = bind(data_dir).unwrap();
        let mode = fs::metadata(DataDirectory::control_socket(data_dir)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        connect(data_dir).await.unwrap();
        drop(first);
        // As after a kill: the file is there, and nobody listens.
        assert!(connect(data_dir).await.is_err());
        let _second = bind(data_dir).unwrap();
        connect(data_dir).await.unwrap();
        unbind(data_dir);
        assert!(connect(data_dir).await.is_err());
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced() {
        check(tempfile::tempdir().unwrap().path()).await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_deep_data_directory_has_a_socket_too() {
        check(&tempfile::tempdir().unwrap().path().join("deep/".repeat(40))).await;
    }
}
