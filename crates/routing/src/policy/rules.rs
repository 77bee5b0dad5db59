//! Rules that somebody wrote: for requests of this kind, these models first.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::{Policy, Ranking, ordered};
use crate::{Candidate, Features, Location};

/// Rules, the most important first.
///
/// Every rule that matches has its say, one after the other: what the first names comes before what the second names, in
/// the order in which they name it. A candidate counts where it is named first. What no rule names comes last, what runs
/// here before what runs elsewhere. The score is how many names a candidate's own is before the end, 0 for the unnamed.
///
/// In settings: `[{ when = { input_tokens_over = 4000 }, use = ["remote"] }, { use = ["small", "local"] }]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rules(pub Vec<Rule>);

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For which requests; for all where it is left out.
    #[serde(default)]
    pub when: When,
    /// What comes first for them, in this order.
    #[serde(rename = "use")]
    pub then: Vec<Target>,
}

/// What a rule asks of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Nothing.
    #[default]
    Always,
    /// The question has more tokens.
    InputTokensOver(u64),
    /// It has fewer.
    InputTokensUnder(u64),
    /// The conversation has more messages.
    MessagesOver(usize),
    /// It comes with tools, or without.
    HasTools(bool),
    /// It comes with pictures, or without.
    HasImages(bool),
    /// The answer has to keep to a form, or not.
    HasFormat(bool),
    /// Each of these.
    All(Vec<When>),
    /// One of these at least.
    Any(Vec<When>),
    /// Not this.
    Not(Box<When>),
}

/// What a rule puts first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Target {
    /// What runs here: `local`.
    Local,
    /// What runs elsewhere: `remote`.
    Remote,
    /// One model, by any other name.
    Model(String),
}

impl When {
    /// Whether a request is one of those.
    pub fn matches(&self, features: &Features) -> bool {
        match self {
            Self::Always => true,
            Self::InputTokensOver(tokens) => features.input_tokens > *tokens,
            Self::InputTokensUnder(tokens) => features.input_tokens < *tokens,
            Self::MessagesOver(messages) => features.messages > *messages,
            Self::HasTools(wanted) => features.has_tools == *wanted,
            Self::HasImages(wanted) => features.has_images == *wanted,
            Self::HasFormat(wanted) => features.has_format == *wanted,
            Self::All(conditions) => conditions.iter().all(|condition| condition.matches(features)),
            Self::Any(conditions) => conditions.iter().any(|condition| condition.matches(features)),
            Self::Not(condition) => !condition.matches(features),
        }
    }
}

impl Target {
    /// Whether a candidate is meant.
    pub fn is(&self, candidate: &Candidate) -> bool {
        match self {
            Self::Local => candidate.location == Location::Local,
            Self::Remote => candidate.location == Location::Remote,
            Self::Model(name) => candidate.name == *name,
        }
    }
}

impl From<String> for Target {
    fn from(name: String) -> Self {
        match name.as_str() {
            "local" => Self::Local,
            "remote" => Self::Remote,
            _ => Self::Model(name),
        }
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        match target {
            Target::Local => "local".to_owned(),
            Target::Remote => "remote".to_owned(),
            Target::Model(name) => name,
        }
    }
}

impl Policy for Rules {
    fn name(&self) -> &str {
        "rules"
    }

    fn rank(&self, features: &Features, candidates: &[&Candidate], _: f64) -> Ranking {
        let matching = self.0.iter().filter(|rule| rule.when.matches(features));
        let targets: Vec<&Target> = matching.flat_map(|rule| &rule.then).collect();
        ordered(candidates, |candidate| {
            let named = targets.iter().position(|target| target.is(candidate));
            let before_end = named.map_or(0, |place| targets.len() - place);
            (Reverse(before_end), before_end as f64)
        })
    }
}
