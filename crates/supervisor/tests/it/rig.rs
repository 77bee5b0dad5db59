//! What the tests share: a supervisor in a folder, scripts as services, and a line to processes that tells of their end.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use holdfast_supervisor::{Checks, Config, Jitter, Probe, Restart, Situation, Spec, State, Supervised, Supervisor};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program that services are started through.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_holdfast-supervisor-test");

/// A supervisor.
pub struct Rig {
    pub folder: TempDir,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    pub supervisor: Supervisor,
}

impl Rig {
    pub fn new() -> Self {
        Self::with_environment(&[])
    }

    pub fn with_environment(environment: &[(&str, &str)]) -> Self {
        Self::started(PROGRAM.into(), environment)
    }

    /// One that starts services through another program.
    pub fn through(own_program: PathBuf) -> Self {
        Self::started(own_program, &[])
    }

    fn started(own_program: PathBuf, environment: &[(&str, &str)]) -> Self {
        let path = [("PATH", "/usr/local/bin:/usr/bin:/bin")];
        let environment = path.iter().chain(environment).map(|(name, value)| (name.into(), value.into())).collect();
        let config = Config { own_program, environment };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let supervisor = Supervisor::start(config, tasks.clone(), stop.clone()).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), tasks, stop, supervisor }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A script that is ready as soon as it runs, and tried again soon.
    pub fn spec(&self, name: &str, script: &str) -> Spec {
        let mut spec = Spec::new(name, "/bin/sh".into(), self.path(&format!("{name}.log")), always());
        spec.arguments = vec!["-c".to_owned(), script.to_owned()];
        spec.working_directory = self.folder.path().to_owned();
        spec.checks = Checks { start_within: PATIENCE, every: Duration::from_millis(10), ..Checks::default() };
        spec.restart = Restart {
            first: Duration::from_millis(10),
            longest: Duration::from_secs(1),
            jitter: Jitter::None,
            healthy_after: PATIENCE,
        };
        spec.stop_grace = PATIENCE;
        spec
    }

    /// Ends everything, and waits for it.
    pub async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.unwrap();
    }
}

/// A probe that is content.
pub fn always() -> Arc<dyn Probe> {
    Arc::new(|| async { Ok(()) })
}

/// A probe that is never content.
pub fn never() -> Arc<dyn Probe> {
    Arc::new(|| async { Err("not yet".to_owned()) })
}

/// A probe that wants a file to be there.
pub fn exists(path: PathBuf) -> Arc<dyn Probe> {
    Arc::new(move || {
        let is_there = path.exists();
        async move { if is_there { Ok(()) } else { Err("no file".to_owned()) } }
    })
}

/// Waits until a service is as wanted.
pub async fn until(service: &Supervised, wanted: impl Fn(&Situation) -> bool) -> Situation {
    let mut changes = service.changes();
    match tokio::time::timeout(PATIENCE, changes.wait_for(wanted)).await {
        Ok(situation) => situation.unwrap().clone(),
        Err(_) => panic!("still {:?}; its log: {}", service.situation(), service.log_tail(4_096)),
    }
}

/// Waits until a service has failed so often in a row.
pub async fn until_failed(service: &Supervised, times: u32) -> Situation {
    until(service, |now| matches!(now.state, State::BackingOff { attempt, .. } if attempt >= times)).await
}

/// The process of a service that is ready.
pub fn pid(service: &Supervised) -> u32 {
    match service.state() {
        State::Ready { pid, .. } => pid,
        other => panic!("not ready: {other:?}"),
    }
}

/// Whether the system still knows the process, dead or alive.
pub fn is_known(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// What is heard of processes.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// One has begun, with this number.
    Pid(u32),
    /// All have ended.
    Gone,
}

/// A pipe with a name that processes open for writing. It closes when the last of them has ended, however they ended, so
/// nobody has to look for them again and again.
pub struct Lifeline {
    path: PathBuf,
    heard: mpsc::Receiver<Heard>,
}

impl Lifeline {
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("lifeline");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let (told, heard) = mpsc::channel(1_024);
        let fifo = path.clone();
        // It waits in `open` when the test is over, and ends with the program.
        thread::spawn(move || listen(&fifo, &told));
        Self { path, heard }
    }

    /// What a script begins with, so that it is heard of. What the script starts holds the line, too.
    pub fn held(&self) -> String {
        format!("exec 9>{}; echo $$ >&9; ", self.path.display())
    }

    pub async fn next(&mut self) -> Heard {
        self.next_within(PATIENCE).await
    }

    pub async fn next_within(&mut self, within: Duration) -> Heard {
        tokio::time::timeout(within, self.heard.recv()).await.unwrap().unwrap()
    }

    pub async fn pid(&mut self) -> u32 {
        match self.next().await {
            Heard::Pid(pid) => pid,
            Heard::Gone => panic!("it is gone"),
        }
    }
}

fn listen(fifo: &Path, told: &mpsc::Sender<Heard>) {
    // Returns when somebody opens it for writing.
    while let Ok(file) = File::open(fifo) {
        for line in BufReader::new(file).lines() {
            let pid = line.unwrap().trim().parse().unwrap();
            told.blocking_send(Heard::Pid(pid)).unwrap();
        }
        if told.blocking_send(Heard::Gone).is_err() {
            return;
        }
    }
}
