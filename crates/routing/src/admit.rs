//! What rules a candidate out, whatever the policy.

use crate::{Candidate, Features, Location};

/// Tokens that are kept free for an answer whose length the client did not bound: a model that stops at the end of its
/// context after fewer would hardly have answered. Of a small context it is a quarter.
pub const OUTPUT_TOKENS_RESERVED: u64 = 256;

/// Why a model cannot answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Obstacle {
    /// Whoever asks may not use it; for them it is as good as absent.
    #[error("the key may not use it")]
    NotGranted,
    /// The request comes with tools.
    #[error("it cannot call tools")]
    NoTools,
    /// The request comes with pictures.
    #[error("it cannot look at pictures")]
    NoImages,
    /// The answer has to keep to a form.
    #[error("its answers cannot be held to a form")]
    NoFormat,
    /// Question and answer do not fit.
    #[error("the request needs {needed} tokens with its answer, and it reads {has}")]
    ContextTooShort {
        /// Tokens of the question, and those that the answer may have or that are kept free for it.
        needed: u64,
        /// Tokens that it reads and writes together.
        has: u64,
    },
    /// A budget in money applies, which it could not be charged to.
    #[error("it has no price, and a budget in money applies")]
    NoPrice,
    /// A budget has no room for it.
    #[error("a budget that applies to it is used up")]
    OverBudget,
    /// It failed too often a moment ago.
    #[error("it failed too often and is left alone for a while")]
    BreakerOpen,
}

impl Obstacle {
    /// The word for it in records and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotGranted => "not_granted",
            Self::NoTools => "no_tools",
            Self::NoImages => "no_images",
            Self::NoFormat => "no_format",
            Self::ContextTooShort { .. } => "context_too_short",
            Self::NoPrice => "no_price",
            Self::OverBudget => "over_budget",
            Self::BreakerOpen => "breaker_open",
        }
    }

    /// Whether it goes by itself, so that the same request may be answered later.
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::OverBudget | Self::BreakerOpen)
    }
}

/// What rules a candidate out: all there is, so that whoever removes one obstacle knows of the next. Empty where it may
/// answer. The order is that of [`Obstacle`]; whom [`Obstacle::NotGranted`] concerns is told nothing else of it.
pub fn admit(features: &Features, candidate: &Candidate) -> Vec<Obstacle> {
    if !candidate.is_granted {
        return vec![Obstacle::NotGranted];
    }
    let is_unpriced = candidate.price.is_none() && candidate.location == Location::Remote;
    let obstacles = [
        (features.has_tools && !candidate.tools).then_some(Obstacle::NoTools),
        (features.has_images && !candidate.images).then_some(Obstacle::NoImages),
        (features.has_format && !candidate.formats).then_some(Obstacle::NoFormat),
        candidate.context_tokens.and_then(|has| too_short(features, has)),
        (candidate.is_price_needed && is_unpriced).then_some(Obstacle::NoPrice),
        (!candidate.is_within_budget).then_some(Obstacle::OverBudget),
        (!candidate.is_passing).then_some(Obstacle::BreakerOpen),
    ];
    obstacles.into_iter().flatten().collect()
}

/// Tokens that a request needs of a context of so many: those of the question and those that the answer may have, or
/// [`OUTPUT_TOKENS_RESERVED`], or a quarter of the context where that is less.
pub fn tokens_needed(features: &Features, context_tokens: u64) -> u64 {
    let reserved = OUTPUT_TOKENS_RESERVED.min(context_tokens / 4);
    features.input_tokens.saturating_add(features.output_tokens.unwrap_or(reserved))
}

fn too_short(features: &Features, has: u64) -> Option<Obstacle> {
    let needed = tokens_needed(features, has);
    (needed > has).then_some(Obstacle::ContextTooShort { needed, has })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::candidate;

    const QUESTION: Features = Features {
        input_tokens: 1_000,
        output_tokens: None,
        has_tools: false,
        has_images: false,
        has_format: false,
        messages: 1,
    };

    fn able() -> Candidate {
        Candidate { context_tokens: Some(8_192), ..candidate("able", Location::Remote) }
    }

    fn check(features: Features, candidate: &Candidate, expected: &[Obstacle]) {
        assert_eq!(admit(&features, candidate), expected, "{features:?} {candidate:?}");
    }

    #[test]
    fn each_obstacle_stands_alone() {
        check(QUESTION, &able(), &[]);
        let all = Features { has_tools: true, has_images: true, has_format: true, ..QUESTION };
        check(all, &able(), &[]);
        check(all, &Candidate { tools: false, ..able() }, &[Obstacle::NoTools]);
        check(all, &Candidate { images: false, ..able() }, &[Obstacle::NoImages]);
        check(all, &Candidate { formats: false, ..able() }, &[Obstacle::NoFormat]);
        check(all, &Candidate { is_granted: false, ..able() }, &[Obstacle::NotGranted]);
        check(all, &Candidate { is_within_budget: false, ..able() }, &[Obstacle::OverBudget]);
        check(all, &Candidate { is_passing: false, ..able() }, &[Obstacle::BreakerOpen]);
        let modest = Candidate { tools: false, images: false, formats: false, ..able() };
        check(QUESTION, &modest, &[]);
    }

    #[test]
    fn question_and_answer_fit_to_the_token() {
        let has = |context_tokens| Candidate { context_tokens, ..able() };
        let bounded = Features { output_tokens: Some(500), ..QUESTION };
        check(bounded, &has(Some(1_500)), &[]);
        check(bounded, &has(Some(1_499)), &[Obstacle::ContextTooShort { needed: 1_500, has: 1_499 }]);
        check(bounded, &has(None), &[]);
        // Without a bound, 256 are kept free.
        check(QUESTION, &has(Some(1_333)), &[]);
        check(QUESTION, &has(Some(1_256)), &[]);
        check(QUESTION, &has(Some(1_255)), &[Obstacle::ContextTooShort { needed: 1_256, has: 1_255 }]);
        // Of a small context, a quarter.
        let short = Features { input_tokens: 96, ..QUESTION };
        check(short, &has(Some(128)), &[]);
        check(
            Features { input_tokens: 97, ..short },
            &has(Some(128)),
            &[Obstacle::ContextTooShort { needed: 129, has: 128 }],
        );
        let endless = Features { input_tokens: u64::MAX, output_tokens: Some(u64::MAX), ..QUESTION };
        check(endless, &able(), &[Obstacle::ContextTooShort { needed: u64::MAX, has: 8_192 }]);
    }

    #[test]
    fn a_budget_in_money_asks_for_a_price_where_tokens_cost_something() {
        let needed = Candidate { is_price_needed: true, price: None, ..able() };
        check(QUESTION, &needed, &[Obstacle::NoPrice]);
        check(QUESTION, &Candidate { price: Some((0, 0)), ..needed.clone() }, &[]);
        check(QUESTION, &Candidate { location: Location::Local, ..needed.clone() }, &[]);
        check(QUESTION, &Candidate { is_price_needed: false, ..needed }, &[]);
    }

    #[test]
    fn all_obstacles_are_told_but_of_what_is_not_granted_nothing_is() {
        let poor = Candidate {
            context_tokens: Some(4),
            tools: false,
            images: false,
            formats: false,
            is_within_budget: false,
            is_passing: false,
            is_price_needed: true,
            price: None,
            ..able()
        };
        let all = Features { has_tools: true, has_images: true, has_format: true, ..QUESTION };
        let words: Vec<&str> = admit(&all, &poor).iter().map(|obstacle| obstacle.as_str()).collect();
        let expected =
            ["no_tools", "no_images", "no_format", "context_too_short", "no_price", "over_budget", "breaker_open"];
        assert_eq!(words, expected);
        check(all, &Candidate { is_granted: false, ..poor }, &[Obstacle::NotGranted]);
    }

    #[test]
    fn what_passes_by_itself_is_known() {
        let passing = [Obstacle::OverBudget, Obstacle::BreakerOpen];
        let lasting = [
            Obstacle::NotGranted,
            Obstacle::NoTools,
            Obstacle::NoImages,
            Obstacle::NoFormat,
            Obstacle::ContextTooShort { needed: 2, has: 1 },
            Obstacle::NoPrice,
        ];
        assert!(passing.iter().all(|obstacle| obstacle.is_passing()));
        assert!(!lasting.iter().any(|obstacle| obstacle.is_passing()));
        assert_eq!(lasting[4].to_string(), "the request needs 2 tokens with its answer, and it reads 1");
    }
}
