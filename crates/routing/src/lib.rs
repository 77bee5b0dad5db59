//! Which model answers a request: what rules a candidate out, and which of the others comes first.
//!
//! Pure: no input or output, no time, no storage, no randomness of its own. A policy says with what probability it puts
//! each candidate first (its propensity), so that what is learnt from outcomes later can be weighed.

mod admit;
mod policy;

pub use admit::{OUTPUT_TOKENS_RESERVED, Obstacle, admit, tokens_needed};
pub use policy::{
    Cheapest, Explore, LocalFirst, OUTPUT_TOKENS_EXPECTED, Policy, Ranked, Ranking, RemoteFirst, Rule, Rules, Target,
    When,
};

/// What is known of a request before anybody is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Tokens of the whole question.
    pub input_tokens: u64,
    /// Tokens that the answer may have; nothing where the client set no bound.
    pub output_tokens: Option<u64>,
    /// It comes with tools.
    pub has_tools: bool,
    /// It comes with pictures.
    pub has_images: bool,
    /// The answer has to keep to a form.
    pub has_format: bool,
    /// Messages of the conversation.
    pub messages: usize,
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// On this machine, or in the same private network.
    Local,
    /// Elsewhere.
    Remote,
}

/// A model that could be asked, as it is right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What clients call it.
    pub name: String,
    /// Where it runs.
    pub location: Location,
    /// Tokens of question and answer together; nothing where that is not known, which rules nothing out.
    pub context_tokens: Option<u64>,
    /// It can call tools.
    pub tools: bool,
    /// It can look at pictures.
    pub images: bool,
    /// It can keep to a form.
    pub formats: bool,
    /// Whoever asks may use it.
    pub is_granted: bool,
    /// Every budget that applies has room for it.
    pub is_within_budget: bool,
    /// Its breaker lets a call through.
    pub is_passing: bool,
    /// Millionths for a million tokens, asked and answered; nothing where it has no price.
    pub price: Option<(u64, u64)>,
    /// A budget in money applies to it.
    pub is_price_needed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model that nothing rules out.
    pub(crate) fn candidate(name: &str, location: Location) -> Candidate {
        Candidate {
            name: name.to_owned(),
            location,
            context_tokens: None,
            tools: true,
            images: true,
            formats: true,
            is_granted: true,
            is_within_budget: true,
            is_passing: true,
            price: None,
            is_price_needed: false,
        }
    }
}
