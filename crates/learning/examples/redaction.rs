//! Measures redaction on real texts: `cargo run --release -p holdfast-learning --example redaction -- FOLDER [SEED [COUNT]]`.
//!
//! Reads the texts of a folder (`.md`, `.txt`, `.jsonl`), says what is found in them as they are and how fast, plants
//! secrets, personal data and decoys in them, and says how much of that is found and whether any of it is left.

#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "a measurement says what it measured, and stops where it cannot"
)]

#[path = "../src/redact/tests/corpus.rs"]
mod corpus;
#[path = "../src/redact/tests/measure.rs"]
mod measure;

use std::{collections::BTreeMap, env, fs, hint::black_box, path::Path, time::Instant};

use holdfast_learning::redact::{Kind, find, redact_row};

fn main() {
    let mut arguments = env::args().skip(1);
    let Some(folder) = arguments.next() else { panic!("say which folder has the texts") };
    let seed = arguments.next().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let count = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(6_000);

    let mut texts = Vec::new();
    read(Path::new(&folder), &mut texts);
    assert!(!texts.is_empty(), "no texts in {folder}");
    as_they_are(&texts);

    let paragraphs: Vec<&str> =
        texts.iter().flat_map(|text| text.split("\n\n")).filter(|text| text.len() > 40).collect();
    println!("\nseed {seed}, {} paragraphs", paragraphs.len());
    let samples = corpus::samples(seed, count, &paragraphs);
    let measured = measure::measure(&samples, |text| {
        find(text).into_iter().map(|finding| (finding.kind.as_str(), finding.range)).collect()
    });
    println!("{measured}");
    measured.missed.iter().take(40).for_each(|missed| println!("missed {missed}"));
    measured.wrong.iter().take(40).for_each(|wrong| println!("wrong  {wrong}"));
    let left = left(&samples);
    println!("left in the export: {} {left:?}", left.len());
    let planted: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
    println!("with things planted: {:.0} MB/s", speed(&planted));
    for (name, text) in hostile() {
        println!("{name:<28}{:>8.1} MB/s", speed(&[&text]));
    }
}

/// What is found in the texts as they are.
fn as_they_are(texts: &[String]) {
    let whole: Vec<&str> = texts.iter().map(String::as_str).collect();
    let bytes: usize = whole.iter().map(|text| text.len()).sum();
    println!("{} texts, {:.1} MB, clean: {:.0} MB/s", texts.len(), bytes as f64 / 1e6, speed(&whole));
    let mut kinds: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
    for text in texts {
        for finding in find(text) {
            let from = text.floor_char_boundary(finding.range.start.saturating_sub(40));
            let to = text.ceil_char_boundary(text.len().min(finding.range.end + 20));
            let (before, after) = (&text[from..finding.range.start], &text[finding.range.end..to]);
            let shown = format!("{before:?} «{}» {after:?}", &text[finding.range.clone()]);
            kinds.entry(finding.kind).or_default().push(shown);
        }
    }
    for (kind, shown) in kinds {
        println!("{kind}: {}", shown.len());
        shown.iter().take(60).for_each(|shown| println!("  {shown}"));
    }
}

/// The planted values that stand in the redacted texts. The name of an account may stand where nothing tells of it.
fn left(samples: &[corpus::Sample]) -> Vec<String> {
    let left_of = |sample: &corpus::Sample| -> Vec<String> {
        let redacted = redact_row(&[&sample.text]).remove(0);
        let values = sample.planted.iter().map(|item| (item.what, &sample.text[item.range.clone()]));
        values
            .filter(|(_, value)| redacted.text.contains(value))
            .map(|(what, value)| format!("{what} {value}"))
            .collect()
    };
    samples.iter().flat_map(left_of).collect()
}

/// Megabytes a second, the best of three rounds.
fn speed(texts: &[&str]) -> f64 {
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let round = || {
        let (begin, begin_processor) = (Instant::now(), on_processor_s());
        texts.iter().for_each(|text| {
            black_box(find(text));
        });
        let taken_s = match (begin_processor, on_processor_s()) {
            (Some(begin), Some(end)) => end - begin,
            _ => begin.elapsed().as_secs_f64(),
        };
        bytes as f64 / 1e6 / taken_s
    };
    (0..3).map(|_| round()).fold(0.0, f64::max)
}

/// Seconds that this thread has had a processor, where the system tells: others may be at work on the machine.
fn on_processor_s() -> Option<f64> {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(told.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

/// Texts that a careless search takes long for, a megabyte each.
fn hostile() -> Vec<(&'static str, String)> {
    let pieces = [
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
    let whole = |piece: &str| piece.repeat((1 << 20) / piece.len());
    pieces.into_iter().map(|piece| (piece, whole(piece))).collect()
}

/// The texts of a folder and of those in it.
fn read(folder: &Path, texts: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { panic!("{} cannot be read", folder.display()) };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read(&path, texts);
        } else if path.extension().is_some_and(|ending| ["md", "txt", "jsonl"].iter().any(|known| ending == *known)) {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            // The texts in lines of JSON, near enough.
            texts.push(text.replace("\\n", "\n").replace("\\\"", "\""));
        }
    }
}
