//! What holds of every text.

use proptest::prelude::*;

use super::{corpus, hostile::PIECES, *};

/// Fragments that mean something to some detector, to be put together in ways that nobody thought of.
const FRAGMENTS: [&str; 64] = [
    " ",
    "\n",
    "\"",
    "'",
    "\\",
    "\\n",
    "\\\"",
    ":",
    "=",
    "@",
    ".",
    ",",
    ";",
    "-",
    "_",
    "/",
    "//",
    "://",
    "+",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    "%",
    "%40",
    "&",
    "#",
    "$",
    "|",
    "`",
    "\u{7f}",
    "\0",
    "\u{a0}",
    "é",
    "密码",
    "password",
    "pwd=",
    "token: ",
    "api key is ",
    "version ",
    "phone ",
    "SSN ",
    "Authorization: ",
    "Bearer ",
    "Basic ",
    " -u ",
    "/home/",
    "C:\\Users\\",
    "ada",
    "example.org",
    "[email:1]",
    "[password]",
    "[jwt:",
    "415",
    "555",
    "2671",
    "+49 30 ",
    "203.4.5.6",
    "2a02:8108::1",
    "0",
];

/// A piece of a text: one of the fragments, something planted, or something drawn.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(&FRAGMENTS[..]).prop_map(str::to_owned),
        2 => prop::sample::select(&PIECES[..]).prop_map(str::to_owned),
        2 => any::<u64>().prop_map(|seed| {
            let sample = corpus::samples(seed, 1, &[""]).remove(0);
            let range = &sample.planted[0].range;
            sample.text[range.clone()].to_owned()
        }),
        1 => "[A-Za-z0-9]{1,40}",
        1 => "[0-9 .:-]{1,20}",
        1 => any::<char>().prop_map(String::from),
    ]
}

fn check_all(text: &str) -> Result<(), TestCaseError> {
    let findings = find(text);
    let mut from = 0;
    for Finding { range, .. } in &findings {
        prop_assert!(from <= range.start && range.start < range.end, "in order, apart and not empty: {:?}", findings);
        prop_assert!(text.get(range.clone()).is_some(), "whole characters: {:?}", findings);
        from = range.end;
    }
    let once = redact(text);
    prop_assert_eq!(&once.findings, &findings);
    prop_assert_eq!(matches!(once.text, Cow::Borrowed(_)), findings.is_empty());
    let twice = redact(&once.text);
    prop_assert_eq!(&twice.text, &once.text, "twice; first {:?}, then {:?}", findings, twice.findings);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn findings_are_ranges_and_redacting_twice_changes_nothing(pieces in prop::collection::vec(piece(), 0..24)) {
        check_all(&pieces.concat())?;
    }

    #[test]
    fn any_text_is_fine(text in any::<String>()) {
        check_all(&text)?;
    }

    #[test]
    fn a_row_is_redacted_once_as_well(texts in prop::collection::vec(prop::collection::vec(piece(), 0..8).prop_map(|pieces| pieces.concat()), 0..4)) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let once = redact_row(&texts);
        let once: Vec<&str> = once.iter().map(|redacted| &*redacted.text).collect();
        let twice = redact_row(&once);
        let twice: Vec<&str> = twice.iter().map(|redacted| &*redacted.text).collect();
        prop_assert_eq!(once, twice);
    }
}

#[test]
fn samples_are_the_same_for_a_seed() {
    let of = |seed| {
        corpus::samples(seed, 30, &super::prose::PARAGRAPHS).into_iter().map(|sample| sample.text).collect::<Vec<_>>()
    };
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
}
