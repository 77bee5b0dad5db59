//! A turn, from what was asked to the answer: what it needs to know, who could answer, who does, and what becomes of
//! failures.
//!
//! Nothing runs here by itself: a turn lives in the future or the stream that its caller holds, and ends when that is
//! dropped.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use futures::StreamExt;
use holdfast_llm::{
    Answer, Call, CallError, Deadlines, Delta, ErrorKind, Event, EventStream, Request, Usage, check,
    model::{Model, Tried},
    tokens,
};
use holdfast_routing::{Candidate, Features, Obstacle, admit};
use holdfast_storage::{Caller, ledger::Reservation};
use uuid::Uuid;

use crate::{
    About, Augmented, Completed, Coordinator, Streaming, Turn, TurnError, TurnEvent,
    cache::Plan,
    catalog::{Choice, Chosen},
    record::{
        self, Outcome, RecordedCandidate, RecordedContext, RecordedFeatures, RecordedPassage, Started,
    },
    run::{Beginning, Record},
    session::Open,
};

/// Tokens that an answer is taken to have where nobody said how many it may: for budgets and prices.
pub(crate) const OUTPUT_TOKENS_ASSUMED: u64 = 4_096;

/// A turn that is under way.
struct Run {
    coordinator: Coordinator,
    caller: Caller,
    asked: String,
    request: Arc<Request>,
    features: Features,
    /// Who has not been asked yet, best first.
    left: VecDeque<Arc<Model>>,
    trace: Vec<(&'static str, String)>,
    deadlines: Deadlines,
    began: Instant,
    session: Option<Open>,
    about: About,
    plan: Option<Plan>,
    /// Whether another model may go on where one stopped.
    continues: bool,
    record: Record,
}

/// Who could answer, in order, and how that came about.
struct Routed {
    left: VecDeque<Arc<Model>>,
    candidates: Vec<RecordedCandidate>,
    policy: String,
}

impl Coordinator {
    /// Answers a turn.
    ///
    /// # Errors
    /// See [`TurnError`]. What was written down of the turn stays, whatever comes of it.
    pub async fn complete(&self, caller: &Caller, turn: Turn) -> Result<Completed, TurnError> {
        let mut run = self.begin(caller, turn).await?;
        if let Some(hit) = run.plan.as_ref().and_then(|plan| self.shared.cache.get(plan)) {
            return Ok(run.from_cache(&hit.model, hit.answer));
        }
        run.refuse_unless_kept()?;
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
        if let Some(hit) = run.plan.as_ref().and_then(|plan| self.shared.cache.get(plan)) {
            let completed = run.from_cache(&hit.model, hit.answer);
            let events = futures::stream::iter(pieces(&completed.answer).map(TurnEvent::Piece));
            return Ok(Streaming { about: completed.about, shape: None, events: Box::pin(events) });
        }
        run.refuse_unless_kept()?;
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
        let (input_tokens, is_counted) = self.input_tokens(caller, &choice, &request);
        let features = features(&request, input_tokens);
        let interaction = Uuid::now_v7();
        let about = About {
            interaction,
            model: asked.clone(),
            is_cached: false,
            citations: augmented.as_ref().map(|(found, _)| found.citations.clone()).unwrap_or_default(),
            session: session.as_ref().map(|open| open.id().to_owned()),
        };
        let routed = self.route(caller, &choice, &request, &features)?;
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
            request: Arc::new(request),
            features,
            left: routed.left,
            trace,
            deadlines: self.shared.config.deadlines,
            began,
            session,
            about,
            plan: plan.map(|plan| Plan { look_up: if cache.is_fresh { None } else { plan.look_up }, ..plan }),
            continues: choice.continues,
            record,
        };
        if run.left.is_empty() {
            let error = self.nobody(&choice, &run.features, caller);
            run.record.over(Outcome::Failed);
            return Err(error);
        }
        if cache.is_kept_only {
            run.left.clear();
        }
        Ok(run)
    }

    /// Tokens of the question, and whether they were counted. Counting takes longer than all the rest of a turn here, so it
    /// is done where something hangs on the number; elsewhere four bytes are taken for a token, as English text has it.
    fn input_tokens(&self, caller: &Caller, choice: &Choice, request: &Request) -> (u64, bool) {
        let bytes = request.text_bytes();
        // No token is shorter than a byte, so what fits by its bytes fits.
        let output = u64::from(request.sampling.max_tokens.unwrap_or(0)).max(OUTPUT_TOKENS_ASSUMED);
        let is_tight = |chosen: &Chosen| chosen.model.spec().context_tokens.is_some_and(|has| bytes + output > has);
        let is_limited = choice
            .models
            .iter()
            .any(|chosen| self.shared.ledger.applies(caller.id(), &names(&choice.asked, &chosen.model)));
        if is_limited || choice.by_rules || choice.models.iter().any(is_tight) {
            return (tokens::count_request(request), true);
        }
        (bytes.div_ceil(4), false)
    }

    /// Puts the models that could answer in order.
    fn route(
        &self,
        caller: &Caller,
        choice: &Choice,
        request: &Request,
        features: &Features,
    ) -> Result<Routed, TurnError> {
        let chosen = &choice.models;
        let candidates: Vec<Candidate> =
            chosen.iter().map(|chosen| self.candidate(caller, &choice.asked, chosen, features)).collect();
        let mut recorded: Vec<RecordedCandidate> = Vec::with_capacity(candidates.len());
        let mut admitted = Vec::new();
        for (index, (candidate, chosen)) in candidates.iter().zip(chosen).enumerate() {
            let inexpressible = check(chosen.model.shape(), request).err();
            let obstacle = match (admit(features, candidate), inexpressible) {
                (Some(obstacle), _) => Some(obstacle.as_str().to_owned()),
                (None, Some(_)) => Some(ErrorKind::Inexpressible.as_str().to_owned()),
                (None, None) => None,
            };
            if obstacle.is_none() {
                admitted.push(index);
            }
            recorded.push(RecordedCandidate {
                model: candidate.name.clone(),
                location: if candidate.location == holdfast_routing::Location::Local { "local" } else { "remote" }.to_owned(),
                obstacle,
                rank: None,
                score: None,
                propensity: None,
                breaker: chosen.model.breaker_state().as_str().to_owned(),
                price: candidate.price,
            });
        }
        let of_them: Vec<&Candidate> = admitted.iter().map(|index| &candidates[*index]).collect();
        let ranking = choice.policy.rank(features, &of_them, fastrand::f64());
        let mut left = VecDeque::with_capacity(admitted.len());
        for (rank, ranked) in ranking.order.iter().enumerate() {
            let index = admitted[ranked.index];
            recorded[index].rank = Some(rank);
            recorded[index].score = Some(ranked.score);
            recorded[index].propensity = Some(ranked.propensity);
            left.push_back(Arc::clone(&chosen[index].model));
        }
        Ok(Routed { left, candidates: recorded, policy: choice.policy_name.clone() })
    }

    fn candidate(&self, caller: &Caller, asked: &str, chosen: &Chosen, features: &Features) -> Candidate {
        let spec = chosen.model.spec();
        let (cost, tokens) = estimate(&chosen.model, features);
        let names = names(asked, &chosen.model);
        let verdict = self.shared.ledger.would_fit(caller.id(), &names, cost, tokens, record::now_ms());
        Candidate {
            name: spec.name.clone(),
            location: spec.location,
            context_tokens: spec.context_tokens,
            tools: spec.tools,
            images: spec.images,
            formats: spec.formats,
            is_granted: true,
            is_within_budget: verdict,
            is_passing: chosen.is_available && chosen.model.is_passing(),
            price: spec.price.map(|price| (price.input, price.output)),
        }
    }

    /// Why nobody can answer.
    fn nobody(&self, choice: &Choice, features: &Features, caller: &Caller) -> TurnError {
        let mut obstacles = Vec::new();
        let mut limit = None;
        for chosen in &choice.models {
            let candidate = self.candidate(caller, &choice.asked, chosen, features);
            let obstacle = admit(features, &candidate);
            if let Some(Obstacle::ContextTooShort { has, .. }) = obstacle {
                limit = limit.max(Some(has));
            }
            obstacles.push((candidate.name, obstacle));
        }
        let all = |is: fn(&Obstacle) -> bool| {
            !obstacles.is_empty() && obstacles.iter().all(|(_, obstacle)| obstacle.as_ref().is_some_and(is))
        };
        if let (Some(limit), true) = (limit, all(|it| matches!(it, Obstacle::ContextTooShort { .. }))) {
            let tokens = features.input_tokens + features.output_tokens.unwrap_or(0);
            return TurnError::ContextTooLong { tokens, limit };
        }
        if all(|it| matches!(it, Obstacle::OverBudget)) {
            let names = choice.models.iter().flat_map(|chosen| names(&choice.asked, &chosen.model)).collect::<Vec<_>>();
            let (budget, resets_at_ms) =
                self.shared.ledger.tightest(caller.id(), &names, record::now_ms()).unwrap_or_default();
            return TurnError::BudgetExceeded { budget, resets_at_ms };
        }
        if all(|it| matches!(it, Obstacle::BreakerOpen)) {
            let reason = "every model that could answer is not being asked for a while, since it failed";
            let mut last = CallError::new(ErrorKind::BreakerOpen, reason);
            last.retry_after = choice.models.iter().filter_map(|chosen| chosen.model.opens_in()).min();
            return TurnError::Failed { last, attempts: 0 };
        }
        let told = |(name, obstacle): (String, Option<Obstacle>)| {
            (name, obstacle.map_or_else(|| "cannot express this request".to_owned(), |obstacle| obstacle.to_string()))
        };
        TurnError::NoneFits { obstacles: obstacles.into_iter().map(told).collect() }
    }
}

impl Run {
    /// Answers with what was kept.
    fn from_cache(self, model: &str, answer: Arc<Answer>) -> Completed {
        let Self { record, mut about, .. } = self;
        about.is_cached = true;
        about.model = model.to_owned();
        record.answered_before(model, &answer);
        Completed { about, answer }
    }

    fn refuse_unless_kept(&mut self) -> Result<(), TurnError> {
        if self.left.is_empty() {
            self.record.over(Outcome::Failed);
            return Err(TurnError::NotCached);
        }
        Ok(())
    }

    /// A whole answer, from the first model that gives one.
    async fn whole(&mut self) -> Result<Answer, TurnError> {
        let mut last = None;
        while let Some(model) = self.left.pop_front() {
            let Some(call) = self.turn_to(&model, None, &mut last).await? else { continue };
            let Tried { outcome, attempts } = model.complete(call).await;
            self.record.tried(&model.spec().name, &attempts);
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
    async fn opened(&mut self) -> Result<(Arc<Model>, EventStream), TurnError> {
        let mut last = None;
        while let Some(model) = self.left.pop_front() {
            let Some(call) = self.turn_to(&model, None, &mut last).await? else { continue };
            let Tried { outcome, attempts } = model.stream(call).await;
            self.record.tried(&model.spec().name, &attempts);
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
        model: &Arc<Model>,
        continued: Option<String>,
        last: &mut Option<TurnError>,
    ) -> Result<Option<Call>, TurnError> {
        let Some(left) = self.deadlines.total.checked_sub(self.began.elapsed()) else {
            let error = CallError::new(ErrorKind::TotalTimeout, "the turn took longer than it may");
            *last = Some(TurnError::Failed { last: error, attempts: self.record.attempts() });
            return Ok(None);
        };
        let spec = model.spec();
        let (cost, tokens) = estimate(model, &self.features);
        let reservation = Reservation {
            caller: self.caller.id().to_owned(),
            models: names(&self.asked, model),
            cost,
            tokens,
            interaction: self.record.interaction,
            now_ms: record::now_ms(),
        };
        match self.coordinator.shared.ledger.reserve(reservation).await? {
            Ok(reserved) => self.record.goes_to(&spec.name, spec.price, reserved),
            Err(over) => {
                *last = Some(TurnError::BudgetExceeded { budget: over.budget, resets_at_ms: over.resets_at_ms });
                return Ok(None);
            }
        }
        Ok(Some(Call {
            request: Arc::clone(&self.request),
            model: spec.upstream.clone(),
            deadlines: Deadlines { total: left, ..self.deadlines },
            trace: self.trace.clone(),
            continued,
        }))
    }

    /// A model failed: whether another may be asked.
    fn after(&mut self, error: &CallError, last: &mut Option<TurnError>) -> Result<(), TurnError> {
        self.record.release();
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
            open.remember(&request, &answer.parts).await?;
        }
        Ok(Completed { about, answer })
    }
}

/// A stream that is handed on, and what happens when it breaks.
struct Relay {
    run: Run,
    model: Arc<Model>,
    /// Nothing once it is over.
    stream: Option<EventStream>,
}

impl Relay {
    async fn next(&mut self) -> Option<TurnEvent> {
        let stream = self.stream.as_mut()?;
        let error = match stream.next().await {
            Some(Ok(event)) => {
                self.run.record.heard(&event.deltas);
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
        let text = self.run.record.said().only_text()?;
        while let Some(model) = self.run.left.pop_front() {
            if !model.spec().continues {
                continue;
            }
            let mut last = None;
            let Ok(Some(call)) = self.run.turn_to(&model, Some(text.clone()), &mut last).await else { continue };
            let Tried { outcome, attempts } = model.stream(call).await;
            self.run.record.tried(&model.spec().name, &attempts);
            if let Ok(stream) = outcome {
                let name = model.spec().name.clone();
                self.run.record.continued(&name);
                (self.model, self.stream) = (model, Some(stream));
                return Some(TurnEvent::Continued { model: name });
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
            Some(open) => open.remember(&self.run.request, &answer.parts).await,
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
    let mut names = vec![asked.to_owned(), spec.name.clone(), spec.provider.clone()];
    names.dedup();
    names
}

/// What a call may cost and take at most: nothing for the cost where the model has no price.
fn estimate(model: &Model, features: &Features) -> (Option<u64>, u64) {
    let spec = model.spec();
    let output = features.output_tokens.or(spec.max_output_tokens).unwrap_or(OUTPUT_TOKENS_ASSUMED);
    let usage =
        Usage { input_tokens: Some(features.input_tokens), output_tokens: Some(output), ..Usage::default() };
    let cost = spec.price.map(|price| price.of(&usage, &Usage::default()));
    (cost, features.input_tokens.saturating_add(output))
}

fn features(request: &Request, input_tokens: u64) -> Features {
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

fn context(found: &Augmented, budget_tokens: usize) -> RecordedContext {
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
