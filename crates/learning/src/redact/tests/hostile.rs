//! Texts made to take long.

use std::{fs, time::Instant};

use super::*;

/// Pieces that bring a careless search to look at the rest of the text again and again.
pub const PIECES: [&str; 48] = [
    "a",
    "1",
    "1.",
    "1 ",
    "1-",
    ":",
    "a:",
    "@",
    "a@a.",
    "a@",
    "-",
    "=",
    "\"",
    "\\",
    "password=",
    "token: ",
    "pwd=\"",
    "pwd=\\\"pwd='",
    "eyJ",
    "eyJ-",
    "eyJaaaaaaaaaaaaaa.",
    "sk-",
    "ghp_",
    "://",
    "://a:",
    "://a:b@",
    "/home/",
    "%40",
    "+1",
    "(1) ",
    "00",
    "é",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nAa: ",
    "MIIEvQIBADANa!",
    "Private-Lines: 1\n",
    "AKIA",
    "Authorization: ",
    "Bearer ",
    " -u a:",
    "mysql -p",
    "[email:1]",
    "[email:",
    "DE11 ",
    "\\n",
    "2001:",
    "secret is ",
];

#[test]
fn time_grows_with_the_text_and_no_faster() {
    for piece in PIECES {
        let of = |bytes: usize| piece.repeat(bytes / piece.len());
        // Four times the text takes four times as long, and sixteen times where each place looks at the rest.
        let ratio = taken_s(&of(64 << 10)) / taken_s(&of(16 << 10));
        assert!(ratio < 9.0, "{piece:?}: four times the text takes {ratio:.1} times as long");
    }
}

#[test]
fn many_secrets_in_a_row_do_not_take_forever() {
    let texts: Vec<String> = (0..2_000).map(|index| format!("password=hunter{index}x and hunter0x")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let row = redact_row(&texts);
    assert_eq!(row[0].text, "password=[password:1] and [password:1]");
    assert_eq!(row[1_999].text, "password=[password:2000] and [password:1]");
}

/// Seconds of a processor that a text takes. The system counts them in steps of some milliseconds, so it takes as many
/// rounds as make that small.
fn taken_s(text: &str) -> f64 {
    const ENOUGH_S: f64 = 0.06;
    let (begin, begin_processor) = (Instant::now(), on_processor_s());
    for rounds in 1.. {
        std::hint::black_box(find(text));
        let taken_s = match (begin_processor, on_processor_s()) {
            (Some(begin), Some(end)) => end - begin,
            _ => begin.elapsed().as_secs_f64(),
        };
        if taken_s > ENOUGH_S {
            return taken_s / f64::from(rounds);
        }
    }
    unreachable!("rounds do not end")
}

/// Seconds that this thread has had a processor, where the system tells: other tests are at work at the same time.
fn on_processor_s() -> Option<f64> {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(told.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}
