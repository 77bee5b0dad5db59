//! Reads a ranking from a place on: what is live, passes the filter and is not there yet.

use std::collections::HashSet;

use holdfast_storage::{Filter, Storage, documents::Hit};

use super::{Ranking, fuse::Fused};
use crate::{Group, KnowledgeError};

/// What decides which entries of a ranking are shown.
pub(super) struct View<'a> {
    /// The generation of each place.
    pub generations: Vec<i64>,
    pub limit: usize,
    pub group: Group,
    pub filter: Option<&'a Filter>,
}

/// A page of results.
pub(super) struct Page {
    pub found: Vec<(usize, Fused, Hit)>,
    /// The entry after the last one looked at.
    pub end: usize,
    /// Whether there are as many as asked for.
    pub full: bool,
    /// Whether entries are left.
    pub more: bool,
}

/// The results from entry `from` on.
pub(super) fn read(storage: &Storage, view: &View<'_>, ranking: &Ranking, from: usize) -> Result<Page, KnowledgeError> {
    let mut page = Page { found: Vec::with_capacity(view.limit), end: from, full: false, more: false };
    let mut shown = match view.group {
        Group::Document => documents_before(storage, view, ranking, from)?,
        Group::Chunk => HashSet::new(),
    };
    for (index, (place, fused)) in ranking.entries.iter().enumerate().skip(from) {
        if page.found.len() == view.limit {
            page.more = true;
            break;
        }
        page.end = index + 1;
        let generation = view.generations[*place];
        if view.group == Group::Document {
            // Cheaper than the whole hit, and most entries of a long document end here.
            let document = storage.document_of_chunk(generation, fused.key)?;
            if document.is_none_or(|row| shown.contains(&(*place, row))) {
                continue;
            }
        }
        let Some(hit) = storage.hit(generation, fused.key)? else { continue };
        if view.filter.is_some_and(|filter| !filter.matches(&hit.attributes())) {
            continue;
        }
        if view.group == Group::Document {
            shown.insert((*place, hit.document_row));
        }
        page.found.push((*place, fused.clone(), hit));
    }
    page.full = page.found.len() == view.limit;
    Ok(page)
}

/// The documents that earlier pages have shown.
fn documents_before(
    storage: &Storage,
    view: &View<'_>,
    ranking: &Ranking,
    from: usize,
) -> Result<HashSet<(usize, i64)>, KnowledgeError> {
    let mut documents = HashSet::new();
    for (place, fused) in ranking.entries.iter().take(from) {
        if let Some(row) = storage.document_of_chunk(view.generations[*place], fused.key)? {
            documents.insert((*place, row));
        }
    }
    Ok(documents)
}
