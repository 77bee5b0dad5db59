//! What others tell the log of interactions and of how they went: the bodies of their events.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Tells of an interaction that did not go through here. Version 1, body [`Told`].
pub const INTERACTION_TOLD: &str = "interaction_told";
/// Tells how an interaction went. Version 1, body [`OutcomeTold`].
pub const OUTCOME_TOLD: &str = "outcome_told";
/// The version of both bodies.
pub const TOLD_VERSION: u16 = 1;

/// Documents that an interaction can have been given.
pub const CONTEXT_MAX: usize = 100;
/// Bytes of a document's id, a model's name or a licence.
pub const NAME_BYTES_MAX: usize = 512;
/// Bytes of a note.
pub const NOTE_BYTES_MAX: usize = 16 << 10;
/// Bytes of a question, an answer, an error, or what was said before; what is longer is cut where it is derived from.
pub const TEXT_BYTES_MAX: usize = 512 << 10;

/// An interaction that did not go through here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// What was asked.
    pub question: String,
    /// What was answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answer: Option<String>,
    /// What the model was told to be.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub system: Option<String>,
    /// Which model answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// Documents that it was given, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub context: Vec<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// The terms its texts are under.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub licence: Option<String>,
    /// How it went, if that is known already.
    #[serde(flatten)]
    pub outcome: OutcomeTold,
}

/// How an interaction went. Each part may be absent; what is absent changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OutcomeTold {
    /// By who knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<OutcomeWord>,
    /// What a person thought of it, from -1 to 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub feedback: Option<f64>,
    /// What was seen to happen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<Signal>,
    /// Documents it was given that were of use: cited, opened, built upon.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub useful: Vec<String>,
    /// The interaction that solved what went wrong here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub solved_by: Option<Uuid>,
    /// Whether it may be used to train.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub may_train: Option<bool>,
    /// Who says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
    /// What they write.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// How an interaction went, by who knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeWord {
    /// It did what it was for.
    Success,
    /// In part.
    Partial,
    /// It did not.
    Failure,
    /// What was said before was a mistake.
    Withdrawn,
}

impl OutcomeWord {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Success, Self::Partial, Self::Failure, Self::Withdrawn];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Failure => "failure",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The outcome of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }

    /// How much of what was wanted was had: all, half, nothing.
    pub const fn worth(self) -> Option<f64> {
        match self {
            Self::Success => Some(1.0),
            Self::Partial => Some(0.5),
            Self::Failure => Some(0.0),
            Self::Withdrawn => None,
        }
    }
}

/// Something that happened with an answer and says a little about it.
///
/// Weights are in units of one person's certain word, which [`OutcomeWord`] is and which overrules them all. They are
/// judgements, not measurements: a test that ran says much, a client that left says little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// The same was asked again at once.
    Regenerated,
    /// The answer was changed before it was used.
    Edited,
    /// Nobody waited for the answer's end.
    Abandoned,
    /// The next thing that was said is that it does not work.
    NotWorking,
    /// It was taken as it is.
    Accepted,
    /// It was copied.
    Copied,
    /// Tests of what was made by it passed.
    TestsPassed,
    /// They failed.
    TestsFailed,
    /// There was no whole answer.
    NoAnswer,
}

impl Signal {
    /// Each of them.
    pub const ALL: [Self; 9] = [
        Self::Regenerated,
        Self::Edited,
        Self::Abandoned,
        Self::NotWorking,
        Self::Accepted,
        Self::Copied,
        Self::TestsPassed,
        Self::TestsFailed,
        Self::NoAnswer,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Regenerated => "regenerated",
            Self::Edited => "edited",
            Self::Abandoned => "abandoned",
            Self::NotWorking => "not_working",
            Self::Accepted => "accepted",
            Self::Copied => "copied",
            Self::TestsPassed => "tests_passed",
            Self::TestsFailed => "tests_failed",
            Self::NoAnswer => "no_answer",
        }
    }

    /// How much it counts, and how much of what was wanted it says was had.
    pub const fn weighs(self) -> (f64, f64) {
        match self {
            Self::Regenerated => (0.5, 0.0),
            Self::Edited => (0.3, 0.5),
            Self::Abandoned => (0.2, 0.0),
            Self::NotWorking => (0.8, 0.0),
            Self::Accepted => (0.8, 1.0),
            Self::Copied => (0.4, 1.0),
            Self::TestsPassed => (1.5, 1.0),
            Self::TestsFailed => (1.5, 0.0),
            Self::NoAnswer => (1.0, 0.0),
        }
    }
}

/// What is wrong with something that was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct BadTold {
    /// Which part.
    pub field: &'static str,
    /// What about it.
    pub problem: Cow<'static, str>,
}

impl BadTold {
    fn new(field: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { field, problem: problem.into() }
    }
}

impl Told {
    /// Whether it can be put on record.
    ///
    /// # Errors
    /// [`BadTold`] names the first part that cannot.
    pub fn check(&self) -> Result<(), BadTold> {
        if self.question.trim().is_empty() {
            return Err(BadTold::new("question", "is empty"));
        }
        let texts = [
            ("question", Some(&self.question)),
            ("answer", self.answer.as_ref()),
            ("system", self.system.as_ref()),
            ("error", self.error.as_ref()),
        ];
        for (field, text) in texts {
            check_bytes(field, text, TEXT_BYTES_MAX)?;
        }
        for (field, name) in [("model", self.model.as_ref()), ("licence", self.licence.as_ref())] {
            check_bytes(field, name, NAME_BYTES_MAX)?;
        }
        check_documents("context", &self.context)?;
        self.outcome.check()
    }
}

impl OutcomeTold {
    /// Whether it can be put on record.
    ///
    /// # Errors
    /// [`BadTold`] names the first part that cannot.
    pub fn check(&self) -> Result<(), BadTold> {
        if self.feedback.is_some_and(|feedback| !(-1.0..=1.0).contains(&feedback)) {
            return Err(BadTold::new("feedback", "is not from -1 to 1"));
        }
        check_documents("useful", &self.useful)?;
        check_bytes("source", self.source.as_ref(), NAME_BYTES_MAX)?;
        check_bytes("note", self.note.as_ref(), NOTE_BYTES_MAX)
    }

    /// Whether it says anything.
    pub fn is_empty(&self) -> bool {
        let Self { outcome, feedback, signal, useful, solved_by, may_train, source: _, note } = self;
        outcome.is_none()
            && feedback.is_none()
            && signal.is_none()
            && useful.is_empty()
            && solved_by.is_none()
            && may_train.is_none()
            && note.is_none()
    }
}

fn check_bytes(field: &'static str, text: Option<&String>, limit: usize) -> Result<(), BadTold> {
    match text {
        Some(text) if text.len() > limit => {
            Err(BadTold::new(field, format!("has {} bytes; at most {limit} are taken", text.len())))
        }
        _ => Ok(()),
    }
}

fn check_documents(field: &'static str, documents: &[String]) -> Result<(), BadTold> {
    if documents.len() > CONTEXT_MAX {
        return Err(BadTold::new(field, format!("names more than {CONTEXT_MAX} documents")));
    }
    for document in documents {
        if document.is_empty() {
            return Err(BadTold::new(field, "names a document without an id"));
        }
        check_bytes(field, Some(document), NAME_BYTES_MAX)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_in_json_and_in_the_table() {
        for signal in Signal::ALL {
            assert_eq!(serde_json::json!(signal), signal.as_str());
            let (weight, good) = signal.weighs();
            assert!(weight > 0.0 && (0.0..=1.0).contains(&good), "{signal:?}");
        }
        for outcome in OutcomeWord::ALL {
            assert_eq!(serde_json::json!(outcome), outcome.as_str());
            assert_eq!(OutcomeWord::parse(outcome.as_str()), Some(outcome));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let told = |change: fn(&mut Told)| {
            let mut told = Told { question: "why?".into(), ..Told::default() };
            change(&mut told);
            told.check().map_err(|bad| bad.field)
        };
        assert_eq!(told(|_| {}), Ok(()));
        assert_eq!(told(|told| told.question = " \n".into()), Err("question"));
        assert_eq!(told(|told| told.outcome.feedback = Some(7.0)), Err("feedback"));
        assert_eq!(told(|told| told.outcome.feedback = Some(f64::NAN)), Err("feedback"));
        assert_eq!(told(|told| told.outcome.feedback = Some(-1.0)), Ok(()));
        assert_eq!(told(|told| told.answer = Some("x".repeat(TEXT_BYTES_MAX + 1))), Err("answer"));
        assert_eq!(told(|told| told.context = vec![String::new()]), Err("context"));
        assert_eq!(told(|told| told.context = vec!["a".into(); CONTEXT_MAX + 1]), Err("context"));
        assert_eq!(told(|told| told.outcome.useful = vec!["a".repeat(513)]), Err("useful"));
    }

    #[test]
    fn what_is_absent_takes_no_room_and_is_read_back() {
        let told = Told { question: "why?".into(), ..Told::default() };
        let json = serde_json::to_string(&told).unwrap();
        assert_eq!(json, r#"{"question":"why?"}"#);
        assert_eq!(serde_json::from_str::<Told>(&json).unwrap(), told);
    }
}
