//! Clusters of vectors whose groups are known, in any order and by an attacker.

use proptest::prelude::*;

use super::*;

/// Vectors around some directions, and some around none; every tenth of them is noise where `noise` says so.
fn around(
    random: &mut fastrand::Rng,
    centres: usize,
    members: usize,
    noise: usize,
    dimensions: usize,
) -> Vec<Vec<f32>> {
    let direction = |random: &mut fastrand::Rng| -> Vec<f32> {
        let vector: Vec<f32> = (0..dimensions).map(|_| (0..4).map(|_| random.f32() - 0.5).sum()).collect();
        rows::unit(&vector).unwrap()
    };
    let mut vectors = Vec::new();
    for _ in 0..centres {
        let centre = direction(random);
        for _ in 0..members {
            let other = direction(random);
            vectors.push(centre.iter().zip(other).map(|(a, b)| 0.8 * a + 0.6 * b).collect());
        }
    }
    vectors.extend((0..noise).map(|_| direction(random)));
    vectors
}

fn points(vectors: &[Vec<f32>]) -> Vec<Point<'_>> {
    vectors.iter().zip(1_000..).map(|(vector, key)| Point { key, vector }).collect()
}

fn seeded() -> fastrand::Rng {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

/// Clusters by the keys of their points.
fn by_key(points: &[Point<'_>], clusters: &[Cluster]) -> Vec<(Vec<u128>, u128, u32)> {
    let key = |member: &usize| points[*member].key;
    clusters
        .iter()
        .map(|cluster| (cluster.members.iter().map(key).collect(), key(&cluster.medoid), cluster.cohesion.to_bits()))
        .collect()
}

#[test]
fn groups_are_found_and_noise_is_left_out() {
    let vectors = around(&mut seeded(), 10, 12, 60, 384);
    let points = points(&vectors);
    let clusters = clusters(&points, &Settings::default()).unwrap();
    assert_eq!(clusters.len(), 10);
    for cluster in &clusters {
        let group = cluster.members[0] / 12;
        assert_eq!(cluster.members, (group * 12..(group + 1) * 12).collect::<Vec<_>>());
        assert!(cluster.members.contains(&cluster.medoid));
        // Members are 0.8 of the centre; with twelve of them the centroid is not far from it.
        assert!((0.75..0.95).contains(&cluster.cohesion), "{}", cluster.cohesion);
    }
}

#[test]
fn the_order_in_which_points_come_does_not_matter() {
    let mut random = seeded();
    // Similarities that are the same bits make ties, which keys decide.
    let mut vectors = around(&mut random, 6, 9, 30, 32);
    for vector in &mut vectors {
        vector.iter_mut().for_each(|value| *value = (*value * 8.0).round() / 8.0);
    }
    let mut points = points(&vectors);
    let expected = by_key(&points, &clusters(&points, &Settings::default()).unwrap());
    assert!(!expected.is_empty());
    for _ in 0..20 {
        random.shuffle(&mut points);
        assert_eq!(by_key(&points, &clusters(&points, &Settings::default()).unwrap()), expected);
    }
}

#[test]
fn the_same_question_many_times_is_a_cluster_and_does_not_hide_others() {
    let mut vectors = around(&mut seeded(), 1, 8, 0, 384);
    for _ in 0..40 {
        vectors.push(vectors[0].clone());
        vectors.push(vectors[1].clone());
    }
    let points = points(&vectors);
    let found = clusters(&points, &Settings::default()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].members.len(), 88);
    let same: Vec<Point<'_>> = (0..7).map(|key| Point { key, vector: &vectors[0] }).collect();
    let found = clusters(&same, &Settings::default()).unwrap();
    assert_eq!((found.len(), found[0].members.len()), (1, 7));
    assert!(found[0].cohesion > 0.999, "{}", found[0].cohesion);
}

#[test]
fn what_has_no_direction_is_noise() {
    let good = [1.0, 0.5, 0.25];
    let bad: [&[f32]; 7] = [
        &[],
        &[0.0; 3],
        &[f32::NAN, 1.0, 1.0],
        &[f32::INFINITY, 0.0, 0.0],
        &[1.0, 1.0],
        &[1.0, 1.0, 1.0, 1.0],
        &[f32::MIN_POSITIVE; 3],
    ];
    let mut points: Vec<Point<'_>> = (0..5).map(|key| Point { key, vector: &good }).collect();
    points.extend(bad.iter().zip(100..).map(|(vector, key)| Point { key, vector }));
    let found = clusters(&points, &Settings::default()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].members, [0, 1, 2, 3, 4]);
    assert_eq!(clusters(&points[5..], &Settings::default()).unwrap(), []);
    assert_eq!(clusters(&[], &Settings::default()).unwrap(), []);
}

#[test]
fn settings_of_any_kind_are_borne() {
    let vectors = around(&mut seeded(), 3, 6, 10, 16);
    let points = points(&vectors);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 0.0, 1.0] {
        for count in [0, 1, 2, usize::MAX] {
            let settings = Settings {
                members_min: count,
                neighbours: count,
                similarity_min: value,
                small_extra: value,
                small_members: count,
                surroundings_gap: value,
                own_share: value,
            };
            let found = clusters(&points, &settings).unwrap();
            assert!(found.iter().map(|cluster| cluster.members.len()).sum::<usize>() <= points.len());
        }
    }
    let many = vec![points[0]; POINTS_MAX + 1];
    assert_eq!(clusters(&many, &Settings::default()), Err(TooMany { count: POINTS_MAX + 1 }));
}

/// Vectors made to need many comparisons: one direction that all are near to, in a fan.
#[test]
fn a_fan_around_one_direction_takes_no_longer_than_others() {
    let mut random = seeded();
    let vectors: Vec<Vec<f32>> = (0..1_500)
        .map(|number| {
            let mut vector = vec![0.0; 48];
            vector[0] = 1.0;
            vector[1 + number % 47] = 0.2 + 0.6 * random.f32();
            vector
        })
        .collect();
    let points = points(&vectors);
    let found = clusters(&points, &Settings::default()).unwrap();
    assert!(!found.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Members are points, each in one cluster, and clusters are large enough.
    #[test]
    fn clusters_are_a_part_of_the_points(
        vectors in prop::collection::vec(prop::collection::vec(-1.0_f32..1.0, 8), 0..80),
        members_min in 0_usize..8,
    ) {
        let points = points(&vectors);
        let settings = Settings { members_min, ..Settings::default() };
        let mut seen = std::collections::HashSet::new();
        for cluster in clusters(&points, &settings).unwrap() {
            prop_assert!(cluster.members.len() >= members_min);
            prop_assert!(cluster.members.contains(&cluster.medoid));
            prop_assert!((0.0..=1.0).contains(&cluster.cohesion));
            for member in cluster.members {
                prop_assert!(member < points.len() && seen.insert(member));
            }
        }
    }
}
