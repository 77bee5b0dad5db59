//! How a service is: what is published of it, and what the metrics and the status page make of that.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use holdfast_resilience::health::{Component, Since, Status};
use metrics::{Counter, Gauge, counter, gauge};
use tokio::sync::watch;

use crate::{failure::Failure, spec::Spec};

/// What a service does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is a process, or will be in a moment, and it does not work yet.
    Starting {
        /// Since when.
        since: SystemTime,
        /// 1 for the first start, or the first after it was healthy.
        attempt: u32,
    },
    /// It works.
    Ready {
        /// Since when.
        since: SystemTime,
        /// The process.
        pid: u32,
    },
    /// It failed, and is started again later.
    BackingOff {
        /// Since when.
        since: SystemTime,
        /// How long it waits.
        pause: Duration,
        /// Which attempt in a row it was that failed.
        attempt: u32,
        /// Why.
        reason: Arc<Failure>,
    },
    /// It is being ended: it failed, is to be restarted, or is no longer wanted.
    Stopping {
        /// Since when.
        since: SystemTime,
    },
    /// It does not run and is not to.
    Stopped {
        /// Since when.
        since: SystemTime,
    },
}

impl State {
    /// The word users see.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::Starting { .. } => "starting",
            Self::BackingOff { .. } => "backing_off",
            Self::Stopping { .. } => "stopping",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// The number that metrics have for it.
    pub const fn number(&self) -> u8 {
        match self {
            Self::Ready { .. } => 0,
            Self::Starting { .. } => 1,
            Self::BackingOff { .. } => 2,
            Self::Stopping { .. } => 3,
            Self::Stopped { .. } => 4,
        }
    }

    /// Since when it is so.
    pub const fn since(&self) -> SystemTime {
        match self {
            Self::Ready { since, .. }
            | Self::Starting { since, .. }
            | Self::BackingOff { since, .. }
            | Self::Stopping { since }
            | Self::Stopped { since } => *since,
        }
    }

    /// When it is started again, where it waits for that.
    pub fn until(&self) -> Option<SystemTime> {
        match self {
            Self::BackingOff { since, pause, .. } => Some(*since + *pause),
            _ => None,
        }
    }
}

/// A service as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation {
    /// What it does.
    pub state: State,
    /// How often it was started, but for the first time.
    pub restarts: u64,
    /// What failed last, until it has been healthy for a while.
    pub failure: Option<Arc<Failure>>,
    /// How it is, as a part of the whole.
    pub health: Component,
    /// Which wish of its user's it answers.
    pub(crate) wish: u64,
}

/// Where the situation is made public.
pub(crate) struct Board {
    situation: watch::Sender<Situation>,
    since: Since,
    without_it: Status,
    /// What the last check said, where it failed.
    trouble: Option<String>,
    restarted: Counter,
    state: Gauge,
}

impl Board {
    pub(crate) fn new(spec: &Spec) -> Self {
        let now = SystemTime::now();
        let service = spec.name.clone();
        let mut since = Since::new(now);
        since.observe(spec.without_it, Some("it is being started".to_owned()), now);
        let situation = Situation {
            state: State::Starting { since: now, attempt: 1 },
            restarts: 0,
            failure: None,
            health: since.component(&format!("service:{}", spec.name)),
            wish: 0,
        };
        let restarted = counter!("holdfast_service_restarts_total", "service" => service.clone());
        // It is there with 0, so that an alert sees the first one.
        restarted.increment(0);
        let board = Self {
            state: gauge!("holdfast_service_state", "service" => service),
            situation: watch::Sender::new(situation),
            since,
            without_it: spec.without_it,
            trouble: None,
            restarted,
        };
        board.state.set(f64::from(board.situation.borrow().state.number()));
        board
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Situation> {
        self.situation.subscribe()
    }

    /// The service does something else from now on.
    pub(crate) fn show(&mut self, state: State) {
        self.trouble = None;
        self.state.set(f64::from(state.number()));
        self.change(|situation| {
            if let State::BackingOff { reason, .. } = &state {
                situation.failure = Some(Arc::clone(reason));
            }
            situation.state = state;
        });
    }

    /// From now on it answers this wish.
    pub(crate) fn answer(&mut self, wish: u64) {
        self.change(|situation| situation.wish = wish);
    }

    /// It is started, not for the first time.
    pub(crate) fn restarted(&mut self) {
        self.restarted.increment(1);
        self.change(|situation| situation.restarts += 1);
    }

    /// What a check said while it runs.
    pub(crate) fn checked(&mut self, answer: &Result<(), String>) {
        let trouble = answer.as_ref().err().cloned();
        if self.trouble != trouble {
            self.trouble = trouble;
            self.change(|_| {});
        }
    }

    /// It has been ready for so long that what was before no longer counts.
    pub(crate) fn forgive(&mut self) {
        if self.situation.borrow().failure.is_some() {
            self.change(|situation| situation.failure = None);
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Situation)) {
        let Self { situation, since, trouble, without_it, .. } = self;
        situation.send_modify(|situation| {
            change(situation);
            let (status, reason) = judge(situation, trouble.as_deref(), *without_it);
            since.observe(status, reason, SystemTime::now());
            situation.health = since.component(&situation.health.name);
        });
    }
}

/// How it is, and why.
fn judge(situation: &Situation, trouble: Option<&str>, without_it: Status) -> (Status, Option<String>) {
    let before =
        || situation.failure.as_ref().map(|failure| format!("; before, {}", failure.cause)).unwrap_or_default();
    match &situation.state {
        State::Ready { .. } => match trouble {
            None => (Status::Ready, None),
            Some(trouble) => (Status::Degraded.min(without_it), Some(format!("a check failed: {trouble}"))),
        },
        State::Starting { attempt: 1, .. } => (without_it, Some("it is being started".to_owned())),
        State::Starting { attempt, .. } => {
            (without_it, Some(format!("it is being started, attempt {attempt}{}", before())))
        }
        State::BackingOff { reason, .. } => (without_it, Some(format!("{}; it is started again", reason.cause))),
        State::Stopping { .. } => (without_it, Some("it is being ended".to_owned())),
        State::Stopped { .. } => (without_it, Some("it is stopped".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Cause, How};

    fn board(without_it: Status) -> Board {
        let ready = Arc::new(|| async { Ok(()) });
        let mut spec = Spec::new("s", "/bin/true".into(), "/tmp/s.log".into(), ready);
        spec.without_it = without_it;
        Board::new(&spec)
    }

    fn health(board: &Board) -> (Status, String) {
        let health = board.subscribe().borrow().health.clone();
        assert_eq!(health.name, "service:s");
        (health.status, health.reason.unwrap_or_default())
    }

    #[test]
    fn what_is_told_follows_from_what_it_does() {
        let mut board = board(Status::Down);
        let since = SystemTime::now();
        assert_eq!(health(&board), (Status::Down, "it is being started".to_owned()));
        board.show(State::Ready { since, pid: 1 });
        assert_eq!(health(&board), (Status::Ready, String::new()));
        board.checked(&Err("no answer".to_owned()));
        assert_eq!(health(&board), (Status::Degraded, "a check failed: no answer".to_owned()));
        board.checked(&Ok(()));
        assert_eq!(health(&board), (Status::Ready, String::new()));
        let failure =
            Failure { cause: Cause::Ended { how: How::Code(3), was_ready: true }, last_words: "/a/path".into() };
        let reason = Arc::new(failure);
        board.show(State::BackingOff { since, pause: Duration::from_secs(1), attempt: 1, reason });
        assert_eq!(health(&board), (Status::Down, "it ended with code 3; it is started again".to_owned()));
        board.show(State::Starting { since, attempt: 2 });
        assert_eq!(
            health(&board),
            (Status::Down, "it is being started, attempt 2; before, it ended with code 3".into())
        );
        board.show(State::Ready { since, pid: 2 });
        assert!(board.subscribe().borrow().failure.is_some());
        board.forgive();
        assert!(board.subscribe().borrow().failure.is_none());
    }

    #[test]
    fn a_service_that_can_be_done_without_takes_nothing_down() {
        let mut board = board(Status::Degraded);
        assert_eq!(health(&board).0, Status::Degraded);
        board.show(State::Stopping { since: SystemTime::now() });
        assert_eq!(health(&board).0, Status::Degraded);
    }
}
