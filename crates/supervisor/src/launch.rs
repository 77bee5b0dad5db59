//! Where processes are started: the one thread that does it, and the way to the program's beginning.
//!
//! The system kills a process when the *thread* that made it dies, if it has asked for that. Threads of a runtime come and
//! go, so one is kept for this. It is woken by its queue and ends when nobody can ask for a process any more, which is
//! after the last service has: one that is left behind for any reason dies then.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    sync::{mpsc, oneshot},
};

use crate::{
    child::{ASKED, Step},
    failure::Cause,
    orders::{self, Orders},
    process::Process,
    spec::Spec,
};

/// Starts that may wait for the thread; a further one waits for a place. Each takes some milliseconds.
const WAITING_MAX: usize = 16;
/// How long a process may take to become its program. Only a disk or network that hangs takes longer.
const BECOMES_WITHIN: Duration = Duration::from_secs(10);
/// More than what a process that does not become its program writes.
const REPORT_BYTES_MAX: u64 = 64;

/// Starts processes; cloning is shallow.
#[derive(Clone)]
pub(crate) struct Launcher {
    orders: mpsc::Sender<Order>,
    /// This program, whose `main` begins with [`crate::child::run_if_asked`].
    own_program: Arc<OsStr>,
    /// What the environment of every service has.
    environment: Arc<[(OsString, OsString)]>,
}

struct Order {
    command: Command,
    answer: oneshot::Sender<io::Result<std::process::Child>>,
}

/// A process that has become its program.
pub(crate) struct Launched {
    pub(crate) process: Process,
    /// What it writes.
    pub(crate) output: pipe::Receiver,
}

/// Why there is no such process.
pub(crate) enum NotLaunched {
    /// It could not be.
    Failed(Cause),
    /// Somebody wants something else meanwhile.
    Told(orders::Order),
}

impl From<Cause> for NotLaunched {
    fn from(cause: Cause) -> Self {
        Self::Failed(cause)
    }
}

/// A command that the caller sees to the end of.
#[expect(clippy::disallowed_methods, reason = "this is the place the lint points to")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

impl Launcher {
    pub(crate) fn start(own_program: PathBuf, environment: Vec<(OsString, OsString)>) -> io::Result<Self> {
        let (orders, queue) = mpsc::channel(WAITING_MAX);
        thread::Builder::new().name("holdfast-children".into()).spawn(move || obey(queue))?;
        Ok(Self { orders, own_program: own_program.into_os_string().into(), environment: environment.into() })
    }

    /// Starts a service's program, and returns when the process has become it, or its user wants something else.
    pub(crate) async fn launch(&self, spec: &Spec, orders: &mut Orders) -> Result<Launched, NotLaunched> {
        // Not to be interrupted: a process that nobody receives would run on.
        let (output, report, child) = self.spawn(spec).await.map_err(|error| Cause::no_process(&error))?;
        let process = Process::new(child).map_err(|error| Cause::no_process(&error))?;
        let read = tokio::select! {
            biased;
            order = orders.next() => Err(order),
            read = tokio::time::timeout(BECOMES_WITHIN, read(report)) => Ok(read),
        };
        let why = match read {
            Ok(Ok(Ok(said))) if said.is_empty() => return Ok(Launched { process, output }),
            Ok(Ok(Ok(said))) => not_started(&said).into(),
            Ok(Ok(Err(error))) => Cause::no_process(&error).into(),
            Ok(Err(_)) => NotLaunched::Failed(Cause::NotStarted {
                what: format!("nothing within {} s", BECOMES_WITHIN.as_secs()),
            }),
            Err(order) => NotLaunched::Told(order),
        };
        process.end(Duration::ZERO).await;
        Err(why)
    }

    async fn spawn(&self, spec: &Spec) -> io::Result<(pipe::Receiver, pipe::Receiver, std::process::Child)> {
        let (output, written) = io::pipe()?;
        let (report, reported) = io::pipe()?;
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))?;
        let report = pipe::Receiver::from_owned_fd(OwnedFd::from(report))?;
        let mut command = command(&*self.own_program);
        command.arg(ASKED).arg(std::process::id().to_string());
        command.arg(&spec.working_directory).arg(&spec.program).args(&spec.arguments);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.envs(spec.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::from(reported)).stdout(Stdio::from(written.try_clone()?)).stderr(Stdio::from(written));
        let (answer, answered) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts processes is gone");
        self.orders.send(Order { command, answer }).await.map_err(|_| gone())?;
        Ok((output, report, answered.await.map_err(|_| gone())??))
    }
}

/// What the thread does.
fn obey(mut queue: mpsc::Receiver<Order>) {
    while let Some(Order { mut command, answer }) = queue.blocking_recv() {
        let child = command.spawn();
        // It holds the ends of the pipes that are the child's alone.
        drop(command);
        if let Err(Ok(mut child)) = answer.send(child) {
            // Whoever asked is gone. It is ours, so neither can fail but for being dead already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn read(report: pipe::Receiver) -> io::Result<String> {
    let mut said = String::new();
    report.take(REPORT_BYTES_MAX).read_to_string(&mut said).await?;
    Ok(said)
}

fn not_started(said: &str) -> Cause {
    let what = match Step::read(said) {
        Some((Step::Become, error)) => program_trouble(&error),
        Some((Step::Enter, error)) => format!("its working directory cannot be entered: {}", error.kind()),
        Some((Step::Bind, error)) => format!("it cannot be bound to this process: {}", error.kind()),
        None => "for an unknown reason".to_owned(),
    };
    Cause::NotStarted { what }
}

fn program_trouble(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist, or what its first line names does not".to_owned(),
        io::ErrorKind::PermissionDenied => "it is not an executable file, or not for this user".to_owned(),
        kind => kind.to_string(),
    }
}
