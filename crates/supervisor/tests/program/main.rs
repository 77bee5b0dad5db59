//! A program that supervises one service until it is killed. Tests start it and kill it, and start their own services
//! through it.
//!
//! `holdfast-supervisor-test FOLDER SCRIPT ready|never` runs the script, which is ready at once or never.

use std::{error::Error, ffi::OsString, path::PathBuf, process::ExitCode, sync::Arc};

use holdfast_supervisor::{Config, Probe, Spec, Supervisor, child};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if let Some(code) = child::run_if_asked() {
        return Ok(code);
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [folder, script, readiness] = arguments.as_slice() else { return Ok(ExitCode::from(2)) };
    let probe: Arc<dyn Probe> = match readiness.to_str() {
        Some("ready") => Arc::new(|| async { Ok(()) }),
        _ => Arc::new(|| async { Err("never".to_owned()) }),
    };
    let folder = PathBuf::from(folder);
    let mut spec = Spec::new("middle", "/bin/sh".into(), folder.join("middle.log"), probe);
    spec.arguments = vec!["-c".to_owned(), script.to_string_lossy().into_owned()];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let supervisor = Supervisor::start(Config::default(), TaskTracker::new(), CancellationToken::new())?;
        supervisor.add(spec)?;
        std::future::pending::<()>().await;
        Ok(ExitCode::SUCCESS)
    })
}
