//! What is to run, how to tell that it works, and when to try again. Plain data; nothing is started here.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use holdfast_resilience::health::Status;

use crate::probe::Probe;

/// The longest name of a service, in bytes: it is a label and part of file names.
const NAME_BYTES_MAX: usize = 64;
/// The least that a log may have: what is read from a service at once.
pub(crate) const LOG_BYTES_MIN: u64 = 64 << 10;

/// A service: a program that is to run for as long as this one does.
#[derive(Clone)]
pub struct Spec {
    /// What it is called, in lower-case letters, digits and `-`. One supervisor has one service of a name.
    pub name: String,
    /// The program. Without a slash it is looked for in `PATH`. It must stay the process that it is started as: a script
    /// that starts the real program does so with `exec`, or what it starts may outlive this program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What its environment has beyond the variables that every service gets ([`crate::PASSED_ON`]). May have secrets;
    /// never printed.
    pub environment: Vec<(String, String)>,
    /// The folder that it runs in, absolute.
    pub working_directory: PathBuf,
    /// The file, absolute, that its output goes to, with the mode 0600. Its folder must exist.
    pub log_file: PathBuf,
    /// How large the file may become; then it is renamed to the same name with `.1`, in the place of the one before.
    pub log_bytes_max: u64,
    /// The port of 127.0.0.1 that it is going to listen on, where it has one. A start fails while another program has it:
    /// that one would answer the probe.
    pub port: Option<u16>,
    /// Tells whether it works. Asked while it starts until it does, and at intervals while it runs.
    pub ready: Arc<dyn Probe>,
    /// Has it do something real, such as one token. Asked after `ready` when it starts, and seldom while it runs.
    pub trial: Option<Arc<dyn Probe>>,
    /// How it is asked.
    pub checks: Checks,
    /// How it is started again.
    pub restart: Restart,
    /// How long it may take to end after SIGTERM. Then SIGKILL ends it and all of its process group.
    pub stop_grace: Duration,
    /// How the whole is without it: [`Status::Degraded`] where others can stand in, [`Status::Down`] where nothing works.
    pub without_it: Status,
}

/// How a service is asked whether it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// How long a start may take, to the end of the trial. Then it has failed, and the process is ended.
    pub start_within: Duration,
    /// How long an answer of `ready` may take.
    pub answer_within: Duration,
    /// How long a trial may take.
    pub trial_within: Duration,
    /// The pause between two checks while it runs.
    pub every: Duration,
    /// How long after a trial the next one takes the place of a check. None: there is but the one of the start.
    pub trial_every: Option<Duration>,
    /// After so many checks in a row that failed, it is ended and started again.
    pub failures_max: u32,
}

impl Default for Checks {
    /// For what reads gigabytes before it works: five minutes are enough for 40 GB at 150 MB/s, from a hard disk.
    fn default() -> Self {
        Self {
            start_within: Duration::from_secs(300),
            answer_within: Duration::from_secs(5),
            trial_within: Duration::from_secs(60),
            every: Duration::from_secs(5),
            trial_every: None,
            failures_max: 3,
        }
    }
}

/// When a service that has failed is started again: after a pause of at most `first`, which doubles with every failure up
/// to `longest`. It is never given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The longest pause after the first failure.
    pub first: Duration,
    /// The longest pause there is.
    pub longest: Duration,
    /// How much of a pause is left to chance.
    pub jitter: Jitter,
    /// After so long ready, the failures before are forgotten.
    pub healthy_after: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            jitter: Jitter::Full,
            healthy_after: Duration::from_secs(60),
        }
    }
}

/// How much of a pause is left to chance, so that services which fail together are not all started at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// All of it, as "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015) has it: anything from nothing to the
    /// longest pause of this failure.
    Full,
    /// Nothing: the longest pause of this failure.
    None,
}

/// What of a specification could never work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the service {name:?} cannot be run: {what}")]
pub struct SpecError {
    /// The service, shortened.
    pub name: String,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Spec {
    /// A service of the usual checks and pauses, which runs in `/`, has no arguments and keeps 8 MiB of log.
    pub fn new(name: impl Into<String>, program: PathBuf, log_file: PathBuf, ready: Arc<dyn Probe>) -> Self {
        Self {
            name: name.into(),
            program,
            arguments: Vec::new(),
            environment: Vec::new(),
            working_directory: PathBuf::from("/"),
            log_file,
            log_bytes_max: 8 << 20,
            port: None,
            ready,
            trial: None,
            checks: Checks::default(),
            restart: Restart::default(),
            stop_grace: Duration::from_secs(5),
            without_it: Status::Degraded,
        }
    }

    /// Refuses what could never work.
    pub(crate) fn check(&self) -> Result<(), SpecError> {
        let faults = [
            (!is_name(&self.name), "its name must be 1 to 64 lower-case letters, digits and `-`"),
            (self.program.as_os_str().is_empty(), "it has no program"),
            (self.has_zero_byte(), "a zero byte cannot be handed to a program"),
            (!self.environment.iter().all(|(name, _)| is_variable(name)), "a variable's name is empty or has a `=`"),
            (!self.working_directory.is_absolute(), "its working directory must be absolute"),
            (!self.log_file.is_absolute() || self.log_file.file_name().is_none(), "its log file must be absolute"),
            (self.log_bytes_max < LOG_BYTES_MIN, "its log must have room for 65536 bytes at least"),
            (self.port == Some(0), "its port must be a number from 1 on"),
            (self.restart.first > self.restart.longest, "its first pause is longer than the longest"),
            (self.checks.failures_max == 0, "one failed check at least must be too many"),
            (self.has_empty_time(), "a time that it has for something is zero"),
        ];
        match faults.into_iter().find(|(is_so, _)| *is_so) {
            Some((_, what)) => Err(SpecError { name: self.name.chars().take(NAME_BYTES_MAX).collect(), what }),
            None => Ok(()),
        }
    }

    fn has_zero_byte(&self) -> bool {
        let paths = [self.program.as_path(), &self.working_directory, &self.log_file];
        let variables = self.environment.iter().flat_map(|(name, value)| [name, value]);
        paths.iter().any(|path| path.as_os_str().as_encoded_bytes().contains(&0))
            || self.arguments.iter().chain(variables).any(|text| text.contains('\0'))
    }

    fn has_empty_time(&self) -> bool {
        let Checks { start_within, answer_within, trial_within, every, .. } = self.checks;
        // Pauses between starts may be nothing: then chance has nothing to choose from, and the machine is kept busy.
        [start_within, answer_within, trial_within, every, self.restart.first].iter().any(Duration::is_zero)
    }

    /// Where the log goes that is full.
    pub(crate) fn older_log(log_file: &Path) -> PathBuf {
        let mut older = log_file.as_os_str().to_owned();
        older.push(".1");
        older.into()
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments and environment may have secrets.
        f.debug_struct("Spec").field("name", &self.name).field("program", &self.program).finish_non_exhaustive()
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains('=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        let ready = Arc::new(|| async { Ok(()) });
        Spec::new("good-1", "/bin/true".into(), "/tmp/good.log".into(), ready)
    }

    fn refused(change: impl FnOnce(&mut Spec)) -> &'static str {
        let mut spec = spec();
        change(&mut spec);
        spec.check().unwrap_err().what
    }

    #[test]
    fn what_could_never_work_is_refused() {
        assert_eq!(spec().check(), Ok(()));
        for name in ["", "Big", "a/b", "a b", "a\n", &"a".repeat(65)] {
            assert!(refused(|spec| spec.name = name.to_owned()).contains("name must be"), "{name:?}");
        }
        assert!(refused(|spec| spec.program = PathBuf::new()).contains("no program"));
        assert!(refused(|spec| spec.arguments = vec!["a\0b".into()]).contains("zero byte"));
        assert!(refused(|spec| spec.environment = vec![("A".into(), "\0".into())]).contains("zero byte"));
        assert!(refused(|spec| spec.environment = vec![("A=B".into(), String::new())]).contains("variable"));
        assert!(refused(|spec| spec.environment = vec![(String::new(), String::new())]).contains("variable"));
        assert!(refused(|spec| spec.working_directory = "here".into()).contains("working directory"));
        assert!(refused(|spec| spec.log_file = "log".into()).contains("log file"));
        assert!(refused(|spec| spec.log_bytes_max = 100).contains("65536"));
        assert!(refused(|spec| spec.port = Some(0)).contains("port"));
        assert!(refused(|spec| spec.restart.longest = Duration::from_millis(1)).contains("first pause"));
        assert!(refused(|spec| spec.checks.failures_max = 0).contains("failed check"));
        assert!(refused(|spec| spec.checks.every = Duration::ZERO).contains("zero"));
        assert!(refused(|spec| spec.restart.first = Duration::ZERO).contains("zero"));
    }

    #[test]
    fn secrets_of_a_service_are_not_printed() {
        let mut spec = spec();
        spec.environment = vec![("TOKEN".into(), "hunter2".into())];
        spec.arguments = vec!["--api-key=hunter2".into()];
        assert!(!format!("{spec:?}").contains("hunter2"));
    }
}
