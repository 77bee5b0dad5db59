//! A server that speaks as language models' servers do, and fails as they do: each request is answered by a script.
//!
//! It is written on bare TCP, since no library lets a server misbehave as much as real ones. It remembers what it was
//! asked, and whether its client was still there at the end. For load there is [`fast`], which remembers nothing.
//!
//! Its tasks end when it is dropped; one listens, and one serves each connection.

mod connection;
pub mod fast;
mod script;
pub mod words;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use bytes::Bytes;
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};
use tokio_rustls::TlsAcceptor;

pub use script::{Framing, Script, Step};

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Received {
    /// The connection it came on, from 0.
    pub connection: usize,
    /// Such as `POST`.
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As it came.
    pub body: Bytes,
    /// The client went away before it had the whole answer.
    pub is_left: bool,
    /// The script was played to its end.
    pub is_over: bool,
}

impl Received {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's value; empty where it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// A server; it ends when this is dropped.
pub struct Upstream {
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something changed.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// For the next requests, one each.
    next: VecDeque<Script>,
    /// For those that have none of their own.
    always: Option<Script>,
    /// For connections, before any request.
    greeting: Option<Script>,
    received: Vec<Received>,
    connections: usize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.notify_waiters();
        changed
    }
}

impl Upstream {
    /// A server at a free port of this machine.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(None).await
    }

    /// The same with TLS.
    pub async fn start_tls(acceptor: TlsAcceptor) -> anyhow::Result<Self> {
        Self::start_with(Some(acceptor)).await
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut upstream = Self { address, tls, shared: Arc::default(), tasks: JoinSet::new() };
        upstream.listen(listener);
        Ok(upstream)
    }

    fn listen(&mut self, listener: TcpListener) {
        self.tasks.spawn(connection::accept(listener, self.tls.clone(), Arc::clone(&self.shared)));
    }

    /// Takes no connection any more, and cuts those that there are.
    pub async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Takes connections again, at the same port.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        let listener = TcpListener::bind(self.address).await.context("the port is taken by now")?;
        self.listen(listener);
        Ok(())
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address for a client that speaks either shape: with `/v1`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/v1", self.address)
    }

    /// Answers the next request that has no script yet.
    pub fn push(&self, script: Script) {
        self.shared.change(|state| state.next.push_back(script));
    }

    /// Answers every request that has no script of its own.
    pub fn always(&self, script: Script) {
        self.shared.change(|state| state.always = Some(script));
    }

    /// Is played to every connection instead of waiting for a request.
    pub fn greet(&self, script: Script) {
        self.shared.change(|state| state.greeting = Some(script));
    }

    /// What it was asked so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.state().received.clone()
    }

    /// Connections it has taken so far.
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// Comes back with a request, counted from 0, once it has come and something holds of it.
    pub async fn wait_for(&self, number: usize, holds: impl Fn(&Received) -> bool) -> Received {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(received) = self.shared.state().received.get(number).filter(|received| holds(received)) {
                return received.clone();
            }
            changed.await;
        }
    }

    /// Comes back when the client of a request, counted from 0, has gone away before its end.
    pub async fn left(&self, number: usize) -> Received {
        self.wait_for(number, |received| received.is_left).await
    }
}

/// An address of this machine where nobody listens.
pub async fn refusing_url() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(format!("http://{}/v1", listener.local_addr()?))
}
