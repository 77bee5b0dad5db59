//! Texts by somebody who wants the search to fail, to take long, or to mistake one failure for another.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{EXCERPT_BYTES_MAX, differ, find_all, fingerprint, many_tools, more_tools, same};
use crate::fingerprint::normal;

/// Pieces of which errors are made, for texts that come near to what is looked for.
const PIECES: &[&str] = &[
    "Traceback (most recent call last):\n",
    "  File \"a.py\", line 1, in f\n",
    "ValueError: ",
    "KeyError: '",
    "Caused by: ",
    "\tat a.b(C.java:1)\n",
    "error[E0308]: ",
    "error: ",
    "panicked at ",
    "panic: ",
    "goroutine 1 [running]:\n",
    "npm ERR! code E404\n",
    "npm ERR! ",
    "{\"error\":",
    "{\"message\":\"",
    "\"",
    "'",
    "`",
    "‘",
    "{",
    "}",
    "[",
    "]",
    "\\",
    "\u{1b}[31m",
    "\u{1b}]",
    "\r",
    "\n",
    "\n\n",
    " ",
    "\t",
    "ä",
    "\u{301}",
    "\u{202e}",
    "😀",
    "\u{0}",
    "HTTP/1.1 502 ",
    "http://",
    "https://a.b/c?d",
    "C:\\",
    "/usr/",
    "12:00:00",
    "2026-01-02",
    "Jan  2 15:04:05",
    "0x",
    "::",
    "1.2.3.4:5",
    "a@b.c",
    "user ",
    "status=",
    ".service: ",
    "error TS2304: ",
    "(3,5): ",
    "a.rs:1:2: ",
    "undefined reference to `",
    "command not found: ",
    "E0102 15:04:05.0 1 a.go:1] ",
    "level=error msg=\"",
    "SQLSTATE[",
    "ORA-00942",
    "curl: (",
    ") ",
    "The term '",
    "ERROR ",
    "ERROR:root:",
    "thread '",
    "/nix/store/x-y",
    "#",
    "…",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Nothing panics, everything is bounded, and the same text has the same fingerprint.
    #[test]
    fn any_text_is_borne(text in "\\PC{0,300}") {
        held(&text);
    }

    #[test]
    fn texts_of_pieces_are_borne(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        held(&pieces.concat());
    }

    /// What is normal stays what it is but for the folding of what it shows.
    #[test]
    fn numbers_never_matter(one in 10_000_u64..u64::MAX, other in 10_000_u64..u64::MAX) {
        let of = |number: u64| fingerprint(&format!("ERROR: cannot load part {number} of /data/{number}/x")).unwrap().id;
        prop_assert_eq!(of(one), of(other));
    }

    /// An error is the same in any log.
    #[test]
    fn what_stands_before_does_not_matter(before in "[a-z]{1,12}( [a-z]{1,12}){0,5}") {
        let error = "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\nValueError: it is wrong\n";
        let alone = fingerprint(error).unwrap().id;
        prop_assert_eq!(fingerprint(&format!("{before}\n{error}")).unwrap().id, alone);
    }
}

fn held(text: &str) {
    let found = find_all(text, 100);
    assert_eq!(found, find_all(text, 100));
    for found in found {
        assert_eq!(found.id.len(), 32);
        assert!(!found.class.is_empty() && !found.normal.is_empty(), "{found:?}");
        assert!(found.normal.len() <= normal::NORMAL_BYTES_MAX + 3 + 4_096, "{found:?}");
        assert!(found.excerpt.len() <= EXCERPT_BYTES_MAX + 100, "{found:?}");
        let is_clean = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
        assert!(is_clean(&found.normal) && is_clean(&found.excerpt) && is_clean(&found.class), "{found:?}");
    }
}

/// Errors cut, joined and broken into, so that the search sees what is nearly what it looks for.
#[test]
fn broken_errors_are_borne() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let tables =
        [same::SAME, differ::DIFFER, many_tools::SAME, many_tools::DIFFER, more_tools::SAME, more_tools::DIFFER];
    let texts: Vec<&str> = tables.into_iter().flatten().flat_map(|(_, one, other)| [*one, *other]).collect();
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..random.usize(1..4) {
            let whole = texts[random.usize(..texts.len())];
            let from = whole.floor_char_boundary(random.usize(..=whole.len()));
            let to = whole.floor_char_boundary(random.usize(from..=whole.len()));
            text.push_str(if random.bool() { &whole[from..to] } else { whole });
            text.push_str(if random.bool() { PIECES[random.usize(..PIECES.len())] } else { "" });
        }
        let at = text.floor_char_boundary(random.usize(..=text.len()));
        text.insert_str(at, PIECES[random.usize(..PIECES.len())]);
        held(&text);
    }
}

/// The time that this thread has had of a processor where the system tells it, so that a busy machine changes nothing.
fn time_used(begun: Instant) -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let used = told.and_then(|told| told.split(' ').next()?.parse().ok());
    used.map_or_else(|| begun.elapsed(), Duration::from_nanos)
}

/// Texts that would be slow for a search that looks ahead without a bound or starts anew at each place. The bound is wide:
/// a debug build needs some hundred milliseconds, and a quadratic search minutes.
#[test]
fn no_text_takes_long() {
    let unit = [
        "Traceback (most recent call last):\n".to_owned(),
        "Traceback (most recent call last):\n  x\n".to_owned(),
        "{\n".to_owned(),
        "{\"error\":\n".to_owned(),
        "{\"a\":{\"error\":\"b\"".to_owned(),
        "a.b.CError: x\n".to_owned(),
        "a.b.CError: x\n\tat a.b(C.java:1)\n".to_owned(),
        "Caused by: a.BException: x\n".to_owned(),
        "npm ERR! x\n".to_owned(),
        "panic: x\n".to_owned(),
        "error:\n".to_owned(),
        "error:\n   x\n".to_owned(),
        "error[E0308]: x\n  | y\n".to_owned(),
        "'".to_owned(),
        "`".to_owned(),
        "'a' ".to_owned(),
        "\u{1b}[".to_owned(),
        "\u{1b}]".to_owned(),
        "[0m[1".to_owned(),
        "4".to_owned(),
        "404 ".to_owned(),
        "a@".to_owned(),
        "/a".to_owned(),
        "1:".to_owned(),
        "a_".to_owned(),
        "C:\\a ".to_owned(),
        "CError".to_owned(),
        "AError AError ".to_owned(),
        "ERROR ".to_owned(),
        "> ".to_owned(),
        "12 | ".to_owned(),
        "e\u{301}".to_owned(),
        "\\".to_owned(),
        "{\"a\":\"\\".to_owned(),
        "é: error: ".to_owned(),
        "CMake Error\n  x:\n".to_owned(),
        " ".to_owned(),
        "\n".to_owned(),
    ];
    let mut slow = Vec::new();
    for unit in unit {
        for end in ["", "\nValueError: x\n"] {
            let text = unit.repeat((300 << 10) / unit.len()) + end;
            let begun = Instant::now();
            let before = time_used(begun);
            let _ = find_all(&text, 1_000);
            let took = time_used(begun) - before;
            if took > Duration::from_secs(3) {
                slow.push((unit.clone(), took));
            }
        }
    }
    assert!(slow.is_empty(), "{slow:?}");
}

/// Characters that show nothing and letters' case do not make another failure of it.
#[test]
fn invisible_characters_do_not_tell_failures_apart() {
    let plain = fingerprint("TypeError: x is not a function").unwrap();
    for text in [
        "TypeError: x\u{200b} is not a fun\u{ad}ction",
        "TypeError:\u{a0}x is not a function",
        "\u{feff}TypeError: x is not a function",
        "TypeError: X is not a FUNCTION",
    ] {
        assert_eq!(fingerprint(text).unwrap().id, plain.id, "{text:?}");
    }
}

/// Words that look like placeholders do not change into them.
#[test]
fn a_text_may_have_placeholders_in_it() {
    let found = fingerprint("error: unexpected <n> in <path> at \u{1}").unwrap();
    assert_eq!(found.normal, "unexpected <n> in <path> at");
}
