//! The first stage: events become interactions, with what was said about them. It is cheap, so that it keeps up with any
//! backlog, and everything else is derived from its rows.
//!
//! What it derives depends on the events and their order alone, never on how they were cut into batches: a batch keeps the
//! rows it touches in memory and asks there first, and new rows are numbered in the order in which events name them.

use std::collections::{BTreeMap, HashMap};

use holdfast_storage::{
    StorageError,
    events::Event,
    learning::{Evidence, Fold, InteractionRow, KindCount, Shown, Stale, Step},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    told::{INTERACTION_TOLD, OUTCOME_TOLD, OutcomeTold, OutcomeWord, Signal, TOLD_VERSION, Told},
    value,
    views::{self, Finished, Said, Started, TURN_FINISHED, TURN_STARTED, TURN_VERSION},
};

/// What the stage is called.
pub(crate) const STAGE: &str = "interactions";
/// The form of what it derives.
pub(crate) const VERSION: u32 = 1;

/// Bytes that are kept of a question, of what the model was told to be, and of an error.
const QUESTION_BYTES_MAX: usize = 16 << 10;
/// Bytes that are kept of an answer.
const ANSWER_BYTES_MAX: usize = 32 << 10;
/// Bytes that are kept of what was said before the question; where there is more, nothing is.
const BEFORE_BYTES_MAX: usize = 16 << 10;
/// Documents of one interaction that are followed.
const CONTEXT_MAX: usize = 50;
/// Asking the same again counts as asking for a better answer if it comes so soon,
const AGAIN_MAX_MS: i64 = 15 * 60 * 1_000;
/// and not sooner than a person can have read: programs repeat themselves.
const AGAIN_MIN_MS: i64 = 2_000;

/// A document that an interaction was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Given {
    /// The document.
    #[serde(rename = "d")]
    pub document: String,
    /// Whether it is known to have been of use.
    #[serde(rename = "u", skip_serializing_if = "std::ops::Not::not", default)]
    pub is_useful: bool,
}

/// Folds a page of the log.
pub(crate) fn fold(fold: &Fold<'_>, events: &[Event], through: u64) -> Result<Step, StorageError> {
    let mut batch = Batch {
        fold,
        rows: HashMap::new(),
        order: Vec::new(),
        asked: HashMap::new(),
        answered: HashMap::new(),
        kinds: BTreeMap::new(),
    };
    let mut step = Step { through, ..Step::default() };
    for event in events {
        match batch.take(event)? {
            Taken::Folded => step.folded += 1,
            Taken::Skipped => step.skipped += 1,
            Taken::Unreadable => step.unreadable += 1,
        }
    }
    batch.store()?;
    Ok(step)
}

enum Taken {
    Folded,
    Skipped,
    Unreadable,
}

/// Rows that a page of the log touches.
struct Batch<'a> {
    fold: &'a Fold<'a>,
    rows: HashMap<Uuid, InteractionRow>,
    /// The rows in the order in which they were first touched.
    order: Vec<Uuid>,
    /// What a caller last asked with that question,
    asked: HashMap<(String, i64), Uuid>,
    /// or was last answered with that answer.
    answered: HashMap<(String, i64), Uuid>,
    kinds: BTreeMap<(String, u16), (bool, u64)>,
}

impl Batch<'_> {
    fn take(&mut self, event: &Event) -> Result<Taken, StorageError> {
        let version = match &*event.kind {
            TURN_STARTED | TURN_FINISHED => TURN_VERSION,
            INTERACTION_TOLD | OUTCOME_TOLD => TOLD_VERSION,
            _ => 0,
        };
        let is_known = version == event.version;
        let counted = self.kinds.entry((event.kind.to_string(), event.version)).or_insert((is_known, 0));
        counted.1 += 1;
        let Some(id) = event.interaction.filter(|_| is_known) else { return Ok(Taken::Skipped) };
        let read = match &*event.kind {
            TURN_STARTED => match serde_json::from_slice(&event.body) {
                Ok(started) => self.started(event, id, &started).map(Ok)?,
                Err(error) => Err(error),
            },
            TURN_FINISHED => match serde_json::from_slice(&event.body) {
                Ok(finished) => self.finished(event, id, &finished).map(Ok)?,
                Err(error) => Err(error),
            },
            INTERACTION_TOLD => match serde_json::from_slice(&event.body) {
                Ok(told) => self.told(event, id, told).map(Ok)?,
                Err(error) => Err(error),
            },
            _ => match serde_json::from_slice(&event.body) {
                Ok(outcome) => self.outcome(event, id, &outcome).map(Ok)?,
                Err(error) => Err(error),
            },
        };
        match read {
            Ok(()) => Ok(Taken::Folded),
            Err(error) => {
                let kind = &*event.kind;
                tracing::debug!(kind, position = event.position, %error, "an event cannot be read and is left out");
                Ok(Taken::Unreadable)
            }
        }
    }

    fn started(&mut self, event: &Event, id: Uuid, started: &Started<'_>) -> Result<(), StorageError> {
        let Some(last) = started.messages.iter().rposition(|said| said.role == "user") else {
            self.row(event, id)?;
            return Ok(());
        };
        self.look_back(event, &started.messages, last)?;
        let asked = started.messages[last].text.as_ref().and_then(views::Text::hash);
        let row = self.row(event, id)?;
        if row.asked_position.is_some() {
            return Ok(());
        }
        row.origin = Some("turn".to_owned());
        row.asked_position = Some(event.position);
        row.session = event.session.as_deref().map(str::to_owned);
        let system = started.messages.iter().find(|said| said.role == "system");
        let full = |said: &Said<'_>, limit, is_cut: &mut bool| {
            said.text.as_ref().and_then(views::Text::full).map(|text| cut(text, limit, is_cut))
        };
        let mut is_cut = row.is_cut;
        row.system = system.and_then(|said| full(said, QUESTION_BYTES_MAX, &mut is_cut));
        row.question = full(&started.messages[last], QUESTION_BYTES_MAX, &mut is_cut);
        row.before = before(&started.messages[..last], &mut is_cut);
        row.is_cut = is_cut;
        row.question_hash = asked;
        if row.question.is_some() {
            row.stale = Stale { vector: true, value: true, failures: true };
        }
        let taken = started.context.iter().flat_map(|context| &context.taken);
        let documents: Vec<&str> = taken.filter_map(|passage| passage.document_id.as_deref()).collect();
        self.give(event, id, &documents)?;
        if let Some(hash) = asked {
            self.asked.insert((event.caller.to_string(), hash), id);
        }
        Ok(())
    }

    /// What a conversation says of the answers before it: the same asked again, or that it does not work.
    fn look_back(&mut self, event: &Event, messages: &[Said<'_>], last: usize) -> Result<(), StorageError> {
        let question = &messages[last];
        let hash = question.text.as_ref().and_then(views::Text::hash);
        if let Some(hash) = hash
            && let Some(earlier) = self.last_asked(&event.caller, hash)?
            && Some(earlier) != event.interaction
        {
            let apart_ms = event.at_ms.saturating_sub(self.row_of(earlier)?.map_or(i64::MIN, |row| row.at_ms));
            if (AGAIN_MIN_MS..=AGAIN_MAX_MS).contains(&apart_ms) {
                self.signal(event, earlier, Signal::Regenerated)?;
            }
        }
        let complains = question.text.as_ref().and_then(views::Text::full).is_some_and(complains);
        let answer = messages[..last].iter().rfind(|said| said.role == "assistant");
        if complains
            && let Some(hash) = answer.and_then(|said| said.text.as_ref()).and_then(views::Text::hash)
            && let Some(earlier) = self.last_answered(&event.caller, hash)?
        {
            self.signal(event, earlier, Signal::NotWorking)?;
        }
        Ok(())
    }

    fn finished(&mut self, event: &Event, id: Uuid, finished: &Finished<'_>) -> Result<(), StorageError> {
        let answer_hash = finished.answer.as_ref().and_then(views::Text::hash);
        let row = self.row(event, id)?;
        if row.ended.is_some() {
            return Ok(());
        }
        row.ended = Some(finished.outcome.to_string());
        row.answered_position = Some(event.position);
        row.model = finished.model.as_deref().map(str::to_owned);
        row.answer_hash = answer_hash;
        let answer = finished.answer.as_ref().and_then(views::Text::full);
        row.answer = answer.map(|text| cut(text, ANSWER_BYTES_MAX, &mut row.is_cut));
        let reason = finished.attempts.iter().rev().find_map(|attempt| attempt.reason.as_deref());
        if !matches!(&*finished.outcome, "answered" | "cached") {
            row.error = reason.map(|reason| cut(reason, QUESTION_BYTES_MAX, &mut false));
            row.stale.failures = true;
        }
        row.stale.value = true;
        if let Some(hash) = answer_hash {
            self.answered.insert((event.caller.to_string(), hash), id);
        }
        match &*finished.outcome {
            "abandoned" => self.signal(event, id, Signal::Abandoned),
            "failed" | "cut" => self.signal(event, id, Signal::NoAnswer),
            _ => Ok(()),
        }
    }

    fn told(&mut self, event: &Event, id: Uuid, told: Told) -> Result<(), StorageError> {
        let Told { question, answer, system, model, context, error, licence, outcome } = told;
        let hashes = (views::hash(&question), answer.as_deref().map(views::hash));
        let row = self.row(event, id)?;
        if row.asked_position.is_none() {
            row.origin = Some("told".to_owned());
            row.asked_position = Some(event.position);
            row.session = event.session.as_deref().map(str::to_owned);
            row.question_hash = Some(hashes.0);
            row.answered_position = Some(event.position);
            row.answer_hash = hashes.1;
            let mut is_cut = row.is_cut;
            row.question = Some(cut(&question, QUESTION_BYTES_MAX, &mut is_cut));
            row.answer = answer.map(|text| cut(&text, ANSWER_BYTES_MAX, &mut is_cut));
            row.system = system.map(|text| cut(&text, QUESTION_BYTES_MAX, &mut is_cut));
            row.is_cut = is_cut;
            row.error = error.map(|text| cut(&text, QUESTION_BYTES_MAX, &mut false));
            row.model = model;
            row.licence = licence;
            row.stale = Stale { vector: true, value: true, failures: true };
            let documents: Vec<&str> = context.iter().map(String::as_str).collect();
            self.give(event, id, &documents)?;
            self.asked.insert((event.caller.to_string(), hashes.0), id);
            if let Some(hash) = hashes.1 {
                self.answered.insert((event.caller.to_string(), hash), id);
            }
        }
        self.outcome(event, id, &outcome)
    }

    /// What was said about an interaction. The parts of it are independent: what is absent changes nothing, and of what
    /// came twice the one that was said last counts, in whichever order they arrived.
    fn outcome(&mut self, event: &Event, id: Uuid, told: &OutcomeTold) -> Result<(), StorageError> {
        if told.is_empty() || told.check().is_err() {
            return Ok(());
        }
        let word = told.outcome.map(OutcomeWord::as_str).or(told.signal.map(Signal::as_str)).unwrap_or("note");
        let evidence = Evidence {
            event: event.id,
            interaction: id,
            position: event.position,
            at_ms: event.at_ms,
            word: word.to_owned(),
            feedback: told.feedback,
            source: told.source.clone(),
            note: told.note.clone(),
        };
        self.row(event, id)?;
        if !self.fold.add_evidence(&evidence)? {
            return Ok(());
        }
        let is_newer = |than: Option<i64>| than.is_none_or(|than| event.at_ms >= than);
        let row = self.row(event, id)?;
        if let Some(outcome) = told.outcome
            && is_newer(row.outcome_at_ms)
        {
            row.outcome_at_ms = Some(event.at_ms);
            row.outcome = outcome.worth().map(|_| outcome.as_str().to_owned());
        }
        if let Some(solved_by) = told.solved_by
            && is_newer(row.solved_by_at_ms)
        {
            row.solved_by_at_ms = Some(event.at_ms);
            row.solved_by = Some(solved_by);
        }
        if let Some(feedback) = told.feedback
            && is_newer(row.feedback_at_ms)
        {
            row.feedback_at_ms = Some(event.at_ms);
            row.feedback = Some(feedback);
        }
        if let Some(signal) = told.signal {
            weigh(row, signal);
        }
        if let Some(may_train) = told.may_train
            && is_newer(row.consent_at_ms)
        {
            row.consent_at_ms = Some(event.at_ms);
            row.consent = Some(may_train);
        }
        row.stale.value = true;
        self.was_useful(id, &told.useful)
    }

    /// Weak evidence that an event is, of another interaction or its own.
    fn signal(&mut self, event: &Event, id: Uuid, signal: Signal) -> Result<(), StorageError> {
        let evidence = Evidence {
            event: derived_id(event.id, signal),
            interaction: id,
            position: event.position,
            at_ms: event.at_ms,
            word: signal.as_str().to_owned(),
            feedback: None,
            source: Some("seen".to_owned()),
            note: None,
        };
        if self.fold.add_evidence(&evidence)?
            && let Some(row) = self.row_of(id)?
        {
            weigh(row, signal);
            row.stale.value = true;
        }
        Ok(())
    }

    /// Notes which documents an interaction was given.
    fn give(&mut self, event: &Event, id: Uuid, documents: &[&str]) -> Result<(), StorageError> {
        // What was said to be of use before the documents were known.
        let early = given(self.row(event, id)?);
        let mut given: Vec<Given> = Vec::new();
        for document in documents {
            // Several passages of a document are one document, at the rank of its first.
            if given.len() < CONTEXT_MAX && given.iter().all(|known| known.document != *document) {
                let is_useful = early.iter().any(|early| early.document == *document);
                given.push(Given { document: (*document).to_owned(), is_useful });
            }
        }
        // Of those who never say what they used, it is not known that they used nothing.
        if given.iter().any(|given| given.is_useful) {
            for (rank, given) in given.iter().enumerate() {
                let useful = if given.is_useful { 1.0 } else { 0.0 };
                self.fold.add_shown(&event.tenant, &shown(given, rank, 1, useful))?;
            }
        }
        self.row(event, id)?.context = if given.is_empty() { None } else { serde_json::to_string(&given).ok() };
        Ok(())
    }

    /// Notes which of the documents were of use; of those it was not given nothing is known.
    fn was_useful(&mut self, id: Uuid, useful: &[String]) -> Result<(), StorageError> {
        if useful.is_empty() {
            return Ok(());
        }
        let fold = self.fold;
        let Some(row) = self.row_of(id)? else { return Ok(()) };
        let mut given = given(row);
        if row.asked_position.is_none() {
            // Which documents there were is told later.
            let new = useful.iter().filter(|document| given.iter().all(|known| known.document != **document));
            let new: Vec<Given> = new.map(|document| Given { document: document.clone(), is_useful: true }).collect();
            given.extend(new);
            given.truncate(CONTEXT_MAX);
        }
        let is_told = row.asked_position.is_some();
        let was_judged = given.iter().any(|given| given.is_useful);
        let is_judged = was_judged || given.iter().any(|given| useful.contains(&given.document));
        for (rank, given) in given.iter_mut().enumerate().filter(|_| is_told && is_judged) {
            let is_new = !given.is_useful && useful.contains(&given.document);
            given.is_useful |= is_new;
            let newly_shown = u64::from(!was_judged);
            if is_new || newly_shown > 0 {
                fold.add_shown(&row.tenant, &shown(given, rank, newly_shown, if is_new { 1.0 } else { 0.0 }))?;
            }
        }
        row.context = serde_json::to_string(&given).ok();
        Ok(())
    }

    /// The row of an interaction, made where an event is the first to name it.
    fn row(&mut self, event: &Event, id: Uuid) -> Result<&mut InteractionRow, StorageError> {
        if !self.rows.contains_key(&id) {
            let row = match self.fold.interaction(id)? {
                Some(row) => row,
                None => InteractionRow {
                    id,
                    tenant: event.tenant.to_string(),
                    caller: event.caller.to_string(),
                    session: event.session.as_deref().map(str::to_owned),
                    at_ms: event.at_ms,
                    position: event.position,
                    ..InteractionRow::default()
                },
            };
            self.order.push(id);
            self.rows.insert(id, row);
        }
        self.rows.get_mut(&id).ok_or(StorageError::Unreadable { what: "an interaction" })
    }

    /// The row of an interaction that is there.
    fn row_of(&mut self, id: Uuid) -> Result<Option<&mut InteractionRow>, StorageError> {
        if !self.rows.contains_key(&id) {
            let Some(row) = self.fold.interaction(id)? else { return Ok(None) };
            self.order.push(id);
            self.rows.insert(id, row);
        }
        Ok(self.rows.get_mut(&id))
    }

    fn last_asked(&self, caller: &str, hash: i64) -> Result<Option<Uuid>, StorageError> {
        match self.asked.get(&(caller.to_owned(), hash)) {
            Some(id) => Ok(Some(*id)),
            None => self.fold.last_asked(caller, hash),
        }
    }

    fn last_answered(&self, caller: &str, hash: i64) -> Result<Option<Uuid>, StorageError> {
        match self.answered.get(&(caller.to_owned(), hash)) {
            Some(id) => Ok(Some(*id)),
            None => self.fold.last_answered(caller, hash),
        }
    }

    fn store(self) -> Result<(), StorageError> {
        for id in &self.order {
            if let Some(row) = self.rows.get(id) {
                self.fold.put_interaction(row)?;
            }
        }
        for ((kind, version), (is_known, events)) in self.kinds {
            self.fold.count_kind(&KindCount { kind, version, is_known, events })?;
        }
        Ok(())
    }
}

/// What an interaction was given; nothing where that is not on record.
pub(crate) fn given(row: &InteractionRow) -> Vec<Given> {
    row.context.as_deref().and_then(|context| serde_json::from_str(context).ok()).unwrap_or_default()
}

fn shown(given: &Given, rank: usize, shown: u64, useful: f64) -> Shown {
    let rank = u32::try_from(rank).unwrap_or(u32::MAX);
    Shown { document: given.document.clone(), rank, shown, useful }
}

fn weigh(row: &mut InteractionRow, signal: Signal) {
    let (weight, good) = signal.weighs();
    row.weak_weight += weight;
    row.weak_good += weight * good;
}

/// As much of a text as is kept.
fn cut(text: &str, limit: usize, is_cut: &mut bool) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    *is_cut = true;
    text[..text.floor_char_boundary(limit)].to_owned()
}

/// What was said before the question as JSON; nothing where it is nothing, not on record or too long, which makes the
/// interaction a part of a conversation that is not known.
fn before(messages: &[Said<'_>], is_cut: &mut bool) -> Option<String> {
    let spoken: Vec<&Said<'_>> = messages.iter().filter(|said| said.role != "system").collect();
    if spoken.is_empty() {
        return None;
    }
    let full = |said: &&Said<'_>| Some((said.role.to_string(), said.text.as_ref()?.full()?.to_owned()));
    let texts: Option<Vec<(String, String)>> = spoken.iter().map(full).collect();
    let json = texts.and_then(|texts| serde_json::to_string(&texts).ok()).filter(|json| json.len() <= BEFORE_BYTES_MAX);
    *is_cut |= json.is_none();
    json
}

/// Whether somebody says that what they were told does not work. Only the beginning is looked at: what a long message
/// quotes is not what it says.
fn complains(text: &str) -> bool {
    const BEGINNING: usize = 200;
    const PHRASES: [&str; 16] = [
        "did not work",
        "didn't work",
        "does not work",
        "doesn't work",
        "is not working",
        "isn't working",
        "not working",
        "still fails",
        "still failing",
        "still broken",
        "still get the",
        "still getting",
        "same error",
        "that is wrong",
        "that's wrong",
        "didn't help",
    ];
    let beginning = text[..text.floor_char_boundary(BEGINNING)].to_lowercase().replace('\u{2019}', "'");
    PHRASES.iter().any(|phrase| beginning.contains(phrase))
}

/// The id of evidence that an event is, the same each time it is derived.
fn derived_id(event: Uuid, signal: Signal) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    hasher.update(event.as_bytes()).update(signal.as_str().as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Whether an interaction counts as a success: by who knows, or by weak evidence that outweighs the doubt.
pub fn is_success(row: &InteractionRow) -> bool {
    const SUCCESS: f64 = 0.55;
    value::outcome(row) >= SUCCESS
}
