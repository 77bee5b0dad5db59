//! What an interaction is worth, from 0 to 1, in parts that are shown.
//!
//! The weights are those of the original system: outcome 40 %, feedback 20 %, reusability 20 %, complexity 10 %, novelty
//! 10 %. Its last three parts were keywords and a constant; here reusability and novelty are measured on the vectors of
//! the questions.

use holdfast_storage::learning::InteractionRow;

use crate::told::OutcomeWord;

/// Weight of how it went.
pub const OUTCOME_WEIGHT: f64 = 0.4;
/// Weight of what people thought of it.
pub const FEEDBACK_WEIGHT: f64 = 0.2;
/// Weight of how often similar questions came.
pub const REUSABILITY_WEIGHT: f64 = 0.2;
/// Weight of how much there is to the answer.
pub const COMPLEXITY_WEIGHT: f64 = 0.1;
/// Weight of how far it is from the nearest earlier question.
pub const NOVELTY_WEIGHT: f64 = 0.1;

/// A cosine from which on two questions are similar. On vectors of all-MiniLM-L6-v2 paraphrases of one question lie above
/// it, and other questions about the same subject mostly below.
pub const SIMILAR: f32 = 0.75;
/// Similar questions that make one as reusable as can be.
pub const SIMILAR_ENOUGH: u32 = 16;
/// Up to this cosine a question is as novel as can be.
const UNLIKE: f64 = 0.5;
/// One more piece of evidence of the weight of a certain word, that says nothing was had: what nobody knows of has not
/// been a success.
const PRIOR_WEIGHT: f64 = 1.0;

/// What makes up a value. A part that cannot be measured is absent, and counts nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parts {
    /// How it went: 1 for success, 0.5 in part, 0 for failure; between them where only weak evidence is there.
    pub outcome: f64,
    /// What people thought of it: 0 to 1, 0.5 where nobody said.
    pub feedback: f64,
    /// How often similar questions came: 0 for never, 1 from [`SIMILAR_ENOUGH`] on, by logarithm.
    pub reusability: Option<f64>,
    /// How much there is to the answer.
    pub complexity: f64,
    /// How far it is from the nearest earlier question: 1 up to a cosine of 0.5, 0 for the same question.
    pub novelty: Option<f64>,
}

impl Parts {
    /// What is known of an interaction.
    pub fn of(row: &InteractionRow) -> Self {
        Self {
            outcome: outcome(row),
            feedback: row.feedback.map_or(0.5, |feedback| feedback.midpoint(1.0)),
            reusability: row.similar.map(reusability),
            complexity: row.answer.as_deref().map_or(0.0, complexity),
            novelty: row.nearest.map(novelty),
        }
    }

    /// Their sum, weighted.
    pub fn value(&self) -> f64 {
        self.outcome * OUTCOME_WEIGHT
            + self.feedback * FEEDBACK_WEIGHT
            + self.reusability.unwrap_or(0.0) * REUSABILITY_WEIGHT
            + self.complexity * COMPLEXITY_WEIGHT
            + self.novelty.unwrap_or(0.0) * NOVELTY_WEIGHT
    }
}

/// How it went: what was said with certainty, else the weak evidence, shrunken towards nothing.
pub(crate) fn outcome(row: &InteractionRow) -> f64 {
    let said = row.outcome.as_deref().and_then(OutcomeWord::parse).and_then(OutcomeWord::worth);
    said.unwrap_or(row.weak_good / (PRIOR_WEIGHT + row.weak_weight))
}

fn reusability(similar: u32) -> f64 {
    let enough = f64::from(SIMILAR_ENOUGH);
    ((1.0 + f64::from(similar)).log2() / (1.0 + enough).log2()).min(1.0)
}

fn novelty(nearest: f64) -> f64 {
    ((1.0 - nearest) / (1.0 - UNLIKE)).clamp(0.0, 1.0)
}

/// How much there is to an answer: its length, its steps, its code.
fn complexity(answer: &str) -> f64 {
    const WORDS_MANY: f64 = 300.0;
    const STEPS_MANY: f64 = 5.0;
    const BLOCKS_MANY: f64 = 2.0;
    let (mut words, mut steps, mut fences) = (0_u32, 0_u32, 0_u32);
    for line in answer.lines() {
        let line = line.trim_start();
        words = words.saturating_add(u32::try_from(line.split_whitespace().count()).unwrap_or(u32::MAX));
        fences = fences.saturating_add(u32::from(line.starts_with("```")));
        steps = steps.saturating_add(u32::from(is_step(line)));
    }
    let share = |count: f64, many: f64| (count / many).min(1.0);
    0.5 * share(f64::from(words), WORDS_MANY)
        + 0.25 * share(f64::from(steps), STEPS_MANY)
        + 0.25 * share(f64::from(fences / 2), BLOCKS_MANY)
}

/// Whether a line begins an item of a list.
fn is_step(line: &str) -> bool {
    let rest = line.trim_start_matches(|character: char| character.is_ascii_digit());
    (rest.len() < line.len() && (rest.starts_with(". ") || rest.starts_with(") ")))
        || line.starts_with("- ")
        || line.starts_with("* ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(change: impl FnOnce(&mut InteractionRow)) -> InteractionRow {
        let mut row = InteractionRow::default();
        change(&mut row);
        row
    }

    #[track_caller]
    fn check(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
    }

    #[test]
    fn nothing_known_is_worth_the_neutral_feedback_alone() {
        check(Parts::of(&row(|_| {})).value(), 0.1);
    }

    #[test]
    fn the_best_is_worth_1_and_the_worst_0() {
        let answer = format!("{}\n{}```\ncode\n```\n```\ncode\n```", "word ".repeat(300), "1. step\n".repeat(5));
        let best = row(|row| {
            row.outcome = Some("success".into());
            row.feedback = Some(1.0);
            row.similar = Some(100);
            row.nearest = Some(0.2);
            row.answer = Some(answer);
        });
        check(Parts::of(&best).value(), 1.0);
        let worst = row(|row| {
            row.outcome = Some("failure".into());
            row.feedback = Some(-1.0);
            row.similar = Some(0);
            row.nearest = Some(1.0);
        });
        check(Parts::of(&worst).value(), 0.0);
    }

    #[test]
    fn a_certain_word_overrules_all_signals_and_a_withdrawn_one_none() {
        let signals = |word: Option<&str>| {
            Parts::of(&row(|row| {
                row.outcome = word.map(str::to_owned);
                row.weak_weight = 1.5;
                row.weak_good = 1.5;
            }))
            .outcome
        };
        check(signals(Some("failure")), 0.0);
        check(signals(None), 0.6);
        check(signals(Some("withdrawn")), 0.6);
    }

    #[test]
    fn a_failure_is_never_worth_as_much_as_a_success_however_well_it_is_liked() {
        let of = |word: &str, feedback: f64| {
            Parts::of(&row(|row| {
                row.outcome = Some(word.into());
                row.feedback = Some(feedback);
            }))
            .value()
        };
        assert!(of("failure", 1.0) < of("success", -1.0) + 1e-9);
    }

    #[test]
    fn more_similar_questions_are_worth_more_up_to_a_bound() {
        let mut before = -1.0;
        for similar in 0..=SIMILAR_ENOUGH {
            let now = reusability(similar);
            assert!(now > before);
            before = now;
        }
        check(reusability(u32::MAX), 1.0);
    }

    #[test]
    fn novelty_falls_as_the_nearest_comes_nearer_and_is_never_outside_its_range() {
        check(novelty(-1.0), 1.0);
        check(novelty(0.75), 0.5);
        check(novelty(1.000_001), 0.0);
    }
}
