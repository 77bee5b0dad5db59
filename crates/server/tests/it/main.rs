//! The server as its clients see it, on a real knowledge base with a tiny model.

mod house;

mod access;

mod description;

mod grants;

mod knowledge;

mod refusals;

mod operations;

mod chat;

mod turns;

mod language_models;

mod learning;

mod events;

mod mcp;

mod connections;

mod tls;

mod wire;

mod limits;

mod hostile;
