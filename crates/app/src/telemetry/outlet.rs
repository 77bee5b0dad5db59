//! A way that lines go: a bounded queue, and a thread that writes.
//!
//! Nobody who logs waits: what the queue does not hold is dropped, counted, and told once lines get through again. The
//! thread is woken by lines, by a timer that has the sink tried and looked after, and by whoever waits for the queue to
//! be empty; [`Outlet::end`] stops it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::line::{Event, Form};
use crate::log_health;

/// Lines on their way at a time.
const LINES_MAX: usize = 8_192;
/// Bytes of them.
const BYTES_MAX: usize = 4 << 20;
/// Bytes that are written in one piece.
const PIECE_BYTES: usize = 32 << 10;
/// How often a sink is tried, without a line to write: as often as the other parts are whose health is told.
const TRY_EVERY: Duration = Duration::from_millis(1_500);
/// How often it looks after what it has then.
const LOOK_AFTER_EVERY: Duration = Duration::from_secs(60);

/// Where lines end up.
pub trait Sink: Send + 'static {
    /// Writes whole lines. What failed is not tried again.
    ///
    /// # Errors
    /// Where the lines are lost.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Whether a line would get through, as far as that can be found out without one.
    ///
    /// # Errors
    /// Why it would not.
    fn check(&mut self) -> io::Result<()>;

    /// Does what is to be done now and then.
    fn look_after(&mut self);
}

/// The way; whoever has it can put lines on it.
pub struct Outlet {
    sender: SyncSender<Job>,
    shared: Arc<Shared>,
}

enum Job {
    Line(String),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
    /// The same, and then the thread ends.
    End(SyncSender<()>),
}

struct Shared {
    name: &'static str,
    queued_bytes: AtomicUsize,
    dropped: AtomicU64,
    /// How many of the dropped lines were told of.
    told: AtomicU64,
    form: AtomicUsize,
}

impl Outlet {
    /// Begins to write to a sink. `name` is its label in the metrics.
    pub fn start(name: &'static str, form: Form, sink: impl Sink) -> Self {
        let (sender, jobs) = sync_channel(LINES_MAX);
        let shared = Arc::new(Shared {
            name,
            queued_bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            told: AtomicU64::new(0),
            form: AtomicUsize::new(form as usize),
        });
        let worker = Worker { jobs, shared: Arc::clone(&shared), sink };
        let started = thread::Builder::new().name(format!("log-{name}")).spawn(move || worker.run());
        if started.is_err() {
            // The other end of the queue is gone: every line is dropped and counted.
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Self { sender, shared }
    }

    /// Puts a line on its way, in this form, or drops it.
    pub fn put(&self, line: String, form: Form) {
        let bytes = line.len();
        self.shared.form.store(form as usize, Ordering::Relaxed);
        if self.shared.queued_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes > BYTES_MAX {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            return self.shared.drop_lines(1);
        }
        match self.sender.try_send(Job::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
                self.shared.drop_lines(1);
            }
        }
    }

    /// Waits until what was put is written, but not for longer than this.
    pub fn flush(&self, patience: Duration) {
        self.ask(Job::Flush, patience);
    }

    /// The same, and nothing is written any more.
    pub fn end(&self, patience: Duration) {
        self.ask(Job::End, patience);
    }

    fn ask(&self, job: fn(SyncSender<()>) -> Job, patience: Duration) {
        let (done, is_done) = sync_channel(1);
        // A full queue has a sink that is stuck: there is no use in waiting for it.
        if self.sender.try_send(job(done)).is_ok() {
            // Whether it came or not, the program goes on.
            let _ = is_done.recv_timeout(patience);
        }
    }
}

/// Makes the counter of a way known to the metrics.
pub fn register(name: &'static str) {
    metrics::counter!("holdfast_log_lines_dropped_total", "sink" => name).increment(0);
}

impl Shared {
    fn drop_lines(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
        metrics::counter!("holdfast_log_lines_dropped_total", "sink" => self.name).increment(count);
    }
}

struct Worker<S> {
    jobs: Receiver<Job>,
    shared: Arc<Shared>,
    sink: S,
}

impl<S: Sink> Worker<S> {
    fn run(mut self) {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let mut looked_after = Instant::now();
        self.try_out();
        loop {
            let mut next = match self.jobs.recv_timeout(TRY_EVERY) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => {
                    self.try_out();
                    if looked_after.elapsed() >= LOOK_AFTER_EVERY {
                        self.sink.look_after();
                        looked_after = Instant::now();
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut lines = 0;
            while let Some(job) = next {
                match job {
                    Job::Line(line) => {
                        self.shared.queued_bytes.fetch_sub(line.len(), Ordering::AcqRel);
                        piece.extend_from_slice(line.as_bytes());
                        lines += 1;
                        if piece.len() >= PIECE_BYTES {
                            self.write(&mut piece, &mut lines);
                        }
                    }
                    Job::Flush(done) => {
                        self.write(&mut piece, &mut lines);
                        // Whoever asked may have gone.
                        let _ = done.try_send(());
                    }
                    Job::End(done) => {
                        self.write(&mut piece, &mut lines);
                        log_health::forget(self.shared.name);
                        // First, so that a line that comes too late is dropped where that is counted.
                        drop(self.jobs);
                        let _ = done.try_send(());
                        return;
                    }
                }
                next = self.jobs.try_recv().ok();
            }
            self.write(&mut piece, &mut lines);
        }
    }

    fn write(&mut self, piece: &mut Vec<u8>, lines: &mut u64) {
        let (bytes, count) = (std::mem::take(piece), std::mem::take(lines));
        if count > 0 {
            let written = self.sink.write(&bytes);
            log_health::note(self.shared.name, &written);
            match written {
                // Where this one fails it is tried again, as the next line is.
                Ok(()) => drop(self.tell()),
                Err(_) => self.shared.drop_lines(count),
            }
        }
        *piece = bytes;
        piece.clear();
    }

    /// Notes how the sink is while nobody logs. One that lost lines is tried with a line, the one that says so: that it
    /// looks well does not mean that it takes any.
    fn try_out(&mut self) {
        let tried = if self.untold() > 0 { self.tell() } else { self.sink.check() };
        log_health::note(self.shared.name, &tried);
    }

    /// Lines that were dropped without its being told.
    fn untold(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed) - self.shared.told.load(Ordering::Relaxed)
    }

    /// Says how many lines are missing, if any are, now that lines get through.
    fn tell(&mut self) -> io::Result<()> {
        let untold = self.untold();
        if untold == 0 {
            return Ok(());
        }
        let form = self.shared.form.load(Ordering::Relaxed);
        let form = Form::from_number(u8::try_from(form).unwrap_or_default());
        let message = format!("{untold} log lines were dropped lately");
        let event = Event::about_the_log(message, [("lines", Value::from(untold))]);
        self.sink.write(event.line(form).as_bytes())?;
        self.shared.told.fetch_add(untold, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use holdfast_resilience::health::Report;

    use super::*;

    /// A sink that can be shut, and what came through.
    #[derive(Clone, Default)]
    struct Gate(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        is_shut: bool,
        fails: bool,
        has_one: bool,
        written: Vec<String>,
    }

    impl Gate {
        fn set(&self, change: impl FnOnce(&mut State)) {
            change(&mut self.0.0.lock().unwrap());
            self.0.1.notify_all();
        }

        fn until(&self, holds: impl Fn(&State) -> bool) {
            let state = self.0.0.lock().unwrap();
            drop(self.0.1.wait_while(state, |state| !holds(state)).unwrap());
        }

        fn written(&self) -> Vec<String> {
            self.0.0.lock().unwrap().written.clone()
        }
    }

    impl Sink for Gate {
        fn write(&mut self, lines: &[u8]) -> io::Result<()> {
            let mut state = self.0.0.lock().unwrap();
            state.has_one = true;
            self.0.1.notify_all();
            let mut state = self.0.1.wait_while(state, |state| state.is_shut).unwrap();
            if state.fails {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.written.extend(String::from_utf8_lossy(lines).lines().map(str::to_owned));
            Ok(())
        }

        fn check(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn look_after(&mut self) {}
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn nobody_waits_for_a_sink_that_is_stuck_and_what_was_dropped_is_told() {
        let gate = Gate::default();
        gate.set(|state| state.is_shut = true);
        let outlet = Outlet::start("test", Form::Text, gate.clone());
        outlet.put("first\n".into(), Form::Text);
        gate.until(|state| state.has_one);
        for _ in 0..LINES_MAX + 100 {
            outlet.put("more\n".into(), Form::Text);
        }
        assert_eq!(outlet.shared.dropped.load(Ordering::Relaxed), 100);
        gate.set(|state| state.is_shut = false);
        gate.until(|state| state.written.len() > LINES_MAX);
        outlet.put("last\n".into(), Form::Text);
        outlet.flush(PATIENCE);
        let written = gate.written();
        let told: Vec<_> = written.iter().filter(|line| line.contains("were dropped")).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("100 log lines were dropped"), "{told:?}");
        assert_eq!(written.len(), 1 + LINES_MAX + 1 + 1);
        assert_eq!(written.last().map(String::as_str), Some("last"));
    }

    #[test]
    fn a_queue_is_bounded_in_bytes_too() {
        let gate = Gate::default();
        gate.set(|state| state.is_shut = true);
        let outlet = Outlet::start("test", Form::Text, gate.clone());
        for _ in 0..100 {
            outlet.put("x".repeat(BYTES_MAX / 10), Form::Text);
        }
        assert!(outlet.shared.queued_bytes.load(Ordering::Relaxed) <= BYTES_MAX);
        assert!(outlet.shared.dropped.load(Ordering::Relaxed) >= 88);
        gate.set(|state| state.is_shut = false);
        outlet.flush(PATIENCE);
        assert_eq!(outlet.shared.queued_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn lines_that_a_sink_lost_are_told_when_it_works_again() {
        let gate = Gate::default();
        gate.set(|state| state.fails = true);
        let outlet = Outlet::start("test", Form::Json, gate.clone());
        for _ in 0..3 {
            outlet.put("lost\n".into(), Form::Json);
            outlet.flush(PATIENCE);
        }
        gate.set(|state| state.fails = false);
        outlet.put("{}\n".into(), Form::Json);
        outlet.flush(PATIENCE);
        let written = gate.written();
        let told: Vec<Value> = written.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let lost = told.iter().find_map(|line| line["lines"].as_u64());
        assert_eq!((written.len(), lost), (2, Some(3)), "{written:?}");
    }

    #[test]
    fn a_sink_that_works_again_is_found_to_without_another_line() {
        let gate = Gate::default();
        gate.set(|state| state.fails = true);
        let outlet = Outlet::start("quiet", Form::Json, gate.clone());
        outlet.put("lost\n".into(), Form::Json);
        outlet.flush(PATIENCE);
        let trouble = || {
            let part = log_health::LogHealth.components().remove(0);
            part.reason.filter(|reason| reason.contains("for quiet"))
        };
        assert!(trouble().is_some_and(|reason| reason.contains("do not get through")));
        gate.set(|state| state.fails = false);
        gate.until(|state| !state.written.is_empty());
        assert!(gate.written()[0].contains("\"lines\":1"), "{:?}", gate.written());
        // What was written is noted a moment later.
        outlet.flush(PATIENCE);
        assert_eq!(trouble(), None);
        gate.set(|state| state.fails = true);
        outlet.put("lost\n".into(), Form::Json);
        outlet.end(PATIENCE);
        assert_eq!(trouble(), None, "it is no way any more");
    }

    #[test]
    fn its_end_is_waited_for_but_not_for_ever() {
        let gate = Gate::default();
        let outlet = Outlet::start("test", Form::Text, gate.clone());
        outlet.put("a\n".into(), Form::Text);
        outlet.end(PATIENCE);
        assert_eq!(gate.written(), ["a"]);
        outlet.put("b\n".into(), Form::Text);
        assert_eq!(outlet.shared.queued_bytes.load(Ordering::Relaxed), 0, "what came too late is dropped");
        let stuck = Gate::default();
        stuck.set(|state| state.is_shut = true);
        let outlet = Outlet::start("test", Form::Text, stuck.clone());
        outlet.put("c\n".into(), Form::Text);
        outlet.end(Duration::from_millis(10));
        stuck.set(|state| state.is_shut = false);
    }
}
