//! BM25 over a snapshot of an index: which chunks are best for a query's words.
//!
//! Owns scoring and the choice of the best. Does not tokenise, open files or know SQL.
//!
//! This is not tantivy's own search, for three reasons. Its block-max WAND adds a document's
//! term scores in whatever order the postings stand, so that equal documents differ in the last
//! bit and ties cannot be broken by key; it prunes only where there is no filter; and its k1 and
//! b are fixed. Here a query goes through a segment in windows of [`WINDOW`] rows, one term after
//! the other, adding into an array that stays in the processor's cache: the same terms in the
//! same order for every chunk, so that equal chunks score equal to the bit, and a filter costs
//! one look at a bit. Nothing that is deleted counts in the statistics, so that two indexes of
//! the same chunks give the same scores, whatever each has been through.
//!
//! The formula is BM25 as in Robertson and Zaragoza, "The Probabilistic Relevance Framework"
//! (2009), with the inverse document frequency ln(1 + (N − n + ½) / (n + ½)), which is never
//! negative. Lengths are tantivy's one-byte approximations.

use std::{cmp::Ordering, collections::HashMap};

use ::tantivy::{
    DocId,
    fieldnorm::FieldNormReader,
    postings::{BlockSegmentPostings, TermInfo},
    schema::IndexRecordOption,
};

use super::{
    attributes::Rows,
    tantivy::{Segment, Snapshot},
    tokenizer::{EXACT, Side, terms},
};
use crate::{ChunkKey, Scored};

/// How soon a repeated term stops counting; by measurement, as all of these.
const K1: f32 = 1.5;
/// How much a long chunk is held back, from 0 to 1.
const B: f32 = 0.85;
/// What the unstemmed form of a word is worth beside its stem.
const EXACT_WEIGHT: f32 = 0.2;

/// The most terms of one query that are scored: those that say most.
const MAX_TERMS: usize = 64;
/// The most distinct terms of one query that are looked up at all, the first ones.
const MAX_LOOKED_UP: usize = 4096;

/// Rows scored at a time. Their sums take 64 KiB.
const WINDOW: u32 = 16 * 1024;
/// Term frequencies up to this are scored by table.
const TABLED_FREQUENCIES: usize = 16;

/// The `limit` best chunks for `text`, best first, equal scores by key. `filters` has the rows
/// that may take part of each segment, in the snapshot's order.
pub(super) fn search(
    snapshot: &Snapshot,
    text: &str,
    limit: usize,
    filters: Option<&[std::sync::Arc<Rows>]>,
) -> ::tantivy::Result<Vec<Scored>> {
    let query = weighted_terms(snapshot, text)?;
    if limit == 0 || query.is_empty() {
        return Ok(Vec::new());
    }
    let curve = Curve::new(snapshot.average_length());
    let mut best = Best::new(limit);
    let mut sums = vec![0.0; WINDOW as usize];
    for (index, segment) in snapshot.segments().iter().enumerate() {
        let rows = filters.and_then(|filters| filters.get(index)).map(AsRef::as_ref);
        score_segment(segment, index, &query, &curve, rows, &mut sums, &mut best)?;
    }
    Ok(best.into_sorted())
}

/// What [`search`] gives to the given rows of each segment, ascending; rows that no term is in
/// are left out.
pub(super) fn scores(snapshot: &Snapshot, text: &str, rows: &[Vec<DocId>]) -> ::tantivy::Result<Vec<Scored>> {
    let query = weighted_terms(snapshot, text)?;
    let curve = Curve::new(snapshot.average_length());
    let mut scored = Vec::new();
    for (index, (segment, rows)) in snapshot.segments().iter().zip(rows).enumerate() {
        // Added in the order of `search`, so that the sums are equal to the last bit.
        let mut sums = vec![0.0; rows.len()];
        for term in &query {
            let Some(place) = term.places.get(index).and_then(Option::as_ref).filter(|_| !rows.is_empty()) else {
                continue;
            };
            let mut postings = segment.words.read_block_postings_from_terminfo(place, IndexRecordOption::WithFreqs)?;
            for (row, sum) in rows.iter().zip(&mut sums) {
                let at = postings.seek(*row);
                if postings.docs().get(at) == Some(row) {
                    let length = segment.lengths[*row as usize];
                    *sum += term.weight * curve.value(postings.freqs()[at], length);
                }
            }
        }
        let matched = rows.iter().zip(sums).filter(|(_, sum)| *sum > 0.0);
        scored.extend(matched.map(|(row, score)| Scored { key: segment.key(*row), score }));
    }
    Ok(scored)
}

/// A term of the query with its place in each segment.
struct WeightedTerm {
    weight: f32,
    /// By segment.
    places: Vec<Option<TermInfo>>,
}

/// The terms of `text` that occur anywhere, the most telling first.
fn weighted_terms(snapshot: &Snapshot, text: &str) -> ::tantivy::Result<Vec<WeightedTerm>> {
    let mut order: HashMap<String, usize> = HashMap::new();
    terms(text, Side::Query, &mut |term, _| {
        let next = order.len();
        if next < MAX_LOOKED_UP && !order.contains_key(term) {
            order.insert(term.to_owned(), next);
        }
    });
    let mut found = Vec::new();
    for (term, _) in order {
        let mut places = Vec::with_capacity(snapshot.segments().len());
        for segment in snapshot.segments() {
            places.push(segment.words.terms().get(term.as_bytes())?);
        }
        let mut documents = 0;
        for (segment, place) in snapshot.segments().iter().zip(&places) {
            documents += place.as_ref().map_or(Ok(0), |place| alive_rows(segment, place))?;
        }
        if documents > 0 {
            let share = if term.starts_with(EXACT) { EXACT_WEIGHT } else { 1.0 };
            let weight = share * rarity(snapshot.chunks() as u64, documents) * (K1 + 1.0);
            found.push((term, WeightedTerm { weight, places }));
        }
    }
    // The order of addition decides the last bit of a score, so it must not depend on chance.
    found.sort_by(|(a, first), (b, second)| second.weight.total_cmp(&first.weight).then_with(|| a.cmp(b)));
    found.truncate(MAX_TERMS);
    Ok(found.into_iter().map(|(_, term)| term).collect())
}

/// How many chunks of `segment` have the term. The stored count includes what is deleted, which
/// would make scores depend on when segments happen to be merged.
fn alive_rows(segment: &Segment, place: &TermInfo) -> ::tantivy::Result<u64> {
    if !segment.reader.has_deletes() {
        return Ok(u64::from(place.doc_freq));
    }
    let mut postings = segment.words.read_block_postings_from_terminfo(place, IndexRecordOption::Basic)?;
    let mut alive = 0;
    while !postings.docs().is_empty() {
        alive += postings.docs().iter().filter(|row| !segment.reader.is_deleted(**row)).count();
        postings.advance();
    }
    Ok(alive as u64)
}

fn rarity(chunks: u64, documents: u64) -> f32 {
    let (chunks, documents) = (chunks as f64, documents as f64);
    ((chunks - documents + 0.5) / (documents + 0.5)).ln_1p() as f32
}

/// tf / (tf + k1 · (1 − b + b · length / average)), by table where tf is small.
struct Curve {
    /// By length code.
    norms: [f32; 256],
    /// By frequency, then by length code.
    table: Vec<[f32; 256]>,
}

impl Curve {
    fn new(average_length: f32) -> Self {
        let mut norms = [0.0; 256];
        for (code, norm) in (0u8..=255).zip(norms.iter_mut()) {
            let length = FieldNormReader::id_to_fieldnorm(code) as f32;
            *norm = K1 * (1.0 - B + B * length / average_length);
        }
        let table = (0..TABLED_FREQUENCIES)
            .map(|frequency| norms.map(|norm| frequency as f32 / (frequency as f32 + norm)))
            .collect();
        Self { norms, table }
    }

    fn value(&self, frequency: u32, length: u8) -> f32 {
        match self.table.get(frequency as usize) {
            Some(row) => row[length as usize],
            None => frequency as f32 / (frequency as f32 + self.norms[length as usize]),
        }
    }
}

/// A term's postings in one segment, and how far they are used up.
struct Cursor {
    weight: f32,
    postings: BlockSegmentPostings,
    /// The next one of the current block.
    next: usize,
}

impl Cursor {
    /// Adds this term's scores for all rows before `end` to `sums`, whose first row is `start`.
    fn add(&mut self, start: DocId, end: DocId, lengths: &[u8], curve: &Curve, sums: &mut [f32]) {
        loop {
            let rows = &self.postings.docs()[self.next..];
            let Some(last) = rows.last() else {
                return;
            };
            let within = if *last < end { rows.len() } else { rows.partition_point(|row| *row < end) };
            let frequencies = &self.postings.freqs()[self.next..self.next + within];
            for (row, frequency) in rows[..within].iter().zip(frequencies) {
                let value = curve.value(*frequency, lengths[*row as usize]);
                sums[(*row - start) as usize] += self.weight * value;
            }
            if *last >= end {
                self.next += within;
                return;
            }
            self.postings.advance();
            self.next = 0;
        }
    }
}

fn score_segment(
    segment: &Segment,
    index: usize,
    query: &[WeightedTerm],
    curve: &Curve,
    rows: Option<&Rows>,
    sums: &mut [f32],
    best: &mut Best,
) -> ::tantivy::Result<()> {
    let mut cursors = Vec::with_capacity(query.len());
    for term in query {
        if let Some(place) = term.places.get(index).and_then(Option::as_ref) {
            let postings = segment.words.read_block_postings_from_terminfo(place, IndexRecordOption::WithFreqs)?;
            cursors.push(Cursor { weight: term.weight, postings, next: 0 });
        }
    }
    let mut start = 0;
    while start < segment.reader.max_doc() && !cursors.is_empty() {
        let end = segment.reader.max_doc().min(start.saturating_add(WINDOW));
        let sums = &mut sums[..(end - start) as usize];
        sums.fill(0.0);
        for cursor in &mut cursors {
            cursor.add(start, end, &segment.lengths, curve, sums);
        }
        for (row, score) in (start..end).zip(sums.iter()) {
            // The one test that nearly every row fails comes first.
            if *score >= best.threshold && rows.is_none_or(|rows| rows.contains(row)) && !segment.reader.is_deleted(row)
            {
                best.offer(Scored { key: segment.key(row), score: *score });
            }
        }
        start = end;
    }
    Ok(())
}

/// The best so far: a buffer of at most twice the limit, cut back when full.
struct Best {
    limit: usize,
    /// What a score must reach to be worth offering; above zero, which no match scores.
    threshold: f32,
    found: Vec<Scored>,
}

impl Best {
    fn new(limit: usize) -> Self {
        Self { limit, threshold: f32::MIN_POSITIVE, found: Vec::new() }
    }

    fn offer(&mut self, scored: Scored) {
        self.found.push(scored);
        if self.found.len() >= self.limit.saturating_mul(2).max(64) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.found.len() > self.limit {
            self.found.select_nth_unstable_by(self.limit - 1, best_first);
            self.found.truncate(self.limit);
            if let Some(worst) = self.found.last() {
                self.threshold = worst.score;
            }
        }
    }

    fn into_sorted(mut self) -> Vec<Scored> {
        self.cut();
        self.found.sort_unstable_by(best_first);
        self.found
    }
}

fn best_first(a: &Scored, b: &Scored) -> Ordering {
    b.score.total_cmp(&a.score).then_with(|| a.key.cmp(&b.key))
}

/// Every key of the snapshot that is among `rows`, or all.
pub(super) fn keys(snapshot: &Snapshot, filters: Option<&[std::sync::Arc<Rows>]>) -> Vec<ChunkKey> {
    let mut keys = Vec::new();
    for (index, segment) in snapshot.segments().iter().enumerate() {
        let alive = |row: &DocId| !segment.reader.is_deleted(*row);
        match filters.and_then(|filters| filters.get(index)) {
            Some(rows) => {
                keys.extend(rows.iter().filter(alive).map(|row| segment.key(row)));
            }
            None => {
                keys.extend((0..segment.reader.max_doc()).filter(alive).map(|row| segment.key(row)));
            }
        }
    }
    keys
}
