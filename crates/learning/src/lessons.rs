//! What was learned as documents that search finds: patterns, and failures with what solved them.
//!
//! They are told of to a [`Shelf`], and what was told stands beside them, so that after a crash no more is told than has
//! changed. Telling the same twice changes nothing there.

use std::collections::BTreeMap;

use holdfast_storage::{
    LearningStore, StorageError,
    learning::{Fold, KnownError, Lease, Pattern},
};

use crate::{
    Shelf,
    redact::redact,
    similar::{PassError, blocking},
};

/// Patterns that can be found, those worth most.
pub const PATTERNS_MAX: usize = 2_000;
/// Failures that can be found, those seen most.
pub const ERRORS_MAX: usize = 10_000;
/// Lessons that are told of in one step.
const TOGETHER: usize = 64;
/// Bytes of a solution that are kept.
const SOLUTION_BYTES_MAX: usize = 4 << 10;
/// Characters of a title.
const TITLE_CHARS_MAX: usize = 120;

/// Something that was learned, as a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// Its id among the lessons of its tenant.
    pub id: String,
    /// `pattern` or `known_error`.
    pub kind: &'static str,
    /// What it is called.
    pub title: String,
    /// What it says.
    pub text: String,
}

impl Lesson {
    fn hash(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        for part in [self.kind, &self.title, &self.text] {
            hash.update(&part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        *hash.finalize().as_bytes()
    }

    fn of_pattern(pattern: &Pattern) -> Self {
        let Pattern { id, problem, approach, asked, .. } = pattern;
        // It was written as such a list.
        let asked: Vec<String> = serde_json::from_str(asked).unwrap_or_default();
        let asked = asked.iter().map(|question| format!("\n- {question}")).collect::<String>();
        Self {
            id: format!("pattern-{id}"),
            kind: "pattern",
            title: title(problem),
            text: format!("{problem}\n\nAsked in other words:\n{asked}\n\nWhat worked:\n\n{approach}"),
        }
    }

    fn of_error(error: &KnownError, fold: &Fold<'_>) -> Result<Self, StorageError> {
        let KnownError { error, class, normal, excerpt, solved_by, .. } = error;
        let mut text = format!("{normal}\n\n{excerpt}");
        let solution = match solved_by {
            Some(id) => fold.interaction(*id)?.and_then(|row| row.answer),
            None => None,
        };
        if let Some(answer) = solution {
            let answer = redact(&answer).text;
            let answer = answer[..answer.floor_char_boundary(SOLUTION_BYTES_MAX)].trim();
            text.push_str("\n\nWhat solved it:\n\n");
            text.push_str(answer);
        }
        Ok(Self {
            id: format!("error-{error}"),
            kind: "known_error",
            title: title(&format!("{class}: {normal}")),
            text,
        })
    }
}

fn title(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.chars().filter(|character| !character.is_control()).take(TITLE_CHARS_MAX).collect()
}

/// What is to be done for search to find what was learned.
#[derive(Default)]
struct Due {
    /// Of one tenant.
    tenant: String,
    keep: Vec<Lesson>,
    remove: Vec<String>,
}

/// One step: tells the shelf of some of what has changed; how many lessons that were.
pub(crate) async fn pass(store: &LearningStore, lease: &Lease, shelf: &dyn Shelf) -> Result<usize, PassError> {
    let reader = store.clone();
    let Some(due) = blocking(move || reader.read(due)).await?? else { return Ok(0) };
    let count = due.keep.len() + due.remove.len();
    let hashes: Vec<(String, [u8; 32])> = due.keep.iter().map(|lesson| (lesson.id.clone(), lesson.hash())).collect();
    shelf.keep(due.tenant.clone(), due.keep, due.remove.clone()).await.map_err(PassError::Shelf)?;
    let (store, lease) = (store.clone(), lease.clone());
    let note = move || {
        store.derive(&lease, move |fold| {
            for (id, hash) in &hashes {
                fold.set_shelved(&due.tenant, id, Some(hash))?;
            }
            for id in &due.remove {
                fold.set_shelved(&due.tenant, id, None)?;
            }
            Ok(())
        })
    };
    blocking(note).await??;
    Ok(count)
}

/// The first of what has changed, of one tenant.
fn due(fold: &Fold<'_>) -> Result<Option<Due>, StorageError> {
    let mut shelved: BTreeMap<(String, String), Vec<u8>> =
        fold.shelved()?.into_iter().map(|(tenant, document, hash)| ((tenant, document), hash)).collect();
    let mut due = Due::default();
    let mut keep = |tenant: &str, lesson: Lesson, due: &mut Due| {
        let is_told = shelved
            .remove(&(tenant.to_owned(), lesson.id.clone()))
            .is_some_and(|hash| hash.as_slice() == lesson.hash().as_slice());
        let is_first = due.keep.is_empty();
        if !is_told && (is_first || due.tenant == tenant) && due.keep.len() < TOGETHER {
            tenant.clone_into(&mut due.tenant);
            due.keep.push(lesson);
        }
    };
    for pattern in fold.patterns(None, 0, PATTERNS_MAX)?.iter().filter(|pattern| !pattern.is_junk) {
        keep(&pattern.tenant, Lesson::of_pattern(pattern), &mut due);
    }
    for error in &fold.known_errors(None, 0, ERRORS_MAX)? {
        keep(&error.tenant, Lesson::of_error(error, fold)?, &mut due);
    }
    // What is left over there is none of any more.
    for (tenant, document) in shelved.into_keys() {
        let is_first = due.keep.is_empty() && due.remove.is_empty();
        if (is_first || due.tenant == tenant) && due.remove.len() < TOGETHER {
            due.tenant = tenant;
            due.remove.push(document);
        }
    }
    Ok(Some(due).filter(|due| !due.keep.is_empty() || !due.remove.is_empty()))
}
