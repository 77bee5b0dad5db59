//! What the graph index promises beyond the contract: recall, repair, and slots used again.

use std::{collections::BTreeMap, path::Path};

use half::f16;

use super::*;
use crate::vectors::{
    ExactIndex,
    contract::{self, Step},
};

const DIMENSIONS: usize = 24;

/// A graph for a test's few rows, which every row enters and every search walks.
fn eager() -> GraphOptions {
    GraphOptions {
        min_rows: 40,
        expansion_search: 256,
        distances_per_candidate: 0,
        pending_rows: 0,
        removed_rows: 50,
        ..GraphOptions::default()
    }
}

fn open(directory: &Path, options: GraphOptions) -> UsearchIndex {
    UsearchIndex::open_with(directory, DIMENSIONS, "test", options).unwrap()
}

fn unit(raw: Vec<f32>) -> Vec<f16> {
    let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    raw.iter().map(|x| f16::from_f32(x / norm)).collect()
}

fn random_vector(random: &mut fastrand::Rng) -> Vec<f16> {
    unit((0..DIMENSIONS).map(|_| random.f32() - 0.5).collect())
}

fn step(added: Vec<(u64, Vec<f16>)>, removed: Vec<u64>, position: u64) -> Step {
    Step { removed, added, position }
}

fn wide(vector: &[f16]) -> Vec<f32> {
    vector.iter().map(|x| x.to_f32()).collect()
}

/// The share of the exact result that the graph finds.
fn recall(graph: &UsearchIndex, exact: &ExactIndex, allowed: Option<&AllowedSet>, random: &mut fastrand::Rng) -> f64 {
    let (mut found, mut wanted) = (0, 0);
    for _ in 0..200 {
        let query = wide(&random_vector(random));
        let oracle = exact.nearest(&query, 10, allowed).unwrap();
        let got = graph.nearest(&query, 10, allowed).unwrap();
        assert_eq!(got.len(), oracle.len());
        for scored in &got {
            let same = oracle.iter().find(|other| other.key == scored.key);
            assert!(same.is_none_or(|other| other.score.to_bits() == scored.score.to_bits()));
        }
        let worst = oracle.last().unwrap().score;
        found += got.iter().filter(|scored| scored.score >= worst).count();
        wanted += oracle.len();
    }
    found as f64 / wanted as f64
}

#[test]
fn keeps_the_contract_without_a_graph() {
    contract::run(|directory| UsearchIndex::open(directory, contract::DIMENSIONS, contract::FINGERPRINT).unwrap());
}

#[test]
fn keeps_the_contract_with_a_graph() {
    contract::run(|directory| {
        let (dimensions, fingerprint) = (contract::DIMENSIONS, contract::FINGERPRINT);
        UsearchIndex::open_with(directory, dimensions, fingerprint, eager()).unwrap()
    });
}

#[test]
fn finds_what_a_scan_finds_whatever_the_filter() {
    let seed = 5;
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let options = GraphOptions { expansion_search: 96, ..eager() };
    let graph = open(&directory.path().join("graph"), options);
    let exact = ExactIndex::open(&directory.path().join("exact"), DIMENSIONS, "test").unwrap();
    let rows = (0..6000).map(|key| (key, random_vector(&mut random))).collect();
    let change = step(rows, Vec::new(), 1);
    change.apply(&graph).unwrap();
    change.apply(&exact).unwrap();
    graph.settle();
    assert_eq!(graph.graph_rows(), 6000);
    for share in [1.0, 0.9, 0.5, 0.2, 0.01] {
        let keys = (0..6000).filter(|_| random.f64() < share).map(ChunkKey::new);
        let allowed: AllowedSet = keys.collect();
        let allowed = (share < 1.0).then_some(&allowed);
        let recall = recall(&graph, &exact, allowed, &mut random);
        assert!(recall > 0.97, "{recall} at {share}, seed {seed}");
    }
}

#[test]
fn thousands_of_equal_rows_hide_neither_themselves_nor_the_others() {
    let seed = 12;
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let graph = open(&directory.path().join("graph"), eager());
    let exact = ExactIndex::open(&directory.path().join("exact"), DIMENSIONS, "test").unwrap();
    let same = random_vector(&mut random);
    let mut rows: Vec<_> = (0..4000).map(|key| (key, same.clone())).collect();
    rows.extend((4000..6000).map(|key| (key, random_vector(&mut random))));
    random.shuffle(&mut rows);
    let change = step(rows, Vec::new(), 1);
    change.apply(&graph).unwrap();
    change.apply(&exact).unwrap();
    graph.settle();
    let others = recall(&graph, &exact, None, &mut random);
    assert!(others > 0.97, "{others}, seed {seed}");
    let found = graph.nearest(&wide(&same), 100, None).unwrap();
    let keys: Vec<_> = found.iter().map(|scored| scored.key.get()).collect();
    assert_eq!(keys, (0..100).collect::<Vec<_>>(), "ties by key");
    let few: AllowedSet = (3990..4010).map(ChunkKey::new).collect();
    assert_eq!(graph.nearest(&wide(&same), 100, Some(&few)).unwrap().len(), 20);
}

#[test]
fn a_filter_that_excludes_everything_near_costs_time_and_not_results() {
    let mut random = fastrand::Rng::with_seed(6);
    let directory = tempfile::tempdir().unwrap();
    let graph = open(directory.path(), eager());
    let mut towards = |sign: f32| {
        let mut raw: Vec<f32> = (0..DIMENSIONS).map(|_| random.f32() - 0.5).collect();
        raw[0] = sign * 2.0;
        unit(raw)
    };
    let rows = (0..6000).map(|key| (key, towards(if key < 2000 { 1.0 } else { -1.0 })));
    step(rows.collect(), Vec::new(), 1).apply(&graph).unwrap();
    graph.settle();
    let far: AllowedSet = (2000..6000).map(ChunkKey::new).collect();
    let query = wide(&towards(1.0));
    let found = graph.nearest(&query, 10, Some(&far)).unwrap();
    assert_eq!(found.len(), 10);
    assert!(found.iter().all(|scored| scored.key.get() >= 2000 && scored.score < 0.0));
}

#[test]
fn a_million_random_operations_leave_what_the_model_holds() {
    let seed = 7;
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let options = GraphOptions { connectivity: 4, expansion_add: 8, ..eager() };
    let mut index = open(directory.path(), options.clone());
    let mut model: BTreeMap<u64, Vec<f16>> = BTreeMap::new();
    let vectors: Vec<_> = (0..64).map(|_| random_vector(&mut random)).collect();
    let mut position = 0;
    let mut operations = 0;
    while operations < 1_000_000 {
        position += 1;
        let mut change = step(Vec::new(), Vec::new(), position);
        for _ in 0..100 {
            let key = random.u64(0..120);
            if random.bool() {
                let vector = random.choice(&vectors).unwrap().clone();
                change.added.push((key, vector));
            } else {
                change.removed.push(key);
            }
        }
        operations += 100;
        for key in &change.removed {
            model.remove(key);
        }
        for (key, vector) in &change.added {
            model.insert(*key, vector.clone());
        }
        change.apply(&index).unwrap();
        assert_eq!(index.len(), model.len(), "seed {seed}, position {position}");
        if position % 100 == 0 {
            let query = wide(random.choice(&vectors).unwrap());
            let found = index.nearest(&query, 200, None).unwrap();
            let missing = model.len() - found.len();
            assert_eq!(missing, 0, "seed {seed}, position {position}");
            for scored in found {
                let vector = wide(&model[&scored.key.get()]);
                let expected: f32 = vector.iter().zip(&query).map(|(a, b)| a * b).sum();
                assert!((scored.score - expected).abs() < 1e-2, "a score of another vector");
            }
        }
        if position % 2500 == 0 {
            index.checkpoint().unwrap();
            let digest = index.digest();
            drop(index);
            index = open(directory.path(), options.clone());
            assert_eq!(index.digest(), digest, "seed {seed}, position {position}");
        }
    }
    index.settle();
    assert!(index.graph_rows() < 400, "removed rows leave the graph: {}", index.graph_rows());
    let slots = index.shared.table.snapshot().slots();
    // Half a million vectors went in; how soon a slot is free again depends on the graph being built meanwhile.
    assert!(slots < 20_000, "slots are used again: {slots}");
}

#[test]
fn searches_go_on_while_the_graph_is_built() {
    let seed = 8;
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path(), eager());
    let rows: Vec<_> = (0..3000).map(|key| (key, random_vector(&mut random))).collect();
    step(rows.clone(), Vec::new(), 1).apply(&index).unwrap();
    std::thread::scope(|scope| {
        for part in rows.chunks(1000) {
            let index = &index;
            scope.spawn(move || {
                for (key, row) in part {
                    let found = index.nearest(&wide(row), 3, None).unwrap();
                    assert_eq!(found[0].key.get(), *key, "seed {seed}");
                }
            });
        }
    });
    index.settle();
    assert_eq!(index.graph_rows(), 3000);
}

#[test]
fn a_missing_or_damaged_graph_is_built_again_from_the_rows() {
    let mut random = fastrand::Rng::with_seed(9);
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path(), eager());
    let rows = (0..300).map(|key| (key, random_vector(&mut random))).collect();
    step(rows, Vec::new(), 1).apply(&index).unwrap();
    index.settle();
    index.checkpoint().unwrap();
    let digest = index.digest();
    drop(index);
    let graph_file = || {
        let mut entries = std::fs::read_dir(directory.path()).unwrap().flatten();
        let graph = entries.find(|entry| entry.path().extension().is_some_and(|e| e == "graph"));
        graph.unwrap().path()
    };
    let damages: [fn(&Path); 3] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
        },
        |path| std::fs::write(path, b"usearch").unwrap(),
    ];
    for damage in damages {
        damage(&graph_file());
        let index = open(directory.path(), eager());
        assert_eq!((index.digest(), index.position()), (digest, 1));
        index.settle();
        assert_eq!(index.graph_rows(), 300);
        index.checkpoint().unwrap();
        drop(index);
        assert_eq!(saved_rows(directory.path()), 300);
    }
}

/// How many rows the graph on disk has, if it is what was written.
fn saved_rows(directory: &Path) -> usize {
    let (_, checkpoint) = Files::open(directory, DIMENSIONS, "test").unwrap();
    match checkpoint.graph {
        SavedGraph::Intact { members, bytes } => {
            Engine::load(&eager(), &bytes, members, &checkpoint.snapshot).unwrap().count()
        }
        SavedGraph::Absent => 0,
        SavedGraph::Damaged(error) => panic!("{error}"),
    }
}

#[test]
fn a_graph_that_changed_is_written_again_and_one_that_did_not_is_kept() {
    let mut random = fastrand::Rng::with_seed(14);
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path(), eager());
    for round in 1..=3 {
        let rows = (round * 100..round * 100 + 100).map(|key| (key, random_vector(&mut random)));
        step(rows.collect(), Vec::new(), round).apply(&index).unwrap();
        index.settle();
        index.checkpoint().unwrap();
        assert_eq!(saved_rows(directory.path()) as u64, round * 100);
        step(Vec::new(), vec![round * 100], round).apply(&index).unwrap();
        index.checkpoint().unwrap();
        assert_eq!(saved_rows(directory.path()) as u64, round * 100);
    }
    drop(index);
    let index = open(directory.path(), eager());
    step(Vec::new(), vec![101], 4).apply(&index).unwrap();
    index.checkpoint().unwrap();
    assert_eq!(saved_rows(directory.path()), 300, "after a restart, too");
}

#[test]
fn an_intact_graph_is_taken_up_without_building() {
    let mut random = fastrand::Rng::with_seed(10);
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path(), eager());
    let rows: Vec<_> = (0..300).map(|key| (key, random_vector(&mut random))).collect();
    step(rows, (0..10).collect(), 1).apply(&index).unwrap();
    index.settle();
    step(Vec::new(), (0..10).collect(), 2).apply(&index).unwrap();
    index.checkpoint().unwrap();
    drop(index);
    // An option under which nothing would be put into it.
    let index = open(directory.path(), GraphOptions { pending_rows: 1000, ..eager() });
    assert_eq!((index.graph_rows(), index.len()), (300, 290));
    let query = wide(&random_vector(&mut random));
    let found = index.nearest(&query, 290, None).unwrap();
    assert!(found.iter().all(|scored| scored.key.get() >= 10), "a removed row was found");
}

#[test]
fn a_graph_goes_when_too_few_rows_are_left() {
    let mut random = fastrand::Rng::with_seed(11);
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path(), eager());
    let rows: Vec<_> = (0..100).map(|key| (key, random_vector(&mut random))).collect();
    step(rows.clone(), Vec::new(), 1).apply(&index).unwrap();
    index.settle();
    assert_eq!(index.graph_rows(), 100);
    step(Vec::new(), (0..90).collect(), 2).apply(&index).unwrap();
    index.settle();
    assert_eq!((index.graph_rows(), index.len()), (0, 10));
    index.checkpoint().unwrap();
    let files = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(files, 1, "the graph's file went with it");
    step(rows, Vec::new(), 3).apply(&index).unwrap();
    index.settle();
    assert_eq!(index.graph_rows(), 100);
}
