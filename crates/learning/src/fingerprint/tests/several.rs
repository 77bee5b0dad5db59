//! Several errors in one text, and which of them is the one.

use super::{find_all, fingerprint, of};

#[test]
fn what_says_most_is_the_error() {
    let text = "make: *** [Makefile:3: all] Error 2\nERROR: it went wrong\nbash: foo: command not found\nTraceback (most recent call last):\n  File \"a.py\", line 1, in f\nValueError: no\n";
    assert_eq!(of(text).class, "ValueError");
    let classes: Vec<String> = find_all(text, 10).into_iter().map(|found| found.class).collect();
    // The line of make says only that something else failed.
    assert_eq!(classes, ["ValueError", "command not found", "error"]);
    assert_eq!(find_all(text, 2).len(), 2);
    assert!(find_all(text, 0).is_empty());
}

#[test]
fn an_error_that_repeats_is_one() {
    let text = "Error: connect ECONNREFUSED 127.0.0.1:1\nError: connect ECONNREFUSED 127.0.0.1:2\n".repeat(50);
    assert_eq!(find_all(&text, 10).len(), 1);
}

#[test]
fn the_first_error_of_a_compiler_counts() {
    let text = "error[E0425]: cannot find value `x` in this scope\n --> a.rs:1:1\n\nerror[E0425]: cannot find value `y` in this scope\n --> a.rs:2:1\n\nerror: aborting due to 2 previous errors\n";
    let found = find_all(text, 10);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].id, of("error[E0425]: cannot find value `x` in this scope").id);
}

#[test]
fn a_warning_gives_way_to_an_error() {
    let text = "WARN retrying: connection refused\nERROR boom happened here\nTypeError: x is not a function\n";
    assert_eq!(of(text).class, "TypeError");
    assert_eq!(
        fingerprint("WARN retrying: connection refused").map(|found| found.class),
        Some("ECONNREFUSED".to_owned())
    );
}

#[test]
fn errors_at_both_ends_of_a_long_text_are_found() {
    let filler = "all is well here\n".repeat(40_000);
    let text = format!("TypeError: a is not a function\n{filler}ValueError: no\n");
    assert!(text.len() > 500_000);
    let classes: Vec<String> = find_all(&text, 10).into_iter().map(|found| found.class).collect();
    assert_eq!(classes, ["TypeError", "ValueError"]);
}

#[test]
fn the_only_consequence_is_better_than_nothing() {
    assert_eq!(of("make: *** [all] Error 2").class, "exit status 2");
}
