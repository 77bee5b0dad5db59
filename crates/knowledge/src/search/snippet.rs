//! The part of a chunk that is shown: around the words that match, cut at word bounds.

use std::ops::Range;

/// Characters of a snippet, about.
const LENGTH: usize = 300;
/// How much stands before the first match.
const LEAD: usize = 60;

/// The best part of `text`, given where it matches.
pub(crate) fn snippet(text: &str, matches: &[Range<usize>]) -> String {
    let text_end = text.len();
    if text.chars().count() <= LENGTH {
        return fold(text);
    }
    let start = best_start(matches);
    let from = word_start(text, back(text, start, LEAD));
    let to = word_end(text, forward(text, from, LENGTH));
    let mut snippet = fold(text.get(from..to).unwrap_or_default());
    if from > 0 {
        snippet.insert_str(0, "… ");
    }
    if to < text_end {
        snippet.push_str(" …");
    }
    snippet
}

/// Where the window with the most matches begins.
fn best_start(matches: &[Range<usize>]) -> usize {
    let mut best = (0, 0);
    for (index, first) in matches.iter().enumerate() {
        let count = matches[index..].iter().take_while(|m| m.end <= first.start + LENGTH - LEAD).count();
        if count > best.0 {
            best = (count, first.start);
        }
    }
    best.1
}

fn back(text: &str, from: usize, characters: usize) -> usize {
    let before = text.get(..from).unwrap_or_default();
    before.char_indices().rev().take(characters).last().map_or(from, |(index, _)| index)
}

fn forward(text: &str, from: usize, characters: usize) -> usize {
    let after = text.get(from..).unwrap_or_default();
    after.char_indices().nth(characters).map_or(text.len(), |(index, _)| from + index)
}

/// The next word's start, unless the text has no word bound near.
fn word_start(text: &str, from: usize) -> usize {
    if from == 0 {
        return 0;
    }
    let near = text.get(from..forward(text, from, LEAD)).unwrap_or_default();
    near.find(char::is_whitespace).map_or(from, |index| {
        let rest = near[index..].trim_start();
        from + near.len() - rest.len()
    })
}

fn word_end(text: &str, to: usize) -> usize {
    if to == text.len() {
        return to;
    }
    let from = back(text, to, LEAD);
    let near = text.get(from..to).unwrap_or_default();
    near.rfind(char::is_whitespace).map_or(to, |index| from + index)
}

/// Runs of white space become one space: a snippet is one paragraph.
fn fold(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_text_is_shown_whole() {
        assert_eq!(snippet("one\n  two\tthree", &[]), "one two three");
    }

    #[test]
    fn the_match_is_in_the_snippet() {
        let text = format!("{} needle {}", "hay ".repeat(300), "hay ".repeat(300));
        let start = text.find("needle").unwrap();
        let shown = snippet(&text, std::slice::from_ref(&(start..start + 6)));
        assert!(shown.contains(" needle "), "{shown}");
        assert!(shown.starts_with("… hay") && shown.ends_with("hay …"), "{shown}");
        assert!(shown.chars().count() <= LENGTH + 4);
    }

    #[test]
    fn the_densest_place_wins() {
        let text = format!("alpha {} alpha beta gamma {}", "x ".repeat(400), "y ".repeat(400));
        let matches: Vec<_> = ["alpha", "beta", "gamma"]
            .iter()
            .flat_map(|word| text.match_indices(word).map(|(at, found)| at..at + found.len()))
            .collect();
        let mut matches = matches;
        matches.sort_by_key(|range| range.start);
        assert!(snippet(&text, &matches).contains("alpha beta gamma"));
    }

    proptest! {
        #[test]
        fn any_text_and_any_match_give_a_bounded_snippet(
            text in "(\\PC|\\s){0,900}",
            a in 0_usize..900,
            b in 1_usize..20,
        ) {
            let shown = snippet(&text, std::slice::from_ref(&(a..a + b)));
            prop_assert!(shown.chars().count() <= LENGTH + 4);
        }
    }
}
