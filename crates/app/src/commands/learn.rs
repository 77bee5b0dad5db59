//! `holdfast learn`: how far learning is, and what is known of an interaction.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum, ValueHint};
use serde_json::{Value, json};

use super::{
    Session,
    lists::{self, items, word},
};
use crate::{
    arguments::Paging,
    output::{clean, clean_line, table},
    transport::{Request, Transport, encode},
};

/// `holdfast learn`
#[derive(Debug, Subcommand)]
pub enum Learn {
    /// Show how far learning is, and what holds it up
    Status,
    /// List problems that came again, with what worked; worth most first
    Patterns {
        #[command(flatten)]
        paging: Paging,
    },
    /// List failures that interactions told of, and what solved them; seen most first
    Errors {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show the archive of the event log
    Archives {
        /// Read all of it and compare it with its hashes
        #[arg(long)]
        verify: bool,
    },
    /// Move events to the archive that are due there by the settings
    Archive,
    /// Put the events of the archive back into the log, those that it does not have
    ImportArchive,
    /// Show what is known of an interaction: what it is worth, and who said what about it
    Show {
        /// Its id
        id: String,
    },
    /// Measure how well searches find what is wanted, on questions whose documents are known
    Eval {
        /// Lines of JSON: {"query": …, "relevant": [document ids], "collections"?: […]}; without it, the questions of
        /// interactions of which somebody said which documents were of use
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// Show what was measured before
        #[arg(long, conflicts_with = "file")]
        history: bool,
    },
    /// Build, list, show, export and remove datasets
    #[command(subcommand)]
    Dataset(Dataset),
    /// Say how an interaction went
    Outcome {
        /// Its id
        id: String,
        /// By who knows
        outcome: Option<Word>,
        /// What you think of it, from -1 to 1
        #[arg(long, allow_hyphen_values = true)]
        feedback: Option<f64>,
        /// In words
        #[arg(long)]
        note: Option<String>,
        /// Whether it may be used to train
        #[arg(long)]
        may_train: Option<bool>,
    },
}

/// `holdfast learn dataset`
#[derive(Debug, Subcommand)]
pub enum Dataset {
    /// Build a version of a dataset from interactions that were worth it
    Build {
        /// What it is called
        name: String,
        /// What an interaction has to be worth at least
        #[arg(long, default_value_t = 0.5)]
        value_min: f64,
        /// Only interactions of which somebody said that they may be used to train
        #[arg(long)]
        needs_consent: bool,
        /// Only those of this caller: the id of a key, or `owner`
        #[arg(long)]
        caller: Option<String>,
        /// Makes another split
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// List every version of every dataset
    List,
    /// Show how a version was made
    Show {
        /// Its name and version, as `name@version`
        id: String,
    },
    /// Print a file of a version
    Export {
        /// Its name and version, as `name@version`
        id: String,
        /// `train.jsonl`, `validation.jsonl`, `test.jsonl`, `preferences.jsonl`, `redactions.jsonl` or `manifest.json`
        #[arg(default_value = "train.jsonl")]
        file: String,
    },
    /// Remove a version; its number is not given again
    Remove {
        /// Its name and version, as `name@version`
        id: String,
    },
}

/// How an interaction went.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Word {
    /// It did what it was for
    Success,
    /// In part
    Partial,
    /// It did not
    Failure,
    /// What was said before was a mistake
    Withdrawn,
}

/// Asks the program, and shows what it answers.
pub async fn run(session: &Session, action: Learn) -> Result<()> {
    let output = session.output;
    session
        .with_program(async |transport| {
            match &action {
                Learn::Status => {
                    output.value(&transport.send(Request::get("/api/v1/learning/stats")).await?, status)?;
                }
                Learn::Patterns { paging } => {
                    let answer = transport.send(lists::page("/api/v1/learning/patterns", paging)).await?;
                    output.value(&answer, |answer| lists::table(answer, "patterns", &PATTERNS))?;
                }
                Learn::Errors { paging } => {
                    let answer = transport.send(lists::page("/api/v1/learning/errors", paging)).await?;
                    output.value(&answer, |answer| lists::table(answer, "errors", &ERRORS))?;
                }
                Learn::Archives { verify } => {
                    let request = Request::get(ARCHIVE).with("verify", Some(if *verify { "true" } else { "false" }));
                    let answer = transport.send(request).await?;
                    output.value(&answer, |answer| lists::table(answer, "segments", &SEGMENTS))?;
                }
                Learn::Archive => {
                    let answer = transport.send(Request::post(ARCHIVE, json!({}))).await?;
                    output.value(&answer, |answer| {
                        format!("{} events moved to {} new files", answer["events"], answer["segments"])
                    })?;
                }
                Learn::ImportArchive => {
                    let answer = transport.send(Request::post(format!("{ARCHIVE}/import"), json!({}))).await?;
                    output.value(&answer, |answer| {
                        let damaged =
                            items(&answer["damaged"]).iter().map(|name| format!("\n{} is damaged", word(name)));
                        format!(
                            "{} events put back, {} were there{}",
                            answer["events"],
                            answer["present"],
                            damaged.collect::<String>()
                        )
                    })?;
                }
                Learn::Show { id } => {
                    let target = format!("/api/v1/interactions/{}", encode(id));
                    output.value(&transport.send(Request::get(target)).await?, known)?;
                }
                Learn::Eval { history: true, .. } => {
                    let answer = transport.send(Request::get(EVALUATIONS)).await?;
                    output.value(&answer, |answer| measured(items(&answer["evaluations"])))?;
                }
                Learn::Eval { file, .. } => {
                    let body = file.as_deref().map_or(Ok(json!({})), golden)?;
                    let answer = transport.send(Request::post(EVALUATIONS, body)).await?;
                    output.value(&answer, |answer| measured(std::slice::from_ref(answer)))?;
                }
                Learn::Dataset(action) => dataset(session, transport, action).await?,
                Learn::Outcome { id, outcome, feedback, note, may_train } => {
                    let outcome = outcome.and_then(|word| word.to_possible_value());
                    let body = json!({
                        "outcome": outcome.as_ref().map(|word| word.get_name()), "feedback": feedback, "note": note,
                        "may_train": may_train, "source": "command line",
                    });
                    let target = format!("/api/v1/interactions/{}/outcome", encode(id));
                    let answer = transport.send(Request::post(target, body)).await?;
                    output.value(&answer, |answer| format!("{} is on record", word(&answer["id"])))?;
                }
            }
            Ok(())
        })
        .await
}

const ARCHIVE: &str = "/api/v1/events/archive";
const EVALUATIONS: &str = "/api/v1/learning/evaluations";

/// The questions of a file of lines of JSON.
fn golden(file: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(number, line): (usize, &str)| {
        serde_json::from_str::<Value>(line)
            .with_context(|| format!("line {} of {} is not JSON", number + 1, file.display()))
    };
    let questions: Vec<Value> = lines.map(read).collect::<Result<_>>()?;
    Ok(json!({ "questions": questions }))
}

async fn dataset(session: &Session, transport: &Transport, action: &Dataset) -> Result<()> {
    let output = session.output;
    let at = |id: &str| format!("/api/v1/datasets/{}", encode(id));
    match action {
        Dataset::Build { name, value_min, needs_consent, caller, seed } => {
            let body = json!({
                "name": name, "value_min": value_min, "needs_consent": needs_consent, "caller": caller, "seed": seed,
            });
            output.value(&transport.send(Request::post("/api/v1/datasets", body)).await?, made)?;
        }
        Dataset::List => {
            output.value(&transport.send(Request::get("/api/v1/datasets")).await?, |answer| {
                let row = |one: &Value| {
                    let rows = |file: &str| word(&one["manifest"]["files"][file]["rows"]);
                    let files = ["train.jsonl", "validation.jsonl", "test.jsonl", "preferences.jsonl"].map(rows);
                    [word(&one["id"])].into_iter().chain(files).collect()
                };
                let rows: Vec<Vec<String>> = items(&answer["datasets"]).iter().map(row).collect();
                if rows.is_empty() {
                    return "none".to_owned();
                }
                table(&["DATASET", "TRAIN", "VALIDATION", "TEST", "PREFERENCES"], &rows)
            })?;
        }
        Dataset::Show { id } => output.value(&transport.send(Request::get(at(id))).await?, made)?,
        Dataset::Export { id, file } => {
            let request = Request::get(format!("{}/export", at(id))).with("file", Some(file));
            transport.stream(request, |piece| Ok(output.raw(piece)?)).await?;
        }
        Dataset::Remove { id } => {
            transport.send(Request::delete(at(id))).await?;
            output.value(&json!({ "id": id }), |_| format!("{} is removed", clean_line(id)))?;
        }
    }
    Ok(())
}

const STAGES: [(&str, &str); 8] = [
    ("STAGE", "name"),
    ("EVENT", "position"),
    ("LAG", "lag"),
    ("FOLDED", "folded"),
    ("SKIPPED", "skipped"),
    ("UNREADABLE", "unreadable"),
    ("FAILURES", "failures"),
    ("LAST ERROR", "error"),
];
const KINDS: [(&str, &str); 4] =
    [("KIND", "kind"), ("VERSION", "version"), ("OF USE", "is_known"), ("EVENTS", "events")];
const EVIDENCE: [(&str, &str); 5] =
    [("AT", "at"), ("WORD", "word"), ("FEEDBACK", "feedback"), ("SOURCE", "source"), ("NOTE", "note")];

const SEGMENTS: [(&str, &str); 5] = [
    ("FILE", "name"),
    ("EVENTS", "events"),
    ("BYTES", "file_bytes"),
    ("ARCHIVED", "archived_at"),
    ("DAMAGE", "damage"),
];
const PATTERNS: [(&str, &str); 5] =
    [("VALUE", "value"), ("SEEN", "interactions"), ("AGAINST", "against"), ("LAST", "last_at"), ("PROBLEM", "problem")];
const ERRORS: [(&str, &str); 5] =
    [("SEEN", "seen"), ("LAST", "last_at"), ("SOLVED BY", "solved_by"), ("CLASS", "class"), ("MESSAGE", "message")];

// Writing to a string cannot fail, so the results of `write!` below say nothing.

fn status(stats: &Value) -> String {
    let mut text = String::new();
    let who = if stats["role"] == "worker" { "this process derives" } else { "another process derives" };
    let _ = writeln!(
        text,
        "{who}; {} interactions, {} without a vector yet, {} to be valued anew; {} bytes on disk\n",
        stats["interactions"], stats["vectors_due"], stats["values_due"], stats["size_bytes"]
    );
    let _ = writeln!(text, "{}", lists::table(stats, "stages", &STAGES));
    let _ = write!(text, "\n{}", lists::table(stats, "kinds", &KINDS));
    let lessons = &stats["lessons"];
    let _ = write!(
        text,
        "\n{} patterns, {} of them junk, of {} interactions ({} in none); {} known errors, {} solved; {} lessons found by \
         search",
        lessons["patterns"],
        lessons["junk"],
        lessons["interactions"],
        lessons["alone"],
        lessons["errors"],
        lessons["solved"],
        lessons["findable"]
    );
    let folder = &stats["drop_folder"];
    if folder.is_object() {
        let _ = write!(
            text,
            "\ndrop folder: {} files, {} bytes unread; {} events, {} dead letters, {} bytes lost in {} gaps",
            folder["files"],
            folder["unread_bytes"],
            folder["events"],
            folder["dead_letters"],
            folder["gap_bytes"],
            folder["gaps"]
        );
        if let Some(error) = folder["error"].as_str() {
            let _ = write!(text, "\ndrop folder: {error}");
        }
    }
    text
}

/// How a dataset was made.
fn made(dataset: &Value) -> String {
    let mut text = format!("{}\n", word(&dataset["id"]));
    let manifest = &dataset["manifest"];
    if let Some(files) = manifest["files"].as_object() {
        let row = |(name, file): (&String, &Value)| {
            vec![clean_line(name), word(&file["rows"]), word(&file["bytes"]), word(&file["blake3"])]
        };
        let rows: Vec<Vec<String>> = files.iter().map(row).collect();
        let _ = writeln!(text, "\n{}", table(&["FILE", "ROWS", "BYTES", "BLAKE3"], &rows));
    }
    for (title, name) in [("left out", "left_out"), ("taken out of texts", "redacted")] {
        for (reason, count) in manifest[name].as_object().into_iter().flatten() {
            let _ = writeln!(text, "{title}: {} × {count}", clean_line(reason));
        }
    }
    let _ = write!(text, "of {} interactions", word(&manifest["looked_at"]));
    text
}

fn measured(evaluations: &[Value]) -> String {
    let row = |one: &Value| {
        let figure =
            |of: &str, name: &str| one[of][name].as_f64().map_or("-".to_owned(), |value| format!("{value:.4}"));
        let at = [word(&one["at"]), word(&one["questions"]), word(&one["failed"])];
        let figures = [("learned", "ndcg"), ("plain", "ndcg"), ("learned", "recall"), ("plain", "recall")];
        at.into_iter().chain(figures.map(|(of, name)| figure(of, name))).chain([word(&one["settings"])]).collect()
    };
    let rows: Vec<Vec<String>> = evaluations.iter().map(row).collect();
    let header = ["AT", "QUESTIONS", "FAILED", "NDCG@10", "UNLEARNED", "RECALL@10", "UNLEARNED", "SEARCHED BY"];
    let mut text = table(&header, &rows);
    for warning in evaluations.iter().filter_map(|one| one["warning"].as_str()) {
        let _ = write!(text, "\nwarning: {}", clean_line(warning));
    }
    text
}

fn known(known: &Value) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} asked at {}", word(&known["caller"]), word(&known["at"]));
    for (name, said) in [("question", &known["question"]), ("answer", &known["answer"])] {
        let said = said.as_str().map_or("(not recorded)".to_owned(), clean);
        let _ = writeln!(text, "{name}: {said}");
    }
    let _ = writeln!(text, "\noutcome {}, feedback {}", word(&known["outcome"]), word(&known["feedback"]));
    let _ = writeln!(text, "value {}:", word(&known["value"]));
    for (name, weight) in
        [("outcome", 0.4), ("feedback", 0.2), ("reusability", 0.2), ("complexity", 0.1), ("novelty", 0.1)]
    {
        let _ = writeln!(text, "  {name:<12} {weight} × {}", word(&known["value_parts"][name]));
    }
    let _ = writeln!(text, "similar questions: {}; the nearest: {}", word(&known["similar"]), word(&known["nearest"]));
    if !items(&known["evidence"]).is_empty() {
        let _ = write!(text, "\n{}", lists::table(known, "evidence", &EVIDENCE));
    }
    text
}
