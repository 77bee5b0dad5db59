//! Turns as their callers see them: real sockets to scripted providers, a real database, and a tiny embedding model.

mod house;

mod answering;

mod budgets;

mod failover;

mod providers;

mod remembering;
