//! A turn, from what was asked to the answer: what it needs to know, who could answer, who does, and what becomes of
//! failures.
//!
//! Nothing runs here by itself: a turn lives in the future or the stream that its caller holds, and ends when that is
//! dropped. What few turns do (sessions, passages, kept answers, going on elsewhere) is boxed, or the future of every turn
//! would have room for it.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use futures::StreamExt;
use holdfast_llm::{
    Answer, Ask, CallError, Deadlines, Delta, ErrorKind, Event, EventStream, Model, Request, Tried, Usage,
};
use holdfast_routing::Features;
use holdfast_storage::{Caller, ledger::ReserveError};
use uuid::Uuid;

use crate::{
    About, Augmented, Completed, Coordinator, Streaming, Turn, TurnError, TurnEvent,
    cache::{Hit, Plan},
    record::{self, Outcome, RecordedContext, RecordedFeatures, RecordedPassage, Started},
    route::{answers, features, output_tokens, reservation, too_many},
    run::{Beginning, Call, Record},
    session::Open,
};

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

impl Coordinator {
    /// Answers a turn.
    ///
    /// # Errors
    /// See [`TurnError`]. What was written down of the turn stays, whatever comes of it.
    pub async fn complete(&self, caller: &Caller, turn: Turn) -> Result<Completed, TurnError> {
        let mut run = self.begin(caller, turn).await?;
        if let Some(hit) = run.hit.take() {
            return Box::pin(run.kept_before(hit)).await;
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
            let completed = Box::pin(run.kept_before(hit)).await?;
            let events = futures::stream::iter(pieces(&completed.answer).map(TurnEvent::Piece));
            return Ok(Streaming { about: completed.about, shape: None, events: Box::pin(events) });
        }
        let (model, stream) = run.opened().await?;
        let (about, shape) = (run.about.clone(), Some(model.shape()));
        let relay = Box::new(Relay { run, model, stream: Some(stream) });
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
        let choice = catalog.choose(caller, &asked)?;
        let mut session = match session {
            Some(id) => Some(Box::pin(self.open_session(caller, &id)).await?),
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
                Some((Box::pin(found).await?, asked.budget_tokens))
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
            turns: &self.shared.turns,
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
            Box::pin(coordinator.remember(open, &request, &answer.parts, &about.model)).await?;
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
            Box::pin(coordinator.remember(open, &request, &answer.parts, &about.model)).await?;
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
        if let Some(continued) = Box::pin(self.go_on(&error)).await {
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
                Box::pin(coordinator.remember(open, request, &answer.parts, &about.model)).await
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
