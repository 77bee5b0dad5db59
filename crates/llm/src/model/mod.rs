//! A model as this program has it: a provider's model, and around every call of it a place among few, a breaker, retries
//! within a budget, and a deadline.
//!
//! A call waits for a place, and keeps it until its answer has ended. An attempt is let through by the breaker and told to
//! it; what may pass is tried again while time and budget last. An answer that is streamed is tried again as long as
//! nothing of it can have been seen: it is read up to its first visible piece, or its end, before it is handed on.
//!
//! Wakes for nothing by itself but in [`Model::watch`], which somebody has to run.

mod attempt;
mod meters;
mod streaming;
mod watch;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast_resilience::{
    breaker::{self, Breaker, State},
    queue::{Place, Queue},
    retry::{self, GivenUp, Retries},
};
use tokio::{sync::Notify, time};

use self::{
    attempt::{Attempted, Failed},
    meters::Meters,
};
use crate::{Answer, Call, CallError, Deadlines, ErrorKind, EventStream, Price, Provider, Request, Shape};

/// Calls of a model at once, where nobody says: a server at home does a few, and a provider elsewhere limits us itself.
const CONCURRENT_MAX: usize = 64;
/// Calls that wait for a place, where nobody says.
const WAITING_MAX: usize = 256;
/// How long they wait, where nobody says.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Where a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// On this machine, or in the same private network.
    Local,
    /// Elsewhere.
    Remote,
}

/// Whether a model can do something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ability {
    /// It can.
    #[default]
    Able,
    /// It cannot.
    Unable,
}

impl Ability {
    /// Whether it can.
    pub const fn is_able(self) -> bool {
        matches!(self, Self::Able)
    }
}

/// What a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What clients call it. One of few, which settings name: it is a label of metrics.
    pub name: String,
    /// What its provider is called here.
    pub provider: String,
    /// What the provider calls it.
    pub upstream: String,
    /// Where it runs.
    pub location: Location,
    /// Tokens of question and answer together; nothing where that is not known.
    pub context_tokens: Option<u64>,
    /// Tokens of an answer at most; nothing where that is not known.
    pub max_output_tokens: Option<u32>,
    /// Calling tools.
    pub tools: Ability,
    /// Looking at pictures.
    pub images: Ability,
    /// Keeping to a form.
    pub formats: Ability,
    /// Going on from a given text, so that it can take over another model's answer.
    pub continues: Ability,
    /// What its tokens cost; nothing where it has no price.
    pub price: Option<Price>,
}

/// How a model is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When it is left alone for a while.
    pub breaker: breaker::Settings,
    /// How calls that failed are made again.
    pub retries: retry::Settings,
    /// Calls at once.
    pub concurrent_max: usize,
    /// Calls that wait for a place.
    pub waiting_max: usize,
    /// How long they wait at most.
    pub wait_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            breaker: breaker::Settings::INFERENCE,
            retries: retry::Settings::STANDARD,
            concurrent_max: CONCURRENT_MAX,
            waiting_max: WAITING_MAX,
            wait_max: WAIT_MAX,
        }
    }
}

/// What a model is asked, whichever it is.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What is asked.
    pub request: Arc<Request>,
    /// How long it may take, waits and attempts that failed included.
    pub deadlines: Deadlines,
    /// `traceparent` and `tracestate` for the provider.
    pub trace: Vec<(&'static str, String)>,
    /// Text that the answer has to go on from. Only for models that can.
    pub continued: Option<String>,
    /// Tokens that the answer may have where neither the request nor the model's own bound says less.
    pub output_tokens_max: Option<u32>,
    /// Set once something was sent to the provider: from then on the call may cost something.
    pub is_sent: Arc<AtomicBool>,
}

impl Ask {
    /// A request, and nothing else.
    pub fn new(request: Arc<Request>, deadlines: Deadlines) -> Self {
        Self {
            request,
            deadlines,
            trace: Vec::new(),
            continued: None,
            output_tokens_max: None,
            is_sent: Arc::default(),
        }
    }
}

/// What came of a call, and how.
#[derive(Debug)]
pub struct Tried<T> {
    /// The answer, or the last failure.
    pub outcome: Result<T, CallError>,
    /// Every attempt that was made, in order; none where the breaker or the queue refused the call.
    pub attempts: Vec<AttemptRecord>,
    /// How long the call waited for a place.
    pub queued: Duration,
    /// Why there was no further attempt, where the last one failed with what may pass.
    pub given_up: Option<GivenUp>,
}

/// One attempt. That of a stream that was handed on ends here with its first visible piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// When it began.
    pub started: Instant,
    /// How long it took.
    pub duration: Duration,
    /// How it failed; nothing where it did not.
    pub error: Option<ErrorKind>,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// How long was waited before it.
    pub waited: Duration,
}

/// How a model is right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What its breaker lets through. One whose pause is over is still called open until somebody comes.
    pub breaker: State,
    /// How long the breaker lets nothing through; nothing where it does. Zero while one attempt decides.
    pub refuses_for: Option<Duration>,
    /// Calls under way.
    pub calls: usize,
    /// Calls that wait.
    pub waiting: usize,
}

/// A model; cloning is shallow.
#[derive(Clone, Debug)]
pub struct Model {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    spec: Spec,
    provider: Arc<dyn Provider>,
    breaker: Arc<Breaker>,
    retries: Retries,
    queue: Queue,
    wait_max: Duration,
    meters: Meters,
    /// The last failure that the breaker was told.
    last_failure: Mutex<Option<ErrorKind>>,
    /// The breaker opened.
    opened: Notify,
}

impl Model {
    /// A model that nobody has called yet.
    pub fn new(spec: Spec, provider: Arc<dyn Provider>, settings: Settings) -> Self {
        let shared = Shared {
            breaker: Arc::new(Breaker::new(settings.breaker)),
            retries: Retries::new(settings.retries),
            queue: Queue::new(settings.concurrent_max, settings.waiting_max),
            wait_max: settings.wait_max,
            meters: Meters::new(&spec.name),
            last_failure: Mutex::default(),
            opened: Notify::new(),
            spec,
            provider,
        };
        shared.show();
        Self { shared: Arc::new(shared) }
    }

    /// What it is.
    pub fn spec(&self) -> &Spec {
        &self.shared.spec
    }

    /// What its provider speaks.
    pub fn shape(&self) -> Shape {
        self.shared.provider.shape()
    }

    /// What it would be asked by.
    pub fn provider(&self) -> &Arc<dyn Provider> {
        &self.shared.provider
    }

    /// How it is at that moment.
    pub fn standing(&self, now: Instant) -> Standing {
        let Shared { breaker, queue, .. } = &*self.shared;
        let state = breaker.state();
        let refuses_for = match state {
            State::Closed => None,
            State::HalfOpen => Some(Duration::ZERO),
            State::Open => breaker.open_for(now).filter(|left| !left.is_zero()),
        };
        Standing { breaker: state, refuses_for, calls: queue.in_use(), waiting: queue.waiting() }
    }

    /// It is known to be well again, for instance because its process has just answered: its breaker need not wait.
    pub fn revived(&self) {
        if let Some(attempt) = self.shared.breaker.try_half_open_early() {
            attempt.succeeded(now());
            self.shared.show();
        }
    }

    /// Asks for a whole answer.
    pub async fn complete(&self, ask: &Ask) -> Tried<Answer> {
        self.call(ask, async |attempted| attempted.complete().await).await
    }

    /// Asks for an answer as it comes, and waits for its first visible piece, or for its end where it has none.
    pub async fn stream(&self, ask: &Ask) -> Tried<EventStream> {
        self.call(ask, async |attempted| attempted.stream().await).await
    }

    /// How many tokens the provider says that a request has; nothing where it cannot tell. Tried once, and only while the
    /// breaker lets everything pass: whoever can count, or need not ask anybody for it, may be unable to answer.
    ///
    /// # Errors
    ///
    /// As the provider, [`ErrorKind::BreakerOpen`] and [`ErrorKind::QueueFull`].
    pub async fn count_tokens(&self, ask: &Ask) -> Result<Option<u64>, CallError> {
        let shared = &self.shared;
        if shared.breaker.state() != State::Closed {
            let retry_in = shared.breaker.open_for(now()).unwrap_or_default();
            return Err(refused(breaker::Refused { retry_in }));
        }
        let deadline = time::Instant::now() + ask.deadlines.total;
        let _place = shared.enter(deadline).await?;
        let left = deadline.saturating_duration_since(time::Instant::now());
        shared.provider.count_tokens(&shared.call(ask, left)).await
    }

    /// Makes attempts until one has an answer or there is no point in another.
    async fn call<T>(
        &self,
        ask: &Ask,
        attempt: impl AsyncFn(Attempted) -> (Result<T, Failed>, AttemptRecord),
    ) -> Tried<T> {
        let shared = &self.shared;
        let began = time::Instant::now();
        let deadline = began + ask.deadlines.total;
        let mut tried =
            Tried { outcome: Err(out_of_time()), attempts: Vec::new(), queued: Duration::ZERO, given_up: None };
        let place = match shared.enter(deadline).await {
            Ok(place) => place,
            Err(error) => {
                shared.meters.refused(error.kind);
                tried.outcome = Err(error);
                return tried;
            }
        };
        tried.queued = began.elapsed();
        // Every attempt has it, and so has the stream that one of them hands on.
        let place = Arc::new(place);
        let mut waited = Duration::ZERO;
        shared.retries.called();
        loop {
            let passed = match shared.breaker.try_enter_owned(now()) {
                Ok(passed) => passed,
                Err(error) => {
                    shared.show();
                    shared.meters.refused(ErrorKind::BreakerOpen);
                    // Where attempts were made, the last failure says more.
                    if tried.attempts.is_empty() {
                        tried.outcome = Err(refused(error));
                    }
                    return tried;
                }
            };
            let left = deadline.saturating_duration_since(time::Instant::now());
            ask.is_sent.store(true, Ordering::Relaxed);
            let call = shared.call(ask, left);
            let attempted = Attempted { shared: Arc::clone(shared), call, passed, place: Arc::clone(&place), waited };
            let (outcome, record) = attempt(attempted).await;
            tried.attempts.push(record);
            let Failed { error, passed } = match outcome {
                Ok(answer) => {
                    tried.outcome = Ok(answer);
                    return tried;
                }
                Err(failed) => failed,
            };
            let again = error.is_transient().then(|| shared.again(&tried.attempts, &error, deadline));
            // The attempts of one call are one failure, or a single unlucky request would have nobody else served. One
            // that decides is waited for by all, and says at once what came of it.
            if matches!(again, Some(Ok(_))) && error.kind.is_failure() && !passed.is_deciding() {
                drop(passed);
            } else {
                shared.judge(passed, Some(&error));
            }
            tried.outcome = Err(error);
            match again {
                None => return tried,
                Some(Err(reason)) => {
                    tried.given_up = Some(reason);
                    return tried;
                }
                Some(Ok(wait)) => waited = wait,
            }
            shared.meters.retried();
            time::sleep(waited).await;
        }
    }
}

impl Shared {
    /// A place, as soon as there is one and unless that takes too long.
    async fn enter(&self, deadline: time::Instant) -> Result<Place, CallError> {
        let until = deadline.min(time::Instant::now() + self.wait_max);
        match time::timeout_at(until, self.queue.enter()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(CallError::new(ErrorKind::QueueFull, "too many calls wait for this model")),
            Err(_) if until == deadline => Err(out_of_time()),
            Err(_) => Err(CallError::new(ErrorKind::QueueFull, "no place among its calls came free in time")),
        }
    }

    /// How long to wait before another attempt, or why there is none.
    fn again(&self, made: &[AttemptRecord], error: &CallError, deadline: time::Instant) -> Result<Duration, GivenUp> {
        let attempt = u32::try_from(made.len()).unwrap_or(u32::MAX);
        let left = deadline.saturating_duration_since(time::Instant::now());
        self.retries.decide(now(), attempt, error.retry_after, left, fastrand::f64())
    }

    fn call(&self, ask: &Ask, total: Duration) -> Call {
        Call {
            request: Arc::clone(&ask.request),
            model: self.spec.upstream.clone(),
            max_output_tokens: self.spec.max_output_tokens.into_iter().chain(ask.output_tokens_max).min(),
            deadlines: Deadlines { total, ..ask.deadlines },
            trace: ask.trace.clone(),
            continued: ask.continued.clone(),
        }
    }

    /// Tells the breaker how an attempt ended. A provider that answers is well, whatever it answers; who left, and what took
    /// too long altogether, says nothing.
    fn judge(&self, passed: breaker::OwnedAttempt, error: Option<&CallError>) {
        match error.map(|error| error.kind) {
            None => passed.succeeded(now()),
            Some(kind) if kind.is_failure() => {
                *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(kind);
                if passed.failed(now()) {
                    let name = &self.spec.name;
                    tracing::warn!(model = name, error = kind.as_str(), "the model {name} is not asked for a while");
                    self.opened.notify_one();
                }
            }
            Some(ErrorKind::Cancelled | ErrorKind::TotalTimeout | ErrorKind::Inexpressible) => drop(passed),
            Some(_) => passed.succeeded(now()),
        }
        self.show();
    }

    fn show(&self) {
        self.meters.breaker(self.breaker.state());
    }
}

/// The time, by the clock that tests can stop.
fn now() -> Instant {
    time::Instant::now().into_std()
}

fn refused(refused: breaker::Refused) -> CallError {
    let error = CallError::new(ErrorKind::BreakerOpen, "it is not asked for a while, since it failed");
    CallError { retry_after: (!refused.retry_in.is_zero()).then_some(refused.retry_in), ..error }
}

fn out_of_time() -> CallError {
    CallError::new(ErrorKind::TotalTimeout, "the answer took longer than it may")
}
