//! Measures how well near-duplicates are found among rows made of real text.
//!
//! `cargo run --release -p holdfast-learning --example near_duplicates -- [--show] [--questions] <data folder> [rows] [seed…]`
//!
//! The folder has `scifact/`, `cosqa/`, `nix-docs/` and `routing/`. Rows are made of the first three, or with `--questions` of the
//! last, on which nothing was tuned. `--show` shows what went wrong. Exits with 1 where precision, recall or time is not what is promised.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    error::Error,
    fs,
    path::Path,
    process::ExitCode,
    time::Instant,
};

use holdfast_learning::near::{Groups, Settings, groups, leak_groups, split};

use crate::plant::{Kind, NEAR, Planted, Texts, plant, score, sentences};

#[path = "../src/near/tests/plant.rs"]
mod plant;

const PRECISION_MIN: f64 = 0.97;
const RECALL_MIN: f64 = 0.95;
const SECONDS_MAX: f64 = 60.0;

/// One abstract in so many gives sentences that are added to rows.
const ADDED_FROM: usize = 8;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let (flags, arguments): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let has_flag = |name: &str| flags.iter().any(|flag| flag == name);
    let shows = has_flag("--show");
    let mut arguments = arguments.into_iter();
    let folder = arguments.next().ok_or("the folder of the data is missing")?;
    let count = arguments.next().map_or(Ok(100_000), |count| count.parse())?;
    let mut seeds = arguments.map(|seed| seed.parse()).collect::<Result<Vec<u64>, _>>()?;
    if seeds.is_empty() {
        seeds.push(1);
    }
    let mut texts = read(Path::new(&folder))?;
    if has_flag("--questions") {
        texts.code.clear();
        texts.prose = questions(Path::new(&folder))?;
    }
    println!("{} texts of prose, {} of code", texts.prose.len(), texts.code.len());
    let mut is_kept = true;
    for seed in seeds {
        is_kept &= measure(&texts, count, seed, shows);
    }
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(texts: &Texts, count: usize, seed: u64, shows: bool) -> bool {
    let planted = plant(texts, count, &mut fastrand::Rng::with_seed(seed));
    let rows: Vec<&str> = planted.iter().map(|row| row.text.as_str()).collect();
    let size_mib = rows.iter().map(|row| row.len()).sum::<usize>() >> 20;
    println!("\nseed {seed}: {} rows, {size_mib} MiB", rows.len());
    let settings = Settings::default();
    let before_mib = peak_mib();
    let (start, cpu_start) = (Instant::now(), cpu_seconds());
    let found = groups(&rows, &settings, None);
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu_start);
    let score = score(&planted, &found.group_of);
    let Groups { exact, near, unsure, exhausted, .. } = found;
    println!(
        "  precision {:.4}, recall {:.4}, {seconds:.1} s, {cpu:.1} s of processors",
        score.precision, score.recall
    );
    println!("  peak memory {} MiB, {before_mib} MiB of it before", peak_mib());
    println!("  {} groups, {exact} exact, {near} near, {unsure} unsure pairs, {exhausted} exhausted", found.count());
    for (kind, (made, together)) in &score.by_kind {
        let share = *together as f64 / *made as f64;
        match kind {
            Kind::Base => {}
            kind if NEAR.contains(kind) => println!("  {kind:?}: {made}, found {share:.4}"),
            Kind::Template => println!("  {kind:?}: {made}, in a group with others {:.4}", mixed(&planted, &found)),
            kind => println!("  {kind:?}: {made}, wrongly joined {share:.4}"),
        }
    }
    show_errors(&planted, &found, shows);
    second_pass(&rows, &found, &settings);
    leaks(&planted, &rows, &settings);
    score.precision >= PRECISION_MIN && score.recall >= RECALL_MIN && seconds <= SECONDS_MAX
}

/// The part of the fillings of templates that share a group with another filling.
fn mixed(planted: &[Planted], found: &Groups) -> f64 {
    let mut truths: HashMap<u32, HashSet<u32>> = HashMap::new();
    for (row, &group) in planted.iter().zip(&found.group_of) {
        truths.entry(group).or_default().insert(row.truth);
    }
    let fillings = || planted.iter().zip(&found.group_of).filter(|(row, _)| row.kind == Kind::Template);
    let mixed = fillings().filter(|(_, group)| truths[group].len() > 1).count();
    mixed as f64 / fillings().count().max(1) as f64
}

/// A few rows of each kind that are not where they belong.
fn show_errors(planted: &[Planted], found: &Groups, shows: bool) {
    const SHOWN: usize = 3;
    let bases: HashMap<u32, usize> = (0..planted.len())
        .filter(|&row| !NEAR.contains(&planted[row].kind))
        .map(|row| (planted[row].truth, row))
        .collect();
    let mut shown: BTreeMap<Kind, usize> = BTreeMap::new();
    for (row, &group) in planted.iter().zip(&found.group_of) {
        let Some(&base) = bases.get(&row.base) else { continue };
        let is_together = found.group_of[base] == group;
        if is_together == NEAR.contains(&row.kind) || row.kind == Kind::Base {
            continue;
        }
        let shown = shown.entry(row.kind).or_default();
        *shown += 1;
        if shows && *shown <= SHOWN {
            println!("  {:?}\n    {:?}\n    {:?}", row.kind, planted[base].text, row.text);
        }
    }
    let mut members: HashMap<u32, Vec<usize>> = HashMap::new();
    for (row, &group) in found.group_of.iter().enumerate() {
        members.entry(group).or_default().push(row);
    }
    let mut strangers: Vec<&Vec<usize>> = members
        .values()
        .filter(|rows| rows.iter().any(|&row| planted[row].base != planted[rows[0]].base))
        .filter(|rows| {
            let fresh = |row: usize| matches!(planted[row].kind, Kind::Base | Kind::Template);
            rows.iter().filter(|&&row| fresh(row)).count() > 1
        })
        .collect();
    strangers.sort_by_key(|rows| (std::cmp::Reverse(rows.len()), rows[0]));
    println!("  {} groups with texts that were not made of each other", strangers.len());
    if shows {
        for rows in strangers.iter().take(12) {
            println!("  of {} rows", rows.len());
            for &row in rows.iter().take(4) {
                println!("    {:?} {:?}", planted[row].kind, planted[row].text);
            }
        }
    }
}

/// What is found among rows of which one a group was kept.
fn second_pass(rows: &[&str], found: &Groups, settings: &Settings) {
    let mut kept: BTreeMap<u32, &str> = BTreeMap::new();
    for (row, group) in rows.iter().zip(&found.group_of) {
        kept.entry(*group).or_insert(row);
    }
    let kept: Vec<&str> = kept.into_values().collect();
    let again = groups(&kept, settings, None);
    println!("  of {} rows that are kept, a second pass would leave out {}", kept.len(), again.exact + again.near);
}

/// How a split leaves what was planted.
fn leaks(planted: &[Planted], rows: &[&str], settings: &Settings) {
    const WEIGHTS: [f64; 3] = [0.8, 0.1, 0.1];
    let start = Instant::now();
    let found = leak_groups(rows, settings, None);
    let seconds = start.elapsed().as_secs_f64();
    let parts = split(&found, &WEIGHTS, 1);
    let mut sizes: HashMap<u32, usize> = HashMap::new();
    for &group in &found.group_of {
        *sizes.entry(group).or_default() += 1;
    }
    let largest = sizes.values().max().copied().unwrap_or(0);
    let shares = [0, 1, 2].map(|part| parts.iter().filter(|&&of| of == part).count() as f64 / rows.len() as f64);
    let bases: HashMap<u32, usize> = (0..planted.len())
        .filter(|&row| planted[row].kind == Kind::Base)
        .map(|row| (planted[row].truth, row))
        .collect();
    let (mut made, mut apart) = (0, 0);
    for (row, part) in planted.iter().zip(&parts) {
        if let Some(&base) = bases.get(&row.base) {
            made += 1;
            apart += usize::from(parts[base] != *part);
        }
    }
    println!("  leak groups: {} in {seconds:.1} s, the largest of {largest} rows; parts {shares:.3?}", found.count());
    println!("  {apart} of {made} variants, with those that differ in facts, are in another part than their base");
}

fn read(folder: &Path) -> Result<Texts, Box<dyn Error>> {
    let mut texts = Texts::default();
    let mut added = Vec::new();
    let mut taken = HashSet::new();
    let mut is_new = |text: &str| {
        let letters: String = text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        text.split(' ').count() >= 5 && taken.insert(letters)
    };
    for (at, line) in fs::read_to_string(folder.join("scifact/corpus.jsonl"))?.lines().enumerate() {
        let document: serde_json::Value = serde_json::from_str(line)?;
        let text = document["text"].as_str().unwrap_or_default();
        let sentences = sentences(text);
        // What is added to rows must be no row itself, of which the longer row would be as much a variant.
        if at % ADDED_FROM == 0 {
            added.extend(sentences.iter().map(|&sentence| sentence.to_owned()));
            continue;
        }
        // Rows of one, two, three… sentences, in turn.
        let mut rest = &sentences[..];
        for count in [1, 2, 1, 3, 1, 4, 2].into_iter().cycle() {
            let Some((row, after)) = rest.split_at_checked(count) else { break };
            rest = after;
            texts.prose.extend(Some(row.join(" ")).filter(|row| is_new(row)));
        }
    }
    for line in fs::read_to_string(folder.join("scifact/queries.jsonl"))?.lines() {
        let claim: serde_json::Value = serde_json::from_str(line)?;
        texts.prose.extend(claim["text"].as_str().filter(|text| is_new(text)).map(str::to_owned));
    }
    let questions: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.join("cosqa/cosqa-retrieval-dev-500.json"))?)?;
    for question in questions.as_array().into_iter().flatten() {
        texts.prose.extend(question["doc"].as_str().filter(|text| is_new(text)).map(str::to_owned));
    }
    let code: BTreeMap<String, u32> =
        serde_json::from_str(&fs::read_to_string(folder.join("cosqa/code_idx_map.txt"))?)?;
    texts.code.extend(code.into_keys().filter(|text| is_new(text)));
    for text in markdown(&folder.join("nix-docs"))? {
        for paragraph in text.split("\n\n") {
            let paragraph = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
            texts.prose.extend(Some(paragraph).filter(|paragraph| is_new(paragraph)));
        }
    }
    texts.add_sentences(added.into_iter());
    Ok(texts)
}

/// Questions of examinations, without the answers to choose from.
fn questions(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut questions = Vec::new();
    let mut taken = HashSet::new();
    for line in fs::read_to_string(folder.join("routing/mmlu_two_models_dev.jsonl"))?.lines() {
        let record: serde_json::Value = serde_json::from_str(line)?;
        let prompt = record["prompt"].as_str().unwrap_or_default();
        let question = prompt.split("\nA.").next().unwrap_or_default().trim();
        let letters: String = question.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        if question.split(' ').count() >= 5 && taken.insert(letters) {
            questions.push(question.to_owned());
        }
    }
    Ok(questions)
}

fn markdown(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut texts = Vec::new();
    let mut entries =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            texts.extend(markdown(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            texts.push(fs::read_to_string(path)?);
        }
    }
    Ok(texts)
}

/// Processor time that the process has had, where the system tells; in hundredths of a second on all machines of today.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most memory that the process had, where the system tells.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0) >> 10
}
