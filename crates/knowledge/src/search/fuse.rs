//! Two ranked lists become one. Pure.
//!
//! Within one collection the lists are joined by a convex combination of normalised scores
//! (Bruch, Gai, Ingber: "An Analysis of Fusion Functions for Hybrid Retrieval", ACM TOIS 2023);
//! across collections, whose scores are not comparable, by reciprocal rank (Cormack, Clarke,
//! Buettcher, SIGIR 2009). Why, with the measurements, is in `docs/decisions/`.

use std::collections::HashMap;

use holdfast_storage::{ChunkKey, Scored};

use crate::{Explanation, Standing};

/// The weight of meaning against words.
pub(crate) const DENSE_WEIGHT: f32 = 0.5;
/// The constant of reciprocal rank fusion, from its paper.
const RANK_CONSTANT: f32 = 60.0;

/// A chunk in a joined list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fused {
    pub key: ChunkKey,
    pub score: f32,
    pub standing: Explanation,
}

/// A list alone: its scores stand.
pub(crate) fn dense_only(list: &[Scored]) -> Vec<Fused> {
    alone(list, |standing| Explanation { dense: Some(standing), lexical: None })
}

/// A list alone: its scores stand.
pub(crate) fn lexical_only(list: &[Scored]) -> Vec<Fused> {
    alone(list, |standing| Explanation { dense: None, lexical: Some(standing) })
}

fn alone(list: &[Scored], explain: impl Fn(Standing) -> Explanation) -> Vec<Fused> {
    list.iter()
        .enumerate()
        .map(|(index, scored)| Fused {
            key: scored.key,
            score: scored.score,
            standing: explain(Standing { rank: index + 1, score: scored.score }),
        })
        .collect()
}

/// Both lists in one, best first; ties by key.
pub(crate) fn hybrid(dense: &[Scored], lexical: &[Scored], dense_weight: f32) -> Vec<Fused> {
    let dense_scale = Scale::of(dense);
    let lexical_scale = Scale::of(lexical);
    let mut joined: HashMap<ChunkKey, Fused> = HashMap::with_capacity(dense.len() + lexical.len());
    for (index, scored) in dense.iter().enumerate() {
        let fused = entry(&mut joined, scored.key);
        fused.score += dense_weight * dense_scale.normalise(scored.score);
        fused.standing.dense = Some(Standing { rank: index + 1, score: scored.score });
    }
    for (index, scored) in lexical.iter().enumerate() {
        let fused = entry(&mut joined, scored.key);
        fused.score += (1.0 - dense_weight) * lexical_scale.normalise(scored.score);
        fused.standing.lexical = Some(Standing { rank: index + 1, score: scored.score });
    }
    sorted(joined.into_values().collect())
}

/// The range of a list's scores, from 0 to the best. A cosine of 0 means unrelated and a BM25 of
/// 0 means no word in common, so nought is the natural floor of both: with the worst of the list
/// as the floor, the same chunk would score otherwise in a longer list.
struct Scale {
    best: f32,
}

impl Scale {
    fn of(list: &[Scored]) -> Self {
        let best = list.iter().map(|scored| scored.score).fold(0.0, f32::max);
        Self { best: if best > 0.0 { best } else { 1.0 } }
    }

    fn normalise(&self, score: f32) -> f32 {
        (score / self.best).max(0.0)
    }
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

    #[test]
    fn a_chunk_in_both_lists_beats_one_in_either() {
        let fused = hybrid(&list(&[(1, 0.8), (2, 0.7)]), &list(&[(3, 9.0), (2, 8.0)]), 0.5);
        assert_eq!(keys(&fused), [2, 1, 3]);
        let both = &fused[0].standing;
        assert_eq!(both.dense, Some(Standing { rank: 2, score: 0.7 }));
        assert_eq!(both.lexical, Some(Standing { rank: 2, score: 8.0 }));
    }

    #[test]
    fn a_missing_list_leaves_the_other_in_its_order() {
        let only = list(&[(5, 0.9), (4, 0.2)]);
        assert_eq!(keys(&hybrid(&only, &[], 0.5)), [5, 4]);
        assert_eq!(keys(&hybrid(&[], &only, 0.5)), [5, 4]);
        assert!(hybrid(&[], &[], 0.5).is_empty());
    }

    #[test]
    fn negative_similarities_count_for_nothing() {
        let fused = hybrid(&list(&[(1, -0.2), (2, -0.9)]), &[], 0.5);
        assert!(fused.iter().all(|fused| fused.score == 0.0), "{fused:?}");
    }

    #[test]
    fn a_longer_list_does_not_change_what_was_above() {
        let short = hybrid(&list(&[(1, 0.9), (2, 0.5)]), &list(&[(2, 4.0)]), 0.5);
        let long = hybrid(&list(&[(1, 0.9), (2, 0.5), (3, 0.1)]), &list(&[(2, 4.0), (4, 1.0)]), 0.5);
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
