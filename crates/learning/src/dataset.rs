//! Datasets for fine-tuning: interactions that were worth it, as lines of JSON.
//!
//! A dataset is a folder of files (`holdfast_storage::datasets`): `train.jsonl`, `validation.jsonl` and `test.jsonl` have
//! one conversation a line, `preferences.jsonl` has pairs of answers to one question of which one was better,
//! `redactions.jsonl` says row by row what was taken out, and `manifest.json` how it was made, with the hash of each file.
//! The same rows and settings make the same bytes: nothing of when, or on which machine, is in them.
//!
//! Secrets and personal data are replaced before anything else is looked at, so that near-duplicates and splits are of what
//! is exported. Of near-duplicates the one that is worth most is kept. What is alike but for a number is no duplicate, and
//! yet in the same part as the other.

use std::collections::{BTreeMap, HashMap};

use holdfast_storage::{
    LearningStore, StorageError,
    datasets::{Datasets, Written},
    learning::{InteractionFilter, InteractionRow},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod judge;

pub use self::judge::{EncodeNow, Judged};

use self::judge::Judges;
use crate::{is_success, near, redact};

/// The form of the files.
const FORMAT: u32 = 1;
/// Rows that are looked at for one dataset.
const ROWS_MAX: usize = 200_000;
/// Rows that are read at a time.
const PAGE: usize = 500;
/// Pairs of one question.
const PAIRS_OF_ONE_MAX: usize = 4;
/// Answers so short teach nothing.
const ANSWER_CHARS_MIN: usize = 10;
/// The same of questions.
const QUESTION_CHARS_MIN: usize = 10;

/// What is to be in a dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// What an interaction has to be worth at least.
    pub value_min: f64,
    /// Only interactions of which somebody said that they may be used to train. Those of which somebody said that they may
    /// not are never in.
    pub needs_consent: bool,
    /// Only those of this caller.
    pub caller: Option<String>,
    /// Shares of `train`, `validation` and `test`.
    pub shares: [f64; 3],
    /// Makes another split of the same rows.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self { value_min: 0.5, needs_consent: false, caller: None, shares: [0.9, 0.05, 0.05], seed: 0 }
    }
}

/// The files that rows are split into.
pub const PARTS: [&str; 3] = ["train.jsonl", "validation.jsonl", "test.jsonl"];
/// Pairs of answers.
pub const PREFERENCES: &str = "preferences.jsonl";
/// What was taken out, row by row.
pub const REDACTIONS: &str = "redactions.jsonl";
/// How the dataset was made.
pub const MANIFEST: &str = "manifest.json";

/// How a dataset was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of the files.
    pub format: u32,
    /// What was asked for.
    pub recipe: Recipe,
    /// The last event of the log that its rows were derived from.
    pub log_position: u64,
    /// Interactions that were looked at,
    pub looked_at: usize,
    /// and those that were left out, by reason.
    pub left_out: BTreeMap<String, usize>,
    /// What vectors decided of rows that look alike. Older manifests have nothing of it.
    #[serde(default)]
    pub judged: Judged,
    /// What was taken out of texts, by kind.
    pub redacted: BTreeMap<String, usize>,
    /// The files, with their rows and hashes.
    pub files: BTreeMap<String, FileEntry>,
}

/// A file of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Lines.
    pub rows: usize,
    /// Bytes.
    pub bytes: u64,
    /// BLAKE3, in hexadecimal digits.
    pub blake3: String,
}

/// A dataset that was built.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// Its version.
    pub version: u32,
    /// Whether that was there already, with the same bytes.
    pub is_repeat: bool,
    /// How it was made.
    pub manifest: Manifest,
}

/// Builds a version of a dataset; gives the newest one where that is the same. Blocks for seconds, and longer where vectors
/// have to be made: `encode` makes them for rows of which words do not tell whether they say the same.
///
/// # Errors
/// [`StorageError`], also for what is no name.
pub fn build(
    store: &LearningStore,
    datasets: &Datasets,
    name: &str,
    recipe: &Recipe,
    log_position: u64,
    encode: Option<EncodeNow<'_>>,
) -> Result<Built, StorageError> {
    let mut chosen = choose(store, recipe)?;
    let mut judges = Judges::new(encode);
    chosen.drop_duplicates(&mut judges);
    let parts = chosen.split(recipe, &mut judges);
    let preferences = chosen.preferences();
    let draft = datasets.begin(name)?;
    let mut files = BTreeMap::new();
    for (part, file) in PARTS.iter().enumerate() {
        let rows = chosen.rows.iter().zip(&parts).filter(|(_, of)| **of == part);
        let lines: Vec<Value> = rows.map(|(row, _)| row.line()).collect();
        files.insert((*file).to_owned(), write(&draft, file, &lines)?);
    }
    files.insert(PREFERENCES.to_owned(), write(&draft, PREFERENCES, &preferences)?);
    let redactions: Vec<Value> = chosen.rows.iter().filter_map(Row::redactions).collect();
    files.insert(REDACTIONS.to_owned(), write(&draft, REDACTIONS, &redactions)?);
    let manifest = Manifest {
        format: FORMAT,
        recipe: recipe.clone(),
        log_position,
        looked_at: chosen.looked_at,
        left_out: chosen.left_out,
        judged: judges.told(),
        redacted: chosen.redacted,
        files,
    };
    if let Some((version, known)) = newest(datasets, name)?
        && known.files == manifest.files
        && known.recipe == manifest.recipe
    {
        return Ok(Built { version, is_repeat: true, manifest: known });
    }
    let mut file = draft.file(MANIFEST)?;
    file.line(serde_json::to_string_pretty(&manifest).unwrap_or_default().as_bytes())?;
    file.end()?;
    Ok(Built { version: draft.publish()?, is_repeat: false, manifest })
}

/// How a version was made. Blocks.
///
/// # Errors
/// [`StorageError::NotFound`] where there is none, [`StorageError::Unreadable`] where it was made by a newer program.
pub fn manifest(datasets: &Datasets, name: &str, version: u32) -> Result<Manifest, StorageError> {
    let bytes = datasets.read(name, version, MANIFEST)?;
    let manifest: Option<Manifest> = serde_json::from_slice(&bytes).ok();
    manifest.filter(|known| known.format <= FORMAT).ok_or(StorageError::Unreadable { what: "a dataset's manifest" })
}

fn newest(datasets: &Datasets, name: &str) -> Result<Option<(u32, Manifest)>, StorageError> {
    match datasets.versions(name)?.last() {
        // One that cannot be read is another one.
        Some(version) => Ok(manifest(datasets, name, *version).ok().map(|manifest| (*version, manifest))),
        None => Ok(None),
    }
}

fn write(draft: &holdfast_storage::datasets::Draft, name: &str, lines: &[Value]) -> Result<FileEntry, StorageError> {
    let mut file = draft.file(name)?;
    for line in lines {
        file.line(line.to_string().as_bytes())?;
    }
    let Written { blake3, bytes } = file.end()?;
    Ok(FileEntry { rows: lines.len(), bytes, blake3 })
}

/// An interaction as it is exported.
struct Row {
    id: String,
    caller: String,
    model: Option<String>,
    licence: Option<String>,
    consent: Option<bool>,
    at_ms: i64,
    value: f64,
    outcome: Option<String>,
    feedback: Option<f64>,
    is_good: bool,
    is_bad: bool,
    /// `(role, text)`, the answer last.
    messages: Vec<(String, String)>,
    /// What was taken out, by kind.
    found: BTreeMap<&'static str, usize>,
}

#[derive(Default)]
struct Chosen {
    /// Those that are exported, in the order of the log.
    rows: Vec<Row>,
    /// Those that are not, and can still be the worse one of a pair.
    worse: Vec<Row>,
    looked_at: usize,
    left_out: BTreeMap<String, usize>,
    redacted: BTreeMap<String, usize>,
}

fn choose(store: &LearningStore, recipe: &Recipe) -> Result<Chosen, StorageError> {
    let mut chosen = Chosen::default();
    let mut filter = InteractionFilter { caller: recipe.caller.clone(), ..InteractionFilter::default() };
    while chosen.looked_at < ROWS_MAX {
        let page = store.read(|fold| fold.interactions(&filter, PAGE))?;
        let Some(last) = page.last().and_then(|row| row.number) else { break };
        filter.after = last;
        for row in page {
            chosen.looked_at += 1;
            chosen.take(row, recipe);
        }
    }
    Ok(chosen)
}

impl Chosen {
    fn take(&mut self, row: InteractionRow, recipe: &Recipe) {
        let (Some(question), Some(answer)) = (&row.question, &row.answer) else { return self.leave_out("no_text") };
        let reason = match () {
            () if row.is_cut => Some("text_cut"),
            () if row.consent == Some(false) => Some("refused"),
            () if recipe.needs_consent && row.consent != Some(true) => Some("no_consent"),
            () if question.trim().chars().count() < QUESTION_CHARS_MIN => Some("question_short"),
            () if answer.trim().chars().count() < ANSWER_CHARS_MIN => Some("answer_short"),
            () if question.trim() == answer.trim() => Some("answer_repeats_question"),
            () => None,
        };
        if let Some(reason) = reason {
            return self.leave_out(reason);
        }
        let (is_good, value) = (is_success(&row), row.value.unwrap_or(0.0));
        let row = Row::of(row);
        for (kind, count) in &row.found {
            *self.redacted.entry((*kind).to_owned()).or_default() += count;
        }
        match () {
            () if !is_good => {
                self.leave_out("no_success");
                self.worse.push(row);
            }
            () if value < recipe.value_min => self.leave_out("value_low"),
            () => self.rows.push(row),
        }
    }

    fn leave_out(&mut self, reason: &str) {
        *self.left_out.entry(reason.to_owned()).or_default() += 1;
    }

    /// Keeps the best of each group of rows that say the same.
    fn drop_duplicates(&mut self, judges: &mut Judges<'_>) {
        let texts: Vec<String> = self.rows.iter().map(Row::text).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let groups = judges.group(&texts, near::groups);
        let mut best: HashMap<u32, usize> = HashMap::new();
        for (place, group) in groups.group_of.iter().enumerate() {
            let kept = best.entry(*group).or_insert(place);
            let (this, that) = (&self.rows[place], &self.rows[*kept]);
            // Of equals the first in the log.
            if this.value > that.value {
                *kept = place;
            }
        }
        let before = self.rows.len();
        let mut place = 0;
        self.rows.retain(|_| {
            let is_kept = best.get(&groups.group_of[place]) == Some(&place);
            place += 1;
            is_kept
        });
        if before > self.rows.len() {
            self.left_out.insert("near_duplicate".to_owned(), before - self.rows.len());
        }
    }

    /// The part of each row.
    fn split(&self, recipe: &Recipe, judges: &mut Judges<'_>) -> Vec<usize> {
        let texts: Vec<String> = self.rows.iter().map(Row::text).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let groups = judges.group(&texts, near::leak_groups);
        near::split(&groups, &recipe.shares, recipe.seed)
    }

    /// Pairs of answers to the same question, of which one was certainly better.
    fn preferences(&self) -> Vec<Value> {
        let all: Vec<&Row> = self.rows.iter().chain(&self.worse).collect();
        let questions: Vec<&str> = all.iter().map(|row| row.question()).collect();
        let groups = near::groups(&questions, &near::Settings::default(), None);
        let mut by_group: BTreeMap<u32, (Vec<&Row>, Vec<&Row>)> = BTreeMap::new();
        for (row, group) in all.iter().zip(&groups.group_of) {
            let (good, bad) = by_group.entry(*group).or_default();
            if row.is_good && !row.is_bad {
                good.push(row);
            } else if row.is_bad {
                bad.push(row);
            }
        }
        let mut pairs = Vec::new();
        for (good, bad) in by_group.values() {
            let both = good.iter().flat_map(|good| bad.iter().map(move |bad| (good, bad)));
            let told = both.filter(|(good, bad)| good.answer() != bad.answer()).take(PAIRS_OF_ONE_MAX);
            pairs.extend(told.map(|(good, bad)| pair(good, bad)));
        }
        pairs
    }
}

fn pair(good: &Row, bad: &Row) -> Value {
    let prompt = &good.messages[..good.messages.len() - 1];
    json!({
        "prompt": prompt.iter().map(message).collect::<Vec<_>>(),
        "chosen": [{ "role": "assistant", "content": good.answer() }],
        "rejected": [{ "role": "assistant", "content": bad.answer() }],
        "metadata": { "chosen": good.provenance(), "rejected": bad.provenance() },
    })
}

fn message((role, text): &(String, String)) -> Value {
    json!({ "role": role, "content": text })
}

impl Row {
    fn of(row: InteractionRow) -> Self {
        let (is_good, value) = (is_success(&row), row.value.unwrap_or(0.0));
        let is_bad = row.outcome.as_deref() == Some("failure") || row.feedback.is_some_and(|feedback| feedback < 0.0);
        let mut said: Vec<(String, String)> = Vec::new();
        said.extend(row.system.map(|text| ("system".to_owned(), text)));
        let before: Vec<(String, String)> =
            row.before.as_deref().and_then(|before| serde_json::from_str(before).ok()).unwrap_or_default();
        said.extend(before);
        said.push(("user".to_owned(), row.question.unwrap_or_default()));
        said.push(("assistant".to_owned(), row.answer.unwrap_or_default()));
        let texts: Vec<&str> = said.iter().map(|(_, text)| text.as_str()).collect();
        let redacted = redact::redact_row(&texts);
        let mut found = BTreeMap::new();
        for finding in redacted.iter().flat_map(|redacted| &redacted.findings) {
            *found.entry(finding.kind.as_str()).or_default() += 1;
        }
        let texts: Vec<String> = redacted.into_iter().map(|redacted| redacted.text.into_owned()).collect();
        let messages = said.into_iter().zip(texts).map(|((role, _), text)| (role, text)).collect();
        Self {
            id: row.id.to_string(),
            caller: row.caller,
            model: row.model,
            licence: row.licence,
            consent: row.consent,
            at_ms: row.at_ms,
            value,
            outcome: row.outcome,
            feedback: row.feedback,
            is_good,
            is_bad,
            messages,
            found,
        }
    }

    fn question(&self) -> &str {
        self.messages.len().checked_sub(2).map_or("", |at| &self.messages[at].1)
    }

    fn answer(&self) -> &str {
        self.messages.last().map_or("", |(_, text)| text)
    }

    /// What of it can be like another: what was asked and answered.
    fn text(&self) -> String {
        format!("{}\n{}", self.question(), self.answer())
    }

    fn line(&self) -> Value {
        json!({
            "messages": self.messages.iter().map(message).collect::<Vec<_>>(),
            "metadata": self.provenance(),
        })
    }

    /// Where it is from, and what may be done with it.
    fn provenance(&self) -> Value {
        json!({
            "interaction": self.id, "caller": self.caller, "model": self.model, "at_ms": self.at_ms, "value": self.value,
            "outcome": self.outcome, "feedback": self.feedback, "consent": self.consent, "licence": self.licence,
        })
    }

    fn redactions(&self) -> Option<Value> {
        (!self.found.is_empty()).then(|| json!({ "interaction": self.id, "redacted": self.found }))
    }
}

#[cfg(test)]
mod tests;
