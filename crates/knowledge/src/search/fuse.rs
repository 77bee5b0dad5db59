//! Two ranked lists become one. Pure.
//!
//! Within one collection a chunk's score is its cosine similarity plus a share of its BM25, both as
//! they are: a convex combination (Bruch, Gai, Ingber: "An Analysis of Fusion Functions for Hybrid
//! Retrieval", ACM TOIS 2023) without normalising, so that long questions, of which many words
//! match, lean on words more than short ones do. Across collections, whose BM25 is not comparable,
//! it is reciprocal rank (Cormack, Clarke, Buettcher, SIGIR 2009). Why, with the measurements, is
//! in `docs/decisions/`.

use std::collections::HashMap;

use holdfast_storage::{ChunkKey, Scored};

use crate::{Explanation, Standing};

/// What a point of BM25 is worth in cosine similarity.
pub(crate) const LEXICAL_WEIGHT: f32 = 0.008;
/// The constant of reciprocal rank fusion, from its paper.
const RANK_CONSTANT: f32 = 60.0;

/// A chunk in a joined list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fused {
    pub key: ChunkKey,
    pub score: f32,
    pub standing: Explanation,
}

/// What one index says: its best, and what it was asked about besides.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    /// Best first.
    pub ranked: Vec<Scored>,
    /// Scores of chunks that only the other list has.
    pub besides: Vec<Scored>,
}

/// A list alone: its scores stand.
pub(crate) fn dense_only(list: &[Scored]) -> Vec<Fused> {
    alone(list, |standing| Explanation { dense: Some(standing), ..Explanation::default() })
}

/// A list alone: its scores stand.
pub(crate) fn lexical_only(list: &[Scored]) -> Vec<Fused> {
    alone(list, |standing| Explanation { lexical: Some(standing), ..Explanation::default() })
}

fn alone(list: &[Scored], explain: impl Fn(Standing) -> Explanation) -> Vec<Fused> {
    list.iter()
        .enumerate()
        .map(|(index, scored)| Fused {
            key: scored.key,
            score: scored.score,
            standing: explain(Standing { rank: Some(index + 1), score: scored.score }),
        })
        .collect()
}

/// Both lists in one, best first; ties by key.
pub(crate) fn hybrid(dense: &List, lexical: &List) -> Vec<Fused> {
    let mut joined: HashMap<ChunkKey, Fused> = HashMap::with_capacity(dense.ranked.len() + lexical.ranked.len());
    for (key, standing) in standings(dense) {
        let fused = entry(&mut joined, key);
        // Below nought the angle says no more than that the two have nothing in common.
        fused.score += standing.score.max(0.0);
        fused.standing.dense = Some(standing);
    }
    for (key, standing) in standings(lexical) {
        let fused = entry(&mut joined, key);
        fused.score += LEXICAL_WEIGHT * standing.score;
        fused.standing.lexical = Some(standing);
    }
    sorted(joined.into_values().collect())
}

/// Adds to scores what was learned of chunks, and puts them in order again.
pub(crate) fn boost(fused: &mut Vec<Fused>, boosts: &HashMap<ChunkKey, f32>) {
    if boosts.is_empty() {
        return;
    }
    for entry in fused.iter_mut() {
        if let Some(boost) = boosts.get(&entry.key) {
            entry.score += boost;
            entry.standing.usefulness = Some(*boost);
        }
    }
    *fused = sorted(std::mem::take(fused));
}

fn standings(list: &List) -> impl Iterator<Item = (ChunkKey, Standing)> + '_ {
    let ranked = list.ranked.iter().enumerate().map(|(index, scored)| (scored, Some(index + 1)));
    let besides = list.besides.iter().map(|scored| (scored, None));
    ranked.chain(besides).map(|(scored, rank)| (scored.key, Standing { rank, score: scored.score }))
}

/// Lists of several collections in one, by rank alone; `(list, entry)`, best first, ties by the
/// order of the lists.
pub(crate) fn across(lists: &[Vec<Fused>]) -> Vec<(usize, Fused)> {
    let mut joined: Vec<(usize, usize, Fused)> = lists
        .iter()
        .enumerate()
        .flat_map(|(list, entries)| entries.iter().enumerate().map(move |(rank, entry)| (rank, list, entry.clone())))
        .collect();
    joined.sort_by_key(|(rank, list, _)| (*rank, *list));
    joined
        .into_iter()
        .map(|(rank, list, entry)| {
            let score = 1.0 / (RANK_CONSTANT + rank as f32 + 1.0);
            (list, Fused { score, ..entry })
        })
        .collect()
}

fn entry(joined: &mut HashMap<ChunkKey, Fused>, key: ChunkKey) -> &mut Fused {
    joined.entry(key).or_insert_with(|| Fused { key, score: 0.0, standing: Explanation::default() })
}

fn sorted(mut list: Vec<Fused>) -> Vec<Fused> {
    list.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.key.cmp(&b.key)));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u64, f32)]) -> Vec<Scored> {
        entries.iter().map(|&(key, score)| Scored { key: ChunkKey::new(key), score }).collect()
    }

    fn keys(fused: &[Fused]) -> Vec<u64> {
        fused.iter().map(|fused| fused.key.get()).collect()
    }

    fn ranked(entries: &[(u64, f32)]) -> List {
        List { ranked: list(entries), besides: Vec::new() }
    }

    #[test]
    fn a_chunk_in_both_lists_beats_one_in_either() {
        let fused = hybrid(&ranked(&[(1, 0.8), (2, 0.79)]), &ranked(&[(3, 9.0), (2, 8.0)]));
        assert_eq!(keys(&fused), [2, 1, 3]);
        let both = &fused[0].standing;
        assert_eq!(both.dense, Some(Standing { rank: Some(2), score: 0.79 }));
        assert_eq!(both.lexical, Some(Standing { rank: Some(2), score: 8.0 }));
    }

    #[test]
    fn what_was_learned_moves_a_chunk_and_is_told() {
        let mut fused = hybrid(&ranked(&[(1, 0.80), (2, 0.79), (3, 0.5)]), &List::default());
        boost(&mut fused, &HashMap::from([(ChunkKey::new(2), 0.02), (ChunkKey::new(9), 0.1)]));
        assert_eq!(keys(&fused), [2, 1, 3]);
        assert_eq!(fused[0].standing.usefulness, Some(0.02));
        assert_eq!(fused[1].standing.usefulness, None);
    }

    #[test]
    fn what_one_list_lacks_counts_without_a_rank() {
        let lexical = List { ranked: list(&[(1, 9.0)]), besides: list(&[(2, 1.0)]) };
        let fused = hybrid(&ranked(&[(2, 0.5), (1, 0.49)]), &lexical);
        assert_eq!(keys(&fused), [1, 2]);
        assert_eq!(fused[1].standing.lexical, Some(Standing { rank: None, score: 1.0 }));
        assert!((fused[1].score - 0.5 - LEXICAL_WEIGHT).abs() < 1e-6);
    }

    #[test]
    fn a_missing_list_leaves_the_other_in_its_order() {
        let only = ranked(&[(5, 0.9), (4, 0.2)]);
        assert_eq!(keys(&hybrid(&only, &List::default())), [5, 4]);
        assert_eq!(keys(&hybrid(&List::default(), &only)), [5, 4]);
        assert!(hybrid(&List::default(), &List::default()).is_empty());
    }

    #[test]
    fn negative_similarities_count_for_nothing() {
        let fused = hybrid(&ranked(&[(1, -0.2), (2, -0.9)]), &List::default());
        assert!(fused.iter().all(|fused| fused.score == 0.0), "{fused:?}");
    }

    #[test]
    fn a_longer_list_does_not_change_what_was_above() {
        let short = hybrid(&ranked(&[(1, 0.9), (2, 0.5)]), &ranked(&[(2, 4.0)]));
        let long = hybrid(&ranked(&[(1, 0.9), (2, 0.5), (3, 0.1)]), &ranked(&[(2, 4.0), (4, 1.0)]));
        assert_eq!(short[0], long[0]);
        assert_eq!(short[1], long[1]);
    }

    #[test]
    fn collections_take_turns_whatever_their_scores() {
        let low = dense_only(&list(&[(1, 0.2), (2, 0.1)]));
        let high = lexical_only(&list(&[(3, 90.0), (4, 80.0)]));
        let fused = across(&[low, high]);
        let order: Vec<(usize, u64)> = fused.iter().map(|(list, fused)| (*list, fused.key.get())).collect();
        assert_eq!(order, [(0, 1), (1, 3), (0, 2), (1, 4)]);
    }
}
