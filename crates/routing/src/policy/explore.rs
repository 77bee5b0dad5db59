//! Now and then another candidate first, so that something is learnt of those that a policy would never ask.

use super::{Policy, Ranking};
use crate::{Candidate, Features};

/// Asks what another policy puts first, but with a small probability any candidate, all of them as likely (ε-greedy:
/// Sutton and Barto, "Reinforcement Learning", 2018, section 2.2).
///
/// Whoever learns from outcomes weighs each by one over its propensity (Horvitz and Thompson 1952), which works for what
/// can happen at all; here nothing has a propensity below ε divided by the number of candidates.
#[derive(Debug)]
pub struct Explore<P> {
    epsilon: f64,
    inner: P,
    name: String,
}

impl<P: Policy> Explore<P> {
    /// A policy that explores with probability `epsilon`. What is not between 0 and 1 is taken for the nearest of them,
    /// and what is no number for 0.
    pub fn new(epsilon: f64, inner: P) -> Self {
        let epsilon = if epsilon.is_nan() { 0.0 } else { epsilon.clamp(0.0, 1.0) };
        Self { epsilon, name: format!("explore {}", inner.name()), inner }
    }
}

impl<P: Policy> Policy for Explore<P> {
    fn name(&self) -> &str {
        &self.name
    }

    /// The candidate that is drawn comes first; the others keep their order.
    fn rank(&self, features: &Features, candidates: &[&Candidate], random: f64) -> Ranking {
        let (drawn, rest) = self.split(random, candidates.len());
        let mut ranking = self.inner.rank(features, candidates, rest);
        let share = self.epsilon / ranking.len() as f64;
        for ranked in &mut ranking {
            ranked.propensity = (1.0 - self.epsilon) * ranked.propensity + share;
        }
        if let Some(place) = drawn.filter(|place| *place < ranking.len()) {
            ranking[..=place].rotate_right(1);
        }
        ranking
    }
}

impl<P> Explore<P> {
    /// What a random number says: which place of the ranking is drawn, if one is, and the random number for the other
    /// policy. That is what is left of the number when the choice is taken out of it: within the part of the numbers
    /// that make this choice it is anywhere between 0 and 1, as the whole was.
    fn split(&self, random: f64, count: usize) -> (Option<usize>, f64) {
        let random = below_one(random);
        if random >= self.epsilon {
            return (None, below_one((random - self.epsilon) / (1.0 - self.epsilon)));
        }
        let drawn = random / self.epsilon * count as f64;
        let place = (drawn as usize).min(count.saturating_sub(1));
        (Some(place), below_one(drawn - place as f64))
    }
}

/// The nearest number that may be called random here. What is out of bounds, or no number, is nobody's intention and must
/// not become a place that is not there; and rounding makes a whole of what is just below it.
fn below_one(random: f64) -> f64 {
    if random.is_nan() { 0.0 } else { random.clamp(0.0, 1.0_f64.next_down()) }
}
