//! The knowledge base as its users see it, on a tiny model that `testkit` makes: what goes in, what is found, and what
//! stays when something is in the way.

mod health;

mod house;

mod reembedding;

mod searching;

mod sources;
