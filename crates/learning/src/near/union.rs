//! From pairs to groups.
//!
//! What is the same as a third is in one group, unless that would tie together what differs in a fact: a row that has
//! neither `5` nor `6` is like one with `5` and like one with `6`, and these are opposed. So no two rows that are opposed are
//! in one group, and where that leaves a choice the most similar pairs are joined first, then those with lower numbers. All
//! pairs of a group of moderate size are compared for it. In a larger one the facts of rows include each other, which rules
//! out the worst without comparing all with all.

use std::collections::{HashMap, HashSet};

use super::{rows::Row, verdict::includes, words::as_u32};

/// Rows of a group all pairs of which are compared.
const CHECKED_ROWS_MAX: u32 = 64;

/// Two rows that say the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub rows: (u32, u32),
    pub similarity: f32,
}

/// Sets of rows that only grow.
pub(super) struct Sets {
    parents: Vec<u32>,
    sizes: Vec<u32>,
}

impl Sets {
    /// A set for each of so many rows.
    pub fn new(count: usize) -> Self {
        Self { parents: (0..as_u32(count)).collect(), sizes: vec![1; count] }
    }

    /// The row that stands for a row's set.
    pub fn find(&mut self, row: u32) -> u32 {
        let mut at = row;
        while self.parents[at as usize] != at {
            let parent = self.parents[at as usize];
            self.parents[at as usize] = self.parents[parent as usize];
            at = parent;
        }
        at
    }

    /// Whether a row's set is so small that all pairs of it are compared.
    fn is_checked(&mut self, row: u32) -> bool {
        let root = self.find(row);
        self.sizes[root as usize] <= CHECKED_ROWS_MAX
    }

    /// Makes one set of two, and gives the row that stands for it.
    pub fn join(&mut self, left: u32, right: u32) -> u32 {
        let (left, right) = (self.find(left), self.find(right));
        if left == right {
            return left;
        }
        let is_larger = self.sizes[left as usize] >= self.sizes[right as usize];
        let (root, child) = if is_larger { (left, right) } else { (right, left) };
        self.parents[child as usize] = root;
        self.sizes[root as usize] += self.sizes[child as usize];
        root
    }
}

/// Pairs that links would tie together and that were not compared, in groups of moderate size.
pub(super) fn unchecked(count: usize, links: &[Link], compared: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut reach = Sets::new(count);
    for link in links {
        reach.join(link.rows.0, link.rows.1);
    }
    let compared: HashSet<(u32, u32)> =
        compared.iter().copied().filter(|&(left, right)| reach.find(left) == reach.find(right)).collect();
    let mut members: Vec<(u32, u32)> = (0..as_u32(count)).map(|row| (reach.find(row), row)).collect();
    members.sort_unstable();
    let mut pairs = Vec::new();
    for group in members.chunk_by(|a, b| a.0 == b.0).filter(|group| as_u32(group.len()) <= CHECKED_ROWS_MAX) {
        for (at, &(_, left)) in group.iter().enumerate() {
            let others = group[at + 1..].iter().map(|&(_, right)| (left, right));
            pairs.extend(others.filter(|pair| !compared.contains(pair)));
        }
    }
    pairs
}

/// Joins rows that say the same, as far as the rows that are opposed allow.
pub(super) fn group(rows: &[Row], mut links: Vec<Link>, barred: &[(u32, u32)]) -> Sets {
    let mut reach = Sets::new(rows.len());
    for link in &links {
        reach.join(link.rows.0, link.rows.1);
    }
    // Most sets have nothing in them that must stay apart; only for the others does it matter which link comes first.
    let mut disputed: HashSet<u32> = HashSet::new();
    let barred: Vec<(u32, u32)> = barred
        .iter()
        .copied()
        .filter(|&(left, right)| {
            let root = reach.find(left);
            let is_within = root == reach.find(right);
            if is_within {
                disputed.insert(root);
            }
            is_within
        })
        .collect();
    let mut chains: HashMap<u32, Chain> = HashMap::new();
    for link in &links {
        for row in [link.rows.0, link.rows.1] {
            let root = reach.find(row);
            if disputed.contains(&root) || reach.is_checked(root) {
                continue;
            }
            let chain = chains.entry(root).or_insert_with(|| Chain::new(row));
            if !chain.join(&Chain::new(row), rows) {
                disputed.insert(root);
            }
        }
    }
    links.retain(|link| disputed.contains(&reach.find(link.rows.0)));
    let mut sets = Sets::new(rows.len());
    for row in 0..as_u32(rows.len()) {
        let root = reach.find(row);
        if !disputed.contains(&root) {
            sets.join(root, row);
        }
    }
    links.sort_unstable_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.rows.cmp(&b.rows)));
    Arbiter::new(rows, &barred).settle(&mut sets, &mut reach, &links);
    sets
}

/// Rows whose facts include each other, one for each different list, the fewest first.
#[derive(Clone)]
struct Chain(Vec<u32>);

impl Chain {
    fn new(row: u32) -> Self {
        Self(vec![row])
    }

    /// Takes the rows of another chain in, unless one of them does not fit.
    fn join(&mut self, other: &Self, rows: &[Row]) -> bool {
        let facts = |row: &u32| &rows[*row as usize].facts;
        if other.0.iter().all(|row| self.0.iter().any(|own| facts(own) == facts(row))) {
            return true;
        }
        let mut all: Vec<u32> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_by(|a, b| facts(a).len().cmp(&facts(b).len()).then_with(|| facts(a).cmp(facts(b))));
        all.dedup_by(|a, b| facts(a) == facts(b));
        let fits = all
            .array_windows()
            .all(|[fewer, more]| facts(fewer).len() < facts(more).len() && includes(facts(fewer), facts(more)));
        if fits {
            self.0 = all;
        }
        fits
    }
}

/// Joins sets in which rows must stay apart.
struct Arbiter<'a> {
    rows: &'a [Row],
    /// For the row that stands for a set, those of the sets that are opposed to it.
    opponents: HashMap<u32, HashSet<u32>>,
    chains: HashMap<u32, Chain>,
}

impl<'a> Arbiter<'a> {
    fn new(rows: &'a [Row], barred: &[(u32, u32)]) -> Self {
        let mut opponents: HashMap<u32, HashSet<u32>> = HashMap::new();
        for &(left, right) in barred {
            opponents.entry(left).or_default().insert(right);
            opponents.entry(right).or_default().insert(left);
        }
        Self { rows, opponents, chains: HashMap::new() }
    }

    fn settle(mut self, sets: &mut Sets, reach: &mut Sets, links: &[Link]) {
        for link in links {
            let (left, right) = (sets.find(link.rows.0), sets.find(link.rows.1));
            let are_opposed = self.opponents.get(&left).is_some_and(|opponents| opponents.contains(&right));
            if left == right || are_opposed {
                continue;
            }
            let mut chain = self.chains.get(&left).cloned().unwrap_or_else(|| Chain::new(left));
            let other = self.chains.get(&right).cloned().unwrap_or_else(|| Chain::new(right));
            let is_checked = reach.is_checked(link.rows.0);
            if is_checked || chain.join(&other, self.rows) {
                let root = sets.join(left, right);
                self.chains.insert(root, chain);
                self.inherit(root, if root == left { right } else { left });
            }
        }
    }

    /// What was opposed to a set is opposed to the one that it went up in.
    fn inherit(&mut self, root: u32, gone: u32) {
        let mut moved = self.opponents.remove(&gone).unwrap_or_default();
        for opponent in &moved {
            let theirs = self.opponents.entry(*opponent).or_default();
            theirs.remove(&gone);
            theirs.insert(root);
        }
        let own = self.opponents.entry(root).or_default();
        if own.len() < moved.len() {
            std::mem::swap(own, &mut moved);
        }
        own.extend(moved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(facts: &[u32]) -> Row {
        Row { tokens: Box::default(), facts: facts.into(), pairs: Box::default(), grams: Box::default() }
    }

    fn check(rows: &[&[u32]], links: &[(u32, u32, f32)], barred: &[(u32, u32)], expected: &[&[u32]]) {
        let rows: Vec<Row> = rows.iter().map(|facts| row(facts)).collect();
        let links = links.iter().map(|&(left, right, similarity)| Link { rows: (left, right), similarity }).collect();
        let mut sets = group(&rows, links, barred);
        let mut found: std::collections::BTreeMap<u32, Vec<u32>> = Default::default();
        for row in 0..as_u32(rows.len()) {
            found.entry(sets.find(row)).or_default().push(row);
        }
        let mut found: Vec<Vec<u32>> = found.into_values().collect();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn chains_are_followed_where_nothing_is_opposed() {
        check(&[&[], &[], &[], &[]], &[(0, 1, 0.9), (1, 2, 0.8)], &[], &[&[0, 1, 2], &[3]]);
    }

    #[test]
    fn what_is_opposed_stays_apart_and_the_more_similar_pair_is_joined() {
        check(&[&[], &[], &[]], &[(0, 1, 0.8), (1, 2, 0.9)], &[(0, 2)], &[&[0], &[1, 2]]);
        // It stays so when the sets have grown: 3 is with 0, which is opposed to 2.
        let links = [(0, 3, 0.99), (1, 2, 0.9), (1, 3, 0.8)];
        check(&[&[], &[], &[], &[]], &links, &[(0, 2)], &[&[0, 3], &[1, 2]]);
    }

    #[test]
    fn in_a_large_group_facts_that_do_not_include_each_other_stay_apart() {
        let mut facts: Vec<&[u32]> = vec![&[5], &[6]];
        facts.resize(2 + CHECKED_ROWS_MAX as usize, &[]);
        let last = as_u32(facts.len());
        let mut links = vec![(0, 2, 0.8), (1, 2, 0.9)];
        links.extend((3..last).map(|row| (row - 1, row, 1.0)));
        let together: Vec<u32> = (1..last).collect();
        check(&facts, &links, &[], &[&[0], &together]);
    }

    #[test]
    fn pairs_that_only_others_tie_together_are_named() {
        let link = |left, right| Link { rows: (left, right), similarity: 1.0 };
        let links = [link(0, 1), link(1, 2), link(3, 4)];
        assert_eq!(unchecked(5, &links, &[(0, 1), (1, 2), (3, 4)]), [(0, 2)]);
        assert_eq!(unchecked(5, &links, &[(0, 1), (1, 2), (3, 4), (0, 2)]), []);
    }
}
