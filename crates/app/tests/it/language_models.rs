//! Language models from the shell: providers, questions, what they cost and why they went as they did; and models that the
//! program runs itself.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::home::{Home, until};

const PARROT: &str = include_str!("parrot.py");
/// Where this machine's own Python is; tests run without the rest of its `PATH`.
const PYTHON: &str = "/usr/bin/python3";

/// A server of one model, which repeats what it hears.
struct Parrot {
    child: Child,
    url: String,
}

impl Parrot {
    fn open(home: &Home) -> Result<Self> {
        let mut child = Command::new(PYTHON)
            .arg(script(home)?)
            .arg("0")
            .stdout(Stdio::piped())
            .spawn()
            .context("this test needs Python 3: install python3")?;
        let mut port = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut port)?;
        Ok(Self { child, url: format!("http://127.0.0.1:{}/v1", port.trim()) })
    }
}

impl Drop for Parrot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn script(home: &Home) -> Result<PathBuf> {
    let path = home.path("parrot.py");
    fs::write(&path, PARROT)?;
    Ok(path)
}

#[test]
fn without_a_provider_a_question_says_how_to_add_one() -> Result<()> {
    let home = Home::new()?;
    insta::assert_snapshot!(home.transcript(&["ask", "why?", "--no-context"])?, @r"
    exit 1
    -- stdout
    -- stderr
    error: no language model is configured
    hint: add one with `holdfast providers add`
    ");
    insta::assert_snapshot!(home.transcript(&["providers", "list"])?, @r"
    exit 0
    -- stdout
    none
    -- stderr
    `holdfast providers add --help` says how to add one
    ");
    let refused = home.run(&["ask", "why?", "--json"])?;
    let problem: Value = serde_json::from_slice(&refused.stderr)?;
    ensure!(problem["code"] == "no_provider" && refused.stdout.is_empty(), "{problem}");
    Ok(())
}

#[test]
fn a_question_is_answered_as_it_comes_with_where_it_is_from() -> Result<()> {
    let home = Home::with_documents()?;
    let parrot = Parrot::open(&home)?;
    let _server = home.up_with_documents()?;
    let added = home.succeed(&["providers", "add", "birds", "--url", &parrot.url])?;
    assert_eq!(added, "added birds: birds/parrot\n");
    let tested = home.succeed(&["providers", "test", "birds"])?;
    ensure!(tested.starts_with("birds/parrot answered in ") && tested.contains("heard: Say yes."), "{tested}");

    let asked = ["ask", "which version of an input does a flake lock pin"];
    let told = home.transcript(&asked)?;
    ensure!(told.starts_with("exit 0\n-- stdout\n") && told.contains("heard: which version"), "{told}");
    ensure!(told.contains(" [1]\n-- stderr\n[1] Pinning: [home]/docs/pinning.md"), "{told}");
    let alone = home.transcript(&["ask", "alone?", "--no-context", "--model", "birds/parrot"])?;
    ensure!(alone.ends_with("heard: alone?\n-- stderr\n"), "{alone}");
    let whole = home.json(&asked)?;
    ensure!(whole["choices"][0]["message"]["content"].as_str().is_some_and(|said| said.ends_with(" [1]")), "{whole}");
    ensure!(whole["holdfast"]["citations"][0]["title"] == "Pinning", "{whole}");

    let refused = home.transcript(&["ask", "x", "--model", "sparrow"])?;
    ensure!(
        refused.starts_with("exit 1") && refused.contains("\"sparrow\"") && refused.contains("hint: "),
        "{refused}"
    );
    let refused = home.transcript(&["ask", "x", "--budget-tokens", "0"])?;
    ensure!(refused.contains("budget_tokens must be"), "{refused}");
    Ok(())
}

#[test]
fn what_was_asked_is_on_record_and_costs() -> Result<()> {
    let home = Home::new()?;
    let parrot = Parrot::open(&home)?;
    home.set("[llm.prices.'birds/parrot']\ninput = 100\noutput = 1000.5\n")?;
    let _server = home.up(&[])?;
    home.succeed(&[
        "providers",
        "add",
        "birds",
        "--url",
        &parrot.url,
        "--model",
        "parrot",
        "--context-tokens",
        "4096",
    ])?;
    let listed = home.succeed(&["providers", "list"])?;
    ensure!(listed.contains("birds/parrot  closed   4096     100.0   1000.5"), "{listed}");

    let budget = home.json(&["budgets", "set", "--money", "5", "--per", "total", "--model", "birds"])?;
    ensure!(budget["cost"] == 5.0, "{budget}");
    home.succeed(&["ask", "how much?", "--no-context", "--session", "money"])?;
    let interactions = home.json(&["interactions", "list"])?;
    let turn = &interactions["interactions"][0];
    // 11 tokens at 100 dollars a million and 5 at 1000.5, rounded up to the millionth.
    ensure!(turn["outcome"] == "answered" && turn["cost"] == 0.006_103, "{turn}");
    let id = turn["id"].as_str().context("no id")?;
    let why = home.succeed(&["interactions", "why", id])?;
    for told in [
        "owner asked for auto",
        "session money",
        "user: how much?",
        "by local-first",
        "$0.006103",
        "answered by birds/parrot",
    ] {
        ensure!(why.contains(told), "no {told}: {why}");
    }
    ensure!(home.json(&["interactions", "why", id])?["result"]["usage"]["output_tokens"] == 5);
    let budgets = home.succeed(&["budgets", "list"])?;
    ensure!(budgets.contains("everybody") && budgets.contains("$0.006103 of $5"), "{budgets}");
    let sessions = home.json(&["sessions", "list"])?;
    ensure!(sessions["sessions"][0]["id"] == "money" && sessions["sessions"][0]["turns"] == 1, "{sessions}");
    let shown = home.succeed(&["sessions", "show", "money"])?;
    ensure!(shown.contains("user: how much?") && shown.contains("assistant: "), "{shown}");
    home.succeed(&["sessions", "remove", "money"])?;
    let budget = budget["id"].as_str().context("no id")?;
    home.succeed(&["budgets", "remove", budget])?;
    for gone in [&["sessions", "show", "money"][..], &["budgets", "remove", budget], &["providers", "remove", "fish"]] {
        let told = home.transcript(gone)?;
        ensure!(told.starts_with("exit 1") && told.contains("hint: "), "{gone:?}: {told}");
    }
    home.succeed(&["providers", "remove", "birds"])?;
    ensure!(home.json(&["providers", "list"])?["providers"] == serde_json::json!([]));
    Ok(())
}

#[test]
fn a_question_without_a_server_is_answered_too() -> Result<()> {
    let home = Home::new()?;
    let parrot = Parrot::open(&home)?;
    home.succeed(&["providers", "add", "birds", "--url", &parrot.url])?;
    let told = home.succeed(&["ask", "anybody there?", "--no-context"])?;
    ensure!(told.ends_with("heard: anybody there?\n"), "{told}");
    let interactions = home.json(&["interactions", "list"])?;
    ensure!(interactions["interactions"].as_array().map(Vec::len) == Some(1), "{interactions}");
    Ok(())
}

#[test]
fn what_is_no_model_is_not_run() -> Result<()> {
    let home = Home::new()?;
    let text = home.path("text.gguf");
    fs::write(&text, "once upon a time")?;
    let model = home.path("model.gguf");
    fs::write(&model, "GGUF and so on")?;
    let told = |file: &PathBuf, more: &[&str]| {
        let file = file.to_str().context("not UTF-8")?;
        home.transcript(&[&["providers", "add", "local", "--gguf", file][..], more].concat())
    };
    insta::assert_snapshot!(told(&text, &[])?, @r"
    exit 1
    -- stdout
    -- stderr
    error: gguf names a file that is not GGUF: it does not begin with these letters
    hint: give a model's .gguf file that the server may read
    ");
    let missing = told(&home.path("none.gguf"), &[])?;
    ensure!(missing.contains("names a file that is not there"), "{missing}");
    let no_program = told(&model, &["--command", "no-such-program", "{gguf}"])?;
    ensure!(no_program.contains("no-such-program, which is not a program here"), "{no_program}");
    ensure!(no_program.contains("hint: install llama-server"), "{no_program}");
    ensure!(home.json(&["providers", "list"])?["providers"] == serde_json::json!([]));
    Ok(())
}

/// The process that answers.
fn answering(home: &Home) -> Result<Option<Pid>> {
    let output = home.run(&["ask", "who?", "--no-context", "--model", "local"])?;
    if !output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8(output.stdout)?;
    let number = said.split(' ').next().context("nothing was said")?.parse()?;
    Ok(Pid::from_raw(number))
}

/// What runs a model may be put there, or mended, after the server has started.
#[test]
fn a_program_that_is_missing_is_looked_for_again() -> Result<()> {
    let home = Home::new()?;
    let (script, model, bin) = (script(&home)?, home.path("model.gguf"), home.path("bin"));
    fs::write(&model, "GGUF and so on")?;
    fs::create_dir_all(&bin)?;
    let program = bin.join("llama-server");
    let put = || {
        fs::write(&program, format!("#!/bin/sh\nexec {PYTHON} {} \"$8\"\n", script.display()))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700))
    };
    put()?;
    let serve = || {
        let mut command = home.command(&["up", "--listen", "127.0.0.1:0", "--json"]);
        command.env("PATH", &bin);
        home.up_as(command, Stdio::inherit())
    };
    let model = model.to_str().context("not UTF-8")?;
    let server = serve()?;
    home.succeed(&["providers", "add", "local", "--gguf", model])?;
    ensure!(server.stop(Signal::TERM)? == Some(0));
    fs::remove_file(&program)?;
    let _server = serve()?;
    ensure!(answering(&home)?.is_none());
    until("it says what is missing", || {
        let listed = home.json(&["providers", "list"])?;
        let trouble = listed["providers"][0]["trouble"].as_str().unwrap_or_default();
        Ok(trouble.contains("neither llama-server is in PATH").then_some(()))
    })?;
    put()?;
    until("the model answers", || answering(&home))?;
    Ok(())
}

#[test]
fn a_model_is_run_comes_back_and_ends_with_the_server() -> Result<()> {
    let home = Home::new()?;
    let (script, model) = (script(&home)?, home.path("model.gguf"));
    fs::write(&model, "GGUF and so on")?;
    let (script, model) = (script.to_str().context("not UTF-8")?, model.to_str().context("not UTF-8")?);
    let server = home.up(&[])?;
    let add = ["providers", "add", "local", "--gguf", model, "--command", PYTHON, script, "{port}", "{gguf}"];
    let added = home.succeed(&add)?;
    assert_eq!(added, "added local: local/parrot\n");
    let first = answering(&home)?.context("it does not answer")?;
    let status = home.json(&["status"])?;
    let components = status["components"].as_array().context("no components")?;
    ensure!(components.iter().any(|it| it["name"] == "service:model-local" && it["status"] == "ready"), "{status}");

    kill_process(first, Signal::KILL)?;
    let second = until("another process answers", || Ok(answering(&home)?.filter(|process| *process != first)))?;
    ensure!(home.data_dir().join("logs/model-local.log").exists());
    // It comes back with the server, and goes with it, however that ends.
    server.signal(Signal::KILL)?;
    until("the model has ended", || Ok(test_kill_process(second).is_err().then_some(())))?;
    drop(server);
    let server = home.up(&[])?;
    let third = until("the model answers", || answering(&home))?;
    ensure!(server.stop(Signal::TERM)? == Some(0));
    ensure!(test_kill_process(third).is_err(), "it outlived the server");
    home.succeed(&["providers", "remove", "local"])?;
    Ok(())
}
