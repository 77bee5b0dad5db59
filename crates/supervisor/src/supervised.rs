//! A handle to one service: how it is, and what is wanted of it.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    log::Tail,
    orders::{Aim, Wish},
    situation::{Situation, State},
};

/// A service that is kept running; cloning is shallow, and dropping it stops nothing.
#[derive(Clone)]
pub struct Supervised {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    log_file: Box<Path>,
    tail: Tail,
    wishes: watch::Sender<Wish>,
    situation: watch::Receiver<Situation>,
}

impl fmt::Debug for Supervised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its output may have anything in it.
        f.debug_struct("Supervised").field("name", &self.inner.name).field("state", &self.state()).finish()
    }
}

/// Why a service was not ready in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It is not to run.
    #[error("the service {name} is stopped")]
    Stopped {
        /// Its name.
        name: String,
    },

    /// It still starts, or fails again and again.
    #[error("the service {name} is {}{}", situation.state.as_str(), failed(situation))]
    Late {
        /// Its name.
        name: String,
        /// How it is.
        situation: Box<Situation>,
    },
}

fn failed(situation: &Situation) -> String {
    situation.failure.as_ref().map(|failure| format!(": {}", failure.cause)).unwrap_or_default()
}

impl Supervised {
    pub(crate) fn new(
        name: String,
        log_file: Box<Path>,
        tail: Tail,
        wishes: watch::Sender<Wish>,
        situation: watch::Receiver<Situation>,
    ) -> Self {
        Self { inner: Arc::new(Inner { name, log_file, tail, wishes, situation }) }
    }

    /// Whether it is one and the same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether it is to run.
    pub(crate) fn is_wanted(&self) -> bool {
        self.inner.wishes.borrow().aim == Aim::Up
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The file that its output goes to.
    pub fn log_file(&self) -> &Path {
        &self.inner.log_file
    }

    /// The end of its output, over all runs, as it was written; at most 16 KiB are kept.
    pub fn log_tail(&self, bytes_max: usize) -> String {
        self.inner.tail.text(bytes_max)
    }

    /// What it does now.
    pub fn state(&self) -> State {
        self.inner.situation.borrow().state.clone()
    }

    /// How it is now.
    pub fn situation(&self) -> Situation {
        self.inner.situation.borrow().clone()
    }

    /// How it is, from now on. Who looks too seldom sees the latest only.
    pub fn changes(&self) -> watch::Receiver<Situation> {
        self.inner.situation.clone()
    }

    /// Waits until it is ready, after the last [`Supervised::restart`] if there was one.
    ///
    /// # Errors
    /// [`NotReady`], after the deadline or as soon as it is stopped.
    pub async fn until_ready(&self, deadline: Duration) -> Result<(), NotReady> {
        let wish = *self.inner.wishes.borrow();
        let stopped = || NotReady::Stopped { name: self.inner.name.clone() };
        if wish.aim != Aim::Up {
            return Err(stopped());
        }
        let mut situation = self.inner.situation.clone();
        let settled = |now: &Situation| {
            now.wish >= wish.number && matches!(now.state, State::Ready { .. } | State::Stopped { .. })
        };
        let waited = tokio::time::timeout(deadline, situation.wait_for(settled)).await;
        match waited {
            Ok(Ok(now)) if matches!(now.state, State::Ready { .. }) => Ok(()),
            Ok(_) => Err(stopped()),
            Err(_) => Err(NotReady::Late { name: self.inner.name.clone(), situation: Box::new(self.situation()) }),
        }
    }

    /// Ends it, where it runs, and starts it at once, whatever failed before. Returns before that has happened.
    pub fn restart(&self) {
        self.wish(Aim::Up);
    }

    /// Ends it, and returns when it has ended. [`Supervised::restart`] starts it again.
    pub async fn stop(&self) {
        self.wish(Aim::Down);
        self.until_stopped().await;
    }

    /// Ends it, and its supervision.
    pub(crate) async fn remove(&self) {
        self.wish(Aim::Gone);
        // Its task drops its end when it is over.
        let mut situation = self.inner.situation.clone();
        while situation.changed().await.is_ok() {}
    }

    async fn until_stopped(&self) {
        let wish = self.inner.wishes.borrow().number;
        let stopped = |now: &Situation| now.wish >= wish && matches!(now.state, State::Stopped { .. });
        // The other end is gone with the task, which is when it has stopped, too.
        let _ = self.inner.situation.clone().wait_for(stopped).await;
    }

    fn wish(&self, aim: Aim) {
        self.inner.wishes.send_if_modified(|wish| {
            // What is removed stays so.
            if wish.aim == Aim::Gone {
                return false;
            }
            *wish = Wish { number: wish.number + 1, aim };
            true
        });
    }
}
