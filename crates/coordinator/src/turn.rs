//! A turn, from what was asked to the answer: what it needs to know, who could answer, who does, and what becomes of
//! failures.
//!
//! Nothing runs here by itself: a turn lives in the future or the stream that its caller holds, and ends when that is
//! dropped.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use futures::StreamExt;
use holdfast_llm::{
    Answer, Ask, CallError, Deadlines, Delta, ErrorKind, Event, EventStream, Model, Request, Shape, Tried, Usage,
    check, tokens,
};
use holdfast_routing::{Candidate, Features, Obstacle, admit};
use holdfast_storage::{
    Caller,
    ledger::{Reservation, ReserveError},
};
use uuid::Uuid;

use crate::{
    About, Augmented, Completed, Coordinator, Streaming, Turn, TurnError, TurnEvent,
    cache::{Hit, Plan},
    catalog::{Choice, Chosen},
    record::{self, Outcome, RecordedCandidate, RecordedContext, RecordedFeatures, RecordedPassage, Started},
    run::{Beginning, Call, Record},
    session::Open,
};

/// Tokens that an answer is taken to have where nobody said how many it may: for budgets and prices.
pub(crate) const OUTPUT_TOKENS_ASSUMED: u64 = 4_096;
/// Models that stand in the record of a turn. A provider can have hundreds.
const CANDIDATES_RECORDED: usize = 64;

/// A turn that is under way.
struct Run {
    coordinator: Coordinator,
    caller: Caller,
    asked: String,
    request: Arc<Request>,
    features: Features,
    /// Who has not been asked yet, best first.
    left: VecDeque<Model>,
    trace: Vec<(&'static str, String)>,
    deadlines: Deadlines,
    began: Instant,
    session: Option<Open>,
    about: About,
    plan: Option<Plan>,
    /// An answer that was kept.
    hit: Option<Hit>,
    /// Whether another model may go on where one stopped.
    continues: bool,
    record: Record,
}

/// Who could answer, in order, and how that came about.
pub(crate) struct Routed {
    pub(crate) left: VecDeque<Model>,
    candidates: Vec<RecordedCandidate>,
    /// What rules each candidate out.
    obstacles: Vec<Vec<Ruled>>,
    policy: String,
}

/// What rules a candidate out.
enum Ruled {
    /// What routing says.
    By(Obstacle),
    /// A budget that is used up.
    Budget { budget: String, resets_at_ms: Option<i64> },
    /// Its shape has no words for the request.
    Inexpressible(CallError),
}

impl Ruled {
    fn word(&self) -> &'static str {
        match self {
            Self::By(obstacle) => obstacle.as_str(),
            Self::Budget { .. } => Obstacle::OverBudget.as_str(),
            Self::Inexpressible(error) => error.kind.as_str(),
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::By(obstacle) => obstacle.to_string(),
            Self::Budget { budget, .. } => format!("the budget {budget} is used up"),
            Self::Inexpressible(error) => error.reason.clone(),
        }
    }
}

impl Coordinator {
    /// Answers a turn.
    ///
    /// # Errors
    /// See [`TurnError`]. What was written down of the turn stays, whatever comes of it.
    pub async fn complete(&self, caller: &Caller, turn: Turn) -> Result<Completed, TurnError> {
        let mut run = self.begin(caller, turn).await?;
        if let Some(hit) = run.hit.take() {
            return run.kept_before(hit).await;
        }
        let answer = run.whole().await?;
        run.finish_whole(answer).await
    }

    /// Answers a turn piece by piece. Returns when the first visible piece is there, and until then goes from model to
    /// model like [`Coordinator::complete`].
    ///
    /// # Errors
    /// See [`TurnError`].
    pub async fn stream(&self, caller: &Caller, turn: Turn) -> Result<Streaming, TurnError> {
        let mut run = self.begin(caller, turn).await?;
        if let Some(hit) = run.hit.take() {
            let completed = run.kept_before(hit).await?;
            let events = futures::stream::iter(pieces(&completed.answer).map(TurnEvent::Piece));
            return Ok(Streaming { about: completed.about, shape: None, events: Box::pin(events) });
        }
        let (model, stream) = run.opened().await?;
        let (about, shape) = (run.about.clone(), Some(model.shape()));
        let relay = Relay { run, model, stream: Some(stream) };
        let events = futures::stream::unfold(relay, |mut relay| async move {
            let event = relay.next().await?;
            Some((event, relay))
        });
        Ok(Streaming { about, shape, events: Box::pin(events) })
    }

    /// Looks up what the turn needs, and decides who could answer it.
    async fn begin(&self, caller: &Caller, turn: Turn) -> Result<Run, TurnError> {
        let began = Instant::now();
        let Turn { model: asked, mut request, session, augmentation, cache, request_id, trace } = turn;
        let catalog = self.shared.catalog.load();
        let choice = catalog.choose(&asked)?;
        let mut session = match session {
            Some(id) => Some(self.open_session(caller, &id).await?),
            None => None,
        };
        if let Some(open) = &mut session {
            open.put_into(&mut request);
        }
        let augmented = match &augmentation {
            Some(asked) => {
                let sent = session.as_ref().map(|open| open.sent().clone()).unwrap_or_default();
                let query = last_question(&request);
                let found = crate::augment::augment(&self.shared.knowledge, caller, &query, asked, &sent);
                Some((found.await?, asked.budget_tokens))
            }
            None => None,
        };
        if let Some((found, _)) = augmented.as_ref().filter(|(found, _)| !found.context.is_empty()) {
            request.context = Some(found.context.clone());
        }
        let plan = self.shared.cache.plan(caller, &asked, &request, cache);
        let request = Arc::new(request);
        let (input_tokens, is_counted) = self.input_tokens(&choice, &request).await?;
        let features = features(&request, input_tokens);
        let interaction = Uuid::now_v7();
        let about = About {
            interaction,
            model: asked.clone(),
            is_cached: false,
            citations: augmented.as_ref().map(|(found, _)| found.citations.clone()).unwrap_or_default(),
            session: session.as_ref().map(|open| open.id().to_owned()),
        };
        let routed = self.route(caller, &choice, &request, &features).await?;
        let started = Started {
            request_id,
            asked: asked.clone(),
            policy: routed.policy,
            messages: record::said(&request, self.shared.config.texts),
            input_tokens,
            features: RecordedFeatures { is_counted, ..recorded(&features) },
            candidates: routed.candidates,
            context: augmented.as_ref().map(|(found, budget)| context(found, *budget)),
            cache: if plan.is_some() { "considered" } else { "not_used" }.to_owned(),
        };
        let record = Record::begin(Beginning {
            interaction,
            log: &self.shared.log,
            ledger: &self.shared.ledger,
            policy: self.shared.config.texts,
            caller,
            session: about.session.clone(),
            began,
            started,
        });
        if let (Some(open), Some((found, _))) = (&mut session, &augmented) {
            open.sends(&found.citations);
        }
        let mut run = Run {
            coordinator: self.clone(),
            caller: caller.clone(),
            asked,
            request,
            features,
            left: routed.left,
            trace,
            deadlines: self.shared.config.deadlines,
            began,
            session,
            about,
            hit: plan.as_ref().and_then(|plan| self.shared.cache.get(plan)),
            plan,
            continues: choice.continues,
            record,
        };
        let error = match &run.hit {
            Some(_) => return Ok(run),
            None if cache.is_kept_only => TurnError::NotCached,
            None if run.left.is_empty() => self.nobody(routed.obstacles, &choice, &run.features),
            None => return Ok(run),
        };
        run.record.over(Outcome::Failed);
        Err(error)
    }

    /// Tokens of the question, and whether they were counted. Counting takes longer than all the rest of a turn here, so it
    /// is done where something hangs on the number; elsewhere four bytes are taken for a token, as English text has it.
    async fn input_tokens(&self, choice: &Choice, request: &Arc<Request>) -> Result<(u64, bool), TurnError> {
        /// What is counted at once; more would hold other turns up.
        const AT_ONCE_BYTES: u64 = 8 << 10;
        let most = tokens::at_most(request);
        let output = u64::from(request.sampling.max_tokens.unwrap_or(0)).max(OUTPUT_TOKENS_ASSUMED);
        let is_tight = |chosen: &Chosen| chosen.model.spec().context_tokens.is_some_and(|has| most + output > has);
        let is_limited = !self.shared.ledger.budgets().is_empty();
        if is_limited || choice.by_rules || choice.models.iter().any(is_tight) {
            if most <= AT_ONCE_BYTES {
                return Ok((tokens::count_request(request), true));
            }
            let request = Arc::clone(request);
            let counted = crate::session::blocking(move || tokens::count_request(&request)).await?;
            return Ok((counted, true));
        }
        Ok((tokens::estimate(request), false))
    }

    /// Puts the models that could answer in order.
    pub(crate) async fn route(
        &self,
        caller: &Caller,
        choice: &Choice,
        request: &Request,
        features: &Features,
    ) -> Result<Routed, TurnError> {
        let verdicts = self.budgets(caller, choice, features, answers(request)).await?;
        let now = Instant::now();
        let mut routed = Routed {
            left: VecDeque::new(),
            candidates: Vec::new(),
            obstacles: Vec::new(),
            policy: choice.policy_name.clone(),
        };
        let mut candidates = Vec::with_capacity(choice.models.len());
        // The same for every model of a shape.
        let mut said_in: Vec<(Shape, Option<CallError>)> = Vec::new();
        for (chosen, verdict) in choice.models.iter().zip(verdicts) {
            let standing = chosen.model.standing(now);
            let candidate = candidate(chosen, standing.refuses_for.is_none(), &verdict);
            let mut ruled: Vec<Ruled> = admit(features, &candidate).into_iter().map(Ruled::By).collect();
            if let Some(over) = verdict.and_then(Verdict::over) {
                ruled.retain(|ruled| !matches!(ruled, Ruled::By(Obstacle::OverBudget)));
                ruled.push(over);
            }
            let shape = chosen.model.shape();
            if !said_in.iter().any(|(known, _)| *known == shape) {
                said_in.push((shape, check(shape, request).err()));
            }
            let unsayable = said_in.iter().find(|(known, _)| *known == shape).and_then(|(_, error)| error.clone());
            ruled.extend(unsayable.map(Ruled::Inexpressible));
            routed.candidates.push(RecordedCandidate {
                model: candidate.name.clone(),
                location: if candidate.location == holdfast_routing::Location::Local { "local" } else { "remote" }
                    .to_owned(),
                obstacles: ruled.iter().map(|ruled| ruled.word().to_owned()).collect(),
                rank: None,
                score: None,
                propensity: None,
                breaker: standing.breaker.as_str().to_owned(),
                price: candidate.price,
            });
            routed.obstacles.push(ruled);
            candidates.push(candidate);
        }
        let admitted: Vec<usize> = (0..candidates.len()).filter(|index| routed.obstacles[*index].is_empty()).collect();
        let of_them: Vec<&Candidate> = admitted.iter().map(|index| &candidates[*index]).collect();
        for (rank, ranked) in choice.policy.rank(features, &of_them, fastrand::f64()).iter().enumerate() {
            let index = admitted[ranked.index];
            let recorded = &mut routed.candidates[index];
            (recorded.rank, recorded.score, recorded.propensity) =
                (Some(rank), Some(ranked.score), Some(ranked.propensity));
            routed.left.push_back(choice.models[index].model.clone());
        }
        // Those that come into question first, and of the others as many as a reader can want.
        routed.candidates.sort_by_key(|candidate| candidate.rank.unwrap_or(usize::MAX));
        routed.candidates.truncate(CANDIDATES_RECORDED);
        Ok(routed)
    }

    /// What budgets say of each model; nothing where there are none.
    async fn budgets(
        &self,
        caller: &Caller,
        choice: &Choice,
        features: &Features,
        answers: u64,
    ) -> Result<Vec<Option<Verdict>>, TurnError> {
        if self.shared.ledger.budgets().is_empty() {
            return Ok(choice.models.iter().map(|_| None).collect());
        }
        let ledger = self.shared.ledger.clone();
        let (word, id) = (&choice.asked, Uuid::nil());
        let of_model = |chosen: &Chosen| reservation(caller, word, &chosen.model, features, answers, id);
        let asked: Vec<Reservation> = choice.models.iter().map(of_model).collect();
        let look = move || asked.iter().map(|reservation| Verdict::of(ledger.allows(reservation))).collect();
        let verdicts: Result<Vec<Option<Verdict>>, TurnError> = crate::session::blocking(look).await?;
        verdicts
    }

    /// Every model that could answer is left alone for a while.
    fn left_alone(&self, choice: &Choice) -> TurnError {
        let reason = "no model that could answer is asked for a while, since they failed";
        let mut last = CallError::new(ErrorKind::BreakerOpen, reason);
        let now = Instant::now();
        last.retry_after = choice.models.iter().filter_map(|chosen| chosen.model.standing(now).refuses_for).min();
        TurnError::Failed { last, attempts: 0 }
    }

    /// Why nobody can answer.
    fn nobody(&self, mut obstacles: Vec<Vec<Ruled>>, choice: &Choice, features: &Features) -> TurnError {
        let all = |is: fn(&Ruled) -> bool| obstacles.iter().all(|ruled| ruled.iter().any(is));
        if all(|ruled| matches!(ruled, Ruled::By(Obstacle::ContextTooShort { .. }))) {
            let limit = choice.models.iter().filter_map(|chosen| chosen.model.spec().context_tokens).max().unwrap_or(0);
            return TurnError::ContextTooLong { tokens: holdfast_routing::tokens_needed(features, limit), limit };
        }
        if all(|ruled| matches!(ruled, Ruled::Budget { .. })) {
            let first = obstacles.iter_mut().flatten().find_map(|ruled| match ruled {
                Ruled::Budget { budget, resets_at_ms } => Some((std::mem::take(budget), *resets_at_ms)),
                _ => None,
            });
            let (budget, resets_at_ms) = first.unwrap_or_default();
            return TurnError::BudgetExceeded { budget, resets_at_ms };
        }
        if all(|ruled| matches!(ruled, Ruled::By(Obstacle::NoPrice))) {
            let model = choice.models.first().map(|chosen| chosen.model.spec().name.clone()).unwrap_or_default();
            return TurnError::MissingPrice { model };
        }
        if all(|ruled| matches!(ruled, Ruled::Inexpressible(_))) {
            let last = obstacles.into_iter().flatten().find_map(|ruled| match ruled {
                Ruled::Inexpressible(error) => Some(error),
                _ => None,
            });
            if let Some(last) = last {
                return TurnError::Failed { last, attempts: 0 };
            }
            return TurnError::NoProvider;
        }
        if all(|ruled| matches!(ruled, Ruled::By(Obstacle::BreakerOpen))) {
            return self.left_alone(choice);
        }
        // One that only time rules out: it is worth coming again.
        let passing = |ruled: &Vec<Ruled>| {
            ruled.iter().all(|ruled| matches!(ruled, Ruled::Budget { .. } | Ruled::By(Obstacle::BreakerOpen)))
        };
        if obstacles.iter().any(passing) {
            let over = obstacles.into_iter().filter(passing).flatten().find_map(|ruled| match ruled {
                Ruled::Budget { budget, resets_at_ms } => Some(TurnError::BudgetExceeded { budget, resets_at_ms }),
                _ => None,
            });
            return over.unwrap_or_else(|| self.left_alone(choice));
        }
        let told = |(chosen, ruled): (&Chosen, Vec<Ruled>)| {
            let why: Vec<String> = ruled.iter().map(Ruled::sentence).collect();
            (chosen.model.spec().name.clone(), why.join("; "))
        };
        TurnError::NoneFits { obstacles: choice.models.iter().zip(obstacles).map(told).collect() }
    }
}

/// What budgets say of a call to a model.
enum Verdict {
    Fits,
    Over { budget: String, resets_at_ms: Option<i64> },
    NoPrice,
}

impl Verdict {
    fn of(allowed: Result<(), ReserveError>) -> Result<Option<Self>, TurnError> {
        match allowed {
            Ok(()) => Ok(Some(Self::Fits)),
            Err(ReserveError::Over(over)) => {
                Ok(Some(Self::Over { budget: over.budget, resets_at_ms: over.resets_at_ms }))
            }
            Err(ReserveError::NoPrice { .. }) => Ok(Some(Self::NoPrice)),
            Err(ReserveError::TooMany) => Err(too_many()),
            Err(ReserveError::Storage(error)) => Err(error.into()),
        }
    }

    fn over(self) -> Option<Ruled> {
        match self {
            Self::Over { budget, resets_at_ms } => Some(Ruled::Budget { budget, resets_at_ms }),
            Self::Fits | Self::NoPrice => None,
        }
    }
}

fn too_many() -> TurnError {
    let last = CallError::new(ErrorKind::QueueFull, "too many calls under budgets are under way");
    TurnError::Failed { last, attempts: 0 }
}

fn candidate(chosen: &Chosen, is_passing: bool, verdict: &Option<Verdict>) -> Candidate {
    let spec = chosen.model.spec();
    Candidate {
        name: spec.name.clone(),
        location: match spec.location {
            holdfast_llm::Location::Local => holdfast_routing::Location::Local,
            holdfast_llm::Location::Remote => holdfast_routing::Location::Remote,
        },
        context_tokens: spec.context_tokens,
        tools: spec.tools.is_able(),
        images: spec.images.is_able(),
        formats: spec.formats.is_able(),
        is_granted: true,
        is_within_budget: !matches!(verdict, Some(Verdict::Over { .. })),
        is_passing: chosen.is_available && is_passing,
        price: spec.price.map(|price| (price.input, price.output)),
        is_price_needed: matches!(verdict, Some(Verdict::NoPrice)),
    }
}

/// What a call may take.
fn reservation(
    caller: &Caller,
    asked: &str,
    model: &Model,
    features: &Features,
    answers: u64,
    interaction: Uuid,
) -> Reservation {
    let (cost, tokens) = estimate(model, features, answers);
    Reservation {
        tenant: caller.id().into(),
        caller: caller.id().into(),
        session: None,
        interaction,
        models: names(asked, model),
        cost,
        tokens,
        now_ms: record::now_ms(),
    }
}

impl Run {
    /// Answers with what was kept.
    async fn kept_before(self, hit: Hit) -> Result<Completed, TurnError> {
        let Self { coordinator, request, session, record, mut about, .. } = self;
        let Hit { answer, model } = hit;
        about.is_cached = true;
        about.model = model.to_string();
        record.answered_before(&model, &answer);
        if let Some(open) = session {
            coordinator.remember(open, &request, &answer.parts, &about.model).await?;
        }
        Ok(Completed { about, answer })
    }

    /// A whole answer, from the first model that gives one.
    async fn whole(&mut self) -> Result<Answer, TurnError> {
        let mut last = None;
        while let Some(model) = self.left.pop_front() {
            let Some(ask) = self.turn_to(&model, None, &mut last).await? else { continue };
            let Tried { outcome, attempts, .. } = model.complete(&ask).await;
            self.record.tried(&model.spec().name, &attempts, outcome.as_ref().err());
            match outcome {
                Ok(answer) => {
                    self.about.model.clone_from(&model.spec().name);
                    return Ok(answer);
                }
                Err(error) => self.after(&error, &mut last)?,
            }
        }
        Err(self.failed(last))
    }

    /// A stream whose first visible piece is there, from the first model that gives one.
    async fn opened(&mut self) -> Result<(Model, EventStream), TurnError> {
        let mut last = None;
        while let Some(model) = self.left.pop_front() {
            let Some(ask) = self.turn_to(&model, None, &mut last).await? else { continue };
            let Tried { outcome, attempts, .. } = model.stream(&ask).await;
            self.record.tried(&model.spec().name, &attempts, outcome.as_ref().err());
            match outcome {
                Ok(stream) => {
                    self.about.model.clone_from(&model.spec().name);
                    return Ok((model, stream));
                }
                Err(error) => self.after(&error, &mut last)?,
            }
        }
        Err(self.failed(last))
    }

    /// Reserves what a call to that model may take, and makes the call. Nothing where there is no room for it in a budget,
    /// or no time.
    async fn turn_to(
        &mut self,
        model: &Model,
        continued: Option<String>,
        last: &mut Option<TurnError>,
    ) -> Result<Option<Ask>, TurnError> {
        let Some(left) = self.deadlines.total.checked_sub(self.began.elapsed()) else {
            let error = CallError::new(ErrorKind::TotalTimeout, "the turn took longer than it may");
            *last = Some(TurnError::Failed { last: error, attempts: self.record.attempts() });
            return Ok(None);
        };
        let spec = model.spec();
        let answers = answers(&self.request);
        let (caller, interaction) = (&self.caller, self.record.interaction);
        let mut reservation = reservation(caller, &self.asked, model, &self.features, answers, interaction);
        reservation.session = self.about.session.as_deref().map(Into::into);
        let (names, most) = (reservation.models.clone(), (reservation.cost, reservation.tokens));
        let mut ask = Ask {
            trace: self.trace.clone(),
            continued,
            ..Ask::new(Arc::clone(&self.request), Deadlines { total: left, ..self.deadlines })
        };
        match self.coordinator.shared.ledger.reserve(reservation).await {
            Ok(reserved) => {
                // What was set aside is what the answer may take.
                if reserved.is_counted() {
                    ask.output_tokens_max = u32::try_from(output_tokens(model, &self.features)).ok();
                }
                self.record.goes_to(Call {
                    model: spec.name.clone(),
                    price: spec.price,
                    reserved,
                    names,
                    most,
                    is_sent: Arc::clone(&ask.is_sent),
                });
            }
            Err(error) => {
                *last = Some(match error {
                    ReserveError::Over(over) => {
                        TurnError::BudgetExceeded { budget: over.budget, resets_at_ms: over.resets_at_ms }
                    }
                    ReserveError::NoPrice { .. } => TurnError::MissingPrice { model: spec.name.clone() },
                    ReserveError::TooMany => too_many(),
                    ReserveError::Storage(error) => return Err(error.into()),
                });
                return Ok(None);
            }
        }
        Ok(Some(ask))
    }

    /// A model failed: whether another may be asked.
    fn after(&mut self, error: &CallError, last: &mut Option<TurnError>) -> Result<(), TurnError> {
        // A provider that fails has not answered, and is not paid; one that was cut off may have been about to.
        match error.kind {
            ErrorKind::TotalTimeout | ErrorKind::Cancelled => self.record.lost(),
            _ => self.record.release(),
        }
        let failed = TurnError::Failed { last: error.clone(), attempts: self.record.attempts() };
        if error.kind.is_for_others() {
            *last = Some(failed);
            return Ok(());
        }
        self.record.over(Outcome::Failed);
        Err(failed)
    }

    fn failed(&mut self, last: Option<TurnError>) -> TurnError {
        self.record.over(Outcome::Failed);
        last.unwrap_or(TurnError::NoProvider)
    }

    /// Keeps, remembers and writes down a whole answer.
    async fn finish_whole(self, answer: Answer) -> Result<Completed, TurnError> {
        let answer = Arc::new(answer);
        let Self { coordinator, request, session, about, plan, record, .. } = self;
        record.answered(&answer);
        if let Some(plan) = &plan {
            coordinator.shared.cache.put(plan, &about.model, &answer);
        }
        if let Some(open) = session {
            coordinator.remember(open, &request, &answer.parts, &about.model).await?;
        }
        Ok(Completed { about, answer })
    }
}

/// A stream that is handed on, and what happens when it breaks.
struct Relay {
    run: Run,
    model: Model,
    /// Nothing once it is over.
    stream: Option<EventStream>,
}

impl Relay {
    async fn next(&mut self) -> Option<TurnEvent> {
        let stream = self.stream.as_mut()?;
        let error = match stream.next().await {
            Some(Ok(event)) => {
                self.run.record.heard(&event);
                if event.deltas.contains(&Delta::End) {
                    self.stream = None;
                    if let Err(error) = self.finish().await {
                        return Some(TurnEvent::Failed(Arc::new(error)));
                    }
                }
                return Some(TurnEvent::Piece(event));
            }
            Some(Err(error)) => error,
            // A provider's stream ends with an end or an error; this one has a defect, and is cut all the same.
            None => CallError::new(ErrorKind::Cut, "the stream stopped"),
        };
        self.stream = None;
        self.run.record.broke(&self.model.spec().name, &error);
        if let Some(continued) = self.go_on(&error).await {
            return Some(continued);
        }
        self.run.record.over(Outcome::Cut);
        Some(TurnEvent::Failed(Arc::new(TurnError::Failed { last: error, attempts: self.run.record.attempts() })))
    }

    /// Has another model go on from what was said, where that was asked for and is possible.
    async fn go_on(&mut self, error: &CallError) -> Option<TurnEvent> {
        if !self.run.continues || !error.kind.is_for_others() {
            return None;
        }
        let text = self.run.record.only_text()?;
        while let Some(model) = self.run.left.pop_front() {
            if !model.spec().continues.is_able() {
                continue;
            }
            let mut last = None;
            let Ok(Some(ask)) = self.run.turn_to(&model, Some(text.clone()), &mut last).await else { continue };
            let Tried { outcome, attempts, .. } = model.stream(&ask).await;
            self.run.record.tried(&model.spec().name, &attempts, outcome.as_ref().err());
            match outcome {
                Ok(stream) => {
                    let name = model.spec().name.clone();
                    self.run.record.continued(&name);
                    (self.model, self.stream) = (model, Some(stream));
                    return Some(TurnEvent::Continued { model: name });
                }
                Err(error) if error.kind == ErrorKind::TotalTimeout => self.run.record.lost(),
                Err(_) => self.run.record.release(),
            }
        }
        None
    }

    /// Keeps and remembers the whole answer, then writes it down.
    async fn finish(&mut self) -> Result<(), TurnError> {
        let said = self.run.record.said();
        let answer = Answer {
            id: said.id.clone(),
            model: said.model.clone(),
            parts: said.parts.clone(),
            finish: said.finish.clone().unwrap_or(holdfast_llm::Finish::Stop),
            usage: said.usage,
            shape: self.model.shape(),
            // It came in pieces: there is no body of it.
            body: bytes::Bytes::new(),
        };
        self.run.record.over(Outcome::Answered);
        let answer = Arc::new(answer);
        if let Some(plan) = &self.run.plan {
            self.run.coordinator.shared.cache.put(plan, &self.run.about.model, &answer);
        }
        match self.run.session.take() {
            Some(open) => {
                let Run { coordinator, request, about, .. } = &self.run;
                coordinator.remember(open, request, &answer.parts, &about.model).await
            }
            None => Ok(()),
        }
    }
}

/// A kept answer as it would come.
fn pieces(answer: &Arc<Answer>) -> impl Iterator<Item = Event> + Send + use<> {
    use holdfast_llm::Part;
    let answer = Arc::clone(answer);
    let mut deltas = vec![Delta::Start { id: answer.id.clone(), model: answer.model.clone() }];
    let mut calls = 0;
    for part in &answer.parts {
        match part {
            Part::Text(text) => deltas.push(Delta::Text(text.clone())),
            Part::Reasoning { text, signature } => {
                deltas.push(Delta::Reasoning(text.clone()));
                deltas.extend(signature.clone().map(Delta::Signature));
            }
            Part::ToolCall { id, name, arguments } => {
                deltas.push(Delta::ToolCall { index: calls, id: id.clone(), name: name.clone() });
                deltas.push(Delta::Arguments { index: calls, fragment: arguments.clone() });
                calls += 1;
            }
            Part::Image(_) | Part::ToolResult { .. } => {}
        }
    }
    deltas.push(Delta::Finish(answer.finish.clone()));
    if answer.usage != Usage::default() {
        deltas.push(Delta::Usage(answer.usage));
    }
    deltas.push(Delta::End);
    deltas.into_iter().map(|delta| Event { deltas: vec![delta], frame: None })
}

/// The words that budgets and prices know a model by: what was asked for, its name, and its provider's.
fn names(asked: &str, model: &Model) -> Vec<String> {
    let spec = model.spec();
    let mut names = vec![asked.to_owned()];
    for name in [&spec.name, &spec.provider, &spec.upstream] {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// How many answers are asked for.
fn answers(request: &Request) -> u64 {
    u64::from(request.sampling.answers.unwrap_or(1))
}

/// Tokens that each answer of a model may have.
fn output_tokens(model: &Model, features: &Features) -> u64 {
    let most = model.spec().max_output_tokens.map(u64::from);
    features.output_tokens.or(most).unwrap_or(OUTPUT_TOKENS_ASSUMED)
}

/// What a call may cost and take at most: nothing for the cost where the model has no price. One that runs here costs
/// nothing without one.
fn estimate(model: &Model, features: &Features, answers: u64) -> (Option<u64>, u64) {
    let spec = model.spec();
    let output = output_tokens(model, features).saturating_mul(answers);
    let usage = Usage { input_tokens: Some(features.input_tokens), output_tokens: Some(output), ..Usage::default() };
    let is_free = spec.location == holdfast_llm::Location::Local;
    let cost = spec.price.map(|price| price.of(&usage, &Usage::default())).or(is_free.then_some(0));
    (cost, features.input_tokens.saturating_add(output))
}

pub(crate) fn features(request: &Request, input_tokens: u64) -> Features {
    Features {
        input_tokens,
        output_tokens: request.sampling.max_tokens.map(u64::from),
        has_tools: request.has_tools(),
        has_images: request.has_images(),
        has_format: request.format != holdfast_llm::Format::Text,
        messages: request.messages.len() + request.history.len(),
    }
}

fn recorded(features: &Features) -> RecordedFeatures {
    RecordedFeatures {
        output_tokens: features.output_tokens,
        has_tools: features.has_tools,
        has_images: features.has_images,
        has_format: features.has_format,
        messages: features.messages,
        is_counted: true,
    }
}

fn context(found: &Augmented, budget_tokens: u64) -> RecordedContext {
    let taken = found.citations.iter().map(|citation| RecordedPassage {
        chunk_id: citation.chunk_id.clone(),
        document_id: Some(citation.document_id.clone()),
        collection: Some(citation.collection.clone()),
        score: citation.score,
        reason: None,
    });
    let refused = found.refused.iter().map(|refused| RecordedPassage {
        chunk_id: refused.chunk_id.clone(),
        document_id: None,
        collection: None,
        score: refused.score,
        reason: Some(refused.reason.as_str().to_owned()),
    });
    RecordedContext {
        budget_tokens,
        tokens: found.tokens,
        taken: taken.collect(),
        refused: refused.collect(),
        degraded: found.degraded.clone(),
    }
}

/// What the user asked last.
fn last_question(request: &Request) -> String {
    let of_user = |message: &&holdfast_llm::Message| message.role == holdfast_llm::Role::User;
    let last = request.messages.iter().rev().find(of_user);
    last.map(|message| message.texts().collect::<Vec<_>>().join("\n")).unwrap_or_default()
}
