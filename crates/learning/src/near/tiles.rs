//! Runs of words that two rows have in common, wherever they stand in each.
//!
//! A patience diff that does not ask for order: runs are found by three words that occur as often in one row as in the
//! other, few times in both, and grow from there; the longest are taken first, and none takes words of another. So a
//! sentence that moved is found where it went (greedy string tiling, Wise 1993, without its search). Time is linear but for
//! sorting: a run grows over words that it can share with a few others at most, for it began at a rare place.

use std::ops::Range;

use super::{rows::Token, sketch::spread};

/// Words of the shortest tile.
const TILE_WORDS_MIN: usize = 3;
/// Three words that occur more often in a row tell no place in it.
const OCCURRENCES_MAX: usize = 4;
/// A tile that neither follows nor precedes what it does in the other row has moved. A shorter one is no phrase that moved
/// but words that happen to recur: `the old man saw the young boy` is not what it is the other way round.
const MOVED_WORDS_MIN: usize = 4;
/// Rounds in which tiles that are too short to have moved are taken away. Each may put others in order; more rounds than
/// this only long lists of shuffled phrases need, and those are not alike.
const ROUNDS_MAX: usize = 8;

/// A run of words that both rows have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub left: usize,
    pub right: usize,
    pub length: usize,
}

impl Tile {
    /// Where the run is in the left row.
    pub fn left(&self) -> Range<usize> {
        self.left..self.left + self.length
    }

    /// Where the run is in the right row.
    pub fn right(&self) -> Range<usize> {
        self.right..self.right + self.length
    }
}

/// The tiles of two rows in the order of the left one. The first and the last are what the rows begin and end with, and
/// may be empty.
pub(super) fn tiles(left: &[Token], right: &[Token]) -> Vec<Tile> {
    let is_same = |(a, b): &(&Token, &Token)| a.word() == b.word();
    let front = left.iter().zip(right).take_while(is_same).count();
    let back = left[front..].iter().rev().zip(right[front..].iter().rev()).take_while(is_same).count();
    let (left_middle, right_middle) = (front..left.len() - back, front..right.len() - back);
    let mut tiles = vec![Tile { left: 0, right: 0, length: front }];
    let mut inner = place(left, right, grow(left, right, &left_middle, &right_middle));
    inner.sort_unstable_by_key(|tile| tile.left);
    tiles.append(&mut inner);
    tiles.push(Tile { left: left_middle.end, right: right_middle.end, length: back });
    drop_strays(&mut tiles);
    tiles
}

/// Runs that cannot be longer, in no order.
fn grow(left: &[Token], right: &[Token], left_middle: &Range<usize>, right_middle: &Range<usize>) -> Vec<Tile> {
    let left_seeds = seeds(left, left_middle);
    let right_seeds = seeds(right, right_middle);
    let mut starts = Vec::new();
    let mut right_rest = &right_seeds[..];
    for same in left_seeds.chunk_by(|a, b| a.0 == b.0) {
        let hash = same[0].0;
        right_rest = &right_rest[right_rest.partition_point(|seed| seed.0 < hash)..];
        let others =
            &right_rest[..right_rest.iter().take(OCCURRENCES_MAX + 1).take_while(|seed| seed.0 == hash).count()];
        if same.len() == others.len() && same.len() <= OCCURRENCES_MAX {
            starts.extend(same.iter().zip(others).map(|(left, right)| (left.1, right.1)));
        }
    }
    // Along a diagonal, what one run has grown over need not be grown over again.
    let diagonal = |&(left, right): &(usize, usize)| (left as isize - right as isize, left);
    starts.sort_unstable_by_key(diagonal);
    let mut tiles: Vec<Tile> = Vec::new();
    for (at_left, at_right) in starts {
        let is_covered = tiles.last().is_some_and(|last| {
            last.left as isize - last.right as isize == at_left as isize - at_right as isize
                && at_left < last.left + last.length
        });
        if is_covered {
            continue;
        }
        let is_same = |(a, b): &(&Token, &Token)| a.word() == b.word();
        let before =
            left[left_middle.start..at_left].iter().rev().zip(right[right_middle.start..at_right].iter().rev());
        let before = before.take_while(is_same).count();
        let after = left[at_left..left_middle.end].iter().zip(&right[at_right..right_middle.end]);
        let after = after.take_while(is_same).count();
        tiles.push(Tile { left: at_left - before, right: at_right - before, length: before + after });
    }
    tiles
}

/// Every three words in a row with where they begin, sorted.
fn seeds(tokens: &[Token], range: &Range<usize>) -> Vec<(u64, usize)> {
    let hash = |words: &[Token]| words.iter().fold(0, |hash, token| spread(hash ^ u64::from(token.word())));
    let windows = tokens[range.clone()].windows(TILE_WORDS_MIN).enumerate();
    let mut seeds: Vec<(u64, usize)> = windows.map(|(at, words)| (hash(words), range.start + at)).collect();
    seeds.sort_unstable();
    seeds
}

/// Takes the longest first, each without the words that others have taken.
fn place(left: &[Token], right: &[Token], mut tiles: Vec<Tile>) -> Vec<Tile> {
    tiles.sort_unstable_by_key(|tile| (std::cmp::Reverse(tile.length), tile.left, tile.right));
    let mut left_taken = vec![false; if tiles.is_empty() { 0 } else { left.len() }];
    let mut right_taken = vec![false; if tiles.is_empty() { 0 } else { right.len() }];
    let mut placed = Vec::new();
    for tile in tiles {
        let is_free = |offset: &usize| !left_taken[tile.left + offset] && !right_taken[tile.right + offset];
        let Some(first) = (0..tile.length).find(is_free) else { continue };
        let length = (first..tile.length).take_while(is_free).count();
        if length < TILE_WORDS_MIN {
            continue;
        }
        let tile = Tile { left: tile.left + first, right: tile.right + first, length };
        left_taken[tile.left()].fill(true);
        right_taken[tile.right()].fill(true);
        placed.push(tile);
    }
    placed
}

/// Takes tiles away that have moved and are too short for it.
fn drop_strays(tiles: &mut Vec<Tile>) {
    for _ in 0..ROUNDS_MAX {
        let order = right_order(tiles);
        let is_stray: Vec<bool> = (0..tiles.len())
            .map(|at| {
                let is_inner = at > 0 && at + 1 < tiles.len();
                let has_neighbour = || order.before[at] == at.checked_sub(1) || order.after[at] == Some(at + 1);
                is_inner && tiles[at].length < MOVED_WORDS_MIN && !has_neighbour()
            })
            .collect();
        if !is_stray.contains(&true) {
            return;
        }
        let mut stray = is_stray.iter();
        tiles.retain(|_| stray.next() == Some(&false));
    }
}

/// Which tiles come before and after each in the right row.
pub(super) struct RightOrder {
    pub before: Vec<Option<usize>>,
    pub after: Vec<Option<usize>>,
}

/// The order of tiles in the right row.
pub(super) fn right_order(tiles: &[Tile]) -> RightOrder {
    let mut order: Vec<usize> = (0..tiles.len()).collect();
    // The first tile and the last may be empty, and stay at their ends all the same.
    order.sort_by_key(|&at| (tiles[at].right, at));
    let mut before = vec![None; tiles.len()];
    let mut after = vec![None; tiles.len()];
    for pair in order.windows(2) {
        before[pair[1]] = Some(pair[0]);
        after[pair[0]] = Some(pair[1]);
    }
    RightOrder { before, after }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::near::{read::Reading, rows::Corpus};

    /// The inner tiles of two texts, as the words that they have in common.
    fn check(left: &str, right: &str, expected: &[&str]) {
        let corpus = Corpus::new(&[left, right], Reading::Whole);
        let tokens = |text: usize| &corpus.rows[corpus.row_of[text] as usize].tokens;
        let words = corpus.lexicon.words();
        let tiles = tiles(tokens(0), tokens(1));
        let text = |tile: &Tile| {
            let words: Vec<&str> = tokens(0)[tile.left()].iter().map(|token| &*words.get(token.word()).text).collect();
            words.join(" ")
        };
        let inner: Vec<String> = tiles[1..tiles.len() - 1].iter().map(text).collect();
        assert_eq!(inner, expected, "{left:?} {right:?}");
    }

    #[test]
    fn what_moved_is_found_where_it_went() {
        check(
            "we like tea a lot. she drinks coffee each day",
            "she drinks coffee each day. we like tea a lot",
            &["we like tea a lot", "she drinks coffee each day"],
        );
        check("x one more thing to say y", "p one more thing to say q", &["one more thing to say"]);
    }

    #[test]
    fn a_few_words_that_recur_have_not_moved() {
        check("an old man saw the young boy", "the young boy saw an old man", &[]);
    }

    #[test]
    fn rows_that_repeat_themselves_take_no_longer() {
        let left = "ha ho ".repeat(100_000);
        let right = format!("x {} y {}", "ha ho ".repeat(40_000), "ha ho ".repeat(70_000));
        check(&left, &right, &[]);
        let left: String = (0..50_000).map(|n| format!("line {} of many ", n % 3)).collect();
        let right = format!("{left} end");
        check(&left, &right, &[]);
    }
}
