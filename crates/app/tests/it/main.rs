//! The real program, run as a user runs it: on a data directory of its own, with a tiny model.
#![expect(clippy::disallowed_methods, reason = "starting the program is what these tests are about")]

mod home;

mod serving;

mod commands;

mod settings;

mod reload;

mod logs;

mod tls;

mod mcp;

mod observing;

mod health;

mod bench;

mod language_models;
