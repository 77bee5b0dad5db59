//! How well searches find what is wanted, measured on questions whose documents are known, over time.
//!
//! Questions come from a file, or from what people did: an interaction of which somebody said which documents were of use.
//! The figures are nDCG (Järvelin, Kekäläinen: "Cumulated gain-based evaluation of IR techniques", ACM TOIS 2002, with binary
//! gains and a logarithm of base 2) and recall, of the first ten documents, with what was learned and without it. They are
//! kept; where the same questions are answered worse than the last time with other settings, that is told.

use holdfast_storage::{
    Caller, StorageError,
    learning::{Evaluation, InteractionFilter},
};
use serde::{Deserialize, Serialize};

use crate::{Asked, LearnError, Learning, interactions::given, now_ms, similar::blocking};

/// Documents that are looked at.
pub const DEPTH: usize = 10;
/// Questions of one evaluation.
pub const QUESTIONS_MAX: usize = 5_000;
/// Interactions that questions are taken from, the newest.
const INTERACTIONS_MAX: i64 = 100_000;
const PAGE: usize = 1_000;
/// A loss of nDCG that is told.
const LOSS: f64 = 0.01;

/// A question whose documents are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Golden {
    /// The question.
    pub query: String,
    /// The ids of the documents that should be found.
    pub relevant: Vec<String>,
    /// Where to look; in the default collection where none is named.
    #[serde(default)]
    pub collections: Vec<String>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Questions that were asked.
    pub questions: usize,
    /// Of them, those that could not be.
    pub failed: usize,
    /// With what was learned.
    pub learned: Quality,
    /// Without it.
    pub plain: Quality,
}

/// How well documents were found, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// The mean nDCG of the first ten.
    pub ndcg: f64,
    /// The mean part of the documents that are among the first ten.
    pub recall: f64,
}

/// An evaluation, and what came before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// When; Unix milliseconds.
    pub at_ms: i64,
    /// What the searches went by.
    pub settings: String,
    /// What was measured.
    pub figures: Figures,
    /// That the same questions were answered better before, with other settings.
    pub warning: Option<String>,
}

impl Learning {
    /// Asks questions and keeps the figures. Questions that are not given are those of interactions of which somebody said
    /// which documents were of use.
    ///
    /// # Errors
    /// [`LearnError::NotEvaluated`] where there is nothing to ask, or nothing to search with.
    pub async fn evaluate(&self, caller: &Caller, golden: Option<Vec<Golden>>) -> Result<Evaluated, LearnError> {
        let not = |reason: &str| LearnError::NotEvaluated { reason: reason.to_owned() };
        let shelf = self.shelf.clone().ok_or_else(|| not("there is nothing to search with"))?;
        let golden = match golden {
            Some(golden) => golden,
            None => self.golden_of_feedback().await?,
        };
        let golden: Vec<Golden> =
            golden.into_iter().filter(|one| !one.relevant.is_empty() && !one.query.trim().is_empty()).collect();
        if golden.is_empty() {
            return Err(not("there is no question whose documents are known"));
        }
        if golden.len() > QUESTIONS_MAX {
            return Err(not(&format!("at most {QUESTIONS_MAX} questions are asked at once")));
        }
        let (mut sums, mut failed) = ([Quality::default(); 2], 0);
        for one in &golden {
            let mut found = [Vec::new(), Vec::new()];
            for (by_usefulness, found) in [true, false].into_iter().zip(&mut found) {
                let (query, collections) = (one.query.clone(), one.collections.clone());
                let asked = Asked { query, collections, limit: DEPTH, by_usefulness };
                match shelf.find(caller.clone(), asked).await {
                    Ok(documents) => *found = documents,
                    Err(reason) => {
                        failed += usize::from(by_usefulness);
                        tracing::debug!(reason, "a question of an evaluation could not be asked");
                    }
                }
            }
            for (sum, found) in sums.iter_mut().zip(&found) {
                sum.ndcg += ndcg(found, &one.relevant);
                sum.recall += recall(found, &one.relevant);
            }
        }
        if failed == golden.len() {
            return Err(not("no question could be asked; `holdfast status` says what is wrong"));
        }
        let count = golden.len() as f64;
        let [learned, plain] = sums.map(|sum| Quality { ndcg: sum.ndcg / count, recall: sum.recall / count });
        let figures = Figures { questions: golden.len(), failed, learned, plain };
        self.keep(&golden, shelf.settings(), figures).await
    }

    /// Evaluations that were kept, newest first.
    ///
    /// # Errors
    /// [`LearnError::Storage`].
    pub async fn evaluations(&self, limit: usize) -> Result<Vec<Evaluated>, LearnError> {
        let store = self.store.clone();
        let kept = blocking(move || store.read(|fold| fold.evaluations(limit))).await;
        let kept = kept.map_err(|_| StorageError::Closed)??;
        let read = |kept: Evaluation| {
            let figures = serde_json::from_str(&kept.figures).ok()?;
            Some(Evaluated { at_ms: kept.at_ms, settings: kept.settings, figures, warning: None })
        };
        Ok(kept.into_iter().filter_map(read).collect())
    }

    async fn keep(&self, golden: &[Golden], settings: String, figures: Figures) -> Result<Evaluated, LearnError> {
        let mut hasher = blake3::Hasher::new();
        for one in golden {
            let text = serde_json::to_vec(one).unwrap_or_default();
            hasher.update(&(text.len() as u64).to_le_bytes()).update(&text);
        }
        let questions = hasher.finalize().to_hex().to_string();
        let store = self.store.clone();
        let before = blocking(move || store.read(|fold| fold.evaluations(PAGE))).await;
        let before = before.map_err(|_| StorageError::Closed)??;
        let others = before.iter().filter(|kept| kept.questions == questions && kept.settings != settings);
        let warning = others.into_iter().next().and_then(|kept| {
            let was: Figures = serde_json::from_str(&kept.figures).ok()?;
            let lost = was.learned.ndcg - figures.learned.ndcg;
            (lost > LOSS)
                .then(|| format!("nDCG was {:.3} with {}, and is {lost:.3} less", was.learned.ndcg, kept.settings))
        });
        if let Some(warning) = &warning {
            tracing::warn!(warning, "searches find less than they did: {warning}");
        }
        let at_ms = now_ms();
        let text = serde_json::to_string(&figures).unwrap_or_default();
        let kept = Evaluation { at_ms, questions, settings: settings.clone(), figures: text };
        self.store.add_evaluation(kept).await?;
        Ok(Evaluated { at_ms, settings, figures, warning })
    }

    /// Questions of interactions of which somebody said which documents were of use.
    async fn golden_of_feedback(&self) -> Result<Vec<Golden>, LearnError> {
        let store = self.store.clone();
        let read = move || {
            let last = store.read(|fold| fold.last_number())?;
            let after = last.saturating_sub(INTERACTIONS_MAX);
            let (mut golden, mut filter) = (Vec::new(), InteractionFilter { after, ..InteractionFilter::default() });
            loop {
                let page = store.read(|fold| fold.interactions(&filter, PAGE))?;
                let Some(last) = page.last().and_then(|row| row.number) else { break };
                filter.after = last;
                for row in page {
                    let useful = given(&row).into_iter().filter(|given| given.is_useful);
                    let relevant: Vec<String> = useful.map(|given| given.document).collect();
                    if let Some(query) = row.question
                        && !relevant.is_empty()
                    {
                        golden.push(Golden { query, relevant, collections: Vec::new() });
                    }
                }
            }
            // The newest: what people want changes.
            let from = golden.len().saturating_sub(QUESTIONS_MAX);
            Ok::<_, StorageError>(golden.split_off(from))
        };
        Ok(blocking(read).await.map_err(|_| StorageError::Closed)??)
    }
}

/// nDCG of the first ten: what was gained, of what could have been.
pub fn ndcg(found: &[String], relevant: &[String]) -> f64 {
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let ranks = found.iter().take(DEPTH).enumerate().filter(|(_, document)| relevant.contains(document));
    let gained: f64 = ranks.map(|(rank, _)| discount(rank)).sum();
    let best: f64 = (0..relevant.len().min(DEPTH)).map(discount).sum();
    if best > 0.0 { (gained / best).min(1.0) } else { 0.0 }
}

/// The part of the documents that are among the first ten.
pub fn recall(found: &[String], relevant: &[String]) -> f64 {
    if relevant.is_empty() {
        return 0.0;
    }
    let found = &found[..found.len().min(DEPTH)];
    let there = relevant.iter().filter(|document| found.contains(document)).count();
    there as f64 / relevant.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn figures_are_those_of_the_book() {
        assert!((ndcg(&ids("a b c"), &ids("a")) - 1.0).abs() < 1e-12);
        assert!((ndcg(&ids("b a c"), &ids("a")) - 1.0 / 3.0_f64.log2()).abs() < 1e-12);
        let both = (1.0 + 1.0 / 4.0_f64.log2()) / (1.0 + 1.0 / 3.0_f64.log2());
        assert!((ndcg(&ids("a x b"), &ids("b a")) - both).abs() < 1e-12);
        assert!(ndcg(&ids("x y"), &ids("a")).abs() < 1e-12 && ndcg(&[], &ids("a")).abs() < 1e-12);
        assert!((recall(&ids("a x"), &ids("a b")) - 0.5).abs() < 1e-12);
        let deep = ids("1 2 3 4 5 6 7 8 9 10 a");
        assert!(ndcg(&deep, &ids("a")).abs() < 1e-12 && recall(&deep, &ids("a")).abs() < 1e-12);
    }
}
