//! What every vector index promises, as a test that any backend runs.
//!
//! A backend's own tests call [`run`] with a function that opens its index in a directory that
//! is empty the first time (a remote backend may take the path as a name). What only one backend
//! promises is tested beside it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
};

use half::f16;

use super::{AllowedSet, VectorChange, VectorError, VectorIndex};
use crate::{ChunkKey, Scored};

/// The dimensions that [`run`]'s indexes must have; no multiple of any SIMD width.
pub(crate) const DIMENSIONS: usize = 37;

/// The fingerprint that [`run`]'s indexes should be opened with.
pub(crate) const FINGERPRINT: &str = "contract/1";

/// Runs every test, each in a directory of its own.
pub(crate) fn run<I: VectorIndex>(open: impl Fn(&Path) -> I) {
    let fresh = |test: fn(&dyn VectorIndex)| {
        let directory = tempfile::tempdir().unwrap();
        test(&open(directory.path()));
    };
    fresh(starts_empty_and_refuses_bad_vectors);
    fresh(applies_twice_like_once);
    fresh(replaces_and_removes);
    fresh(breaks_ties_by_key);
    fresh(is_narrowed_to_the_allowed);
    fresh(scales_queries_and_finds_what_lies_near);
    fresh(searches_see_whole_changes);
    follows_the_model_over_random_changes(&open);
    reopens_at_the_last_checkpoint(&open);
}

/// A unit vector that depends on the key and a salt alone.
pub(crate) fn vector(key: u64, salt: u64) -> Vec<f16> {
    let mut random = fastrand::Rng::with_seed(key.wrapping_mul(0x9e37_79b9) ^ salt << 40);
    let raw: Vec<f32> = (0..DIMENSIONS).map(|_| random.f32() - 0.5).collect();
    let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    raw.iter().map(|x| f16::from_f32(x / norm)).collect()
}

/// A change made of owned parts.
#[derive(Default)]
pub(crate) struct Step {
    pub removed: Vec<u64>,
    pub added: Vec<(u64, Vec<f16>)>,
    pub position: u64,
}

impl Step {
    pub(crate) fn apply(&self, index: &dyn VectorIndex) -> Result<(), VectorError> {
        let removed: Vec<_> = self.removed.iter().map(|key| ChunkKey::new(*key)).collect();
        let added: Vec<_> = self.added.iter().map(|(key, vector)| (ChunkKey::new(*key), vector.as_slice())).collect();
        index.apply(&VectorChange { removed: &removed, added: &added, position: self.position })
    }
}

fn add(index: &dyn VectorIndex, keys: impl IntoIterator<Item = u64>, position: u64) {
    let added = keys.into_iter().map(|key| (key, vector(key, 0))).collect();
    Step { added, position, ..Step::default() }.apply(index).unwrap();
}

fn wide(vector: &[f16]) -> Vec<f32> {
    vector.iter().map(|x| x.to_f32()).collect()
}

fn keys(found: &[Scored]) -> Vec<u64> {
    found.iter().map(|scored| scored.key.get()).collect()
}

fn sorted_keys(index: &dyn VectorIndex) -> Vec<u64> {
    let mut keys: Vec<u64> = index.keys().iter().map(|key| key.get()).collect();
    keys.sort_unstable();
    keys
}

fn starts_empty_and_refuses_bad_vectors(index: &dyn VectorIndex) {
    let query = wide(&vector(1, 0));
    assert!(index.is_empty());
    assert_eq!((index.position(), index.durable_position()), (0, 0));
    assert!(index.nearest(&query, 10, None).unwrap().is_empty());
    add(index, 1..=3, 5);
    let before = index.digest();

    let good = vector(9, 0);
    let mut infinite = good.clone();
    infinite[DIMENSIONS - 1] = f16::INFINITY;
    let bad = [vec![f16::ZERO; DIMENSIONS], infinite, vec![f16::ONE; DIMENSIONS - 1]];
    let refused = bad.map(|vector| {
        let step = Step { removed: vec![1], added: vec![(8, good.clone()), (9, vector)], position: 6 };
        step.apply(index).unwrap_err()
    });
    assert!(matches!(refused[0], VectorError::Zero));
    assert!(matches!(refused[1], VectorError::NotFinite));
    assert!(matches!(
        refused[2],
        VectorError::WrongDimensions { expected: DIMENSIONS, got } if got == DIMENSIONS - 1
    ));
    assert_eq!(index.digest(), before, "a refused change changes nothing");
    assert_eq!(index.position(), 5);

    let refused = |query: &[f32]| index.nearest(query, 1, None).unwrap_err();
    assert!(matches!(refused(&[0.0; DIMENSIONS]), VectorError::Zero));
    assert!(matches!(refused(&[f32::NAN; DIMENSIONS]), VectorError::NotFinite));
    assert!(matches!(refused(&[1.0; 3]), VectorError::WrongDimensions { .. }));
    assert!(index.nearest(&query, 0, None).unwrap().is_empty());
}

fn applies_twice_like_once(index: &dyn VectorIndex) {
    add(index, 1..=100, 1);
    let step = Step {
        removed: vec![5, 6, 7, 1_000_000],
        added: vec![(7, vector(7, 1)), (8, vector(8, 1)), (200, vector(200, 0))],
        position: 2,
    };
    step.apply(index).unwrap();
    let (digest, length) = (index.digest(), index.len());
    step.apply(index).unwrap();
    assert_eq!((index.digest(), index.len(), index.position()), (digest, length, 2));
    add(index, [], 1);
    assert_eq!(index.position(), 2, "the position never goes back");

    let twice = Step { added: vec![(300, vector(300, 0)), (300, vector(300, 7))], position: 3, ..Step::default() };
    twice.apply(index).unwrap();
    let found = index.nearest(&wide(&vector(300, 7)), 1, None).unwrap();
    assert_eq!(keys(&found), [300], "of a key added twice the last vector stays");
    assert!(found[0].score > 0.99);
    assert_eq!(index.len(), length + 1);
}

fn replaces_and_removes(index: &dyn VectorIndex) {
    add(index, 1..=50, 1);
    let replace = Step { added: vec![(7, vector(7, 1))], position: 2, ..Step::default() };
    replace.apply(index).unwrap();
    assert_eq!(index.len(), 50);
    let found = index.nearest(&wide(&vector(7, 1)), 1, None).unwrap();
    assert_eq!(keys(&found), [7]);
    let found = index.nearest(&wide(&vector(7, 0)), 50, None).unwrap();
    let score = found.iter().find(|scored| scored.key.get() == 7).unwrap().score;
    assert!(score < 0.9, "the former vector is gone");

    let remove = Step { removed: (1..=49).collect(), position: 3, ..Step::default() };
    remove.apply(index).unwrap();
    assert_eq!(sorted_keys(index), [50]);
    let found = index.nearest(&wide(&vector(7, 1)), 10, None).unwrap();
    assert_eq!(keys(&found), [50]);
    add(index, 1..=49, 4);
    assert_eq!(sorted_keys(index), (1..=50).collect::<Vec<_>>());
    let found = index.nearest(&wide(&vector(7, 0)), 1, None).unwrap();
    assert_eq!(keys(&found), [7], "a key comes back after its removal");
}

fn breaks_ties_by_key(index: &dyn VectorIndex) {
    let same = vector(1, 0);
    let mut order: Vec<u64> = (1..=40).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut order);
    let step = Step { added: order.iter().map(|key| (*key, same.clone())).collect(), position: 1, ..Step::default() };
    step.apply(index).unwrap();
    let found = index.nearest(&wide(&same), 5, None).unwrap();
    assert_eq!(keys(&found), [1, 2, 3, 4, 5]);
    let allowed = AllowedSet::new((10..=20).rev().map(ChunkKey::new).collect());
    let found = index.nearest(&wide(&same), 3, Some(&allowed)).unwrap();
    assert_eq!(keys(&found), [10, 11, 12]);
}

fn is_narrowed_to_the_allowed(index: &dyn VectorIndex) {
    add(index, 1..=300, 1);
    let query = wide(&vector(150, 0));
    let allowed: AllowedSet = [150, 10, 20, 10, 999_999].map(ChunkKey::new).into_iter().collect();
    assert_eq!(allowed.len(), 4);
    let mut found = keys(&index.nearest(&query, 10, Some(&allowed)).unwrap());
    assert_eq!(found[0], 150);
    found.sort_unstable();
    assert_eq!(found, [10, 20, 150], "what the index does not have is not found");
    let nothing = AllowedSet::default();
    assert!(index.nearest(&query, 10, Some(&nothing)).unwrap().is_empty());

    // The set remembers places; a change must make it look again.
    let step = Step { removed: vec![150], added: vec![(301, vector(150, 0))], position: 2 };
    step.apply(index).unwrap();
    let mut found = keys(&index.nearest(&query, 10, Some(&allowed)).unwrap());
    found.sort_unstable();
    assert_eq!(found, [10, 20]);
}

fn scales_queries_and_finds_what_lies_near(index: &dyn VectorIndex) {
    add(index, 1..=500, 1);
    let query = wide(&vector(77, 0));
    let found = index.nearest(&query, 20, None).unwrap();
    assert_eq!(found[0].key.get(), 77);
    assert!((found[0].score - 1.0).abs() < 2e-3, "cosine with itself is 1");
    assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
    for factor in [1e-30, 1e30] {
        let scaled: Vec<f32> = query.iter().map(|x| x * factor).collect();
        let again = index.nearest(&scaled, 20, None).unwrap();
        assert_eq!(keys(&again), keys(&found), "the query's length does not matter");
        assert!((again[0].score - found[0].score).abs() < 1e-5);
    }
    let all = index.nearest(&query, usize::MAX, None).unwrap();
    assert_eq!(all.len(), 500);
}

/// Every change moves one block of keys from one half of the key space to the other; a search
/// that saw half a change would see both or neither.
fn searches_see_whole_changes(index: &dyn VectorIndex) {
    const KEYS: u64 = 60;
    let rounds = 200;
    let side = |round: u64| (round % 2) * 1000;
    let batch = |round: u64| (1..=KEYS).map(move |key| key + side(round));
    add(index, batch(0), 1);
    let (start, done) = (Barrier::new(3), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (start, done) = (&start, &done);
            scope.spawn(move || {
                start.wait();
                let query = wide(&vector(seed, 5));
                while !done.load(Ordering::Acquire) {
                    let found = keys(&index.nearest(&query, 1000, None).unwrap());
                    assert_eq!(found.len() as u64, KEYS);
                    let low = found.iter().filter(|key| **key <= KEYS).count();
                    assert!(low == 0 || low as u64 == KEYS, "half a change was seen");
                }
            });
        }
        start.wait();
        for round in 1..=rounds {
            let step = Step {
                removed: batch(round - 1).collect(),
                added: batch(round).map(|key| (key, vector(key, 0))).collect(),
                position: round + 1,
            };
            step.apply(index).unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(index.position(), rounds + 1);
}

/// Random changes against a map, and the same contents by another way in another index.
fn follows_the_model_over_random_changes<I: VectorIndex>(open: &impl Fn(&Path) -> I) {
    let seed = 20_260_101;
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    let mut model: BTreeMap<u64, Vec<f16>> = BTreeMap::new();
    for position in 1..=300 {
        let mut step = Step { position, ..Step::default() };
        for _ in 0..random.usize(0..20) {
            let key = random.u64(1..400);
            step.removed.push(key);
            model.remove(&key);
        }
        for _ in 0..random.usize(0..20) {
            let key = random.u64(1..400);
            let vector = vector(key, random.u64(0..3));
            step.added.push((key, vector.clone()));
            model.insert(key, vector);
        }
        step.apply(&index).unwrap();
        if position % 20 == 0 {
            let query = wide(&vector(random.u64(..), 9));
            let found = keys(&index.nearest(&query, 10, None).unwrap());
            assert_eq!(found, nearest(&model, &query, 10), "seed {seed}, position {position}");
        }
    }
    assert_eq!(sorted_keys(&index), model.keys().copied().collect::<Vec<_>>(), "seed {seed}");
    let directory = tempfile::tempdir().unwrap();
    let other = open(directory.path());
    assert_ne!(other.digest(), index.digest());
    let step = Step { added: model.into_iter().rev().collect(), position: 1, ..Step::default() };
    step.apply(&other).unwrap();
    assert_eq!(other.digest(), index.digest(), "seed {seed}");
}

fn nearest(model: &BTreeMap<u64, Vec<f16>>, query: &[f32], limit: usize) -> Vec<u64> {
    let score = |vector: &[f16]| -> f64 {
        let products = vector.iter().zip(query);
        products.map(|(a, b)| a.to_f64() * f64::from(*b)).sum()
    };
    let mut scored: Vec<_> = model.iter().map(|(key, vector)| (score(vector), *key)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.truncate(limit);
    scored.into_iter().map(|(_, key)| key).collect()
}

fn reopens_at_the_last_checkpoint<I: VectorIndex>(open: &impl Fn(&Path) -> I) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deeper/still");
    let index = open(&path);
    add(&index, 1..=200, 10);
    assert_eq!(index.durable_position(), 0);
    index.checkpoint().unwrap();
    assert_eq!(index.durable_position(), 10);
    let digest = index.digest();
    let step = Step {
        removed: (1..=20).collect(),
        added: (300..=310).map(|key| (key, vector(key, 0))).collect(),
        position: 11,
    };
    step.apply(&index).unwrap();
    assert_eq!((index.position(), index.durable_position()), (11, 10));
    let after = index.digest();
    drop(index);

    let index = open(&path);
    assert_eq!((index.position(), index.durable_position(), index.len()), (10, 10, 200));
    assert_eq!(index.digest(), digest, "what was not made durable is not there");
    step.apply(&index).unwrap();
    assert_eq!(index.digest(), after, "and is there again once it is replayed");
    index.checkpoint().unwrap();
    index.checkpoint().unwrap();
    drop(index);
    let index = open(&path);
    assert_eq!((index.position(), index.digest()), (11, after));
    let found = index.nearest(&wide(&vector(305, 0)), 1, None).unwrap();
    assert_eq!(keys(&found), [305]);
}
