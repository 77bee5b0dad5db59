//! Who answers a turn: what rules each model out, the policy's order of the others, and what a call may cost.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use holdfast_llm::{CallError, ErrorKind, Model, Request, Shape, Usage, check, tokens};
use holdfast_routing::{Candidate, Features, Obstacle, admit};
use holdfast_storage::{
    Caller,
    ledger::{Reservation, ReserveError},
};
use uuid::Uuid;

use crate::{
    Coordinator, TurnError,
    catalog::{Choice, Chosen},
    record::{self, RecordedCandidate},
};

/// Tokens that an answer is taken to have where nobody said how many it may: for budgets and prices.
const OUTPUT_TOKENS_ASSUMED: u64 = 4_096;
/// Models that stand in the record of a turn. A provider can have hundreds.
const CANDIDATES_RECORDED: usize = 64;

/// Who could answer, in order, and how that came about.
pub(crate) struct Routed {
    pub(crate) left: VecDeque<Model>,
    pub(crate) candidates: Vec<RecordedCandidate>,
    /// What rules each candidate out.
    pub(crate) obstacles: Vec<Vec<Ruled>>,
    pub(crate) policy: String,
}

/// What rules a candidate out.
pub(crate) enum Ruled {
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
    /// Tokens of the question, and whether they were counted. Counting takes longer than all the rest of a turn here, so it
    /// is done where something hangs on the number; elsewhere four bytes are taken for a token, as English text has it.
    pub(crate) async fn input_tokens(&self, choice: &Choice, request: &Arc<Request>) -> Result<(u64, bool), TurnError> {
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
            if let Some(over) = verdict.and_then(Verdict::over).filter(|_| chosen.is_granted) {
                ruled.retain(|ruled| !matches!(ruled, Ruled::By(Obstacle::OverBudget)));
                ruled.push(over);
            }
            let shape = chosen.model.shape();
            if !said_in.iter().any(|(known, _)| *known == shape) {
                said_in.push((shape, check(shape, request).err()));
            }
            let unsayable = said_in.iter().find(|(known, _)| *known == shape).and_then(|(_, error)| error.clone());
            ruled.extend(unsayable.filter(|_| chosen.is_granted).map(Ruled::Inexpressible));
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
    fn left_alone(&self, models: &[&Chosen]) -> TurnError {
        // One that is run here and is not up yet has not failed.
        let mut reasons = models.iter().map(|chosen| self.unavailable_reason(&chosen.model.spec().provider));
        let reason = reasons
            .find_map(|reason| reason)
            .unwrap_or_else(|| "no model that could answer is asked for a while, since they failed".to_owned());
        let mut last = CallError::new(ErrorKind::BreakerOpen, reason);
        let now = Instant::now();
        last.retry_after = models.iter().filter_map(|chosen| chosen.model.standing(now).refuses_for).min();
        TurnError::Failed { last, attempts: 0 }
    }

    /// Why nobody can answer. Of models that may not be asked nothing is told.
    pub(crate) fn nobody(&self, obstacles: Vec<Vec<Ruled>>, choice: &Choice, features: &Features) -> TurnError {
        let granted = choice.models.iter().zip(obstacles).filter(|(chosen, _)| chosen.is_granted);
        let (models, mut obstacles): (Vec<&Chosen>, Vec<Vec<Ruled>>) = granted.unzip();
        let all = |is: fn(&Ruled) -> bool| obstacles.iter().all(|ruled| ruled.iter().any(is));
        if all(|ruled| matches!(ruled, Ruled::By(Obstacle::ContextTooShort { .. }))) {
            let limit = models.iter().filter_map(|chosen| chosen.model.spec().context_tokens).max().unwrap_or(0);
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
            let model = models.first().map(|chosen| chosen.model.spec().name.clone()).unwrap_or_default();
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
            return self.left_alone(&models);
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
            return over.unwrap_or_else(|| self.left_alone(&models));
        }
        let told = |(chosen, ruled): (&&Chosen, Vec<Ruled>)| {
            let why: Vec<String> = ruled.iter().map(Ruled::sentence).collect();
            (chosen.model.spec().name.clone(), why.join("; "))
        };
        TurnError::NoneFits { obstacles: models.iter().zip(obstacles).map(told).collect() }
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

pub(crate) fn too_many() -> TurnError {
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
        is_granted: chosen.is_granted,
        is_within_budget: !matches!(verdict, Some(Verdict::Over { .. })),
        is_passing: chosen.is_available && is_passing,
        price: spec.price.map(|price| (price.input, price.output)),
        is_price_needed: matches!(verdict, Some(Verdict::NoPrice)),
    }
}

/// What a call may take.
pub(crate) fn reservation(
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
pub(crate) fn answers(request: &Request) -> u64 {
    u64::from(request.sampling.answers.unwrap_or(1))
}

/// Tokens that each answer of a model may have.
pub(crate) fn output_tokens(model: &Model, features: &Features) -> u64 {
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
