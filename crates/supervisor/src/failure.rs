//! Why a service does not run: for the status page in one sentence, for the operator with its last words.

use std::{
    fmt,
    io::{self, ErrorKind},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::Duration,
};

/// How a run of a service failed, or its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub cause: Cause,
    /// The last lines of its output, without control characters; at most 1 KiB, often empty. For the operator's log: they
    /// are whatever the service writes.
    pub last_words: String,
}

/// What happened. Said in one sentence, without paths or anything that the service wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The port it is to listen on cannot be had.
    #[error("port {port} {}", port_trouble(*.kind))]
    Port {
        /// The port.
        port: u16,
        /// What stands against it.
        kind: ErrorKind,
    },

    /// There is no process, or it did not become the program.
    #[error("its program cannot be started: {what}")]
    NotStarted {
        /// Why.
        what: String,
    },

    /// It ended by itself.
    #[error("it ended {how}{}", if *.was_ready { "" } else { " before it was ready" })]
    Ended {
        /// With which code or by which signal.
        how: How,
        /// Whether it had been ready.
        was_ready: bool,
    },

    /// It was ended because it did not become ready.
    #[error("it was not ready within {} s: {answer}", within.as_secs_f32())]
    NotReady {
        /// How long it had.
        within: Duration,
        /// What it answered last.
        answer: String,
    },

    /// It was ended because it no longer worked.
    #[error("it failed {failures} checks in a row: {answer}")]
    Unwell {
        /// How many.
        failures: u32,
        /// What it answered last.
        answer: String,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody can tell: something else took its status.
    Unknown,
}

impl Failure {
    /// One whose process has written nothing, or never was.
    pub(crate) fn silent(cause: Cause) -> Self {
        Self { cause, last_words: String::new() }
    }
}

impl fmt::Display for Failure {
    /// The cause, and the last words behind it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if self.last_words.is_empty() { Ok(()) } else { write!(f, "; its last words: {}", self.last_words) }
    }
}

impl Cause {
    /// The system gave no process.
    pub(crate) fn no_process(error: &io::Error) -> Self {
        Self::NotStarted { what: format!("this machine starts no process: {}", error.kind()) }
    }
}

impl How {
    pub(crate) fn of(status: Option<ExitStatus>) -> Self {
        let signal = || status.and_then(|status| status.signal()).map(Self::Signal);
        status.and_then(|status| status.code()).map(Self::Code).or_else(signal).unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "with code {code}"),
            Self::Signal(signal) => match signal_words(*signal) {
                Some(words) => write!(f, "by {words}"),
                None => write!(f, "by signal {signal}"),
            },
            Self::Unknown => f.write_str("in an unknown way"),
        }
    }
}

/// What signals say of a program, where they say something.
fn signal_words(signal: i32) -> Option<&'static str> {
    use rustix::process::Signal;
    let words = [
        (Signal::ILL, "SIGILL: it may be built for another processor"),
        (Signal::ABORT, "SIGABRT: it gave up by itself"),
        (Signal::BUS, "SIGBUS: a file it had mapped may have been cut, or the disk is full"),
        (Signal::KILL, "SIGKILL: somebody ended it, often the system for want of memory"),
        (Signal::SEGV, "SIGSEGV: it has a defect"),
        (Signal::TERM, "SIGTERM: somebody ended it"),
    ];
    words.into_iter().find_map(|(known, words)| (known.as_raw() == signal).then_some(words))
}

fn port_trouble(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::AddrInUse => "of this machine is taken by another program".to_owned(),
        ErrorKind::PermissionDenied => "is not for this user".to_owned(),
        kind => format!("of this machine cannot be had: {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_sentences() {
        let ended = |how, was_ready| Cause::Ended { how, was_ready }.to_string();
        assert_eq!(ended(How::Code(3), false), "it ended with code 3 before it was ready");
        assert_eq!(ended(How::of(Some(ExitStatus::from_raw(3 << 8))), true), "it ended with code 3");
        assert_eq!(ended(How::of(Some(ExitStatus::from_raw(11))), true), "it ended by SIGSEGV: it has a defect");
        assert_eq!(ended(How::Signal(33), true), "it ended by signal 33");
        assert_eq!(ended(How::of(None), true), "it ended in an unknown way");
        let port = |kind| Cause::Port { port: 80, kind }.to_string();
        assert_eq!(port(ErrorKind::AddrInUse), "port 80 of this machine is taken by another program");
        let late = Cause::NotReady { within: Duration::from_millis(1_500), answer: "connection refused".into() };
        assert_eq!(late.to_string(), "it was not ready within 1.5 s: connection refused");
        let unwell = Cause::Unwell { failures: 3, answer: "no answer".into() };
        assert_eq!(unwell.to_string(), "it failed 3 checks in a row: no answer");
    }
}
