//! Which of the candidates that are left comes first.
//!
//! Owns the interface and the policies that are fixed. One that is learnt implements [`Policy`] elsewhere.

mod explore;
mod rules;

use std::{
    cmp::{Ordering, Reverse},
    fmt,
};

pub use explore::Explore;
pub use rules::{Rule, Rules, Target, When};

use crate::{Candidate, Features, Location};

/// Tokens that an answer is expected to have. A client's bound says how long it may be, not how long it will be, so only
/// a lower one counts.
pub const OUTPUT_TOKENS_EXPECTED: u64 = 512;

/// Puts candidates in order.
///
/// It is pure: the same features, candidates and random number give the same ranking, and the order in which candidates
/// are given is all the same to it. Their names differ.
pub trait Policy: fmt::Debug + Send + Sync {
    /// The word for it in settings and records.
    fn name(&self) -> &str;

    /// Every candidate exactly once, the one to ask first in front.
    ///
    /// `random` is between 0 and 1, 1 excluded, drawn anew for each request; whoever keeps it can repeat the ranking. All
    /// randomness is in it: propensities are the same whatever it is.
    fn rank(&self, features: &Features, candidates: &[&Candidate], random: f64) -> Ranking;
}

/// Which policy is at work is chosen by settings, and later by what was learnt.
impl<P: Policy + ?Sized> Policy for Box<P> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn rank(&self, features: &Features, candidates: &[&Candidate], random: f64) -> Ranking {
        (**self).rank(features, candidates, random)
    }
}

/// Candidates, the one to ask first in front.
pub type Ranking = Vec<Ranked>;

/// A candidate in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Which of those that were given.
    pub index: usize,
    /// What the policy thinks of it: a finite number, higher for a better one. It compares within one ranking only.
    pub score: f64,
    /// How likely the policy puts this candidate first, whatever the random number turns out to be. All of a ranking
    /// add up to 1.
    pub propensity: f64,
}

/// What runs here is asked before what runs elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalFirst;

impl Policy for LocalFirst {
    fn name(&self) -> &str {
        "local-first"
    }

    fn rank(&self, _: &Features, candidates: &[&Candidate], _: f64) -> Ranking {
        ordered(candidates, |candidate| {
            let is_here = candidate.location == Location::Local;
            (Reverse(is_here), f64::from(u8::from(is_here)))
        })
    }
}

/// What runs elsewhere is asked before what runs here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteFirst;

impl Policy for RemoteFirst {
    fn name(&self) -> &str {
        "remote-first"
    }

    fn rank(&self, _: &Features, candidates: &[&Candidate], _: f64) -> Ranking {
        ordered(candidates, |candidate| {
            let is_elsewhere = candidate.location == Location::Remote;
            (Reverse(is_elsewhere), f64::from(u8::from(is_elsewhere)))
        })
    }
}

/// The lowest expected price first: of the question's tokens, and of an answer with [`OUTPUT_TOKENS_EXPECTED`] or fewer.
///
/// What runs here and has no price costs nothing; what runs elsewhere and has none comes last. The score is the price in
/// millionths with a minus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cheapest;

impl Policy for Cheapest {
    fn name(&self) -> &str {
        "cheapest"
    }

    fn rank(&self, features: &Features, candidates: &[&Candidate], _: f64) -> Ranking {
        ordered(candidates, |candidate| match expected_price(features, candidate) {
            Some(price) => ((false, price), -(price as f64) / 1e6),
            None => ((true, 0), f64::MIN),
        })
    }
}

/// Millionths of a millionth; nothing where it is not known.
fn expected_price(features: &Features, candidate: &Candidate) -> Option<u128> {
    let free = (candidate.location == Location::Local).then_some((0, 0));
    let (input, output) = candidate.price.or(free)?;
    let answer = features.output_tokens.unwrap_or(u64::MAX).min(OUTPUT_TOKENS_EXPECTED);
    let of_question = u128::from(features.input_tokens) * u128::from(input);
    Some(of_question.saturating_add(u128::from(answer) * u128::from(output)))
}

/// A ranking without chance: by a key, the lowest first, then what runs here, then by name.
fn ordered<K: Ord>(candidates: &[&Candidate], judge: impl Fn(&Candidate) -> (K, f64)) -> Ranking {
    let mut judged: Vec<(usize, &Candidate, K, f64)> = candidates
        .iter()
        .enumerate()
        .map(|(index, candidate)| {
            let (key, score) = judge(candidate);
            (index, *candidate, key, score)
        })
        .collect();
    judged.sort_by(|(_, one, one_key, _), (_, other, other_key, _)| {
        one_key.cmp(other_key).then_with(|| by_location_and_name(one, other))
    });
    let ranked = |(place, (index, _, _, score)): (usize, (usize, &Candidate, K, f64))| Ranked {
        index,
        score,
        propensity: if place == 0 { 1.0 } else { 0.0 },
    };
    judged.into_iter().enumerate().map(ranked).collect()
}

fn by_location_and_name(one: &Candidate, other: &Candidate) -> Ordering {
    let is_elsewhere = |candidate: &Candidate| candidate.location == Location::Remote;
    is_elsewhere(one).cmp(&is_elsewhere(other)).then_with(|| one.name.cmp(&other.name))
}

#[cfg(test)]
mod tests;
