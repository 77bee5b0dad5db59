//! The nearest neighbours of every row, exactly: each pair is compared once.
//!
//! Rows are taken in blocks that stay in the processor's cache. What is kept is a list of a fixed length for each row, so
//! that memory grows with the rows and not with the pairs.

use std::ops::Range;

use super::{
    kernel::{ROWS, product, products},
    rows::Rows,
};

/// Rows of a block: 64 of 384 dimensions are 96 KiB.
const BLOCK: usize = 64;
/// Neighbours that may be kept.
const COUNT: Range<usize> = 2..65;
/// Similarities below it are those of any two texts.
const SIMILARITY_MIN: f32 = 0.2;

/// A row that is near to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Neighbour {
    pub row: u32,
    pub similarity: f32,
}

/// The nearest neighbours of every row.
pub(super) struct Neighbours {
    lists: Vec<Vec<Neighbour>>,
}

impl Neighbours {
    /// Finds for each row the most similar others; of equally similar ones, those whose keys come first.
    pub(super) fn new(rows: &Rows, count: usize) -> Self {
        let count = count.clamp(COUNT.start, COUNT.end - 1);
        let mut lists = vec![Vec::new(); rows.len()];
        let mut similarities = [0.0_f32; BLOCK];
        for first in (0..rows.len()).step_by(BLOCK) {
            for second in (first..rows.len()).step_by(BLOCK) {
                let end = rows.len().min(second + BLOCK);
                for one in first..rows.len().min(first + BLOCK) {
                    // Within one block, too, a pair is met once.
                    let others = second.max(one + 1)..end;
                    compare(rows, one, others.clone(), &mut similarities);
                    for (other, similarity) in others.zip(similarities) {
                        if similarity >= SIMILARITY_MIN {
                            offer(&mut lists[one], other, similarity, count);
                            offer(&mut lists[other], one, similarity, count);
                        }
                    }
                }
            }
        }
        Self { lists }
    }

    /// The neighbours of a row, the nearest first.
    pub(super) fn of(&self, row: usize) -> &[Neighbour] {
        &self.lists[row]
    }
}

/// The similarities of a row to a range of others.
fn compare(rows: &Rows, one: usize, others: Range<usize>, similarities: &mut [f32; BLOCK]) {
    let products = products();
    let row = rows.row(one);
    let mut at = others.start;
    while at + ROWS <= others.end {
        let four = products(row, &rows.values[at * rows.width..][..ROWS * rows.width]);
        similarities[at - others.start..][..ROWS].copy_from_slice(&four);
        at += ROWS;
    }
    for other in at..others.end {
        similarities[other - others.start] = product(row, rows.row(other));
    }
}

/// Puts a neighbour into its place, and the last one out where there are too many.
fn offer(list: &mut Vec<Neighbour>, row: usize, similarity: f32, count: usize) {
    let row = u32::try_from(row).unwrap_or(u32::MAX);
    // Pairs are met in an order of their own: which of equally similar ones stay is told by their numbers.
    let is_before =
        |known: &Neighbour| known.similarity > similarity || (known.similarity == similarity && known.row < row);
    if list.len() >= count && list.last().is_some_and(is_before) {
        return;
    }
    let place = list.partition_point(is_before);
    list.insert(place, Neighbour { row, similarity });
    list.truncate(count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Point;

    #[test]
    fn they_are_those_that_comparing_all_finds() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for count in [1, 3, 63, 64, 65, 200] {
            // Few different numbers make many similarities the same.
            let vectors: Vec<Vec<f32>> =
                (0..count).map(|_| (0..20).map(|_| f32::from(random.u8(0..3)) + 0.1).collect()).collect();
            let points: Vec<Point<'_>> = vectors.iter().zip(0..).map(|(vector, key)| Point { key, vector }).collect();
            let rows = Rows::new(&points);
            let found = Neighbours::new(&rows, 7);
            for one in 0..rows.len() {
                let mut all: Vec<(f32, usize)> = (0..rows.len())
                    .filter(|other| *other != one)
                    .map(|other| (product(rows.row(one), rows.row(other)), other))
                    .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
                    .collect();
                all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                all.truncate(7);
                let found: Vec<(f32, usize)> =
                    found.of(one).iter().map(|near| (near.similarity, near.row as usize)).collect();
                assert_eq!(found, all, "{count} {one}");
            }
        }
    }
}
