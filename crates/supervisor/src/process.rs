//! One process that we started, with all of its group: seen to end, ended, and taken note of by the system once.
//!
//! Its number, and that of its group, is its own until its status has been taken, so signals cannot hit another.

use std::{
    io,
    process::{Child, ExitStatus},
    time::Duration,
};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, test_kill_process_group, waitid,
};
use tokio::signal::unix::{self, SignalKind};

/// How long a process may take to end after SIGKILL before that is told. Only one in the middle of a system call that
/// cannot be interrupted takes longer: a device or a network disk hangs.
const KILLED_WITHIN: Duration = Duration::from_secs(5);
/// How long the rest of a group may take to be gone after SIGKILL, so that what it held is free. They are not our children,
/// so nobody tells us; they are looked for.
const GROUP_GONE_WITHIN: Duration = Duration::from_secs(1);

/// A process. Dropped before its end it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    /// Says that some process of ours has ended.
    endings: unix::Signal,
    is_reaped: bool,
}

impl Process {
    pub(crate) fn new(mut child: Child) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData.into());
        match pid.and_then(|pid| Ok((pid, unix::signal(SignalKind::child())?))) {
            Ok((pid, endings)) => Ok(Self { child, pid, endings, is_reaped: false }),
            Err(error) => {
                // What cannot be watched must not run.
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended. Its status is still to be taken, and its number its own.
    pub(crate) async fn ended(&mut self) {
        while !self.has_ended() {
            if self.endings.recv().await.is_none() {
                // The runtime is ending, and with it whatever waits here.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None))
    }

    /// Ends it and all of its group, if it has not ended by itself: politely at first, by force after the grace. What it
    /// leaves behind in its group has no grace of its own.
    pub(crate) async fn end(mut self, grace: Duration) -> Option<ExitStatus> {
        if !self.has_ended() {
            self.signal(Signal::TERM);
            if grace.is_zero() || tokio::time::timeout(grace, self.ended()).await.is_err() {
                self.signal(Signal::KILL);
                self.killed().await;
            }
        }
        let status = self.reap();
        self.group_gone().await;
        status
    }

    async fn killed(&mut self) {
        if tokio::time::timeout(KILLED_WITHIN, self.ended()).await.is_err() {
            let pid = self.pid();
            tracing::warn!(pid, "process {pid} does not end although it was killed; a disk or a device may hang");
            self.ended().await;
        }
    }

    /// Takes the status of a process that has ended, and kills what is left of its group before the number is free.
    fn reap(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::KILL);
        self.is_reaped = true;
        self.child.wait().ok()
    }

    async fn group_gone(&self) {
        let look = async {
            let mut pause = Duration::from_millis(1);
            while test_kill_process_group(self.pid).is_ok() {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        };
        // One that hangs is told by whoever misses what it holds.
        let _ = tokio::time::timeout(GROUP_GONE_WITHIN, look).await;
    }

    fn signal(&self, signal: Signal) {
        // There is no group until the process has made one, and nobody to signal where all have ended.
        if kill_process_group(self.pid, signal).is_err() {
            let _ = kill_process(self.pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.signal(Signal::KILL);
            // It takes its time to die, and there may be no runtime to wait in. What is left is reaped when we end.
            let _ = self.child.try_wait();
        }
    }
}
