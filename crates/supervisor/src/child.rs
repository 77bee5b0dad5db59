//! The moment between this program's process and the service's: the process is there already, the program not yet.
//!
//! A service is started as this program with a hidden first argument. It asks the system to be killed when its parent
//! dies, makes sure that this has not happened yet, leaves the terminal, and becomes the service's program. All of that
//! could be done between `fork` and `exec`, but only by code that the compiler does not check.
//!
//! It is told by its standard input, which is the writing end of a pipe, where to say why there is no such program: the
//! pipe closes without a word when there is one.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{ExitCode, Stdio},
};

use rustix::process::{Signal, getppid, set_parent_process_death_signal, setsid};

use crate::launch::command;

/// The argument that asks for it.
pub(crate) const ASKED: &str = "__child";

/// What a process ends with that did not become its program, as shells have it.
const NOT_STARTED: u8 = 127;
/// What a process ends with whose parent is gone; nobody sees it.
const ORPHANED: u8 = 125;
/// What a command line ends with that makes no sense.
const USAGE: u8 = 2;

/// Becomes a service's program, where this process was started for that; then it returns only if it cannot. Must be the
/// first thing that `main` does: whatever came before would be done in every service, too.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == ASKED).then(|| run(arguments))
}

/// What could not be done, as it is written into the pipe: a letter, and the system's number for why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To bind itself to its parent.
    Bind,
    /// To enter the working directory.
    Enter,
    /// To become the program.
    Become,
}

impl Step {
    const ALL: [Self; 3] = [Self::Bind, Self::Enter, Self::Become];

    const fn letter(self) -> char {
        match self {
            Self::Bind => 'b',
            Self::Enter => 'e',
            Self::Become => 'p',
        }
    }

    /// Reads what was written into the pipe.
    pub(crate) fn read(report: &str) -> Option<(Self, io::Error)> {
        let mut characters = report.chars();
        let letter = characters.next()?;
        let step = Self::ALL.into_iter().find(|step| step.letter() == letter)?;
        let number = characters.as_str().parse().ok()?;
        Some((step, io::Error::from_raw_os_error(number)))
    }
}

/// What the command line says: whose child this is, where to go, and what to become.
struct Order {
    parent: u32,
    directory: OsString,
    program: OsString,
    arguments: Vec<OsString>,
}

impl Order {
    fn read(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let parent = arguments.next()?.to_str()?.parse().ok()?;
        let (directory, program) = (arguments.next()?, arguments.next()?);
        Some(Self { parent, directory, program, arguments: arguments.collect() })
    }
}

fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(order) = Order::read(arguments) else {
        // Nobody may be listening.
        let _ = writeln!(io::stderr(), "{ASKED} is how this program starts others; there is no use in it by hand");
        return ExitCode::from(USAGE);
    };
    // Closed by becoming another program, which is how the other end learns of it.
    let Ok(report) = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3) else { return ExitCode::from(NOT_STARTED) };
    if let Err(error) = bind() {
        return give_up(report.into(), Step::Bind, &error);
    }
    if getppid().map(|parent| parent.as_raw_pid().cast_unsigned()) != Some(order.parent) {
        // It died before the line above, so no signal will come.
        return ExitCode::from(ORPHANED);
    }
    if let Err(error) = std::env::set_current_dir(&order.directory) {
        return give_up(report.into(), Step::Enter, &error);
    }
    let error = command(&order.program).args(order.arguments).stdin(Stdio::null()).exec();
    give_up(report.into(), Step::Become, &error)
}

/// Dies with its parent, which cannot be caught or forgotten; and gets a session of its own, so that the terminal's keys
/// are not for it and all that it starts can be ended at once.
fn bind() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    setsid()?;
    Ok(())
}

fn give_up(mut report: File, step: Step, error: &io::Error) -> ExitCode {
    // Whoever does not read it sees the code.
    let _ = write!(report, "{}{}", step.letter(), error.raw_os_error().unwrap_or_default());
    ExitCode::from(NOT_STARTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_reports_is_understood() {
        let (step, error) = Step::read("p2").unwrap();
        assert_eq!((step, error.kind()), (Step::Become, io::ErrorKind::NotFound));
        for nonsense in ["", "p", "x2", "p2 ", "2"] {
            assert!(Step::read(nonsense).is_none(), "{nonsense:?}");
        }
    }

    #[test]
    fn an_order_is_whole_or_none() {
        let order = |arguments: &[&str]| Order::read(arguments.iter().map(OsString::from));
        let whole = order(&["12", "/", "ls", "-l", "--"]).unwrap();
        assert_eq!((whole.parent, whole.arguments.len()), (12, 2));
        for broken in [&["12", "/"][..], &["x", "/", "ls"], &["-1", "/", "ls"], &[]] {
            assert!(order(broken).is_none(), "{broken:?}");
        }
    }
}
