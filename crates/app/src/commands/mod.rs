//! One module a command. Each turns arguments into requests, and answers into lines.

mod up;

mod add;

mod search;

mod ask;

mod documents;

mod collections;

mod sources;

mod jobs;

mod status;

mod keys;

mod models;

mod providers;

mod budgets;

mod sessions;

mod interactions;
pub mod learn;

mod lists;

mod doctor;

pub mod db;

mod config;

mod metrics;

mod tls;

mod mcp;

pub mod bench;

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;

use crate::{
    arguments::{Arguments, Command, Common},
    hint::Advice,
    output::{Form, Output, count, say},
    settings::{FILE_NAME, Flags, Input, Layers, Place, Problems, Settings, SettingsFile, environment},
    telemetry::{self, Reader},
    transport::Transport,
};

/// What every command begins with: where, in what form.
pub struct Session {
    /// Where the program's files lie.
    pub place: Place,
    /// Settings given as flags.
    pub flags: Flags,
    /// How data is printed.
    pub output: Output,
}

impl Session {
    fn new(common: &Common, input: Input) -> Result<Self> {
        let data_dir = match common.data_dir.clone().or_else(environment::data_directory) {
            Some(data_dir) => std::path::absolute(data_dir)?,
            None => {
                return Err(
                    Advice::new("there is no home folder to keep data in", "give a folder with --data-dir").into()
                );
            }
        };
        let file = match &common.config {
            Some(path) => SettingsFile::Named(path.clone()),
            None => SettingsFile::Usual(data_dir.join(FILE_NAME)),
        };
        let (listen, listen_tls) = (common.listen.clone(), common.listen_tls.clone());
        let flags = Flags { profile: common.profile, listen, listen_tls, log_format: common.log_format, input };
        let form = if common.json { Form::Json } else { Form::Text };
        Ok(Self { place: Place { data_dir, file }, flags, output: Output::new(form) })
    }

    /// Every layer of the settings, as they are now.
    pub fn layers(&self) -> Layers {
        Layers::read(&self.place, &self.flags)
    }

    /// The settings in force; from here on log lines are written as they say.
    pub fn settings(&self, reader: Reader) -> Result<Settings> {
        let settings = self.layers().settings()?;
        telemetry::start(&settings.log, &settings.otlp, reader)?;
        Ok(settings)
    }

    /// Has `work` done by the server, or by the program in this process, which is stopped afterwards.
    pub async fn with_program<T>(&self, work: impl AsyncFnOnce(&Transport) -> Result<T>) -> Result<T> {
        self.with(Settings::for_one_command, work).await
    }

    /// The same for work that asks language models: those that are run here are started where no server runs.
    pub async fn with_models<T>(&self, work: impl AsyncFnOnce(&Transport) -> Result<T>) -> Result<T> {
        self.with(Settings::for_one_question, work).await
    }

    async fn with<T>(
        &self,
        adapt: impl FnOnce(Settings) -> Settings,
        work: impl AsyncFnOnce(&Transport) -> Result<T>,
    ) -> Result<T> {
        let transport = match self.settings(Reader::User) {
            Ok(settings) => Box::pin(Transport::open(&self.place, adapt(settings))).await?,
            // A server that runs has settings of its own, from before they were broken.
            Err(error) => match (error.downcast_ref::<Problems>(), Transport::to_server(&self.place).await) {
                (Some(problems), Some(transport)) => {
                    let problems = count(problems.0.len() as u64, "problem");
                    say(&format!(
                        "the settings have {problems}, see `holdfast config check`; the server that runs is asked"
                    ));
                    transport
                }
                _ => return Err(error),
            },
        };
        let result = work(&transport).await;
        transport.close().await;
        result
    }
}

/// Runs one command.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    // Only a server that somebody starts is given a secret this way; other commands may be in a pipe.
    let input = match &arguments.command {
        Command::Up(up) if up.idle_exit.is_none() => Input::Secret,
        _ => Input::NotOurs,
    };
    let session = Session::new(&arguments.common, input)?;
    let session = &session;
    match arguments.command {
        Command::Up(arguments) => return Box::pin(up::run(session, arguments)).await,
        Command::Add(arguments) => Box::pin(add::run(session, arguments)).await?,
        Command::Search(arguments) => Box::pin(search::run(session, arguments)).await?,
        Command::Ask(arguments) => Box::pin(ask::run(session, arguments)).await?,
        Command::Documents(action) => Box::pin(documents::run(session, action)).await?,
        Command::Collections(action) => Box::pin(collections::run(session, action)).await?,
        Command::Sources(action) => Box::pin(sources::run(session, action)).await?,
        Command::Jobs(action) => Box::pin(jobs::run(session, action)).await?,
        Command::Status => Box::pin(status::run(session)).await?,
        Command::Keys(action) => Box::pin(keys::run(session, action)).await?,
        Command::Models(action) => Box::pin(models::run(session, action)).await?,
        Command::Providers(action) => Box::pin(providers::run(session, action)).await?,
        Command::Budgets(action) => Box::pin(budgets::run(session, action)).await?,
        Command::Sessions(action) => Box::pin(sessions::run(session, action)).await?,
        Command::Interactions(action) => Box::pin(interactions::run(session, action)).await?,
        Command::Learn(action) => Box::pin(learn::run(session, action)).await?,
        Command::Doctor(arguments) => return Box::pin(doctor::run(session, arguments)).await,

        Command::Db(action) => Box::pin(db::run(session, action)).await?,
        Command::Config(action) => return config::run(session, action),
        Command::Metrics => metrics::run(session)?,
        Command::Tls(action) => tls::run(session, action)?,
        Command::Openapi => session.output.line(&holdfast_server::openapi())?,
        Command::Mcp => Box::pin(mcp::run(session)).await?,
        Command::Bench(action) => Box::pin(bench::run(session, action)).await?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "holdfast", &mut script);
            session.output.line(String::from_utf8_lossy(&script).trim_end())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
