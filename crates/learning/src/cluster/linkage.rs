//! Average linkage: the two groups that are most alike become one, again and again, for as long as any are alike enough.
//!
//! The average similarity of all pairs between two groups of unit vectors is the product of their sums divided by the
//! number of pairs, so that no table of pairs is needed and every comparison is exact. Groups are compared along the edges
//! of the neighbour graph. The average to a joined group lies between those to its parts, so what an edge was worth when
//! it was last looked at is never too low, and it is looked at again only when it comes to be the best.
//!
//! A row counts once, however many points it is: a question that was asked forty times in the same words says no more
//! about how near others are to it.

use std::{cmp::Ordering, collections::BinaryHeap};

use super::{
    Settings,
    kernel::product,
    neighbours::Neighbours,
    rows::{Rows, add},
};

/// Neighbours that tell how near others are around a row.
const SURROUNDINGS: usize = 8;
/// How often edges between groups that were not alike enough are tried again after their groups have grown.
const PASSES_MAX: usize = 8;
/// Members from which a group has an average of its own that means something.
const OWN_MEMBERS_MIN: f32 = 3.0;
/// Comparisons for each row, over all passes. Some tens are usual; vectors made for it could need as many as there are
/// rows, and what is not joined by then stays apart.
const COMPARISONS_PER_ROW_MAX: usize = 1_000;

/// Rows that are about one thing.
pub(super) fn groups(rows: &Rows, neighbours: &Neighbours, settings: &Settings) -> Vec<Vec<u32>> {
    let mut forest = Forest::new(rows, neighbours, settings);
    let mut edges = edges(rows, neighbours);
    for _ in 0..PASSES_MAX {
        let joined_before = forest.joined;
        edges = forest.pass(edges);
        if forest.joined == joined_before {
            break;
        }
    }
    forest.groups.into_iter().filter(|group| !group.rows.is_empty()).map(|group| group.rows).collect()
}

/// Pairs of neighbours, each once.
fn edges(rows: &Rows, neighbours: &Neighbours) -> Vec<(u32, u32)> {
    let mut edges = Vec::new();
    for row in 0..rows.len() {
        let one = u32::try_from(row).unwrap_or(u32::MAX);
        edges.extend(neighbours.of(row).iter().map(|near| (one.min(near.row), one.max(near.row))));
    }
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// An edge with what it was worth when it was last looked at.
struct Edge {
    worth: f32,
    one: u32,
    other: u32,
    /// Members of both groups when it was looked at; groups that have as many have not changed.
    members: f32,
}

impl Ord for Edge {
    /// The edge worth most is the greatest; of those worth as much, the one whose keys come first.
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.worth.total_cmp(&other.worth);
        order.then_with(|| (other.one, other.other).cmp(&(self.one, self.other)))
    }
}

impl PartialOrd for Edge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Edge {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Edge {}

/// Rows that have been joined.
struct Group {
    /// Which they are; none where they have become part of another group.
    rows: Vec<u32>,
    sum: Vec<f32>,
    /// How many they are.
    members: f32,
    /// For each member, its mean similarity to its nearest neighbours, added up.
    surroundings: f32,
}

impl Group {
    /// The average similarity of all pairs within; 1 for a single row.
    fn own_average(&self) -> f32 {
        let pairs = self.members * (self.members - 1.0);
        if pairs > 0.0 { (product(&self.sum, &self.sum) - self.members) / pairs } else { 1.0 }
    }
}

struct Forest<'s> {
    groups: Vec<Group>,
    /// Which group each one has become part of; itself where it has not.
    parents: Vec<u32>,
    settings: &'s Settings,
    joined: usize,
    comparisons_left: usize,
}

impl<'s> Forest<'s> {
    fn new(rows: &Rows, neighbours: &Neighbours, settings: &'s Settings) -> Self {
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let single = |row: u32| {
            let number = row as usize;
            let near = &neighbours.of(number)[..neighbours.of(number).len().min(SURROUNDINGS)];
            let mean = near.iter().map(|near| near.similarity).sum::<f32>() / near.len().max(1) as f32;
            Group { rows: vec![row], sum: rows.row(number).to_vec(), members: 1.0, surroundings: mean }
        };
        Self {
            groups: (0..count).map(single).collect(),
            parents: (0..count).collect(),
            settings,
            joined: 0,
            comparisons_left: rows.len() * COMPARISONS_PER_ROW_MAX,
        }
    }

    /// Joins what is alike enough along some edges, the best first, and returns the edges that are left.
    fn pass(&mut self, edges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
        let mut left = Vec::new();
        let mut heap = BinaryHeap::with_capacity(edges.len());
        for (one, other) in edges {
            match self.compared(one, other) {
                Compared::Alike(edge) => heap.push(edge),
                Compared::Apart => left.push((one, other)),
                Compared::Same => {}
            }
        }
        while let Some(edge) = heap.pop() {
            let (one, other) = (self.root(edge.one), self.root(edge.other));
            if one == other {
                continue;
            }
            if self.members(one) + self.members(other) == edge.members {
                self.join(one, other);
                continue;
            }
            match self.compared(edge.one, edge.other) {
                // It may still be the best.
                Compared::Alike(edge) if heap.peek().is_none_or(|best| edge >= *best) => self.join(one, other),
                Compared::Alike(edge) => heap.push(edge),
                Compared::Apart => left.push((edge.one, edge.other)),
                Compared::Same => {}
            }
        }
        left
    }

    /// What an edge is worth now.
    fn compared(&mut self, one: u32, other: u32) -> Compared {
        let (one_root, other_root) = (self.root(one), self.root(other));
        if one_root == other_root {
            return Compared::Same;
        }
        if self.comparisons_left == 0 {
            return Compared::Apart;
        }
        self.comparisons_left -= 1;
        let (left, right) = (&self.groups[one_root as usize], &self.groups[other_root as usize]);
        match worth(left, right, self.settings) {
            Some(worth) => Compared::Alike(Edge { worth, one, other, members: left.members + right.members }),
            None => Compared::Apart,
        }
    }

    fn join(&mut self, one: u32, other: u32) {
        let (large, small) = if self.members(one) >= self.members(other) { (one, other) } else { (other, one) };
        let part = std::mem::replace(&mut self.groups[small as usize], Group::EMPTY);
        let whole = &mut self.groups[large as usize];
        add(&mut whole.sum, &part.sum, 1.0);
        whole.rows.extend(part.rows);
        whole.members += part.members;
        whole.surroundings += part.surroundings;
        self.parents[small as usize] = large;
        self.joined += 1;
    }

    fn members(&self, group: u32) -> f32 {
        self.groups[group as usize].members
    }

    /// The group that a row belongs to now.
    fn root(&mut self, row: u32) -> u32 {
        let mut at = row;
        while self.parents[at as usize] != at {
            let above = self.parents[self.parents[at as usize] as usize];
            self.parents[at as usize] = above;
            at = above;
        }
        at
    }
}

impl Group {
    const EMPTY: Self = Self { rows: Vec::new(), sum: Vec::new(), members: 0.0, surroundings: 0.0 };
}

/// What a look at an edge found.
enum Compared {
    /// Its groups could be joined.
    Alike(Edge),
    /// They are not alike enough, as they are now.
    Apart,
    /// They are one already.
    Same,
}

/// How much joining two groups is worth: how near they are compared with what is around them. Nothing where they are not
/// alike enough; [`Settings`] has the three conditions.
fn worth(one: &Group, other: &Group, settings: &Settings) -> Option<f32> {
    let members = one.members + other.members;
    let similarity = product(&one.sum, &other.sum) / (one.members * other.members);
    let beyond_two = (settings.small_members as f32 - 2.0).max(1.0);
    let small = (1.0 - (members - 2.0) / beyond_two).max(0.0);
    (similarity >= settings.similarity_min + settings.small_extra * small).then_some(())?;
    let surroundings = (one.surroundings / one.members + other.surroundings / other.members) / 2.0;
    let worth = similarity - surroundings;
    (worth >= -settings.surroundings_gap).then_some(())?;
    let is_large = one.members.min(other.members) >= OWN_MEMBERS_MIN;
    let is_own = !is_large || similarity >= settings.own_share * one.own_average().min(other.own_average());
    is_own.then_some(worth)
}
