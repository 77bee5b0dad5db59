//! The three words for how a part is, and how they add up.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// How a part is. The order is from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It does all it should.
    Ready,
    /// It does less than it should, or worse; the reason says what.
    Degraded,
    /// It does not do what it is for.
    Down,
}

impl Status {
    /// The word users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How one part is, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// What it is called.
    pub name: String,
    /// How it is.
    pub status: Status,
    /// Why, where it is not ready; never a secret, a path or a text.
    pub reason: Option<String>,
    /// Since when it is so.
    pub since: SystemTime,
}

/// Remembers since when a part has been as it is.
#[derive(Debug)]
pub struct Since {
    status: Status,
    reason: Option<String>,
    since: SystemTime,
}

impl Since {
    /// Ready, from `now` on.
    pub const fn new(now: SystemTime) -> Self {
        Self { status: Status::Ready, reason: None, since: now }
    }

    /// Notes how the part is at `now`; a change of status starts a new count.
    pub fn observe(&mut self, status: Status, reason: Option<String>, now: SystemTime) {
        if status != self.status {
            self.since = now;
        }
        self.status = status;
        self.reason = reason;
    }

    /// What was observed last, under a name.
    pub fn component(&self, name: &str) -> Component {
        Component { name: name.to_owned(), status: self.status, reason: self.reason.clone(), since: self.since }
    }
}

/// A place where work waits, or is inside, and that has a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// What it is called, in metrics and in the status.
    pub name: &'static str,
    /// What waits or is inside.
    pub length: usize,
    /// Its bound.
    pub limit: usize,
}

/// A part that tells itself how it is. It is asked often, and answers without waiting for anything.
pub trait Report: Send + Sync {
    /// How it is.
    fn components(&self) -> Vec<Component>;

    /// Its queues.
    fn queues(&self) -> Vec<Queue> {
        Vec::new()
    }
}

/// The whole is the worst of what it needs.
pub fn worst(components: &[Component]) -> Status {
    components.iter().map(|component| component.status).max().unwrap_or(Status::Ready)
}

/// A measurement that goes stale: older than this, it says nothing.
pub const STALE_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_counts_from_the_change_not_from_the_last_look() {
        let start = SystemTime::UNIX_EPOCH;
        let second = Duration::from_secs(1);
        let mut part = Since::new(start);
        part.observe(Status::Down, Some("gone".into()), start + second);
        part.observe(Status::Down, Some("still gone".into()), start + 2 * second);
        let seen = part.component("part");
        assert_eq!(seen.since, start + second);
        assert_eq!(seen.reason.as_deref(), Some("still gone"));
    }

    #[test]
    fn the_whole_is_the_worst_of_its_parts() {
        let part = |status| Component { name: String::new(), status, reason: None, since: SystemTime::UNIX_EPOCH };
        assert_eq!(worst(&[]), Status::Ready);
        assert_eq!(worst(&[part(Status::Degraded), part(Status::Ready)]), Status::Degraded);
        assert_eq!(worst(&[part(Status::Degraded), part(Status::Down)]), Status::Down);
    }
}
