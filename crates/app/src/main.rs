//! The `holdfast` program: settings, telemetry, wiring and the command line. No domain logic lives here.
//!
//! `main` parses, runs one command on a runtime of its own, and turns what came of it into an exit code: 0 done, 1
//! failed, 2 wrong usage.

mod commands;

mod arguments;

mod wiring;

mod local_models;

mod learned;

mod gguf;

mod first_run;

mod shutdown;

mod transport;

mod control;

mod progress;

mod output;

mod settings;

mod reload;

mod telemetry;

mod otlp;

mod log_health;

mod event_health;

mod hint;

mod code;

use std::{io, process::ExitCode};

use clap::Parser;

use crate::{arguments::Arguments, output::say, settings::Problems, transport::Refusal};

/// The system's own takes twice the memory while much is indexed, and longer where threads free what others made.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code of a command line that makes no sense, as clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // A process that is to become a server of models does nothing else.
    if let Some(code) = holdfast_supervisor::child::run_if_asked() {
        return code;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    let json = arguments.common.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("failed to start"), json),
    };
    let result = runtime.block_on(async {
        let result = Box::pin(commands::run(arguments)).await;
        otlp::stop().await;
        result
    });
    // What was to be waited for has been. A thread that still reads from a terminal never ends by itself.
    runtime.shutdown_background();
    telemetry::flush();
    match result {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => fail(&error, json),
    }
}

/// Help and versions are data; everything else that clap says is about wrong usage.
fn explain(error: &clap::Error) -> ExitCode {
    // Where nobody listens, the exit code has to do.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// Whoever read our output has read enough, as in `holdfast documents list | head`.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    error.downcast_ref::<io::Error>().is_some() && error.chain().find_map(kind) == Some(io::ErrorKind::BrokenPipe)
}

fn fail(error: &anyhow::Error, json: bool) -> ExitCode {
    if json {
        say(&problem(error).to_string());
    } else {
        say(&format!("error: {}", hint::sentence(error)));
        if let Some(hint) = hint::of(error) {
            say(&format!("hint: {hint}"));
        }
    }
    ExitCode::FAILURE
}

/// The failure as the API would tell it; what the server refused is passed on as it came.
fn problem(error: &anyhow::Error) -> serde_json::Value {
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return refusal.document.clone();
    }
    if let Some(problems) = error.downcast_ref::<Problems>() {
        let problems = problems.shown();
        return serde_json::json!({ "code": code::of(error), "detail": error.to_string(), "problems": problems });
    }
    serde_json::json!({ "code": code::of(error), "detail": hint::sentence(error), "hint": hint::of(error) })
}
