//! What was learned, and what it is learned from: interactions that went on elsewhere, how interactions went, how far
//! learning is.

use axum::{Json, extract::State, http::StatusCode};
use holdfast_learning::{
    FolderStatus, Known, Role, Stats, Taken,
    evaluate::{Evaluated, Golden, QUESTIONS_MAX, Quality},
    told::{CONTEXT_MAX, NAME_BYTES_MAX, NOTE_BYTES_MAX, OutcomeTold, OutcomeWord, Signal, TEXT_BYTES_MAX, Told},
    value,
};
use holdfast_storage::learning::{Evidence, KindCount};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lessons::CountsAnswer;
use crate::{
    Server,
    error::{Failure, public},
    input::{Authenticated, Body, Segment, one_of},
    timestamp,
};

/// Outcomes, by their words.
pub(crate) const OUTCOMES: [(&str, OutcomeWord); 4] = [
    ("success", OutcomeWord::Success),
    ("partial", OutcomeWord::Partial),
    ("failure", OutcomeWord::Failure),
    ("withdrawn", OutcomeWord::Withdrawn),
];
const OUTCOME_WORDS: [&str; 4] = [OUTCOMES[0].0, OUTCOMES[1].0, OUTCOMES[2].0, OUTCOMES[3].0];

/// Signals, by their words.
pub(crate) const SIGNALS: [(&str, Signal); 9] = [
    ("regenerated", Signal::Regenerated),
    ("edited", Signal::Edited),
    ("abandoned", Signal::Abandoned),
    ("not_working", Signal::NotWorking),
    ("accepted", Signal::Accepted),
    ("copied", Signal::Copied),
    ("tests_passed", Signal::TestsPassed),
    ("tests_failed", Signal::TestsFailed),
    ("no_answer", Signal::NoAnswer),
];
const SIGNAL_WORDS: [&str; 9] = [
    SIGNALS[0].0,
    SIGNALS[1].0,
    SIGNALS[2].0,
    SIGNALS[3].0,
    SIGNALS[4].0,
    SIGNALS[5].0,
    SIGNALS[6].0,
    SIGNALS[7].0,
    SIGNALS[8].0,
];

/// How an interaction went. What is absent changes nothing; at least one part must be there.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OutcomeRequest")]
pub(crate) struct OutcomeBody {
    /// By who knows; it overrules all signals. `withdrawn` takes back what was said before
    #[schemars(extend("enum" = OUTCOME_WORDS))]
    pub(crate) outcome: Option<String>,
    /// What a person thought of it
    #[schemars(range(min = -1, max = 1))]
    pub(crate) feedback: Option<f64>,
    /// What was seen to happen: weaker evidence, which adds up
    #[schemars(extend("enum" = SIGNAL_WORDS))]
    pub(crate) signal: Option<String>,
    /// Ids of documents it was given that were of use
    #[schemars(length(max = CONTEXT_MAX), inner(length(min = 1, max = NAME_BYTES_MAX)))]
    pub(crate) useful: Option<Vec<String>>,
    /// The interaction that solved what went wrong here
    #[schemars(extend("format" = "uuid"))]
    pub(crate) solved_by: Option<String>,
    /// Whether it may be used to train
    pub(crate) may_train: Option<bool>,
    /// Who says so
    #[schemars(length(max = NAME_BYTES_MAX))]
    pub(crate) source: Option<String>,
    /// In words
    #[schemars(length(max = NOTE_BYTES_MAX))]
    pub(crate) note: Option<String>,
    /// When that was, in Unix milliseconds; now where absent. Of two outcomes the later one counts
    #[schemars(range(min = 0))]
    pub(crate) at_ms: Option<i64>,
}

/// An interaction that did not go through here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "InteractionRequest")]
pub(crate) struct TellBody {
    /// Its id, if it has one; telling it again under the same id changes nothing
    #[schemars(extend("format" = "uuid"))]
    pub(crate) id: Option<String>,
    /// What was asked
    #[schemars(length(min = 1, max = TEXT_BYTES_MAX), regex(pattern = crate::description::NOT_BLANK))]
    pub(crate) question: String,
    /// What was answered
    #[schemars(length(max = TEXT_BYTES_MAX))]
    pub(crate) answer: Option<String>,
    /// What the model was told to be
    #[schemars(length(max = TEXT_BYTES_MAX))]
    pub(crate) system: Option<String>,
    /// Which model answered
    #[schemars(length(max = NAME_BYTES_MAX))]
    pub(crate) model: Option<String>,
    /// Ids of documents it was given, in their order
    #[schemars(length(max = CONTEXT_MAX), inner(length(min = 1, max = NAME_BYTES_MAX)))]
    pub(crate) context: Option<Vec<String>>,
    /// What went wrong
    #[schemars(length(max = TEXT_BYTES_MAX))]
    pub(crate) error: Option<String>,
    /// The session it belongs to
    #[schemars(length(min = 1, max = 256))]
    pub(crate) session: Option<String>,
    /// The terms its texts are under
    #[schemars(length(max = NAME_BYTES_MAX))]
    pub(crate) licence: Option<String>,
    /// How it went, if that is known already
    #[schemars(extend("enum" = OUTCOME_WORDS))]
    pub(crate) outcome: Option<String>,
    /// What a person thought of it
    #[schemars(range(min = -1, max = 1))]
    pub(crate) feedback: Option<f64>,
    /// What was seen to happen
    #[schemars(extend("enum" = SIGNAL_WORDS))]
    pub(crate) signal: Option<String>,
    /// Whether it may be used to train
    pub(crate) may_train: Option<bool>,
    /// When it was, in Unix milliseconds; now where absent
    #[schemars(range(min = 0))]
    pub(crate) at_ms: Option<i64>,
}

/// An interaction on record.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InteractionRecorded")]
pub(crate) struct RecordedAnswer {
    pub(crate) id: String,
}

/// What is known of an interaction, as far as it was derived.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InteractionKnown")]
pub(crate) struct KnownAnswer {
    id: String,
    /// Whose it is: the id of a key, or `owner`
    caller: String,
    session: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// Who told of it: `turn` where it went through here, `told` where it did not; null where only its outcome is known
    #[schemars(extend("enum" = ["turn", "told", null]))]
    origin: Option<String>,
    model: Option<String>,
    question: Option<String>,
    answer: Option<String>,
    /// By who knows; null where nobody said
    #[schemars(extend("enum" = ["success", "partial", "failure", null]))]
    outcome: Option<String>,
    /// From -1 to 1; null where nobody said
    feedback: Option<f64>,
    /// What it is worth, from 0 to 1; null until that is derived
    value: Option<f64>,
    value_parts: ValueParts,
    /// How near the nearest earlier question is, as a cosine
    nearest: Option<f64>,
    /// That question's interaction, for who may read all
    nearest_id: Option<String>,
    /// How many other questions are similar; counted up to 16
    similar: Option<u32>,
    evidence: Vec<EvidenceAnswer>,
}

/// What a value is made of; each from 0 to 1, null where it cannot be measured.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ValueParts")]
pub(crate) struct ValueParts {
    /// Weighs 0.4
    outcome: f64,
    /// Weighs 0.2
    feedback: f64,
    /// Weighs 0.2
    reusability: Option<f64>,
    /// Weighs 0.1
    complexity: f64,
    /// Weighs 0.1
    novelty: Option<f64>,
}

/// Something that was said about an interaction.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Evidence")]
pub(crate) struct EvidenceAnswer {
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// An outcome, a signal, or `note`
    word: String,
    feedback: Option<f64>,
    /// Who said so; `seen` where it was seen here
    source: Option<String>,
    note: Option<String>,
}

/// How far learning is.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LearningStats")]
pub(crate) struct StatsAnswer {
    /// `worker` where this process derives, `standby` where another one does
    #[schemars(extend("enum" = ["worker", "standby"]))]
    role: &'static str,
    /// The last event of the log
    log_position: u64,
    stages: Vec<StageAnswer>,
    /// Interactions there are
    interactions: u64,
    /// Of them, those whose question has no vector yet
    vectors_due: u64,
    /// Of them, those whose value has to be derived anew
    values_due: u64,
    /// Events of each kind that were folded
    kinds: Vec<KindAnswer>,
    /// Bytes of what is derived, on disk
    size_bytes: u64,
    lessons: CountsAnswer,
    /// The folder into which other programs write events; null where none is read
    drop_folder: Option<FolderAnswer>,
}

/// The drop folder, and what was taken of it since it was first read.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DropFolder")]
pub(crate) struct FolderAnswer {
    /// Files that are followed
    files: usize,
    /// Bytes in them that were seen and are not taken
    unread_bytes: u64,
    /// Copies that wait for their originals, links and the like, and files beyond what is followed
    passed_over: usize,
    /// Lines that became events
    events: u64,
    /// Lines that are no events; they lie in its folder `dead-letters` with their reasons
    dead_letters: u64,
    /// Times that something was gone before it was read, and the bytes of that which had been seen
    gaps: u64,
    gap_bytes: u64,
    /// Files that were truncated below what was read of them, or replaced
    begun_anew: u64,
    /// Why it is not read, until it is
    error: Option<String>,
}

/// A stage of learning.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LearningStage")]
pub(crate) struct StageAnswer {
    name: String,
    /// The last event it has folded; null for one that is derived from what others derived
    position: Option<u64>,
    /// Events it has yet to fold
    lag: Option<u64>,
    /// Events it has folded, left out as of no use, and could not read
    folded: Option<u64>,
    skipped: Option<u64>,
    unreadable: Option<u64>,
    /// Why it failed the last time, until it succeeds
    error: Option<String>,
    /// Times it failed since the start
    failures: u64,
}

/// Events of a kind.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EventKind")]
pub(crate) struct KindAnswer {
    kind: String,
    version: u16,
    /// Whether something is derived from it
    is_known: bool,
    events: u64,
}

/// Questions whose documents are known.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EvaluationRequest")]
pub(crate) struct EvaluateBody {
    /// Where absent, those of interactions of which somebody said which documents were of use
    #[schemars(length(min = 1, max = QUESTIONS_MAX))]
    questions: Option<Vec<GoldenBody>>,
}

/// A question whose documents are known.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "GoldenQuestion")]
pub(crate) struct GoldenBody {
    #[schemars(length(min = 1, max = crate::description::QUERY_CHARS_MAX))]
    query: String,
    /// Ids of the documents that should be found
    #[schemars(length(min = 1, max = CONTEXT_MAX))]
    relevant: Vec<String>,
    /// Where to look; in the default collection where absent
    #[schemars(length(max = super::augment::COLLECTIONS_MAX))]
    collections: Option<Vec<String>>,
}

/// How well searches found what was wanted.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Evaluation")]
pub(crate) struct EvaluationAnswer {
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// What searches went by
    settings: String,
    /// Questions that were asked
    questions: usize,
    /// Of them, those that could not be
    failed: usize,
    /// With what was learned of documents
    learned: QualityAnswer,
    /// Without it
    plain: QualityAnswer,
    /// That the same questions were answered better before, with other settings
    warning: Option<String>,
}

/// How well documents were found among the first ten; from 0 to 1.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Quality")]
pub(crate) struct QualityAnswer {
    ndcg: f64,
    recall: f64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EvaluationList")]
pub(crate) struct EvaluationsAnswer {
    /// Newest first
    evaluations: Vec<EvaluationAnswer>,
    next_cursor: Option<String>,
}

pub(crate) async fn evaluate(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    body: Body<EvaluateBody>,
) -> Result<Json<EvaluationAnswer>, Failure> {
    let golden = body.value.questions.map(|questions| questions.into_iter().map(Golden::from).collect());
    Ok(Json(server.learning().evaluate(&caller, golden).await?.into()))
}

pub(crate) async fn evaluations(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
) -> Result<Json<EvaluationsAnswer>, Failure> {
    let kept = server.learning().evaluations(super::PAGE_DEFAULT).await?;
    let evaluations = kept.into_iter().map(EvaluationAnswer::from).collect();
    Ok(Json(EvaluationsAnswer { evaluations, next_cursor: None }))
}

impl From<GoldenBody> for Golden {
    fn from(body: GoldenBody) -> Self {
        let GoldenBody { query, relevant, collections } = body;
        Self { query, relevant, collections: collections.unwrap_or_default() }
    }
}

impl From<Evaluated> for EvaluationAnswer {
    fn from(evaluated: Evaluated) -> Self {
        let Evaluated { at_ms, settings, figures, warning } = evaluated;
        let quality = |Quality { ndcg, recall }| QualityAnswer { ndcg, recall };
        Self {
            at: timestamp::from_ms(at_ms),
            settings,
            questions: figures.questions,
            failed: figures.failed,
            learned: quality(figures.learned),
            plain: quality(figures.plain),
            warning,
        }
    }
}

pub(crate) async fn tell(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    body: Body<TellBody>,
) -> Result<(StatusCode, Json<RecordedAnswer>), Failure> {
    let body = body.value;
    let id = body.id.as_deref().map(|id| uuid("id", id)).transpose()?;
    let told = Told {
        question: body.question,
        answer: body.answer,
        system: body.system,
        model: body.model,
        context: body.context.unwrap_or_default(),
        error: body.error,
        licence: body.licence,
        outcome: OutcomeTold {
            outcome: outcome(body.outcome.as_deref())?,
            feedback: body.feedback,
            signal: signal(body.signal.as_deref())?,
            may_train: body.may_train,
            ..OutcomeTold::default()
        },
    };
    let id = server.learning().tell(&caller, id, body.session, body.at_ms, &told).await?;
    Ok((StatusCode::CREATED, Json(RecordedAnswer { id: id.to_string() })))
}

pub(crate) async fn show(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<Json<KnownAnswer>, Failure> {
    Ok(Json(server.learning().known(&caller, interaction(&id)?).await?.into()))
}

pub(crate) async fn went(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
    body: Body<OutcomeBody>,
) -> Result<Json<RecordedAnswer>, Failure> {
    let id = interaction(&id)?;
    let at_ms = body.value.at_ms;
    server.learning().outcome(&caller, id, at_ms, &body.value.told()?).await?;
    Ok(Json(RecordedAnswer { id: id.to_string() }))
}

pub(crate) async fn stats(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
) -> Result<Json<StatsAnswer>, Failure> {
    Ok(Json(server.learning().stats().await?.into()))
}

impl OutcomeBody {
    pub(crate) fn told(self) -> Result<OutcomeTold, Failure> {
        Ok(OutcomeTold {
            outcome: outcome(self.outcome.as_deref())?,
            feedback: self.feedback,
            signal: signal(self.signal.as_deref())?,
            useful: self.useful.unwrap_or_default(),
            solved_by: self.solved_by.as_deref().map(|id| uuid("solved_by", id)).transpose()?,
            may_train: self.may_train,
            source: self.source,
            note: self.note,
        })
    }
}

/// The interaction of a path; what is no id is nobody's.
pub(crate) fn interaction(id: &str) -> Result<Uuid, Failure> {
    Uuid::parse_str(id).map_err(|_| holdfast_learning::LearnError::NotFound.into())
}

fn uuid(field: &'static str, id: &str) -> Result<Uuid, Failure> {
    Uuid::parse_str(id).map_err(|_| Failure::field(field, "is not a UUID"))
}

fn outcome(word: Option<&str>) -> Result<Option<OutcomeWord>, Failure> {
    word.map(|word| one_of("outcome", Some(word), OutcomeWord::Withdrawn, &OUTCOMES)).transpose()
}

fn signal(word: Option<&str>) -> Result<Option<Signal>, Failure> {
    word.map(|word| one_of("signal", Some(word), Signal::NoAnswer, &SIGNALS)).transpose()
}

impl From<Known> for KnownAnswer {
    fn from(known: Known) -> Self {
        let Known { row, parts, evidence } = known;
        Self {
            id: row.id.to_string(),
            caller: row.caller,
            session: row.session,
            at: timestamp::from_ms(row.at_ms),
            origin: row.origin,
            model: row.model,
            question: row.question,
            answer: row.answer,
            outcome: row.outcome,
            feedback: row.feedback,
            value: row.value,
            value_parts: parts.into(),
            nearest: row.nearest,
            nearest_id: row.nearest_id.map(|id| id.to_string()),
            similar: row.similar,
            evidence: evidence.into_iter().map(EvidenceAnswer::from).collect(),
        }
    }
}

impl From<value::Parts> for ValueParts {
    fn from(parts: value::Parts) -> Self {
        let value::Parts { outcome, feedback, reusability, complexity, novelty } = parts;
        Self { outcome, feedback, reusability, complexity, novelty }
    }
}

impl From<Evidence> for EvidenceAnswer {
    fn from(evidence: Evidence) -> Self {
        let Evidence { at_ms, word, feedback, source, note, .. } = evidence;
        Self { at: timestamp::from_ms(at_ms), word, feedback, source, note }
    }
}

impl From<Stats> for StatsAnswer {
    fn from(stats: Stats) -> Self {
        let Stats { worker, log_position, checkpoints, interactions: counts, kinds, size_bytes, lessons, drop_folder } =
            stats;
        let mut stages: Vec<StageAnswer> = checkpoints
            .into_iter()
            .map(|(name, at)| StageAnswer {
                name,
                position: Some(at.position),
                lag: Some(log_position.saturating_sub(at.position)),
                folded: Some(at.folded),
                skipped: Some(at.skipped),
                unreadable: Some(at.unreadable),
                error: None,
                failures: 0,
            })
            .collect();
        for (name, status) in worker.stages {
            let error = status.error.map(|error| public(&error).into_owned());
            match stages.iter_mut().find(|stage| stage.name == name) {
                Some(stage) => (stage.error, stage.failures) = (error, status.failures),
                None => stages.push(StageAnswer {
                    name: name.to_owned(),
                    position: None,
                    lag: None,
                    folded: None,
                    skipped: None,
                    unreadable: None,
                    error,
                    failures: status.failures,
                }),
            }
        }
        Self {
            role: if worker.role == Role::Worker { "worker" } else { "standby" },
            log_position,
            stages,
            interactions: counts.interactions,
            vectors_due: counts.vectors_due,
            values_due: counts.values_due,
            kinds: kinds.into_iter().map(KindAnswer::from).collect(),
            size_bytes,
            lessons: lessons.into(),
            drop_folder: drop_folder.map(FolderAnswer::from),
        }
    }
}

impl From<FolderStatus> for FolderAnswer {
    fn from(status: FolderStatus) -> Self {
        let FolderStatus { files, bytes_unread, copies_waiting, passed_over, left_out, taken, last_error } = status;
        let Taken { events, dead_letters, gaps, gap_bytes, begun_anew } = taken;
        Self {
            files,
            unread_bytes: bytes_unread,
            passed_over: copies_waiting + passed_over + left_out,
            events,
            dead_letters,
            gaps,
            gap_bytes,
            begun_anew,
            error: last_error.map(|error| public(&error).into_owned()),
        }
    }
}

impl From<KindCount> for KindAnswer {
    fn from(counted: KindCount) -> Self {
        let KindCount { kind, version, is_known, events } = counted;
        Self { kind, version, is_known, events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_the_one_on_record() {
        assert_eq!(
            OUTCOMES.map(|(word, outcome)| (word, outcome.as_str() == word)),
            OUTCOME_WORDS.map(|word| (word, true))
        );
        assert_eq!(
            SIGNALS.map(|(word, signal)| (word, signal.as_str() == word)),
            SIGNAL_WORDS.map(|word| (word, true))
        );
        assert_eq!(SIGNALS.map(|(_, signal)| signal), Signal::ALL);
        assert_eq!(OUTCOMES.map(|(_, outcome)| outcome), OutcomeWord::ALL);
    }
}
