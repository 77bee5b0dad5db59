//! How the program ends: what asks for it, and the order in which parts stop.

use std::{io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Ctrl-C, and what a service manager sends.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes both signals from their default, which is to end the process on the spot.
    pub fn take() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next of either.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A part of the program that runs by itself: what tells it to stop, and what waits for it to have done so.
#[derive(Clone, Debug)]
pub struct Stage {
    name: &'static str,
    /// Cancelled when the part is to stop.
    pub stop: CancellationToken,
    /// All its tasks.
    pub tasks: TaskTracker,
    patience: Duration,
}

impl Stage {
    /// A part that is given so long to stop.
    pub fn new(name: &'static str, patience: Duration) -> Self {
        Self { name, stop: CancellationToken::new(), tasks: TaskTracker::new(), patience }
    }

    /// Tells the part to stop, and waits until it has or patience is over.
    pub async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.patience, self.tasks.wait()).await.is_err() {
            let patience_s = self.patience.as_secs();
            tracing::warn!(
                part = self.name,
                tasks = self.tasks.len(),
                patience_s,
                "{} did not stop within {patience_s} s; what it was doing is done again at the next start",
                self.name
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_does_not_stop_is_left() {
        let stage = Stage::new("stuck", Duration::from_millis(20));
        stage.tasks.spawn(std::future::pending::<()>());
        stage.end().await;
        assert_eq!(stage.tasks.len(), 1);
    }

    #[tokio::test]
    async fn a_part_that_stops_is_waited_for() {
        let stage = Stage::new("good", Duration::from_secs(60));
        let stop = stage.stop.clone();
        stage.tasks.spawn(async move { stop.cancelled().await });
        stage.end().await;
        assert!(stage.tasks.is_empty());
    }
}
