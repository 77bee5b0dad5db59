//! Points in the order of their keys, as rows of one table, of length one each.
//!
//! The order in which points are given is forgotten here: everything after works on rows, so that nothing can depend on
//! it. Points with the very same vector are one row: the same question asked thirty times would otherwise have no
//! neighbours but itself.

use std::collections::HashMap;

use super::{Point, kernel::LANES};

/// Lengths that count as none; what a vector of zeros has after some arithmetic.
const LENGTH_MIN: f64 = 1e-6;

/// The points that can be compared.
pub(super) struct Rows {
    /// All rows, each padded with zeros.
    pub values: Vec<f32>,
    /// Numbers of a row, with those it is padded with.
    pub width: usize,
    /// Which points each row is, by their keys.
    pub points: Vec<Vec<usize>>,
}

impl Rows {
    /// Points without a direction, and those that have another number of dimensions than the first by key, are left out:
    /// nothing can be said of them.
    pub(super) fn new(points: &[Point<'_>]) -> Self {
        let mut order: Vec<usize> = (0..points.len()).collect();
        // Where keys are the same, which they should not be, the vectors decide.
        order.sort_by(|one, other| {
            let (one, other) = (&points[*one], &points[*other]);
            one.key.cmp(&other.key).then_with(|| bits(one.vector).cmp(bits(other.vector)))
        });
        let dimensions = order.first().map_or(0, |first| points[*first].vector.len());
        let width = dimensions.next_multiple_of(LANES);
        let mut rows = Self { values: Vec::new(), width, points: Vec::new() };
        let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
        for point in order {
            let Some(row) = unit(points[point].vector).filter(|row| row.len() == dimensions) else { continue };
            match known.entry(bits(&row).collect()) {
                std::collections::hash_map::Entry::Occupied(row) => rows.points[*row.get()].push(point),
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(rows.points.len());
                    rows.values.extend(&row);
                    rows.values.resize(rows.values.len() + width - dimensions, 0.0);
                    rows.points.push(vec![point]);
                }
            }
        }
        rows
    }

    pub(super) fn len(&self) -> usize {
        self.points.len()
    }

    pub(super) fn row(&self, number: usize) -> &[f32] {
        &self.values[number * self.width..][..self.width]
    }

    /// How many points a row is.
    pub(super) fn weight(&self, number: usize) -> f32 {
        self.points[number].len() as f32
    }

    /// The sum of the points of some rows.
    pub(super) fn sum(&self, group: &[u32]) -> Vec<f32> {
        let mut sum = vec![0.0; self.width];
        for row in group {
            add(&mut sum, self.row(*row as usize), self.weight(*row as usize));
        }
        sum
    }
}

/// Adds a multiple of a row to a sum.
pub(super) fn add(sum: &mut [f32], row: &[f32], weight: f32) {
    for (sum, value) in sum.iter_mut().zip(row) {
        *sum += weight * value;
    }
}

/// A vector of length one in the same direction; nothing where there is none.
pub(super) fn unit(vector: &[f32]) -> Option<Vec<f32>> {
    let length = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
    let has_direction = length.is_finite() && length >= LENGTH_MIN;
    // Adding a zero makes minus nothing the same as nothing.
    has_direction.then(|| vector.iter().map(|value| (f64::from(*value) / length) as f32 + 0.0).collect())
}

fn bits(vector: &[f32]) -> impl Iterator<Item = u32> {
    vector.iter().map(|value| value.to_bits())
}
