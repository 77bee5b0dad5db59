//! Which words of a text a query matches, by the same rules that index them.
//!
//! Owns no markup and cuts no snippet: it gives byte ranges.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Range,
};

use super::tokenizer::{EXACT, Side, terms};

/// Words too common to be worth marking, unless a query has no others. They do count in
/// scores, where their rarity decides what they are worth.
const COMMON: &str = "a about an and any are as at be been but by can could did do does for from \
    had has have how i if in into is it its me my no not of on or our should so such than that \
    the their them then there these they this to use using was we were what when where which \
    who why will with would you your";

/// The terms of a query that are worth marking, sorted.
pub fn highlight_terms(query: &str) -> Vec<String> {
    let mut all = BTreeSet::new();
    terms(query, Side::Query, &mut |term, _| {
        if !term.starts_with(EXACT) {
            all.insert(term.to_owned());
        }
    });
    let mut common = HashSet::new();
    terms(COMMON, Side::Query, &mut |term, _| {
        common.insert(term.to_owned());
    });
    if all.iter().all(|term| common.contains(term)) {
        return all.into_iter().collect();
    }
    all.into_iter().filter(|term| !common.contains(term)).collect()
}

/// The byte ranges of `text` that match a word of `query`: ascending, apart from each other, on
/// character boundaries.
pub fn matches_in(query: &str, text: &str) -> Vec<Range<usize>> {
    Highlighter::new(query).matches(text)
}

/// A query ready to be marked in any number of texts.
pub struct Highlighter {
    terms: HashSet<String>,
}

impl Highlighter {
    /// Prepares `query`.
    pub fn new(query: &str) -> Self {
        Self { terms: highlight_terms(query).into_iter().collect() }
    }

    /// As [`matches_in`].
    pub fn matches(&self, text: &str) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        terms(text, Side::Index, &mut |term, from| {
            if self.terms.contains(term) {
                found.push(from);
            }
        });
        found.sort_unstable_by_key(|range| (range.start, range.end));
        let mut apart: Vec<Range<usize>> = Vec::with_capacity(found.len());
        for range in found {
            match apart.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(query: &str, text: &str) -> String {
        let mut marked = String::new();
        let mut end = 0;
        for range in matches_in(query, text) {
            marked.push_str(&text[end..range.start]);
            marked.push('[');
            marked.push_str(&text[range.clone()]);
            marked.push(']');
            end = range.end;
        }
        marked.push_str(&text[end..]);
        marked
    }

    #[test]
    fn words_match_as_they_do_in_search() {
        assert_eq!(
            marked("how do I pin nixpkgs?", "Pinning Nixpkgs is how you pin."),
            "[Pinning] [Nixpkgs] is how you [pin]."
        );
        assert_eq!(marked("resume", "Mon résumé."), "Mon [résumé].");
        assert_eq!(marked("検索", "全文検索だ"), "全文[検索]だ");
    }

    #[test]
    fn identifiers_are_marked_whole_or_in_part() {
        let text = "set services.nginx.enable = true;";
        assert_eq!(marked("services.nginx.enable", text), "set [services.nginx.enable] = true;");
        assert_eq!(marked("nginx", text), "set services.[nginx].enable = true;");
        assert_eq!(marked("writeBoolean", "def write_boolean(x)"), "def [write_boolean](x)");
    }

    #[test]
    fn common_words_are_marked_only_when_there_is_nothing_else() {
        assert_eq!(highlight_terms("what is the nix store"), ["nix", "store"]);
        assert_eq!(marked("to be", "to be or not"), "[to] [be] or not");
        assert_eq!(marked("", "text"), "text");
        assert_eq!(marked("?!", "text"), "text");
    }
}
