//! Parts of a dataset, none of which knows what is in another: for training, validation and test.

use super::{Groups, sketch::spread};

/// A group goes where the hash of its least row says. A group of more than this share of what the smallest part is to
/// have goes to the largest part instead, wherever its hash points.
const SHARE_OF_SMALLEST_MAX: f64 = 0.5;

/// The part of each row, as a place in `weights`. Rows of one group are in one part, so that the groups of
/// [`super::leak_groups`] leave nothing of what is learnt in what it is tested on.
///
/// A group goes where a hash points that is made of `seed` and of the content of one of its rows, the one whose content has
/// the least hash. Other rows have no say in it, so rows that are added leave those that were there where they are, but:
///
/// - a group to which a row is added whose hash is less than that of all others, one in `n + 1` for a group of `n`, goes
///   where that row's hash points, which for two parts of equal weight is elsewhere half the time;
/// - two groups that an added row connects become one, and one of them moves;
/// - a group of more than half of what the smallest part is to have goes to the part of the most weight, so that it cannot
///   outweigh a small one; what is such a group changes with the number of rows;
/// - a part that would be empty is given the group whose hash points nearest to it of those that may go there.
///
/// Shares are those of `weights` up to chance: with many small groups the part of weight `w` has `w · n ± √(w · n)` of `n`
/// groups. Weights that are negative or no number are nothing; where none is left all rows are in part 0.
pub fn split(groups: &Groups, weights: &[f64], seed: u64) -> Vec<usize> {
    let weights: Vec<f64> =
        weights.iter().map(|weight| if weight.is_finite() { weight.max(0.0) } else { 0.0 }).collect();
    let total: f64 = weights.iter().sum();
    if total <= 0.0 || !total.is_finite() {
        return vec![0; groups.group_of.len()];
    }
    let mut sizes = vec![0_usize; groups.count()];
    for &group in &groups.group_of {
        sizes[group as usize] += 1;
    }
    let points: Vec<f64> = groups.marks.iter().map(|mark| unit(spread(mark ^ spread(seed)))).collect();
    let parts = place(&weights, total, &sizes, &points);
    groups.group_of.iter().map(|&group| parts[group as usize]).collect()
}

/// The part of each group.
fn place(weights: &[f64], total: f64, sizes: &[usize], points: &[f64]) -> Vec<usize> {
    let used = || weights.iter().copied().enumerate().filter(|(_, weight)| *weight > 0.0);
    let smallest = used().map(|(_, weight)| weight).fold(f64::INFINITY, f64::min) / total;
    let largest = used().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map_or(0, |(part, _)| part);
    let rows: usize = sizes.iter().sum();
    let size_max = (SHARE_OF_SMALLEST_MAX * smallest * rows as f64).max(1.0);
    let pointed_at = |point: f64| {
        let mut end = 0.0;
        let part = used().find(|(_, weight)| {
            end += weight / total;
            point < end
        });
        part.map_or(largest, |(part, _)| part)
    };
    let mut parts: Vec<usize> = sizes
        .iter()
        .zip(points)
        .map(|(&size, &point)| if size as f64 > size_max { largest } else { pointed_at(point) })
        .collect();
    let is_giant = |group: usize| sizes[group] as f64 > size_max;
    fill_empty(&mut parts, weights, total, points, is_giant);
    parts
}

/// Gives each part that has weight and no group one of a part that has several, and no giant.
fn fill_empty(parts: &mut [usize], weights: &[f64], total: f64, points: &[f64], is_giant: impl Fn(usize) -> bool) {
    let mut counts = vec![0_usize; weights.len()];
    for &part in &*parts {
        counts[part] += 1;
    }
    let mut begin = 0.0;
    for (part, weight) in weights.iter().enumerate() {
        let end = begin + weight / total;
        if *weight > 0.0 && counts[part] == 0 {
            let distance = |group: &usize| (points[*group] - f64::midpoint(begin, end)).abs();
            let spare = (0..parts.len()).filter(|&group| counts[parts[group]] > 1 && !is_giant(group));
            if let Some(group) = spare.min_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.cmp(b))) {
                counts[parts[group]] -= 1;
                counts[part] += 1;
                parts[group] = part;
            }
        }
        begin = end;
    }
}

/// A hash as a number from 0 to 1, 1 excluded.
fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::near::{Settings, groups, leak_groups};

    /// Rows of different words.
    fn distinct(count: usize) -> Vec<String> {
        let word = |n: usize| -> String {
            let digits = [n % 20, n / 20 % 20, n / 400 % 20, n / 8_000 % 20];
            digits.iter().map(|&digit| char::from(b"bcdfghjklmnpqrstvwxz"[digit])).flat_map(|c| [c, 'a']).collect()
        };
        (0..count).map(|n| format!("{} {} {}", word(n * 7), word(n * 11 + 3), word(n * 13 + 5))).collect()
    }

    fn parts(rows: &[String], weights: &[f64], seed: u64) -> Vec<usize> {
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        split(&groups(&rows, &Settings::default(), None), weights, seed)
    }

    #[test]
    fn parts_are_near_their_weights_and_differ_by_seed() {
        let rows = distinct(4_000);
        let weights = [8.0, 1.0, 1.0];
        let split = parts(&rows, &weights, 1);
        for (part, weight) in weights.iter().enumerate() {
            let expected = 4_000.0 * weight / 10.0;
            let count = split.iter().filter(|&&of| of == part).count() as f64;
            assert!((count - expected).abs() < 4.0 * expected.sqrt(), "part {part}: {count}, {expected} expected");
        }
        assert_ne!(split, parts(&rows, &weights, 2));
    }

    #[test]
    fn rows_that_are_added_move_no_other() {
        let rows = distinct(3_000);
        let before = parts(&rows[..2_000], &[3.0, 1.0], 9);
        let after = parts(&rows, &[3.0, 1.0], 9);
        assert_eq!(before, after[..2_000]);
    }

    #[test]
    fn rows_of_one_leak_group_are_in_one_part() {
        let mut rows = distinct(300);
        for n in 0..300 {
            rows.push(format!("the pump of station {} stops after {} hours", rows[n], n + 2));
            rows.push(format!("the pump of station {} does not stop after {} hours", rows[n], n + 3));
        }
        let texts: Vec<&str> = rows.iter().map(String::as_str).collect();
        let found = leak_groups(&texts, &Settings::default(), None);
        let split = split(&found, &[1.0, 1.0], 4);
        for (row, part) in split.iter().enumerate() {
            let first = found.group_of.iter().position(|group| *group == found.group_of[row]);
            assert_eq!(*part, split[first.unwrap()]);
        }
    }

    #[test]
    fn a_giant_goes_to_the_largest_part_and_no_part_is_left_empty() {
        let mut rows = distinct(10);
        rows.extend(std::iter::repeat_n("one and the same row".to_owned(), 1_000));
        for seed in 0..20 {
            let split = parts(&rows, &[0.1, 0.8, 0.1], seed);
            assert!(split[10..].iter().all(|&part| part == 1), "seed {seed}");
            for part in 0..3 {
                assert!(split.contains(&part), "seed {seed}: {split:?}");
            }
        }
    }

    #[test]
    fn weights_without_sense_give_one_part() {
        let rows = distinct(3);
        for weights in [&[][..], &[0.0, 0.0], &[f64::NAN, -1.0], &[f64::INFINITY]] {
            assert_eq!(parts(&rows, weights, 0), [0, 0, 0], "{weights:?}");
        }
        assert_eq!(parts(&rows, &[0.0, 1.0], 0), [1, 1, 1]);
        assert!(parts(&[], &[1.0, 1.0], 0).is_empty());
    }
}
