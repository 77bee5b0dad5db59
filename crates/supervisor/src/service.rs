//! The life of one service: a state machine, one method a state.
//!
//! Its loop is woken by its user's wishes, by the end of the process, by the answers of probes and by the ends of pauses,
//! and stops when the supervisor does or the service is removed; its process has ended by then.

use std::{
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio_util::task::TaskTracker;

use crate::{
    backoff::Backoff,
    failure::{Cause, Failure, How},
    launch::{Launched, Launcher, NotLaunched},
    log::{Copying, Tail},
    orders::{Aim, Order, Orders},
    ports,
    probe::{Probe, ask},
    process::Process,
    situation::{Board, State},
    spec::Spec,
};

/// How long after the first answer of a starting service the second is asked for; the pauses double,
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// up to this.
const PAUSE_LONGEST: Duration = Duration::from_millis(500);

/// What a service's task owns.
pub(crate) struct Service {
    pub(crate) spec: Spec,
    pub(crate) launcher: Launcher,
    pub(crate) orders: Orders,
    pub(crate) board: Board,
    pub(crate) backoff: Backoff,
    pub(crate) tail: Tail,
    pub(crate) tasks: TaskTracker,
    pub(crate) has_run: bool,
}

/// A process and the copying of its output.
struct Running {
    process: Process,
    copying: Copying,
    /// Since when it is ready.
    ready_at: Option<Instant>,
}

/// What to do next.
enum Next {
    Start,
    Watch(Running),
    End(Running, Why),
    BackOff(Failure),
    Rest,
    Leave,
}

/// Why a process is to end, or has ended.
enum Why {
    /// Somebody wants it to.
    Told(Order),
    /// It has, by itself.
    Ended,
    /// It is of no use.
    Useless(Cause),
}

/// What wakes a service that runs.
enum Wake {
    Told(Order),
    Ended,
    /// The answer of a check; while it starts, that of the last.
    Checked(Result<(), String>),
}

impl Service {
    pub(crate) async fn run(mut self) {
        let mut next = Next::Start;
        loop {
            next = match next {
                Next::Start => self.start().await,
                Next::Watch(running) => self.watch(running).await,
                Next::End(running, why) => self.end(running, why).await,
                Next::BackOff(failure) => self.back_off(failure).await,
                Next::Rest => self.rest().await,
                Next::Leave => return,
            };
        }
    }

    /// Starts the process, and waits until it works.
    async fn start(&mut self) -> Next {
        let wish = self.orders.accept();
        match wish.aim {
            Aim::Up => self.board.answer(wish.number),
            Aim::Down => return Next::Rest,
            Aim::Gone => return Next::Leave,
        }
        if std::mem::replace(&mut self.has_run, true) {
            self.board.restarted();
        }
        let began = Instant::now();
        self.board.show(State::Starting { since: SystemTime::now(), attempt: self.backoff.attempt() });
        let mut running = match self.launch().await {
            Ok(running) => running,
            Err(NotLaunched::Failed(cause)) => return Next::BackOff(Failure::silent(cause)),
            Err(NotLaunched::Told(order)) => return self.turn_to(order),
        };
        let within = self.spec.checks.start_within;
        let mut answer = "it was never asked".to_owned();
        let wake = tokio::select! {
            biased;
            order = self.orders.next() => Wake::Told(order),
            () = running.process.ended() => Wake::Ended,
            ready = tokio::time::timeout(within.saturating_sub(began.elapsed()), works(&self.spec, &mut answer)) => {
                Wake::Checked(ready.map_err(|_| answer))
            }
        };
        match wake {
            Wake::Told(order) => Next::End(running, Why::Told(order)),
            Wake::Ended => Next::End(running, Why::Ended),
            // Somebody else answered the probe.
            Wake::Checked(Ok(())) if running.process.has_ended() => Next::End(running, Why::Ended),
            Wake::Checked(Ok(())) => {
                self.tell_ready(&running, began.elapsed());
                running.ready_at = Some(Instant::now());
                Next::Watch(running)
            }
            Wake::Checked(Err(answer)) => Next::End(running, Why::Useless(Cause::NotReady { within, answer })),
        }
    }

    async fn launch(&mut self) -> Result<Running, NotLaunched> {
        if let Some(port) = self.spec.port {
            ports::check(port).map_err(|kind| Cause::Port { port, kind })?;
        }
        let Launched { process, output } = self.launcher.launch(&self.spec, &mut self.orders).await?;
        let copying = Copying::start(output, &self.spec, &self.tail, &self.tasks);
        Ok(Running { process, copying, ready_at: None })
    }

    fn tell_ready(&mut self, running: &Running, took: Duration) {
        let (service, pid, took_s) = (&self.spec.name, running.process.pid(), took.as_secs_f64());
        tracing::info!(service, pid, took_s, "the service {service} is ready after {took_s:.1} s, process {pid}");
        self.board.show(State::Ready { since: SystemTime::now(), pid });
    }

    /// Asks a service that works, again and again, whether it still does.
    async fn watch(&mut self, mut running: Running) -> Next {
        let (mut failed, mut tried_at) = (0, Instant::now());
        loop {
            let wake = tokio::select! {
                biased;
                order = self.orders.next() => Wake::Told(order),
                () = running.process.ended() => Wake::Ended,
                answer = check(&self.spec, &mut tried_at) => Wake::Checked(answer),
            };
            let answer = match wake {
                Wake::Told(order) => return Next::End(running, Why::Told(order)),
                Wake::Ended => return Next::End(running, Why::Ended),
                Wake::Checked(answer) => answer,
            };
            self.board.checked(&answer);
            match answer {
                Ok(()) => {
                    failed = 0;
                    self.forgive_if_healthy(&running);
                }
                Err(answer) => {
                    failed += 1;
                    if failed >= self.spec.checks.failures_max {
                        return Next::End(running, Why::Useless(Cause::Unwell { failures: failed, answer }));
                    }
                }
            }
        }
    }

    /// One that was ready for long enough begins with a short pause again.
    fn forgive_if_healthy(&mut self, running: &Running) {
        if running.ready_at.is_some_and(|at| at.elapsed() >= self.spec.restart.healthy_after) {
            self.backoff.reset();
            self.board.forgive();
        }
    }

    /// Sees to it that the process and its group are gone.
    async fn end(&mut self, running: Running, why: Why) -> Next {
        self.board.show(State::Stopping { since: SystemTime::now() });
        if matches!(why, Why::Ended) {
            self.forgive_if_healthy(&running);
        }
        let was_ready = running.ready_at.is_some();
        let status = running.process.end(self.spec.stop_grace).await;
        let last_words = running.copying.finish().await;
        match why {
            Why::Told(order) => self.obey(order, status),
            Why::Ended => {
                let cause = Cause::Ended { how: How::of(status), was_ready };
                Next::BackOff(Failure { cause, last_words })
            }
            Why::Useless(cause) => Next::BackOff(Failure { cause, last_words }),
        }
    }

    fn obey(&mut self, order: Order, status: Option<ExitStatus>) -> Next {
        let (service, how) = (&self.spec.name, How::of(status));
        tracing::info!(service, "the service {service} was told to end, and ended {how}");
        self.turn_to(order)
    }

    fn turn_to(&mut self, order: Order) -> Next {
        match order {
            Order::Restart => {
                // Its user may have done something about what failed.
                self.backoff.reset();
                self.board.forgive();
                Next::Start
            }
            Order::Stop => Next::Rest,
            Order::Leave => Next::Leave,
        }
    }

    /// Waits before it tries again.
    async fn back_off(&mut self, failure: Failure) -> Next {
        let attempt = self.backoff.attempt();
        let pause = self.backoff.failed();
        self.tell_failure(&failure, attempt, pause);
        self.board.show(State::BackingOff { since: SystemTime::now(), pause, attempt, reason: Arc::new(failure) });
        tokio::select! {
            biased;
            order = self.orders.next() => self.turn_to(order),
            () = tokio::time::sleep(pause) => Next::Start,
        }
    }

    fn tell_failure(&self, failure: &Failure, attempt: u32, pause: Duration) {
        let (service, retry_in_s, log) = (&self.spec.name, pause.as_secs_f64(), self.spec.log_file.display());
        let (cause, last_words) = (&failure.cause, &failure.last_words);
        let pace = if self.backoff.is_at_longest() {
            format!("; it is tried for ever, every {} s at the most", self.spec.restart.longest.as_secs_f32())
        } else {
            String::new()
        };
        tracing::warn!(
            service,
            attempt,
            retry_in_s,
            last_words,
            %log,
            "the service {service} failed: {cause}; attempt {} begins in {retry_in_s:.1} s{pace}",
            attempt.saturating_add(1)
        );
    }

    /// Waits, without a process, until one is wanted again.
    async fn rest(&mut self) -> Next {
        loop {
            let wish = self.orders.accept();
            match wish.aim {
                Aim::Up => return self.turn_to(Order::Restart),
                Aim::Gone => return Next::Leave,
                Aim::Down => {}
            }
            self.board.show(State::Stopped { since: SystemTime::now() });
            self.board.answer(wish.number);
            self.orders.changed().await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let service = &self.spec.name;
            tracing::error!(service, "the supervision of the service {service} broke off; it does not run any more");
        }
        // However the loop came to its end: nothing runs, and nothing is going to.
        self.board.show(State::Stopped { since: SystemTime::now() });
    }
}

/// Asks until it works and has passed its trial; keeps the last answer.
async fn works(spec: &Spec, answer: &mut String) {
    insist(&*spec.ready, spec.checks.answer_within, answer).await;
    if let Some(trial) = &spec.trial {
        insist(&**trial, spec.checks.trial_within, answer).await;
    }
}

async fn insist(probe: &dyn Probe, within: Duration, answer: &mut String) {
    let mut pause = PAUSE_FIRST;
    while let Err(said) = ask(probe, within).await {
        *answer = said;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LONGEST);
    }
}

/// Asks once after the pause between checks; for a trial, where one is due.
async fn check(spec: &Spec, tried_at: &mut Instant) -> Result<(), String> {
    tokio::time::sleep(spec.checks.every).await;
    if let (Some(trial), Some(every)) = (&spec.trial, spec.checks.trial_every)
        && tried_at.elapsed() >= every
    {
        let answer = ask(&**trial, spec.checks.trial_within).await;
        *tried_at = Instant::now();
        return answer;
    }
    ask(&*spec.ready, spec.checks.answer_within).await
}
