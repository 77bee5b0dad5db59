//! Which documents are of use to those who are given them.
//!
//! What stands first is looked at most, so it is used most, and what is used most would come to stand first for no other
//! reason. So a document's rate is estimated by the position-based model: it is used if it was looked at, which depends on
//! its rank alone, and is of use, which depends on it alone (Craswell, Zoeter, Taylor, Ramsey: "An experimental comparison
//! of click position-bias models", WSDM 2008). Both are found by expectation maximisation (Chuklin, Markov, de Rijke: "Click
//! Models for Web Search", 2015, section 4.2). Both are drawn to what would be thought without evidence: ranks to one over
//! the rank, documents to the mean of all, so that a document that few were given is neither good nor bad.
//!
//! What comes of it is a bounded boost for ranking. Pure.

use std::collections::BTreeMap;

use holdfast_storage::learning::Shown;

/// Times that a document has to be shown for its own rate to weigh as much as the mean.
const DOCUMENT_PRIOR: f64 = 4.0;
/// The same of a rank.
const RANK_PRIOR: f64 = 50.0;
/// Rounds of expectation maximisation; figures stand still long before.
const ROUNDS: usize = 30;
/// How much ranking makes of a document that is e times as likely to be of use as the mean, in cosine similarity.
const BOOST: f64 = 0.03;
/// The most that it makes of any.
pub const BOOST_MAX: f64 = 0.06;
/// Boosts that are given at most, the strongest.
pub const BOOSTS_MAX: usize = 10_000;
/// Boosts so small are left out.
const BOOST_MIN: f64 = 0.002;

/// What is thought of documents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usefulness {
    /// How likely it is that a document at each rank is looked at; 1 for the first.
    pub examined: Vec<f64>,
    /// How likely a document is of use to whoever looks at it, on average.
    pub mean: f64,
    /// Each document, strongest boost first.
    pub documents: Vec<DocumentUse>,
}

/// What is thought of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentUse {
    /// The document.
    pub document: String,
    /// How often it was given to somebody of whom it is known what they used.
    pub shown: u64,
    /// How often it was of use.
    pub useful: f64,
    /// How likely it is of use to whoever looks at it.
    pub rate: f64,
    /// What ranking makes of that, in cosine similarity.
    pub boost: f64,
}

/// Estimates how useful documents are.
pub fn estimate(shown: &[Shown]) -> Usefulness {
    let ranks = shown.iter().map(|shown| shown.rank as usize + 1).max().unwrap_or(0);
    let prior: Vec<f64> = (0..ranks).map(|rank| 1.0 / (rank as f64 + 1.0)).collect();
    let mut by_document: BTreeMap<&str, Vec<&Shown>> = BTreeMap::new();
    for shown in shown.iter().filter(|shown| shown.shown > 0) {
        by_document.entry(&shown.document).or_default().push(shown);
    }
    let mut examined = prior.clone();
    let mut rates: Vec<f64> = vec![mean(shown, &examined); by_document.len()];
    let mut average = mean(shown, &examined);
    for _ in 0..ROUNDS {
        let mut looked: Vec<(f64, f64)> = prior.iter().map(|prior| (RANK_PRIOR * prior, RANK_PRIOR)).collect();
        let mut next = Vec::with_capacity(rates.len());
        for (rows, rate) in by_document.values().zip(&rates) {
            let (mut good, mut all) = (DOCUMENT_PRIOR * average, DOCUMENT_PRIOR);
            for row in rows {
                let rank = row.rank as usize;
                let (shown, used) = (row.shown as f64, row.useful.clamp(0.0, row.shown as f64));
                let unused = shown - used;
                // What was not used was either not looked at or of no use.
                let neither = (1.0 - examined[rank] * rate).max(1e-9);
                good += used + unused * (1.0 - examined[rank]) * rate / neither;
                all += shown;
                looked[rank].0 += used + unused * examined[rank] * (1.0 - rate) / neither;
                looked[rank].1 += shown;
            }
            next.push(good / all);
        }
        rates = next;
        examined = looked.iter().map(|(looked, all)| looked / all).collect();
        // The two are known up to a factor: the first rank is always looked at.
        let first = examined.first().copied().unwrap_or(1.0).max(1e-9);
        for rank in &mut examined {
            *rank = (*rank / first).min(1.0);
        }
        average = mean(shown, &examined);
    }
    let mut documents: Vec<DocumentUse> = by_document
        .iter()
        .zip(rates)
        .map(|((document, rows), rate)| document_use(document, rows, rate, average))
        .collect();
    documents.sort_by(|a, b| b.boost.abs().total_cmp(&a.boost.abs()).then_with(|| a.document.cmp(&b.document)));
    Usefulness { examined, mean: average, documents }
}

/// How likely a document is of use to whoever looks at it, whichever it is.
fn mean(shown: &[Shown], examined: &[f64]) -> f64 {
    let (mut used, mut looked) = (0.0, 0.0);
    for row in shown {
        used += row.useful.clamp(0.0, row.shown as f64);
        looked += row.shown as f64 * examined[row.rank as usize];
    }
    if looked > 0.0 { (used / looked).clamp(1e-3, 0.999) } else { 0.5 }
}

fn document_use(document: &str, rows: &[&Shown], rate: f64, mean: f64) -> DocumentUse {
    let odds = |rate: f64| rate.clamp(1e-4, 1.0 - 1e-4) / (1.0 - rate.clamp(1e-4, 1.0 - 1e-4));
    let boost = (BOOST * (odds(rate) / odds(mean)).ln()).clamp(-BOOST_MAX, BOOST_MAX);
    DocumentUse {
        document: document.to_owned(),
        shown: rows.iter().map(|row| row.shown).sum(),
        useful: rows.iter().map(|row| row.useful).sum(),
        rate,
        boost,
    }
}

impl Usefulness {
    /// What ranking is told: the strongest boosts, with the document's id.
    pub fn boosts(&self) -> Vec<(String, f32)> {
        let strong = self.documents.iter().filter(|document| document.boost.abs() >= BOOST_MIN);
        // A boost is far from the limits of f32.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is at most BOOST_MAX, and a ranking does not need more"
        )]
        strong.take(BOOSTS_MAX).map(|document| (document.document.clone(), document.boost as f32)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(document: &str, rank: u32, shown: u64, useful: f64) -> Shown {
        Shown { document: document.into(), rank, shown, useful }
    }

    fn boost(estimate: &Usefulness, document: &str) -> f64 {
        estimate.documents.iter().find(|known| known.document == document).unwrap().boost
    }

    #[test]
    fn nothing_shown_says_nothing() {
        assert_eq!(estimate(&[]).boosts(), []);
    }

    /// A user who looks at rank r with probability 1/(r+1), and uses what he looks at with the document's own rate.
    fn history(rates: &[(&str, f64)], seed: u64, rounds: usize) -> Vec<Shown> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut rows: BTreeMap<(usize, u32), (u64, f64)> = BTreeMap::new();
        for _ in 0..rounds {
            let mut order: Vec<usize> = (0..rates.len()).collect();
            random.shuffle(&mut order);
            for (rank, document) in order.into_iter().enumerate() {
                let row = rows.entry((document, rank as u32)).or_default();
                row.0 += 1;
                let is_used = random.f64() < rates[document].1 / (rank as f64 + 1.0);
                row.1 += f64::from(u8::from(is_used));
            }
        }
        rows.into_iter().map(|((document, rank), (n, used))| shown(rates[document].0, rank, n, used)).collect()
    }

    #[test]
    fn rates_are_found_whatever_the_ranks_were() {
        let rates = [("a", 0.9), ("b", 0.5), ("c", 0.2), ("d", 0.05)];
        for seed in 0..5 {
            let found = estimate(&history(&rates, seed, 5_000));
            for (document, rate) in rates {
                let known = found.documents.iter().find(|known| known.document == document).unwrap();
                assert!((known.rate - rate).abs() < 0.08, "seed {seed}: {known:?} should be {rate}");
            }
            assert!((found.examined[1] - 0.5).abs() < 0.08, "seed {seed}: {:?}", found.examined);
        }
    }

    #[test]
    fn what_is_shown_often_and_first_is_not_useful_for_that() {
        // Both are of use every second time they are looked at; one stands first always, the other third.
        let found = estimate(&[shown("first", 0, 300, 150.0), shown("third", 2, 300, 50.0)]);
        assert!((boost(&found, "first") - boost(&found, "third")).abs() < 0.02, "{found:?}");
    }

    #[test]
    fn one_use_says_less_than_many() {
        let found = estimate(&[
            shown("rest", 0, 1_000, 300.0),
            shown("once", 0, 1, 1.0),
            shown("often", 0, 30, 25.0),
            shown("never", 0, 30, 0.0),
        ]);
        assert!(boost(&found, "often") > 1.5 * boost(&found, "once"), "{found:?}");
        assert!(boost(&found, "once") > 0.0 && boost(&found, "never") < -0.02, "{found:?}");
    }

    #[test]
    fn a_boost_is_bounded_whatever_comes() {
        let found = estimate(&[
            shown("all", 0, 1_000_000, 1_000_000.0),
            shown("none", 0, 1_000_000, 0.0),
            shown("more than all", 3, 1, 9e18),
            shown("less than none", 49, 1, -5.0),
        ]);
        for document in &found.documents {
            assert!(document.boost.abs() <= BOOST_MAX && document.rate.is_finite(), "{document:?}");
        }
        assert!((boost(&found, "all") - BOOST_MAX).abs() < 1e-9);
    }

    #[test]
    fn the_order_of_what_is_known_does_not_matter() {
        let mut rows = history(&[("a", 0.9), ("b", 0.1)], 3, 100);
        let one = estimate(&rows);
        rows.reverse();
        let other = estimate(&rows);
        for (a, b) in one.documents.iter().zip(&other.documents) {
            assert!(a.document == b.document && (a.boost - b.boost).abs() < 1e-9, "{a:?} {b:?}");
        }
    }
}
